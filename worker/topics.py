"""Which named task a topic rings, and which topics something is done for."""

from __future__ import annotations

ANY_EVENTS = "events.process"  # every process task works off all of a shop's events; the name is for the eye

TASK_OF_TOPIC = {
    "orders/create": "orders.process",
    "orders/paid": "orders.process",
    "orders/updated": "orders.process",
    "orders/edited": "orders.process",
    "orders/cancelled": "orders.process",
    "refunds/create": "refunds.process",
    "order_transactions/create": "transactions.process",
    "disputes/create": ANY_EVENTS,
    "disputes/update": ANY_EVENTS,
    "customers/merge": ANY_EVENTS,
    "customers/update": ANY_EVENTS,
    "app/uninstalled": ANY_EVENTS,
    "app/scopes_update": ANY_EVENTS,
    "customers/data_request": ANY_EVENTS,
    "customers/redact": ANY_EVENTS,
    "shop/redact": ANY_EVENTS,
}
KEPT = "returns/"  # kept, nothing is done for them


def task_for(topic: str) -> str:
    """The task's name; topics that nothing is done for are worked off (kept, parked) by `events.process`."""
    return TASK_OF_TOPIC.get(topic, ANY_EVENTS)


def label_of(topic: str) -> str:
    """The topic as a metric's label: known ones by name, all others as one, so that a sender can not make up series."""
    if topic in TASK_OF_TOPIC:
        return topic
    return "returns/*" if topic.startswith(KEPT) else "other"
