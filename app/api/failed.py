"""Events of the shop that could not be processed, and another try for them."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any, ClassVar

from pydantic import Field

from app.api.fields import Given, Id, Time
from app.api.operation import Call, Operation, Refusal, no_such
from app.api.paging import PageQuery, cursor_text
from tasks.steps import failed
from tasks.steps.tokens import Caller
from worker.doorbell import Ring

EVENT = {
    "id": "88",
    "shop": "your-store.myshopify.com",
    "topic": "refunds/create",
    "webhook_id": "5f1c7a2e-7d1b-4d43-9b32-0a6d1f0f9a11",
    "order_id": None,
    "state": "failed",
    "attempts": 8,
    "reason": {"code": "unparseable", "message": "refund_line_items: is missing"},
    "received_at": "2026-03-05T09:30:01Z",
}


class Reason(Given):
    code: str | None
    message: str | None


class Event(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {**EVENT, "state": "pending", "attempts": 0, "reason": None}

    id: Id
    shop: str
    topic: str
    webhook_id: str | None
    order_id: Id | None
    state: str = Field(description="failed, or pending once it is tried again")
    attempts: int
    reason: Reason | None
    received_at: Time


class FailedPage(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {"data": [EVENT], "next_cursor": None}

    data: list[Event]
    next_cursor: str | None


def list_them(call: Call) -> Mapping[str, Any]:
    q: PageQuery = call.query
    page = failed.listing(call.connection, call.caller.domain, cursor=q.cursor, limit=q.limit)
    return {"data": list(page.rows), "next_cursor": cursor_text(page.cursor)}


def retry(call: Call) -> Mapping[str, Any]:
    return failed.retry(call.connection, call.caller.domain, call.ids["event_id"])


def waiting(caller: Caller, event: Mapping[str, Any]) -> Ring:
    return Ring(caller.domain, event["topic"], int(event["id"]))


OPERATIONS = (
    Operation(
        method="GET",
        path="/failed",
        tag="failed",
        name="list_failed",
        summary="Events that could not be processed, newest first, with the reason",
        run=list_them,
        query=PageQuery,
        answer=FailedPage,
    ),
    Operation(
        method="POST",
        path="/failed/{event_id}/retry",
        tag="failed",
        name="retry_failed",
        summary="Try an event again, as if it had just come",
        run=retry,
        answer=Event,
        writes=True,
        ring=waiting,
        refusals=(
            no_such("event"),
            Refusal(status=409, code="not_failed", when="the event is not parked (any more)"),
            Refusal(status=409, code="body_erased", when="what it said is not kept any more"),
        ),
    ),
)
