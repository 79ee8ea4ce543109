"""The pretend store over HTTP: a page to look at, calls to sell and refund."""

from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
import requests

from app.sandbox.server import Shopfront, create_sandbox, served
from app.sandbox.store import Delivery
from app.sandbox.world import World


class Shopping:
    def __init__(self, url: str, world: World, sent: list[Delivery]) -> None:
        self.url = url
        self.world = world
        self.sent = sent

    def post(self, path: str, body: dict) -> requests.Response:
        return requests.post(f"{self.url}{path}", json=body, timeout=5)

    def new_order(self, **more: object) -> dict:
        product = next(iter(self.world.store.products))
        customer = next(iter(self.world.store.customers))
        body = {"customer_id": str(customer), "lines": [{"product_id": product, "quantity": 2}], **more}
        answer = self.post("/control/orders", body)
        assert answer.status_code == 201, answer.text
        return answer.json()

    def topics(self) -> list[str]:
        return [delivery.topic for delivery in self.sent]


@pytest.fixture
def shopping() -> Iterator[Shopping]:
    world = World(domain="lamps.myshopify.com", seed=5, orders=3, refunds=2)
    world.place(datetime.now(UTC) - timedelta(hours=1))
    world.store.clock = lambda: datetime.now(UTC)
    sent: list[Delivery] = []
    with served(create_sandbox(Shopfront(world.store, sent.extend))) as url:
        yield Shopping(url, world, sent)


def test_the_page_lists_the_orders(shopping: Shopping) -> None:
    page = requests.get(shopping.url, timeout=5)
    assert page.status_code == 200
    assert all(order.name in page.text for order in shopping.world.store.orders.values())


def test_an_order_placed_by_hand_is_paid_and_told(shopping: Shopping) -> None:
    order = shopping.new_order()
    assert order["financial_status"] == "paid"
    assert shopping.topics() == [
        "orders/create",
        "order_transactions/create",
        "orders/paid",
        "orders/updated",
    ]


def test_a_refund_by_amount_by_lines_and_of_the_rest(shopping: Shopping) -> None:
    order = shopping.new_order(codes=[{"code": "WELCOME", "amount": "5.00"}])
    path = f"/control/orders/{order['id']}/refunds"
    assert shopping.post(path, {"amount": "1.50"}).json()["refunded"] == "1.50"
    assert shopping.post(path, {"lines": [{"id": order["lines"][0]["id"], "quantity": 1}]}).status_code == 201
    last = shopping.post(path, {}).json()
    assert last["financial_status"] == "refunded"
    assert last["refunded"] == order["total"]
    assert shopping.topics().count("refunds/create") == 3
    assert shopping.post(path, {}).status_code == 409


def test_a_cancellation_happens_once(shopping: Shopping) -> None:
    order = shopping.new_order(pay=False)
    path = f"/control/orders/{order['id']}/cancel"
    assert shopping.post(path, {}).json()["cancelled"] is True
    assert shopping.post(path, {}).status_code == 409


def test_an_unpaid_order_can_be_paid_once_and_not_refunded_before(shopping: Shopping) -> None:
    order = shopping.new_order(pay=False)
    assert shopping.post(f"/control/orders/{order['id']}/refunds", {"amount": "1.00"}).status_code == 409
    assert shopping.post(f"/control/orders/{order['id']}/pay", {}).json()["financial_status"] == "paid"
    assert shopping.post(f"/control/orders/{order['id']}/pay", {}).status_code == 409


def test_the_body_of_an_order_can_be_read(shopping: Shopping) -> None:
    order = shopping.new_order()
    body = requests.get(f"{shopping.url}/control/orders/{order['id']}", timeout=5).json()
    assert str(body["id"]) == order["id"]
    assert body["total_price"] == order["total"]
    listed = requests.get(f"{shopping.url}/control/orders", timeout=5).json()["orders"]
    assert order in listed


@pytest.mark.parametrize(
    ("path", "body", "status"),
    [
        pytest.param("/control/orders", {}, 422, id="an order of nothing"),
        pytest.param("/control/orders", {"lines": [{"product_id": 1}]}, 422, id="an unknown product"),
        pytest.param("/control/orders/1/refunds", {"amount": "1.00"}, 404, id="an unknown order"),
        pytest.param("/control/orders/ORDER/refunds", {"amount": "NaN"}, 422, id="an amount that is none"),
        pytest.param(
            "/control/orders/ORDER/refunds", {"amount": "Infinity"}, 422, id="an amount without end"
        ),
        pytest.param("/control/orders/ORDER/refunds", {"amount": "-1.00"}, 422, id="an amount below zero"),
        pytest.param("/control/orders/ORDER/refunds", {"lines": [{"id": 1}]}, 422, id="an unknown line"),
        pytest.param("/control/orders/ORDER/refunds", {"lines": 3}, 422, id="lines that are no list"),
    ],
)
def test_a_wrong_call_is_explained(shopping: Shopping, path: str, body: dict, status: int) -> None:
    order = shopping.new_order()
    answer = shopping.post(path.replace("ORDER", order["id"]), body)
    assert answer.status_code == status
    assert answer.json()["error"]["message"]
