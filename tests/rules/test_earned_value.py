"""What a refund takes back of what its order earned: R1-R11."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import replace
from datetime import datetime
from fractions import Fraction
from itertools import permutations

import pytest

from models.rules.awards import awards_of
from models.rules.facts import Fact, Transaction
from models.rules.plan import (
    ALREADY_CLOSED,
    CAPPED,
    ONLY_ON_FULL,
    REMAINDER,
    STATUS_OFF,
    OrderPlan,
)
from models.rules.refunds import MONEY_DIFFERS, MONEY_FAILED, MONEY_PENDING, NO_MONEY_MOVED
from models.rules.wallet import APPROVAL, CLAIM
from tests.rules.build import (
    CUSTOMER,
    ORDER,
    adjusted,
    claims,
    day,
    decided,
    dispute,
    edit,
    flat,
    grant,
    joined,
    line,
    live_lots,
    order,
    paid_back,
    program,
    redeemed,
    refund,
    result,
    returned,
    spend,
    wallet,
    why,
)

ADDED = line(50, 4_000)


def ratios(made: OrderPlan) -> list[Fraction | None]:
    return [claim.ratio for claim in made.claims]


# -- R0 ----------------------------------------------------------------------------------------------


def test_the_same_facts_ask_for_the_same_claims_however_they_arrived() -> None:
    """R0 (a): the plan is a function of the facts; told twice, in any order, it is the same."""
    placed, paid = order(10_000, financial_status="pending"), order(10_000, updated_at=day(2))
    told = [
        placed,
        paid,
        *flat([refund(1, 2_000, at=day(3))]),
        edit(9, at=day(4)),
        dispute(5, 100, at=day(5)),
    ]
    plans = {repr(claims(decided(*some, *some[:2]))) for some in permutations(told)}
    assert plans == {"[20, 1]"}


def test_an_event_later_than_the_moment_that_is_looked_at_has_not_happened_yet() -> None:
    """R0 (b): what stands is a function of the facts and the time."""
    made = decided(order(10_000), refund(1, 10_000, at=day(9)))
    assert wallet(made, until=day(8)).balance == 100
    assert wallet(made, until=day(9)).balance == 0


def test_at_one_instant_expiry_grants_approvals_returns_claims_and_spending_come_in_this_order() -> None:
    """R0 (b): sorted by effective time, then kind, then id."""
    made = decided(order(5_000), refund(1, 5_000, at=day(1)))
    folded = wallet(
        made, spend(2, 10, at=day(1)), grant(1, 10, at=day(1)), grant(3, 7, at=day(0), expires_at=day(1))
    )
    assert [(posting.kind, posting.amount) for posting in folded.postings] == [
        ("grant", 7),
        ("expiry", -7),
        ("grant", 10),
        ("approval", 50),
        ("claim", -50),
        ("spend", -10),
    ]


def test_refunds_of_one_second_follow_their_ids() -> None:
    """R0 (a): refunds are taken in the order of their own time, then id."""
    made = decided(order(1_000), refund(2, 400, at=day(2)), refund(1, 600, at=day(2)))
    assert [(claim.cause.key, claim.amount) for claim in made.claims] == [("refund:1", 6), ("refund:2", 4)]


# -- R1 ----------------------------------------------------------------------------------------------


def test_a_fifth_of_the_money_takes_a_fifth_of_the_points() -> None:
    """R1: $20 of $100 is 1/5, exactly."""
    made = decided(order(10_000), refund(1, 2_000, at=day(2)))
    assert (ratios(made), claims(made)) == ([Fraction(1, 5)], [20])


def test_the_default_mask_counts_tax_and_shipping_on_both_sides() -> None:
    """R1: 60.00 of items, 6.00 tax and 4.00 shipping are a total of 70.00; shipping alone is 4/70 of it."""
    made = decided(order(7_000, line(1, 6_000, tax=600)), refund(1, 400, shipping=400, at=day(2)))
    assert made.awards[0].amount == 70
    assert ratios(made) == [Fraction(4, 70)]


def test_under_the_subtotal_mask_tax_and_shipping_earn_nothing_and_take_nothing() -> None:
    """R1: both sides under the same mask, which is stored with the award."""
    by = program(rule={"mask": "subtotal"})
    placed = order(7_000, line(1, 4_000, tax=400), line(2, 2_000, tax=200))
    made = decided(
        placed,
        refund(1, 400, shipping=400, at=day(2)),
        refund(2, 2_200, returned(2, 2_000, tax=200), at=day(3)),
        by=by,
    )
    assert (made.awards[0].amount, made.awards[0].mask) == (60, "subtotal")
    assert ratios(made) == [0, Fraction(1, 3)]


def test_an_amount_only_refund_under_the_subtotal_mask_is_measured_on_the_total() -> None:
    """R1: amount / total."""
    by = program(rule={"mask": "subtotal"})
    made = decided(order(8_000, line(1, 6_000)), refund(1, 2_000, at=day(2)), by=by)
    assert ratios(made) == [Fraction(1, 4)]


def test_line_items_and_amounts_of_the_same_money_count_alike() -> None:
    """R1."""
    lines = decided(order(10_000), refund(1, 2_500, returned(1, 2_500), at=day(2)))
    amount = decided(order(10_000), refund(1, 2_500, at=day(2)))
    assert claims(lines) == claims(amount) == [25]


@pytest.mark.parametrize(
    ("currency", "total", "back", "earned", "taken"),
    [
        pytest.param("JPY", 4_950, 1_650, 4_950, 1_650, id="yen have no smaller unit"),
        pytest.param("KWD", 24_690, 12_345, 24, 12, id="dinars have a thousand"),
        pytest.param("USD", 24_690, 12_345, 246, 123, id="dollars have a hundred"),
    ],
)
def test_money_counts_in_its_currencys_own_smallest_unit(
    currency: str, total: int, back: int, earned: int, taken: int
) -> None:
    """R1: exact fractions of minor units, of currencies with 0, 2 and 3 decimals."""
    made = decided(order(total, currency=currency), refund(1, back, at=day(2), currency=currency))
    assert (made.awards[0].amount, claims(made)) == (earned, [taken])


def test_an_order_with_tax_inside_its_prices_is_measured_the_same_way() -> None:
    """R1: 2 x 59.50 with 19.00 tax inside; one unit back is half, under either mask."""
    placed = order(11_900, line(1, 11_900, units=2, tax=1_900), taxes_included=True)
    back = refund(1, 5_950, returned(1, 5_000, tax=950), at=day(2))
    total = decided(placed, back)
    subtotal = decided(placed, back, by=program(rule={"mask": "subtotal"}))
    assert (total.awards[0].amount, claims(total)) == (119, [59])
    assert (subtotal.awards[0].amount, claims(subtotal)) == (100, [50])


def test_an_order_of_nothing_divides_by_nothing() -> None:
    """R1: a total of zero has a ratio of zero."""
    made = decided(order(0), refund(1, 0, at=day(2)), by=program(rule={"fixed": 10}))
    assert (made.awards[0].amount, claims(made), ratios(made)) == (10, [0], [0])


# -- R2, R3 ------------------------------------------------------------------------------------------


def test_each_claim_is_rounded_down_by_itself() -> None:
    """R2: three thirds of 100 points on 3.00 take 33 each; the last closes."""
    thirds = [refund(n, 100, at=day(n + 1)) for n in (1, 2, 3)]
    assert claims(decided(order(300), *thirds, by=program(points="33.4"))) == [
        33,
        33,
        34,
    ]


def test_cumulative_rounding_never_drifts_by_a_point() -> None:
    """R2: floor of the sum less what was taken."""
    halves = [refund(n, 50, at=day(n + 1)) for n in range(1, 7)]
    by = program(reverse_earned={"rounding": "cumulative"})
    assert claims(decided(order(1_000), *halves, by=by)) == [0, 1, 0, 1, 0, 1]


def test_no_award_is_reversed_beyond_itself() -> None:
    """R3: more money than the order had takes the award, and no more."""
    made = decided(
        order(10_000), refund(1, 8_000, at=day(2)), refund(2, 7_000, at=day(3)), refund(3, 500, at=day(4))
    )
    assert claims(made) == [80, 20, 0]
    assert made.reversed_of("place-order") == 100


def test_a_claim_beyond_what_is_left_is_cut_and_says_so() -> None:
    """R3: all items are back, half of the order was shipping; 25 more are asked of an award that is gone."""
    by = program(rule={"mask": "subtotal"})
    placed = order(20_000, line(1, 10_000))
    made = decided(
        placed, refund(1, 10_000, returned(1, 10_000), at=day(2)), refund(2, 5_000, at=day(3)), by=by
    )
    assert (claims(made), why(made)) == ([100, 0], [(), (CAPPED,)])


def test_an_over_refund_counts_as_the_whole() -> None:
    """R3: the ratio is capped at 1."""
    made = decided(order(10_000), refund(1, 13_000, at=day(2)))
    assert claims(made) == [100]


# -- R4 ----------------------------------------------------------------------------------------------


def test_the_refund_that_closes_by_its_own_time_takes_the_remainder_whenever_it_arrives() -> None:
    """R4: the second refund is the last by time, though it is told first."""
    made = decided(refund(2, 6_667, at=day(9)), order(10_000), refund(1, 3_333, at=day(2)))
    assert [(claim.cause.key, claim.amount) for claim in made.claims] == [("refund:1", 33), ("refund:2", 67)]
    assert why(made) == [(), (REMAINDER,)]
    assert made.status == "fully_refunded"


def test_a_late_refund_moves_the_closing_to_the_one_that_closes() -> None:
    """R4: with a refund of day 5 known, the one of day 9 closes; one of day 12 finds the order closed."""
    made = decided(
        order(10_000), refund(3, 1_000, at=day(12)), refund(2, 7_000, at=day(9)), refund(1, 3_000, at=day(5))
    )
    assert claims(made) == [30, 70, 0]
    assert why(made)[2] == (ALREADY_CLOSED,)


def test_shopifys_word_that_an_order_is_refunded_closes_it_with_the_last_money() -> None:
    """R4: a tip of 1.00 was kept back by a rounding of Shopify's; the status decides."""
    made = decided(
        order(10_000),
        order(10_000, financial_status="refunded", updated_at=day(5)),
        refund(1, 4_000, at=day(2)),
        refund(2, 5_900, at=day(4)),
    )
    assert claims(made) == [40, 60]


# -- R5, R6, R7 --------------------------------------------------------------------------------------


def test_a_refund_before_approval_lowers_the_award_and_touches_no_balance() -> None:
    """R5."""
    made = decided(order(10_000), refund(1, 2_500, at=day(2)), by=program(waiting_days=14))
    assert [claim.reduces_pending for claim in made.claims] == [True]
    folded = wallet(made, grant(1, 40, at=day(0)))
    assert [(p.kind, p.amount) for p in folded.postings] == [("grant", 40), ("approval", 75)]


def test_a_full_refund_before_approval_leaves_nothing_to_approve() -> None:
    """R5: full: cancelled."""
    made = decided(order(10_000), refund(1, 10_000, at=day(2)), by=program(waiting_days=14))
    folded = wallet(made)
    assert (folded.balance, folded.postings) == (0, [])


@pytest.mark.parametrize(
    ("seconds", "kinds"), [(-1, {APPROVAL}), (0, {APPROVAL, CLAIM}), (1, {APPROVAL, CLAIM})]
)
def test_a_refund_that_races_the_approval_hits_one_of_them(seconds: int, kinds: set[int]) -> None:
    """R5: at the very second the approval comes first; the balance is the same either way."""
    made = decided(order(10_000), refund(1, 2_500, at=day(15, seconds=seconds)), by=program(waiting_days=14))
    folded = wallet(made)
    assert folded.balance == 75
    assert {key[1] for key in folded.results} == kinds


def test_a_claim_takes_the_awards_own_lot_first_then_what_expires_first() -> None:
    """R6: 60 left of the own lot, then the lot of day 40, then the one of day 50, never the endless one first."""
    made = decided(order(10_000), refund(1, 10_000, at=day(5)))
    others = [
        grant(1, 15, at=day(0), expires_at=day(50)),
        grant(2, 15, at=day(0), expires_at=day(40)),
        grant(3, 99, at=day(0)),
    ]
    folded = wallet(made, *others, spend(1, 60, at=day(3)), until=day(6))
    taken = [(p.lot, p.amount) for p in folded.postings if p.kind == "claim"]
    assert taken == [(f"order:{ORDER}:place-order", -100)]
    drawn = [(p.lot, p.amount) for p in folded.postings if p.kind == "spend"]
    assert drawn == [("grant:2", -15), ("grant:1", -15), ("grant:3", -30)]


def test_when_the_own_lot_is_short_the_first_to_expire_pays_the_rest() -> None:
    """R6: the own lot expires soonest, so spending took 60 of it; 40 come from it, 60 from the others in order."""
    made = decided(order(10_000), refund(1, 10_000, at=day(5)), by=program(expiry_days=20))
    others = [
        grant(1, 15, at=day(0), expires_at=day(50)),
        grant(2, 15, at=day(0), expires_at=day(40)),
        grant(3, 99, at=day(0)),
    ]
    folded = wallet(made, *others, spend(1, 60, at=day(3)), until=day(6))
    taken = [(p.lot, p.amount) for p in folded.postings if p.kind == "claim"]
    assert taken == [
        (f"order:{ORDER}:place-order", -40),
        ("grant:2", -15),
        ("grant:1", -15),
        ("grant:3", -30),
    ]


def test_a_shortfall_is_forgiven_by_later_earnings() -> None:
    """R7: 500 earned, 400 spent, 200 claimed: balance 0, and a later grant is the customer's."""
    made = decided(order(10_000), refund(1, 4_000, at=day(5)), by=program(points=5))
    folded = wallet(made, spend(1, 400, at=day(3)), grant(9, 70, at=day(8)))
    assert result(folded, "refund:1").short == 100
    assert (folded.balance, folded.state.debt) == (70, 0)


def test_a_program_that_carries_debt_takes_the_shortfall_from_later_credits() -> None:
    """R7 (carry_debt): 100 short; the next credit of 70 pays, and of the one after 30 more are paid."""
    made = decided(order(10_000), refund(1, 4_000, at=day(5)), by=program(points=5, below_zero="carry_debt"))
    events = [spend(1, 400, at=day(3)), grant(9, 70, at=day(8)), grant(10, 50, at=day(9))]
    before, after = wallet(made, *events, until=day(8)), wallet(made, *events)
    assert (before.balance, before.state.debt) == (0, 30)
    assert (after.balance, after.state.debt) == (20, 0)
    assert [(p.lot, p.amount) for p in after.postings if p.kind == "debt"] == [
        ("grant:9", -70),
        ("grant:10", -30),
    ]


def test_spending_that_a_late_claim_leaves_uncovered_becomes_debt_where_debt_is_carried() -> None:
    """R7 (carry_debt), as case 17: 200 of the spending are uncovered, the 50 of day 5 pay off."""
    made = decided(order(10_000), refund(1, 8_000, at=day(2)), by=program(points=5, below_zero="carry_debt"))
    folded = wallet(made, spend(1, 300, at=day(3), carry_debt=True), grant(9, 50, at=day(5)))
    assert (folded.balance, folded.state.debt) == (0, 150)


def test_value_comes_back_before_value_is_taken() -> None:
    """R8: the balance was 0; the returned 80 cover the claim of 60."""
    placed = order(6_000, line(1, 6_000, codes={"save": 500}))
    made = decided(placed, refund(1, 6_000, at=day(5)), redemptions=[redeemed(1, 80, at=day(0))])
    folded = wallet(made, grant(1, 80, at=day(-1)), spend(1, 80, at=day(0)), spend(2, 60, at=day(3)))
    assert [(p.kind, p.amount) for p in folded.postings][-2:] == [("return", 80), ("claim", -60)]
    assert (folded.balance, result(folded, "refund:1").short) == (20, 0)


# -- R9, R10, R11 ------------------------------------------------------------------------------------


def test_an_award_is_reversed_as_it_was_made_whatever_the_program_says_today() -> None:
    """R9: five points a dollar when it was paid, fifty since day 2."""
    programs = [program(points=5), program(points=50, version=2, from_at=day(2))]
    made = decided(order(10_000), refund(1, 2_000, at=day(3)), by=programs)
    assert (made.awards[0].amount, made.awards[0].policy_version, claims(made)) == (500, 1, [100])


def test_a_fixed_bonus_is_taken_back_in_proportion() -> None:
    """R9: the default."""
    made = decided(order(10_000), refund(1, 2_500, at=day(2)), by=program(points=0, rule={"fixed": 200}))
    assert claims(made) == [50]


def test_a_bonus_of_only_on_full_stays_until_all_is_refunded() -> None:
    """R9: `only_on_full`."""
    by = program(points=0, rule={"fixed": 200, "on_partial": "only_on_full"})
    made = decided(order(10_000), refund(1, 9_900, at=day(2)), refund(2, 100, at=day(3)), by=by)
    assert (claims(made), why(made)) == ([0, 200], [(ONLY_ON_FULL,), (REMAINDER,)])


def test_every_earning_rule_makes_an_award_of_its_own() -> None:
    """R9, R1: two rules, two masks, two claims."""
    rules = [
        {"id": "spend", "name": "Spend", "per_currency_unit": "2"},
        {"id": "items", "name": "Items", "per_currency_unit": "1", "mask": "subtotal", "fixed": 5},
    ]
    by = program(earning=rules)  # fmt: skip
    made = decided(
        order(12_000, line(1, 10_000, tax=2_000)),
        refund(1, 6_000, returned(1, 5_000, tax=1_000), at=day(2)),
        by=by,
    )
    assert (claims(made, "spend"), claims(made, "items")) == ([120], [52])


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        pytest.param(refund(1, None, returned(1, 0), at=day(2)), NO_MONEY_MOVED, id="a return without money"),
        pytest.param(refund(1, 500, at=day(2), status="pending"), MONEY_PENDING, id="money on its way"),
        pytest.param(refund(1, 500, at=day(2), status="failure"), MONEY_FAILED, id="money that never came"),
    ],
)
def test_a_refund_of_no_money_is_recorded_with_a_zero_claim_and_its_reason(told: object, reason: str) -> None:
    """R10, S3."""
    made = decided(order(10_000), told)  # type: ignore[arg-type]
    assert (claims(made), why(made), made.status) == ([0], [(reason,)], "open")


def test_an_even_exchange_moves_no_points() -> None:
    """R10, S9: 40.00 of items come back, 40.00 of other items go out, no money moves."""
    placed = order(10_000, line(1, 6_000), line(2, 4_000))
    after = order(
        None, line(1, 6_000), line(2, 4_000, current=0), ADDED, total_minor=10_000, updated_at=day(3)
    )
    made = decided(placed, after, refund(1, None, returned(2, 4_000), at=day(3)))
    assert claims(made) == [0]
    assert [award.amount for award in made.awards] == [100, 0]
    assert wallet(made).balance == 100


def test_an_uneven_exchange_earns_on_the_new_money_only() -> None:
    """R10, S9: 40.00 come back, 55.00 go out: 15.00 are paid, and earn 15."""
    placed = order(10_000, line(1, 6_000), line(2, 4_000))
    after = order(
        None,
        line(1, 6_000),
        line(2, 4_000, current=0),
        line(50, 5_500),
        total_minor=10_000,
        updated_at=day(3),
    )
    made = decided(placed, after, refund(1, None, returned(2, 4_000), at=day(3)))
    assert wallet(made).balance == 115


@pytest.mark.parametrize(
    ("status", "told"),
    [
        ("partially_refunded", [order(10_000), refund(1, 2_000, at=day(2))]),
        ("refunded", [order(10_000), refund(1, 10_000, at=day(2))]),
        ("voided", [order(10_000), order(10_000, updated_at=day(2), financial_status="voided")]),
        ("cancelled", [order(10_000), order(10_000, updated_at=day(2), financial_status="pending", cancelled_at=day(2))]),
    ],
)  # fmt: skip
def test_a_status_that_is_switched_off_takes_nothing(status: str, told: list[object]) -> None:
    """R11: each of the four statuses by itself, all on by default."""
    on = decided(*told)  # type: ignore[arg-type]
    off = decided(*told, by=program(reverse_earned={status: False}))  # type: ignore[arg-type]
    assert sum(claims(on)) > 0
    assert (claims(off), why(off)) == ([0], [(STATUS_OFF,)])


def test_switching_off_reversal_does_not_switch_off_returns() -> None:
    """R11: independent of what is returned (R12)."""
    by = program(reverse_earned={"refunded": False})
    placed = order(6_000, line(1, 6_000, codes={"save": 500}))
    made = decided(placed, refund(1, 6_000, at=day(5)), redemptions=[redeemed(1, 80, at=day(0))], by=by)
    assert (claims(made), [back.amount for back in made.returns]) == ([0], [80])


def test_the_remainder_at_closing_includes_what_a_switched_off_partial_left() -> None:
    """R4, R11."""
    by = program(reverse_earned={"partially_refunded": False})
    made = decided(order(10_000), refund(1, 4_000, at=day(2)), refund(2, 6_000, at=day(3)), by=by)
    assert claims(made) == [0, 100]


# -- mixed -------------------------------------------------------------------------------------------


def test_pending_money_counts_when_it_succeeds_at_the_refunds_own_time() -> None:
    """R1, S3: pending on day 2, settled on day 6; spending of day 4 came after the claim."""
    told = [order(10_000), *refund(1, 4_000, at=day(2), status="pending")]
    settled = paid_back(1, 4_000, at=day(6), refund_id=None)
    assert claims(decided(*told)) == [0]
    made = decided(*told, settled)
    folded = wallet(made, spend(1, 100, at=day(4)))
    assert claims(made) == [40]
    assert (result(folded, "refund:1").short, result(folded, "redemption:1").short) == (0, 40)


def test_pending_money_that_fails_in_the_end_never_counts() -> None:
    """R1, S3: a final status is not taken back by an older telling."""
    told = refund(1, 4_000, at=day(2), status="pending")
    made = decided(order(10_000), *told, paid_back(1, 4_000, at=day(6), status="failure"), *told)
    assert (claims(made), why(made)) == ([0], [(MONEY_FAILED,)])


def test_a_restocking_fee_is_kept_by_the_shop_and_its_points_by_the_customer() -> None:
    """R1, S2: 40.00 of items, 4.00 kept back: 36/100."""
    made = decided(
        order(10_000), refund(1, 3_600, returned(1, 4_000), adjustments=[adjusted(400)], at=day(2))
    )
    assert (claims(made), why(made)) == ([36], [()])


def test_settled_money_wins_over_a_record_that_differs() -> None:
    """S2: the record says 40.00, the money says 25.00; one unit of difference is Shopify's rounding."""
    lines = returned(1, 4_000)
    differs = decided(order(10_000), refund(1, 2_500, lines, adjustments=[], at=day(2)))
    rounds = decided(order(10_000), refund(1, 3_999, lines, adjustments=[], at=day(2)))
    assert (claims(differs), why(differs)) == ([25], [(MONEY_DIFFERS,)])
    assert (claims(rounds), why(rounds)) == ([40], [()])


def test_items_removed_by_an_edit_take_their_part_back() -> None:
    """S9: one of two units of 30.00 goes without any refund: 30/100, once, also when told again."""
    placed = order(10_000, line(1, 6_000, units=2), line(2, 4_000))
    after = order(
        None, line(1, 6_000, units=2, current=1), line(2, 4_000), total_minor=10_000, updated_at=day(3)
    )
    again = order(
        None, line(1, 6_000, units=2, current=1), line(2, 4_000), total_minor=10_000, updated_at=day(4)
    )
    made = decided(placed, after, again)
    assert [(claim.cause.key, claim.cause.at, claim.amount) for claim in made.claims] == [
        ("edit:1", day(3), 30)
    ]


def test_an_edit_whose_units_a_refund_takes_back_is_not_counted_twice() -> None:
    """S9: nothing twice when a refund comes as well."""
    placed = order(10_000, line(1, 6_000, units=2), line(2, 4_000))
    after = order(
        None, line(1, 6_000, units=2, current=1), line(2, 4_000), total_minor=10_000, updated_at=day(3)
    )
    made = decided(placed, after, refund(1, 3_000, returned(1, 3_000), at=day(3)))
    assert [(claim.cause.key, claim.amount) for claim in made.claims] == [("refund:1", 30)]


def test_items_added_by_an_edit_earn_from_then_on_and_are_reversed_by_their_own_return() -> None:
    """S9: 40.00 more on day 3; its return takes the 40 that it earned, and nothing of the order's."""
    placed = order(10_000)
    after = order(None, line(1, 10_000), ADDED, total_minor=10_000, updated_at=day(3))
    made = decided(
        placed, after, edit(9, at=day(2), added={50: 1}), refund(1, 4_000, returned(50, 4_000), at=day(5))
    )
    own = f"place-order+{ADDED.id}"
    assert [(a.target, a.amount, a.at) for a in made.awards] == [
        ("place-order", 100, day(1)),
        (own, 40, day(2)),
    ]
    assert (claims(made), claims(made, own)) == ([0], [40])


def test_a_negative_outcome_is_never_money() -> None:
    """S2: a fee above what the items were worth gives nothing back, and takes nothing."""
    made = decided(order(10_000), refund(1, 0, returned(1, 300), adjustments=[adjusted(500)], at=day(2)))
    assert (claims(made), made.causes[0].value) == ([0], 0)


def test_awards_exist_only_of_a_paid_order_with_a_customer() -> None:
    """R9, R32: an order not paid yet has earned nothing."""
    assert awards_of(joined(order(10_000, financial_status="pending")), [program()]) == []
    assert [a.amount for a in awards_of(joined(order(10_000)), [program()])] == [100]
    assert live_lots(wallet(decided(order(10_000)))) == {f"order:{ORDER}:place-order": 100}
    assert decided(order(10_000)).order.customer_id == CUSTOMER


def sale(at: datetime) -> Transaction:
    return Transaction(
        id=901,
        order_id=ORDER,
        kind="sale",
        status="success",
        amount_minor=10_000,
        currency="USD",
        shop_amount_minor=None,
        at=at,
    )


BEGINS = day(3)
CONNECTED = replace(program(), earning_from=BEGINS)


@pytest.mark.parametrize(
    ("told", "earned"),
    [
        pytest.param([order(10_000, at=day(3))], 100, id="placed once the shop was connected"),
        pytest.param([order(10_000, at=day(1), updated_at=day(5))], 0, id="placed and paid before"),
        pytest.param(
            [
                order(10_000, at=day(1), updated_at=day(4), financial_status="pending"),
                order(10_000, at=day(1), updated_at=day(5)),
            ],
            100,
            id="placed before, told unpaid, paid after",
        ),
        pytest.param(
            [order(10_000, at=day(1), updated_at=day(5)), sale(day(4))],
            100,
            id="placed before, its money taken after",
        ),
        pytest.param(
            [order(10_000, at=day(1), updated_at=day(5)), sale(day(2))],
            0,
            id="placed before, its money taken before",
        ),
    ],
)
def test_what_was_bought_before_the_shop_was_connected_earns_nothing(
    told: Sequence[Fact], earned: int
) -> None:
    """R17: whatever tells of it; its refunds then have nothing to reverse."""
    got = decided(*told, refund(51, 2_000, at=day(6)), by=CONNECTED)
    assert sum(award.amount for award in got.awards) == earned
    assert ("PLACED_BEFORE_INSTALL" in got.flags) == (earned == 0)
