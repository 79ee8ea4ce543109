"""Smile: cancel a points redemption. Each state of the reward's coupon, with what the merchant is told, over HTTP."""

from __future__ import annotations

import re
from datetime import UTC, datetime
from typing import Any

import pytest

from app.sandbox.codes import CodeRefused
from tests.seeds.conftest import NewShop
from tests.seeds.product import Answer, Shop, reward, until

COST = 500
DONE_OR_ASKED = (200, 202)  # 202: the code is being taken away at the store first
PROGRAM: dict[str, Any] = {"earning": [], "rewards": [reward("5-off", COST)]}


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """Connected to its store, where the reward's codes are made; Ada has 800 points."""
    shop = new_shop(connected=True, **PROGRAM)
    shop.store.codes.strict = True
    shop.grant(800)
    return shop


def coded(shop: Shop) -> tuple[str, str]:
    """A redemption whose code can be used at the store: its id, and the code."""
    id = shop.redeem(reward="5-off")
    until(lambda: shop.redemption(id)["code_state"] == "active", "the code was not made")
    return id, shop.redemption(id)["code"]


def cancelled(shop: Shop, id: str, **body: Any) -> Answer:
    return shop.api.post(f"/redemptions/{id}/cancel", body or None)


def state(shop: Shop, id: str) -> str:
    return str(shop.redemption(id)["cancellation"]["state"])


def is_usable(shop: Shop, code: str) -> bool:
    try:
        shop.sell(50_00, codes=[(code, 0)])
    except CodeRefused:
        return False
    return True


def notes(shop: Shop) -> list[Any]:
    return shop.activity("redemption.cancelled")


# -- where it is found -----------------------------------------------------------------------------------------------


def test_a_redemption_is_found_in_the_customers_activity_and_in_the_programs(shop: Shop) -> None:
    """R34, R39: both lists name the redemption, whose id shows how it stands and can be cancelled."""
    id, _ = coded(shop)
    [of_customer] = shop.activity("points.redeemed")
    [of_program] = shop.api.get("/activity?kind=points.redeemed")["data"]
    assert of_customer == of_program
    assert of_customer["target"].rpartition(":")[2] == id
    assert state(shop, id) == "unused"
    assert shop.redemption(id)["cancellation"]["message"]


# -- unused ----------------------------------------------------------------------------------------------------------


def test_an_unused_coupon_is_removed_and_the_points_come_back_with_a_note(shop: Shop) -> None:
    """R34: the customer can use the code no more, has the points again, and the account says why."""
    id, code = coded(shop)
    assert shop.balance() == 300
    asked = cancelled(shop, id, reason="Redeemed by mistake")
    assert asked.status in DONE_OR_ASKED, asked
    until(lambda: shop.balance() == 800, "the points did not come back")
    found = shop.redemption(id)
    assert (found["code_state"], found["restitution"], found["returned"]) == ("removed", "points", COST)
    assert not is_usable(shop, code)
    [note] = notes(shop)
    assert note["detail"]["reason"] == "Redeemed by mistake"
    assert re.match(r"token:\d+$", note["detail"]["by"])
    [back] = shop.activity("redemption.returned")
    assert (back["detail"]["balance_before"], back["detail"]["balance_after"]) == (300, 800)


def test_a_coupon_used_in_the_meantime_is_not_given_back_twice(shop: Shop) -> None:
    """R21, R34: the shopper was faster than our books: the store says that the code was used, and no point comes back."""
    id, code = coded(shop)
    shop.muted = True
    shop.sell(100_00, codes=[(code, 0)])
    assert state(shop, id) == "unused"
    assert cancelled(shop, id).status in DONE_OR_ASKED
    until(lambda: shop.redemption(id)["cancellation"]["refused"], "nobody said why")
    assert shop.redemption(id)["cancellation"]["refused"] == "code_used"
    assert (shop.balance(), notes(shop)) == (300, [])
    assert len(shop.activity("redemption.not_cancelled")) == 1


# -- unused, but the spending rule no longer exists ------------------------------------------------------------------


def test_without_its_spending_rule_an_error_comes_first_and_points_on_demand(shop: Shop) -> None:
    """R34: the coupon cannot be cancelled; "anyway" gives the points back and leaves the coupon as it is."""
    id, code = coded(shop)
    shop.program(earning=[], rewards=[])
    refused = cancelled(shop, id)
    assert (refused.status, refused.error) == (409, "spending_rule_gone")
    assert "cannot be cancelled" in refused.message and "force" in refused.message
    assert (shop.balance(), notes(shop)) == (300, [])
    done = cancelled(shop, id, force=True)
    assert (done.status, done["reversal"]["code"], shop.balance()) == (200, "unchanged", 800)
    assert done["warnings"]
    found = shop.redemption(id)
    assert (found["code_state"], found["code"]) == ("active", code)
    assert is_usable(shop, code)


# -- used ------------------------------------------------------------------------------------------------------------


def test_a_used_coupon_stays_used_and_points_come_back_on_demand(shop: Shop) -> None:
    """R34: refused with the order that used it; with force the points come back, the code does not."""
    id, code = coded(shop)
    order = shop.sell(100_00, codes=[(code, 0)])
    refused = cancelled(shop, id)
    assert (refused.status, refused.error) == (409, "code_used")
    assert refused["error"]["details"]["used_on"] == str(order.id)
    assert str(order.id) in refused.message and "cannot be cancelled" in refused.message
    assert shop.balance() == 300
    done = cancelled(shop, id, force=True, reason="Goodwill")
    assert (done.status, done["reversal"]["code"], shop.balance()) == (200, "stays_used", 800)
    assert not is_usable(shop, code)
    assert shop.redemption(id)["order_id"] == str(order.id)


def test_what_was_given_back_by_hand_is_not_given_back_by_a_refund_again(new_shop: NewShop) -> None:
    """R14, R21: used, cancelled with force, and then the order is wholly refunded."""
    shop = new_shop(**PROGRAM, return_redeemed={"enabled": True})
    shop.grant(800)
    id = shop.redeem(reward="5-off", code="MINE")
    order = shop.sell(100_00, codes=[("MINE", 5_00)])
    assert cancelled(shop, id, force=True).status == 200
    shop.refund(order)
    assert (shop.balance(), shop.redemption(id)["returned"]) == (800, COST)


def test_what_a_refund_gave_back_in_part_is_completed_and_no_more(new_shop: NewShop) -> None:
    """R14, R34: half came back with a refund; cancelling gives the other half."""
    shop = new_shop(**PROGRAM, return_redeemed={"enabled": True})
    shop.grant(800)
    id = shop.redeem(reward="5-off", code="MINE")
    order = shop.sell(50_00, 50_00, codes=[("MINE", 5_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    assert shop.balance() == 550
    done = cancelled(shop, id, force=True)
    assert (done["reversal"]["amount"], shop.balance()) == (250, 800)


# -- untracked -------------------------------------------------------------------------------------------------------


def test_points_of_a_reward_without_a_coupon_come_back_at_once(shop: Shop) -> None:
    """R34: nothing stands for it at the store; the points are refunded, and no code is spoken of."""
    id = shop.redeem(reward="custom", amount=100)
    assert state(shop, id) == "untracked"
    done = cancelled(shop, id)
    assert (done.status, done["reversal"]["code"], shop.balance()) == (200, "untracked", 800)
    [warning] = done["warnings"]
    assert "no code is tracked" in warning
    assert len(notes(shop)) == 1


def test_a_coupon_of_the_merchants_own_is_not_lost_sight_of(shop: Shop) -> None:
    """R34: a code that we were given and that the store knows as this customer's own is ended there."""
    shop.store.codes.create("a merchant's", ["OWN"], usage_limit=1, amount_minor=500)
    id = shop.redeem(reward="5-off", code="OWN")
    assert cancelled(shop, id).status in DONE_OR_ASKED
    until(lambda: shop.balance() == 800, "the points did not come back")
    assert not is_usable(shop, "OWN")


# -- already refunded ------------------------------------------------------------------------------------------------


def test_what_was_refunded_is_told_with_its_date_and_nothing_is_done(shop: Shop) -> None:
    """R34: a message with the date of the refund, and no further action, forced or not."""
    id = shop.redeem(reward="custom", amount=100)
    assert cancelled(shop, id).status == 200
    for again in (cancelled(shop, id), cancelled(shop, id, force=True)):
        assert (again.status, again.error) == (409, "already_refunded")
        day = f"{datetime.now(UTC):%Y-%m-%d}"
        assert day in again.message
        assert again["error"]["details"]["refunded_at"].startswith(day)
    assert (shop.balance(), len(notes(shop))) == (800, 1)
    assert state(shop, id) == "already_refunded"


def test_a_refund_of_the_order_counts_as_refunded(new_shop: NewShop) -> None:
    """R34: the order's refund brought the points back before anybody clicked."""
    shop = new_shop(**PROGRAM, return_redeemed={"enabled": True})
    shop.grant(800)
    id = shop.redeem(reward="5-off", code="MINE")
    order = shop.sell(100_00, codes=[("MINE", 5_00)])
    shop.refund(order)
    refused = cancelled(shop, id, force=True)
    assert (refused.status, refused.error, shop.balance()) == (409, "already_refunded", 800)


# -- who may, and how ------------------------------------------------------------------------------------------------


def test_only_the_merchant_cancels(shop: Shop, new_shop: NewShop) -> None:
    """R34: customers cannot: it takes the shop's own token, and another shop's finds nothing."""
    id = shop.redeem(reward="custom", amount=100)
    stranger = new_shop().api.post(f"/redemptions/{id}/cancel")
    assert (stranger.status, stranger.error) == (404, "not_found")
    shop.api.token = "unwind_" + "x" * 43
    assert shop.api.post(f"/redemptions/{id}/cancel").status == 401


def test_the_same_key_cancels_once_and_answers_the_same(shop: Shop) -> None:
    """R35: a call that is repeated because its answer was lost."""
    id = shop.redeem(reward="custom", amount=100)
    first, second = (
        shop.api.post(f"/redemptions/{id}/cancel", {"reason": "twice"}, key="k-1") for _ in range(2)
    )
    assert (first.status, first.body) == (second.status, second.body)
    assert second.headers["Idempotent-Replayed"] == "true"
    other = shop.api.post(f"/redemptions/{id}/cancel", {"reason": "another"}, key="k-1")
    assert other.status == 422
    assert (shop.balance(), len(notes(shop))) == (800, 1)


def test_a_preview_cancels_nothing(shop: Shop) -> None:
    """R37: what would come back, and then everything as before."""
    id = shop.redeem(reward="custom", amount=100)
    would = shop.api.post(f"/redemptions/{id}/cancel?preview=true")
    assert (would.status, would["reversal"]["amount"], would.headers["Unwind-Preview"]) == (200, 100, "true")
    assert (shop.balance(), shop.redemption(id)["returned"], notes(shop)) == (700, 0, [])


@pytest.mark.parametrize("kind", ["vip_entry", "membership"])
def test_a_vip_entry_reward_is_cancelled_as_any_other(new_shop: NewShop, kind: str) -> None:
    """R18, R34: it stands for a redemption; so does a reward for a referral that the program gives by `custom`."""
    shop = new_shop(earning=[], rewards=[reward("gift", 300, kind=kind)])
    shop.grant(800)
    id = shop.redeem(reward="gift")
    assert cancelled(shop, id).status == 200
    assert shop.balance() == 800
