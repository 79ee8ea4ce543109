"""Each page opens, at a desk and on phones, says nothing on the console, fits its window, and serves everybody (axe)."""

from __future__ import annotations

import pytest

from tests.browser.conftest import OpenShop, Server
from tests.browsing import PHONES, Tab

PAGES = {
    "Home": "/admin/",
    "Orders": "/admin/orders",
    "Customers": "/admin/customers",
    "Activity": "/admin/activity",
    "Redemptions": "/admin/redemptions",
    "Preview": "/admin/preview",
    "Needs attention": "/admin/attention",
    "Integrations": "/admin/integrations",
    "Settings": "/admin/settings",
}
SETTINGS = ("Orders", "Earning", "VIP tiers", "Rewards", "Unit and time zone", "History")
FIRST = "#main tbody a"  # of a list


@pytest.mark.parametrize(("title", "path"), PAGES.items(), ids=list(PAGES))
def test_a_page_is_the_same_by_click_and_by_address_and_is_right_on_every_window(
    tab: Tab, title: str, path: str
) -> None:
    clicked = tab.menu(title)
    assert tab.page.url.endswith(path)
    assert tab.go(path) == clicked
    assert tab.page.title() == f"{title} · Unwind"
    assert tab.faults() == []


@pytest.mark.parametrize(
    ("place", "link"),
    [
        pytest.param("/admin/orders?status=partially_refunded", FIRST, id="an order with refunds"),
        pytest.param("/admin/orders?status=fully_refunded", FIRST, id="an order that is closed"),
        pytest.param("/admin/customers", FIRST, id="a customer"),
        pytest.param("/admin/redemptions?status=unused", FIRST, id="an unused redemption"),
        pytest.param("/admin/redemptions?status=refunded", FIRST, id="a redemption that was refunded"),
    ],
)
def test_a_page_of_one_thing_is_found_in_its_list(tab: Tab, place: str, link: str) -> None:
    tab.go(place)
    tab.page.locator(link).first.click()
    tab.page.wait_for_url(lambda url: place.partition("?")[0] + "/" in url)
    assert tab.faults() == []


def test_what_a_refund_would_do_is_shown_before_it_is_done(tab: Tab) -> None:
    """The preview of an order, and the page on which the refund is made."""
    tab.go("/admin/orders?status=open")
    tab.page.locator(FIRST).first.click()
    tab.click("Preview")
    tab.page.get_by_role("region", name="All that is left").get_by_role("button").click()
    tab.says("This would happen")
    assert tab.faults() == []
    tab.click("Refund this")
    tab.says("Leave it as it is")
    assert tab.faults() == []


def test_settings_have_a_page_each(tab: Tab) -> None:
    tab.menu("Settings")
    subnav = tab.page.get_by_role("navigation", name="Settings", exact=True)
    for title in SETTINGS:
        subnav.get_by_role("link", name=title, exact=True).click()
        subnav.locator(f'a[aria-current]:text-is("{title}")').wait_for()
        assert (title, tab.faults()) == (title, [])


def test_a_change_of_settings_is_reviewed_on_a_page_of_its_own(tab: Tab) -> None:
    tab.go("/admin/settings/orders")
    tab.page.get_by_label("Refund redeemed rewards on order cancellation").click()
    tab.click("Save")
    tab.says("Nothing is saved yet.")
    assert tab.faults() == []


def test_an_address_without_a_page_says_so(tab: Tab) -> None:
    answer = tab.page.goto("/admin/orders/999999999999")
    assert answer is not None and answer.status == 404
    tab.forgive("404")
    assert tab.page.get_by_role("link", name="Home", exact=True).count()
    assert tab.faults() == []


def test_an_endpoint_its_secret_and_its_deliveries(server: Server, visit: OpenShop) -> None:
    """Added by clicking; nobody listens there, and no worker sends: a test and an order's messages wait."""
    shop = server.shop()
    tab = visit(shop)
    tab.menu("Integrations")
    tab.click("Add an endpoint")
    tab.page.get_by_label("Address", exact=True).fill("http://127.0.0.1:9/hooks")
    tab.click("Add the endpoint")
    tab.says("secret")
    assert tab.faults() == []
    tab.menu("Integrations")
    tab.page.get_by_role("link", name="http://127.0.0.1:9/hooks").click()
    tab.click("Send a test")
    tab.page.locator("tbody tr").first.wait_for()
    assert tab.faults() == []


def test_a_token_is_shown_once(server: Server, visit: OpenShop) -> None:
    tab = visit(server.shop())
    tab.menu("Integrations")
    tab.page.get_by_label("Name", exact=True).fill("checkout")
    tab.click("Make a token")
    tab.says("checkout")
    assert tab.faults() == []
    tab.menu("Integrations")
    assert "checkout" in tab.text


def test_a_shop_in_which_nothing_has_happened_yet(server: Server, visit: OpenShop) -> None:
    """Every page of it says what will stand there."""
    tab = visit(server.shop())
    for title, path in PAGES.items():
        tab.go(path)
        tab.widen(PHONES[-1])
        assert (title, tab.overflow() <= 0, tab.axe()) == (title, True, [])


def test_the_login_page_and_that_of_nobody(server: Server, visit: OpenShop) -> None:
    tab = visit(server.shop())
    tab.page.get_by_role("button", name="Log out").click()
    tab.page.wait_for_url("**/admin/login")
    assert tab.faults() == []
    answer = tab.page.goto("/admin/orders")
    assert answer is not None and answer.status == 401
    tab.forgive("401")
    assert tab.faults() == []
