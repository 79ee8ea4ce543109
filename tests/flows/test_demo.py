"""`unwind demo` as its user runs it: a process of its own, embedded parts, nothing set in the environment."""

from __future__ import annotations

import json
import re
import subprocess
import sys
from pathlib import Path

import pytest

from app.cli.demo import DEMO_STORE, new_domain
from app.cli.demo_story import LOST
from tests.terminal import nothing_set

LONGEST_SECONDS = 240
COUNTED = (  # checks that would hold over nothing, too
    "every code asked for is at the store",
    "each code given back could be used once more, once, until its end date",
    "a comparison with the store found what was lost in the post, and then nothing",
)


def command(data: Path, *options: str) -> list[str]:
    return [sys.executable, "-m", "app.cli", "demo", "--data", str(data), *options]


def test_a_demo_ends_well_only_because_every_check_held(tmp_path: Path) -> None:
    options = ("--once", "--json", "--orders", "20", "--refunds", "24", "--seed", "3")
    done = subprocess.run(
        command(tmp_path / "data", *options),
        cwd=tmp_path,
        env=nothing_set(),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )
    assert done.stdout, done.stderr
    document = json.loads(done.stdout)
    assert [check for check in document["checks"] if not check["held"]] == []
    assert document["held"]
    assert done.returncode == 0
    assert len(document["refunds"]) == 24 + LOST
    assert any(refund["reversed"] > 0 for refund in document["refunds"])
    assert any(refund["returned"] > 0 for refund in document["refunds"])
    details = {check["name"]: check["detail"] for check in document["checks"]}
    assert all(int(details[name].split()[0]) > 0 for name in COUNTED)


def unwind(tmp_path: Path, *arguments: str) -> subprocess.CompletedProcess[str]:
    return subprocess.run(
        [sys.executable, "-m", "app.cli", *arguments, "--data", str(tmp_path / "data")],
        cwd=tmp_path,
        env=nothing_set(),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def test_a_demo_never_runs_where_a_real_store_is_kept(tmp_path: Path) -> None:
    """Its worker would send that store's tokens to the pretend one."""
    assert unwind(tmp_path, "shop", "add", "demo-lamps.myshopify.com").returncode == 0
    done = unwind(tmp_path, "demo", "--once", "--orders", "3", "--refunds", "3")
    assert done.returncode == 2, done.stderr
    assert "is the folder of demo-lamps.myshopify.com" in done.stderr and "Traceback" not in done.stderr
    listed = unwind(tmp_path, "shop", "list", "--json").stdout
    assert [shop["domain"] for shop in json.loads(listed)] == ["demo-lamps.myshopify.com"]


@pytest.mark.parametrize("seed", [0, 1, -7, 10**12 + 5])
def test_the_stores_of_demos_before_are_no_real_ones(seed: int) -> None:
    assert re.search(DEMO_STORE, new_domain(seed))
