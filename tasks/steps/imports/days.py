"""What customers bought before this program, by day: facts for tiers, summed where orders' days are (R24)."""

from __future__ import annotations

from collections.abc import Iterable, Sequence
from datetime import date, datetime, time
from typing import Any
from zoneinfo import ZoneInfo

from sqlalchemy import Connection, text

from tasks.steps import sql
from tasks.steps.counting import WHAT, Sums
from tasks.steps.imports.rows import Row

LEARN_CURRENCY = text("update shops set currency = :currency where id = :id and currency is null")
MOVE = text(
    "update opening_days set customer_id = :survivor_id where shop_id = :shop_id and customer_id = :customer_id"
    " returning day, spend_minor, orders, points"
)
ORDERS_COUNTED = text(
    "select order_id from orders where shop_id = :shop_id and customer_id = any(:ids) and counted <> '{}'"
    " and placed_at <= (select max(at) from imports where shop_id = :shop_id)"
)
HAS_DAYS = text(
    "select exists (select from opening_days where shop_id = :shop_id and customer_id = :customer_id)"
)
Counted = tuple[int, date, Sequence[int]]  # customer, day, one number for each of WHAT


def keep_days(connection: Connection, shop_id: int, rows: Sequence[Row], zone: ZoneInfo) -> Sums:
    """Keep the days that rows tell of; returns what to add to each wallet's sums, which the caller does."""
    if not rows:
        return {}
    days = []
    for row in rows:
        assert row.day is not None
        days.append(
            {
                "shop_id": shop_id,
                "reference": row.reference,
                "customer_id": row.customer_id,
                "day": row.day,
                "at": datetime.combine(row.day, time(), zone),
                **{name: getattr(row, name) for name in WHAT},
            }
        )
    sql.insert(connection, "opening_days", days)
    if currency := next((row.currency for row in rows if row.currency is not None), None):
        connection.execute(LEARN_CURRENCY, {"id": shop_id, "currency": currency})
    return _count(connection, shop_id, [(each["customer_id"], each["day"], _numbers(each)) for each in days])


def move_days(connection: Connection, shop_id: int, customer_id: int, survivor_id: int) -> None:
    """A merged customer's days are his survivor's (R33). Their wallets are locked, tiers are the caller's."""
    key = {"shop_id": shop_id, "customer_id": customer_id, "survivor_id": survivor_id}
    moved = connection.execute(MOVE, key).mappings().all()
    told: list[Counted] = []
    for row in moved:
        numbers = _numbers(row)
        told += [
            (customer_id, row["day"], [-number for number in numbers]),
            (survivor_id, row["day"], numbers),
        ]
    sums = _count(connection, shop_id, told)
    wallets = [
        {"shop_id": shop_id, "customer_id": customer, **dict(zip(WHAT, numbers, strict=True))}
        for customer, numbers in sorted(sums.items())
    ]
    sql.update(connection, "wallets", wallets, key=("shop_id", "customer_id"), add=WHAT)


def orders_counted(connection: Connection, shop_id: int, customers: Sequence[int]) -> list[int]:
    """Their orders that count for tiers and that an import may have had in its history."""
    rows = sql.fetch(connection, ORDERS_COUNTED, shop_id=shop_id, ids=customers)
    return [row.order_id for row in rows]


def counted_beside(connection: Connection, shop_id: int, customer_id: int, survivor_id: int) -> list[int]:
    """The survivor's orders that the days of a customer merged into him may have in them (R33, D29)."""
    key = {"shop_id": shop_id, "customer_id": customer_id}
    if not connection.execute(HAS_DAYS, key).scalar_one():
        return []
    return orders_counted(connection, shop_id, [survivor_id])


def _count(connection: Connection, shop_id: int, told: Iterable[Counted]) -> Sums:
    by_day: dict[tuple[int, date], list[int]] = {}
    by_customer: dict[int, list[int]] = {}
    for customer, day, numbers in told:
        for sums in (
            by_day.setdefault((customer, day), [0, 0, 0]),
            by_customer.setdefault(customer, [0, 0, 0]),
        ):
            for i, number in enumerate(numbers):
                sums[i] += number
    rows = [
        {
            "shop_id": shop_id,
            "customer_id": customer,
            "day": day,
            **dict(zip(WHAT, sums, strict=True)),
        }
        for (customer, day), sums in sorted(by_day.items())
    ]
    sql.upsert(connection, "customer_days", rows, key=("shop_id", "customer_id", "day"), add=WHAT)
    return dict(by_customer)


def _numbers(row: Any) -> list[int]:
    return [row[name] for name in WHAT]
