"""Tiers by asking, for every instant at which something changed, what the metric was then (R24-R26, D23, D24)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import date, datetime, time, timedelta
from fractions import Fraction
from typing import Any
from zoneinfo import ZoneInfo

from tests.oracle.claims import Outcome, decimals

Settings = dict[str, Any]


def in_window(day: date, today: date, window: str) -> bool:
    if window == "calendar_year":
        return day.year == today.year
    if window == "rolling_year":
        return today - timedelta(days=365) < day <= today
    return True


def metric(orders: Sequence[Outcome], *, what: str, window: str, at: datetime, zone: ZoneInfo) -> int:
    """Smallest units of spend or points, or orders, as recorded by `at`, at the orders' own dates."""
    today = at.astimezone(zone).date()
    total = 0
    for order in orders:
        if in_window(order.placed_at.astimezone(zone).date(), today, window):
            total += {"spend": order.spend_at, "points": order.points_at}.get(what, order.count_at)(at)
    return total


def spend_windows(orders: Sequence[Outcome], *, at: datetime, settings: Settings) -> dict[str, int]:
    zone = ZoneInfo(settings["time_zone"])
    return {
        w: metric(orders, what="spend", window=w, at=at, zone=zone)
        for w in ("lifetime", "calendar_year", "rolling_year")
    }


def thresholds(settings: Settings, currency: str) -> list[tuple[Fraction, str]]:
    """(threshold in smallest units, level id), lowest first."""
    what, scale = settings["tiers"]["metric"], settings["unit"]["scale"]
    factor = {"spend": 10 ** decimals(currency), "points": 10**scale}.get(what, 1)
    return sorted(
        (Fraction(str(level["threshold"])) * factor, level["id"]) for level in settings["tiers"]["levels"]
    )


def tier(
    orders: Sequence[Outcome], *, at: datetime, settings: Settings, currency: str, pinned: str | None = None
) -> str | None:
    """The level id at `at`, None below all of them. `orders`: all those of one customer."""
    if pinned is not None:
        return pinned
    rules, zone = settings["tiers"], ZoneInfo(settings["time_zone"])
    times = instants(orders, at, zone)
    story = [
        (metric(orders, what=rules["metric"], window=rules["window"], at=t, zone=zone), end)
        for t, end in zip(times, [*times[1:], None], strict=True)
    ]
    held = None
    for threshold, level in thresholds(settings, currency):
        if any(still_held(end, at, rules, zone) for amount, end in story if amount >= threshold):
            held = level
    return held


def instants(orders: Sequence[Outcome], until: datetime, zone: ZoneInfo) -> list[datetime]:
    """Every instant up to `until` (which is one) at which the metric may change: records, and the midnights that move a window."""
    times = {t for order in orders for t in order.recorded_times()}
    for order in orders:
        day = order.placed_at.astimezone(zone).date()
        times.add(midnight(day, zone))
        times.add(midnight(day + timedelta(days=365), zone))
    first_year = min((t.astimezone(zone).year for t in times), default=until.year)
    for year in range(first_year, until.astimezone(zone).year + 1):
        times.add(midnight(date(year, 1, 1), zone))
    return sorted({t for t in times if t <= until} | {until})


def midnight(day: date, zone: ZoneInfo) -> datetime:
    return datetime.combine(day, time(0), tzinfo=zone)


def still_held(end: datetime | None, now: datetime, rules: Settings, zone: ZoneInfo) -> bool:
    """Whether a level met until `end` (None: still met) is held now under the downgrade policy."""
    if end is None or rules["downgrade"] == "never":
        return True
    if rules["downgrade"] == "grace":
        grace = timedelta(hours=24) * int(rules["grace_days"])
        return now < end + grace
    if rules["downgrade"] == "period_end":
        return end > midnight(date(now.astimezone(zone).year, 1, 1), zone)
    return False
