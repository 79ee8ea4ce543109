"""How an order ends, and how Shopify's facts are read: R27-R29, R32, S1-S10."""

from __future__ import annotations

from dataclasses import replace
from itertools import permutations
from typing import Any

import pytest

from models.rules.causes import (
    CANCELLED_PAID_WAITING,
    NO_CUSTOMER,
    ORDER_UNKNOWN,
    REFUND_CONFLICT,
    TEST_ORDER_IGNORED,
    VOIDED_STILL_OWED,
)
from models.rules.facts import Refund
from models.rules.plan import ALREADY_CLOSED, REMAINDER, OrderPlan
from models.rules.refunds import ITEMS_WITHOUT_MONEY, NO_MONEY_MOVED
from tests.rules.build import (
    CUSTOMER,
    ORDER,
    OTHER,
    adjusted,
    claims,
    day,
    decided,
    dispute,
    edit,
    flat,
    joined,
    line,
    order,
    paid_back,
    program,
    redeemed,
    refund,
    result,
    returned,
    returns,
    wallet,
    why,
)

CODED = (line(1, 10_000, codes={"save": 900}),)
SPENT = redeemed(1, 80, at=day(0))
BIG = 9_007_199_254_740_993 * 100  # beyond 2**53


def pending(**changed: Any) -> Any:
    return order(None, *CODED, financial_status="pending", outstanding_minor=10_000, **changed)


def ended(made: OrderPlan) -> tuple[Any, ...]:
    """How it closed: status, what was reversed, what came back, by what."""
    closing = [cause.key.split(":")[0] for cause in made.causes if cause.closing]
    return made.status, sum(claims(made)), sum(returns(made)), closing


# -- R27, S7: void and cancel ------------------------------------------------------------------------


def test_a_cancelled_order_that_was_never_paid_gives_back_what_was_redeemed() -> None:
    """R27: nothing was earned; all redeemed value comes back."""
    made = decided(pending(), pending(cancelled_at=day(3), updated_at=day(3)), redemptions=[SPENT])
    assert ended(made) == ("cancelled", 0, 80, ["cancel"])


@pytest.mark.parametrize("status", ["voided", "expired"])
def test_an_authorization_that_came_to_nothing_closes_an_order_that_stays_open(status: str) -> None:
    """R27, S7: decided on the order's state; the void transaction of 0.00 says nothing by itself."""
    void = paid_back(77, 0, at=day(3), kind="void", refund_id=None)
    gone = order(None, *CODED, financial_status=status, updated_at=day(3), outstanding_minor=0)
    made = decided(pending(), void, gone, redemptions=[SPENT])
    assert ended(made) == ("voided", 0, 80, ["void"])
    assert decided(pending(), void, redemptions=[SPENT]).status == "open"


def test_a_cancelled_order_whose_authorization_was_voided_is_the_other_shape_of_a_void() -> None:
    """R27, S7."""
    gone = order(None, *CODED, financial_status="voided", updated_at=day(3), cancelled_at=day(3))
    assert ended(decided(pending(), gone, redemptions=[SPENT])) == ("voided", 0, 80, ["void"])


def test_voided_but_still_owed_waits() -> None:
    """S7: not cancelled, and the buyer may still pay another way."""
    gone = order(None, *CODED, financial_status="voided", updated_at=day(3), outstanding_minor=10_000)
    made = decided(pending(), gone, redemptions=[SPENT])
    assert (made.status, made.flags) == ("open", [VOIDED_STILL_OWED])


def test_what_an_order_earned_before_its_void_is_cancelled_while_pending() -> None:
    """R27, R5: pending cancelled."""
    told = [order(10_000), order(10_000, financial_status="voided", updated_at=day(3))]
    made = decided(*told, by=program(waiting_days=14))
    assert (claims(made), [claim.reduces_pending for claim in made.claims]) == ([100], [True])
    assert wallet(made).postings == []


def test_a_cancel_with_a_refund_posts_nothing_more_than_the_refund() -> None:
    """R27, S6: the refund does the work, in either order, whatever a program says of paid cancels."""
    told = [
        order(10_000),
        order(10_000, updated_at=day(3), cancelled_at=day(3)),
        *flat([refund(1, 10_000, at=day(4))]),
    ]
    made = decided(*told)
    assert ended(made) == ("fully_refunded", 100, 0, ["refund"])
    assert decided(*told, by=program(cancelled_paid="close")).reversed_of("place-order") == 100


def test_a_cancel_of_a_paid_order_waits_and_is_flagged() -> None:
    """R27: the default."""
    made = decided(order(10_000), order(10_000, updated_at=day(3), cancelled_at=day(3)))
    assert (made.status, made.flags, made.claims) == ("open", [CANCELLED_PAID_WAITING], [])


def test_a_program_may_close_a_cancelled_paid_order_at_once() -> None:
    """R27: `close`."""
    told = [order(None, *CODED), order(None, *CODED, updated_at=day(3), cancelled_at=day(3))]
    made = decided(*told, by=program(cancelled_paid="close"), redemptions=[SPENT])
    assert ended(made) == ("cancelled", 100, 80, ["cancel"])


def test_one_cancel_tells_itself_four_times_and_takes_effect_once() -> None:
    """S6: orders/cancelled, orders/updated, refunds/create and order_transactions/create, in every order."""
    cancelled = order(10_000, updated_at=day(3), cancelled_at=day(3), financial_status="refunded")
    updated = order(10_000, updated_at=day(3, seconds=1), cancelled_at=day(3), financial_status="refunded")
    back = refund(1, 10_000, returned(1, 10_000), at=day(3))
    alone = paid_back(1, 10_000, at=day(3), refund_id=None)
    ways = {(*ended(made)[:3], tuple(claims(made))) for told in permutations([cancelled, updated, back, alone])
            for made in [decided(order(10_000), *told)]}  # fmt: skip
    assert ways == {("fully_refunded", 100, 0, (100,))}


# -- R28, R29, R32, S10 ------------------------------------------------------------------------------


def test_a_refund_before_its_order_is_kept_and_nets_the_award_when_the_order_comes() -> None:
    """R28."""
    alone = decided(refund(1, 2_000, at=day(3)))
    assert (alone.status, alone.flags, alone.claims) == ("unknown", [ORDER_UNKNOWN], [])
    made = decided(refund(1, 2_000, at=day(3)), order(10_000))
    assert wallet(made).balance == 80


def test_a_refund_told_with_two_contents_stands_as_one_of_them_and_says_so() -> None:
    """R28: the same one, whichever came first."""
    one, other = refund(1, 2_000, at=day(3)), refund(1, 2_000, returned(1, 1_500), at=day(3))
    a, b = decided(order(10_000), one, other), decided(other, one, order(10_000))
    assert (a.flags, claims(a)) == (b.flags, claims(b)) == ([REFUND_CONFLICT], [20])


def test_a_chargeback_lost_counts_as_a_refund_under_the_same_caps() -> None:
    """R29: half of it; then all is refunded: together no more than the award."""
    made = decided(order(10_000), dispute(5, 5_000, at=day(3)), refund(1, 10_000, at=day(4)))
    assert (claims(made), made.status, made.refunded) == ([50, 50], "fully_refunded", 15_000)


@pytest.mark.parametrize("status", ["won", "needs_response", "under_review"])
def test_a_chargeback_that_is_not_lost_takes_nothing(status: str) -> None:
    """R29."""
    assert decided(order(10_000), dispute(5, 5_000, at=day(3), status=status)).causes == []


def test_a_chargeback_stays_lost_whatever_is_told_of_it_later() -> None:
    """R29, R0."""
    lost, earlier = dispute(5, 5_000, at=day(3)), dispute(5, 5_000, at=day(2), status="needs_response")
    assert (
        claims(decided(order(10_000), lost, earlier)) == claims(decided(order(10_000), earlier, lost)) == [50]
    )


def test_a_test_order_is_ignored_unless_the_program_includes_it() -> None:
    """R32, S10."""
    told = [order(None, *CODED, test=True), refund(1, 10_000, at=day(3))]
    ignored = decided(*told, redemptions=[SPENT])
    assert (ignored.awards, ignored.returns, ignored.flags) == ([], [], [TEST_ORDER_IGNORED])
    included = decided(*told, redemptions=[SPENT], by=program(include_test_orders=True))
    assert ended(included) == ("fully_refunded", 100, 80, ["refund"])


def test_an_order_without_a_customer_is_kept_and_counts_when_one_is_attached() -> None:
    """R32, S10: a POS sale; the customer is known on day 4, the refund of day 3 counts all the same."""
    told = [order(10_000, customer_id=None), refund(1, 2_000, at=day(3))]
    nobody = decided(*told)
    assert (nobody.awards, nobody.flags, nobody.status) == ([], [NO_CUSTOMER], "partially_refunded")
    somebody = decided(*told, order(10_000, updated_at=day(4)))
    assert (claims(somebody), wallet(somebody).balance) == ([20], 80)


def test_a_customer_that_was_deleted_stays_the_one_of_the_order() -> None:
    """S10: null later; and the newest that there was is taken."""
    told = [
        order(10_000),
        order(10_000, updated_at=day(3), customer_id=OTHER),
        order(10_000, updated_at=day(4), customer_id=None),
    ]
    assert {joined(*told).customer_id, joined(*reversed(told)).customer_id} == {OTHER}
    assert decided(told[0], told[2]).order.customer_id == CUSTOMER


def test_lines_are_called_the_same_in_any_order_and_nothing_depends_on_it() -> None:
    tellings = [
        order(
            None,
            replace(line(1, 6_000), name=first),
            replace(line(2, 4_000), name=second),
            updated_at=day(at),
        )
        for first, second, at in (("Lamp", "", 1), ("Lamp - blue", "Chair", 2), ("", "Chair", 2))
    ]
    for told in permutations(tellings):
        known = joined(*told)
        assert known.line_names == {1: "Lamp", 2: "Chair"}
        assert known.newest == order(None, line(1, 6_000), line(2, 4_000), updated_at=day(2))


def test_facts_from_the_future_are_of_now() -> None:
    """R0: Shopify's clock may run ahead of ours; a fact is never later than its arrival."""
    facts = joined(
        order(10_000),
        refund(1, 2_000, at=day(300)),
        dispute(2, 100, at=day(300)),
        edit(3, at=day(300)),
        received_at=day(5),
    )
    assert facts.refunds[1].at == facts.disputes[2].at == facts.edits[3].committed_at == day(5)


# -- S1-S5, S8 ---------------------------------------------------------------------------------------


def test_only_shop_money_counts() -> None:
    """S1: 100.00 USD shown as 80.00 EUR; 20.00 EUR back are 25.00 USD, by the order's own ratio."""
    placed = order(10_000, presentment_currency="EUR", presentment_total_minor=8_000)
    told = refund(1, 2_000, returned(1, 2_500), at=day(3), currency="EUR", adjustments=())
    assert claims(decided(placed, told)) == [25]


def test_shop_money_that_is_given_wins_over_the_ratio() -> None:
    """S1: the rate of the day gave 26.00 USD."""
    placed = order(10_000, presentment_currency="EUR", presentment_total_minor=8_000)
    told = refund(
        1, 2_000, at=day(3), currency="EUR", adjustments=[adjusted(-2_600)], shop_amount_minor=2_600
    )
    assert claims(decided(placed, told)) == [26]


def test_half_a_cent_of_converted_money_is_rounded_up() -> None:
    """S1: 3.33 of 10.00 shown, 15.00 in the shop: 4.995 are 5.00."""
    placed = order(1_500, presentment_currency="EUR", presentment_total_minor=1_000)
    made = decided(placed, refund(1, 333, at=day(3), currency="EUR", adjustments=[adjusted(-900)]))
    assert made.causes[0].value == 500


def test_ids_beyond_two_to_the_53_are_told_apart() -> None:
    """S1: neighbours that a float would make one."""
    made = decided(order(10_000), refund(BIG, 1_000, at=day(3)), refund(BIG + 1, 2_000, at=day(3)))
    assert [(claim.cause.key, claim.amount) for claim in made.claims] == [
        (f"refund:{BIG}", 10),
        (f"refund:{BIG + 1}", 20),
    ]


@pytest.mark.parametrize(
    ("told", "value"),
    [
        pytest.param(
            refund(1, 3_300, returned(1, 3_000, tax=300), adjustments=(), at=day(3)),
            3_300,
            id="items and tax",
        ),
        pytest.param(refund(1, 550, shipping=550, adjustments=(), at=day(3)), 550, id="shipping"),
        pytest.param(
            refund(1, 550, adjustments=[adjusted(-500, -50, shipping=True)], at=day(3)),
            550,
            id="shipping, older",
        ),
        pytest.param(refund(1, 1_500, adjustments=[adjusted(-1_500)], at=day(3)), 1_500, id="an amount"),
        pytest.param(
            refund(1, 2_600, returned(1, 3_000), adjustments=[adjusted(400)], at=day(3)),
            2_600,
            id="a fee kept",
        ),
    ],
)
def test_the_value_of_a_refund_is_its_lines_and_shipping_less_signed_adjustments(
    told: Any, value: int
) -> None:
    """S2."""
    made = decided(order(10_000), told)
    assert (made.causes[0].value, why(made)) == (value, [()])


def test_a_program_may_count_items_without_money() -> None:
    """S3: an exchange credit kept outside Shopify."""
    told = refund(1, None, returned(1, 2_000), at=day(3))
    made = decided(order(10_000), told, by=program(reverse_earned={"items_without_money": True}))
    assert (claims(made), why(made)) == ([20], [(ITEMS_WITHOUT_MONEY,)])
    assert why(decided(order(10_000), told)) == [(NO_MONEY_MOVED,)]


def test_a_line_that_came_back_with_no_value_is_an_amount() -> None:
    """S4: no_restock with a line subtotal of 0 and money returned; under the subtotal mask it is measured on the total."""
    told = refund(1, 2_500, returned(1, 0), at=day(3))
    made = decided(order(12_500, line(1, 10_000)), told, by=program(rule={"mask": "subtotal"}))
    assert (claims(made), str(made.claims[0].ratio)) == ([20], "1/5")


def test_the_outer_quantity_is_what_came_back() -> None:
    """S4, R12: one of two units."""
    placed = order(10_000, line(1, 10_000, units=2, codes={"save": 900}))
    made = decided(placed, refund(1, 5_000, returned(1, 5_000, units=1), at=day(3)), redemptions=[SPENT])
    assert returns(made) == [40]


def test_a_codes_share_is_its_own_and_not_another_discounts() -> None:
    """S5: two codes on one line; and a refund needs neither codes nor a customer of its own."""
    placed = order(
        10_000, line(1, 5_000, codes={"save": 100, "other": 4_000}), line(2, 5_000, codes={"save": 300})
    )
    made = decided(placed, refund(1, 5_000, returned(1, 5_000), at=day(3)), redemptions=[SPENT])
    assert returns(made) == [20]


def test_money_given_back_to_a_gift_card_or_as_store_credit_is_money_given_back_and_nothing_else() -> None:
    """S8, R1: two transactions of one refund; no redemption is touched by them."""
    record, card = refund(1, 2_000, adjustments=[adjusted(-2_500)], at=day(3))
    credit = paid_back(2, 500, at=day(3), refund_id=1)
    assert isinstance(record, Refund)
    both = replace(record, transaction_ids=(10, 20))
    made = decided(order(10_000), both, card, credit)
    assert (claims(made), made.returns) == ([25], [])


def test_units_of_an_added_line_that_an_edit_removes_again_take_their_own_award() -> None:
    """S9: two units added on day 2 for 40.00, one of them gone on day 4."""
    placed = order(10_000)
    added = order(None, line(1, 10_000), line(50, 4_000, units=2), total_minor=10_000, updated_at=day(2))
    less = order(
        None, line(1, 10_000), line(50, 4_000, units=2, current=1), total_minor=10_000, updated_at=day(4)
    )
    made = decided(placed, added, less)
    assert (claims(made), claims(made, "place-order+50")) == ([0], [20])
    assert wallet(made).balance == 120


def test_an_edited_order_closes_at_what_is_left_of_it() -> None:
    """S9, R4: one of two lines went by edit, the other is refunded."""
    placed = order(10_000, line(1, 6_000), line(2, 4_000))
    edited = order(None, line(1, 6_000), line(2, 4_000, current=0), total_minor=10_000, updated_at=day(2))
    made = decided(placed, edited, refund(1, 6_000, returned(1, 6_000), at=day(3)), refund(2, 100, at=day(4)))
    assert (claims(made), made.status) == ([40, 60, 0], "fully_refunded")
    assert why(made)[1:] == [(REMAINDER,), (ALREADY_CLOSED,)]


def test_an_exchange_for_something_dearer_that_comes_back_whole_leaves_nothing() -> None:
    """S9, R10, R4: 40.00 exchanged for 55.00, then all 115.00 refunded: no point is left, none is missing."""
    placed = order(10_000, line(1, 6_000), line(2, 4_000))
    after = order(
        None,
        line(1, 6_000),
        line(2, 4_000, current=0),
        line(50, 5_500),
        total_minor=10_000,
        updated_at=day(3),
    )
    made = decided(
        placed, after, refund(1, None, returned(2, 4_000), at=day(3)), refund(2, 11_500, at=day(5))
    )
    folded = wallet(made)
    assert (made.status, folded.balance, result(folded, "refund:2").short) == ("fully_refunded", 0, 0)
    assert result(folded, f"order:{ORDER}").moved == 115
