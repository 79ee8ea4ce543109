"""Shops share those who deliver: none is kept from being heard by the backlog or the slow endpoints of another."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Sequence
from contextlib import ExitStack

import pytest
from redis import Redis
from sqlalchemy import Engine, text

from tasks.steps import deliveries, turns
from tasks.steps.deliveries import Delivered
from tasks.steps.turns import Turn
from tests.conftest import register
from tests.flows.listening import Answer, Listener, Telling, listening

BACKLOG = text(
    "with told as (insert into messages (shop_id, event, subject, sequence, at, data)"
    " select :shop, 'refunded', 'order:' || n, 1, now(), '{}' from generate_series(1, :rows) as n returning id)"
    " insert into deliveries (shop_id, endpoint_id, message_id, not_before)"
    " select :shop, :endpoint, id, now() - interval '10 minutes' from told"
)


class Shop(Telling):
    """With an endpoint that listens, and so many deliveries that are due."""

    def __init__(self, engine: Engine, listener: Listener, rows: int) -> None:
        super().__init__(engine, register(engine))
        values = {"shop": self.id, "endpoint": self.listen(listener), "rows": rows}
        with engine.begin() as connection:
            connection.execute(BACKLOG, values)
            connection.execute(text("analyze deliveries"))

    @property
    def pending(self) -> int:
        (row,) = self.rows("select count(*) as n from deliveries where shop_id = :shop and state = 'pending'")
        return int(row.n)


@pytest.fixture
def listeners() -> Iterator[Callable[[], Listener]]:
    with ExitStack() as stack:
        yield lambda: stack.enter_context(listening())


@pytest.fixture
def broker(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as broker:
        for key in broker.keys("unwind:delivering*"):
            broker.delete(key)
        yield broker


def run(broker: Redis, shops: Sequence[Shop], **limits: float) -> list[str]:
    """What the task does, for these shops; whom it served, in order."""
    served: list[str] = []
    by_domain = {shop.domain: shop for shop in shops}

    def due() -> list[str]:
        return [domain for domain in turns.due(shops[0].engine) if domain in by_domain]

    def deliver(domain: str, seconds: float) -> Delivered:
        served.append(domain)
        shop = by_domain[domain]
        return deliveries.deliver(shop.engine, shop.outgoing, shop.vault, domain, seconds)

    turn = Turn(broker, places=1, token="one")
    assert turn.take()
    turns.serve(turn, due, deliver, **limits)
    turn.end()
    return served


def test_a_long_backlog_of_one_shop_keeps_no_other_from_being_heard(
    engine: Engine, broker: Redis, listeners: Callable[[], Listener]
) -> None:
    """5,000 deliveries that waited longer, and one: in the first run the one is sent, after one moment of the many."""
    many = Shop(engine, listeners(), 5_000)
    one = Shop(engine, listeners(), 1)
    assert {many.domain, one.domain} <= set(turns.due(engine))
    served = run(broker, [many, one], budget_seconds=1.0, slice_seconds=0.1)
    assert one.domain in served[:2]
    assert one.pending == 0 and many.pending > 0


def test_slow_endpoints_of_one_shop_keep_no_other_from_being_heard(
    engine: Engine, broker: Redis, listeners: Callable[[], Listener]
) -> None:
    """With one place: after each round of slow calls the others have their turn, in a run and from run to run."""
    slow, quick = listeners(), listeners()
    slow.always = Answer(after_seconds=0.3)
    first, *others = Shop(engine, slow, 200), Shop(engine, quick, 20), Shop(engine, quick, 20)
    served: list[str] = []
    for _ in range(6):
        served += run(broker, [first, *others], budget_seconds=0.0, slice_seconds=0.0)
    assert [len(set(served[n : n + 3])) for n in range(4)] == [3, 3, 3, 3]
    run(broker, [first, *others], budget_seconds=2.0, slice_seconds=0.0)
    assert [shop.pending for shop in others] == [0, 0] and first.pending > 0


def test_a_run_goes_on_with_the_only_shop_until_nothing_is_due(
    engine: Engine, broker: Redis, listeners: Callable[[], Listener]
) -> None:
    shop = Shop(engine, listeners(), 100)
    assert set(run(broker, [shop], slice_seconds=0.0)) == {shop.domain}
    assert shop.pending == 0


def test_a_shop_of_which_nothing_can_be_sent_is_left_alone(broker: Redis) -> None:
    """What is due and cannot be taken (somebody holds its locks) is looked at once a run."""
    asked: list[str] = []

    def deliver(domain: str, seconds: float) -> Delivered:
        asked.append(domain)
        return Delivered()

    turn = Turn(broker, places=1, token="one")
    turns.serve(turn, lambda: ["a", "b"], deliver)
    assert sorted(asked) == ["a", "b"]


def test_deliveries_never_take_every_process_of_a_worker(broker: Redis) -> None:
    """So many places in all; one that ended, or whose time is up, is free again."""
    assert [turns.places(processes) for processes in (1, 2, 8)] == [1, 1, 7]
    first, second = (Turn(broker, places=1, token=str(n)) for n in range(2))
    assert [first.take(), second.take()] == [True, False]
    assert 0 < broker.ttl("unwind:delivering-place:0") <= turns.TURN_SECONDS
    second.end()
    assert second.take() is False
    first.end()
    assert second.take() is True


def test_a_shop_is_served_by_one_at_a_time_and_the_longest_unserved_first(broker: Redis) -> None:
    one, two = (Turn(broker, places=2, token=str(n)) for n in range(2))
    assert one.take() and two.take()
    assert one.begin(["a", "b"]) == "a"
    assert two.begin(["a", "b"]) == "b"
    assert two.begin(["a", "b"]) is None
    one.done("a")
    two.done("b")
    assert one.begin(["b", "a", "c"]) == "c"
    assert one.begin(["b", "a", "c"]) == "a"
    one.end()
    two.end()
    assert broker.keys("unwind:delivering:*") == []


def test_without_the_broker_shops_are_served_in_no_order() -> None:
    nowhere = Turn(Redis.from_url("redis://127.0.0.1:1/0"), places=1, token="x")
    assert nowhere.take() is True
    assert nowhere.begin(["a"]) == "a" and nowhere.begin([]) is None
    nowhere.end()


def test_only_a_shop_of_which_something_is_due_is_served(
    engine: Engine, listeners: Callable[[], Listener]
) -> None:
    """Not one whose deliveries wait, are on their way, or that left."""
    rows = {
        "later": "update deliveries set not_before = now() + interval '1 hour' where shop_id = :shop returning 1",
        "waits": "update deliveries set state = 'waiting' where shop_id = :shop returning 1",
        "leased": "update deliveries set leased_until = now() + interval '1 minute' where shop_id = :shop returning 1",
        "left": "update shops set state = 'removed' where id = :shop returning 1",
        "lease ended": "update deliveries set leased_until = now() where shop_id = :shop returning 1",
        "due": "select 1",
    }
    shops = {name: Shop(engine, listeners(), 3) for name in rows}
    for name, query in rows.items():
        shops[name].rows(query)
    due = set(turns.due(engine))
    assert {name for name, shop in shops.items() if shop.domain in due} == {"lease ended", "due"}


def test_what_the_ring_asks_each_second_costs_by_shops_and_not_by_rows(fresh_engine: Engine) -> None:
    """Sixty thousand due rows of three shops, and a thousand shops with none: some twenty pages are read."""
    many = (
        "insert into shops (domain) select 'many-' || n || '.myshopify.com' from generate_series(1, 1000) as n;"
        "insert into endpoints (shop_id, url, events, secret)"
        " select 1 + n, 'x', '[\"*\"]', 'x' from generate_series(1, 3) as n;"
        "insert into messages (shop_id, event, subject, sequence, at, data)"
        " select 2 + n % 3, 'refunded', 'order:' || n, 1, now(), '{}' from generate_series(1, 60000) as n;"
        "insert into deliveries (shop_id, endpoint_id, message_id)"
        " select m.shop_id, e.id, m.id from messages m join endpoints e on e.shop_id = m.shop_id;"
        "vacuum analyze deliveries"
    )
    with fresh_engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        for statement in many.split(";"):
            connection.execute(text(statement))
        plan = connection.execute(
            text("explain (analyze, buffers, format json) " + turns.DUE.text),
            {"now": connection.execute(text("select now()")).scalar_one()},
        ).scalar_one()[0]["Plan"]
    assert plan["Actual Rows"] == 3
    assert plan["Shared Hit Blocks"] + plan["Shared Read Blocks"] < 60
