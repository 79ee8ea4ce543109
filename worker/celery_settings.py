"""Celery's settings, each with its reason.

Redis is never the only copy of anything: the inbox is the queue, a message is a doorbell (docs/decisions). So the
settings choose liveness and small loss windows over the broker's own promises.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from celery import Celery
from kombu import Queue
from redis.backoff import NoBackoff
from redis.retry import Retry

from models.broker import sentinels_of
from tasks.runtime import ANSWER_SECONDS, CONNECT_SECONDS
from worker.schedule import SCHEDULE

TASK_MODULES = (  # named one by one: discovery finds nothing here, and says nothing
    "tasks.refunds",
    "tasks.orders",
    "tasks.reconcile",
    "tasks.events",
    "tasks.codes",
    "tasks.outbox",
    "tasks.endpoints",
    "tasks.subscriptions",
    "tasks.tokens",
    "tasks.sweeps",
    "tasks.clock",
    "tasks.privacy",
)
EVENTS, OUTBOX, SWEEPS = "events", "outbox", "sweeps"
QUEUES = (EVENTS, OUTBOX, SWEEPS)
TIME_LIMIT_SECONDS = 60  # a task works off events for about 20 s and then rings again
SOFT_TIME_LIMIT_SECONDS = 45

TRANSPORT = {
    "visibility_timeout": 300,  # longer than the time limit; a task redelivered twice over is harmless but wasted
    "unacked_restore_interval": 10,  # kombu looks for unacked messages every 100 s unless told otherwise
    "unacked_restore_throttle": 1,
    "socket_timeout": 5,
    "socket_connect_timeout": 1,
    "socket_keepalive": True,
    "health_check_interval": 10,  # a half-open connection is dropped within about 21 s
    "global_keyprefix": "unwind:",  # one Redis database may be shared with others
}
SENDER_TRANSPORT = TRANSPORT | {"socket_timeout": ANSWER_SECONDS, "socket_connect_timeout": CONNECT_SECONDS}

SETTINGS: dict[str, Any] = {
    # acknowledged when done: a worker that dies gives its message back
    "task_acks_late": True,
    # ...but a child that dies takes its message along: the sweep rings again, with the inbox counting tries. Giving it
    # back at once would let one poisonous event kill child after child
    "task_reject_on_worker_lost": False,
    "task_acks_on_failure_or_timeout": True,  # the inbox owns the retries
    "worker_prefetch_multiplier": 1,  # few messages in hand, few in the hole between pop and unacked
    "task_time_limit": TIME_LIMIT_SECONDS,
    "task_soft_time_limit": SOFT_TIME_LIMIT_SECONDS,
    "visibility_timeout": TRANSPORT["visibility_timeout"],  # the documentation wants it in both places
    "broker_connection_retry_on_startup": True,
    "broker_connection_max_retries": None,  # the default gives up after 100 tries
    "worker_cancel_long_running_tasks_on_connection_loss": True,  # their messages come again anyway
    "worker_soft_shutdown_timeout": 0,  # it would wait all its time for a task of a moment; see `stop_in_time`
    "task_ignore_result": True,  # with no result backend there is nothing to leak, fill or forge
    "task_serializer": "json",
    "result_serializer": "json",
    "event_serializer": "json",
    "accept_content": ["json"],  # never pickle: the broker is not trusted
    "result_accept_content": ["json"],
    "task_queues": tuple(Queue(name) for name in QUEUES),
    "task_default_queue": EVENTS,
    "task_create_missing_queues": False,  # a misspelt queue is an error, not a place where messages wait for ever
    "task_routes": {
        "outbox.ring": {"queue": SWEEPS},
        "orders.read": {"queue": OUTBOX},
        "reconcile.ring": {"queue": SWEEPS},
        "reconcile.*": {"queue": OUTBOX},
        "subscriptions.*": {"queue": OUTBOX},
        "tokens.*": {"queue": OUTBOX},
        "codes.*": {"queue": OUTBOX},
        "endpoints.*": {"queue": OUTBOX},
        "sweeps.*": {"queue": SWEEPS},
        "clock.*": {"queue": SWEEPS},
        "privacy.*": {"queue": SWEEPS},
    },
    "worker_max_tasks_per_child": 2000,  # bounds what a leak can take
    "worker_max_memory_per_child": 300_000,  # KiB
    "worker_send_task_events": True,  # Flower shows the work; doorbells are few, so the price is small
    "task_send_sent_event": False,  # the price of one more publish a message, for nothing that Flower needs
    "worker_hijack_root_logger": False,  # the logs are ours (worker/logs.py)
    "beat_schedule": SCHEDULE,
    "beat_scheduler": "celery.beat:Scheduler",  # in memory: every entry is short, and harmless when run twice
    "beat_max_loop_interval": 5,
    "timezone": "UTC",
    "enable_utc": True,
}


def make_app(redis_url: str) -> Celery:
    """The worker's application on this broker (`redis://`, `rediss://`, `redis+socket://` or `sentinel://`)."""
    app = Celery("unwind", include=list(TASK_MODULES), set_as_current=False)
    app.conf.update(SETTINGS | broker(redis_url, TRANSPORT))
    return app


def make_sender(redis_url: str) -> Celery:
    """An application that only sends, for those who must answer soon: it gives up at once instead of trying again."""
    app = Celery("unwind-sender", set_as_current=False)
    at_once = {"max_retries": 1, "interval_start": 0, "interval_step": 0, "interval_max": 0}
    app.conf.update(SETTINGS | broker(redis_url, SENDER_TRANSPORT | at_once))
    return app


def broker(redis_url: str, transport: Mapping[str, object]) -> dict[str, object]:
    """The broker in Celery's words."""
    watched = sentinels_of(redis_url)
    if watched is None:
        return {"broker_url": redis_url, "broker_transport_options": dict(transport)}
    asked = {
        "password": watched.sentinel_password,
        "socket_timeout": transport["socket_timeout"],
        "socket_connect_timeout": transport["socket_connect_timeout"],
        "retry": Retry(NoBackoff(), 0),  # one that does not answer is passed over: the next one knows as much
    }
    told = {"master_name": watched.master, "sentinel_kwargs": asked}
    return {"broker_url": watched.kombu_url, "broker_transport_options": {**transport, **told}}
