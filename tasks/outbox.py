"""What brings the outbox's work to the queue."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tasks.runtime import runtime
from tasks.steps import outbox, turns


@shared_task(
    name="outbox.ring", bind=True, send_events=False
)  # every second: it would bury the others in Flower
def ring(self: Task[Any, Any]) -> str:
    """Send a named task for each row that is due, and whoever delivers when endpoints are to be told something.

    Safe to run twice, and twice at once: rows are marked under their locks; a task sent twice finds its row leased or
    done, and who delivers finds every place taken.
    """
    here = runtime()
    rings = outbox.due(here.engine)
    for each in rings:
        self.app.send_task(each.task, kwargs=dict(each.arguments))
    shops = len(turns.due(here.engine))
    for _ in range(min(shops, turns.places(here.settings.worker_processes))):
        self.app.send_task("endpoints.deliver")
    return f"{len(rings)} rows rung for, deliveries of {shops} shops due"
