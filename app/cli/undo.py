"""`unwind undo`: take the effects of a refund, of an order's end or of a reversal back (R38)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from app.cli.by_hand import BY, Id, act_options, acted, shop_of, shop_option
from app.cli.context import data_option, json_option, session
from app.cli.preview import balances_of, words
from tasks.steps import merchants, reversals
from tasks.steps.shops import by_id

SOON = (
    "a discount code came back for this: it is taken away at Shopify first, within seconds while `unwind up` runs;"
    " the rest follows from that"
)


@click.group()
def undo() -> None:
    """Take effects back, as if what caused them had never been. Nothing is deleted: the difference is booked."""


@undo.command()
@click.argument("id", type=Id("refund"), metavar="REFUND")
@act_options
@shop_option
@data_option
@json_option
def refund(
    id: int, reason: str | None, preview: bool, yes: bool, domain: str | None, data: Path, as_json: bool
) -> None:
    """What the refund REFUND took and gave back: one that Shopify told of, or one by hand."""

    def act(connection: Connection) -> Mapping[str, Any]:
        shop_id = shop_of(connection, "refund", id, domain)
        return merchants.undo_refund(connection, shop_id, id, reason=reason, by=BY)

    with session(data, command="unwind undo refund", existing=True) as here:
        acted(here.engine, act, of_an_order, preview=preview, yes=yes, as_json=as_json)


@undo.command()
@click.argument("id", type=Id("order"), metavar="ORDER")
@act_options
@shop_option
@data_option
@json_option
def order(
    id: int, reason: str | None, preview: bool, yes: bool, domain: str | None, data: Path, as_json: bool
) -> None:
    """The cancellation or void that closed ORDER. Its refunds stand; each is undone by itself."""

    def act(connection: Connection) -> Mapping[str, Any]:
        shop_id = shop_of(connection, "order", id, domain)
        return merchants.undo_ending(connection, shop_id, id, reason=reason, by=BY)

    with session(data, command="unwind undo order", existing=True) as here:
        acted(here.engine, act, of_an_order, preview=preview, yes=yes, as_json=as_json)


@undo.command()
@click.argument("id", type=Id("reversal"), metavar="REVERSAL")
@act_options
@shop_option
@data_option
@json_option
def reversal(
    id: int, reason: str | None, preview: bool, yes: bool, domain: str | None, data: Path, as_json: bool
) -> None:
    """What was given back of a redemption by hand: when it was cancelled, or its points were reversed."""

    def act(connection: Connection) -> Mapping[str, Any]:
        shop = by_id(connection, shop_of(connection, "reversal", id, domain))
        return reversals.undo(connection, shop, id, reason=reason, by=BY)

    with session(data, command="unwind undo reversal", existing=True) as here:
        acted(here.engine, act, of_a_redemption, preview=preview, yes=yes, as_json=as_json)


def of_an_order(done: Mapping[str, Any]) -> str:
    if done["state"] == "removing_code":
        return SOON
    head = (
        f"undone: {done['undone'][0]}; the order {done['order_id']} goes from {words(done['status_before'])}"
        f" to {words(done['status_after'])}"
    )
    return "\n\n".join(part for part in (head, balances_of(done)) if part)


def of_a_redemption(done: Mapping[str, Any]) -> str:
    head = f"undone: reversal {done['id']} of {done['amount']} of the redemption {done['redemption_id']}"
    return "\n\n".join(part for part in (head, balances_of(done)) if part)
