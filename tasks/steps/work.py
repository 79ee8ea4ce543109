"""Working off a shop's events: what every `*.process` task does once it has answered the bell."""

from __future__ import annotations

import time
from collections import Counter
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Protocol

import structlog
from redis import Redis, RedisError

from models.telemetry import span
from tasks.steps import bell

log = structlog.get_logger(__name__)

LIMIT = 50  # events of one transaction: enough to share its cost, few enough to repeat
BUDGET_SECONDS = 20.0  # then the next shop has its turn; the task's own time limit is far away


class Drained(Protocol):
    """What one batch came to; `left` counts events that could be worked off now."""

    @property
    def done(self) -> int: ...
    @property
    def failed(self) -> int: ...
    @property
    def later(self) -> int: ...
    @property
    def left(self) -> int: ...
    @property
    def outcomes(self) -> list[str]: ...
    @property
    def lines(self) -> list[dict[str, object]]: ...


@dataclass
class Worked:
    """All batches of one task. `unfinished`: the time was up, so the bell has to ring again."""

    done: int = 0
    failed: int = 0
    later: int = 0
    unfinished: bool = False
    outcomes: Counter[str] = field(default_factory=Counter)

    def add(self, drained: Drained) -> None:
        self.done += drained.done
        self.failed += drained.failed
        self.later += drained.later
        self.outcomes.update([str(line["outcome"]) for line in drained.lines] or drained.outcomes)

    def __str__(self) -> str:
        """In words, for Flower: `3 done, 1 failed; ...`."""
        if not (self.done or self.failed or self.later):
            return "nothing was waiting" if not self.unfinished else "the time was up"
        counts = ((self.done, "done"), (self.failed, "failed"), (self.later, "later"))
        text = ", ".join(f"{count} {word}" for count, word in counts if count)
        seen = "; ".join(f"{n} x {said}" if n > 1 else said for said, n in self.outcomes.most_common(SHOWN))
        more = ", to be continued" if self.unfinished else ""
        return text + more + (f": {seen}" if seen else "")


SHOWN = 5  # of a task's outcomes in its result line


def work_off(
    take: Callable[[], Drained],
    *,
    budget_seconds: float = BUDGET_SECONDS,
    clock: Callable[[], float] = time.monotonic,
) -> Worked:
    """Take batches until none is left, none can be taken (others hold them), or the time is up."""
    worked = Worked()
    until = clock() + budget_seconds
    while True:
        with span("drain") as note:
            drained = take()
            note(done=drained.done, failed=drained.failed, later=drained.later)
        worked.add(drained)
        for line in drained.lines:  # after their commit: what a line says stands in the books
            log.info("event_worked", **line)
        if not drained.left or not drained.done + drained.failed:
            return worked
        if clock() >= until:
            worked.unfinished = True
            return worked


def process(
    shop: str,
    *,
    take: Callable[[], Drained],
    broker: Redis,
    ring_again: Callable[[], object],
    budget_seconds: float = BUDGET_SECONDS,
) -> str:
    """Answer the shop's bell, work off its events, ring again when the time was up. Returns what came of it, in words.

    The bell is silenced before anything is claimed: an event that comes later than the claim finds it silent, and rings.
    """
    try:
        bell.answer(broker, shop)
    except RedisError:
        log.warning("bell_left_ringing")  # it fades by itself, and the sweep rings for what it hid
    worked = work_off(take, budget_seconds=budget_seconds)
    if worked.unfinished and bell.try_ring(broker, [shop]):
        ring_again()
    return str(worked)
