"""The way into the inbox: deliveries are committed in groups, and nobody answers before their commit.

Request threads hand their delivery to one writer, which inserts up to `GROUP` of them in one statement and one
transaction. Alone or with 63 others, the same code; a quiet server waits for nobody.
"""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterable, Sequence
from dataclasses import dataclass
from queue import Empty, SimpleQueue

import structlog
from sqlalchemy import Connection, Engine, make_url, text
from sqlalchemy.exc import DBAPIError, OperationalError

from models.errors import DatabaseBusy
from models.session import make_engine, with_driver
from worker.doorbell import Ring
from worker.logs import each

log = structlog.get_logger(__name__)

GROUP = 64  # more gains nothing measurable, and one statement's failure is tried again one by one
STATEMENT_SECONDS = 2  # a database that takes longer is as good as gone: Shopify waits 5 s in all
ANSWER_SECONDS = 3.0  # the longest that a request waits for its commit
DEAD_PEER_MILLISECONDS = 5000  # unacknowledged bytes for so long: the connection is cut


@dataclass(frozen=True, slots=True)
class Delivery:
    """A webhook as it came. Text is without NUL and odd bytes (`app.receiver` cleans it); `webhook_id` may be missing.

    trace: where in a trace it was taken, to be handed on; "" when nobody traces
    """

    shop_domain: str
    topic: str
    webhook_id: str | None
    event_id: str | None
    triggered_at: str | None
    api_version: str | None
    body: bytes
    trace: str = ""


@dataclass(frozen=True, slots=True)
class Stored:
    """The answer of the database: `new`, or seen before; `waiting` when it still has to be worked off."""

    id: int | None
    new: bool
    waiting: bool


class Ticket:
    """One request's place in the writer's queue."""

    __slots__ = ("_done", "abandoned", "delivery", "stored")

    def __init__(self, delivery: Delivery) -> None:
        self.delivery = delivery
        self.stored: Stored | None = None
        self.abandoned = False
        self._done = threading.Lock()  # the cheapest thing that one thread can wait on for another
        self._done.acquire()

    def settle(self, stored: Stored | None) -> None:
        """Answer the request; the first answer stands."""
        if self._done.locked():
            self.stored = stored
            self._done.release()

    def wait(self, seconds: float) -> Stored | None:
        self.abandoned = not self._done.acquire(timeout=seconds)
        return self.stored


COLUMNS = ("shop_domain", "topic", "webhook_id", "event_id", "triggered_at", "api_version", "body")
INSERT = f"""
insert into inbox ({", ".join(COLUMNS)})
select * from unnest(%b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::text[], %b::bytea[])
on conflict (shop_domain, webhook_id) do nothing
returning shop_domain, webhook_id, id
"""
SEEN = text("""
select i.shop_domain, i.webhook_id, i.id, i.state = 'pending'
  from unnest(cast(:shops as text[]), cast(:ids as text[])) as s (shop_domain, webhook_id)
  join inbox i using (shop_domain, webhook_id)
""")


def store(connection: Connection, deliveries: Sequence[Delivery]) -> list[Stored]:
    """Insert those that are new; say of each what became of it. Guarantee: one row a (shop, webhook id)."""
    columns = tuple([getattr(delivery, name) for delivery in deliveries] for name in COLUMNS)
    fresh: dict[tuple[str, str | None], list[int]] = {}
    for shop_domain, webhook_id, id in connection.exec_driver_sql(INSERT, columns):
        fresh.setdefault((shop_domain, webhook_id), []).append(id)
    found = [fresh_row(fresh, delivery) for delivery in deliveries]
    repeats = [d for d, stored in zip(deliveries, found, strict=True) if stored is None]
    if not repeats:
        return [stored for stored in found if stored]
    seen = seen_rows(connection, repeats)
    return [stored or seen[d.shop_domain, d.webhook_id] for d, stored in zip(deliveries, found, strict=True)]


def fresh_row(fresh: dict[tuple[str, str | None], list[int]], delivery: Delivery) -> Stored | None:
    """Take this delivery's row out of the inserted ones; None when it was seen before."""
    ids = fresh.get((delivery.shop_domain, delivery.webhook_id))
    return Stored(ids.pop(0), new=True, waiting=True) if ids else None


def seen_rows(connection: Connection, repeats: Iterable[Delivery]) -> dict[tuple[str, str | None], Stored]:
    keys = {(d.shop_domain, d.webhook_id) for d in repeats}
    rows = connection.execute(SEEN, {"shops": [k[0] for k in keys], "ids": [k[1] for k in keys]})
    return {
        (shop, webhook_id): Stored(id, new=False, waiting=waiting) for shop, webhook_id, id, waiting in rows
    }


class Writer:
    """The one thread that writes the inbox. `keep` is what requests call; `ring` is called after each commit."""

    def __init__(
        self, engine: Engine, ring: Callable[[list[Ring]], None], *, answer_seconds: float = ANSWER_SECONDS
    ) -> None:
        self._engine = engine
        self._ring = ring
        self._answer_seconds = answer_seconds
        self._queue: SimpleQueue[Ticket | None] = SimpleQueue()
        self._thread: threading.Thread | None = None
        self._connection: Connection | None = (
            None  # kept between groups: opening and asking costs more than a row
        )
        self._starting = threading.Lock()

    def keep(self, delivery: Delivery) -> Stored:
        """Returns once the delivery is committed. Raises `DatabaseBusy` when it is not, or nobody can tell."""
        if self._thread is None:
            self._start()
        ticket = Ticket(delivery)
        self._queue.put(ticket)
        stored = ticket.wait(self._answer_seconds)
        if stored is None:
            raise DatabaseBusy("the delivery could not be stored")
        return stored

    def _start(self) -> None:
        """On first use, not before: a server may fork after it has loaded the application."""
        with self._starting:
            if self._thread is None:
                self._thread = threading.Thread(target=self._run, name="inbox-writer", daemon=True)
                self._thread.start()

    def close(self) -> None:
        """Write what is waiting, then end. Nothing may be kept afterwards."""
        if self._thread is not None:
            self._queue.put(None)
            self._thread.join()
        if self._connection is not None:
            self._connection.close()

    def _run(self) -> None:
        while tickets := self._next_group():
            group = [ticket for ticket in tickets if not ticket.abandoned]
            if not group:
                continue
            try:
                self._write(group)
            except Exception as error:  # the thread must outlive whatever one group does to it
                log.error("inbox_unavailable", error=type(error).__name__, deliveries=len(group))
                for ticket in group:
                    ticket.settle(None)

    def _next_group(self) -> list[Ticket]:
        """Wait for one, then take what else is there. Empty: the writer is closed."""
        group: list[Ticket] = []
        try:
            ticket = self._queue.get()
            while ticket is not None and len(group) < GROUP - 1:
                group.append(ticket)
                ticket = self._queue.get_nowait()
        except Empty:
            return group
        if ticket is None:  # closed; what came before it is still written
            self._queue.put(None)
            return group
        return [*group, ticket]

    def _write(self, group: list[Ticket]) -> None:
        """Commit, answer, ring, tell the log; in that order. One that the database refuses does not take the others with it."""
        try:
            found = self._commit([ticket.delivery for ticket in group])
        except DBAPIError as error:
            if len(group) == 1 or isinstance(error, OperationalError):
                raise
            self._write_one_by_one(group)
            return
        for ticket, stored in zip(group, found, strict=True):
            ticket.settle(stored)
        self._ring(
            [ring_for(t.delivery, stored) for t, stored in zip(group, found, strict=True) if stored.waiting]
        )
        each(__name__, "webhook_kept", [line_of(t.delivery, s) for t, s in zip(group, found, strict=True)])

    def _commit(self, deliveries: Sequence[Delivery]) -> list[Stored]:
        """Store in one transaction. A kept connection that died while nobody wrote is replaced, once.

        Again is harmless even when the first commit's fate is unknown: what it kept is then seen as a repeat.
        """
        kept = self._connection is not None
        try:
            return self._commit_once(deliveries)
        except OperationalError as error:
            if not (kept and error.connection_invalidated):
                raise
            return self._commit_once(deliveries)

    def _commit_once(self, deliveries: Sequence[Delivery]) -> list[Stored]:
        connection = self._connection or self._engine.connect()
        self._connection = None
        try:
            with connection.begin():
                found = store(connection, deliveries)
        except BaseException:
            connection.close()
            raise
        self._connection = connection
        return found

    def _write_one_by_one(self, group: list[Ticket]) -> None:
        for ticket in group:
            try:
                self._write([ticket])
            except Exception as error:  # as in `_run`: one delivery must not take the others with it
                log.error("delivery_refused_by_database", error=type(error).__name__)
                ticket.settle(None)


def line_of(delivery: Delivery, stored: Stored) -> dict[str, object]:
    """A webhook as the log tells of it: from its id to the inbox's, which is `inbox:<event_id>` in the books."""
    return {
        "shop": delivery.shop_domain,
        "topic": delivery.topic,
        "webhook_id": delivery.webhook_id,
        "event_id": stored.id,
        "result": "stored" if stored.new else "seen_before",
    }


def ring_for(delivery: Delivery, stored: Stored) -> Ring:
    return Ring(delivery.shop_domain, delivery.topic, stored.id, delivery.body, delivery.trace)


def make_inbox_engine(url: str) -> Engine:
    """One connection with the short time limits of someone who must answer within seconds."""
    parsed = make_url(with_driver(url)).update_query_dict({"tcp_user_timeout": str(DEAD_PEER_MILLISECONDS)})
    return make_engine(
        parsed.render_as_string(hide_password=False), pool_size=1, statement_timeout_seconds=STATEMENT_SECONDS
    )
