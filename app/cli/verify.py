"""`unwind verify`: do the books say what the record says?"""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click
from sqlalchemy import Connection, Engine

from app.cli.context import data_option, emit, json_option, session
from app.cli.tables import table
from tasks.steps import shops
from tasks.steps.verify import verify as differences_in

FOUND_WRONG = 1


@click.command()
@click.argument("domain", required=False)
@data_option
@json_option
def verify(domain: str | None, data: Path, as_json: bool) -> int | None:
    """Recompute every balance, lot, claim and tier from the record and print differences.

    For the store DOMAIN, or for all. Changes nothing; status 1 if anything differs.
    """
    wanted = None if domain is None else shops.normal_domain(domain)
    with session(data, command="unwind verify", existing=True) as here, one_moment(here.engine) as connection:
        shop_id = None if wanted is None else shops.get(connection, wanted).id
        found = [asdict(difference) for difference in differences_in(connection, shop_id)]
    columns = list(found[0]) if found else []
    text = table(columns, [list(row.values()) for row in found], empty="everything agrees")
    emit({"differences": found}, as_json=as_json, text=text)
    return FOUND_WRONG if found else None


def one_moment(engine: Engine) -> Connection:
    """A connection that sees the books as they are now, whatever is booked meanwhile: half a refund is no difference."""
    return engine.connect().execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
