"""What every command shares: `--data`, `--json`, and a session with the settings, the database and the broker."""

from __future__ import annotations

import json
import logging
import os
import signal
import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass
from pathlib import Path
from types import FrameType
from typing import Any, NoReturn, TypeVar

import click
import structlog
from cryptography.fernet import Fernet
from pydantic import SecretStr
from sqlalchemy import Connection, Engine
from sqlalchemy.exc import OperationalError

from models.errors import DatabaseBusy, InvalidSetting
from models.session import make_engine, upgrade
from models.settings import Settings, load_settings
from worker.embedded import Parts, parts

DATA = Path(".unwind")
ENV_FILE = Path(".env")
KEY_FILE = "token-key"
TERMINATED = 143

Command = TypeVar("Command", bound=Callable[..., Any])


def data_option_at(default: Path) -> Callable[[Command], Command]:
    """`--data DIR`, handed over as `data: Path`."""
    return click.option(
        "--data",
        type=click.Path(file_okay=False, path_type=Path),
        default=default,
        show_default=True,
        metavar="DIR",
        help="Where the embedded database and broker keep their data.",
    )


data_option = data_option_at(DATA)


def json_option(command: Command) -> Command:
    """`--json`, handed over as `as_json: bool`."""
    return click.option("--json", "as_json", is_flag=True, help="Print JSON, for programs.")(command)


limit_option = click.option(
    "--limit", type=click.IntRange(1, 1000), default=50, show_default=True, help="How many at most."
)


@dataclass(frozen=True)
class Session:
    """The settings as they are in force (with the addresses of the parts), the parts, and an engine."""

    settings: Settings
    parts: Parts
    engine: Engine

    def environment(self) -> dict[str, str]:
        """For child processes: they read the same settings. Holds secrets."""
        return self.settings.environment()


@contextmanager
def session(
    data: Path,
    *,
    command: str | None = None,
    lasting: bool = False,
    upgraded: bool | None = None,
    existing: bool = False,
    **given: object,
) -> Iterator[Session]:
    """The settings, and a database and a broker that last as long as the block; beside a running `unwind up`, its own.

    `existing`: there must be data already, for there is nothing to see in a new database.
    `given` overrules settings by their lower-case names. The schema is brought up to date when the database is
    embedded (`upgraded` says otherwise): another database is upgraded by `unwind db upgrade` or `unwind up`.
    """
    settings = load_settings(ENV_FILE, **given)
    if existing and settings.database_url is None and not (data / KEY_FILE).exists():
        reason = f"nothing is kept in {data}; name the folder of the `unwind up` that you mean, or set DATABASE_URL"
        raise InvalidSetting("--data", reason)
    name = command or click.get_current_context().command_path
    with (
        ended_by_sigterm(),
        nullcontext() if lasting else only_trouble_logged(),
        parts(settings, data, command=name, lasting=lasting, say=note) as found,
    ):
        ours = in_force(settings, found, data)
        if not lasting:
            note(found.describe())  # `up` and `demo` say it when they are ready
        with database_answers():
            if upgraded or (upgraded is None and settings.database_url is None):
                upgrade(found.database_url)
            engine = make_engine(found.database_url, pool_size=settings.database_connections)
            try:
                yield Session(ours, found, engine)
            finally:
                engine.dispose()


@contextmanager
def reading(data: Path) -> Iterator[Connection]:
    """A connection to look at what is there already; nothing that is done on it lasts."""
    with session(data, existing=True) as here, here.engine.connect() as connection:
        yield connection


@contextmanager
def writing(data: Path) -> Iterator[Connection]:
    """A transaction on what is there already."""
    with session(data, existing=True) as here, here.engine.begin() as connection:
        yield connection


@contextmanager
def only_trouble_logged(least: int = logging.WARNING) -> Iterator[None]:
    """A command's output is its own: what is logged meanwhile goes beside it, when something is wrong, without locals."""
    before = structlog.get_config()
    console = structlog.dev.ConsoleRenderer(colors=False, exception_formatter=structlog.dev.plain_traceback)
    structlog.configure(
        processors=[structlog.stdlib.add_log_level, console],
        wrapper_class=structlog.make_filtering_bound_logger(least),
        logger_factory=lambda *_: structlog.PrintLogger(sys.stderr),
        cache_logger_on_first_use=False,
    )
    try:
        yield
    finally:
        structlog.configure(**before)


@contextmanager
def database_answers() -> Iterator[None]:
    """A database that does not answer is one line that says where to look, `DatabaseBusy`."""
    try:
        yield
    except OperationalError as error:
        reason = str(error.orig).strip().partition("\n")[0]
        raise DatabaseBusy(f"the database: {reason}; is it running, and is DATABASE_URL right?") from error


def in_force(settings: Settings, found: Parts, data: Path) -> Settings:
    """The settings with the addresses of the parts and, beside an embedded database, a key of its own for tokens."""
    update: dict[str, object] = {"database_url": found.database_url, "redis_url": found.redis_url}
    if settings.database_url is None and not settings.token_encryption_keys:
        update["token_encryption_keys"] = (SecretStr(own_key(data / KEY_FILE)),)
    return settings.model_copy(update=update)


def own_key(path: Path) -> str:
    """The key that encrypts stored access tokens, made once and readable by us alone. Without it they are lost."""
    if not path.exists():
        unfinished = path.with_name(f"{path.name}.{os.getpid()}")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            file.write(Fernet.generate_key().decode() + "\n")
        with suppress(FileExistsError):
            path.hardlink_to(unfinished)  # whole or not at all, and the first one stands
        unfinished.unlink()
    return path.read_text().strip()


@contextmanager
def ended_by_sigterm() -> Iterator[None]:
    """SIGTERM unwinds the stack, so that what the command started is stopped as well."""

    def leave(number: int, frame: FrameType | None) -> NoReturn:
        sys.exit(TERMINATED)

    before = signal.signal(signal.SIGTERM, leave)
    try:
        yield
    finally:
        signal.signal(signal.SIGTERM, before)


def note(line: str) -> None:
    """For people, beside the output."""
    click.echo(line, err=True)


def emit(value: object, *, as_json: bool, text: str) -> None:
    """The result, in the form that was asked for. Decimals and dates become strings."""
    click.echo(json.dumps(value, default=str, indent=2) if as_json else text)
