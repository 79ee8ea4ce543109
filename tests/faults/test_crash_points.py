"""A worker dies by SIGKILL at every single point of the way of a refund; whoever comes next ends where it would have."""

from __future__ import annotations

import random
from collections.abc import Iterable
from datetime import UTC, datetime
from itertools import count
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, text

from tasks.steps.drain import drain
from tests.books import Books, expected, open_books, play, state_of
from tests.faults.checks import Findings, books_are_right, entries_of, refunds_are_there_once
from tests.faults.conftest import Die
from tests.faults.crash_child import LIVES
from tests.faults.stories import TWELVE_YEARS, Sending, Tale, currency_of, moved, sent
from tests.oracle.worlds import Delivery, Seeded, World, make_world

STEPS = {
    "claimed": "select id, topic, webhook_id, body",
    "the refund's facts kept": "insert into refunds",
    "the wallet locked": "select customer_id, balance, debt",
    "the entries posted": "insert into entries",
    "the timeline written": "insert into timeline",
    "the award reversed": "insert into awards",
    "the redemption returned": "update redemptions",
    "the events marked": "update inbox t set",
}


class Scene(NamedTuple):
    """A shop whose order is booked and whose refund waits in the inbox, twice, under two webhook ids."""

    tale: Tale
    refund: Delivery

    @property
    def books(self) -> Books:
        return self.tale.books


@pytest.fixture(scope="module")
def world() -> World:
    """One order with one refund that takes earned points and gives redeemed ones back."""
    return next(world for seed in count(1) if takes_and_gives_back(world := small_world(seed)))


def small_world(seed: int) -> World:
    made: World = make_world(
        Seeded(seed), orders=1, customers=1, policies=False, versions=1, lag=False, pins=False
    )
    return moved(made, -TWELVE_YEARS)


def takes_and_gives_back(world: World) -> bool:
    if [d.topic for d in world.deliveries].count("refunds/create") != 1 or not world.redemptions:
        return False
    state = world.shop().settle(datetime.now(UTC))
    debited = [award.debited for order in state.orders.values() for award in order.awards.values()]
    return any(debited) and all(each.credited for each in state.redemptions.values())


def scene(engine: Engine, world: World) -> Scene:
    books = open_books(engine, world)
    play(books, [*world.grants, *world.redemptions], now=datetime.now(UTC))
    refund = next(d for d in world.deliveries if d.topic == "refunds/create")
    others = [d for d in world.deliveries if d is not refund]
    dice = random.Random(1)
    keep(engine, sent(others, books.domain, currency_of(world), dice))
    work_off(engine, books.domain)
    keep(engine, sent([refund, refund], books.domain, currency_of(world), dice))
    return Scene(Tale(books, world.deliveries, []), refund)


def keep(engine: Engine, sendings: Iterable[Sending]) -> None:
    """Into the inbox, as the receiver does."""
    with engine.begin() as connection:
        for sending in sendings:
            connection.execute(
                text(
                    "insert into inbox (shop_domain, topic, webhook_id, body) values (:domain, :topic, :id, :body)"
                    " on conflict do nothing"
                ),
                {
                    "domain": sending.domain,
                    "topic": sending.topic,
                    "id": sending.webhook_id,
                    "body": sending.body,
                },
            )


def work_off(engine: Engine, domain: str) -> int:
    """Batches until none is left; how many events were done."""
    done = 0
    while True:
        drained = drain(engine, domain)
        done += drained.done
        if not drained.left:
            return done


class Undisturbed(NamedTuple):
    """What the refund comes to when nobody dies, and the points on its way."""

    state: dict[str, Any]
    entries: list[Any]
    points: list[str]


@pytest.fixture(scope="module")
def undisturbed(engine: Engine, world: World, die: Die) -> Undisturbed:
    whole = scene(engine, world)
    before = len(entries_of(engine, whole.books.shop_id))
    points = die(whole.books.domain, LIVES)
    state, entries = state_of(whole.books), entries_of(engine, whole.books.shop_id)
    assert len(entries) > before
    assert state == expected(world.shop().settle(datetime.now(UTC)))
    return Undisturbed(state, entries, points)


def ends_as_if_nothing_had_happened(engine: Engine, crashed: Scene, undisturbed: Undisturbed) -> None:
    work_off(engine, crashed.books.domain)
    with engine.connect() as connection:
        states = connection.execute(
            text("select distinct state from inbox where shop_domain = :domain"),
            {"domain": crashed.books.domain},
        ).scalars()
        assert list(states) == ["done"]
    assert state_of(crashed.books) == undisturbed.state
    assert entries_of(engine, crashed.books.shop_id) == undisturbed.entries
    findings = Findings()
    refunds_are_there_once(crashed.tale, findings)
    books_are_right(crashed.tale, findings)
    assert not findings, findings.some()


def test_the_way_of_a_refund_has_all_the_steps_that_these_tests_are_about(undisturbed: Undisturbed) -> None:
    for step, statement in STEPS.items():
        assert any(label.startswith(statement) for label in undisturbed.points), step
    assert undisturbed.points[-2:] == ["before the commit", "after the commit"]


def test_death_at_any_point_of_a_refund_loses_nothing_and_posts_nothing_twice(
    engine: Engine, world: World, die: Die, undisturbed: Undisturbed, capsys: pytest.CaptureFixture[str]
) -> None:
    for number, label in enumerate(undisturbed.points):
        crashed = scene(engine, world)
        assert die(crashed.books.domain, number) == label
        ends_as_if_nothing_had_happened(engine, crashed, undisturbed)
    with capsys.disabled():
        print(f"\ncrash_points={len(undisturbed.points)} lost=0 double=0 mismatch=0")


def test_what_was_not_committed_left_no_trace(
    engine: Engine, world: World, die: Die, undisturbed: Undisturbed
) -> None:
    crashed = scene(engine, world)
    before = state_of(crashed.books), entries_of(engine, crashed.books.shop_id)
    marked = next(
        n for n, label in enumerate(undisturbed.points) if label.startswith(STEPS["the events marked"])
    )
    commit = undisturbed.points.index("before the commit", marked)
    assert die(crashed.books.domain, commit) == "before the commit"
    assert (state_of(crashed.books), entries_of(engine, crashed.books.shop_id)) == before


def test_a_death_after_the_commit_left_nothing_to_do(
    engine: Engine, world: World, die: Die, undisturbed: Undisturbed
) -> None:
    crashed = scene(engine, world)
    assert die(crashed.books.domain, len(undisturbed.points) - 1) == "after the commit"
    assert entries_of(engine, crashed.books.shop_id) == undisturbed.entries
    assert work_off(engine, crashed.books.domain) == 0


@pytest.mark.parametrize("statement", STEPS.values(), ids=STEPS.keys())
def test_three_deaths_in_a_row_at_one_step_are_survived(
    engine: Engine, world: World, die: Die, undisturbed: Undisturbed, statement: str
) -> None:
    crashed = scene(engine, world)
    number = next(n for n, label in enumerate(undisturbed.points) if label.startswith(statement))
    for _ in range(3):
        die(crashed.books.domain, number)
    ends_as_if_nothing_had_happened(engine, crashed, undisturbed)
