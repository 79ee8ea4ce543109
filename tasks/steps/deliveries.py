"""Messages on their way: what is due is leased, sent, and booked; a worker that dies leaves leases that end.

lease (commit) -> send, several at once -> book what came of each (a commit of its own). At least once: whoever receives
knows a message again by its `webhook-id`, which is the same at every try.

A delivery has its own waits (`WAITS`). An endpoint that fails again and again rests as a whole, and is then tried with
one delivery at a time, so that a dead one costs a call now and then, however much there is to be told. Which shop is
served when: tasks/steps/turns.py.
"""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor, as_completed
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from functools import partial
from typing import Any, Protocol
from uuid import UUID

import structlog
from sqlalchemy import Connection, Engine, Row, text
from standardwebhooks import Webhook

from models.errors import NotFound, Refused, UnwindError
from tasks.gateway.outgoing import Outcome
from tasks.steps import endpoints, messages, sql
from tasks.steps.paging import Page
from tasks.steps.vault import Vault

log = structlog.get_logger()

MINUTE, HOUR, DAY = 60, 3600, 86_400
WAITS = (  # seconds after each failed try; with the first at once, 15 tries over about three days
    5, 30, 2 * MINUTE, 10 * MINUTE, 30 * MINUTE, HOUR, 2 * HOUR, 4 * HOUR, 8 * HOUR, 8 * HOUR,
    12 * HOUR, 12 * HOUR, 12 * HOUR, 12 * HOUR,
)  # fmt: skip
JITTER = 0.1  # up to a tenth longer, so that what failed together does not come back together
RETRY_AFTER_SECONDS_MAX = 6 * HOUR  # longer is not believed
FAILING_SECONDS = 3 * DAY  # without a success: then the endpoint is paused
REST_AFTER_FAILURES = 3  # in a row, of whatever deliveries
REST_SECONDS_MAX = 30 * MINUTE  # so that one that is back is found soon
LEASE_SECONDS = 60  # four times the longest call
SENT_AT_ONCE = 16
SENT_AT_ONCE_TO_ONE = 8  # endpoint
SET_ASIDE_AT_ONCE = 1000
BUDGET_SECONDS = 15.0  # of a run: with the longest call on top well below a task's time
UNREADABLE_SECONDS = 600  # between two tries of what a missing key keeps: no fault of the endpoint
STATUS_GONE = 410
BUSY = (429, 503)  # with a Retry-After they speak for the whole endpoint

SHOP = text("select id from shops where domain = :domain and state = 'installed'")
SET_ASIDE = text("""
with held as (
  select id, state, resting_until from endpoints
   where shop_id = :shop_id and (state <> 'active' or resting_until > :now) for share
), due as (
  select d.id, h.state, h.resting_until from held h
    join deliveries d on d.shop_id = :shop_id and d.endpoint_id = h.id
   where d.state = 'pending' and d.not_before <= :now and coalesce(d.leased_until, :now) <= :now
   limit :limit for update of d skip locked
)
update deliveries d set leased_until = null,
       state = case due.state when 'active' then 'pending' when 'paused' then 'waiting' else 'cancelled' end,
       finished_at = case when due.state = 'deleted' then cast(:now as timestamptz) end,
       not_before = case when due.state = 'active' then due.resting_until else d.not_before end
  from due where d.shop_id = :shop_id and d.id = due.id
""")
RELEASE = text("""
with held as (
  select id, state from endpoints e where shop_id = :shop_id and state <> 'paused' and exists (
    select from deliveries where shop_id = :shop_id and endpoint_id = e.id and state = 'waiting') for share
), over as (
  select d.id, h.state from held h cross join lateral (
    select id from deliveries where shop_id = :shop_id and endpoint_id = h.id and state = 'waiting'
     order by id limit :limit for update skip locked
  ) d limit :limit
)
update deliveries d set attempts = 0, not_before = :now,
       state = case over.state when 'active' then 'pending' else 'cancelled' end,
       finished_at = case when over.state = 'deleted' then cast(:now as timestamptz) end
  from over where d.shop_id = :shop_id and d.id = over.id
""")
TAKE = text("""
with ready as (
  select d.id from (
    select id, failures from endpoints where shop_id = :shop_id and state = 'active'
       and coalesce(resting_until, :now) <= :now order by random()
  ) e cross join lateral (
    select id from deliveries where shop_id = :shop_id and endpoint_id = e.id and state = 'pending'
       and not_before <= :now and coalesce(leased_until, :now) <= :now order by not_before, id
     limit case when e.failures >= :careful then 1 else :each end for update skip locked
  ) d limit :limit
)
update deliveries d set attempts = d.attempts + 1, leased_until = :until
  from ready, messages m, endpoints e
 where d.shop_id = :shop_id and d.id = ready.id and m.shop_id = :shop_id and m.id = d.message_id
   and e.shop_id = :shop_id and e.id = d.endpoint_id
returning d.id, d.endpoint_id, d.attempts, d.leased_until, m.key, m.event, m.subject, m.sequence, m.at,
          m.data, e.url, e.secret, e.old_secret, e.old_secret_until
""")
LOCK_ENDPOINT = text(
    "select state, failures, failing_since from endpoints where shop_id = :shop_id and id = :endpoint_id"
    " for no key update"
)
LOG = text(
    "insert into delivery_attempts (shop_id, delivery_id, at, status, error, milliseconds)"
    " select shop_id, id, :now, :status, :error, :milliseconds from deliveries"
    " where shop_id = :shop_id and id = :id"
)
MINE = "where shop_id = :shop_id and id = :id and state = 'pending' and leased_until = :until"
DELIVERED = text(f"update deliveries set state = 'delivered', finished_at = :now, leased_until = null {MINE}")
FAILED = text(f"update deliveries set state = 'failed', finished_at = :now, leased_until = null {MINE}")
HELD = text(f"update deliveries set state = :state, leased_until = null {MINE}")
LATER = text(
    f"update deliveries set not_before = :at, leased_until = null, attempts = attempts - :uncounted {MINE}"
)
ENDPOINT_ANSWERED = text(
    "update endpoints set failures = 0, failing_since = null, resting_until = null, last_success_at = :now"
    " where shop_id = :shop_id and id = :endpoint_id"
)
ENDPOINT_FAILED = text(
    "update endpoints set failures = failures + 1, failing_since = coalesce(failing_since, :now),"
    " resting_until = greatest(resting_until, :resting_until) where shop_id = :shop_id and id = :endpoint_id"
)
DELIVERY = (
    "select d.id, d.endpoint_id, d.state, d.sends, d.not_before, d.created_at, d.finished_at, m.key,"
    " m.event, m.subject, m.sequence, m.at, (select coalesce(jsonb_agg(jsonb_build_object('at', a.at, 'status', a.status,"
    " 'error', a.error, 'milliseconds', a.milliseconds) order by a.id), '[]') from delivery_attempts a"
    " where a.shop_id = d.shop_id and a.delivery_id = d.id) as tries"
    " from deliveries d join messages m on m.shop_id = d.shop_id and m.id = d.message_id where d.shop_id = :shop_id"
)
LISTING = text(
    f"{DELIVERY} and d.endpoint_id = :endpoint_id and (cast(:before as bigint) is null or d.id < :before)"
    " and (cast(:state as text) is null or d.state = :state) order by d.id desc limit :limit"
)
ONE = text(f"{DELIVERY} and d.id = :id")
ENDPOINT_OF = text("select endpoint_id from deliveries where shop_id = :shop_id and id = :id")
AGAIN = text(
    "update deliveries set state = 'pending', attempts = 0, sends = sends + 1, not_before = :now, leased_until = null,"
    " finished_at = null where shop_id = :shop_id and id = :id"
    " and (state <> 'pending' or not_before > :now and coalesce(leased_until, :now) <= :now)"
)


class Sender(Protocol):
    """What delivering knows of the network."""

    def post(self, url: str, body: bytes, headers: dict[str, str]) -> Outcome:
        """Send once; never raises for what the network does."""
        ...


@dataclass(slots=True)
class Delivered:
    """What a run came to. `unfinished`: the time was up, and more is due."""

    outcomes: Counter[str] = field(default_factory=Counter)
    unfinished: bool = False

    def __str__(self) -> str:
        said = ", ".join(f"{count} {word}" for word, count in self.outcomes.most_common())
        return (said or "nothing was due") + (", to be continued" if self.unfinished else "")


# -- a run -------------------------------------------------------------------------------------------


def deliver(
    engine: Engine,
    sender: Sender,
    vault: Vault,
    domain: str,
    budget_seconds: float = BUDGET_SECONDS,
    *,
    count: Callable[[str], object] = lambda outcome: None,
    now: Callable[[], datetime] = lambda: datetime.now(UTC),
) -> Delivered:
    """Send what is due of a shop, several at once, until nothing is or the time is up.

    Safe to run twice, and twice at once: rows are leased under their locks, and who lost a lease cannot end its row.
    """
    done, until = Delivered(), time.monotonic() + budget_seconds
    with engine.connect() as connection:
        shop_id = connection.execute(SHOP, {"domain": domain}).scalar_one_or_none()
    if shop_id is None:
        return done
    send = partial(_sent, sender, vault, domain, shop_id)
    with ThreadPoolExecutor(SENT_AT_ONCE, "delivery") as pool:
        while taken := take(engine, shop_id, now()):
            sending = {pool.submit(send, row, now()): row for row in taken}
            for ended in as_completed(sending):
                outcome = book(engine, shop_id, sending[ended], ended.result(), now())
                done.outcomes[outcome] += 1
                count(outcome)
            if time.monotonic() >= until:
                done.unfinished = True
                break
    return done


def take(engine: Engine, shop_id: int, now: datetime) -> Sequence[Row[Any]]:
    """Lease what is due; what belongs to an endpoint that is paused, deleted or at rest is set aside first, and what
    waited for one that is not paused any more comes back: a thousand rows at a time, in transactions of their own."""
    limits = {"careful": REST_AFTER_FAILURES, "each": SENT_AT_ONCE_TO_ONE, "limit": SENT_AT_ONCE}
    with engine.begin() as connection:
        connection.execute(SET_ASIDE, {"shop_id": shop_id, "now": now, "limit": SET_ASIDE_AT_ONCE})
    with engine.begin() as connection:
        connection.execute(RELEASE, {"shop_id": shop_id, "now": now, "limit": SET_ASIDE_AT_ONCE})
    with engine.begin() as connection:
        lease = {"shop_id": shop_id, "now": now, "until": now + timedelta(seconds=LEASE_SECONDS)}
        rows = connection.execute(TAKE, {**lease, **limits}).all()
    return sorted(rows, key=lambda row: row.id)


def _sent(
    sender: Sender, vault: Vault, domain: str, shop_id: int, row: Row[Any], now: datetime
) -> Outcome | None:
    """One try. None: it could not even be signed, for no key of ours opens the secret."""
    try:
        headers = signed(vault, shop_id, row, messages.body(row, domain), now)
    except UnwindError as error:
        log.error("endpoint_secret_unreadable", shop_id=shop_id, endpoint_id=row.endpoint_id, code=error.code)
        return None
    return sender.post(row.url, messages.body(row, domain).encode(), headers)


def signed(vault: Vault, shop_id: int, row: Row[Any], body: str, now: datetime) -> dict[str, str]:
    """The headers of Standard Webhooks: while one secret replaces another, a signature of each."""
    sealed = [row.secret]
    if row.old_secret is not None and row.old_secret_until > now:
        sealed.append(row.old_secret)
    secrets = [vault.open(shop_id, "endpoint", each) for each in sealed]
    id = message_name(row.key)
    return {
        "Content-Type": "application/json",
        "User-Agent": "Unwind",
        "webhook-id": id,
        "webhook-timestamp": str(int(now.timestamp())),
        "webhook-signature": " ".join(Webhook(secret).sign(id, now, body) for secret in secrets),
    }


def message_name(key: UUID) -> str:
    """A message's `webhook-id`."""
    return f"msg_{key.hex}"


# -- what came of it ---------------------------------------------------------------------------------


def book(engine: Engine, shop_id: int, row: Row[Any], outcome: Outcome | None, now: datetime) -> str:
    """Log the try, and end the delivery or put it off, in one transaction. Returns what it came to, in one word."""
    key = {"shop_id": shop_id, "id": row.id, "endpoint_id": row.endpoint_id, "until": row.leased_until}
    with engine.begin() as connection:
        endpoint = connection.execute(LOCK_ENDPOINT, key).one()
        if outcome is None:
            at = now + timedelta(seconds=UNREADABLE_SECONDS)
            connection.execute(LATER, {**key, "at": at, "uncounted": 1})
            return "not_signed"
        said = {"status": outcome.status, "error": outcome.error, "milliseconds": outcome.milliseconds}
        connection.execute(LOG, {**key, "now": now, **said})
        if outcome.delivered:
            connection.execute(ENDPOINT_ANSWERED, {**key, "now": now})
            connection.execute(DELIVERED, {**key, "now": now})
            return "delivered"
        return _failed(connection, key, endpoint, row.attempts, outcome, now)


def _failed(
    connection: Connection,
    key: dict[str, Any],
    endpoint: Row[Any],
    attempts: int,
    outcome: Outcome,
    now: datetime,
) -> str:
    """Put off, given up, or left to wait for an endpoint that is paused (by this, too)."""
    wait = wait_seconds(attempts, outcome)
    rest = _rest_seconds(endpoint.failures + 1, wait, outcome)
    until = None if rest is None else now + timedelta(seconds=rest)
    connection.execute(ENDPOINT_FAILED, {**key, "now": now, "resting_until": until})
    if wait is None:
        connection.execute(FAILED, {**key, "now": now})
    elif endpoint.state == endpoints.ACTIVE:
        connection.execute(LATER, {**key, "at": now + timedelta(seconds=wait), "uncounted": 0})
    else:
        held = "waiting" if endpoint.state == endpoints.PAUSED else "cancelled"
        connection.execute(HELD, {**key, "state": held})
    _pause_the_dead(connection, key, endpoint, outcome, now)
    return "given_up" if wait is None else "failed"


def _pause_the_dead(
    connection: Connection, key: dict[str, Any], endpoint: Row[Any], outcome: Outcome, now: datetime
) -> None:
    """What says that it is gone, or has had no success for three days, is not called any more."""
    failing = (now - (endpoint.failing_since or now)).total_seconds() >= FAILING_SECONDS
    if endpoint.state == endpoints.ACTIVE and (failing or outcome.status == STATUS_GONE):
        why = endpoints.GONE if outcome.status == STATUS_GONE else endpoints.FAILING
        endpoints.pause(connection, key["shop_id"], key["endpoint_id"], why=why, by="delivery", now=now)


def wait_seconds(attempts: int, outcome: Outcome, dice: Callable[[], float] = random.random) -> float | None:
    """How long after this failed try the next one is due; None: it was the last. Never sooner than the other side asks."""
    if attempts > len(WAITS):
        return None
    wait = WAITS[attempts - 1] * (1 + JITTER * dice())
    return max(wait, min(outcome.retry_after_seconds or 0.0, RETRY_AFTER_SECONDS_MAX))


def _rest_seconds(failures: int, wait: float | None, outcome: Outcome) -> float | None:
    """How long the whole endpoint is left alone: as it asks, or because it fails again and again. None: not at all."""
    if outcome.retry_after_seconds is not None and outcome.status in BUSY:
        return min(outcome.retry_after_seconds, RETRY_AFTER_SECONDS_MAX)
    return min(wait or REST_SECONDS_MAX, REST_SECONDS_MAX) if failures >= REST_AFTER_FAILURES else None


# -- for people --------------------------------------------------------------------------------------


def listing(
    connection: Connection,
    shop_id: int,
    endpoint_id: int,
    *,
    state: str | None = None,
    cursor: int | None = None,
    limit: int = 50,
) -> Page:
    """An endpoint's deliveries, newest first, each with its tries. Raises NotFound."""
    endpoints.get(connection, shop_id, endpoint_id)
    key = {
        "shop_id": shop_id,
        "endpoint_id": endpoint_id,
        "state": state,
        "before": cursor,
        "limit": limit + 1,
    }
    rows = sql.fetch(connection, LISTING, **key)
    more = len(rows) > limit
    return Page(rows=[shown(row) for row in rows[:limit]], cursor=rows[limit - 1].id if more else None)


def get(connection: Connection, shop_id: int, id: int) -> dict[str, Any]:
    """One delivery. Raises NotFound."""
    row = connection.execute(ONE, {"shop_id": shop_id, "id": id}).one_or_none()
    if row is None:
        raise NotFound("delivery", id)
    return shown(row)


def resend(connection: Connection, shop_id: int, id: int) -> dict[str, Any]:
    """Due at once, under the same `webhook-id`, with all its tries before it. Raises NotFound, Refused.

    Safe to run twice: whoever receives it knows it again. One that is due or being sent stays as it is.
    """
    key, now = {"shop_id": shop_id, "id": id}, datetime.now(UTC)
    endpoint_id = connection.execute(ENDPOINT_OF, key).scalar_one_or_none()
    if endpoint_id is None:
        raise NotFound("delivery", id)
    try:
        endpoint = endpoints.locked(connection, shop_id, endpoint_id)
    except NotFound:
        raise Refused("endpoint_deleted", "the endpoint is deleted, so nothing can be sent to it") from None
    if endpoint.state == endpoints.PAUSED:
        raise Refused("endpoint_paused", "the endpoint is paused; enable it first, what waits is sent then")
    connection.execute(AGAIN, {**key, "now": now})
    return get(connection, shop_id, id)


def shown(row: Row[Any]) -> dict[str, Any]:
    """A delivery for people and callers."""
    time_text = endpoints.time_text
    tries = [{**each, "at": time_text(datetime.fromisoformat(each["at"]))} for each in row.tries]
    return {
        "id": str(row.id),
        "endpoint_id": str(row.endpoint_id),
        "message_id": message_name(row.key),
        "event": row.event,
        "subject": row.subject,
        "sequence": row.sequence,
        "at": time_text(row.at),
        "state": row.state,
        "sends": row.sends,
        "tries": tries,
        "next_try_at": time_text(row.not_before) if row.state == "pending" else None,
        "created_at": time_text(row.created_at),
        "finished_at": time_text(row.finished_at),
    }
