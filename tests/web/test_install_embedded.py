"""The app inside Shopify's admin: a session token says whose page it is, and gets the tokens for it."""

from __future__ import annotations

import re
import threading
import time
from collections.abc import Iterator
from contextlib import contextmanager
from html import unescape
from urllib.parse import parse_qs, quote, urlsplit

import pytest
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from sqlalchemy import text
from werkzeug import Request, Response

from app.pages import BRIDGE
from models.settings import Settings
from tasks.steps import installations, shops
from tasks.steps.vault import Vault
from tests.web.admin import APP, KEY, OLD_ENCRYPTION, RETIRING, UNKNOWN, Merchant, new_domain, query_of
from tests.web.test_install import held, is_page

RETRY = "X-Shopify-Retry-Invalid-Session-Request"


def is_sent_to_bounce(response, domain: str) -> str:
    """Sent to the bounce page of this shop; returns where that leads back to."""
    assert response.status_code == 302, response.get_data(as_text=True)
    at = urlsplit(response.headers["Location"])
    assert f"{at.scheme}://{at.netloc}{at.path}" == f"{APP}/session-token-bounce"
    query = parse_qs(at.query)
    assert query["shop"] == [domain] and response.headers["Cache-Control"] == "no-store"
    return query["shopify-reload"][0]


def test_the_first_page_connects_the_shop_by_token_exchange(merchant, tokens, engine) -> None:
    token = merchant.session_token()
    response = merchant.open(token=token)
    said = unescape(response.get_data(as_text=True))
    assert response.status_code == 200 and "<dd>Connected</dd>" in said
    ((path, form),) = tokens.asked
    assert path == f"/{merchant.domain}/admin/oauth/access_token"
    assert form["subject_token"] == token and form["expiring"] == "1"
    assert form["grant_type"] == "urn:ietf:params:oauth:grant-type:token-exchange"
    found = held(engine, merchant.domain)
    assert found is not None and found.state == "active"
    assert "shpat_" not in said and token not in said


def test_the_next_page_asks_shopify_for_nothing(merchant, tokens) -> None:
    for _ in range(3):
        assert merchant.open(token=merchant.session_token()).status_code == 200
    assert len(tokens.asked) == 1


def test_pages_opened_at_once_exchange_once(merchant, tokens) -> None:
    begin, answers = threading.Barrier(6), []

    def open_it() -> None:
        browser = Merchant(merchant.app, tokens, domain=merchant.domain)
        begin.wait()
        answers.append(browser.open(token=browser.session_token()).status_code)

    threads = [threading.Thread(target=open_it) for _ in range(6)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers == [200] * 6 and len(tokens.asked) == 1


@contextmanager
def waiting_for_shopify(merchant: Merchant, shopify: HTTPServer) -> Iterator[list[int]]:
    """The merchant opens his page, and Shopify says nothing as long as the block lasts; then the status of his page."""
    asked, silent = threading.Event(), threading.Event()
    statuses: list[int] = []

    def say_nothing(request: Request) -> Response:
        asked.set()
        silent.wait()
        return merchant.tokens(request)

    def open_it() -> None:
        statuses.append(merchant.open(token=merchant.session_token()).status_code)

    shopify.clear()
    shopify.expect_request(re.compile(".*/access_token")).respond_with_handler(say_nothing)
    thread = threading.Thread(target=open_it)
    thread.start()
    try:
        assert asked.wait(timeout=30)
        yield statuses
    finally:
        silent.set()
        thread.join()


def test_while_shopify_is_silent_few_wait_for_it_and_the_others_are_told(new_merchant, httpserver) -> None:
    first = new_merchant(receiver_threads=4, shopify_timeout_seconds=60)  # one of the four may wait
    second, third = (Merchant(first.app, first.tokens) for _ in range(2))
    assert third.open(token=third.session_token()).status_code == 200
    with waiting_for_shopify(first, httpserver) as statuses:
        told = second.open(token=second.session_token())
        assert is_page(told, "shopify_away") and int(told.headers["Retry-After"]) > 0
        assert third.open(token=third.session_token()).status_code == 200  # nothing is to be asked for it
        assert statuses == []
    assert statuses == [200]
    assert second.open(token=second.session_token()).status_code == 200


def test_a_way_back_that_was_put_off_still_counts_once(new_merchant, httpserver) -> None:
    first = new_merchant(receiver_threads=1, shopify_timeout_seconds=60)
    second = Merchant(first.app, first.tokens)
    link = second.consented(second.start())
    with waiting_for_shopify(first, httpserver):
        assert is_page(second.get(link), "shopify_away")
    assert second.get(link).status_code == 302


def test_a_shop_whose_tokens_no_key_decrypts_is_connected_again_when_its_page_is_opened(
    new_merchant, tokens, engine
) -> None:
    merchant = new_merchant()
    assert merchant.open(token=merchant.session_token()).status_code == 200
    lost = new_merchant(token_encryption_keys=(SecretStr(OLD_ENCRYPTION),))
    lost.domain = merchant.domain
    assert lost.open(token=lost.session_token()).status_code == 200
    assert len(tokens.asked) == 2
    found = held(engine, merchant.domain)
    assert found is not None and found.access_token is not None
    with engine.connect() as connection:
        shop = shops.get(connection, merchant.domain)
    assert Vault([OLD_ENCRYPTION.encode()]).open(shop.id, "access", found.access_token).startswith("shpat_")


def test_a_page_may_be_framed_by_its_own_shops_admin_alone(new_merchant) -> None:
    merchant = new_merchant(shopify_base_url=None)
    response = merchant.get(f"/session-token-bounce?shop={merchant.domain}&shopify-reload=/")
    directives = response.headers["Content-Security-Policy"].split("; ")
    assert f"frame-ancestors https://{merchant.domain} https://admin.shopify.com" in directives
    other = new_domain()
    response = merchant.get(f"/?shop={other}&embedded=1&bounced=1&id_token=x")
    assert is_page(response, "no_session")
    directives = response.headers["Content-Security-Policy"].split("; ")
    assert f"frame-ancestors https://{other} https://admin.shopify.com" in directives


def test_a_page_of_no_shop_may_be_framed_by_nobody(merchant) -> None:
    response = merchant.get("/")
    assert response.status_code == 200
    assert "frame-ancestors 'none'" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "changes",
    [
        pytest.param({"exp": int(time.time()) - 60}, id="expired"),
        pytest.param({"secret": UNKNOWN}, id="signed with another key"),
        pytest.param({"aud": "another-app"}, id="for another app"),
    ],
)
def test_a_token_that_is_not_valid_is_fetched_again_once_and_then_explained(
    merchant, tokens, changes
) -> None:
    back = is_sent_to_bounce(merchant.open(token=merchant.session_token(**changes)), merchant.domain)
    assert back.startswith("/?")
    again = merchant.get(f"{back}&id_token={merchant.session_token(**changes)}")
    assert is_page(again, "no_session")
    assert not tokens.asked
    assert merchant.arrived(f"{back}&id_token={merchant.session_token()}").status_code == 200


def test_a_page_without_a_token_fetches_one_and_keeps_where_it_was(merchant) -> None:
    response = merchant.open(locale="de")
    back = parse_qs(urlsplit(is_sent_to_bounce(response, merchant.domain)).query)
    assert (back["shop"], back["host"], back["locale"]) == ([merchant.domain], ["YWRtaW4"], ["de"])
    assert query_of(response)["host"] == ["YWRtaW4"]  # App Bridge reads it there


def test_an_expired_token_in_the_address_is_not_carried_on(merchant) -> None:
    token = merchant.session_token(exp=int(time.time()) - 60)
    assert token not in merchant.open(token=token).headers["Location"]


def test_the_bounce_page_loads_app_bridge_and_nothing_else(merchant) -> None:
    response = merchant.get(f"/session-token-bounce?shop={merchant.domain}&shopify-reload=%2F%3Fshop%3Dx")
    said = response.get_data(as_text=True)
    assert response.status_code == 200
    assert f'<script data-api-key="{KEY}" src="{BRIDGE}"></script>' in said and said.count("<script") == 1
    assert "script-src https://cdn.shopify.com;" in response.headers["Content-Security-Policy"]


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("", id="nothing"),
        pytest.param("https://evil.com", id="another host"),
        pytest.param("//evil.com", id="another host without a scheme"),
        pytest.param("/\\evil.com", id="a backslash, which browsers read as a slash"),
        pytest.param("/\t/evil.com", id="a tab, which browsers leave out"),
        pytest.param("/\n/evil.com", id="a newline, which browsers leave out"),
        pytest.param("javascript:alert(1)", id="a script"),
        pytest.param(" /x", id="a space first"),
        pytest.param("x", id="no slash"),
        pytest.param("/" + "x" * 3000, id="very long"),
        pytest.param("/\u2044evil.com", id="a slash of another kind"),
        pytest.param("/.//evil.com", id="two slashes, once the dot is taken out"),
        pytest.param("/x/..//evil.com", id="two slashes, once the step back is taken"),
    ],
)
def test_the_bounce_page_leads_to_pages_of_this_server_only(merchant, address) -> None:
    path = f"/session-token-bounce?shop={merchant.domain}&shopify-reload={quote(address)}"
    assert is_page(merchant.get(path), "bad_link")


def test_the_bounce_page_takes_one_address(merchant) -> None:
    path = f"/session-token-bounce?shop={merchant.domain}&shopify-reload=/&shopify-reload=https://evil.com"
    assert is_page(merchant.get(path), "bad_link")


def test_a_program_is_told_to_come_back_with_a_fresh_token(merchant) -> None:
    for token in ("", "rubbish", merchant.session_token(secret=UNKNOWN)):
        response = merchant.get(
            f"/?shop={merchant.domain}&embedded=1", headers={"Authorization": f"Bearer {token}"}
        )
        assert is_page(response, "no_session")
        assert response.headers[RETRY] == "1"
    good = {"Authorization": f"Bearer {merchant.session_token()}"}
    response = merchant.arrived("/", headers=good)
    assert response.status_code == 200 and RETRY not in response.headers


def test_a_token_of_one_shop_opens_no_page_of_another(merchant, tokens) -> None:
    other = Merchant(merchant.app, tokens)
    response = merchant.open(token=other.session_token())
    is_sent_to_bounce(response, merchant.domain)
    assert not tokens.asked


def test_a_token_signed_with_the_retiring_secret_opens_the_page(merchant) -> None:
    assert merchant.open(token=merchant.session_token(secret=RETIRING)).status_code == 200


def test_a_token_that_shopify_refuses_is_fetched_again_once(merchant, tokens, engine) -> None:
    tokens.status, tokens.answer = 400, {"error": "invalid_subject_token"}
    back = is_sent_to_bounce(merchant.open(token=merchant.session_token()), merchant.domain)
    assert is_page(merchant.get(f"{back}&id_token={merchant.session_token()}"), "no_session")
    assert held(engine, merchant.domain) is None


def test_shopifys_own_trouble_is_a_page_inside_the_admin_too(merchant, tokens) -> None:
    tokens.status = 503
    response = merchant.open(token=merchant.session_token())
    assert is_page(response, "shopify_away")
    assert f"https://{merchant.domain}" in response.headers["Content-Security-Policy"]


def test_a_shop_that_needs_its_merchant_is_connected_again_when_he_opens_the_app(
    merchant, tokens, engine
) -> None:
    merchant.open(token=merchant.session_token())
    with engine.begin() as connection:
        shop = shops.get(connection, merchant.domain)
        installations.needs_merchant(connection, shop.id, "refresh_token_expired")
    assert merchant.open(token=merchant.session_token()).status_code == 200
    found = held(engine, merchant.domain)
    assert found is not None and found.state == "active" and len(tokens.asked) == 2


def test_a_removed_shop_is_installed_again_when_its_merchant_opens_the_app(merchant, engine) -> None:
    merchant.open(token=merchant.session_token())
    with engine.begin() as connection:
        shop = shops.get(connection, merchant.domain)
        installations.forget(connection, shop.id)
        shops.remove(connection, merchant.domain)
    assert merchant.open(token=merchant.session_token()).status_code == 200
    found = held(engine, merchant.domain)
    assert found is not None and found.state == "active"
    with engine.connect() as connection:
        assert shops.get(connection, merchant.domain).id == shop.id


def test_scopes_that_are_missing_are_named_inside_the_admin(merchant, tokens) -> None:
    tokens.scopes = "read_orders"
    response = merchant.open(token=merchant.session_token())
    assert is_page(response, "scopes_missing")
    assert "read_all_orders" in response.get_data(as_text=True)
    tokens.scopes = ",".join(Settings().shopify_scopes)
    assert merchant.open(token=merchant.session_token()).status_code == 200


def test_a_scope_that_the_app_asks_for_since_lately_is_got_when_the_merchant_granted_it(
    new_merchant, tokens
) -> None:
    before = new_merchant(shopify_scopes=("read_orders",))
    assert before.open(token=before.session_token()).status_code == 200
    after = new_merchant(shopify_scopes=("read_orders", "read_fulfillments"))
    after.domain = before.domain
    assert is_page(after.open(token=after.session_token()), "scopes_missing")
    tokens.scopes += ",read_fulfillments"
    assert after.open(token=after.session_token()).status_code == 200


def test_outside_the_admin_a_stranger_installs_and_a_known_shop_is_led_inside(merchant) -> None:
    response = merchant.get(f"/?shop={merchant.domain}")
    assert response.headers["Location"] == f"{APP}/auth?shop={merchant.domain}"
    merchant.finish()
    response = merchant.get(f"/?shop={merchant.domain}")
    assert response.headers["Location"].endswith(f"/{merchant.domain}/admin/apps/{KEY}")


def test_the_page_tells_when_the_last_webhook_came(merchant, engine) -> None:
    merchant.open(token=merchant.session_token())
    assert "None yet" in merchant.open(token=merchant.session_token()).get_data(as_text=True)
    row = "insert into inbox (shop_domain, topic, received_at) values (:shop, 'x', '2026-11-20T12:34:56Z')"
    with engine.begin() as connection:
        connection.execute(text(row), {"shop": merchant.domain})
    said = merchant.open(token=merchant.session_token()).get_data(as_text=True)
    assert "20 Nov 2026, 12:34" in said


@pytest.mark.parametrize("name", ["shop", "id_token", "host", "embedded"])
def test_a_name_given_twice_opens_nothing(merchant, name) -> None:
    path = f"/?shop={merchant.domain}&host=x&embedded=1&id_token={merchant.session_token()}&{name}=y"
    assert is_page(merchant.get(path), "bad_link")


def test_below_a_path_of_a_host_the_pages_still_find_each_other(new_merchant) -> None:
    merchant = new_merchant(shopify_app_url=f"{APP}/loyalty")
    at = urlsplit(merchant.open().headers["Location"])
    assert at.path == "/loyalty/session-token-bounce"
    assert parse_qs(at.query)["shopify-reload"][0].startswith("/loyalty/?")
    assert "Path=/loyalty/auth" in merchant.start().headers["Set-Cookie"]
    assert merchant.get("/api/v1/openapi.json").get_json()["servers"] == [{"url": "/loyalty/api/v1"}]


def test_the_api_takes_the_session_token_of_an_installed_shop(merchant) -> None:
    merchant.open(token=merchant.session_token())
    good = {"Authorization": f"Bearer {merchant.session_token()}"}
    response = merchant.get("/api/v1/program", headers=good)
    assert response.status_code == 200 and "X-RateLimit-Remaining" in response.headers
    fresh = {"Authorization": f"Bearer {merchant.session_token(exp=int(time.time()) - 60)}"}
    response = merchant.get("/api/v1/program", headers=fresh)
    assert response.status_code == 401 and response.headers[RETRY] == "1"
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")


def test_the_api_knows_no_shop_that_is_not_installed(merchant) -> None:
    response = merchant.get(
        "/api/v1/program", headers={"Authorization": f"Bearer {merchant.session_token()}"}
    )
    assert response.status_code == 401 and RETRY not in response.headers  # a fresh one would not help


def test_an_api_token_that_is_not_known_is_not_asked_for_again(merchant) -> None:
    response = merchant.get("/api/v1/program", headers={"Authorization": "Bearer unwind_unknown"})
    assert response.status_code == 401 and RETRY not in response.headers


def test_a_session_token_reaches_its_own_shop_alone(merchant, tokens) -> None:
    other = Merchant(merchant.app, tokens)
    for one in (merchant, other):
        one.open(token=one.session_token())
    mine = {"Authorization": f"Bearer {merchant.session_token()}"}
    made = merchant.client.post(
        "/api/v1/customers/5/grants",
        base_url=APP,
        json={"amount": 7, "reason": "hello"},
        headers=mine,
    )
    assert made.status_code == 201, made.get_data(as_text=True)
    theirs = {"Authorization": f"Bearer {other.session_token()}"}
    assert merchant.get("/api/v1/customers/5", headers=mine).status_code == 200
    assert merchant.get("/api/v1/customers/5", headers=theirs).status_code == 404
