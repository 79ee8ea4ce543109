"""Rings the worker from outside of it: the receiver after a commit, the API and the terminal after a retry.

Never an error and never a long wait for the caller: with the broker gone the rows are in the database, and the sweep
rings for them.
"""

from __future__ import annotations

import threading
import time
from collections.abc import Callable, Iterable, Mapping
from dataclasses import dataclass

import structlog
from celery import Celery
from redis import Redis, RedisError

from tasks.runtime import make_broker_client
from tasks.steps import bell
from tasks.steps.parse import peek
from worker.celery_settings import make_sender
from worker.topics import task_for

log = structlog.get_logger(__name__)

CIRCUIT_SECONDS = (
    1.0  # after a failure the broker is left alone this long: one slow ring a second, not one a webhook
)
PAUSE_SECONDS = (
    0.02  # between two rounds: what comes meanwhile is rung for in one, and a quiet shop waits for nothing
)

REFUND = "refunds/create"
Send = Callable[[str, Mapping[str, object]], None]


@dataclass(frozen=True, slots=True)
class Ring:
    """What a message tells the eye: ids only. `body` stays here; the order and refund ids are read from it.

    trace: the `traceparent` of the webhook that rings, so that a trace goes on in the task
    """

    shop_domain: str
    topic: str
    event_id: int | None = None
    body: bytes = b""
    trace: str = ""

    def arguments(self) -> dict[str, object]:
        """The task's keyword arguments. No personal data: names and ids."""
        seen = peek(self.body)
        found: dict[str, object] = {
            "order_id": seen.order_id,
            "refund_id": seen.refund_id,
            "event_id": self.event_id,
        }
        found |= {"trace": self.trace or None}
        return {"shop": self.shop_domain, "topic": self.topic} | {
            k: v for k, v in found.items() if v is not None
        }


def of_shops(rings: Iterable[Ring], waiting: Mapping[str, Ring]) -> dict[str, Ring]:
    """One ring a shop: for the eye, a refund speaks for what came with it, else the newest."""
    found = dict(waiting)
    for ring in rings:
        before = found.get(ring.shop_domain)
        if before is None or before.topic != REFUND:
            found[ring.shop_domain] = ring
    return found


class Doorbell:
    """Rings one message a shop, however many events it has. Never raises."""

    def __init__(self, broker: Redis, send: Send, *, clock: Callable[[], float] = time.monotonic) -> None:
        self._broker = broker
        self._send = send
        self._clock = clock
        self._rest_until = 0.0

    def ring(self, rings: Iterable[Ring]) -> int:
        """Ring for these events; returns how many messages were sent (0 when others already ring, or none can)."""
        by_shop = of_shops(rings, {})
        if not by_shop or self._clock() < self._rest_until:
            return 0
        try:
            return self._ring(by_shop)
        except Exception as error:  # whatever the broker's libraries raise: the sweep will ring
            self._rest_until = self._clock() + CIRCUIT_SECONDS
            log.warning("broker_unreachable", error=type(error).__name__, left_to_the_sweep=len(by_shop))
            return 0

    def _ring(self, by_shop: Mapping[str, Ring]) -> int:
        silent = bell.try_ring(self._broker, list(by_shop))
        for number, domain in enumerate(silent):
            ring = by_shop[domain]
            try:
                self._send(task_for(ring.topic), ring.arguments())
            except Exception:
                self._silence(silent[number:])
                raise
        return len(silent)

    def _silence(self, domains: Iterable[str]) -> None:
        """Take back bells that no message stands behind. When even that fails they fade by themselves."""
        try:
            for domain in domains:
                bell.silence(self._broker, domain)
        except RedisError:
            log.warning("bell_left_ringing")


class Ringer:
    """A doorbell rung by a thread of its own, so that nobody who answers a webhook waits for the broker."""

    def __init__(self, doorbell: Doorbell) -> None:
        self._doorbell = doorbell
        self._waiting: dict[str, Ring] = {}
        self._changed = threading.Condition()
        self._thread: threading.Thread | None = None
        self._closing = False

    def ask(self, rings: Iterable[Ring]) -> None:
        """Ring soon. A shop that is asked for twice before its turn is rung once."""
        with self._changed:
            self._waiting = of_shops(rings, self._waiting)
            if self._thread is None:  # started on first use: a fork before it has no thread to lose
                self._thread = threading.Thread(target=self._run, name="doorbell", daemon=True)
                self._thread.start()
            self._changed.notify()

    def close(self) -> None:
        """Ring for what was asked, then end."""
        with self._changed:
            self._closing = True
            self._changed.notify()
        if self._thread is not None:
            self._thread.join()

    def _run(self) -> None:
        while True:
            with self._changed:
                self._changed.wait_for(lambda: self._waiting or self._closing)
                waiting, self._waiting = self._waiting, {}
            if not waiting:
                return
            self._doorbell.ring(waiting.values())
            time.sleep(PAUSE_SECONDS)


def make_doorbell(redis_url: str) -> Doorbell:
    """A doorbell for processes that are not workers, with the short time limits of one who must answer soon."""
    return Doorbell(make_broker_client(redis_url), sender(make_sender(redis_url)))


def sender(app: Celery) -> Send:
    def send(task: str, arguments: Mapping[str, object]) -> None:
        app.send_task(task, kwargs=dict(arguments), retry=False, ignore_result=True)

    return send
