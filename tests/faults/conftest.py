from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator
from typing import Any

import pytest

from tests.faults.family import ROOT

Die = Callable[[str, int], Any]


@pytest.fixture(scope="module")
def die(database_url: str) -> Iterator[Die]:
    """Die while draining a shop, at a point; returns where that was. `LIVES`: all the points."""
    with subprocess.Popen(
        [sys.executable, "-m", "tests.faults.crash_child", database_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:

        def ask(domain: str, point: int) -> Any:
            assert child.stdin and child.stdout
            child.stdin.write(f"{domain} {point}\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer, "the child that should fork and die has died itself"
            return json.loads(answer)

        yield ask
        assert child.stdin
        child.stdin.close()
        assert child.wait(10) == 0
