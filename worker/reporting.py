"""Errors to Sentry. Loaded only when SENTRY_DSN is set (worker/telemetry.py).

What is sent is made here, from what is known to be harmless: the event's name, ids, and where in our code it happened.
No request, no header, no body, no local variable, and the words of an error only when it is one of ours.
"""

from __future__ import annotations

import logging
import re
import sys
from importlib.metadata import version
from typing import Any

import sentry_sdk
from sentry_sdk.utils import event_from_exception

from models.errors import UnwindError

TAGS = ("shop", "topic", "webhook_id", "event_id", "order_id", "refund_id", "task", "task_id", "kind", "outbox_id",
        "shop_id", "endpoint_id", "code", "reason", "path")  # fmt: skip
KEPT = ("event_id", "timestamp", "level", "logger", "message", "tags", "exception", "platform", "release", "environment",
        "contexts", "sdk", "threads")  # fmt: skip
PERSONAL = re.compile(
    r"[^\s@<>\"']+@[^\s@<>\"']+|\+?\d[\d ()./-]{8,}\d(?!\w)|shp[a-z]{2}_\w+|Bearer \S+"
    r"|whsec_\S+|eyJ[\w-]+\.[\w.-]+"
)
HIDDEN = "[not sent]"
FLUSH_SECONDS = 3.0


class ToSentry(logging.Handler):
    """Every line of severity ERROR becomes an event."""

    def __init__(self, dsn: str) -> None:
        super().__init__(logging.ERROR)
        sentry_sdk.init(
            dsn=dsn,
            release=f"unwind@{version('unwind')}",
            send_default_pii=False,
            include_local_variables=False,
            max_request_body_size="never",
            max_breadcrumbs=0,
            default_integrations=False,  # they look at requests, headers and log messages; we tell it what to know
            auto_enabling_integrations=False,
            server_name="",
            before_send=scrubbed,
        )

    def emit(self, record: logging.LogRecord) -> None:
        try:
            sentry_sdk.capture_event(event_of(record))
        except Exception:
            self.handleError(record)

    def flush(self) -> None:
        sentry_sdk.flush(FLUSH_SECONDS)


def event_of(record: logging.LogRecord) -> Any:
    """A line as an event: its name (of a foreign one the words without what was filled in), its ids, its error."""
    said: dict[str, Any] = record.msg if isinstance(record.msg, dict) else {"event": str(record.msg)}
    event: dict[str, Any] = {}
    error = error_in(said.get("exc_info") or record.exc_info)
    if error is not None:
        options = sentry_sdk.get_client().options
        event, _ = event_from_exception((type(error), error, error.__traceback__), client_options=options)  # type: ignore[assignment]
    return {
        **event,
        "level": record.levelname.lower(),
        "logger": record.name,
        "message": str(said.get("event", "")),
        "tags": {name: str(said[name]) for name in TAGS if said.get(name) is not None},
    }


def error_in(given: Any) -> BaseException | None:
    """The exception that a line is about: itself, as a triple, or the one that is being handled."""
    if isinstance(given, BaseException):
        return given
    found = given[1] if isinstance(given, tuple) else sys.exc_info()[1] if given else None
    return found if isinstance(found, BaseException) else None


def scrubbed(event: Any, hint: Any) -> Any:
    """The last door: only what is listed passes, variables and foreign words never do, and what looks personal is hidden."""
    found = {name: value for name, value in event.items() if name in KEPT}
    ours = {kind.__name__ for kind in all_kinds(UnwindError)}
    for error in found.get("exception", {}).get("values", []):
        if error.get("type") not in ours:
            error["value"] = HIDDEN
        for frame in error.get("stacktrace", {}).get("frames", []):
            frame.pop("vars", None)
    return hidden(found, keep=("event_id", "timestamp", "release", "trace_id", "span_id", "shop", "webhook_id", "task_id",
                               "lineno", "abs_path", "filename", "order_id", "refund_id", "outbox_id"))  # fmt: skip


def hidden(value: Any, *, keep: tuple[str, ...]) -> Any:
    """Whatever looks like an address, a number to call or a token, blanked; ids of ours stand."""
    if isinstance(value, dict):
        return {name: each if name in keep else hidden(each, keep=keep) for name, each in value.items()}
    if isinstance(value, list):
        return [hidden(each, keep=keep) for each in value]
    return PERSONAL.sub(HIDDEN, value) if isinstance(value, str) else value


def all_kinds(kind: type[BaseException]) -> set[type[BaseException]]:
    return {kind}.union(*(all_kinds(each) for each in kind.__subclasses__()))
