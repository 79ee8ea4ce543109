"""Who has the data directory open: one owner that runs the servers, and guests that use them.

`lock` is held by the owner and by its servers: no second server ever opens the same data.
`users.lock` is shared by the guests: the owner waits for them a moment before it stops the servers.
`running.json` says where the servers are and whose they are. It is written when they answer and removed before they
stop; after a kill -9 it is stale, which the owner's process number and start time show.
"""

from __future__ import annotations

import fcntl
import json
import os
import signal
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import asdict, dataclass
from pathlib import Path

from models.errors import Refused
from worker.embedded.process import started_at

WAIT_SECONDS = 45  # for another command that is starting, stopping, or dying
GUESTS_SECONDS = 10  # the longest that an owner waits for its guests when it stops
POLL_SECONDS = 0.05


@dataclass(frozen=True)
class ServerState:
    name: str
    pid: int
    started: str
    stop_signal: int


@dataclass(frozen=True)
class State:
    """What `running.json` says. `lasting` is true for `up` and `demo`, false for a command that ends by itself."""

    command: str
    lasting: bool
    pid: int
    started: str
    database_url: str | None
    redis_url: str | None
    about: tuple[str, ...]
    servers: tuple[ServerState, ...]

    def owner_lives(self) -> bool:
        return started_at(self.pid) == self.started


@dataclass(frozen=True)
class Directory:
    """The data directory's own files."""

    path: Path

    @property
    def lock(self) -> Path:
        return self.path / "lock"

    @property
    def users(self) -> Path:
        return self.path / "users.lock"

    @property
    def state(self) -> Path:
        return self.path / "running.json"

    def read(self) -> State | None:
        try:
            raw = json.loads(self.state.read_text())
            servers = tuple(ServerState(**server) for server in raw.pop("servers"))
            return State(**{**raw, "servers": servers, "about": tuple(raw["about"])})
        except (OSError, ValueError, KeyError, TypeError):
            return None

    def write(self, state: State) -> None:
        """Atomically, readable by us alone: the broker's password is in it."""
        unfinished = self.state.with_suffix(".new")
        with os.fdopen(os.open(unfinished, os.O_WRONLY | os.O_CREAT | os.O_TRUNC, 0o600), "w") as file:
            json.dump(asdict(state), file, indent=1)
        unfinished.replace(self.state)


@dataclass(frozen=True)
class Lease:
    """How we have the directory: as its owner (`state` is None), or as the guest of `state`'s owner."""

    directory: Directory
    lock: int
    users: int
    state: State | None

    def leave(self) -> None:
        """An owner about to stop the servers: take no new guests, wait a moment for those here to finish."""
        self.directory.state.unlink(missing_ok=True)
        deadline = time.monotonic() + GUESTS_SECONDS
        while not taken(self.users, fcntl.LOCK_EX) and time.monotonic() < deadline:
            time.sleep(POLL_SECONDS)


@contextmanager
def leased(
    path: Path, *, lasting: bool, answers: Callable[[State], bool], say: Callable[[str], None]
) -> Iterator[Lease]:
    """Own the directory, or be a guest in it. A lasting command must own it and waits for short ones to end.

    Raises `Refused("data_in_use")` when it is in use and cannot be shared.
    """
    directory = Directory(path)
    lock, users = open_lock(directory.lock), open_lock(directory.users)
    try:
        state = obtained(directory, lock, users, lasting=lasting, answers=answers, say=say)
        yield Lease(directory, lock, users, state)
    finally:
        os.close(users)
        os.close(lock)


def open_lock(path: Path) -> int:
    try:
        return os.open(path, os.O_RDWR | os.O_CREAT | os.O_CLOEXEC, 0o600)
    except PermissionError:
        raise Refused(
            "data_not_ours",
            f"{path.parent} belongs to somebody else; run as its owner, or choose another --data",
        ) from None


def taken(descriptor: int, how: int) -> bool:
    try:
        fcntl.flock(descriptor, how | fcntl.LOCK_NB)
    except BlockingIOError:
        return False
    return True


def obtained(
    directory: Directory,
    lock: int,
    users: int,
    *,
    lasting: bool,
    answers: Callable[[State], bool],
    say: Callable[[str], None],
) -> State | None:
    """None: we own it. A state: we are a guest of that owner."""
    deadline = time.monotonic() + WAIT_SECONDS
    said = False
    while not taken(lock, fcntl.LOCK_EX):
        state = directory.read()
        if state is not None and not state.owner_lives():
            end_orphans(state)
        elif state is not None and lasting and state.lasting:
            raise Refused(
                "data_in_use", f"{directory.path} is in use: `{state.command}` runs as process {state.pid}"
            )
        elif state is not None and not lasting and became_guest(directory, users, state, answers):
            return state
        if time.monotonic() > deadline:
            raise Refused(
                "data_in_use", f"{directory.path} is in use by {whose(state)}, which does not answer"
            )
        if not said and time.monotonic() > deadline - WAIT_SECONDS + 1:
            say(f"waiting for {whose(state)} to leave {directory.path}")
            said = True
        time.sleep(POLL_SECONDS)
    directory.state.unlink(missing_ok=True)
    return None


def became_guest(directory: Directory, users: int, state: State, answers: Callable[[State], bool]) -> bool:
    """Sign in, then look again: an owner that is leaving removes its state first, then waits for guests."""
    if not taken(users, fcntl.LOCK_SH):
        return False
    if directory.read() == state and answers(state):
        return True
    fcntl.flock(users, fcntl.LOCK_UN)
    return False


def end_orphans(state: State) -> None:
    """Servers whose owner was killed: the kernel has told them to end (Linux); tell them again for elsewhere."""
    for server in state.servers:
        if started_at(server.pid) == server.started:
            with suppress(ProcessLookupError, PermissionError):
                os.kill(server.pid, signal.Signals(server.stop_signal))


def whose(state: State | None) -> str:
    return "another process" if state is None else f"`{state.command}` (process {state.pid})"
