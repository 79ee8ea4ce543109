"""Places and processes for the tests of the embedded parts."""

from __future__ import annotations

import json
import os
import shutil
import subprocess
import sys
import tempfile
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from dataclasses import dataclass
from pathlib import Path

import pytest

from models.settings import Settings, load_settings
from worker.embedded import Parts, parts

HOLDER = Path(__file__).with_name("holder.py")
END_SECONDS = 30


@pytest.fixture(autouse=True)
def no_settings_of_this_machine(monkeypatch: pytest.MonkeyPatch) -> None:
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)


@pytest.fixture
def place() -> Iterator[Path]:
    """A directory that every account can enter, with a space in its name."""
    path = Path(tempfile.mkdtemp(prefix="unwind test "))
    path.chmod(0o755)
    yield path
    shutil.rmtree(path)


@dataclass
class Holder:
    """A process that holds the parts; `leave()` ends it as Ctrl-D would."""

    process: subprocess.Popen[str]

    def about(self) -> dict[str, str]:
        assert self.process.stdout is not None
        line = self.process.stdout.readline()
        assert line, f"it ended: {self.error()}"
        told: dict[str, str] = json.loads(line)
        return told

    def error(self) -> str:
        assert self.process.stderr is not None
        return self.process.stderr.read()

    def leave(self) -> int:
        assert self.process.stdin is not None
        self.process.stdin.close()
        return self.process.wait(END_SECONDS)

    def kill(self) -> None:
        self.process.kill()
        self.process.wait()


@pytest.fixture
def hold(place: Path) -> Iterator[Callable[..., Holder]]:
    """Start a holder on `place`/data; all are ended with the test."""
    holders: list[Holder] = []

    def start(**given: object) -> Holder:
        arguments = json.dumps({"data": str(place / "data"), "shelter": str(place / "shelter"), **given})
        process = subprocess.Popen(
            [sys.executable, str(HOLDER), arguments],
            stdin=subprocess.PIPE,
            stdout=subprocess.PIPE,
            stderr=subprocess.PIPE,
            text=True,
            env={**os.environ, "PYTHONPATH": str(HOLDER.parents[2])},
        )
        holders.append(Holder(process))
        return holders[-1]

    yield start
    for holder in holders:
        if holder.process.poll() is None:
            holder.leave()
        for pipe in (holder.process.stdin, holder.process.stdout, holder.process.stderr):
            assert pipe is not None
            pipe.close()


@pytest.fixture
def embedded(place: Path) -> Callable[..., AbstractContextManager[Parts]]:
    """The parts of `place`/data in this process, with the settings' defaults."""

    def start(*, lasting: bool = False, **given: object) -> AbstractContextManager[Parts]:
        settings = load_settings(**given)
        return parts(
            settings, place / "data", command="unwind test", lasting=lasting, shelter=place / "shelter"
        )

    return start
