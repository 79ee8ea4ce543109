"""Points API: cancel and refund an order. Each sentence of the document, with what a receiver is told, over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest

from app.sandbox.records import Order
from tests.flows.listening import Answer as Refusal
from tests.flows.listening import Listener, listening
from tests.seeds.conftest import NewShop
from tests.seeds.product import Answer, Shop, per_unit, reward, until

FIVE_A_DOLLAR = {"earning": [per_unit(5)]}
RETURNS = {"return_redeemed": {"enabled": True}}
TERMINAL = ("cancelled", "fully refunded")


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """Orders earn five points a dollar, and redeemed value comes back."""
    return new_shop(**FIVE_A_DOLLAR, **RETURNS)


def cancel(shop: Shop, order: Order, body: Any = None, **more: Any) -> Answer:
    return shop.api.post(f"/orders/{order.id}/cancel", body, **more)


def refund(shop: Shop, order: Order, body: Any = None, **more: Any) -> Answer:
    return shop.api.post(f"/orders/{order.id}/refund", body, **more)


def replacing(shop: Shop) -> tuple[Order, str]:
    """A redeem checkout: 300 points took $10 off two lamps of $50. The order, and the redemption's id."""
    shop.program(earning=[], **RETURNS)
    shop.grant(300)
    id = shop.redeem(reward="custom", amount=300, code="LOYAL")
    return shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)]), id


# -- cancel ----------------------------------------------------------------------------------------------------------


def test_a_cancelled_order_stops(shop: Shop) -> None:
    """R36: what it earned is gone, its status says so, and so does the answer."""
    order = shop.sell(100_00)
    answer = cancel(shop, order, {"reason": "The customer changed their mind"})
    assert answer.status == 200, answer
    assert (answer["status_before"], answer["status_after"]) == ("open", "cancelled")
    assert (answer["reversed"], answer["reason"]) == (500, "The customer changed their mind")
    assert answer["remaining"] == {"amount": "0.00", "earned": 0, "redeemed": 0}
    assert (shop.order(order)["status"], shop.balance()) == ("cancelled", 0)


def test_an_order_that_was_never_paid_is_cancelled_before_it_is_settled(shop: Shop) -> None:
    """R27, R36: cancellation is for orders that should stop, not be reversed later."""
    order = shop.sell(100_00, pay=False)
    assert cancel(shop, order).status == 200
    shop.cancel(order, with_refund=False)
    found = shop.order(order)
    assert (found["status"], found["flags"]) == ("cancelled", [])


def test_pending_points_are_cancelled_with_their_order(new_shop: NewShop) -> None:
    """R5, R36: they never reach the balance."""
    shop = new_shop(**FIVE_A_DOLLAR, waiting_days=14)
    order = shop.sell(100_00)
    assert cancel(shop, order).status == 200
    assert (shop.customer()["pending"], shop.balance()) == (0, 0)


def test_without_a_reason_the_default_is_kept(shop: Shop) -> None:
    """R36: "Order cancelled via API", in the answer and on record, for support teams."""
    order = shop.sell(100_00)
    assert cancel(shop, order)["reason"] == "Order cancelled via API"
    [entry] = shop.activity("order.cancelled")
    assert entry["detail"]["reason"] == "Order cancelled via API"
    [kept] = shop.order(order)["cancellations"]
    assert kept["reason"] == "Order cancelled via API"


def test_an_order_of_another_merchant_is_not_found(shop: Shop, new_shop: NewShop) -> None:
    """R36: ownership is checked, and nothing is said of an order that is somebody else's."""
    order = shop.sell(100_00)
    other = new_shop(**FIVE_A_DOLLAR)
    for call in ("cancel", "refund", "preview"):
        answer = other.api.post(f"/orders/{order.id}/{call}")
        assert (answer.status, answer.error) == (404, "not_found")
    assert (shop.order(order)["status"], shop.balance()) == ("open", 500)


@pytest.mark.parametrize(
    "ended", ["cancelled by us", "cancelled at Shopify", "refunded by us", "refunded at Shopify"]
)
@pytest.mark.parametrize("call", [cancel, refund], ids=["cancel", "refund"])
def test_an_order_that_has_ended_is_neither_cancelled_nor_refunded_again(
    shop: Shop, call: Any, ended: str
) -> None:
    """R31: rejected with a clear error that says since when, and nothing is done."""
    order = shop.sell(100_00, pay=ended != "cancelled at Shopify")
    end = {
        "cancelled by us": lambda: cancel(shop, order),
        "cancelled at Shopify": lambda: shop.cancel(order, with_refund=False),
        "refunded by us": lambda: refund(shop, order),
        "refunded at Shopify": lambda: shop.refund(order),
    }[ended]
    end()
    before = shop.customer()
    answer = call(shop, order)
    wanted = "already_cancelled" if ended.startswith("cancelled") else "already_refunded"
    assert (answer.status, answer.error) == (409, wanted)
    assert answer["error"]["details"]["at"] in answer.message
    assert shop.customer() == before


# -- refund ----------------------------------------------------------------------------------------------------------


def test_a_full_refund_needs_nothing_but_the_order(shop: Shop) -> None:
    """R36: all that is left; `fully_refunded`."""
    order = shop.sell(100_00)
    answer = refund(shop, order, {"reason": "Arrived broken"})
    assert answer.status == 200, answer
    assert (answer["amount"], answer["reversed"], answer["status_after"]) == ("100.00", 500, "fully_refunded")
    assert answer["reason"] == "Arrived broken"
    assert (shop.order(order)["status"], shop.balance()) == ("fully_refunded", 0)


def test_a_partial_refund_by_amount(shop: Shop) -> None:
    """R36: $20 of $100 takes 100 of 500 points; the answer says what remains."""
    order = shop.sell(100_00)
    answer = refund(shop, order, {"amount": "20.00"})
    assert (answer["fraction"], answer["reversed"], answer["status_after"]) == (
        "1/5",
        100,
        "partially_refunded",
    )
    assert answer["remaining"] == {"amount": "80.00", "earned": 400, "redeemed": 0}
    assert (shop.order(order)["status"], shop.balance()) == ("partially_refunded", 400)


def test_a_partial_refund_by_lines(shop: Shop) -> None:
    """R36: the lamp of $20, at what was paid for it."""
    order = shop.sell(80_00, 20_00)
    answer = refund(shop, order, {"lines": [{"id": str(order.items[1].id), "quantity": 1}]})
    assert (answer["amount"], answer["reversed"], shop.balance()) == ("20.00", 100, 400)


def test_refunds_add_up_until_the_order_is_refunded_whole(shop: Shop) -> None:
    """R4, R36: by amount, by line, the rest; ours and Shopify's count alike, and never more than 500."""
    order = shop.sell(60_00, 40_00)
    assert refund(shop, order, {"amount": "33.33"})["reversed"] == 166
    shop.refund(order, units=[(order.items[1], 1)])
    assert shop.order(order)["status"] == "partially_refunded"
    rest = refund(shop, order)
    assert (rest["amount"], rest["status_after"]) == ("26.67", "fully_refunded")
    assert [r["reversed"] for r in shop.order(order)["refunds"]] == [166, 200, 134]
    assert shop.balance() == 0


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param({"amount": "100.01"}, "wrong_amount", id="more than the order"),
        pytest.param({"amount": "0.001"}, "wrong_amount", id="less than a cent"),
        pytest.param({"lines": [{"id": "1", "quantity": 1}]}, "unknown_line", id="a line of no order"),
        pytest.param({"amount": "0"}, "invalid_request", id="nothing"),
        pytest.param({"amount": 20}, "invalid_request", id="money as a number"),
        pytest.param({"amount": "-5.00"}, "invalid_request", id="below zero"),
        pytest.param({"amount": "5.00", "lines": []}, "invalid_request", id="amount and lines"),
        pytest.param({"reason": ""}, "invalid_request", id="an empty reason"),
        pytest.param({"reason": "x" * 201}, "invalid_request", id="a novel as a reason"),
        pytest.param({"sum": "5.00"}, "invalid_request", id="a field that nobody knows"),
    ],
)
def test_what_cannot_be_refunded_is_refused_and_named(shop: Shop, body: Any, code: str) -> None:
    """R36: nothing is done."""
    order = shop.sell(100_00)
    answer = refund(shop, order, body)
    assert (answer.status, answer.error) == (422, code), answer
    assert (shop.order(order)["status"], shop.balance()) == ("open", 500)


def test_more_units_than_were_bought_are_refused(shop: Shop) -> None:
    """R36: one was bought, one came back; a second one did not."""
    order = shop.sell(50_00, 50_00)
    line = {"id": str(order.items[0].id), "quantity": 1}
    assert refund(shop, order, {"lines": [line]}).status == 200
    again = refund(shop, order, {"lines": [line]})
    assert (again.status, again.error) == (422, "wrong_quantity")


# -- how value is reversed -------------------------------------------------------------------------------------------


def test_a_replacing_order_gives_its_redeemed_value_back(shop: Shop) -> None:
    """R12, R36: half of the items, half of the points; the rest with the rest; the status follows."""
    order, id = replacing(shop)
    half = refund(shop, order, {"lines": [{"id": str(order.items[0].id), "quantity": 1}]})
    assert (half["returned"], half["status_after"], shop.balance()) == (150, "partially_refunded", 150)
    assert half["remaining"]["redeemed"] == 150
    rest = refund(shop, order)
    assert (rest["returned"], rest["status_after"], shop.balance()) == (150, "fully_refunded", 300)
    assert shop.redemption(id)["restitution"] == "points"


def test_a_cancelled_replacing_order_gives_all_of_it_back(shop: Shop) -> None:
    """R13, R36: the order is off, so nothing was redeemed on it."""
    order, id = replacing(shop)
    assert cancel(shop, order)["returned"] == 300
    assert (shop.redemption(id)["returned"], shop.balance()) == (300, 300)


def test_an_earning_order_loses_in_proportion_and_rounds_down(shop: Shop) -> None:
    """R2, R36: a third of $100 takes 166 of 500 points, never 167."""
    order = shop.sell(100_00)
    assert refund(shop, order, {"amount": "33.33"})["reversed"] == 166
    assert shop.balance() == 334


def test_a_preview_says_what_the_refund_then_does(shop: Shop) -> None:
    """R37: the same words, and nothing changed in between."""
    order, _ = replacing(shop)
    body = {"lines": [{"id": str(order.items[0].id), "quantity": 1}]}
    before = (shop.customer(), shop.order(order))
    would = shop.api.post(f"/orders/{order.id}/preview", body)
    assert (shop.customer(), shop.order(order)) == before
    done = refund(shop, order, body)
    same = set(would.body) & set(done.body)
    assert {name: would[name] for name in same} == {name: done[name] for name in same}


def test_a_refund_can_be_undone(shop: Shop) -> None:
    """R38: as if it had never been told; a second undo is refused."""
    order = shop.sell(100_00)
    before = shop.customer()
    made = refund(shop, order, {"amount": "20.00"})
    undone = shop.api.post(f"/refunds/{made['id']}/undo", {"reason": "The wrong order"})
    assert (undone.status, undone["state"], undone["status_after"]) == (200, "done", "open")
    assert shop.customer() == before
    again = shop.api.post(f"/refunds/{made['id']}/undo")
    assert (again.status, again.error) == (409, "already_undone")
    assert refund(shop, order)["reversed"] == 500


# -- reasons ---------------------------------------------------------------------------------------------------------


def test_reasons_are_kept_so_that_support_can_reconcile(shop: Shop) -> None:
    """R36, R39: on the order, in the customer's activity with who asked, and in the trace."""
    order = shop.sell(100_00)
    refund(shop, order, {"amount": "20.00", "reason": "Arrived late"})
    [kept] = shop.order(order)["refunds"]
    assert (kept["origin"], kept["reason"], kept["reversed"]) == ("merchant", "Arrived late", 100)
    [entry] = shop.activity("order.refunded")
    assert entry["detail"]["reason"] == "Arrived late"
    assert entry["detail"]["by"].startswith("token:")
    assert "Arrived late" in shop.api.get(f"/orders/{order.id}/trace", accept="text/plain").body


def test_the_same_key_refunds_once(shop: Shop) -> None:
    """R36: a call whose answer was lost is sent again."""
    order = shop.sell(100_00)
    first, again = (refund(shop, order, {"amount": "20.00"}, key="k-1") for _ in range(2))
    assert first.body == again.body
    assert shop.balance() == 400
    assert refund(shop, order, {"amount": "20.00"}).status == 200
    assert shop.balance() == 300


# -- what a receiver is told -----------------------------------------------------------------------------------------


@pytest.fixture
def listener() -> Iterator[Listener]:
    """A receiver that verifies what it hears with the library of Standard Webhooks."""
    with listening() as heard:
        yield heard


def test_a_cancellation_and_refunds_are_told_to_a_receiver(shop: Shop, listener: Listener) -> None:
    """R36: `refunded` with the amount and what remains, `cancelled` with the reason, each signed and numbered."""
    shop.listens(listener, "refunded", "cancelled")
    order = shop.sell(100_00)
    refund(shop, order, {"amount": "20.00", "reason": "Arrived late"})
    cancel(shop, order)
    listener.wait_for(2)
    assert all(heard.verified for heard in listener.heard)
    numbered = sorted((heard.body["sequence"], heard.event) for heard in listener.heard)
    assert numbered[0] < numbered[1] and [event for _, event in numbered] == ["refunded", "cancelled"]
    [refunded], [cancelled] = listener.of("refunded"), listener.of("cancelled")
    assert refunded["order"] | {"id": str(order.id), "status": "partially_refunded"} == refunded["order"]
    assert (refunded["amount"], refunded["reversed"], refunded["reason"]) == ("20.00", 100, "Arrived late")
    assert refunded["remaining"] == {"amount": "80.00", "earned": 400, "redeemed": 0}
    assert cancelled["order"]["status"] == "cancelled"
    assert (cancelled["reversed"], cancelled["reason"]) == (400, "Order cancelled via API")
    assert cancelled["remaining"] == {"amount": "0.00", "earned": 0, "redeemed": 0}


def test_shopifys_own_refunds_are_told_alike(shop: Shop, listener: Listener) -> None:
    """R36: partially, then fully refunded; the redeemed value of a replacing order with them."""
    order, id = replacing(shop)
    shop.listens(listener, "refunded", "redemption.returned")
    shop.refund(order, units=[(order.items[0], 1)])
    shop.refund(order)
    listener.wait_for(4)
    refunded = [heard.body for heard in listener.heard if heard.event == "refunded"]
    first, second = (body["data"] for body in sorted(refunded, key=lambda body: body["sequence"]))
    assert [each["order"]["status"] for each in (first, second)] == ["partially_refunded", "fully_refunded"]
    assert [each["returned"] for each in (first, second)] == [150, 150]
    assert first["remaining"]["redeemed"] == 150
    assert first["redemptions"][0]["id"] == id
    assert all(heard.verified for heard in listener.heard)


def test_a_refused_call_tells_nobody_anything(shop: Shop, listener: Listener) -> None:
    """R31: a rejected cancellation or refund is not an event."""
    endpoint = shop.listens(listener)
    order = shop.sell(100_00)
    refund(shop, order)
    assert cancel(shop, order).status == refund(shop, order).status == 409
    listener.wait_for(2)
    log = shop.api.get(f"/endpoints/{endpoint}/deliveries")["data"]
    assert sorted(each["event"] for each in log) == ["points.reversed", "refunded"]


def test_a_receiver_that_was_down_is_told_later_with_the_same_id(shop: Shop, listener: Listener) -> None:
    """R36: integrators handle a message once by its id."""
    shop.listens(listener, "cancelled")
    listener.answers.append(Refusal(503))
    order = shop.sell(100_00)
    cancel(shop, order)
    listener.wait_for(2)
    assert len({heard.id for heard in listener.heard}) == 1


def test_a_redemption_whose_order_never_came_is_told_as_auto_refunded(
    new_shop: NewShop, listener: Listener
) -> None:
    """R30: missing when the books are compared at night: returned whole, a terminal state of its own."""
    shop = new_shop(connected=True, earning=[], rewards=[reward("5-off", 300)])
    shop.store.codes.strict = True
    shop.grant(300)
    shop.listens(listener, "auto_refunded")
    id = shop.redeem(reward="5-off")
    until(lambda: shop.redemption(id)["code_state"] == "active", "the code was not made")
    shop.hours_pass(id, 2)
    shop.product.ask_worker("reconcile.nightly", shop=shop.domain)
    listener.wait_for(1)
    [told] = listener.of("auto_refunded")
    assert (told["redemption_id"], told["status"], told["returned"]) == (id, "auto_refunded", 300)
    assert listener.heard[0].verified
    found = shop.redemption(id)
    assert (found["ended"], found["returned"], shop.balance()) == ("auto_refunded", 300, 300)
    refused = shop.api.post(f"/redemptions/{id}/cancel", {"force": True})
    assert (refused.status, refused.error) == (409, "already_refunded")
