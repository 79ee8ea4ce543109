"""What is not kept for ever: raw bodies, and answers kept for repeated calls (docs/privacy.md)."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Engine, text

from tasks.steps.privacy import SHOP_LOCKED, close, is_whole, redact_shop
from tasks.steps.shops import by_id

BATCH = 1000  # rows a transaction: a blink, so that nobody waits for their locks
ROWS_A_RUN = (
    50_000  # of each kind: a run ends well within a task's time; the next goes on where this one ended
)
PARKED_DAYS = 90  # the longest that a parked event keeps its body: nobody dealt with it in a quarter
NO_EVENT = 0  # no row has this id: every pending event goes with its shop
ANSWER_DAYS = 7  # a call is not repeated under its key after a week
MESSAGE_DAYS = 30  # what was told outside, with its log; what still waits for a paused endpoint, too

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
OLD_MESSAGES = text(
    "delete from messages where ctid in (select ctid from messages where created_at < :before"
    " order by created_at limit :limit for update skip locked)"
)
UNHEARD_MESSAGES = text(  # of shops whose last endpoint is gone
    "delete from messages where ctid in (select m.ctid from (select distinct shop_id from endpoints"
    "  where state = 'deleted') gone join messages m on m.shop_id = gone.shop_id and m.created_at < :before"
    " where not exists (select from endpoints e where e.shop_id = gone.shop_id and e.state <> 'deleted') limit :limit)"
)
ENDED_SECRETS = text(
    "update endpoints set old_secret = null, old_secret_until = null where (shop_id, id) in"
    " (select shop_id, id from endpoints where old_secret_until < :before limit :limit)"
)
GONE_ENDPOINTS = text(
    "delete from endpoints e where (e.shop_id, e.id) in (select g.shop_id, g.id from endpoints g"
    " where g.state = 'deleted' and g.created_at < :before and not exists (select from deliveries d"
    " where d.shop_id = g.shop_id and d.endpoint_id = g.id) limit :limit)"
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
    messages: int = 0
    shops: int = 0
    more: bool = False  # some kind had more of it than one run takes

    def __str__(self) -> str:
        return (
            f"{self.bodies} bodies of processed events, {self.parked} of parked ones, {self.answers} answers,"
            f" {self.messages} messages erased; {self.shops} redactions of shops ended"
        )


def retain(
    engine: Engine, *, body_days: int, now: datetime | None = None, rows_a_run: int = ROWS_A_RUN
) -> Kept:
    """Erase what is older than it may be kept, in transactions of a thousand rows; the rows themselves stay.

    Safe to run twice, and twice at once: rows that another run holds are passed over, what is erased stays so.
    """
    now, kept = now or datetime.now(UTC), Kept()

    def erase(statement: Any, before: datetime) -> int:
        erased, more = _in_batches(engine, statement, before, rows_a_run)
        kept.more |= more
        return erased

    kept.bodies = erase(OLD_BODIES, now - timedelta(days=body_days))
    kept.parked = erase(PARKED_BODIES, now - timedelta(days=PARKED_DAYS))
    kept.answers = erase(OLD_ANSWERS, now - timedelta(days=ANSWER_DAYS))
    kept.messages = erase(OLD_MESSAGES, now - timedelta(days=MESSAGE_DAYS)) + erase(UNHEARD_MESSAGES, now)
    erase(GONE_ENDPOINTS, now)  # that have no deliveries left
    erase(ENDED_SECRETS, now)
    kept.shops = _finish_redactions(engine)
    return kept


def _in_batches(engine: Engine, statement: Any, before: datetime, most: int) -> tuple[int, bool]:
    """How many rows, and whether there may be more."""
    erased = 0
    while erased < most:
        with engine.begin() as connection:
            found = connection.execute(statement, {"before": before, "limit": min(BATCH, most)}).rowcount
        erased += found
        if found < min(BATCH, most):
            return erased, False
    return erased, True


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
        return is_whole(counts) and close(connection, shop_id, request_id, **counts)
