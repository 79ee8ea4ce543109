"""Every shape in which an order comes apart (S2-S9), one short script each.

A script is a generator: what it does up to each `yield` happens in one act or more of the same order, and time
passes at the `yield`. It is given how many refunds to make, which only the elastic ones heed.
"""

from __future__ import annotations

from collections.abc import Callable, Iterator
from dataclasses import dataclass
from random import Random

from app.sandbox.records import Item, Order
from app.sandbox.store import Store

Script = Callable[[Store, Order, Random, int], Iterator[None]]


@dataclass(frozen=True, slots=True)
class Scenario:
    """refunds: how many refund records it makes (the least, when elastic). payment: how act one leaves the order."""

    name: str
    script: Script
    refunds: int
    payment: str = "paid"
    elastic: bool = False


def _everything(order: Order) -> list[tuple[Item, int]]:
    return [(item, item.current_quantity) for item in order.items if item.current_quantity]


def _shipping_left(order: Order) -> int:
    return order.shipping_minor - order.refunded_shipping_minor


def _kept(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    yield


def _full_by_lines(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(
        order, units=_everything(order), shipping_minor=_shipping_left(order), note="Sent it all back"
    )
    yield


def _full_amount_only(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, amount_minor=order.total_minor, note="Never arrived")
    yield


def _one_line(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    item = order.items[-1]
    store.refund(order, units=[(item, item.quantity)])
    yield


def _one_unit(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, units=[(order.items[0], 1)])
    yield


def _unit_then_the_rest(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, units=[(order.items[0], 1)])
    yield
    store.refund(order, units=_everything(order), shipping_minor=_shipping_left(order))
    yield


def _slices(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    """Amounts that add up to the order's total, to the cent."""
    cuts = sorted(dice.sample(range(1, order.total_minor), refunds - 1))
    for start, end in zip([0, *cuts], [*cuts, order.total_minor], strict=True):
        store.refund(order, amount_minor=end - start)
        yield


def _goodwill(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, amount_minor=order.total_minor // 5, note="Sorry for the delay")
    yield


def _shipping_only(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, shipping_minor=order.shipping_minor)
    yield


def _restocking_fee(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    item = order.items[0]
    worth = item.part(item.paid_minor, before=0, units=item.quantity)
    store.refund(
        order, units=[(item, item.quantity)], amount_minor=worth - worth // 10, note="10 % restocking fee"
    )
    yield


def _pending_then_success(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    refund = store.refund(order, units=[(order.items[0], 1)], status="pending")
    yield
    store.settle(order, refund, status="success")
    yield


def _pending_held_back_then_success(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    refund = store.refund(order, units=[(order.items[0], 1)], status="pending", held_back=True)
    yield
    store.settle(order, refund, status="success")
    yield


def _pending_then_failure(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    refund = store.refund(order, units=[(order.items[0], 1)], status="pending")
    yield
    store.settle(order, refund, status="failure")
    yield


def _over_refund(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, units=[(order.items[0], 1)])
    yield
    store.refund(order, amount_minor=order.total_minor, note="More than was left")
    yield


def _goods_without_money(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, units=[(order.items[0], 1)], tenders=())
    yield


def _worthless_lines(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    amount = order.total_minor // 4
    store.refund(order, units=[(order.items[0], 1)], amount_minor=amount, worthless=True, note="Keep it")
    yield


def _split_tender(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, units=[(order.items[0], 1)], tenders=("bogus", "shopify_store_credit"))
    yield


def _cancel_unpaid(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.cancel(order, with_refund=False)
    yield


def _cancel_refunded(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.cancel(order, with_refund=True)
    yield


def _unit_then_cancel(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.refund(order, units=[(order.items[0], 1)])
    yield
    store.cancel(order, with_refund=True, reason="inventory")
    yield


def _cancel_money_kept(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.cancel(order, with_refund=False, reason="other")
    yield


def _void_by_cancel(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.cancel(order, with_refund=False, reason="fraud")
    yield


def _void_left_open(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.void(order)
    yield


def _edit_removes(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.edit(order, remove=[(order.items[0], 1)])
    yield


def _edit_removes_and_pays(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    item = order.items[0]
    store.edit(order, remove=[(item, 1)])
    yield
    store.refund(
        order, amount_minor=item.part(item.paid_minor, before=0, units=1), note="For what the edit took off"
    )
    yield


def _even_exchange(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    """The same thing again for what came back: a refund without money beside an added line."""
    item = order.items[0]
    store.refund(order, units=[(item, 1)], tenders=(), note="Exchange")
    yield
    store.edit(order, add=[(item.product, 1)])
    yield


def _edit_adds_then_all_back(store: Store, order: Order, dice: Random, refunds: int) -> Iterator[None]:
    store.edit(order, add=[(dice.choice(list(store.products.values())), 1)])
    yield
    store.pay(order)
    yield
    store.refund(order, units=_everything(order), shipping_minor=_shipping_left(order))
    yield


SCENARIOS: tuple[Scenario, ...] = (
    Scenario("refunded in slices", _slices, 3, elastic=True),
    Scenario("refunded in full", _full_by_lines, 1),
    Scenario("one unit back", _one_unit, 1),
    Scenario("goodwill, no items", _goodwill, 1),
    Scenario("one unit, then the rest", _unit_then_the_rest, 2),
    Scenario("one line back", _one_line, 1),
    Scenario("kept", _kept, 0),
    Scenario("refunded in full, no items", _full_amount_only, 1),
    Scenario("shipping back", _shipping_only, 1),
    Scenario("restocking fee", _restocking_fee, 1),
    Scenario("money pending, then there", _pending_then_success, 1),
    Scenario("money pending, then failed", _pending_then_failure, 1),
    Scenario("money pending and held back, then there", _pending_held_back_then_success, 1),
    Scenario("refunded more than was left", _over_refund, 2),
    Scenario("goods back, no money", _goods_without_money, 1),
    Scenario("items at no value, money back", _worthless_lines, 1),
    Scenario("paid back on two tenders", _split_tender, 1),
    Scenario("cancelled unpaid", _cancel_unpaid, 1, payment="unpaid"),
    Scenario("cancelled and refunded", _cancel_refunded, 1),
    Scenario("one unit, then cancelled and refunded", _unit_then_cancel, 2),
    Scenario("cancelled, money kept", _cancel_money_kept, 0),
    Scenario("authorization voided by cancelling", _void_by_cancel, 1, payment="authorized"),
    Scenario("authorization voided, left open", _void_left_open, 0, payment="authorized"),
    Scenario("edit removes a unit", _edit_removes, 0),
    Scenario("edit removes a unit and pays it back", _edit_removes_and_pays, 1),
    Scenario("even exchange", _even_exchange, 1),
    Scenario("edit adds a line, then all back", _edit_adds_then_all_back, 1),
)
KEPT = next(scenario for scenario in SCENARIOS if scenario.name == "kept")
