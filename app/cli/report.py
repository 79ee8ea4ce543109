"""`unwind report`: what a store's program owes, and what it let go."""

from __future__ import annotations

import sys
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from app.cli.context import data_option, emit, json_option, session
from app.cli.tables import table
from app.cli.verify import one_moment
from app.sheets import Sheet, write
from tasks.steps import report as steps
from tasks.steps import shops

HEADINGS = {
    "outstanding": ("expires in", "outstanding"),
    "pending_due": ("due in", "pending"),
    "forgiven": ("month", "claims forgiven", "spending forgiven"),
    "expired_on_return": ("month", "expired on return"),
}


@click.command()
@click.argument("domain")
@click.option(
    "--refunds",
    type=click.IntRange(1, 1000),
    default=steps.REFUNDS_AT_LEAST,
    show_default=True,
    help="From how many refunds on a customer is listed.",
)
@click.option("--csv", "as_csv", is_flag=True, help="Print CSV, for spreadsheets.")
@data_option
@json_option
def report(domain: str, refunds: int, as_csv: bool, data: Path, as_json: bool) -> None:
    """Points outstanding, pending, owed, forgiven and expired of the store DOMAIN, all at one moment."""
    if as_csv and as_json:
        raise click.UsageError("--csv or --json, not both")
    wanted = shops.normal_domain(domain)
    with session(data, command="unwind report", existing=True) as here, one_moment(here.engine) as connection:
        shop_id = shops.get(connection, wanted).id
        found = steps.liability(connection, shop_id, refunds_at_least=refunds)
    if as_csv:
        write(Sheet(steps.COLUMNS, steps.lines(found)), sys.stdout)
    else:
        emit(found, as_json=as_json, text=in_words(found))


def in_words(found: Mapping[str, Any]) -> str:
    """The report for people."""
    unit = found["unit"]["kind"]
    head = f"{found['balance']} {unit} outstanding, {found['pending']} pending, {found['debt']} owed by customers"
    sections = [
        table(names, [[value or "never" if i == 0 else value for i, value in enumerate(row.values())] for row in found[section]], empty="")
        for section, names in HEADINGS.items()
    ]  # fmt: skip
    unused, bare = found["unused_redemptions"], found["untracked_redemptions"]
    codes = f"{unused['count']} codes not used, worth {unused['amount']} {unit}; {bare['count']} redemptions without a code, {bare['amount']} {unit}"
    people = found["repeated_refunders"]
    rows = [[each["customer_id"], each["refunds"], each["orders"], each["forgiven"]] for each in people["customers"]]  # fmt: skip
    refunders = table(
        ("customer", "refunds", "orders", "forgiven"),
        rows,
        empty=f"no customer had {people['refunds_at_least']} refunds or more",
    )
    more = "and more; --refunds narrows it" if people["more"] else ""
    return "\n\n".join(part for part in [head, *sections, codes, refunders, more] if part)
