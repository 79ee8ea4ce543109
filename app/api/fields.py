"""The kinds of value a caller may send, each read strictly, and how they stand in the OpenAPI document.

A body is read with exact decimals, so an amount is never a float; what is not exactly what it should be is refused
with the field named, never rounded, trimmed or guessed.
"""

from __future__ import annotations

import re
from datetime import UTC, datetime
from decimal import Decimal
from typing import Annotated, Any, ClassVar

from pydantic import BaseModel, BeforeValidator, ConfigDict, Field, PlainSerializer, WithJsonSchema

from models.errors import InvalidSetting
from models.rules.program import POINTS_MAX, units

ID_MAX = 2**63 - 1  # Shopify's ids are 64-bit; so is the column
ID_TEXT = re.compile(r"[1-9][0-9]{0,18}")
MONEY_TEXT = re.compile(r"[0-9]{1,12}(\.[0-9]{1,4})?")  # below 10**12: far above any order, far below 2**63
REASON_MAX_CHARACTERS = 200
REASON = "For people; kept in the record, so no personal data"  # what every `reason` says of itself
# One line of text: no control character, and at least one that is not blank. No character can begin in two places of
# the pattern, so that no text, however long, takes more than one look at each: callers' own tools run it, too.
BLANK = r" \x85\xa0\u1680\u2000-\u200a\u2028\u2029\u202f\u205f\u3000"
LINE_TEXT = re.compile(rf"[{BLANK}]*[^{BLANK}\x00-\x1f\x7f][^\x00-\x1f\x7f]*")


class Sent(BaseModel):
    """What callers send: nothing unknown, nothing converted behind their back."""

    model_config = ConfigDict(extra="forbid", strict=True, frozen=True, hide_input_in_errors=True)
    EXAMPLE: ClassVar[dict[str, Any]] = {}


class Given(BaseModel):
    """What callers are given. It describes the answers; tests hold every answer against it."""

    model_config = ConfigDict(extra="forbid")
    EXAMPLE: ClassVar[Any] = {}


def read_id(value: object) -> int:
    """An id, as text of digits or as a JSON number, as an integer. Raises ValueError."""
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise ValueError('must be an id, as text of digits such as "1234567890"')
    text = str(value) if isinstance(value, str) or value < 10**20 else ""
    if not ID_TEXT.fullmatch(text) or int(text) > ID_MAX:
        raise ValueError('must be an id, as text of digits such as "1234567890"')
    return int(text)


def read_points(value: object) -> int | Decimal:
    """A positive JSON number; whether it may have decimals depends on the program (see `smallest_units`)."""
    if isinstance(value, bool) or not isinstance(value, int | Decimal):
        raise ValueError("must be a number, such as 500")
    if not 0 < value <= POINTS_MAX:
        raise ValueError(f"must be more than 0 and at most {POINTS_MAX}")
    return value


def smallest_units(value: int | Decimal, field: str, scale: int) -> int:
    """A number of the program's unit in its smallest unit (10**-scale). Raises InvalidSetting naming the field."""
    if scale == 0 and isinstance(value, Decimal):
        raise InvalidSetting(field, "must be a whole number: this program counts points")
    return units(value, field, scale, least=1)


def read_money(value: object) -> str:
    if not isinstance(value, str) or not MONEY_TEXT.fullmatch(value.removeprefix("-")):
        raise ValueError('must be a decimal string such as "12.50"')
    if Decimal(value) <= 0:
        raise ValueError("must be more than 0")
    return value


def read_time(value: object) -> datetime:
    """A time with its offset, in UTC."""
    if not isinstance(value, str):
        raise ValueError('must be a time such as "2027-01-31T00:00:00Z"')
    try:
        at = datetime.fromisoformat(value)
        at = at.astimezone(UTC) if at.tzinfo else at
    except (ValueError, OverflowError):
        raise ValueError('must be a time such as "2027-01-31T00:00:00Z"') from None
    if at.tzinfo is None:
        raise ValueError("must say its offset from UTC, such as Z or +02:00")
    return at


def read_future(value: object) -> datetime:
    """A time to come."""
    at = read_time(value)
    if at <= datetime.now(UTC):
        raise ValueError("must lie in the future")
    return at


def read_line(value: object) -> str:
    """One line of text for people."""
    if not isinstance(value, str):
        raise ValueError('must be text, such as "17"')
    if not LINE_TEXT.fullmatch(value):
        raise ValueError("must be one line of text, not empty")
    return value


TEXT_ID = {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}
ID_SCHEMA = {
    "anyOf": [TEXT_ID, {"type": "integer", "minimum": 1, "maximum": ID_MAX}],
    "description": "An id, as text of digits (a JSON number is taken too)",
}
POINTS_SCHEMA = {
    "type": "number",
    "minimum": 0.001,
    "maximum": POINTS_MAX,
    "description": "In the program's unit; whole for points, at most three decimals for credits",
}
MONEY_SCHEMA = {
    "type": "string",
    "pattern": f"^{MONEY_TEXT.pattern}$",
    "description": "In the shop's currency",
}
TIME_SCHEMA = {"type": "string", "format": "date-time"}

IdIn = Annotated[int, BeforeValidator(read_id), WithJsonSchema(ID_SCHEMA)]
PointsIn = Annotated[int | Decimal, BeforeValidator(read_points), WithJsonSchema(POINTS_SCHEMA)]
MoneyIn = Annotated[str, BeforeValidator(read_money), WithJsonSchema(MONEY_SCHEMA)]
FutureIn = Annotated[
    datetime, BeforeValidator(read_future), WithJsonSchema(TIME_SCHEMA), PlainSerializer(str)
]
TimeIn = Annotated[datetime, BeforeValidator(read_time), WithJsonSchema(TIME_SCHEMA), PlainSerializer(str)]
LineIn = Annotated[
    str, Field(json_schema_extra={"pattern": f"^{LINE_TEXT.pattern}$"}), BeforeValidator(read_line)
]

Id = Annotated[str, Field(pattern="^[0-9]+$", description="An id, as text")]
Points = Annotated[int | float, Field(description="In the program's unit")]
Money = Annotated[
    str, Field(pattern=r"^-?[0-9]+(\.[0-9]+)?$", description="Decimal, in the currency beside it")
]
Time = Annotated[str, WithJsonSchema(TIME_SCHEMA)]
