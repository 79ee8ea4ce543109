"""One act of a merchant among a few facts, told in many orders before and after it: what stands in the end depends on the
facts and on what was granted, on nothing else (R0). `UNWIND_EXAMPLES=120` tells every story in every order."""

from __future__ import annotations

import os
import random
from collections.abc import Iterator, Sequence
from dataclasses import dataclass, field, replace
from datetime import timedelta
from itertools import permutations
from pprint import pformat
from typing import Any, cast

import pytest
from sqlalchemy import Engine

from tests.books import Books, Step, expected, open_books, play, state_of
from tests.flows.arrivals import OneConnection
from tests.flows.by_hand import attempt, do, took_in, what_stands
from tests.flows.stories import SECOND, TWO, came, given, spent
from tests.oracle.merchants import Hand, hand_of
from tests.oracle.worlds import Delivery, Wish, World
from tests.rules.build import CUSTOMER, LATER, OTHER, day, line, order, refund, returned, settings

ORDERS = int(os.environ.get("UNWIND_EXAMPLES", "14"))
CALL = day(6)


@dataclass
class Story:
    """before: known from the start     facts: told in any order, before the act where they are older, or after it"""

    words: str
    wish: Wish
    facts: list[Delivery]
    before: list[Step] = field(default_factory=list)
    program: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> World:
        return World(program=[(None, settings(**self.program))], deliveries=self.facts, now=LATER)

    def tellings(self) -> Iterator[tuple[Sequence[Delivery], Sequence[Delivery]]]:
        """(told before the act, told after it)."""
        for told in permutations(self.facts):
            for n in range(len(told) + 1):
                if all(each.received_at < CALL for each in told[:n]):
                    yield told[:n], told[n:]


def wish(kind: str, *, pick: int = 0, part: int = 100) -> Wish:
    return Wish(CALL, kind, pick, part)


POINTS = [given(1, 100, at=day(-9)), spent(1, {CUSTOMER: 100}, at=day(0))]
GROUP = [
    given(1, 100, at=day(-9)),
    given(2, 250, at=day(-9), to=OTHER, expires_at=day(5)),
    spent(1, {CUSTOMER: 100, OTHER: 250}, at=day(0)),
]
PLACED = came(1, order(None, *TWO))
FIRST = came(3, refund(1, 3_000, returned(1, 3_000), at=day(3)))
REST = came(8, refund(2, 7_000, returned(1, 3_000), returned(2, 4_000), at=day(8)))
EARLY_REST = came(5, refund(2, 7_000, returned(1, 3_000), returned(2, 4_000), at=day(5)))

STORIES = [
    Story("all that is left of a redemption is reversed", wish("reverse"), [PLACED, FIRST, REST], POINTS),
    Story(
        "a part of a group's redemption is reversed after some of it expired",
        wish("reverse", part=33),
        [PLACED, FIRST, REST],
        GROUP,
    ),
    Story(
        "a reversal where the code would come back",
        wish("reverse", part=50),
        [PLACED, came(5, refund(1, 10_000, at=day(5))), came(4, order(5_000, order_id=SECOND, at=day(4)))],
        POINTS,
        {"reward": {"reactivate_code": True}},
    ),
    Story(
        "an order is cancelled by us, and Shopify refunds it before and after",
        wish("cancel"),
        [PLACED, FIRST, REST],
        POINTS,
        {"waiting_days": 3},
    ),
    Story(
        "an order is cancelled by us, and by Shopify",
        wish("cancel"),
        [PLACED, came(4, order(None, *TWO, cancelled_at=day(4), updated_at=day(4))), FIRST],
        POINTS,
        {"cancelled_paid": "close", "below_zero": "carry_debt"},
    ),
    Story("the rest is refunded by us", wish("refund_rest"), [PLACED, FIRST, EARLY_REST], POINTS),
    Story(
        "a line is refunded by us that an edit took off",
        wish("refund_lines", pick=1),
        [PLACED, came(5, order(None, TWO[0], replace(TWO[1], current_quantity=0), updated_at=day(5))), REST],
        POINTS,
    ),
    Story(
        "a refund is undone, and Shopify calls the order refunded",
        wish("undo"),
        [
            PLACED,
            FIRST,
            EARLY_REST,
            came(7, order(None, *TWO, financial_status="refunded", updated_at=day(7))),
        ],
        POINTS,
        {"reverse_earned": {"rounding": "cumulative"}},
    ),
    Story(
        "an ending is undone, and told again as another",
        wish("undo"),
        [
            came(1, order(None, *TWO, financial_status="authorized", outstanding_minor=10_000)),
            came(4, order(None, *TWO, financial_status="authorized", cancelled_at=day(4), updated_at=day(4))),
            came(5, order(None, *TWO, financial_status="voided", cancelled_at=day(4), updated_at=day(5))),
            came(8, order(None, *TWO, line(9, 500), cancelled_at=day(4), updated_at=day(8))),
        ],
        POINTS,
    ),
]


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.words)
def test_what_stands_depends_on_facts_and_granted_acts_alone(engine: Engine, story: Story) -> None:
    """R0, R14, R19, R20, R21, R27, R36, R38."""
    tellings = list(story.tellings())
    chosen = random.Random(story.words).sample(tellings, min(ORDERS, len(tellings)))
    opened = open_books(engine, story.world)
    finals: dict[str, set[str]] = {}
    with engine.connect() as connection, connection.begin() as all_of_it:
        books = replace(opened, engine=cast(Engine, OneConnection(connection)))
        play(books, story.before, now=day(1))
        for before, after in chosen:
            with attempt(books):
                hand = lived(books, story, before, after)
                books.pass_time(now=LATER)
                assert state_of(books) == expected(hand.settle(LATER)), pformat(hand.acts)
                finals.setdefault(granted(hand), set()).add(nameless(what_stands(books), hand))
        all_of_it.rollback()
    print(f"orders={len(chosen)} of {len(tellings)} acts={len(finals)}  {story.words}")
    assert all(len(states) == 1 for states in finals.values())


def lived(books: Books, story: Story, before: Sequence[Delivery], after: Sequence[Delivery]) -> Hand:
    """The clock goes on: what is told before the act is told just before it, or when it can be told first."""
    hand = hand_of(books.world)
    for step in story.before:
        took_in(hand, step)
    for n, each in enumerate(before):
        tell(books, hand, each, CALL - timedelta(seconds=len(before) - n))
    act = hand.act_of(story.wish)
    if act is not None:
        do(books, hand, act)
    now = CALL
    for each in after:
        now = max(now + timedelta(seconds=1), each.received_at)
        tell(books, hand, each, now)
    assert not books.world.deliveries or books.tell(books.world.deliveries, now=now) == 0
    return hand


def tell(books: Books, hand: Hand, delivery: Delivery, now: Any) -> None:
    play(books, [delivery], now=now)
    took_in(hand, delivery)


def granted(hand: Hand) -> str:
    """What was done, without the ids that it got."""
    return pformat([act for act in hand.acts if act.verdict == "done"])


def nameless(state: dict[str, list[str]], hand: Hand) -> str:
    """The state with the ids of what was made counted from the first."""
    text = pformat({name: rows for name, rows in state.items() if name != "wanted of Shopify"})
    for n, each in enumerate(hand.reversals):
        text = text.replace(f"reversal:{each.id}'", f"reversal-{n}'")
    for n, each in enumerate(hand.cancellations):
        text = text.replace(f"cancellation:{each.id}'", f"cancellation-{n}'")
    for n, seen in enumerate(s for s in hand.seen if getattr(s.fact, "id", 0) >= 9 * 10**18):
        text = text.replace(f"refund:{getattr(seen.fact, 'id', 0)}'", f"refund-{n}'")
    return text
