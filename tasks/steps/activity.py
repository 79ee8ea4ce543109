"""Reading what happened (R39), newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from models.rules.program import Program
from models.tables.loyalty import Activity
from tasks.steps.programs import programs_of
from tasks.steps.read import points


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, newest first. `cursor` asks for the ones before them; None: there are none."""

    rows: Sequence[dict[str, Any]]
    cursor: int | None


def listing(
    connection: Connection,
    shop_id: int,
    *,
    customer_id: int | None = None,
    order_id: int | None = None,
    kind: str | None = None,
    cursor: int | None = None,
    limit: int = 50,
) -> Page:
    """The shop's activity, narrowed by what is given. Rows booked while pages are turned never shift a page."""
    query = select(Activity).where(Activity.shop_id == shop_id)
    for column, wanted in (
        (Activity.customer_id, customer_id),
        (Activity.order_id, order_id),
        (Activity.kind, kind),
    ):
        if wanted is not None:
            query = query.where(column == wanted)
    if cursor is not None:
        query = query.where(Activity.id < cursor)
    found = connection.execute(query.order_by(Activity.id.desc()).limit(limit + 1)).all()
    more = len(found) > limit
    program = programs_of(connection, shop_id)[-1]
    return Page(
        rows=[shown(row, program) for row in found[:limit]], cursor=found[limit - 1].id if more else None
    )


AMOUNTS = frozenset(["amount", "moved", "short", "shortfall", "expired", "balance_before", "balance_after"])


def shown(row: Row[*tuple[Any, ...]], program: Program) -> dict[str, Any]:
    """One entry for people and callers: ids as text, times in UTC, amounts in the program's unit."""
    return {
        "id": str(row.id),
        "kind": row.kind,
        "customer_id": text_or_none(row.customer_id),
        "order_id": text_or_none(row.order_id),
        "cause": row.cause,
        "target": row.target,
        "at": utc_text(row.at),
        "booked_at": utc_text(row.booked_at),
        "detail": in_units(row.detail, program),
    }


def in_units(detail: Mapping[str, Any], program: Program) -> dict[str, Any]:
    """The entry's particulars with amounts as `points` shows them; what was corrected likewise."""
    return {
        name: in_units(value, program)
        if isinstance(value, dict)
        else points(value, program)
        if name in AMOUNTS
        else value
        for name, value in detail.items()
    }


def text_or_none(id: int | None) -> str | None:
    return None if id is None else str(id)


def utc_text(at: datetime) -> str:
    """2026-01-31T12:00:00Z, with the fraction where there is one."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
