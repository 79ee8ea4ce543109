"""What time alone brings: awards approved when their waiting is over, lots expired, tiers that a window leaves behind."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime, timedelta

import structlog
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from models.rules.program import Tiers, program_at
from tasks.steps import sql
from tasks.steps.activities import record
from tasks.steps.book import Booked
from tasks.steps.counting import recompute_tiers
from tasks.steps.load import World, lock_wallets, open_world
from tasks.steps.programs import programs_of
from tasks.steps.settle import settle_clock
from tasks.steps.shops import by_id

log = structlog.get_logger()

BATCH = 200
TIERS_AT_ONCE = 5000  # a run ends in seconds; the next one goes on where this one ended
TIERS_EVERY = timedelta(hours=1)
NEVER = datetime(1900, 1, 1, tzinfo=UTC)

# Each from its own partial index, longest due first, so that no shop and no wallet waits for all others.
DUE = text(
    "(select shop_id, customer_id from timeline where not folded and at <= :now order by at limit :limit)"
    " union"
    " (select shop_id, customer_id from lots where remainder > 0 and expires_at is not null and expires_at <= :now"
    "  order by expires_at limit :limit)"
    " order by shop_id, customer_id"
)
SHOPS = text("select id from shops where state = 'installed' order by id")
STALE = text(
    "select customer_id from wallets where shop_id = :shop_id and ("
    " (tier is not null and tier_checked_at < :stale) or (orders > 0 and tier_checked_at < :changed_at)"
    ") order by customer_id limit :limit"
)


def mature(engine: Engine, *, limit: int = BATCH, now: datetime | None = None) -> int:
    """Bring wallets up to now, up to `limit` for approvals and for expiry each; returns how many were due.

    Safe to run twice, and twice at once: wallets are locked, and a second run finds nothing left to do.
    """
    now = now or datetime.now(UTC)
    with engine.connect() as connection:
        due = sql.fetch(connection, DUE, now=now, limit=limit)
    for shop_id in sorted({row.shop_id for row in due}):
        customers = [row.customer_id for row in due if row.shop_id == shop_id]
        _each(engine, shop_id, customers, now, settle_clock)
    return len(due)


def check_tiers(engine: Engine, *, limit: int = TIERS_AT_ONCE, now: datetime | None = None) -> int:
    """Recompute tiers that time or a new program version may have moved (R24, R26); returns how many were looked at.

    Wallets are read by shop, so this is for every minute or so. Safe to run twice, and twice at once.
    """
    now = now or datetime.now(UTC)
    with engine.connect() as connection:
        stale = {id: _stale(engine, id, limit, now) for id in connection.execute(SHOPS).scalars().all()}
    for shop_id, customers in stale.items():
        for start in range(0, len(customers), BATCH):
            _each(engine, shop_id, customers[start : start + BATCH], now, _check)
    return sum(map(len, stale.values()))


def _stale(engine: Engine, shop_id: int, limit: int, now: datetime) -> Sequence[int]:
    with engine.connect() as connection:
        program = program_at(programs_of(connection, shop_id), now)
        times = {
            "stale": now - TIERS_EVERY if _moves_with_time(program.tiers) else NEVER,
            "changed_at": program.from_at or NEVER,
        }
        if set(times.values()) == {NEVER}:
            return []
        return connection.execute(STALE, {"shop_id": shop_id, "limit": limit, **times}).scalars().all()


def _moves_with_time(tiers: Tiers) -> bool:
    return tiers.window != "lifetime" or tiers.downgrade in ("grace", "period_end")


def _check(world: World, customers: Sequence[int]) -> None:
    record(world, {}, Booked(tiers=recompute_tiers(world, customers)), {}, ())


def _each(
    engine: Engine,
    shop_id: int,
    customers: Sequence[int],
    now: datetime,
    work: Callable[[World, Sequence[int]], object],
) -> None:
    """In one transaction; if that fails, by halves until the wallet that fails stands alone and holds up no other."""
    try:
        with engine.begin() as connection:
            world = open_world(connection, by_id(connection, shop_id), now)
            lock_wallets(world, customers)
            work(world, customers)
    except OperationalError:
        raise  # the database's own trouble is no wallet's fault
    except Exception as error:
        if len(customers) == 1:
            log.error("wallet_failed", shop_id=shop_id, error=type(error).__name__, exc_info=True)
            return
        middle = len(customers) // 2
        _each(engine, shop_id, customers[:middle], now, work)
        _each(engine, shop_id, customers[middle:], now, work)
