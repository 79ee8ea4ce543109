from __future__ import annotations

import json
import os
import subprocess
import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from typing import Any

import pytest

from tests.faults.family import ROOT

Die = Callable[[str, int], Any]
DieRemoving = Callable[[Mapping[str, Any], int], Any]


@pytest.fixture(scope="module")
def die(database_url: str) -> Iterator[Die]:
    """Die while draining a shop, at a point; returns where that was. `LIVES`: all the points."""
    with asking("crash_child", database_url) as ask:
        yield lambda domain, point: ask(f"{domain} {point}")


@pytest.fixture(scope="module")
def die_removing(database_url: str) -> Iterator[DieRemoving]:
    """Die while a code is taken away at Shopify (`removal_child`), at a point; as `die` answers."""
    with asking("removal_child", database_url) as ask:
        yield lambda asked, point: ask(json.dumps({**asked, "point": point}))


@contextmanager
def asking(module: str, database_url: str) -> Iterator[Callable[[str], Any]]:
    """A child that dies in processes of its own, once a line."""
    with subprocess.Popen(
        [sys.executable, "-m", f"tests.faults.{module}", database_url],
        stdin=subprocess.PIPE,
        stdout=subprocess.PIPE,
        text=True,
        cwd=ROOT,
        env={**os.environ, "PYTHONPATH": str(ROOT)},
    ) as child:

        def ask(line: str) -> Any:
            assert child.stdin and child.stdout
            child.stdin.write(line + "\n")
            child.stdin.flush()
            answer = child.stdout.readline()
            assert answer, "the child that should fork and die has died itself"
            return json.loads(answer)

        yield ask
        assert child.stdin
        child.stdin.close()
        assert child.wait(10) == 0
