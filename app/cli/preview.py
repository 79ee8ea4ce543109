"""`unwind preview`: what a refund would do, by the code that does it. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click
from pydantic import ValidationError

from app.api.errors import from_pydantic
from app.api.orders import PreviewRequest
from app.cli.by_hand import NOTHING_DONE, Id, shop_of, shop_option
from app.cli.context import data_option, emit, json_option, reading
from app.cli.tables import table
from tasks.steps.preview import preview as what_would_be

amount_option = click.option("--amount", metavar="A", help="Money, such as 12.50, in the shop's currency.")
lines_option = click.option("--lines", metavar="L=QTY,...", help="Units of lines, such as 4500=1,4501=2.")


@click.command()
@click.argument("order", type=Id("order"))
@amount_option
@lines_option
@shop_option
@data_option
@json_option
def preview(
    order: int, amount: str | None, lines: str | None, domain: str | None, data: Path, as_json: bool
) -> None:
    """What a refund of ORDER would do: of an amount, of lines, or of the rest. Changes nothing."""
    wish = wish_of(amount, lines)
    with reading(data) as connection:
        found = what_would_be(
            connection,
            shop_of(connection, "order", order, domain),
            order,
            amount=wish.money,
            lines=wish.units,
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


def in_words(found: Mapping[str, Any]) -> str:
    """The answer for people."""
    return f"{NOTHING_DONE}\n\n{tables_of(found, 'a refund ' + of_what(found))}"


def of_what(found: Mapping[str, Any]) -> str:
    """What a refund is of, and what becomes of its order: the same words before and after."""
    return (
        f"of {found['amount']} {found['currency']} ({found['fraction']} of the order): it goes from"
        f" {words(found['status_before'])} to {words(found['status_after'])}; {found['remaining']['amount']} are left"
    )


def words(status: str) -> str:
    return status.replace("_", " ")


def tables_of(found: Mapping[str, Any], head: str) -> str:
    """What one cause took and gave back, or would."""
    awards = [
        [a["rule"], a["reversed"], a["debited"], a["shortfall"], "yes" if a["pending"] else "no", ", ".join(a["reasons"])]
        for a in found["awards"]
    ]  # fmt: skip
    returns = [
        [r["id"], r["customer_id"], r["returned"], r["credited"], r["expired"], r["restitution"], ", ".join(r["reasons"])]
        for r in found["redemptions"]
    ]  # fmt: skip
    parts = [
        head,
        table(
            ("rule", "takes back", "debited", "short", "pending", "why"),
            awards,
            empty="nothing is taken back",
        ),
        table(("redemption", "customer", "returns", "credited", "expired", "as", "why"), returns, empty=""),
        balances_of(found),
        ", ".join(found["reasons"]),
    ]
    return "\n\n".join(part for part in parts if part)


def balances_of(found: Mapping[str, Any]) -> str:
    """Whose balance and tier moves."""
    balances = [[c["id"], c["balance_before"], c["balance_after"]] for c in found["customers"]]
    tiers = [
        f"customer {t['id']}: tier {t['before'] or 'none'} -> {t['after'] or 'none'}" for t in found["tiers"]
    ]
    parts = [table(("customer", "balance", "after"), balances, empty=""), "\n".join(tiers)]
    return "\n\n".join(part for part in parts if part)
