"""`unwind replay`: recorded events once more. What was done stands, so nothing may change."""

from __future__ import annotations

import sys
from datetime import UTC, datetime
from pathlib import Path

import click
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine

from app.cli.context import data_option, emit, json_option, session
from app.cli.tables import table
from tasks.steps import shops
from tasks.steps.replay import Replayed
from tasks.steps.replay import replay as run_again

FOUND_WRONG = 1


class Moment(click.ParamType[datetime]):
    """A time as ISO 8601; without an offset it is UTC."""

    name = "time"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> datetime:
        try:
            at = datetime.fromisoformat(str(value))
            return (at if at.tzinfo else at.replace(tzinfo=UTC)).astimezone(UTC)
        except (ValueError, OverflowError):
            self.fail(f"{value!r} is not a time such as 2026-01-31 or 2026-01-31T12:00:00Z", param, ctx)


@click.command()
@click.argument("domain", required=False)
@click.option("--since", type=Moment(), metavar="T", help="Only events received from then on.")
@data_option
@json_option
def replay(domain: str | None, since: datetime | None, data: Path, as_json: bool) -> int | None:
    """Run recorded events again, of the store DOMAIN or of all. Must change nothing; status 1 if it did.

    Events whose body was erased (RAW_BODY_DAYS, a redaction) are passed over, and counted."""
    wanted = None if domain is None else shops.normal_domain(domain)
    with session(data, command="unwind replay", existing=True) as here:
        found = [
            {
                "domain": name,
                "events": done.events,
                "changed": done.changed,
                "erased": done.erased,
                "orders": [*map(str, sorted(done.orders))],
            }
            for name in domains(here.engine, wanted)
            for done in [with_progress(here.engine, name, since)]
        ]
    columns = ("domain", "events", "changed", "erased")
    text = table(columns, [[row[name] for name in columns] for row in found], empty="no store is registered")
    emit(found, as_json=as_json, text=text)
    return FOUND_WRONG if any(row["changed"] for row in found) else None


def with_progress(engine: Engine, domain: str, since: datetime | None) -> Replayed:
    """Run a store's events again; a bar for people who watch."""
    with Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar:
        line = bar.add_task(domain, total=None)
        return run_again(
            engine, domain, since, progress=lambda done, total: bar.update(line, completed=done, total=total)
        )


def domains(engine: Engine, domain: str | None) -> list[str]:
    """The store asked for, or every installed one. Raises NotFound."""
    with engine.connect() as connection:
        if domain is not None:
            return [shops.get(connection, domain).domain]
        return [row.domain for row in shops.listing(connection) if row.state == "installed"]
