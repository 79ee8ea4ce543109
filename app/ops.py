"""For operators: is the process up, is it ready, and the figures.

What happened at this door is counted in this process: of several receivers each tells its own, and they are added up
(docs/runbook.md). What stands in the books is asked of the database when somebody looks, and what all processes
counted of the broker, so it is the same whichever receiver is asked, and right whoever did the work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

import structlog
from flask import Blueprint, Response, jsonify, request
from prometheus_client import CollectorRegistry, Counter, ProcessCollector
from prometheus_client.core import Metric
from prometheus_client.exposition import choose_encoder
from psycopg.errors import QueryCanceled
from redis import Redis
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from app.figures import (
    delivery_tries,
    of_database,
    of_whole_tables,
    queue_metrics,
    shopify_metrics,
    sweep_metrics,
    up,
)
from models.session import standing
from tasks.gateway.counts import DELIVERIES, SWEEPS, Counts
from worker.celery_settings import QUEUES, TRANSPORT
from worker.topics import TASK_OF_TOPIC, label_of

log = structlog.get_logger(__name__)

READY = frozenset({"ok", "ahead"})
FRESH_SECONDS = 10.0  # scrapes in between are answered from memory
PREFIX = TRANSPORT["global_keyprefix"]
REST = 100  # times as long as asking took: sums over whole tables never cost more than a hundredth of a database's core


def webhook_counter(registry: CollectorRegistry) -> Counter:
    """Known topics are there at 0 too: that nothing comes must be seen by a process to which nothing ever came."""
    counter = Counter(
        "unwind_webhooks", "Webhooks answered, by topic and result", ["topic", "result"], registry=registry
    )
    for topic in (*TASK_OF_TOPIC, label_of("")):
        counter.labels(topic, "stored")
    return counter


def make_blueprint(engine: Engine, broker: Redis, registry: CollectorRegistry) -> Blueprint:
    ops = Blueprint("ops", __name__)
    registry.register(Books(engine, broker))
    ProcessCollector(registry=registry)
    checks = {"database": lambda: schema(engine), "broker": lambda: answers(broker)}

    @ops.get("/healthz")
    def healthz() -> Response:
        return jsonify({"status": "up"})

    @ops.get("/readyz")
    def readyz() -> Response:
        found = {name: asked(check) for name, check in checks.items()}
        ready = all(answer in READY for answer in found.values())
        response = jsonify({"status": "ready" if ready else "not_ready", "checks": found})
        response.status_code = 200 if ready else 503
        return response

    @ops.get("/metrics")
    def metrics() -> Response:
        encode, content_type = choose_encoder(request.headers.get("Accept", ""))
        return Response(encode(registry), content_type=content_type)

    return ops


def asked(check: Callable[[], str]) -> str:
    """What it says, or the kind of the error; never its text, which may hold addresses."""
    try:
        return check()
    except Exception as error:  # whatever it is, we are not ready
        return type(error).__name__


def schema(engine: Engine) -> str:
    """`ahead` is ready too: a new release has migrated, and this one serves on until it is replaced (docs/deploy.md)."""
    found = standing(engine)
    return "ok" if found == "current" else found


def answers(broker: Redis) -> str:
    broker.ping()
    return "ok"


@dataclass(eq=False)  # one collector is not another with the same figures
class Books:
    """A collector that reads the database; `unwind_database_up` and `unwind_broker_up` say whether it could."""

    engine: Engine
    broker: Redis
    clock: Callable[[], float] = time.monotonic
    _lock: threading.Lock = field(default_factory=threading.Lock)
    _known: list[Metric] = field(default_factory=list)
    _until: float = float("-inf")
    _sums: list[Metric] = field(default_factory=list)
    _sums_until: float = float("-inf")

    def describe(self) -> list[Metric]:
        """Nothing is asked of the database when the collector is registered."""
        return []

    def collect(self) -> list[Metric]:
        with self._lock:
            if self.clock() >= self._until:
                self._known = [*self._of_database(), *self._of_broker()]
                self._until = self.clock() + FRESH_SECONDS
            return [*self._known, *self._sums]

    def _of_database(self) -> list[Metric]:
        try:
            with self.engine.connect() as connection:
                found = [up("database", True), *of_database(connection)]
                self._sum_up(connection)
                return found
        except Exception:  # its absence is itself a figure
            self._sums, self._sums_until = [], self.clock()
            return [up("database", False)]

    def _sum_up(self, connection: Connection) -> None:
        """Sums over whole tables: the longer they take, the more seldom they are asked for.

        Those that take longer than a statement may are left out; that says nothing against the database.
        """
        began = self.clock()
        if began < self._sums_until:
            return
        try:
            self._sums = list(of_whole_tables(connection))
        except OperationalError as error:
            if not isinstance(error.orig, QueryCanceled):
                raise
            self._sums = []
            log.warning("sums_took_too_long", seconds=round(self.clock() - began, 1))
        self._sums_until = self.clock() + max(FRESH_SECONDS, REST * (self.clock() - began))

    def _of_broker(self) -> list[Metric]:
        try:
            depths = {name: self.broker.llen(f"{PREFIX}{name}") for name in QUEUES}
            calls = list(Counts(self.broker).read())
            tries = list(Counts(self.broker, DELIVERIES).read())
            sweeps = Counts(self.broker, SWEEPS)
            swept = list(sweep_metrics(list(sweeps.read()), sweeps.stamped(), time.time()))
        except Exception:  # as above
            return [up("broker", False)]
        return [
            up("broker", True),
            queue_metrics(depths),
            *shopify_metrics(calls),
            delivery_tries(tries),
            *swept,
        ]
