"""What is sent while things break: made-up shops in the past, their webhooks out of order, and a quarter of them again."""

from __future__ import annotations

import random
import uuid
from collections.abc import Sequence
from dataclasses import dataclass, fields, is_dataclass, replace
from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine

from models.rules.facts import Refund, Snapshot
from tests.books import Books, open_books, play
from tests.oracle.render import render
from tests.oracle.worlds import Delivery, Seeded, World, make_world

TWELVE_YEARS = timedelta(days=4383)  # a made-up world may last until 2034; real workers only know today
AGAIN_PERCENT = 25  # of the deliveries are sent twice: every second one of them under a new webhook id
FARTHEST = 80  # places that a delivery may change its place by, on its way to us


@dataclass(frozen=True)
class Sending:
    """One delivery on its way: the bytes and the id that it goes under."""

    domain: str
    topic: str
    webhook_id: str
    body: bytes
    order_id: int

    @property
    def key(self) -> tuple[str, str]:
        return self.domain, self.webhook_id


@dataclass(frozen=True)
class Tale:
    """One shop: its world, its books (grants and spending are in them), and what will be sent of it."""

    books: Books
    deliveries: list[Delivery]
    sendings: list[Sending]

    @property
    def refund_ids(self) -> set[int]:
        """Of every refund that a delivery told of, alone or inside an order."""
        return {f.id for d in self.deliveries for f in d.facts if isinstance(f, Refund)}


def make_tale(engine: Engine, seed: int, *, orders: int, customers: int, now: datetime) -> Tale:
    """The shop of this seed: the same seed, the same facts in the same order (its domain is new each time)."""
    world: World = moved(make_world(Seeded(seed), orders=orders, customers=customers), -TWELVE_YEARS)
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False  # nothing here tells the product of it
    books = open_books(engine, world)
    play(books, [*world.grants, *world.redemptions], now=now)
    sendings = sent(world.deliveries, books.domain, currency_of(world), random.Random(seed))
    return Tale(books, world.deliveries, sendings)


def sent(deliveries: Sequence[Delivery], domain: str, currency: str, dice: random.Random) -> list[Sending]:
    """Everything at least once, some twice, each a little or far from its place."""
    placed: list[tuple[float, Sending]] = []
    for place, delivery in enumerate(deliveries):
        topic, body = render(delivery, currency=currency)
        first = Sending(domain, topic, new_id(dice), body, delivery.facts[0].order_id)
        placed.append((place + dice.random() * FARTHEST, first))
        if dice.randrange(100) < AGAIN_PERCENT:
            webhook_id = new_id(dice) if dice.random() < 0.5 else first.webhook_id
            placed.append((place + dice.random() * FARTHEST, replace(first, webhook_id=webhook_id)))
    placed.sort(key=lambda each: each[0])
    return [sending for _, sending in placed]


def new_id(dice: random.Random) -> str:
    return str(uuid.UUID(int=dice.getrandbits(128), version=4))


def mixed(tales: Sequence[Tale], dice: random.Random) -> list[Sending]:
    """All shops' sendings, shuffled into each other; within a shop in their order."""
    waiting = [list(reversed(tale.sendings)) for tale in tales]
    turns = [number for number, sendings in enumerate(waiting) for _ in sendings]
    dice.shuffle(turns)
    return [waiting[number].pop() for number in turns]


def first_of_orders(sendings: Sequence[Sending]) -> tuple[list[Sending], list[Sending]]:
    """The first sending of each order, and all others."""
    firsts: dict[tuple[str, int], Sending] = {}
    others = [each for each in sendings if firsts.setdefault((each.domain, each.order_id), each) is not each]
    return list(firsts.values()), others


def currency_of(world: World) -> str:
    return next(f.currency for d in world.deliveries for f in d.facts if isinstance(f, Snapshot))


def moved(value: Any, by: timedelta) -> Any:
    """The same value with every moment in it moved."""
    if isinstance(value, datetime):
        return value + by
    if is_dataclass(value) and not isinstance(value, type):
        return type(value)(**{f.name: moved(getattr(value, f.name), by) for f in fields(value)})
    if isinstance(value, list | tuple):
        return type(value)(moved(each, by) for each in value)
    if isinstance(value, dict):
        return {key: moved(each, by) for key, each in value.items()}
    return value
