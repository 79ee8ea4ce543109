"""Commands as a person runs them, in this process: their status, and what they print."""

from __future__ import annotations

import io
import json
import sys
from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any, NamedTuple

import pytest

from app.cli import run


class Output(NamedTuple):
    status: int
    out: str
    err: str

    @property
    def json(self) -> Any:
        return json.loads(self.out)


Unwind = Callable[..., Output]


def unwind_in(
    folder: Path,
    environment: Mapping[str, str],
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
) -> Unwind:
    """`unwind(*arguments, stdin="", **more_environment)`, run from this folder in this environment."""
    for name, value in environment.items():
        monkeypatch.setenv(name.upper(), value)
    monkeypatch.chdir(folder)

    def call(*arguments: str, stdin: str = "", **more: str) -> Output:
        capsys.readouterr()
        monkeypatch.setattr(sys, "stdin", io.StringIO(stdin))
        for name, value in more.items():
            monkeypatch.setenv(name, value)
        status = run(arguments)
        return Output(status, *capsys.readouterr())

    return call
