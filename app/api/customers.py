"""A customer's wallet: what is in it, what happened to it, a grant into it, a tier kept by hand."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from app.api.activity import CSV_EXAMPLE, TOO_MANY_ROWS, ActivityPage, ActivityQuery, answered
from app.api.fields import (
    REASON,
    REASON_MAX_CHARACTERS,
    FutureIn,
    Given,
    Id,
    LineIn,
    Money,
    Points,
    PointsIn,
    Sent,
    Time,
    smallest_units,
)
from app.api.operation import Call, Operation, Refusal, no_such
from app.sheets import Sheet
from models.rules.program import Program
from tasks.steps import pins, programs, read, wallets
from tasks.steps.activity import Wanted

CUSTOMER = {
    "id": "6940095564",
    "balance": 400,
    "pending": 0,
    "debt": 0,
    "tier": "gold",
    "tier_pinned": False,
    "spend": {"lifetime": "520.00", "calendar_year": "120.00", "rolling_year": "520.00", "currency": "EUR"},
    "orders_count": 4,
    "lots": [
        {
            "id": "award:450789469:place-order",
            "amount": 500,
            "remainder": 400,
            "earned_at": "2026-03-01T10:00:00+00:00",
            "expires_at": None,
        }
    ],
}


class Spend(Given):
    lifetime: Money
    calendar_year: Money
    rolling_year: Money
    currency: str = Field(description="The shop's")


class Lot(Given):
    id: str
    amount: Points
    remainder: Points
    earned_at: Time
    expires_at: Time | None


class Customer(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = CUSTOMER

    id: Id = Field(description="Asked for a merged customer: the one he is now (R33)")
    balance: Points = Field(description="Spendable now; the sum of the lots' remainders")
    pending: Points = Field(description="Earned, in its waiting period")
    debt: Points = Field(description="Owed under `carry_debt`; 0 otherwise")
    tier: str | None = Field(description="The id of the level; null: below the lowest")
    tier_pinned: bool = Field(description="Kept by hand: it does not move")
    spend: Spend
    orders_count: int
    lots: list[Lot] = Field(description="What the balance consists of")


class GrantRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"amount": 100, "reason": "Sorry for the delay"}

    amount: PointsIn
    reason: LineIn = Field(max_length=REASON_MAX_CHARACTERS, description=REASON)
    expires_at: FutureIn | None = None


class Grant(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "id": "7",
        "customer_id": "6940095564",
        "amount": 100,
        "reason": "Sorry for the delay",
        "expires_at": None,
        "balance": 500,
    }

    id: Id
    customer_id: Id
    amount: Points
    reason: str
    expires_at: Time | None
    balance: Points = Field(description="The customer's, with the grant in it")


class TierRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"pinned": "gold"}

    pinned: LineIn | None = Field(
        max_length=64, description="The id of a level; null lets the tier move again"
    )


def show(call: Call) -> Mapping[str, Any]:
    return read.customer(call.connection, call.shop_id, call.ids["customer_id"])


def history(call: Call) -> Mapping[str, Any] | Sheet:
    """The customer's activity; a merged customer's is his survivor's. Raises NotFound for one the shop does not have."""
    q: ActivityQuery = call.query
    customer_id = int(read.customer(call.connection, call.shop_id, call.ids["customer_id"])["id"])
    return answered(call, Wanted(customer_id=customer_id, kind=q.kind, since=q.since))


def grant(call: Call) -> Mapping[str, Any]:
    """The grant, with the balance after it. Opens the wallet of a customer who was not seen before."""
    body: GrantRequest = call.body
    program = program_of(call)
    made = wallets.grant(
        call.connection,
        call.shop_id,
        call.ids["customer_id"],
        amount=smallest_units(body.amount, "amount", program.scale),
        reason=body.reason,
        expires_at=body.expires_at,
    )
    return {**made, **{name: read.points(made[name], program) for name in ("amount", "balance")}}


def program_of(call: Call) -> Program:
    """The program in force, whose unit the caller counts in."""
    return programs.programs_of(call.connection, call.shop_id)[-1]


def pin(call: Call) -> Mapping[str, Any]:
    body: TierRequest = call.body
    pins.pin_tier(call.connection, call.shop_id, call.ids["customer_id"], level=body.pinned)
    return show(call)


OPERATIONS = (
    Operation(
        method="GET",
        path="/customers/{customer_id}",
        tag="customers",
        name="get_customer",
        summary="A customer's balance, lots, tier and spend",
        run=show,
        answer=Customer,
        refusals=(no_such("customer"),),
    ),
    Operation(
        method="GET",
        path="/customers/{customer_id}/activity",
        tag="customers",
        name="list_customer_activity",
        summary="What happened to a customer, newest first; with Accept: text/csv all of it at once",
        csv_example=CSV_EXAMPLE,
        run=history,
        query=ActivityQuery,
        answer=ActivityPage,
        refusals=(no_such("customer"), TOO_MANY_ROWS),
    ),
    Operation(
        method="POST",
        path="/customers/{customer_id}/grants",
        tag="customers",
        name="create_grant",
        summary="Give points; a customer who was not seen before gets a wallet",
        run=grant,
        body=GrantRequest,
        answer=Grant,
        status=201,
        writes=True,
        previews=True,
        links={
            "customer": ("get_customer", {"customer_id": "customer_id"}),
            "activity": ("list_customer_activity", {"customer_id": "customer_id"}),
            "another": ("create_grant", {"customer_id": "customer_id"}),
            "tier": ("put_customer_tier", {"customer_id": "customer_id"}),
        },
    ),
    Operation(
        method="PUT",
        path="/customers/{customer_id}/tier",
        tag="customers",
        name="put_customer_tier",
        summary="Pin a customer's tier, or let it move again (R26)",
        run=pin,
        body=TierRequest,
        answer=Customer,
        writes=True,
        previews=True,
        refusals=(
            no_such("customer"),
            Refusal(status=422, code="unknown_tier", when="the program has no such level"),
        ),
    ),
)
