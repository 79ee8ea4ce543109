"""Without a mouse, and with a server that goes away: focus is where the news is, and nothing is lost without a word."""

from __future__ import annotations

from dataclasses import dataclass

import pytest
from playwright.sync_api import expect

from tests.browser.conftest import OpenShop, Server
from tests.browsing import Tab
from tests.web.api.conftest import CUSTOMER
from tests.web.pages.conftest import PageShop


@dataclass
class Visited:
    """A shop with an order of which a fifth was refunded, and somebody in front of its pages."""

    shop: PageShop
    tab: Tab

    def press(self, *keys: str) -> None:
        for key in keys:
            self.tab.page.keyboard.press(key)

    def tab_to(self, words: str) -> None:
        """Tab on until these words have the focus: within a screenful of tabs."""
        for _ in range(30):
            if self.tab.focused == words:
                return
            self.press("Tab")
        raise AssertionError(f"{words!r} is not reached by keyboard; {self.tab.focused!r} is")

    def arrives(self, focused: str) -> None:
        """Wait until this has the focus."""
        self.tab.page.wait_for_function(
            "words => (document.activeElement.id || document.activeElement.innerText || '').trim().startsWith(words)",
            arg=focused,
        )


@pytest.fixture
def visited(server: Server, visit: OpenShop) -> Visited:
    shop = server.shop()
    shop.place(450)
    shop.refund(450, 9001, 2_000)
    return Visited(shop, visit(shop))


def test_the_first_tab_skips_the_navigation(visited: Visited) -> None:
    visited.press("Tab")
    assert visited.tab.focused == "Skip to the content"
    skip = visited.tab.page.get_by_role("link", name="Skip to the content")
    assert (box := skip.bounding_box()) is not None and box["height"] > 10
    visited.press("Enter")
    visited.arrives("main")


def test_pages_are_reached_and_left_by_keyboard_and_the_heading_is_told(visited: Visited) -> None:
    """The navigation, a list, one of its rows; then the way back, which needs no keys of ours."""
    tab = visited.tab
    visited.tab_to("Orders")
    visited.press("Enter")
    visited.arrives("Orders")
    expect(tab.page).to_have_title("Orders · Unwind")
    assert tab.page.evaluate("document.activeElement.tagName") == "H1"
    visited.tab_to("#450")
    visited.press("Enter")
    visited.arrives("Order #450")
    assert "20.00" in tab.text
    tab.page.go_back()
    tab.says("Placed")
    expect(tab.page).to_have_title("Orders · Unwind")
    assert tab.heading == "Orders"
    tab.page.go_back()
    tab.page.wait_for_url("**/admin/")
    tab.says("Is all well?")
    expect(tab.page).to_have_title("Home · Unwind")
    tab.page.go_forward()
    tab.page.wait_for_url("**/admin/orders")
    tab.page.locator("#main tbody a").first.wait_for()


def test_a_form_is_sent_by_enter_and_what_it_did_is_said(visited: Visited) -> None:
    """Points are given on a customer's page, by Enter in its last field."""
    tab = visited.tab
    tab.go(f"/admin/customers/{CUSTOMER}")
    before = visited.shop.balance()
    tab.page.locator("#f-grant-amount").focus()
    tab.page.keyboard.type("25")
    visited.press("Tab")
    tab.page.keyboard.type("a late parcel")
    visited.press("Enter")
    tab.page.get_by_role("status").first.wait_for()
    assert visited.shop.balance() == before + 25
    visited.arrives(f"Customer {CUSTOMER}")


def test_a_refusal_takes_the_focus_and_keeps_what_was_typed(visited: Visited) -> None:
    tab = visited.tab
    tab.go(f"/admin/customers/{CUSTOMER}")
    tab.page.locator("#f-grant-amount").fill("a lot")
    tab.page.locator("#f-grant-reason").fill("a late parcel")
    visited.press("Enter")
    visited.arrives("refused")
    assert tab.page.locator("#f-grant-amount").input_value() == "a lot"
    assert tab.page.locator("#f-grant-reason").input_value() == "a late parcel"
    tab.forgive("400", "422")


def test_a_server_that_goes_away_is_told_and_the_page_stays(visited: Visited) -> None:
    """In place of the browser's own page: what stood there still does, and the next click finds the server again."""
    tab = visited.tab
    away = tab.page.locator("#away")
    assert away.is_hidden()
    tab.page.context.set_offline(True)
    tab.page.get_by_role("link", name="Orders", exact=True).click()
    away.wait_for()
    assert "The server does not answer." in away.inner_text()
    assert tab.heading == "Home"
    assert tab.axe() == []
    tab.page.context.set_offline(False)
    assert tab.menu("Orders") == "Orders"
    assert away.is_hidden()
    tab.forgive("ERR_INTERNET_DISCONNECTED", "Failed to fetch")
