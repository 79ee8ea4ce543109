"""The tasks that compare and read orders, as a worker runs them: settings from the environment, Shopify over HTTP."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
import redis
from sqlalchemy import Engine, text

from tasks.orders import read
from tasks.reconcile import nightly, recent
from tasks.steps import bell, outbox, wallets
from tasks.steps.shops import get, remove
from tests.pretend import PretendShopify


@pytest.fixture
def shopify(
    connected_store: PretendShopify, engine: Engine, monkeypatch: pytest.MonkeyPatch
) -> PretendShopify:
    """A store that installed the app three days ago."""
    connected_store.front().bucket.restored = 10**6
    monkeypatch.setenv("AUTO_REFUND_AFTER_HOURS", "24")
    with engine.begin() as connection:
        before = {"at": datetime.now(UTC) - timedelta(days=3), "domain": connected_store.domain}
        connection.execute(text("update shops set installed_at = :at where domain = :domain"), before)
    return connected_store


def runs(engine: Engine, domain: str) -> list[tuple[str, str, int, int]]:
    query = text(
        "select kind, r.state, repaired, auto_refunded from reconciliations r join shops s on s.id = r.shop_id"
        " where s.domain = :domain order by r.id"
    )
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query, {"domain": domain})]  # type: ignore[misc]


def test_a_sweep_finds_and_repairs(shopify: PretendShopify, engine: Engine) -> None:
    shopify.buy(customer=shopify.customer(), at=datetime.now(UTC) - timedelta(hours=2))
    assert recent.apply(kwargs={"shop": shopify.domain}).get() == "1 orders, 1 found, 1 repaired"
    assert recent.apply(kwargs={"shop": shopify.domain}).get() == "0 orders, 0 found, 0 repaired"
    assert runs(engine, shopify.domain) == [("recent", "done", 1, 0), ("recent", "done", 0, 0)]


def test_the_nightly_run_gives_back_what_no_order_used(shopify: PretendShopify, engine: Engine) -> None:
    customer = shopify.customer()
    with engine.begin() as connection:
        shop = get(connection, shopify.domain)
        wallets.grant(connection, shop.id, customer.id, amount=300, reason="a test")
        id = wallets.redeem(connection, shop.id, customer.id, reward="custom", amount=300, code="GIVEN")
        key = {"shop": shop.id, "id": id, "at": datetime.now(UTC) - timedelta(days=2)}
        connection.execute(
            text(
                "update redemptions set code = null, code_state = 'none', kind = 'free_product', at = :at"
                " where shop_id = :shop and id = :id"
            ),
            key,
        )
    said = nightly.apply(kwargs={"shop": shopify.domain}).get()
    assert said == "0 orders, 0 found, 0 repaired, 1 redemptions without an order"
    assert runs(engine, shopify.domain) == [("nightly", "done", 0, 1)]


def test_a_shop_that_lost_its_token_is_a_failed_run_and_no_exception(
    shopify: PretendShopify, engine: Engine
) -> None:
    shopify.front().access.uninstall()
    assert recent.apply(kwargs={"shop": shopify.domain}).get() == "failed: needs_merchant"
    ((_, state, _, _),) = runs(engine, shopify.domain)
    assert state == "failed"


def test_a_shopify_that_is_throttled_leaves_the_run_to_be_resumed(
    shopify: PretendShopify, engine: Engine
) -> None:
    shopify.faults().throttled_until = datetime.now(UTC) + timedelta(hours=1)
    shopify.front().bucket.restored = 1
    shopify.front().bucket.drain()
    assert recent.apply(kwargs={"shop": shopify.domain}).get() == "later: shopify_throttled"
    shopify.faults().throttled_until = None
    ((_, state, _, _),) = runs(engine, shopify.domain)
    assert state == "running"


def test_an_order_is_read_when_the_outbox_asks(
    shopify: PretendShopify, engine: Engine, redis_url: str
) -> None:
    order = shopify.buy(customer=shopify.customer(), at=datetime.now(UTC) - timedelta(hours=2))
    with engine.begin() as connection:
        shop = get(connection, shopify.domain)
        outbox.put(connection, shop.id, "read_order", "asked by hand", {"order_id": order.id})
        id = connection.execute(text("select id from outbox where key = 'asked by hand'")).scalar_one()
    with redis.Redis.from_url(redis_url) as broker:
        bell.try_ring(broker, [shopify.domain])  # somebody is on the way already
    arguments = {"shop": shopify.domain, "outbox_id": id, "order_id": order.id}
    assert read.apply(kwargs=arguments).get() == f"order {order.id}: read"
    with engine.connect() as connection:
        topics = connection.execute(
            text("select topic, order_id from inbox where shop_domain = :domain"), {"domain": shopify.domain}
        ).all()
    assert [tuple(row) for row in topics] == [("orders/read", order.id)]


def test_a_shop_that_was_removed_meanwhile_is_left_alone(shopify: PretendShopify, engine: Engine) -> None:
    with engine.begin() as connection:
        remove(connection, shopify.domain)
    assert recent.apply(kwargs={"shop": shopify.domain}).get() == "failed: not_found"
    assert runs(engine, shopify.domain) == []
