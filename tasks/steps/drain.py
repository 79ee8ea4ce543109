"""Working a shop's inbox: claim, parse, settle, mark; all in one transaction, and no event can hold back another.

A batch is settled as one. When that fails, it is halved until the event that fails stands alone: it is set aside
with its error, the others are booked.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

import structlog
from sqlalchemy import Connection, Engine, Row, text
from sqlalchemy.exc import DBAPIError

from models.errors import (
    AttemptsExhausted,
    BodyErased,
    MissingWebhookId,
    Never,
    OrderOfAnotherShop,
    UnknownShop,
    UnknownTopic,
    Unparseable,
    code_of,
)
from models.rules.facts import Fact
from models.rules.money import scaled_text
from tasks.steps import identifiers, sql
from tasks.steps.acts import ACTS, EVEN_WHEN_REMOVED, Act, of_unknown_shop
from tasks.steps.event import Event
from tasks.steps.foreign import of_another_shop
from tasks.steps.identifiers import Hasher, Hashers, Named
from tasks.steps.load import ShopRow, World, open_world
from tasks.steps.parse import FACT_TOPICS, READ_TOPIC, order_ids, parse_object, refund_ids, unwrapped
from tasks.steps.parse.body import read_object
from tasks.steps.settle import Settled, Told, settle
from tasks.steps.shops import any_state, find

log = structlog.get_logger()

BATCH = 50  # enough to share the reads and writes, few enough to do again when one fails
ATTEMPTS_MAX = 8
BACKOFF_SECONDS_MAX = 600
NEVER_OURS = 0  # no shop has this id
SUSPECT_ATTEMPTS = 2  # tries that ended without a word: from then on an event is tried alone

# Topics that are kept on record and need nothing done to a wallet.
KEPT_TOPICS = frozenset(["customers/update"])
KEPT_PREFIXES = ("returns/",)

WAITING = "shop_domain = :domain and state = 'pending' and not_before <= :now"
TAKING = (
    "with ready as (select id from inbox where {waiting} and attempts < :suspect"
    "  order by id limit :limit for update skip locked),"
    " alone as (select id from inbox where {waiting} and attempts >= :suspect and not exists (select 1 from ready)"
    "  order by id limit 1 for update skip locked)"
    " update inbox i set attempts = attempts + 1 from (table ready union all table alone) taken"
    " where i.id = taken.id returning i.id"
)
TAKE = text(TAKING.format(waiting=WAITING))
TAKE_OF_THESE = text(TAKING.format(waiting=f"id = any(:these) and {WAITING}"))
CLAIM = text(
    "select id, topic, webhook_id, body, received_at, triggered_at, attempts from inbox"
    " where id = any(:ids) and state = 'pending' and not topic = any(:acting) order by id for update skip locked"
)
CLAIM_ACT = text(
    "select id, topic, webhook_id, body, received_at, triggered_at, attempts from inbox"
    " where id = :id and state = 'pending' and topic = any(:acting) for update skip locked"
)
UNTRIED = text("update inbox set attempts = attempts - 1 where id = any(:ids) and state = 'pending'")
LEFT = text(
    "select count(*) from (select 1 from inbox where shop_domain = :domain and state = 'pending'"
    " and not_before <= :now limit 100) waiting"
)


@dataclass(slots=True)
class Drained:
    """What one batch came to. `left`: how many wait still (at most 100 are counted)."""

    done: int = 0
    failed: int = 0
    later: int = 0
    left: int = 0
    outcomes: list[str] = field(default_factory=list)
    lines: list[dict[str, object]] = field(default_factory=list)  # for the log: one an event, ids only


@dataclass(slots=True)
class Work:
    """One claimed event, what it tells, and what became of it."""

    row: Row[Any]
    facts: tuple[Fact, ...] = ()
    named: Sequence[Named] = ()
    outcome: str | None = None
    error: Exception | None = None


def drain(
    engine: Engine,
    domain: str,
    *,
    limit: int = BATCH,
    max_attempts: int = ATTEMPTS_MAX,
    now: datetime | None = None,
    ids_are_global: bool = False,
    these: Sequence[int] | None = None,
    hashers: Hashers | None = None,
) -> Drained:
    """Work up to `limit` pending events of a shop, in order of arrival; with `these`, of these events.

    hashers: with them it is remembered by which address and number each customer is known (R35), as hashes.
    ids_are_global: order ids are Shopify's, so one that another shop has is not this shop's as well (tests have small
    ones, a pretend store its own).

    Safe to run twice, and twice at once: rows are claimed with SKIP LOCKED and leave `pending` in the transaction
    that books them; what stands already is not posted again. Errors of the database itself are raised: nothing
    was written, and every event is still pending.
    """
    now = now or datetime.now(UTC)
    hasher = None if hashers is None else hashers.of_any(domain)
    ids = _take(engine, domain, limit, now, these)
    try:
        works = _work_facts(engine, domain, ids, max_attempts, now, ids_are_global, hasher)
        acts = sorted({*ids} - {work.row.id for work in works})
        works += _act_all(engine, domain, acts, max_attempts, now)
        with engine.begin() as connection:
            left = connection.execute(LEFT, {"domain": domain, "now": now}).scalar_one()
    except DBAPIError:
        _give_back(engine, ids)
        raise
    return _summed(works, max_attempts, left)


def _work_facts(
    engine: Engine,
    domain: str,
    ids: Sequence[int],
    max_attempts: int,
    now: datetime,
    ids_are_global: bool,
    hasher: Hasher | None,
) -> list[Work]:
    """Claim, read, settle and mark, in one transaction: all of these events but those that ask for an act."""
    with engine.begin() as connection:
        claimed = connection.execute(CLAIM, {"ids": list(ids), "acting": sorted(ACTS)}).all()
        works = [Work(row) for row in claimed]
        shop = find(connection, domain)
        for work in works:
            _read(work, shop, domain, max_attempts, hasher)
        if shop is not None:
            if ids_are_global:
                _refuse_foreign(connection, shop, works)
            _settle(connection, shop, [work for work in works if work.facts], now)
            told = [each for work in works if work.error is None for each in work.named]
            identifiers.remember(connection, shop.id, told)
        _mark(connection, works, max_attempts, now)
    return works


def _take(engine: Engine, domain: str, limit: int, now: datetime, these: Sequence[int] | None) -> list[int]:
    """Count the try before it is made, so that an event whose work kills the process is known, and in the end parked."""
    key = {"domain": domain, "now": now, "limit": limit, "suspect": SUSPECT_ATTEMPTS}
    with engine.begin() as connection:
        if these is None:
            return sorted(connection.execute(TAKE, key).scalars())
        return sorted(connection.execute(TAKE_OF_THESE, {**key, "these": list(these)}).scalars())


def _give_back(engine: Engine, ids: Sequence[int]) -> None:
    """The database's own trouble is no event's fault."""
    try:
        with engine.begin() as connection:
            connection.execute(UNTRIED, {"ids": list(ids)})
    except DBAPIError:
        log.warning("attempts_not_given_back", events=len(ids))


def _read(work: Work, shop: ShopRow | None, domain: str, max_attempts: int, hasher: Hasher | None) -> None:
    """Parse an event, or say why it cannot be: never an exception."""
    row = work.row
    _refuse(work, shop, domain, max_attempts)
    if work.error is not None or shop is None:
        return
    try:
        if row.topic in KEPT_TOPICS or row.topic.startswith(KEPT_PREFIXES):
            work.outcome = f"{row.topic}: kept"
            work.named = _named_in_kept(row, hasher)
            return
        if row.topic not in FACT_TOPICS:
            raise UnknownTopic(row.topic)
        node = read_object(bytes(row.body))
        work.facts = parse_object(row.topic, node, shop_currency=shop.currency or "")
        if hasher is not None:
            work.named = identifiers.named_in(hasher, row.topic, unwrapped(row.topic, node), row.received_at)
    except Never as error:
        work.error = error
    except (ValueError, RecursionError, MemoryError) as error:
        work.error = Unparseable("body", type(error).__name__)


def _named_in_kept(row: Row[Any], hasher: Hasher | None) -> Sequence[Named]:
    """What is kept as it came is not refused for what is in it."""
    if hasher is None or row.topic != identifiers.CUSTOMER_TOLD:
        return ()
    try:
        return identifiers.named_in(hasher, row.topic, read_object(bytes(row.body)), row.received_at)
    except Unparseable:
        return ()


def _refuse_foreign(connection: Connection, shop: ShopRow, works: Sequence[Work]) -> None:
    """Park what tells of another shop's orders. What we read at Shopify ourselves is this shop's: its token says so."""
    told = [work for work in works if work.row.topic != READ_TOPIC]
    foreign = of_another_shop(connection, shop, [id for work in told for id in order_ids(work.facts)])
    for work in told if foreign else []:
        found = sorted(foreign.intersection(order_ids(work.facts)))
        if found:
            work.error, work.facts = OrderOfAnotherShop(found[0]), ()


def _refuse(work: Work, shop: ShopRow | None, domain: str, max_attempts: int) -> None:
    """What no topic gets past: tried too often, a shop that is not ours, a delivery without an id."""
    if work.row.attempts > max_attempts:
        work.error = AttemptsExhausted(work.row.attempts - 1)
    elif shop is None:
        work.error = UnknownShop(domain)
    elif work.row.webhook_id is None:
        work.error = MissingWebhookId()
    elif work.row.body is None:
        work.error = BodyErased()


def _act_all(engine: Engine, domain: str, ids: Sequence[int], max_attempts: int, now: datetime) -> list[Work]:
    """One after the other. What the database has trouble with keeps none of the others waiting; it is raised at the end."""
    works: list[Work] = []
    trouble: DBAPIError | None = None
    for id in ids:
        try:
            works += _act(engine, domain, id, max_attempts, now)
        except DBAPIError as error:
            log.warning("event_not_done", event_id=id, error=type(error).__name__)
            trouble = trouble or error
    if trouble is not None:
        raise trouble
    return works


def _act(engine: Engine, domain: str, id: int, max_attempts: int, now: datetime) -> list[Work]:
    """Do what one event asks for, or say why not: in a transaction of its own, for it locks what it likes."""
    with engine.begin() as connection:
        row = connection.execute(CLAIM_ACT, {"id": id, "acting": sorted(ACTS)}).one_or_none()
        if row is None:  # a fact, or somebody else's
            return []
        work = Work(row)
        removed_too = row.topic in EVEN_WHEN_REMOVED
        shop, act = (
            any_state(connection, domain) if removed_too else find(connection, domain),
            ACTS[row.topic],
        )
        if shop is None and removed_too:
            shop, act = ShopRow(NEVER_OURS, domain, None), of_unknown_shop
        _refuse(work, shop, domain, max_attempts)
        if work.error is None and shop is not None:
            _do(connection, shop, work, act)
        _mark(connection, [work], max_attempts, now)
    return [work]


def _do(connection: Connection, shop: ShopRow, work: Work, act: Act) -> None:
    row = work.row
    event = Event(
        id=row.id, topic=row.topic, received_at=row.received_at, triggered_at=_time(row.triggered_at)
    )
    try:
        with connection.begin_nested():
            work.outcome = act(connection, shop, read_object(bytes(row.body)), event)
    except Exception as error:
        if sql.is_of_the_database(error):
            raise
        log.warning("event_failed", event_id=row.id, error=type(error).__name__, exc_info=True)
        work.error = error


def _time(said: str | None) -> datetime | None:
    """What the header said, as a time with its zone; None for what is none."""
    try:
        found = datetime.fromisoformat(said or "")
    except ValueError:
        return None
    return found if found.tzinfo else None


def _settle(connection: Connection, shop: ShopRow, works: Sequence[Work], now: datetime) -> None:
    """Settle all, or find the one that cannot be and set it aside."""
    if not works:
        return
    try:
        with connection.begin_nested():
            world = open_world(connection, shop, now)
            settled = settle(world, [_told(work, fact) for work in works for fact in work.facts])
    except Exception as error:
        if sql.is_of_the_database(error):
            raise
        if len(works) == 1:
            log.warning("event_failed", event_id=works[0].row.id, error=type(error).__name__, exc_info=True)
            works[0].error = error
            return
        middle = len(works) // 2
        _settle(connection, shop, works[:middle], now)
        _settle(connection, shop, works[middle:], now)
        return
    for work in works:
        work.outcome = _in_words(work, world, settled)


def _told(work: Work, fact: Fact) -> Told:
    return Told(fact=fact, received_at=work.row.received_at, cause=f"inbox:{work.row.id}")


def _mark(connection: Connection, works: Sequence[Work], max_attempts: int, now: datetime) -> None:
    done, failed = [], []
    for work in works:
        ids = order_ids(work.facts)
        base = {"id": work.row.id, "order_id": ids[0] if ids else None}
        if work.error is None:
            done.append({**base, "state": "done", "outcome": work.outcome, "processed_at": now})
        else:
            failed.append({**base, **_failure(work, max_attempts, now)})
    sql.update(connection, "inbox", done, key=("id",))
    sql.update(connection, "inbox", failed, key=("id",))


def _failure(work: Work, max_attempts: int, now: datetime) -> dict[str, Any]:
    """`Never` is parked at once; anything else after so many tries, each later than the last."""
    attempts = work.row.attempts
    wait = min(BACKOFF_SECONDS_MAX, 2**attempts)
    return {
        "state": "failed" if _is_final(work, max_attempts) else "pending",
        "error_code": code_of(work.error),
        "error": _safe_message(work.error),
        "not_before": datetime.fromtimestamp(now.timestamp() + wait, UTC),
    }


def _is_final(work: Work, max_attempts: int) -> bool:
    return isinstance(work.error, Never) or work.row.attempts >= max_attempts


def _safe_message(error: Exception | None) -> str:
    """Our own errors speak plainly; a foreign one gives only its name, for its text may quote a payload."""
    return str(error) if isinstance(error, Never) else type(error).__name__


def _in_words(work: Work, world: World, settled: Settled) -> str:
    """What an operator reads in Flower, in the log and in the inbox: ids and how the order stands; nothing personal."""
    program = world.programs[-1]
    parts = []
    for id in order_ids(work.facts):
        made = settled.plans.get(id)
        if made is None:
            parts.append(f"order {id}: nothing new")
            continue
        earned = scaled_text(sum(award.amount for award in made.awards), program.scale)
        taken = scaled_text(sum(claim.amount for claim in made.claims), program.scale)
        back = scaled_text(sum(each.amount for each in made.returns), program.scale)
        status = made.status.replace("_", " ")
        parts.append(
            f"order {id} {status}: {earned} {program.kind} earned, {taken} reversed, {back} returned"
        )
    refunds = "".join(f" refund {id}" for id in refund_ids(work.facts))
    return f"{work.row.topic}{refunds}: {'; '.join(parts) or 'nothing to do'}"


def _summed(works: Sequence[Work], max_attempts: int, left: int) -> Drained:
    drained = Drained(left=left)
    for work in works:
        if work.error is None:
            drained.done += 1
            state, outcome = "done", work.outcome or ""
            told = outcome
        elif _is_final(work, max_attempts):
            drained.failed += 1
            state, outcome = "failed", f"failed: {getattr(work.error, 'code', 'internal')}"
            told = f"{work.row.topic} {outcome}"
        else:
            drained.later += 1
            state, outcome = "later", f"later: {type(work.error).__name__}"
            told = f"{work.row.topic} {outcome}"
        drained.outcomes.append(outcome)
        drained.lines.append(_line(work, state, told))
    return drained


def _line(work: Work, state: str, outcome: str) -> dict[str, object]:
    """An event as the log tells of it: what leads from the webhook to the ledger, whose `cause` is `inbox:<event_id>`."""
    return {
        "topic": work.row.topic,
        "webhook_id": work.row.webhook_id,
        "event_id": work.row.id,
        "order_id": next(iter(order_ids(work.facts)), None),
        "refund_id": next(iter(refund_ids(work.facts)), None),
        "state": state,
        "attempt": work.row.attempts,
        "outcome": outcome,
    }
