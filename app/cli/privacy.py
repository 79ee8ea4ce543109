"""`unwind privacy`: what customers and shops asked of their data, and the answer to it."""

from __future__ import annotations

import os
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from app.cli.context import data_option, emit, json_option, note, reading, session
from app.cli.tables import table
from models.errors import NotFound
from tasks.steps import privacy as steps
from tasks.steps import shops
from tasks.steps.export import as_text, export
from tasks.steps.load import ShopRow
from tasks.steps.privacy import Asked

COLUMNS = ("request", "shop", "kind", "state", "customer", "orders", "asked", "overdue")
FOUND_WRONG = 1


@click.group()
def privacy() -> None:
    """What customers and shops asked of their data: list, export."""


@privacy.command("list")
@click.argument("domain", required=False)
@click.option("--all", "every", is_flag=True, help="Also requests that are done.")
@data_option
@json_option
def list_(domain: str | None, every: bool, data: Path, as_json: bool) -> int | None:
    """The open requests about the store DOMAIN, or about all, oldest first; status 1 if one is overdue (20 days).

    A data_request is answered by `unwind privacy export`; a shop_redact of a store that is installed is carried out
    after `unwind shop remove`.
    """
    wanted = None if domain is None else shops.normal_domain(domain)
    with reading(data) as connection:
        shops.known(connection, wanted)
        found = steps.listing(connection, wanted, every=every)
    text = table(COLUMNS, [line_of(row) for row in found], empty="nothing is asked")
    emit({"requests": found}, as_json=as_json, text=text)
    return FOUND_WRONG if any(row["overdue"] for row in found) else None


def line_of(row: dict[str, Any]) -> list[object]:
    shown = [row["id"], row["shop"], row["kind"], row["state"], row["customer_id"] or ""]
    return [*shown, len(row["orders"]), row["requested_at"][:10], "overdue" if row["overdue"] else ""]


@privacy.command("export")
@click.argument("domain")
@click.option("--request", "request_id", type=int, help="The data request to answer; it is closed by this.")
@click.option("--customer", "customer_id", type=int, help="A customer, by Shopify's number.")
@click.option(
    "--output",
    type=click.Path(dir_okay=False, path_type=Path),
    metavar="FILE",
    help="A new file, readable by you alone. Without it the document is printed.",
)
@click.option("--json", is_flag=True, expose_value=False, help="Print JSON, as it does anyway.")
@data_option
def export_(
    domain: str, request_id: int | None, customer_id: int | None, output: Path | None, data: Path
) -> None:
    """Everything held of one customer of the store DOMAIN, as JSON. It holds personal data."""
    if (request_id is None) == (customer_id is None):
        raise click.UsageError("give either --request or --customer")
    domain = shops.normal_domain(domain)
    with session(data, command="unwind privacy export", existing=True) as here:
        with here.engine.connect() as connection:
            shop = known(connection, domain)
            asked = who(connection, shop, request_id, customer_id)
            document = as_text(export(connection, shop, asked))
        write(document, output)
        if request_id is not None:
            with here.engine.begin() as connection:
                steps.close(connection, shop.id, request_id, exported=1)
    if output is not None:
        note(f"written to {output}")


def known(connection: Connection, domain: str) -> ShopRow:
    """The store, removed or not: its customers may ask all the same. Raises NotFound."""
    shop = shops.any_state(connection, domain)
    if shop is None:
        raise NotFound("shop", domain)
    return shop


def who(connection: Connection, shop: ShopRow, request_id: int | None, customer_id: int | None) -> Asked:
    if request_id is not None:
        return steps.request(connection, shop.id, request_id)
    return Asked(customer_id=customer_id, orders=())


def write(document: str, output: Path | None) -> None:
    """To the terminal, or to a file that was not there before: 0600 from its first byte."""
    if output is None:
        click.echo(document, nl=False)
        return
    try:
        file = os.open(output, os.O_WRONLY | os.O_CREAT | os.O_EXCL, 0o600)
    except FileExistsError:
        raise click.UsageError(f"{output} exists already; name a new file") from None
    except OSError as error:
        raise click.UsageError(f"{output}: {error.strerror}") from None
    with os.fdopen(file, "w", encoding="utf-8") as stream:
        stream.write(document)
        stream.flush()
        os.fsync(stream.fileno())
