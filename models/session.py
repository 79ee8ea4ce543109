"""The way to the database: engines, and the schema brought up to date."""

from __future__ import annotations

import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import cache
from pathlib import Path
from typing import Literal, TypeAlias

import structlog
from alembic import command
from alembic.config import Config
from alembic.runtime.migration import MigrationContext
from alembic.script import ScriptDirectory
from psycopg.errors import DeadlockDetected, LockNotAvailable
from sqlalchemy import URL, Connection, Engine, create_engine, event, make_url, text
from sqlalchemy.exc import OperationalError

from models.errors import DatabaseBusy, InvalidSetting

log = structlog.get_logger(__name__)

MIGRATIONS = Path(__file__).parent / "migrations"
STATEMENT_TIMEOUT_SECONDS = 30
LOCK_TIMEOUT_SECONDS = 10
UPGRADE_LOCK = 0x554E57494E44  # one upgrade at a time
UPGRADE_TRIES = 30
UPGRADE_PAUSE_SECONDS = 1.0  # in which all that queued behind a try has its turn
UPGRADE_LOCK_TIMEOUT_SECONDS = (
    1  # whoever waits behind us waits no longer; a webhook's row may take 2 s in all
)
UPGRADE_STATEMENT_TIMEOUT_SECONDS = 600

POOLER = "pooler"  # ...?pooler=transaction at the end of an address: PgBouncer or its like stands before PostgreSQL
NOT_SERVED = (LockNotAvailable, DeadlockDetected)

Standing: TypeAlias = Literal["current", "ahead", "outdated"]

OLDEST = text("""
select pid, application_name, floor(extract(epoch from now() - xact_start))
  from pg_stat_activity
 where datname = current_database() and pid <> pg_backend_pid() and state <> 'idle'
 order by xact_start nulls last limit 1
""")


def make_engine(
    url: str,
    *,
    pool_size: int = 5,
    statement_timeout_seconds: int = STATEMENT_TIMEOUT_SECONDS,
    lock_timeout_seconds: int = LOCK_TIMEOUT_SECONDS,
) -> Engine:
    """An engine for psycopg 3, READ COMMITTED, with time limits on statements and lock waits.

    Its errors never show what a statement was given: that may be a whole delivery, and errors end up in logs.
    """
    address, pooled = split_pooler(url)
    limits = {
        "statement_timeout": f"{statement_timeout_seconds}s",
        "lock_timeout": f"{lock_timeout_seconds}s",
        "idle_in_transaction_session_timeout": "60s",
        "timezone": "UTC",
    }
    at_start = " ".join(f"-c {name}={value}" for name, value in limits.items())
    engine = create_engine(
        address,
        pool_size=pool_size,
        max_overflow=pool_size,
        pool_pre_ping=True,
        pool_timeout=5,
        hide_parameters=True,
        connect_args={"connect_timeout": 5}
        | ({"prepare_threshold": None} if pooled else {"options": at_start}),
    )
    if pooled:
        limit_each_transaction(engine, limits)
    return engine


def split_pooler(url: str) -> tuple[URL, bool]:
    """The address as the driver takes it, and whether a pooler hands out a connection a transaction."""
    address = make_url(with_driver(url))
    pooler = address.query.get(POOLER)
    if pooler not in (None, "transaction"):
        raise InvalidSetting("DATABASE_URL", f"pooler={pooler} is unknown; it is transaction, or left out")
    return address.difference_update_query([POOLER]), pooler is not None


def limit_each_transaction(engine: Engine, limits: Mapping[str, str]) -> None:
    """Behind a transaction pooler nothing that is said to a session lasts: the limits go with each transaction."""
    calls = ", ".join(f"set_config('{name}', '{value}', true)" for name, value in limits.items())

    @event.listens_for(engine, "begin")
    def set_limits(connection: Connection) -> None:
        connection.exec_driver_sql(f"select {calls}")


def with_driver(url: str) -> str:
    """postgres:// and postgresql:// both mean psycopg 3 here."""
    for prefix in ("postgres://", "postgresql://"):
        if url.startswith(prefix):
            return "postgresql+psycopg://" + url.removeprefix(prefix)
    return url


# -- the schema ----------------------------------------------------------------------------------------


def upgrade(url: str, *, to: str = "head", tries: int = UPGRADE_TRIES) -> str:
    """Bring the schema to its newest version; returns the version it has then. Safe to run twice, and twice at once.

    Beside a store that runs (docs/deploy.md): each migration is a transaction of its own, none waits longer than
    `UPGRADE_LOCK_TIMEOUT_SECONDS` for a lock that others then queue behind, and what could not get its lock is tried
    again. A schema that a later release made is left as it is: the release before works with it.
    """
    engine = make_engine(
        url,
        pool_size=2,
        statement_timeout_seconds=UPGRADE_STATEMENT_TIMEOUT_SECONDS,
        lock_timeout_seconds=UPGRADE_LOCK_TIMEOUT_SECONDS,
    )
    try:
        with only_upgrade(engine):
            if standing(engine) != "ahead":
                migrate(engine, to=to, tries=tries)
            return current_version(engine) or ""
    finally:
        engine.dispose()


@contextmanager
def only_upgrade(engine: Engine) -> Iterator[None]:
    """Alone among upgrades. The lock is asked for, never waited for in the database: an index that is being built
    CONCURRENTLY by the other one would wait for us in turn."""
    while True:
        with engine.begin() as connection:
            asked = text("select pg_try_advisory_xact_lock(:lock)")
            if connection.execute(asked, {"lock": UPGRADE_LOCK}).scalar():
                # the last statement must be one that reads nothing: a snapshot kept is one that indexes wait for
                connection.execute(text("set local idle_in_transaction_session_timeout = 0"))
                yield
                return
        time.sleep(UPGRADE_PAUSE_SECONDS / 5)


def migrate(engine: Engine, *, to: str, tries: int) -> None:
    """What was done stays done: a try goes on with the migration that the one before could not lock for."""
    for left in reversed(range(tries)):
        try:
            run_migrations(engine, to)
        except OperationalError as error:
            if not isinstance(error.orig, NOT_SERVED):
                raise
            if not left:
                raise DatabaseBusy(not_served(engine)) from error
            log.warning("upgrade_waits_for_a_lock", tries_left=left)
            time.sleep(UPGRADE_PAUSE_SECONDS)
        else:
            return


def run_migrations(engine: Engine, to: str) -> None:
    config = Config()
    config.set_main_option("script_location", str(MIGRATIONS))
    with engine.connect() as connection:
        config.attributes["connection"] = connection
        command.upgrade(config, to)
        connection.commit()


def not_served(engine: Engine) -> str:
    """Why a migration could not be made, and who may be in its way."""
    with engine.connect() as connection:
        oldest = connection.execute(OLDEST).first()
    by = (
        f"; process {oldest[0]} ({oldest[1] or 'unnamed'}) is in a transaction for {oldest[2]} s"
        if oldest
        else ""
    )
    return (
        f"the schema stays at version {current_version(engine)}: a table that changes was in use at every try{by}."
        " Nothing was left half done; run `unwind db upgrade` again"
    )


@cache
def scripts() -> ScriptDirectory:
    return ScriptDirectory(str(MIGRATIONS))


@cache
def versions() -> tuple[str, ...]:
    """All that this release knows, the newest first."""
    return tuple(script.revision for script in scripts().walk_revisions())


def newest_version() -> str:
    return versions()[0]


def current_version(engine: Engine) -> str | None:
    """The schema version the database has, None when it has none."""
    with engine.connect() as connection:
        return MigrationContext.configure(connection).get_current_revision()


def standing(engine: Engine) -> Standing:
    """How the schema stands to this release. `ahead`: a later release made it, beside which this one goes on working
    while it is replaced; a version that we do not know can only be a later one."""
    version = current_version(engine)
    if version == newest_version():
        return "current"
    return "outdated" if version is None or version in versions() else "ahead"
