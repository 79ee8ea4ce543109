"""What merchants do to orders by hand: cancel, refund, and take effects back (R31, R36, R38)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field

from app.api.fields import REASON, REASON_MAX_CHARACTERS, Given, Id, LineIn, Points, Sent
from app.api.operation import Call, Operation, Refusal, by_hand, no_such
from app.api.orders import (
    WRONG_WISHES,
    Preview,
    PreviewedCustomer,
    PreviewedTier,
    PreviewRequest,
    Remaining,
    Status,
)
from tasks.steps import merchants, reversals
from tasks.steps.shops import by_id

NO_MONEY = (
    "It moves no money at Shopify and tells Shopify nothing: it books what the merchant says. Where Shopify tells of a"
    " refund of the same money as well, that is another refund, and both count, up to the order's value."
)
TRY_FIRST = "With `preview=true` the answer is the same and nothing is done; its id will not be used."


class CancelRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "The customer changed their mind"}

    reason: LineIn | None = Field(
        None,
        max_length=REASON_MAX_CHARACTERS,
        description=f"{REASON}. Without one: {merchants.CANCELLED_BY_API}",
    )


class RefundRequest(PreviewRequest):
    """An amount, or lines, or neither: the rest of the order."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"amount": "20.00", "reason": "Arrived late"}

    reason: LineIn | None = Field(None, max_length=REASON_MAX_CHARACTERS, description=REASON)


class UndoRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "The wrong order"}

    reason: LineIn | None = Field(None, max_length=REASON_MAX_CHARACTERS, description=REASON)


class OrderCancelled(Preview):
    """What the cancellation did, in the words of a preview."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        **Preview.EXAMPLE,
        "id": "12",
        "amount": "0.00",
        "fraction": "0/1",
        "status_after": "cancelled",
        "reversed": 500,
        "awards": [{**Preview.EXAMPLE["awards"][0], "reversed": 500, "debited": 500, "reasons": ["REMAINDER"]}],
        "customers": [{"id": "6940095564", "balance_before": 500, "balance_after": 0}],
        "remaining": {"amount": "0.00", "earned": 0, "redeemed": 0},
        "reason": merchants.CANCELLED_BY_API,
    }  # fmt: skip

    id: Id = Field(description="The cancellation's; as a cause it is `cancellation:<id>`")
    reason: str


class OrderRefunded(Preview):
    """What the refund did, in the words of its preview."""

    EXAMPLE: ClassVar[dict[str, Any]] = {
        **Preview.EXAMPLE,
        "id": "9000000000000000001",
        "reason": "Arrived late",
    }

    id: Id = Field(description="The refund's: a number of ours, far above Shopify's")
    reason: str | None


class EffectsUndone(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "order_id": "450789469",
        "undone": ["refund:929361462"],
        "state": "done",
        "status_before": "partially_refunded",
        "status_after": "open",
        "customers": [{"id": "6940095564", "balance_before": 400, "balance_after": 500}],
        "tiers": [],
        "remaining": {"amount": "100.00", "earned": 500, "redeemed": 0},
        "reason": "The wrong order",
    }

    order_id: Id
    undone: list[str] = Field(description="The causes that count for nothing now, as the trace names them")
    state: Literal["done", "removing_code"] = Field(
        description="removing_code: a discount code came back for this and is taken away at Shopify first; then the rest"
        " is booked. Until then nothing has changed. Should it turn out used, nothing will (activity: undo.refused)"
    )
    status_before: Status
    status_after: Status
    customers: list[PreviewedCustomer]
    tiers: list[PreviewedTier]
    remaining: Remaining
    reason: str | None


class ReversalUndone(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "id": "31",
        "redemption_id": "17",
        "amount": 500,
        "customers": [{"id": "6940095564", "balance_before": 500, "balance_after": 0}],
        "tiers": [],
        "reason": "The wrong customer",
    }

    id: Id
    redemption_id: Id
    amount: Points = Field(description="What had been given back")
    customers: list[PreviewedCustomer]
    tiers: list[PreviewedTier]
    reason: str | None


def done(step: Callable[..., Mapping[str, Any]], id: str) -> Callable[[Call], Mapping[str, Any]]:
    """A step that takes no more than what it is done to, and why."""

    def run(call: Call) -> Mapping[str, Any]:
        body: CancelRequest | UndoRequest = call.body
        return step(call.connection, call.shop_id, call.ids[id], reason=body.reason, by=call.by)

    return run


def refund(call: Call) -> Mapping[str, Any]:
    body: RefundRequest = call.body
    return merchants.refund_order(
        call.connection,
        call.shop_id,
        call.ids["order_id"],
        amount=body.money,
        lines=body.units,
        reason=body.reason,
        by=call.by,
    )


def undo_reversal(call: Call) -> Mapping[str, Any]:
    body: UndoRequest = call.body
    shop = by_id(call.connection, call.shop_id)
    return reversals.undo(call.connection, shop, call.ids["reversal_id"], reason=body.reason, by=call.by)


def is_to_be_done(answer: Mapping[str, Any]) -> bool:
    """Accepted, and nothing booked yet: a code is taken away at Shopify first."""
    return bool(answer["state"] == "removing_code")


TERMINAL = (
    Refusal(status=409, code="already_cancelled", when="the order is cancelled or voided; the details say since when"),
    Refusal(status=409, code="already_refunded", when="the order is refunded whole; the details say since when"),
)  # fmt: skip
ALREADY_UNDONE = Refusal(status=409, code="already_undone", when="it was undone before; the details say when")
CODES_BACK = (
    ALREADY_UNDONE,
    Refusal(status=409, code="code_in_flight", when="a discount code is just coming back; try again in a minute"),
    Refusal(status=409, code="code_used_again", when="a discount code came back for this and was used again"),
    Refusal(
        status=409, code="several_codes_given_back", when="more than one code came back for this: cancel the redemptions first"
    ),
    Refusal(status=409, code="undo_in_progress", when="the code is just being taken away; look again in a minute"),
)  # fmt: skip

ITS_ORDER = ("get_order", {"order_id": "order_id"})

OPERATIONS: tuple[Operation, ...] = (
    by_hand(
        path="/orders/{order_id}/cancel",
        tag="orders",
        name="cancel_order",
        summary="The order is off: what it earned is taken back, what was redeemed on it is given back (R36)",
        description=f"Always the whole order, whether or not it was paid. {NO_MONEY} {TRY_FIRST}",
        run=done(merchants.cancel_order, "order_id"),
        body=CancelRequest,
        answer=OrderCancelled,
        links={"order": ITS_ORDER, "undo": ("undo_order_ending", {"order_id": "order_id"})},
        refusals=(no_such("order"), *TERMINAL),
    ),
    by_hand(
        path="/orders/{order_id}/refund",
        tag="orders",
        name="refund_order",
        summary="Refund an amount, units of lines, or the rest of an order (R36)",
        description=f"What it does is what its preview says. {NO_MONEY} {TRY_FIRST}",
        run=refund,
        body=RefundRequest,
        answer=OrderRefunded,
        links={"order": ITS_ORDER, "undo": ("undo_refund", {"refund_id": "id"})},
        refusals=(no_such("order"), *TERMINAL, *WRONG_WISHES),
    ),
    by_hand(
        path="/orders/{order_id}/undo",
        tag="orders",
        name="undo_order_ending",
        summary="Take the cancellation or void back that closed an order (R38)",
        description="Also one that Shopify told of: told again, it stays undone. The refunds of the order stand; each is"
        f" undone by itself. {TRY_FIRST}",
        run=done(merchants.undo_ending, "order_id"),
        body=UndoRequest,
        answer=EffectsUndone,
        accepted=is_to_be_done,
        links={"order": ITS_ORDER},
        refusals=(
            no_such("order"),
            Refusal(status=409, code="not_cancelled", when="no cancellation or void closed the order"),
            *CODES_BACK,
        ),
    ),
    by_hand(
        path="/refunds/{refund_id}/undo",
        tag="orders",
        name="undo_refund",
        summary="Take the effects of one refund back, as if it had never been (R38)",
        description="One that Shopify told of, or one that was asked of us. Nothing is deleted: the difference is booked."
        f" Told again, it stays undone. {TRY_FIRST}",
        run=done(merchants.undo_refund, "refund_id"),
        body=UndoRequest,
        answer=EffectsUndone,
        accepted=is_to_be_done,
        links={"order": ITS_ORDER},
        refusals=(no_such("refund"), *CODES_BACK),
    ),
    by_hand(
        path="/reversals/{reversal_id}/undo",
        tag="redemptions",
        name="undo_reversal",
        summary="Take back what was given back of a redemption by hand (R38)",
        description=f"Of a cancelled redemption, or of reversed points. {TRY_FIRST}",
        run=undo_reversal,
        body=UndoRequest,
        answer=ReversalUndone,
        links={"redemption": ("get_redemption", {"redemption_id": "redemption_id"})},
        refusals=(
            no_such("reversal"),
            ALREADY_UNDONE,
            Refusal(
                status=409,
                code="code_removed",
                when="its discount code was taken away at Shopify: there would be neither code nor points",
            ),
        ),
    ),
)
