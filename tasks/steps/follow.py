"""A webhook's way, from its id to the rows of the ledger that it brought about. Ids and words, nothing personal."""

from __future__ import annotations

from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound
from models.rules.program import Program
from tasks.steps import shops
from tasks.steps.activity import Wanted, everything
from tasks.steps.programs import programs_of
from tasks.steps.read import points

BY_WEBHOOK = text(
    "select * from inbox where webhook_id = :id and (cast(:domain as text) is null or shop_domain = :domain)"
    " order by id desc limit 1"
)
BY_EVENT = text("select * from inbox where id = :id")
OF_ORDER = text(
    "select e.id, e.customer_id, e.kind, e.amount, e.lot, e.event_cause, e.booking_id, e.booked_at from entries e"
    " where e.shop_id = :shop_id and e.cause = :cause and e.customer_id in"
    " (select t.customer_id from timeline t where t.shop_id = :shop_id and t.order_id = :order_id) order by e.id"
)
OF_ANY = text(
    "select e.id, e.customer_id, e.kind, e.amount, e.lot, e.event_cause, e.booking_id, e.booked_at from entries e"
    " where e.shop_id = :shop_id and e.cause = :cause order by e.id"
)
TOLD = text("select id from activity where shop_id = :shop_id and booked_at = any(:times)")
EVENT = "inbox:"  # how the ledger names an event


def follow(connection: Connection, wanted: str, *, domain: str | None = None) -> dict[str, Any]:
    """What became of the webhook of this id, or of the event `inbox:5120`. Raises NotFound."""
    row = _found(connection, wanted, domain)
    shop = shops.find(connection, row.shop_domain)
    entries = [] if shop is None else _entries(connection, shop.id, row)
    told = [] if shop is None else _told(connection, shop.id, row, entries)
    shown = [] if shop is None else _shown(entries, programs_of(connection, shop.id)[-1])
    return {
        "webhook_id": row.webhook_id,
        "event_id": row.id,
        "cause": f"{EVENT}{row.id}",
        "shop": row.shop_domain,
        "topic": row.topic,
        "order_id": None if row.order_id is None else str(row.order_id),
        "received_at": row.received_at.isoformat(),
        "state": row.state,
        "attempts": row.attempts,
        "outcome": row.outcome if row.error_code is None else f"{row.error_code}: {row.error}",
        "processed_at": None if row.processed_at is None else row.processed_at.isoformat(),
        "entries": shown,
        "activity": told,
    }


def _found(connection: Connection, wanted: str, domain: str | None) -> Row[Any]:
    number = wanted.removeprefix(EVENT)
    row = connection.execute(BY_WEBHOOK, {"id": wanted, "domain": domain}).one_or_none()
    if row is None and number.isascii() and number.isdecimal() and len(number) < 19:
        row = connection.execute(BY_EVENT, {"id": int(number)}).one_or_none()
    if row is None:
        raise NotFound("webhook", wanted)
    return row


def _entries(connection: Connection, shop_id: int, row: Row[Any]) -> list[Row[Any]]:
    key = {"shop_id": shop_id, "cause": f"{EVENT}{row.id}"}
    if row.order_id is None:
        return list(connection.execute(OF_ANY, key))
    return list(connection.execute(OF_ORDER, {**key, "order_id": row.order_id}))


def _told(
    connection: Connection, shop_id: int, row: Row[Any], entries: list[Row[Any]]
) -> list[dict[str, Any]]:
    """The activity that was booked in the same transaction: it has the same time."""
    if not entries:
        return []
    times = [entry.booked_at for entry in entries]
    booked = {str(id) for id in connection.execute(TOLD, {"shop_id": shop_id, "times": times}).scalars()}
    wanted = Wanted(order_id=row.order_id, since=min(times))
    return [each for each in everything(connection, shop_id, wanted) if each["id"] in booked]


def _shown(entries: list[Row[Any]], program: Program) -> list[dict[str, Any]]:
    """Rows of the ledger; their amounts are in the program's unit."""
    return [
        {
            "id": str(entry.id),
            "customer_id": str(entry.customer_id),
            "kind": entry.kind,
            "amount": points(entry.amount, program),
            "because_of": entry.event_cause,
            "lot": entry.lot,
            "booking_id": str(entry.booking_id),
            "booked_at": entry.booked_at.isoformat(),
        }
        for entry in entries
    ]
