"""A shop whose rewards are discount codes, at a pretend store that takes no code it does not know.

Orders, refunds and codes are the store's; webhooks are heard when the story says so; the outbox's rows are worked
through `outbox.work`, as the tasks do. The store's time stands still unless it is moved.
"""

from __future__ import annotations

import json
from collections import deque
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Row, text

from app.sandbox.access import Application
from app.sandbox.codes import CodeDiscount, CodeRefused
from app.sandbox.records import Customer, Discount, Order
from app.sandbox.server import Shopfront, create_sandbox
from models.rules.facts import Fact
from models.settings import Settings
from tasks.gateway.answers import Reply, read
from tasks.gateway.client import Gateway
from tasks.gateway.documents import document
from tasks.steps import codes, merchants, outbox
from tasks.steps.cancelling import cancel, shown
from tasks.steps.load import ShopRow, open_world
from tasks.steps.parse import FACT_TOPICS, parse
from tasks.steps.programs import put
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tasks.steps.verify import verify
from tasks.steps.wallets import grant, redeem
from tests.conftest import RegisteredShop
from tests.pretend import Clock, PretendShopify, new_store

KEY = b"the key of derived codes"
START = datetime(2026, 3, 1, 12, tzinfo=UTC)
COST = 60
REWARD: dict[str, Any] = {
    "id": "five-off",
    "name": "$5 off",
    "kind": "amount_discount",
    "cost": COST,
    "value": "5.00",
    "reactivate_code": True,
}
SCOPES = Settings.model_fields["shopify_scopes"].default
GIVE_UP = {
    "create_code": codes.create_given_up,
    "remove_code": codes.remove_given_up,
    "reactivate_code": codes.reactivate_given_up,
}
CONNECT = text(
    "insert into installations (shop_id, state, scopes, access_token) values (:id, 'active', '[]', 'sealed')"
)


class Died(BaseException):
    """The worker was killed here."""


class Wire:
    """The Admin API of a store in this process: documents go in as texts, answers are read as from the wire.

    before, after: for each call that changes something, what happens before Shopify has it, and after it is done and
    before its answer arrives. An exception stands for the connection, or for the worker.
    """

    def __init__(self, front: Shopfront, *, scopes: tuple[str, ...] = SCOPES) -> None:
        self.client = create_sandbox(front).test_client()
        self.token = str(front.access.fresh(scopes, expiring=False)["access_token"])
        self.before: deque[Callable[[], object]] = deque()
        self.after: deque[Callable[[], object]] = deque()
        self.calls: list[str] = []

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        asked = document(document_name)
        if asked.is_mutation and self.before:
            self.before.popleft()()
        answer = self.client.post(
            "/admin/api/2026-10/graphql.json",
            data=json.dumps({"query": asked.text, "variables": dict(variables)}),
            content_type="application/json",
            headers={"X-Shopify-Access-Token": self.token},
        )
        self.calls.append(document_name)
        if asked.is_mutation and self.after:
            self.after.popleft()()
        reading = read(Reply(answer.status_code, answer.data), document_name, is_mutation=asked.is_mutation)
        if reading.error is not None:
            raise reading.error
        assert reading.data is not None
        return reading.data

    def mutations(self) -> list[str]:
        return [name for name in self.calls if document(name).is_mutation]


def raising(error: BaseException) -> Callable[[], object]:
    def fail() -> object:
        raise error

    return fail


class Story:
    """One shop, its store, its worker."""

    def __init__(
        self,
        engine: Engine,
        registered: RegisteredShop,
        *,
        reward: Mapping[str, Any] = REWARD,
        returns: bool = True,
        shopify: PretendShopify | None = None,
        gateway: Gateway | None = None,
    ) -> None:
        self.engine, self.id, self.domain = engine, registered.id, registered.domain
        self.shopify = shopify or pretend(registered.domain)
        self.clock = self.shopify.clock
        self.clock.set(START)
        self.front = self.shopify.front()
        self.store = self.shopify.store
        self.store.codes.strict = True
        self.wire = Wire(self.front)
        self.gateway: Gateway = gateway or self.wire
        self.ahead = timedelta(0)
        self.reward = dict(reward)
        self.customer = self.shopify.customer()
        settings = {"earning": [], "return_redeemed": {"enabled": returns}, "rewards": [self.reward]}
        with engine.begin() as connection:
            put(connection, self.id, settings, now=START - timedelta(days=90))
            grant(connection, self.id, self.customer.id, amount=COST, reason="start", now=START)
            connection.execute(CONNECT, {"id": self.id})

    # -- the store -----------------------------------------------------------------------------------

    def pass_time(self, **by: float) -> None:
        self.clock.advance(**by)
        self.ahead += timedelta(**by)

    def discount(self, *names: str, **fields: Any) -> CodeDiscount:
        """A merchant's discount of $5; single use unless told."""
        usual = {"usage_limit": 1, "amount_minor": 500}
        return self.store.codes.create("a merchant's", names or ("SAVE5",), **(usual | fields))

    def redeem(self, code: str | None = None) -> int:
        """Spend on the reward: the code that is there, or one that is to be made."""
        with self.engine.begin() as connection:
            self.redemption_id = redeem(
                connection,
                self.id,
                self.customer.id,
                reward=self.reward["id"],
                code=code,
                now=self.clock(),
            )
        return self.redemption_id

    def buy(self, code: str, customer: Customer | None = None) -> Order:
        """An order with the code. Raises CodeRefused."""
        self.clock.advance(seconds=60)
        return self.shopify.buy(code, customer=customer or self.customer)

    def refund(self, order: Order, *, units: int | None = None) -> None:
        """Units of the order's only line, or all that is left."""
        self.clock.advance(seconds=60)
        item = order.items[0]
        with self.front.act() as store:
            if units is None:
                rest = order.captured_minor - order.refunded_minor
                store.refund(order, units=[(item, item.current_quantity)], amount_minor=rest)
            else:
                store.refund(order, units=[(item, units)])

    def is_usable(self, code: str, customer: Customer | None = None) -> bool:
        """Whether the checkout would take the code now."""
        buyer = (customer or self.customer).id
        try:
            self.store.codes.applied(Discount(title=code, code=code), buyer, worth_minor=20_000, units=2)
        except CodeRefused:
            return False
        return True

    def usable_uses(self, code: str) -> int:
        """How often the customer could use it now, one order after the other; nothing is used."""
        found = self.store.codes.find(code)
        if found is None or not self.is_usable(code):
            return 0
        discount, redeemed = found
        return 99 if discount.usage_limit is None else discount.usage_limit - len(redeemed.uses)

    # -- our side ------------------------------------------------------------------------------------

    def hear(self, count: int | None = None) -> int:
        """Take in webhooks, oldest first; all that were sent, or so many."""
        heard = self.shopify.sent[:count]
        del self.shopify.sent[: len(heard)]
        facts = [
            fact
            for delivery in heard
            if delivery.topic in FACT_TOPICS
            for fact in parse(delivery.topic, delivery.body, shop_currency="USD")
        ]
        self.tell(*facts)
        return len(heard)

    def tell(self, *facts: Fact) -> None:
        told = [Told(fact=fact, received_at=self.clock(), cause="inbox:1") for fact in facts]
        with self.engine.begin() as connection:
            settle(open_world(connection, by_id(connection, self.id), self.clock()), told)

    def undo(self, refund_id: int, reason: str | None = None) -> dict[str, Any]:
        """A merchant takes a refund's effects back (R38). Raises Refused."""
        with self.engine.begin() as connection:
            return merchants.undo_refund(
                connection, self.id, refund_id, reason=reason, by="cli", now=self.clock()
            )

    def undo_end(self, order_id: int) -> dict[str, Any]:
        """A merchant takes back what closed an order (R38). Raises Refused."""
        with self.engine.begin() as connection:
            return merchants.undo_ending(
                connection, self.id, order_id, reason=None, by="cli", now=self.clock()
            )

    def cancel(self, *, force: bool = False, reason: str | None = None) -> dict[str, Any]:
        """A merchant cancels the redemption (R34). Raises Refused."""
        with self.engine.begin() as connection:
            return cancel(
                connection,
                self.id,
                self.redemption_id,
                by="cli",
                force=force,
                reason=reason,
                now=self.clock(),
            )

    def cancellation(self) -> dict[str, Any]:
        """What a merchant is told of it, as GET shows it."""
        with self.engine.connect() as connection:
            found: dict[str, Any] = shown(connection, self.id, self.redemption_id)["cancellation"]
        return found

    def rows(self, kind: str | None = None) -> list[Row[Any]]:
        """The outbox, oldest first."""
        statement = "select * from outbox where shop_id = :shop and kind = coalesce(:kind, kind) order by id"
        with self.engine.connect() as connection:
            return list(connection.execute(text(statement), {"shop": self.id, "kind": kind}))

    def ask(self, kind: str, **payload: Any) -> None:
        with self.engine.begin() as connection:
            key = f"{kind}:{self.redemption_id}"
            outbox.put(connection, self.id, kind, key, {"redemption_id": self.redemption_id, **payload})

    def work(self, *, wait: float = 0) -> list[str]:
        """Work every row that waits, after `wait` seconds; what came of each, in words."""
        self.ahead += timedelta(seconds=wait)
        states = ("pending", "leased")
        return [self.work_row(row.id) for row in self.rows() if row.state in states]

    def work_row(self, id: int) -> str:
        kind = next(row.kind for row in self.rows() if row.id == id)
        now = datetime.now(UTC) + self.ahead + timedelta(seconds=1)
        return outbox.work(self.engine, self.domain, id, self._step, give_up=GIVE_UP.get(kind), now=now)

    def _step(self, leased: outbox.Leased) -> str:
        now = self.clock()
        if leased.kind == "create_code":
            return codes.create(self.engine, self.gateway, leased, now=now)
        if leased.kind == "remove_code":
            return codes.remove(self.engine, self.gateway, leased, now=now)
        return codes.reactivate(self.engine, self.gateway, KEY, leased, now=now)

    # -- what is so ----------------------------------------------------------------------------------

    @property
    def redemption(self) -> Row[Any]:
        return self._row("select * from redemptions where shop_id = :shop and id = :id")

    @property
    def balance(self) -> int:
        return int(
            self._row(
                "select balance from wallets where shop_id = :shop and customer_id ="
                " (select customer_id from redemptions where shop_id = :shop and id = :id)"
            ).balance
        )

    def codes(self) -> list[str]:
        """Every code of the redemption, the first one first."""
        return [row.code for row in self._rows("redemption_codes", "redemption_id = :id order by n")]

    def activity(self, kind: str) -> list[Row[Any]]:
        return self._rows("activity", f"kind = '{kind}' order by id")

    def assert_books_are_right(self) -> None:
        with self.engine.begin() as connection:
            assert verify(connection, self.id) == []

    def _row(self, statement: str) -> Row[Any]:
        with self.engine.connect() as connection:
            return connection.execute(text(statement), {"shop": self.id, "id": self.redemption_id}).one()

    def _rows(self, table: str, where: str) -> list[Row[Any]]:
        with self.engine.connect() as connection:
            statement = text(f"select * from {table} where shop_id = :shop and {where}")
            return list(connection.execute(statement, {"shop": self.id, "id": self.redemption_id}))


def pretend(domain: str) -> PretendShopify:
    """A store without a server, for those who call it in this process."""
    clock = Clock()
    sent: list[Any] = []
    seed = int.from_bytes(domain.encode())  # an order id belongs to one shop
    front = Shopfront(new_store(domain, clock, seed=seed), sent.extend, clock=clock)
    front.bucket.maximum = 10**9
    return PretendShopify("", Application("key", ["secret"], ""), clock, {domain: front}, sent)


__all__ = ["CodeRefused", "Died", "Story", "Wire", "pretend", "raising"]
