"""`unwind bench --quick` as its user runs it, on embedded parts: that it measures, never how fast."""

from __future__ import annotations

import json
import subprocess
import sys

import pytest

from tests.terminal import nothing_set

LONGEST_SECONDS = 300
SPEEDS = {"per_second", "us", "cpu_us", "seconds", "again_seconds", "peak_mib", "lines"}


@pytest.fixture(scope="module")
def quick(tmp_path_factory: pytest.TempPathFactory) -> subprocess.CompletedProcess[str]:
    place = tmp_path_factory.mktemp("bench")
    return subprocess.run(
        [sys.executable, "-m", "app.cli", "bench", "--quick", "--json", "--data", str(place / "data")],
        cwd=place,
        env=nothing_set(),
        capture_output=True,
        text=True,
        timeout=LONGEST_SECONDS,
        check=False,
    )


def test_every_part_is_measured_beside_its_yardstick(quick: subprocess.CompletedProcess[str]) -> None:
    assert quick.returncode == 0, quick.stderr
    found = json.loads(quick.stdout)
    assert set(found) == {"machine", "quick", "receiver", "drain", "growth", "import", "pages", "workers"}
    assert set(found["machine"]) == {"cores", "python", "postgresql"}
    for part, sides in (
        ("receiver", ("receiver", "bare")),
        ("drain", ("drain", "function")),
        ("growth", ("small", "large")),
        ("import", ("small", "large")),
        ("workers", ("one", "two")),
    ):
        for side in sides:
            assert found[part][side]["per_second"] > 0
            assert set(found[part][side]) <= SPEEDS | {"ledger_rows"}


def test_no_webhook_of_the_benchmark_is_lost(quick: subprocess.CompletedProcess[str]) -> None:
    receiver = json.loads(quick.stdout)["receiver"]
    assert (receiver["lost"], receiver["refused"]) == (0, 0)


def test_the_function_and_the_drain_leave_books_that_verify(quick: subprocess.CompletedProcess[str]) -> None:
    drain = json.loads(quick.stdout)["drain"]
    assert drain["refunds"] == 20
    assert drain["differences"] == 0


def test_the_ratios_are_those_of_the_two_sides(quick: subprocess.CompletedProcess[str]) -> None:
    found = json.loads(quick.stdout)
    assert found["receiver"]["rate_ratio"] > 0
    assert found["drain"]["rate_ratio"] > 0
    assert found["growth"]["time_ratio"] > 0
    assert found["workers"]["rate_ratio"] > 0
    assert (found["workers"]["refunds"], found["workers"]["differences"]) == (16, 0)
    assert found["growth"]["small"]["ledger_rows"] < found["growth"]["large"]["ledger_rows"]


def test_every_page_is_asked_for_in_both_shops(quick: subprocess.CompletedProcess[str]) -> None:
    pages = json.loads(quick.stdout)["pages"]
    assert (pages["orders"], pages["customers"]) == (80, 20)
    assert pages["entries"] >= pages["orders"] * 5
    asked = {row["page"] for row in pages["pages"]}
    assert {"/admin/", "/admin/orders", "/admin/orders/<order_id>", "/admin/customers/<customer_id>"} <= asked
    assert all(row["large_p95_ms"] > 0 and row["beside_p50_ms"] > 0 for row in pages["pages"])
