"""What Shopify says of an order beside what is on record: missing, different, or the same. Pure."""

from __future__ import annotations

from collections.abc import Iterator, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from models.rules.facts import Fact, Refund, Snapshot, Transaction
from models.rules.order import OrderFacts
from tasks.steps.parse.graphql import number_of
from tasks.steps.parse.refunds import SETTLED

MISSING, DIFFERENT = "missing", "different"


@dataclass(frozen=True, slots=True, kw_only=True)
class Finding:
    """One order that was not as Shopify says. `what`: in words, without personal data. repaired: it is now."""

    order_id: int
    name: str
    kind: str
    what: str
    repaired: bool = False


def is_news(told: Mapping[str, Any], known: OrderFacts | None) -> bool:
    """Whether an order of a page (documents/orders.graphql) has to be read whole: something of it is not on record.

    Refunds never change under their id, and a transaction only in its status, so ids and statuses tell it all.
    """
    if known is None or known.placed is None or known.newest is None:
        return True
    if datetime.fromisoformat(told["updatedAt"]) > known.newest.updated_at:
        return True
    if any(int(refund["legacyResourceId"]) not in known.refunds for refund in told["refunds"]):
        return True
    return any(_status_of(known, number_of(t["id"])) != t["status"].lower() for t in _settled(told))


def _settled(told: Mapping[str, Any]) -> Iterator[Mapping[str, Any]]:
    """No webhook tells of a transaction before its status is final."""
    return (t for t in told["transactions"] if t["status"].lower() in SETTLED)


def _status_of(known: OrderFacts, id: int) -> str | None:
    found = known.transactions.get(id)
    return None if found is None else found.status


def compare(known: OrderFacts | None, read: Sequence[Fact], now: datetime) -> tuple[str, str] | None:
    """(missing or different, what) when the reading adds to what is on record; None when it says the same.

    Missing: the order, a refund or a transaction of it. Different: joined to the record the reading would change what
    is decided by; a younger `updated_at` alone is no difference.
    """
    if known is None or known.placed is None:
        return MISSING, "the order"
    lost = [f"refund {f.id}" for f in read if isinstance(f, Refund) and f.id not in known.refunds]
    lost += [
        f"transaction {f.id}"
        for f in read
        if isinstance(f, Transaction) and f.status in SETTLED and f.id not in known.transactions
    ]
    if lost:
        return MISSING, ", ".join(lost)
    joined = deepcopy(known)
    for fact in read:
        joined.add(fact, now)
    before, after = essence(known), essence(joined)
    names = [name for name, value in before.items() if value != after[name]]
    return (DIFFERENT, ", ".join(names)) if names else None


def essence(order: OrderFacts) -> dict[str, Any]:
    """What is decided by, by the name under which people know it. Without the times of observation."""
    assert order.newest is not None
    newest = order.newest
    return {
        "status": (newest.financial_status, order.paid_at is not None, order.voided_at is not None),
        "cancellation": order.cancelled_at is not None,
        "customer": order.customer_id,
        "totals": (newest.total_minor, newest.subtotal_minor, newest.outstanding_minor),
        "lines": (newest.lines, sorted(order.gone_at)),
        "codes": newest.codes,
        "refunds": {
            id: (replace(known.refund, created_at=newest.placed_at), tuple(known.conflicts))
            for id, known in order.refunds.items()
        },
        "transactions": {
            id: (t.kind, t.status, t.amount_minor, t.currency, t.refund_id)
            for id, t in order.transactions.items()
            if t.status in SETTLED
        },
    }


def is_before_us(known: OrderFacts | None, read: Sequence[Fact], since: datetime) -> bool:
    """An order of which nothing is on record, placed and paid before the store was added: it is nobody's points yet.

    Taken in, it would earn by today's program for what was bought before there was one (R17: the first version has no
    beginning), so a comparison leaves it alone unless it is asked for.
    """
    if known is not None:
        return False
    placed = any(isinstance(f, Snapshot) and f.placed_at < since for f in read)
    paid = any(
        isinstance(f, Transaction)
        and f.kind in ("sale", "capture")
        and f.status == "success"
        and f.at < since
        for f in read
    )
    return placed and paid
