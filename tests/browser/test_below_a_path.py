"""A server that is known outside at a path of its host, as behind a proxy that serves other things as well: every link,
form and cookie of the pages is of that path."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from urllib.parse import urlsplit
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import pytest
from playwright.sync_api import Browser
from werkzeug.exceptions import NotFound

from app.sandbox.server import served
from app.web import create_app
from tasks.steps import admin_logins
from tests.browser.conftest import Server, free_port
from tests.browser.test_every_page import FIRST, PAGES
from tests.browsing import Tab, window
from tests.web.pages.conftest import PageShop

BELOW = "/loyalty"


def proxy(application: WSGIApplication) -> WSGIApplication:
    """Takes the path away, and knows no other."""

    def passed(environ: WSGIEnvironment, start_response: StartResponse) -> object:
        path = environ["PATH_INFO"]
        if not path.startswith(f"{BELOW}/"):
            return NotFound()(environ, start_response)
        return application({**environ, "PATH_INFO": path.removeprefix(BELOW)}, start_response)

    return passed  # type: ignore[return-value]


@pytest.fixture
def shop(server: Server) -> PageShop:
    """Forty orders, so that their list has a second page."""
    shop = server.shop()
    for order in range(450, 490):
        shop.place(order)
    return shop


@contextmanager
def served_below(server: Server) -> Iterator[str]:
    port = free_port()
    public = f"http://127.0.0.1:{port}{BELOW}"
    app = create_app(server.settings.model_copy(update={"shopify_app_url": public}))
    with served(proxy(app), port=port):
        yield public
    app.extensions["unwind"].close()


@pytest.fixture
def tab(server: Server, shop: PageShop, browser: Browser) -> Iterator[Tab]:
    """Somebody who logs in by a link, as `unwind admin link` prints it. Nothing may go wrong on the way."""
    with served_below(server) as public, window(browser, public) as context:
        with server.engine.begin() as connection:
            link = admin_logins.make_link(connection, shop.domain, datetime.now(UTC))
        tab = Tab(context.new_page())
        tab.page.goto(f"{public}/admin/login?token={link}")
        tab.page.get_by_role("button", name="Log in").click()
        tab.page.wait_for_url(f"{public}/admin/")
        yield tab
        assert tab.wrong == []


def below(tab: Tab) -> str:
    """Where the tab is, below the path."""
    return urlsplit(tab.page.url).path.removeprefix(BELOW)


def test_pages_lists_and_forms_lead_to_each_other(tab: Tab) -> None:
    for title, path in PAGES.items():
        tab.menu(title)
        assert below(tab) == path
    tab.menu("Orders")
    tab.click("Next page")
    tab.page.get_by_role("link", name="First page").wait_for()
    tab.page.get_by_label("Status").select_option("open")
    tab.click("Show")
    tab.page.wait_for_url("**/admin/orders?**status=open**")
    tab.page.locator(FIRST).first.click()
    tab.page.wait_for_url(f"**{BELOW}/admin/orders/*")
    tab.click("Refund")
    tab.page.get_by_role("region", name="All that is left").get_by_role("button").click()
    tab.says("This would happen")
    tab.click("Book this refund")
    tab.says("The refund is booked")
    assert below(tab).startswith("/admin/orders/")


def test_settings_are_saved_and_the_login_ended(tab: Tab) -> None:
    tab.menu("Settings")
    tab.page.get_by_role("navigation", name="Settings", exact=True).get_by_role("link", name="Orders").click()
    tab.page.get_by_label("Refund redeemed rewards on order cancellation").click()
    tab.click("Save")
    tab.says("Nothing is saved yet.")
    tab.page.get_by_role("button", name="Log out").click()
    tab.page.wait_for_url(f"**{BELOW}/admin/login")
    assert tab.page.context.cookies() == []
