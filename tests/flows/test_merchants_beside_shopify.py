"""What a merchant did by hand, beside a store that knows nothing of it: its webhooks, its repeats, the comparison with it,
and a replay leave it as it is (R31, R36, R38)."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

import pytest

from app.sandbox.records import Customer, Order
from app.sandbox.store import Delivery
from models.errors import Refused
from tasks.steps import merchants
from tasks.steps.bulk import reconcile_in_bulk
from tasks.steps.replay import replay
from tasks.steps.verify import verify
from tests.flows.conftest import Door
from tests.flows.reconciling import NOON, Town, found, found_town


@pytest.fixture
def town(door: Door) -> Town:
    return found_town(door)


def by_hand(town: Town, verb: Callable[..., dict[str, Any]], id: int, **more: Any) -> dict[str, Any]:
    with town.door.engine.begin() as connection:
        return verb(connection, town.door.shop.id, id, **({"reason": None, "by": "cli"} | more))


def tell(town: Town, deliveries: Sequence[Delivery]) -> None:
    for delivery in deliveries:
        assert town.door.send(delivery.topic, delivery.body) == 200
    town.door.work()


def refunded(town: Town, order: Order, customer: Customer) -> None:
    by_hand(town, merchants.refund_order, order.id, amount=None, lines=None)


def refunded_in_part(town: Town, order: Order, customer: Customer) -> None:
    by_hand(town, merchants.refund_order, order.id, amount=Decimal("30.00"), lines=None)


def cancelled(town: Town, order: Order, customer: Customer) -> None:
    by_hand(town, merchants.cancel_order, order.id)


def refunded_there_and_undone(town: Town, order: Order, customer: Customer) -> None:
    refund = town.store.refund(order, units=[(order.items[0], 1)])
    town.deliver()
    by_hand(town, merchants.undo_refund, refund.id)


def refunded_whole_there_and_undone(town: Town, order: Order, customer: Customer) -> None:
    refund = town.store.refund(order, units=[(order.items[0], 2)])
    town.deliver()
    by_hand(town, merchants.undo_refund, refund.id)


def cancelled_there_and_undone(town: Town, order: Order, customer: Customer) -> None:
    """An order of his that was never paid; the other one stays as it is."""
    unpaid = town.sell(customer, paid=False)
    town.store.cancel(unpaid, with_refund=False)
    town.deliver()
    assert town.door.order(unpaid.id)["status"] == "cancelled"
    by_hand(town, merchants.undo_ending, unpaid.id)
    assert town.door.order(unpaid.id)["status"] == "open"


@pytest.mark.parametrize(
    ("act", "balance", "status"),
    [
        pytest.param(refunded, 0, "fully_refunded", id="refunded"),
        pytest.param(refunded_in_part, 70, "partially_refunded", id="refunded in part"),
        pytest.param(cancelled, 0, "cancelled", id="cancelled"),
        pytest.param(refunded_there_and_undone, 100, "open", id="a refund of the store's, undone"),
        pytest.param(refunded_whole_there_and_undone, 100, "open", id="a whole refund of the store's, undone"),
        pytest.param(cancelled_there_and_undone, 100, "open", id="a cancellation of the store's, undone"),
    ],
)  # fmt: skip
def test_the_store_may_say_everything_again_and_nothing_changes(
    town: Town, act: Callable[[Town, Order, Customer], None], balance: int, status: str
) -> None:
    """R31, R36, R38: every webhook once more, the order told anew, both comparisons, a replay."""
    customer = town.customer()
    order = town.sell(customer)
    sent = town.store.take_outbox()
    tell(town, sent)
    act(town, order, customer)
    before = (town.balance(customer), town.door.order(order.id))
    assert (before[0], before[1]["status"]) == (balance, status)
    tell(town, sent)
    town.later(hours=1)
    order.updated_at = town.now  # somebody tagged it
    assert (town.balance(customer), town.door.order(order.id)) == before
    for kind in ("recent", "nightly", "asked"):
        run = town.reconcile(kind, **({"since": NOON} if kind == "asked" else {}))
        assert run.orders_read >= 1 and found(run) == []
    bulk = reconcile_in_bulk(town.door.engine, town.gateway, town.shop, sleep=lambda seconds: None)
    assert bulk.findings == []
    assert replay(town.door.engine, town.door.shop.domain).changed == 0
    assert (town.balance(customer), town.door.order(order.id)) == before
    with town.door.engine.begin() as connection:
        assert verify(connection, town.door.shop.id) == []


def test_a_refund_by_hand_and_one_of_the_store_for_the_same_money_are_two(town: Town) -> None:
    """R3, R36: the caller chose one way of two; caps hold."""
    customer = town.customer()
    order = town.sell(customer)
    town.deliver()
    by_hand(town, merchants.refund_order, order.id, amount=Decimal("60.00"), lines=None)
    town.store.refund(order, amount_minor=6_000)
    town.deliver()
    shown = town.door.order(order.id)
    assert [(r["origin"], r["amount"], r["reversed"]) for r in shown["refunds"]] == [
        ("shopify", "60.00", 60),  # at its own time, days before
        ("merchant", "60.00", 40),
    ]
    assert (shown["status"], town.balance(customer)) == ("fully_refunded", 0)


def test_a_refund_of_the_store_that_was_undone_lets_the_next_one_work_on(town: Town) -> None:
    """R38: what is undone is no money given back; what comes later is."""
    customer = town.customer()
    order = town.sell(customer)
    first = town.store.refund(order, amount_minor=5_000)
    town.deliver()
    by_hand(town, merchants.undo_refund, first.id, reason="paid twice")
    assert town.balance(customer) == 100
    town.store.refund(order, amount_minor=2_000)
    town.deliver()
    shown = town.door.order(order.id)
    assert [(r["undone"], r["reversed"]) for r in shown["refunds"]] == [(True, 0), (False, 20)]
    assert (shown["status"], shown["refunded"], town.balance(customer)) == ("partially_refunded", "20.00", 80)
    assert found(town.reconcile("asked", since=NOON)) == []


def test_a_refund_that_was_undone_before_its_money_settled_stays_undone(town: Town) -> None:
    """S3, R38: the money arrives afterwards."""
    customer = town.customer()
    order = town.sell(customer)
    refund = town.store.refund(order, amount_minor=5_000, status="pending")
    town.deliver()
    by_hand(town, merchants.undo_refund, refund.id)
    town.store.settle(order, refund, status="success")
    town.deliver()
    assert (town.balance(customer), town.door.order(order.id)["status"]) == (100, "open")
    assert found(town.reconcile("asked", since=NOON)) == []


def test_an_order_cancelled_by_hand_and_then_at_the_store_is_cancelled_once(town: Town) -> None:
    """R31, R36, S6: the store's cancellation with its refund posts nothing more; a call after it is refused."""
    customer = town.customer()
    order = town.sell(customer)
    town.deliver()
    by_hand(town, merchants.cancel_order, order.id, reason="sold out")
    town.now = datetime.now(UTC)
    town.store.cancel(order, with_refund=True)
    town.deliver()
    assert town.balance(customer) == 0
    with pytest.raises(Refused) as caught:
        by_hand(town, merchants.refund_order, order.id, amount=None, lines=None)
    assert caught.value.code in ("already_cancelled", "already_refunded") and caught.value.details["at"]
    with town.door.engine.begin() as connection:
        assert verify(connection, town.door.shop.id) == []
