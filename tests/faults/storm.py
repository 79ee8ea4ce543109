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
from tests.faults.family import SECRET, WORKERS, Family, Setup, family
from tests.faults.flood import Flood
from tests.faults.stories import Sending, first_of_orders, make_tale, mixed

FREEZE_SECONDS = 3.0  # longer than a ring waits, shorter than Celery takes to give a connection up
CLAIM_SECONDS = 8.0  # the longest wait for a worker to be in the middle of something
SENT_SECONDS = 60.0  # the longest wait for one part of the flood to be answered
PENDING = "select count(*) from inbox where state = 'pending'"
WAITING = (
    "select format('%s pending: attempts %s, rings %s, due in %s, rung %s ago', count(*), attempts, rings,"
    " max(not_before - now()), max(now() - rung_at)) from inbox where state = 'pending' group by attempts, rings"
)
SESSIONS = (
    "select format('%s %s %s: %s', application_name, state, wait_event, left(query, 60)) from pg_stat_activity"
    " where backend_type = 'client backend'"
)
TRIED_AGAIN = "select count(*) from inbox where attempts > 1"

FAULTS = {
    "worker": 5,  # a worker with its whole process group
    "pool": 6,  # one process of a worker's pool
    "broker": 2,  # killed, wiped, started again empty
    "freeze": 1,  # the broker stops answering for a while
    "database": 1,
    "receiver": 1,
    "scheduler": 1,
    "rush": 2,  # workers killed; when they are back, a message for each of their processes says the same
}
LAST = "blackout"  # the last part comes while no worker lives, then the broker is wiped: only the sweep is left to tell

RUSH = "rush"
CROWD = 8  # messages for one shop: as many as there may be processes


@dataclass(frozen=True)
class Trial:
    """What to try. Times in seconds."""

    seed: int = 1
    worlds: Sequence[int] = (1, 2, 3, 4, 5, 6)
    orders: int = 60
    customers: int = 3  # few: orders of one wallet meet each other
    faults: dict[str, int] = field(default_factory=lambda: dict(FAULTS))
    orders_first: bool = False  # one delivery of each order is worked off in peace, before anything breaks
    blackout: bool = True  # at the end: see LAST
    drain_seconds: float = 60.0
    setup: Setup = field(default_factory=Setup)


@dataclass
class Report:
    """What came of it. `amid`: kills of workers that held claimed events; `tried_again`: events whose first try
    came to nothing; `drained`: nothing was pending in the end.
    """

    deliveries: int
    sendings: int
    faults: Counter[str]
    amid: int
    tried_again: int
    answers: Counter[int]
    drained: bool
    drain_seconds: float
    seconds: float
    findings: Findings
    stuck: list[str]  # when it was not drained: what waits, where, and the last words of everybody

    @property
    def held(self) -> bool:
        return self.drained and not self.findings

    def __str__(self) -> str:
        kinds = ",".join(f"{kind}:{number}" for kind, number in sorted(self.faults.items()))
        answers = ",".join(f"{status or 'none'}:{number}" for status, number in sorted(self.answers.items()))
        return (
            f"deliveries={self.sendings} faults={self.faults.total()} {self.findings} drain_s={self.drain_seconds:.1f}"
            f" (distinct={self.deliveries} kinds={kinds} amid_work={self.amid} tried_again={self.tried_again} answers={answers} total_s={self.seconds:.0f})"
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
            stuck = [] if drained else why_stuck(here)
            tried_again = here.asked(TRIED_AGAIN)
            findings = check(engine, tales, sendings, flood.acked)
        finally:
            flood.close()
            engine.dispose()
        seconds = time.monotonic() - began
        return Report(
            deliveries=sum(len(tale.deliveries) for tale in tales),
            sendings=len(sendings),
            faults=broken,
            amid=amid,
            tried_again=tried_again[0],
            answers=flood.answers,
            drained=drained,
            drain_seconds=drain_seconds,
            seconds=seconds,
            findings=findings,
            stuck=stuck,
        )


def break_amid(
    here: Family, flood: Flood, sendings: Sequence[Sending], trial: Trial, dice: random.Random
) -> tuple[Counter[str], int]:
    """One fault for each part of the flood, while it flows, and one after the last."""
    kinds = [kind for kind, number in trial.faults.items() for _ in range(number)]
    dice.shuffle(kinds)
    kinds += [LAST] if trial.blackout else []
    broken: Counter[str] = Counter()
    amid = 0
    if trial.orders_first:
        firsts, sendings = first_of_orders(sendings)
        flood.release(firsts)
        answered(here, flood)
        drain(here, trial.drain_seconds)
    size = -(-len(sendings) // len(kinds))
    for number, kind in enumerate(kinds):
        part = sendings[number * size : (number + 1) * size]
        if kind in (LAST, RUSH):
            without_workers(here, flood, part)
            here.wipe_broker() if kind == LAST else here.ring(list({each.domain for each in part}), CROWD)
        else:
            flood.release(part)
            amid += inject(here, flood, kind, dice)
            answered(here, flood)
        broken[kind] += 1
    return broken, amid


def answered(here: Family, flood: Flood) -> None:
    assert here.wait(lambda: flood.answered >= flood.released, SENT_SECONDS), "webhooks stay unanswered"


def without_workers(here: Family, flood: Flood, part: Sequence[Sending]) -> None:
    """Everything of this part is acknowledged, and nothing of it is worked off."""
    for name in WORKERS:
        here.kill(name)
    flood.release(part)
    answered(here, flood)
    for name in WORKERS:
        here.kill(name)  # they may be back already


def inject(here: Family, flood: Flood, kind: str, dice: random.Random) -> int:
    """Do it. 1 when it hit a worker with claimed events in hand."""
    if kind in ("worker", "pool"):
        return kill_at_work(here, kind, dice)
    before, wanted = flood.answered, dice.randrange(30)
    here.wait(lambda: flood.answered > before + wanted, 2.0, poll_seconds=0.005)
    if kind in ("receiver", "scheduler"):
        here.kill(kind)
    elif kind == "broker":
        here.wipe_broker()
    elif kind == "freeze":
        here.freeze_broker(FREEZE_SECONDS)
    else:
        here.kill_database()
    return 0


def kill_at_work(here: Family, kind: str, dice: random.Random) -> int:
    """A worker, or one of its pool, while it holds claimed events (of a pool it may be another one that holds them)."""
    busy: list[str] = []
    here.wait(lambda: bool(busy.extend(here.busy_workers()) or busy), CLAIM_SECONDS, poll_seconds=0.002)
    name = dice.choice(busy or WORKERS)
    if kind == "worker":
        here.kill(name)
    else:
        here.kill_one_of_pool(name, dice)
    return int(bool(busy))


def drain(here: Family, seconds: float) -> tuple[bool, float]:
    """Wait until nothing is pending. Whether that came, and how long it took."""
    began = time.monotonic()
    drained = here.wait(lambda: here.asked(PENDING) == [0], seconds, poll_seconds=0.1)
    return drained, time.monotonic() - began


def why_stuck(here: Family) -> list[str]:
    """For whoever has to find out."""
    with here.broker() as broker:
        queues = [f"{key}: {broker.llen(key)} messages" for key in broker.scan_iter(_type="list")]
    return [*here.asked(WAITING), *here.asked(SESSIONS), *queues, *here.last_words()]
