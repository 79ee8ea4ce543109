"""Shopify's orders held against the record, and what was missed made good (R28, R29, S9).

read a page of changed orders -> read whole those with news -> compare -> keep what is new in the inbox, work it off ->
compare again. What a comparison finds becomes facts like any webhook's; nothing is booked here.

A run is a row of `reconciliations`. It goes on where it stopped: its cursor is the time of the last change that was
dealt with and the orders of that second that were (a bulk edit changes many at once), so a run that is interrupted at
any point reads at most a few orders twice, and gets on.
"""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol

import structlog
from sqlalchemy import Connection, Engine, text

from models.errors import Later, Never, ShopifyThrottled, ShopifyUnreachable, Unparseable
from models.rules.facts import Fact, Snapshot
from models.rules.order import OrderFacts
from tasks.gateway.client import Gateway
from tasks.steps.drain import drain
from tasks.steps.findings import DIFFERENT, MISSING, Finding, compare, is_before_us, is_news
from tasks.steps.load import ShopRow
from tasks.steps.parse import READ_TOPIC, parse
from tasks.steps.reads import Body, fetch, keep, known_orders

log = structlog.get_logger()

Progress = Callable[[int, int | None], None]
Node = Mapping[str, Any]

PAGE = 50  # orders of one page: what tells whether there is news costs little
CHUNK = 10  # orders read whole, kept and worked off together; the run can stop after each
OVERLAP = timedelta(minutes=5)  # clocks differ, and Shopify's search lags behind its orders
DEEP = timedelta(days=3)  # how far the nightly run looks back, whatever the watermark says
IMPORT = timedelta(days=60)  # what an app without read_all_orders may read
WORK_OFF_SECONDS = 30.0  # for what was kept to be booked, before it is called not repaired
PATIENCE = (1, 2, 4, 8, 15, 30)  # seconds between tries when Shopify does not answer
LOCK = 0x52434E  # the advisory lock's first half; the second is the shop
RESUMED = ("recent", "nightly", "import")  # an interrupted `asked` run is asked for again by whoever asked

SEEN = text(
    "select s.installed_at, i.orders_read_until from shops s left join installations i on i.shop_id = s.id"
    " where s.id = :shop_id"
)
TRY_LOCK = text("select pg_try_advisory_xact_lock(:space, :shop_id)")
HELD_LONG = text(
    "set local idle_in_transaction_session_timeout = 0"
)  # also ends the snapshot that TRY_LOCK took
INTERRUPTED = text(
    "update reconciliations set state = 'failed', error = 'interrupted', finished_at = now()"
    " where shop_id = :shop_id and state = 'running' and not kind = any(:resumed)"
)
STANDING = text(
    "select id, since, until, cursor, bulk_operation, orders_read from reconciliations"
    " where shop_id = :shop_id and kind = :kind and state = 'running' order by id limit 1"
)
BEGIN = text(
    "insert into reconciliations (shop_id, kind, since, until) values (:shop_id, :kind, :since, :until) returning id"
)
ADVANCE = text(
    "update reconciliations set orders_read = orders_read + :read, missing = missing + :missing,"
    " different = different + :different, repaired = repaired + :repaired, cursor = :cursor, error = null"
    " where shop_id = :shop_id and id = :id"
)
STALLED = text("update reconciliations set error = :error where shop_id = :shop_id and id = :id")
END = text(
    "update reconciliations set state = :state, error = :error, finished_at = now() where shop_id = :shop_id and id = :id"
)
GIVEN_BACK = text(
    "update reconciliations set auto_refunded = auto_refunded + :given where shop_id = :shop_id and id = :id"
)
WATERMARK = text(
    "update installations i set orders_read_until = greatest(i.orders_read_until, :until),"
    " deep_read_at = case when :kind = 'nightly' then now() else i.deep_read_at end from shops s"
    " where i.shop_id = :shop_id and s.id = i.shop_id and :since <= coalesce(i.orders_read_until, s.installed_at)"
)
IDS = text("select id from inbox where shop_domain = :domain and webhook_id = any(:webhook_ids)")
WAITING = text("select count(*) from inbox where id = any(:ids) and state = 'pending'")


class Running(Later):
    """Another comparison of the same shop is at work."""

    code = "reconcile_running"


class BulkGateway(Gateway, Protocol):
    """The gateway, with the files of bulk operations."""

    def download(self, url: str) -> Iterator[bytes]: ...


@dataclass(slots=True)
class Run:
    """One comparison, and what it has found so far in this process. The row holds the sums of all its slices.

    before_us: orders that were left alone, see `is_before_us`.     history: they are taken in all the same
    """

    engine: Engine
    gateway: Gateway
    shop: ShopRow
    id: int
    kind: str
    since: datetime
    until: datetime
    installed_at: datetime
    cursor: str | None = None
    bulk_operation: str | None = None
    history: bool = False
    stop_at: float | None = None
    finished: bool = False
    orders_read: int = 0
    before_us: int = 0
    findings: list[Finding] = field(default_factory=list)
    booked: int = 0  # of the findings: those that the row counts already
    progress: Progress = lambda done, total: None
    total: int | None = None

    def of(self, kind: str) -> list[Finding]:
        return [each for each in self.findings if each.kind == kind]

    @property
    def repaired(self) -> list[Finding]:
        return [each for each in self.findings if each.repaired]

    @property
    def time_is_up(self) -> bool:
        return self.stop_at is not None and time.monotonic() >= self.stop_at


def reconcile(
    engine: Engine,
    gateway: Gateway,
    shop: ShopRow,
    *,
    kind: str = "asked",
    since: datetime | None = None,
    until: datetime | None = None,
    history: bool = False,
    budget_seconds: float | None = None,
    progress: Progress = lambda done, total: None,
) -> Run:
    """Compare what changed at Shopify since `since`, and repair. `finished` is false when the time was up: call again.

    kind: recent (since the watermark), nightly and asked (deeper). With `budget_seconds` a run stops after so long and
    waits for nothing beyond it; without, it is patient.
    Safe to run twice: what is on record is not news. Twice at once it raises Running.
    Raises what the gateway raises: a Never ends the run as failed, a Later leaves it to be resumed.
    """
    assert kind in ("recent", "nightly", "asked"), kind
    with begun(engine, gateway, shop, kind, since, until, budget_seconds) as run:
        run.history, run.progress = history, progress
        for nodes in _pages(run):
            for chunk, cursor in _chunks(run, nodes):
                if run.orders_read and run.time_is_up:
                    return run
                deal_with(run, _whole(run, chunk), seen=len(chunk), cursor=cursor)
        run.finished = True
    return run


@contextmanager
def begun(
    engine: Engine,
    gateway: Gateway,
    shop: ShopRow,
    kind: str,
    since: datetime | None,
    until: datetime | None,
    budget_seconds: float | None,
) -> Iterator[Run]:
    """A run that is the shop's only one as long as the block lasts; its end is booked by how the block ends."""
    stop_at = None if budget_seconds is None else time.monotonic() + budget_seconds
    with alone(engine, shop):
        with engine.begin() as connection:
            run = _opened(connection, engine, Patient(gateway, stop_at), shop, kind, since, until)
        run.stop_at = stop_at
        try:
            yield run
        except Later as error:
            _note(run, STALLED, error=error.code)
            raise
        except Never as error:
            _note(run, END, state="failed", error=str(error))
            raise
        if run.finished:
            _end(run)


@contextmanager
def alone(engine: Engine, shop: ShopRow) -> Iterator[None]:
    """One run a shop at a time. The lock goes with its transaction, and that with its connection. Raises Running.

    The transaction reads nothing and writes nothing while it is open, so neither vacuum nor an index that is built
    waits for it; a lock of the session would not hold behind a pooler.
    """
    with engine.begin() as connection:
        if not connection.execute(TRY_LOCK, {"space": LOCK, "shop_id": shop.id}).scalar():
            raise Running(f"the orders of {shop.domain} are being compared already")
        connection.execute(HELD_LONG)
        yield


def _opened(
    connection: Connection,
    engine: Engine,
    gateway: Gateway,
    shop: ShopRow,
    kind: str,
    since: datetime | None,
    until: datetime | None,
) -> Run:
    """The run that was interrupted, or a new one."""
    key = {"shop_id": shop.id}
    seen = connection.execute(SEEN, key).one()
    connection.execute(INTERRUPTED, {**key, "resumed": list(RESUMED)})
    standing = connection.execute(STANDING, {**key, "kind": kind}).one_or_none()
    if standing is not None:
        return Run(
            engine,
            gateway,
            shop,
            standing.id,
            kind,
            standing.since,
            standing.until,
            seen.installed_at,
            cursor=standing.cursor,
            bulk_operation=standing.bulk_operation,
        )
    until = until or datetime.now(UTC)
    since = since or beginning(kind, seen.orders_read_until, seen.installed_at, until)
    id = connection.execute(BEGIN, {**key, "kind": kind, "since": since, "until": until}).scalar_one()
    return Run(engine, gateway, shop, id, kind, since, until, seen.installed_at)


def beginning(kind: str, read_until: datetime | None, installed_at: datetime, until: datetime) -> datetime:
    """From when on changes are read: everything since the last run that ended, so an outage is covered whole."""
    if kind == "import":
        return installed_at - IMPORT
    start = (read_until or installed_at) - OVERLAP
    return start if kind == "recent" else min(start, until - DEEP)


def _end(run: Run) -> None:
    with run.engine.begin() as connection:
        key = {"shop_id": run.shop.id}
        connection.execute(END, {**key, "id": run.id, "state": "done", "error": None})
        if run.kind != "import":
            moved = {"since": run.since, "until": run.until, "kind": run.kind}
            connection.execute(WATERMARK, {**key, **moved})


def _note(run: Run, statement: Any, **values: object) -> None:
    with run.engine.begin() as connection:
        connection.execute(statement, {"shop_id": run.shop.id, "id": run.id, **values})


def note_given_back(run: Run, given: int) -> None:
    """How many redemptions without an order were given back after the run (R30)."""
    _note(run, GIVEN_BACK, given=given)


# -- reading -----------------------------------------------------------------------------------------


def _pages(run: Run) -> Iterator[Sequence[Node]]:
    """Orders by their last change, from the cursor on."""
    asked: dict[str, Any] = {
        "first": PAGE,
        "after": None,
        "query": f"updated_at:>='{_position(run.cursor)[0] or stamp(run.since)}'",
    }
    while True:
        page = run.gateway.run(run.shop, "orders", asked, background=True)["orders"]
        yield page["nodes"]
        if not page["pageInfo"]["hasNextPage"]:
            return
        asked["after"] = page["pageInfo"]["endCursor"]


def _chunks(run: Run, nodes: Sequence[Node]) -> Iterator[tuple[Sequence[Node], str]]:
    """What is left to do of a page, in parts, each with the cursor that stands once it is dealt with."""
    at, done = _position(run.cursor)
    left = [node for node in nodes if _changed(node) != at or node["legacyResourceId"] not in done]
    for start in range(0, len(left), CHUNK):
        chunk = left[start : start + CHUNK]
        yield chunk, _cursor_after(run.cursor, chunk)


def _position(cursor: str | None) -> tuple[str, Sequence[str]]:
    """A cursor's second, and the orders changed in it that were dealt with."""
    at, _, done = (cursor or "").partition(" ")
    return at, done.split(",")


def _cursor_after(cursor: str | None, chunk: Sequence[Node]) -> str:
    at = _changed(chunk[-1])
    before, done = _position(cursor)
    ids = [node["legacyResourceId"] for node in chunk if _changed(node) == at]
    return f"{at} {','.join([*(done if before == at else ()), *ids])}"


def _changed(node: Node) -> str:
    return stamp(datetime.fromisoformat(node["updatedAt"]))


def stamp(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m-%dT%H:%M:%SZ")


def _whole(run: Run, nodes: Sequence[Node]) -> list[Body]:
    """Those of the page with news, read whole; when somebody asked, all of them."""
    known = {}
    if run.kind != "asked":
        with run.engine.connect() as connection:
            known = known_orders(connection, run.shop, [int(node["legacyResourceId"]) for node in nodes])
    bodies = []
    for node in nodes:
        id = int(node["legacyResourceId"])
        if run.kind == "asked" or is_news(node, known.get(id)):
            bodies += read_whole(run, id, node["name"])
    return bodies


def read_whole(run: Run, order_id: int, name: str) -> list[Body]:
    """One order, or none: deleted since it was listed, or of a shape that we do not understand (then it is found)."""
    try:
        read = fetch(run.gateway, run.shop, order_id)
    except Unparseable as error:
        _found(run, Finding(order_id=order_id, name=name, kind=DIFFERENT, what=f"cannot be read: {error}"))
        return []
    return [] if read is None else [read]


@dataclass(slots=True)
class Patient:
    """A gateway that waits when Shopify asks to, or is away, as long as there is time; then it raises as the other."""

    gateway: Gateway
    stop_at: float | None
    sleep: Callable[[float], None] = time.sleep

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        waits = iter(PATIENCE)
        while True:
            try:
                return self.gateway.run(shop, document_name, variables, background=background)
            except ShopifyThrottled as error:
                wait = error.wait_seconds
                if self._too_late(wait):
                    raise
            except ShopifyUnreachable:
                wait = next(waits, float("inf"))
                if wait == float("inf") or self._too_late(wait):
                    raise
            self.sleep(wait)

    def _too_late(self, wait: float) -> bool:
        return self.stop_at is not None and time.monotonic() + wait > self.stop_at


# -- comparing and repairing -------------------------------------------------------------------------


def deal_with(run: Run, bodies: Sequence[Body], *, seen: int, cursor: str) -> None:
    """Compare these readings, repair what is not as they say, book the sums and the cursor.

    Safe to stop anywhere: what was kept is in the inbox, and the cursor moves only with the sums.
    """
    told = {body.order_id: _facts(run, body) for body in bodies}
    found = _compared(run, bodies, told)
    with run.engine.begin() as connection:
        keep(connection, run.shop, [body for body in bodies if body.order_id in found], datetime.now(UTC))
    if found:
        work_off(run.engine, run.shop, _ids_of(run, bodies))
    still = _known(run, found)
    for id, finding in found.items():
        facts = told[id]
        same = facts is not None and compare(still.get(id), facts, run.until) is None
        _found(run, replace(finding, repaired=same))
    run.cursor, run.orders_read = cursor, run.orders_read + seen
    fresh = run.findings[run.booked :]
    run.booked = len(run.findings)
    sums = {"read": seen, "cursor": cursor, "repaired": sum(each.repaired for each in fresh)}
    sums |= {kind: sum(each.kind == kind for each in fresh) for kind in (MISSING, DIFFERENT)}
    _note(run, ADVANCE, **sums)
    run.progress(run.orders_read, run.total)


def _facts(run: Run, body: Body) -> tuple[Fact, ...] | None:
    """None for a reading that the parser refuses: it is kept all the same, and parked with the reason."""
    try:
        return parse(READ_TOPIC, body.body, shop_currency=run.shop.currency or "")
    except Unparseable:
        return None


def _compared(
    run: Run, bodies: Sequence[Body], told: Mapping[int, Sequence[Fact] | None]
) -> dict[int, Finding]:
    found: dict[int, Finding] = {}
    known = _known(run, told)
    for body in bodies:
        id, facts = body.order_id, told[body.order_id]
        if facts is None:
            found[id] = Finding(order_id=id, name=f"#{id}", kind=DIFFERENT, what="cannot be read")
            continue
        if not run.history and is_before_us(known.get(id), facts, run.installed_at):
            run.before_us += 1
            continue
        difference = compare(known.get(id), facts, run.until)
        if difference is not None:
            kind, what = difference
            found[id] = Finding(order_id=id, name=_name(facts), kind=kind, what=what)
    return found


def _known(run: Run, ids: Mapping[int, object]) -> dict[int, OrderFacts]:
    if not ids:
        return {}
    with run.engine.connect() as connection:
        return known_orders(connection, run.shop, ids)


def _name(facts: Sequence[Fact]) -> str:
    return next(fact.name for fact in facts if isinstance(fact, Snapshot))


def _found(run: Run, finding: Finding) -> None:
    run.findings.append(finding)
    log.warning(
        "order_differed",
        shop=run.shop.domain,
        order_id=finding.order_id,
        found=finding.kind,
        what=finding.what,
        repaired=finding.repaired,
    )


def _ids_of(run: Run, bodies: Sequence[Body]) -> list[int]:
    key = {"domain": run.shop.domain, "webhook_ids": [body.webhook_id for body in bodies]}
    with run.engine.connect() as connection:
        return list(connection.execute(IDS, key).scalars())


def work_off(engine: Engine, shop: ShopRow, ids: Sequence[int], *, seconds: float = WORK_OFF_SECONDS) -> None:
    """Drain these rows of the inbox until they are booked or parked, or the time is up. Other workers may be at it too."""
    until = time.monotonic() + seconds
    while time.monotonic() < until:
        drained = drain(engine, shop.domain, these=ids)
        with engine.connect() as connection:
            if not connection.execute(WAITING, {"ids": list(ids)}).scalar_one():
                return
        if not drained.done + drained.failed:
            time.sleep(0.05)  # somebody else holds them
