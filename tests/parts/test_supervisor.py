"""The supervisor: the dead run again, ever later, and nothing outlives the stop."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Callable
from pathlib import Path

import pytest

from worker.embedded.process import started_at
from worker.supervisor import Child, Supervisor, ended_how

SLEEP = "import time; time.sleep(60)"
DEAF = "import signal, time; signal.signal(signal.SIGTERM, signal.SIG_IGN); print(flush=True); time.sleep(60)"


def python(name: str, script: str, *arguments: str, grace_seconds: float = 10.0) -> Child:
    return Child(name, (sys.executable, "-c", script, *arguments), grace_seconds=grace_seconds)


def noting(path: Path, then: str) -> str:
    """A script that adds its process number to a file, then does something."""
    return f"import os; open({str(path)!r}, 'a').write(f'{{os.getpid()}}\\n'); {then}"


def pids(path: Path) -> list[int]:
    return [int(line) for line in path.read_text().split()] if path.exists() else []


def supervised(children: list[Child], until: Callable[[], bool], **given: float) -> tuple[int, list[str]]:
    """Run until a condition holds; the status and what was said."""
    said: list[str] = []
    deadline = time.monotonic() + 20

    def tick() -> None:
        assert time.monotonic() < deadline, said
        if until():
            supervisor.stop()

    supervisor = Supervisor(children, said.append, tick, **given)
    return supervisor.run(), said


def test_a_child_that_dies_is_started_again_and_it_is_said(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    dies = python("worker", noting(starts, "os._exit(3)"))
    status, said = supervised([dies], lambda: len(pids(starts)) >= 3, first_delay_seconds=0.05)
    assert said[:2] == [
        "worker ended (status 3); starting it again in 0.05 s",
        "worker ended (status 3); starting it again in 0.1 s",
    ]
    assert status == 0


def test_the_others_run_on_while_one_dies(tmp_path: Path) -> None:
    starts, steady = tmp_path / "starts", tmp_path / "steady"
    family = [python("worker", noting(starts, "os._exit(1)")), python("receiver", noting(steady, SLEEP))]
    supervised(family, lambda: len(pids(starts)) >= 2 and bool(pids(steady)), first_delay_seconds=0.05)
    assert len(pids(steady)) == 1


@pytest.mark.parametrize(
    ("deaths", "seconds"),
    [
        pytest.param(1, 0.5, id="the first: half a second"),
        pytest.param(2, 1.0, id="the second: twice as long"),
        pytest.param(5, 8.0, id="the fifth"),
        pytest.param(1_000_000, 30.0, id="never longer than half a minute"),
    ],
)
def test_each_death_in_a_row_doubles_the_wait(deaths: int, seconds: float) -> None:
    assert Supervisor([], print).delay_seconds(deaths) == seconds


def test_a_child_that_ran_steadily_starts_at_the_shortest_wait_again(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    dies = python("worker", noting(starts, "import time; time.sleep(0.3); os._exit(1)"))
    _, said = supervised([dies], lambda: len(pids(starts)) >= 3, first_delay_seconds=0.05, steady_seconds=0.1)
    assert set(said) == {"worker ended (status 1); starting it again in 0.05 s"}


def test_a_child_that_ignores_the_stop_is_killed_after_its_grace_time(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    deaf = python("flower", noting(starts, DEAF), grace_seconds=0.5)
    began = time.monotonic()
    status, said = supervised([deaf], lambda: bool(pids(starts)) and time.monotonic() > began + 1)
    assert said == ["flower did not end within 0.5 s; killing it"]
    assert status == 1
    assert [started_at(pid) for pid in pids(starts)] == [None]


def test_what_a_child_started_ends_with_it(tmp_path: Path) -> None:
    starts = tmp_path / "starts"
    grandchild = noting(starts, SLEEP)
    parent = python(
        "worker", f"import subprocess, sys; subprocess.run([sys.executable, '-c', {grandchild!r}])"
    )
    supervised([parent], lambda: bool(pids(starts)))
    deadline = time.monotonic() + 5
    while started_at(pids(starts)[0]):
        assert time.monotonic() < deadline, "the grandchild lives on"
        time.sleep(0.02)


@pytest.mark.parametrize(
    ("number", "status"),
    [
        pytest.param(signal.SIGTERM, 0, id="SIGTERM ends it in order"),
        pytest.param(signal.SIGINT, 0, id="Ctrl-C ends it in order"),
        pytest.param(signal.SIGKILL, -9, id="even when it is killed itself"),
    ],
)
def test_no_child_outlives_the_supervisor(tmp_path: Path, number: signal.Signals, status: int) -> None:
    starts = tmp_path / "starts"
    script = (
        "import sys; from worker.supervisor import Child, Supervisor; "
        "sys.exit(Supervisor([Child('worker', (sys.executable, '-c', sys.argv[1]))], print).run())"
    )
    root = str(Path(__file__).parents[2])
    supervisor = subprocess.Popen(
        [sys.executable, "-c", script, noting(starts, SLEEP)], env={**os.environ, "PYTHONPATH": root}
    )
    deadline = time.monotonic() + 20
    while not pids(starts):
        assert time.monotonic() < deadline
        time.sleep(0.02)
    supervisor.send_signal(number)
    assert supervisor.wait(15) == status
    while started_at(pids(starts)[0]):
        assert time.monotonic() < deadline
        time.sleep(0.02)


def test_an_end_by_signal_is_named() -> None:
    assert ended_how(-9) == "signal SIGKILL"
    assert ended_how(0) == "status 0"
