"""Cursors: where a page ended, opaque to callers, so that what is behind them may change."""

from __future__ import annotations

import base64
import binascii
import re
from typing import Annotated

from pydantic import BeforeValidator, WithJsonSchema

from app.api.fields import ID_MAX, Sent

LIMIT_DEFAULT, LIMIT_MAX = 50, 200
CURSOR = re.compile(r"before:([1-9][0-9]{0,18})")


def cursor_text(id: int | None) -> str | None:
    """The cursor of a page that ended with row `id`."""
    if id is None:
        return None
    return base64.urlsafe_b64encode(f"before:{id}".encode()).decode().rstrip("=")


def read_cursor(value: object) -> int:
    """The row that the page before ended with. Raises ValueError for what was never given out."""
    text = str(value)
    try:
        plain = base64.b64decode(text + "=" * (-len(text) % 4), altchars=b"-_", validate=True).decode()
    except (binascii.Error, UnicodeError, ValueError):
        plain = ""
    found = CURSOR.fullmatch(plain)
    if found is None or int(found[1]) > ID_MAX:
        raise ValueError("is not a cursor that was given here")
    return int(found[1])


def read_limit(value: object) -> int:
    text = str(value)
    if not re.fullmatch(r"[1-9][0-9]{0,2}", text) or int(text) > LIMIT_MAX:
        raise ValueError(f"must be a whole number between 1 and {LIMIT_MAX}")
    return int(text)


CursorIn = Annotated[
    int,
    BeforeValidator(read_cursor),
    WithJsonSchema(
        {
            "type": "string",
            "pattern": "^[A-Za-z0-9_-]+$",
            "description": "`next_cursor` of the page before",
        }
    ),
]
LimitIn = Annotated[
    int,
    BeforeValidator(read_limit),
    WithJsonSchema({"type": "integer", "minimum": 1, "maximum": LIMIT_MAX, "default": LIMIT_DEFAULT}),
]


class PageQuery(Sent):
    cursor: CursorIn | None = None
    limit: LimitIn = LIMIT_DEFAULT
