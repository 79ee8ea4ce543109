"""Can the storm fail at all? One promise after the other is broken on purpose, and each time it must say so.

`python -m tests.faults.controls [NAME ...]`; status 0 when every broken part was detected, and the sound
ones hold in the same trials.
"""

from __future__ import annotations

import sys
from collections.abc import Callable
from dataclasses import dataclass

from tests.faults.family import Setup
from tests.faults.storm import Report, Trial, storm

BROKEN = "tests.faults.broken"
HOT = (5,)  # one shop, and one customer whose orders come at once from all sides
CROWDED = (
    1,
    3,
    4,
    5,
    6,
    13,
)  # what goes wrong without locks is rare in each: the database refuses most of it
DRAIN_SECONDS = 30.0
FAULTS = {"rush": 1, "worker": 1, "broker": 1, "database": 2}


@dataclass(frozen=True)
class Control:
    """What is broken, and how the report must show exactly that."""

    trial: Trial
    shown: Callable[[Report], object]


def trial(
    setup: Setup, faults: dict[str, int], *, worlds: tuple[int, ...] = HOT, blackout: bool = True
) -> Trial:
    """Orders first: an order that is being opened is a lock of its own, and would hide that another is missing."""
    return Trial(
        worlds=worlds, customers=1, faults=faults, orders_first=True, blackout=blackout,
        drain_seconds=DRAIN_SECONDS, setup=setup,
    )  # fmt: skip


CONTROLS = {
    # what UNIQUE (shop, webhook id) promises is "seen once"; the books do not need it, for facts are sets
    "no key on webhook ids": Control(
        trial(
            Setup(
                receiver=f"{BROKEN}.receiver_twice:application",
                sql="alter table inbox drop constraint uq_inbox_shop_domain_webhook_id",
            ),
            {},
        ),
        lambda report: report.findings.double,
    ),
    "answered before the commit": Control(
        trial(Setup(receiver=f"{BROKEN}.receiver_hasty:application"), {"database": 2}),
        lambda report: report.findings.lost,
    ),
    "no locks on orders and wallets": Control(
        trial(
            Setup(worker=f"{BROKEN}.worker_unlocked", processes=4),
            {"rush": 1},
            worlds=CROWDED,
            blackout=False,
        ),
        lambda report: report.findings.mismatch,
    ),
    "no sweep": Control(trial(Setup(scheduler=False), {}), lambda report: not report.drained),
}
SOUND = {
    "nothing broken": Control(trial(Setup(processes=4), FAULTS), lambda report: report.held),
    "nothing broken, everybody at once": Control(
        trial(
            Setup(worker=f"{BROKEN}.worker_slow", processes=4), {"rush": 1}, worlds=CROWDED, blackout=False
        ),
        lambda report: report.held,
    ),
}


def main(names: list[str]) -> int:
    """Run the named controls, or all and the same with nothing broken."""
    chosen = {name: control for name, control in CONTROLS.items() if not names or name in names}
    detected = sum(ran(name, control, "detected", "NOT DETECTED") for name, control in chosen.items())
    print(f"controls {detected}/{len(chosen)} detected")
    sound = {} if names else SOUND
    held = sum(ran(name, control, "holds", "DOES NOT HOLD") for name, control in sound.items())
    return 0 if (detected, held) == (len(chosen), len(sound)) else 1


def ran(name: str, control: Control, good: str, bad: str) -> bool:
    report = storm(control.trial)
    shown = bool(control.shown(report))
    print(f"{name}: {good if shown else bad}; drained={report.drained} {report}", flush=True)
    for line in report.findings.some()[:3]:
        print(f"    {line[:300]}", flush=True)
    return shown


if __name__ == "__main__":
    sys.exit(main(sys.argv[1:]))
