"""The pages as people see them: real Chromium, headless, over the data of a running `unwind demo`.

Chromium: CHROMIUM in the environment, else what is installed under its usual names (`apt install chromium`).
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import pytest
import requests
from axe_playwright_python.sync_playwright import Axe
from playwright.sync_api import Browser, BrowserContext, Page, sync_playwright

from app.admin.door import COOKIE

ROOT = Path(__file__).resolve().parents[2]
PATIENCE_SECONDS = 180
DESK, PHONE = {"width": 1280, "height": 900}, {"width": 390, "height": 844}
NAMES = ("chromium", "chromium-browser", "google-chrome", "google-chrome-stable")
QUIET = ("--no-sandbox", "--disable-gpu", "--disable-quic", "--no-first-run", "--disable-background-networking",
         "--disable-component-update", "--disable-sync")  # fmt: skip
SERIOUS = ("serious", "critical")


def chromium() -> str:
    named = os.environ.get("CHROMIUM")
    found = named or next((path for name in NAMES if (path := shutil.which(name))), None)
    assert found, "these tests need Chromium: apt install chromium, or name yours in CHROMIUM"
    return found


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    with sync_playwright() as playwright:
        found = playwright.chromium.launch(executable_path=chromium(), args=list(QUIET))
        yield found
        found.close()


@dataclass
class Demo:
    """A demo that stays up: its own words, and the cookie of a login to its store's pages."""

    lines: list[str] = field(default_factory=list)
    heard: threading.Condition = field(default_factory=threading.Condition)

    def hears(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self.heard:
                self.lines.append(line.rstrip())
                self.heard.notify_all()

    def said(self, beginning: str) -> str:
        def found() -> str | None:
            return next((line for line in self.lines if line.startswith(beginning)), None)

        with self.heard:
            assert self.heard.wait_for(found, PATIENCE_SECONDS), self.lines
            line = found()
        assert line is not None
        return line.removeprefix(beginning).strip()

    @property
    def url(self) -> str:
        return self.said("admin page:").partition("/admin/")[0]

    @property
    def store(self) -> str:
        return self.said("pretend store:").rstrip("/")

    @property
    def domain(self) -> str:
        return self.said("shop:")


@pytest.fixture(scope="session")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    place = tmp_path_factory.mktemp("demo")
    place.chmod(0o755)
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "REDIS_"))}
    arguments = ("demo", "--orders", "12", "--refunds", "12", "--data", str(place / "data"))
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", *arguments],
        cwd=place,
        env={**ours, "PYTHONPATH": str(ROOT)},
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        demo = Demo()
        listener = threading.Thread(target=demo.hears, args=(process,), daemon=True)
        listener.start()
        try:
            demo.said("running")
            yield demo
        finally:
            process.send_signal(signal.SIGTERM)
            process.wait(60)
            listener.join()


@pytest.fixture(scope="session")
def cookie(demo: Demo) -> str:
    """The login that the demo's own link gives, got as a person does: open the link, press the button."""
    link = demo.said("admin page:")
    with requests.Session() as visitor:
        assert "Log in" in visitor.get(link, timeout=10).text
        token = link.partition("token=")[2]
        answer = visitor.post(
            f"{demo.url}/admin/login", data={"token": token}, allow_redirects=False, timeout=10
        )
        assert answer.status_code == 303, answer.text
        return answer.cookies[COOKIE]


@dataclass
class Tab:
    """A page, and whatever went wrong on it that a visitor would not see: errors of the console, of scripts, of loading."""

    page: Page
    wrong: list[str] = field(default_factory=list)

    def watch(self) -> None:
        self.page.on("console", lambda said: self.wrong.append(said.text) if said.type == "error" else None)
        self.page.on("pageerror", lambda error: self.wrong.append(str(error)))
        self.page.on("requestfailed", lambda request: self.wrong.append(f"{request.url}: {request.failure}"))

    def axe(self) -> list[str]:
        """What axe finds that is serious or worse: rule, words, first place."""
        found: dict[str, Any] = Axe().run(self.page).response
        return [
            f"{each['id']}: {each['help']}: {each['nodes'][0]['html'][:200]}"
            for each in found["violations"]
            if each["impact"] in SERIOUS
        ]

    def overflow(self) -> int:
        """By how many pixels the page is wider than its window."""
        return int(self.page.evaluate("document.documentElement.scrollWidth - window.innerWidth"))


OpenTab = Callable[..., Tab]


@contextmanager
def context_of(browser: Browser, demo: Demo, cookie: str, size: dict[str, int]) -> Iterator[BrowserContext]:
    context = browser.new_context(base_url=demo.url, viewport=size, locale="en-GB", reduced_motion="reduce")  # type: ignore[arg-type]
    context.set_default_timeout(15_000)
    context.add_cookies([{"name": COOKIE, "value": cookie, "url": f"{demo.url}/admin"}])
    try:
        yield context
    finally:
        context.close()


@pytest.fixture
def tab(browser: Browser, demo: Demo, cookie: str) -> Iterator[Tab]:
    """A visitor at a desk, logged in, at Home. Ends with nothing wrong on the console."""
    yield from opened(browser, demo, cookie, DESK)


@pytest.fixture
def phone(browser: Browser, demo: Demo, cookie: str) -> Iterator[Tab]:
    """The same on a phone."""
    yield from opened(browser, demo, cookie, PHONE)


def opened(browser: Browser, demo: Demo, cookie: str, size: dict[str, int]) -> Iterator[Tab]:
    with context_of(browser, demo, cookie, size) as context:
        tab = Tab(context.new_page())
        tab.watch()
        tab.page.goto("/admin/")
        yield tab
        assert tab.wrong == []
