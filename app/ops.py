"""For operators: is the process up, is it ready, and the figures.

What happened at this door is counted in this process (there is one receiver); what stands in the books is asked of
the database when somebody looks, at most every `FRESH_SECONDS`, so it is right whoever did the work.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable
from dataclasses import dataclass, field

from flask import Blueprint, Response, jsonify
from prometheus_client import CollectorRegistry, Counter, generate_latest
from prometheus_client.core import Metric
from prometheus_client.exposition import CONTENT_TYPE_LATEST
from redis import Redis
from sqlalchemy import Engine

from app.figures import delivery_tries, gauge, of_database, shopify_metrics, up
from models.session import standing
from tasks.gateway.counts import DELIVERIES, Counts
from tasks.steps.sweep import QUEUE

READY = frozenset({"ok", "ahead"})
FRESH_SECONDS = 10.0  # scrapes in between are answered from memory


def webhook_counter(registry: CollectorRegistry) -> Counter:
    return Counter(
        "unwind_webhooks", "Webhooks answered, by topic and result", ["topic", "result"], registry=registry
    )


def make_blueprint(engine: Engine, broker: Redis, registry: CollectorRegistry) -> Blueprint:
    ops = Blueprint("ops", __name__)
    registry.register(Books(engine, broker))
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
        return Response(generate_latest(registry), content_type=CONTENT_TYPE_LATEST)

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

    def describe(self) -> list[Metric]:
        """Nothing is asked of the database when the collector is registered."""
        return []

    def collect(self) -> list[Metric]:
        with self._lock:
            if self.clock() >= self._until:
                self._known = [*self._of_database(), *self._of_broker()]
                self._until = self.clock() + FRESH_SECONDS
            return self._known

    def _of_database(self) -> list[Metric]:
        try:
            with self.engine.connect() as connection:
                return [up("database", True), *of_database(connection)]
        except Exception:  # its absence is itself a figure
            return [up("database", False)]

    def _of_broker(self) -> list[Metric]:
        try:
            depth = self.broker.llen(QUEUE)
            calls = list(Counts(self.broker).read())
            tries = list(Counts(self.broker, DELIVERIES).read())
        except Exception:  # as above
            return [up("broker", False)]
        return [
            up("broker", True),
            gauge("unwind_queue_depth", "Messages waiting in the broker", float(depth)),
            *shopify_metrics(calls),
            delivery_tries(tries),
        ]
