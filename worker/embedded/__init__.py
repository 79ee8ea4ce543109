"""The database and the broker: those of the environment, or real servers of our own under the data directory.

`with parts(settings, data_dir) as found:` gives addresses that work for as long as the block lasts. Servers that run
already for this data directory are used; else they are started, and stopped at the end of the block.
"""

from __future__ import annotations

import os
import secrets
import shutil
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from dataclasses import dataclass, field
from pathlib import Path

from models.errors import DatabaseBusy, Refused
from models.settings import Settings, without_password
from worker.embedded import postgres, valkey
from worker.embedded.account import SHELTER, Account, account_for, passable
from worker.embedded.binaries import broker_program, postgres_program
from worker.embedded.lease import Lease, ServerState, State, leased
from worker.embedded.process import Server, started_at

SOCKET_BYTES = 90  # the longest directory whose socket's name still fits the kernel's 104 to 108 bytes
PORT_TRIES = 3
REVIVE_AGAIN_SECONDS = 0.5
ELSEWHERE = "kept-at"  # holds the place of data that the servers' account cannot reach here
KEPT_FOR = "kept-for"  # beside that data: the data directory it belongs to


@dataclass
class Parts:
    """Where the database and the broker are, and which they are, in words."""

    database_url: str
    redis_url: str
    about: tuple[str, ...]
    restarts: list[Callable[[], str | None]] = field(default_factory=list, repr=False)

    def describe(self) -> str:
        """Two lines for people, without passwords."""
        return "\n".join(self.about)

    def revive(self) -> list[str]:
        """Start again what has died of our own servers, at the same address; says what was done. Never raises."""
        return [said for restart in self.restarts if (said := restart()) is not None]


@contextmanager
def parts(
    settings: Settings,
    data_dir: Path,
    *,
    command: str = "unwind",
    lasting: bool = False,
    say: Callable[[str], None] = lambda line: None,
    shelter: Path = SHELTER,
) -> Iterator[Parts]:
    """The database and the broker of `settings`, embedded under `data_dir` where it names none.

    A `lasting` command (`up`) must own the data: it waits for short ones, and `Refused` says so when another lasting
    one runs. Others share what runs. Call it from the main thread: the servers end with the thread that started them.
    """
    outside = tuple(outside_lines(settings))
    if settings.database_url and settings.redis_url:
        yield Parts(settings.database_url, settings.redis_url, outside)
        return
    made(data_dir)
    with leased(data_dir.resolve(), lasting=lasting, answers=answers, say=say) as lease:
        if lease.state is not None:
            yield as_guest(settings, lease.state, outside)
            return
        with owned(settings, lease, command, lasting, shelter, outside) as found:
            yield found


def outside_lines(settings: Settings) -> Iterator[str]:
    if settings.database_url:
        yield f"database: {without_password(settings.database_url)} (DATABASE_URL)"
    if settings.redis_url:
        yield f"broker:   {without_password(settings.redis_url)} (REDIS_URL)"


def made(data_dir: Path) -> None:
    """The data directory; others may pass through it (the servers' account must) but not list it."""
    try:
        data_dir.mkdir(mode=0o711, parents=True, exist_ok=True)
    except OSError as error:
        raise Refused("data_unusable", f"{data_dir} cannot be used for data: {error.strerror}") from None


def answers(state: State) -> bool:
    return state.redis_url is None or valkey.answers(state.redis_url)


def as_guest(settings: Settings, state: State, outside: tuple[str, ...]) -> Parts:
    """What the owner runs. Refused when it uses a database or broker of its environment that ours does not name."""
    database_url, redis_url = (
        settings.database_url or state.database_url,
        settings.redis_url or state.redis_url,
    )
    for name, url in (("DATABASE_URL", database_url), ("REDIS_URL", redis_url)):
        if url is None:
            raise Refused(
                "data_in_use", f"`{state.command}` (process {state.pid}) runs with {name} set; set the same"
            )
    assert database_url is not None
    assert redis_url is not None
    named = {line.partition(":")[0] for line in outside}
    inside = [line for line in state.about if line.partition(":")[0] not in named]
    return Parts(database_url, redis_url, tuple(sorted([*outside, *inside], reverse=True)))


@contextmanager
def owned(
    settings: Settings, lease: Lease, command: str, lasting: bool, shelter: Path, outside: tuple[str, ...]
) -> Iterator[Parts]:
    """Start what the environment does not name, tell others where it is, and stop it at the end."""
    data_dir = lease.directory.path
    account = account_for(data_dir / "postgres")
    home = home_of(data_dir, account, shelter)
    started: list[Server] = []
    found = Parts(settings.database_url or "", settings.redis_url or "", outside)
    sockets = socket_directory(home, account)
    try:
        if not settings.database_url:
            start_database(found, started, lease, home, sockets, account, shelter)
        if not settings.redis_url:
            start_broker(found, started, lease, home, account, shelter)
        found.about = tuple(sorted(found.about, reverse=True))  # the database first
        tell(lease, found, settings, started, command, lasting)
        found.restarts = [Reviver(server, ready_of(server, found, sockets)) for server in started]
        yield found
    finally:
        lease.leave()
        for server in reversed(started):
            server.stop()
        shutil.rmtree(sockets, ignore_errors=True)


def start_database(
    found: Parts,
    started: list[Server],
    lease: Lease,
    home: Path,
    sockets: Path,
    account: Account,
    shelter: Path,
) -> None:
    data = home / "postgres"
    program = postgres_program(account, shelter)
    log = lease.directory.path / "postgres.log"
    server = postgres.postgres_server(
        program, data=data, sockets=sockets, log=log, account=account, lock=lease.lock
    )
    started.append(server)
    server.start(lambda: postgres.answers(sockets))
    found.database_url = postgres.address(sockets)
    found.about += (f"database: {postgres.version_of(sockets)}, embedded, data in {data}",)


def start_broker(
    found: Parts, started: list[Server], lease: Lease, home: Path, account: Account, shelter: Path
) -> None:
    """On a free port; another when somebody took it between the choice and the start."""
    data = home / "valkey"
    account.make_own_directory(data)
    program = broker_program(account, shelter)
    log = lease.directory.path / "valkey.log"
    for attempt in range(1, PORT_TRIES + 1):
        url = valkey.new_address()
        server = valkey.valkey_server(program, url, data=data, log=log, account=account, lock=lease.lock)
        try:
            server.start(lambda url=url: valkey.answers(url))  # type: ignore[misc]
        except DatabaseBusy:
            if attempt == PORT_TRIES:
                raise
            continue
        break
    started.append(server)
    found.redis_url = url
    found.about += (f"broker:   {valkey.version_of(url)}, embedded, data in {data}",)


def ready_of(server: Server, found: Parts, sockets: Path) -> Callable[[], bool]:
    if server.name == "PostgreSQL":
        return lambda: postgres.answers(sockets)
    return lambda: valkey.answers(found.redis_url)


@dataclass
class Reviver:
    """Starts `server` again when it has died. The lock is still ours, so nobody else can have opened its data.

    What an old server left behind may still be at work on the data (a statement ends before its process does): then
    the start is refused, and tried again a little later. Never raises; says what is new.
    """

    server: Server
    ready: Callable[[], bool]
    due: float = 0.0
    failing: bool = False

    def __call__(self) -> str | None:
        if self.server.alive() or time.monotonic() < self.due:
            return None
        (self.server.directory / "postmaster.pid").unlink(missing_ok=True)
        try:
            self.server.start(self.ready)
        except DatabaseBusy:
            said, self.failing = self.failing, True
            self.due = time.monotonic() + REVIVE_AGAIN_SECONDS
            return None if said else f"the embedded {self.server.name} had ended, and cannot start yet"
        self.failing = False
        return f"the embedded {self.server.name} had ended; it runs again"


def tell(
    lease: Lease, found: Parts, settings: Settings, started: list[Server], command: str, lasting: bool
) -> None:
    """Write where the servers are. What came from the environment is left out: it may hold passwords."""
    lease.directory.write(
        State(
            command=command,
            lasting=lasting,
            pid=os.getpid(),
            started=started_at(os.getpid()) or "",
            database_url=None if settings.database_url else found.database_url,
            redis_url=None if settings.redis_url else found.redis_url,
            about=tuple(line for line in found.about if ", embedded," in line),
            servers=tuple(
                ServerState(server.name, server.pid, started_at(server.pid) or "", int(server.stop_signal))
                for server in started
            ),
        )
    )


def home_of(data_dir: Path, account: Account, shelter: Path) -> Path:
    """Where the servers keep their data: the data directory, or a place under `shelter` when they cannot reach it.

    The place is written into the data directory, so that removing the directory forgets its data; the data itself
    stays, with a note of whose it was, for a person to remove.
    """
    if account.can_run(data_dir):
        return data_dir
    note = data_dir / ELSEWHERE
    if not note.exists():
        note.write_text(f"{shelter / 'data' / secrets.token_hex(8)}\n")
    home = Path(note.read_text().strip())
    passable(home)
    (home / KEPT_FOR).write_text(f"{data_dir}\n")
    return home


def socket_directory(home: Path, account: Account) -> Path:
    """An empty directory for the database's socket; in /tmp when its name would be too long here."""
    near = home / "sockets"
    if len(os.fsencode(near)) <= SOCKET_BYTES and '"' not in str(near):
        shutil.rmtree(near, ignore_errors=True)
    else:
        near = Path(tempfile.mkdtemp(prefix="unwind-", dir="/tmp"))
    account.make_own_directory(near)
    return near
