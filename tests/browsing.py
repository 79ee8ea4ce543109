"""Somebody with a browser before the pages: logged in, clicking, and told what goes wrong that a visitor would not see."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from typing import Any

from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, Request

from app.admin.door import COOKIE
from models.session import make_engine
from tasks.steps import admin_logins

PATIENCE_MILLISECONDS = 30_000
DESK = {"width": 1280, "height": 800}
PHONES = (390, 320)  # pixels; the narrowest is what WCAG 1.4.10 asks for
PHONE_HEIGHT = 844
SERIOUS = ("serious", "critical")
LOOKED_AT = "axe.run({resultTypes: ['violations']}).then(found => found.violations)"
LEFT = "net::ERR_ABORTED"  # the visitor went on before it had come: nothing is wrong


@contextmanager
def window(browser: Browser, url: str, cookie: str | None = None) -> Iterator[BrowserContext]:
    """A window of its own, with the cookie of a login to the pages of the server at `url`."""
    context = browser.new_context(
        base_url=url,
        viewport=DESK,  # type: ignore[arg-type]
        locale="en-GB",
        timezone_id="UTC",
        reduced_motion="reduce",
    )
    context.set_default_timeout(PATIENCE_MILLISECONDS)
    if cookie is not None:
        context.add_cookies([{"name": COOKIE, "value": cookie, "url": f"{url}/admin"}])
    try:
        yield context
    finally:
        context.close()


def login_of(database_url: str, domain: str) -> str:
    """The cookie of a new login to a shop's pages, as `unwind admin link` and its button give it."""
    now = datetime.now(UTC)
    engine = make_engine(database_url)
    try:
        with engine.begin() as connection:
            link = admin_logins.make_link(connection, domain, now)
            cookie = admin_logins.redeem(connection, link, now)
    finally:
        engine.dispose()
    assert cookie is not None
    return cookie


@dataclass
class Tab:
    """A page, and whatever went wrong on it that a visitor would not see: errors of the console, of scripts, of loading."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def __post_init__(self) -> None:
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfailed", self._failed)

    def _failed(self, request: Request) -> None:
        if request.failure != LEFT:
            self.wrong.append(f"{request.url}: {request.failure}")

    def forgive(self, *words: str) -> None:
        """Forget errors that this test brought about: each has one of these words in it, and there is at least one."""
        kept = [each for each in self.wrong if not any(word in each for word in words)]
        assert len(kept) < len(self.wrong), self.wrong
        self.wrong[:] = kept

    # -- what people do ------------------------------------------------------------------------------------------

    def go(self, path: str) -> str:
        """Open an address; the page's heading."""
        self.page.goto(path)
        return self.heading

    def menu(self, words: str) -> str:
        """Click in the navigation, and on to the page; its heading."""
        with self.page.expect_response(lambda answer: answer.request.method == "GET" and answer.ok):
            self.page.get_by_role("navigation", name="Pages", exact=True).get_by_role(
                "link", name=words, exact=True
            ).click()
        self.page.locator(f'nav.tabs a[aria-current="page"]:text-is("{words}")').wait_for()
        return self.heading

    def click(self, words: str, *, within: str = "#main") -> None:
        """Click the link or the button of these words."""
        place = self.page.locator(within)
        place.get_by_role("link", name=words, exact=True).or_(
            place.get_by_role("button", name=words, exact=True)
        ).first.click()

    @property
    def heading(self) -> str:
        return self.page.get_by_role("heading", level=1).inner_text()

    @property
    def text(self) -> str:
        """All that the page's content says, in one line."""
        return " ".join(self.page.locator("#main").inner_text().split())

    def says(self, words: str) -> None:
        """Wait until the content says so."""
        self.page.locator("#main").get_by_text(words).first.wait_for()

    def widen(self, width: int, height: int = PHONE_HEIGHT) -> None:
        self.page.set_viewport_size({"width": width, "height": height})

    # -- what is looked at ---------------------------------------------------------------------------------------

    @property
    def focused(self) -> str:
        """What has the focus: its id, else its words."""
        return str(
            self.page.evaluate("(document.activeElement.id || document.activeElement.innerText || '').trim()")
        )

    def axe(self) -> list[str]:
        """What axe finds that is serious or worse: rule, words, first place."""
        if not self.page.evaluate("'axe' in window"):
            self.page.evaluate(Axe().axe_script)
        found: list[dict[str, Any]] = self.page.evaluate(LOOKED_AT)
        return [
            f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
            for each in found
            if each["impact"] in SERIOUS
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))

    def faults(self) -> list[str]:
        """What is wrong with this page for anybody: at a desk, and on phones. Leaves the window as wide as a desk."""
        found = [f"desk: {each}" for each in self.axe()]
        for width in PHONES:
            self.widen(width)
            if (wider := self.overflow()) > 0:
                found.append(f"{width} pixels: {wider} wider than the window, by {self._widest()}")
        found += [f"phone: {each}" for each in self.axe()]
        self.widen(DESK["width"], DESK["height"])
        return found + self.wrong

    def _widest(self) -> str:
        return str(
            self.page.evaluate(
                "[...document.querySelectorAll('#page *')].filter(e => e.getBoundingClientRect().right > innerWidth)"
                ".map(e => e.outerHTML.slice(0, 120)).slice(-1)[0] || 'nothing of the page'"
            )
        )
