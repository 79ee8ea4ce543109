from __future__ import annotations

import base64
import hashlib
import hmac
from collections.abc import Iterator
from itertools import count

import pytest
from cryptography.fernet import Fernet
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.web import create_app
from models.settings import Settings
from tasks import runtime as running
from tasks.steps.drain import drain
from tasks.steps.read import order
from tests.conftest import RegisteredShop
from tests.pretend import PretendShopify, pretend_shopify

SECRET = "a secret of the flows"
KEY = Fernet.generate_key().decode()


class Door:
    """The receiver and the engine behind it: webhooks go in by HTTP, the inbox is worked off by the real drain."""

    def __init__(self, client: FlaskClient, engine: Engine, shop: RegisteredShop) -> None:
        self.client, self.engine, self.shop = client, engine, shop
        self._ids = count(1)

    def send(self, topic: str, body: bytes, *, webhook_id: str = "") -> int:
        """POST one webhook as Shopify does; returns the HTTP status."""
        digest = hmac.new(SECRET.encode(), body, hashlib.sha256).digest()
        headers = {
            "X-Shopify-Hmac-Sha256": base64.b64encode(digest).decode(),
            "X-Shopify-Topic": topic,
            "X-Shopify-Shop-Domain": self.shop.domain,
            "X-Shopify-Webhook-Id": webhook_id or f"{self.shop.domain}-{next(self._ids)}",
            "Content-Type": "application/json",
        }
        return self.client.post("/webhooks", data=body, headers=headers).status_code

    def work(self) -> list[str]:
        """Drain the shop's inbox to the end; the outcomes in words."""
        outcomes: list[str] = []
        while True:
            drained = drain(self.engine, self.shop.domain)
            outcomes += drained.outcomes
            if not drained.left:
                return outcomes

    def order(self, order_id: int) -> dict:
        with self.engine.begin() as connection:
            return order(connection, self.shop.id, order_id)

    def inbox(self) -> list[tuple]:
        query = text(
            "select topic, state, error_code, error, order_id from inbox where shop_domain = :shop order by id"
        )
        with self.engine.begin() as connection:
            return [tuple(row) for row in connection.execute(query, {"shop": self.shop.domain})]


@pytest.fixture
def door(database_url: str, redis_url: str, engine: Engine, shop: RegisteredShop) -> Iterator[Door]:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, shopify_api_secret=(SecretStr(SECRET),)
    )
    app = create_app(settings)
    yield Door(app.test_client(), engine, shop)
    app.extensions["unwind"].close()


@pytest.fixture
def connected_store(
    engine: Engine, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PretendShopify]:
    """A store that has installed the app, and the environment of a worker that works for it."""
    with pretend_shopify() as found:
        more = {"database_url": database_url, "redis_url": redis_url, "token_encryption_keys": KEY}
        for name, value in found.settings(**more).items():
            monkeypatch.setenv(name.upper(), value)
        found.connect(engine, key=KEY)
        running._built.clear()
        yield found
        built = running._built.pop("now", None)
        if built is not None:
            built.engine.dispose()
            built.broker.close()
