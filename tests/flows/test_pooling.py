"""Behind a pooler of transactions (PgBouncer's transaction mode) everything works, for nothing is left in a session.

TEST_POOLER, when set, is the address of a real one, in which every database of the tests' server can be reached.
"""

from __future__ import annotations

import os
import uuid
from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine, make_url, text
from sqlalchemy.exc import OperationalError

from app.cli import bench_world as world
from app.inbox import Delivery, Writer, make_inbox_engine
from models.session import make_engine, newest_version, upgrade
from tasks.steps import shops
from tasks.steps.drain import drain
from tasks.steps.load import ShopRow
from tasks.steps.reconcile import Running, alone
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop, new_database, of
from tests.flows.pooler import pooled

HOLDING = text(
    "select backend_xmin is null from pg_stat_activity"
    " where datname = current_database() and state = 'idle in transaction'"
)


@contextmanager
def behind_a_pooler(url: str) -> Iterator[str]:
    """The address that a store's settings would have."""
    plain = make_url(url)
    real = os.environ.get("TEST_POOLER")
    if real:
        yield address(make_url(real).set(database=plain.database).render_as_string(hide_password=False))
        return
    with pooled(url) as pooler:
        here = plain.set(host="127.0.0.1", port=pooler.port, query={})
        yield address(here.render_as_string(hide_password=False))


def address(url: str) -> str:
    return f"{url}?pooler=transaction"


@pytest.fixture(scope="module")
def pooled_url(database_url: str) -> Iterator[str]:
    with behind_a_pooler(database_url) as url:
        yield url


@pytest.fixture(scope="module")
def pooled_engine(pooled_url: str) -> Iterator[Engine]:
    engine = make_engine(pooled_url, pool_size=3)
    yield engine
    engine.dispose()


def test_refunds_are_booked_and_verify(pooled_engine: Engine) -> None:
    """More batches than it takes a driver to prepare a statement."""
    domain, now = "pooled.myshopify.com", world.utc_now()
    world.add_shop(pooled_engine, domain)
    sold = list(world.sales(40, seed=9, now=now))
    world.sell(pooled_engine, domain, sold, now=now)
    world.deliver(pooled_engine, domain, (sale.refunded for sale in sold))
    booked = [drain(pooled_engine, domain, limit=4).done for _ in range(10)]
    assert booked == [4] * 10
    with pooled_engine.connect() as connection:
        assert verify(connection) == []


def test_time_limits_go_with_each_transaction(pooled_engine: Engine) -> None:
    for _ in range(5):
        with pooled_engine.begin() as connection:
            asked = text("select current_setting('statement_timeout'), current_setting('lock_timeout')")
            assert tuple(connection.execute(asked).one()) == ("30s", "10s")


def test_without_saying_so_the_pooler_refuses_our_session_settings(pooled_url: str) -> None:
    engine = make_engine(pooled_url.partition("?")[0])
    with pytest.raises(OperationalError, match="options"):
        engine.connect()
    engine.dispose()


def test_the_receiver_stores(pooled_url: str, pooled_engine: Engine) -> None:
    rung: list[object] = []
    engine = make_inbox_engine(pooled_url)
    writer = Writer(engine, rung.extend)
    domain = f"stored-{uuid.uuid4().hex}.myshopify.com"
    kept = [
        writer.keep(Delivery(domain, "refunds/create", f"w-{n % 8}", None, None, None, b"{}"))
        for n in range(16)
    ]
    assert [each.new for each in kept] == [True] * 8 + [False] * 8
    assert len(rung) == 16
    writer.close()
    engine.dispose()


def test_one_comparison_a_shop_and_it_holds_up_neither_vacuum_nor_indexes(
    pooled_engine: Engine, engine: Engine, shop: RegisteredShop
) -> None:
    with engine.connect() as connection:
        row: ShopRow = shops.get(connection, shop.domain)
    with alone(pooled_engine, row):
        with engine.connect() as connection:
            assert connection.execute(HOLDING).scalars().all() == [True]
        with pytest.raises(Running), alone(pooled_engine, row):
            pass
    with alone(pooled_engine, row):
        pass


def test_the_schema_is_made(database_server: str) -> None:
    with new_database(database_server) as name, behind_a_pooler(of(database_server, name)) as url:
        assert upgrade(url) == newest_version()
        assert upgrade(url) == newest_version()
