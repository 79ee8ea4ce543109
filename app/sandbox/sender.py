"""Delivers webhooks as Shopify does: signed, more than once, late, out of order, and again when not answered 2xx.

Everything is at least once: nothing is left out, so whoever listens must end where the store is.
"""

from __future__ import annotations

import base64
import hashlib
import heapq
import hmac
import threading
import time
import uuid
from collections import Counter
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field, replace
from datetime import datetime
from random import Random

import requests

from app.sandbox.store import API_VERSION, Delivery

ANSWER_WITHIN_SECONDS = 5.0  # Shopify's own limit
# Eight retries within four hours, each later than the last (seconds); a sender shortens them all by one factor.
RETRY_AFTER_SECONDS = (10, 60, 300, 600, 1200, 2400, 3600, 6000)


@dataclass(frozen=True, slots=True)
class Habits:
    """How the sender behaves. Shares are between 0 and 1, times in seconds.

    repeated: share of deliveries sent a second time with the same webhook id. renamed: share sent again under a new
    webhook id. late: share held back by up to `late_seconds`; the rest is jittered by `jitter_seconds`.
    newer_headers: share that carries the `shopify-*` header family instead of `X-Shopify-*`.
    hurry: the factor by which the waits before retries are shortened.
    """

    repeated: float = 0.2
    renamed: float = 0.05
    late: float = 0.15
    late_seconds: float = 4.0
    jitter_seconds: float = 0.5
    newer_headers: float = 0.1
    hurry: float = 0.005
    connections: int = 4


WELL_BEHAVED = Habits(repeated=0, renamed=0, late=0, late_seconds=0, jitter_seconds=0, newer_headers=0)


@dataclass(order=True, slots=True)
class Shot:
    """One sending of a delivery, not before `due` (seconds of the epoch). `turn` keeps equal times in order."""

    due: float
    turn: int
    delivery: Delivery = field(compare=False)
    newer_headers: bool = field(compare=False, default=False)
    attempt: int = field(compare=False, default=0)


@dataclass(slots=True)
class Report:
    """What came of it. `answers` counts attempts by HTTP status; `given_up` are webhook ids never answered 2xx."""

    deliveries: int = 0
    sendings: int = 0
    repeats: int = 0
    renamed: int = 0
    answered: int = 0
    retries: int = 0
    timeouts: int = 0
    unreachable: int = 0
    answers: Counter[int] = field(default_factory=Counter)
    given_up: list[str] = field(default_factory=list)
    webhook_ids: set[str] = field(default_factory=set)
    seconds: float = 0.0

    @property
    def all_accepted(self) -> bool:
        return self.answered == self.sendings and not self.given_up


def sign(body: bytes, secret: str) -> str:
    """Base64 HMAC-SHA256 over the raw body, as in X-Shopify-Hmac-Sha256."""
    return base64.b64encode(hmac.new(secret.encode(), body, hashlib.sha256).digest()).decode()


def headers(delivery: Delivery, *, shop: str, secret: str, newer: bool = False) -> dict[str, str]:
    """The headers of one delivery, in either of Shopify's two families."""
    prefix = "shopify-" if newer else "X-Shopify-"
    values = {
        "Topic": delivery.topic,
        "Hmac-Sha256": sign(delivery.body, secret),
        "Shop-Domain": shop,
        "API-Version": API_VERSION,
        "Webhook-Id": delivery.webhook_id,
        "Event-Id": delivery.event_id,
        "Triggered-At": _nanoseconds(delivery.triggered_at),
    }
    named = {prefix + (name.lower() if newer else name): value for name, value in values.items()}
    return {"Content-Type": "application/json", "User-Agent": "Shopify-Captain-Hook", **named}


def _nanoseconds(at: datetime) -> str:
    return at.strftime("%Y-%m-%dT%H:%M:%S.") + f"{at.microsecond:06d}000Z"


class Sender:
    """Sends to one receiver for one shop. The seed decides what is repeated, renamed and late."""

    def __init__(self, url: str, secret: str, shop: str, seed: int, *, habits: Habits | None = None) -> None:
        self._url = url
        self._secret = secret
        self._shop = shop
        self._habits = habits or Habits()
        self._dice = Random(seed)  # noqa: S311  which deliveries misbehave is no secret

    def plan(self, deliveries: Iterable[Delivery], *, start: float, live: bool = False) -> list[Shot]:
        """Every sending with its time: none lost, some twice, some late.

        live: none before its own `triggered_at`, in real time; otherwise all are due from `start` on.
        """
        shots: list[Shot] = []
        for delivery in deliveries:
            first = max(start, delivery.triggered_at.timestamp()) if live else start
            self._add(shots, delivery, first)
            if self._dice.random() < self._habits.repeated:
                self._add(shots, delivery, first)
            if self._dice.random() < self._habits.renamed:
                renamed = str(uuid.UUID(int=self._dice.getrandbits(128), version=4))
                self._add(shots, replace(delivery, webhook_id=renamed), first)
        return sorted(shots)

    def _add(self, shots: list[Shot], delivery: Delivery, first: float) -> None:
        habits = self._habits
        late = self._dice.random() < habits.late
        due = first + self._dice.random() * (habits.late_seconds if late else habits.jitter_seconds)
        shots.append(Shot(due, len(shots), delivery, self._dice.random() < habits.newer_headers))

    def send_all(
        self,
        deliveries: Iterable[Delivery],
        progress: Callable[[Report], None] | None = None,
        *,
        live: bool = False,
    ) -> Report:
        """Sends everything and waits until each sending is answered 2xx or given up after the eighth retry.

        progress: called from the sending threads after each attempt, one call at a time.
        """
        wanted = list(deliveries)
        started = time.time()
        shots = self.plan(wanted, start=started, live=live)
        ids = {shot.delivery.webhook_id for shot in shots}
        renamed = len(ids - {delivery.webhook_id for delivery in wanted})
        report = Report(
            deliveries=len(wanted),
            sendings=len(shots),
            repeats=len(shots) - len(ids),
            renamed=renamed,
            webhook_ids=ids,
        )
        _Volley(self, shots, report, progress).run(self._habits.connections)
        report.seconds = time.time() - started
        return report

    def post(self, session: requests.Session, shot: Shot) -> requests.Response:
        """One attempt. Raises requests.RequestException when there is no answer in time. Redirects are failures."""
        sent = headers(shot.delivery, shop=self._shop, secret=self._secret, newer=shot.newer_headers)
        return session.post(
            self._url,
            data=shot.delivery.body,
            headers=sent,
            timeout=ANSWER_WITHIN_SECONDS,
            allow_redirects=False,
        )

    def wait_before(self, attempt: int) -> float:
        return RETRY_AFTER_SECONDS[attempt] * self._habits.hurry


class _Volley:
    """The shots in flight, shared by the connections."""

    def __init__(
        self, sender: Sender, shots: list[Shot], report: Report, progress: Callable[[Report], None] | None
    ) -> None:
        self._sender = sender
        self._queue = list(shots)
        heapq.heapify(self._queue)
        self._open = len(shots)
        self._turn = len(shots)
        self._report = report
        self._progress = progress
        self._changed = threading.Condition()

    def run(self, connections: int) -> None:
        threads = [threading.Thread(target=self._work, daemon=True) for _ in range(connections)]
        for thread in threads:
            thread.start()
        for thread in threads:
            thread.join()

    def _work(self) -> None:
        with requests.Session() as session:
            while (shot := self._next()) is not None:
                self._fire(session, shot)

    def _next(self) -> Shot | None:
        """The next shot that is due; waits for it. None when all is answered or given up."""
        with self._changed:
            while self._open:
                wait = self._queue[0].due - time.time() if self._queue else None
                if wait is not None and wait <= 0:
                    return heapq.heappop(self._queue)
                self._changed.wait(wait)
            return None

    def _fire(self, session: requests.Session, shot: Shot) -> None:
        status = None
        timed_out = False
        try:
            with self._sender.post(session, shot) as answer:
                status = answer.status_code
        except requests.Timeout:
            timed_out = True
        except requests.RequestException:
            pass
        with self._changed:
            self._note(shot, status, timed_out)
            if self._progress:
                self._progress(self._report)
            self._changed.notify_all()

    def _note(self, shot: Shot, status: int | None, timed_out: bool) -> None:
        report = self._report
        if status is None:
            report.timeouts += timed_out
            report.unreachable += not timed_out
        else:
            report.answers[status] += 1
        if status is not None and 200 <= status < 300:
            report.answered += 1
            self._open -= 1
        elif shot.attempt < len(RETRY_AFTER_SECONDS):
            self._again(shot)
        else:
            report.given_up.append(shot.delivery.webhook_id)
            self._open -= 1

    def _again(self, shot: Shot) -> None:
        """The same bytes once more, later: by then they may be out of date."""
        self._report.retries += 1
        self._turn += 1
        due = time.time() + self._sender.wait_before(shot.attempt)
        heapq.heappush(self._queue, replace(shot, due=due, turn=self._turn, attempt=shot.attempt + 1))
