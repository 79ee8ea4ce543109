"""Recorded events once more: they must change nothing, and if they do, the books were wrong and are right now."""

from __future__ import annotations

from collections.abc import Callable
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from models.errors import Never
from tasks.steps import sql
from tasks.steps.load import open_world
from tasks.steps.parse import FACT_TOPICS, order_ids, parse
from tasks.steps.settle import Told, settle
from tasks.steps.shops import get

BATCH = 50

EVENTS = text(
    "select id, topic, body, received_at from inbox where shop_domain = :domain and state = 'done'"
    " and topic = any(:topics) and received_at >= :since and id > :after and body is not null order by id limit :limit"
)
COUNT = text(
    "select count(*) filter (where body is not null) as kept, count(*) filter (where body is null) as erased"
    " from inbox where shop_domain = :domain and state = 'done'"
    " and topic = any(:topics) and received_at >= :since"
)
BEGINNING = datetime(1970, 1, 1, tzinfo=UTC)


@dataclass(slots=True)
class Replayed:
    """events: run again; changed: entries that had to be posted (0 when the books were right); orders: where;
    erased: events whose body is not kept any more, which were passed over."""

    events: int = 0
    changed: int = 0
    erased: int = 0
    orders: set[int] = field(default_factory=set)


def replay(
    engine: Engine,
    domain: str,
    since: datetime | None = None,
    *,
    progress: Callable[[int, int], None] = lambda done, total: None,
) -> Replayed:
    """Run a shop's recorded events again, oldest first. `progress(done, total)` is called after each batch."""
    replayed, after = Replayed(), 0
    key = {"domain": domain, "topics": sorted(FACT_TOPICS), "since": since or BEGINNING}
    with engine.connect() as connection:
        found = connection.execute(COUNT, key).one()
    replayed.erased, total = found.erased, found.kept
    while True:
        with engine.begin() as connection:
            rows = sql.fetch(connection, EVENTS, **key, after=after, limit=BATCH)
            if not rows:
                return replayed
            _again(connection, domain, rows, replayed)
        after = rows[-1].id
        progress(replayed.events, total)


def _again(connection: Connection, domain: str, rows: Any, replayed: Replayed) -> None:
    shop = get(connection, domain)
    told = [each for row in rows for each in _told(row, shop.currency)]
    world = open_world(connection, shop, datetime.now(UTC))
    settled = settle(world, told, orders=order_ids(each.fact for each in told))
    replayed.events += len(rows)
    if settled.booked.entries:
        replayed.changed += settled.booked.entries
        replayed.orders |= settled.changed_orders


def _told(row: Row[Any], currency: str | None) -> list[Told]:
    try:
        facts = parse(row.topic, bytes(row.body), shop_currency=currency or "")
    except Never:
        return []
    return [Told(fact=fact, received_at=row.received_at, cause=f"inbox:{row.id}") for fact in facts]
