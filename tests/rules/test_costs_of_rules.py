"""What the rules cost where an order or a customer has much behind it."""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from zoneinfo import ZoneInfo

from models.rules.tiers import Change, tier_with_history
from tests.rules.build import claims, day, decided, line, order, program

LINES = 60


def test_a_swap_of_many_lines_makes_claims_in_proportion_to_the_lines() -> None:
    """S9: an edit of one line says nothing of another line's award, not even zero."""
    old = [line(n, 100, current=0) for n in range(1, LINES + 1)]
    new = [line(1000 + n, 100) for n in range(LINES)]
    placed = order(None, *(line(n, 100) for n in range(1, LINES + 1)))
    swapped = order(200 * LINES, *old, *new, updated_at=day(2))
    made = decided(placed, swapped)
    assert len(made.claims) == LINES
    assert sum(claims(made)) == LINES


def test_ten_thousand_orders_are_looked_through_for_a_remembered_tier_in_a_moment() -> None:
    """R26: with downgrades after grace the whole record counts; each change is looked at once."""
    start = datetime(2020, 1, 1, tzinfo=UTC)
    changes = [
        Change(at=at, day=at.date(), spend_minor=1000, orders=1, points=10)
        for at in (start + timedelta(hours=5 * n) for n in range(10_000))
    ]
    tiers = program(tiers={"window": "rolling_year", "downgrade": "grace", "grace_days": 7}).tiers
    began = time.process_time()
    until = changes[-1].at + timedelta(days=400)
    assert tier_with_history(tiers, changes, ZoneInfo("UTC"), changes[-1].at, "USD") == "gold"
    assert tier_with_history(tiers, changes, ZoneInfo("UTC"), until, "USD") is None
    assert time.process_time() - began < 5
