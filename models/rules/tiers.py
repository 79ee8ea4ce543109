"""VIP tiers: what counts, in which window, and what a fall does (R24-R26). Refunds count at the order's date."""

from __future__ import annotations

from bisect import bisect_left, bisect_right
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import date, datetime, timedelta
from fractions import Fraction
from itertools import accumulate
from zoneinfo import ZoneInfo

from models.rules.money import exponent
from models.rules.program import Level, Tiers

ROLLING_DAYS = 365


@dataclass(frozen=True, slots=True, kw_only=True)
class Day:
    """What a customer's orders of one day count for, net of what was given back."""

    day: date
    spend_minor: int
    orders: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Change:
    """One change of what counts: at its order's date, known since `at` (R24)."""

    at: datetime
    day: date
    spend_minor: int
    orders: int
    points: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Totals:
    spend_minor: int
    orders: int
    points: int


def window_start(window: str, today: date) -> date:
    """The first day that counts on `today`."""
    if window == "calendar_year":
        return date(today.year, 1, 1)
    if window == "rolling_year":
        return today - timedelta(days=ROLLING_DAYS - 1)
    return date.min


def totals(days: Iterable[Day | Change], window: str, today: date) -> Totals:
    """Sums over a window that ends today (R24)."""
    start = window_start(window, today)
    inside = [day for day in days if start <= day.day and (window == "lifetime" or day.day <= today)]
    return Totals(
        spend_minor=sum(day.spend_minor for day in inside),
        orders=sum(day.orders for day in inside),
        points=sum(day.points for day in inside),
    )


def level_of(tiers: Tiers, what: Totals, currency: str | None) -> str | None:
    """The highest level whose threshold is met, None below the lowest (R26)."""
    index = _index(tiers, what, currency)
    return None if index < 0 else tiers.levels[index].id


def reached_of(tiers: Tiers, what: Totals, currency: str | None) -> Fraction:
    """What counts, in the unit of the levels' thresholds; never below zero."""
    if tiers.metric == "spend":
        reached = Fraction(what.spend_minor, 10 ** exponent(currency or ""))
    else:
        reached = Fraction(what.orders if tiers.metric == "orders" else what.points)
    return max(reached, Fraction(0))  # more came back than the imported history knew of (D29)


def level_after(tiers: Tiers, current: str | None, reached: Fraction) -> Level | None:
    """The next level to reach: the lowest above `current` whose threshold is not met. None at the top."""
    ids = [level.id for level in tiers.levels]
    above = tiers.levels[ids.index(current) + 1 :] if current in ids else tiers.levels
    return next((level for level in above if level.threshold > reached), None)


def _index(tiers: Tiers, what: Totals, currency: str | None) -> int:
    reached = reached_of(tiers, what, currency)
    met = [i for i, level in enumerate(tiers.levels) if reached >= level.threshold]
    return met[-1] if met else -1


def tier_with_history(
    tiers: Tiers, changes: Sequence[Change], zone: ZoneInfo, until: datetime, currency: str | None
) -> str | None:
    """The tier under a downgrade policy that remembers (never, grace, period_end), from the whole record (R26).

    The metric is looked at whenever it may change: at each change, at the end of each day that drops out of a
    window, and at `until`.
    """
    moments = _moments(tiers, changes, zone, until)
    reached = [_index(tiers, what, currency) for what in _totals_at(moments, tiers.window, changes, zone)]
    for index in range(len(tiers.levels) - 1, -1, -1):
        if _holds(tiers, index, moments, reached, zone):
            return tiers.levels[index].id
    return None


def _totals_at(
    moments: Sequence[datetime], window: str, changes: Sequence[Change], zone: ZoneInfo
) -> list[Totals]:
    """`totals` of what is known at each moment (in order of time), each change looked at once."""
    days = [moment.astimezone(zone).date() for moment in moments]
    starts = [window_start(window, day) for day in days]
    steps = [[0, 0, 0] for _ in range(len(moments) + 1)]
    for change in changes:
        known = bisect_left(moments, change.at)
        first = known if window == "lifetime" else max(known, bisect_left(days, change.day))
        end = bisect_right(starts, change.day)
        if first < end:
            for i, value in enumerate((change.spend_minor, change.orders, change.points)):
                steps[first][i] += value
                steps[end][i] -= value
    sums = accumulate(steps[:-1], lambda a, b: [x + y for x, y in zip(a, b, strict=True)])
    return [Totals(spend_minor=spend, orders=orders, points=points) for spend, orders, points in sums]


def _holds(
    tiers: Tiers, index: int, moments: Sequence[datetime], reached: Sequence[int], zone: ZoneInfo
) -> bool:
    """Whether a level is held at the last moment: met now, or met once and not dropped yet (each level by itself)."""
    met = [i for i, highest in enumerate(reached) if highest >= index]
    if not met:
        return False
    if met[-1] == len(moments) - 1 or tiers.downgrade == "never":
        return True
    fell_at, now = moments[met[-1] + 1], moments[-1]
    if tiers.downgrade == "grace":
        return now < fell_at + timedelta(days=tiers.grace_days)
    return tiers.downgrade == "period_end" and fell_at > _midnight(
        date(now.astimezone(zone).year, 1, 1), zone
    )


def _moments(tiers: Tiers, changes: Sequence[Change], zone: ZoneInfo, until: datetime) -> list[datetime]:
    found = {change.at for change in changes if change.at <= until}
    days = {change.day for change in changes}
    if tiers.window == "rolling_year":
        found |= {_midnight(day + timedelta(days=ROLLING_DAYS), zone) for day in days}
    if tiers.window == "calendar_year":
        years = range(min(days).year, until.astimezone(zone).year + 1) if days else ()
        found |= {datetime(year + 1, 1, 1, tzinfo=zone) for year in years}
    return sorted(moment for moment in {*found, until} if moment <= until)


def _midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime(day.year, day.month, day.day, tzinfo=zone)
