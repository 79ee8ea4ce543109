"""What every benchmark needs: a database of its own that is dropped at the end, clocks, and a bar."""

from __future__ import annotations

import os
import platform
import secrets
import time
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import dataclass
from pathlib import Path
from typing import Any

from rich.console import Console
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TextColumn, TimeElapsedColumn
from sqlalchemy import Engine, create_engine, make_url, text

from models.session import make_engine, upgrade, with_driver

PROC = Path("/proc")
USER_TICKS, SYSTEM_TICKS = 11, 12  # fields of /proc/PID/stat, counted after the name


@contextmanager
def scratch_database(beside: str) -> Iterator[str]:
    """The URL of a new database with our schema, beside the given one, dropped when the block ends."""
    name = f"unwind_bench_{secrets.token_hex(4)}"
    url = make_url(with_driver(beside)).set(database=name).render_as_string(hide_password=False)
    _administer(beside, f'create database "{name}"')
    try:
        upgrade(url)
        yield url
    finally:
        _administer(beside, f'drop database "{name}" with (force)')


def _administer(url: str, statement: str) -> None:
    engine = create_engine(with_driver(url), isolation_level="AUTOCOMMIT")
    try:
        with engine.connect() as connection:
            connection.execute(text(statement))
    finally:
        engine.dispose()


@contextmanager
def one_connection(url: str) -> Iterator[Engine]:
    """An engine as a worker has one, that keeps to one connection while it is used by one thread."""
    engine = make_engine(url, pool_size=1)
    try:
        yield engine
    finally:
        engine.dispose()


def backend_of(engine: Engine) -> int:
    """The process of the server behind the engine's connection."""
    with engine.connect() as connection:
        found: int = connection.execute(text("select pg_backend_pid()")).scalar_one()
    return found


def machine(database_url: str) -> dict[str, Any]:
    """What the numbers depend on most."""
    with one_connection(database_url) as engine, engine.connect() as connection:
        server = connection.execute(text("show server_version")).scalar_one()
    return {"cores": os.cpu_count(), "python": platform.python_version(), "postgresql": server.split()[0]}


# -- processor time, where the system tells it (Linux) -----------------------------------------------


def cpu_seconds(pid: int, *, named: str | None = None) -> float | None:
    """User and system time of a process of this machine; None when it is not here, or is not the one that is meant."""
    try:
        name, _, fields = (PROC / str(pid) / "stat").read_text().partition("(")[2].rpartition(")")
    except OSError:
        return None
    if named is not None and name != named:
        return None
    ticks = fields.split()
    return (int(ticks[USER_TICKS]) + int(ticks[SYSTEM_TICKS])) / os.sysconf("SC_CLK_TCK")


def tree_cpu_seconds(pid: int) -> float | None:
    """The same of a process and all its descendants."""
    own = cpu_seconds(pid)
    if own is None:
        return None
    return own + sum(tree_cpu_seconds(child) or 0.0 for child in children_of(pid))


def children_of(pid: int) -> list[int]:
    found = []
    for stat in PROC.glob("[0-9]*/stat"):
        try:
            fields = stat.read_text().rpartition(")")[2].split()
        except OSError:  # it has just ended
            continue
        if int(fields[1]) == pid:
            found.append(int(stat.parent.name))
    return found


@dataclass(frozen=True, slots=True)
class Spent:
    """What `count` pieces of work took, each, in microseconds; processor times are None where nobody tells them."""

    wall_us: float
    client_cpu_us: float
    server_cpu_us: float | None

    @property
    def per_second(self) -> float:
        return 1e6 / self.wall_us

    @property
    def cpu_us(self) -> float | None:
        return None if self.server_cpu_us is None else self.client_cpu_us + self.server_cpu_us


class Stopwatch:
    """Wall time, our own processor time, and that of the database's process that works for us."""

    def __init__(self, backend: int) -> None:
        self._backend = backend
        self._server = cpu_seconds(backend, named="postgres")
        self._client, self._wall = time.process_time(), time.perf_counter()

    def spent(self, count: int) -> Spent:
        wall, client = time.perf_counter() - self._wall, time.process_time() - self._client
        after = cpu_seconds(self._backend, named="postgres")
        server = None if after is None or self._server is None else (after - self._server) * 1e6 / count
        return Spent(wall * 1e6 / count, client * 1e6 / count, server)


class Bar:
    """Progress on the error output: the standard output is for the results."""

    def __init__(self, progress: Progress) -> None:
        self._progress = progress

    @contextmanager
    def part(self, name: str, steps: int) -> Iterator[None]:
        """The next part; `step` moves it on."""
        self._task = self._progress.add_task(name, total=steps)
        yield
        self._progress.update(self._task, completed=steps)

    def step(self, steps: int = 1) -> None:
        self._progress.advance(self._task, steps)


@contextmanager
def bar() -> Iterator[Bar]:
    console = Console(stderr=True)
    columns = (TextColumn("{task.description}"), BarColumn(), MofNCompleteColumn(), TimeElapsedColumn())
    with Progress(*columns, console=console, disable=not console.is_terminal) as progress:
        yield Bar(progress)
