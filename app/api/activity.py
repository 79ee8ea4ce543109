"""What happened (R39), newest first."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from typing import Annotated, Any, ClassVar

from pydantic import BeforeValidator, Field, WithJsonSchema

from app.api.fields import Given, Id, IdIn, Time, TimeIn
from app.api.operation import Call, Operation, Refusal
from app.api.paging import PageQuery, cursor_text
from app.sheets import Sheet
from models.errors import Refused
from tasks.steps import activity
from tasks.steps.activity import Wanted
from tasks.steps.words import WORDS

ENTRY = {
    "id": "1031",
    "kind": "points.reversed",
    "text": "20.00 of 100.00 EUR refunded on #1001 = 1/5; 1/5 of 500 = 100 points by place-order taken back; balance 500 -> 400",
    "customer_id": "6940095564",
    "order_id": "450789469",
    "cause": "refund:929361462",
    "target": "order:450789469:place-order",
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
        "rule": "place-order",
        "of": 500,
        "cap": 500,
        "order": "#1001",
        "refund_amount": "20.00",
        "order_total": "100.00",
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
    text: str = Field(description="What happened, as a sentence for people; its wording may change")
    customer_id: Id | None
    order_id: Id | None
    cause: str = Field(description="What brought it about, such as refund:929361462")
    target: str = Field(description="The earning rule, the redemption, or what else it acted on")
    at: Time = Field(description="The event's own time")
    booked_at: Time = Field(description="When it was booked")
    detail: dict[str, Any] = Field(
        description="Amounts, what they are a part of (`of`) and what was left of it (`cap`), balance before and after,"
        " ratio, reasons, rule or reward, order number and money, policy version; what does not apply is absent"
    )


class ActivityPage(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {"data": [ENTRY], "next_cursor": "YmVmb3JlOjEwMzE"}

    data: list[Entry]
    next_cursor: str | None = Field(
        description="Give it as `cursor` for the page after; null: this is the last"
    )


def read_kind(value: object) -> str:
    """A kind that there is: of a mistyped one nothing would ever have happened."""
    if not isinstance(value, str) or value not in WORDS:
        raise ValueError("must be one of " + ", ".join(WORDS))
    return value


KindIn = Annotated[str, BeforeValidator(read_kind), WithJsonSchema({"type": "string", "enum": list(WORDS)})]


class ActivityQuery(PageQuery):
    kind: KindIn | None = Field(None, description="Only entries of this kind")
    since: TimeIn | None = Field(None, description="Only entries booked at this time or later")


class ShopActivityQuery(ActivityQuery):
    order: IdIn | None = None
    customer: IdIn | None = None


COLUMNS = (
    "id", "booked_at", "at", "kind", "text", "customer_id", "order_id", "cause", "target",
)  # fmt: skip
DETAILS = (
    "order", "rule", "reward", "amount", "moved", "shortfall", "expired", "ratio", "of", "cap", "refund_amount",
    "order_total", "currency", "balance_before", "balance_after", "reasons", "policy_version", "reason", "by",
)  # fmt: skip
EXPORT_MAX_ROWS = 100_000  # one moment of the books is held while they are written: half a minute at most
TOO_MANY_ROWS = Refusal(
    status=422, code="too_many_rows", when=f"the CSV would have more than {EXPORT_MAX_ROWS} entries"
)
CSV_EXAMPLE = """\
id,booked_at,at,kind,text,customer_id,order_id,cause,target,order,rule,reward,amount,moved,...\r
1031,2026-03-05T09:30:02.114000Z,2026-03-05T09:30:00Z,points.reversed,20.00 of 100.00 EUR refunded ...\r
"""


def answered(call: Call, wanted: Wanted) -> Mapping[str, Any] | Sheet:
    """A page of it, or all of it as CSV."""
    q: ActivityQuery = call.query
    if call.wants_csv:
        if activity.is_more_than(call.connection, call.shop_id, wanted, EXPORT_MAX_ROWS):
            words = f"these are more than {EXPORT_MAX_ROWS} entries; narrow them by `since`, `kind` or customer, or use"
            raise Refused("too_many_rows", f"{words} `unwind activity --csv`", most=EXPORT_MAX_ROWS)
        return sheet(activity.everything(call.connection, call.shop_id, wanted))
    page = activity.listing(call.connection, call.shop_id, wanted, cursor=q.cursor, limit=q.limit)
    return {"data": list(page.rows), "next_cursor": cursor_text(page.cursor)}


def sheet(entries: Iterable[Mapping[str, Any]]) -> Sheet:
    """Entries as rows of a table, one column a particular."""
    rows = (
        [*(entry[name] for name in COLUMNS), *(entry["detail"].get(name) for name in DETAILS)]
        for entry in entries
    )
    return Sheet((*COLUMNS, *DETAILS), rows)


def of_shop(call: Call) -> Mapping[str, Any] | Sheet:
    q: ShopActivityQuery = call.query
    return answered(call, Wanted(customer_id=q.customer, order_id=q.order, kind=q.kind, since=q.since))


OPERATIONS = (
    Operation(
        method="GET",
        path="/activity",
        tag="activity",
        name="list_activity",
        summary="The shop's activity, newest first; with Accept: text/csv all of it at once",
        run=of_shop,
        query=ShopActivityQuery,
        answer=ActivityPage,
        csv_example=CSV_EXAMPLE,
        refusals=(TOO_MANY_ROWS,),
    ),
)
