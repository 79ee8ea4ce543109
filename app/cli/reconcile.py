"""`unwind reconcile`: Shopify's orders held against the record; what was missed is made good."""

from __future__ import annotations

import sys
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from datetime import datetime
from pathlib import Path
from typing import Any

import click
from rich.console import Console
from rich.progress import Progress
from sqlalchemy import Engine

from app.cli.context import data_option, emit, json_option, session
from app.cli.replay import Moment
from app.cli.tables import table
from models.errors import Refused
from models.settings import Settings
from tasks.gateway.client import Shopify
from tasks.runtime import build
from tasks.steps import installations, shops
from tasks.steps.bulk import reconcile_in_bulk
from tasks.steps.load import ShopRow
from tasks.steps.reconcile import Run
from tasks.steps.reconcile import reconcile as compare_orders

FOUND_WRONG = 1


@click.command()
@click.argument("domain")
@click.option(
    "--since",
    type=Moment(),
    metavar="T",
    help="Orders changed from then on. Usual: since the last run, three days at least.",
)
@click.option(
    "--bulk",
    is_flag=True,
    help="By a bulk operation, for many orders; usual from 60 days before the store was added.",
)
@click.option(
    "--history", is_flag=True, help="Take in orders from before the store was connected, too; they earn nothing, but are known."
)  # fmt: skip
@data_option
@json_option
def reconcile(
    domain: str, since: datetime | None, bulk: bool, history: bool, data: Path, as_json: bool
) -> int | None:
    """Ask Shopify for the orders of the store DOMAIN, and repair what was missed.

    Prints what was missing or different, and whether it is right now; status 1 if anything was.
    """
    domain = shops.normal_domain(domain)
    with session(data, command="unwind reconcile", existing=True) as here:
        shop = connected(here.engine, domain)
        with (
            shopify(here.settings) as gateway,
            Progress(console=Console(stderr=True), transient=True, disable=not sys.stderr.isatty()) as bar,
        ):
            line = bar.add_task(domain, total=None)
            asked: dict[str, Any] = {
                "since": since,
                "history": history,
                "progress": lambda done, total: bar.update(line, completed=done, total=total),
            }
            compared = reconcile_in_bulk if bulk else compare_orders
            run = compared(here.engine, gateway, shop, **asked)
    emit(shown(run), as_json=as_json, text=in_words(run))
    return FOUND_WRONG if run.findings else None


@contextmanager
def shopify(settings: Settings) -> Iterator[Shopify]:
    """The gateway that the workers have, for as long as the block lasts."""
    runtime = build(settings)
    try:
        gateway = runtime.gateway
        assert isinstance(gateway, Shopify)
        yield gateway
    finally:
        runtime.engine.dispose()
        runtime.broker.close()


def connected(engine: Engine, domain: str) -> ShopRow:
    """The store, when calls can be made for it. Raises NotFound, Refused (not_connected)."""
    with engine.connect() as connection:
        shop = shops.get(connection, domain)
        if not installations.is_connected(connection, shop.id):
            reason = (
                f"{domain} is not connected to Shopify: its merchant opens the app once, or"
                f" `unwind shop add {domain} --access-token-file FILE` keeps the token of a custom app"
            )
            raise Refused("not_connected", reason)
    return shop


def shown(run: Run) -> Mapping[str, Any]:
    """The run, for programs. `repaired` counts those of both kinds that are right now."""
    orders = [
        {
            "id": str(each.order_id),
            "name": each.name,
            "found": each.kind,
            "what": each.what,
            "repaired": each.repaired,
        }
        for each in run.findings
    ]
    counts = {kind: len(run.of(kind)) for kind in ("missing", "different")}
    return {
        "domain": run.shop.domain,
        "since": run.since.isoformat(),
        "orders_read": run.orders_read,
        "left_alone": run.before_us,
        **counts,
        "repaired": len(run.repaired),
        "orders": orders,
    }


def in_words(run: Run) -> str:
    told = shown(run)
    rows = [
        [each.name, each.kind, each.what, "repaired" if each.repaired else "not repaired"]
        for each in run.findings
    ]
    found = table(("order", "found", "what", ""), rows, empty="everything agrees")
    sums = "{orders_read} orders since {since}: {missing} missing, {different} different, {repaired} repaired".format(
        **told
    )
    alone = f"; {run.before_us} paid before the store was added, left alone" if run.before_us else ""
    return f"{found}\n{sums}{alone}"
