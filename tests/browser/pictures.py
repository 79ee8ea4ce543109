"""The pictures of docs/images, out of a demo of their own: `python -m tests.browser.pictures`."""

from __future__ import annotations

import tempfile
from pathlib import Path

from playwright.sync_api import Browser

from tests.browser.conftest import running_demo
from tests.browsing import DESK, PHONE_HEIGHT, PHONES, Tab, window
from tests.chromium import running_browser
from tests.terminal import ROOT

IMAGES = ROOT / "docs" / "images"
SAME_WORLD = ("--orders", "40", "--refunds", "60", "--seed", "1")
FULLEST = """rows => rows.map(row => [
    [...row.querySelectorAll("td.number")].filter(cell => !/^0(\\.00)?( |$)/.test(cell.innerText.trim())).length,
    row.querySelector("a").getAttribute("href"),
]).sort((one, other) => other[0] - one[0])[0][1]"""


def take_all(browser: Browser, url: str, cookie: str) -> None:
    """Every picture, of the store whose login the cookie is."""
    IMAGES.mkdir(exist_ok=True)
    with window(browser, url, cookie) as context:
        tab = Tab(context.new_page())
        tab.go("/admin/")
        take(tab, "home", whole=True)
        for name, path in {
            "orders": "/admin/orders",
            "settings": "/admin/settings/orders",
            "attention": "/admin/attention",
        }.items():
            tab.go(path)
            take(tab, name)
        order = fullest(tab, "/admin/orders?status=partially_refunded")
        tab.go(order)
        take(tab, "order", whole=True)
        tab.go(f"/admin/preview?id={order.rpartition('/')[2]}&what=rest")
        take(tab, "preview")
        tab.go(order)
        tab.go(str(tab.page.locator("#main a[href*='/customers/']").first.get_attribute("href")))
        take(tab, "customer")
        tab.go(fullest(tab, "/admin/redemptions?status=used", having="off"))
        take(tab, "redemption")
        integrations(tab)
        take(tab, "integrations")
        tab.widen(PHONES[0], PHONE_HEIGHT)
        tab.go(order)
        take(tab, "phone")
        assert tab.wrong == []


def take(tab: Tab, name: str, *, whole: bool = False) -> None:
    """The window; or the whole page. The caret is left as it is: hiding it would put styles into the page."""
    tab.page.screenshot(
        path=IMAGES / f"{name}.png", full_page=whole, caret="initial", animations="allow", scale="css"
    )


def fullest(tab: Tab, path: str, *, having: str = "") -> str:
    """The address of that row of a list, of those with these words, that has the most to show."""
    tab.go(path)
    return str(tab.page.locator("#main tbody tr").filter(has_text=having).evaluate_all(FULLEST))


def integrations(tab: Tab) -> None:
    """With a token of a name; an endpoint would be called."""
    tab.go("/admin/integrations")
    tab.page.get_by_label("Name", exact=True).fill("Checkout")
    tab.click("Make a token")
    tab.says("Checkout")
    tab.go("/admin/integrations")


def main() -> None:
    with (
        tempfile.TemporaryDirectory() as place,
        running_browser() as browser,
        running_demo(Path(place), *SAME_WORLD) as demo,
    ):
        take_all(browser, demo.url, demo.login())
    print(f"Pictures of {DESK['width']} x {DESK['height']} and of a phone are in {IMAGES}.")


if __name__ == "__main__":
    main()
