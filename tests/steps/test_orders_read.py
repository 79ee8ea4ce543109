"""An order read at Shopify says what its webhooks said: the same facts, to the last field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta

import pytest

from app.sandbox.payloads import body_of, order_payload, transaction_payload
from app.sandbox.records import Order
from app.sandbox.world import World
from models.errors import Unparseable
from models.rules.facts import Fact, Refund, Snapshot, Transaction
from models.rules.order import OrderFacts
from tasks.steps.load import ShopRow
from tasks.steps.parse import READ_TOPIC, parse
from tasks.steps.parse.graphql import rest_of
from tasks.steps.reads import fetch
from tests.pretended import PretendGateway

SATURDAY = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
SHOP = ShopRow(1, "lamps.myshopify.com", "USD")


def lived(seed: int) -> World:
    world = World(domain=SHOP.domain, seed=seed, orders=54, refunds=90)
    world.place(SATURDAY)
    world.unwind(SATURDAY + timedelta(minutes=1))
    return world


def told_by_webhooks(order: Order) -> list[Fact]:
    """What the webhooks of one moment say of an order, all together."""
    facts = [*parse("orders/updated", body_of(order_payload(order)), shop_currency="USD")]
    for each in order.transactions:
        told = body_of(transaction_payload(order, each))
        facts += parse("order_transactions/create", told, shop_currency="USD")
    return facts


def told_by_reading(gateway: PretendGateway, order: Order) -> list[Fact]:
    read = fetch(gateway, SHOP, order.id)
    assert read is not None
    return [*parse(READ_TOPIC, read.body, shop_currency="USD")]


def by_id(facts: Iterable[Fact]) -> dict[tuple[str, int], Fact]:
    return {(type(f).__name__, f.order_id if isinstance(f, Snapshot) else f.id): f for f in facts}


def without_shop_amounts(facts: Iterable[Fact]) -> dict[tuple[str, int], Fact]:
    """A webhook's transaction has presentment money only; a reading knows the shop's beside it (S1)."""
    return by_id(replace(f, shop_amount_minor=None) if isinstance(f, Transaction) else f for f in facts)


@pytest.mark.parametrize("seed", range(1, 5))
def test_a_reading_and_the_webhooks_of_the_same_moment_tell_the_same_facts(seed: int) -> None:
    world = lived(seed)
    gateway = PretendGateway(world.store)
    kinds = set()
    for order in world.store.orders.values():
        read, told = told_by_reading(gateway, order), told_by_webhooks(order)
        assert without_shop_amounts(read) == without_shop_amounts(told), order.scenario
        kinds |= {type(fact) for fact in read}
    assert kinds == {Snapshot, Refund, Transaction}


def test_a_reading_after_all_webhooks_is_no_conflict_and_changes_nothing_but_shop_amounts() -> None:
    world = lived(7)
    gateway = PretendGateway(world.store)
    for order in world.store.orders.values():
        known = OrderFacts(order.id)
        for fact in told_by_webhooks(order):
            known.add(fact, SATURDAY + timedelta(hours=1))
        before = (known.placed, known.newest, known.customer_id, known.paid_at, {**known.gone_at})
        for fact in told_by_reading(gateway, order):
            known.add(fact, SATURDAY + timedelta(hours=2))
        assert before == (known.placed, known.newest, known.customer_id, known.paid_at, known.gone_at)
        assert not any(refund.conflicts for refund in known.refunds.values())


def test_the_same_order_at_the_same_moment_is_the_same_reading() -> None:
    world = lived(3)
    gateway = PretendGateway(world.store)
    id = next(iter(world.store.orders))
    first, second = fetch(gateway, SHOP, id), fetch(gateway, SHOP, id)
    assert first is not None and second is not None
    assert first == second and first.webhook_id == second.webhook_id


def test_a_reading_names_nobody() -> None:
    world = lived(3)
    gateway = PretendGateway(world.store)
    order = next(o for o in world.store.orders.values() if o.customer is not None)
    read = fetch(gateway, SHOP, order.id)
    assert read is not None and order.customer is not None
    assert order.customer.first_name.encode() not in read.body and b"@" not in read.body
    assert json.loads(read.body)["order"]["customer"] == {"id": order.customer.id}


def test_an_order_that_shopify_does_not_give_is_none() -> None:
    world = lived(3)
    assert fetch(PretendGateway(world.store), SHOP, 404) is None


def test_an_answer_of_another_shape_is_refused_with_the_field_that_is_missing() -> None:
    with pytest.raises(Unparseable, match="legacyResourceId"):
        rest_of({"name": "#1001"})


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param(b"{}", "order", id="no order"),
        pytest.param(b'{"id": 1, "line_items": []}', "order", id="a webhook's body under this topic"),
        pytest.param(b'{"order": {"id": 1, "currency": "USD"}}', "order.created_at", id="an order without its time"),
        pytest.param(b'{"order": 7}', "order", id="no object"),
    ],
)  # fmt: skip
def test_a_reading_that_is_none_is_refused(body: bytes, field: str) -> None:
    with pytest.raises(Unparseable) as caught:
        parse(READ_TOPIC, body)
    assert caught.value.field == field
