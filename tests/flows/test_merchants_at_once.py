"""Sixteen at once on one redemption and one order, each on a connection of its own: cancelling, refunding, reversing, taking
back, previewing, and webhooks between. The books end as the oracle says of the facts and of what was granted."""

from __future__ import annotations

import random
import threading
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from models.errors import Refused
from models.session import make_engine
from tasks.steps import merchants, reversals, shops
from tasks.steps.codec import order_facts, refund_fact
from tasks.steps.preview import preview
from tasks.steps.verify import verify
from tests.books import Books, expected, open_books, play, state_of
from tests.flows.by_hand import took_in
from tests.flows.stories import given, spent
from tests.oracle.claims import OURS, Cancelled, Reversal, Seen
from tests.oracle.merchants import Hand, hand_of
from tests.oracle.worlds import Delivery, World
from tests.rules.build import CUSTOMER, ORDER, OTHER, line, order, refund, returned, settings

CLIENTS = 16
CALLS = 5  # of each client, one after the other
TRIES = 50
REFUSALS = {
    "already_refunded",
    "already_cancelled",
    "already_undone",
    "amount_above_left",
    "not_cancelled",
    "wrong_amount",
    "wrong_quantity",
}
LINES = (line(1, 6_000, units=6, codes={"save": 600}), line(2, 4_000, units=2, codes={"save": 400}))


@dataclass
class Tally:
    """What the clients were answered. `again`: the database was busy, and the client asked again, as it is told to."""

    made: dict[str, list[int]] = field(default_factory=dict)
    undone: list[str] = field(default_factory=list)
    refused: Counter[str] = field(default_factory=Counter)
    again: int = 0
    lock: threading.Lock = field(default_factory=threading.Lock)


class Client:
    """One merchant's program: random calls, each tried again while the database is busy."""

    def __init__(self, url: str, books: Books, tally: Tally, seed: int) -> None:
        self.books = replace(books, engine=make_engine(url))
        self.tally, self.chance = tally, random.Random(seed)

    def run(self, start: threading.Barrier, told: Sequence[Delivery]) -> None:
        calls = [self.refund, self.refund, self.reverse, self.reverse, self.cancel, self.undo, self.undo]
        calls += [self.preview, lambda connection: self.tell(connection, told)]
        start.wait()
        try:
            for _ in range(CALLS):
                self.insist(self.chance.choice(calls))
        finally:
            self.books.engine.dispose()

    def insist(self, call: Callable[[Connection], tuple[str, int] | str | None]) -> None:
        for _ in range(TRIES):
            try:
                with self.books.engine.begin() as connection:
                    made = call(connection)
            except OperationalError:
                with self.tally.lock:
                    self.tally.again += 1
                continue
            except Refused as refused:
                made = None
                with self.tally.lock:
                    self.tally.refused[refused.code] += 1
            self.keep(made)
            return
        raise AssertionError("the database never had time")

    def keep(self, made: tuple[str, int] | str | None) -> None:
        with self.tally.lock:
            if isinstance(made, tuple):
                self.tally.made.setdefault(made[0], []).append(made[1])
            elif made is not None:
                self.tally.undone.append(made)

    def refund(self, connection: Connection) -> tuple[str, int]:
        wish: dict[str, Any] = self.chance.choice(
            [
                {"amount": Decimal(self.chance.choice(["1.11", "10", "33.33"])), "lines": None},
                {"amount": None, "lines": {self.chance.choice([1, 2]): 1}},
                {"amount": None, "lines": None},
            ]
        )
        done = merchants.refund_order(connection, self.books.shop_id, ORDER, reason=None, by="cli", **wish)
        return "refund", int(done["id"])

    def reverse(self, connection: Connection) -> tuple[str, int]:
        done = reversals.reverse(
            connection,
            shops.by_id(connection, self.books.shop_id),
            1,
            amount=self.chance.choice([None, 1, 40, 117]),
            kind="reversed",
            code="untracked",
            by="cli",
        )
        assert done.credited + done.expired == done.amount
        return "reversal", done.id

    def cancel(self, connection: Connection) -> tuple[str, int]:
        done = merchants.cancel_order(connection, self.books.shop_id, ORDER, reason=None, by="cli")
        return "cancellation", int(done["id"])

    def undo(self, connection: Connection) -> str | None:
        """Of what is there to be seen, whoever else takes it back just now."""
        with self.tally.lock:
            seen = [(kind, id) for kind, ids in self.tally.made.items() for id in ids]
        kind, id = self.chance.choice(seen or [("cancellation", 0)])
        usual: dict[str, Any] = {"reason": None, "by": "cli"}
        if kind == "reversal":
            reversals.undo(connection, shops.by_id(connection, self.books.shop_id), id, **usual)
            return f"reversal:{id}"
        if kind == "refund":
            merchants.undo_refund(connection, self.books.shop_id, id, **usual)
            return f"refund:{id}"
        done = merchants.undo_ending(connection, self.books.shop_id, ORDER, **usual)
        return str(done["undone"][0])

    def preview(self, connection: Connection) -> None:
        preview(connection, self.books.shop_id, ORDER, amount=Decimal("0.01"))

    def tell(self, connection: Connection, told: Sequence[Delivery]) -> None:
        del connection
        self.books.tell(self.chance.sample(list(told), 2), now=datetime.now(UTC))


@pytest.fixture
def world() -> World:
    """An order bought with a code of two members' points, some of which have expired; Shopify refunds two units."""
    start = datetime.now(UTC) - timedelta(days=9)

    def day(number: float) -> datetime:
        return start + timedelta(days=number)

    placed = Delivery(day(1), "orders/paid", (order(10_000, *LINES, at=day(1)),))
    back = [
        Delivery(day(n), "refunds/create", refund(n, 1_000, returned(1, 1_000), at=day(n))) for n in (3, 4)
    ]
    world = World(program=[(None, settings(points=5, waiting_days=2))], deliveries=[placed, *back])
    world.grants = [
        given(1, 150, at=day(0)),
        given(2, 150, at=day(0), to=OTHER, expires_at=day(5)),
        given(3, 150, at=day(0), to=OTHER),
    ]
    world.redemptions = [spent(1, {CUSTOMER: 100, OTHER: 250}, at=day(0.5))]
    world.now = datetime.now(UTC) + timedelta(hours=1)
    return world


@pytest.mark.parametrize("seed", range(4))
def test_sixteen_at_once_and_every_granted_act_is_accounted_for(
    engine: Engine, database_url: str, world: World, seed: int
) -> None:
    """R3, R14, R19, R20, R31, R36, R38, R40: caps hold, nobody is left without an answer, the books are as the oracle says."""
    books = open_books(engine, world)
    play(books, [*world.grants, *world.redemptions, world.deliveries[0]], now=datetime.now(UTC))
    tally = Tally()
    at_once(database_url, books, tally, world.deliveries[1:], seed)
    books.tell(world.deliveries, now=world.now)
    books.pass_time(now=world.now)
    print(
        f"done={ {k: len(v) for k, v in tally.made.items()} } undone={len(tally.undone)} again={tally.again}"
    )
    assert set(tally.refused) <= REFUSALS
    hand = as_recorded(books)
    assert_accounted(tally, hand)
    assert state_of(books) == expected(hand.settle(world.now))
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == []


def at_once(url: str, books: Books, tally: Tally, told: Sequence[Delivery], seed: int) -> None:
    start = threading.Barrier(CLIENTS)
    clients = [Client(url, books, tally, 100 * seed + n) for n in range(CLIENTS)]
    with ThreadPoolExecutor(CLIENTS) as pool:
        for each in [pool.submit(client.run, start, told) for client in clients]:
            each.result(timeout=120)


def as_recorded(books: Books) -> Hand:
    """The facts of the story, and the acts that the record knows, for the oracle to judge."""
    hand = hand_of(books.world)
    for step in [*books.world.grants, *books.world.redemptions, *books.world.deliveries]:
        took_in(hand, step)
    with books.engine.begin() as connection:
        document = connection.execute(
            text("select facts from orders where shop_id = :shop and order_id = :id"),
            {"shop": books.shop_id, "id": ORDER},
        ).scalar_one()
        facts = order_facts(ORDER, document)
        hand.undone = set(facts.undone)
        hand.cancellations = [Cancelled(id, ORDER, at) for id, at in facts.cancellations.items()]
        hand.reversals = [
            Reversal(row.id, row.redemption_id, row.at, row.amount, undone=row.undone_at is not None)
            for row in rows(connection, "reversals", books.shop_id)
        ]
        for row in rows(connection, "refunds", books.shop_id):
            if row.refund_id >= OURS:
                record = refund_fact(row.refund_id, ORDER, row.facts)
                hand.seen += [Seen(record.created_at, record), Seen(record.created_at, money_of(record))]
    return hand


def rows(connection: Connection, table: str, shop_id: int) -> Iterator[Any]:
    yield from connection.execute(text(f"select * from {table} where shop_id = :shop"), {"shop": shop_id})


def money_of(record: Any) -> Any:
    """All of what the record names went back (D26)."""
    worth = sum(each.subtotal_minor + each.tax_minor for each in record.lines)
    value = worth - sum(each.amount_minor for each in record.adjustments)
    money = refund(1, value, at=record.created_at)[1]
    return replace(money, id=record.id, refund_id=record.id)  # type: ignore[type-var]


def assert_accounted(tally: Tally, hand: Hand) -> None:
    """What was granted is on the record, each once, and nothing else is."""
    ours = {seen.fact.id for seen in hand.seen if getattr(seen.fact, "id", 0) >= OURS}  # type: ignore[union-attr]
    assert ours == set(tally.made.get("refund", ()))
    assert {each.id for each in hand.reversals} == set(tally.made.get("reversal", ()))
    assert {each.id for each in hand.cancellations} == set(tally.made.get("cancellation", ()))
    assert sum(len(ids) for ids in tally.made.values()) == len(ours) + len(hand.reversals) + len(
        hand.cancellations
    )
    taken_back = {f"reversal:{each.id}" for each in hand.reversals if each.undone} | hand.undone
    assert sorted(tally.undone) == sorted(taken_back)
