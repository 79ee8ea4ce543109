"""Inside Shopify's admin: a frame of the store's own page, App Bridge in it, no cookie anywhere.

Nothing here asks Shopify: its admin and App Bridge are pretended, and do what the true ones do for a page. Tokens are
signed with the app's secret.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass, field
from urllib.parse import urlencode

import pytest
from playwright.sync_api import Browser, BrowserContext, Frame, Route

from app.pages import BRIDGE
from tests.browser.conftest import Server
from tests.browsing import Tab, window
from tests.web.api.conftest import CUSTOMER
from tests.web.pages.conftest import PageShop

HOST = "YWRtaW4"
APP_BRIDGE = """
(() => {
  const original = window.fetch, here = new URL(location.href), again = here.searchParams.get("shopify-reload");
  const token = () => window.shopifyToken();
  const signed = async (request) => {
    const sent = new Request(request);
    sent.headers.set("Authorization", "Bearer " + await token());
    return original(sent);
  };
  window.shopify = { idToken: token };
  window.fetch = async (...given) => {
    const request = new Request(...given);
    if (new URL(request.url).origin !== here.origin) return original(request);
    const answer = await signed(request.clone());
    return answer.headers.get("X-Shopify-Retry-Invalid-Session-Request") === "1" ? signed(request) : answer;
  };
  if (again) token().then((word) => {
    const to = new URL(again, here);
    to.searchParams.set("id_token", word);
    location.replace(to);
  });
})();
"""


@dataclass
class Admin:
    """The admin of a store, with the app's page in a frame. expired: how many tokens to come are too old."""

    server: Server
    shop: PageShop
    context: BrowserContext
    tab: Tab
    expired: int = 0
    framed: str = ""
    given: list[str] = field(default_factory=list)

    def token(self) -> str:
        """What App Bridge is given when it asks Shopify's admin for a session token."""
        now = int(time.time())
        old = {"exp": now - 60, "nbf": now - 120, "iat": now - 120} if self.expired else {}
        self.expired = max(0, self.expired - 1)
        self.given.append("expired" if old else "fresh")
        return self.shop.shopify.session_token(self.shop.domain, **old)

    def frames(self, route: Route) -> None:
        """The page at the store's own address: the app's, in a frame."""
        route.fulfill(content_type="text/html", body=f'<iframe name="app" src="{self.framed}"></iframe>')

    def opens(self, path: str = "/", *, at: str | None = None, with_token: bool = True) -> None:
        """Open the app as the admin does (at another store's address, if told so)."""
        given = {"shop": self.shop.domain, "host": HOST, "embedded": "1"}
        word = {"id_token": self.shop.shopify.session_token(self.shop.domain)} if with_token else {}
        self.framed = f"{self.server.url}{path}?{urlencode({**given, **word})}"
        self.tab.page.goto(f"https://{at or self.shop.domain}/admin/apps/unwind")

    @property
    def frame(self) -> Frame:
        frame = self.tab.page.frame("app")
        assert frame is not None
        return frame

    def says(self, words: str) -> None:
        self.frame.get_by_text(words).first.wait_for()

    def heading(self, words: str) -> None:
        self.frame.get_by_role("heading", level=1, name=words).wait_for()

    def navigates(self, path: str) -> None:
        """A click in Shopify's own menu, as App Bridge passes it on."""
        self.frame.evaluate(
            "path => document.querySelector(`ui-nav-menu a[href='${path}']`)"
            ".dispatchEvent(new Event('shopify:navigate', { bubbles: true }))",
            path,
        )


@pytest.fixture
def admin(browser: Browser, server: Server) -> Iterator[Admin]:
    """An installed app, in the admin of its store. Ends without a cookie, and with nothing wrong on the console."""
    shop = server.shop()
    shop.connect()
    shop.place(450)
    shop.refund(450, 9001, 2_000)
    with window(browser, server.url) as context:
        found = Admin(server, shop, context, Tab(context.new_page()))
        context.grant_permissions(
            ["local-network-access"]
        )  # the app is on this machine, the store's page is not
        context.expose_function("shopifyToken", found.token)
        context.route("https://*.myshopify.com/**", found.frames)
        context.route(BRIDGE, lambda route: route.fulfill(content_type="text/javascript", body=APP_BRIDGE))
        yield found
        assert context.cookies() == []
        assert found.tab.wrong == []


def test_the_app_opens_by_the_admins_token_and_every_click_carries_a_fresh_one(admin: Admin) -> None:
    """First by the token of the address; then Shopify's menu, links, and the way back, each a call with a token."""
    admin.opens()
    admin.heading("Home")
    assert admin.frame.locator("nav.tabs").count() == 0  # Shopify's own menu stands for ours
    assert admin.given == []
    admin.navigates("/admin/orders")
    admin.heading("Orders")
    admin.frame.get_by_role("link", name="#450").click()
    admin.heading("Order #450")
    assert admin.given == ["fresh", "fresh"]
    admin.frame.evaluate("history.back()")
    admin.heading("Orders")


def test_a_form_is_sent_with_a_token_and_without_a_cookie(admin: Admin) -> None:
    admin.opens(f"/admin/customers/{CUSTOMER}")
    before = admin.shop.balance()
    admin.frame.locator("#f-grant-amount").fill("25")
    admin.frame.locator("#f-grant-reason").fill("a late parcel")
    admin.frame.get_by_role("button", name="Give points").click()
    admin.frame.locator("[role=status]").first.wait_for()
    assert admin.shop.balance() == before + 25
    assert set(admin.given) == {"fresh"}


def test_a_token_that_is_too_old_is_followed_by_a_fresh_one(admin: Admin) -> None:
    """Refused with the word that makes App Bridge fetch another: the visitor notices nothing, and the form counts once."""
    admin.opens(f"/admin/customers/{CUSTOMER}")
    before = admin.shop.balance()
    admin.expired = 1
    admin.frame.locator("#f-grant-amount").fill("25")
    admin.frame.locator("#f-grant-reason").fill("a late parcel")
    admin.frame.get_by_role("button", name="Give points").click()
    admin.frame.locator("[role=status]").first.wait_for()
    assert admin.given[:2] == ["expired", "fresh"]
    assert admin.shop.balance() == before + 25
    admin.tab.forgive("401")


def test_a_page_without_a_token_fetches_one_and_comes_back_to_itself(admin: Admin) -> None:
    """A reload inside the admin: by way of the page that has App Bridge fetch a token."""
    admin.opens("/admin/orders", with_token=False)
    admin.heading("Orders")
    assert admin.given == ["fresh"]


def test_the_page_of_another_store_may_not_frame_it(admin: Admin) -> None:
    """Its own store's admin may: the tests above. The browser keeps to what the page says of itself."""
    stranger = admin.server.shop().domain
    with admin.tab.page.expect_console_message(lambda said: "frame-ancestors" in said.text) as said:
        admin.opens("/admin/", at=stranger)
    assert admin.shop.domain in said.value.text
    assert not admin.tab.page.frames[1].url.startswith(admin.server.url)
    admin.tab.forgive("frame-ancestors", "BLOCKED_BY_RESPONSE")
