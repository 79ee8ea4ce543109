"""Folding a wallet bit by bit is folding it whole; and what a fold may never do (R0, R7, R19, R40)."""

from __future__ import annotations

import copy
import os
from collections import Counter
from collections.abc import Sequence
from datetime import datetime, timedelta
from typing import Any

from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st

from models.rules.wallet import APPROVAL, CLAIM, GRANT, RETURN, SPEND, Event, Fold, WalletState, fold
from tests.rules.build import day

EXAMPLES = int(os.environ.get("UNWIND_EXAMPLES", "60"))
thorough = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UNWIND_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow],
)
END = day(60)

days = st.integers(1, 40).map(day)
amounts = st.integers(0, 300)


@st.composite
def timelines(draw: Any) -> list[Event]:
    """Grants, approvals, spending, claims on known and unknown lots, and returns within what was spent."""
    events: list[Event] = []
    carries = draw(st.booleans())
    for n in range(draw(st.integers(0, 5))):
        at, kind = draw(days), draw(st.sampled_from([GRANT, APPROVAL]))
        lives = draw(st.none() | st.integers(1, 30))
        events.append(
            event(
                kind,
                n,
                f"lot:{n}",
                at,
                draw(amounts),
                expires_at=None if lives is None else at + timedelta(days=lives),
            )
        )
    for n in range(draw(st.integers(0, 4))):
        lot = f"lot:{draw(st.integers(0, 5))}"
        events.append(event(CLAIM, 100 + n, lot, draw(days), draw(amounts), carry_debt=carries))
    for n in range(draw(st.integers(0, 3))):
        at, amount = draw(days), draw(amounts)
        events.append(
            event(SPEND, 200 + n, f"redemption:{n}", at, amount, redemption_id=n, carry_debt=carries)
        )
        back = draw(st.lists(st.integers(0, amount), max_size=3))
        for m, part in enumerate(back):
            part = min(part, amount - sum(back[:m])) if sum(back[:m]) < amount else 0
            events.append(
                event(RETURN, 300 + 10 * n + m, f"redemption:{n}", at + timedelta(days=draw(st.integers(0, 20))), part,
                      redemption_id=n, grace_days=draw(st.sampled_from([0, 0, 10])))
            )  # fmt: skip
    return events


def event(kind: int, sort_id: int, target: str, at: datetime, amount: int, **more: Any) -> Event:
    return Event(
        kind=kind, sort_id=sort_id, target=target, cause=f"cause:{sort_id}", at=at, amount=amount, **more
    )


def whole(events: Sequence[Event]) -> Fold:
    return fold(WalletState(), events, END)


def seen(state: WalletState) -> tuple[Any, ...]:
    lots = {name: (lot.remainder, lot.expires_at) for name, lot in state.lots.items()}
    return lots, state.debt, state.draws, state.came_back


@thorough
@given(timelines(), st.lists(days, max_size=6))
def test_folding_in_pieces_is_folding_whole(events: list[Event], cuts: list[datetime]) -> None:
    """R0: the fold goes on from any state."""
    state, postings, results = WalletState(), [], {}
    last = day(-1)
    for until in [*sorted(cuts), END]:
        part = fold(state, [e for e in events if last < e.at <= until], until)
        postings += part.postings
        results |= part.results
        last = until
    at_once = whole(events)
    assert seen(state) == seen(at_once.state)
    assert (postings, results) == (at_once.postings, at_once.results)


@thorough
@given(timelines(), st.randoms(use_true_random=False))
def test_folding_does_not_ask_in_which_order_events_became_known(events: list[Event], random: Any) -> None:
    """R0 (b)."""
    shuffled = copy.copy(events)
    random.shuffle(shuffled)
    assert whole(shuffled).postings == whole(events).postings


@thorough
@given(timelines())
def test_a_lot_never_holds_less_than_nothing_or_more_than_its_amount(events: list[Event]) -> None:
    """R40: 0 <= remainder <= amount after every posting; the balance is the sum of remainders and never below 0 (R7)."""
    folded, held = whole(events), Counter[str]()
    lots = folded.state.lots
    for posting in folded.postings:
        held[posting.lot] += posting.amount
        assert 0 <= held[posting.lot] <= lots[posting.lot].amount
        assert sum(held.values()) >= 0
    assert held == Counter({name: lot.remainder for name, lot in lots.items()})
    assert folded.balance == folded.state.balance == sum(posting.amount for posting in folded.postings)


@thorough
@given(timelines())
def test_nothing_gets_lost_of_what_an_event_asked(events: list[Event]) -> None:
    """R7, R19: moved + short + expired = amount, and the postings of an event say the same."""
    folded = whole(events)
    amounts = {e.key: e for e in events}
    posted = Counter[Any]()
    for posting in folded.postings:
        if posting.kind != "debt":
            posted[posting.event] += abs(posting.amount)
    for key, result in folded.results.items():
        asked = amounts[key]
        assert result.moved + result.short + result.expired == asked.amount
        assert posted[key] == result.moved
        assert result.short == 0 or asked.kind in (CLAIM, SPEND)
        assert result.expired == 0 or asked.kind == RETURN
    assert len(folded.results) == len(events)


@thorough
@given(timelines())
def test_debt_is_what_was_short_less_what_was_paid(events: list[Event]) -> None:
    """R7 (carry_debt): and without it there is none."""
    folded = whole(events)
    paid = -sum(posting.amount for posting in folded.postings if posting.kind == "debt")
    carrying = {e.key for e in events if e.carry_debt}
    short = sum(result.short for key, result in folded.results.items() if key in carrying)
    assert folded.state.debt == short - paid >= 0
    assert sum(result.debt_change for result in folded.results.values()) == folded.state.debt


@thorough
@given(timelines())
def test_the_balance_before_an_event_is_the_balance_after_the_last(events: list[Event]) -> None:
    """R39: every result knows the balance before and after."""
    folded = whole(events)
    for key, result in folded.results.items():
        moves = sum(posting.amount for posting in folded.postings if posting.event == key)
        assert result.after - result.before == moves
