"""A made-up world played on the real books: facts settled in any order, then everything read back for comparison."""

from __future__ import annotations

import secrets
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from models.rules.program import program_at
from models.rules.wallet import GRANT, SPEND
from tasks.steps import shops, sql
from tasks.steps.codec import dumps
from tasks.steps.load import lock_wallets, open_world
from tasks.steps.settle import Told, settle, settle_clock, settle_items
from tasks.steps.timeline import item, redemption_target
from tests.oracle.store import Grant, State
from tests.oracle.worlds import Delivery, World


@dataclass
class Books:
    """One shop's books, opened for a world: its program versions are there, nothing else has happened."""

    engine: Engine
    domain: str
    shop_id: int
    world: World

    def tell(self, deliveries: Sequence[Delivery], *, now: datetime) -> int:
        """Settle some deliveries in one transaction, as a drain does; returns how many entries were posted."""
        with self.engine.begin() as connection:
            told = [
                Told(fact=fact, received_at=d.received_at, cause=f"inbox:{n}")
                for n, d in enumerate(deliveries)
                for fact in d.facts
            ]
            return settle(self._world(connection, now), told).booked.entries

    def grant(self, grant: Grant, *, now: datetime) -> None:
        with self.engine.begin() as connection:
            world = self._world(connection, now)
            lock_wallets(world, [grant.customer_id])
            cause = f"grant:{grant.id}"
            row = item(
                shop_id=self.shop_id,
                customer_id=grant.customer_id,
                kind=GRANT,
                cause=cause,
                target=cause,
                at=grant.at,
                sort_id=grant.id,
                amount=grant.amount,
                expires_at=grant.expires_at,
                policy_version=1,
            )
            settle_items(world, [row], cause)

    def redeem(self, redemption: dict[str, Any], *, now: datetime) -> None:
        """Spending that was granted at its own time, told now."""
        with self.engine.begin() as connection:
            world = self._world(connection, now)
            owner = next(iter(redemption["members"]))
            lock_wallets(world, [owner, *redemption["members"]])
            self._keep_redemption(connection, redemption, owner)
            program = program_at(world.programs, redemption["at"])
            target = redemption_target(redemption["id"])
            rows = [
                item(
                    shop_id=self.shop_id,
                    customer_id=member,
                    kind=SPEND,
                    cause=target,
                    target=target,
                    at=redemption["at"],
                    sort_id=redemption["id"],
                    redemption_id=redemption["id"],
                    amount=part,
                    carry_debt=program.carry_debt,
                    policy_version=program.version,
                )
                for member, part in redemption["members"].items()
            ]
            settle_items(world, rows, target)
            code = redemption["code"].casefold()
            carriers = connection.execute(
                text("select order_id from order_codes where shop_id = :shop and code = :code"),
                {"shop": self.shop_id, "code": code},
            ).scalars()
            settle(self._world(connection, now), orders=list(carriers))

    def pass_time(self, *, now: datetime) -> None:
        with self.engine.begin() as connection:
            world = self._world(connection, now)
            ids = connection.execute(
                text("select customer_id from wallets where shop_id = :shop"), {"shop": self.shop_id}
            ).scalars()
            customers = list(ids)
            lock_wallets(world, customers)
            for customer, level in self.world.pins.items():
                connection.execute(
                    text(
                        "update wallets set pinned_tier = :level where shop_id = :shop and customer_id = :id"
                    ),
                    {"level": level, "shop": self.shop_id, "id": customer},
                )
            settle_clock(world, customers)

    def _world(self, connection: Connection, now: datetime) -> Any:
        return open_world(connection, shops.by_id(connection, self.shop_id), now)

    def _keep_redemption(self, connection: Connection, redemption: dict[str, Any], owner: int) -> None:
        connection.execute(
            text(
                "insert into redemptions (shop_id, id, customer_id, reward_id, kind, amount, code, code_key, at, reactivations, reactivation)"
                " values (:shop, :id, :owner, :reward, :kind, :amount, :code, :key, :at, :reactivations, :reactivation)"
            ),
            {
                "shop": self.shop_id,
                "id": redemption["id"],
                "owner": owner,
                "reward": redemption["reward_id"],
                "kind": redemption["kind"],
                "amount": redemption["amount"],
                "code": redemption["code"],
                "key": redemption["code"].casefold(),
                "at": redemption["at"],
                "reactivations": redemption["reactivations"],
                "reactivation": "failed" if redemption["reactivation_failed"] else "none",
            },
        )
        members = [
            {"shop_id": self.shop_id, "redemption_id": redemption["id"], "customer_id": m, "amount": part}
            for m, part in redemption["members"].items()
        ]
        sql.insert(connection, "redemption_members", members)
        code = {
            "code_key": redemption["code"].casefold(),
            "code": redemption["code"],
            "n": 0,
            "discount_id": None,
        }
        of = {"shop_id": self.shop_id, "redemption_id": redemption["id"]}
        sql.insert(connection, "redemption_codes", [{**of, **code}])


def open_books(engine: Engine, world: World) -> Books:
    """A new shop with the world's program versions, each in force from its own time."""
    domain = f"world-{secrets.token_hex(8)}.myshopify.com"
    with engine.begin() as connection:
        shop_id = shops.add(connection, domain, world.program[0][1])
        for version, (at, settings) in enumerate(world.program[1:], start=2):
            connection.execute(
                text(
                    "insert into programs (shop_id, version, settings, from_at)"
                    " values (:shop, :version, cast(:settings as jsonb), :at)"
                ),
                {"shop": shop_id, "version": version, "settings": dumps(settings), "at": at},
            )
    return Books(engine, domain, shop_id, world)


Step = Delivery | Grant | dict[str, Any]


def steps_of(world: World) -> list[Step]:
    return [*world.grants, *world.redemptions, *world.deliveries]


def play(books: Books, steps: Iterable[Step | Sequence[Delivery]], *, now: datetime) -> None:
    """Tell the steps in the order given; a list of deliveries is one batch."""
    for step in steps:
        if isinstance(step, Delivery):
            books.tell([step], now=now)
        elif isinstance(step, Grant):
            books.grant(step, now=now)
        elif isinstance(step, dict):
            books.redeem(step, now=now)
        else:
            books.tell(step, now=now)


def state_of(books: Books) -> dict[str, Any]:
    """Everything that must be the same however the facts arrived."""
    with books.engine.begin() as connection:
        return {
            "customers": _customers(connection, books.shop_id),
            "orders": _orders(connection, books.shop_id),
            "redemptions": _redemptions(connection, books.shop_id),
        }


def _customers(connection: Connection, shop_id: int) -> dict[int, Any]:
    wallets = connection.execute(
        text(
            "select customer_id, balance, pending, debt, tier, spend_minor, orders,"
            " (select coalesce(jsonb_agg(jsonb_build_array(expires_at, remainder) order by expires_at, remainder), '[]')"
            "   from (select expires_at, sum(remainder) as remainder from lots l where l.shop_id = w.shop_id"
            "   and l.customer_id = w.customer_id and remainder > 0 group by 1) x) as lots"
            " from wallets w where shop_id = :shop order by 1"
        ),
        {"shop": shop_id},
    )
    return {row.customer_id: (*tuple(row)[1:7], str(row.lots)) for row in wallets}


def _orders(connection: Connection, shop_id: int) -> dict[int, Any]:
    orders = connection.execute(
        text(
            "select order_id, status, refunded_minor from orders where shop_id = :shop and status <> 'unknown'"
        ),
        {"shop": shop_id},
    )
    awards: dict[int, dict[str, Any]] = {}
    for row in connection.execute(
        text(
            "select order_id, target, amount, reversed, reduced, debited, shortfall from awards where shop_id = :shop"
        ),
        {"shop": shop_id},
    ):
        awards.setdefault(row.order_id, {})[row.target] = tuple(row)[2:]
    values: dict[int, dict[int, int]] = {}
    for row in connection.execute(
        text("select order_id, refund_id, value_minor from refunds where shop_id = :shop"), {"shop": shop_id}
    ):
        values.setdefault(row.order_id, {})[row.refund_id] = row.value_minor
    return {
        row.order_id: (
            row.status,
            row.refunded_minor,
            awards.get(row.order_id, {}),
            values.get(row.order_id, {}),
        )
        for row in orders
    }


def _redemptions(connection: Connection, shop_id: int) -> dict[int, Any]:
    rows = connection.execute(
        text(
            "select id, returned, credited, expired, restitution, order_id from redemptions where shop_id = :shop"
        ),
        {"shop": shop_id},
    )
    return {row.id: tuple(row)[1:] for row in rows}


def expected(state: State) -> dict[str, Any]:
    """The oracle's word in the same shape."""
    return {
        "customers": {
            id: (
                c.balance,
                c.pending,
                c.debt,
                c.tier,
                c.spend["lifetime"],
                c.orders_count,
                _lots(c.by_expiry),
            )
            for id, c in sorted(state.customers.items())
        },
        "orders": {
            id: (
                o.status,
                o.refunded_minor,
                {
                    target: (a.amount, a.reversed, a.reduced, a.debited, a.shortfall)
                    for target, a in o.awards.items()
                },
                {refund: value for refund, (value, _) in o.refunds.items()},
            )
            for id, o in state.orders.items()
        },
        "redemptions": {
            id: (r.returned, r.credited, r.expired, r.restitution, r.order_id)
            for id, r in state.redemptions.items()
        },
    }


def _lots(by_expiry: dict[datetime | None, int]) -> str:
    found = [[None if at is None else at.isoformat(), n] for at, n in by_expiry.items() if n]
    found.sort(key=lambda x: (x[0] is None, x[0] or ""))
    return str(found)
