"""`unwind failed`: events that could not be processed."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from app.cli.context import Session, data_option, emit, json_option, limit_option, reading, session
from app.cli.tables import table, why
from tasks.steps import failed as steps
from tasks.steps import shops
from worker.doorbell import Ring, make_doorbell

COLUMNS = ("event", "shop", "topic", "order", "tries", "reason")


@click.group()
def failed() -> None:
    """Events that could not be processed: list, show, try again, discard."""


@failed.command("list")
@click.argument("domain", required=False)
@limit_option
@click.option("--cursor", type=int, help="Only events before this one; the last line of a page names it.")
@data_option
@json_option
def list_(domain: str | None, limit: int, cursor: int | None, data: Path, as_json: bool) -> None:
    """The parked events of the store DOMAIN, or of all, newest first, each with its reason."""
    wanted = None if domain is None else shops.normal_domain(domain)
    with reading(data) as connection:
        page = steps.listing(connection, wanted, cursor=cursor, limit=limit)
    more = "" if page.cursor is None else f"\nolder ones: --cursor {page.cursor}"
    text = table(COLUMNS, [line_of(row) for row in page.rows], empty="nothing is parked") + more
    emit({"events": page.rows, "next_cursor": page.cursor}, as_json=as_json, text=text)


@failed.command()
@click.argument("event", type=int)
@click.option(
    "--body", is_flag=True, help="Only the body as it came, byte for byte. It may hold personal data."
)
@data_option
@json_option
def show(event: int, body: bool, data: Path, as_json: bool) -> None:
    """One parked EVENT, with its reason."""
    with reading(data) as connection:
        found = steps.get(connection, None, event)
        raw = steps.body(connection, event) if body else b""
    if body:
        sys.stdout.buffer.write(raw)
    else:
        emit(
            found,
            as_json=as_json,
            text="\n".join(f"{name:12} {value}" for name, value in flat(found).items() if value is not None),
        )


@failed.command()
@click.argument("events", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every parked event (of --shop, if given).")
@click.option("--shop", "domain", help="Only events of this store.")
@data_option
@json_option
def retry(events: tuple[int, ...], every: bool, domain: str | None, data: Path, as_json: bool) -> None:
    """Try EVENTS again, as if they had just come; a running worker takes them at once.

    Events whose body was erased cannot be tried again; --all passes them over."""
    with changing(events, every, domain, data, "retry") as (here, wanted):
        moved = each(here, wanted, steps.retry)
        assert here.settings.redis_url is not None
        make_doorbell(here.settings.redis_url).ring(
            Ring(row["shop"], row["topic"], int(row["id"])) for row in moved
        )
    emit({"events": moved}, as_json=as_json, text=f"{len(moved)} to be tried again")


@failed.command()
@click.argument("events", type=int, nargs=-1)
@click.option("--all", "every", is_flag=True, help="Every parked event (of --shop, if given).")
@click.option("--shop", "domain", help="Only events of this store.")
@data_option
@json_option
def discard(events: tuple[int, ...], every: bool, domain: str | None, data: Path, as_json: bool) -> None:
    """Leave EVENTS for good. They stay in the record."""
    with changing(events, every, domain, data, "discard") as (here, wanted):
        moved = each(here, wanted, steps.discard)
    emit({"events": moved}, as_json=as_json, text=f"{len(moved)} discarded")


@contextmanager
def changing(
    events: tuple[int, ...], every: bool, domain: str | None, data: Path, verb: str
) -> Iterator[tuple[Session, list[int]]]:
    """A session, and the events that are meant. Raises UsageError when none are named, or both ways at once."""
    if bool(events) == every:
        raise click.UsageError("name events, or give --all")
    wanted = None if domain is None else shops.normal_domain(domain)
    with session(data, command=f"unwind failed {verb}", existing=True) as here:
        with here.engine.connect() as connection:
            meant = list(parked(connection, wanted, verb == "retry")) if every else list(events)
        yield here, meant


def parked(connection: Connection, domain: str | None, with_body: bool) -> Iterator[int]:
    """All parked events, page by page; `with_body`: only those that can be tried again."""
    cursor: int | None = None
    while True:
        page = steps.listing(connection, domain, cursor=cursor, limit=500, with_body=with_body)
        yield from (int(row["id"]) for row in page.rows)
        if page.cursor is None:
            return
        cursor = page.cursor


def each(
    here: Session, events: list[int], step: Callable[[Connection, str | None, int], dict[str, Any]]
) -> list[dict[str, Any]]:
    """All of them, or none: one that is not parked stops the command before anything is changed."""
    with here.engine.begin() as connection:
        return [step(connection, None, event) for event in events]


def line_of(row: dict[str, Any]) -> list[object]:
    return [row["id"], row["shop"], row["topic"], row["order_id"] or "", row["attempts"], why(row)]


def flat(row: dict[str, Any]) -> dict[str, Any]:
    reason = row["reason"] or {}
    return {k: v for k, v in row.items() if k != "reason"} | {
        "code": reason.get("code"),
        "reason": reason.get("message"),
    }
