"""Smile: cancel a points redemption, as its merchants do it: every step of the document is a click, every state of the
reward is seen on the page before and after.
"""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any

import pytest
import requests

from tests.browsing import Tab
from tests.seeds.conftest import NewShop, Visit
from tests.seeds.product import Shop, reward
from tests.seeds.test_smile import COST, coded, is_usable, notes

PROGRAM: dict[str, Any] = {"earning": [], "rewards": [reward("5-off", COST)]}
ACTION = "Points redeemed"
REFUND, ANYWAY = "Refund points", "Refund points anyway"


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """Connected to its store, where the reward's codes are made; Ada has 800 points."""
    shop = new_shop(connected=True, **PROGRAM)
    shop.store.codes.strict = True
    shop.grant(800)
    return shop


def by_customer(tab: Tab, shop: Shop) -> None:
    """From the customer's profile: search the customer, which leads there, find the redemption in the Activity card, click its Action."""
    tab.menu("Customers")
    tab.page.get_by_role("searchbox").fill(str(shop.ada.id))
    tab.click("Search")
    tab.page.get_by_role("heading", level=1, name=str(shop.ada.id)).wait_for()
    tab.page.get_by_role("region", name="Activity", exact=True).get_by_role("link", name=ACTION).click()
    tab.page.get_by_role("heading", name=REFUND).wait_for()


def by_activity(tab: Tab) -> None:
    """From the program's activity: find the redemption, click its Action."""
    tab.menu("Activity")
    tab.page.get_by_label("Action").select_option(label=ACTION)
    tab.click("Show")
    tab.page.wait_for_url("**kind=*")
    tab.page.locator("tbody").get_by_role("link", name=ACTION).click()
    tab.page.get_by_role("heading", name=REFUND).wait_for()


def status(tab: Tab) -> str:
    """The reward's, as the page has it."""
    return tab.page.locator("#refund .badge").first.inner_text()


def buttons(tab: Tab) -> list[str]:
    """What can be done about the redemption."""
    return tab.page.locator("#refund button").all_inner_texts()


# -- unused ----------------------------------------------------------------------------------------------------------


def test_an_unused_reward_is_refunded_from_the_customers_profile(shop: Shop, visit: Visit) -> None:
    """R34, R39: the coupon is removed at the store, the points come back by themselves, the account has a note."""
    _, code = coded(shop)
    tab = visit(shop)
    by_customer(tab, shop)
    assert (status(tab), buttons(tab)[0]) == ("Unused", REFUND)
    tab.page.locator("#f-refund-reason").fill("Redeemed by mistake")
    tab.click(REFUND)
    tab.says("Already refunded")  # the page looks again by itself until the coupon is gone
    assert (shop.balance(), is_usable(shop, code)) == (800, False)
    assert buttons(tab) == []
    tab.menu("Customers")
    tab.click(str(shop.ada.id))
    tab.says("Redemption cancelled")
    assert "Redeemed by mistake" in tab.text and "800 points" in tab.text


def test_a_preview_on_the_page_does_nothing(shop: Shop, visit: Visit) -> None:
    """R37: from the program's activity; what would happen is said, and nothing is done."""
    coded(shop)
    tab = visit(shop)
    by_activity(tab)
    tab.click("See what would happen", within="#refund")
    tab.says("What would happen")
    assert (status(tab), shop.balance(), notes(shop)) == ("Unused", 300, [])


# -- unused, but the spending rule no longer exists ------------------------------------------------------------------


def test_without_its_spending_rule_an_error_comes_first_and_then_points_anyway(
    shop: Shop, visit: Visit
) -> None:
    """R34: "The coupon cannot be canceled", then "Refund points anyway"; the coupon's status is what it was."""
    id, code = coded(shop)
    shop.program(earning=[], rewards=[])
    tab = visit(shop)
    by_activity(tab)
    assert status(tab) == "Unused, but the spending rule no longer exists"
    tab.click(REFUND)
    tab.page.get_by_role("alert").get_by_text("The coupon cannot be canceled. Nothing was done.").wait_for()
    tab.forgive("409")
    assert shop.balance() == 300
    tab.click(ANYWAY)
    tab.says("The coupon's status remains unchanged")
    assert (shop.balance(), shop.redemption(id)["code_state"], is_usable(shop, code)) == (800, "active", True)


# -- used ------------------------------------------------------------------------------------------------------------


def test_a_used_reward_is_refunded_and_its_code_remains_used(shop: Shop, visit: Visit) -> None:
    """R34: the page says that the coupon cannot be cancelled, and by which order it was used."""
    id, code = coded(shop)
    order = shop.sell(100_00, codes=[(code, 0)])
    tab = visit(shop)
    by_customer(tab, shop)
    assert (status(tab), buttons(tab)[0]) == ("Used", REFUND)
    assert "cannot be cancelled" in tab.text and f"Order {order.name}" in tab.text
    tab.click(REFUND)
    tab.says("The discount code remains as used.")
    assert (shop.balance(), shop.redemption(id)["order_id"]) == (800, str(order.id))
    assert not is_usable(shop, code)


# -- untracked, and refunded already ---------------------------------------------------------------------------------


def test_an_untracked_reward_is_refunded_and_then_nothing_more_can_be_done(shop: Shop, visit: Visit) -> None:
    """R34: no coupon is tracked, before or after; opened again, the date of the refund and no button."""
    shop.redeem(reward="custom", amount=100)
    tab = visit(shop)
    by_activity(tab)
    assert status(tab) == "Untracked"
    assert "nobody can tell whether it was used" in tab.text
    tab.click(REFUND)
    tab.says("The coupon is not tracked")
    assert shop.balance() == 800
    by_customer(tab, shop)
    assert (status(tab), buttons(tab)) == ("Already refunded", [])
    at = datetime.now(UTC)
    assert f"Refunded on {at.day} {at:%b %Y}" in tab.text
    assert "No further action is available." in tab.text


def test_two_merchants_at_once_refund_once(shop: Shop, visit: Visit) -> None:
    """R34, R38: a page that was open before the other's click is told the date, and gives nothing twice."""
    shop.redeem(reward="custom", amount=100)
    first, second = visit(shop), visit(shop)
    by_activity(first)
    by_activity(second)
    first.click(REFUND)
    first.says("The points were refunded.")
    second.click(REFUND)
    second.page.get_by_role("alert").first.wait_for()
    assert "refunded on" in second.text.lower() and status(second) == "Already refunded"
    second.forgive("409")
    assert (shop.balance(), len(notes(shop))) == (800, 1)


def test_nobody_without_a_login_sees_the_page(shop: Shop) -> None:
    """R34: a customer cannot refund points: the pages are the merchant's."""
    id = shop.redeem(reward="custom", amount=100)
    address = f"{shop.product.url}/admin/redemptions/{id}"
    assert requests.get(address, timeout=10).status_code == 401
    assert requests.post(address, {"act": "refund"}, timeout=10).status_code == 401
    assert shop.balance() == 700
