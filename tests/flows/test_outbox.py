"""What is to be done outside: leased by one, taken again when its worker died, tried again when the world may change."""

from __future__ import annotations

import threading
from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, Row, text

from models.errors import (
    AccessDenied,
    InvalidSetting,
    NeedsMerchant,
    Never,
    OutcomeUnknown,
    ShopifyThrottled,
    ShopifyUnreachable,
)
from tasks.steps import outbox
from tasks.steps.load import open_world
from tasks.steps.outbox import Leased
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tests.conftest import RegisteredShop
from tests.rules.build import day, order, refund

SOON = timedelta(seconds=1)


def now() -> datetime:
    return datetime.now(UTC) + SOON  # what is put at the database's own now is due


@pytest.fixture
def row_id(engine: Engine, shop: RegisteredShop) -> int:
    with engine.begin() as connection:
        assert outbox.put(connection, shop.id, "read_order", "read_order:5:unknown", {"order_id": 5})
        assert not outbox.put(connection, shop.id, "read_order", "read_order:5:unknown", {"order_id": 5})
        found = connection.execute(text("select id from outbox where shop_id = :id"), {"id": shop.id})
        return int(found.scalar_one())


def row_of(engine: Engine, shop: RegisteredShop) -> Row[Any]:
    with engine.connect() as connection:
        return connection.execute(text("select * from outbox where shop_id = :id"), {"id": shop.id}).one()


def done(engine: Engine) -> Callable[[Leased], str]:
    def do(leased: Leased) -> str:
        with engine.begin() as connection:
            return outbox.finish(connection, leased, outcome="read")

    return do


def raising(error: Exception) -> Callable[[Leased], str]:
    def do(leased: Leased) -> str:
        raise error

    return do


def test_a_row_is_done_once(engine: Engine, shop: RegisteredShop, row_id: int) -> None:
    assert outbox.work(engine, shop.domain, row_id, done(engine), now=now()) == "read"
    assert row_of(engine, shop).state == "done"
    assert outbox.work(engine, shop.domain, row_id, raising(AssertionError()), now=now()).startswith(
        "nothing to do"
    )


def test_of_two_workers_one_gets_the_row(engine: Engine, shop: RegisteredShop, row_id: int) -> None:
    leases: list[Leased | None] = []
    threads = [
        threading.Thread(target=lambda: leases.append(outbox.lease(engine, shop.domain, row_id, now())))
        for _ in range(4)
    ]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert sum(lease is not None for lease in leases) == 1


def test_a_row_whose_worker_died_is_taken_again_and_the_dead_cannot_end_it(
    engine: Engine, shop: RegisteredShop, row_id: int
) -> None:
    """The lease ends; a worker that was only slow finds its try is not the last one, and changes nothing."""
    first = outbox.lease(engine, shop.domain, row_id, now())
    assert first is not None
    assert outbox.lease(engine, shop.domain, row_id, now()) is None
    later = now() + timedelta(seconds=outbox.LEASE_SECONDS)
    second = outbox.lease(engine, shop.domain, row_id, later)
    assert second is not None and second.attempts == 2
    with engine.begin() as connection:
        outbox.finish(connection, first, outcome="too late")
    assert row_of(engine, shop).state == "leased"
    with engine.begin() as connection:
        outbox.finish(connection, second, outcome="read")
    assert (row_of(engine, shop).state, row_of(engine, shop).outcome) == ("done", "read")


@pytest.mark.parametrize(
    ("error", "seconds", "counted"),
    [
        pytest.param(ShopifyUnreachable("no answer"), 2, 1, id="unreachable: twice as late each time"),
        pytest.param(OutcomeUnknown("no answer"), 2, 1, id="an outcome that is not known"),
        pytest.param(ShopifyThrottled(61.0), 61, 1, id="throttled: when Shopify said"),
        pytest.param(
            NeedsMerchant("x.myshopify.com", "not_connected"),
            outbox.MERCHANT_SECONDS,
            0,
            id="the merchant is needed",
        ),
        pytest.param(
            InvalidSetting("SHOPIFY_API_SECRET", "is not known to Shopify"),
            outbox.OPERATOR_SECONDS,
            0,
            id="a setting is wrong",
        ),
        pytest.param(RuntimeError("a fault of ours"), 2, 1, id="a fault of ours"),
    ],
)
def test_what_may_go_better_later_is_tried_later(
    engine: Engine, shop: RegisteredShop, row_id: int, error: Exception, seconds: int, counted: int
) -> None:
    at = now()
    said = outbox.work(engine, shop.domain, row_id, raising(error), now=at)
    row = row_of(engine, shop)
    assert said == f"later: {row.error_code}"
    assert (row.state, row.not_before, row.attempts) == ("pending", at + timedelta(seconds=seconds), counted)
    assert "a fault of ours" not in row.error
    with engine.begin() as connection:
        outbox.hurry(connection, shop.id)
    assert outbox.work(engine, shop.domain, row_id, done(engine), now=now()) == "read"


def test_what_can_never_be_done_is_failed_with_its_reason(
    engine: Engine, shop: RegisteredShop, row_id: int
) -> None:
    refused = raising(AccessDenied("discounts may not be written"))
    assert outbox.work(engine, shop.domain, row_id, refused, now=now()) == "failed: access_denied"
    row = row_of(engine, shop)
    assert (row.state, row.error_code, row.error) == (
        "failed",
        "access_denied",
        "discounts may not be written",
    )


def test_what_follows_from_giving_up_is_booked_with_it(
    engine: Engine, shop: RegisteredShop, row_id: int
) -> None:
    """All or nothing: a give-up that cannot be booked leaves the row leased, to be taken again."""

    def broken(connection: Connection, leased: Leased, error: Never) -> None:
        raise RuntimeError(error.code)

    def told(connection: Connection, leased: Leased, error: Never) -> None:
        statement = text("update outbox set outcome = :code where shop_id = :shop and id = :id")
        connection.execute(statement, {"code": error.code, "shop": leased.shop.id, "id": leased.id})

    refused = raising(AccessDenied("discounts may not be written"))
    with pytest.raises(RuntimeError, match="access_denied"):
        outbox.work(engine, shop.domain, row_id, refused, give_up=broken, now=now())
    assert row_of(engine, shop).state == "leased"
    later = now() + timedelta(seconds=outbox.LEASE_SECONDS)
    outbox.work(engine, shop.domain, row_id, refused, give_up=told, now=later)
    assert row_of(engine, shop).state == "failed"


def test_what_is_tried_too_often_is_failed(engine: Engine, shop: RegisteredShop, row_id: int) -> None:
    at = now()
    for _ in range(outbox.ATTEMPTS_MAX):
        at += timedelta(seconds=outbox.BACKOFF_SECONDS_MAX)
        said = outbox.work(engine, shop.domain, row_id, raising(ShopifyUnreachable("no answer")), now=at)
    assert said == "failed: attempts_exhausted"
    assert row_of(engine, shop).error_code == "attempts_exhausted"


def test_what_kills_whoever_tries_it_is_failed_in_the_end(
    engine: Engine, shop: RegisteredShop, row_id: int
) -> None:
    """Nobody comes back to say so: the tries are counted before they are made."""
    with engine.begin() as connection:
        statement = text("update outbox set attempts = :tries where id = :id")
        connection.execute(statement, {"tries": outbox.ATTEMPTS_MAX + 1, "id": row_id})
    said = outbox.work(engine, shop.domain, row_id, raising(AssertionError("tried")), now=now())
    assert said == "failed: attempts_exhausted"


def test_a_statement_that_the_database_refuses_is_no_trouble_of_the_database(
    engine: Engine, shop: RegisteredShop, row_id: int
) -> None:
    """It would be refused for ever, so its tries are counted."""

    def refused(leased: Leased) -> str:
        with engine.begin() as connection:
            connection.execute(text("insert into shops (domain, state) values ('x', 'nowhere')"))
        return "never"

    assert outbox.work(engine, shop.domain, row_id, refused, now=now()) == "later: internal"


def test_a_task_is_sent_for_a_due_row_and_again_when_it_was_lost(
    engine: Engine, shop: RegisteredShop, row_id: int
) -> None:
    def rung(at: datetime) -> list[Any]:
        return [each for each in outbox.due(engine, now=at) if each.arguments["shop"] == shop.domain]

    at = now()
    arguments = {"shop": shop.domain, "outbox_id": row_id, "order_id": 5}
    assert rung(at) == [outbox.Ring(task="orders.read", arguments=arguments)]
    assert rung(at) == []
    assert len(rung(at + timedelta(seconds=outbox.RING_AGAIN_SECONDS))) == 1
    assert outbox.lease(engine, shop.domain, row_id, at) is not None
    assert rung(at + timedelta(seconds=60)) == []
    assert len(rung(at + timedelta(seconds=outbox.LEASE_SECONDS))) == 1


def test_a_cancelled_row_is_not_done(engine: Engine, shop: RegisteredShop, row_id: int) -> None:
    with engine.begin() as connection:
        assert outbox.cancel_all(connection, shop.id) == 1
    assert outbox.lease(engine, shop.domain, row_id, now()) is None


@pytest.mark.parametrize("connected", [True, False], ids=["connected", "not connected"])
def test_a_refund_of_an_order_nobody_told_asks_for_the_order_once(
    engine: Engine, shop: RegisteredShop, connected: bool
) -> None:
    """R28: where the shop gave us access; otherwise the order is awaited."""
    with engine.begin() as connection:
        if connected:
            statement = "insert into installations (shop_id, access_token) values (:id, '\\x00')"
            connection.execute(text(statement), {"id": shop.id})
    for _ in range(2):
        with engine.begin() as connection:
            told = [
                Told(fact=fact, received_at=day(2), cause="inbox:1") for fact in refund(51, 500, at=day(2))
            ]
            settle(open_world(connection, by_id(connection, shop.id), day(2)), told)
    with engine.connect() as connection:
        found = connection.execute(text("select key from outbox where shop_id = :id"), {"id": shop.id})
        keys = list(found.scalars())
    assert keys == ([f"read_order:{order(1000).order_id}:unknown"] if connected else [])
