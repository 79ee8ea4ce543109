"""The oracle on what merchants do by hand: worked cases by the readings D25 to D28, and undo as the way back (R38)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest

from models.rules.facts import Fact, Line, Snapshot
from tests.oracle.claims import OURS, Cancelled, Reversal, Seen
from tests.oracle.merchants import Act, Hand, hand_of, refund_asked, told
from tests.oracle.store import Grant, Shop, State
from tests.oracle.worlds import Delivery, Seeded, Wish, made_up_wishes, make_world, timetable
from tests.rules.test_oracle_worked_cases import (
    BUYER,
    FRIEND,
    LATER,
    ORDER,
    day,
    earning,
    grant,
    opted_in,
    paid_order,
    redemption,
    refunded,
    units,
)

TWO_UNITS = Line(id=1, quantity=2, current_quantity=2, net_minor=10_000, code_discounts=(("save-1", 1000),))


def shop(
    facts: list[Fact],
    program: dict[str, Any] | None = None,
    *,
    spent: dict[str, Any] | None = None,
    grants: list[Grant] | None = None,
    **acts: Any,
) -> Shop:
    """100 points spent by day 1 on the code of the order, unless told otherwise."""
    return Shop(
        [(None, program or earning("1"))],
        [Seen(LATER, f) for f in facts],
        [grant(100, day(0))] if grants is None else grants,
        [spent or redemption(100, at=day(0.5))],
        **acts,
    )


def bought() -> Snapshot:
    return paid_order(10_000, TWO_UNITS, codes=("save-1",))


def half_back(number: int, at: float) -> list[Fact]:
    return refunded(5_000, number=number, at=day(at), lines=(units(1, 1, 5_000),))


def given_back(state: State) -> tuple[int, str]:
    return state.redemptions[31].returned, state.redemptions[31].restitution


def by_hand(amount: int, at: float, id: int = 1, **others: Any) -> Reversal:
    return Reversal(id, 31, day(at), amount, **others)


# -- reversals (D25) -----------------------------------------------------------------------------------


def test_a_reversal_of_an_unused_redemption_gives_the_points_back() -> None:
    """R34, R35."""
    state = shop([], reversals=[by_hand(100, 2)]).settle(LATER)
    assert given_back(state) == (100, "points")
    assert state.customers[BUYER].balance == 100


def test_what_a_reversal_gave_counts_towards_every_later_cap() -> None:
    """R14: half of the units bring back half, the closing only what the reversal left."""
    facts = [bought(), *half_back(1, 3), *half_back(2, 5)]
    outcome = shop(facts, reversals=[by_hand(30, 4)]).settle(LATER).orders[ORDER].outcome
    assert [(r.cause, r.amount) for r in outcome.returns] == [
        ("refund:1", 50),
        ("reversal:1", 30),
        ("refund:2", 20),
    ]


def test_a_refund_that_comes_late_is_before_the_reversal_and_leaves_it_less() -> None:
    """R0: as if in time."""
    facts = [bought(), *half_back(1, 3)]
    outcome = shop(facts, reversals=[by_hand(100, 4)]).settle(LATER).orders[ORDER].outcome
    assert [r.amount for r in outcome.returns] == [50, 50]


@pytest.mark.parametrize(
    ("program", "spent"),
    [
        pytest.param(earning("1", return_redeemed={"enabled": False}), {}, id="nothing comes back by itself"),
        pytest.param(earning("1"), {"kind": "gift_card"}, id="a gift card"),
    ],
)
def test_a_merchant_may_give_back_what_does_not_come_back_by_itself(
    program: dict[str, Any], spent: dict[str, Any]
) -> None:
    """R16, R17: those guard the automatic way."""
    facts = [bought(), *half_back(1, 3)]
    spent_on = redemption(100, at=day(0.5)) | spent
    state = shop(facts, program, spent=spent_on, reversals=[by_hand(100, 4)]).settle(LATER)
    assert given_back(state) == (100, "points")


def test_a_reversal_goes_back_to_each_of_a_group_and_tells_what_expired() -> None:
    """R19, R20."""
    grants = [grant(100, day(0)), grant(250, day(0), customer=FRIEND, number=2, expires_at=day(3))]
    spent = redemption(350, at=day(0.5), members={BUYER: 100, FRIEND: 250})
    state = shop([], grants=grants, spent=spent, reversals=[by_hand(70, 4)]).settle(LATER)
    back = state.redemptions[31]
    assert (back.credited, back.expired) == (20, 50)
    assert (state.customers[BUYER].balance, state.customers[FRIEND].balance) == (20, 0)


def test_a_redemption_with_a_reversal_is_not_reactivated() -> None:
    """R21, R22: something was returned; without the reversal the code comes back."""
    facts = [bought(), *refunded(10_000, number=1, at=day(3))]
    assert given_back(shop(facts, opted_in()).settle(LATER)) == (0, "code")
    assert given_back(shop(facts, opted_in(), reversals=[by_hand(40, 2)]).settle(LATER)) == (100, "points")
    undone = [by_hand(40, 2, undone=True)]
    assert given_back(shop(facts, opted_in(), reversals=undone).settle(LATER)) == (0, "code")


# -- cancelled by us (D27) -----------------------------------------------------------------------------


def test_an_order_cancelled_by_us_is_closed_at_once_whatever_was_captured() -> None:
    """R27, R36."""
    asked = [Cancelled(1, ORDER, day(4))]
    state = shop([bought(), *half_back(1, 3)], cancellations=asked).settle(LATER)
    order = state.orders[ORDER]
    assert (order.status, order.awards["r"].reversed, given_back(state)) == (
        "cancelled",
        100,
        (100, "points"),
    )
    assert [c.amount for c in order.outcome.claims] == [50, 50]
    assert state.customers[BUYER].spend["lifetime"] == 0


@pytest.mark.parametrize(
    ("refunded_on", "status"),
    [
        pytest.param(3, "fully_refunded", id="before"),
        pytest.param(4, "fully_refunded", id="at the same time"),
        pytest.param(5, "cancelled", id="after"),
    ],
)
def test_a_closing_refund_wins_unless_it_is_later(refunded_on: int, status: str) -> None:
    facts = [bought(), *refunded(10_000, number=1, at=day(refunded_on))]
    state = shop(facts, cancellations=[Cancelled(1, ORDER, day(4))]).settle(LATER)
    assert state.orders[ORDER].status == status


# -- refunds asked of us (D26) -------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "value", "status", "balance"),
    [
        pytest.param({"amount": 2_500}, 2_500, "partially_refunded", 75, id="an amount"),
        pytest.param({"lines": {1: 1}}, 5_000, "partially_refunded", 100, id="a unit of a line"),
        pytest.param({}, 10_000, "fully_refunded", 100, id="the rest"),
    ],
)
def test_a_refund_asked_of_us_is_a_refund(
    wish: dict[str, Any], value: int, status: str, balance: int
) -> None:
    """R36: with lines half of the redeemed points come back, with the rest all of them."""
    hand = Hand(shop([]))
    hand.seen = [Seen(LATER, bought())]
    hand.keep(refund_asked(hand.facts_of(ORDER, LATER), day(3), "open", **wish), OURS)
    state = hand.settle(LATER)
    order = state.orders[ORDER]
    assert (order.refunds, order.status) == ({OURS: (value, ())}, status)
    assert state.customers[BUYER].balance == balance


# -- undo (D28) ----------------------------------------------------------------------------------------


def test_an_undone_refund_counts_for_nothing_however_often_it_is_told() -> None:
    """R38."""
    facts = [bought(), *half_back(1, 3), *half_back(1, 3)]
    undone = shop(facts, undone=frozenset({"refund:1"})).settle(LATER)
    never = shop([bought()]).settle(LATER)
    assert standing(undone) == standing(never)
    assert undone.orders[ORDER].refunds == {1: (0, ("UNDONE",))}
    assert undone.orders[ORDER].status == "open"


def test_units_of_an_undone_refund_of_shopifys_are_gone_and_make_no_edit() -> None:
    later = replace(
        bought(), updated_at=day(6), lines=(replace(TWO_UNITS, current_quantity=1),), financial_status="paid"
    )
    state = shop([bought(), later, *half_back(1, 3)], undone=frozenset({"refund:1"})).settle(LATER)
    assert [c.kind for c in state.orders[ORDER].outcome.causes] == ["refund"]
    assert state.customers[BUYER].balance == 100


def test_the_status_refunded_closes_no_order_with_an_undone_refund() -> None:
    later = replace(bought(), updated_at=day(6), financial_status="refunded")
    facts = [bought(), later, *half_back(1, 3), *half_back(2, 4)]
    assert shop(facts).settle(LATER).orders[ORDER].status == "fully_refunded"
    undone = shop(facts, undone=frozenset({"refund:2"})).settle(LATER)
    assert undone.orders[ORDER].status == "partially_refunded"


def test_an_undone_ending_leaves_the_order_open() -> None:
    """R38: Shopify's and ours."""
    off = replace(bought(), financial_status="pending", cancelled_at=day(2), updated_at=day(2))
    assert shop([off]).settle(LATER).orders[ORDER].status == "cancelled"
    assert shop([off], undone=frozenset({f"cancel:{ORDER}"})).settle(LATER).orders[ORDER].status == "open"
    ours = shop([bought()], cancellations=[Cancelled(5, ORDER, day(3))])
    assert ours.settle(LATER).orders[ORDER].status == "cancelled"
    assert replace(ours, undone=frozenset({"cancellation:5"})).settle(LATER).orders[ORDER].status == "open"


@pytest.mark.parametrize("seed", range(60))
def test_every_act_that_is_undone_leaves_what_was_before_it(seed: int) -> None:
    """R0, R38: in made-up worlds."""
    source = Seeded(seed)
    world = make_world(source, orders=3)
    hand = hand_of(world)
    for number, arrival in enumerate(timetable(source, world, made_up_wishes(source, world, most=6))):
        step = arrival.step
        if isinstance(step, Wish):
            act = hand.act_of(step)
            if act is not None and act.verdict == "done":
                before = hand.settle(world.now)
                hand.keep(act, OURS + number if act.kind == "refund" else number)
                if taking_back(act, number) is not None:
                    other = replace(hand, reversals=list(hand.reversals), undone=set(hand.undone))
                    other.keep(taking_back(act, number) or act)
                    assert standing(other.settle(world.now)) == standing(before)
        else:
            seen = [Seen(step.received_at, f) for f in step.facts] if isinstance(step, Delivery) else []
            told(hand, step, seen)


def taking_back(act: Act, number: int) -> Act | None:
    at = act.at + timedelta(seconds=1)
    if act.kind == "reverse":
        return Act("undo_reversal", number, at, "done")
    if act.kind == "refund":
        return Act("undo_refund", OURS + number, at, "done", cause=f"refund:{OURS + number}")
    if act.kind == "cancel":
        return Act("undo_ending", act.of, at, "done", cause=f"cancellation:{number}")
    return None


def standing(state: State) -> dict[str, Any]:
    """What everybody has, apart from the mention of an undone refund."""
    return {
        "customers": {
            id: (c.balance, c.pending, c.debt, c.lots, c.tier, c.spend, c.orders_count)
            for id, c in state.customers.items()
        },
        "orders": {id: (o.status, o.awards, o.refunded_minor) for id, o in state.orders.items()},
        "redemptions": state.redemptions,
    }
