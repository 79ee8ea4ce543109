"""A pretend Shopify for tests: stores over HTTP with OAuth and the Admin API.

with pretend_shopify() as shopify:
    settings = load_settings(None, **shopify.settings())
    token = shopify.token_for()
    shopify.faults().add("lost", only="DiscountCodeBasicCreate")
"""

from __future__ import annotations

import secrets
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

import requests
from sqlalchemy import Engine

from app.sandbox.access import Application
from app.sandbox.faults import Faults
from app.sandbox.oauth import session_token
from app.sandbox.records import Customer, Discount, Order, Presentment, Product
from app.sandbox.server import create_sandbox, served
from app.sandbox.shopfront import Shopfront
from app.sandbox.store import Delivery, Store
from models.settings import Settings, load_settings
from tasks.gateway.oauth import Grant
from tasks.steps.installations import record_grant

API_KEY = "5f1d0c3a7b9e4f2d8c6a1b0e9d7f3c52"
API_SECRET = "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"
ALL_SCOPES = Settings.model_fields["shopify_scopes"].default


class Clock:
    """The stores' time: the true one until it is set or moved, and standing still from then on when set."""

    def __init__(self) -> None:
        self._at: datetime | None = None
        self._ahead = timedelta(0)

    def __call__(self) -> datetime:
        return (self._at or datetime.now(UTC)) + self._ahead

    def set(self, at: datetime) -> None:
        self._at, self._ahead = at, timedelta(0)

    def advance(self, **by: float) -> None:
        """advance(days=90)"""
        self._ahead += timedelta(**by)


@dataclass
class PretendShopify:
    """Stores by their domain behind one address; `domain` is the first one's.

    sent: the webhooks that the stores would send, in order, unsigned. clock: all stores' time.
    """

    url: str
    application: Application
    clock: Clock
    fronts: dict[str, Shopfront]
    sent: list[Delivery] = field(default_factory=list)

    @property
    def domain(self) -> str:
        return next(iter(self.fronts))

    @property
    def base_url(self) -> str:
        """For SHOPIFY_BASE_URL: every store under its own domain."""
        return f"{self.url}/{{shop}}"

    @property
    def store(self) -> Store:
        return self.front().store

    def front(self, domain: str | None = None) -> Shopfront:
        return self.fronts[domain or self.domain]

    def faults(self, domain: str | None = None) -> Faults:
        return self.front(domain).faults

    def calls(self, domain: str | None = None) -> list[str]:
        """The operations that were asked for, oldest first."""
        return list(self.front(domain).calls)

    def settings(self, **more: Any) -> dict[str, Any]:
        """Settings that make the product talk to this, for load_settings(None, **...)."""
        return {
            "shopify_api_key": self.application.key,
            "shopify_api_secret": ",".join(self.application.secrets),
            "shopify_base_url": self.base_url,
            **more,
        }

    def grant_for(
        self,
        domain: str | None = None,
        *,
        scopes: Sequence[str] = ALL_SCOPES,
        expiring: bool = True,
    ) -> dict[str, Any]:
        """Installs the app as if the merchant had agreed: what the token endpoint would have answered."""
        front = self.front(domain)
        with front.lock:
            return dict(front.access.fresh(tuple(scopes), expiring=expiring))

    def connect(self, engine: Engine, *, key: str) -> int:
        """The app installed, and its expiring tokens kept under this key; the shop's id."""
        given, now = self.grant_for(), datetime.now(UTC)
        settings, ends = load_settings(None, token_encryption_keys=key), now + timedelta(hours=1)
        grant = Grant(
            str(given["access_token"]), settings.shopify_scopes, ends, str(given["refresh_token"]), ends
        )
        with engine.begin() as connection:
            return record_grant(connection, settings, self.domain, grant, now)

    def token_for(self, domain: str | None = None, **more: Any) -> str:
        """A valid access token of the app, installed for it."""
        return str(self.grant_for(domain, **more)["access_token"])

    def session_token(self, domain: str | None = None, **claims: Any) -> str:
        """What App Bridge would hand to an embedded page; `claims` replace those that would be right."""
        return session_token(self.front(domain), "42", **claims)

    def graphql(
        self, query: str, variables: dict[str, Any] | None = None, *, token: str, domain: str | None = None
    ) -> requests.Response:
        """One call of the Admin API as it goes over the wire."""
        return requests.post(
            f"{self.url}/{domain or self.domain}/admin/api/2026-10/graphql.json",
            json={"query": query, "variables": variables or {}},
            headers={"X-Shopify-Access-Token": token},
            timeout=10,
        )

    # -- shopping ------------------------------------------------------------------------------------------------

    def customer(self, domain: str | None = None) -> Customer:
        store = self.front(domain).store
        made = Customer(store.new_id(), "Ada", "Abara")
        store.customers[made.id] = made
        return made

    def buy(
        self,
        *codes: str,
        customer: Customer | None = None,
        price_minor: int = 10000,
        quantity: int = 2,
        pay: bool = True,
        domain: str | None = None,
        at: datetime | None = None,
        amount_minor: int = 500,
        shipping_minor: int = 0,
    ) -> Order:
        """A paid order of one line. Raises CodeRefused. amount_minor: what codes take that no discount is known of."""
        with self.front(domain).act() as store:
            product = Product(store.new_id(), "Lamp", "LAMP-1", price_minor)
            usual = store.clock
            store.clock = self.clock if at is None else lambda: at
            try:
                order = store.place(
                    customer=customer,
                    basket=[(product, quantity)],
                    discounts=[Discount(title=code, code=code, amount_minor=amount_minor) for code in codes],
                    shipping_minor=shipping_minor,
                    presentment=Presentment(store.currency, Fraction(1)),
                )
                if pay:
                    store.pay(order)
            finally:
                store.clock = usual
            return order


def new_store(domain: str, clock: Clock, *, currency: str = "USD", seed: int = 7) -> Store:
    return Store(domain=domain, currency=currency, dice=Random(seed), clock=clock)


@contextmanager
def pretend_shopify(
    *domains: str, currency: str = "USD", app_url: str = "", consents: bool = True, **switches: Any
) -> Iterator[PretendShopify]:
    """Stores over HTTP for as long as the block runs. Without domains, one of a name that nobody had before.

    consents: merchants agree to an installation at once. switches: fields of every Shopfront (forever_tokens=False).
    """
    clock = Clock()
    application = Application(API_KEY, [API_SECRET], app_url)
    sent: list[Delivery] = []
    wanted = domains or (f"pretend-{secrets.token_hex(6)}.myshopify.com",)
    fronts = {
        domain: Shopfront(
            new_store(domain, clock, currency=currency, seed=7 + number),
            sent.extend,
            application=application,
            clock=clock,
            consents=consents,
            **switches,
        )
        for number, domain in enumerate(wanted)
    }
    with served(create_sandbox(*fronts.values())) as url:
        yield PretendShopify(url, application, clock, fronts, sent)
