"""Somebody who opens a shop's pages and clicks in them, and the shop with what happened in it.

visitor = store.visitor()
page = visitor.get("/orders")                      # checked: sound, answered 200
page = visitor.click(page, "Refund points")        # the link or the form's button of these words, and on to where it leads
assert "400 points" in page.text
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any
from urllib.parse import urlsplit

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app.admin.door import COOKIE, csrf_of
from app.web import create_app
from models.settings import Settings, load_settings
from tasks.gateway.oauth import Grant
from tasks.runtime import gateway_of
from tasks.steps import admin_logins, codes, outbox, programs, shops, wallets
from tasks.steps.drain import drain
from tasks.steps.identifiers import Hashers
from tasks.steps.installations import record_grant
from tests.flows.codes_story import GIVE_UP, KEY
from tests.pretend import ALL_SCOPES, PretendShopify, pretend_shopify
from tests.web.api.conftest import CUSTOMER, PLACED, Caller, Store
from tests.web.pages.reading import Answer, check_sound

STORES = 60  # more than a module has tests: each has a shop of its own
APP = "https://unwind.example"
PREFIX = "/admin"
ALL_DONE = 5  # pieces of work outside, of which each may leave another


@dataclass
class Visitor:
    """A browser in front of a shop's pages. `csrf`: what its forms carry; `headers`: what every request does."""

    client: FlaskClient
    domain: str = ""
    csrf: str = ""
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, *, status: int = 200, **headers: str) -> Answer:
        """The page at this path (below /admin, or whole), which must be sound."""
        return self._opened("GET", path, status=status, headers=headers)

    def post(
        self, path: str, fields: dict[str, Any] | None = None, *, csrf: bool = True, **more: Any
    ) -> Answer:
        """What a form would send. csrf: with the word of this login in it."""
        data = {**(fields or {}), **({"csrf": self.csrf} if csrf and self.csrf else {})}
        return self._opened("POST", path, data=data, **more)

    def submit(self, page: Answer, words: str, *, follow: bool = True, **fields: Any) -> Answer:
        """Press the button of these words, with fields changed; on to where it leads, unless told otherwise."""
        form, button = page.button(words)
        sent = {**form.values(button), **fields}
        sent = {name: value for name, value in sent.items() if value is not None}  # None: not ticked
        if form.method == "GET":
            answer = self._opened("GET", form.action or page.path, query_string=sent)
        else:
            answer = self._opened("POST", form.action or page.path, data=sent)
        return self.get(answer.location) if follow and answer.status == 303 else answer

    def click(self, page: Answer, words: str, **fields: Any) -> Answer:
        """The link of these words, or else the button."""
        if any(words in (link.text, link.get("aria-label")) for link in page.main.all("a")):
            return self.get(page.link(words))
        return self.submit(page, words, **fields)

    def _opened(
        self, method: str, path: str, *, status: int | None = None, headers: Any = None, **more: Any
    ) -> Answer:
        whole = path if path.startswith((f"{PREFIX}/", "http")) else f"{PREFIX}{path}"
        at = urlsplit(whole)
        target = f"{at.path}?{at.query}" if at.query else at.path
        sent = {**self.headers, **{name.replace("_", "-"): value for name, value in (headers or {}).items()}}
        response = self.client.open(target, method=method, headers=sent, **more)
        answer = Answer(response, target)
        if status is not None:
            assert answer.status == status, (answer.status, answer.html)
        if response.mimetype == "text/html" and answer.status not in (302, 303) and method != "HEAD":
            check_sound(answer)
        return answer


@dataclass
class PageShop:
    """A shop and what happens in it: facts as the tasks read them from webhooks, and what runs at Shopify."""

    app: Flask
    engine: Engine
    settings: Settings
    shopify: PretendShopify
    domain: str
    id: int

    @property
    def told(self) -> tuple[Store, Caller]:
        return Store(self.engine), Caller(self.app.test_client(), self.domain, self.id, "")

    # -- visitors --------------------------------------------------------------------------------------

    def visitor(self) -> Visitor:
        """Logged in by a link of `unwind admin link`."""
        now = datetime.now(UTC)
        with self.engine.begin() as connection:
            cookie = admin_logins.redeem(
                connection, admin_logins.make_link(connection, self.domain, now), now
            )
        assert cookie is not None
        client = self.app.test_client()
        client.set_cookie(COOKIE, cookie, path=PREFIX)
        return Visitor(client, self.domain, csrf_of(cookie))

    def embedded(self, **claims: Any) -> Visitor:
        """Inside Shopify's admin: every request carries a session token, as App Bridge does it."""
        token = self.shopify.session_token(self.domain, **claims)
        return Visitor(self.app.test_client(), self.domain, "", {"Authorization": f"Bearer {token}"})

    # -- how it came to this ---------------------------------------------------------------------------

    def program(self, **settings: Any) -> None:
        """Settings of its own, from now on; what is not named has its default."""
        with self.engine.begin() as connection:
            programs.put(connection, self.id, settings)

    def place(self, order_id: int, **more: Any) -> None:
        """An order of one line of two units (`tests/web/api/conftest.py`): customer, total_minor, code, status, at."""
        store, caller = self.told
        store.place(caller, order_id, **more)

    def refund(self, order_id: int, refund_id: int, minor: int, *, units: int = 0) -> None:
        store, caller = self.told
        store.refund(caller, order_id, refund_id, minor, units=units)

    def grant(self, amount: int, *, to: int = CUSTOMER, days_ago: float = 10, **more: Any) -> None:
        at = datetime.now(UTC) - timedelta(days=days_ago)
        with self.engine.begin() as connection:
            wallets.grant(connection, self.id, to, amount=amount, reason="for the test", now=at, **more)

    def redeem(
        self,
        amount: int | None = None,
        *,
        by: int = CUSTOMER,
        reward: str = "custom",
        code: str | None = None,
        at: datetime | None = None,
    ) -> int:
        """A redemption's id. Of another reward than `custom` the price is the program's, and Shopify makes the code."""
        with self.engine.begin() as connection:
            return wallets.redeem(connection, self.id, by, reward=reward, amount=amount, code=code, now=at)

    def receive(self, topic: str, body: bytes, *, id: str | None = None) -> int:
        """A delivery into the inbox; `work` works it off. Returns the event's id."""
        store, caller = self.told
        return store.receive(caller, topic, body, id=id or secrets.token_hex(8))

    def work(self) -> None:
        """Work off the inbox, as a worker does."""
        drain(self.engine, self.domain, hashers=Hashers(self.engine, self.settings.token_keys))

    def connect(self, *, scopes: tuple[str, ...] = ALL_SCOPES) -> None:
        """Installed in its (pretended) store."""
        given = self.shopify.grant_for(self.domain, scopes=scopes, expiring=False)
        grant = Grant(access_token=given["access_token"], scopes=tuple(scopes))
        with self.engine.begin() as connection:
            record_grant(connection, self.settings, self.domain, grant, datetime.now(UTC))

    def work_outside(self) -> list[str]:
        """Do at the store what waits to be done there: codes made, taken away, given back."""
        outcomes: list[str] = []
        later = datetime.now(UTC) + timedelta(seconds=1)
        for _ in range(ALL_DONE):
            waiting = self.run(
                "select id, kind from outbox where shop_id = :shop_id and state = 'pending' and kind in"
                " ('create_code', 'remove_code', 'reactivate_code') order by id"
            )
            for row in waiting:
                give_up = GIVE_UP[row.kind]
                outcomes.append(
                    outbox.work(self.engine, self.domain, row.id, self._outside, give_up=give_up, now=later)
                )
        return outcomes

    def _outside(self, leased: outbox.Leased) -> str:
        now, gateway = datetime.now(UTC), gateway_of(self.settings, self.engine)()
        if leased.kind == "create_code":
            return codes.create(self.engine, gateway, leased, now=now)
        if leased.kind == "remove_code":
            return codes.remove(self.engine, gateway, leased, now=now)
        return codes.reactivate(self.engine, gateway, KEY, leased, now=now)

    def balance(self, customer: int = CUSTOMER) -> int:
        [row] = self.run(
            "select balance from wallets where shop_id = :shop_id and customer_id = :id", id=customer
        )
        return int(row.balance)

    def run(self, statement: str, **values: Any) -> list[Any]:
        """A statement on the database; `:shop_id` is this shop."""
        with self.engine.begin() as connection:
            result = connection.execute(text(statement), {"shop_id": self.id, **values})
            return list(result) if result.returns_rows else []


NewPageShop = Callable[..., PageShop]


@pytest.fixture(scope="module")
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify(*(f"pages-{secrets.token_hex(6)}.myshopify.com" for _ in range(STORES))) as shopify:
        yield shopify


@pytest.fixture(scope="module")
def settings(database_url: str, redis_server: str, shopify: PretendShopify) -> Settings:
    return load_settings(
        None,
        database_url=database_url,
        redis_url=redis_server,
        shopify_app_url=APP,
        token_encryption_keys=Fernet.generate_key().decode(),
        **shopify.settings(),
    )


@pytest.fixture(scope="module")
def app(settings: Settings) -> Iterator[Flask]:
    """One application for all of a module's tests."""
    app = create_app(settings)
    yield app
    app.extensions["unwind"].close()


@pytest.fixture(scope="module")
def domains(shopify: PretendShopify) -> Iterator[str]:
    return iter(shopify.fronts)


@pytest.fixture
def new_page_shop(
    app: Flask, engine: Engine, settings: Settings, shopify: PretendShopify, domains: Iterator[str]
) -> NewPageShop:
    """new_page_shop(waiting_days=14): a shop of this test's own, whose program has these settings from ever on."""

    def make(**program: Any) -> PageShop:
        domain = next(domains)
        with engine.begin() as connection:
            shop_id = shops.add(connection, domain, program or None)
        return PageShop(app, engine, settings, shopify, domain, shop_id)

    return make


@pytest.fixture
def store(new_page_shop: NewPageShop) -> PageShop:
    """A shop of this test's own with the program's defaults, in which nothing has happened yet."""
    return new_page_shop()


@pytest.fixture
def busy_store(store: PageShop) -> PageShop:
    """Order 450 of 100.00 with 20.00 refunded, order 451 untouched, a redemption of 40 points."""
    store.place(450)
    store.refund(450, 9001, 2_000)
    store.place(451, at=PLACED + timedelta(days=1))
    store.redeem(40)
    return store


@pytest.fixture
def visitor(busy_store: PageShop) -> Visitor:
    """Somebody logged in to `busy_store`."""
    return busy_store.visitor()


@pytest.fixture
def foreign(new_page_shop: NewPageShop) -> Visitor:
    """Somebody logged in to another shop: whatever of `busy_store` is asked for must not be there."""
    return new_page_shop().visitor()
