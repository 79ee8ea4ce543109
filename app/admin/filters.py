"""Values as people read them: times in the store's own time zone, amounts with their unit, flags and states in words."""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from zoneinfo import ZoneInfo

from flask import g
from markupsafe import Markup, escape

from tasks.steps.words import REASONS

ISO_TIME = re.compile(r"\d{4}-\d\d-\d\dT\d\d:\d\d:\d\d(?:\.\d+)?(?:Z|[+-]\d\d:\d\d)")
LATE = timedelta(days=1)
TYPED = re.compile(r"`([^`]+)`")


# In sentences of the record: amounts of money, of points before their unit or beside a balance. Not ids, `#1042`, `2/49081`.
AMOUNT = re.compile(
    r"(?<![\w/#.-])\d{4,}(?=\.\d| (?:points?|credits?|of|before)\b)"
    r"|(?:(?<=balance )|(?<=stays )|(?<=→ )|(?<= of ))\d{4,}(?![\d/])"
)


def when(at: str | datetime | None) -> Markup:
    """`5 Mar 2026, 09:30`, in the program's time zone; the exact time for programs and on hover."""
    if at is None:
        return Markup("&ndash;")
    exact = moment(at)
    shown = f"{exact.astimezone(zone()):%Y-%m-%d %H:%M:%S}"
    return Markup('<time datetime="{}" title="{} {}">{}</time>').format(
        exact.isoformat(), shown, str(zone()), local(exact)
    )


def local(at: str | datetime) -> str:
    """`5 Mar 2026, 09:30`, bare."""
    there = moment(at).astimezone(zone())
    return f"{there.day} {there:%b %Y, %H:%M}"


def day(at: str | datetime | None) -> Markup:
    """`5 Mar 2026`."""
    if at is None:
        return Markup("&ndash;")
    local = moment(at).astimezone(zone())
    return Markup('<time datetime="{}">{}</time>').format(
        local.date().isoformat(), f"{local.day} {local:%b %Y}"
    )


def told_at(entry: Mapping[str, Any]) -> Markup:
    """When an entry of the activity was booked; below it the day that it is of, where that is another one."""
    booked, at = moment(entry["booked_at"]), moment(entry["at"])
    if abs(booked - at) <= LATE:
        return Markup("<span>{}</span>").format(when(booked))
    return Markup('<span>{}<br><span class="quiet">of {}</span></span>').format(when(booked), day(at))


def moment(at: str | datetime) -> datetime:
    found = datetime.fromisoformat(at) if isinstance(at, str) else at
    return found if found.tzinfo is not None else found.replace(tzinfo=UTC)


def zone() -> ZoneInfo:
    return ZoneInfo(settings().get("time_zone", "UTC"))


def settings() -> Mapping[str, Any]:
    found: Mapping[str, Any] = g.visit.settings if "visit" in g else {}
    return found


def points(amount: Any, signed: bool = False) -> str:
    """`1,250 points`, in the program's own unit."""
    if amount is None:
        return "–"
    unit = settings().get("unit", {}).get("kind", "points")
    if unit == "points" and abs(amount) == 1:
        unit = "point"
    return f"{number(amount, signed)} {unit}"


def number(amount: Any, signed: bool = False) -> str:
    """`1,250`, credits with their places: `1,250.50`; `signed`: `+1,250`, and a true minus."""
    if amount is None:
        return "–"
    places = settings().get("unit", {}).get("scale", 0)
    text = f"{abs(amount):,.{places}f}" if isinstance(amount, Decimal) else f"{abs(amount):,}"
    if amount < 0:
        return f"−{text}"
    return f"+{text}" if signed and amount else text


def money(amount: str | None, currency: str | None = None) -> str:
    """`1,250.00 EUR`."""
    if amount is None:
        return "–"
    whole, dot, rest = amount.partition(".")
    sign = "−" if whole.startswith("-") else ""
    return f"{sign}{int(whole.lstrip('-') or 0):,}{dot}{rest} {currency or ''}".strip()


def spoken(code: str | None) -> str:
    """`partially_refunded` -> `Partially refunded`."""
    text = (code or "–").replace("_", " ").replace(".", " ").lower()
    return text[:1].upper() + text[1:]


def plain(words: str) -> str:
    """A message of the API as a sentence: times as people read them, and not again that nothing was done."""
    told = ISO_TIME.sub(lambda found: local(found[0]), words.removesuffix("; nothing was done"))
    return told[:1].upper() + told[1:]


def arrows(words: str) -> str:
    """`balance 500 -> 400` with an arrow."""
    return words.replace("->", "→")


def typed(words: str) -> Markup:
    """Words in which `what is to be typed` stands between backticks, shown as such."""
    return Markup(TYPED.sub(r"<code>\1</code>", str(escape(words))))  # noqa: S704 - escaped before


def grouped(words: str) -> str:
    """A sentence's amounts as numbers stand elsewhere on the pages, `2,998`; ids, names of orders and fractions as they are."""
    return AMOUNT.sub(lambda found: f"{int(found[0]):,}", words)


def told(entry: Mapping[str, Any]) -> str:
    """An entry of the activity as a sentence for people: rules, rewards and tiers by their names."""
    text, detail = str(entry["text"]), entry["detail"]
    for id, leads, name in (
        (detail.get("rule"), ("by",), rule),
        (detail.get("reward"), ("spent on", "of"), reward),
    ):
        for lead in leads if id else ():
            text = text.replace(f" {lead} {id}", f" {lead} “{name(id)}”", 1)
    if str(entry["kind"]).startswith("tier."):
        text = " ".join(tier(word) for word in text.split(" "))
    return grouped(arrows(plain(text)))


def tier(id: str) -> str:
    """A VIP level by its name; what is none stays as it is."""
    levels = settings().get("tiers", {}).get("levels", ())
    return next((str(each.get("name") or id) for each in levels if each["id"] == id), id)


def reason(code: str) -> str:
    """A reason or flag of the rules, in words."""
    return REASONS.get(code, code)


def rule(target: str) -> str:
    """An earning rule by its name. `place-order+4500` is its part for a line that an edit added."""
    id, _, line = target.partition("+")
    return named("earning", id) + (f" (line {line}, added later)" if line else "")


def reward(id: str) -> str:
    """A reward by its name; one that the program has no more, by its id."""
    return "Custom reward" if id == "custom" else named("rewards", id)


def named(section: str, id: str) -> str:
    """The name of one of the program's rules or rewards."""
    return next((str(each["name"]) for each in settings().get(section, ()) if each["id"] == id), id)


def who(by: str | None) -> str:
    """Who did something, as the record names them: `token:5`, `session`, `link`, `cli`."""
    if by is None:
        return "nobody known"
    token = by.partition(":")[2]
    return {
        "session": "a person in these pages",
        "link": "a person in these pages",
        "cli": "a person at the server's terminal",
    }.get(by, f"API token {token}" if by.startswith("token:") else by)


FILTERS: Mapping[str, Callable[..., object]] = {
    "when": when,
    "day": day,
    "told_at": told_at,
    "points": points,
    "number": number,
    "money": money,
    "spoken": spoken,
    "who": who,
    "plain": plain,
    "arrows": arrows,
    "grouped": grouped,
    "told": told,
    "reason": reason,
    "typed": typed,
    "rule": rule,
    "reward": reward,
    "tier": tier,
}
