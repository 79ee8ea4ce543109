"""The pretend store gives tokens as Shopify does: by consent, by a session token, by a refresh token that rotates."""

from __future__ import annotations

import re
from collections.abc import Iterator
from urllib.parse import parse_qsl, urlencode, urlsplit

import pytest
import requests

from app.query_signature import is_signed_query
from app.sandbox.oauth import EXCHANGE, ID_TOKEN, OFFLINE
from tests.pretend import API_KEY, API_SECRET, PretendShopify, pretend_shopify

CALLBACK = "https://unwind.example/auth/callback"


@pytest.fixture
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify("lamps.myshopify.com", "mugs.myshopify.com") as found:
        yield found


def authorize_url(shopify: PretendShopify, **more: str) -> str:
    asked = {
        "client_id": API_KEY,
        "scope": "read_orders,write_discounts",
        "redirect_uri": CALLBACK,
        "state": "nonce-1",
    }
    return f"{shopify.url}/{shopify.domain}/admin/oauth/authorize?{urlencode({**asked, **more})}"


def sent_back(answer: requests.Response) -> dict[str, str]:
    assert answer.status_code == 302, answer.text
    assert answer.headers["Location"].startswith(f"{CALLBACK}?")
    return dict(parse_qsl(urlsplit(answer.headers["Location"]).query))


def ask(shopify: PretendShopify, domain: str | None = None, **fields: str) -> requests.Response:
    ours = {"client_id": API_KEY, "client_secret": API_SECRET}
    url = f"{shopify.url}/{domain or shopify.domain}/admin/oauth/access_token"
    return requests.post(url, data={**ours, **fields}, timeout=5)


def refresh(shopify: PretendShopify, token: str) -> requests.Response:
    return ask(shopify, grant_type="refresh_token", refresh_token=token)


def works(shopify: PretendShopify, token: str, domain: str | None = None) -> bool:
    return shopify.graphql("query { shop { id } }", token=token, domain=domain).status_code == 200


def test_consent_sends_the_merchant_back_with_a_signed_query(shopify: PretendShopify) -> None:
    back = sent_back(requests.get(authorize_url(shopify), allow_redirects=False, timeout=5))
    assert set(back) == {"code", "shop", "state", "timestamp", "host", "hmac"}
    assert back["shop"] == shopify.domain
    assert back["state"] == "nonce-1"
    assert is_signed_query(list(back.items()), [API_SECRET.encode()])


def test_the_merchant_is_asked_before_anything_is_granted(shopify: PretendShopify) -> None:
    shopify.front().consents = False
    page = requests.get(authorize_url(shopify), allow_redirects=False, timeout=5)
    assert page.status_code == 200
    assert "write_discounts" in page.text
    fields = dict(re.findall(r'name="(\w+)" value="([^"]*)"', page.text))
    back = sent_back(requests.post(page.url.partition("?")[0], data=fields, allow_redirects=False, timeout=5))
    assert back["code"]
    assert sent_back(requests.get(authorize_url(shopify, grant="auto"), allow_redirects=False, timeout=5))


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"client_id": "somebody-else"}, id="another app"),
        pytest.param({"redirect_uri": "https://evil.example/auth/callback"}, id="a redirect elsewhere"),
        pytest.param({"redirect_uri": "javascript:alert(1)"}, id="a redirect that is no address"),
    ],
)
def test_nobody_is_sent_where_the_app_is_not(shopify: PretendShopify, wrong: dict[str, str]) -> None:
    shopify.application.app_url = "https://unwind.example"
    assert requests.get(authorize_url(shopify, **wrong), allow_redirects=False, timeout=5).status_code == 400


def test_a_code_is_good_once_and_for_its_own_store(shopify: PretendShopify) -> None:
    code = sent_back(requests.get(authorize_url(shopify), allow_redirects=False, timeout=5))["code"]
    assert ask(shopify, "mugs.myshopify.com", code=code, expiring="1").status_code == 400
    first = ask(shopify, code=code, expiring="1").json()
    assert first["expires_in"] == 3600
    assert first["refresh_token_expires_in"] == 90 * 86400
    assert first["scope"] == "read_orders,write_discounts"
    assert works(shopify, first["access_token"])
    assert not works(shopify, first["access_token"], "mugs.myshopify.com")
    assert ask(shopify, code=code, expiring="1").status_code == 400


def test_a_code_ends_by_itself(shopify: PretendShopify) -> None:
    code = sent_back(requests.get(authorize_url(shopify), allow_redirects=False, timeout=5))["code"]
    shopify.clock.advance(minutes=6)
    assert ask(shopify, code=code).json()["error"] == "invalid_request"


def test_an_app_that_does_not_ask_for_an_end_gets_a_token_without_one(shopify: PretendShopify) -> None:
    code = sent_back(requests.get(authorize_url(shopify), allow_redirects=False, timeout=5))["code"]
    granted = ask(shopify, code=code).json()
    assert set(granted) == {"access_token", "scope"}
    shopify.clock.advance(days=400)
    assert works(shopify, granted["access_token"])
    shopify.front().forever_tokens = False
    assert not works(shopify, granted["access_token"])


def test_an_implied_scope_is_granted_but_not_told(shopify: PretendShopify) -> None:
    granted = shopify.grant_for(scopes=("read_discounts", "write_discounts", "read_orders"))
    assert granted["scope"] == "write_discounts,read_orders"
    asked = "query { currentAppInstallation { accessScopes { handle } } }"
    found = shopify.graphql(asked, token=granted["access_token"]).json()
    handles = [scope["handle"] for scope in found["data"]["currentAppInstallation"]["accessScopes"]]
    assert handles == ["read_discounts", "read_orders", "write_discounts"]


def test_an_access_token_lives_an_hour_and_is_refreshed(shopify: PretendShopify) -> None:
    first = shopify.grant_for()
    shopify.clock.advance(minutes=61)
    assert not works(shopify, first["access_token"])
    second = refresh(shopify, first["refresh_token"]).json()
    assert second["refresh_token"] != first["refresh_token"]
    assert works(shopify, second["access_token"])


def test_a_used_refresh_token_may_be_tried_again_until_its_replacement_is_used(
    shopify: PretendShopify,
) -> None:
    first = shopify.grant_for()["refresh_token"]
    lost = refresh(shopify, first).json()["refresh_token"]
    second = refresh(shopify, first).json()["refresh_token"]
    assert refresh(shopify, lost).json()["error"] == "invalid_grant"
    third = refresh(shopify, second)
    assert third.ok
    refused = refresh(shopify, first)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")
    assert refresh(shopify, third.json()["refresh_token"]).ok


def test_the_second_try_must_come_within_thirty_days(shopify: PretendShopify) -> None:
    first = shopify.grant_for()["refresh_token"]
    assert refresh(shopify, first).ok
    shopify.clock.advance(days=31)
    assert refresh(shopify, first).json()["error"] == "invalid_grant"


def test_a_refresh_token_lapses_after_ninety_days(shopify: PretendShopify) -> None:
    first = shopify.grant_for()["refresh_token"]
    shopify.clock.advance(days=90)
    refused = refresh(shopify, first)
    assert (refused.status_code, refused.json()["error"]) == (400, "invalid_grant")


def test_a_fresh_exchange_ends_older_refresh_tokens_but_not_access_tokens(shopify: PretendShopify) -> None:
    first = shopify.grant_for()
    shopify.grant_for()
    assert refresh(shopify, first["refresh_token"]).json()["error"] == "invalid_grant"
    assert works(shopify, first["access_token"])


def exchange(shopify: PretendShopify, token: str, domain: str | None = None) -> requests.Response:
    return ask(
        shopify,
        domain,
        grant_type=EXCHANGE,
        subject_token=token,
        subject_token_type=ID_TOKEN,
        requested_token_type=OFFLINE,
        expiring="1",
    )


def test_a_session_token_is_exchanged_where_the_app_is_installed(shopify: PretendShopify) -> None:
    token = shopify.session_token()
    assert exchange(shopify, token).json()["error"] == "invalid_subject_token"
    shopify.grant_for()
    granted = exchange(shopify, token).json()
    assert works(shopify, granted["access_token"])
    assert granted["refresh_token"]


@pytest.mark.parametrize(
    "claims",
    [
        pytest.param({"aud": "another-app"}, id="another app's"),
        pytest.param({"dest": "https://mugs.myshopify.com"}, id="another shop's"),
        pytest.param({"exp": 1}, id="over"),
    ],
)
def test_a_session_token_that_is_not_ours_now_is_refused(
    shopify: PretendShopify, claims: dict[str, object]
) -> None:
    shopify.grant_for()
    assert exchange(shopify, shopify.session_token(**claims)).json()["error"] == "invalid_subject_token"


def test_two_secrets_live_while_they_are_rotated_and_a_revoked_one_is_refused(
    shopify: PretendShopify,
) -> None:
    shopify.application.secrets = ["a-new-secret", API_SECRET]
    first = shopify.grant_for()["refresh_token"]
    second = refresh(shopify, first).json()["refresh_token"]
    shopify.application.secrets = ["a-new-secret"]
    assert refresh(shopify, second).json()["error"] == "invalid_client"
    answer = ask(shopify, client_secret="a-new-secret", grant_type="refresh_token", refresh_token=second)
    assert answer.ok


def test_an_uninstalled_app_has_no_tokens(shopify: PretendShopify) -> None:
    granted = shopify.grant_for()
    shopify.front().access.uninstall()
    assert not works(shopify, granted["access_token"])
    assert refresh(shopify, granted["refresh_token"]).json()["error"] == "invalid_grant"


def test_the_token_endpoint_can_fail_before_and_after_its_effect(shopify: PretendShopify) -> None:
    first = shopify.grant_for()["refresh_token"]
    faults = shopify.faults()
    faults.add("status", status=502, only="access_token")
    assert refresh(shopify, first).status_code == 502
    faults.add("lost", only="access_token")
    with pytest.raises(requests.ConnectionError):
        refresh(shopify, first)
    assert refresh(shopify, first).ok
    assert shopify.calls() == ["access_token"] * 2


def test_the_admin_opens_the_app_with_a_session_token(shopify: PretendShopify) -> None:
    shopify.application.app_url = "https://unwind.example"
    page = requests.get(f"{shopify.url}/{shopify.domain}/admin/apps/{API_KEY}", timeout=5)
    inside = re.search(r'src="([^"]+)"', page.text)
    assert inside is not None
    sent = dict(parse_qsl(urlsplit(inside[1].replace("&amp;", "&")).query))
    assert is_signed_query(list(sent.items()), [API_SECRET.encode()])
    assert sent["id_token"].count(".") == 2
