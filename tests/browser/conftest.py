"""The pages as people see them: real Chromium, headless, over the data of a running `unwind demo`, and over shops of a
server of this process where a test needs something of its own in them.
"""

from __future__ import annotations

import secrets
import signal
import socket
import subprocess
import sys
import threading
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

import pytest
import requests
from cryptography.fernet import Fernet
from flask import Flask
from playwright.sync_api import Browser, BrowserContext
from sqlalchemy import Engine

from app.admin.door import COOKIE
from app.sandbox.server import served
from app.web import create_app
from models.session import make_engine
from models.settings import Settings, load_settings
from tasks.steps import shops
from tests.browsing import Tab, login_of, window
from tests.conftest import new_database, of
from tests.pretend import PretendShopify, pretend_shopify
from tests.terminal import nothing_set
from tests.web.pages.conftest import PageShop

PATIENCE_SECONDS = 180
STORES = 20  # more than there are tests that need one


# -- a demo ----------------------------------------------------------------------------------------------------------


@dataclass
class Demo:
    """A demo that stays up, on the data in a folder: its own words, and the cookie of a login to its store's pages."""

    data: Path
    lines: list[str] = field(default_factory=list)
    heard: threading.Condition = field(default_factory=threading.Condition)
    ended: bool = False

    def hears(self, process: subprocess.Popen[str]) -> None:
        assert process.stdout is not None
        for line in process.stdout:
            with self.heard:
                self.lines.append(line.rstrip())
                self.heard.notify_all()
        with self.heard:
            self.ended = True
            self.heard.notify_all()

    def said(self, beginning: str) -> str:
        def found() -> str | None:
            return next((line for line in self.lines if line.startswith(beginning)), None)

        with self.heard:
            assert self.heard.wait_for(lambda: found() or self.ended, PATIENCE_SECONDS), self.lines
            line = found()
        assert line is not None, self.lines
        return line.removeprefix(beginning).strip()

    @property
    def url(self) -> str:
        return self.said("admin page:").partition("/admin/")[0]

    @property
    def store_url(self) -> str:
        return self.said("pretend store:").rstrip("/")

    @property
    def api(self) -> tuple[str, str]:
        """The JSON API's address, and a token for it."""
        url, _, token = self.said("JSON API:").partition("   Authorization: Bearer ")
        return url, token

    @property
    def domain(self) -> str:
        return self.said("shop:")

    def login(self) -> str:
        """The cookie that the demo's own link gives, got as a person does: open the link, press the button. Once."""
        link = self.said("admin page:")
        with requests.Session() as visitor:
            assert "Log in" in visitor.get(link, timeout=10).text
            answer = visitor.post(
                f"{self.url}/admin/login",
                data={"token": link.partition("token=")[2]},
                allow_redirects=False,
                timeout=10,
            )
            assert answer.status_code == 303, answer.text
            return answer.cookies[COOKIE]


@contextmanager
def running_demo(place: Path, *arguments: str) -> Iterator[Demo]:
    """`unwind demo` in a process of its own, once it has shown everything, for as long as the block."""
    place.chmod(0o755)  # its servers may run as another account
    with subprocess.Popen(
        [sys.executable, "-m", "app.cli", "demo", *arguments, "--data", str(place / "data")],
        cwd=place,
        env=nothing_set(),
        stdout=subprocess.PIPE,
        stderr=subprocess.STDOUT,
        text=True,
    ) as process:
        demo = Demo(place / "data")
        listener = threading.Thread(target=demo.hears, args=(process,), daemon=True)
        listener.start()
        try:
            demo.said("running; Ctrl-C ends it")
            yield demo
        finally:
            process.send_signal(signal.SIGINT)
            status = process.wait(60)
            listener.join()
    assert status == 0, demo.lines


@pytest.fixture(scope="package")
def demo(tmp_path_factory: pytest.TempPathFactory) -> Iterator[Demo]:
    with running_demo(tmp_path_factory.mktemp("demo"), "--orders", "12", "--refunds", "12") as demo:
        yield demo
    with pytest.raises(requests.ConnectionError):
        requests.get(demo.url, timeout=1)


@pytest.fixture(scope="package")
def desk(browser: Browser, demo: Demo) -> Iterator[BrowserContext]:
    """The window of somebody who is logged in to the demo's store."""
    with window(browser, demo.url, demo.login()) as context:
        yield context


@pytest.fixture
def tab(desk: BrowserContext) -> Iterator[Tab]:
    """The demo's store at Home. Ends with nothing wrong on the console."""
    yield from opened(desk)


def opened(context: BrowserContext) -> Iterator[Tab]:
    tab = Tab(context.new_page())
    tab.go("/admin/")
    yield tab
    assert tab.wrong == []
    tab.page.close()


# -- a server of this process ----------------------------------------------------------------------------------------


@dataclass
class Server:
    """The web application on a thread, with no worker behind it, and stores of a pretend Shopify."""

    app: Flask
    engine: Engine
    settings: Settings
    shopify: PretendShopify
    domains: Iterator[str]
    url: str

    def shop(self, **program: object) -> PageShop:
        """A shop of this test's own, with these settings from ever on."""
        domain = next(self.domains)
        with self.engine.begin() as connection:
            shop_id = shops.add(connection, domain, program or None)
        return PageShop(self.app, self.engine, self.settings, self.shopify, domain, shop_id)

    def cookie(self, shop: PageShop) -> str:
        assert self.settings.database_url is not None
        return login_of(self.settings.database_url, shop.domain)


@pytest.fixture(scope="session")
def server(database_server: str, migrated_template: str, redis_server: str) -> Iterator[Server]:
    domains = [f"seen-{secrets.token_hex(6)}.myshopify.com" for _ in range(STORES)]
    with (
        new_database(database_server, template=migrated_template) as name,
        pretend_shopify(*domains) as shopify,
    ):
        port = free_port()
        settings = load_settings(
            None,
            database_url=of(database_server, name),
            redis_url=redis_server,
            shopify_app_url=f"http://127.0.0.1:{port}",
            token_encryption_keys=Fernet.generate_key().decode(),
            endpoints_allow_networks="127.0.0.0/8",
            **shopify.settings(),
        )
        app, engine = create_app(settings), make_engine(of(database_server, name))
        with served(app, port=port) as url:
            yield Server(app, engine, settings, shopify, iter(domains), url)
        app.extensions["unwind"].close()
        engine.dispose()


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


OpenShop = Callable[[PageShop], Tab]


@pytest.fixture
def visit(browser: Browser, server: Server) -> Iterator[OpenShop]:
    """visit(shop): a tab of somebody who is logged in to this shop. Ends with nothing wrong on the console."""
    tabs: list[Tab] = []
    with window(browser, server.url) as context:

        def open_shop(shop: PageShop) -> Tab:
            context.add_cookies(
                [{"name": COOKIE, "value": server.cookie(shop), "url": f"{server.url}/admin"}]
            )
            tabs.append(Tab(context.new_page()))
            tabs[-1].go("/admin/")
            return tabs[-1]

        yield open_shop
        assert [tab.wrong for tab in tabs] == [[] for _ in tabs]
