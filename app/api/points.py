"""Points reversed by redemption and customer, with Capillary's fields and error numbers (R35, docs/reverse.md); and
customers for whom nothing is reversed for a while."""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from functools import partial
from typing import Annotated, Any, ClassVar, Literal

import structlog
from pydantic import Field

from app.api.errors import ApiError
from app.api.fields import REASON, REASON_MAX_CHARACTERS, FutureIn, Given, Id, LineIn, PointsIn, Sent, Time
from app.api.openapi import ErrorBody
from app.api.operation import Asked, Call, Operation, Refusal, no_such
from models.errors import Refused
from models.rules import reversing
from models.rules.program import Program
from tasks.steps import read
from tasks.steps.load import ShopRow
from tasks.steps.points import finding, locks
from tasks.steps.points.reversing import Outcome, Part, Wish, reverse_points
from tasks.steps.shops import by_id

log = structlog.get_logger(__name__)

STATUS: Mapping[int, int] = {
    reversing.GENERAL: 404,
    reversing.INSUFFICIENT: 409,
    reversing.NOT_ALLOWED: 409,
    reversing.CONDITIONS: 409,
    reversing.PRECISION: 422,
    reversing.WRONG_PROGRAM: 422,
    reversing.BROKEN_OFF: 503,
    reversing.INVALID: 422,
    reversing.CONFIGURATION: 409,
    reversing.NOT_NOW: 503,
    reversing.UNAVAILABLE: 503,
    reversing.SETUP: 409,
    reversing.NOT_ELIGIBLE: 409,
    reversing.DUPLICATE: 409,
    reversing.OVER_LIMIT: 409,
    reversing.LOCKED: 423,
}
# What all calls can be refused with, and what the engine itself refuses, as numbers; anything else is 804.
NUMBERS: Mapping[str, int] = {
    "not_json": reversing.INVALID,
    "request_entity_too_large": reversing.INVALID,
    "unsupported_media_type": reversing.INVALID,
    "invalid_request": reversing.INVALID,
    "idempotency_key_reused": reversing.INVALID,
    "database_busy": reversing.UNAVAILABLE,
    "try_again": reversing.UNAVAILABLE,
    "busy": reversing.NOT_NOW,
    "already_refunded": reversing.DUPLICATE,
    "amount_above_left": reversing.INSUFFICIENT,
    "code_in_flight": reversing.NOT_NOW,
    "given_back_as_code": reversing.CONDITIONS,
}
USABLE_CODE = "its code is unused and stays usable; cancel the redemption instead if nobody should use it"
BEFORE_ALL = frozenset({"unauthorized", "too_many_requests"})  # said before anybody looks at the call


class Identifier(Sent):
    type: Literal["ID", "PHONE", "EMAIL"] = Field(description="ID: the customer's number at Shopify")
    value: LineIn = Field(max_length=320, description="Never kept, never logged")


class ReverseRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "redemptionId": "17",
        "pointsToBeReversed": 350,
        "identifier": {"type": "ID", "value": "6940095564"},
    }

    redemptionId: LineIn = Field(max_length=64)
    pointsToBeReversed: PointsIn | None = Field(None, description="All that is left when it is missing")
    identifier: Identifier
    programId: Annotated[LineIn, Field(max_length=64)] | int | None = Field(
        None, description="The shop's program: the same as `orgId`, for a shop has one"
    )
    reason: LineIn | None = Field(None, max_length=REASON_MAX_CHARACTERS, description=REASON)


Number = int | float


class IdentifierSent(Given):
    type: Literal["ID", "PHONE", "EMAIL"]
    value: str


class Details(Given):
    available: Number = Field(
        description="Credited: it can be spent again, but for what paid a debt at once (warning `debt_paid`)"
    )
    expired: Number = Field(description="Had expired meanwhile: not credited (R19)")


class Breakup(Given):
    memberId: int
    pointsRestored: Number = Field(description="What came back, the expired part among it")
    pointsExpiredByReversal: Number
    expiryBatchDate: Time | None = Field(
        description="The original expiry of what the member had given, the earliest; null: it never expires"
    )
    status: Literal["REVERSED", "PARTIALLY_REVERSED"] = Field(
        description="Whether all of the member's is back"
    )


class Warning(Given):
    code: Literal["code_usable", "debt_paid"]
    message: str
    amount: Number | None = Field(default=None, description="Of `debt_paid`: how much it was")


class ReverseAnswer(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "orgId": 4,
        "identifier": {"type": "ID", "value": "6940095564"},
        "customerId": 6940095564,
        "redemptionId": "17",
        "reversalId": "3",
        "pointsToBeReversed": 350,
        "pointsReversed": 350,
        "pointsReversedDetails": {"available": 330, "expired": 20},
        "crossMemberReversalBreakup": [
            {
                "memberId": 6940095564,
                "pointsRestored": 100,
                "pointsExpiredByReversal": 0,
                "expiryBatchDate": "2027-04-10T00:00:00Z",
                "status": "REVERSED",
            },
            {
                "memberId": 6940095565,
                "pointsRestored": 250,
                "pointsExpiredByReversal": 20,
                "expiryBatchDate": "2026-03-15T00:00:00Z",
                "status": "REVERSED",
            },
        ],
        "warnings": [],
    }

    orgId: int = Field(description="The shop, and its program")
    identifier: IdentifierSent = Field(description="As it was sent")
    customerId: int = Field(description="At Shopify; of a merged customer, the one he is now")
    redemptionId: str
    reversalId: Id
    pointsToBeReversed: Number = Field(description="Asked for, or all that was left")
    pointsReversed: Number
    pointsReversedDetails: Details
    crossMemberReversalBreakup: list[Breakup] = Field(
        default=[], description="Only of a redemption that others gave to (R20)"
    )
    warnings: list[Warning]


class ErrorNumber(Given):
    code: int
    message: str


class ReverseError(Given):
    """The error in the shape of all calls, its number as text, and once more in Capillary's."""

    error: ErrorBody
    errors: list[ErrorNumber] = Field(
        description="Empty for 401 and 429, which come before the call is looked at"
    )


class Unconfigured(ApiError):
    """888, 899: until somebody sets something right. Not kept under a key, for the same call succeeds after that."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.code, self.status = str(number), STATUS[number]


class Numbered(Refused):
    """A refusal under its number, which is kept under the call's key as others are."""

    def __init__(self, number: int, refused: Refused) -> None:
        super().__init__(str(number), str(refused), **refused.details)
        self.status = STATUS[number]


@contextmanager
def numbered() -> Iterator[None]:
    try:
        yield
    except Refused as refused:
        number = number_of(refused.code)
        if number in reversing.FOR_PEOPLE:
            log.error("reversal_not_configured", code=number)
            raise Unconfigured(number, str(refused)) from None
        if number in reversing.TEMPORARY:
            raise reversing.Passing(number, str(refused)) from None
        raise Numbered(number, refused) from None


def number_of(code: str) -> int:
    return int(code) if code.isdigit() else NUMBERS.get(code, reversing.GENERAL)


def in_both_shapes(body: Mapping[str, Any]) -> Mapping[str, Any]:
    """An error as it goes out."""
    error = body["error"]
    if error["code"] in BEFORE_ALL:
        return {"error": error, "errors": []}
    number, message = number_of(error["code"]), error["message"]
    return {"error": {**error, "code": str(number)}, "errors": [{"code": number, "message": message}]}


# -- the call ----------------------------------------------------------------------------------------


def customer_meant(asked: Asked) -> int:
    """Who is meant, found before anything is locked: that may ask Shopify."""
    body: ReverseRequest = asked.body
    kind = body.identifier.type
    with numbered():
        if body.programId is not None and str(body.programId) != str(asked.shop_id):
            raise reversing.refused(
                reversing.WRONG_PROGRAM, "programId is not this shop's program", field="programId"
            )
        form = finding.form_of(kind, body.identifier.value)
        keys, domain = asked.settings.token_keys, asked.caller.domain
        hasher = None if kind == "ID" else finding.hasher_of(asked.engine, keys, domain)
        shop = ShopRow(asked.shop_id, domain, None)
        return finding.customer_meant(
            asked.engine, asked.gateway, hasher, shop, kind, form, remembers=not asked.preview
        )


def without_identifier(asked: Asked) -> Any:
    """The body, an address or number in it as a keyed hash: what a key is kept with must not be tried out either."""
    body: ReverseRequest = asked.body
    if body.identifier.type == "ID":
        return asked.document
    with numbered():
        hasher = finding.hasher_of(asked.engine, asked.settings.token_keys, asked.caller.domain)
    sent = hasher.digest(body.identifier.type, f"as sent: {body.identifier.value}").hex()
    return {**asked.document, "identifier": {"type": body.identifier.type, "value": sent}}


def with_identifier(asked: Asked, kept: Mapping[str, Any]) -> Mapping[str, Any]:
    """The identifier is the caller's own text: given back as it came, never kept."""
    body: ReverseRequest = asked.body
    return {**kept, "identifier": {"type": body.identifier.type, "value": body.identifier.value}}


def reverse(call: Call) -> Mapping[str, Any]:
    body: ReverseRequest = call.body
    with numbered():
        redemption_id = redemption_in(body.redemptionId)
        wish = Wish(
            redemption_id=redemption_id,
            customer_id=call.prepared,
            amount=body.pointsToBeReversed,
            is_another=call.asked.key is not None,
            by=call.by,
            reason=body.reason,
        )
        outcome = reverse_points(call.connection, by_id(call.connection, call.shop_id), wish)
    return told(call.shop_id, outcome)


def redemption_in(text: str) -> int:
    """A text that can be no id of ours names no redemption. Raises Refused 804."""
    if finding.ID.fullmatch(text) and int(text) <= finding.ID_MAX:
        return int(text)
    raise reversing.refused(reversing.GENERAL, "the shop has no such redemption")


def told(shop_id: int, outcome: Outcome) -> dict[str, Any]:
    booked, program = outcome.booked, outcome.program
    amounts = {
        name: read.points(getattr(booked, name), program) for name in ("amount", "credited", "expired")
    }
    answer = {
        "orgId": shop_id,
        "identifier": None,
        "customerId": outcome.customer_id,
        "redemptionId": str(booked.redemption_id),
        "reversalId": str(booked.id),
        "pointsToBeReversed": amounts["amount"],
        "pointsReversed": amounts["amount"],
        "pointsReversedDetails": {"available": amounts["credited"], "expired": amounts["expired"]},
        "crossMemberReversalBreakup": [told_of(part, program) for part in outcome.parts],
        "warnings": list(warnings_of(outcome)),
    }
    return answer if outcome.parts else {k: v for k, v in answer.items() if k != "crossMemberReversalBreakup"}


def warnings_of(outcome: Outcome) -> Iterator[dict[str, Any]]:
    """What the amounts do not tell."""
    if outcome.code_usable:
        yield {"code": "code_usable", "message": USABLE_CODE}
    if outcome.debt_paid:
        paid = read.points(outcome.debt_paid, outcome.program)
        yield {"code": "debt_paid", "message": f"{paid} of it paid what was owed", "amount": paid}


def told_of(part: Part, program: Program) -> dict[str, Any]:
    member = part.member
    return {
        "memberId": member.customer_id,
        "pointsRestored": read.points(member.amount, program),
        "pointsExpiredByReversal": read.points(member.expired, program),
        "expiryBatchDate": None if member.expires_at is None else f"{member.expires_at:%Y-%m-%dT%H:%M:%SZ}",
        "status": "REVERSED" if part.whole else "PARTIALLY_REVERSED",
    }


# -- locks -------------------------------------------------------------------------------------------


class LockRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"until": "2099-01-31T00:00:00Z", "reason": "Returns are looked into"}

    until: FutureIn
    reason: LineIn = Field(max_length=REASON_MAX_CHARACTERS, description=REASON)


class Lock(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "customer_id": "6940095564",
        "until": "2099-01-31T00:00:00+00:00",
        "reason": "Returns are looked into",
        "by": "token:5",
    }

    customer_id: Id = Field(description="Of a merged customer, the one he is now (R33)")
    until: Time | None = Field(description="null: no lock stands")
    reason: str | None
    by: str | None


def show_lock(call: Call) -> Mapping[str, Any]:
    return locks.shown(call.connection, call.shop_id, call.ids["customer_id"])


def put_lock(call: Call) -> Mapping[str, Any]:
    body: LockRequest = call.body
    customer_id = call.ids["customer_id"]
    return locks.put(
        call.connection, call.shop_id, customer_id, until=body.until, reason=body.reason, by=call.by
    )


def lift_lock(call: Call) -> Mapping[str, Any]:
    return locks.lift(call.connection, call.shop_id, call.ids["customer_id"], by=call.by)


REFUSALS = tuple(
    Refusal(status=STATUS[number], code=str(number), when=meaning)
    for number, meaning in reversing.MEANINGS.items()
)
lock = partial(
    Operation,
    path="/customers/{customer_id}/reversal-lock",
    tag="points",
    answer=Lock,
    refusals=(no_such("customer"),),
)

OPERATIONS = (
    Operation(
        method="POST",
        path="/points/reverse",
        tag="points",
        name="reverse_points",
        summary="Give redeemed points back, by redemption and customer",
        description="Whole or in part, to every member of a group what he gave; what has expired meanwhile is told and not"
        " credited (R35). Errors have Capillary's numbers: 886, 896 and 898 are over soon, so the same call may be sent"
        " again. Without an Idempotency-Key the same amount of the same redemption is a duplicate (902).",
        run=reverse,
        body=ReverseRequest,
        answer=ReverseAnswer,
        writes=True,
        previews=True,
        before=customer_meant,
        waits=lambda asked: asked.body.identifier.type != "ID",
        essence=without_identifier,
        completed=with_identifier,
        shape_error=in_both_shapes,
        error_body=ReverseError,
        links={
            "redemption": ("get_redemption", {"redemption_id": "redemptionId"}),
            "undo": ("undo_reversal", {"reversal_id": "reversalId"}),
        },
        refusals=REFUSALS,
    ),
    lock(
        method="GET",
        name="get_reversal_lock",
        summary="Whether reversals are locked for a customer",
        run=show_lock,
    ),
    lock(
        method="PUT",
        name="put_reversal_lock",
        summary="Reverse nothing for a customer until then (904)",
        run=put_lock,
        body=LockRequest,
        writes=True,
    ),
    lock(
        method="DELETE",
        name="delete_reversal_lock",
        summary="Let a customer's points be reversed again",
        run=lift_lock,
        writes=True,
    ),
)
