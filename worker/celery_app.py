"""The application that `celery -A worker.celery_app worker|beat` runs, on the environment's broker."""

from __future__ import annotations

import os
import threading

from celery.signals import worker_shutting_down

from models.settings import load_settings
from tasks.runtime import USUAL_BROKER
from worker import telemetry
from worker.celery_settings import make_app
from worker.logs import listen_to_celery

celery_app = make_app(load_settings().redis_url or USUAL_BROKER)
celery_app.set_default()  # without it @shared_task in another thread falls back to an application without settings
listen_to_celery()
telemetry.listen_to_celery()

LAST_WORD_SECONDS = 5  # beyond the grace time that a supervisor gives


@worker_shutting_down.connect(weak=False)
def end_at_last(**_: object) -> None:
    """A worker asked to stop does stop: without a broker, and with nobody left to insist, Celery may wait for ever.

    Nothing is lost by it: what was not booked is pending still.
    """
    seconds = load_settings().stop_grace_seconds + LAST_WORD_SECONDS
    timer = threading.Timer(seconds, os._exit, (1,))
    timer.daemon = True
    timer.start()
