"""Which HTTP answer each error becomes: `{"error": {"code", "message", "details"}}`, and never what is inside."""

from __future__ import annotations

from typing import Any

import structlog
from flask import Flask, Response, g, jsonify, request
from sqlalchemy.exc import OperationalError, TimeoutError
from werkzeug.exceptions import HTTPException

from models.errors import (
    InvalidSetting,
    Later,
    MissingWebhookId,
    NotFound,
    Refused,
    UnknownShop,
    UnknownTopic,
    Unparseable,
    UnwindError,
)

log = structlog.get_logger(__name__)

RETRY_AFTER_SECONDS = 10
STATUS_OF: tuple[tuple[type[UnwindError], int], ...] = (  # the first that fits
    (Later, 503),
    (NotFound, 404),
    (UnknownShop, 404),
    (Refused, 409),
    (InvalidSetting, 422),
    (Unparseable, 422),
    (UnknownTopic, 422),
    (MissingWebhookId, 422),
)


def register(app: Flask) -> None:
    app.register_error_handler(UnwindError, ours)
    app.register_error_handler(HTTPException, of_http)
    app.register_error_handler(OperationalError, busy)
    app.register_error_handler(TimeoutError, busy)
    app.register_error_handler(Exception, unexpected)


def ours(error: UnwindError) -> Response:
    """An error of ours. One that names its own `status` (the API's) keeps it; what is nobody's fault outside is 500."""
    status = getattr(error, "status", None) or next(
        (s for kind, s in STATUS_OF if isinstance(error, kind)), 500
    )
    if status >= 500 and not isinstance(error, Later):
        return unexpected(error)
    response = answer(status, error.code, str(error), details_of(error))
    response.headers.extend(getattr(error, "headers", {}))
    if isinstance(error, Later):
        come_back(response, getattr(error, "retry_after_seconds", RETRY_AFTER_SECONDS))
    return response


def come_back(response: Response, seconds: int) -> None:
    """Say when. Kept aside too: what counts calls writes the end of its minute there (`app/api/limits.py`)."""
    g.come_back = response.headers["Retry-After"] = str(seconds)


def details_of(error: UnwindError) -> Any:
    if isinstance(error, InvalidSetting | Unparseable):
        return {"field": error.field, "reason": error.reason}
    return getattr(error, "details", None) or None


def of_http(error: HTTPException) -> Response:
    """404, 405, 413 and their like. Their own headers (Allow, Retry-After) are kept."""
    code = (error.name or "error").lower().replace(" ", "_")
    response = answer(error.code or 500, code, error.description or error.name)
    kept = {
        name: value for name, value in error.get_headers() if name not in ("Content-Type", "Content-Length")
    }
    response.headers.extend(kept)
    return response


def busy(error: OperationalError | TimeoutError) -> Response:
    """The database is away, or took too long."""
    log.error("database_busy", error=type(error).__name__, path=request.path)
    response = answer(503, "database_busy", "the database does not answer; try again soon")
    come_back(response, RETRY_AFTER_SECONDS)
    return response


def unexpected(error: Exception) -> Response:
    """A fault of ours: the log has it whole, the caller gets nothing of it."""
    log.error("unexpected", path=request.path, exc_info=error)
    return answer(500, "internal", "something went wrong on our side; it has been logged")


def answer(status: int, code: str, message: str, details: Any = None) -> Response:
    response = jsonify({"error": {"code": code, "message": message, "details": details}})
    response.status_code = status
    return response
