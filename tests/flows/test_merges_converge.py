"""Merged customers were always one (R33): a made-up world with merges in any place, told in any order and twice, ends
as the world where the survivor's id was used from the start, by the oracle's word. `UNWIND_EXAMPLES=500` looks at more."""

from __future__ import annotations

import json
import os
import random
import threading
from collections.abc import Iterable, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, replace
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text
from sqlalchemy.exc import OperationalError

from models.rules.facts import Fact, Snapshot
from models.session import make_engine
from tasks.steps import shops
from tasks.steps.drain import drain
from tasks.steps.merges import merge
from tasks.steps.replay import replay
from tasks.steps.survivors import survivors
from tasks.steps.verify import verify
from tests.books import Books, expected, open_books, play, state_of, steps_of
from tests.oracle.render import render
from tests.oracle.store import Grant
from tests.oracle.worlds import Seeded, World, make_world, worlds

EXAMPLES = int(os.environ.get("UNWIND_EXAMPLES", "20"))
PEOPLE = 4
looking = settings(
    max_examples=EXAMPLES,
    deadline=None,
    derandomize="UNWIND_EXAMPLES" not in os.environ,
    suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large],
    print_blob=True,
)


@dataclass(frozen=True)
class Merge:
    deleted: int
    kept: int


# -- the worlds --------------------------------------------------------------------------------------


def merges_of(people: Sequence[int], chance: random.Random) -> list[Merge]:
    """Some of them merged, each once, in chains and stars, never in a ring."""
    order = list(people)
    chance.shuffle(order)
    number = chance.randint(1, len(order) - 1)
    return [Merge(order[n], order[chance.randrange(n)]) for n in range(1, number + 1)]


def ends_of(merges: Iterable[Merge]) -> dict[int, int]:
    """Merged customer -> the one he is in the end."""
    into = {each.deleted: each.kept for each in merges}
    ends = {}
    for customer in into:
        end = customer
        while end in into:
            end = into[end]
        ends[customer] = end
    return ends


def relabelled(world: World, ends: dict[int, int]) -> World:
    """The world where the survivor's id was used from the start."""
    return replace(
        world,
        deliveries=[replace(d, facts=tuple(_fact(f, ends) for f in d.facts)) for d in world.deliveries],
        grants=[replace(g, customer_id=ends.get(g.customer_id, g.customer_id)) for g in world.grants],
        redemptions=[{**r, "members": as_one(r["members"], ends)} for r in world.redemptions],
        pins={ends.get(customer, customer): level for customer, level in world.pins.items()},
    )


def _fact(fact: Fact, ends: dict[int, int]) -> Fact:
    if not isinstance(fact, Snapshot) or fact.customer_id is None:
        return fact
    return replace(fact, customer_id=ends.get(fact.customer_id, fact.customer_id))


def as_one(members: dict[int, int], ends: dict[int, int]) -> dict[int, int]:
    found: dict[int, int] = {}
    for member, amount in members.items():
        end = ends.get(member, member)
        found[end] = found.get(end, 0) + amount
    return found


def people_of(world: World) -> list[int]:
    named = {f.customer_id for d in world.deliveries for f in d.facts if isinstance(f, Snapshot)} - {None}
    granted = {g.customer_id for g in world.grants} | {m for r in world.redemptions for m in r["members"]}
    return sorted({*named, *granted, 9_000_000_001, 9_000_000_002})  # type: ignore[arg-type]


# -- playing them ------------------------------------------------------------------------------------


def tell(books: Books, step: Any, now: datetime) -> None:
    """One step; grants and redemptions name customers as callers do, so those are looked up first."""
    if isinstance(step, Merge):
        with books.engine.begin() as connection:
            shop = shops.by_id(connection, books.shop_id)
            merge(connection, shop, kept=step.kept, deleted=step.deleted, cause="test", now=now)
        return
    with books.engine.begin() as connection:
        known = survivors(connection, books.shop_id, people_of(books.world))
    if isinstance(step, Grant):
        step = replace(step, customer_id=known.get(step.customer_id, step.customer_id))
    elif isinstance(step, dict):
        step = {**step, "members": as_one(step["members"], known)}
    play(books, [step], now=now)


def arrival(world: World, merges: Sequence[Merge], chance: random.Random) -> list[Any]:
    steps: list[Any] = [*steps_of(world), *merges]
    steps += [step for step in [*world.deliveries, *merges] if chance.randrange(4) == 0]
    chance.shuffle(steps)
    return steps


def ends_as_one(engine: Engine, world: World, chance: random.Random) -> None:
    merges = merges_of(people_of(world), chance)
    one = relabelled(world, ends_of(merges))
    books = open_books(engine, world)
    for step in arrival(world, merges, chance):
        tell(books, step, world.now)
    books.world = one  # the pins, by the names that people have in the end
    books.pass_time(now=world.now)
    compare(books, one, ends_of(merges), world.now)
    assert books.tell(world.deliveries, now=world.now) == 0


def compare(books: Books, one: World, ends: dict[int, int], now: datetime) -> None:
    """The oracle's state of the world with one id, and nothing in the wallets of those who were merged."""
    wanted, found = expected(one.shop().settle(now)), state_of(books)
    left_over = {id: found["customers"].pop(id) for id in ends if id in found["customers"]}
    assert {id: (row[:3], row[4:]) for id, row in left_over.items()} == dict.fromkeys(
        left_over, ((0, 0, 0), (0, 0, "[]"))
    )
    assert found == {**wanted, "customers": {**nobody(found, wanted), **wanted["customers"]}}
    with books.engine.begin() as connection:
        assert verify(connection, books.shop_id) == []


def nobody(found: dict[str, Any], wanted: dict[str, Any]) -> dict[int, Any]:
    """Survivors of whom no fact is known have an empty wallet, or none."""
    return {
        id: row
        for id, row in found["customers"].items()
        if id not in wanted["customers"] and (row[0], row[4:]) == (0, (0, 0, "[]"))
    }


@looking
@given(world=worlds(orders=3, customers=PEOPLE), chance=st.randoms(use_true_random=False))
def test_a_made_up_world_with_merges_ends_as_if_the_survivors_had_always_been_one(
    engine: Engine, world: World, chance: random.Random
) -> None:
    """R0, R33: merges before, between and after everything else, twice, in chains; verified, and nothing to post again."""
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False
    ends_as_one(engine, world, chance)


@pytest.mark.parametrize("seed", range(200, 200 + max(6, EXAMPLES // 5)))
def test_a_busy_world_with_merges_ends_as_if_the_survivors_had_always_been_one(
    engine: Engine, seed: int
) -> None:
    """R0, R20, R24, R33: larger worlds than a search for the smallest failure makes."""
    world = make_world(Seeded(seed), orders=5, customers=PEOPLE)
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False
    ends_as_one(engine, world, random.Random(seed))


# -- several workers at once -------------------------------------------------------------------------


@pytest.mark.parametrize("seed", range(300, 303))
def test_merges_among_webhooks_of_four_workers_end_as_one(
    engine: Engine, database_url: str, seed: int
) -> None:
    """R0, R33, R40: merges come through the inbox, told twice, while others settle orders of the very same people."""
    chance = random.Random(seed)
    world = make_world(Seeded(seed), orders=12, customers=PEOPLE)
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False
    now = max(world.now, datetime.now(UTC) + timedelta(hours=1))
    merges = merges_of(people_of(world), chance)
    books = open_books(engine, world)
    play(books, [*world.grants, *world.redemptions], now=now)
    events = fill_inbox(books, world, merges, chance, now)
    assert drained_by_workers(database_url, books.domain, now) == events
    one = relabelled(world, ends_of(merges))
    books.world = one
    books.pass_time(now=now)
    compare(books, one, ends_of(merges), now)
    assert replay(engine, books.domain).changed == 0


def fill_inbox(
    books: Books, world: World, merges: Sequence[Merge], chance: random.Random, now: datetime
) -> int:
    currency = next((f.currency for d in world.deliveries for f in d.facts if isinstance(f, Snapshot)), "USD")
    told = [(*render(d, currency=currency), d.received_at) for d in world.deliveries]
    told += [("customers/merge", body_of(each), now) for each in merges for _ in range(2)]
    chance.shuffle(told)
    rows = [
        {"domain": books.domain, "topic": topic, "id": f"webhook-{n}", "body": body, "at": at, "now": now}
        for n, (topic, body, at) in enumerate(told)
    ]
    with books.engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, webhook_id, body, received_at, not_before)"
                " values (:domain, :topic, :id, :body, :at, :now)"
            ),
            rows,
        )
    return len(rows)


def body_of(merge: Merge) -> bytes:
    return json.dumps(
        {
            "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{merge.kept}",
            "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{merge.deleted}",
            "admin_graphql_api_job_id": None,
            "status": "completed",
            "errors": [],
        }
    ).encode()


def drained_by_workers(database_url: str, domain: str, now: datetime) -> int:
    """How many events were done, by four workers with small batches."""
    start = threading.Barrier(4)
    with ThreadPoolExecutor(4) as pool:
        return sum(pool.map(lambda n: work(database_url, domain, now, n, start), range(1, 5)))


def work(database_url: str, domain: str, now: datetime, limit: int, start: threading.Barrier) -> int:
    engine, done = make_engine(database_url), 0
    start.wait()
    try:
        while True:
            try:
                drained = drain(engine, domain, limit=limit, now=now)
            except (
                OperationalError
            ):  # two merges at once, or a merge among orders: the database chose one to go on
                continue
            done += drained.done
            assert (drained.failed, drained.later) == (0, 0), drained.outcomes
            if not drained.left:
                return done
    finally:
        engine.dispose()
