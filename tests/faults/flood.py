"""A sender that gives up nothing: each sending is sent again until it is answered 2xx, as a store would, only sooner."""

from __future__ import annotations

import threading
import time
from collections import Counter
from collections.abc import Iterable
from queue import SimpleQueue

import requests

from app.signature import signature_of
from tests.faults.stories import Sending

CONNECTIONS = 6
ANSWER_WITHIN_SECONDS = 5.0  # Shopify's own limit
FIRST_WAIT_SECONDS, LONGEST_WAIT_SECONDS = 0.1, 1.0
PACE_SECONDS = 0.02  # between two sendings of one connection: about 200 a second in all


class Flood:
    """Sends what is released. `acked`: keys of what was answered 2xx; `answers`: attempts by status, 0 for none."""

    def __init__(self, url: str, secret: str) -> None:
        self.acked: Counter[tuple[str, str]] = Counter()
        self.answers: Counter[int] = Counter()
        self.released = 0
        self._url, self._secret = url, secret.encode()
        self._queue: SimpleQueue[Sending | None] = SimpleQueue()
        self._lock = threading.Lock()
        self._closing = threading.Event()
        self._threads = [threading.Thread(target=self._run, daemon=True) for _ in range(CONNECTIONS)]
        for thread in self._threads:
            thread.start()

    @property
    def answered(self) -> int:
        return self.acked.total()

    def release(self, sendings: Iterable[Sending]) -> None:
        for sending in sendings:
            self.released += 1
            self._queue.put(sending)

    def close(self) -> None:
        """What is not answered yet is left alone."""
        self._closing.set()
        for _ in self._threads:
            self._queue.put(None)
        for thread in self._threads:
            thread.join()

    def _run(self) -> None:
        with requests.Session() as session:
            while (sending := self._queue.get()) is not None and not self._closing.is_set():
                self._deliver(session, sending)
                time.sleep(PACE_SECONDS)

    def _deliver(self, session: requests.Session, sending: Sending) -> None:
        wait = FIRST_WAIT_SECONDS
        while not self._closing.is_set():
            status = self._post(session, sending)
            with self._lock:
                self.answers[status] += 1
                if 200 <= status < 300:
                    self.acked[sending.key] += 1
                    return
            self._closing.wait(wait)
            wait = min(LONGEST_WAIT_SECONDS, 2 * wait)

    def _post(self, session: requests.Session, sending: Sending) -> int:
        headers = {
            "Content-Type": "application/json",
            "X-Shopify-Topic": sending.topic,
            "X-Shopify-Shop-Domain": sending.domain,
            "X-Shopify-Webhook-Id": sending.webhook_id,
            "X-Shopify-Hmac-Sha256": signature_of(sending.body, self._secret),
        }
        try:
            with session.post(
                self._url, data=sending.body, headers=headers, timeout=ANSWER_WITHIN_SECONDS
            ) as answer:
                return answer.status_code
        except requests.RequestException:
            return 0
