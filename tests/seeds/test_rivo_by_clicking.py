"""Rivo: the settings of orders, as its merchants change them: every step of the document is a click, and what a refund
then does is read on the pages.
"""

from __future__ import annotations

from typing import Any

import pytest

from app.sandbox.records import Order
from tests.browsing import Tab
from tests.seeds.conftest import NewShop, Visit
from tests.seeds.product import Shop, per_unit

RETURN = "Refund redeemed rewards on order cancellation"
STATUSES = ("Refunded", "Partially refunded", "Voided", "Cancelled")


def settings_of_orders(tab: Tab) -> None:
    tab.menu("Settings")
    tab.page.get_by_role("navigation", name="Settings", exact=True).get_by_role(
        "link", name="Orders", exact=True
    ).click()
    tab.page.get_by_label(RETURN).wait_for()


def save(tab: Tab, *, version: int) -> str:
    """Save, read what changes, confirm. What the review said."""
    tab.click("Save")
    tab.says("Nothing is saved yet.")
    said = tab.text
    tab.click("Confirm")
    tab.says(f"Version {version} is in force.")
    return said


def of_order(tab: Tab, order: Order) -> str:
    """What the order's page says."""
    tab.menu("Orders")
    tab.page.get_by_role("searchbox").fill(order.name)
    tab.click("Show")
    tab.page.wait_for_url("**search=*")
    tab.page.locator("tbody").get_by_role("link", name=order.name, exact=True).click()
    tab.page.get_by_role("heading", level=1, name=order.name).wait_for()
    return tab.text


def given_back(tab: Tab) -> str:
    """Of the only reward used on the order that is shown."""
    return tab.page.locator("td[data-label='Given back']").first.inner_text()


@pytest.fixture
def shop(new_shop: NewShop) -> Shop:
    """One point for each unit, refunds return nothing, and Ada has 1,000 points."""
    shop = new_shop(earning=[per_unit(1)])
    shop.grant(1000)
    return shop


def spend(shop: Shop, code: str, **more: Any) -> str:
    return shop.redeem(reward="custom", amount=300, code=code, **more)


def test_turning_it_on_returns_rewards_of_refunds_from_then_on(shop: Shop, visit: Visit) -> None:
    """R12, R13, R17: half was refunded while it was off; turned on by clicking, the rest gives the other half only."""
    spend(shop, "LOYAL")
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    tab = visit(shop)
    of_order(tab, order)
    assert given_back(tab) == "0"
    settings_of_orders(tab)
    section = tab.page.get_by_role("region", name="Points refunds")
    assert not section.get_by_label(RETURN).is_checked()
    section.get_by_label(RETURN).check()
    said = save(tab, version=2)
    assert RETURN in said and "It is not retroactive" in said
    assert tab.page.get_by_label(RETURN).is_checked()
    of_order(tab, order)
    assert given_back(tab) == "0"
    shop.refund(order)
    assert "Fully refunded" in of_order(tab, order)
    assert given_back(tab) == "150"
    assert shop.balance() == 850


def test_full_partial_and_void_are_told_with_their_numbers(new_shop: NewShop, visit: Visit) -> None:
    """R12, R13, R27: with the setting on, what each kind of refund did stands on its order's page."""
    shop = new_shop(earning=[per_unit(1)], return_redeemed={"enabled": True})
    shop.grant(1000)
    for code in ("FULL", "PART", "VOID"):
        spend(shop, code)
    full = shop.sell(100_00, codes=[("FULL", 10_00)])
    shop.refund(full)
    part = shop.sell(50_00, 50_00, codes=[("PART", 10_00)])
    shop.refund(part, units=[(part.items[0], 1)])
    void = shop.sell(100_00, codes=[("VOID", 10_00)], authorize=True)
    shop.cancel(void, with_refund=False)
    tab = visit(shop)
    for order, heading, returned in (
        (full, "Fully refunded", "300"),
        (part, "Partially refunded", "150"),
        (void, "Voided", "300"),
    ):
        assert heading in of_order(tab, order)
        assert given_back(tab) == returned
    assert "Taken back" in of_order(tab, part) and "45" in tab.text


def test_points_cancelations_are_chosen_status_by_status(shop: Shop, visit: Visit) -> None:
    """R11: Partially refunded and Voided are taken off the list; then only the full refund takes points back."""
    tab = visit(shop)
    settings_of_orders(tab)
    section = tab.page.get_by_role("region", name="Points cancelations")
    assert [section.get_by_label(each, exact=True).is_checked() for each in STATUSES] == [True] * 4
    section.get_by_label("Partially refunded", exact=True).uncheck()
    section.get_by_label("Voided", exact=True).uncheck()
    tab.page.get_by_label(RETURN).check()
    said = save(tab, version=2)
    assert "a partial refund takes back nothing of what its order earned" in said
    spend(shop, "LOYAL")
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 10_00)])
    shop.refund(order, units=[(order.items[0], 1)])
    of_order(tab, order)
    assert given_back(tab) == "150"  # rewards come back all the same
    assert tab.page.locator("td[data-label='Taken back']").first.inner_text() == "0"
    shop.refund(order)
    of_order(tab, order)
    assert tab.page.locator("td[data-label='Taken back']").first.inner_text() == "90"
    assert given_back(tab) == "300"
    spend(shop, "VOID")
    void = shop.sell(100_00, codes=[("VOID", 10_00)], authorize=True)
    shop.cancel(void, with_refund=False)
    assert "Voided" in of_order(tab, void)
    assert given_back(tab) == "300"


def test_of_credits_the_section_is_called_so_and_the_history_keeps_each_change(
    new_shop: NewShop, visit: Visit
) -> None:
    """R17, R18: the same setting for a program of credits; a change that was not meant is left without a trace."""
    shop = new_shop(earning=[], unit={"kind": "credits", "scale": 2})
    shop.grant(10)
    tab = visit(shop)
    settings_of_orders(tab)
    section = tab.page.get_by_role("region", name="Credits refunds")
    section.get_by_label(RETURN).check()
    tab.click("Save")
    tab.says("Nothing is saved yet.")
    tab.click("Discard")
    tab.page.get_by_label(RETURN).wait_for()
    assert not tab.page.get_by_label(RETURN).is_checked()
    tab.page.get_by_label(RETURN).check()
    save(tab, version=2)
    tab.click("History")
    tab.says("From the beginning")
    assert tab.text.count(RETURN) == 1
    shop.redeem(reward="custom", amount=7.5, code="LOYAL")
    order = shop.sell(50_00, 50_00, codes=[("LOYAL", 7_50)])
    shop.refund(order, units=[(order.items[0], 1)])
    of_order(tab, order)
    assert given_back(tab) == "3.75"
