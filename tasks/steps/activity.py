"""Reading what happened (R39), newest first, a page at a time."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select

from models.tables.loyalty import Activity


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
    return Page(rows=[shown(row) for row in found[:limit]], cursor=found[limit - 1].id if more else None)


def shown(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """One entry for people and callers: ids as text, times in UTC."""
    return {
        "id": str(row.id),
        "kind": row.kind,
        "customer_id": text_or_none(row.customer_id),
        "order_id": text_or_none(row.order_id),
        "cause": row.cause,
        "target": row.target,
        "at": utc_text(row.at),
        "booked_at": utc_text(row.booked_at),
        "detail": row.detail,
    }


def text_or_none(id: int | None) -> str | None:
    return None if id is None else str(id)


def utc_text(at: datetime) -> str:
    """2026-01-31T12:00:00Z, with the fraction where there is one."""
    return at.astimezone(UTC).isoformat().replace("+00:00", "Z")
