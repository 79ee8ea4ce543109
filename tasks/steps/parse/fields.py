"""One field of a payload to a value we trust, or Unparseable with the field's name and a reason.

Reasons never quote what was sent: a payload holds personal data, and reasons are shown and logged.
"""

from __future__ import annotations

import re
from collections.abc import Callable
from datetime import UTC, date, datetime, time
from typing import Any, TypeVar

from models.errors import Unparseable
from models.rules.money import exponent
from tasks.steps.parse.body import Node

T = TypeVar("T")

MAX_ID = 2**63 - 1  # PostgreSQL's bigint; Shopify's ids are 64-bit
MAX_QUANTITY = 2**31 - 1
MAX_WHOLE = 10**12  # at most 12 digits before the point: no order is worth more in any currency
MAX_TEXT = 255

_AMOUNT = re.compile(r"(-?)([0-9]{1,12})(?:\.([0-9]{1,30}))?")
_CURRENCY = re.compile(r"[A-Z]{3}")
_NOT_STORABLE = re.compile("[\\x00\\ud800-\\udfff]")  # PostgreSQL refuses NUL, UTF-8 refuses lone surrogates
_NOTHING: Node = {}


def id_in(node: Node, key: str) -> int:
    """A required id."""
    found = optional_id_in(node, key)
    if found is None:
        raise Unparseable(key, "is missing")
    return found


def optional_id_in(node: Node, key: str) -> int | None:
    """A whole number or its digits as text, 0 < id < 2^63. None when absent or null."""
    value = node.get(key)
    if value is None:
        return None
    if type(value) is str and value.isascii() and value.isdecimal() and len(value) <= 19:
        value = int(value)
    if type(value) is not int:
        raise Unparseable(key, "is not an id")
    if not 0 < value <= MAX_ID:
        raise Unparseable(key, "is outside the range of ids")
    return value


def quantity_in(node: Node, key: str, default: int | None = None) -> int:
    """Whole units, not negative."""
    value = node.get(key, default)
    if value is None:
        value = default
    if type(value) is str and value.isascii() and value.isdecimal() and len(value) <= 10:
        value = int(value)
    if type(value) is not int or not 0 <= value <= MAX_QUANTITY:
        raise Unparseable(key, "is missing" if value is None else "is not a number of units")
    return value


def flag_in(node: Node, key: str) -> bool:
    """True or false; absent and null are false."""
    value = node.get(key)
    if value is not None and type(value) is not bool:
        raise Unparseable(key, "is neither true nor false")
    return value is True


def text_in(node: Node, key: str, default: str | None = None) -> str:
    """Text that can be stored, without spaces around it; `default` when absent, null or blank."""
    value = node.get(key)
    if value is not None and type(value) is not str:
        raise Unparseable(key, "is not text")
    value = value.strip() if value else None
    if not value:
        if default is None:
            raise Unparseable(key, "is missing")
        return default
    if len(value) > MAX_TEXT:
        raise Unparseable(key, f"is longer than {MAX_TEXT} characters")
    if not (value.isascii() and value.isprintable()) and _NOT_STORABLE.search(value):
        raise Unparseable(key, "holds a character that cannot be stored")
    return value


def currency_in(node: Node, key: str, default: str = "") -> str:
    """An ISO 4217 code; `default` when absent or null."""
    value = node.get(key)
    if value is None:
        return default
    if type(value) is not str or not _CURRENCY.fullmatch(value):
        raise Unparseable(key, "is not a currency code")
    return value


YEARS = range(1971, 2200)  # outside of it calendars end, and no order was ever placed


def time_in(node: Node, *keys: str) -> datetime:
    """The first of `keys` that is there, in UTC."""
    for key in keys:
        found = optional_time_in(node, key)
        if found is not None:
            return found
    raise Unparseable(keys[0], "is missing")


def optional_time_in(node: Node, key: str) -> datetime | None:
    """An ISO 8601 time with its offset, in UTC. None when absent or null."""
    value = node.get(key)
    if value is None:
        return None
    if type(value) is not str:
        raise Unparseable(key, "is not a time")
    try:
        found = datetime.fromisoformat(value)
        if found.year not in YEARS:
            raise ValueError(value)
        if found.tzinfo is not None:
            return found.astimezone(UTC)
    except (ValueError, OverflowError):
        raise Unparseable(key, "is not a time") from None
    raise Unparseable(key, "is a time without an offset")


def day_or_time_in(node: Node, *keys: str) -> datetime:
    """As `time_in`, but a bare date is the start of that day in UTC (disputes are finalized on a day)."""
    for key in keys:
        value = node.get(key)
        if type(value) is str and len(value) == len("2026-01-31"):
            try:
                return datetime.combine(date.fromisoformat(value), time(), UTC)
            except ValueError:
                raise Unparseable(key, "is not a day") from None
        if value is not None:
            return time_in(node, key)
    raise Unparseable(keys[0], "is missing")


def node_in(node: Node, key: str) -> Node:
    """An object; empty when absent or null."""
    value = node.get(key)
    if value is None:
        return _NOTHING
    if type(value) is not dict:
        raise Unparseable(key, "is not an object")
    return value


def read_in(node: Node, key: str, read: Callable[[Node], T]) -> T:
    """`read` over one object (empty when absent or null), its complaints under the object's path."""
    inner = node_in(node, key)
    try:
        return read(inner)
    except Unparseable as error:
        raise Unparseable(f"{key}.{error.field}", error.reason) from None


def items_in(node: Node, key: str) -> list[Node]:
    """A list of objects. Absent, null and `{}` (some payloads' empty list) are empty."""
    value = node.get(key)
    if not value and (value is None or type(value) in (list, dict)):
        return []
    if type(value) is not list:
        raise Unparseable(key, "is not a list")
    for index, item in enumerate(value):
        if type(item) is not dict:
            raise Unparseable(f"{key}[{index}]", "is not an object")
    return value


def each_in(node: Node, key: str, read: Callable[[Node], T]) -> list[T]:
    """`read` over a list of objects, its complaints under the item's path."""
    found: list[T] = []
    for index, item in enumerate(items_in(node, key)):
        try:
            found.append(read(item))
        except Unparseable as error:
            raise Unparseable(f"{key}[{index}].{error.field}", error.reason) from None
    return found


def money_in(node: Node, key: str, currency: str, *, default: int | None = None, signed: bool = False) -> int:
    """Shop money in smallest units: `<key>_set.shop_money` when it is there, else the plain `<key>` (S1).

    Absent or null is `default`; without one it is refused, as is shop money in another currency than `currency`.
    """
    shop = side_of(node, key, "shop_money")
    if shop is None:
        value = node.get(key)
        if value is None and default is not None:
            return default
        return minor_of(value, currency, key, signed=signed)
    named = shop.get("currency_code")
    if named != currency and named is not None and currency:
        raise Unparseable(f"{key}_set.shop_money.currency_code", f"is not the order's currency {currency}")
    return minor_of(shop["amount"], currency, f"{key}_set.shop_money.amount", signed=signed)


def side_of(node: Node, key: str, side: str) -> Node | None:
    """One side (`shop_money` or `presentment_money`) of an amount set, when it holds an amount."""
    both = node.get(key + "_set")
    if type(both) is not dict:
        return None
    money = both.get(side)
    if type(money) is not dict or money.get("amount") is None:
        return None
    return money


def minor_of(value: Any, currency: str, field: str, *, signed: bool = False) -> int:
    """An amount (decimal text or a JSON number) in smallest units of `currency`, exactly.

    Refused: more than 12 digits before the point, decimals finer than the smallest unit unless zeros, a negative
    amount unless `signed`, and any value but zero when no currency is known.
    """
    minor: int
    if type(value) is int:
        minor = value * 10 ** exponent(currency)
        if not -MAX_WHOLE < value < MAX_WHOLE:
            raise Unparseable(field, "is too large for an amount")
    elif type(value) is str and (match := _AMOUNT.fullmatch(value)):
        minor = _scaled(match, currency, field)
    else:
        raise Unparseable(field, "is missing" if value is None else "is not an amount")
    if minor < 0 and not signed:
        raise Unparseable(field, "is negative")
    if minor and not currency:
        raise Unparseable(field, "has no currency: the payload names none")
    return minor


def _scaled(match: re.Match[str], currency: str, field: str) -> int:
    minus, whole, decimals = match.groups()
    places = exponent(currency)
    decimals = (decimals or "").ljust(places, "0")
    if decimals[places:].strip("0"):
        raise Unparseable(field, f"has more decimals than {currency or 'the currency'} knows")
    minor = int(whole + decimals[:places])
    return -minor if minus else minor
