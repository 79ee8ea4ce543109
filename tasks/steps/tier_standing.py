"""Where a customer stands towards the program's levels, for people (R24-R26): what counts in each window, what is missing."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import UTC, date, datetime
from fractions import Fraction
from math import ceil
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound
from models.rules.money import exponent, from_minor
from models.rules.program import Program
from models.rules.tiers import Totals, level_after, reached_of, window_start
from tasks.steps.programs import programs_of
from tasks.steps.read import points
from tasks.steps.survivors import survivor

WINDOWS = ("lifetime", "calendar_year", "rolling_year")
STANDING = text(
    "select w.tier, w.pinned_tier, s.currency, greatest(w.spend_minor, 0) as lifetime_spend_minor,"
    " greatest(w.orders, 0) as lifetime_orders, greatest(w.points, 0) as lifetime_points,"
    " d.* from wallets w join shops s on s.id = w.shop_id cross join lateral ("
    "  select "
    + ", ".join(
        f"greatest(coalesce(sum({what}) filter (where day >= :{window}), 0), 0)::bigint as {window}_{what}"
        for window in WINDOWS[1:]
        for what in ("spend_minor", "orders", "points")
    )
    + "  from customer_days d where d.shop_id = w.shop_id and d.customer_id = w.customer_id and day <= :today"
    "   and day >= least(cast(:calendar_year as date), cast(:rolling_year as date))) d"
    " where w.shop_id = :shop_id and w.customer_id = :id"
)


def tier_standing(
    connection: Connection, shop_id: int, customer_id: int, *, now: datetime | None = None
) -> dict[str, Any]:
    """The customer's level, what counts in each window, and what is missing for the next one.

    `next` is None at the top, and where the level is kept by hand. Money is a decimal string, points are in the program's
    unit. Raises NotFound.
    """
    program = programs_of(connection, shop_id)[-1]
    today = (now or datetime.now(UTC)).astimezone(program.time_zone).date()
    key = {"shop_id": shop_id, "id": survivor(connection, shop_id, customer_id)}
    row = connection.execute(STANDING, {**key, **_days(today)}).one_or_none()
    if row is None:
        raise NotFound("customer", customer_id)
    currency, tiers = row.currency or "USD", program.tiers
    names = {level.id: level.name for level in tiers.levels}
    return {
        "tier": row.tier,
        "name": names.get(row.tier, row.tier),
        "pinned": row.pinned_tier,
        "metric": tiers.metric,
        "window": tiers.window,
        "downgrade": tiers.downgrade,
        "grace_days": tiers.grace_days,
        "currency": currency,
        "windows": [_window(row, window, currency, program) for window in WINDOWS],
        "next": None if row.pinned_tier is not None else _next(row, currency, program),
        "levels": [{"id": level.id, "name": level.name} for level in tiers.levels],
    }


def _days(today: date) -> Mapping[str, date]:
    return {"today": today, **{window: window_start(window, today) for window in WINDOWS[1:]}}


def _window(row: Row[Any], window: str, currency: str, program: Program) -> dict[str, Any]:
    what = _totals(row, window)
    return {
        "window": window,
        "counts": window == program.tiers.window,
        "spend": from_minor(what.spend_minor, currency),
        "orders": what.orders,
        "points": points(what.points, program),
    }


def _totals(row: Row[Any], window: str) -> Totals:
    return Totals(
        spend_minor=getattr(row, f"{window}_spend_minor"),
        orders=getattr(row, f"{window}_orders"),
        points=getattr(row, f"{window}_points"),
    )


def _next(row: Row[Any], currency: str, program: Program) -> dict[str, Any] | None:
    """The next level, with its threshold, what is missing (rounded up), and how far the customer is, in percent."""
    tiers = program.tiers
    reached = reached_of(tiers, _totals(row, tiers.window), currency)
    level = level_after(tiers, row.tier, reached)
    if level is None:
        return None
    return {
        "id": level.id,
        "name": level.name,
        "threshold": _shown(level.threshold, currency, program),
        "missing": _shown(level.threshold - reached, currency, program),
        "percent": int(reached * 100 / level.threshold),
    }


def _shown(amount: Fraction, currency: str, program: Program) -> Any:
    """An amount of what the program's levels count."""
    if program.tiers.metric == "spend":
        return from_minor(ceil(amount * 10 ** exponent(currency)), currency)
    return points(ceil(amount), program) if program.tiers.metric == "points" else ceil(amount)
