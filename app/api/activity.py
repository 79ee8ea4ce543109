"""What happened (R39), newest first."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from app.api.fields import Given, Id, IdIn, LineIn, Time
from app.api.operation import Call, Operation
from app.api.paging import PageQuery, cursor_text
from tasks.steps import activity
from tasks.steps.activity import Page

ENTRY = {
    "id": "1031",
    "kind": "points.reversed",
    "customer_id": "6940095564",
    "order_id": "450789469",
    "cause": "refund:929361462",
    "target": "place-order",
    "at": "2026-03-05T09:30:00Z",
    "booked_at": "2026-03-05T09:30:02.114000Z",
    "detail": {
        "amount": 100,
        "moved": 100,
        "shortfall": 0,
        "pending": False,
        "ratio": "1/5",
        "reasons": [],
        "policy_version": 1,
        "order": "#1001",
        "refund_amount": "20.00",
        "currency": "EUR",
        "balance_before": 500,
        "balance_after": 400,
        "booked_by": "inbox:5120",
    },
}


class Entry(Given):
    id: Id
    kind: str = Field(
        description="What kind of event it was, such as points.reversed, redemption.returned, tier.changed"
    )
    customer_id: Id | None
    order_id: Id | None
    cause: str = Field(description="What brought it about, such as refund:929361462")
    target: str = Field(description="The earning rule, the redemption, or what else it acted on")
    at: Time = Field(description="The event's own time")
    booked_at: Time = Field(description="When it was booked")
    detail: dict[str, Any] = Field(
        description="Amounts, balance before and after, ratio, reasons, policy version"
    )


class ActivityPage(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {"data": [ENTRY], "next_cursor": "YmVmb3JlOjEwMzE"}

    data: list[Entry]
    next_cursor: str | None = Field(
        description="Give it as `cursor` for the page after; null: this is the last"
    )


class ActivityQuery(PageQuery):
    kind: LineIn | None = Field(None, max_length=64, description="Only entries of this kind")


class ShopActivityQuery(ActivityQuery):
    order: IdIn | None = None
    customer: IdIn | None = None


def shaped(page: Page) -> Mapping[str, Any]:
    return {"data": list(page.rows), "next_cursor": cursor_text(page.cursor)}


def of_shop(call: Call) -> Mapping[str, Any]:
    q: ShopActivityQuery = call.query
    page = activity.listing(
        call.connection,
        call.shop_id,
        customer_id=q.customer,
        order_id=q.order,
        kind=q.kind,
        cursor=q.cursor,
        limit=q.limit,
    )
    return shaped(page)


OPERATIONS = (
    Operation(
        method="GET",
        path="/activity",
        tag="activity",
        name="list_activity",
        summary="The shop's activity, newest first",
        run=of_shop,
        query=ShopActivityQuery,
        answer=ActivityPage,
    ),
)
