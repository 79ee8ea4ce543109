"""VIP tiers after refunds: R24-R26."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import UTC, date, datetime, timedelta
from fractions import Fraction
from zoneinfo import ZoneInfo

import pytest
from sqlalchemy import Engine, text

from models.rules.plan import OrderPlan
from models.rules.program import Program
from models.rules.tiers import Change, level_after, level_of, tier_with_history, totals, window_start
from tasks.steps.counting import changes_of, counted_of
from tests.books import open_books, play, state_of
from tests.flows.stories import Story, came
from tests.rules.build import (
    CUSTOMER,
    ORDER,
    Told,
    day,
    decided,
    line,
    order,
    program,
    redeemed,
    refund,
    returned,
)

LEVELS = {
    "spend": [{"id": "silver", "name": "Silver", "threshold": "60.00"}, {"id": "gold", "name": "Gold", "threshold": "100.00"}],
    "orders": [{"id": "silver", "name": "Silver", "threshold": "1"}, {"id": "gold", "name": "Gold", "threshold": "2"}],
    "points": [{"id": "silver", "name": "Silver", "threshold": "60"}, {"id": "gold", "name": "Gold", "threshold": "100"}],
}  # fmt: skip
BERLIN = ZoneInfo("Europe/Berlin")


def tiered(
    metric: str = "spend", window: str = "lifetime", downgrade: str = "immediate", **more: object
) -> Program:
    tiers = {"metric": metric, "window": window, "downgrade": downgrade, "levels": LEVELS[metric]}
    return program(tiers=tiers | {"grace_days": more.pop("grace_days", 0)}, **more)


def counted(plans: Sequence[OrderPlan], by: Program) -> list[Change]:
    """What the orders count for, change by change, as the workers record it."""
    found = [counted_of(made, [by]) for made in plans]
    return [change for each in found if each for change in changes_of(each)]


def tier(by: Program, at: datetime, *orders: Sequence[Told]) -> str | None:
    """The tier at a time, by the way that the policy asks for."""
    changes = counted([decided(*told, by=by) for told in orders], by)
    if by.tiers.downgrade != "immediate":
        return tier_with_history(by.tiers, changes, by.time_zone, at, "USD")
    known = [change for change in changes if change.at <= at]
    return level_of(by.tiers, totals(known, by.tiers.window, at.astimezone(by.time_zone).date()), "USD")


HUNDRED: list[Told] = [order(10_000)]
TWENTY_BACK: list[Told] = [*HUNDRED, refund(1, 2_000, at=day(5))]
ALL_BACK: list[Told] = [*HUNDRED, refund(1, 10_000, at=day(5))]


# -- R24: metrics and windows ------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("metric", "before", "partly", "wholly"),
    [
        ("spend", "gold", "silver", None),
        ("orders", "silver", "silver", None),
        ("points", "gold", "silver", None),
    ],
)
@pytest.mark.parametrize("window", ["lifetime", "calendar_year", "rolling_year"])
def test_each_metric_in_each_window_follows_refunds(
    metric: str, window: str, before: str | None, partly: str | None, wholly: str | None
) -> None:
    """R24, R25, R26: spend, order count and points earned."""
    by, at = tiered(metric, window), day(9)
    assert [tier(by, at, told) for told in (HUNDRED, TWENTY_BACK, ALL_BACK)] == [before, partly, wholly]


def test_lifetime_never_ends_a_calendar_year_does_and_a_rolling_year_has_365_days() -> None:
    """R24: an order of 1 March 2026."""
    last, after = datetime(2027, 2, 28, 23, tzinfo=UTC), datetime(2027, 3, 1, 1, tzinfo=UTC)
    new_year = datetime(2027, 1, 1, tzinfo=UTC)
    assert tier(tiered(window="lifetime"), after, HUNDRED) == "gold"
    assert tier(tiered(window="rolling_year"), last, HUNDRED) == "gold"
    assert tier(tiered(window="rolling_year"), after, HUNDRED) is None
    assert tier(tiered(window="calendar_year"), new_year - timedelta(seconds=1), HUNDRED) == "gold"
    assert tier(tiered(window="calendar_year"), new_year, HUNDRED) is None


def test_a_window_starts_where_its_name_says() -> None:
    """R24."""
    today = date(2027, 3, 1)
    assert window_start("calendar_year", today) == date(2027, 1, 1)
    assert window_start("rolling_year", today) == date(2026, 3, 2)
    assert window_start("lifetime", today) == date.min


@pytest.mark.parametrize(
    ("current", "reached", "then"),
    [
        pytest.param(None, 0, "silver", id="nothing yet"),
        pytest.param("silver", 60, "gold", id="one level up"),
        pytest.param("gold", 100, None, id="at the top"),
        pytest.param("silver", 20, "gold", id="kept though no longer met: the next is above it"),
        pytest.param(None, 100, None, id="met, and not looked at yet"),
        pytest.param("bronze", 20, "silver", id="a level that the program has no more"),
    ],
)
def test_the_next_level_is_the_lowest_above_that_is_not_met(
    current: str | None, reached: int, then: str | None
) -> None:
    found = level_after(tiered().tiers, current, Fraction(reached))
    assert then == (None if found is None else found.id)


def test_days_are_days_of_the_shops_time_zone() -> None:
    """R24: 23:30 UTC on New Year's Eve is the new year in Berlin."""
    placed = [order(10_000, at=datetime(2026, 12, 31, 23, 30, tzinfo=UTC))]
    at = datetime(2027, 6, 1, tzinfo=UTC)
    assert tier(tiered(window="calendar_year", time_zone="Europe/Berlin"), at, placed) == "gold"
    assert tier(tiered(window="calendar_year"), at, placed) is None


def test_refunded_money_counts_at_the_orders_date_and_is_known_since_the_refunds() -> None:
    """R24: the order was of March, the refund came in February of the next year."""
    by = tiered()
    told: list[Told] = [*HUNDRED, refund(1, 2_000, at=datetime(2027, 2, 2, tzinfo=UTC))]
    assert [(c.day, c.spend_minor, c.at) for c in counted([decided(*told, by=by)], by)] == [
        (date(2026, 3, 1), 10_000, day(1)),
        (date(2026, 3, 1), -2_000, datetime(2027, 2, 2, tzinfo=UTC)),
    ]
    later = [order(8_500, order_id=ORDER + 1, at=datetime(2027, 1, 5, tzinfo=UTC))]
    assert tier(tiered(window="calendar_year"), datetime(2027, 2, 3, tzinfo=UTC), told, later) == "silver"


# -- R25 ---------------------------------------------------------------------------------------------


def sums(*told: Told) -> tuple[int, int]:
    by = tiered()
    changes = counted([decided(*told, by=by)], by)
    return sum(c.spend_minor for c in changes), sum(c.orders for c in changes)


def test_partial_refunds_take_spend_and_leave_the_count() -> None:
    """R25."""
    assert sums(*TWENTY_BACK) == (8_000, 1)


def test_closing_takes_the_rest_of_the_spend_and_the_count_once() -> None:
    """R25: also when more comes after it, and when more money went back than came."""
    assert sums(*TWENTY_BACK, refund(2, 8_000, at=day(6)), refund(3, 700, at=day(7))) == (0, 0)
    assert sums(*HUNDRED, refund(1, 13_000, at=day(5))) == (0, 0)


def test_a_cancelled_order_counts_for_nothing() -> None:
    """R25, R27: closed by its cancellation, without any money."""
    by = tiered(cancelled_paid="close")
    made = decided(order(10_000), order(10_000, updated_at=day(4), cancelled_at=day(4)), by=by)
    changes = counted([made], by)
    assert (sum(c.spend_minor for c in changes), sum(c.orders for c in changes)) == (0, 0)


def test_an_order_without_a_customer_counts_for_nobody() -> None:
    """R24, R32."""
    assert counted([decided(order(10_000, customer_id=None))], tiered()) == []


def test_items_added_and_removed_change_what_an_order_counts_for() -> None:
    """R24, S9: 40.00 are added, one line of 30.00 goes."""
    placed = order(None, line(1, 7_000), line(2, 3_000))
    after = order(
        None,
        line(1, 7_000),
        line(2, 3_000, current=0),
        line(50, 4_000),
        total_minor=10_000,
        updated_at=day(3),
    )
    assert sums(placed, after) == (11_000, 1)


# -- R26: downgrades ---------------------------------------------------------------------------------


@pytest.mark.parametrize("metric", ["spend", "orders", "points"])
@pytest.mark.parametrize("window", ["lifetime", "calendar_year", "rolling_year"])
@pytest.mark.parametrize(
    ("downgrade", "just_after", "after_grace", "next_year"),
    [
        ("immediate", False, False, False),
        ("grace", True, False, False),
        ("period_end", True, True, False),
        ("never", True, True, True),
    ],
)
def test_each_policy_of_downgrade_lets_a_tier_go_in_its_own_time(
    metric: str, window: str, downgrade: str, just_after: bool, after_grace: bool, next_year: bool
) -> None:
    """R26: immediate, after 10 days, at the period's end, never; whatever the metric and the window."""
    by = tiered(metric, window, downgrade, grace_days=10)
    moments = [day(4), day(6), day(15), datetime(2027, 1, 1, tzinfo=UTC)]
    held = [tier(by, at, ALL_BACK) is not None for at in moments]
    assert held == [True, just_after, after_grace, next_year]


def test_grace_ends_after_its_days_and_starts_anew_with_each_fall() -> None:
    """R26: fallen on day 5, bought again on day 8, fallen again on day 20: held until day 30."""
    by = tiered(downgrade="grace", grace_days=10)
    second: list[Told] = [
        order(10_000, order_id=ORDER + 1, at=day(8)),
        refund(9, 10_000, at=day(20), order_id=ORDER + 1),
    ]
    at = [day(14), day(16), day(29), day(30)]
    assert [tier(by, moment, ALL_BACK, second) for moment in at] == ["gold", "gold", "gold", None]


def test_a_level_below_the_one_that_was_lost_is_held_by_itself() -> None:
    """R26: from gold to silver at once, when the grace of gold is over."""
    by = tiered(downgrade="grace", grace_days=10)
    assert [tier(by, at, TWENTY_BACK) for at in (day(4), day(14), day(15))] == ["gold", "gold", "silver"]


def test_a_tier_rises_at_once_under_every_policy() -> None:
    """R26: the highest whose threshold is met."""
    for downgrade in ("immediate", "grace", "period_end", "never"):
        assert tier(tiered(downgrade=downgrade), day(1), HUNDRED) == "gold"


def test_the_period_ends_at_midnight_of_the_shop() -> None:
    """R26: 23:00 UTC on New Year's Eve is the new year in Berlin."""
    by = tiered(downgrade="period_end", time_zone="Europe/Berlin")
    new_year = datetime(2027, 1, 1, tzinfo=BERLIN)
    assert tier(by, new_year - timedelta(seconds=1), ALL_BACK) == "gold"
    assert tier(by, new_year, ALL_BACK) is None


def test_a_pinned_tier_stays_when_everything_is_refunded(engine: Engine) -> None:
    """R26: on the books; the customer spends nothing and stays silver, and without the pin has none."""
    story = Story("pinned", [came(1, order(10_000)), came(5, refund(1, 10_000, at=day(5)))],
                  {"tiers": {"levels": LEVELS["spend"]}})  # fmt: skip
    tiers = {}
    for pinned in ({CUSTOMER: "silver"}, {}):
        world = story.world
        world.pins = pinned
        books = open_books(engine, world)
        play(books, story.steps, now=day(6))
        books.pass_time(now=day(7))
        tiers[len(pinned)] = state_of(books)["customers"][CUSTOMER][3]
    assert tiers == {1: "silver", 0: None}


def test_a_tier_that_moves_leaves_an_entry_in_the_activity(engine: Engine) -> None:
    """R26, R39."""
    story = Story("moved", [came(1, order(10_000)), came(5, refund(1, 2_000, at=day(5)))],
                  {"tiers": {"levels": LEVELS["spend"]}})  # fmt: skip
    books = open_books(engine, story.world)
    play(books, story.steps, now=day(6))
    asked = text(
        "select detail->>'before', detail->>'after' from activity where shop_id = :s and kind = 'tier.changed' order by id"
    )
    with engine.connect() as connection:
        assert [tuple(row) for row in connection.execute(asked, {"s": books.shop_id})] == [
            (None, "gold"),
            ("gold", "silver"),
        ]


def test_redeemed_value_does_not_change_a_tier() -> None:
    """R24: what counts is what was paid, and what was paid back."""
    placed = order(10_000, line(1, 10_000, codes={"save": 500}))
    by = tiered()
    made = decided(
        placed,
        refund(1, 2_000, returned(1, 2_000), at=day(5)),
        by=by,
        redemptions=[redeemed(1, 90, at=day(0))],
    )
    assert sum(change.spend_minor for change in counted([made], by)) == 8_000
