"""Errors that only the API knows, beside those of `models.errors`; `app.errors` turns all of them into answers."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from typing import Any

from pydantic import ValidationError
from pydantic_core import ErrorDetails

from models.errors import Never, Refused


class ApiError(Never):
    """A call that cannot be answered as asked. `status` is HTTP's, `code` is stable, the message is for people."""

    status = 400
    code = "bad_request"

    def __init__(self, message: str, details: Any = None, headers: Mapping[str, str] | None = None) -> None:
        super().__init__(message)
        self.details = details
        self.headers = dict(headers or {})


class NotJson(ApiError):
    code = "not_json"


class Unauthorized(ApiError):
    status = 401
    code = "unauthorized"

    def __init__(self, message: str, *, error: str = "", headers: Mapping[str, str] | None = None) -> None:
        challenge = 'Bearer realm="unwind"' + (f', error="{error}"' if error else "")
        super().__init__(message, headers={"WWW-Authenticate": challenge, **(headers or {})})


class UnsupportedMediaType(ApiError):
    status = 415
    code = "unsupported_media_type"


class InvalidRequest(ApiError):
    """Fields that are unknown, missing or impossible; `details` names the first, and the others."""

    status = 422
    code = "invalid_request"

    def __init__(self, wrong: Sequence[tuple[str, str]]) -> None:
        field, reason = wrong[0]
        details: dict[str, Any] = {"field": field, "reason": reason}
        if len(wrong) > 1:
            details["others"] = [{"field": field, "reason": reason} for field, reason in wrong[1:]]
        super().__init__(f"{field}: {reason}", details)


class Unprocessable(ApiError):
    """A step refused what the body names; the code is the step's."""

    status = 422

    def __init__(self, refused: Refused) -> None:
        super().__init__(str(refused), refused.details or None)
        self.code = refused.code


class KeyReused(ApiError):
    status = 422
    code = "idempotency_key_reused"

    def __init__(self) -> None:
        super().__init__("this Idempotency-Key was used with another call or body; take a new key")


MOST_SHOWN = 20  # of one body's faults


WORDS = {  # by the validator's name of the fault
    "missing": "is required",
    "extra_forbidden": "is not known here",
    "string_too_long": "must have at most {max_length} characters",
    "string_too_short": "must not be empty",
    "too_long": "must have at most {max_length} entries",
    "too_short": "must not be empty",
    "bool_type": "must be true or false",
    "bool_parsing": "must be true or false",
    "int_type": "must be a whole number",
    "int_parsing": "must be a whole number",
    "string_type": "must be text",
    "list_type": "must be a list",
    "model_type": "must be an object",
    "dict_type": "must be an object",
    "greater_than": "must be more than {gt}",
    "greater_than_equal": "must be at least {ge}",
    "less_than_equal": "must be at most {le}",
    "literal_error": "must be {expected}",
    "enum": "must be {expected}",
}


def from_pydantic(error: ValidationError) -> InvalidRequest:
    """Each fault with its field's dotted path, never with what was sent."""
    faults = error.errors(include_url=False, include_input=False)
    return InvalidRequest([(path_of(fault["loc"]), sentence(fault)) for fault in faults[:MOST_SHOWN]])


def path_of(location: Sequence[int | str]) -> str:
    """("sources", 0, "amount") -> sources[0].amount"""
    text = "".join(f"[{part}]" if isinstance(part, int) else f".{part[:80]}" for part in location)
    return text.lstrip(".") or "body"


def sentence(fault: ErrorDetails) -> str:
    """What is wrong in our words; the validator's own speak of its insides."""
    kind, numbers = fault["type"], fault.get("ctx", {})
    if kind == "too_long" and numbers["field_type"] == "Value":  # a text that we read ourselves
        kind = "string_too_long"
    if kind in WORDS:
        return WORDS[kind].format_map(numbers)
    text = fault["msg"].removeprefix("Value error, ")
    return text[:1].lower() + text[1:]
