"""Real processes, real kills: nothing acknowledged is lost, nothing counts twice, the books are the oracle's."""

from __future__ import annotations

import os

import pytest

from tests.faults.storm import Trial, storm

SEED = int(os.environ.get("UNWIND_FAULT_SEED", "1"))


def test_webhooks_survive_the_death_of_every_part_and_count_once(capsys: pytest.CaptureFixture[str]) -> None:
    report = storm(Trial(seed=SEED))
    with capsys.disabled():
        print(f"\n{report}")
    assert report.sendings >= 2000
    assert report.drained, "events stayed pending\n" + "\n".join(report.stuck)
    assert not report.findings, "\n".join(report.findings.some())
