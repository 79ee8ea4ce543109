"""Commands as a person runs them, in this process: their status, and what they print. What they find set elsewhere."""

from __future__ import annotations

import io
import json
import os
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.cli import run

ROOT = Path(__file__).resolve().parents[1]


def nothing_set() -> dict[str, str]:
    """The environment of a command in a process of its own that names neither a database nor a broker."""
    ours = {name: value for name, value in os.environ.items() if not name.startswith(("DATABASE_", "REDIS_"))}
    return {**ours, "PYTHONPATH": str(ROOT)}


class Output(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Unwind = Callable[..., Output]


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    """What commands find set: the tests' own servers. A module that needs more has an `environment` of its own."""
    return {"database_url": database_url, "redis_url": redis_url}


@pytest.fixture
def unwind(
    environment: Mapping[str, str],
    tmp_path: Path,
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Unwind:
    """`unwind(*arguments, stdin="", **more_environment)`, run from an empty folder in this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.chdir(tmp_path)

    def call(*arguments: str, stdin: str = "", **more: str) -> Output:
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        status = run(arguments)
        return Output(status, *capsys.readouterr())

    return call
