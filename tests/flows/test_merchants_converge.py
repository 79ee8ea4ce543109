"""Merchants' acts among the facts (R34, R36, R38): what stands is a pure function of what was told and of the acts that
were granted (R0), the one that the oracle works out. `UNWIND_EXAMPLES=500` looks at more worlds, at random."""

from __future__ import annotations

import os

import pytest
from hypothesis import HealthCheck, given, settings
from sqlalchemy import Engine

from tasks.steps.verify import verify
from tests.books import expected, open_books, state_of
from tests.flows.by_hand import live_through
from tests.oracle.worlds import (
    Arrival,
    Seeded,
    World,
    made_up_wishes,
    make_world,
    merchants_worlds,
    timetable,
)

EXAMPLES = int(os.environ.get("UNWIND_EXAMPLES", "20"))
SEEDS = range(EXAMPLES)
looking = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UNWIND_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@looking
@given(story=merchants_worlds(orders=2))
def test_a_made_up_world_with_merchants_ends_in_the_oracles_state(
    engine: Engine, story: tuple[World, list[Arrival]]
) -> None:
    """R0, R14, R21, R31, R34, R36, R38: reversals, refunds, cancellations and undo between facts that come late and twice."""
    ends_as_the_oracle_says(engine, *story)


@pytest.mark.parametrize("seed", SEEDS)
def test_a_busy_world_with_merchants_ends_in_the_oracles_state(engine: Engine, seed: int) -> None:
    """R0, R14, R20, R21, R24, R31, R34, R36, R38: larger worlds than a search for the smallest failure makes."""
    source = Seeded(seed)
    world = make_world(source, orders=4)
    ends_as_the_oracle_says(engine, world, timetable(source, world, made_up_wishes(source, world, most=8)))


def ends_as_the_oracle_says(engine: Engine, world: World, arrivals: list[Arrival]) -> None:
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False  # the books find this out by themselves
    books = open_books(engine, world)
    hand = live_through(books, arrivals)
    books.pass_time(now=world.now)
    assert state_of(books) == expected(hand.settle(world.now))
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == []
    assert books.tell(world.deliveries, now=world.now) == 0
