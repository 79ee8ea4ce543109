"""What is not kept for ever: raw bodies, and answers kept for repeated calls (docs/privacy.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, text

from tasks.steps.privacy import BODIES_AT_ONCE, SHOP_LOCKED, close, redact_shop
from tasks.steps.shops import by_id

BATCH = 1000  # rows a transaction: a blink, so that nobody waits for their locks
ROWS_A_RUN = 50_000  # a run ends well within a task's time; the next one goes on where this one ended
PARKED_DAYS = 90  # the longest that a parked event keeps its body: nobody dealt with it in a quarter
NO_EVENT = 0  # no row has this id: every pending event goes with its shop
ANSWER_DAYS = 7  # a call is not repeated under its key after a week

OLD_BODIES = text(
    "update inbox set body = null where id in (select id from inbox where body is not null"
    " and state in ('done', 'discarded') and received_at < :before order by received_at limit :limit"
    " for update skip locked)"
)
PARKED_BODIES = text(
    "update inbox set body = null where id in (select id from inbox where state = 'failed' and body is not null"
    " and received_at < :before limit :limit for update skip locked)"
)
OLD_ANSWERS = text(
    "delete from idempotency_keys where ctid in (select ctid from idempotency_keys where created_at < :before"
    " limit :limit for update skip locked)"
)
UNFINISHED = text(
    "select r.shop_id, r.id from privacy_requests r join shops s on s.id = r.shop_id"
    " where r.kind = 'shop_redact' and r.state = 'open' and s.state = 'removed' order by r.id"
)


@dataclass(slots=True)
class Kept:
    """What one run let go."""

    bodies: int = 0
    parked: int = 0
    answers: int = 0
    shops: int = 0

    def __str__(self) -> str:
        return (
            f"{self.bodies} bodies of processed events, {self.parked} of parked ones, {self.answers} answers erased;"
            f" {self.shops} redactions of shops ended"
        )


def retain(engine: Engine, *, body_days: int, now: datetime | None = None) -> Kept:
    """Erase what is older than it may be kept, in transactions of a thousand rows; the rows themselves stay.

    Safe to run twice, and twice at once: rows that another run holds are passed over, what is erased stays so.
    """
    now = now or datetime.now(UTC)
    return Kept(
        bodies=_in_batches(engine, OLD_BODIES, now - timedelta(days=body_days)),
        parked=_in_batches(engine, PARKED_BODIES, now - timedelta(days=PARKED_DAYS)),
        answers=_in_batches(engine, OLD_ANSWERS, now - timedelta(days=ANSWER_DAYS)),
        shops=_finish_redactions(engine),
    )


def _in_batches(engine: Engine, statement: Any, before: datetime) -> int:
    erased = 0
    while erased < ROWS_A_RUN:
        with engine.begin() as connection:
            found = connection.execute(statement, {"before": before, "limit": BATCH}).rowcount
        erased += found
        if found < BATCH:
            break
    return erased


def _finish_redactions(engine: Engine) -> int:
    """Redactions of shops that were too large for one transaction, or installed when asked for and removed since."""
    with engine.connect() as connection:
        unfinished = connection.execute(UNFINISHED).all()
    return sum(_finish(engine, row.shop_id, row.id) for row in unfinished)


def _finish(engine: Engine, shop_id: int, request_id: int) -> bool:
    """One step of one redaction; True when it was the last. A shop that was installed again meanwhile is left alone."""
    with engine.begin() as connection:
        if connection.execute(SHOP_LOCKED, {"shop_id": shop_id}).scalar_one() == "installed":
            return False
        counts = redact_shop(connection, by_id(connection, shop_id), NO_EVENT)
        return counts["bodies"] < BODIES_AT_ONCE and close(connection, shop_id, request_id, **counts)
