"""A flood of webhooks while one part after the other is killed; then a count of what was lost, doubled or wrong."""

from __future__ import annotations

import random
import time
from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime

from models.session import make_engine
from tests.faults.checks import Findings, check
from tests.faults.family import CLAIMED, SECRET, WORKERS, Family, Setup, family
from tests.faults.flood import Flood
from tests.faults.stories import Sending, Tale, make_tale, mixed

FREEZE_SECONDS = 3.0  # longer than a ring waits, shorter than Celery takes to give a connection up
CLAIM_SECONDS = 8.0  # the longest wait for a worker to be in the middle of something
SENT_SECONDS = 60.0  # the longest wait for one part of the flood to be answered
PENDING = "select count(*) from inbox where state = 'pending'"

FAULTS = {
    "worker": 5,  # a worker with its whole process group
    "pool": 6,  # one process of a worker's pool
    "broker": 2,  # killed, wiped, started again empty
    "freeze": 1,  # the broker stops answering for a while
    "database": 1,
    "receiver": 1,
    "scheduler": 1,
}
LAST = "blackout"  # when all is acknowledged: both workers killed and the broker wiped; only the sweep is left to tell


@dataclass(frozen=True)
class Trial:
    """What to try. Times in seconds."""

    seed: int = 1
    worlds: Sequence[int] = (1, 2, 3, 4, 5, 6, 7, 8)
    orders: int = 60
    customers: int = 3  # few: orders of one wallet meet each other
    faults: dict[str, int] = field(default_factory=lambda: dict(FAULTS))
    drain_seconds: float = 60.0
    setup: Setup = field(default_factory=Setup)


@dataclass
class Report:
    """What came of it. `amid`: kills of workers that held claimed events; `drained`: nothing was pending in the end."""

    deliveries: int
    sendings: int
    faults: Counter[str]
    amid: int
    answers: Counter[int]
    drained: bool
    drain_seconds: float
    seconds: float
    findings: Findings

    @property
    def held(self) -> bool:
        return self.drained and not self.findings

    def __str__(self) -> str:
        kinds = ",".join(f"{kind}:{number}" for kind, number in sorted(self.faults.items()))
        answers = ",".join(f"{status or 'none'}:{number}" for status, number in sorted(self.answers.items()))
        return (
            f"deliveries={self.sendings} faults={self.faults.total()} {self.findings} drain_s={self.drain_seconds:.1f}"
            f" (distinct={self.deliveries} kinds={kinds} amid_work={self.amid} answers={answers} total_s={self.seconds:.0f})"
        )


def storm(trial: Trial) -> Report:
    """Send everything, break everything, wait until it is quiet, and look. Ends every process that it started."""
    began, dice = time.monotonic(), random.Random(trial.seed)
    with family(trial.setup) as here:
        engine = make_engine(here.parts.database_url)
        flood = Flood(here.url, SECRET)
        try:
            now = datetime.now(UTC)
            tales = [
                make_tale(engine, seed, orders=trial.orders, customers=trial.customers, now=now)
                for seed in trial.worlds
            ]
            sendings = mixed(tales, dice)
            broken, amid = break_amid(here, flood, sendings, trial, dice)
            drained, drain_seconds = drain(here, trial.drain_seconds)
            flood.close()
            findings = check(engine, tales, sendings, flood.acked)
        finally:
            flood.close()
            engine.dispose()
        seconds = time.monotonic() - began
        return Report(
            count(tales),
            len(sendings),
            broken,
            amid,
            flood.answers,
            drained,
            drain_seconds,
            seconds,
            findings,
        )


def count(tales: Sequence[Tale]) -> int:
    return sum(len(tale.deliveries) for tale in tales)


def break_amid(
    here: Family, flood: Flood, sendings: Sequence[Sending], trial: Trial, dice: random.Random
) -> tuple[Counter[str], int]:
    """One fault for each part of the flood, while it flows, and one after the last."""
    kinds = [kind for kind, number in trial.faults.items() for _ in range(number)]
    dice.shuffle(kinds)
    kinds.append(LAST)
    broken: Counter[str] = Counter()
    amid = 0
    size = -(-len(sendings) // len(kinds))
    for number, kind in enumerate(kinds):
        flood.release(sendings[number * size : (number + 1) * size])
        if kind == LAST:
            answered(here, flood, flood.released)
        amid += inject(here, flood, kind, dice)
        broken[kind] += 1
        answered(here, flood, flood.released)
    return broken, amid


def answered(here: Family, flood: Flood, number: int) -> None:
    assert here.wait(lambda: flood.answered >= number, SENT_SECONDS), "webhooks stay unanswered"


def inject(here: Family, flood: Flood, kind: str, dice: random.Random) -> int:
    """Do it. 1 when it hit a worker with claimed events in hand."""
    if kind in ("worker", "pool"):
        amid = here.wait(lambda: bool(here.asked(CLAIMED)), CLAIM_SECONDS, poll_seconds=0.002)
        name = dice.choice(WORKERS)
        here.kill(name) if kind == "worker" else here.kill_one_of_pool(name, dice)
        return int(amid)
    before = flood.answered
    here.wait(lambda: flood.answered > before + dice.randrange(30) or kind == LAST, 2.0, poll_seconds=0.005)
    if kind in ("receiver", "scheduler"):
        here.kill(kind)
    elif kind == "broker":
        here.wipe_broker()
    elif kind == "freeze":
        here.freeze_broker(FREEZE_SECONDS)
    elif kind == "database":
        here.kill_database()
    else:
        for name in WORKERS:
            here.kill(name)
        here.wipe_broker()
    return 0


def drain(here: Family, seconds: float) -> tuple[bool, float]:
    """Wait until nothing is pending. Whether that came, and how long it took."""
    began = time.monotonic()
    drained = here.wait(lambda: here.asked(PENDING) == 0, seconds, poll_seconds=0.1)
    return drained, time.monotonic() - began
