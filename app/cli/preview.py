"""`unwind preview`: what a refund would do, by the code that does it. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError
from sqlalchemy import Connection, select

from app.api.errors import from_pydantic
from app.api.fields import read_id
from app.api.orders import PreviewRequest
from app.cli.context import data_option, emit, json_option, session
from app.cli.tables import table
from models.errors import NotFound
from models.tables.orders import Order
from models.tables.shops import Shop
from tasks.steps import shops
from tasks.steps.preview import preview as what_would_be


class OrderId(click.ParamType[int]):
    """An order's id at Shopify."""

    name = "order"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return read_id(value)
        except ValueError:
            self.fail(f"{value!r} is not an order's id", param, ctx)


@click.command()
@click.argument("order", type=OrderId())
@click.option("--amount", metavar="A", help="Money, such as 12.50, in the shop's currency.")
@click.option("--lines", metavar="L=QTY,...", help="Units of lines, such as 4500=1,4501=2.")
@click.option("--shop", "domain", metavar="DOMAIN", help="Needed when two stores have an order of this id.")
@data_option
@json_option
def preview(
    order: int, amount: str | None, lines: str | None, domain: str | None, data: Path, as_json: bool
) -> None:
    """What a refund of ORDER would do: of an amount, of lines, or of the rest. Changes nothing."""
    wish = wish_of(amount, lines)
    wanted = None if domain is None else shops.normal_domain(domain)
    with session(data, command="unwind preview", existing=True) as here, here.engine.connect() as connection:
        found = what_would_be(
            connection,
            shop_of(connection, order, wanted),
            order,
            amount=None if wish.amount is None else Decimal(wish.amount),
            lines=None if wish.lines is None else {line.id: line.quantity for line in wish.lines},
        )
    emit(found, as_json=as_json, text=in_words(found))


def wish_of(amount: str | None, lines: str | None) -> PreviewRequest:
    """What is asked for, checked as the API checks it. Raises BadParameter."""
    wish: dict[str, Any] = {} if amount is None else {"amount": amount}
    if lines is not None:
        wish["lines"] = [line_of(part) for part in lines.split(",")]
    try:
        return PreviewRequest.model_validate(wish)
    except ValidationError as error:
        raise click.UsageError(str(from_pydantic(error))) from None


def line_of(text: str) -> dict[str, Any]:
    """4500=2 -> the line 4500, two units."""
    id, separator, quantity = text.strip().partition("=")
    if not separator or not quantity.isascii() or not quantity.isdigit() or len(quantity) > 9:
        raise click.BadParameter(f"{text!r} is not like 4500=2", param_hint="--lines")
    return {"id": id, "quantity": int(quantity)}


def shop_of(connection: Connection, order: int, domain: str | None) -> int:
    """The shop of the order. Raises NotFound, UsageError when there are several."""
    if domain is not None:
        return shops.get(connection, domain).id
    query = select(Shop.id, Shop.domain).join(Order, Order.shop_id == Shop.id)
    found = connection.execute(query.where(Order.order_id == order, Shop.state == "installed")).all()
    if not found:
        raise NotFound("order", order)
    if len(found) > 1:
        names = ", ".join(sorted(row.domain for row in found))
        raise click.UsageError(f"several stores have an order {order} ({names}); say which with --shop")
    return int(found[0].id)


def in_words(found: Mapping[str, Any]) -> str:
    """The answer for people."""
    head = (
        f"refunding {found['amount']} {found['currency']} ({found['fraction']} of the order) would turn it from"
        f" {found['status_before']} to {found['status_after']}"
    )
    awards = [
        [a["rule"], a["reversed"], a["debited"], a["shortfall"], "yes" if a["pending"] else "no", ", ".join(a["reasons"])]
        for a in found["awards"]
    ]  # fmt: skip
    returns = [
        [r["id"], r["customer_id"], r["returned"], r["credited"], r["expired"], r["restitution"], ", ".join(r["reasons"])]
        for r in found["redemptions"]
    ]  # fmt: skip
    balances = [[c["id"], c["balance_before"], c["balance_after"]] for c in found["customers"]]
    tiers = [
        f"customer {t['id']}: tier {t['before'] or 'none'} -> {t['after'] or 'none'}" for t in found["tiers"]
    ]
    parts = [
        head,
        table(
            ("rule", "takes back", "debited", "short", "pending", "why"),
            awards,
            empty="nothing is taken back",
        ),
        table(("redemption", "customer", "returns", "credited", "expired", "as", "why"), returns, empty=""),
        table(("customer", "balance", "would be"), balances, empty=""),
        "\n".join(tiers),
        ", ".join(found["reasons"]),
    ]
    return "\n\n".join(part for part in parts if part)
