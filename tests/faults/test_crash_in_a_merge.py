"""A worker dies by SIGKILL at every single point of a merge of two customers: it is done whole, once, or not at all (R33)."""

from __future__ import annotations

import random
from datetime import UTC, datetime
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, text

from tasks.steps.verify import verify
from tests.books import Books, expected, open_books, play, state_of
from tests.faults.checks import entries_of
from tests.faults.conftest import Die
from tests.faults.crash_child import LIVES
from tests.faults.stories import TWELVE_YEARS, Sending, currency_of, moved, sent
from tests.faults.test_crash_points import keep, work_off
from tests.flows.test_merges_converge import Merge, body_of, relabelled
from tests.oracle.worlds import Seeded, World, make_world

SEED = 1  # two customers with orders, refunds, and spending in common
STEPS = {
    "the shop held alone": "select hold_customers_alone",
    "the alias written": "insert into customer_aliases",
    "the members renamed": "with left_out as",
    "the entries posted": "insert into entries",
    "the wallets written": "update wallets",
    "the event marked": "update inbox t set",
}


class Undisturbed(NamedTuple):
    """What the merge comes to when nobody dies, and the points on its way."""

    state: dict[str, Any]
    entries: list[Any]
    points: list[str]


@pytest.fixture(scope="module")
def world() -> World:
    made: World = moved(make_world(Seeded(SEED), orders=4, customers=2, pins=False), -TWELVE_YEARS)
    for redemption in made.redemptions:
        redemption["used_elsewhere"] = False
    return made


@pytest.fixture(scope="module")
def merge(world: World) -> Merge:
    kept, deleted = 9_000_000_001, 9_000_000_002
    people = {fact.customer_id for d in world.deliveries for fact in d.facts if hasattr(fact, "customer_id")}
    assert {kept, deleted} <= people
    assert any({kept, deleted} <= set(each["members"]) for each in world.redemptions)
    return Merge(deleted, kept)


def scene(engine: Engine, world: World, merge: Merge) -> Books:
    """Everything is booked, and the merge waits in the inbox, twice."""
    books = open_books(engine, world)
    play(books, [*world.grants, *world.redemptions], now=datetime.now(UTC))
    keep(engine, sent(world.deliveries, books.domain, currency_of(world), random.Random(1)))
    work_off(engine, books.domain)
    body = body_of(merge)
    keep(engine, [Sending(books.domain, "customers/merge", f"{books.domain}-{n}", body, 0) for n in (1, 2)])
    return books


@pytest.fixture(scope="module")
def undisturbed(engine: Engine, world: World, merge: Merge, die: Die) -> Undisturbed:
    books = scene(engine, world, merge)
    before = len(entries_of(engine, books.shop_id))
    points = die(books.domain, LIVES)
    found = Undisturbed(state_of(books), entries_of(engine, books.shop_id), points)
    assert len(found.entries) > before
    wanted = expected(relabelled(world, {merge.deleted: merge.kept}).shop().settle(datetime.now(UTC)))
    assert {**found.state["customers"], merge.deleted: None} == {**wanted["customers"], merge.deleted: None}
    return found


def test_a_merge_has_all_the_steps_that_these_tests_are_about(undisturbed: Undisturbed) -> None:
    for step, statement in STEPS.items():
        assert any(label.startswith(statement) for label in undisturbed.points), step


def test_death_at_any_point_of_a_merge_loses_nothing_and_posts_nothing_twice(
    engine: Engine,
    world: World,
    merge: Merge,
    die: Die,
    undisturbed: Undisturbed,
    capsys: pytest.CaptureFixture[str],
) -> None:
    """R33, R40."""
    for number, label in enumerate(undisturbed.points):
        books = scene(engine, world, merge)
        assert die(books.domain, number) == label
        work_off(engine, books.domain)
        ends_as_if_nothing_had_happened(engine, books, undisturbed)
    with capsys.disabled():
        print(f"\ncrash_points_of_a_merge={len(undisturbed.points)} lost=0 double=0 mismatch=0")


def ends_as_if_nothing_had_happened(engine: Engine, books: Books, undisturbed: Undisturbed) -> None:
    with engine.connect() as connection:
        states = connection.execute(
            text("select distinct state from inbox where shop_domain = :domain"), {"domain": books.domain}
        ).scalars()
        assert list(states) == ["done"]
        assert verify(connection, books.shop_id) == []
    assert state_of(books) == undisturbed.state
    assert entries_of(engine, books.shop_id) == undisturbed.entries
