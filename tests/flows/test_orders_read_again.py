"""An outbox row asks for an order; it is read at Shopify, kept in the inbox, and booked like a webhook."""

from __future__ import annotations

from datetime import UTC, datetime

import pytest
from sqlalchemy import text

from models.errors import ShopifyUnreachable
from tasks.steps import outbox
from tasks.steps.outbox import work
from tasks.steps.reads import Body, keep, read_order
from tasks.steps.replay import replay
from tests.flows.conftest import Door
from tests.flows.reconciling import Town, broken, found_town


@pytest.fixture
def town(door: Door) -> Town:
    return found_town(door)


def asked(town: Town, order_id: int, key: str = "unknown") -> int:
    """The outbox row that asks for the order, put there unless settling did."""
    full = f"read_order:{order_id}:{key}"
    with town.door.engine.begin() as connection:
        outbox.put(connection, town.door.shop.id, "read_order", full, {"order_id": order_id, "why": "a test"})
    (row,) = town.rows("select id from outbox where shop_id = :shop and key = :key", key=full)
    return int(row["id"])


def done(town: Town, id: int) -> str:
    engine, domain = town.door.engine, town.door.shop.domain
    return work(engine, domain, id, lambda leased: read_order(engine, town.gateway, leased))


def row(town: Town, id: int) -> dict:
    (found,) = town.rows("select * from outbox where shop_id = :shop and id = :id", id=id)
    return found


def test_a_refund_of_an_unknown_order_has_its_order_read_and_is_settled_by_it(town: Town) -> None:
    customer = town.customer()
    order = town.sell(customer)
    town.store.refund(order, amount_minor=2000)
    town.deliver(lost=lambda delivery: delivery.topic != "refunds/create")
    id = asked(town, order.id)
    assert done(town, id) == f"order {order.id}: read"
    town.door.work()
    assert town.balance(customer) == 80
    assert town.door.order(order.id)["status"] == "partially_refunded"
    assert row(town, id)["state"] == "done"
    (read,) = town.rows(
        "select topic, state, order_id from inbox where shop_domain = :domain and topic = 'orders/read'",
        domain=town.door.shop.domain,
    )
    assert (read["state"], read["order_id"]) == ("done", order.id)


def test_an_order_that_shopify_does_not_give_ends_in_the_open(town: Town) -> None:
    order = town.sell(town.customer())
    town.store.refund(order, amount_minor=2000)
    town.deliver(lost=lambda delivery: delivery.topic != "refunds/create")
    town.store.orders.clear()
    id = asked(town, order.id)
    assert "Shopify does not give it" in done(town, id)
    assert row(town, id)["state"] == "done" and "60" not in (row(town, id)["error"] or "")
    assert done(town, id).startswith("nothing to do")


def test_what_a_webhook_told_meanwhile_is_not_read(town: Town) -> None:
    order = town.sell(town.customer())
    town.deliver()
    id = asked(town, order.id)
    assert done(town, id) == f"order {order.id}: no longer wanted"
    assert row(town, id)["state"] == "cancelled" and town.gateway.calls == []


def test_who_asks_under_a_key_of_his_own_is_not_asked_why(town: Town) -> None:
    order = town.sell(town.customer())
    town.deliver()
    with town.door.engine.begin() as connection:
        outbox.put(connection, town.door.shop.id, "read_order", "by hand", {"order_id": order.id})
    (found,) = town.rows("select id from outbox where shop_id = :shop and key = 'by hand'")
    assert done(town, found["id"]) == f"order {order.id}: read"


def test_a_shopify_that_is_away_is_asked_later(town: Town) -> None:
    order = town.sell(town.customer())
    town.store.refund(order, amount_minor=2000)
    town.deliver(lost=lambda delivery: delivery.topic != "refunds/create")
    id = asked(town, order.id)
    assert done(broken(town, ShopifyUnreachable("away")), id) == "later: shopify_unreachable"
    assert row(town, id)["state"] == "pending"


def test_the_same_reading_is_kept_once(town: Town) -> None:
    body = Body(1, b'{"order": {}}')
    with town.door.engine.begin() as connection:
        assert len(keep(connection, town.shop, [body, body], datetime.now(UTC))) == 1
        assert keep(connection, town.shop, [body], datetime.now(UTC)) == []
        connection.execute(text("delete from inbox where shop_domain = :d"), {"d": town.door.shop.domain})


def test_a_reading_is_replayed_like_every_fact(town: Town) -> None:
    town.sell(town.customer())
    town.lose()
    town.reconcile()
    replayed = replay(town.door.engine, town.door.shop.domain)
    assert (replayed.events, replayed.changed) == (1, 0)
