"""Undo is the way back (R38): what was done by hand leaves exactly what was before it, and what Shopify told counts as if
it had never been told, however often it is told again. `UNWIND_EXAMPLES=500` looks at more worlds."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime, timedelta

import pytest
from sqlalchemy import Engine

from tasks.steps.verify import verify
from tests.books import Books, expected, state_of
from tests.flows.by_hand import ask, attempt, do, standing_shop, what_stands
from tests.oracle.claims import ENDINGS
from tests.oracle.merchants import Act, Hand
from tests.oracle.worlds import GAPS, Seeded, Wish, make_world

EXAMPLES = int(os.environ.get("UNWIND_EXAMPLES", "8"))
DOINGS = ["reverse", "reverse", "refund_amount", "refund_lines", "refund_rest", "cancel"]
UNDO = {"reverse": "undo_reversal", "refund": "undo_refund", "cancel": "undo_ending"}


@contextmanager
def at_rest(engine: Engine, seed: int) -> Iterator[tuple[Books, Hand, Seeded]]:
    source = Seeded(seed)
    with standing_shop(engine, make_world(source, orders=3)) as (books, hand):
        yield books, hand, source


def wish(source: Seeded, at: datetime) -> Wish:
    return Wish(at, source.pick(DOINGS), source.integer(0, 11), source.pick([100, 50, 33, 1]))


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_what_was_done_by_hand_and_undone_leaves_exactly_what_was_before(engine: Engine, seed: int) -> None:
    """R19, R20, R26, R38: lot by lot with their ends, debt, pending, tiers, spend, statuses, restitution and codes wanted."""
    with at_rest(engine, seed) as (books, hand, source):
        at = books.world.now + source.pick(GAPS[1:])
        act = hand.act_of(wish(source, at))
        if act is None or act.verdict != "done":
            return
        later = at + source.pick([timedelta(seconds=1), timedelta(days=8)])
        before = stands_at(books, later)
        with attempt(books):
            verdict, id = ask(books, act)
            assert verdict == "done"
            back = taking_back(act, id, later)
            assert ask(books, back)[0] == "done"
            assert stands_at(books, later) == before
            assert ask(books, back)[0] in ("already_undone", "not_cancelled")
            assert_books_are_right(books, later)
            assert stands_at(books, later) == before


@pytest.mark.parametrize("seed", range(1000, 1000 + EXAMPLES))
def test_several_acts_are_undone_in_any_order(engine: Engine, seed: int) -> None:
    """R0, R38: undone one by one, not the last first; when none stands, all is as before."""
    with at_rest(engine, seed) as (books, hand, source):
        at = books.world.now
        before = stands_at(books, at + timedelta(seconds=30))
        done: list[Act] = []
        for n in range(1, 5):
            act = hand.act_of(wish(source, at + timedelta(seconds=n)))
            if act is not None and act.verdict == "done":
                verdict, id = ask(books, act)
                assert verdict == "done"
                hand.keep(act, id)
                done.append(taking_back(act, id, at))
        for n in range(11, 11 + len(done)):
            back = done.pop(source.integer(0, len(done) - 1))
            do(books, hand, replace(back, at=at + timedelta(seconds=n), verdict=found_closed(hand, back)))
        if hand.as_shop().cancellations and not all(
            f"cancellation:{c.id}" in hand.undone for c in hand.cancellations
        ):
            return  # a refund of ours closed before a cancellation, which nobody can see to undo
        assert stands_at(books, at + timedelta(seconds=30)) == before
        assert_books_are_right(books, at + timedelta(seconds=30))


@pytest.mark.parametrize("seed", range(2000, 2000 + EXAMPLES))
def test_what_shopify_told_and_a_merchant_undid_stays_undone(engine: Engine, seed: int) -> None:
    """R0, R27, R38: every refund and every ending of a shop in turn; told again, nothing moves."""
    with at_rest(engine, seed) as (books, hand, source):
        at = books.world.now
        state = hand.settle(at)
        todo = [("undo_refund", id, f"refund:{id}") for o in state.orders.values() for id in o.refunds]
        todo += [
            ("undo_ending", id, o.outcome.closing.name)
            for id, o in state.orders.items()
            if o.outcome.closing and o.outcome.closing.kind in ENDINGS
        ]
        while todo:
            kind, id, cause = todo.pop(source.integer(0, len(todo) - 1))
            at += timedelta(seconds=1)
            closing = hand.settle(at).orders[id].outcome.closing if kind == "undo_ending" else None
            if kind == "undo_ending" and (closing is None or closing.name != cause):
                continue
            do(books, hand, Act(kind, id, at, "done", cause=cause))
            books.pass_time(now=at)
            assert state_of(books) == expected(hand.settle(at))
        assert_books_are_right(books, at)


def stands_at(books: Books, at: datetime) -> dict[str, list[str]]:
    """What would stand then, if nothing else happened."""
    with attempt(books):
        books.pass_time(now=at)
        return what_stands(books)


def taking_back(act: Act, id: int | None, at: datetime) -> Act:
    of = act.of if act.kind == "cancel" else id
    assert of is not None
    cause = {"refund": f"refund:{id}", "cancel": f"cancellation:{id}"}.get(act.kind, "")
    return Act(UNDO[act.kind], of, at, "done", cause=cause)


def found_closed(hand: Hand, back: Act) -> str:
    """An ending is undone where it closes the order."""
    if back.kind != "undo_ending":
        return "done"
    closing = hand.settle(back.at + timedelta(days=1)).orders[back.of].outcome.closing
    if closing is None and any(f"cancellation:{c.id}" in hand.undone for c in hand.cancellations):
        return "already_undone"
    return "done" if closing is not None and closing.name == back.cause else "not_cancelled"


def assert_books_are_right(books: Books, now: datetime) -> None:
    """Verified, and the same webhooks again change nothing."""
    with books.engine.begin() as connection:
        assert verify(connection, books.shop_id) == []
    assert not books.world.deliveries or books.tell(books.world.deliveries, now=now) == 0
