"""The product as it runs, seen from outside only: `unwind up` in processes of its own, webhooks and calls by HTTP, and
commands as an operator types them. A shop of each test's own stands at a pretend Shopify.

    shop = new_shop(earning=[per_unit(5)])
    order = shop.sell(100_00)
    shop.refund(order, amount=20_00)
    assert shop.balance() == 400
"""

from __future__ import annotations

import io
import itertools
import json
import os
import secrets
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, redirect_stderr, redirect_stdout
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from pathlib import Path
from typing import Any, NamedTuple

import psycopg
import pytest
import requests

from app.cli import run
from app.sandbox.records import Customer, Discount, Item, Order, Presentment, Product, Refund
from app.sandbox.sender import WELL_BEHAVED, Habits, Sender
from app.sandbox.store import Delivery, Store
from models.settings import load_settings
from tests.flows.listening import Listener
from tests.pretend import API_SECRET, PretendShopify
from tests.terminal import Output
from worker.celery_settings import make_sender
from worker.embedded import parts

PATIENCE_SECONDS = 90.0  # a busy machine starts the product in half of it
POLL_SECONDS = 0.04
CALL_SECONDS = 20
A_MOMENT = timedelta(
    seconds=1
)  # Shopify's times are whole seconds: no fact may lie before what was done just now
FOREIGN = ("DATABASE_", "REDIS_", "SHOPIFY_", "TOKEN_", "ENDPOINTS_", "AUTO_", "TEST_")


class Answer(NamedTuple):
    """What a call was answered. `error` is the error's code, None for a success."""

    status: int
    body: Any
    headers: Mapping[str, str]

    @property
    def error(self) -> str | None:
        return self.body["error"]["code"] if isinstance(self.body, dict) and "error" in self.body else None

    @property
    def message(self) -> str:
        return str(self.body["error"]["message"])

    def __getitem__(self, name: str) -> Any:
        return self.body[name]


class Caller:
    """Someone with a token (or, to be refused, without a right one). Paths are below /api/v1."""

    def __init__(self, url: str, token: str) -> None:
        self.url, self.token = url, token
        self.session = requests.Session()

    def call(
        self,
        method: str,
        path: str,
        body: Any = None,
        *,
        key: str | None = None,
        accept: str = "application/json",
    ) -> Answer:
        headers = {"Authorization": f"Bearer {self.token}", "Accept": accept}
        if key is not None:
            headers["Idempotency-Key"] = key
        answer = self.session.request(
            method, f"{self.url}/api/v1{path}", json=body, headers=headers, timeout=CALL_SECONDS
        )
        is_json = answer.headers.get("Content-Type", "").startswith("application/json")
        return Answer(answer.status_code, answer.json() if is_json else answer.text, answer.headers)

    def get(self, path: str, **more: Any) -> Answer:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("POST", path, body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> Answer:
        return self.call("PUT", path, body, **more)


@dataclass
class Running:
    """The product: where it answers, and the environment that its commands need.

    database: for what cannot be seen from outside soon enough, or waited for.
    """

    url: str
    environment: Mapping[str, str]
    place: Path
    shopify: PretendShopify
    domains: Iterator[str]
    database: psycopg.Connection

    def unwind(self, *arguments: str) -> Output:
        """A command, in the environment that the product runs in."""
        out, err = io.StringIO(), io.StringIO()
        with in_environment(self.environment, self.place), redirect_stdout(out), redirect_stderr(err):
            status = run([*arguments, "--data", str(self.place / "data")])
        return Output(status, out.getvalue(), err.getvalue())

    def ask_worker(self, task: str, **arguments: str) -> None:
        """Ask the worker for a task now, as the scheduler does."""
        with in_environment(self.environment, self.place):
            settings = load_settings(None)
            with parts(settings, self.place / "data", command="the tests") as found:
                make_sender(found.redis_url).send_task(task, kwargs=arguments, ignore_result=True)

    def told(self, *arguments: str) -> Any:
        """The JSON that a command prints when it succeeds."""
        done = self.unwind(*arguments, "--json")
        assert done.status == 0, (arguments, done)
        return done.json


@contextmanager
def in_environment(environment: Mapping[str, str], place: Path) -> Iterator[None]:
    with pytest.MonkeyPatch.context() as patch:
        for name in [name for name in os.environ if name.startswith(FOREIGN)]:
            patch.delenv(name)
        for name, value in environment.items():
            patch.setenv(name, value)
        patch.chdir(place)
        yield


def until(found: Callable[[], Any], otherwise: str = "it took too long") -> Any:
    """What `found` answers, once it is true."""
    end = time.monotonic() + PATIENCE_SECONDS
    while not (answer := found()):
        assert time.monotonic() < end, otherwise
        time.sleep(POLL_SECONDS)
    return answer


def per_unit(units: str | int, **more: Any) -> dict[str, Any]:
    """An earning rule: so many points for one whole unit of the order's currency."""
    return {"id": "place-order", "name": "Place an order", "per_currency_unit": str(units), **more}


def reward(id: str = "5-off", cost: int = 500, **more: Any) -> dict[str, Any]:
    usual = {"name": "$5 off", "kind": "amount_discount", "value": "5.00"}
    return {"id": id, "cost": cost, **usual, **more}


class Shop:
    """A store, its shoppers and merchant at the pretend Shopify, and the holder of a token to its books.

    What is done at the store is told by its webhooks at once, and worked off before the call returns.
    """

    def __init__(self, product: Running, domain: str, token: str) -> None:
        self.product, self.domain = product, domain
        self.api = Caller(product.url, token)
        self.front = product.shopify.front(domain)
        self.store: Store = self.front.store
        self.front.deliver = self.hear
        self.store.codes.strict = False
        self.sender = self._sender(WELL_BEHAVED)
        self.sent: list[Delivery] = []
        self.muted = False
        self.now()
        self.ada = self.person()

    def _sender(self, habits: Habits) -> Sender:
        seed = int.from_bytes(self.domain.encode()) % 2**32
        return Sender(f"{self.product.url}/webhooks", API_SECRET, self.domain, seed=seed, habits=habits)

    # -- time ----------------------------------------------------------------------------------------------------

    def now(self) -> None:
        """What happens at the store happens now."""
        self.store.clock = lambda: datetime.now(UTC) + A_MOMENT

    def on(self, at: datetime, tick: timedelta = timedelta(minutes=1)) -> None:
        """What happens at the store from here on happened then; a `tick` passes with each look at the clock."""
        ticks = itertools.count()
        self.store.clock = lambda: at + next(ticks) * tick

    def ago(self, **by: float) -> None:
        """ago(days=40)"""
        self.on(datetime.now(UTC) - timedelta(**by))

    # -- the store -----------------------------------------------------------------------------------------------

    def person(self) -> Customer:
        made = Customer(self.store.new_id(), "Ada", "Abara")
        self.store.customers[made.id] = made
        return made

    def sell(
        self,
        *prices: int,
        units: int = 1,
        codes: Sequence[tuple[str, int]] = (),
        customer: Customer | None = None,
        shipping: int = 0,
        pay: bool = True,
        authorize: bool = False,
        test: bool = False,
    ) -> Order:
        """An order with a line for each price (of one unit, in cents). codes: with what each takes off, in cents."""
        with self.front.act() as store:
            order = store.place(
                customer=customer or self.ada,
                basket=[(self._product(price), units) for price in prices],
                discounts=[self._discount(code, off) for code, off in codes],
                shipping_minor=shipping,
                presentment=self._as_shown(),
                test=test,
            )
            if authorize:
                store.authorize(order)
            elif pay:
                store.pay(order)
        return order

    def refund(
        self,
        order: Order,
        *,
        amount: int | None = None,
        units: Sequence[tuple[Item, int]] = (),
        **more: Any,
    ) -> Refund:
        """At the store: some units at their worth, an amount (in cents), or neither: all that is left."""
        with self.front.act() as store:
            if amount is None and not units and not more:
                units = [(item, item.current_quantity) for item in order.items if item.current_quantity]
                amount = order.captured_minor - order.refunded_minor
                more = {"shipping_minor": order.shipping_minor - order.refunded_shipping_minor}
            return store.refund(order, units=units, amount_minor=amount, **more)

    def cancel(self, order: Order, *, with_refund: bool) -> None:
        with self.front.act() as store:
            store.cancel(order, with_refund=with_refund)

    def void(self, order: Order) -> None:
        with self.front.act() as store:
            store.void(order)

    def _product(self, price: int) -> Product:
        return Product(self.store.new_id(), "Lamp", "LAMP-1", price)

    @staticmethod
    def _discount(code: str, off: int) -> Any:
        return Discount(title=code, code=code, amount_minor=off)

    def _as_shown(self) -> Presentment:
        return Presentment(self.store.currency, Fraction(1))

    # -- webhooks ------------------------------------------------------------------------------------------------

    def hear(self, sent: Sequence[Delivery]) -> None:
        """Called for every act at the store; those of the product itself (it makes codes there) send nothing."""
        self.sent.extend(sent)
        if sent and not self.muted:
            self.tell(sent)

    def tell(self, sent: Sequence[Delivery], habits: Habits | None = None) -> None:
        """Deliver these webhooks, and wait until they are worked off."""
        report = (self.sender if habits is None else self._sender(habits)).send_all(sent)
        assert report.all_accepted, report
        until(lambda: not self.inbox("pending"), "webhooks were not worked off")
        assert not self.inbox("failed"), self.product.told("failed", "list")

    def inbox(self, state: str) -> int:
        """How many webhooks are in this state: asked of the database, for it is asked often."""
        query = "select count(*) from inbox where shop_domain = %s and state = %s"
        return int(self.product.database.execute(query, (self.domain, state)).fetchone()[0])

    # -- what the shop's own systems hear ------------------------------------------------------------------------

    def listens(self, listener: Listener, *events: str) -> str:
        """The listener becomes an endpoint: of these events, or of all. Its id."""
        answer = self.api.post(
            "/endpoints", {"url": listener.url, **({"events": list(events)} if events else {})}
        )
        assert answer.status == 201, answer
        listener.secret = answer["secret"]
        return str(answer["id"])

    def hours_pass(self, redemption_id: str, hours: int) -> None:
        """The redemption is so much older: the only thing that cannot be waited for."""
        with psycopg.connect(self.product.environment["DATABASE_URL"]) as connection:
            connection.execute(
                "update redemptions set at = at - %s * interval '1 hour' where id = %s",
                (hours, redemption_id),
            )

    # -- the books, as callers see them --------------------------------------------------------------------------

    def program(self, **settings: Any) -> None:
        answer = self.api.put("/program", settings)
        assert answer.status == 200, answer

    def grant(self, amount: float, customer: Customer | None = None, **more: Any) -> None:
        whose = (customer or self.ada).id
        body = {"amount": amount, "reason": "a start", **more}
        answer = self.api.post(f"/customers/{whose}/grants", body)
        assert answer.status == 201, answer

    def redeem(self, customer: Customer | None = None, **body: Any) -> str:
        """The id of a new redemption."""
        whose = str((customer or self.ada).id)
        answer = self.api.post("/redemptions", {"customer_id": whose, **body})
        assert answer.status == 201, answer
        return str(answer["id"])

    def redemption(self, id: str) -> Any:
        return self._known(f"/redemptions/{id}")

    def customer(self, customer: Customer | None = None) -> Any:
        return self._known(f"/customers/{(customer or self.ada).id}")

    def balance(self, customer: Customer | None = None) -> Any:
        return self.customer(customer)["balance"]

    def order(self, order: Order) -> Any:
        return self._known(f"/orders/{order.id}")

    def award(self, order: Order) -> Any:
        """What the order earned by its only rule."""
        [award] = self.order(order)["awards"]
        return award

    def activity(self, kind: str | None = None, customer: Customer | None = None) -> list[Any]:
        """The customer's, newest first."""
        asked = f"?kind={kind}" if kind else ""
        return list(self._known(f"/customers/{(customer or self.ada).id}/activity{asked}")["data"])

    def _known(self, path: str) -> Any:
        answer = self.api.get(path)
        assert answer.status == 200, (path, answer)
        return answer.body

    def assert_books_are_right(self) -> None:
        """`unwind verify` finds no difference."""
        done = self.product.unwind("verify", self.domain, "--json")
        assert (done.status, done.json) == (0, {"differences": []}), done


def opened(product: Running, *, connected: bool = False, **program: Any) -> Shop:
    """A shop added by hand. `program`: its first settings, which have no beginning. connected: codes can be made."""
    domain = next(product.domains)
    file = product.place / f"{secrets.token_hex(4)}.json"
    file.write_text(json.dumps(program))
    more: list[str] = []
    if connected:
        key = product.place / f"{secrets.token_hex(4)}.token"
        key.write_text(product.shopify.token_for(domain, expiring=False))
        more = ["--access-token-file", str(key)]
    product.told("shop", "add", domain, "--settings", str(file), *more)
    return Shop(product, domain, product.told("token", "create", domain)["token"])
