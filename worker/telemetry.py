"""Tracing and error reports, when settings ask for them; their packages are extras, and loaded only then."""

from __future__ import annotations

import importlib
import logging
from types import ModuleType
from typing import Any

from celery import signals

from models import telemetry
from models.errors import InvalidSetting
from models.settings import Settings, load_settings
from worker.logs import SHOWN

_kept: dict[str, Any] = {}


def start(settings: Settings, service: str) -> None:
    """In each process, after it was forked. Raises InvalidSetting when the package of what is set is not there."""
    if settings.otel_exporter_otlp_endpoint:
        tracing = extra("worker.tracing", "OTEL_EXPORTER_OTLP_ENDPOINT", "otel")
        _kept["tracer"] = tracing.OpenTelemetry(settings.otel_exporter_otlp_endpoint, service)
        telemetry.install(_kept["tracer"])
    dsn = settings.sentry_dsn.get_secret_value()
    if dsn:
        reporting = extra("worker.reporting", "SENTRY_DSN", "sentry")
        root = logging.getLogger()
        if not any(isinstance(handler, reporting.ToSentry) for handler in root.handlers):
            root.addHandler(reporting.ToSentry(dsn))


def check(settings: Settings) -> None:
    """Refuse at the start what would only be missed later."""
    if settings.otel_exporter_otlp_endpoint:
        extra("worker.tracing", "OTEL_EXPORTER_OTLP_ENDPOINT", "otel")
    if settings.sentry_dsn.get_secret_value():
        extra("worker.reporting", "SENTRY_DSN", "sentry")


def extra(module: str, setting: str, name: str) -> ModuleType:
    try:
        return importlib.import_module(module)
    except ModuleNotFoundError as error:
        reason = f"is set, but {error.name} is not installed; run: pip install 'unwind[{name}]'"
        raise InvalidSetting(setting, reason) from None


def listen_to_celery() -> None:
    """In each of a worker's processes: a span for each task, which goes on with the trace of what rang for it."""
    check(load_settings())
    signals.worker_process_init.connect(_start, weak=False, dispatch_uid="unwind-telemetry")
    signals.beat_init.connect(_start, weak=False, dispatch_uid="unwind-telemetry")
    signals.worker_process_shutdown.connect(_end, weak=False, dispatch_uid="unwind-telemetry")
    signals.task_prerun.connect(_enter, weak=False, dispatch_uid="unwind-span")
    signals.task_postrun.connect(_leave, weak=False, dispatch_uid="unwind-span")


def _start(**_: Any) -> None:
    start(load_settings(), "unwind-worker")


def _end(**_: Any) -> None:
    end()


def _enter(task_id: str, task: Any, kwargs: dict[str, Any], **_: Any) -> None:
    if not telemetry.is_on() or not task.send_events:  # not those that tick
        return
    shown = {name: kwargs[name] for name in SHOWN if name in kwargs}
    around = telemetry.span(task.name, kind="consumer", parent=str(kwargs.get("trace", "")), **shown)
    _kept[task_id] = (around, around.__enter__())


def _leave(task_id: str, state: str | None = None, **_: Any) -> None:
    if task_id in _kept:
        around, note = _kept.pop(task_id)
        note(state=state)
        around.__exit__(None, None, None)


def end() -> None:
    """Send what is still here; a process is about to end."""
    if "tracer" in _kept:
        _kept["tracer"].flush()
    for handler in logging.getLogger().handlers:
        handler.flush()
