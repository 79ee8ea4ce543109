"""An order: what it earned, what was spent on it, what its refunds took and gave back, and why."""

from __future__ import annotations

from collections.abc import Mapping
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal, Self

from pydantic import Field, GetCoreSchemaHandler, GetJsonSchemaHandler, model_validator
from pydantic.json_schema import JsonSchemaValue
from pydantic_core import CoreSchema
from pydantic_core.core_schema import no_info_before_validator_function

from app.api.fields import Given, Id, IdIn, Money, MoneyIn, Points, Sent, Time
from app.api.operation import Call, Operation, Refusal, no_such
from tasks.steps import preview, read, trace

LINES_MAX = 500  # Shopify's own limit of an order's lines
QUANTITY_MAX = 1_000_000

Status = Literal["open", "partially_refunded", "fully_refunded", "voided", "cancelled"]
Restitution = Literal["none", "points", "code"]


class OrderAward(Given):
    rule: str
    status: Literal["pending", "approved", "cancelled"]
    amount: Points
    reversed: Points
    debited: Points = Field(description="Taken from the wallet")
    shortfall: Points = Field(description="Not there to take: forgiven, or owed under `carry_debt`")
    due_at: Time | None
    expires_at: Time | None


class OrderRedemption(Given):
    id: Id
    code: str | None
    reward: str
    amount: Points
    returned: Points
    credited: Points
    expired: Points
    restitution: Restitution
    ended: Literal["auto_refunded", "code_failed", "cancelled"] | None = Field(
        description="Given back whole before an order used it (R30)"
    )


class OrderRefund(Given):
    id: Id
    at: Time
    amount: Money | None = Field(description="What it is worth; of an undone one: what it had been worth")
    reversed: Points
    returned: Points
    reasons: list[str]
    policy_version: int | None
    origin: Literal["shopify", "merchant"] = Field(
        description="merchant: asked of us (R36), under an id of ours; Shopify knows nothing of it"
    )
    reason: str | None = Field(description="The merchant's words")
    undone: bool = Field(description="Taken back (R38): it counts for nothing, also when it is told again")


class OrderCancellation(Given):
    id: Id
    at: Time
    reason: str | None
    by: str | None = Field(description="token:5, session (a page of the shop's admin) or cli")
    undone: bool


class OrderReversal(Given):
    id: Id
    redemption_id: Id
    kind: Literal["cancelled", "reversed"] = Field(description="cancelled: all that was left (R34, R35)")
    amount: Points
    at: Time
    code: Literal["removed", "unchanged", "stays_used", "untracked", "not_reachable"] = Field(
        description="What became of its discount code"
    )
    reason: str | None
    by: str = Field(description="token:5, session (a page of the shop's admin) or cli")
    undone_at: Time | None


class ByHand(Given):
    """What a merchant asked."""

    at: Time
    by: str | None = Field(description="token:5, session (a page of the admin) or cli")
    reason: str | None


class Undone(ByHand):
    cause: str = Field(description="Counts for nothing now, as if it had never been told (R38)")


class Order(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "id": "450789469",
        "name": "#1001",
        "status": "partially_refunded",
        "customer_id": "6940095564",
        "currency": "EUR",
        "total": "100.00",
        "refunded": "20.00",
        "placed_at": "2026-03-01T10:00:00+00:00",
        "flags": [],
        "awards": [
            {
                "rule": "place-order",
                "status": "approved",
                "amount": 500,
                "reversed": 100,
                "debited": 100,
                "shortfall": 0,
                "due_at": "2026-03-01T10:00:00+00:00",
                "expires_at": None,
            }
        ],
        "redemptions": [
            {
                "id": "17",
                "code": "LOYAL-7F3K",
                "reward": "5-off",
                "amount": 500,
                "returned": 100,
                "credited": 100,
                "expired": 0,
                "restitution": "points",
                "ended": None,
            }
        ],
        "refunds": [
            {
                "id": "929361462",
                "at": "2026-03-05T09:30:00+00:00",
                "amount": "20.00",
                "reversed": 100,
                "returned": 100,
                "reasons": [],
                "policy_version": 1,
                "origin": "shopify",
                "reason": None,
                "undone": False,
            }
        ],
        "cancellations": [],
        "reversals": [],
        "undone": [],
    }

    id: Id
    name: str | None
    status: Status
    customer_id: Id | None
    currency: str | None = Field(description="The shop's; null until the order itself is known (R28)")
    total: Money | None = Field(description="As placed")
    refunded: Money | None
    placed_at: Time | None
    flags: list[str] = Field(description="What somebody should look at, such as CANCELLED_PAID_WAITING")
    awards: list[OrderAward]
    redemptions: list[OrderRedemption]
    refunds: list[OrderRefund]
    cancellations: list[OrderCancellation] = Field(description="That a merchant asked of us (R36)")
    reversals: list[OrderReversal] = Field(description="What a merchant gave back of its redemptions by hand")
    undone: list[Undone] = Field(description="What was taken back (R38), when, by whom and why")


class LineRequest(Sent):
    id: IdIn
    quantity: int = Field(ge=1, le=QUANTITY_MAX)


class RestOnlyUnsaid:
    """A field that means the rest of the order when it is left out, and only then: a caller whose variable was null, or
    whose list was empty, did not ask for all of it."""

    def __get_pydantic_core_schema__(self, source: Any, handler: GetCoreSchemaHandler) -> CoreSchema:
        return no_info_before_validator_function(said, handler(source))

    def __get_pydantic_json_schema__(
        self, core: CoreSchema, handler: GetJsonSchemaHandler
    ) -> JsonSchemaValue:
        found = handler(core)
        [kind] = [kind for kind in found.pop("anyOf") if kind != {"type": "null"}]
        return {**found, **kind}


def said(value: object) -> object:
    if value is None or value == []:
        raise ValueError("say what to refund, or leave it out to refund the rest")
    return value


def nothing() -> None:
    """Not said. As a factory, so that no `default: null` stands in the document."""


class PreviewRequest(Sent):
    """An amount, or lines, or neither: the rest of the order."""

    EXAMPLE: ClassVar[dict[str, Any]] = {"amount": "20.00"}

    amount: Annotated[MoneyIn | None, RestOnlyUnsaid()] = Field(default_factory=nothing)
    lines: Annotated[list[LineRequest] | None, RestOnlyUnsaid()] = Field(
        default_factory=nothing, min_length=1, max_length=LINES_MAX
    )

    @model_validator(mode="after")
    def _one_of_both(self) -> Self:
        if self.amount is not None and self.lines is not None:
            raise ValueError("give an amount or lines, not both")
        if self.lines is not None and len({line.id for line in self.lines}) != len(self.lines):
            raise ValueError("lines names a line twice")
        return self

    @property
    def money(self) -> Decimal | None:
        """How much, in the shop's currency; None: not an amount."""
        return None if self.amount is None else Decimal(self.amount)

    @property
    def units(self) -> dict[int, int] | None:
        """Line -> units of it; None: not lines."""
        return None if self.lines is None else {line.id: line.quantity for line in self.lines}


class PreviewedAward(Given):
    rule: str
    reversed: Points
    pending: bool = Field(description="Taken before its approval: the balance is not touched")
    debited: Points
    shortfall: Points
    reasons: list[str]


class PreviewedRedemption(Given):
    id: Id
    customer_id: Id
    returned: Points
    credited: Points
    expired: Points
    restitution: Restitution
    reasons: list[str]


class PreviewedCustomer(Given):
    id: Id
    balance_before: Points
    balance_after: Points


class PreviewedTier(Given):
    id: Id = Field(description="The customer's")
    before: str | None
    after: str | None


class Remaining(Given):
    """What of the order can still come apart afterwards."""

    amount: Money = Field(description="Of the money; nothing once the order is closed")
    earned: Points = Field(description="Of what it earned")
    redeemed: Points = Field(description="Of what was redeemed on it")


class Preview(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "order_id": "450789469",
        "amount": "20.00",
        "currency": "EUR",
        "fraction": "1/5",
        "status_before": "open",
        "status_after": "partially_refunded",
        "reversed": 100,
        "returned": 0,
        "awards": [
            {
                "rule": "place-order",
                "reversed": 100,
                "pending": False,
                "debited": 100,
                "shortfall": 0,
                "reasons": [],
            }
        ],
        "redemptions": [],
        "customers": [{"id": "6940095564", "balance_before": 500, "balance_after": 400}],
        "tiers": [],
        "remaining": {"amount": "80.00", "earned": 400, "redeemed": 0},
        "reasons": [],
        "policy_version": 1,
    }

    order_id: Id
    amount: Money
    currency: str
    fraction: str = Field(description="Of the order's total as placed")
    status_before: Status
    status_after: Status
    reversed: Points
    returned: Points
    awards: list[PreviewedAward]
    redemptions: list[PreviewedRedemption]
    customers: list[PreviewedCustomer]
    tiers: list[PreviewedTier]
    remaining: Remaining
    reasons: list[str]
    policy_version: int


class Coded(Given):
    code: str
    rule: str = Field(description="The number of the refund rule behind it")


class MovedLot(Given):
    lot: str
    amount: Points = Field(description="Below zero: taken from the lot")


class Moved(Given):
    """What the books made of a decision. The balances are those of its own time; absent where it moved nothing."""

    lots: list[MovedLot]
    balance_before: Points | None = None
    balance_after: Points | None = None


class TracedAward(Moved):
    rule: str
    amount: Points
    on: Money = Field(description="The money that it was earned on")
    mask: str
    at: Time
    due_at: Time
    expires_at: Time | None
    policy_version: int
    left: Points = Field(description="Not reversed")


class TracedClaim(Moved):
    award: str
    rules: list[str]
    award_amount: Points
    of: Points = Field(description="What the ratio is of: the award as it was earned")
    left_before: Points = Field(description="The cap (R3)")
    ratio: str | None
    amount: Points
    pending: bool
    debited: Points
    shortfall: Points
    owed: Points = Field(description="Of the shortfall, what later credits pay (`carry_debt`)")
    reasons: list[Coded]


class TracedMember(Moved):
    customer_id: Id
    amount: Points
    credited: Points
    expired: Points


class TracedReturn(Given):
    redemption_id: Id
    rules: list[str]
    redeemed: Points
    ratio: str | None
    amount: Points
    members: list[TracedMember]
    reasons: list[Coded]


class Decision(Given):
    cause: str
    kind: str
    at: Time
    amount: Money
    fraction: str = Field(description="Of the order's total as placed")
    closes: bool = Field(description="It closes the order, so it takes the remainder (R4)")
    policy_version: int
    reasons: list[Coded]
    asked: ByHand | None = Field(description="By whom, where a merchant asked for it (R34, R35, R36)")
    claims: list[TracedClaim]
    returns: list[TracedReturn]


class Trace(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "order_id": "450789469",
        "name": "#1001",
        "status": "partially_refunded",
        "currency": "EUR",
        "total": "100.00",
        "refunded": "20.00",
        "flags": [],
        "awards": [
            {
                "rule": "place-order",
                "amount": 500,
                "on": "100.00",
                "mask": "total",
                "at": "2026-03-01T10:00:00+00:00",
                "due_at": "2026-03-01T10:00:00+00:00",
                "expires_at": None,
                "policy_version": 1,
                "left": 400,
                "lots": [{"lot": "award:450789469:place-order", "amount": 500}],
                "balance_before": 0,
                "balance_after": 500,
            }
        ],
        "decisions": [
            {
                "cause": "refund:929361462",
                "kind": "refund",
                "at": "2026-03-05T09:30:00+00:00",
                "amount": "20.00",
                "fraction": "1/5",
                "closes": False,
                "policy_version": 1,
                "reasons": [],
                "asked": None,
                "claims": [
                    {
                        "award": "place-order",
                        "rules": ["R1", "R2", "R6"],
                        "award_amount": 500,
                        "of": 500,
                        "left_before": 500,
                        "ratio": "1/5",
                        "amount": 100,
                        "pending": False,
                        "debited": 100,
                        "shortfall": 0,
                        "owed": 0,
                        "reasons": [],
                        "lots": [{"lot": "award:450789469:place-order", "amount": -100}],
                        "balance_before": 500,
                        "balance_after": 400,
                    }
                ],
                "returns": [],
            }
        ],
        "undone": [],
        "restitution": {},
    }

    order_id: Id
    name: str | None
    status: Status | Literal["unknown"]
    currency: str | None
    total: Money | None
    refunded: Money | None
    flags: list[Coded]
    awards: list[TracedAward]
    decisions: list[Decision] = Field(description="In the order of their own time")
    undone: list[Undone] = Field(description="What was undone, and by whom")
    restitution: dict[str, Restitution] = Field(description="By redemption: how its benefit came back (R21)")


TRACE_TEXT = """\
Order #1001: partially refunded, 20.00 of 100.00 EUR given back
  earned 500 by place-order on 100.00 (total), due 2026-03-01T10:00:00+00:00, policy 1
2026-03-05T09:30:00+00:00  refund:929361462: 20.00 of 100.00 = 1/5, policy 1
    place-order: takes back 1/5 of 500 = 100 (100 debited, 0 short) [R1, R2, R6]; balance 500 -> 400
"""


def show(call: Call) -> Mapping[str, Any]:
    return read.order(call.connection, call.shop_id, call.ids["order_id"])


def explain(call: Call) -> Mapping[str, Any] | str:
    found = trace.trace(call.connection, call.shop_id, call.ids["order_id"])
    return trace.as_text(found) if call.wants_text else found


def would(call: Call) -> Mapping[str, Any]:
    """What a refund would do (R37), found out by the code that does it, and undone."""
    body: PreviewRequest = call.body
    return preview.preview(
        call.connection, call.shop_id, call.ids["order_id"], amount=body.money, lines=body.units
    )


WRONG_WISHES = (
    Refusal(status=422, code="wrong_amount", when="more than is left to refund"),
    Refusal(status=422, code="unknown_line", when="the order has no such line"),
    Refusal(status=422, code="wrong_quantity", when="more units than are left to return"),
)

OPERATIONS: tuple[Operation, ...] = (
    Operation(
        method="GET",
        path="/orders/{order_id}",
        tag="orders",
        name="get_order",
        summary="What an order earned and used, and what its refunds changed",
        run=show,
        answer=Order,
        refusals=(no_such("order"),),
    ),
    Operation(
        method="GET",
        path="/orders/{order_id}/trace",
        tag="orders",
        name="trace_order",
        summary="Every decision with its rule, fraction, cap, lots and policy; as text with Accept: text/plain",
        run=explain,
        answer=Trace,
        text_example=TRACE_TEXT,
        refusals=(no_such("order"),),
    ),
    Operation(
        method="POST",
        path="/orders/{order_id}/preview",
        tag="orders",
        name="preview_refund",
        summary="What a refund would do; changes nothing (R37)",
        run=would,
        body=PreviewRequest,
        body_required=False,
        answer=Preview,
        locks=True,
        refusals=(no_such("order"), *WRONG_WISHES),
    ),
)
