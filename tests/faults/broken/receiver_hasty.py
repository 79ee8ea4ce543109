"""A receiver that answers first and commits afterwards, as one that only queues in memory would."""

from __future__ import annotations

from app.inbox import Delivery, Stored, Ticket, Writer


def keep(self: Writer, delivery: Delivery) -> Stored:
    if self._thread is None:
        self._start()
    self._queue.put(Ticket(delivery))
    return Stored(None, new=True, waiting=True)


Writer.keep = keep  # type: ignore[method-assign]

from app.wsgi import application  # noqa: E402, F401 - built from what was broken above
