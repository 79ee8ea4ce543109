"""Shops whose points are reversed by callers over HTTP: the application behind a real server, Shopify pretended."""

from __future__ import annotations

import json
import secrets
from collections.abc import Callable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any, NamedTuple

import pytest
import requests
from cryptography.fernet import Fernet
from sqlalchemy import Engine, text

from app.api import PREFIX
from app.sandbox.records import Customer
from app.sandbox.server import served
from app.web import create_app
from models.settings import Settings, load_settings
from tasks.gateway.oauth import Grant
from tasks.steps import programs, shops, tokens, wallets
from tasks.steps.drain import drain
from tasks.steps.identifiers import Hashers
from tasks.steps.installations import record_grant
from tasks.steps.verify import verify
from tests.pretend import ALL_SCOPES, PretendShopify, pretend_shopify
from tests.web.api.conftest import operation_at, validator

STORES = 100  # more than a module has tests: each has one of its own
ADA, BELA, CHIDI = 564847023, 564847024, 564847025
NOW = datetime.now(UTC).replace(microsecond=0)


class Answer(NamedTuple):
    status: int
    body: Any
    raw: bytes
    headers: Any

    @property
    def number(self) -> int | None:
        """Of its error, in both shapes; None for a success."""
        if self.status < 400:
            return None
        (error,) = self.body["errors"]
        assert self.body["error"]["code"] == str(error["code"])
        assert self.body["error"]["message"] == error["message"]
        return int(error["code"])


@dataclass
class Shop:
    """A shop and the holder of a token of it. What lies in the past is written by the steps, with their own clock."""

    url: str
    engine: Engine
    settings: Settings
    shopify: PretendShopify
    domain: str
    id: int
    token: str

    @property
    def shop_id(self) -> int:
        return self.id

    # -- calls -----------------------------------------------------------------------------------------

    def call(self, method: str, path: str, body: Any = None, *, key: str | None = None) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "Content-Type": "application/json"}
        if key is not None:
            headers["Idempotency-Key"] = key
        data = body if isinstance(body, bytes) else None if body is None else json.dumps(body).encode()
        got = requests.request(method, f"{self.url}{PREFIX}{path}", data=data, headers=headers, timeout=60)
        promised = operation_at(method, path.partition("?")[0])
        assert promised is not None
        content = promised["responses"][str(got.status_code)]["content"]["application/json"]
        validator(content["schema"]).validate(got.json())
        return Answer(got.status_code, got.json(), got.content, got.headers)

    def reverse(
        self,
        redemption: object,
        points: object = None,
        *,
        by: tuple[str, object] = ("ID", str(ADA)),
        **more: Any,
    ) -> Answer:
        key, query = more.pop("key", None), more.pop("query", "")
        wish = {"redemptionId": str(redemption), "identifier": {"type": by[0], "value": by[1]}, **more}
        if points is not None:
            wish["pointsToBeReversed"] = points
        return self.call("POST", f"/points/reverse{query}", wish, key=key)

    def balance(self, customer: int = ADA) -> Any:
        return self.call("GET", f"/customers/{customer}").body["balance"]

    # -- how it came to this -----------------------------------------------------------------------------

    def program(self, **settings: Any) -> None:
        with self.engine.begin() as connection:
            programs.put(connection, self.id, settings)

    def grant(
        self, amount: int, *, to: int = ADA, days_ago: float = 90, ends_in_days: float | None = None
    ) -> None:
        ends = None if ends_in_days is None else NOW + timedelta(days=ends_in_days)
        at = NOW - timedelta(days=days_ago)
        with self.engine.begin() as connection:
            wallets.grant(
                connection, self.id, to, amount=amount, reason="for the test", expires_at=ends, now=at
            )

    def redeem(
        self,
        amount: int | None = None,
        *,
        by: int = ADA,
        sources: dict[int, int] | None = None,
        days_ago: float = 30,
        code: str | None = None,
        reward: str = "custom",
    ) -> int:
        at = NOW - timedelta(days=days_ago)
        parts = None if sources is None else list(sources.items())
        with self.engine.begin() as connection:
            return wallets.redeem(
                connection, self.id, by, reward=reward, amount=amount, sources=parts, code=code, now=at
            )

    def spent(self, amount: int = 100) -> int:
        """A redemption of Ada's."""
        self.grant(amount)
        return self.redeem(amount)

    def run(self, statement: str, **values: Any) -> list[Any]:
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), {"shop_id": self.id, **values})
            return list(result) if result.returns_rows else []

    # -- Shopify -----------------------------------------------------------------------------------------

    def connect(self, *, scopes: tuple[str, ...] = ALL_SCOPES) -> None:
        given = self.shopify.grant_for(self.domain, scopes=scopes, expiring=False)
        grant = Grant(access_token=given["access_token"], scopes=tuple(scopes))
        with self.engine.begin() as connection:
            record_grant(connection, self.settings, self.domain, grant, NOW)

    def person(self, *, phone: str | None = None, wallet: bool = True) -> Customer:
        store = self.shopify.front(self.domain).store
        made = Customer(store.new_id(), "Ada", "Abara", phone)
        store.customers[made.id] = made
        if wallet:
            self.grant(100, to=made.id)
        return made

    def calls(self) -> list[str]:
        return self.shopify.calls(self.domain)

    def tell(self, topic: str, payload: dict[str, Any], *, at: datetime | None = None) -> list[str]:
        """A webhook, worked off as a worker does that has the keys."""
        values = {
            "domain": self.domain,
            "topic": topic,
            "id": secrets.token_hex(8),
            "body": json.dumps(payload).encode(),
            "at": at or datetime.now(UTC),
        }
        self.run(
            "insert into inbox (shop_domain, topic, webhook_id, body, received_at) values (:domain, :topic, :id, :body, :at)",
            **values,
        )
        return drain(
            self.engine, self.domain, hashers=Hashers(self.engine, self.settings.token_keys)
        ).outcomes

    def holds_together(self) -> bool:
        with self.engine.connect() as connection:
            return verify(connection, self.id) == []


NewShop = Callable[..., Shop]


@pytest.fixture(scope="module")
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify(*(f"points-{secrets.token_hex(6)}.myshopify.com" for _ in range(STORES))) as shopify:
        yield shopify


@pytest.fixture(scope="module")
def settings(database_url: str, redis_server: str, shopify: PretendShopify) -> Settings:
    return load_settings(
        None,
        database_url=database_url,
        redis_url=redis_server,
        token_encryption_keys=Fernet.generate_key().decode(),
        **shopify.settings(),
    )


@pytest.fixture(scope="module")
def serve() -> Iterator[Callable[[Settings], str]]:
    """Applications over HTTP: `serve(settings)` is the address of one that lives as long as the module's tests."""
    with ExitStack() as stack:

        def serve(settings: Settings) -> str:
            app = create_app(settings)
            stack.callback(app.extensions["unwind"].close)
            return stack.enter_context(served(app))

        yield serve


@pytest.fixture(scope="module")
def url(serve: Callable[[Settings], str], settings: Settings) -> str:
    return serve(settings)


@pytest.fixture(scope="module")
def domains(shopify: PretendShopify) -> Iterator[str]:
    return iter(shopify.fronts)


@pytest.fixture
def new_shop(
    url: str, engine: Engine, settings: Settings, shopify: PretendShopify, domains: Iterator[str]
) -> NewShop:
    """new_shop(below_zero="carry_debt"): the program of its own, from ever on."""

    def make(**program: Any) -> Shop:
        domain = next(domains)
        with engine.begin() as connection:
            shop_id = shops.add(connection, domain, program or None)
            token = tokens.create(connection, domain, name="tests").text
        return Shop(url, engine, settings, shopify, domain, shop_id, token)

    return make


@pytest.fixture
def store(new_shop: NewShop) -> Shop:
    """A shop of this test's own, which gives redeemed value back when it is refunded."""
    return new_shop(return_redeemed={"enabled": True})
