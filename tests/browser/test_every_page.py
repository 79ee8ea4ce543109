"""Each page opens at a desk and on a phone, says nothing on the console, and can be used by everybody (axe)."""

from __future__ import annotations

import pytest

from tests.browser.conftest import Tab

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


@pytest.mark.parametrize(("title", "path"), PAGES.items(), ids=list(PAGES))
def test_a_page_opens_by_its_address_and_by_clicking_and_axe_finds_nothing_serious(
    tab: Tab, title: str, path: str
) -> None:
    tab.page.get_by_role("navigation", name="Pages").get_by_role("link", name=title, exact=True).click()
    tab.page.wait_for_url(f"**{path}*")
    clicked = tab.page.get_by_role("heading", level=1).inner_text()
    tab.page.goto(path)
    assert tab.page.get_by_role("heading", level=1).inner_text() == clicked
    assert tab.axe() == []


@pytest.mark.parametrize(("title", "path"), PAGES.items(), ids=list(PAGES))
def test_a_page_fits_a_phone(phone: Tab, title: str, path: str) -> None:
    phone.page.goto(path)
    assert phone.page.get_by_role("heading", level=1).is_visible()
    assert phone.overflow() <= 0
    assert phone.axe() == []
