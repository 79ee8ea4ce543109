"""What a refund gives back of value spent on its order: R12-R23."""

from __future__ import annotations

from fractions import Fraction
from typing import Any

import pytest

from models.rules.facts import Fact
from models.rules.plan import (
    ALREADY_CLOSED,
    AMOUNT_ONLY,
    CODE_REACTIVATED,
    EDIT_KEEPS_REDEEMED,
    GIFT_CARD_REWARD,
    NO_LINE_DISCOUNT,
    REMAINDER,
    RETURN_OFF,
    SHIPPING_ONLY,
    OrderPlan,
    Redemption,
)
from models.rules.wallet import RETURN
from tests.rules.build import (
    CUSTOMER,
    OTHER,
    claims,
    day,
    decided,
    dispute,
    grant,
    line,
    live_lots,
    order,
    program,
    redeemed,
    refund,
    result,
    returned,
    returns,
    spend,
    wallet,
    why_returned,
)

# 100.00: the code took 3.00 off the first line (3 units) and 7.00 off the second.
PLACED = order(10_000, line(1, 3_000, units=3, codes={"save": 300}), line(2, 7_000, codes={"save": 700}))
SPENT = redeemed(1, 1_000, at=day(0))
REACTIVATES = program(reward={"reactivate_code": True})


def made(*told: Any, by: Any = None, spent: Redemption = SPENT, placed: Any = PLACED) -> OrderPlan:
    return decided(placed, *told, by=by, redemptions=[spent])


def whole(id: int = 9, *, at: int = 9) -> tuple[Fact, ...]:
    return refund(id, 10_000, at=day(at))


# -- R12-R15 -----------------------------------------------------------------------------------------


def test_a_returned_line_returns_the_codes_share_of_it() -> None:
    """R12: 7.00 of 10.00 came off the second line."""
    got = made(refund(1, 7_000, returned(2, 7_000), at=day(2)))
    assert (returns(got), got.returns[0].ratio) == ([700], Fraction(7, 10))


def test_units_of_a_line_return_its_share_and_together_all_of_it() -> None:
    """R12, S5: 1.00 off three units is 33, 33 and 34 hundredths: the cumulative floor gives all of it in the end."""
    placed = order(10_000, line(1, 3_000, units=3, codes={"save": 100}), line(2, 7_000))
    units = [refund(n, 1_000, returned(1, 1_000), at=day(n + 1)) for n in (1, 2, 3)]
    assert returns(made(*units, placed=placed, spent=redeemed(1, 100, at=day(0)))) == [33, 33, 34]


def test_units_beyond_those_bought_return_nothing_more() -> None:
    """R12, R14: the outer quantity is what came back, and never more than was bought."""
    got = made(
        refund(1, 1_000, returned(2, 1_000, units=5), at=day(2)),
        refund(2, 1_000, returned(2, 1_000), at=day(3)),
    )
    assert returns(got) == [700, 0]


def test_an_edit_changes_nothing_of_what_was_redeemed() -> None:
    """R12: the allocation is the one of the order as placed, whatever is prorated later."""
    after = order(
        None,
        line(1, 3_000, units=3, codes={"save": 1_000}),
        line(2, 7_000, current=0),
        total_minor=10_000,
        updated_at=day(3),
    )
    got = made(after, refund(1, 1_000, returned(1, 1_000), at=day(4)))
    assert returns(got) == [0, 100]
    assert why_returned(got)[0] == (EDIT_KEEPS_REDEEMED,)


def test_nothing_is_returned_unless_the_program_returns() -> None:
    """R12: off by default."""
    got = made(refund(1, 7_000, returned(2, 7_000), at=day(2)), by=program(returns=False))
    assert (returns(got), why_returned(got)) == ([0], [(RETURN_OFF,)])


def test_a_full_refund_without_lines_returns_everything() -> None:
    """R13: closed by an amount only."""
    got = made(whole())
    assert (returns(got), why_returned(got)) == ([1_000], [(REMAINDER,)])


def test_closing_returns_what_is_left_and_nothing_comes_after_it() -> None:
    """R13, R14: never more than was redeemed."""
    got = made(
        refund(1, 1_000, returned(1, 1_000), at=day(2)),
        refund(2, 9_000, at=day(3)),
        refund(3, 500, at=day(4)),
    )
    assert returns(got) == [100, 900, 0]
    assert why_returned(got)[2] == (ALREADY_CLOSED,)


def test_several_codes_come_back_each_on_its_own() -> None:
    """R14: the first line carries one code, the second both."""
    placed = order(
        10_000, line(1, 5_000, codes={"save": 200}), line(2, 5_000, codes={"save": 200, "more": 50})
    )
    both = [redeemed(1, 400, at=day(0)), redeemed(2, 90, "more", at=day(0))]
    got = decided(
        placed,
        refund(1, 5_000, returned(1, 5_000), at=day(2)),
        refund(2, 5_000, returned(2, 5_000), at=day(3)),
        redemptions=both,
    )
    assert (returns(got, 1), returns(got, 2)) == ([200, 200], [0, 90])


@pytest.mark.parametrize(
    ("told", "reason"),
    [
        pytest.param(refund(1, 900, at=day(2)), AMOUNT_ONLY, id="an amount"),
        pytest.param(refund(1, 400, shipping=400, at=day(2)), SHIPPING_ONLY, id="shipping"),
        pytest.param(dispute(1, 900, at=day(2)), AMOUNT_ONLY, id="a chargeback"),
    ],
)
def test_a_part_without_items_returns_nothing_and_says_why(told: Any, reason: str) -> None:
    """R15."""
    got = made(told)
    assert (returns(got), why_returned(got)) == ([0], [(reason,)])


def test_a_code_that_took_nothing_off_any_line_comes_back_at_closing_only() -> None:
    """R12, R13: a code for shipping has no share on lines."""
    placed = order(10_000, line(1, 5_000), line(2, 5_000), codes=("save",))
    got = made(refund(1, 5_000, returned(1, 5_000), at=day(2)), refund(2, 5_000, at=day(3)), placed=placed)
    assert returns(got) == [0, 1_000]
    assert why_returned(got)[0] == (NO_LINE_DISCOUNT,)


def test_items_taken_back_without_money_return_nothing_until_money_moves() -> None:
    """R12, S3: the units of a record without money still wait."""
    got = made(
        refund(1, None, returned(2, 7_000), at=day(2)), refund(2, 7_000, returned(2, 7_000), at=day(3))
    )
    assert returns(got) == [0, 700]


# -- R16-R18 -----------------------------------------------------------------------------------------


@pytest.mark.parametrize("by", [program(), REACTIVATES], ids=["returned", "reactivated"])
def test_a_gift_card_is_neither_returned_nor_reactivated(by: Any) -> None:
    """R16."""
    got = made(whole(), by=by, spent=redeemed(1, 1_000, at=day(0), kind="gift_card"))
    assert (returns(got), why_returned(got), got.restitution) == ([0], [(GIFT_CARD_REWARD,)], {1: "none"})


def test_each_refund_is_judged_by_the_version_of_its_own_time() -> None:
    """R17: switched off from day 3 to day 5; the share of that time is never returned, not at closing either."""
    programs = [
        program(),
        program(returns=False, version=2, from_at=day(3)),
        program(version=3, from_at=day(5)),
    ]
    units = [refund(n, 1_000, returned(1, 1_000), at=day(2 * n)) for n in (1, 2)]
    got = made(*units, refund(3, 8_000, at=day(6)), by=programs)
    assert returns(got) == [100, 0, 800]
    assert why_returned(got)[1] == (RETURN_OFF,)


def test_closing_while_returning_is_off_returns_nothing() -> None:
    """R17."""
    programs = [program(), program(returns=False, version=2, from_at=day(3))]
    got = made(refund(1, 1_000, returned(1, 1_000), at=day(2)), refund(2, 9_000, at=day(4)), by=programs)
    assert returns(got) == [100, 0]


def test_the_first_version_has_no_beginning() -> None:
    """R17: a refund older than the program is judged by its first version."""
    programs = [program(), program(returns=False, version=2, from_at=day(3))]
    got = made(refund(1, 1_000, returned(1, 1_000), at=day(-400)), by=programs)
    assert (returns(got), got.causes[0].policy.version) == ([100], 1)


@pytest.mark.parametrize(
    "kind", ["vip_entry", "membership", "free_shipping", "free_product", "store_credit", "custom"]
)
def test_value_comes_back_of_every_other_kind_of_reward(kind: str) -> None:
    """R18: also of VIP entries and memberships."""
    assert returns(made(whole(), spent=redeemed(1, 1_000, at=day(0), kind=kind))) == [1_000]


def test_value_comes_back_where_nothing_was_earned() -> None:
    """R18: no earning rule at all."""
    got = made(whole(), by=program(earning=[]))
    assert (got.awards, returns(got)) == ([], [1_000])


def test_credits_come_back_like_points() -> None:
    """R18: credits with two decimals, 2.50 of them redeemed."""
    by = program(unit={"kind": "credits", "scale": 2})
    got = made(refund(1, 7_000, returned(2, 7_000), at=day(2)), by=by, spent=redeemed(1, 250, at=day(0)))
    assert (got.awards[0].amount, claims(got), returns(got)) == (10_000, [7_000], [175])


# -- R19 ---------------------------------------------------------------------------------------------


def lots_and_spending() -> list[Any]:
    """600 of day 10, 300 of day 40 and 100 without end, all drawn in this order."""
    lots = [
        grant(1, 600, at=day(-5), expires_at=day(10)),
        grant(2, 300, at=day(-5), expires_at=day(40)),
        grant(3, 100, at=day(-5)),
    ]
    return [*lots, spend(1, 1_000, at=day(0))]


def test_value_goes_back_to_the_lots_it_came_from_last_drawn_first() -> None:
    """R19: 100 to the endless lot, then to the one of day 40, with their own expiry; then the rest."""
    got = made(refund(1, 1_000, returned(1, 1_000), at=day(2)), refund(2, 2_000, returned(1, 2_000, units=2), at=day(3)),
               by=program(earning=[]))  # fmt: skip
    folded = wallet(got, *lots_and_spending(), until=day(4))
    assert live_lots(folded) == {"grant:3": 100, "grant:2": 200}
    more = made(refund(1, 3_000, returned(1, 3_000, units=3), at=day(2)), whole(at=3), by=program(earning=[]))
    assert live_lots(wallet(more, *lots_and_spending(), until=day(4))) == {
        "grant:3": 100,
        "grant:2": 300,
        "grant:1": 600,
    }


def test_what_has_expired_is_reported_and_not_credited() -> None:
    """R19: at day 10 the lot of day 10 is over; claimed = credited + expired, and the cap counts claimed."""
    got = made(whole(at=10), by=program(earning=[]))
    folded = wallet(got, *lots_and_spending(), until=day(11))
    back = result(folded, "refund:9", RETURN)
    assert (back.moved, back.expired) == (400, 600)
    assert folded.balance == 400


def test_days_of_grace_give_expired_value_a_last_chance() -> None:
    """R19: until grace ends it can be used; then it expires like any other."""
    by = program(earning=[], return_redeemed={"expired_grace_days": 5})
    got = made(whole(at=12), by=by)
    assert wallet(got, *lots_and_spending(), until=day(14)).balance == 1_000
    assert wallet(got, *lots_and_spending(), until=day(15)).balance == 400
    late = made(whole(at=15), by=by)
    assert wallet(late, *lots_and_spending(), until=day(15)).balance == 400


def test_spending_that_was_uncovered_comes_back_as_a_lot_of_its_own() -> None:
    """R19, R7: only 700 of 1,000 were there; the uncovered 300 were drawn last, and come back first."""
    got = made(refund(1, 3_000, returned(1, 3_000, units=3), at=day(2)), whole(at=3), by=program(earning=[]))
    folded = wallet(
        got, grant(1, 700, at=day(-5), expires_at=day(40)), spend(1, 1_000, at=day(0)), until=day(4)
    )
    assert live_lots(folded) == {"return:refund:1:redemption:1": 300, "grant:1": 700}


def test_a_credit_of_returned_value_pays_debt_first_where_debt_is_carried() -> None:
    """R19, R7 (carry_debt): 50 were owed; 1,000 come back, 950 are there to spend."""
    by = program(points=1, below_zero="carry_debt")
    got = made(refund(1, 5_000, at=day(2)), whole(at=9), by=by)
    folded = wallet(
        got,
        grant(1, 1_000, at=day(-5)),
        spend(1, 1_000, at=day(0)),
        spend(2, 100, at=day(1, seconds=9)),
        until=day(8),
    )
    assert (folded.balance, folded.state.debt) == (0, 50)
    after = wallet(
        got, grant(1, 1_000, at=day(-5)), spend(1, 1_000, at=day(0)), spend(2, 100, at=day(1, seconds=9))
    )
    assert (after.balance, after.state.debt) == (900, 0)


# -- R20 ---------------------------------------------------------------------------------------------


def test_a_group_gets_back_what_each_gave() -> None:
    """R20: in full."""
    got = made(whole(), spent=redeemed(1, 1_000, at=day(0), members={CUSTOMER: 300, OTHER: 700}))
    assert got.returns[0].split == ((CUSTOMER, 300), (OTHER, 700))


def test_a_part_is_split_in_proportion_largest_remainder_first() -> None:
    """R20: 100 of 1,000 over 333 and 667 is 33.3 and 66.7; ties go by member id."""
    third = made(
        refund(1, 1_000, returned(1, 1_000), at=day(2)),
        spent=redeemed(1, 1_000, at=day(0), members={CUSTOMER: 333, OTHER: 667}),
    )
    assert third.returns[0].split == ((CUSTOMER, 33), (OTHER, 67))
    tie = made(
        refund(1, 1_000, returned(1, 1_000), at=day(2)),
        spent=redeemed(1, 30, at=day(0), members={CUSTOMER: 15, OTHER: 15}),
    )
    assert tie.returns[0].split == ((CUSTOMER, 2), (OTHER, 1))


def test_ties_in_a_group_go_by_member_ids_as_text() -> None:
    """R20: "10" comes before "9"."""
    spent = redeemed(1, 30, at=day(0), members={9: 15, 10: 15})
    got = made(refund(1, 1_000, returned(1, 1_000), at=day(2)), spent=spent)
    assert dict(got.returns[0].split) == {9: 1, 10: 2}


def test_no_member_gets_back_more_than_it_gave_over_several_parts() -> None:
    """R20: three parts and the rest add up to what was drawn from each."""
    units = [refund(n, 1_000, returned(1, 1_000), at=day(n + 1)) for n in (1, 2, 3)]
    got = made(
        *units,
        refund(4, 7_000, at=day(9)),
        spent=redeemed(1, 1_000, at=day(0), members={CUSTOMER: 1, OTHER: 999}),
    )
    sums = {of: sum(dict(back.split).get(of, 0) for back in got.returns) for of in (CUSTOMER, OTHER)}
    assert sums == {CUSTOMER: 1, OTHER: 999}


# -- R21-R23 -----------------------------------------------------------------------------------------


def test_a_code_comes_back_in_place_of_its_points() -> None:
    """R21, R22: both are on; the code wins, and no points are returned."""
    got = made(whole(), by=REACTIVATES)
    assert (returns(got), why_returned(got), got.restitution) == ([0], [(CODE_REACTIVATED,)], {1: "code"})


def test_a_code_comes_back_where_returning_points_is_off() -> None:
    """R22: opt-in per reward, independent of R12."""
    got = made(whole(), by=program(returns=False, reward={"reactivate_code": True}))
    assert (returns(got), got.restitution) == ([0], {1: "code"})


@pytest.mark.parametrize(
    ("told", "spent"),
    [
        pytest.param([refund(1, 1_000, returned(1, 1_000), at=day(2)), whole()], SPENT, id="some of it came back as points"),
        pytest.param([whole()], redeemed(1, 1_000, at=day(0), used_elsewhere=True), id="the code is used elsewhere"),
        pytest.param([whole()], redeemed(1, 1_000, at=day(0), reactivations=3), id="it was reactivated three times"),
        pytest.param([whole()], redeemed(1, 1_000, at=day(0), reward_id="other"), id="its reward did not opt in"),
        pytest.param([whole()], redeemed(1, 1_000, at=day(0), reactivation="failed"), id="Shopify said that it cannot be"),
    ],
)  # fmt: skip
def test_a_code_stays_used_and_points_come_back_where_reactivation_is_not_allowed(
    told: Any, spent: Redemption
) -> None:
    """R21, R22, R23: points, all of them, and no code."""
    got = made(*told, by=REACTIVATES, spent=spent)
    assert (sum(returns(got)), got.restitution) == (1_000, {1: "points"})


def test_a_redemption_without_a_code_has_nothing_to_reactivate() -> None:
    """R22."""
    got = made(whole(), by=REACTIVATES, spent=redeemed(1, 1_000, None, at=day(0)))
    assert (returns(got), got.restitution) == ([1_000], {1: "points"})


def test_a_code_that_was_reactivated_twice_may_come_back_once_more() -> None:
    """R22: fewer than three times."""
    got = made(whole(), by=REACTIVATES, spent=redeemed(1, 1_000, at=day(0), reactivations=2))
    assert got.restitution == {1: "code"}


def test_a_partial_refund_reactivates_nothing() -> None:
    """R22: only when the order is closed."""
    got = made(refund(1, 5_000, at=day(2)), by=REACTIVATES)
    assert got.restitution == {1: "none"}


def test_what_was_done_at_shopify_stays_whatever_arrives_later() -> None:
    """R23: a partial refund of an earlier day arrives after the code was reactivated: no points."""
    done = redeemed(1, 1_000, at=day(0), reactivations=1, reactivation="done")
    got = made(refund(1, 1_000, returned(1, 1_000), at=day(2)), whole(), by=REACTIVATES, spent=done)
    assert (returns(got), got.restitution) == ([0, 0], {1: "code"})


def test_a_reactivation_that_failed_without_returns_leaves_nothing() -> None:
    """R23: no points where the program does not return them."""
    failed = redeemed(1, 1_000, at=day(0), reactivation="failed")
    got = made(whole(), by=program(returns=False, reward={"reactivate_code": True}), spent=failed)
    assert (returns(got), got.restitution) == ([0], {1: "none"})
