"""Orders: found by number, state or flag; and one of them with everything that happened to it, in words."""

from __future__ import annotations

from flask import Response
from werkzeug.exceptions import BadRequest

from app.admin import order_acts
from app.admin.filters import spoken
from app.admin.visit import Page, Visit
from app.api.paging import cursor_text
from tasks.steps import listings
from tasks.steps.story import story

FLAGS = {  # of a list's row; one order's page has the whole sentence
    "CANCELLED_PAID_WAITING": "Cancelled, not refunded",
    "VOIDED_STILL_OWED": "Voided, still owed",
    "REFUNDED_TWICE": "Refunded twice",
    "REFUND_CONFLICT": "One refund, two contents",
    "CODE_OF_CANCELLED": "Code of a cancelled redemption",
    "ORDER_UNKNOWN": "Order not told yet",
    "NO_CUSTOMER": "No customer",
    "TEST_ORDER_IGNORED": "Test order",
    "PLACED_BEFORE_INSTALL": "From before the app",
}
TITLES = {  # of what took an order apart, by its kind
    "refund": "Refund",
    "dispute": "Chargeback lost",
    "edit": "Taken off by an edit",
    "void": "Payment voided",
    "cancel": "Order cancelled",
    "cancellation": "Order cancelled",
    "reversal": "Redemption given back by hand",
}


def show(visit: Visit) -> Response:
    """The list; a state or a flag that there is none of is a mistyped address."""
    query = visit.query
    if query.get("status", "open") not in listings.ORDER_STATUSES:
        raise BadRequest
    if query.get("flag", "NO_CUSTOMER") not in FLAGS:
        raise BadRequest
    found = visit.read(
        listings.orders,
        search=query.get("search"),
        status=query.get("status"),
        flag=query.get("flag"),
        cursor=visit.cursor,
    )
    return visit.page(
        "orders.html",
        rows=found.rows,
        cursor=cursor_text(found.cursor),
        statuses=[("", "Any"), *((status, spoken(status)) for status in listings.ORDER_STATUSES)],
        flags=FLAGS,
        quiet=listings.QUIET_FLAGS,
        notes=[("", "Any"), *FLAGS.items()],
    )


def one(visit: Visit) -> Response:
    """One order; `unknown` while only its refunds have been told (R28)."""
    order = visit.read(story, visit.ids["order_id"])
    return visit.page("order.html", order=order, titles=TITLES, done_words=order_acts.DONE)


PAGES = (
    Page(path="/orders", name="orders", view=show),
    Page(path="/orders/<order_id>", name="order", view=one),
    *order_acts.PAGES,
)
