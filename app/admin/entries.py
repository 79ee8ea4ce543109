"""Entries of the activity as lists show them: the name of the Action, and the page that it leads to (R39)."""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from app.admin.visit import Visit

NAMES: Mapping[str, str] = {
    "points.granted": "Points given",
    "points.approved": "Points earned",
    "points.reversed": "Points taken back",
    "points.redeemed": "Points redeemed",
    "points.expired": "Points expired",
    "redemption.returned": "Redeemed points given back",
    "redemption.cancelled": "Redemption cancelled",
    "redemption.reversed": "Redemption given back by hand",
    "redemption.not_cancelled": "Redemption not cancelled",
    "refund.recorded": "Refund recorded",
    "order.cancelled": "Order cancelled by hand",
    "order.refunded": "Order refunded by hand",
    "refund.undone": "Refund undone",
    "cancellation.undone": "Cancellation undone",
    "reversal.undone": "Giving back undone",
    "undo.asked": "Undo asked for",
    "undo.refused": "Undo not done",
    "reversals.locked": "Reversals locked",
    "reversals.unlocked": "Reversals allowed again",
    "grant.reason": "Reason of a grant",
    "tier.changed": "Tier changed",
    "tier.pinned": "Tier pinned",
    "tier.unpinned": "Tier no longer pinned",
    "code.reactivated": "Code given back",
    "code.not_reactivated": "Code not given back",
    "customer.merged": "Customers merged",
    "endpoint.paused": "Endpoint paused",
    "endpoint.enabled": "Endpoint enabled",
}
NOTHING: Mapping[str, str] = {  # where an event moved no points (R39)
    "points.reversed": "No points taken back",
    "redemption.returned": "No redeemed points given back",
}


def action(entry: Mapping[str, Any]) -> str:
    """The name of an entry's Action."""
    kind = str(entry["kind"])
    names = NOTHING if kind in NOTHING and entry["detail"].get("amount") == 0 else NAMES
    return names.get(kind, kind)


def leads_to(visit: Visit, entry: Mapping[str, Any], *, of_customer: bool = False) -> str | None:
    """Where the name of an entry's Action leads: to the redemption, the order, or else the customer.

    of_customer: it stands on the customer's own page, which it need not lead to
    """
    what, _, id = str(entry["target"]).partition(":")
    if what == "redemption" and id.isdigit():
        return visit.address("redemption", redemption_id=id)
    if entry["order_id"] is not None:
        return visit.address("order", order_id=entry["order_id"])
    if str(entry["kind"]).startswith("endpoint."):
        return visit.address("integrations")
    if entry["customer_id"] is not None and not of_customer:
        return visit.address("customer", customer_id=entry["customer_id"])
    return None
