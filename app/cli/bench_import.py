"""How long a file of another program takes, and how much memory: a file of 100,000 lines beside one a tenth as long.

Each file is imported as a person does it, by `unwind import` in a process of its own, into a database of its own; then
once more, which must change nothing.
"""

from __future__ import annotations

import csv
import json
import os
import subprocess
import sys
import tempfile
from collections.abc import Iterator, Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any

from sqlalchemy import Engine, text

from app.cli.bench_scratch import Bar, one_connection, scratch_database
from models.settings import Settings
from tasks.steps import shops
from tasks.steps.imports.columns import COLUMNS
from tasks.steps.verify import verify

DOMAIN = "bench-import.myshopify.com"
FIRST_CUSTOMER, FIRST_ORDER = 6_940_000_000, 820_982_911_946_000_000
RECORDS = {
    "balance": 50,
    "lot": 20,
    "award": 15,
    "redemption": 10,
    "history": 4,
    "tier": 1,
}  # of a hundred lines
MIB = 1024 * 1024
COUNTED = (
    "entries",
    "lots",
    "timeline",
    "activity",
    "awards",
    "redemptions",
    "imported_rows",
    "opening_days",
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """Lines of the two files."""

    small: int
    large: int


FULL = Sizes(small=10_000, large=100_000)
QUICK = Sizes(small=50, large=200)


def measure_import(settings: Settings, database_url: str, sizes: Sizes, bar: Bar) -> dict[str, Any]:
    """Seconds and peak of memory of both files, and whether the books are right and a second run changed nothing."""
    sides, differences, changed = {}, 0, 0
    with bar.part("import", 2):
        for name, lines in (("small", sizes.small), ("large", sizes.large)):
            with (
                scratch_database(database_url) as url,
                one_connection(url) as engine,
                tempfile.TemporaryDirectory() as folder,
            ):
                with engine.begin() as connection:
                    shops.add(connection, DOMAIN)
                file = Path(folder) / "customers.csv"
                write(file, lines, seed=1, today=datetime.now(UTC).date())
                sides[name], again = _twice(settings, url, engine, file)
                changed += again
                with engine.connect() as connection:
                    differences += len(verify(connection))
            bar.step()
    peaks = [sides[name]["peak_mib"] for name in ("small", "large")]
    ratio = round(peaks[1] / peaks[0], 2)
    return {
        "lines": sizes.large,
        **sides,
        "memory_ratio": ratio,
        "changed": changed,
        "differences": differences,
    }


def _twice(settings: Settings, url: str, engine: Engine, file: Path) -> tuple[dict[str, Any], int]:
    """What the first run took and what the second, and how many rows the second added."""
    first = _run(settings, url, file)
    before = _counts(engine)
    second = _run(settings, url, file)
    lines = first["lines"]
    side = {
        "lines": lines,
        "seconds": first["seconds"],
        "per_second": round(lines / max(first["seconds"], 0.1)),
        "peak_mib": round(first["peak_memory_bytes"] / MIB),
        "again_seconds": second["seconds"],
    }
    return side, sum(after - before[name] for name, after in _counts(engine).items())


def _run(settings: Settings, url: str, file: Path) -> Mapping[str, Any]:
    ours = settings.model_copy(update={"database_url": url})
    done = subprocess.run(  # noqa: S603 - our own program and arguments, no shell
        [sys.executable, "-m", "app.cli", "import", str(file), "--json", "--shop", DOMAIN],
        env={**os.environ, **ours.environment()},
        capture_output=True,
        text=True,
    )
    if done.returncode != 0:
        raise RuntimeError(f"unwind import ended with {done.returncode}: {done.stderr}{done.stdout}")
    found: Mapping[str, Any] = json.loads(done.stdout)
    return found


def _counts(engine: Engine) -> dict[str, int]:
    with engine.connect() as connection:
        return {
            name: connection.execute(text(f"select count(*) from {name}")).scalar_one() for name in COUNTED
        }


# -- the file ----------------------------------------------------------------------------------------


def write(file: Path, lines: int, *, seed: int, today: date) -> None:
    """A file of so many lines: every record, about two lines a customer in no order, a tenth without a reference."""
    with file.open("w", newline="", encoding="utf-8") as out:
        writer = csv.DictWriter(out, COLUMNS)
        writer.writeheader()
        writer.writerows(rows(lines, Random(seed), today))  # noqa: S311 - figures, not secrets


def rows(lines: int, random: Random, today: date) -> Iterator[Mapping[str, str]]:
    kinds, weights = list(RECORDS), list(RECORDS.values())
    for number in range(lines):
        record = random.choices(kinds, weights)[0]
        # one tier a customer: those of the lines that have one are their own
        of = lines + number if record == "tier" else random.randrange(max(1, lines // 2))
        row = {
            "record": record,
            "customer_id": str(FIRST_CUSTOMER + of),
            **_cells(record, number, random, today),
        }
        yield row if number % 10 == 0 else {**row, "reference": f"row:{number}"}


def _cells(record: str, number: int, random: Random, today: date) -> Mapping[str, str]:
    def day(least: int, most: int) -> str:
        return (today + timedelta(days=random.randint(least, most))).isoformat()

    points = str(random.randint(1, 5000))
    if record == "tier":
        return {"tier": "gold"}
    if record == "balance":
        return {"amount": points}
    if record == "lot":
        return {"amount": points, "expires_at": day(30, 700)}
    if record == "history":
        return {
            "day": day(-900, -1),
            "spend": f"{random.randint(1, 900)}.50",
            "currency": "USD",
            "orders": "1",
        }
    if record == "award":
        later = {"due_at": day(2, 30)} if random.random() < 0.3 else {"remaining": "0"}
        return {"order_id": str(FIRST_ORDER + number), "amount": points, **later}
    code = {"reward": "custom", "amount": points, "code": f"OLD-{number:08}"}
    return {**code, "at": day(-300, -1), "expires_at": day(30, 700)}
