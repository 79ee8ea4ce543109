"""Bars of a month's days, made on the server: shapes in a picture that stretches, with every figure in a table beside it."""

from __future__ import annotations

from calendar import monthrange
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import date
from typing import Any

DAY_WIDTH = 10.0
BAR_WIDTH = 4.0
HEIGHT = 100.0
LEAST = 1.5  # of a bar that stands for something, so that it can be seen beside a tall one
SERIES = {"reversed": "taken back", "returned": "given back"}


@dataclass(frozen=True, slots=True, kw_only=True)
class Bar:
    """A rectangle. kind: its class     day, amount, words: what it says when it is pointed at"""

    kind: str
    x: float
    y: float
    width: float
    height: float
    day: str
    amount: Any
    words: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Chart:
    """A picture of `width` x HEIGHT. most: what its top stands for     ticks: days named below it"""

    width: float
    height: float
    bars: Sequence[Bar]
    most: Any
    ticks: Sequence[str]


def month_of(days: Sequence[Mapping[str, Any]]) -> Chart | None:
    """The chart of a month's days so far: `reversed` on the left of each, `returned` on the right. None: all are zero."""
    most = max((day[name] for day in days for name in SERIES), default=0)
    if not most:
        return None
    first = date.fromisoformat(days[0]["day"])
    length = monthrange(first.year, first.month)[1]
    bars = [bar(day, name, place, most) for day in days for place, name in enumerate(SERIES) if day[name] > 0]
    ticks = [f"{at} {first:%b}" for at in (1, (length + 1) // 2, length)]
    return Chart(width=length * DAY_WIDTH, height=HEIGHT, bars=bars, most=most, ticks=ticks)


def bar(day: Mapping[str, Any], name: str, place: int, most: Any) -> Bar:
    at = date.fromisoformat(day["day"])
    height = round(max(LEAST, float(day[name]) / float(most) * HEIGHT), 2)
    return Bar(
        kind=name,
        x=(at.day - 1) * DAY_WIDTH + 1 + place * BAR_WIDTH,
        y=round(HEIGHT - height, 2),
        width=BAR_WIDTH,
        height=height,
        day=f"{at.day} {at:%b}",
        amount=day[name],
        words=SERIES[name],
    )
