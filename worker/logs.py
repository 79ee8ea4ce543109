"""Structured logs of every process: JSON for machines, console for people. Ids only, no personal data, no secrets."""

from __future__ import annotations

import json
import logging
import sys
from collections.abc import Iterable, Mapping
from datetime import UTC, datetime
from typing import Any

import structlog
from celery.signals import setup_logging, task_postrun, task_prerun
from structlog.typing import Processor

from models.settings import Settings, load_settings

SHOWN = ("shop", "topic", "order_id", "refund_id", "event_id")  # of a task's arguments, in every line it logs

TASK_LOGGERS = frozenset(["celery.worker.strategy", "celery.app.trace", "celery.beat"])
EVERY_FEW_SECONDS = ("sweeps.ring", "outbox.ring", "clock.mature")

SHARED: tuple[Processor, ...] = (
    structlog.contextvars.merge_contextvars,
    structlog.stdlib.add_log_level,
    structlog.stdlib.add_logger_name,
    structlog.processors.TimeStamper(fmt="iso", utc=True),
    structlog.stdlib.ExtraAdder(allow=()),
)


def configure(settings: Settings) -> None:
    """Send structlog's and the standard library's lines the same way, to standard error. Safe to run twice."""
    level = logging.getLevelNamesMapping()[settings.log_level]
    structlog.configure(
        processors=[
            structlog.contextvars.merge_contextvars,
            structlog.stdlib.add_logger_name,
            structlog.stdlib.add_log_level,
            structlog.processors.TimeStamper(fmt="iso", utc=True),
            structlog.stdlib.ProcessorFormatter.wrap_for_formatter,
        ],
        wrapper_class=structlog.make_filtering_bound_logger(level),
        logger_factory=structlog.stdlib.LoggerFactory(),
        cache_logger_on_first_use=True,
    )
    handler = logging.StreamHandler(sys.stderr)
    handler.setFormatter(formatter(settings))
    handler.addFilter(is_news)
    root = logging.getLogger()
    root.handlers = [handler]
    root.setLevel(level)
    _written["plainly"] = settings.log_format == "json" and level <= logging.INFO
    logging.getLogger("alembic").setLevel(logging.WARNING)  # readiness asks for the schema's version all day
    # in detail it tells every address, and a bulk result's is signed
    logging.getLogger("urllib3").setLevel(max(level, logging.INFO))


_written = {"plainly": False}


def each(logger: str, event: str, lines: Iterable[Mapping[str, object]]) -> None:
    """A line for each, in one go: what the receiver tells of every webhook may cost microseconds.

    The same lines as `log.info(event, **line)`, without what a line can not need there.
    """
    if not _written["plainly"]:
        log = structlog.get_logger(logger)
        for line in lines:
            log.info(event, **line)
        return
    end = {
        "event": event,
        "logger": logger,
        "level": "info",
        "timestamp": datetime.now(UTC).isoformat().replace("+00:00", "Z"),
    }
    sys.stderr.write("".join([json.dumps({**line, **end}) + "\n" for line in lines]))


def is_news(record: logging.LogRecord) -> bool:
    """Not the coming and going of tasks that run every few seconds and mostly find nothing; what they find they log."""
    if record.levelno > logging.INFO or record.name not in TASK_LOGGERS:
        return True
    said = record.getMessage()
    return not any(name in said for name in EVERY_FEW_SECONDS)


def formatter(settings: Settings) -> logging.Formatter:
    """An error is shown with its place; the local variables, which may hold anything, never are."""
    console = structlog.dev.ConsoleRenderer(
        colors=sys.stderr.isatty(), exception_formatter=structlog.dev.plain_traceback
    )
    as_text: tuple[Processor, ...] = (
        (structlog.processors.format_exc_info, structlog.processors.JSONRenderer())
        if settings.log_format == "json"
        else (console,)
    )
    remove_meta = structlog.stdlib.ProcessorFormatter.remove_processors_meta
    return structlog.stdlib.ProcessorFormatter(foreign_pre_chain=SHARED, processors=[remove_meta, *as_text])


def listen_to_celery() -> None:
    """Take over Celery's logging, and name the shop and the ids in every line of a task."""
    setup_logging.connect(_configure, weak=False, dispatch_uid="unwind-logs")
    task_prerun.connect(_bind, weak=False, dispatch_uid="unwind-bind")
    task_postrun.connect(_unbind, weak=False, dispatch_uid="unwind-unbind")


def _configure(**_: Any) -> None:
    configure(load_settings())


def _bind(task_id: str, task: Any, kwargs: dict[str, Any], **_: Any) -> None:
    shown = {name: kwargs[name] for name in SHOWN if name in kwargs}
    structlog.contextvars.bind_contextvars(task=task.name, task_id=task_id, **shown)


def _unbind(**_: Any) -> None:
    structlog.contextvars.clear_contextvars()
