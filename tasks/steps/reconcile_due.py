"""Which shops' orders are to be compared now."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, Row, text

EVERY = timedelta(minutes=15)
NIGHT_HOUR = 1  # UTC; the shops follow each other for four hours from then on
NIGHT_MINUTES = 240
KEEP = timedelta(days=30)  # of runs that found nothing

# A run that is not finished is the last of its kind: it is gone on with before another begins.
LAST = "select started_at, state from reconciliations r where r.shop_id = s.id and kind = '{}' order by id desc limit 1"
CONNECTED = text(f"""
select s.id, s.domain, recent.started_at as recent_at, nightly.started_at as nightly_at,
       array_remove(array[case recent.state when 'running' then 'recent' end,
                          case nightly.state when 'running' then 'nightly' end], null) as running
  from installations i join shops s on s.id = i.shop_id
  left join lateral ({LAST.format("recent")}) recent on true
  left join lateral ({LAST.format("nightly")}) nightly on true
 where i.state = 'active' and i.access_token is not null and s.state = 'installed'
 order by s.id
""")
FORGET = text(
    "delete from reconciliations where state = 'done' and started_at < :before"
    " and missing = 0 and different = 0 and auto_refunded = 0"
)


def due(engine: Engine, *, now: datetime | None = None) -> list[tuple[str, str]]:
    """(domain, kind) of each run to begin or to go on with. Changes only what is old and tells nothing."""
    now = now or datetime.now(UTC)
    with engine.begin() as connection:
        connection.execute(FORGET, {"before": now - KEEP})
        rows = connection.execute(CONNECTED).all()
    return [(row.domain, kind) for row in rows for kind in _kinds(row, now)]


def _kinds(row: Row[Any], now: datetime) -> Iterator[str]:
    if "recent" in row.running or row.recent_at is None or row.recent_at <= now - EVERY:
        yield "recent"
    if "nightly" in row.running or (row.nightly_at or row.recent_at or now) < last_night(row.id, now):
        yield "nightly"


def last_night(shop_id: int, now: datetime) -> datetime:
    """The shop's own time of the night, the last one that has passed: not all shops at once."""
    minutes = shop_id * 7 % NIGHT_MINUTES
    tonight = now.replace(hour=NIGHT_HOUR, minute=0, second=0, microsecond=0) + timedelta(minutes=minutes)
    return tonight if tonight <= now else tonight - timedelta(days=1)
