from __future__ import annotations

import re
from collections.abc import Callable, Iterator

import pytest
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug.test import TestResponse

from app.signature import signature_of
from app.web import create_app
from models.settings import Settings
from tests.terminal import environment, unwind
from tests.web.admin import Merchant, NewMerchant, Tokens, settings_for

__all__ = ["environment", "unwind"]

SECRET = "a client secret of the tests"
RETIRING = "the one before it"

Send = Callable[..., TestResponse]


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        shopify_api_secret=(SecretStr(SECRET), SecretStr(RETIRING)),
        webhook_max_bytes=100_000,
    )


@pytest.fixture
def app(settings: Settings) -> Iterator[Flask]:
    app = create_app(settings)
    yield app
    app.extensions["unwind"].close()


@pytest.fixture
def app_with(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """The application with other settings: app_with(redis_url=...)."""
    made: list[Flask] = []

    def app_with(**other: object) -> Flask:
        made.append(create_app(settings.model_copy(update=other)))
        return made[-1]

    yield app_with
    for app in made:
        app.extensions["unwind"].close()


@pytest.fixture
def client(app: Flask) -> FlaskClient:
    return app.test_client()


@pytest.fixture
def send(client: FlaskClient, shop) -> Send:
    """POST a webhook, signed unless told otherwise: send(body, topic=..., id=..., **headers)."""

    def send(
        body: bytes = b"{}", *, topic: str = "refunds/create", id: str = "", secret: str = SECRET, **more: str
    ):
        headers = {
            "X-Shopify-Hmac-Sha256": signature_of(body, secret.encode()),
            "X-Shopify-Topic": topic,
            "X-Shopify-Shop-Domain": shop.domain,
            "X-Shopify-Webhook-Id": id,
            "Content-Type": "application/json",
        } | {name.replace("_", "-"): value for name, value in more.items()}
        return client.post("/webhooks", data=body, headers=headers)

    return send


@pytest.fixture
def tokens(httpserver: HTTPServer) -> Tokens:
    """Shopify's token address, which gives all scopes that the app asks for."""
    tokens = Tokens(scopes=",".join(Settings().shopify_scopes))
    address = re.compile("/[^/]+/admin/oauth/access_token")
    httpserver.expect_request(address, method="POST").respond_with_handler(tokens)
    return tokens


@pytest.fixture
def new_merchant(
    database_url: str, redis_url: str, httpserver: HTTPServer, tokens: Tokens
) -> Iterator[NewMerchant]:
    """A browser in front of an application with other settings: new_merchant(shopify_api_key="")."""
    made: list[Flask] = []
    places = {"database_url": database_url, "redis_url": redis_url}

    def new_merchant(**other: object) -> Merchant:
        made.append(create_app(settings_for(httpserver, **{**places, **other})))
        return Merchant(made[-1], tokens)

    yield new_merchant
    for app in made:
        app.extensions["unwind"].close()


@pytest.fixture(scope="module")
def installable(database_url: str, redis_server: str, make_httpserver: HTTPServer) -> Iterator[Flask]:
    """One application for all of a module's merchants: each has a store and a browser of his own."""
    app = create_app(settings_for(make_httpserver, database_url=database_url, redis_url=redis_server))
    yield app
    app.extensions["unwind"].close()


@pytest.fixture
def merchant(installable: Flask, tokens: Tokens) -> Merchant:
    return Merchant(installable, tokens)
