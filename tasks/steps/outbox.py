"""What is to be done outside: written in the transaction that decided it, done afterwards under a lease.

lease (commit) -> call Shopify -> book the result and mark the row (commit). A worker that dies in between leaves a
lease that ends, and the row is taken again: whatever is done outside is safe to do twice.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Mapping
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError

from models.errors import (
    AttemptsExhausted,
    InvalidSetting,
    NeedsMerchant,
    Never,
    NotFound,
    Refused,
    ShopifyThrottled,
    UnwindError,
    code_of,
)
from tasks.steps import sql
from tasks.steps.load import ShopRow

log = structlog.get_logger()

TASK_OF_KIND = {
    "create_code": "codes.create",
    "remove_code": "codes.remove",
    "reactivate_code": "codes.reactivate",
    "read_order": "orders.read",
    "check_subscriptions": "subscriptions.check",
}
LEASE_SECONDS = 120  # longer than a task may run, so that nobody works on a row that another holds
ATTEMPTS_MAX = 30  # with the waits below about ten hours: longer than an outage, shorter than patience
BACKOFF_SECONDS_MAX = 1800
RING_AGAIN_SECONDS = 30  # a task sent for a row and not begun by then was lost
MERCHANT_SECONDS = 3600  # between two tries of what waits for the merchant
OPERATOR_SECONDS = (
    600  # between two tries of what waits for a setting: a wrong secret must not cost anybody a code
)
FOR_SOMEBODY = (NeedsMerchant, InvalidSetting)  # waits as long as they take
BATCH = 100  # rows rung for at once

SHOP = text("select id from shops where domain = :domain")
PUT = text(
    "insert into outbox (shop_id, kind, key, payload, not_before)"
    " values (:shop_id, :kind, :key, cast(:payload as jsonb), now() + :after * interval '1 second')"
    " on conflict (shop_id, key) do nothing returning id"
)
TAKE = text(
    "update outbox o set state = 'leased', attempts = o.attempts + 1, leased_until = :until, rung_at = null"
    " from (select shop_id, id from outbox where shop_id = :shop_id and id = :id and not_before <= :now"
    "   and (state = 'pending' or state = 'leased' and leased_until <= :now) for update skip locked) due,"
    " shops s where o.shop_id = due.shop_id and o.id = due.id and s.id = o.shop_id"
    " returning o.id, o.kind, o.key, o.payload, o.attempts, s.id as shop_id, s.domain, s.currency"
)
END = text(
    "update outbox set state = :state, outcome = :outcome, error_code = :code, error = :error,"
    " leased_until = null, finished_at = :now"
    " where shop_id = :shop_id and id = :id and state = 'leased' and attempts = :attempts"
)
POSTPONE = text(
    "update outbox set state = 'pending', not_before = :at, leased_until = null, error_code = :code, error = :error,"
    " attempts = attempts - :uncounted"
    " where shop_id = :shop_id and id = :id and state = 'leased' and attempts = :attempts"
)
HURRY = text(
    "update outbox set not_before = now(), rung_at = null where shop_id = :shop_id and state = 'pending'"
)
CANCEL_ALL = text(
    "update outbox set state = 'cancelled', finished_at = now(), leased_until = null"
    " where shop_id = :shop_id and state in ('pending', 'leased')"
    " and kind not in ('create_code', 'reactivate_code')"  # customers' value hangs on these: they wait for the merchant
)
DUE = text(
    "with due as (select shop_id, id from outbox where state in ('pending', 'leased') and not_before <= :now"
    "   and coalesce(leased_until, :now) <= :now and coalesce(rung_at, '-infinity') <= :rung_before"
    "   order by not_before, id limit :batch for update skip locked)"
    " update outbox o set rung_at = :now from due, shops s"
    " where o.shop_id = due.shop_id and o.id = due.id and s.id = o.shop_id"
    " returning o.id, o.kind, o.payload, s.domain"
)
LISTING = text(
    "select o.id, s.domain, o.kind, o.key, o.state, o.attempts, o.not_before, o.error_code, o.error, o.created_at"
    " from outbox o join shops s on s.id = o.shop_id"
    " where o.state = any(:states) and (cast(:domain as text) is null or s.domain = :domain)"
    " and (cast(:before as bigint) is null or o.id < :before) order by o.id desc limit :limit"
)
AGAIN = text(
    "update outbox o set state = 'pending', attempts = 0, not_before = now(), rung_at = null, finished_at = null,"
    " error_code = null, error = null from shops s where s.id = o.shop_id and o.id = :id and o.state = 'failed'"
    " returning o.id, s.domain, o.kind, o.key, o.state, o.attempts, o.not_before, o.error_code, o.error, o.created_at"
)
STATE = text("select state from outbox where id = :id")
NAMED = ("order_id", "redemption_id")  # of a row's payload, in its task's arguments for the eye


@dataclass(frozen=True, slots=True, kw_only=True)
class Leased:
    """A row that is ours until its lease ends. `attempts`: which try this is; who lost the lease cannot end the row."""

    shop: ShopRow
    id: int
    kind: str
    key: str
    payload: Mapping[str, Any]
    attempts: int


GiveUp = Callable[[Connection, Leased, Never], None]


@dataclass(frozen=True, slots=True, kw_only=True)
class Ring:
    """A task to send: its name and its arguments, ids only."""

    task: str
    arguments: Mapping[str, Any]


def put(
    connection: Connection,
    shop_id: int,
    kind: str,
    key: str,
    payload: Mapping[str, Any],
    *,
    after_seconds: int = 0,
) -> bool:
    """Ask for something outside, once a key, not before so many seconds. True when it was not asked for before."""
    assert kind in TASK_OF_KIND, kind
    values = {"shop_id": shop_id, "kind": kind, "key": key, "payload": json.dumps(payload)}
    values |= {"after": after_seconds}
    return connection.execute(PUT, values).scalar_one_or_none() is not None


def work(
    engine: Engine,
    shop: str,
    id: int,
    do: Callable[[Leased], str],
    *,
    give_up: GiveUp | None = None,
    now: datetime | None = None,
) -> str:
    """Do one row, under its lease. Returns what came of it, in words.

    `do` calls outside and books its result itself, in a transaction in which it also calls `finish`. What is `Later`
    is tried again, later each time, or when Shopify said; what is `Never`, or was tried too often, is failed with its
    reason, and `give_up` books what follows from that in the same transaction.
    """
    now = now or datetime.now(UTC)
    leased = lease(engine, shop, id, now)
    if leased is None:
        return "nothing to do: done already, not due, or somebody is at it"
    if leased.attempts > ATTEMPTS_MAX + 1:  # each try before ended without a word: it kills whoever tries
        return fail(engine, leased, AttemptsExhausted(leased.attempts - 1), give_up)
    try:
        return do(leased)
    except Exception as error:
        return _after(engine, leased, error, give_up, now)


def _after(engine: Engine, leased: Leased, error: Exception, give_up: GiveUp | None, now: datetime) -> str:
    """What becomes of a row that was not done. Raises the error when it is the database's own trouble: the lease ends,
    and the row is taken again."""
    if sql.is_of_the_database(error):
        raise error
    waits = isinstance(error, FOR_SOMEBODY)
    if isinstance(error, Never) and not waits:
        return fail(engine, leased, error, give_up)
    if not isinstance(error, UnwindError):
        quoted = isinstance(error, DBAPIError)  # its text may hold what the statement was given
        name = type(error).__name__
        log.error("outbox_broken", kind=leased.kind, outbox_id=leased.id, error=name, exc_info=not quoted)
    if leased.attempts >= ATTEMPTS_MAX and not waits:
        return fail(engine, leased, AttemptsExhausted(leased.attempts), give_up)
    return postpone(engine, leased, error, now)


def lease(engine: Engine, shop: str, id: int, now: datetime) -> Leased | None:
    """Take a row that is due. None: done, cancelled, not due yet, or held by another.

    Safe twice at once: the row is taken under its lock, and counts the try before it is made.
    """
    with engine.begin() as connection:
        shop_id = connection.execute(SHOP, {"domain": shop}).scalar_one_or_none()
        if shop_id is None:
            return None
        key = {"shop_id": shop_id, "id": id, "now": now, "until": now + timedelta(seconds=LEASE_SECONDS)}
        row = connection.execute(TAKE, key).one_or_none()
    if row is None:
        return None
    found = ShopRow(row.shop_id, row.domain, row.currency)
    return Leased(
        shop=found, id=row.id, kind=row.kind, key=row.key, payload=row.payload, attempts=row.attempts
    )


def finish(connection: Connection, leased: Leased, *, outcome: str, state: str = "done") -> str:
    """It was done (or `cancelled`: nobody wants it any more). In the transaction that books what came of it."""
    _end(connection, leased, state=state, outcome=outcome)
    return outcome


def fail(engine: Engine, leased: Leased, error: Never, give_up: GiveUp | None = None) -> str:
    """It cannot be done, ever; the reason stands in the row, in the open."""
    log.warning("outbox_failed", kind=leased.kind, outbox_id=leased.id, code=error.code)
    with engine.begin() as connection:
        if give_up is not None:
            give_up(connection, leased, error)
        _end(connection, leased, state="failed", code=error.code, error=str(error))
    return f"failed: {error.code}"


def postpone(engine: Engine, leased: Leased, error: Exception, now: datetime) -> str:
    """Try again later: when Shopify said, else twice as late each time.

    What waits for the merchant, or for a setting, waits as long as it takes, and its tries are not counted: a new token
    makes it due at once (`hurry`).
    """
    code = code_of(error)
    wait = float(min(BACKOFF_SECONDS_MAX, 2**leased.attempts))
    if isinstance(error, ShopifyThrottled):
        wait = error.wait_seconds
    elif isinstance(error, NeedsMerchant):
        wait = MERCHANT_SECONDS
    elif isinstance(error, InvalidSetting):
        wait = OPERATOR_SECONDS
    said = str(error) if isinstance(error, UnwindError) else type(error).__name__
    key = {"shop_id": leased.shop.id, "id": leased.id, "attempts": leased.attempts}
    told = {"at": now + timedelta(seconds=wait), "code": code, "error": said}
    uncounted = int(isinstance(error, FOR_SOMEBODY))
    with engine.begin() as connection:
        connection.execute(POSTPONE, {**key, **told, "uncounted": uncounted})
    return f"later: {code}"


def _end(
    connection: Connection,
    leased: Leased,
    *,
    state: str,
    outcome: str | None = None,
    code: str | None = None,
    error: str | None = None,
) -> None:
    key = {"shop_id": leased.shop.id, "id": leased.id, "attempts": leased.attempts}
    said = {"state": state, "outcome": outcome, "code": code, "error": error}
    connection.execute(END, {**key, **said, "now": datetime.now(UTC)})


def hurry(connection: Connection, shop_id: int) -> None:
    """Whatever waits for this shop is due now: its merchant came by."""
    connection.execute(HURRY, {"shop_id": shop_id})


def cancel_all(connection: Connection, shop_id: int) -> int:
    """Nothing is to be done for this shop any more, but what its customers wait for. Returns how many rows that were."""
    return connection.execute(CANCEL_ALL, {"shop_id": shop_id}).rowcount


def due(engine: Engine, *, now: datetime | None = None) -> list[Ring]:
    """The tasks to send now, each row's at most once in a while.

    Safe twice at once: a row is marked under its lock, so of two sweeps one finds it. A row whose task was lost is
    due again after `RING_AGAIN_SECONDS`; a task sent twice finds the row leased or done.
    """
    now = now or datetime.now(UTC)
    limits = {"now": now, "rung_before": now - timedelta(seconds=RING_AGAIN_SECONDS), "batch": BATCH}
    with engine.begin() as connection:
        rows = connection.execute(DUE, limits).all()
    return [_ring(row.domain, row.id, row.kind, row.payload) for row in rows]


def _ring(domain: str, id: int, kind: str, payload: Mapping[str, Any]) -> Ring:
    named = {name: payload[name] for name in NAMED if name in payload}
    return Ring(task=TASK_OF_KIND[kind], arguments={"shop": domain, "outbox_id": id, **named})


# -- for operators -------------------------------------------------------------------------------------------------


def listing(
    connection: Connection,
    domain: str | None,
    *,
    waiting: bool = False,
    before: int | None = None,
    limit: int = 50,
) -> list[dict[str, Any]]:
    """What failed, newest first; with `waiting`, what is still to be done. Ids and reasons, nothing personal."""
    states = ["pending", "leased"] if waiting else ["failed"]
    key = {"states": states, "domain": domain, "before": before, "limit": limit}
    return [_shown(row) for row in connection.execute(LISTING, key)]


def retry(connection: Connection, id: int) -> dict[str, Any]:
    """Due at once, as if it had never been tried. Raises NotFound, Refused (not_failed).

    Safe: whoever takes it reads first what was done at Shopify.
    """
    row = connection.execute(AGAIN, {"id": id}).one_or_none()
    if row is not None:
        return _shown(row)
    state = connection.execute(STATE, {"id": id}).scalar_one_or_none()
    if state is None:
        raise NotFound("outbox row", id)
    raise Refused(
        "not_failed", f"the outbox row {id} is {state}, so there is nothing to try again", state=state
    )


def _shown(row: Row[Any]) -> dict[str, Any]:
    """A row for people and programs."""
    return {
        "id": str(row.id),
        "shop": row.domain,
        "kind": row.kind,
        "key": row.key,
        "state": row.state,
        "attempts": row.attempts,
        "due_at": row.not_before.isoformat(),
        "reason": {"code": row.error_code, "message": row.error} if row.error_code or row.error else None,
        "created_at": row.created_at.isoformat(),
    }
