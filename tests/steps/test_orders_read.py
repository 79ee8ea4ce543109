"""An order read at Shopify says what its webhooks said: the same facts, to the last field."""

from __future__ import annotations

import json
from collections.abc import Iterable
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from typing import Any

import pytest

from app.sandbox.payloads import body_of, order_payload, transaction_payload
from app.sandbox.records import Order, Presentment, Product
from app.sandbox.world import World
from models.errors import Unparseable
from models.rules.facts import Fact, Refund, Snapshot, Transaction
from models.rules.order import OrderFacts
from tasks.steps.load import ShopRow
from tasks.steps.parse import READ_TOPIC, parse
from tasks.steps.parse.graphql import rest_of
from tasks.steps.reads import OrderMoves, fetch
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


# -- long lists --------------------------------------------------------------------------------------


def long_order(world: World, lines: int) -> Order:
    store = world.store
    basket = [(Product(store.new_id(), "Mug", "MUG-1", 1000 + n), 1) for n in range(lines)]
    order = store.place(customer=None, basket=basket, presentment=Presentment("USD", Fraction(1)))
    store.pay(order)
    return order


def test_an_order_and_a_refund_with_more_lines_than_a_page_are_read_to_their_end() -> None:
    world = lived(5)
    order = long_order(world, 130)
    world.store.refund(order, units=[(item, 1) for item in order.items[:71]])
    gateway = PretendGateway(world.store)
    read, told = told_by_reading(gateway, order), told_by_webhooks(order)
    assert without_shop_amounts(read) == without_shop_amounts(told)
    assert gateway.calls == ["order", *["order_rest"] * 3, *["refund_rest"] * 2]


class Meddling(PretendGateway):
    """Before so many of its answers to `order_rest` the order is changed."""

    def __init__(self, world: World, order: Order, times: int) -> None:
        super().__init__(world.store)
        self.store, self.order, self.times = world.store, order, times

    def run(self, shop: ShopRow, document_name: str, variables: Any, *, background: bool = False) -> Any:
        if document_name == "order_rest" and self.times:
            self.times -= 1
            self.store.refund(self.order, amount_minor=100)
        return super().run(shop, document_name, variables, background=background)


def test_an_order_that_changes_while_its_pages_are_read_is_read_from_the_start() -> None:
    world = lived(5)
    order = long_order(world, 60)
    gateway = Meddling(world, order, times=2)
    read = told_by_reading(gateway, order)
    assert without_shop_amounts(read) == without_shop_amounts(told_by_webhooks(order))
    assert gateway.calls.count("order") == 3


def test_an_order_that_never_stands_still_is_tried_later() -> None:
    world = lived(5)
    order = long_order(world, 60)
    with pytest.raises(OrderMoves):
        fetch(Meddling(world, order, times=3), SHOP, order.id)


def test_an_order_deleted_between_its_pages_is_not_given() -> None:
    world = lived(5)
    order = long_order(world, 60)

    class Deleting(PretendGateway):
        def run(self, shop: ShopRow, document_name: str, variables: Any, *, background: bool = False) -> Any:
            if document_name == "order_rest":
                world.store.orders.pop(order.id)
            return super().run(shop, document_name, variables, background=background)

    assert fetch(Deleting(world.store), SHOP, order.id) is None
