"""Reading what happened (R39), newest first, a page at a time or all of it."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, Select, func, literal, select, text

from models.rules.money import from_minor
from models.rules.program import Program
from models.tables.loyalty import Activity
from tasks.steps import sql
from tasks.steps.paging import Page
from tasks.steps.programs import programs_of
from tasks.steps.read import points
from tasks.steps.words import in_words

CHUNK = 500  # entries read at once for an export

ORDERS = text(
    "select order_id, name, currency, total_minor from orders"
    " where shop_id = :shop_id and order_id = any(cast(:ids as bigint[]))"
)
REFUNDS = text(
    "select refund_id, value_minor from refunds"
    " where shop_id = :shop_id and refund_id = any(cast(:ids as bigint[]))"
)
REWARDS = text(
    "select id, reward_id from redemptions where shop_id = :shop_id and id = any(cast(:ids as bigint[]))"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Wanted:
    """Which entries of a shop: those of a customer, of an order, of a kind, booked since."""

    customer_id: int | None = None
    order_id: int | None = None
    kind: str | None = None
    since: datetime | None = None


def _wanted(query: Select[Any], shop_id: int, wanted: Wanted) -> Select[Any]:
    query = query.where(Activity.shop_id == shop_id)
    for column, value in (
        (Activity.customer_id, wanted.customer_id),
        (Activity.order_id, wanted.order_id),
        (Activity.kind, wanted.kind),
    ):
        if value is not None:
            query = query.where(column == value)
    return query if wanted.since is None else query.where(Activity.booked_at >= wanted.since)


def listing(
    connection: Connection, shop_id: int, wanted: Wanted, *, cursor: int | None = None, limit: int = 50
) -> Page:
    """The shop's activity, narrowed by what is wanted. Rows booked while pages are turned never shift a page."""
    query = _wanted(select(Activity), shop_id, wanted)
    if cursor is not None:
        query = query.where(Activity.id < cursor)
    found = connection.execute(query.order_by(Activity.id.desc()).limit(limit + 1)).all()
    more = len(found) > limit
    program = programs_of(connection, shop_id)[-1]
    known = _Known(connection, shop_id, found[:limit])
    return Page(
        rows=[shown(row, program, known) for row in found[:limit]],
        cursor=found[limit - 1].id if more else None,
    )


def is_more_than(connection: Connection, shop_id: int, wanted: Wanted, most: int) -> bool:
    """Whether more entries than that are wanted; looks at no more than it needs to know."""
    query = _wanted(select(literal(1)), shop_id, wanted).limit(most + 1)
    return connection.execute(select(func.count()).select_from(query.subquery())).scalar_one() > most


def everything(connection: Connection, shop_id: int, wanted: Wanted) -> Iterator[dict[str, Any]]:
    """All entries that are wanted, newest first, in bounded memory."""
    cursor: int | None = None
    while True:
        page = listing(connection, shop_id, wanted, cursor=cursor, limit=CHUNK)
        yield from page.rows
        cursor = page.cursor
        if cursor is None:
            return


AMOUNTS = frozenset(
    [
        "amount",
        "moved",
        "short",
        "shortfall",
        "expired",
        "balance_before",
        "balance_after",
        "of",
        "cap",
        "debt_paid",
        "debt_added",
    ]
)


class _Known:
    """What entries name without telling: their orders' numbers and totals, refunds' money, redemptions' rewards."""

    def __init__(self, connection: Connection, shop_id: int, rows: Sequence[Row[Any]]) -> None:
        def found(statement: Any, ids: set[int | None]) -> Sequence[Row[Any]]:
            wanted = sorted(id for id in ids if id is not None)
            return sql.fetch(connection, statement, shop_id=shop_id, ids=wanted) if wanted else ()

        self.orders = {o.order_id: o for o in found(ORDERS, {row.order_id for row in rows})}
        self.refunds = {
            r.refund_id: r.value_minor for r in found(REFUNDS, {number(row.cause, "refund") for row in rows})
        }
        self.rewards = {
            r.id: r.reward_id for r in found(REWARDS, {number(row.target, "redemption") for row in rows})
        }

    def of(self, row: Row[Any]) -> dict[str, Any]:
        """The particulars of one entry; what it tells itself goes before."""
        order, reward = (
            self.orders.get(row.order_id),
            self.rewards.get(number(row.target, "redemption") or 0),
        )
        value = self.refunds.get(number(row.cause, "refund") or 0)
        words: dict[str, Any] = {"reward": reward, "rule": rule_of(row.target)}
        if order is not None and order.currency is not None:
            total = None if order.total_minor is None else from_minor(order.total_minor, order.currency)
            words |= {"order": order.name, "order_total": total, "currency": order.currency}
            if value is not None and not row.detail.get("gone"):
                words["refund_amount"] = from_minor(value, order.currency)
        return {name: what for name, what in words.items() if what is not None}


def number(key: str, kind: str) -> int | None:
    """`refund:9` -> 9; None for a key of another kind."""
    what, _, id = key.partition(":")
    return int(id) if what == kind and id.isascii() and id.isdigit() and len(id) < 20 else None


def rule_of(target: str) -> str | None:
    """The earning rule of an award's target: `order:450:place-order` -> place-order."""
    parts = target.split(":", 2)
    return parts[2] if len(parts) == 3 and parts[0] == "order" else None


def shown(row: Row[*tuple[Any, ...]], program: Program, known: _Known) -> dict[str, Any]:
    """One entry for people and callers: ids as text, times in UTC, amounts in the program's unit, and in words."""
    detail = {**known.of(row), **in_units(row.detail, program)}
    return {
        "id": str(row.id),
        "kind": row.kind,
        "text": in_words(row.kind, row.cause, detail, program.kind),
        "customer_id": text_or_none(row.customer_id),
        "order_id": text_or_none(row.order_id),
        "cause": row.cause,
        "target": row.target,
        "at": utc_text(row.at),
        "booked_at": utc_text(row.booked_at),
        "detail": detail,
    }


def in_units(detail: Mapping[str, Any], program: Program) -> dict[str, Any]:
    """The entry's particulars with amounts as `points` shows them; what was corrected likewise."""
    return {
        name: in_units(value, program)
        if isinstance(value, dict)
        else points(value, program)
        if name in AMOUNTS and isinstance(value, int)
        else value
        for name, value in detail.items()
    }


def text_or_none(id: int | None) -> str | None:
    return None if id is None else str(id)


def utc_text(at: datetime) -> str:
    """2026-01-31T12:00:00Z, with the fraction where there is one."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
