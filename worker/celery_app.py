"""The application that `celery -A worker.celery_app worker|beat` runs, on the environment's broker."""

from __future__ import annotations

from models.settings import load_settings
from tasks.runtime import USUAL_BROKER
from worker.celery_settings import make_app
from worker.logs import listen_to_celery

celery_app = make_app(load_settings().redis_url or USUAL_BROKER)
celery_app.set_default()  # without it @shared_task in another thread falls back to an application without settings
listen_to_celery()
