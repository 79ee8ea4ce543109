"""Migrations of a store that runs: released ones stay as they are, new ones block nobody, and a release beside them works on."""

from __future__ import annotations

import hashlib
import re
import subprocess
import sys
import threading
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from pathlib import Path

import psycopg
import pytest
import structlog
from sqlalchemy import Engine, event, text
from structlog.testing import capture_logs

from app.cli import bench_world as world
from models.errors import DatabaseBusy, InvalidSetting
from models.session import MIGRATIONS, current_version, make_engine, newest_version, standing, upgrade
from tasks.steps.drain import drain
from tasks.steps.verify import verify
from tests.conftest import new_database, of
from tests.waiting import until

RELEASED = {  # what runs somewhere is never changed: a mistake is mended by a migration after it
    "0001_books.py": "81e43ca623e85c433f37a4ddee5f14a6a23f34dc4ff8033a568290fa71d1d77b",
    "0002_guards.py": "3b46d08874704a17f4ff179dcc1cbba2fa6c670eb05ff8752906f10d073372fb",
    "0003_shopify.py": "b41e0b9267780b4892b746d67dc753b165eae28befe400f773cbb7b088997289",
    "0004_privacy.py": "e4e249778894ec0afc6eeace23c87e0e71018c30269001fdcf4d4a9eddfbd317",
    "0005_merchants.py": "a343886fb6549aa296e7ce8369e37320c7ff53bb437e493551dc8ac9087609f8",
}
FIRST_ONLINE = "0005"  # what comes after it is made beside a store that runs
LONGEST_WAIT_SECONDS = (
    2  # of a booking, for all its locks beside a migration that asks for each of its own for 1 s
)
LEFT_ALONE = (
    "prefer-identity,prefer-bigint-over-int,prefer-text-field,prefer-robust-stmts,require-timeout-settings"
)


@pytest.fixture
def url(database_server: str) -> Iterator[str]:
    with new_database(database_server) as name:
        yield of(database_server, name)


@pytest.fixture
def engine(url: str) -> Iterator[Engine]:
    """On an empty database at the last version that was not made online."""
    upgrade(url, to=FIRST_ONLINE)
    engine = make_engine(url, lock_timeout_seconds=LONGEST_WAIT_SECONDS)
    yield engine
    engine.dispose()


# -- what may stand in one -----------------------------------------------------------------------------


def test_a_released_migration_is_never_changed() -> None:
    files = sorted(path.name for path in (MIGRATIONS / "versions").glob("0*.py"))
    assert files[: len(RELEASED)] == list(RELEASED)
    for name, digest in RELEASED.items():
        assert hashlib.sha256((MIGRATIONS / "versions" / name).read_bytes()).hexdigest() == digest, name


@contextmanager
def heard() -> Iterator[list[str]]:
    """The statements that are run meanwhile, in this process, as files of SQL have them."""
    found: list[str] = []

    def hear(connection: object, cursor: object, statement: str, *rest: object) -> None:
        if "%(" not in statement:
            found.append(statement.strip().rstrip(";").replace("%%", "%") + ";")

    event.listen(Engine, "before_cursor_execute", hear)
    try:
        yield found
    finally:
        event.remove(Engine, "before_cursor_execute", hear)


def squawks(statements: str, place: Path) -> str:
    """What the linter has against them; nothing when it has nothing."""
    file = place / "migration.sql"
    file.write_text(statements)
    program = Path(sys.executable).with_name("squawk")
    looked = subprocess.run(
        [program, "--pg-version", "15", "--reporter", "gcc", "--exclude", LEFT_ALONE, file],
        capture_output=True,
        text=True,
        check=False,
    )
    assert looked.returncode in (0, 1), looked.stderr
    return looked.stdout if looked.returncode else ""


def test_no_migration_holds_up_a_store_that_runs(engine: Engine, url: str, tmp_path: Path) -> None:
    with heard() as statements:
        upgrade(url)
    assert any("alembic_version" in statement for statement in statements)
    assert squawks("\n".join(statements), tmp_path) == ""


@pytest.mark.parametrize(
    ("statement", "rule"),
    [
        ("create index ix_x on entries (shop_id);", "require-concurrent-index-creation"),
        ("alter table entries alter column amount type numeric;", "changing-column-type"),
        ("alter table entries add column note text not null;", "adding-required-field"),
        ("alter table entries add constraint c check (amount <> 0);", "constraint-missing-not-valid"),
        ("alter table entries drop column amount;", "ban-drop-column"),
        ("alter table entries rename column amount to points;", "renaming-column"),
    ],
)
def test_the_linter_would_have_said_so(statement: str, rule: str, tmp_path: Path) -> None:
    assert rule in squawks(statement, tmp_path)


# -- beside a release that works -----------------------------------------------------------------------


class Booking:
    """A worker of the release before: books refund after refund, until told to end."""

    def __init__(self, engine: Engine, domain: str) -> None:
        self.engine, self.domain = engine, domain
        self.batches = 0
        self.ending = threading.Event()

    def __call__(self) -> None:
        while not self.ending.is_set():
            done = drain(self.engine, self.domain, limit=2)
            self.batches += 1
            assert not done.failed, done.outcomes
            if not done.done:
                return


def files_of(engine: Engine) -> dict[str, int]:
    """The file of each table: a table that was rewritten has another."""
    question = "select relname, relfilenode from pg_class where relkind = 'r' and relnamespace = 'public'::regnamespace"
    with engine.connect() as connection:
        return {row.relname: row.relfilenode for row in connection.execute(text(question))}


def test_a_worker_books_on_while_the_schema_is_upgraded(engine: Engine, url: str) -> None:
    domain, now = "upgraded.myshopify.com", world.utc_now()
    world.add_shop(engine, domain)
    sold = list(world.sales(150, seed=5, now=now))
    world.sell(engine, domain, sold, now=now)
    world.deliver(engine, domain, (sale.refunded for sale in sold))
    before = files_of(engine)
    booking = Booking(engine, domain)
    with ThreadPoolExecutor(1) as pool:
        worked = pool.submit(booking)
        try:
            until(lambda: booking.batches > 2)
            upgrade(url)
            booked = booking.batches
            until(lambda: booking.batches > booked + 2 or worked.done())
        finally:
            booking.ending.set()
        worked.result()
    assert current_version(engine) == newest_version()
    after = files_of(engine)
    assert {name: after[name] for name in before if name != "alembic_version"} == {
        name: file for name, file in before.items() if name != "alembic_version"
    }
    with engine.connect() as connection:
        assert verify(connection) == []


@contextmanager
def holding(url: str, statement: str) -> Iterator[psycopg.Connection[tuple[object, ...]]]:
    """Somebody in the middle of a transaction."""
    with psycopg.connect(url, application_name="a long report") as connection:
        connection.execute(statement.encode())
        yield connection


def test_an_upgrade_that_gets_no_lock_gives_way_and_says_who_was_there(url: str) -> None:
    upgrade(url, to="0004")
    with (
        holding(url, "lock table shops in row exclusive mode"),
        pytest.raises(
            DatabaseBusy, match=r"stays at version 0004: .* \(a long report\) is in a transaction for"
        ),
    ):
        upgrade(url, to="0005", tries=1)


def test_an_upgrade_tries_again_until_the_table_is_free(url: str) -> None:
    upgrade(url, to="0004")
    with capture_logs() as logs, ThreadPoolExecutor(1) as pool:
        with holding(url, "lock table shops in row exclusive mode"):
            upgraded = pool.submit(upgrade, url, to="0005")
            until(lambda: [line for line in logs if line["event"] == "upgrade_waits_for_a_lock"])
        assert upgraded.result(20) == "0005"
    structlog.reset_defaults()


def test_two_upgrades_at_once_end_at_the_same_version(url: str) -> None:
    with ThreadPoolExecutor(2) as pool:
        assert list(pool.map(upgrade, [url, url])) == [newest_version()] * 2


def test_an_index_that_was_left_half_built_is_made_anew(engine: Engine, url: str) -> None:
    """As a cancelled `create index concurrently` leaves it: there, and not valid."""
    upgrade(url)
    names = "select count(*) from pg_index where not indisvalid"
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0005'"))
        for table in ("dismissals", "admin_links", "admin_sessions"):
            connection.execute(text(f"drop table {table}"))
        broken = "update pg_index set indisvalid = false where indexrelid = 'ix_orders_listed'::regclass"
        connection.execute(text(broken))
        assert connection.execute(text(names)).scalar() == 1
    upgrade(url, to="0006")
    with engine.connect() as connection:
        assert connection.execute(text(names)).scalar() == 0


# -- releases beside one another -----------------------------------------------------------------------


def test_a_release_leaves_a_schema_alone_that_a_later_one_made(engine: Engine, url: str) -> None:
    upgrade(url)
    assert standing(engine) == "current"
    with engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0999'"))
    assert standing(engine) == "ahead"
    assert upgrade(url) == "0999"


def test_an_older_schema_and_none_are_outdated(engine: Engine, database_server: str) -> None:
    assert standing(engine) == "outdated"
    with new_database(database_server) as empty:
        nothing = make_engine(of(database_server, empty))
        assert standing(nothing) == "outdated"
        nothing.dispose()


def test_versions_are_numbers_in_a_row() -> None:
    numbers = [path.name[:4] for path in sorted((MIGRATIONS / "versions").glob("0*.py"))]
    assert numbers == [f"{n:04}" for n in range(1, len(numbers) + 1)]
    assert all(re.search(rf'^revision = "{n}"$', text_of(n), re.MULTILINE) for n in numbers)


def text_of(number: str) -> str:
    (path,) = (MIGRATIONS / "versions").glob(f"{number}_*.py")
    return path.read_text()


def test_an_unknown_pooler_is_refused_by_name() -> None:
    with pytest.raises(InvalidSetting, match="pooler=session is unknown"):
        make_engine("postgresql://u@h/x?pooler=session")
