"""What the program owes, and what it let go."""

from __future__ import annotations

import re
from collections.abc import Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from app.api.fields import Given, Id, Points, Sent, Time
from app.api.operation import Call, Operation
from app.api.program import Unit
from app.sheets import Sheet
from tasks.steps import report

REFUNDS_MAX = 1000


def read_count(value: object) -> int:
    if not re.fullmatch(r"[1-9][0-9]{0,3}", str(value)) or int(str(value)) > REFUNDS_MAX:
        raise ValueError(f"must be a whole number between 1 and {REFUNDS_MAX}")
    return int(str(value))


COUNT_SCHEMA = {
    "type": "integer",
    "minimum": 1,
    "maximum": REFUNDS_MAX,
    "default": report.REFUNDS_AT_LEAST,
    "description": "From how many refunds on a customer is listed",
}
CountIn = Annotated[int, BeforeValidator(read_count), WithJsonSchema(COUNT_SCHEMA)]
Month = Annotated[str, Field(pattern="^[0-9]{4,6}-[0-9]{2}$", description="In the program's time zone")]


class LiabilityQuery(Sent):
    refunds_at_least: CountIn = report.REFUNDS_AT_LEAST


class MonthAmount(Given):
    month: Month
    amount: Points


class ExpiryMonth(Given):
    month: Month | None = Field(
        description="Of the last moment at which it can be spent; null: it never expires"
    )
    amount: Points


class ForgivenMonth(Given):
    month: Month
    claims: Points = Field(description="Taken back, but not there to take (R7)")
    spending: Points = Field(description="Spent, and left uncovered by a fact that came late (R7)")


class Counted(Given):
    count: int
    amount: Points


class Refunder(Given):
    customer_id: Id
    refunds: int
    orders: int
    forgiven: Points


class Refunders(Given):
    refunds_at_least: int
    customers: list[Refunder] = Field(description=f"Most forgiven first, {report.CUSTOMERS_MAX} at most")
    more: bool


class Liability(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "at": "2026-03-31T12:00:00+00:00",
        "unit": {"kind": "points", "scale": 0},
        "time_zone": "UTC",
        "balance": 1400,
        "pending": 100,
        "debt": 0,
        "outstanding": [{"month": "2026-12", "amount": 900}, {"month": None, "amount": 500}],
        "pending_due": [{"month": "2026-04", "amount": 100}],
        "forgiven": [{"month": "2026-03", "claims": 80, "spending": 0}],
        "expired_on_return": [{"month": "2026-03", "amount": 20}],
        "unused_redemptions": {"count": 2, "amount": 1000},
        "untracked_redemptions": {"count": 0, "amount": 0},
        "repeated_refunders": {
            "refunds_at_least": 3,
            "customers": [{"customer_id": "6940095564", "refunds": 4, "orders": 3, "forgiven": 80}],
            "more": False,
        },
    }

    at: Time = Field(description="All numbers are of this moment")
    unit: Unit
    time_zone: str
    balance: Points = Field(description="Spendable, of all customers")
    pending: Points = Field(description="Earned, in its waiting period")
    debt: Points = Field(description="Owed by customers, under `carry_debt`")
    outstanding: list[ExpiryMonth] = Field(description="The balance, by the month it expires in; sums to it")
    pending_due: list[MonthAmount] = Field(description="What is pending, by the month it can be spent from")
    forgiven: list[ForgivenMonth] = Field(description="What was let go, by the month of its own time")
    expired_on_return: list[MonthAmount] = Field(description="Given back, but expired by then (R19)")
    unused_redemptions: Counted = Field(description="With a code that no order used, or that came back")
    untracked_redemptions: Counted = Field(description="Without a code: nobody tells whether they were used")
    repeated_refunders: Refunders


def liability(call: Call) -> Mapping[str, Any] | Sheet:
    found = report.liability(call.connection, call.shop_id, refunds_at_least=call.query.refunds_at_least)
    return Sheet(report.COLUMNS, report.lines(found)) if call.wants_csv else found


OPERATIONS = (
    Operation(
        method="GET",
        path="/reports/liability",
        tag="reports",
        name="get_liability",
        summary="What is outstanding, pending, owed, forgiven and expired, at one moment; CSV with Accept: text/csv",
        run=liability,
        query=LiabilityQuery,
        answer=Liability,
        csv_example="section,key,measure,value\r\noutstanding,2026-12,amount,900\r\n",
    ),
)
