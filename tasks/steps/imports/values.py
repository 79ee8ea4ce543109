"""A cell's text as an exact value. Raises Wrong, which says what is expected instead."""

from __future__ import annotations

import re
from collections.abc import Iterable
from datetime import UTC, date, datetime, time, timedelta
from difflib import get_close_matches
from zoneinfo import ZoneInfo

from models.rules.money import exponent
from models.rules.program import ID, POINTS_MAX
from tasks.steps.identifiers import normal_phone
from tasks.steps.imports.lines import shown

REFERENCE = re.compile(r"[A-Za-z0-9_.:/#+=-]{1,100}")
NUMBER_OF = "(?:gid://shopify/{}/)?([1-9][0-9]{{0,18}})"
CUSTOMER, ORDER = (re.compile(NUMBER_OF.format(kind)) for kind in ("Customer", "Order"))
DECIMAL = re.compile(r"([0-9]{1,18})(?:\.([0-9]{1,18}))?")
ROUNDED = re.compile(r"[0-9]+([.,][0-9]+)?[eE][+]?[0-9]+")
DATE = re.compile(r"[0-9]{4}-[0-9]{2}-[0-9]{2}")
MOMENT = re.compile(
    r"[0-9]{4}-[0-9]{2}-[0-9]{2}[T ][0-9]{2}:[0-9]{2}(:[0-9]{2}(\.[0-9]{1,6})?)?(Z|[+-][0-9]{2}:?[0-9]{2})?"
)
CURRENCY = re.compile(r"[A-Z]{3}")
CODE_MAX_CHARACTERS = 255  # Shopify's own limit of a discount code
WHOLE_MAX = 10**9
PADDED_BELOW = (
    12  # so many digits after 00 are a telephone number, fewer a number of something with zeros before it
)
FIRST, LAST = date(1970, 1, 1), date(2200, 1, 1)  # beyond them a year is a slip of the pen


class Wrong(ValueError):
    """A value that is none, for the reason that it tells."""


def reference(text: str) -> str:
    """The row's id in the other program. Nothing personal: it stands in the books for good."""
    if "@" in text:
        raise Wrong("looks like an e-mail address, and it is kept for good; give a number, or leave it empty")
    padded = text.isdigit() and len(text) < PADDED_BELOW
    if normal_phone(text) is not None and not padded:
        raise Wrong("looks like a telephone number, and it is kept for good; give another, or leave it empty")
    if not REFERENCE.fullmatch(text):
        raise Wrong(f"{shown(text)} is not 1 to 100 letters, digits or -_.:/#+=")
    return text


def customer_id(text: str) -> int:
    return _id(text, CUSTOMER, "customer", "gid://shopify/Customer/6940095564")


def order_id(text: str) -> int:
    return _id(text, ORDER, "order", "gid://shopify/Order/820982911946154500")


def _id(text: str, pattern: re.Pattern[str], kind: str, example: str) -> int:
    found = pattern.fullmatch(text)
    if found is not None and int(found[1]) < 2**63:
        return int(found[1])
    if ROUNDED.fullmatch(text):
        raise Wrong(f"{shown(text)} was rounded by a spreadsheet; format the column as text and export again")
    raise Wrong(
        f"{shown(text)} is not a {kind}'s id at Shopify, such as {example.rpartition('/')[2]} or {example}"
    )


def amount(text: str, scale: int, *, least: int = 0) -> int:
    """A decimal of the program's unit, in its smallest unit."""
    units = _scaled(text, scale)
    if not least <= units <= POINTS_MAX:
        raise Wrong(f"must be {'above 0' if least else 'at least 0'} and at most {POINTS_MAX}")
    return units


def money(text: str, currency_code: str) -> int:
    """A decimal in a currency, in its smallest unit."""
    units = _scaled(text, exponent(currency_code))
    if units > POINTS_MAX:
        raise Wrong(f"must be at most {POINTS_MAX} of the smallest unit")
    return units


def _scaled(text: str, places: int) -> int:
    found = DECIMAL.fullmatch(text)
    if found is None:
        if text.startswith("-"):
            raise Wrong(f"{shown(text)} is below zero; what a customer owes is not imported")
        raise Wrong(f"{shown(text)} is not a number such as 1250 or 12.50, without separators of thousands")
    whole, part = found[1], (found[2] or "").rstrip("0")
    if len(part) > places:
        raise Wrong(f"{shown(text)} has more decimals than the unit, which has {places}")
    return int(whole + part.ljust(places, "0"))


def whole(text: str) -> int:
    if not (text.isascii() and text.isdigit()) or len(text) > 10 or int(text) > WHOLE_MAX:
        raise Wrong(f"{shown(text)} is not a whole number of at least 0")
    return int(text)


def moment(text: str, zone: ZoneInfo, *, through: bool = False) -> datetime:
    """A time with its offset; a date alone is its beginning in the shop's time zone, or with `through` its end."""
    if DATE.fullmatch(text):
        found = day(text)
        return datetime.combine(found + timedelta(days=through), time(), zone).astimezone(UTC)
    if not MOMENT.fullmatch(text):
        raise Wrong(
            f"{shown(text)} is not a time such as 2026-01-31T12:00:00Z, nor a date such as 2026-01-31"
        )
    try:
        told = datetime.fromisoformat(text)
    except ValueError:
        raise Wrong(f"{shown(text)} is no time that there is") from None
    if told.tzinfo is None:
        raise Wrong(f"{shown(text)} does not say its offset, such as 2026-01-31T12:00:00Z or ...+02:00")
    _check_year(told.date(), text)
    return told.astimezone(UTC)


def day(text: str) -> date:
    if not DATE.fullmatch(text):
        raise Wrong(f"{shown(text)} is not a date such as 2026-01-31")
    try:
        found = date.fromisoformat(text)
    except ValueError:
        raise Wrong(f"{shown(text)} is no date that there is") from None
    _check_year(found, text)
    return found


def _check_year(told: date, text: str) -> None:
    if not FIRST <= told < LAST:
        raise Wrong(f"{shown(text)} is not between {FIRST.year} and {LAST.year}; leave it empty for never")


def one_of(text: str, known: Iterable[str], what: str) -> str:
    """A name that the program has."""
    names = list(known)
    if text in names:
        return text
    near = get_close_matches(text, names, n=1, cutoff=0.5)
    meant = f"is {near[0]} meant?" if near else f"known are {', '.join(sorted(names)) or 'none'}"
    raise Wrong(f"unknown {what} {shown(text)}; {meant}")


def identifier(text: str) -> str:
    if not ID.fullmatch(text):
        raise Wrong(f"{shown(text)} is not 1 to 64 letters, digits, '-', '_' or '.'")
    return text


def code(text: str) -> str:
    if len(text) > CODE_MAX_CHARACTERS or not text.isprintable():
        raise Wrong(f"is not 1 to {CODE_MAX_CHARACTERS} printable characters")
    return text


def currency(text: str) -> str:
    if not CURRENCY.fullmatch(text):
        raise Wrong(f"{shown(text)} is not a currency's code such as USD")
    return text
