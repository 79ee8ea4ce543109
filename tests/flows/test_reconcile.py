"""What a comparison with Shopify finds, and that it is made good, once."""

from __future__ import annotations

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from itertools import islice
from typing import Any

import pytest
from sqlalchemy import text

from app.sandbox.records import Discount
from models.errors import NeedsMerchant, ShopifyRefused, ShopifyThrottled, ShopifyUnreachable, Unparseable
from tasks.steps.bulk import grouped, reconcile_in_bulk
from tasks.steps.load import ShopRow
from tasks.steps.reconcile import OVERLAP, Run, Running, alone
from tasks.steps.reconcile_due import due, last_night
from tasks.steps.verify import verify
from tests.flows.conftest import Door
from tests.flows.reconciling import NOON, Town, broken, found, found_town


@pytest.fixture
def town(door: Door) -> Town:
    return found_town(door)


def test_where_nothing_was_missed_nothing_is_found(town: Town) -> None:
    order = town.sell(town.customer())
    town.store.refund(order, amount_minor=2000)
    town.deliver()
    for kind in ("recent", "nightly", "asked"):
        run = town.reconcile(kind)
        assert run.finished and run.orders_read == 1 and run.findings == []
    assert [row["state"] for row in town.runs()] == ["done"] * 3


def test_a_refund_that_never_arrived_is_found_and_booked(town: Town) -> None:
    customer = town.customer()
    order = town.sell(customer)
    town.deliver()
    assert town.balance(customer) == 100
    refund = town.store.refund(order, amount_minor=2000)
    town.lose()
    run = town.reconcile()
    (transaction,) = refund.transactions
    what = f"refund {refund.id}, transaction {transaction.id}"
    assert found(run) == [(order.name, "missing", what, True)]
    assert town.balance(customer) == 80
    assert found(town.reconcile()) == []
    with town.door.engine.begin() as connection:
        assert verify(connection, town.door.shop.id) == []
    first, second = town.runs()
    assert (first["missing"], first["different"], first["repaired"]) == (1, 0, 1)
    assert (second["missing"], second["orders_read"]) == (0, 1), "seen again, within the overlap"


def test_an_order_that_was_never_told_is_found_and_earns(town: Town) -> None:
    customer = town.customer()
    order = town.sell(customer)
    town.lose()
    assert found(town.reconcile()) == [(order.name, "missing", "the order", True)]
    assert town.balance(customer) == 100


def test_a_comparison_works_off_what_it_read_and_no_delivery(town: Town) -> None:
    """Deliveries are not believed as readings are (OrderOfAnotherShop): they are left to who looks at them so."""
    customer = town.customer()
    waiting = town.sell(customer)
    (delivery, *_) = town.store.take_outbox()
    town.door.send(delivery.topic, delivery.body)
    missed = town.sell(customer)
    town.lose()
    run = town.reconcile()
    assert {each.name for each in run.repaired} == {waiting.name, missed.name}
    states = town.rows(
        "select topic, i.state from inbox i join shops s on s.domain = i.shop_domain where s.id = :shop order by i.id"
    )
    assert [(row["topic"], row["state"]) for row in states] == [
        (delivery.topic, "pending"),
        ("orders/read", "done"),
        ("orders/read", "done"),
    ]


def test_a_refund_that_waited_for_its_order_is_settled_by_it(town: Town) -> None:
    customer = town.customer()
    order = town.sell(customer)
    town.lose()
    town.store.refund(order, amount_minor=2000)
    town.deliver(lost=lambda delivery: delivery.topic != "refunds/create")
    (waiting,) = town.rows("select status from orders where shop_id = :shop")
    assert waiting["status"] == "unknown"
    assert found(town.reconcile()) == [(order.name, "missing", "the order", True)]
    assert town.balance(customer) == 80


def test_a_cancellation_that_never_arrived_is_a_difference(town: Town) -> None:
    customer = town.customer()
    order = town.sell(customer, paid=False)
    town.deliver()
    town.later(minutes=1)
    town.store.cancel(order, with_refund=False)
    town.deliver(lost=lambda delivery: delivery.topic.startswith("orders/"))
    run = town.reconcile()
    (finding,) = run.findings
    assert (finding.kind, finding.repaired) == ("different", True)
    assert "cancellation" in finding.what
    assert town.door.order(order.id)["status"] == "cancelled"


def test_a_pending_refund_whose_end_never_arrived_is_a_difference(town: Town) -> None:
    customer = town.customer()
    order = town.sell(customer)
    refund = town.store.refund(order, amount_minor=5000, status="pending")
    town.deliver()
    assert town.balance(customer) == 100
    town.later(minutes=1)
    town.store.settle(order, refund, status="success")
    town.lose()
    (finding,) = town.reconcile().findings
    assert (finding.kind, finding.repaired) == ("different", True) and "transactions" in finding.what
    assert town.balance(customer) == 50


def test_only_orders_with_news_are_read_whole_unless_somebody_asked(town: Town) -> None:
    customer = town.customer()
    orders = [town.sell(customer) for _ in range(4)]
    town.deliver()
    town.store.refund(orders[2], amount_minor=1000)
    town.lose()
    town.gateway.calls.clear()
    town.reconcile("nightly", since=NOON)
    assert town.gateway.calls.count("order") == 1
    town.gateway.calls.clear()
    town.reconcile("asked", since=NOON)
    assert town.gateway.calls.count("order") == 4


def test_an_order_paid_before_the_store_was_added_earns_nothing_by_a_comparison(door: Door) -> None:
    town = found_town(door, installed_at=NOON + timedelta(hours=1))
    customer = town.customer()
    old = town.sell(customer)
    town.lose()
    run = town.reconcile("asked", since=NOON)
    assert (run.findings, run.before_us, run.orders_read) == ([], 1, 1)
    assert town.rows("select order_id from orders where shop_id = :shop") == []
    run = town.reconcile("asked", since=NOON, history=True)
    assert found(run) == [(old.name, "missing", "the order", True)]


def test_an_order_placed_before_and_paid_after_the_store_was_added_earns(door: Door) -> None:
    town = found_town(door, installed_at=NOON + timedelta(hours=1))
    customer = town.customer()
    order = town.sell(customer, paid=False)
    town.later(hours=2)
    town.store.pay(order)
    town.lose()
    assert len(town.reconcile("asked", since=NOON).findings) == 1
    assert town.balance(customer) == 100


def test_the_watermark_moves_with_a_run_that_ended_and_the_next_one_starts_a_little_before(
    town: Town,
) -> None:
    first, second = NOON + timedelta(hours=1), NOON + timedelta(hours=2)
    assert town.reconcile(until=first).since == NOON - timedelta(days=1) - OVERLAP
    assert town.installation()["orders_read_until"] == first
    assert town.reconcile(until=second).since == first - OVERLAP
    assert town.installation()["orders_read_until"] == second


def test_a_run_that_leaves_a_gap_does_not_move_the_watermark(town: Town) -> None:
    town.reconcile(until=NOON)
    town.reconcile("asked", since=NOON + timedelta(hours=1), until=NOON + timedelta(hours=2))
    assert town.installation()["orders_read_until"] == NOON


def test_the_nightly_run_looks_deeper_than_the_watermark(town: Town) -> None:
    town.reconcile(until=NOON + timedelta(days=7))
    run = town.reconcile("nightly", until=NOON + timedelta(days=7))
    assert run.since == NOON + timedelta(days=4)
    assert town.installation()["deep_read_at"] is not None


def test_a_run_whose_time_is_up_goes_on_where_it_stopped(town: Town) -> None:
    customer = town.customer()
    orders = [town.sell(customer) for _ in range(25)]
    town.lose()
    slices = 1
    while not town.reconcile("recent", budget_seconds=0).finished:
        slices += 1
    assert slices == 3
    (row,) = town.runs()
    assert (row["state"], row["missing"], row["repaired"]) == ("done", 25, 25)
    assert town.balance(customer) == 100 * len(orders)
    assert found(town.reconcile("asked", since=NOON)) == []


def test_a_run_gets_on_though_more_orders_were_changed_in_one_second_than_it_has_time_for(town: Town) -> None:
    customer = town.customer()
    orders = [town.sell(customer) for _ in range(25)]
    town.later(minutes=1)
    for order in orders:
        order.updated_at = town.now  # a bulk edit
    town.lose()
    read = 0
    for _ in range(3):
        run = town.reconcile("recent", budget_seconds=0)
        read += run.orders_read
    assert run.finished and read == len(orders)
    assert town.balance(customer) == 100 * len(orders)


@pytest.mark.parametrize(
    "error",
    [
        pytest.param(NeedsMerchant("lamps.myshopify.com", "token_revoked"), id="no token that works"),
        pytest.param(ShopifyRefused("orders", []), id="refused"),
    ],
)
def test_a_shop_that_cannot_be_read_is_a_failed_run_with_its_reason(town: Town, error: Exception) -> None:
    with pytest.raises(type(error)):
        broken(town, error).reconcile()
    (row,) = town.runs()
    assert row["state"] == "failed" and row["error"] == str(error)
    assert town.installation()["orders_read_until"] is None


def test_a_run_that_cannot_go_on_now_is_resumed_as_the_same_run(town: Town) -> None:
    town.sell(town.customer())
    town.lose()
    with pytest.raises(ShopifyThrottled):
        broken(town, ShopifyThrottled(60)).reconcile(budget_seconds=5)
    (row,) = town.runs()
    assert (row["state"], row["error"]) == ("running", "shopify_throttled")
    assert len(town.reconcile().findings) == 1
    (row,) = town.runs()
    assert (row["state"], row["error"], row["repaired"]) == ("done", None, 1)


def test_a_run_with_time_waits_when_shopify_asks_to_or_is_away(town: Town) -> None:
    town.sell(town.customer())
    town.lose()
    tired = broken(town, ShopifyThrottled(0.01), ShopifyUnreachable("away"), ShopifyThrottled(0.01))
    assert len(tired.reconcile().findings) == 1


def test_one_comparison_of_a_shop_at_a_time(town: Town) -> None:
    with alone(town.door.engine, town.shop), pytest.raises(Running):
        town.reconcile()
    assert town.runs() == []
    assert town.reconcile().finished


def test_an_interrupted_run_that_was_asked_for_is_not_resumed(town: Town) -> None:
    with pytest.raises(ShopifyThrottled):
        broken(town, ShopifyThrottled(60)).reconcile("asked", budget_seconds=0)
    town.reconcile("asked", since=NOON)
    assert [(row["state"], row["error"]) for row in town.runs()] == [
        ("failed", "interrupted"),
        ("done", None),
    ]


def test_an_order_deleted_after_it_was_listed_is_passed_over(town: Town) -> None:
    order = town.sell(town.customer())
    town.lose()
    answer = town.gateway.run

    def deleted(shop: ShopRow, name: str, variables: Any, *, background: bool = False) -> dict[str, Any]:
        if name == "order":
            town.store.orders.pop(order.id, None)
        return answer(shop, name, variables, background=background)

    town.gateway.run = deleted  # type: ignore[method-assign]
    run = town.reconcile()
    assert run.finished and run.findings == []


# -- by a bulk operation -----------------------------------------------------------------------------


def in_bulk(town: Town, **more: Any) -> Run:
    town.later(minutes=1)
    return reconcile_in_bulk(town.door.engine, town.gateway, town.shop, sleep=lambda seconds: None, **more)


def test_in_bulk_the_same_is_found_and_booked(town: Town) -> None:
    customer = town.customer()
    kept, refunded, told = (town.sell(customer, discounts=[Discount("Autumn", percent=10)]) for _ in range(3))
    town.deliver(lost=lambda delivery: delivery.order_id != told.id)
    town.store.refund(refunded, amount_minor=1000)
    town.lose()
    run = in_bulk(town)
    assert found(run) == [(each.name, "missing", "the order", True) for each in (kept, refunded)]
    assert (run.orders_read, town.balance(customer)) == (3, 3 * 90 - 10)
    assert town.gateway.calls.count("order") == 1, "only what was refunded is read by itself"
    assert in_bulk(town).findings == []
    assert found(town.reconcile("asked", since=NOON)) == []
    assert town.installation()["orders_read_until"] is None, "what was asked for left gaps"


def test_an_interrupted_import_goes_on_with_its_operation_after_what_was_done(town: Town) -> None:
    customer = town.customer()
    for _ in range(25):
        town.sell(customer)
    town.lose()
    lines = town.gateway.download

    def cut(url: str) -> Iterator[bytes]:
        yield from islice(lines(url), 31)  # an order and its line: fifteen orders, and one without its line
        raise ShopifyUnreachable("bulk result: away")

    town.gateway.download = cut  # type: ignore[method-assign]
    with pytest.raises(ShopifyUnreachable):
        in_bulk(town)
    (row,) = town.runs()
    assert (row["state"], row["cursor"], row["repaired"]) == ("running", "10", 10)
    town.gateway.download = lines  # type: ignore[method-assign]
    town.gateway.calls.clear()
    assert in_bulk(town).orders_read == 15
    assert "bulk_run" not in town.gateway.calls
    (row,) = town.runs()
    assert (row["state"], row["orders_read"], row["repaired"]) == ("done", 25, 25)
    assert town.balance(customer) == 25 * 100


def test_an_import_whose_operation_fails_says_so(town: Town) -> None:
    town.gateway.shopfront.bulk.fail_next = "TIMEOUT"
    with pytest.raises(ShopifyRefused):
        in_bulk(town)
    (row,) = town.runs()
    assert row["state"] == "failed" and "TIMEOUT" in row["error"]
    run = in_bulk(town)
    assert (run.finished, run.orders_read) == (True, 0)


@pytest.mark.parametrize(
    "lines",
    [
        pytest.param([b"{"], id="not JSON"),
        pytest.param([b'{"__parentId": "gid://shopify/Order/1", "quantity": 1}'], id="a line without its order"),
        pytest.param([b'{"id": "a"}', b'{"__parentId": "b", "quantity": 1}'], id="a line of another order"),
    ],
)  # fmt: skip
def test_a_bulk_file_out_of_order_is_refused(lines: list[bytes]) -> None:
    with pytest.raises(Unparseable):
        list(grouped(lines))


# -- what a worker does by the clock -----------------------------------------------------------------


def test_every_connected_shop_is_due_now_and_again_a_quarter_of_an_hour_after_its_last_run(
    town: Town,
) -> None:
    engine, domain = town.door.engine, town.door.shop.domain

    def kinds(at: datetime) -> list[str]:
        return [kind for name, kind in due(engine, now=at) if name == domain]

    now = datetime.now(UTC)
    assert kinds(now) == [], "not connected: there is no token"
    with engine.begin() as connection:
        connection.execute(
            text("update installations set access_token = 'x' where shop_id = :id"), {"id": town.door.shop.id}
        )
    assert kinds(now) == ["recent"]
    town.reconcile()
    assert kinds(now + timedelta(minutes=14)) == []
    assert kinds(now + timedelta(minutes=16)) == ["recent"]
    assert kinds(now + timedelta(days=1)) == ["recent", "nightly"]
    with pytest.raises(ShopifyThrottled):
        broken(town, ShopifyThrottled(60)).reconcile(budget_seconds=5)
    assert kinds(now) == ["recent"], "it was not finished"


def test_shops_have_their_nightly_run_one_after_the_other() -> None:
    noon = datetime(2026, 11, 21, 12, tzinfo=UTC)
    times = [last_night(id, noon) for id in range(1, 30)]
    assert len(set(times)) == len(times)
    assert all(noon - timedelta(days=1) < at <= noon for at in times)
    assert last_night(1, noon.replace(hour=0)) == last_night(1, noon) - timedelta(days=1)
