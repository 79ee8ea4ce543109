"""Mage: how refunds affect points. Each example of the document with its numbers, over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

from app.sandbox.codes import CodeRefused
from app.sandbox.sender import Habits
from tests.seeds.conftest import NewShop
from tests.seeds.product import Shop, per_unit, reward, until

FIVE_A_DOLLAR = {"earning": [per_unit(5)]}  # $100 earns 500 points


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """Whose orders were placed ten days ago, unless told otherwise."""
    shop = new_shop(**FIVE_A_DOLLAR)
    shop.ago(days=10)
    return shop


# -- partial refunds -------------------------------------------------------------------------------------------------


def test_a_fifth_of_the_money_takes_a_fifth_of_the_points(shop: Shop) -> None:
    """R1, R2: a $100 order earned 500 points; $20 back takes 100, and 400 are kept."""
    order = shop.sell(80_00, 20_00)
    assert shop.balance() == 500
    shop.refund(order, units=[(order.items[1], 1)])
    assert shop.balance() == 400
    assert shop.award(order) | {"amount": 500, "reversed": 100, "debited": 100} == shop.award(order)
    assert shop.order(order)["status"] == "partially_refunded"


def test_part_of_a_point_is_never_taken(new_shop: NewShop) -> None:
    """R2: 33 % of 333 points is 109.89: 109 are taken, not 110."""
    shop = new_shop(earning=[per_unit("3.33")])
    order = shop.sell(100_00)
    assert shop.balance() == 333
    shop.refund(order, amount=33_00)
    assert (shop.award(order)["reversed"], shop.balance()) == (109, 224)


@pytest.mark.parametrize("with_lines", [True, False], ids=["items come back", "only an amount"])
def test_an_amount_counts_as_items_do(shop: Shop, with_lines: bool) -> None:
    """R1: line-item and amount-only refunds reverse alike, in points and in spend."""
    order = shop.sell(60_00, 40_00)
    back: dict[str, Any] = {"units": [(order.items[1], 1)]} if with_lines else {"amount": 40_00}
    shop.refund(order, **back)
    found = shop.customer()
    assert (found["balance"], found["spend"]["lifetime"]) == (300, "60.00")


def test_each_return_counts_by_itself_and_once(shop: Shop) -> None:
    """R2, R6: $20 takes 100 (400 left), then $30 takes 150 (250 left); webhooks sent again take nothing more."""
    order = shop.sell(100_00)
    shop.refund(order, amount=20_00)
    assert shop.balance() == 400
    shop.refund(order, amount=30_00)
    assert shop.balance() == 250
    rough = Habits(repeated=1.0, renamed=1.0, late=0.5, late_seconds=0.3, jitter_seconds=0.2)
    shop.tell(shop.sent[::-1], rough)
    assert shop.balance() == 250
    assert [refund["reversed"] for refund in shop.order(order)["refunds"]] == [100, 150]


def test_webhooks_in_any_order_end_in_the_same_place(shop: Shop) -> None:
    """R0: the refunds are heard of before their order, the second before the first."""
    shop.muted = True
    order = shop.sell(100_00)
    shop.refund(order, amount=20_00)
    shop.refund(order, amount=30_00)
    shop.tell(shop.sent[::-1])
    assert shop.balance() == 250
    assert [refund["reversed"] for refund in shop.order(order)["refunds"]] == [100, 150]


def test_a_partial_refund_takes_its_money_from_every_window_and_no_order(new_shop: NewShop) -> None:
    """R24, R25: lifetime, calendar year and rolling year go down at the order's own date; the orders stay counted."""
    shop = new_shop(**FIVE_A_DOLLAR)
    ages = {700: 300_00, 300: 200_00, 2: 100_00}
    orders = []
    for days, cents in ages.items():
        shop.ago(days=days)
        orders.append(shop.sell(cents))
    assert shop.customer()["spend"] == windows(ages)
    shop.ago(days=1)
    for order in orders:
        shop.refund(order, amount=50_00)
    less = {days: cents - 50_00 for days, cents in ages.items()}
    assert shop.customer()["spend"] == windows(less)
    assert shop.customer()["orders_count"] == 3


def windows(orders: dict[int, int]) -> dict[str, str]:
    """The spend of orders placed so many days ago, worth so many cents."""
    today = datetime.now(UTC).date()
    placed = {today - timedelta(days=days): cents for days, cents in orders.items()}
    sums = {
        "lifetime": sum(placed.values()),
        "calendar_year": sum(cents for day, cents in placed.items() if day.year == today.year),
        "rolling_year": sum(cents for day, cents in placed.items() if day > today - timedelta(days=365)),
    }
    return {
        **{name: str(Decimal(cents) / 100 + Decimal("0.00")) for name, cents in sums.items()},
        "currency": "USD",
    }


# -- pending points --------------------------------------------------------------------------------------------------


def test_pending_points_are_reduced_and_the_balance_is_not_touched(new_shop: NewShop) -> None:
    """R5: $20 of $100 back within the waiting period: 500 pending points become 400."""
    shop = new_shop(**FIVE_A_DOLLAR, waiting_days=14)
    shop.grant(60)
    shop.ago(days=1)
    order = shop.sell(100_00)
    assert (shop.customer()["pending"], shop.balance()) == (500, 60)
    shop.refund(order, amount=20_00)
    assert (shop.customer()["pending"], shop.balance()) == (400, 60)
    assert shop.award(order)["debited"] == 0


def test_what_is_left_is_granted_when_the_waiting_period_ends(new_shop: NewShop) -> None:
    """R5: $75 of $100 back while the points are pending; when their day has passed, a quarter is granted."""
    shop = new_shop(**FIVE_A_DOLLAR, waiting_days=1)
    shop.on(datetime.now(UTC) - timedelta(days=1) + timedelta(seconds=2), tick=timedelta(seconds=1))
    order = shop.sell(100_00)
    assert (shop.customer()["pending"], shop.balance()) == (500, 0)
    shop.now()
    shop.refund(order, amount=75_00)
    assert (shop.customer()["pending"], shop.balance()) == (125, 0)
    until(lambda: shop.balance() == 125, "the points were not approved")
    assert shop.customer()["pending"] == 0
    shop.refund(order)
    assert (shop.customer()["pending"], shop.balance()) == (0, 0)


def test_a_full_refund_cancels_pending_points(new_shop: NewShop) -> None:
    """R4, R5: nothing is left to be awarded."""
    shop = new_shop(**FIVE_A_DOLLAR, waiting_days=14)
    shop.grant(60)
    shop.ago(days=1)
    order = shop.sell(100_00)
    shop.refund(order)
    assert (shop.customer()["pending"], shop.balance()) == (0, 60)
    assert shop.award(order)["status"] == "cancelled"


# -- full refunds ----------------------------------------------------------------------------------------------------


def test_a_full_refund_takes_all_that_the_order_earned_and_nothing_else(shop: Shop) -> None:
    """R4, R6: approved points are deducted from the account; what was there before stays."""
    shop.grant(60)
    order = shop.sell(100_00)
    assert shop.balance() == 560
    shop.refund(order)
    assert shop.balance() == 60
    assert shop.order(order)["status"] == "fully_refunded"


def test_after_partial_refunds_a_full_one_takes_only_the_rest(shop: Shop) -> None:
    """R4: 100 and 150 were reversed before; the last refund takes 250, of the spend $50, and the order's count."""
    order = shop.sell(100_00)
    shop.sell(40_00)
    shop.refund(order, amount=20_00)
    shop.refund(order, amount=30_00)
    assert (shop.customer()["orders_count"], shop.customer()["spend"]["lifetime"]) == (2, "90.00")
    shop.refund(order)
    assert [refund["reversed"] for refund in shop.order(order)["refunds"]] == [100, 150, 250]
    found = shop.customer()
    assert (found["balance"], found["orders_count"], found["spend"]["lifetime"]) == (200, 1, "40.00")


# -- tiers -----------------------------------------------------------------------------------------------------------

TIERS = {"levels": [{"id": "silver", "threshold": "100.00"}, {"id": "gold", "threshold": "300.00"}]}


@pytest.mark.parametrize("window", ["lifetime", "calendar_year", "rolling_year"])
def test_a_refund_below_the_threshold_lowers_the_tier(new_shop: NewShop, window: str) -> None:
    """R26: $320 is gold; $40 back leaves $280, silver; all back leaves no tier."""
    shop = new_shop(**FIVE_A_DOLLAR, tiers={**TIERS, "window": window})
    order = shop.sell(320_00)
    assert shop.customer()["tier"] == "gold"
    shop.refund(order, amount=10_00)
    assert shop.customer()["tier"] == "gold"
    shop.refund(order, amount=30_00)
    assert shop.customer()["tier"] == "silver"
    shop.refund(order)
    assert (shop.customer()["tier"], shop.customer()["orders_count"]) == (None, 0)
    assert len(shop.activity("tier.changed")) == 3


def test_orders_count_towards_a_tier_until_they_are_wholly_refunded(new_shop: NewShop) -> None:
    """R25: two orders make silver; $99 of $100 back changes nothing, the last dollar does."""
    levels = [{"id": "silver", "threshold": 2}]
    shop = new_shop(**FIVE_A_DOLLAR, tiers={"metric": "orders", "levels": levels})
    order = shop.sell(100_00)
    shop.sell(5_00)
    shop.refund(order, amount=99_00)
    assert (shop.customer()["tier"], shop.customer()["orders_count"]) == ("silver", 2)
    shop.refund(order)
    assert (shop.customer()["tier"], shop.customer()["orders_count"]) == (None, 1)


# -- discount codes --------------------------------------------------------------------------------------------------


def coded(new_shop: NewShop, *, reactivate: bool) -> tuple[Shop, str, str]:
    """A shop whose reward's code was made at the store: the redemption's id, and the code."""
    shop = new_shop(connected=True, earning=[], rewards=[reward(reactivate_code=reactivate)])
    shop.store.codes.strict = True
    shop.grant(500)
    id = shop.redeem(reward="5-off")
    until(lambda: shop.redemption(id)["code_state"] == "active", "the code was not made")
    return shop, id, shop.redemption(id)["code"]


def is_usable(shop: Shop, code: str) -> bool:
    """Whether the store's checkout takes the code on an order; if so, it is used up by it."""
    try:
        shop.sell(50_00, codes=[(code, 0)])
    except CodeRefused:
        return False
    return True


def test_a_full_refund_makes_the_code_usable_again(new_shop: NewShop) -> None:
    """R22: opted in, used on the order, wholly refunded: the store takes the code once more, and once only."""
    shop, id, code = coded(new_shop, reactivate=True)
    order = shop.sell(100_00, codes=[(code, 0)])
    assert not is_usable(shop, code)
    shop.refund(order)
    until(lambda: shop.redemption(id)["reactivation"] == "done", "the code did not come back")
    found = shop.redemption(id)
    assert (found["restitution"], found["returned"], shop.balance()) == ("code", 0, 0)
    assert is_usable(shop, found["code"])
    assert not is_usable(shop, found["code"])


def test_a_partial_refund_leaves_the_code_used(new_shop: NewShop) -> None:
    """R22: only full refunds bring a code back."""
    shop, id, code = coded(new_shop, reactivate=True)
    order = shop.sell(60_00, 40_00, codes=[(code, 0)])
    shop.refund(order, units=[(order.items[1], 1)])
    assert shop.redemption(id)["reactivation"] == "none"
    assert not is_usable(shop, code)


def test_a_code_whose_reward_was_not_opted_in_stays_used(new_shop: NewShop) -> None:
    """R22: reactivation is enabled on the reward, or does not happen."""
    shop, id, code = coded(new_shop, reactivate=False)
    order = shop.sell(100_00, codes=[(code, 0)])
    shop.refund(order)
    assert shop.redemption(id)["reactivation"] == "none"
    assert not is_usable(shop, code)


# -- the activity log ------------------------------------------------------------------------------------------------


def test_every_refund_is_told_with_its_rule_order_amount_and_balances(shop: Shop) -> None:
    """R39: points reversed, the earning rule, the order's number, the refund's amount, the balance before and after."""
    order = shop.sell(100_00)
    refund = shop.refund(order, amount=20_00)
    [entry] = shop.activity("points.reversed")
    assert (entry["target"], entry["cause"]) == (f"order:{order.id}:place-order", f"refund:{refund.id}")
    wanted = {
        "amount": 100,
        "rule": "place-order",
        "order": order.name,
        "refund_amount": "20.00",
        "ratio": "1/5",
    }
    wanted |= {"balance_before": 500, "balance_after": 400}
    assert wanted.items() <= entry["detail"].items()


def test_points_that_were_only_pending_are_told_as_such(new_shop: NewShop) -> None:
    """R39: what was cancelled before it could be awarded is an entry too, and moves no balance."""
    shop = new_shop(**FIVE_A_DOLLAR, waiting_days=14)
    order = shop.sell(100_00)
    shop.refund(order)
    [entry] = shop.activity("points.reversed")
    detail = entry["detail"]
    assert (detail["amount"], detail["pending"], detail["moved"]) == (500, True, 0)
    assert detail["balance_before"] == detail["balance_after"] == 0


def test_the_trace_says_why_in_words(shop: Shop) -> None:
    """R39: a person who asks why reads the fraction, the rule and the balance."""
    order = shop.sell(100_00)
    shop.refund(order, amount=20_00)
    told = shop.api.get(f"/orders/{order.id}/trace", accept="text/plain").body
    assert "1/5 of 500 = 100" in told and "balance 500 -> 400" in told


# -- key protections -------------------------------------------------------------------------------------------------


def test_points_spent_before_the_refund_are_not_owed(shop: Shop) -> None:
    """R7: 500 earned, 400 spent, a refund of 200 points: the balance is 0, not -100, and stays out of debt."""
    order = shop.sell(100_00)
    shop.redeem(reward="custom", amount=400)
    shop.now()
    shop.refund(order, amount=40_00)
    assert shop.balance() == 0
    assert shop.award(order) | {"reversed": 200, "debited": 100, "shortfall": 100} == shop.award(order)
    assert shop.customer()["debt"] == 0
    shop.grant(50)
    assert shop.balance() == 50


def test_more_money_than_the_order_cost_takes_no_more_points(shop: Shop) -> None:
    """R3: an over-refund reverses the award once."""
    shop.grant(60)
    order = shop.sell(100_00)
    shop.refund(order, amount=70_00)
    shop.refund(order, amount=70_00)
    assert (shop.award(order)["reversed"], shop.balance()) == (500, 60)
