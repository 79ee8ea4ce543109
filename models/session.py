"""The way to the database: engines, and the schema brought up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from sqlalchemy import Engine, create_engine, text

MIGRATIONS = Path(__file__).parent / "migrations"
STATEMENT_TIMEOUT_SECONDS = 30
LOCK_TIMEOUT_SECONDS = 10
UPGRADE_LOCK = 0x554E57494E44  # one upgrade at a time
UPGRADE_WAIT_SECONDS = 900  # for another upgrade: of a long ledger it builds indexes
UPGRADE_ASK_SECONDS = 0.2
TRY_UPGRADE_LOCK = text("select pg_try_advisory_lock(:lock)")
UPGRADE_UNLOCK = text("select pg_advisory_unlock(:lock)")


def make_engine(
    url: str, *, pool_size: int = 5, statement_timeout_seconds: int = STATEMENT_TIMEOUT_SECONDS
) -> Engine:
    """An engine for psycopg 3, READ COMMITTED, with time limits on statements and lock waits.

    Its errors never show what a statement was given: that may be a whole delivery, and errors end up in logs.
    """
    options = (
        f"-c statement_timeout={statement_timeout_seconds}s -c lock_timeout={LOCK_TIMEOUT_SECONDS}s "
        "-c idle_in_transaction_session_timeout=60s -c timezone=UTC"
    )
    return create_engine(
        with_driver(url),
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=5,
        hide_parameters=True,
        connect_args={"options": options, "connect_timeout": 5},
    )


def with_driver(url: str) -> str:
    """postgres:// and postgresql:// both mean psycopg 3 here."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


def alembic_config(url: str) -> Config:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    config.attributes["url"] = with_driver(url)
    return config


def upgrade(url: str) -> str:
    """Bring the schema to its newest version; returns that version. Safe to run twice, and twice at once.

    Steps that must not stop a running store commit by themselves (`autocommit_block`), so the lock is a session's, on a
    connection of its own. Who waits for it asks again and again: a statement that waits would hold a snapshot, and an
    index that is built meanwhile waits for those.
    """
    engine = make_engine(url, pool_size=2, statement_timeout_seconds=600)
    try:
        with _alone(engine), engine.connect() as connection:
            config = alembic_config(url)
            config.attributes["connection"] = connection
            command.upgrade(config, "head")
        return newest_version()
    finally:
        engine.dispose()


@contextmanager
def _alone(engine: Engine) -> Iterator[None]:
    """One upgrade at a time. Raises TimeoutError when another takes longer than anybody would wait."""
    give_up_at = time.monotonic() + UPGRADE_WAIT_SECONDS
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while not connection.execute(TRY_UPGRADE_LOCK, {"lock": UPGRADE_LOCK}).scalar_one():
            if time.monotonic() > give_up_at:
                raise TimeoutError(
                    f"another upgrade of this database has not ended in {UPGRADE_WAIT_SECONDS} seconds"
                )
            time.sleep(UPGRADE_ASK_SECONDS)
        try:
            yield
        finally:
            connection.execute(UPGRADE_UNLOCK, {"lock": UPGRADE_LOCK})


def newest_version() -> str:
    head = ScriptDirectory(str(MIGRATIONS)).get_current_head()
    assert head is not None
    return head


def current_version(engine: Engine) -> str | None:
    """The schema version the database has, None when it has none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()
