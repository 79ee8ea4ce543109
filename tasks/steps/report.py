"""What a program owes and what it let go (R7, R19): one consistent moment of a shop's books, in exact numbers.

Months are those of the program's time zone; each amount is in the program's unit. The parts of `outstanding` sum to the
balances of all wallets, those of `pending_due` to what is pending in them. Customers are ids, nothing else.
"""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from models.rules.program import Program
from tasks.steps import sql
from tasks.steps.programs import programs_of
from tasks.steps.read import points

REFUNDS_AT_LEAST = 3
CUSTOMERS_MAX = 100

TOTALS = text(
    "select coalesce(sum(balance), 0)::bigint as balance, coalesce(sum(pending), 0)::bigint as pending,"
    " coalesce(sum(debt), 0)::bigint as debt from wallets where shop_id = :shop_id"
)
# By the last moment at which it can be spent: what ends with a month (midnight is the end of a day) belongs to that month.
OUTSTANDING = text(
    "select to_char((expires_at - interval '1 microsecond') at time zone :zone, 'YYYY-MM') as month, sum(remainder)::bigint as amount from lots"
    " where shop_id = :shop_id and remainder > 0 group by 1 order by 1 nulls last"
)
PENDING = text(
    "select to_char(at at time zone :zone, 'YYYY-MM') as month, sum(amount)::bigint as amount from timeline"
    " where shop_id = :shop_id and kind = 2 and not folded and amount > 0 group by 1 order by 1"
)
# Under `carry_debt` nothing is forgiven: it is owed, and stands in the debt.
FORGIVEN = text(
    "select to_char(at at time zone :zone, 'YYYY-MM') as month,"
    " coalesce(sum(short) filter (where kind = 4), 0)::bigint as claims,"
    " coalesce(sum(short) filter (where kind = 5), 0)::bigint as spending from timeline"
    " where shop_id = :shop_id and folded and short > 0 and not carry_debt group by 1 order by 1"
)
EXPIRED = text(
    "select to_char(at at time zone :zone, 'YYYY-MM') as month, sum(expired)::bigint as amount from timeline"
    " where shop_id = :shop_id and folded and kind = 3 and expired > 0 group by 1 order by 1"
)
# Not used on any order, or its code came back for the use it stands for.
UNUSED = text(
    "select code_key is not null as coded, count(*)::bigint as count_, sum(amount - returned)::bigint as amount"
    " from redemptions where shop_id = :shop_id and ended is null and returned < amount"
    " and (order_id is null or jsonb_exists(reactivated_orders, order_id::text)) group by 1"
)
REFUNDERS = text(
    "with refunded as ("
    "  select coalesce(a.survivor_id, o.customer_id) as customer_id, count(*)::bigint as refunds,"
    "   count(distinct r.order_id)::bigint as orders from refunds r"
    "  join orders o on o.shop_id = r.shop_id and o.order_id = r.order_id"
    "  left join customer_aliases a on a.shop_id = o.shop_id and a.customer_id = o.customer_id"
    "  where r.shop_id = :shop_id and r.value_minor > 0 and not r.undone and o.customer_id is not null"
    "  group by 1 having count(*) >= :least"
    "), forgiven as ("
    "  select customer_id, sum(short)::bigint as amount from timeline"
    "  where shop_id = :shop_id and folded and short > 0 and not carry_debt and kind in (4, 5) group by 1"
    ") select r.customer_id, r.refunds, r.orders, coalesce(f.amount, 0)::bigint as forgiven from refunded r"
    " left join forgiven f on f.customer_id = r.customer_id"
    " order by forgiven desc, r.refunds desc, r.customer_id limit :most"
)


def liability(
    connection: Connection,
    shop_id: int,
    *,
    refunds_at_least: int = REFUNDS_AT_LEAST,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The report. The caller's transaction sees one moment (REPEATABLE READ), so its parts agree with each other."""
    program = programs_of(connection, shop_id)[-1]
    unused = {row.coded: row for row in sql.fetch(connection, UNUSED, shop_id=shop_id)}
    totals = sql.fetch(connection, TOTALS, shop_id=shop_id)[0]
    return {
        "at": (now or datetime.now(UTC)).isoformat(),
        "unit": {"kind": program.kind, "scale": program.scale},
        "time_zone": str(program.time_zone),
        **{name: points(getattr(totals, name), program) for name in ("balance", "pending", "debt")},
        "outstanding": _months(connection, OUTSTANDING, shop_id, program, ["amount"]),
        "pending_due": _months(connection, PENDING, shop_id, program, ["amount"]),
        "forgiven": _months(connection, FORGIVEN, shop_id, program, ["claims", "spending"]),
        "expired_on_return": _months(connection, EXPIRED, shop_id, program, ["amount"]),
        "unused_redemptions": _counted(unused.get(True), program),
        "untracked_redemptions": _counted(unused.get(False), program),
        "repeated_refunders": _refunders(connection, shop_id, program, refunds_at_least),
    }


def _months(
    connection: Connection, statement: Any, shop_id: int, program: Program, names: Sequence[str]
) -> list[dict[str, Any]]:
    rows = sql.fetch(connection, statement, shop_id=shop_id, zone=str(program.time_zone))
    return [
        {"month": row.month, **{name: points(getattr(row, name), program) for name in names}} for row in rows
    ]


def _counted(row: Any, program: Program) -> dict[str, Any]:
    return {"count": row.count_ if row else 0, "amount": points(row.amount if row else 0, program)}


def _refunders(connection: Connection, shop_id: int, program: Program, least: int) -> dict[str, Any]:
    rows = sql.fetch(connection, REFUNDERS, shop_id=shop_id, least=least, most=CUSTOMERS_MAX + 1)
    return {
        "refunds_at_least": least,
        "customers": [
            {
                "customer_id": str(row.customer_id),
                "refunds": row.refunds,
                "orders": row.orders,
                "forgiven": points(row.forgiven, program),
            }
            for row in rows[:CUSTOMERS_MAX]
        ],
        "more": len(rows) > CUSTOMERS_MAX,
    }


COLUMNS = ("section", "key", "measure", "value")


def lines(report: dict[str, Any]) -> Iterator[tuple[str, str, str, Any]]:
    """The report as one table: a line for each number, by COLUMNS."""
    for name in ("balance", "pending", "debt"):
        yield "total", "", name, report[name]
    for section in ("outstanding", "pending_due", "forgiven", "expired_on_return"):
        for row in report[section]:
            for measure, value in row.items():
                if measure != "month":
                    yield section, row["month"] or "never", measure, value
    for section in ("unused_redemptions", "untracked_redemptions"):
        for measure, value in report[section].items():
            yield section, "", measure, value
    for row in report["repeated_refunders"]["customers"]:
        for measure in ("refunds", "orders", "forgiven"):
            yield "repeated_refunders", row["customer_id"], measure, row[measure]
