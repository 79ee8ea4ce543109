"""What may go wrong between the pretend store and whoever calls it, switched on by tests and by people."""

from __future__ import annotations

import socket
import time
from dataclasses import dataclass, field
from datetime import datetime, timedelta
from threading import Lock
from typing import Any, Literal

from flask import request

Kind = Literal["refuse", "status", "slow", "lost"]


@dataclass
class Fault:
    """`only`: the operation's name (DiscountCodeBasicCreate, or access_token); None, any. `times`: how often yet.

    refuse: the connection ends before anything is done. status: an answer such as 503 instead. slow: the answer
    waits. lost: everything is done, and the connection ends without an answer.
    """

    kind: Kind
    times: int = 1
    only: str | None = None
    status: int = 503
    seconds: float = 0.0


@dataclass
class Faults:
    """The switches of one store. `throttled_status`: 200 with THROTTLED, or 429."""

    throttled_until: datetime | None = None
    throttled_status: int = 200
    _queue: list[Fault] = field(default_factory=list)
    _lock: Lock = field(default_factory=Lock)

    def add(
        self,
        kind: Kind,
        *,
        times: int = 1,
        only: str | None = None,
        status: int = 503,
        seconds: float = 0.0,
    ) -> None:
        with self._lock:
            self._queue.append(Fault(kind, times, only, status, seconds))

    def throttle(self, now: datetime, seconds: float, *, status: int = 200) -> None:
        """Every call is refused as throttled until `seconds` are over."""
        self.throttled_until, self.throttled_status = now + timedelta(seconds=seconds), status

    def clear(self) -> None:
        with self._lock:
            self._queue.clear()
        self.throttled_until, self.throttled_status = None, 200

    def take(self, operation: str) -> Fault | None:
        """The fault that hits this call; the first in the queue that fits, used up by it."""
        with self._lock:
            for fault in self._queue:
                if fault.only in (None, operation):
                    fault.times -= 1
                    if fault.times <= 0:
                        self._queue.remove(fault)
                    return fault
        return None


def before(fault: Fault | None) -> tuple[dict[str, Any], int] | None:
    """What is answered instead of doing anything; None to go on. Call it without holding the store's lock."""
    if fault is None or fault.kind == "lost":
        return None
    if fault.kind == "slow":
        time.sleep(fault.seconds)
        return None
    if fault.kind == "refuse":
        hang_up()
    return {"errors": "Service Unavailable"}, fault.status


def hang_up() -> None:
    """Ends the connection: the caller gets no answer at all."""
    connection = request.environ.get("werkzeug.socket")
    if isinstance(connection, socket.socket):
        connection.shutdown(socket.SHUT_RDWR)
