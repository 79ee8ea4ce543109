"""`unwind redemption`: how a redemption stands, and cancelling it (R34)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, text

from app.cli.by_hand import BY, Id, act_options, acted
from app.cli.context import data_option, emit, json_option, reading, session
from app.cli.tables import cell, table
from models.errors import NotFound
from tasks.steps import cancelling, shops

SHOP_OF = text(
    "select s.id from shops s where s.state = 'installed' and (cast(:domain as text) is null or s.domain = :domain)"
    " and exists (select from redemptions r where r.shop_id = s.id and r.id = :id)"
)
SOON = "its code is taken away at Shopify first; the points come back with that, within seconds while `unwind up` runs"


shop_option = click.option("--shop", "domain", metavar="DOMAIN", help="Only a redemption of this store.")


@click.group()
def redemption() -> None:
    """What was spent on rewards: show one, cancel one."""


@redemption.command()
@click.argument("id", type=Id("redemption"), metavar="REDEMPTION")
@shop_option
@data_option
@json_option
def show(id: int, domain: str | None, data: Path, as_json: bool) -> None:
    """How REDEMPTION stands, and what cancelling it would do."""
    with reading(data) as connection:
        found = cancelling.shown(connection, shop_of(connection, id, domain), id)
    emit(found, as_json=as_json, text=in_words(found))


@redemption.command()
@click.argument("id", type=Id("redemption"), metavar="REDEMPTION")
@click.option("--force", is_flag=True, help="Give the points back though the code stays.")
@act_options
@shop_option
@data_option
@json_option
def cancel(
    id: int,
    force: bool,
    reason: str | None,
    preview: bool,
    yes: bool,
    domain: str | None,
    data: Path,
    as_json: bool,
) -> None:
    """Give the points of REDEMPTION back, and take its code away where nobody used it."""

    def act(connection: Connection) -> Mapping[str, Any]:
        shop_id = shop_of(connection, id, domain)
        return cancelling.cancel(connection, shop_id, id, by=BY, force=force, reason=reason)

    with session(data, command="unwind redemption cancel", existing=True) as here:
        acted(here.engine, act, what_was_done, preview=preview, yes=yes, as_json=as_json)


def shop_of(connection: Connection, id: int, domain: str | None) -> int:
    """The shop of a redemption; ids are of all shops together, so there is one. Raises NotFound."""
    wanted = None if domain is None else shops.normal_domain(domain)
    found = connection.execute(SHOP_OF, {"id": id, "domain": wanted}).scalar_one_or_none()
    if found is None:
        raise NotFound("redemption", id)
    return int(found)


def in_words(found: Mapping[str, Any]) -> str:
    """A redemption for people."""
    now = found["cancellation"]
    lines = [
        f"redemption {found['id']} of customer {found['customer_id']}: {found['amount']} for {found['reward']}",
        f"came back: {found['returned']} ({found['credited']} credited, {found['expired']} expired)",
        f"code: {cell(found['code'] or 'none')} ({found['code_state']})",
        f"cancelling: {now['state']}: {now['message']}",
    ]
    by_hand = [
        [each["id"], each["kind"], each["amount"], each["at"], each["code"], each["by"], each["reason"] or ""]
        for each in found["reversals"]
    ]
    if by_hand:
        lines += ["", table(("reversal", "how", "amount", "at", "its code", "by", "why"), by_hand, empty="")]
    return "\n".join(lines)


def what_was_done(done: Mapping[str, Any]) -> str:
    back = done["reversal"]
    if back is None:
        return SOON
    words = f"{back['amount']} given back: {back['credited']} credited, {back['expired']} expired; its code: {back['code']}"
    return "\n".join([words, *done["warnings"]])
