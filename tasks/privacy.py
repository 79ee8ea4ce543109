"""Nothing personal is kept for ever."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tasks.runtime import runtime
from tasks.steps.retention import retain


@shared_task(name="privacy.retention", bind=True)
def erase_what_is_old(self: Task[Any, Any]) -> str:
    """Erase raw bodies and kept answers that are older than they may be, and finish redactions of shops.

    Safe to run twice, and twice at once: rows that another run holds are passed over, what is erased stays so. Goes on
    in another task while there is more than one run takes.
    """
    here = runtime()
    kept = retain(here.engine, body_days=here.settings.raw_body_days)
    if kept.more:
        self.apply_async()
    return str(kept)
