"""What a refund would do (R37): the very same code, with one more fact, undone before anyone sees it."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection

from models.errors import Refused
from models.rules.causes import edited_lines, money_left, removed_units
from models.rules.facts import Adjustment, Line, Refund, ReturnedLine, Snapshot, Transaction
from models.rules.money import from_minor, to_minor
from models.rules.order import MERCHANT_REFUND_FIRST, OrderFacts, refund_key
from models.rules.program import Program
from models.rules.wallet import CLAIM, RETURN
from tasks.steps.load import World, load_order, open_world
from tasks.steps.read import points
from tasks.steps.remaining import remaining
from tasks.steps.settle import Settled, Told, settle
from tasks.steps.shops import by_id
from tasks.steps.timeline import Item

PREVIEW_ID = 2**63 - 1  # the greatest id there can be, so no refund of Shopify's has it


def preview(
    connection: Connection,
    shop_id: int,
    order_id: int,
    *,
    amount: Decimal | None = None,
    lines: Mapping[int, int] | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """What refunding an amount (whole shop-currency units), some units of lines, or the rest would do. Changes nothing.

    Raises NotFound for an order not known yet, Refused for an amount or units that are not there to give back.
    """
    now = now or datetime.now(UTC)
    world = open_world(connection, by_id(connection, shop_id), now)
    attempt = connection.begin_nested()
    try:
        order = load_order(world, order_id)
        minor = None if amount is None else minor_of(amount, order)
        refund, money = imagined(order, world.programs, amount=minor, lines=lines, now=now)
        before = str(world.stored[order_id].status)
        told = [Told(fact=fact, received_at=now, cause="preview") for fact in (refund, money)]
        settled = settle(world, told)
        return described(world, settled, order_id, refund_key(PREVIEW_ID), status_before=before)
    finally:
        attempt.rollback()


def minor_of(amount: Decimal, order: OrderFacts) -> int:
    """An amount in the order's currency, in its smallest unit. Raises Refused (wrong_amount)."""
    assert order.placed is not None
    try:
        return to_minor(amount, order.placed.currency)
    except ValueError as error:
        raise Refused("wrong_amount", str(error)) from None


def imagined(
    order: OrderFacts,
    programs: Sequence[Program],
    *,
    amount: int | None,
    lines: Mapping[int, int] | None,
    now: datetime,
    id: int = PREVIEW_ID,
) -> tuple[Refund, Transaction]:
    """The refund record and its money as Shopify would send them for this wish. The order's snapshot must be known."""
    placed = order.placed
    assert placed is not None
    there, (left, gone) = lines_left(order), money_left(order, programs)
    wanted = (
        lines
        if lines is not None
        else {}
        if amount is not None
        else {k: n for k, (_, n) in there.items() if n}
    )
    returned = [_returned(placed, there, line_id, units) for line_id, units in sorted(wanted.items())]
    worth = sum(line.subtotal_minor + line.tax_minor for line in returned)
    owed = left + gone
    rest = left if worth >= left else owed  # money beyond the items is first taken for what an edit took (S9)
    value = min(worth, left) if lines is not None else rest if amount is None else amount
    free = amount is None and placed.total_minor == 0 and bool(wanted)
    if lines is None and not free:  # what cost nothing comes back without money (R13)
        _check_amount(value, owed, placed.currency)
    adjustment = Adjustment(amount_minor=worth - value, tax_minor=0, shipping=False)
    refund = Refund(
        id=id,
        order_id=order.order_id,
        created_at=now,
        lines=tuple(returned),
        shipping_minor=0,
        adjustments=(adjustment,) if worth != value else (),
        transaction_ids=(id,),
    )
    return refund, _settled_money(refund, placed, value)


def _check_amount(value: int, owed: int, currency: str) -> None:
    if not 0 < value <= owed:
        text = from_minor(owed, currency)
        raise Refused("wrong_amount", f"an amount above zero and up to {text} can be refunded", left=text)


def _settled_money(refund: Refund, placed: Snapshot, value: int) -> Transaction:
    return Transaction(
        id=refund.id,
        order_id=refund.order_id,
        kind="refund",
        status="success",
        amount_minor=value,
        currency=placed.currency,
        shop_amount_minor=value,
        at=refund.created_at,
        refund_id=refund.id,
    )


def lines_left(order: OrderFacts) -> dict[int, tuple[Line, int]]:
    """Line id -> the line, added ones too, and its units that neither a refund nor an edit took."""
    left = {line.id: (line, line.quantity - removed_units(line, order)) for line in edited_lines(order)}
    for id, known in order.refunds.items():
        gone = not known.undone or id < MERCHANT_REFUND_FIRST
        for taken in known.refund.lines if gone else ():
            if taken.line_id in left:
                line, units = left[taken.line_id]
                left[taken.line_id] = line, max(0, units - taken.quantity)
    return left


def _returned(
    placed: Snapshot, there: Mapping[int, tuple[Line, int]], line_id: int, units: int
) -> ReturnedLine:
    """Units of a line at what was paid for them, to the last unit exactly (cumulative floor)."""
    if line_id not in there:
        raise Refused("unknown_line", f"the order has no line {line_id}", line=str(line_id))
    line, left = there[line_id]
    if not 0 < units <= left:
        words = f"line {line_id} has {left} {'unit' if left == 1 else 'units'} left to return"
        raise Refused("wrong_quantity", words, line=str(line_id), left=left)
    net = line.net_minor - (line.tax_minor if placed.taxes_included else 0)
    before = line.quantity - left
    parts = [
        value * (before + units) // line.quantity - value * before // line.quantity
        for value in (net, line.tax_minor)
    ]
    return ReturnedLine(line_id=line_id, quantity=units, subtotal_minor=parts[0], tax_minor=parts[1])


def described(
    world: World, settled: Settled, order_id: int, key: str, *, status_before: str
) -> dict[str, Any]:
    """What one cause of an order (by its key) did, or would do: as the preview and the calls that do it answer."""
    program, made = world.programs[-1], settled.plans[order_id]
    cause = next(cause for cause in made.causes if cause.key == key)
    placed = made.order.placed
    assert placed is not None
    rows = [after for _, after in settled.booked.rows if after is not None and after["cause"] == key]
    fraction = Fraction(cause.value, placed.total_minor) if placed.total_minor else Fraction(0)
    return {
        "order_id": str(made.order.order_id),
        "amount": from_minor(cause.value, placed.currency),
        "currency": placed.currency,
        "fraction": f"{fraction.numerator}/{fraction.denominator}",
        "status_before": status_before,
        "status_after": made.status,
        "reversed": points(sum(row["amount"] for row in rows if row["kind"] == CLAIM), program),
        "returned": points(sum(row["amount"] for row in rows if row["kind"] == RETURN), program),
        "awards": [_taken(row, program) for row in rows if row["kind"] == CLAIM],
        "redemptions": [_given(row, program, made.restitution) for row in rows if row["kind"] == RETURN],
        **moved(world, settled),
        "remaining": remaining(made, world.programs),
        "reasons": list(cause.money.reasons) if cause.money is not None else [],
        "policy_version": cause.policy.version,
    }


def moved(world: World, settled: Settled) -> dict[str, Any]:
    """The balances and tiers that a piece of work touched, before and after."""
    program = world.programs[-1]
    return {
        "customers": [
            {
                "id": str(each.customer_id),
                "balance_before": points(each.balance, program),
                "balance_after": points(each.made.balance, program),
            }
            for each in settled.booked.folds
            if each.made is not None
        ],
        "tiers": [{"id": str(customer), "before": a, "after": b} for customer, a, b in settled.booked.tiers],
    }


def _taken(row: Item, program: Program) -> dict[str, Any]:
    return {
        "rule": row["target"].split(":", 2)[2],
        "reversed": points(row["amount"], program),
        "pending": row["reduces_pending"],
        "debited": points(0 if row["reduces_pending"] else row["moved"], program),
        "shortfall": points(row["short"], program),
        "reasons": row["reasons"],
    }


def _given(row: Item, program: Program, restitution: Mapping[int, str]) -> dict[str, Any]:
    return {
        "id": str(row["redemption_id"]),
        "customer_id": str(row["customer_id"]),
        "returned": points(row["amount"], program),
        "credited": points(row["moved"], program),
        "expired": points(row["expired"], program),
        "restitution": restitution[row["redemption_id"]],
        "reasons": row["reasons"],
    }
