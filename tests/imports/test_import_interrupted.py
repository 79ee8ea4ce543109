"""Killed at any point and run again, in parts, in any order, more than once: an import ends in the same books."""

from __future__ import annotations

import csv
import io
import os
import random
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from app.cli.bench_import import write
from tasks.steps.imports.book import LOCK
from tasks.steps.imports.run import BATCH, Report, import_file
from tasks.steps.shops import by_id
from tests.conftest import RegisteredShop, register
from tests.imports.conftest import KEY, counts_of, everything_agrees, state_of

ROOT = Path(__file__).parents[2]
LINES = 8 * BATCH
M = datetime(2026, 6, 1, 12, tzinfo=UTC)
LONGEST_SECONDS = 120


def run(engine: Engine, shop: RegisteredShop, file: Path, **more: Any) -> Report:
    with engine.connect() as connection:
        row = by_id(connection, shop.id)
    return import_file(engine, [KEY.encode()], row, file, **{"as_of": M, **more})


@contextmanager
def running(
    database_url: str, redis_url: str, shop: RegisteredShop, file: Path
) -> Iterator[subprocess.Popen[bytes]]:
    """`unwind import` in a process of its own, which is not there any more when the block ends."""
    environment = {"DATABASE_URL": database_url, "REDIS_URL": redis_url, "TOKEN_ENCRYPTION_KEYS": KEY}
    arguments = [
        sys.executable,
        "-m",
        "app.cli",
        "import",
        str(file),
        "--shop",
        shop.domain,
        "--as-of",
        M.isoformat(),
    ]
    child = subprocess.Popen(
        arguments,
        cwd=file.parent,
        env={**os.environ, "PYTHONPATH": str(ROOT), **environment},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
    )
    try:
        yield child
    finally:
        child.kill()
        child.wait()


def booked(engine: Engine, shop: RegisteredShop) -> int:
    with engine.connect() as connection:
        query = text("select count(*) from imported_rows where shop_id = :id")
        return int(connection.execute(query, {"id": shop.id}).scalar_one())


def test_killed_three_times_it_ends_as_if_it_had_not_been(
    engine: Engine, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """R0: SIGKILL between any two statements; what was committed stands once, under its reference."""
    file = tmp_path / "customers.csv"
    write(file, LINES, seed=7, today=M.date())
    killed, whole = register(engine), register(engine)
    for _ in range(3):
        before, deadline = booked(engine, killed), time.monotonic() + LONGEST_SECONDS
        with running(database_url, redis_url, killed, file) as child:
            while booked(engine, killed) < before + BATCH:
                assert child.poll() is None and time.monotonic() < deadline
                time.sleep(random.uniform(0, 0.05))
    assert 0 < booked(engine, killed) < LINES
    rest, at_once = run(engine, killed, file), run(engine, whole, file)
    assert (rest.mistakes_total, at_once.mistakes_total, at_once.stood) == (0, 0, 0)
    assert rest.stood == LINES - sum(rest.rows.values()) > 0
    assert state_of(engine, killed.id) == state_of(engine, whole.id)
    assert everything_agrees(engine, killed.id)
    assert everything_agrees(engine, whole.id)
    before_again = counts_of(engine, killed.id)
    again = run(engine, killed, file)
    assert (again.stood, sum(again.rows.values())) == (LINES, 0)
    assert counts_of(engine, killed.id) == before_again


def test_two_at_once_book_each_row_once(engine: Engine, shop: RegisteredShop, tmp_path: Path) -> None:
    file = tmp_path / "customers.csv"
    write(file, 3 * BATCH, seed=8, today=M.date())
    with ThreadPoolExecutor(2) as pool:
        reports = list(pool.map(lambda _: run(engine, shop, file), range(2)))
    assert sum(sum(report.rows.values()) for report in reports) == 3 * BATCH
    assert booked(engine, shop) == 3 * BATCH
    assert everything_agrees(engine, shop.id)


# -- any parts, in any order, more than once -----------------------------------------------------------

COLUMNS = ["record", "reference", "customer_id", "amount", "expires_at", "order_id", "rule", "remaining", "due_at",
           "reward", "code", "at", "day", "spend", "currency"]  # fmt: skip


def later(days: int) -> str:
    return (M + timedelta(days=days)).date().isoformat()


customers = st.sampled_from(["71", "72", "gid://shopify/Customer/73"])
amounts = st.integers(1, 300).map(str)


@st.composite
def rows(draw: Any) -> list[dict[str, str]]:
    """Rows of all records that add value, each with a reference of its own."""
    found = []
    for n in range(draw(st.integers(1, 12))):
        record = draw(st.sampled_from(["balance", "lot", "award", "redemption", "history"]))
        row = {
            "record": record,
            "reference": f"r-{n}",
            "customer_id": draw(customers),
            "amount": draw(amounts),
        }
        if record == "lot":
            row["expires_at"] = later(draw(st.integers(1, 400)))
        elif record == "award":
            row |= {"order_id": str(500 + n), "rule": draw(st.sampled_from(["purchase", "bonus"]))}
            row |= draw(st.sampled_from([{}, {"remaining": "0"}, {"due_at": later(900)}]))
        elif record == "redemption":
            row |= {"reward": "custom", "code": f"CODE-{n}", "at": later(-draw(st.integers(1, 400)))}
        elif record == "history":
            row |= {"day": later(-draw(st.integers(0, 900))), "spend": "12.50", "currency": "USD"}
            del row["amount"]
        found.append(row)
    return found


def save(file: Path, told: Sequence[dict[str, str]]) -> Path:
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS)
    writer.writeheader()
    writer.writerows(told)
    file.write_text(out.getvalue())
    return file


@pytest.fixture(scope="module")
def place(tmp_path_factory: pytest.TempPathFactory) -> Path:
    return tmp_path_factory.mktemp("files")


@settings(max_examples=25, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(told=rows(), data=st.data())
def test_any_parts_in_any_order_more_than_once_are_the_whole_file(
    engine: Engine, place: Path, told: list[dict[str, str]], data: st.DataObject
) -> None:
    """R0: each row once, whichever file, line and run it comes in."""
    whole, pieces = register(engine), register(engine)
    run(engine, whole, save(place / "whole.csv", told))
    more = data.draw(st.lists(st.sampled_from(told), max_size=6), label="said again")
    shuffled = data.draw(st.permutations([*told, *more]), label="in this order")
    cut = data.draw(st.integers(0, len(shuffled)), label="cut at")
    for n, part in enumerate((shuffled[:cut], shuffled[cut:], shuffled[:cut])):
        report = run(engine, pieces, save(place / f"part-{n}.csv", part))
        assert report.mistakes_total == 0, report.mistakes
    assert state_of(engine, pieces.id) == state_of(engine, whole.id)
    assert everything_agrees(engine, pieces.id)


@settings(max_examples=15, deadline=None, derandomize=True, suppress_health_check=list(HealthCheck))
@given(told=rows(), data=st.data())
def test_without_references_the_order_of_lines_makes_no_difference(
    engine: Engine, place: Path, told: list[dict[str, str]], data: st.DataObject
) -> None:
    """Equal lines are rows of their own, and the same file sorted anew, with other columns first, changes nothing."""
    bare = [{name: cell for name, cell in row.items() if name != "reference"} for row in told]
    bare += [row for row in bare if row["record"] in ("balance", "lot", "history")]
    one, other = register(engine), register(engine)
    run(engine, one, save(place / "one.csv", bare))
    shuffled = save(place / "other.csv", data.draw(st.permutations(bare)))
    run(engine, other, shuffled)
    assert state_of(engine, one.id) == state_of(engine, other.id)
    before = counts_of(engine, one.id)
    assert sum(run(engine, one, shuffled).rows.values()) == 0
    assert counts_of(engine, one.id) == before


def test_a_batch_that_the_database_broke_off_is_booked_again(
    engine: Engine, shop: RegisteredShop, tmp_path: Path
) -> None:
    """R40: as after a deadlock: the connection of an import that waits for another one is ended."""
    file = tmp_path / "customers.csv"
    file.write_text("record,customer_id,amount\nbalance,5,120\n")
    ended = text(
        "select pg_terminate_backend(pid) from pg_locks where locktype = 'advisory' and not granted"
        " and database = (select oid from pg_database where datname = current_database())"
    )
    with ThreadPoolExecutor(1) as others, engine.begin() as connection:
        connection.execute(LOCK, {"shop_id": shop.id})
        importing = others.submit(run, engine, shop, file)
        deadline = time.monotonic() + 30
        while not connection.execute(ended).all():
            assert time.monotonic() < deadline and not importing.done()
            time.sleep(0.05)
        connection.commit()
        assert importing.result(30).rows["balance"] == 1
    assert everything_agrees(engine, shop.id)
    assert counts_of(engine, shop.id)["imported_rows"] == 1
