"""A store that sells, a receiver that may be down, and the comparison that makes good what was missed."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random
from typing import Any

from sqlalchemy import text

from app.sandbox.records import Customer, Order, Presentment, Product
from app.sandbox.store import Delivery, Store
from tasks.steps.load import ShopRow
from tasks.steps.reconcile import Run, reconcile
from tasks.steps.shops import get
from tests.flows.conftest import Door
from tests.pretended import PretendGateway

NOON = datetime.now(UTC).replace(microsecond=0) - timedelta(days=10)
USD = Presentment("USD", Fraction(1))


@dataclass
class Town:
    """A store with its own clock, and the door where its webhooks go."""

    door: Door
    store: Store
    gateway: PretendGateway
    now: datetime

    @property
    def shop(self) -> ShopRow:
        with self.door.engine.connect() as connection:
            return get(connection, self.door.shop.domain)

    def later(self, **passed: float) -> None:
        self.now += timedelta(**passed)

    def sell(
        self, customer: Customer, *, paid: bool = True, price: int = 5000, units: int = 2, **more: Any
    ) -> Order:
        self.later(minutes=1)
        product = Product(self.store.new_id(), "Mug", "MUG-1", price)
        order = self.store.place(customer=customer, basket=[(product, units)], presentment=USD, **more)
        self.later(minutes=1)
        if paid:
            self.store.pay(order)
        return order

    def customer(self) -> Customer:
        made = Customer(self.store.new_id(), "Ada", "Abara")
        self.store.customers[made.id] = made
        return made

    def deliver(self, *, lost: Callable[[Delivery], bool] = lambda delivery: False) -> None:
        """Send what waits, but for what is lost on the way; then everything is worked off."""
        for delivery in self.store.take_outbox():
            if not lost(delivery):
                assert self.door.send(delivery.topic, delivery.body, webhook_id=delivery.webhook_id) == 200
        self.door.work()

    def lose(self) -> None:
        """The receiver is down: whatever waits is never delivered."""
        self.store.take_outbox()

    def reconcile(self, kind: str = "recent", **more: Any) -> Run:
        self.later(minutes=1)
        more.setdefault("until", self.now)
        return reconcile(self.door.engine, self.gateway, self.shop, kind=kind, **more)

    def runs(self) -> list[dict[str, Any]]:
        return self.rows("select * from reconciliations where shop_id = :shop order by id")

    def installation(self) -> dict[str, Any]:
        (row,) = self.rows("select * from installations where shop_id = :shop")
        return row

    def rows(self, query: str, **more: Any) -> list[dict[str, Any]]:
        with self.door.engine.connect() as connection:
            found = connection.execute(text(query), {"shop": self.door.shop.id, **more})
            return [dict(row._mapping) for row in found]

    def balance(self, customer: Customer) -> int:
        found = self.rows(
            "select balance from wallets where shop_id = :shop and customer_id = :id", id=customer.id
        )
        return int(found[0]["balance"]) if found else 0


def found(run: Run) -> Sequence[tuple[str, str, str, bool]]:
    return sorted((each.name, each.kind, each.what, each.repaired) for each in run.findings)


def found_town(door: Door, *, installed_at: datetime = NOON - timedelta(days=1), seed: int = 1) -> Town:
    """A store that was connected a day before anything happens there."""
    with door.engine.begin() as connection:
        connection.execute(
            text("update shops set installed_at = :at where id = :shop"),
            {"at": installed_at, "shop": door.shop.id},
        )
        connection.execute(text("insert into installations (shop_id) values (:shop)"), {"shop": door.shop.id})
    town: Town
    store = Store(domain=door.shop.domain, currency="USD", dice=Random(seed), clock=lambda: town.now)
    town = Town(door, store, PretendGateway(store), NOON)
    return town


class Broken:
    """A gateway whose answers are taken over by errors, one after the other, before the true one answers."""

    def __init__(self, town: Town, *errors: Exception) -> None:
        self.town, self.errors = town, list(errors)

    def run(
        self, shop: ShopRow, document_name: str, variables: Any, *, background: bool = False
    ) -> dict[str, Any]:
        if self.errors:
            raise self.errors.pop(0)
        return self.town.gateway.run(shop, document_name, variables, background=background)


def broken(town: Town, *errors: Exception) -> Town:
    return Town(town.door, town.store, Broken(town, *errors), town.now)  # type: ignore[arg-type]


__all__ = ["NOON", "Town", "broken", "found", "found_town"]
