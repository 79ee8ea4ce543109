"""One refund costs the same whether the customer has ten entries or ten thousand: statements, and rows read (R0)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, event, text

from models.rules.wallet import GRANT
from tasks.steps.load import lock_wallets, open_world
from tasks.steps.settle import settle_clock, settle_items
from tasks.steps.shops import by_id
from tasks.steps.timeline import item
from tasks.steps.verify import verify
from tests.books import Books, open_books
from tests.flows.stories import CUSTOMER, TWO, Story, came, spent
from tests.rules.build import LATER, ORDER, day, order, refund, returned

FEW, MANY = 10, 4_000
AHEAD = LATER + timedelta(days=900)  # lots that outlive every story


@dataclass
class Cost:
    statements: int = 0
    rows: int = 0


@contextmanager
def counted(engine: Engine) -> Iterator[Cost]:
    """Statements executed, and rows that they returned or changed."""
    cost = Cost()

    def after(_c: Connection, cursor: Any, *_: Any) -> None:
        cost.statements += 1
        cost.rows += max(cursor.rowcount, 0)

    event.listen(engine, "after_cursor_execute", after)
    try:
        yield cost
    finally:
        event.remove(engine, "after_cursor_execute", after)


def long_ago(books: Books, entries: int, *, live: bool, expires_at: datetime | None = None) -> None:
    """So many entries of older years: lots still alive, or lots that came and expired."""
    grants = entries if live else entries // 2
    start = day(-3_000)
    rows = []
    for n in range(grants):
        at = start + timedelta(minutes=n)
        ends = (
            (expires_at + timedelta(minutes=n) if expires_at else None) if live else at + timedelta(days=30)
        )
        name = f"grant:{n}"
        rows.append(
            item(shop_id=books.shop_id, customer_id=CUSTOMER, kind=GRANT, cause=name, target=name, at=at, sort_id=n,
                 amount=30, expires_at=ends, policy_version=1)
        )  # fmt: skip
    with books.engine.begin() as connection:
        world = open_world(connection, by_id(connection, books.shop_id), day(-1))
        lock_wallets(world, [CUSTOMER])
        settle_items(world, rows, "import")
        written = connection.execute(
            text("select count(*) from entries where shop_id = :s"), {"s": books.shop_id}
        )
        assert written.scalar_one() == entries
    with books.engine.begin() as connection:
        connection.execute(text("analyze entries, lots, timeline, wallets"))


BEFORE = [spent(1, {CUSTOMER: 20}, at=day(0)), came(1, order(None, *TWO))]
PARTIAL = came(4, refund(1, 3_000, returned(1, 3_000), at=day(4)))
CLOSING = came(6, refund(2, 7_000, at=day(6)))


def refunded(engine: Engine, entries: int, *, live: bool, expires_at: datetime | None = None) -> list[Cost]:
    """The cost of a partial refund that returns points, of the closing one, and of the first told again."""
    story = Story("a long history, then an order", [*BEFORE, PARTIAL, CLOSING])
    books = open_books(engine, story.world)
    long_ago(books, entries, live=live, expires_at=expires_at)
    books.redeem(BEFORE[0], now=day(1))  # type: ignore[arg-type]
    books.tell([BEFORE[1]], now=day(1))  # type: ignore[list-item]
    costs = []
    for delivery, now in ((PARTIAL, day(4)), (CLOSING, day(6)), (PARTIAL, day(7))):
        with counted(engine) as cost:
            books.tell([delivery], now=now)
        costs.append(cost)
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == []
    return costs


@pytest.mark.parametrize(
    ("live", "expires_at"),
    [(False, None), (True, None), (True, AHEAD)],
    ids=["lots that came and went", "live lots without an end", "live lots that expire"],
)
def test_a_refund_costs_the_same_after_ten_entries_and_after_thousands(
    engine: Engine, live: bool, expires_at: datetime | None
) -> None:
    """R0: work in time order is incremental."""
    few = refunded(engine, FEW, live=live, expires_at=expires_at)
    many = refunded(engine, MANY, live=live, expires_at=expires_at)
    print([f"{cost.statements} statements, {cost.rows} rows" for cost in many])
    assert many == few
    assert all(cost.statements < 40 and cost.rows < 60 for cost in many)


def test_time_that_passes_over_thousands_of_lots_costs_the_same(engine: Engine) -> None:
    """R0: a wallet looked at because time has passed, with nothing due."""
    costs = []
    for entries in (FEW, MANY):
        books = open_books(engine, Story("time", []).world)
        long_ago(books, entries, live=True, expires_at=AHEAD)
        with counted(engine) as cost, engine.begin() as connection:
            world = open_world(connection, by_id(connection, books.shop_id), day(3))
            lock_wallets(world, [CUSTOMER])
            settle_clock(world, [CUSTOMER])
        costs.append(cost)
    assert costs[0] == costs[1]


def test_a_late_fact_costs_what_came_after_it_and_not_what_came_before(engine: Engine) -> None:
    """R0: only a late fact folds again, from the last point before it."""
    costs = []
    for entries in (FEW, MANY):
        story = Story("late", [*BEFORE, PARTIAL, CLOSING])
        books = open_books(engine, story.world)
        long_ago(books, entries, live=True)
        books.redeem(BEFORE[0], now=day(1))  # type: ignore[arg-type]
        for delivery in (BEFORE[1], CLOSING):
            books.tell([delivery], now=day(7))  # type: ignore[list-item]
        with counted(engine) as cost:
            books.tell([PARTIAL], now=day(8))
        costs.append(cost)
        with engine.begin() as connection:
            assert verify(connection, books.shop_id) == []
    assert costs[0] == costs[1]
    assert ORDER in story.world.shop().settle(LATER).orders
