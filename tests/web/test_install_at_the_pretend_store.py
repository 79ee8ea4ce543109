"""The whole way over HTTP, as a merchant's browser goes it: the app, the pretend store's consent page, and back."""

from __future__ import annotations

import re
import threading
from collections.abc import Iterator
from dataclasses import dataclass
from html import unescape
from urllib.parse import parse_qsl, urlsplit

import pytest
import requests
from pydantic import SecretStr
from sqlalchemy import Engine
from werkzeug.serving import make_server

from app.web import create_app
from models.settings import Settings
from tasks.gateway.client import Connections, Shopify
from tasks.gateway.tokens import StoredTokens
from tasks.steps import installations, shops
from tests.pretend import API_KEY, PretendShopify, pretend_shopify
from tests.web.admin import ENCRYPTION


@dataclass
class Place:
    """The app and the store it is for, each with an address; `browser` keeps cookies and follows redirects."""

    app_url: str
    settings: Settings
    shopify: PretendShopify
    browser: requests.Session

    def get(self, url: str) -> requests.Response:
        return self.browser.get(url, timeout=10)

    def install(self) -> requests.Response:
        return self.get(f"{self.app_url}/auth?shop={self.shopify.domain}")

    def inside(self) -> str:
        """The address that the admin opens in its frame, with a fresh session token."""
        page = self.get(f"{self.shopify.url}/{self.shopify.domain}/admin/apps/{API_KEY}").text
        found = re.search(r'<iframe src="([^"]+)"', page)
        assert found is not None, page
        return unescape(found[1])


@pytest.fixture
def place(database_url: str, redis_url: str) -> Iterator[Place]:
    apps = []
    server = make_server("127.0.0.1", 0, lambda *call: apps[0].wsgi_app(*call), threaded=True)
    url = f"http://127.0.0.1:{server.port}"
    with pretend_shopify(app_url=url) as shopify, requests.Session() as browser:
        settings = Settings(
            database_url=database_url,
            redis_url=redis_url,
            shopify_api_key=API_KEY,
            shopify_api_secret=tuple(SecretStr(secret) for secret in shopify.application.secrets),
            shopify_app_url=url,
            shopify_base_url=shopify.base_url,
            token_encryption_keys=(SecretStr(ENCRYPTION),),
        )
        apps.append(create_app(settings))
        thread = threading.Thread(target=server.serve_forever)
        thread.start()
        try:
            yield Place(url, settings, shopify, browser)
        finally:
            server.shutdown()
            thread.join()
            server.server_close()
            apps[0].extensions["unwind"].close()


def asks_shopify(place: Place, engine: Engine) -> str:
    """What Shopify answers, asked with the tokens that are kept."""
    with engine.connect() as connection:
        shop = shops.get(connection, place.shopify.domain)
        assert installations.is_in_order(connection, shop.id)
    connections = Connections(place.settings)
    tokens = StoredTokens(engine, place.settings, connections.post_form)
    answer = Shopify(place.settings, tokens, connections=connections).run(shop, "shop", {})
    return str(answer["shop"]["myshopifyDomain"])


def test_a_merchant_who_agrees_lands_in_his_admin_and_the_tokens_work(place: Place, engine: Engine) -> None:
    landed = place.install()
    assert landed.ok and urlsplit(landed.url).path == f"/{place.shopify.domain}/admin/apps/{API_KEY}"
    assert [answer.status_code for answer in landed.history] == [302, 302, 302]
    assert asks_shopify(place, engine) == place.shopify.domain
    opened = place.get(place.inside())
    assert opened.status_code == 200 and "<h1>Home</h1>" in opened.text
    framed_by = opened.headers["Content-Security-Policy"].partition("frame-ancestors")[2]
    assert (
        place.shopify.domain in framed_by and place.shopify.url in framed_by
    )  # its admin may frame the page


def test_the_merchant_reads_what_is_asked_of_him_and_presses_the_button(place: Place, engine: Engine) -> None:
    place.shopify.front().consents = False
    asked = place.install()
    assert "read_all_orders" in asked.text
    form = dict(parse_qsl(urlsplit(asked.url).query))
    landed = place.browser.post(asked.url.partition("?")[0], data=form, timeout=10)
    assert landed.ok and asks_shopify(place, engine) == place.shopify.domain


def test_a_managed_installation_connects_when_the_admin_opens_the_app(place: Place, engine: Engine) -> None:
    place.shopify.grant_for()  # Shopify installed it, and told us nothing yet
    opened = place.get(place.inside())
    assert opened.status_code == 200 and [answer.status_code for answer in opened.history] == [302]
    assert asks_shopify(place, engine) == place.shopify.domain
    place.get(place.inside())
    assert place.shopify.calls().count("access_token") == 1


def test_a_page_whose_token_has_ended_comes_back_with_a_fresh_one(place: Place, engine: Engine) -> None:
    place.shopify.grant_for()
    address = place.inside()
    ended = re.sub(r"id_token=[^&]*", f"id_token={place.shopify.session_token(exp=1)}", address)
    bounce = place.get(ended)
    assert urlsplit(bounce.url).path == "/session-token-bounce"
    reload = dict(parse_qsl(urlsplit(bounce.url).query))["shopify-reload"]
    fresh = place.get(
        f"{place.app_url}{reload}&id_token={place.shopify.session_token()}"
    )  # as App Bridge does
    assert fresh.status_code == 200 and asks_shopify(place, engine) == place.shopify.domain


def test_after_an_uninstall_the_app_installs_again(place: Place, engine: Engine) -> None:
    place.install()
    place.shopify.front().access.uninstall()
    with engine.begin() as connection:
        shop = shops.get(connection, place.shopify.domain)
        installations.forget(connection, shop.id)
        shops.remove(connection, place.shopify.domain)
    landed = place.get(f"{place.app_url}/?shop={place.shopify.domain}")  # from outside: consent again
    assert landed.ok and asks_shopify(place, engine) == place.shopify.domain
