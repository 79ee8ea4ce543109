"""A server as a child process: it dies with us, and ends cleanly when asked.

The child holds the data directory's lock too (an inherited descriptor), so the lock is free only when nobody has the
data open, also after a kill -9 of the parent.
"""

from __future__ import annotations

import ctypes
import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from pathlib import Path
from typing import BinaryIO

from models.errors import DatabaseBusy
from worker.embedded.account import Account

PR_SET_PDEATHSIG = 1
LIBC = ctypes.CDLL(None) if sys.platform == "linux" else None  # loaded here: after a fork it may not be
START_SECONDS = 60  # a first start after kill -9 replays the log
STOP_SECONDS = 20  # then KILL
POLL_SECONDS = 0.02
LOG_KEPT_BYTES = 4 * 1024 * 1024


@dataclass
class Server:
    """One server program. `stop_signal` ends it cleanly, and is also what it gets when we die."""

    name: str
    command: list[str]
    stop_signal: signal.Signals
    directory: Path
    log: Path
    account: Account
    lock: int
    standard_input: bytes = b""
    process: subprocess.Popen[bytes] | None = field(default=None, repr=False)

    def start(self, ready: Callable[[], bool]) -> None:
        """Start and wait until `ready`. Raises `DatabaseBusy` with the end of the log when it ends instead."""
        rotate(self.log)
        with open_log(self.log) as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own program and arguments, no shell
                self.command,
                stdin=subprocess.PIPE,
                stdout=log,
                stderr=log,
                cwd=self.directory,
                env={"PATH": os.defpath, "LC_ALL": "C", "TZ": "UTC"},
                pass_fds=(self.lock,),
                start_new_session=True,  # Ctrl-C is for us: we stop the servers last
                preexec_fn=lambda: die_with_parent(self.stop_signal),
                **self.account.run_as(),
            )
        assert self.process.stdin is not None
        with self.process.stdin as pipe:
            pipe.write(self.standard_input)
        self.wait_until(ready)

    def wait_until(self, ready: Callable[[], bool]) -> None:
        deadline = time.monotonic() + START_SECONDS
        while not ready():
            if not self.alive():
                raise DatabaseBusy(f"{self.name} ended while starting: {last_words(self.log)}")
            if time.monotonic() > deadline:
                self.stop()
                raise DatabaseBusy(f"{self.name} did not answer within {START_SECONDS} s; see {self.log}")
            time.sleep(POLL_SECONDS)

    def alive(self) -> bool:
        return self.process is not None and self.process.poll() is None

    @property
    def pid(self) -> int:
        assert self.process is not None
        return self.process.pid

    def stop(self) -> None:
        """Ask it to end, wait, then insist."""
        if self.process is None or not self.alive():
            return
        self.process.send_signal(self.stop_signal)
        try:
            self.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            self.process.kill()
            self.process.wait()


def die_with_parent(last_signal: signal.Signals) -> None:
    """In the child, after it gave up root: have the kernel send `last_signal` when the parent is gone (Linux)."""
    if LIBC is not None:
        LIBC.prctl(PR_SET_PDEATHSIG, int(last_signal), 0, 0, 0)


def open_log(log: Path) -> BinaryIO:
    """For adding at its end, readable by us alone."""
    return os.fdopen(os.open(log, os.O_WRONLY | os.O_CREAT | os.O_APPEND, 0o600), "ab")


def rotate(log: Path) -> None:
    """Keep one older log, so that a server that runs for years does not fill the disk with starts."""
    if log.exists() and log.stat().st_size > LOG_KEPT_BYTES:
        log.replace(log.with_suffix(".old.log"))


def last_words(log: Path) -> str:
    lines = log.read_text(errors="replace").strip().splitlines()
    return lines[-1] if lines else "it said nothing"


def started_at(pid: int) -> str | None:
    """When a process started, to tell it from a later one with the same number. None: there is no such process."""
    try:
        after_name = Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()
    except OSError:
        return None if sys.platform == "linux" else started_at_elsewhere(pid)
    return None if after_name[0] in "ZX" else after_name[19]


def started_at_elsewhere(pid: int) -> str | None:
    answer = subprocess.run(  # noqa: S603 - a fixed program, no shell
        ["/bin/ps", "-o", "lstart=", "-p", str(pid)], capture_output=True, text=True, check=False
    )
    return answer.stdout.strip() or None
