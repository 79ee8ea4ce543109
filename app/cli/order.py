"""`unwind order`: an order, what became of it, and what a merchant does to it by hand (R31, R36)."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from app.cli.by_hand import BY, Act, Id, acts_on, shop_of, shop_option
from app.cli.context import data_option, emit, json_option, reading
from app.cli.preview import amount_option, lines_option, of_what, tables_of, wish_of, words
from app.cli.tables import cell, table
from tasks.steps import merchants, read


@click.group()
def order() -> None:
    """One order: show it, cancel it, refund it. Nothing of this moves money at Shopify."""


@order.command()
@click.argument("id", type=Id("order"), metavar="ORDER")
@shop_option
@data_option
@json_option
def show(id: int, domain: str | None, data: Path, as_json: bool) -> None:
    """What ORDER earned and used, and what its refunds and its merchant changed."""
    with reading(data) as connection:
        found = read.order(connection, shop_of(connection, "order", id, domain), id)
    emit(found, as_json=as_json, text=in_words(found))


@order.command()
@acts_on("order")
def cancel(act: Act) -> None:
    """ORDER is off: what it earned is taken back, what was redeemed on it is given back."""

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        return merchants.cancel_order(connection, shop_id, act.id, reason=act.reason, by=BY)

    act.do(step, what_a_cancellation_did)


@order.command()
@amount_option
@lines_option
@acts_on("order")
def refund(act: Act, amount: str | None, lines: str | None) -> None:
    """Refund an amount of ORDER, units of its lines, or the rest. The money itself moves at Shopify, not here."""
    wish = wish_of(amount, lines)

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        return merchants.refund_order(
            connection, shop_id, act.id, amount=wish.money, lines=wish.units, reason=act.reason, by=BY
        )

    act.do(step, what_a_refund_did)


# -- in words ----------------------------------------------------------------------------------------


def what_a_cancellation_did(done: Mapping[str, Any]) -> str:
    head = f"cancellation {done['id']}: the order goes from {words(done['status_before'])} to {words(done['status_after'])}"
    return tables_of(done, head)


def what_a_refund_did(done: Mapping[str, Any]) -> str:
    return tables_of(done, f"refund {done['id']} {of_what(done)}")


def in_words(found: Mapping[str, Any]) -> str:
    """An order for people."""
    whose = "no customer" if found["customer_id"] is None else f"customer {found['customer_id']}"
    money = f"{found['refunded']} of {found['total']} {found['currency']} refunded"
    parts = [
        f"order {found['id']} ({cell(found['name'])}) of {whose}: {words(found['status'])}, {money}",
        "look at it: " + ", ".join(found["flags"]) if found["flags"] else "",
        _awards(found),
        _redemptions(found),
        _refunds(found),
        _by_hand(found),
        "\n".join(_undone(each) for each in found["undone"]),
    ]
    return "\n\n".join(part for part in parts if part)


def _awards(found: Mapping[str, Any]) -> str:
    columns = ("status", "amount", "reversed", "debited", "shortfall")
    rows = [[a["rule"], *(a[name] for name in columns)] for a in found["awards"]]
    return table(("earned by", *columns), rows, empty="nothing was earned")


def _redemptions(found: Mapping[str, Any]) -> str:
    columns = ("code", "reward", "amount", "returned", "credited", "expired", "restitution")
    rows = [[r["id"], *(r[name] for name in columns), r["ended"] or ""] for r in found["redemptions"]]
    return table(("redemption", *columns, "ended"), rows, empty="")


def _refunds(found: Mapping[str, Any]) -> str:
    columns = ("at", "amount", "reversed", "returned", "origin")
    rows = [
        [r["id"], *(r[name] for name in columns), "yes" if r["undone"] else "", r["reason"] or ", ".join(r["reasons"])]
        for r in found["refunds"]
    ]  # fmt: skip
    return table(("refund", *columns, "undone", "why"), rows, empty="")


def _undone(act: Mapping[str, Any]) -> str:
    why = f": {act['reason']}" if act["reason"] else ""
    return f"undone: {act['cause']}, at {act['at']} by {act['by']}{why}"


def _by_hand(found: Mapping[str, Any]) -> str:
    """What a merchant did beside refunds."""
    rows = [
        [f"cancellation {c['id']}", c["at"], "", c["by"], "yes" if c["undone"] else "", c["reason"]]
        for c in found["cancellations"]
    ] + [
        [f"reversal {r['id']}", r["at"], r["amount"], r["by"], "yes" if r["undone_at"] else "", r["reason"]]
        for r in found["reversals"]
    ]
    return table(("by hand", "at", "given back", "by", "undone", "why"), rows, empty="")
