"""Value spent on a reward, and what came back of it."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar, Literal

from pydantic import Field, field_validator

from app.api.customers import program_of
from app.api.fields import (
    REASON,
    REASON_MAX_CHARACTERS,
    Given,
    Id,
    IdIn,
    LineIn,
    Points,
    PointsIn,
    Sent,
    Time,
    smallest_units,
)
from app.api.operation import Call, Operation, Refusal, by_hand, no_such
from app.api.orders import OrderReversal
from tasks.steps import cancelling, wallets

CODE_MAX_CHARACTERS = 255  # Shopify's own limit of a discount code
SOURCES_MAX = 50  # members of one group; each is a wallet to lock


class Source(Sent):
    customer_id: IdIn
    amount: PointsIn


class RedemptionRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"customer_id": "6940095564", "reward": "5-off", "code": "LOYAL-7F3K"}

    customer_id: IdIn
    reward: LineIn = Field(max_length=64, description="A reward's id, or `custom` with an amount")
    amount: PointsIn | None = None
    code: LineIn | None = Field(
        None,
        max_length=CODE_MAX_CHARACTERS,
        description="A code that is there already: it is tracked. Without it a discount reward's code is made at Shopify",
    )
    sources: list[Source] | None = Field(
        None, min_length=1, max_length=SOURCES_MAX, description="Who gives how much, for groups"
    )

    @field_validator("sources")
    @classmethod
    def _each_once(cls, sources: list[Source] | None) -> list[Source] | None:
        if sources is not None and len({source.customer_id for source in sources}) != len(sources):
            raise ValueError("names a customer twice")
        return sources


class Member(Given):
    customer_id: Id
    amount: Points
    drawn: Points = Field(description="What the wallet held of it")
    uncovered: Points = Field(description="What a late fact left uncovered (R7)")
    returned: Points
    credited: Points
    expired: Points


class Cancellation(Given):
    state: Literal[
        "unused", "unused_rule_gone", "used", "untracked", "already_refunded", "code_being_changed"
    ] = Field(description="What decides how it is cancelled (R34)")
    needs_force: bool = Field(description="Cancelling it is refused unless `force` is true")
    message: str = Field(
        description="For the merchant: what cancelling it would do, or why nothing can be done"
    )
    refunded_at: Time | None = Field(description="When the last of it came back, once all of it has")
    used_on: Id | None = Field(
        description="The order that its code was used on, and that did not give it back"
    )
    refused: str | None = Field(
        description="Why its code could not be taken away for a cancellation: code_used, code_shared, not_connected, ..."
    )


REDEMPTION: dict[str, Any] = {
    "id": "17",
    "code": "LOYAL-7F3K",
    "reward": "5-off",
    "amount": 500,
    "returned": 0,
    "credited": 0,
    "expired": 0,
    "restitution": "none",
    "customer_id": "6940095564",
    "kind": "amount_discount",
    "order_id": None,
    "at": "2026-03-01T10:00:00+00:00",
    "code_state": "tracked",
    "code_error": None,
    "code_ends_at": None,
    "ended": None,
    "reactivation": "none",
    "reactivations": 0,
    "reactivation_error": None,
    "sources": [
        {
            "customer_id": "6940095564",
            "amount": 500,
            "drawn": 500,
            "uncovered": 0,
            "returned": 0,
            "credited": 0,
            "expired": 0,
        }
    ],
    "cancellation": {
        "state": "unused",
        "needs_force": False,
        "message": "its code is unused; it is taken away at Shopify, and the points come back",
        "refunded_at": None,
        "used_on": None,
        "refused": None,
    },
    "reversals": [],
}


class Redemption(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = REDEMPTION

    id: Id
    customer_id: Id
    reward: str
    kind: str
    amount: Points
    code: str | None
    order_id: Id | None = Field(description="The order that the code was used on")
    at: Time
    returned: Points = Field(description="Asked back so far; credited + expired")
    credited: Points
    expired: Points
    restitution: Literal["none", "points", "code"] = Field(
        description="How its benefit came back: once (R21)"
    )
    code_state: Literal["none", "tracked", "wanted", "active", "removed", "failed"] = Field(
        description="tracked: given to us; wanted: being made at Shopify; active: usable; failed: see code_error"
    )
    code_error: str | None
    code_ends_at: Time | None = Field(description="The end date that Shopify has for the code")
    ended: Literal["auto_refunded", "code_failed", "cancelled"] | None = Field(
        description="Given back whole, without an order (R30)"
    )
    reactivation: Literal["none", "wanted", "done", "failed"] = Field(
        description="Of its code, for the order it was used on last (R22)"
    )
    reactivations: int = Field(description="How often its code was given back so far: three times at most")
    reactivation_error: str | None = Field(description="Why the code could not be given back (R23)")
    sources: list[Member] = Field(description="Whose value it was (R20)")
    cancellation: Cancellation
    reversals: list[OrderReversal] = Field(description="What merchants gave back by hand (R34, R35)")


class CancelRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"reason": "Redeemed by mistake"}

    force: bool = Field(False, description="Give the points back though the code stays")
    reason: LineIn | None = Field(None, max_length=REASON_MAX_CHARACTERS, description=REASON)


class GivenBack(Given):
    customer_id: Id
    amount: Points
    credited: Points
    expired: Points = Field(description="Of lots that have ended: reported, not credited (R19)")


class Reversal(Given):
    id: Id
    at: Time
    code: str = Field(description="What became of its code")
    amount: Points = Field(description="All that was left")
    credited: Points
    expired: Points
    members: list[GivenBack] = Field(description="To whom (R20)")


class CancelledRedemption(Redemption):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        **REDEMPTION,
        "returned": 500,
        "credited": 500,
        "restitution": "points",
        "code_state": "removed",
        "sources": [{**REDEMPTION["sources"][0], "returned": 500, "credited": 500}],
        "cancellation": {
            "state": "already_refunded",
            "needs_force": False,
            "message": "all of it was refunded on 2026-03-02 at 08:00 UTC; nothing more can be done",
            "refunded_at": "2026-03-02T08:00:00+00:00",
            "used_on": None,
            "refused": None,
        },
        "reversals": [
            {
                "id": "3",
                "redemption_id": "17",
                "kind": "cancelled",
                "amount": 500,
                "at": "2026-03-02T08:00:00+00:00",
                "code": "removed",
                "reason": "Redeemed by mistake",
                "by": "token:5",
                "undone_at": None,
            }
        ],
        "reversal": {
            "id": "3",
            "at": "2026-03-02T08:00:00+00:00",
            "code": "removed",
            "amount": 500,
            "credited": 500,
            "expired": 0,
            "members": [{"customer_id": "6940095564", "amount": 500, "credited": 500, "expired": 0}],
        },
        "warnings": [],
    }

    reversal: Reversal | None = Field(
        description="What came back; null while the code is being taken away: then it comes back with that"
    )
    warnings: list[str] = Field(description="What the merchant should do about the code")


def show(call: Call) -> Mapping[str, Any]:
    return cancelling.shown(call.connection, call.shop_id, call.ids["redemption_id"])


def spend(call: Call) -> Mapping[str, Any]:
    """The new redemption; its code is made once this is committed. The step says whether the value is there and the reward is known."""
    body: RedemptionRequest = call.body
    scale = program_of(call).scale
    sources = [
        (source.customer_id, smallest_units(source.amount, f"sources[{i}].amount", scale))
        for i, source in enumerate(body.sources or ())
    ]
    redemption_id = wallets.redeem(
        call.connection,
        call.shop_id,
        body.customer_id,
        reward=body.reward,
        amount=None if body.amount is None else smallest_units(body.amount, "amount", scale),
        code=body.code,
        sources=sources or None,
    )
    return cancelling.shown(call.connection, call.shop_id, redemption_id)


def cancel(call: Call) -> Mapping[str, Any]:
    """What came back, or what is under way; a code is taken away once this is committed, within seconds."""
    body: CancelRequest = call.body
    return cancelling.cancel(
        call.connection,
        call.shop_id,
        call.ids["redemption_id"],
        by=call.by,
        force=body.force,
        reason=body.reason,
    )


OPERATIONS = (
    Operation(
        method="POST",
        path="/redemptions",
        tag="redemptions",
        name="create_redemption",
        summary="Spend points on a reward",
        run=spend,
        body=RedemptionRequest,
        answer=Redemption,
        status=201,
        writes=True,
        previews=True,
        links={
            "redemption": ("get_redemption", {"redemption_id": "id"}),
            "cancel": ("cancel_redemption", {"redemption_id": "id"}),
        },
        refusals=(
            Refusal(status=409, code="insufficient_balance", when="less is spendable than is asked for"),
            Refusal(status=409, code="code_taken", when="another redemption has this code"),
            Refusal(
                status=409,
                code="not_connected",
                when="no code can be made: the shop gave no access to Shopify",
            ),
            Refusal(
                status=422, code="unknown_customer", when="a wallet is opened by a grant, and this one is not"
            ),
            Refusal(status=422, code="unknown_reward", when="the program has no such reward"),
            Refusal(
                status=422, code="wrong_amount", when="the reward costs something else, or `custom` has none"
            ),
            Refusal(status=422, code="wrong_sources", when="the sources do not sum to the redemption"),
        ),
    ),
    Operation(
        method="GET",
        path="/redemptions/{redemption_id}",
        tag="redemptions",
        name="get_redemption",
        summary="A redemption and what came back of it",
        run=show,
        answer=Redemption,
        refusals=(no_such("redemption"),),
    ),
    by_hand(
        path="/redemptions/{redemption_id}/cancel",
        tag="redemptions",
        name="cancel_redemption",
        summary="Give the points of a redemption back, and take its code away where nobody used it",
        run=cancel,
        body=CancelRequest,
        answer=CancelledRedemption,
        refusals=(
            no_such("redemption"),
            Refusal(status=409, code="already_refunded", when="all of it came back; `refunded_at` says when"),
            Refusal(
                status=409, code="code_used", when="its code was used, or a gift card given out; `force`"
            ),
            Refusal(
                status=409, code="spending_rule_gone", when="the program has no such reward any more; `force`"
            ),
            Refusal(status=409, code="code_shared", when="others use its discount too; `force`"),
            Refusal(
                status=409,
                code="not_connected",
                when="its code was made by us and the shop gives no access now; `force`",
            ),
            Refusal(status=409, code="code_in_flight", when="its code may just be coming back; try again"),
            Refusal(
                status=409,
                code="given_back_as_code",
                when="its code came back to the customer and cannot be taken away",
            ),
        ),
    ),
)
