"""A store is installed by its merchant's consent; whoever did not come from there, just now and once, is not let in."""

from __future__ import annotations

import hashlib
import threading
import time
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import pytest
import requests
import time_machine
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from itsdangerous import URLSafeTimedSerializer
from pydantic import SecretStr
from sqlalchemy import Engine, text
from werkzeug.serving import make_server
from werkzeug.test import TestResponse

from app.install_state import COOKIE, derived
from app.pages import ERROR_PAGES
from app.signature import is_signed
from models.settings import Settings
from tasks.steps import installations, shops
from tasks.steps.vault import Vault
from tests.web.admin import (
    APP,
    ENCRYPTION,
    KEY,
    OLD_ENCRYPTION,
    RETIRING,
    SECRET,
    UNKNOWN,
    Merchant,
    query_of,
    signed,
)


def is_page(response: TestResponse, code: str) -> bool:
    """The error page of this code, as all of them are: legible, not kept, and without anything of the inside."""
    page = ERROR_PAGES[code]
    text = response.get_data(as_text=True)
    assert response.status_code == page.status, (response.status_code, text)
    assert f"Code: {code}<" in text and page.title in unescape(text)
    assert response.mimetype == "text/html" and "Traceback" not in text
    assert SECRET not in text and ENCRYPTION not in text
    assert response.headers["Cache-Control"] == "no-store"
    assert response.headers["X-Content-Type-Options"] == "nosniff"
    assert response.headers["Referrer-Policy"] == "no-referrer"
    assert "frame-ancestors " in response.headers["Content-Security-Policy"]
    return True


def held(engine: Engine, domain: str) -> installations.Held | None:
    with engine.connect() as connection:
        shop = shops.find(connection, domain)
        return shop and installations.read(connection, shop.id)


def test_the_merchant_is_sent_to_the_consent_page_of_his_store(new_merchant) -> None:
    merchant = new_merchant(shopify_base_url=None)
    sent = merchant.start()
    at = urlsplit(sent.headers["Location"])
    asked = parse_qs(at.query)
    assert sent.status_code == 302
    assert (at.scheme, at.netloc, at.path) == ("https", merchant.domain, "/admin/oauth/authorize")
    assert asked["client_id"] == [KEY] and asked["redirect_uri"] == [f"{APP}/auth/callback"]
    assert asked["scope"] == [",".join(Settings().shopify_scopes)]
    assert len(asked["state"][0]) >= 43  # 32 random bytes
    assert asked["state"] != query_of(merchant.start())["state"]


def test_the_state_lies_in_a_cookie_that_scripts_and_other_sites_do_not_get(merchant) -> None:
    said = merchant.start().headers["Set-Cookie"]
    assert said.startswith(f"{COOKIE}=")
    for mark in ("HttpOnly", "Secure", "SameSite=Lax", "Path=/auth", "Max-Age=600"):
        assert mark in said.split("; "), said


def test_on_ones_own_machine_the_cookie_goes_without_https(new_merchant) -> None:
    said = new_merchant(shopify_app_url="http://127.0.0.1:8000").start().headers["Set-Cookie"]
    assert "Secure" not in said and "HttpOnly" in said


def test_consent_installs_the_store_with_encrypted_tokens(merchant, tokens, engine) -> None:
    back = merchant.finish()
    assert back.status_code == 302
    assert back.headers["Location"].endswith(f"/{merchant.domain}/admin/apps/{KEY}")
    ((path, form),) = tokens.asked
    assert path == f"/{merchant.domain}/admin/oauth/access_token"
    assert form["client_id"] == KEY and form["client_secret"] == SECRET and form["expiring"] == "1"
    found = held(engine, merchant.domain)
    assert (
        found is not None and found.state == "active" and set(found.scopes) == set(Settings().shopify_scopes)
    )
    assert found.access_token is not None and b"shpat" not in found.access_token
    with engine.connect() as connection:
        shop = shops.get(connection, merchant.domain)
        asked = connection.execute(
            text("select kind from outbox where shop_id = :id"), {"id": shop.id}
        ).scalars()
        assert list(asked) == ["check_subscriptions"]
    opened = Vault([ENCRYPTION.encode()]).open(shop.id, "access", found.access_token)
    assert opened.startswith("shpat_")


def test_it_works_over_http_as_a_browser_does_it(new_merchant, engine) -> None:
    merchant = new_merchant(shopify_app_url="http://127.0.0.1")
    server = make_server("127.0.0.1", 0, merchant.app, threaded=True)
    thread = threading.Thread(target=server.serve_forever)
    thread.start()
    try:
        with requests.Session() as browser:
            here = f"http://127.0.0.1:{server.port}"
            sent = browser.get(f"{here}/auth?shop={merchant.domain}", allow_redirects=False, timeout=5)
            again = merchant.consented(sent)  # type: ignore[arg-type]
            back = browser.get(here + again, allow_redirects=False, timeout=5)
            assert (sent.status_code, back.status_code) == (302, 302)
            twice = browser.get(here + again, allow_redirects=False, timeout=5)
            assert twice.status_code == 403
    finally:
        server.shutdown()
        thread.join()
    found = held(engine, merchant.domain)
    assert found is not None and found.state == "active"


@pytest.mark.parametrize(
    "shop",
    [
        pytest.param("", id="nothing"),
        pytest.param("evil.com", id="no store"),
        pytest.param("evil.com/x#.myshopify.com", id="a fragment that ends well"),
        pytest.param("evil.com?.myshopify.com", id="a query that ends well"),
        pytest.param("evil.com\\.myshopify.com", id="a backslash"),
        pytest.param("user@evil.com.myshopify.com", id="a user before a host"),
        pytest.param("x.myshopify.com.evil.com", id="a name that goes on"),
        pytest.param("x.myshopify.com@evil.com", id="a user that is a store"),
        pytest.param("x.myshopify.com:8080", id="a port"),
        pytest.param("x.myshopify.com/", id="a slash behind it"),
        pytest.param("https://x.myshopify.com", id="a scheme before it"),
        pytest.param("x.myshopify.com\n", id="a newline behind it"),
        pytest.param("x.myshopify.com\r\nLocation: https://evil.com", id="a header behind it"),
        pytest.param("evil.com\nx.myshopify.com", id="a line before it"),
        pytest.param(" x.myshopify.com", id="a space before it"),
        pytest.param("x.myshopify.com\x00", id="a null byte"),
        pytest.param("\u212aiosk.myshopify.com", id="a Kelvin sign, which in small letters is a k"),
        pytest.param("x\u3002myshopify.com", id="an ideographic full stop"),
        pytest.param("\u0445.myshopify.com", id="a Cyrillic letter"),
        pytest.param("-x.myshopify.com", id="a hyphen first"),
        pytest.param(".myshopify.com", id="no name"),
        pytest.param("a.b.myshopify.com", id="a name of two parts"),
        pytest.param("x" * 5000 + ".myshopify.com", id="a very long name"),
    ],
)
def test_what_is_no_store_gets_a_page_and_goes_nowhere(merchant, shop) -> None:
    for path in ("/auth", "/", "/session-token-bounce", "/auth/callback"):
        response = merchant.get(f"{path}?shop={quote(shop)}&shopify-reload=/")
        assert is_page(response, "bad_shop"), path
        assert "Location" not in response.headers and "Set-Cookie" not in response.headers
        assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


def test_a_signed_callback_for_what_is_no_store_is_refused_as_well(merchant, tokens) -> None:
    assert is_page(merchant.finish(shop="x.myshopify.com.evil.com"), "bad_shop")
    assert not tokens.asked


def test_a_callback_counts_once(merchant, tokens) -> None:
    sent = merchant.start()
    cookie = merchant.client.get_cookie(COOKIE, "unwind.example", "/auth")
    address = merchant.consented(sent)
    assert merchant.get(address).status_code == 302
    assert is_page(merchant.get(address), "other_browser")  # the cookie is gone
    merchant.client.set_cookie(COOKIE, cookie.value, domain="unwind.example", path="/auth")
    assert is_page(merchant.get(address), "used_link")  # somebody kept it
    assert is_page(merchant.finish(sent, code="another"), "used_link")
    assert len(tokens.asked) == 1


def test_of_many_that_bring_the_same_state_at_once_one_is_let_in(merchant, tokens) -> None:
    address = merchant.consented(merchant.start())
    cookie = merchant.client.get_cookie(COOKIE, "unwind.example", "/auth").value
    begin, answers = threading.Barrier(8), []

    def come_back() -> None:
        browser = merchant.app.test_client()
        browser.set_cookie(COOKIE, cookie, domain="unwind.example", path="/auth")
        begin.wait()
        answers.append(browser.get(address, base_url=APP).status_code)

    threads = [threading.Thread(target=come_back) for _ in range(8)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sorted(answers) == [302] + [403] * 7 and len(tokens.asked) == 1


def test_a_state_of_another_browser_is_refused(merchant, tokens) -> None:
    """Else a merchant could be led, by a link, into an installation that somebody else began."""
    address = merchant.consented(merchant.start())
    stranger = Merchant(merchant.app, tokens, domain=merchant.domain)
    assert is_page(stranger.get(address), "other_browser")
    stranger.start()  # who has a state of his own, for the same store
    assert is_page(stranger.get(address), "other_browser")
    assert merchant.get(address).status_code == 302  # nothing of it was spent by others


def test_a_state_of_another_store_is_refused(merchant, tokens) -> None:
    sent = merchant.start()
    assert is_page(merchant.finish(sent, shop="another-store.myshopify.com"), "other_browser")
    assert not tokens.asked


@pytest.mark.parametrize("state", ["", "made-up", "\u00e9\u20ac", "x" * 3000, None])
def test_a_state_that_was_made_up_is_refused(merchant, tokens, state) -> None:
    assert is_page(merchant.finish(state=state), "other_browser")
    assert not tokens.asked


@pytest.mark.parametrize(
    "cookie",
    [
        pytest.param("", id="empty"),
        pytest.param("made.up.cookie", id="made up"),
        pytest.param("\u00e9", id="not ASCII"),
        pytest.param("." * 4000, id="nothing but dots"),
    ],
)
def test_a_cookie_that_is_none_of_ours_is_refused(merchant, tokens, cookie) -> None:
    address = merchant.consented(merchant.start())
    merchant.client.set_cookie(COOKIE, cookie, domain="unwind.example", path="/auth")
    assert is_page(merchant.get(address), "other_browser")
    assert not tokens.asked


def test_a_cookie_signed_with_the_client_secret_is_refused(merchant, tokens) -> None:
    """Whoever could have such cookies made, or such signatures, would have the other."""
    address = merchant.consented(merchant.start())
    state = parse_qs(urlsplit(address).query)["state"][0]
    for key in (SECRET, derived(OLD_ENCRYPTION.encode())):
        signer = URLSafeTimedSerializer(
            key,
            salt=b"unwind: cookie of an installation under way",
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )
        merchant.client.set_cookie(
            COOKIE, str(signer.dumps([state, merchant.domain])), domain="unwind.example", path="/auth"
        )
        assert is_page(merchant.get(address), "other_browser")
    assert not tokens.asked


def test_a_cookie_signs_no_webhook(merchant) -> None:
    """Its key is another one, and the text that it signs can be cut anywhere without becoming a body of Shopify's."""
    cookie = merchant.start().headers["Set-Cookie"].partition("=")[2].partition(";")[0]
    signature = cookie.rpartition(".")[2].replace("-", "+").replace("_", "/")
    padded = signature + "=" * (-len(signature) % 4)
    assert len(padded) == 44  # it has the form of one
    for end in range(len(cookie)):
        assert not is_signed(cookie[:end].encode(), [SECRET.encode(), RETIRING.encode()], padded)


def test_a_state_lasts_ten_minutes(merchant, tokens) -> None:
    sent = merchant.start()
    cookie = merchant.client.get_cookie(COOKIE, "unwind.example", "/auth").value
    for minutes, expected in ((11, 403), (9, 302)):
        with time_machine.travel(datetime.now(UTC) + timedelta(minutes=minutes), tick=True):
            browser = Merchant(merchant.app, tokens, domain=merchant.domain)
            browser.client.set_cookie(COOKIE, cookie, domain="unwind.example", path="/auth")
            assert browser.finish(sent).status_code == expected


def test_a_state_outlives_the_change_of_the_encryption_keys(new_merchant, tokens) -> None:
    before = new_merchant(token_encryption_keys=(SecretStr(OLD_ENCRYPTION),))
    sent = before.start()
    after = new_merchant(token_encryption_keys=(SecretStr(ENCRYPTION), SecretStr(OLD_ENCRYPTION)))
    moved = replace(before, app=after.app)
    moved.client.set_cookie(
        COOKIE, before.client.get_cookie(COOKIE, "unwind.example", "/auth").value, domain="unwind.example"
    )
    assert moved.finish(sent).status_code == 302


@pytest.mark.parametrize(
    ("timestamp", "code"),
    [
        pytest.param("-85", None, id="a minute and a half ago"),
        pytest.param("+85", None, id="a clock that is a minute and a half ahead"),
        pytest.param("-100", "stale_link", id="too long ago"),
        pytest.param("+100", "stale_link", id="from the future"),
        pytest.param("-86400", "stale_link", id="yesterday"),
        pytest.param("", "stale_link", id="empty"),
        pytest.param(None, "stale_link", id="missing"),
        pytest.param("now", "stale_link", id="a word"),
        pytest.param("1e9", "stale_link", id="a number with an exponent"),
        pytest.param("\u0661\u0662\u0663", "stale_link", id="digits of another script"),
        pytest.param("9" * 400, "stale_link", id="a number beyond all time"),
    ],
)
def test_a_link_lasts_for_a_moment(merchant, tokens, timestamp, code) -> None:
    if timestamp and timestamp[0] in "+-":
        timestamp = str(int(time.time()) + int(timestamp))
    response = merchant.finish(timestamp=timestamp)
    assert response.status_code == 302 if code is None else is_page(response, code)
    assert bool(tokens.asked) is (code is None)


@pytest.mark.parametrize(
    ("secret", "status"),
    [
        pytest.param(SECRET, 302, id="the secret"),
        pytest.param(RETIRING, 302, id="the one before it, while both are configured"),
        pytest.param(UNKNOWN, 403, id="one that is gone"),
        pytest.param("", 403, id="none"),
    ],
)
def test_a_link_is_signed_with_a_known_secret(merchant, secret, status) -> None:
    assert merchant.finish(secret=secret).status_code == status


@pytest.mark.parametrize(
    "change",
    [
        pytest.param(lambda a: a.replace("code=", "code=0"), id="another code"),
        pytest.param(lambda a: a.replace("state=", "state=0"), id="another state"),
        pytest.param(lambda a: a + "&more=1", id="one parameter more"),
        pytest.param(lambda a: a.replace("&host=", "&ghost="), id="another name"),
        pytest.param(lambda a: a.rpartition("&hmac=")[0], id="no signature"),
        pytest.param(lambda a: a.rpartition("&hmac=")[0] + "&hmac=", id="an empty signature"),
        pytest.param(
            lambda a: a.rpartition("&hmac=")[0] + "&hmac=%C3%A9%00", id="a signature of odd letters"
        ),
        pytest.param(lambda a: a[:-1], id="a signature cut short"),
        pytest.param(
            lambda a: a.rpartition("=")[0] + "=" + a.rpartition("=")[2].upper(), id="a signature in capitals"
        ),
    ],
)
def test_a_link_that_was_changed_is_refused(merchant, tokens, change) -> None:
    sent = merchant.start()
    address = merchant.consented(sent)
    assert is_page(merchant.get(change(address)), "not_signed")
    assert not tokens.asked
    assert merchant.get(address).status_code == 302  # what was true of it still is


@pytest.mark.parametrize("name", ["shop", "state", "code", "timestamp", "hmac", "host"])
@pytest.mark.parametrize("first", [True, False])
def test_a_name_given_twice_is_refused_wherever_it_stands(merchant, tokens, name, first) -> None:
    path, _, query = merchant.consented(merchant.start()).partition("?")
    more = f"{name}=another-store.myshopify.com"
    response = merchant.get(f"{path}?{more}&{query}" if first else f"{path}?{query}&{more}")
    assert is_page(response, "bad_link")
    assert not tokens.asked


def test_a_link_without_a_code_is_refused(merchant, tokens) -> None:
    assert is_page(merchant.finish(code=None), "bad_link")
    assert is_page(merchant.finish(code=""), "bad_link")
    assert not tokens.asked


def test_a_merchant_who_declines_reads_that_nothing_was_changed(merchant, tokens) -> None:
    sent = merchant.start()
    state = query_of(sent)["state"][0]
    response = merchant.get(f"/auth/callback?error=access_denied&shop={merchant.domain}&state={state}")
    assert is_page(response, "declined")
    assert f"{APP}/auth?shop={merchant.domain}" in unescape(response.get_data(as_text=True))
    assert not tokens.asked


def test_a_code_that_shopify_refuses_is_a_page_that_says_start_again(merchant, tokens, engine) -> None:
    tokens.status, tokens.answer = 400, {"error": "invalid_request", "error_description": "shpat_leak"}
    response = merchant.finish()
    assert is_page(response, "not_accepted") and "leak" not in response.get_data(as_text=True)
    assert held(engine, merchant.domain) is None


@pytest.mark.parametrize("status", [500, 502, 503, 429])
def test_shopifys_own_trouble_is_a_page_that_says_wait(merchant, tokens, status) -> None:
    tokens.status = status
    response = merchant.finish()
    assert is_page(response, "shopify_away") and int(response.headers["Retry-After"]) > 0


def test_an_answer_without_tokens_installs_nothing(merchant, tokens, engine) -> None:
    tokens.answer = {"scope": "read_orders"}
    assert is_page(merchant.finish(), "shopify_away")
    assert held(engine, merchant.domain) is None


def test_secrets_that_shopify_does_not_know_are_the_operators_to_set_right(merchant, tokens, capfd) -> None:
    tokens.status, tokens.answer = 401, {"error": "invalid_client"}
    assert is_page(merchant.finish(), "not_set_up")
    assert "SHOPIFY_API_SECRET: is not known to Shopify" in capfd.readouterr().out


def test_without_redis_nobody_can_say_whether_a_state_was_used(new_merchant, tokens) -> None:
    merchant = new_merchant(redis_url="redis://127.0.0.1:1/0")
    response = merchant.finish()
    assert is_page(response, "broker_away") and "Retry-After" in response.headers
    assert not tokens.asked


def test_without_its_database_the_server_says_that_it_is_busy(new_merchant, tokens) -> None:
    merchant = new_merchant(database_url="postgresql+psycopg://127.0.0.1:1/none?connect_timeout=2")
    assert is_page(merchant.finish(), "database_away")
    assert not tokens.asked  # an exchange would have ended the tokens that are stored


@pytest.mark.parametrize(
    "missing",
    [
        pytest.param({"shopify_api_key": ""}, id="no client id"),
        pytest.param({"shopify_app_url": ""}, id="no address"),
        pytest.param({"token_encryption_keys": ()}, id="nothing to encrypt tokens with"),
    ],
)
@pytest.mark.parametrize(
    "path", ["/auth?", "/auth/callback?", "/?", "/session-token-bounce?shopify-reload=/&"]
)
def test_a_server_that_is_not_set_up_says_so(new_merchant, missing, path) -> None:
    merchant = new_merchant(**missing)
    assert is_page(merchant.get(f"{path}shop={merchant.domain}"), "not_set_up")


def test_scopes_that_were_not_granted_are_named_and_asked_for_again(merchant, tokens, engine) -> None:
    tokens.scopes = "read_orders,read_all_orders,read_returns,read_customers,write_discounts"
    response = merchant.finish()
    said = unescape(response.get_data(as_text=True))
    assert is_page(response, "scopes_missing")
    assert "read_customer_merge" in said and "read_discounts" not in said  # write_discounts holds it
    assert f'href="{APP}/auth?shop={merchant.domain}"' in said and 'target="_top"' in said
    found = held(engine, merchant.domain)
    assert found is not None and (found.state, found.reason) == ("needs_merchant", "scopes_missing")
    tokens.scopes += ",read_customer_merge"
    assert merchant.finish().status_code == 302
    found = held(engine, merchant.domain)
    assert found is not None and found.state == "active"


def test_installing_again_keeps_the_books_and_takes_the_new_tokens(merchant, engine) -> None:
    merchant.finish()
    before = held(engine, merchant.domain)
    with engine.begin() as connection:
        shop = shops.get(connection, merchant.domain)
        installations.forget(connection, shop.id)
        shops.remove(connection, merchant.domain)
    assert held(engine, merchant.domain) is None
    assert merchant.finish().status_code == 302
    after = held(engine, merchant.domain)
    assert before is not None and after is not None and after.state == "active"
    assert after.access_token != before.access_token
    with engine.connect() as connection:
        assert shops.get(connection, merchant.domain).id == shop.id


def test_two_stores_install_side_by_side(merchant, tokens, engine) -> None:
    other = Merchant(merchant.app, tokens)
    first, second = merchant.start(), other.start()
    assert other.finish(second).status_code == 302
    assert merchant.finish(first).status_code == 302
    assert held(engine, merchant.domain) is not None and held(engine, other.domain) is not None
    assert {path.split("/")[1] for path, _ in tokens.asked} == {merchant.domain, other.domain}


def test_no_token_code_or_state_is_ever_logged(merchant, tokens, capfd) -> None:
    sent = merchant.start()
    state = query_of(sent)["state"][0]
    merchant.finish(sent, code="a-code-to-find")
    tokens.status, tokens.answer = 400, {"error": "invalid_grant", "error_description": "a-text-to-find"}
    merchant.finish(code="a-code-to-find")
    merchant.open(token=merchant.session_token(secret=UNKNOWN))
    said = "".join(capfd.readouterr())
    assert "install_refused" in said
    for secret in ("a-code-to-find", "a-text-to-find", state, "shpat_", "shprt_", SECRET, "eyJ"):
        assert secret not in said


def test_only_links_signed_for_the_callback_open_it_and_only_by_get(merchant) -> None:
    address = signed("/auth/callback", {"shop": merchant.domain, "timestamp": str(int(time.time()))}, SECRET)
    assert is_page(merchant.get(address), "bad_link")
    assert merchant.client.post("/auth/callback", base_url=APP).status_code == 405


odd_values = st.one_of(
    st.binary(max_size=40),
    st.sampled_from([b"a-store.myshopify.com", b"%00", b"%ff", b"1", b"", b"%0d%0aX: y", b"a.b.c", b"/%5c"]),
)


@hypothesis_settings(
    max_examples=60, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    path=st.sampled_from(["/", "/auth", "/auth/callback", "/session-token-bounce"]),
    query=st.dictionaries(
        st.sampled_from(
            [
                "shop",
                "host",
                "hmac",
                "state",
                "code",
                "timestamp",
                "id_token",
                "embedded",
                "bounced",
                "error",
                "shopify-reload",
            ]
        ),
        odd_values,
        max_size=8,
    ),
    cookie=st.text(st.characters(min_codepoint=33, max_codepoint=126, exclude_characters=";,"), max_size=40),
    sent=st.sampled_from([None, "Bearer ", "Bearer x", "Basic x", "\xff"]),
)
def test_whatever_is_asked_the_answer_is_a_page_and_no_fault(
    merchant, tokens, path, query, cookie, sent
) -> None:
    merchant.client.set_cookie(COOKIE, cookie, domain="unwind.example", path="/auth")
    response = merchant.get(
        path,
        environ_overrides={
            "QUERY_STRING": "&".join(f"{name}={value.decode('latin-1')}" for name, value in query.items())
        },
        headers={} if sent is None else {"Authorization": sent},
    )
    assert response.status_code in {200, 302, 400, 401, 403}, response.get_data(as_text=True)
    assert response.headers["Cache-Control"] == "no-store"
    assert "frame-ancestors" in response.headers["Content-Security-Policy"]
    assert "\n" not in response.headers.get("Location", "") and not tokens.asked
