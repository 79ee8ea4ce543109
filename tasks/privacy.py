"""Nothing personal is kept for ever."""

from __future__ import annotations

from celery import shared_task

from tasks.runtime import runtime
from tasks.steps.retention import retain


@shared_task(name="privacy.retention")
def erase_what_is_old() -> str:
    """Erase raw bodies and kept answers that are older than they may be, and finish redactions of shops.

    Safe to run twice, and twice at once: rows that another run holds are passed over, what is erased stays so.
    """
    here = runtime()
    return str(retain(here.engine, body_days=here.settings.raw_body_days))
