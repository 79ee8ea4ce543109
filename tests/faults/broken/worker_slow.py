"""A sound worker that takes its time between reading and booking, so that whoever does not wait for it is seen."""

from __future__ import annotations

import os
import time
from collections.abc import Iterable

from tasks.steps import settle
from tasks.steps.load import World, load_books

PAUSE_SECONDS = float(os.environ.get("PAUSE_SECONDS", "0.3"))


def load_slowly(world: World, customers: Iterable[int]) -> None:
    load_books(world, customers)
    time.sleep(PAUSE_SECONDS)


settle.load_books = load_slowly

from worker.celery_app import celery_app  # noqa: E402, F401 - forks with what was changed above
