"""The pretend store's money adds up as Shopify's does, and the same seed gives the same bytes."""

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from fractions import Fraction
from itertools import pairwise

import pytest

from app.sandbox.scenarios import SCENARIOS
from app.sandbox.store import Delivery
from app.sandbox.world import POINTS_PER_UNIT, World, share_out

SATURDAY = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


def lived(seed: int = 7, orders: int = 54, refunds: int = 90) -> tuple[World, list[Delivery]]:
    world = World(domain="lamps.myshopify.com", seed=seed, orders=orders, refunds=refunds)
    deliveries = world.place(SATURDAY)
    return world, deliveries + world.unwind(SATURDAY + timedelta(minutes=1))


def parsed(delivery: Delivery) -> dict:
    return json.loads(delivery.body, parse_float=Decimal)


def shop(money_set: dict) -> Decimal:
    return Decimal(money_set["shop_money"]["amount"])


WORLD, DELIVERIES = lived()


def bodies(topic: str) -> list[dict]:
    return [parsed(delivery) for delivery in DELIVERIES if delivery.topic == topic]


def order_bodies() -> list[dict]:
    return [parsed(d) for d in DELIVERIES if d.topic.startswith("orders/") and d.topic != "orders/edited"]


def test_the_same_seed_and_times_give_the_same_bytes_and_ids() -> None:
    assert lived()[1] == DELIVERIES


def test_another_seed_gives_another_world() -> None:
    assert {d.body for d in lived(seed=8)[1]}.isdisjoint({d.body for d in DELIVERIES})


def test_every_script_is_played() -> None:
    assert {plan.placed.scenario for plan in WORLD.plans} == {scenario.name for scenario in SCENARIOS}


@pytest.mark.parametrize(("orders", "refunds"), [(1, 0), (1, 40), (3, 1), (40, 60), (27, 5), (5, 300)])
def test_a_world_has_just_as_many_orders_and_refunds_as_asked(orders: int, refunds: int) -> None:
    world, _ = lived(orders=orders, refunds=refunds)
    assert len(world.store.orders) == orders
    assert sum(len(order.refunds) for order in world.store.orders.values()) == refunds


def test_without_an_elastic_script_the_refunds_left_over_are_not_invented() -> None:
    assert share_out(1, 0) == [(SCENARIOS[6], 0)]


def test_total_is_items_and_shipping_and_tax_less_discounts() -> None:
    for order in order_bodies():
        lines = sum(shop(line["price_set"]) * line["quantity"] for line in order["line_items"])
        allocated = sum(
            shop(a["amount_set"]) for line in order["line_items"] for a in line["discount_allocations"]
        )
        tax = Decimal(0) if order["taxes_included"] else Decimal(order["total_tax"])
        shipping = sum(shop(line["price_set"]) for line in order["shipping_lines"])
        assert Decimal(order["total_line_items_price"]) == lines
        assert Decimal(order["total_discounts"]) == allocated
        assert Decimal(order["subtotal_price"]) == lines - allocated
        assert Decimal(order["total_price"]) == lines - allocated + tax + shipping


def test_tax_of_the_order_is_the_tax_of_its_lines() -> None:
    for order in order_bodies():
        of_lines = sum(Decimal(tax["price"]) for line in order["line_items"] for tax in line["tax_lines"])
        assert Decimal(order["total_tax"]) == of_lines


def test_the_allocations_of_a_code_are_what_the_code_takes_off() -> None:
    seen = 0
    for order in order_bodies():
        for code in order["discount_codes"]:
            index = next(
                i for i, a in enumerate(order["discount_applications"]) if a.get("code") == code["code"]
            )
            off = sum(
                shop(a["amount_set"])
                for line in order["line_items"]
                for a in line["discount_allocations"]
                if a["discount_application_index"] == index
            )
            assert off == Decimal(code["amount"]) == Decimal(order["discount_applications"][index]["value"])
            seen += 1
    assert seen > 50


def identity(refund: dict) -> Decimal:
    lines = sum(
        shop(line["subtotal_set"]) + shop(line["total_tax_set"]) for line in refund["refund_line_items"]
    )
    shipping = sum(shop(line["subtotal_amount_set"]) for line in refund["refund_shipping_lines"])
    adjustments = sum(shop(a["amount_set"]) + shop(a["tax_amount_set"]) for a in refund["order_adjustments"])
    return lines + shipping - adjustments


def test_a_refunds_value_is_the_money_of_its_settled_transactions() -> None:
    """S2, in every refund whose money is there; other currencies by the order's exact ratio."""
    seen = 0
    for order in bodies("orders/updated"):
        ratio = Fraction(Decimal(order["total_price"])) / Fraction(shop_or_presentment(order))
        for refund in order["refunds"]:
            paid = [t for t in refund["transactions"] if t["status"] == "success"]
            if not paid or shop_held_back(refund):
                continue
            settled = sum(Fraction(Decimal(t["amount"])) for t in paid)
            settled *= 1 if paid[0]["currency"] == order["currency"] else ratio
            assert abs(settled - Fraction(identity(refund))) <= Fraction(1, 100), refund
            seen += 1
    assert seen > 100


def shop_or_presentment(order: dict) -> Decimal:
    return Decimal(order["total_price_set"]["presentment_money"]["amount"])


def shop_held_back(refund: dict) -> bool:
    return any(shop(a["amount_set"]) > 0 for a in refund["order_adjustments"]) and identity(refund) == 0


def test_pending_money_may_be_held_back_by_a_positive_adjustment_so_that_the_value_is_zero() -> None:
    held = [refund for refund in bodies("refunds/create") if shop_held_back(refund)]
    assert held
    assert all(t["status"] == "pending" for refund in held for t in refund["transactions"])


def test_a_refund_of_an_order_that_was_never_paid_lists_items_at_full_value_and_no_money() -> None:
    unpaid = [
        refund
        for order in bodies("orders/cancelled")
        if order["financial_status"] in ("pending", "voided")
        for refund in order["refunds"]
    ]
    assert unpaid
    assert all(refund["transactions"] == [] and identity(refund) > 0 for refund in unpaid)


def test_the_units_of_a_line_are_what_is_left_and_what_came_back_and_what_edits_removed() -> None:
    removals: dict[int, int] = {}
    for body in bodies("orders/edited"):
        for removal in body["order_edit"]["line_items"]["removals"]:
            removals[removal["id"]] = removals.get(removal["id"], 0) + removal["delta"]
    last = {order["id"]: order for order in bodies("orders/updated")}
    for order in last.values():
        for line in order["line_items"]:
            returned = sum(
                part["quantity"]
                for refund in order["refunds"]
                for part in refund["refund_line_items"]
                if part["line_item_id"] == line["id"]
            )
            assert line["quantity"] == line["current_quantity"] + returned + removals.get(line["id"], 0)


def test_a_void_moves_no_money_and_comes_with_and_without_a_cancellation() -> None:
    voids = [t for t in bodies("order_transactions/create") if t["kind"] == "void"]
    assert {t["amount"] for t in voids} <= {"0.00", "0"}
    last = {order["id"]: order for order in bodies("orders/updated")}
    voided = [order for order in last.values() if order["financial_status"] == "voided"]
    assert {order["cancelled_at"] is None for order in voided} == {True, False}
    for order in voided:
        owed = Decimal(0) if order["cancelled_at"] else Decimal(order["total_price"])
        assert Decimal(order["total_outstanding"]) == owed


def test_settling_pending_money_sends_a_transaction_and_no_second_refund() -> None:
    created = [refund["id"] for refund in bodies("refunds/create")]
    assert len(created) == len(set(created)) == 90
    statuses = {t["status"] for t in bodies("order_transactions/create") if t["kind"] == "refund"}
    assert statuses == {"success", "failure"}


def test_each_payload_is_a_snapshot_at_its_own_time_and_no_two_of_an_order_share_one() -> None:
    by_order: dict[int, dict[str, set[bytes]]] = {}
    for delivery in DELIVERIES:
        if delivery.topic.startswith("orders/") and delivery.topic != "orders/edited":
            body = parsed(delivery)
            by_order.setdefault(body["id"], {}).setdefault(body["updated_at"], set()).add(delivery.body)
    assert all(len(contents) == 1 for times in by_order.values() for contents in times.values())


def test_nothing_happens_before_what_it_follows_from() -> None:
    for order in WORLD.store.orders.values():
        times = [order.placed_at, *(t.at for t in order.transactions), *(r.at for r in order.refunds)]
        assert all(a <= b for a, b in pairwise(times[: len(order.transactions) + 1]))
        assert order.placed_at < min(
            (refund.at for refund in order.refunds), default=order.updated_at + SECOND
        )


SECOND = timedelta(seconds=1)


def test_some_ids_are_too_big_for_a_float() -> None:
    assert any(order_id > 2**53 for order_id in WORLD.store.orders)


def test_subtotals_of_refund_lines_are_json_numbers_and_sets_are_strings() -> None:
    line = next(line for refund in bodies("refunds/create") for line in refund["refund_line_items"])
    assert isinstance(line["subtotal"], Decimal)
    assert isinstance(line["subtotal_set"]["shop_money"]["amount"], str)


def test_there_are_guests_tests_other_currencies_and_prices_with_tax_inside() -> None:
    orders = list(WORLD.store.orders.values())
    assert any(order.customer is None for order in orders)
    assert any(order.test for order in orders)
    assert any(order.taxes_included and order.tax_minor for order in orders)
    assert {order.presentment.currency for order in orders} >= {"USD", "EUR", "CAD", "JPY"}
    assert {len(order.codes) for order in orders} == {0, 1, 2}
    assert any(d.code is None for order in orders for d in order.discounts)


def test_expectations_keep_within_what_was_earned_and_spent() -> None:
    for plan in WORLD.plans:
        expected = WORLD.expectation(plan)
        if expected is None:
            assert plan.placed.edits
            continue
        assert 0 <= expected.reversed <= expected.awarded
        costs = {spent.code: spent.points for spent in plan.spent}
        assert all(0 <= points <= costs[code] for code, points in expected.returned.items())
        if plan.placed.financial_status == "refunded":
            assert expected.reversed == expected.awarded
            given_back = {code for code, points in expected.returned.items() if points == costs[code]}
            assert given_back | expected.reactivated >= set(costs)


def test_a_fifth_of_the_money_back_is_a_fifth_of_the_points_rounded_down() -> None:
    goodwill = [
        p for p in WORLD.plans if p.scenario.name.startswith("goodwill") and p.customer and not p.test
    ]
    assert goodwill
    for plan in goodwill:
        total, [refund] = plan.placed.placed_total_minor, plan.placed.refunds
        expected = WORLD.expectation(plan)
        assert expected is not None
        assert expected.awarded == total * POINTS_PER_UNIT // 100
        assert expected.reversed == expected.awarded * refund.settled_minor // total
        assert set(expected.returned.values()) <= {0}


def test_a_code_that_the_program_gave_is_the_one_that_is_used() -> None:
    world = World(domain="lamps.myshopify.com", seed=7, orders=12, refunds=12)
    spent = world.redemptions[0]
    world.coded(spent, "GIVEN-BY-THE-PROGRAM")
    world.place(SATURDAY)
    used = {code.upper() for order in world.store.orders.values() for code in order.codes}
    assert "GIVEN-BY-THE-PROGRAM" in used
    assert spent.code not in used
    assert [known.customer_id for known in world.redemptions] == [
        known.customer_id for known in World(domain="x", seed=7, orders=12, refunds=12).redemptions
    ]


def test_an_order_placed_later_is_a_plan_of_its_own() -> None:
    world = World(domain="lamps.myshopify.com", seed=7, orders=3, refunds=2)
    world.place(SATURDAY)
    customer = next(iter(world.store.customers.values()))
    order = world.place_again(customer, scenario="once more")
    assert world.plans[-1].placed is order
    expected = world.expectation(world.plans[-1])
    assert expected is not None
    assert expected.awarded == order.total_minor * POINTS_PER_UNIT // 100
