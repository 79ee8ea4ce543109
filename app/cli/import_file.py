"""`unwind import`: customers' balances, awards, redemptions and tiers from another program, in a CSV file."""

from __future__ import annotations

import resource
import sys
import time
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import BarColumn, DownloadColumn, Progress, TextColumn, TimeRemainingColumn
from sqlalchemy import Connection

from app.cli.context import Session, data_option, emit, json_option, note, session
from app.cli.replay import Moment
from app.cli.tables import table
from tasks.steps import shops
from tasks.steps.imports.columns import RECORDS
from tasks.steps.imports.columns import template as example
from tasks.steps.imports.lines import Mistake
from tasks.steps.imports.run import Progress as Through
from tasks.steps.imports.run import Report, import_file
from tasks.steps.load import ShopRow

FOUND_WRONG = 1
KIB = 1024  # Linux tells a process's peak of memory in KiB


@click.command("import")
@click.argument("file", required=False, type=click.Path(exists=True, dir_okay=False, path_type=Path))
@click.option("--shop", "domain", metavar="DOMAIN", help="Needed when there are several stores.")
@click.option(
    "--dry-run", is_flag=True, help="Look the file through and say what it would do; changes nothing."
)
@click.option("--skip-bad", is_flag=True, help="Book the lines that are right also when others are wrong.")
@click.option(
    "--as-of",
    type=Moment(),
    metavar="T",
    help="When the other program wrote the file. Usual: the time of its first run here.",
)
@click.option("--template", is_flag=True, help="Print an example file, with every record and every column.")
@data_option
@json_option
def import_(
    file: Path | None,
    domain: str | None,
    dry_run: bool,
    skip_bad: bool,
    as_of: datetime | None,
    template: bool,
    data: Path,
    as_json: bool,
) -> int | None:
    """Take in what customers had in another program: balances, awards, redemptions with their codes, tiers.

    FILE is a CSV file (docs/import.md). It is looked through whole first: mistakes are told by line and column, and
    nothing of a file with mistakes is booked. Safe to interrupt and to run again: it goes on where it was, and a file
    that is booked changes nothing any more. Status 1 when a line was wrong.
    """
    if template:
        click.echo(example(), nl=False)
        return None
    if file is None:
        raise click.UsageError("a FILE is needed; --template prints an example")
    wanted = None if domain is None else shops.normal_domain(domain)
    began = time.monotonic()
    with session(data, command="unwind import", existing=True) as here:
        shop, keys = the_shop(here, wanted), here.settings.token_keys
        how: dict[str, Any] = {"dry_run": dry_run, "skip_bad": skip_bad, "as_of": as_of}
        with bar(file) as through:
            report = import_file(here.engine, keys, shop, file, progress=through, **how)
    told = {**shown(report), "seconds": round(time.monotonic() - began, 1), "peak_memory_bytes": peak()}
    emit(told, as_json=as_json, text=in_words(report))
    if report.mistakes_total and not as_json:
        note(verdict(report))
    return FOUND_WRONG if report.mistakes_total else None


def the_shop(here: Session, domain: str | None) -> ShopRow:
    """The store that is meant. Raises NotFound, UsageError when there are several."""
    with here.engine.connect() as connection:
        return shops.get(connection, domain) if domain is not None else only_shop(connection)


def only_shop(connection: Connection) -> ShopRow:
    names = [row.domain for row in shops.listing(connection) if row.state == "installed"]
    if len(names) != 1:
        known = (
            f"there are several ({', '.join(names)}); say which" if names else "there is none yet; add one"
        )
        raise click.UsageError(f"which store? {known} with {'--shop' if names else 'unwind shop add'}")
    return shops.get(connection, names[0])


@contextmanager
def bar(file: Path) -> Iterator[Through]:
    """How far the file is through, twice: looked through, then booked."""
    size = file.stat().st_size
    columns = (TextColumn("{task.description}"), BarColumn(), DownloadColumn(), TimeRemainingColumn())
    console = Console(stderr=True)
    lines: dict[str, Any] = {}
    with Progress(*columns, console=console, transient=True, disable=not sys.stderr.isatty()) as progress:

        def through(stage: str, read: int) -> None:
            if stage not in lines:
                lines[stage] = progress.add_task(f"{stage} {file.name}", total=size)
            progress.update(lines[stage], completed=read)

        yield through


def peak() -> int:
    """The most memory that this process had so far."""
    told = resource.getrusage(resource.RUSAGE_SELF).ru_maxrss
    return told if sys.platform == "darwin" else told * KIB


def shown(report: Report) -> Mapping[str, Any]:
    """The report, for programs. rows: booked, or for a dry run what would be."""
    return {
        "shop": report.shop,
        "file": report.file,
        "as_of": report.at.isoformat(),
        "dry_run": report.dry_run,
        "booked": report.booked,
        "lines": report.lines,
        "rows": {
            record: {"rows": report.rows[record], "amount": report.amount(record)}
            for record in RECORDS
            if report.rows[record]
        },
        "imported_before": report.stood,
        "repeated": report.repeated,
        "expired": report.expired,
        "replaced": {
            "orders": report.replaced.orders,
            "before": report.scaled(report.replaced.before),
            "after": report.scaled(report.replaced.after),
        },
        "wrong": report.bad,
        "errors_total": report.mistakes_total,
        "errors": [of(mistake) for mistake in report.mistakes],
        "notes_total": report.notes_total,
        "notes": [of(mistake) for mistake in report.notes],
    }


def of(mistake: Mistake) -> Mapping[str, Any]:
    return {"line": mistake.line, "column": mistake.column, "message": mistake.message}


def in_words(report: Report) -> str:
    said = "booked" if report.booked else "would be booked"
    sums = [[record, report.rows[record], report.amount(record)] for record in RECORDS if report.rows[record]]
    parts = [table(("record", said, "amount"), sums, empty=f"nothing new {said}")]
    counts = {
        "imported before": report.stood,
        "repeated in the file": report.repeated,
        "expired": report.expired,
        "wrong": report.bad,
    }
    others = ", ".join(f"{count} {name}" for name, count in counts.items() if count)
    parts.append(f"{report.lines} lines" + (f": {others}" if others else ""))
    if replaced := report.replaced.orders:
        before, after = report.scaled(report.replaced.before), report.scaled(report.replaced.after)
        parts.append(f"{replaced} orders have earned {before} here; with the imported awards it is {after}")
    for heading, found, total in (
        ("wrong", report.mistakes, report.mistakes_total),
        ("worth a look", report.notes, report.notes_total),
    ):
        if found:
            rows = [[each.line or "", each.column or "", each.message] for each in found]
            parts.append(table(("line", "column", heading), rows, empty=""))
            if total > len(found):
                parts.append(f"and {total - len(found)} more")
    return "\n\n".join(parts)


def verdict(report: Report) -> str:
    if report.booked:
        return f"{report.bad} lines were left out; correct them and run the file again"
    return "nothing was booked; correct these lines, or book the others with --skip-bad"
