"""Every other event, and what the sweep found forgotten."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from tasks.runtime import AGAIN, process_shop


@shared_task(name="events.process", bind=True, **AGAIN)
def process(self: Task[Any, Any], shop: str, **for_the_eye: object) -> str:
    """Work off the shop's events.

    Safe to run twice, and twice at once: each event is claimed under its row's lock and leaves `pending` in the
    transaction that books it. The other arguments are ids for Flower and the logs; nothing is decided by them.
    """
    return process_shop(self, shop)
