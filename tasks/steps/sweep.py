"""The sweep: rings for events that nobody works on, gently.

Four gates, each measured to be needed (without them a sweep rings for what is merely waiting, and drowns the queue):
how deep the queue is, how long since the row came or was last rung for (doubling), how many rows at once, and one
sweep at a time. One bell a shop, not one a row.
"""

from __future__ import annotations

from dataclasses import dataclass

from redis import Redis
from sqlalchemy import Engine, text

DEEPEST_QUEUE = 200  # messages; with more waiting, a bell adds nothing but length
FIRST_WAIT_SECONDS = 3  # longer than a bell's life, so the ordinary way has had its chance
LONGEST_WAIT_SECONDS = 60
QUEUE = "unwind:events"  # as the broker names it: Celery's prefix and the queue
BATCH = 200  # rows marked a sweep
SWEEP_LOCK = 0x554E57494E45  # one sweep at a time, however many schedulers run

FORGOTTEN = text("""
with forgotten as (
  select id from inbox
   where state = 'pending' and not_before <= now()
     and coalesce(rung_at, received_at)
         < now() - least(:longest, :first * power(2, least(rings, 10))) * interval '1 second'
   order by id limit :batch
   for update skip locked
)
update inbox i set rung_at = now(), rings = rings + 1 from forgotten f where i.id = f.id
returning i.shop_domain
""")


@dataclass(frozen=True)
class Swept:
    """`shops` to ring for, or the gate that was closed."""

    shops: tuple[str, ...] = ()
    rows: int = 0
    gate: str = ""


def forgotten_shops(engine: Engine, *, depth: int) -> Swept:
    """Mark pending events that are due and were not rung for lately; their shops are to be rung for, once each.

    Safe to run twice, and twice at once: a row marked by one sweep is not due for the next. What a worker holds is
    locked, and skipped. Waits: 3, 6, 12, 24, 48, then 60 seconds between two bells for the same row.
    """
    if depth > DEEPEST_QUEUE:
        return Swept(gate="queue_deep")
    with engine.begin() as connection:
        if not connection.execute(
            text("select pg_try_advisory_xact_lock(:lock)"), {"lock": SWEEP_LOCK}
        ).scalar():
            return Swept(gate="another_sweep")
        limits = {"longest": LONGEST_WAIT_SECONDS, "first": FIRST_WAIT_SECONDS, "batch": BATCH}
        found = connection.execute(FORGOTTEN, limits).scalars().all()
    return Swept(shops=tuple(sorted(set(found))), rows=len(found))


def depth_of(broker: Redis, queue: str) -> int:
    """How many messages wait in the broker."""
    depth = broker.llen(queue)
    assert isinstance(depth, int)
    return depth
