"""`unwind redemption`: how a redemption stands, and cancelling it (R34)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from app.cli.by_hand import BY, Act, Id, acts_on, shop_of
from app.cli.context import data_option, emit, json_option, reading
from app.cli.tables import cell, table
from tasks.steps import cancelling

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
        found = cancelling.shown(connection, shop_of(connection, "redemption", id, domain), id)
    emit(found, as_json=as_json, text=in_words(found))


@redemption.command()
@click.option("--force", is_flag=True, help="Give the points back though the code stays.")
@acts_on("redemption", shop=shop_option)
def cancel(act: Act, force: bool) -> None:
    """Give the points of REDEMPTION back, and take its code away where nobody used it."""

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        return cancelling.cancel(connection, shop_id, act.id, by=BY, force=force, reason=act.reason)

    act.do(step, what_was_done)


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
