"""What time alone brings: awards approved when their waiting is over, lots expired, tiers that a window leaves behind."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Engine, Row, text

from tasks.steps import sql
from tasks.steps.load import lock_wallets, open_world
from tasks.steps.settle import settle_clock
from tasks.steps.shops import by_id

BATCH = 200
TIERS_EVERY = timedelta(hours=1)

DUE = text(
    "select shop_id, customer_id from ("
    " select shop_id, customer_id from timeline where not folded and at <= :now"
    " union"
    " select shop_id, customer_id from lots where remainder > 0 and expires_at is not null and expires_at <= :now"
    " union"
    " select w.shop_id, w.customer_id from wallets w join lateral ("
    "   select max(coalesce(from_at, created_at)) as changed_at from programs p where p.shop_id = w.shop_id) p on true"
    " where (w.tier is not null and w.tier_checked_at < :stale)"
    "   or (w.orders > 0 and w.tier_checked_at < p.changed_at and p.changed_at <= :now)"
    ") due order by shop_id, customer_id limit :limit"
)


def mature(engine: Engine, *, limit: int = BATCH, now: datetime | None = None) -> int:
    """Bring up to `limit` wallets up to now; returns how many were due. One transaction a shop.

    Safe to run twice, and twice at once: wallets are locked, and a second run finds nothing left to do.
    """
    now = now or datetime.now(UTC)
    with engine.connect() as connection:
        due = _due(connection, now, limit)
    shops = sorted({row.shop_id for row in due})
    for shop_id in shops:
        customers = [row.customer_id for row in due if row.shop_id == shop_id]
        with engine.begin() as connection:
            world = open_world(connection, by_id(connection, shop_id), now)
            lock_wallets(world, customers)
            settle_clock(world, customers)
    return len(due)


def _due(connection: Connection, now: datetime, limit: int) -> Sequence[Row[Any]]:
    return sql.fetch(connection, DUE, now=now, stale=now - TIERS_EVERY, limit=limit)
