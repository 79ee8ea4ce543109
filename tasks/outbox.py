"""What brings the outbox's work to the queue."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tasks.runtime import runtime
from tasks.steps import outbox


@shared_task(name="outbox.ring", bind=True)
def ring(self: Task[Any, Any]) -> str:
    """Send a named task for each row that is due.

    Safe to run twice, and twice at once: rows are marked under their locks; a task sent twice finds its row leased or
    done.
    """
    rings = outbox.due(runtime().engine)
    for each in rings:
        self.app.send_task(each.task, kwargs=dict(each.arguments))
    return f"{len(rings)} rows rung for"
