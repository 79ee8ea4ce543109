"""`unwind reverse`: points of a redemption given back by hand, by the step of `POST /points/reverse` (R35)."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal, InvalidOperation
from typing import Any

import click
from sqlalchemy import Connection

from app.api.fields import read_points
from app.api.points import told
from app.cli.by_hand import BY, Act, Id, acts_on
from app.cli.redemption import shop_option
from tasks.steps.points.reversing import Wish, reverse_points
from tasks.steps.shops import by_id


class Points(click.ParamType[int | Decimal]):
    """A number in the program's unit, as the API takes it."""

    name = "number"

    def convert(
        self, value: object, param: click.Parameter | None, ctx: click.Context | None
    ) -> int | Decimal:
        try:
            return read_points(Decimal(str(value)))
        except (InvalidOperation, ValueError):
            self.fail(f"{value!r} is not a number above 0", param, ctx)


@click.command()
@click.option("--points", type=Points(), help="How many; without it all that is left.")
@click.option("--customer", type=Id("customer"), help="Only if this customer has part in it.")
@click.option("--again", is_flag=True, help="Also if the same amount was reversed before.")
@acts_on("redemption", shop=shop_option)
def reverse(act: Act, points: int | Decimal | None, customer: int | None, again: bool) -> None:
    """Give points of REDEMPTION back, to each member of a group what he gave. Its code is left as it is."""

    wish = Wish(
        redemption_id=act.id, customer_id=customer, amount=points, is_another=again, by=BY, reason=act.reason
    )

    def step(connection: Connection, shop_id: int) -> Mapping[str, Any]:
        answer = told(shop_id, reverse_points(connection, by_id(connection, shop_id), wish))
        return {name: value for name, value in answer.items() if name != "identifier"}

    act.do(step, in_words)


def in_words(done: Mapping[str, Any]) -> str:
    split = done["pointsReversedDetails"]
    lines = [
        f"{done['pointsReversed']} of redemption {done['redemptionId']} given back to customer {done['customerId']}:"
        f" {split['available']} can be spent again, {split['expired']} had expired (reversal {done['reversalId']})"
    ]
    lines += [
        f"  customer {part['memberId']}: {part['pointsRestored']}, of it expired {part['pointsExpiredByReversal']}"
        for part in done.get("crossMemberReversalBreakup", [])
    ]
    return "\n".join(lines + [f"note: {warning['message']}" for warning in done["warnings"]])
