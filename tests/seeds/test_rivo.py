"""Rivo: redeemed rewards come back when an order is refunded, partially refunded, or voided. Each sentence, over HTTP."""

from __future__ import annotations

from typing import Any

import pytest

from app.sandbox.records import Order
from tests.seeds.conftest import NewShop
from tests.seeds.product import Shop, per_unit, reward, until

RETURNS = {"return_redeemed": {"enabled": True}}
NOTHING_EARNED: dict[str, Any] = {"earning": []}


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """The setting is on, nothing is earned, and Ada has 1,000 points."""
    shop = new_shop(**NOTHING_EARNED, **RETURNS)
    shop.grant(1000)
    return shop


def spend(shop: Shop, code: str = "LOYAL", amount: float = 300, **more: Any) -> str:
    return shop.redeem(reward="custom", amount=amount, code=code, **more)


def reasons(shop: Shop) -> list[str]:
    """Those of the newest entry about value that came back, or did not."""
    [newest, *_] = shop.activity("redemption.returned")
    return list(newest["detail"]["reasons"])


# -- the setting -----------------------------------------------------------------------------------------------------


@pytest.mark.parametrize("on", [True, False], ids=["on", "off"])
def test_the_setting_decides_whether_the_value_comes_back(new_shop: NewShop, on: bool) -> None:
    """R12, R13: off is the default; on, a full refund returns all 300 points."""
    shop = new_shop(**NOTHING_EARNED, **(RETURNS if on else {}))
    shop.grant(1000)
    spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 5_00)])
    assert shop.balance() == 700
    shop.refund(order)
    assert shop.balance() == (1000 if on else 700)


# -- how much --------------------------------------------------------------------------------------------------------


def test_half_of_the_discounted_items_gives_half_of_the_points(shop: Shop) -> None:
    """R12: two lamps shared the discount; one of them comes back."""
    id = spend(shop)
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    assert (shop.redemption(id)["returned"], shop.balance()) == (150, 850)


def test_the_share_is_that_of_the_discount_on_the_items(shop: Shop) -> None:
    """R12: lines of $150 and $60 share $42 as $30 and $12; the first one back gives 30/42 of 420 points."""
    id = spend(shop, amount=420)
    order = shop.sell(150_00, 60_00, codes=[("LOYAL", 42_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    assert shop.redemption(id)["returned"] == 300


def test_items_without_the_discount_give_nothing_back(shop: Shop) -> None:
    """R12: the refund has to include the reward's discount on the returned items."""
    id = spend(shop)
    order = only_on_the_first_line(shop, "LOYAL")
    shop.refund(order, units=[(order.items[1], 1)])
    assert shop.redemption(id)["returned"] == 0
    assert reasons(shop) == ["NO_LINE_DISCOUNT"]
    shop.refund(order, units=[(order.items[0], 1)])
    assert shop.redemption(id)["returned"] == 300


def only_on_the_first_line(shop: Shop, code: str) -> Order:
    """An order of two lines whose discount is for the first one's product alone."""
    shop.muted = True
    order = shop.sell(50_00, 50_00, codes=[(code, 10_00)], pay=False)
    order.items[0].allocations, order.items[1].allocations = {0: 10_00}, {}
    shop.muted = False
    with shop.front.act() as store:
        store.pay(order)
    return order


@pytest.mark.parametrize(
    ("back", "reason"),
    [
        pytest.param({"shipping_minor": 8_00}, "SHIPPING_ONLY", id="shipping"),
        pytest.param({"amount": 10_00}, "AMOUNT_ONLY", id="an amount"),
    ],
)
def test_a_refund_without_items_gives_nothing_back_and_says_why(
    shop: Shop, back: dict[str, Any], reason: str
) -> None:
    """R15: shipping-only and amount-only partial refunds return nothing."""
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)], shipping=8_00)
    shop.refund(order, **back)
    assert shop.redemption(id)["returned"] == 0
    assert reasons(shop) == [reason]
    assert reason in shop.api.get(f"/orders/{order.id}/trace", accept="text/plain").body


def test_one_refund_in_two_records_counts_by_its_items(shop: Shop) -> None:
    """R12, R15: the item with half of its money in one record, the other half in another: the item counts, once."""
    id = spend(shop)
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)])
    shop.refund(order, units=[(order.items[0], 1)], amount=22_50)
    shop.refund(order, amount=22_50)
    assert [refund["returned"] for refund in shop.order(order)["refunds"]] == [150, 0]
    assert shop.redemption(id)["returned"] == 150


def test_an_edited_order_still_gives_all_back_when_it_is_closed(shop: Shop) -> None:
    """R12, R13: an edit removes one of two items without money; the refund of the rest brings the remainder."""
    id = spend(shop)
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)])
    with shop.front.act() as store:
        store.edit(order, remove=[(order.items[1], 1)])
    assert shop.redemption(id)["returned"] == 0
    shop.refund(order, units=[(order.items[0], 1)])
    shop.refund(order, amount=45_00)
    assert shop.redemption(id)["returned"] == 300


# -- what the setting applies to -------------------------------------------------------------------------------------


def test_only_rewards_that_the_order_used_come_back(shop: Shop) -> None:
    """R12: one code was used, the other was not."""
    used, unused = spend(shop, "USED", 300), spend(shop, "UNUSED", 200)
    order = shop.sell(100_00, codes=[("USED", 5_00)])
    shop.refund(order)
    assert (shop.redemption(used)["returned"], shop.redemption(unused)["returned"]) == (300, 0)
    assert shop.balance() == 800


def test_credits_come_back_as_points_do(new_shop: NewShop) -> None:
    """R18: a program of credits with two decimals; half of the items give half of $7.50, the rest the rest."""
    shop = new_shop(unit={"kind": "credits", "scale": 2}, **NOTHING_EARNED, **RETURNS)
    shop.grant(10)
    id = spend(shop, amount=7.5)
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 7_50)])
    assert shop.balance() == 2.5
    shop.refund(order, units=[(order.items[0], 1)])
    assert (shop.redemption(id)["returned"], shop.balance()) == (3.75, 6.25)
    shop.refund(order)
    assert shop.balance() == 10


def test_refunded_partially_refunded_and_voided_orders_all_count(shop: Shop) -> None:
    """R12, R13, R27: a void returns what is left of the reward, too."""
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)], authorize=True)
    shop.cancel(order, with_refund=False)
    assert shop.order(order)["status"] == "voided"
    assert (shop.redemption(id)["returned"], shop.balance()) == (300, 1000)


def test_each_of_several_codes_comes_back_by_itself(shop: Shop) -> None:
    """R14: two rewards on one order, half of it returned, then the rest."""
    first, second = spend(shop, "FIRST", 300), spend(shop, "SECOND", 101)
    order = shop.sell(50_00, 50_00, codes=[("FIRST", 10_00), ("SECOND", 4_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    assert (shop.redemption(first)["returned"], shop.redemption(second)["returned"]) == (150, 50)
    shop.refund(order)
    assert (shop.redemption(first)["returned"], shop.redemption(second)["returned"]) == (300, 101)
    assert shop.balance() == 1000


def test_many_refunds_return_until_all_is_back_and_then_no_more(shop: Shop) -> None:
    """R14: three of four items one by one, then all the rest, then a goodwill amount: 300, never more."""
    id = spend(shop)
    order = shop.sell(25_00, 25_00, 25_00, 25_00, codes=[("LOYAL", 10_00)])
    returned = []
    for item in order.items[:3]:
        shop.refund(order, units=[(item, 1)])
        returned.append(shop.redemption(id)["returned"])
    assert returned == [75, 150, 225]
    shop.refund(order)
    assert shop.redemption(id)["returned"] == 300
    shop.refund(order, amount=5_00)
    assert (shop.redemption(id)["returned"], shop.balance()) == (300, 1000)
    assert [refund["returned"] for refund in shop.order(order)["refunds"]] == [75, 75, 75, 75, 0]


# -- important notes -------------------------------------------------------------------------------------------------


def test_gift_card_rewards_stay(new_shop: NewShop) -> None:
    """R16: not supported by the automatic flow, and the record says so."""
    shop = new_shop(**NOTHING_EARNED, **RETURNS, rewards=[reward("card", 300, kind="gift_card")])
    shop.grant(1000)
    id = shop.redeem(reward="card", code="CARD")
    order = shop.sell(100_00, codes=[("CARD", 10_00)])
    shop.refund(order)
    assert (shop.redemption(id)["returned"], shop.balance()) == (0, 700)
    assert reasons(shop) == ["GIFT_CARD_REWARD"]


def test_points_cancellations_are_another_setting(new_shop: NewShop) -> None:
    """R11: earnings are kept for every status, and redeemed value comes back all the same."""
    off = dict.fromkeys(("refunded", "partially_refunded", "voided", "cancelled"), False)
    shop = new_shop(earning=[per_unit(1)], reverse_earned=off, **RETURNS)
    shop.grant(1000)
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    assert shop.balance() == 790
    shop.refund(order)
    assert (shop.award(order)["reversed"], shop.redemption(id)["returned"], shop.balance()) == (0, 300, 1090)


def test_a_void_returns_the_reward_although_voids_reverse_no_earnings(new_shop: NewShop) -> None:
    """R11: Voided is not selected under Points Cancelations."""
    shop = new_shop(earning=[per_unit(1)], reverse_earned={"voided": False}, **RETURNS)
    shop.grant(1000)
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)], authorize=True)
    shop.cancel(order, with_refund=False)
    assert (shop.order(order)["status"], shop.redemption(id)["returned"]) == ("voided", 300)


def test_earnings_reversed_and_the_reward_kept_where_only_that_is_on(new_shop: NewShop) -> None:
    """R11: the other way round."""
    shop = new_shop(earning=[per_unit(1)])
    shop.grant(1000)
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    shop.refund(order)
    assert (shop.award(order)["reversed"], shop.redemption(id)["returned"], shop.balance()) == (90, 0, 700)


def test_rewards_come_back_although_nothing_was_earned(shop: Shop) -> None:
    """R18: there are no points to reverse on the order."""
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    assert shop.order(order)["awards"] == []
    shop.refund(order)
    assert shop.redemption(id)["returned"] == 300


def test_nothing_is_given_back_for_refunds_before_the_setting(new_shop: NewShop) -> None:
    """R17: half was refunded while it was off; it is switched on; the rest gives only the other half."""
    shop = new_shop(**NOTHING_EARNED)
    shop.grant(1000)
    id = spend(shop)
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    assert reasons(shop) == ["RETURN_OFF"]
    shop.program(**NOTHING_EARNED, **RETURNS)
    assert shop.redemption(id)["returned"] == 0
    shop.tell(shop.sent)
    assert shop.redemption(id)["returned"] == 0
    shop.refund(order)
    assert (shop.redemption(id)["returned"], shop.balance()) == (150, 850)


# -- common questions ------------------------------------------------------------------------------------------------


def test_nothing_comes_back_twice(shop: Shop) -> None:
    """R14: it was refunded already; the same webhooks, and one more refund, return nothing."""
    id = spend(shop)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    shop.refund(order)
    shop.tell(shop.sent)
    shop.refund(order, amount=1_00)
    assert (shop.redemption(id)["returned"], shop.balance()) == (300, 1000)


@pytest.mark.parametrize("kind", ["vip_entry", "membership"])
def test_vip_and_membership_rewards_come_back_when_they_were_used(new_shop: NewShop, kind: str) -> None:
    """R18: used on a cancelled order, what is left of them is returned."""
    shop = new_shop(**NOTHING_EARNED, **RETURNS, rewards=[reward("gift", 300, kind=kind)])
    shop.grant(1000)
    id = shop.redeem(reward="gift", code="WELCOME")
    order = shop.sell(100_00, codes=[("WELCOME", 10_00)])
    shop.cancel(order, with_refund=True)
    assert (shop.redemption(id)["returned"], shop.balance()) == (300, 1000)


def test_an_unused_code_is_not_touched_by_the_setting(new_shop: NewShop) -> None:
    """R17: a code redeemed before the change and never used stays as it was; used later, it counts."""
    shop = new_shop(**NOTHING_EARNED)
    shop.grant(1000)
    id = spend(shop)
    shop.program(**NOTHING_EARNED, **RETURNS)
    found = shop.redemption(id)
    assert (found["returned"], found["code_state"], shop.balance()) == (0, "tracked", 700)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    shop.refund(order)
    assert shop.balance() == 1000


def test_value_goes_back_to_its_lot_with_the_expiry_it_had(new_shop: NewShop) -> None:
    """R19: usually nothing is left to do by hand: the points are as they were before they were spent."""
    shop = new_shop(**NOTHING_EARNED, **RETURNS)
    shop.grant(400, expires_at="2099-01-31T00:00:00Z")
    shop.grant(600)
    before = shop.customer()
    spend(shop, amount=500)
    order = shop.sell(100_00, codes=[("LOYAL", 10_00)])
    shop.refund(order)
    assert shop.customer() == before | {"spend": shop.customer()["spend"]}


def test_codes_are_found_in_whatever_case_the_shopper_typed(shop: Shop) -> None:
    """S5: a checkout takes `loyal` for `LOYAL`."""
    id = spend(shop)
    order = shop.sell(100_00, codes=[("loyal", 10_00)])
    shop.refund(order)
    assert shop.redemption(id)["returned"] == 300


def test_the_two_settings_work_together_on_one_order(new_shop: NewShop) -> None:
    """R8: 200 points at the start, 70 earned and 150 spent on one order; half back: 160; all back: 200."""
    shop = new_shop(earning=[per_unit("0.7")], **RETURNS)
    shop.grant(200)
    spend(shop, amount=150)
    order = shop.sell(60_00, 60_00, codes=[("LOYAL", 20_00)])
    until(lambda: shop.balance() == 120)
    shop.refund(order, units=[(order.items[0], 1)])
    assert shop.balance() == 160
    shop.refund(order)
    assert shop.balance() == 200
