"""`unwind outbox`: what is to be done at Shopify, and what could not be."""

from __future__ import annotations

from pathlib import Path
from typing import Any

import click

from app.cli.context import data_option, emit, json_option, limit_option, reading, writing
from app.cli.tables import table, why
from tasks.steps import outbox as steps
from tasks.steps import shops

COLUMNS = ("row", "shop", "what", "state", "tries", "reason")


@click.group()
def outbox() -> None:
    """What is to be done at Shopify, and what could not be: list, try again."""


@outbox.command("list")
@click.argument("domain", required=False)
@click.option("--waiting", is_flag=True, help="What is still to be done, instead of what failed.")
@limit_option
@click.option("--cursor", type=int, help="Only rows before this one; the last line of a page names it.")
@data_option
@json_option
def list_(
    domain: str | None, waiting: bool, limit: int, cursor: int | None, data: Path, as_json: bool
) -> None:
    """What failed for the store DOMAIN, or for all, newest first, each with its reason."""
    wanted = None if domain is None else shops.normal_domain(domain)
    with reading(data) as connection:
        shops.known(connection, wanted)
        rows = steps.listing(connection, wanted, waiting=waiting, before=cursor, limit=limit + 1)
    rows, more = rows[:limit], len(rows) > limit
    older = int(rows[-1]["id"]) if more else None
    empty = "nothing is waiting" if waiting else "nothing failed"
    text = table(COLUMNS, [line_of(row) for row in rows], empty=empty)
    text += "" if older is None else f"\nolder ones: --cursor {older}"
    emit({"rows": rows, "next_cursor": older}, as_json=as_json, text=text)


@outbox.command()
@click.argument("rows", type=int, nargs=-1, required=True)
@data_option
@json_option
def retry(rows: tuple[int, ...], data: Path, as_json: bool) -> None:
    """Try ROWS again. Safe at any time: what was done at Shopify meanwhile is read first."""
    with writing(data) as connection:
        moved = [steps.retry(connection, row) for row in rows]
    emit({"rows": moved}, as_json=as_json, text=f"{len(moved)} to be tried again")


def line_of(row: dict[str, Any]) -> list[object]:
    return [row["id"], row["shop"], row["key"], row["state"], row["attempts"], why(row)]
