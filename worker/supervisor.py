"""Keeps child processes running: starts a dead one again, ever later while it keeps dying, and stops all on SIGTERM.

A Celery worker dies now and then when the broker is killed under it, and Flower may ignore SIGTERM when the broker has
been gone for long: so the dead are started again, and what does not end within its grace time is killed.
"""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager, nullcontext, suppress
from dataclasses import dataclass, field
from pathlib import Path
from types import FrameType

from worker.embedded.process import die_with_parent

TICK_SECONDS = 0.1
FIRST_DELAY_SECONDS = 0.5
LONGEST_DELAY_SECONDS = 30.0
STEADY_SECONDS = 20.0  # a child that ran this long is well: its next death counts as the first


@dataclass(frozen=True)
class Child:
    """What to run. `env` is added to our own environment; secrets belong there, never in `command`.

    log: the file that takes what it prints, at its end; None: it prints where we do.
    """

    name: str
    command: Sequence[str]
    env: Mapping[str, str] = field(default_factory=dict, repr=False)
    grace_seconds: float = 25.0
    log: Path | None = None


@dataclass
class Running:
    """A child as it is now: running, or due to start at `due` (monotonic seconds)."""

    child: Child
    process: subprocess.Popen[bytes] | None = None
    started: float = 0.0
    due: float = 0.0
    deaths: int = 0

    def start(self, now: float) -> None:
        with open(self.child.log, "ab") if self.child.log else nullcontext() as log:
            self.process = subprocess.Popen(  # noqa: S603 - our own program and arguments, no shell
                list(self.child.command),
                env={**os.environ, **self.child.env},
                stdin=subprocess.DEVNULL,
                stdout=log or sys.stderr,  # our own standard output is for results
                stderr=log,
                start_new_session=True,  # Ctrl-C is for us, and its own children are stopped with it
                preexec_fn=lambda: die_with_parent(signal.SIGTERM),
            )
        self.started = now

    def signal_all(self, number: signal.Signals) -> None:
        """To the child and everything it started."""
        assert self.process is not None
        with suppress(ProcessLookupError):
            os.killpg(self.process.pid, number)


@dataclass
class Supervisor:
    """`run()` returns when SIGTERM or SIGINT asked for it, or `stop()` did. `on_tick` runs ten times a second."""

    children: Sequence[Child]
    say: Callable[[str], None]
    on_tick: Callable[[], None] = lambda: None
    first_delay_seconds: float = FIRST_DELAY_SECONDS
    longest_delay_seconds: float = LONGEST_DELAY_SECONDS
    steady_seconds: float = STEADY_SECONDS
    stopping: bool = False

    def run(self) -> int:
        """0: every child ended by itself when asked to; 1: one had to be killed. Call it from the main thread."""
        running = [Running(child) for child in self.children]
        with stopped_by_signals(self.stop):
            try:
                while not self.stopping:
                    for one in running:
                        self.watch(one, time.monotonic())
                    self.on_tick()
                    time.sleep(TICK_SECONDS)
            finally:
                killed = self.end(running)
        return 1 if killed else 0

    def stop(self) -> None:
        self.stopping = True

    def watch(self, one: Running, now: float) -> None:
        """Start a child that is due; note one that has died."""
        if one.process is None:
            if now >= one.due:
                one.start(now)
            return
        code = one.process.poll()
        if code is None:
            return
        one.signal_all(signal.SIGKILL)  # what it may have left behind
        one.deaths = 1 if now - one.started >= self.steady_seconds else one.deaths + 1
        delay = self.delay_seconds(one.deaths)
        one.process, one.due = None, now + delay
        self.say(f"{one.child.name} ended ({ended_how(code)}); starting it again in {delay:g} s")

    def delay_seconds(self, deaths: int) -> float:
        """Half a second, one, two, four, ... up to the longest."""
        return min(self.longest_delay_seconds, self.first_delay_seconds * 2.0 ** min(deaths - 1, 30))

    def end(self, running: Sequence[Running]) -> list[str]:
        """Ask all at once, kill what is still there after its own grace time; the names of those."""
        asked = time.monotonic()
        left = {one.child.name: one for one in running if one.process is not None}
        for one in left.values():
            assert one.process is not None
            one.process.send_signal(signal.SIGTERM)
        killed = []
        while left:
            for name, one in list(left.items()):
                assert one.process is not None
                if one.process.poll() is None:
                    if time.monotonic() - asked < one.child.grace_seconds:
                        continue
                    self.say(f"{name} did not end within {one.child.grace_seconds:g} s; killing it")
                    killed.append(name)
                one.signal_all(signal.SIGKILL)
                one.process.wait()
                del left[name]
            time.sleep(TICK_SECONDS / 5)
        return killed


def ended_how(code: int) -> str:
    return f"status {code}" if code >= 0 else f"signal {signal.Signals(-code).name}"


@contextmanager
def stopped_by_signals(stop: Callable[[], None]) -> Iterator[None]:
    """SIGTERM and SIGINT call `stop`; as before afterwards."""

    def handle(number: int, frame: FrameType | None) -> None:
        stop()

    before = {number: signal.signal(number, handle) for number in (signal.SIGTERM, signal.SIGINT)}
    try:
        yield
    finally:
        for number, handler in before.items():
            signal.signal(number, handler)
