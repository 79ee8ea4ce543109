"""One product for all of a process's tests of the seed documents: started as its user starts it, ended as he ends it."""

from __future__ import annotations

import os
import secrets
import shutil
import signal
import socket
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import ExitStack, contextmanager
from pathlib import Path

import psycopg
import pytest
import requests
from cryptography.fernet import Fernet
from playwright.sync_api import Browser, BrowserContext

from tests.browsing import Tab, login_of, window
from tests.conftest import new_database, of
from tests.pretend import pretend_shopify
from tests.seeds.product import FOREIGN, Running, Shop, opened, until
from worker.embedded.process import die_with_parent

ROOT = Path(__file__).parents[2]
STORES = 400  # more than there are tests: each has a store of its own
END_SECONDS = 60

NewShop = Callable[..., Shop]
Visit = Callable[[Shop], Tab]


@pytest.fixture(scope="package")
def place() -> Iterator[Path]:
    """Where the product keeps its data; the broker may run as another account."""
    place = Path(tempfile.mkdtemp(prefix="unwind-seeds-"))
    place.chmod(0o755)
    yield place
    shutil.rmtree(place, ignore_errors=True)


@pytest.fixture(scope="package")
def product(database_server: str, migrated_template: str, place: Path) -> Iterator[Running]:
    """`unwind up` on a database of its own, with a broker that it starts itself."""
    domains = [f"seed-{secrets.token_hex(6)}.myshopify.com" for _ in range(STORES)]
    with (
        new_database(database_server, template=migrated_template) as name,
        pretend_shopify(*domains) as shopify,
        psycopg.connect(of(database_server, name), autocommit=True) as database,
    ):
        own = {
            "DATABASE_URL": of(database_server, name),
            "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "WORKER_PROCESSES": "2",
            "ENDPOINTS_ALLOW_NETWORKS": "127.0.0.0/8",
            "AUTO_REFUND_AFTER_HOURS": "1",
            "PORT": str(free_port()),
            **{key.upper(): str(value) for key, value in shopify.settings().items()},
        }
        with up(own, place) as url:
            yield Running(url, own, place, shopify, iter(domains), database)


@contextmanager
def up(own: dict[str, str], place: Path, *more: str) -> Iterator[str]:
    """The command in a process of its own for as long as the block; its address. What it prints is in `up.log`."""
    kept = {name: value for name, value in os.environ.items() if not name.startswith(FOREIGN)}
    with (
        (place / "up.log").open("w") as log,
        subprocess.Popen(
            [sys.executable, "-m", "app.cli", "up", "--data", str(place / "data"), *more],
            cwd=place,
            env={**kept, **own, "PYTHONPATH": str(ROOT)},
            stdout=log,
            stderr=log,
            preexec_fn=lambda: die_with_parent(signal.SIGTERM),
        ) as process,
    ):
        url = f"http://127.0.0.1:{own['PORT']}"
        try:
            until(lambda: process.poll() is not None or is_ready(url))
            assert process.poll() is None, (place / "up.log").read_text()
            yield url
        finally:
            process.terminate()
            try:
                process.wait(END_SECONDS)
            finally:
                process.kill()


def is_ready(url: str) -> bool:
    try:
        return requests.get(f"{url}/readyz", timeout=1).status_code == 200
    except requests.RequestException:
        return False


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return int(probe.getsockname()[1])


@pytest.fixture
def new_shop(product: Running) -> Iterator[NewShop]:
    """A shop of this test's own: new_shop(connected=True, **program). Whatever happened, its books are right."""
    shops: list[Shop] = []

    def make(*, connected: bool = False, **program: object) -> Shop:
        shops.append(opened(product, connected=connected, **program))
        return shops[-1]

    yield make
    for shop in shops:
        shop.assert_books_are_right()


# -- pages -----------------------------------------------------------------------------------------------------------


@pytest.fixture
def visit(browser: Browser, product: Running) -> Iterator[Visit]:
    """visit(shop): a tab at Home of somebody who is logged in to this shop. Ends with nothing wrong on the console."""
    contexts, tabs = ExitStack(), list[Tab]()

    def open_shop(shop: Shop) -> Tab:
        cookie = login_of(product.environment["DATABASE_URL"], shop.domain)
        context: BrowserContext = contexts.enter_context(window(browser, product.url, cookie))
        tabs.append(Tab(context.new_page()))
        tabs[-1].go("/admin/")
        return tabs[-1]

    with contexts:
        yield open_shop
        assert [each for tab in tabs for each in tab.wrong] == []
