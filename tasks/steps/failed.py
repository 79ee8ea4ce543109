"""Events that could not be processed: parked with their reason, never lost, and never shown with what they hold."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, select, update
from sqlalchemy.sql.elements import ColumnElement

from models.errors import BodyErased, NotFound, Refused
from models.tables.inbox import InboxEvent
from tasks.steps.paging import Page

SHOWN = (
    InboxEvent.id,
    InboxEvent.shop_domain,
    InboxEvent.topic,
    InboxEvent.webhook_id,
    InboxEvent.order_id,
    InboxEvent.state,
    InboxEvent.attempts,
    InboxEvent.error_code,
    InboxEvent.error,
    InboxEvent.received_at,
)


def listing(
    connection: Connection,
    shop_domain: str | None,
    *,
    cursor: int | None = None,
    limit: int = 50,
    with_body: bool = False,
) -> Page:
    """The parked events of a shop (None: of all shops); `with_body`: only those that can be tried again."""
    query = select(*SHOWN).where(InboxEvent.state == "failed", *of_shop(shop_domain))
    if with_body:
        query = query.where(InboxEvent.body.is_not(None))
    if cursor is not None:
        query = query.where(InboxEvent.id < cursor)
    found = connection.execute(query.order_by(InboxEvent.id.desc()).limit(limit + 1)).all()
    more = len(found) > limit
    return Page(rows=[shown(row) for row in found[:limit]], cursor=found[limit - 1].id if more else None)


def get(connection: Connection, shop_domain: str | None, event_id: int) -> dict[str, Any]:
    """One parked event. Raises NotFound, also for an event that is not parked."""
    query = select(*SHOWN).where(
        InboxEvent.id == event_id, InboxEvent.state == "failed", *of_shop(shop_domain)
    )
    row = connection.execute(query).first()
    if row is None:
        raise NotFound("failed event", event_id)
    return shown(row)


def body(connection: Connection, event_id: int) -> bytes:
    """A parked event's body as it came, for those who may see personal data. Raises NotFound, BodyErased."""
    query = select(InboxEvent.body).where(InboxEvent.id == event_id, InboxEvent.state == "failed")
    found = connection.execute(query).one_or_none()
    if found is None:
        raise NotFound("failed event", event_id)
    if found.body is None:
        raise BodyErased
    return bytes(found.body)


def retry(connection: Connection, shop_domain: str | None, event_id: int) -> dict[str, Any]:
    """Put a parked event back in the queue, as if it had just come. Raises NotFound, Refused (`not_failed`,
    `body_erased`: what it said is not kept any more, so it can only be discarded).

    Twice at once: one does it, the other is refused (the row is locked by its update).
    """
    if is_erased(connection, shop_domain, event_id):
        raise Refused("body_erased", f"event {event_id}: {BodyErased()}; discard it")
    return moved(
        connection,
        shop_domain,
        event_id,
        state="pending",
        attempts=0,
        error_code=None,
        error=None,
        not_before=datetime.now(UTC),
        rung_at=None,
        rings=0,
    )


def is_erased(connection: Connection, shop_domain: str | None, event_id: int) -> bool:
    """Whether the event is parked without its body."""
    mine = [InboxEvent.id == event_id, InboxEvent.state == "failed", *of_shop(shop_domain)]
    return (
        connection.execute(select(InboxEvent.id).where(*mine, InboxEvent.body.is_(None))).first() is not None
    )


def discard(connection: Connection, shop_domain: str | None, event_id: int) -> dict[str, Any]:
    """Leave a parked event for good; it stays in the record. Raises NotFound, Refused (`not_failed`)."""
    return moved(connection, shop_domain, event_id, state="discarded", processed_at=datetime.now(UTC))


def moved(connection: Connection, shop_domain: str | None, event_id: int, **values: Any) -> dict[str, Any]:
    mine = [InboxEvent.id == event_id, *of_shop(shop_domain)]
    row = connection.execute(
        update(InboxEvent).where(*mine, InboxEvent.state == "failed").values(**values).returning(*SHOWN)
    ).first()
    if row is not None:
        return shown(row)
    state = connection.execute(select(InboxEvent.state).where(*mine)).scalar_one_or_none()
    if state is None:
        raise NotFound("failed event", event_id)
    raise Refused(
        "not_failed", f"the event {event_id} is {state}, so there is nothing to try again", state=state
    )


def of_shop(shop_domain: str | None) -> list[ColumnElement[bool]]:
    return [] if shop_domain is None else [InboxEvent.shop_domain == shop_domain]


def shown(row: Row[*tuple[Any, ...]]) -> dict[str, Any]:
    """An event without its body, which holds personal data."""
    return {
        "id": str(row.id),
        "shop": row.shop_domain,
        "topic": row.topic,
        "webhook_id": row.webhook_id,
        "order_id": None if row.order_id is None else str(row.order_id),
        "state": row.state,
        "attempts": row.attempts,
        "reason": {"code": row.error_code, "message": row.error} if row.error_code or row.error else None,
        "received_at": row.received_at.astimezone(UTC).isoformat().replace("+00:00", "Z"),
    }
