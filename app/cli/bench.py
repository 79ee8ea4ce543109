"""`unwind bench`: what this machine does, as ratios to yardsticks that run beside it in the same minutes."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from app.cli import bench_drain, bench_import, bench_pages, bench_receiver, bench_workers
from app.cli.bench_scratch import Bar, bar, machine
from app.cli.context import ENV_FILE, data_option, emit, ended_by_sigterm, in_force, json_option, note
from app.cli.tables import table
from models.session import with_driver
from models.settings import Settings, load_settings
from worker.embedded import parts

FOUND_WRONG = 1
BARS = {"receiver": ("cpu_ratio", "at most", 1.7), "drain": ("rate_ratio", "at least", 0.5), "growth": ("time_ratio", "at most", 1.2), "import": ("memory_ratio", "at most", 1.2), "workers": ("rate_ratio", "at least", 1.3)}  # fmt: skip


@click.command()
@click.option("--receiver", is_flag=True, help="A stored webhook, beside a server that only checks the HMAC.")
@click.option("--drain", is_flag=True, help="Refunds a second, beside a hand-written SQL function.")
@click.option("--growth", is_flag=True, help="A refund with ten thousand and with a million ledger rows.")
@click.option(
    "--import",
    "imported",
    is_flag=True,
    help="A file of 100,000 lines from another program, and one of 10,000.",
)
@click.option(
    "--pages", is_flag=True, help="The admin's pages in a shop of 200,000 orders, and in an empty one."
)
@click.option("--workers", is_flag=True, help="A backlog settled by one worker, and by two.")
@click.option("--quick", is_flag=True, help="Tiny sizes: shows that it works, says nothing of speed.")
@data_option
@json_option
def bench(
    receiver: bool,
    drain: bool,
    growth: bool,
    imported: bool,
    pages: bool,
    workers: bool,
    quick: bool,
    data: Path,
    as_json: bool,
) -> int | None:
    """Measure this machine: all of it, or the parts that are named.

    Works in databases of its own, made beside the one of DATABASE_URL (or of the embedded server) and dropped at the
    end. Everything is a ratio to something that runs in turns with it, so a busy machine falsifies less. Status 1 when
    a webhook was lost or the books do not verify, and when a page is slow or grows with its shop; never because of
    another speed.
    """
    named = {
        "receiver": receiver,
        "drain": drain,
        "growth": growth,
        "import": imported,
        "pages": pages,
        "workers": workers,
    }
    wanted = [name for name, chosen in named.items() if chosen or not any(named.values())]
    with ended_by_sigterm(), bar() as progress:
        found = measured(wanted, data, progress, quick=quick)
    emit(found, as_json=as_json, text=in_words(found))
    return FOUND_WRONG if wrong(found) else None


def measured(wanted: list[str], data: Path, progress: Bar, *, quick: bool) -> dict[str, Any]:
    """The figures. The broker is always an embedded one: no real worker shall hear the bells that are rung here."""
    given = load_settings(ENV_FILE).model_copy(update={"redis_url": None})
    with parts(given, data, command="unwind bench", say=note) as servers:
        settings = in_force(given, servers, data)
        database_url = with_driver(servers.database_url)
        found: dict[str, Any] = {"machine": machine(database_url), "quick": quick}
        for name in wanted:
            found[name] = measure(name, settings, database_url, progress, quick=quick)
    return found


def measure(
    name: str, settings: Settings, database_url: str, progress: Bar, *, quick: bool
) -> dict[str, Any]:
    if name == "receiver":
        size = bench_receiver.QUICK if quick else bench_receiver.FULL
        return bench_receiver.measure_receiver(settings, size, progress)
    if name == "import":
        files = bench_import.QUICK if quick else bench_import.FULL
        return bench_import.measure_import(settings, database_url, files, progress)
    if name == "pages":
        pages = bench_pages.QUICK if quick else bench_pages.FULL
        return bench_pages.measure_pages(settings, pages, progress)
    if name == "workers":
        backlog = bench_workers.QUICK if quick else bench_workers.FULL
        return bench_workers.measure_workers(settings, database_url, backlog, progress)
    sizes = bench_drain.QUICK if quick else bench_drain.FULL
    if name == "drain":
        return bench_drain.measure_drain(database_url, sizes, progress)
    return bench_drain.measure_growth(database_url, sizes, progress)


def wrong(found: Mapping[str, Any]) -> bool:
    """Whether anything was lost, refused or booked otherwise than the record says, or a page is too slow."""
    receiver, drain, imported, pages, workers = (
        found.get(name, {}) for name in ("receiver", "drain", "import", "pages", "workers")
    )
    lost = [receiver.get("lost"), receiver.get("refused")]
    slow = [] if found["quick"] else [pages.get("too_slow"), pages.get("grows")]
    booked = [side.get("differences") for side in (drain, imported, workers)]
    return any([*lost, *slow, *booked, imported.get("changed")])


def in_words(found: Mapping[str, Any]) -> str:
    about = found["machine"]
    lines = [f"{about['cores']} cores, Python {about['python']}, PostgreSQL {about['postgresql']}"]
    for name in BARS:
        if name in found:
            lines += ["", heading(name, found[name]), rows_of(found[name]), bar_of(name, found[name])]
    if "pages" in found:
        lines += ["", *of_pages(found["pages"])]
    if found["quick"]:
        lines += ["", "--quick: too little was measured to say anything of speed"]
    return "\n".join(lines)


def of_pages(figures: Mapping[str, Any]) -> list[str]:
    """Each page on a line; what is too slow, or grows, by name."""
    built = ", ".join(f"{figures[name]} {name}" for name in ("orders", "entries", "customers", "redemptions"))
    columns = ("page", "large_p50_ms", "large_p95_ms", "beside", "beside_p50_ms", "beside_p95_ms", "ratio")
    rows = [[row[name] for name in columns] for row in figures["pages"]]
    return [
        f"pages: {built}; {figures['rounds']} rounds",
        table(columns, rows, empty=""),
        f"worst p95 {figures['worst_p95_ms']} ms, worst ratio {figures['worst_ratio']}"
        f"   (wanted: at most {bench_pages.P95_MS_MOST:g} ms, below {bench_pages.RATIO_MOST:g})",
        *(f"too slow: {page}" for page in figures["too_slow"]),
        *(f"grows with its shop: {page}" for page in figures["grows"]),
    ]


def heading(name: str, figures: Mapping[str, Any]) -> str:
    if name == "receiver":
        return (
            f"receiver: {figures['webhooks']} webhooks of {figures['body_bytes']} bytes in the mean, {figures['threads']} threads,"
            f" {figures['connections']} connections; {figures['lost']} lost, {figures['refused']} refused"
        )
    if name == "drain":
        return (
            f"drain: {figures['refunds']} refunds each way, batches of {figures['batch']};"
            f" {figures['differences']} differences in the books"
        )
    if name == "import":
        return (
            f"import: a file of {figures['lines']} lines, and one a tenth as long; a second run changed {figures['changed']} rows;"
            f" {figures['differences']} differences in the books"
        )
    if name == "workers":
        return (
            f"workers: {figures['refunds']} refunds of {figures['shops']} shops each way, workers of one process;"
            f" {figures['differences']} differences in the books"
        )
    return f"growth: {figures['refunds']} refunds with each ledger"


def rows_of(figures: Mapping[str, Any]) -> str:
    sides = {name: side for name, side in figures.items() if isinstance(side, dict)}
    names = list(dict.fromkeys(key for side in sides.values() for key in side))
    rows = [[name, *(side.get(key) for key in names)] for name, side in sides.items()]
    return table(["", *names], rows, empty="")


def bar_of(name: str, figures: Mapping[str, Any]) -> str:
    """The ratio that counts, and what it is held against."""
    key, word, limit = BARS[name]
    ratios = ", ".join(
        f"{each.replace('_', ' ')} {figures[each]}"
        for each in ("cpu_ratio", "rate_ratio", "time_ratio", "memory_ratio")
        if each in figures
    )
    return f"{ratios}   (wanted: {key.replace('_', ' ')} {word} {limit})"
