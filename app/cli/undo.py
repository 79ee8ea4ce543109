"""`unwind undo`: take the effects of a refund, of an order's end or of a reversal back (R38)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

import click
from sqlalchemy import Connection

from app.cli.by_hand import BY, Act, acts_on
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
@acts_on("refund")
def refund(act: Act) -> None:
    """What the refund REFUND took and gave back: one that Shopify told of, or one by hand."""

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        return merchants.undo_refund(connection, shop_id, act.id, reason=act.reason, by=BY)

    act.do(step, of_an_order)


@undo.command()
@acts_on("order")
def order(act: Act) -> None:
    """The cancellation or void that closed ORDER. Its refunds stand; each is undone by itself."""

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        return merchants.undo_ending(connection, shop_id, act.id, reason=act.reason, by=BY)

    act.do(step, of_an_order)


@undo.command()
@acts_on("reversal")
def reversal(act: Act) -> None:
    """What was given back of a redemption by hand: when it was cancelled, or its points were reversed."""

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        return reversals.undo(connection, by_id(connection, shop_id), act.id, reason=act.reason, by=BY)

    act.do(step, of_a_redemption)


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
