"""What merchants do by hand, as facts among the others: reversals, cancellations, undo (R31, R34-R38)."""

from __future__ import annotations

from dataclasses import replace
from typing import Any

import pytest

from models.rules.causes import REFUNDED_TWICE
from models.rules.facts import Cancellation, Undo
from models.rules.order import MERCHANT_REFUND_FIRST
from models.rules.plan import (
    CANCELLED_BY_MERCHANT,
    CODE_OF_CANCELLED,
    REVERSED_BY_MERCHANT,
    OrderPlan,
    Redemption,
    Reversal,
    returns_without_order,
)
from tasks.steps.timeline import items_of, reversal_items
from tests.rules.build import (
    CUSTOMER,
    ORDER,
    OTHER,
    claims,
    day,
    decided,
    line,
    order,
    program,
    redeemed,
    refund,
    returned,
    returns,
    why_returned,
)

# 100.00: the code took 4.00 off the first line and 6.00 off the second; 1,000 points were spent on it.
PLACED = order(10_000, line(1, 4_000, codes={"save": 400}), line(2, 6_000, codes={"save": 600}))
SPENT = redeemed(1, 1_000, at=day(0))
FIRST_LINE = refund(5, 4_000, returned(1, 4_000), at=day(5))
WHOLE = refund(9, 10_000, at=day(9))
REACTIVATES = program(reward={"reactivate_code": True})


def reversal(id: int, amount: int, *, at: int, cancels: bool = False, code: str = "stays_used") -> Reversal:
    return Reversal(id=id, at=day(at), amount=amount, cancels=cancels, code=code)


def spent(*reversals: Reversal, **changed: Any) -> Redemption:
    return replace(SPENT, reversals=reversals, **changed)


def made(*told: Any, by: Any = None, redemption: Redemption = SPENT, placed: Any = PLACED) -> OrderPlan:
    return decided(placed, *told, by=by, redemptions=[redemption])


# -- reversals ---------------------------------------------------------------------------------------


def test_a_refund_after_a_reversal_returns_only_what_is_left() -> None:
    """R14, R35: 700 by hand on day 3; the first line's 400 on day 5 is capped at 300; closing finds nothing left."""
    assert returns(made(FIRST_LINE, WHOLE, redemption=spent(reversal(1, 700, at=3)))) == [700, 300, 0]


def test_a_refund_told_late_goes_before_the_reversal_of_its_later_time() -> None:
    """R0: the same facts, whatever came first: day 5 gives 400, the whole reversal of day 6 what is left."""
    assert returns(made(FIRST_LINE, redemption=spent(reversal(1, 1_000, at=6)))) == [400, 600]


def test_several_reversals_add_up_to_the_redemption_at_most() -> None:
    """R14, R35."""
    several = spent(reversal(1, 600, at=3), reversal(2, 300, at=4), reversal(3, 500, at=5))
    assert returns(made(redemption=several)) == [600, 300, 100]


@pytest.mark.parametrize(
    "by",
    [
        pytest.param(program(returns=False), id="return_redeemed is off"),
        pytest.param(program(returns=True), id="return_redeemed is on"),
    ],
)
def test_what_a_merchant_gives_back_by_hand_asks_no_setting(by: Any) -> None:
    """R34, R35: the settings guard the automatic way."""
    assert returns(made(by=by, redemption=spent(reversal(1, 1_000, at=3)))) == [1_000]


def test_a_share_forfeited_while_returns_were_off_can_be_given_by_hand() -> None:
    """R17 holds for refunds: their share is left out; a merchant can still give it."""
    off = program(returns=False)
    plan = made(FIRST_LINE, by=off, redemption=spent(reversal(1, 1_000, at=6)))
    assert returns(plan) == [0, 1_000]


def test_a_reversal_says_whose_act_it_was() -> None:
    """R39."""
    plan = made(redemption=spent(reversal(1, 100, at=3), reversal(2, 900, at=4, cancels=True)))
    assert why_returned(plan) == [(REVERSED_BY_MERCHANT,), (CANCELLED_BY_MERCHANT,)]


def test_after_a_reversal_the_code_is_not_reactivated() -> None:
    """R22: something of the redemption was returned, so the rest comes as points."""
    plan = made(WHOLE, by=REACTIVATES, redemption=spent(reversal(1, 100, at=3)))
    assert (returns(plan), plan.restitution, plan.codes_back) == ([100, 900], {1: "points"}, set())


def test_a_later_reversal_keeps_a_code_from_coming_back_that_is_not_back_yet() -> None:
    """R21, R22: an accepted reversal is a fact; the closing refund is told after it, with an earlier time."""
    plan = made(WHOLE, by=REACTIVATES, redemption=spent(reversal(1, 1_000, at=12)))
    assert (returns(plan), plan.restitution) == ([1_000, 0], {1: "points"})


def test_a_code_that_came_back_and_was_taken_away_again_comes_as_points() -> None:
    """R21, R34: the restitution is the points; the refund itself still gives nothing."""
    back = spent(
        reversal(1, 1_000, at=12, cancels=True, code="removed"), reactivation="done", was_reactivated=True
    )
    plan = made(WHOLE, by=REACTIVATES, redemption=back)
    assert (returns(plan), plan.restitution) == ([0, 1_000], {1: "points"})


def test_a_use_that_was_given_back_keeps_its_code_when_nobody_reverses_it() -> None:
    """R23."""
    plan = made(WHOLE, by=REACTIVATES, redemption=spent(reactivation="done", was_reactivated=True))
    assert (returns(plan), plan.restitution) == ([0], {1: "code"})


@pytest.mark.parametrize(
    ("placed", "told"),
    [
        pytest.param(replace(PLACED, test=True), (), id="a test order that is ignored"),
        pytest.param(replace(PLACED, customer_id=None), (), id="an order without a customer"),
    ],
)
def test_a_reversal_stands_also_where_the_order_counts_for_nothing(placed: Any, told: Any) -> None:
    """R32, R35."""
    plan = made(WHOLE, placed=placed, redemption=spent(reversal(1, 250, at=3)))
    assert (returns(plan), plan.restitution) == ([250], {1: "points"})


def test_members_get_back_by_hand_what_each_gave() -> None:
    """R20: in proportion, largest remainder, ties by id; all of it exactly."""
    group = redeemed(1, 350, None, at=day(0), members={CUSTOMER: 100, OTHER: 250})
    group = replace(group, reversals=(reversal(1, 35, at=3), reversal(2, 315, at=4)))
    splits = [back.split for back in returns_without_order(group, [program()])]
    assert splits == [((CUSTOMER, 10), (OTHER, 25)), ((CUSTOMER, 90), (OTHER, 225))]


def test_a_reversal_is_the_same_row_with_and_without_an_order() -> None:
    """R0: an order that is told later changes nothing of what was given back by hand."""
    by_hand = spent(reversal(7, 250, at=3))
    alone = reversal_items(returns_without_order(by_hand, [program()]), 1)
    plan = made(redemption=by_hand)
    assert reversal_items(plan.returns, 1) == alone
    assert [(row["cause"], row["order_id"], row["amount"]) for row in alone] == [("reversal:7", None, 250)]
    assert all(row["cause"] != "reversal:7" for row in items_of(plan, 1))


@pytest.mark.parametrize(
    ("code", "flags"),
    [
        pytest.param("removed", [CODE_OF_CANCELLED], id="its code was taken away, and is used all the same"),
        pytest.param("not_reachable", [CODE_OF_CANCELLED], id="its code could not be taken away"),
        pytest.param("stays_used", [], id="it was used when it was cancelled"),
    ],
)
def test_an_order_with_the_code_of_a_cancelled_redemption_is_flagged(code: str, flags: list[str]) -> None:
    """R34: somebody should look."""
    by_hand = spent(reversal(1, 1_000, at=1, cancels=True, code=code))
    assert made(redemption=by_hand).flags == flags


# -- refunds asked of us ------------------------------------------------------------------------------

OURS = refund(MERCHANT_REFUND_FIRST, 6_000, at=day(6))


@pytest.mark.parametrize(
    ("told", "flags"),
    [
        pytest.param((*FIRST_LINE, *OURS), [], id="both together are the order"),
        pytest.param((*WHOLE, *OURS), [REFUNDED_TWICE], id="both together are more"),
        pytest.param(
            (*OURS, *refund(MERCHANT_REFUND_FIRST + 1, 6_000, at=day(7))), [], id="both asked of us"
        ),
    ],
)
def test_money_refunded_here_and_at_shopify_is_flagged(told: Any, flags: list[str]) -> None:
    """R36: nobody can tell the same money from more money, so both count, and a person should look."""
    assert made(*told).flags == flags


# -- orders cancelled by hand ------------------------------------------------------------------------


def cancelled(id: int, *, at: int) -> Cancellation:
    return Cancellation(id=id, order_id=ORDER, at=day(at))


def test_a_merchants_cancellation_closes_a_paid_order_at_once() -> None:
    """R36: what is left of the award and of the redemption; R27's waiting is for Shopify's cancellations."""
    plan = made(FIRST_LINE, cancelled(1, at=6))
    assert (plan.status, claims(plan), returns(plan)) == ("cancelled", [40, 60], [400, 600])


def test_a_refund_that_closed_the_order_before_leaves_a_cancellation_nothing() -> None:
    """R4, R36: the refund is the closing cause, whenever it arrives."""
    plan = made(cancelled(1, at=12), WHOLE)
    assert (plan.status, claims(plan), returns(plan)) == ("fully_refunded", [100], [1_000])


def test_a_refund_after_a_cancellation_takes_nothing_more() -> None:
    """R3, R36."""
    plan = made(cancelled(1, at=4), WHOLE)
    assert (plan.status, claims(plan), returns(plan)) == ("cancelled", [100, 0], [1_000, 0])


def test_the_status_of_cancelled_orders_can_be_switched_off() -> None:
    """R11, R36: `cancelled` does not reverse what was earned; what was redeemed comes back all the same."""
    plan = made(cancelled(1, at=4), by=program(reverse_earned={"cancelled": False}))
    assert (plan.status, claims(plan), returns(plan)) == ("cancelled", [0], [1_000])


# -- undo --------------------------------------------------------------------------------------------


def undone(*causes: str) -> tuple[Undo, ...]:
    return tuple(Undo(order_id=ORDER, cause=cause) for cause in causes)


def essence(plan: OrderPlan) -> tuple[Any, ...]:
    return plan.status, plan.refunded, claims(plan), returns(plan), plan.restitution, plan.flags


VOIDED = replace(PLACED, financial_status="voided", updated_at=day(4), outstanding_minor=0)
UNPAID = replace(PLACED, financial_status="authorized", outstanding_minor=10_000)
OFF = replace(UNPAID, cancelled_at=day(4), updated_at=day(4))


@pytest.mark.parametrize(
    ("placed", "told", "causes"),
    [
        pytest.param(PLACED, FIRST_LINE, ["refund:5"], id="a partial refund"),
        pytest.param(PLACED, WHOLE, ["refund:9"], id="the refund that closed the order"),
        pytest.param(PLACED, (cancelled(3, at=4),), ["cancellation:3"], id="a merchant's cancellation"),
        pytest.param(UNPAID, (VOIDED,), [f"void:{ORDER}", f"cancel:{ORDER}"], id="a void"),
        pytest.param(UNPAID, (OFF,), [f"void:{ORDER}", f"cancel:{ORDER}"], id="a cancellation at Shopify"),
    ],
)
def test_what_is_undone_counts_for_nothing(placed: Any, told: Any, causes: list[str]) -> None:
    """R38: as if it had never been told, also when it is told again, and whichever came first."""
    without = essence(made(placed=placed))
    assert essence(made(*told, placed=placed)) != without
    assert essence(made(*told, *undone(*causes), placed=placed)) == without
    assert essence(made(*undone(*causes), *told, *told, placed=placed)) == without


def test_undoing_one_of_several_refunds_leaves_the_others_as_they_are() -> None:
    """R38: the refund that closed the order is undone; the earlier one takes its part, not the remainder (R4)."""
    rest = refund(6, 6_000, returned(2, 6_000), at=day(6))
    seen = replace(PLACED, updated_at=day(7), financial_status="refunded")
    assert claims(made(FIRST_LINE, rest, seen)) == [40, 60]
    plan = made(FIRST_LINE, rest, seen, *undone("refund:6"))
    assert (plan.status, claims(plan), returns(plan)) == ("partially_refunded", [40], [400])


def test_units_that_an_undone_refund_took_are_no_edit() -> None:
    """R38, S9: they are gone at Shopify all the same."""
    lines = (line(1, 4_000, current=0, codes={"save": 400}), line(2, 6_000, codes={"save": 600}))
    seen = order(10_000, *lines, updated_at=day(6))
    assert claims(made(FIRST_LINE, seen, *undone("refund:5"))) == []


def test_units_of_a_refund_of_ours_are_back_when_it_is_undone() -> None:
    """R38, S9: what an edit takes off later counts again."""
    id = MERCHANT_REFUND_FIRST
    ours = refund(id, 4_000, returned(1, 4_000), at=day(5))
    lines = (line(1, 4_000, current=0, codes={"save": 400}), line(2, 6_000, codes={"save": 600}))
    seen = order(10_000, *lines, updated_at=day(6))
    kinds = [claim.cause.kind for claim in made(ours, seen).claims]
    again = [claim.cause.kind for claim in made(ours, seen, *undone(f"refund:{id}")).claims]
    assert (kinds, again) == (["refund"], ["edit"])
