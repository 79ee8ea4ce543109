"""`unwind activity` and `unwind trace`: what happened, and why an order's points are what they are."""

from __future__ import annotations

import sys
from collections.abc import Iterable, Mapping
from datetime import datetime
from itertools import islice
from pathlib import Path
from typing import Any

import click

from app.api.activity import sheet
from app.cli.by_hand import Id, shop_of, shop_option
from app.cli.context import data_option, emit, json_option, session
from app.cli.replay import Moment
from app.cli.tables import table
from app.cli.verify import one_moment
from app.sheets import write
from tasks.steps import shops
from tasks.steps import trace as steps
from tasks.steps.activity import Wanted, everything
from tasks.steps.survivors import survivor
from tasks.steps.words import WORDS

COLUMNS = ("entry", "at", "customer", "kind", "what")
SHOWN = 50


@click.command()
@click.argument("domain")
@click.option("--order", type=Id("order"), help="Only of this order.")
@click.option("--customer", type=Id("customer"), help="Only of this customer.")
@click.option(
    "--kind",
    type=click.Choice(list(WORDS)),
    metavar="KIND",
    help="Only entries of this kind, such as points.reversed.",
)
@click.option("--since", type=Moment(), metavar="T", help="Only entries booked from then on.")
@click.option("--limit", type=click.IntRange(1), help=f"How many at most; {SHOWN} on a screen, else all.")
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for spreadsheets.")
@data_option
@json_option
def activity(
    domain: str,
    order: int | None,
    customer: int | None,
    kind: str | None,
    since: datetime | None,
    limit: int | None,
    as_csv: bool,
    data: Path,
    as_json: bool,
) -> None:
    """What happened at the store DOMAIN, newest first, each entry in words."""
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    wanted = shops.normal_domain(domain)
    with (
        session(data, command="unwind activity", existing=True) as here,
        one_moment(here.engine) as connection,
    ):
        shop_id = shops.get(connection, wanted).id
        who = None if customer is None else survivor(connection, shop_id, customer)
        narrowed = Wanted(customer_id=who, order_id=order, kind=kind, since=since)
        found = everything(connection, shop_id, narrowed)
        most = limit if limit is not None or as_csv or as_json else SHOWN
        show(islice(found, most), most if limit is None else None, as_csv=as_csv, as_json=as_json)


def show(entries: Iterable[Mapping[str, Any]], cut_at: int | None, *, as_csv: bool, as_json: bool) -> None:
    if as_csv:
        write(sheet(entries), sys.stdout)
        return
    found = list(entries)
    rows = [[e["id"], e["at"], e["customer_id"], e["kind"], e["text"]] for e in found]
    text = table(COLUMNS, rows, empty="nothing happened yet")
    if len(found) == cut_at:
        text += f"\nthe newest {cut_at}; --limit shows more"
    emit({"entries": found}, as_json=as_json, text=text)


@click.command()
@click.argument("order", type=Id("order"))
@shop_option
@data_option
@json_option
def trace(order: int, domain: str | None, data: Path, as_json: bool) -> None:
    """Why the points of ORDER are what they are: every decision with its rule, fraction, cap and lots."""
    with session(data, command="unwind trace", existing=True) as here, one_moment(here.engine) as connection:
        found = steps.trace(connection, shop_of(connection, "order", order, domain), order)
    emit(found, as_json=as_json, text=steps.as_text(found).rstrip())
