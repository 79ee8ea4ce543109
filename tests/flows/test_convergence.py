"""Whatever the order of arrival, however often told, in batches of any size, by one worker or four: one final state,
the one that the oracle works out from the facts alone (R0). `UNWIND_EXAMPLES=500` looks at more worlds, at random."""

from __future__ import annotations

import os
import random
import threading
from collections.abc import Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from models.rules.facts import Snapshot
from models.session import make_engine
from tasks.steps.drain import drain
from tasks.steps.parse import parse
from tasks.steps.replay import replay
from tasks.steps.verify import verify
from tests.books import Books, Step, expected, open_books, play, state_of, steps_of
from tests.flows.arrivals import these_arrivals
from tests.flows.stories import STORIES, Story, final_of
from tests.oracle.render import render
from tests.oracle.worlds import Delivery, Seeded, World, make_world, worlds
from tests.rules.build import LATER

WORKERS = 4
EXAMPLES = int(os.environ.get("UNWIND_EXAMPLES", "30"))
SEEDS = max(10, EXAMPLES // 5)
EVERY = 1 if "UNWIND_EXAMPLES" in os.environ else 6
looking = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UNWIND_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


# -- made-up worlds ----------------------------------------------------------------------------------


@looking
@given(world=worlds(orders=3), chance=st.randoms(use_true_random=False))
def test_a_made_up_world_ends_in_the_oracles_state_however_it_arrives(
    engine: Engine, world: World, chance: random.Random
) -> None:
    """R0, R14, R17, R20, R28, S6: any order, duplicates, batches of any size; verified, and nothing to post again."""
    ends_as_the_oracle_says(engine, world, chance)


@pytest.mark.parametrize("seed", range(SEEDS))
def test_a_busy_world_ends_in_the_oracles_state_however_it_arrives(engine: Engine, seed: int) -> None:
    """R0, R14, R17, R20, R24, R28, S6: larger worlds than a search for the smallest failure makes."""
    ends_as_the_oracle_says(engine, make_world(Seeded(seed), orders=5), random.Random(seed))


def ends_as_the_oracle_says(engine: Engine, world: World, chance: random.Random) -> None:
    by_the_books(world)
    books = open_books(engine, world)
    play(books, arrival(world, chance), now=world.now)
    books.pass_time(now=world.now)
    assert state_of(books) == expected(world.shop().settle(world.now))
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == []
    assert books.tell(world.deliveries, now=world.now) == 0


def by_the_books(world: World) -> None:
    """Use elsewhere is what the books find out by themselves: another order that carries the code."""
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False


def arrival(world: World, chance: random.Random) -> list[Step | list[Delivery]]:
    """Every step, some deliveries twice, shuffled; neighbouring deliveries in batches."""
    steps = steps_of(world)
    steps += [d for d in world.deliveries if chance.randrange(4) == 0]
    chance.shuffle(steps)
    told: list[Step | list[Delivery]] = []
    for step in steps:
        last = told[-1] if told else None
        if isinstance(step, Delivery) and isinstance(last, list) and chance.randrange(3):
            last.append(step)
        else:
            told.append([step] if isinstance(step, Delivery) else step)
    return told


# -- chosen stories ----------------------------------------------------------------------------------


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.words)
def test_by_the_rules_all_orders_of_six_facts_end_the_same(story: Story) -> None:
    """R0: 720 orders of arrival, each also with every fact told twice."""
    orders = list(permutations(story.steps))
    finals = {final_of(story, steps) for steps in orders}
    told_twice = {final_of(story, [*steps, *deliveries(steps)]) for steps in orders[::9]}
    print(f"orders={len(orders)} distinct_finals={len(finals)}  {story.words}")
    assert len(orders) == 720
    assert finals == told_twice
    assert len(finals) == 1


@pytest.mark.parametrize("story", STORIES, ids=lambda story: story.words)
def test_on_the_books_orders_of_six_facts_end_as_the_oracle_says(engine: Engine, story: Story) -> None:
    """R0, R7, R22, R28, S3, S9: some of the 720 orders, with duplicates, on the real books."""
    chance = random.Random(story.words)
    orders = [shuffled_with_duplicates(story.steps, chance) for _ in range(6)]
    finals = these_arrivals(engine, story.world, orders, now=LATER)
    print(f"{finals}  {story.words}")
    assert len(finals.states) == 1
    assert finals.one == expected(story.world.shop().settle(LATER))


def test_on_the_books_every_sixth_of_720_orders_of_a_story_ends_as_the_oracle_says(engine: Engine) -> None:
    """R0, R7: two orders, spending and a grant between, on the real books; with `UNWIND_EXAMPLES` each of the orders."""
    story = STORIES[2]
    orders = list(permutations(story.steps))[::EVERY]
    finals = these_arrivals(engine, story.world, orders, now=LATER)
    print(f"{finals}  {story.words}")
    assert (finals.orders, len(finals.states)) == (720 // EVERY, 1)
    assert finals.one == expected(story.world.shop().settle(LATER))


def deliveries(steps: Sequence[Step]) -> list[Delivery]:
    return [step for step in steps if isinstance(step, Delivery)]


def shuffled_with_duplicates(steps: Sequence[Step], chance: random.Random) -> list[Step]:
    told = [*steps, *(d for d in deliveries(steps) if chance.randrange(2))]
    chance.shuffle(told)
    return told


# -- several workers at once -------------------------------------------------------------------------


@dataclass
class Tally:
    """What the workers met. `again`: trouble of the database's own, which a task tries again."""

    done: int = 0
    failed: int = 0
    again: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


@pytest.mark.parametrize("seed", range(100, 106))
def test_four_workers_at_once_end_as_the_oracle_says(engine: Engine, database_url: str, seed: int) -> None:
    """R0, R20, R28, R40: webhook bodies, told up to three times, drained by four workers with connections of their own."""
    world = make_world(Seeded(seed), orders=12, customers=2)
    by_the_books(world)
    now = max(world.now, datetime.now(UTC) + timedelta(hours=1))
    books = open_books(engine, world)
    play(books, [*world.grants, *world.redemptions], now=now)
    events = fill_inbox(books, world, random.Random(seed), now)
    tally = drained_by_workers(database_url, books.domain, now)
    print(f"events={events} workers={WORKERS} tried_again={tally.again}")
    assert (tally.done, tally.failed) == (events, 0)
    books.pass_time(now=now)
    assert state_of(books) == expected(world.shop().settle(now))
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == []
    assert replay(engine, books.domain).changed == 0


def fill_inbox(books: Books, world: World, chance: random.Random, now: datetime) -> int:
    """Every delivery as a webhook, one to three times under other webhook ids, shuffled."""
    currency = next((f.currency for d in world.deliveries for f in d.facts if isinstance(f, Snapshot)), "USD")
    told = [d for d in world.deliveries for _ in range(chance.choice([1, 1, 2, 3]))]
    chance.shuffle(told)
    rows = []
    for number, delivery in enumerate(told):
        topic, body = render(delivery, currency=currency)
        assert set(parse(topic, body, shop_currency=currency)) == set(delivery.facts)
        row = {"domain": books.domain, "topic": topic, "id": f"webhook-{number}", "body": body}
        rows.append({**row, "received_at": delivery.received_at, "now": now})
    with books.engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, webhook_id, body, received_at, not_before)"
                " values (:domain, :topic, :id, :body, :received_at, :now)"
            ),
            rows,
        )
    return len(rows)


def drained_by_workers(database_url: str, domain: str, now: datetime) -> Tally:
    tally = Tally()
    start = threading.Barrier(WORKERS)
    with ThreadPoolExecutor(WORKERS) as pool:
        works = [
            pool.submit(work, database_url, domain, now, limit, tally, start)
            for limit in range(1, WORKERS + 1)
        ]
        for each in works:
            each.result()
    return tally


def work(
    database_url: str, domain: str, now: datetime, limit: int, tally: Tally, start: threading.Barrier
) -> None:
    """A worker: batches until nothing waits, with a connection of its own."""
    engine = make_engine(database_url)
    start.wait()
    try:
        while True:
            drained: Any = None
            try:
                drained = drain(engine, domain, limit=limit, now=now)
            except OperationalError:
                with tally.lock:
                    tally.again += 1
                continue
            with tally.lock:
                tally.done += drained.done
                tally.failed += drained.failed + drained.later
            if not drained.left:
                return
    finally:
        engine.dispose()
