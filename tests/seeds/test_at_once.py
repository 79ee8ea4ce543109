"""Sixteen clients at once on one order and one redemption: caps hold, every answer stands, the books are right."""

from __future__ import annotations

import itertools
import threading
from collections import Counter
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

from app.sandbox.records import Order
from tests.seeds.conftest import NewShop
from tests.seeds.product import Answer, Caller, Shop, per_unit

CLIENTS = 16
EARNED, REDEEMED, PAID = 450, 300, 90  # $100 less $10, five points a dollar
START = 1000
REFUSALS = {409, 422}  # of a client who came too late; never a fault of ours

Call = Callable[[Caller], Answer]
Named = tuple[str, Answer]


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    shop = new_shop(earning=[per_unit(5)], return_redeemed={"enabled": True})
    shop.grant(START)
    return shop


def used(shop: Shop) -> tuple[Order, str]:
    """An order of ten lamps that used a redemption of 300 points."""
    id = shop.redeem(reward="custom", amount=REDEEMED, code="LOYAL")
    return shop.sell(10_00, units=10, codes=[("LOYAL", 10_00)]), id


def at_once(shop: Shop, calls: Sequence[tuple[str, Call]]) -> list[Named]:
    """What each was answered: all begin at the same moment, each on a connection of its own."""
    start = threading.Barrier(len(calls))

    def one(name: str, call: Call) -> Named:
        caller = Caller(shop.api.url, shop.api.token)
        caller.get("/program")  # connected
        start.wait()
        return name, call(caller)

    with ThreadPoolExecutor(len(calls)) as pool:
        running = [pool.submit(one, name, call) for name, call in calls]
        return [each.result() for each in running]


def a_mixture(order: Order, redemption_id: str, customer_id: int, *, keys: bool) -> list[tuple[str, Call]]:
    """Every way to touch the two, over and over; some ask for what only one of them can have."""
    path, line = f"/orders/{order.id}", str(order.items[0].id)
    identifier = {"type": "ID", "value": str(customer_id)}
    numbers = itertools.count()

    def post(path: str, body: Any = None) -> Call:
        key = f"key-{next(numbers)}" if keys else None
        return lambda caller: caller.post(path, body, key=key)

    def reversing(points: int) -> Call:
        asked = {"redemptionId": redemption_id, "pointsToBeReversed": points, "identifier": identifier}
        return post("/points/reverse", asked)

    return [
        *(("refund", post(f"{path}/refund", {"amount": amount})) for amount in ("5.00", "7.77", "20.00")),
        *(("refund", post(f"{path}/refund", {"lines": [{"id": line, "quantity": n}]})) for n in (1, 2, 3)),
        *(("reverse", reversing(points)) for points in (7, 40, 41)),
        *(("preview", post(f"{path}/preview", {"amount": amount})) for amount in ("1.00", "90.00")),
        ("preview", post(f"/redemptions/{redemption_id}/cancel?preview=true", {"force": True})),
        ("redemption", post(f"/redemptions/{redemption_id}/cancel", {"force": True})),
        ("refund", post(f"{path}/refund")),
        ("cancel", post(f"{path}/cancel")),
        ("reverse", reversing(260)),
    ]


def accepted(answers: Sequence[Named], name: str) -> list[Answer]:
    return [answer for kind, answer in answers if kind == name and answer.status == 200]


def assert_answers_stand(shop: Shop, order: Order, redemption_id: str, answers: Sequence[Named]) -> None:
    """What each was promised is what stands, and all that stands was promised to one of them."""
    for name, answer in answers:
        assert answer.status == 200 or answer.status in REFUSALS, (name, answer)
    found, redemption = shop.order(order), shop.redemption(redemption_id)
    [award] = found["awards"]
    refunds, cancels = accepted(answers, "refund"), accepted(answers, "cancel")
    promised = {answer["id"]: (answer["reversed"], answer["returned"]) for answer in refunds}
    assert promised == {each["id"]: (each["reversed"], each["returned"]) for each in found["refunds"]}
    by_hand = {answer["reversalId"]: answer["pointsReversed"] for answer in accepted(answers, "reverse")}
    for answer in accepted(answers, "redemption"):
        by_hand[answer["reversal"]["id"]] = answer["reversal"]["amount"]
    assert by_hand == {each["id"]: each["amount"] for each in redemption["reversals"]}
    orders_own = [*refunds, *cancels]
    assert award["reversed"] == sum(answer["reversed"] for answer in orders_own) <= EARNED
    returned = sum(answer["returned"] for answer in orders_own) + sum(by_hand.values())
    assert redemption["returned"] == returned <= REDEEMED
    assert shop.balance() == START - REDEEMED + returned + EARNED - award["reversed"]


@pytest.mark.parametrize("keys", [False, True], ids=["without keys", "with keys"])
def test_whoever_comes_first_every_promise_is_kept(shop: Shop, keys: bool) -> None:
    """R3, R14, R31, R34, R35, R36, R37: cancelling, refunding, reversing and previewing at the same moment."""
    order, id = used(shop)
    calls = a_mixture(order, id, shop.ada.id, keys=keys)
    assert len(calls) == CLIENTS
    answers = at_once(shop, calls)
    assert_answers_stand(shop, order, id, answers)
    again = at_once(shop, calls) if keys else []
    assert Counter((n, repr(a.body)) for n, a in again if n != "preview") == Counter(
        (n, repr(a.body)) for n, a in answers if keys and n != "preview"
    )
    assert_answers_stand(shop, order, id, answers)


def test_a_storm_without_endings_stops_at_the_caps(shop: Shop) -> None:
    """R3, R14: sixteen refunds of $9 each of an order of $90, and sixteen reversals of 30 points of 300."""
    order, id = used(shop)
    identifier = {"type": "ID", "value": str(shop.ada.id)}
    asked = {"redemptionId": id, "pointsToBeReversed": 30, "identifier": identifier}

    def refunding(caller: Caller) -> Answer:
        return caller.post(f"/orders/{order.id}/refund", {"amount": "9.00"})

    def reversing(number: int) -> Call:
        return lambda caller: caller.post("/points/reverse", asked, key=f"k-{number}")

    answers = at_once(shop, [("refund", refunding)] * CLIENTS)
    assert len(accepted(answers, "refund")) == PAID // 9
    answers += at_once(shop, [("reverse", reversing(n)) for n in range(CLIENTS)])
    assert_answers_stand(shop, order, id, answers)
    assert (shop.order(order)["status"], shop.award(order)["reversed"]) == ("fully_refunded", EARNED)


def test_one_key_sent_by_sixteen_clients_is_one_refund(shop: Shop) -> None:
    """R35: all are answered the same, or told to wait for the first; the order is refunded once."""
    order, _ = used(shop)

    def refunding(caller: Caller) -> Answer:
        return caller.post(f"/orders/{order.id}/refund", {"amount": "9.00"}, key="the-one")

    answers = at_once(shop, [("refund", refunding)] * CLIENTS)
    done = [answer for _, answer in answers if answer.status == 200]
    assert {answer.status for _, answer in answers} <= {200, 409}
    assert len({answer["id"] for answer in done}) == 1
    assert len(shop.order(order)["refunds"]) == 1


def test_one_redemption_cancelled_by_sixteen_clients_comes_back_once(shop: Shop) -> None:
    """R21, R34: one has the points; the others are told when they came back."""
    order, id = used(shop)

    def cancelling(caller: Caller) -> Answer:
        return caller.post(f"/redemptions/{id}/cancel", {"force": True})

    answers = at_once(shop, [("redemption", cancelling)] * CLIENTS)
    errors = Counter(answer.error for _, answer in answers)
    assert errors == {None: 1, "already_refunded": CLIENTS - 1}
    assert_answers_stand(shop, order, id, answers)


def test_shopify_tells_of_refunds_while_merchants_act(shop: Shop) -> None:
    """R0: webhooks and calls at the same moment; nothing is counted twice, and both ends know the same."""
    order, id = used(shop)
    shop.muted = True
    for _ in range(4):
        shop.refund(order, units=[(order.items[0], 1)])
    told = shop.sent[-12:]
    telling = threading.Thread(target=shop.sender.send_all, args=(told,))
    telling.start()
    identifier = {"type": "ID", "value": str(shop.ada.id)}
    calls: list[tuple[str, Call]] = []
    for n in range(CLIENTS // 2):
        asked = {"redemptionId": id, "pointsToBeReversed": 10 + n, "identifier": identifier}
        calls.append(("reverse", lambda caller, asked=asked: caller.post("/points/reverse", asked)))
        calls.append(("refund", lambda caller: caller.post(f"/orders/{order.id}/refund", {"amount": "3.00"})))
    answers = at_once(shop, calls)
    telling.join()
    shop.tell(told)
    assert {answer.status for _, answer in answers} <= {200, *REFUSALS}
    found, redemption = shop.order(order), shop.redemption(id)
    ours = [each for each in found["refunds"] if each["origin"] == "merchant"]
    assert len(ours) == len(accepted(answers, "refund"))
    assert len(found["refunds"]) == len(ours) + 4
    by_hand = sum(each["amount"] for each in redemption["reversals"])
    assert by_hand == sum(answer["pointsReversed"] for answer in accepted(answers, "reverse"))
    assert redemption["returned"] == by_hand + sum(each["returned"] for each in found["refunds"]) <= REDEEMED
    assert shop.award(order)["reversed"] == sum(each["reversed"] for each in found["refunds"]) <= EARNED
