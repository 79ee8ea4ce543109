"""What goes out: an answer as JSON text. Errors are `app.errors`' matter; here only which of them are kept."""

from __future__ import annotations

import json
from collections.abc import Iterator
from decimal import Decimal
from typing import IO, Any

from flask import Response

from app import errors
from app.api.errors import Unprocessable
from app.api.idempotency import Answer
from models.errors import InvalidSetting, NotFound, Refused, UnwindError

# Refusals of what the body names; the others are conflicts with how things stand (409).
UNPROCESSABLE = frozenset(
    {
        "unknown_customer",
        "unknown_reward",
        "unknown_tier",
        "unknown_line",
        "wrong_amount",
        "wrong_quantity",
        "wrong_sources",
        "expires_in_the_past",
        "too_many_rows",
    }
)


PIECE_BYTES = 64 * 1024  # of a file, at a time


def json_text(value: Any) -> str:
    return json.dumps(value, ensure_ascii=False, separators=(",", ":"), default=json_number)


def json_number(value: object) -> float:
    """Credits as a JSON number. A float only for the encoder, which writes the shortest text that means it: the same."""
    if not isinstance(value, Decimal):
        raise TypeError(f"{type(value).__name__} is not JSON")
    number = float(value)
    assert Decimal(repr(number)) == value, value
    return number


def response_of(answer: Answer) -> Response:
    kind = answer.media_type
    response = Response(
        answer.text if answer.file is None else pieces(answer.file),
        status=answer.status,
        content_type=f"{kind}; charset=utf-8" if kind.startswith("text/") else kind,
    )
    if answer.file is not None:
        response.call_on_close(answer.file.close)  # also when nobody reads it
    if answer.again:
        response.headers["Idempotent-Replayed"] = "true"
    return response


def pieces(file: IO[bytes]) -> Iterator[bytes]:
    with file:
        while piece := file.read(PIECE_BYTES):
            yield piece


def with_headers(response: Response) -> Response:
    """What every answer says of itself, errors too: it is nobody else's, and nothing but what it says it is."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    return response


def refusal(error: UnwindError) -> Answer | None:
    """The answer to a call that was understood and refused, None for every other error.

    Such an answer is as final as a success: under an Idempotency-Key it is kept.
    """
    if not isinstance(error, NotFound | InvalidSetting | Refused | Unprocessable):
        return None
    response = errors.ours(error)
    return Answer(status=response.status_code, text=response.get_data(as_text=True))


def as_asked(error: Refused) -> UnwindError:
    """A refusal as the error that says whose fault it is: the body's, or the state of things."""
    return Unprocessable(error) if error.code in UNPROCESSABLE else error
