"""Capillary: reverse redeemed points. The document's requests and answers, field by field, and its errors, over HTTP.

Its numbers are those of the document; ids are Shopify's and ours, expiry dates lie where this clock can reach them.
"""

from __future__ import annotations

import time
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest

from app.sandbox.records import Customer
from tests.seeds.conftest import NewShop
from tests.seeds.product import Answer, Shop, reward, until

NOTHING_EARNED: dict[str, Any] = {"earning": []}
FIELDS = {
    "orgId",
    "identifier",
    "customerId",
    "redemptionId",
    "reversalId",
    "pointsToBeReversed",
    "pointsReversed",
    "pointsReversedDetails",
    "warnings",
}
GROUP_FIELDS = {"memberId", "pointsRestored", "pointsExpiredByReversal", "expiryBatchDate", "status"}
SOON_SECONDS = 2


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """Ada has 500 points."""
    shop = new_shop(**NOTHING_EARNED)
    shop.grant(500)
    return shop


def by_id(customer: Customer) -> dict[str, str]:
    return {"type": "ID", "value": str(customer.id)}


def reverse(
    shop: Shop, redemption_id: str, points: Any = None, *, key: str | None = None, **body: Any
) -> Answer:
    asked = {"redemptionId": redemption_id, "identifier": by_id(shop.ada), **body}
    if points is not None:
        asked["pointsToBeReversed"] = points
    return shop.api.post("/points/reverse", asked, key=key)


def number(answer: Answer) -> int:
    """The error's number, which stands in both shapes."""
    [error] = answer["errors"]
    assert answer.error == str(error["code"])
    assert error["message"] == answer.message
    return int(error["code"])


# -- one customer ----------------------------------------------------------------------------------------------------


def test_two_points_of_one_customer_are_reversed(shop: Shop) -> None:
    """R35: the document's example request, and each field of its answer; the breakup is absent."""
    id = shop.redeem(reward="custom", amount=300)
    answer = reverse(shop, id, 2)
    assert answer.status == 200, answer
    assert set(answer.body) == FIELDS
    assert answer["identifier"] == by_id(shop.ada)
    assert (answer["customerId"], answer["redemptionId"]) == (shop.ada.id, id)
    assert (answer["pointsToBeReversed"], answer["pointsReversed"]) == (2, 2)
    assert answer["pointsReversedDetails"] == {"available": 2, "expired": 0}
    assert answer["warnings"] == []
    assert isinstance(answer["orgId"], int)
    assert isinstance(answer["reversalId"], str)
    assert shop.balance() == 202


def test_without_a_number_all_that_was_redeemed_is_reversed(shop: Shop) -> None:
    """R35: pointsToBeReversed is optional; after a part, the rest."""
    id = shop.redeem(reward="custom", amount=300)
    reverse(shop, id, 2)
    answer = reverse(shop, id)
    assert (answer["pointsToBeReversed"], answer["pointsReversed"], shop.balance()) == (298, 298, 500)


def test_expired_points_are_reported_and_not_restored(shop: Shop) -> None:
    """R19: 20 of 350 points had expired when they came back: 330 available, 20 expired."""
    soon = datetime.now(UTC) + timedelta(seconds=SOON_SECONDS)
    shop.grant(20, expires_at=soon.isoformat())
    id = shop.redeem(reward="custom", amount=350)
    assert shop.balance() == 170
    wait_for(soon)
    answer = reverse(shop, id)
    assert answer["pointsReversed"] == 350
    assert answer["pointsReversedDetails"] == {"available": 330, "expired": 20}
    assert shop.balance() == 500
    assert shop.redemption(id) | {"returned": 350, "credited": 330, "expired": 20} == shop.redemption(id)


def wait_for(moment: datetime) -> None:
    time.sleep(max(0.0, (moment - datetime.now(UTC)).total_seconds()) + 0.05)


def test_restored_points_can_be_spent_again(shop: Shop) -> None:
    """R19: only what is credited is a balance."""
    id = shop.redeem(reward="custom", amount=500)
    reverse(shop, id, 499)
    assert shop.api.post("/redemptions", spending(shop, 500)).error == "insufficient_balance"
    assert shop.api.post("/redemptions", spending(shop, 499)).status == 201


def spending(shop: Shop, amount: float) -> dict[str, Any]:
    return {"customer_id": str(shop.ada.id), "reward": "custom", "amount": amount}


# -- groups ----------------------------------------------------------------------------------------------------------


def family(shop: Shop, *, soon: datetime) -> tuple[Customer, Customer, str]:
    """Two members gave 100 and 250 to Ada's redemption of 350; 20 of the second's points end `soon`."""
    first, second = shop.person(), shop.person()
    shop.grant(100, first, expires_at="2099-04-10T00:00:00Z")
    shop.grant(20, second, expires_at=soon.isoformat())
    shop.grant(230, second)
    sources = [
        {"customer_id": str(first.id), "amount": 100},
        {"customer_id": str(second.id), "amount": 250},
    ]
    return first, second, shop.redeem(reward="custom", amount=350, sources=sources)


def test_a_group_redemption_goes_back_to_each_member(shop: Shop) -> None:
    """R20: 350 of members who gave 100 and 250; 330 available, 20 expired, all of them the second's."""
    soon = (datetime.now(UTC) + timedelta(seconds=SOON_SECONDS)).replace(microsecond=0)
    first, second, id = family(shop, soon=soon)
    wait_for(soon)
    answer = reverse(shop, id, 350)
    assert answer.status == 200, answer
    assert set(answer.body) == FIELDS | {"crossMemberReversalBreakup"}
    assert (answer["pointsToBeReversed"], answer["pointsReversed"]) == (350, 350)
    assert answer["pointsReversedDetails"] == {"available": 330, "expired": 20}
    of_first, of_second = answer["crossMemberReversalBreakup"]
    assert set(of_first) == set(of_second) == GROUP_FIELDS
    assert of_first == {
        "memberId": first.id,
        "pointsRestored": 100,
        "pointsExpiredByReversal": 0,
        "expiryBatchDate": "2099-04-10T00:00:00Z",
        "status": "REVERSED",
    }
    assert of_second == {
        "memberId": second.id,
        "pointsRestored": 250,
        "pointsExpiredByReversal": 20,
        "expiryBatchDate": soon.strftime("%Y-%m-%dT%H:%M:%SZ"),
        "status": "REVERSED",
    }
    assert [shop.balance(who) for who in (first, second, shop.ada)] == [100, 230, 500]


def test_part_of_a_group_redemption_is_shared_out_in_proportion(shop: Shop) -> None:
    """R20: 7 of 350: 2 for who gave 100, 5 for who gave 250; each member may ask, and the rest comes back later."""
    first, second, id = family(shop, soon=datetime.now(UTC) + timedelta(hours=1))
    answer = reverse(shop, id, 7, identifier=by_id(second))
    restored = {part["memberId"]: part["pointsRestored"] for part in answer["crossMemberReversalBreakup"]}
    assert restored == {first.id: 2, second.id: 5}
    assert {part["status"] for part in answer["crossMemberReversalBreakup"]} == {"PARTIALLY_REVERSED"}
    assert answer["customerId"] == second.id
    rest = reverse(shop, id)
    assert {part["status"] for part in rest["crossMemberReversalBreakup"]} == {"REVERSED"}
    assert [shop.balance(who) for who in (first, second)] == [100, 250]


# -- identifiers -----------------------------------------------------------------------------------------------------


def test_a_customer_is_found_by_the_address_that_an_order_told(shop: Shop) -> None:
    """R35: EMAIL, in whatever case; the answer gives back what was sent, nothing else keeps it."""
    shop.sell(10_00)
    id = shop.redeem(reward="custom", amount=300)
    address = {"type": "EMAIL", "value": f"Ada.Abara.{shop.ada.id % 10_000}@EXAMPLE.com"}
    answer = reverse(shop, id, 2, identifier=address)
    assert answer.status == 200, answer
    assert (answer["identifier"], answer["customerId"]) == (address, shop.ada.id)
    said = repr([shop.activity(), shop.redemption(id)]).casefold()
    assert "example.com" not in said


def test_an_unknown_telephone_number_is_nobodys(shop: Shop) -> None:
    """R35: PHONE; a customer that cannot be found is not eligible, whoever the redemption belongs to."""
    id = shop.redeem(reward="custom", amount=300)
    answer = reverse(shop, id, 2, identifier={"type": "PHONE", "value": "+4915112345678"})
    assert number(answer) in (901, 899, 898), answer
    assert shop.balance() == 200


# -- errors ----------------------------------------------------------------------------------------------------------


def test_804_general_failure(shop: Shop) -> None:
    """R35: no such redemption, whatever its id looks like; another shop's is no such one."""
    for id in ("999999", "gWpna6"):
        answer = reverse(shop, id, 2)
        assert (answer.status, number(answer)) == (404, 804)


def test_another_shops_redemption_is_not_found(shop: Shop, new_shop: NewShop) -> None:
    """R35: 804, as if it did not exist."""
    other = new_shop(**NOTHING_EARNED)
    other.grant(500)
    id = other.redeem(reward="custom", amount=300)
    answer = reverse(shop, id, 2)
    assert number(answer) == 804
    assert other.balance() == 200


def test_817_insufficient_points(shop: Shop) -> None:
    """R35: more than is left of the redemption; the answer says how much is."""
    id = shop.redeem(reward="custom", amount=300)
    reverse(shop, id, 100)
    answer = reverse(shop, id, 201)
    assert (answer.status, number(answer)) == (409, 817)
    assert "200" in answer.message
    assert shop.balance() == 300


def test_818_not_allowed_for_this_program(new_shop: NewShop) -> None:
    """R35: the program has switched reversals off; and gift cards are never reversed."""
    shop = new_shop(**NOTHING_EARNED, points_reversal={"enabled": False})
    shop.grant(500)
    id = shop.redeem(reward="custom", amount=300)
    assert number(reverse(shop, id, 2)) == 818
    shop.program(**NOTHING_EARNED, rewards=[reward("card", 100, kind="gift_card")])
    card = shop.redeem(reward="card")
    assert number(reverse(shop, card, 2)) == 818
    assert reverse(shop, id, 2).status == 200


def test_827_conditions_not_met(new_shop: NewShop) -> None:
    """R21, R35: the order's refund brought all of it back before."""
    shop = new_shop(**NOTHING_EARNED, return_redeemed={"enabled": True})
    shop.grant(500)
    id = shop.redeem(reward="custom", amount=300, code="LOYAL")
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    shop.refund(order)
    assert number(reverse(shop, id, 2)) == 827
    assert shop.balance() == 500


@pytest.mark.parametrize("points", [0.0001, 1.5], ids=["four decimals", "half a point"])
def test_878_precision_not_supported(shop: Shop, points: float) -> None:
    """R35: more than three decimals; and more than the program's unit has."""
    id = shop.redeem(reward="custom", amount=300)
    answer = reverse(shop, id, points)
    assert (answer.status, number(answer)) == (422, 878)


def test_three_decimals_are_fine_for_credits_of_three(new_shop: NewShop) -> None:
    """R35, R18: the precision is the unit's."""
    shop = new_shop(unit={"kind": "credits", "scale": 3}, **NOTHING_EARNED)
    shop.grant(5)
    id = shop.redeem(reward="custom", amount=2.5)
    answer = reverse(shop, id, 0.125)
    assert (answer["pointsReversed"], answer["pointsReversedDetails"]["available"]) == (0.125, 0.125)
    assert shop.balance() == 2.625
    assert number(reverse(shop, id, 0.0005)) == 878


def test_885_invalid_program(shop: Shop) -> None:
    """R35: a program that is not this shop's."""
    id = shop.redeem(reward="custom", amount=300)
    assert number(reverse(shop, id, 2, programId="987654")) == 885


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"identifier": {"type": "TWITTER", "value": "@ada"}}, id="unknown identifier type"),
        pytest.param({"identifier": {"type": "ID"}}, id="no value"),
        pytest.param({"identifier": {"type": "EMAIL", "value": "not an address"}}, id="no address"),
        pytest.param({"pointsToBeReversed": -2}, id="below zero"),
        pytest.param({"pointsToBeReversed": 0}, id="zero"),
        pytest.param({"pointsToBeReversed": "2"}, id="text"),
        pytest.param({"points": 2}, id="a field that nobody knows"),
        pytest.param({"redemptionId": None}, id="no redemption"),
    ],
)
def test_887_validation_error(shop: Shop, wrong: dict[str, Any]) -> None:
    """R35: parameters that cannot be; the message names which."""
    id = shop.redeem(reward="custom", amount=300)
    asked = {"redemptionId": id, "pointsToBeReversed": 2, "identifier": by_id(shop.ada), **wrong}
    answer = shop.api.post("/points/reverse", asked)
    assert (answer.status, number(answer)) == (422, 887)
    assert next(iter(wrong)) in answer.message
    assert shop.balance() == 200


def test_901_customer_not_eligible(shop: Shop) -> None:
    """R35: somebody else's redemption."""
    stranger = shop.person()
    shop.grant(10, stranger)
    id = shop.redeem(reward="custom", amount=300)
    assert number(reverse(shop, id, 2, identifier=by_id(stranger))) == 901


def test_902_duplicate_request(shop: Shop) -> None:
    """R35: the same amount once more without a key; all of it once more in any case."""
    id = shop.redeem(reward="custom", amount=300)
    assert reverse(shop, id, 2).status == 200
    assert number(reverse(shop, id, 2)) == 902
    assert shop.balance() == 202
    assert reverse(shop, id).status == 200
    assert number(reverse(shop, id)) == 902
    assert number(reverse(shop, id, key="another")) == 902
    assert shop.balance() == 500


def test_the_same_key_answers_the_same_and_another_key_is_another_request(shop: Shop) -> None:
    """R35: a repeated request with the same key answers the same."""
    id = shop.redeem(reward="custom", amount=300)
    first, again, second = (reverse(shop, id, 2, key=key) for key in ("a", "a", "b"))
    assert (first.status, first.body) == (again.status, again.body)
    assert second["reversalId"] != first["reversalId"]
    assert shop.balance() == 204
    assert number(reverse(shop, id, 3, key="a")) == 887


def test_903_limit_exceeded(new_shop: NewShop) -> None:
    """R35: two reversals of one customer in thirty days."""
    limit = {"limit_per_customer": 2, "limit_days": 30}
    shop = new_shop(**NOTHING_EARNED, points_reversal=limit)
    shop.grant(500)
    id = shop.redeem(reward="custom", amount=300)
    assert [reverse(shop, id, points).status for points in (1, 2)] == [200, 200]
    assert number(reverse(shop, id, 3)) == 903
    assert shop.balance() == 203


def test_904_locked_for_this_customer(shop: Shop) -> None:
    """R35: locked until the lock ends or is lifted."""
    id = shop.redeem(reward="custom", amount=300)
    path = f"/customers/{shop.ada.id}/reversal-lock"
    until_then = (datetime.now(UTC) + timedelta(hours=1)).isoformat()
    assert shop.api.put(path, {"until": until_then, "reason": "looked into"}).status == 200
    answer = reverse(shop, id, 2)
    assert (answer.status, number(answer)) == (423, 904)
    assert shop.api.call("DELETE", path).status == 200
    assert reverse(shop, id, 2).status == 200


def test_898_unavailable_is_over_when_shopify_answers_again(new_shop: NewShop) -> None:
    """R35: an address that only Shopify knows, while it has trouble of its own; the same key succeeds afterwards."""
    shop = new_shop(connected=True, **NOTHING_EARNED)
    shop.grant(500)
    id = shop.redeem(reward="custom", amount=300)
    address = {"type": "EMAIL", "value": f"ada.abara.{shop.ada.id % 10_000}@example.com"}
    shop.front.faults.add("status", status=502, times=20)
    answer = reverse(shop, id, 2, identifier=address, key="k")
    assert (answer.status, number(answer)) == (503, 898)
    assert answer.headers["Retry-After"]
    shop.front.faults.clear()
    done = until(lambda: (found := reverse(shop, id, 2, identifier=address, key="k")).status == 200 and found)
    assert done["customerId"] == shop.ada.id
    assert shop.balance() == 202


def test_a_token_is_needed(shop: Shop) -> None:
    """R35: 401 for who has none."""
    id = shop.redeem(reward="custom", amount=300)
    shop.api.token = "unwind_nobody"
    assert reverse(shop, id, 2).status == 401


def test_a_code_that_can_still_be_used_is_taken_away_first(new_shop: NewShop) -> None:
    """R21, R35: not both: 827 says to cancel the redemption, which removes the code."""
    shop = new_shop(connected=True, **NOTHING_EARNED, rewards=[reward("5-off", 300)])
    shop.grant(500)
    id = shop.redeem(reward="5-off")
    until(lambda: shop.redemption(id)["code_state"] == "active")
    assert number(reverse(shop, id, 2)) == 827
    assert shop.balance() == 200


def test_a_used_code_stays_used_and_a_later_refund_gives_only_the_rest(new_shop: NewShop) -> None:
    """R14, R35: 100 of 300 reversed by hand; the full refund returns 200."""
    shop = new_shop(**NOTHING_EARNED, return_redeemed={"enabled": True})
    shop.grant(500)
    id = shop.redeem(reward="custom", amount=300, code="LOYAL")
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    assert reverse(shop, id, 100).status == 200
    shop.now()
    shop.refund(order)
    assert (shop.redemption(id)["returned"], shop.balance()) == (300, 500)
    assert shop.order(order)["refunds"][0]["returned"] == 200
