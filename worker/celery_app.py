"""The application that `celery -A worker.celery_app worker|beat` runs, on the environment's broker."""

from __future__ import annotations

import os
import signal
import threading
from collections.abc import Callable

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
def stop_in_time(how: str, **_: object) -> None:
    """SIGTERM: nothing more is taken, and the worker ends as soon as what is in hand is done.

    What is not done within STOP_GRACE_SECONDS is broken off and returned (SIGQUIT, Celery's cold stop). Whatever happens the
    worker does end: without a broker, and with nobody left to insist, Celery may wait for ever. Nothing is lost by any
    of it: what was not booked is pending still.
    """
    grace = load_settings().stop_grace_seconds
    if how == "Warm":
        after(grace, os.kill, os.getpid(), signal.SIGQUIT)
    after(grace + LAST_WORD_SECONDS, os._exit, 1)


def after(seconds: float, act: Callable[..., object], *given: object) -> None:
    timer = threading.Timer(seconds, act, given)
    timer.daemon = True
    timer.start()
