"""What every test may ask for: a real PostgreSQL with the migrated schema, a real Redis, a registered shop.

Servers: TEST_DATABASE_SERVER / TEST_REDIS_SERVER when set, else what answers on this machine's usual ports, else the
embedded parts. A module has a database of its own (copied from a migrated template in a blink); a test has a shop of
its own, so nothing needs to be emptied between tests (the books refuse it anyway).
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
from collections.abc import Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit, urlunsplit

import psycopg
import pytest
import redis
from playwright.sync_api import Browser
from sqlalchemy import Engine, make_url
from xdist.remote import Producer
from xdist.scheduler import LoadFileScheduling

from models.session import make_engine, upgrade
from models.settings import load_settings
from tasks.steps.shops import add
from tests.chromium import running_browser
from worker.embedded import parts

USUAL_DATABASE_SERVER = "postgresql://postgres@127.0.0.1:5432"
USUAL_REDIS_SERVER = "redis://127.0.0.1:6379"
CLAIM = "unwind-tests:claimed"
CLAIM_SECONDS = 3600  # a killed session frees its Redis database after this


# What takes longest begins first: a worker that came to it last would keep the others waiting at the end.
LONGEST_FIRST = (
    "browser/",
    "flows/test_demo.py",
    "faults/",
    "web/api/test_api_by_its_document.py",
    "operators/",
    "seeds/",
    "parts/",
    "flows/test_outage.py",
    "flows/test_convergence.py",
)


# Folders whose files stay with one worker: what they share takes longer to start than to look at.
TOGETHER = ("tests/browser/", "tests/operators/")


class Scheduling(LoadFileScheduling):
    """A file is run by one worker, and so are the files of TOGETHER's folders."""

    def _split_scope(self, nodeid: str) -> str:
        return next(
            (folder for folder in TOGETHER if nodeid.startswith(folder)), super()._split_scope(nodeid)
        )


@pytest.hookimpl(optionalhook=True)
def pytest_xdist_make_scheduler(config: pytest.Config, log: Producer) -> Scheduling:
    return Scheduling(config, log)


def pytest_collection_modifyitems(items: list[pytest.Item]) -> None:
    """Files in the order of LONGEST_FIRST, then as they are; inside a file nothing moves."""
    here = Path(__file__).parent

    def rank(item: pytest.Item) -> int:
        place = item.path.relative_to(here).as_posix()
        return next((n for n, name in enumerate(LONGEST_FIRST) if place.startswith(name)), len(LONGEST_FIRST))

    items.sort(key=rank)


class RegisteredShop(NamedTuple):
    domain: str
    id: int


@pytest.fixture(scope="session")
def servers() -> Iterator[tuple[str, str]]:
    """The URLs of a PostgreSQL server where databases may be created, and of a Redis server."""
    database = os.environ.get("TEST_DATABASE_SERVER", USUAL_DATABASE_SERVER)
    broker = os.environ.get("TEST_REDIS_SERVER", USUAL_REDIS_SERVER)
    if answers(database, broker):
        yield database, broker
        all_dropped()
        return
    place = Path(tempfile.mkdtemp(prefix="unwind-tests-"))
    place.chmod(0o755)  # the servers may run as another account
    own = load_settings().model_copy(update={"database_url": None, "redis_url": None})
    with parts(own, place / "data", command="the tests") as embedded:
        yield embedded.database_url.replace("+psycopg", ""), embedded.redis_url
        all_dropped()
    shutil.rmtree(place, ignore_errors=True)


def answers(database: str, broker: str) -> bool:
    try:
        psycopg.connect(of(database, "postgres"), connect_timeout=2).close()
        with redis.Redis.from_url(broker, socket_timeout=2) as client:
            return bool(client.ping())
    except (psycopg.OperationalError, redis.RedisError):
        return False


def of(server: str, name: str) -> str:
    """The URL of a database of this server."""
    return make_url(server).set(database=name).render_as_string(hide_password=False)


@pytest.fixture(scope="session")
def database_server(servers: tuple[str, str]) -> str:
    return servers[0]


DROPPING = ThreadPoolExecutor(max_workers=1, thread_name_prefix="drop")
DROPPED: list[Future[None]] = []


@contextmanager
def new_database(server: str, *, template: str = "template1") -> Iterator[str]:
    """The name of a database that lives as long as the block. A drop waits for a checkpoint: no test waits for a drop."""
    name = f"unwind_test_{secrets.token_hex(6)}"
    with psycopg.connect(of(server, "postgres"), autocommit=True) as connection:
        connection.execute(f'create database "{name}" template "{template}"'.encode())
        # no test of these databases stops the server itself: waiting for its disk would show nothing
        connection.execute(f'alter database "{name}" set synchronous_commit = off'.encode())
    try:
        yield name
    finally:
        DROPPED.append(DROPPING.submit(drop, server, name))


def drop(server: str, name: str) -> None:
    with psycopg.connect(of(server, "postgres"), autocommit=True) as connection:
        connection.execute(f'drop database "{name}" with (force)'.encode())


def all_dropped() -> None:
    """Wait until every database is gone, before its server is."""
    DROPPING.shutdown(wait=True)
    for each in DROPPED:
        each.result()


@pytest.fixture(scope="session")
def migrated_template(database_server: str) -> Iterator[str]:
    """The name of a database with the newest schema and no rows, to copy from."""
    with new_database(database_server) as name:
        upgrade(of(database_server, name))
        yield name


@pytest.fixture(scope="module")
def database_url(database_server: str, migrated_template: str) -> Iterator[str]:
    """A migrated database of this module's own."""
    with new_database(database_server, template=migrated_template) as name:
        yield of(database_server, name)


@pytest.fixture(scope="module")
def engine(database_url: str) -> Iterator[Engine]:
    engine = make_engine(database_url)
    yield engine
    engine.dispose()


@pytest.fixture
def fresh_engine(database_server: str, migrated_template: str) -> Iterator[Engine]:
    """An engine on an empty database of this test's own, for what looks at every shop at once."""
    with new_database(database_server, template=migrated_template) as name:
        engine = make_engine(of(database_server, name))
        yield engine
        engine.dispose()


@pytest.fixture
def shop(engine: Engine) -> RegisteredShop:
    """A registered shop of this test's own, with the program's defaults."""
    return register(engine)


def register(engine: Engine) -> RegisteredShop:
    domain = f"shop-{secrets.token_hex(6)}.myshopify.com"
    with engine.begin() as connection:
        shop_id = add(connection, domain)
    return RegisteredShop(domain, shop_id)


@pytest.fixture(scope="session")
def redis_server(servers: tuple[str, str]) -> Iterator[str]:
    """The URL of a Redis database that no other test session uses."""
    parsed = urlsplit(servers[1])
    addresses = (urlunsplit(parsed._replace(path=f"/{number}")) for number in range(15, 0, -1))
    url = next(address for address in addresses if claimed(address))
    yield url
    with redis.Redis.from_url(url) as client:
        client.flushdb()


def claimed(url: str) -> bool:
    with redis.Redis.from_url(url) as client:
        return client.dbsize() == 0 and bool(client.set(CLAIM, "1", nx=True, ex=CLAIM_SECONDS))


@pytest.fixture
def redis_url(redis_server: str) -> str:
    """An empty Redis database."""
    with redis.Redis.from_url(redis_server) as client:
        client.flushdb()
        client.set(CLAIM, "1", ex=CLAIM_SECONDS)
    return redis_server


@pytest.fixture(scope="session")
def browser() -> Iterator[Browser]:
    """Chromium, one for all of a process's tests: Playwright runs but once in a thread."""
    with running_browser() as browser:
        yield browser
