"""What came from another program: its awards are reversed here, its redemptions come back here, its past is its own (D29)."""

from __future__ import annotations

from dataclasses import replace
from datetime import datetime, timedelta
from typing import Any

import pytest

from models.rules.awards import BEFORE_IMPORT
from models.rules.causes import PLACED_BEFORE_INSTALL
from models.rules.facts import Edit, ImportedAward
from models.rules.plan import ALREADY_CLOSED, CAPPED, REMAINDER
from models.rules.wallet import CLAIM, RETURN, SPEND, Event, Fold, WalletState, fold
from tests.rules.build import (
    CUSTOMER,
    LATER,
    ORDER,
    claims,
    day,
    decided,
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
    wallet,
    why,
    why_returned,
)

M = day(10)
THEN = day(2)


def award(amount: int, **changed: Any) -> ImportedAward:
    told: dict[str, Any] = {"rule": "purchase", "earned": amount, "granted": amount, "expires_at": None}
    told |= {"order_id": ORDER, "customer_id": CUSTOMER, "amount": amount, "at": M, "due_at": M}
    return ImportedAward(**(told | changed))


def spent(amount: int, *, at: datetime = THEN, expires_at: datetime | None = None, id: int = 1) -> Event:
    """A redemption made in another program."""
    target = f"redemption:{id}"
    return Event(
        at=at,
        kind=SPEND,
        sort_id=id,
        target=target,
        cause=f"import:r-{id}",
        amount=amount,
        expires_at=expires_at,
        redemption_id=id,
    )


def back(amount: int, *, at: datetime, id: int = 1, grace_days: int = 0) -> Event:
    return Event(
        at=at,
        kind=RETURN,
        sort_id=5,
        target=f"redemption:{id}",
        cause="refund:5",
        amount=amount,
        redemption_id=id,
        grace_days=grace_days,
    )


def held(*events: Event, until: datetime = LATER) -> Fold:
    return fold(WalletState(), events, until)


# -- awards ------------------------------------------------------------------------------------------


def test_an_imported_award_stands_in_place_of_what_this_program_would_give() -> None:
    """R9: the stored award, never one computed anew; nothing twice."""
    made = decided(order(10_000), award(500), by=program(points=3))
    assert [(each.target, each.amount) for each in made.awards] == [("purchase", 500)]


def test_an_imported_award_stands_before_its_order_is_told_and_after_it() -> None:
    """R28: the facts are kept in any order; without the order there is nothing that a refund could be a part of."""
    alone = decided(award(500), refund(5, 2_000, at=day(12)))
    assert (alone.status, claims(alone, "purchase")) == ("unknown", [])
    assert live_lots(wallet(alone)) == {f"order:{ORDER}:purchase": 500}
    for told in (
        [award(500), refund(5, 2_000, at=day(12)), order(10_000)],
        [order(10_000), refund(5, 2_000, at=day(12)), award(500)],
    ):
        made = decided(*told)
        assert claims(made, "purchase") == [100]
        assert live_lots(wallet(made)) == {f"order:{ORDER}:purchase": 400}


def test_an_unpaid_a_test_order_and_one_without_a_customer_keep_what_was_imported() -> None:
    """R32: the file says whose it is, until Shopify does."""
    for changed in ({"financial_status": "pending"}, {"test": True}, {"customer_id": None}):
        made = decided(order(10_000, **changed), award(500))
        assert made.order.customer_id == CUSTOMER
        assert live_lots(wallet(made)) == {f"order:{ORDER}:purchase": 500}


def test_an_order_from_before_the_installation_has_its_imported_award() -> None:
    """R9: it earns nothing here (D10b), and a refund of it takes what it earned there."""
    connected = replace(program(), earning_from=day(8))
    bare = decided(order(10_000), refund(1, 2_000, at=day(12)), by=connected)
    assert (bare.awards, bare.flags) == ([], [PLACED_BEFORE_INSTALL])
    made = decided(order(10_000), award(500), refund(1, 2_000, at=day(12)), by=connected)
    assert (claims(made, "purchase"), made.flags) == ([100], [])


def test_refunds_of_an_imported_award_take_their_part_and_the_last_takes_the_rest() -> None:
    """R1, R2, R4: three refunds of 20, 30 and the rest of 100.00."""
    made = decided(
        order(10_000),
        award(333),
        refund(1, 2_000, at=day(11)),
        refund(2, 3_000, at=day(12)),
        refund(3, 5_000, at=day(13)),
    )
    assert claims(made, "purchase") == [66, 99, 168]
    assert wallet(made).state.balance == 0


def edited(*told: Any, gone: int, at: datetime) -> list[Any]:
    """An order of four units whose first telling is of `at`, with so many of them gone."""
    return [order(10_000, line(1, 10_000, units=4, current=4 - gone), updated_at=at), *told]


def test_what_an_edit_took_before_the_import_is_the_other_programs_business() -> None:
    """S9: 100 earned, 75 left of it when the file was written; the order is told for the first time days later."""
    told = edited(award(75, earned=100), gone=1, at=day(12))
    made = decided(*told)
    assert (claims(made, "purchase"), why(made, "purchase")) == ([0], [(BEFORE_IMPORT,)])
    assert live_lots(wallet(made)) == {f"order:{ORDER}:purchase": 75}
    again = order(10_000, line(1, 10_000, units=4, current=2), updated_at=day(14))
    assert claims(decided(*told, again), "purchase") == [0, 25]
    assert claims(decided(again, *reversed(told)), "purchase") == [0, 25]


def test_what_an_edit_took_after_the_import_is_taken_from_the_award() -> None:
    """S9: two units gone at the first telling; one of them by an edit that was told of, two days after the import."""
    later = Edit(id=5, order_id=ORDER, committed_at=day(12), additions=(), removals=((1, 1),))
    made = decided(*edited(award(75, earned=100), later, gone=2, at=day(12)))
    assert claims(made, "purchase") == [0, 25]
    before = replace(later, committed_at=day(9))
    assert claims(decided(*edited(award(50, earned=100), before, gone=2, at=day(12))), "purchase") == [0]


def test_the_rest_of_an_order_edited_before_the_import_closes_it() -> None:
    """R4: what is left to refund is what was left of the order."""
    made = decided(*edited(award(75, earned=100), refund(1, 7_500, at=day(14)), gone=1, at=day(12)))
    assert (made.status, claims(made, "purchase")) == ("fully_refunded", [0, 75])


def test_what_went_with_a_cancellation_before_the_import_is_no_edit() -> None:
    """R27."""
    told = order(10_000, line(1, 10_000, units=4, current=0), updated_at=day(12), cancelled_at=day(9))
    made = decided(told, award(75))
    assert [cause.kind for cause in made.causes if cause.kind == "edit"] == []


def test_a_pending_imported_award_is_lowered_and_approved_with_what_is_left() -> None:
    """R5."""
    made = decided(order(10_000), award(100, due_at=day(20)), refund(1, 7_500, at=day(12)))
    folded = wallet(made)
    assert (made.claims[0].reduces_pending, claims(made, "purchase")) == (True, [75])
    assert folded.state.balance == 25
    assert wallet(made, until=day(19)).state.balance == 0


def test_what_was_refunded_before_the_import_was_the_other_programs_business() -> None:
    """R17: not judged again; a later refund is a part of what was earned, and takes no more than what still stood."""
    made = decided(
        order(10_000),
        award(400, earned=500),
        refund(1, 2_000, at=day(5)),
        refund(2, 3_000, at=day(12)),
        refund(3, 5_000, at=day(13)),
    )
    assert claims(made, "purchase") == [0, 150, 250]
    assert why(made, "purchase") == [(BEFORE_IMPORT,), (), (REMAINDER,)]


def test_a_refund_at_the_very_moment_of_the_import_was_before_it() -> None:
    """R17."""
    made = decided(
        order(10_000), award(500), refund(1, 2_000, at=M), refund(2, 2_000, at=M + timedelta(seconds=1))
    )
    assert claims(made, "purchase") == [0, 100]


def test_an_order_closed_before_the_import_closes_nothing_again() -> None:
    """R4."""
    made = decided(order(10_000), award(80), refund(1, 10_000, at=day(5)), refund(2, 500, at=day(12)))
    assert claims(made, "purchase") == [0, 0]
    assert why(made, "purchase")[1] == (ALREADY_CLOSED,)


def test_no_more_is_taken_than_what_stood_at_the_import() -> None:
    """R3."""
    made = decided(order(10_000), award(50, earned=500), refund(1, 2_000, at=day(12)))
    assert (claims(made, "purchase"), why(made, "purchase")) == ([50], [(CAPPED,)])


def test_what_was_spent_of_an_award_is_not_in_the_wallet_and_is_asked_back_all_the_same() -> None:
    """R6, R7: its own lot first, then what else there is, and the rest is forgiven."""
    made = decided(order(10_000), award(500, granted=100), refund(1, 10_000, at=day(12)))
    folded = wallet(made, grant(1, 150, at=day(11)))
    taken = result(folded, "refund:1", CLAIM)
    assert (taken.moved, taken.short, folded.state.balance) == (250, 250, 0)


def test_cumulative_rounding_counts_from_the_import_on() -> None:
    """R2."""
    made = decided(
        order(10_000),
        award(100),
        refund(1, 5_000, at=day(5)),
        refund(2, 55, at=day(12)),
        refund(3, 55, at=day(13)),
        by=program(reverse_earned={"rounding": "cumulative"}),
    )
    assert claims(made, "purchase") == [0, 0, 1]


# -- redemptions -------------------------------------------------------------------------------------


def test_a_redemption_of_another_program_takes_nothing_and_comes_back_with_its_own_expiry() -> None:
    """R19."""
    folded = held(grant(1, 120, at=M), spent(500, expires_at=day(40)), back(200, at=day(12)), until=day(20))
    assert live_lots(folded) == {"grant:1": 120, "spent:redemption:1": 200}
    assert folded.state.lots["spent:redemption:1"].expires_at == day(40)
    assert (
        held(grant(1, 120, at=M), spent(500, expires_at=day(40)), back(200, at=day(12))).state.balance == 120
    )


def test_value_that_expired_meanwhile_comes_back_as_expired_or_within_its_grace() -> None:
    """R19: claimed = credited + expired."""
    late = held(spent(500, expires_at=day(11)), back(200, at=day(12)))
    assert (result(late, "refund:5").moved, result(late, "refund:5").expired) == (0, 200)
    graced = held(spent(500, expires_at=day(11)), back(200, at=day(12), grace_days=5), until=day(13))
    assert graced.state.balance == 200


def test_it_pays_no_debt_and_no_claim_of_the_same_instant_takes_of_it() -> None:
    """R7."""
    asked = Event(
        at=day(2), kind=CLAIM, sort_id=9, target="order:1:x", cause="refund:9", amount=70, carry_debt=True
    )
    folded = held(asked, spent(500), back(100, at=day(12)))
    assert folded.results[asked.key].short == 70
    spending = folded.results[spent(500).key]
    assert (spending.moved, spending.short, spending.before, spending.after) == (500, 0, 0, 0)
    assert (folded.state.debt, folded.state.balance) == (0, 30)


@pytest.mark.parametrize("cut", [day(1), day(3), day(12), day(30)])
def test_folding_it_in_two_parts_is_folding_it_whole(cut: datetime) -> None:
    """R0."""
    events = [
        grant(1, 50, at=day(1)),
        spent(500, expires_at=day(25)),
        back(200, at=day(12)),
        back(100, at=day(27), id=2),
    ]
    events += [spent(100, at=day(4), id=2)]
    whole = held(*events)
    state = WalletState()
    first = fold(state, [each for each in events if each.at <= cut], cut)
    then = fold(state, [each for each in events if each.at > cut], LATER)
    assert [*first.postings, *then.postings] == whole.postings
    assert live_lots(then) == live_lots(whole)


def test_refunds_after_the_import_return_it_and_those_before_do_not() -> None:
    """R12, R13, R17: units that came back before count as returned."""
    lines = (line(1, 6_000, units=2, codes={"save": 600}), line(2, 4_000, codes={"save": 400}))
    told = [
        order(None, *lines),
        refund(1, 3_000, returned(1, 3_000), at=day(5)),
        refund(2, 3_000, returned(1, 3_000), at=day(12)),
        refund(3, 4_000, returned(2, 4_000), at=day(13)),
    ]
    made = decided(*told, redemptions=[redeemed(1, 100, at=day(1), since=M)])
    assert returns(made) == [0, 30, 70]
    assert why_returned(made)[0] == (BEFORE_IMPORT,)
