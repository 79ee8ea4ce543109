"""Facts as JSON documents and back: what the order's row keeps of them. Times as ISO 8601, money as integers."""

from __future__ import annotations

import json
from collections.abc import Mapping
from datetime import datetime
from typing import Any

from models.rules.facts import (
    Adjustment,
    Dispute,
    Edit,
    ImportedAward,
    Line,
    Refund,
    ReturnedLine,
    Snapshot,
)
from models.rules.order import OrderFacts

Document = Mapping[str, Any]

IMPORTED_TIMES = ("at", "due_at", "expires_at")


dumps = json.JSONEncoder(
    separators=(",", ":"), ensure_ascii=False
).encode  # one encoder: `json.dumps` makes one a call


def order_document(order: OrderFacts) -> dict[str, Any]:
    """Everything of the facts that has no row of its own (refunds and transactions have)."""
    same = order.newest == order.placed
    return {
        "placed": _snapshot_out(order.placed),
        "newest": None if same else _snapshot_out(order.newest),
        "customer_id": order.named_id,
        "customer_seen_at": _time_out(order.customer_seen_at),
        "paid_at": _time_out(order.paid_at),
        "voided_at": _time_out(order.voided_at),
        "cancelled_at": _time_out(order.cancelled_at),
        "lines": [[id, at.isoformat()] for id, at in sorted(order.line_seen_at.items())],
        "gone": [[*key, at.isoformat()] for key, at in sorted(order.gone_at.items())],
        "edits": [_edit_out(edit) for _, edit in sorted(order.edits.items())],
        "disputes": [_dispute_out(dispute) for _, dispute in sorted(order.disputes.items())],
        **_not_of_all(order),
    }


def _not_of_all(order: OrderFacts) -> dict[str, Any]:
    """What merchants told us, and what lines are called: many orders have nothing of it, and no place for it."""
    found: dict[str, Any] = {}
    if order.line_names is None:
        found["line_names"] = None
    elif order.line_names:
        found["line_names"] = [[id, name] for id, name in sorted(order.line_names.items())]
    if order.cancellations:
        found["cancellations"] = [[id, at.isoformat()] for id, at in sorted(order.cancellations.items())]
    if order.undone:
        found["undone"] = sorted(order.undone)
    if order.imported:
        found["imported"] = [_imported_out(award) for _, award in sorted(order.imported.items())]
    return found


def order_facts(order_id: int, document: Document) -> OrderFacts:
    """The facts that a document holds; an empty one is an order of which only refunds are known."""
    if not document:
        return OrderFacts(order_id)
    placed, names = _snapshot_in(document["placed"]), document.get("line_names", ())
    return OrderFacts(
        order_id,
        placed=placed,
        newest=placed if document["newest"] is None else _snapshot_in(document["newest"]),
        named_id=document["customer_id"],
        customer_seen_at=_time_in(document["customer_seen_at"]),
        paid_at=_time_in(document["paid_at"]),
        voided_at=_time_in(document["voided_at"]),
        cancelled_at=_time_in(document["cancelled_at"]),
        line_seen_at={id: datetime.fromisoformat(at) for id, at in document["lines"]},
        line_names=None if names is None else dict(names),
        gone_at={(id, level): datetime.fromisoformat(at) for id, level, at in document["gone"]},
        edits={edit["id"]: _edit_in(edit) for edit in document["edits"]},
        disputes={dispute["id"]: _dispute_in(dispute) for dispute in document["disputes"]},
        cancellations={id: datetime.fromisoformat(at) for id, at in document.get("cancellations", ())},
        undone=set(document.get("undone", ())),
        imported={each["rule"]: _imported_in(each) for each in document.get("imported", ())},
    )


def refund_document(refund: Refund) -> dict[str, Any]:
    return {
        "created_at": refund.created_at.isoformat(),
        "lines": [[x.line_id, x.quantity, x.subtotal_minor, x.tax_minor] for x in refund.lines],
        "shipping_minor": refund.shipping_minor,
        "adjustments": [[x.amount_minor, x.tax_minor, x.shipping] for x in refund.adjustments],
        "transaction_ids": list(refund.transaction_ids),
    }


def refund_fact(id: int, order_id: int, document: Document) -> Refund:
    return Refund(
        id=id,
        order_id=order_id,
        created_at=datetime.fromisoformat(document["created_at"]),
        lines=tuple(
            ReturnedLine(line_id=x[0], quantity=x[1], subtotal_minor=x[2], tax_minor=x[3])
            for x in document["lines"]
        ),
        shipping_minor=document["shipping_minor"],
        adjustments=tuple(
            Adjustment(amount_minor=x[0], tax_minor=x[1], shipping=x[2]) for x in document["adjustments"]
        ),
        transaction_ids=tuple(document["transaction_ids"]),
    )


def _snapshot_out(snapshot: Snapshot | None) -> dict[str, Any] | None:
    if snapshot is None:
        return None
    out = {name: getattr(snapshot, name) for name in Snapshot.__slots__}
    for name in ("placed_at", "updated_at", "cancelled_at"):
        out[name] = _time_out(out[name])
    out["codes"] = list(snapshot.codes)
    out["lines"] = [
        [x.id, x.quantity, x.current_quantity, x.net_minor, x.tax_minor, [list(c) for c in x.code_discounts]]
        for x in snapshot.lines
    ]
    return out


def _snapshot_in(document: Document | None) -> Snapshot | None:
    if document is None:
        return None
    fields = dict(document)
    for name in ("placed_at", "updated_at", "cancelled_at"):
        fields[name] = _time_in(fields[name])
    fields["codes"] = tuple(document["codes"])
    fields["lines"] = tuple(
        Line(
            id=x[0],
            quantity=x[1],
            current_quantity=x[2],
            net_minor=x[3],
            tax_minor=x[4],
            code_discounts=tuple((code, minor) for code, minor in x[5]),
        )
        for x in document["lines"]
    )
    return Snapshot(**fields)


def _edit_out(edit: Edit) -> dict[str, Any]:
    return {
        "id": edit.id,
        "order_id": edit.order_id,
        "committed_at": edit.committed_at.isoformat(),
        "additions": [list(x) for x in edit.additions],
        "removals": [list(x) for x in edit.removals],
    }


def _edit_in(document: Document) -> Edit:
    return Edit(
        id=document["id"],
        order_id=document["order_id"],
        committed_at=datetime.fromisoformat(document["committed_at"]),
        additions=tuple((line, units) for line, units in document["additions"]),
        removals=tuple((line, units) for line, units in document["removals"]),
    )


def _dispute_out(dispute: Dispute) -> dict[str, Any]:
    out = {name: getattr(dispute, name) for name in Dispute.__slots__}
    return {**out, "at": dispute.at.isoformat()}


def _dispute_in(document: Document) -> Dispute:
    return Dispute(**{**document, "at": datetime.fromisoformat(document["at"])})


def _imported_out(award: ImportedAward) -> dict[str, Any]:
    out = {name: getattr(award, name) for name in ImportedAward.__slots__}
    return {**out, **{name: _time_out(out[name]) for name in IMPORTED_TIMES}}


def _imported_in(document: Document) -> ImportedAward:
    return ImportedAward(**{**document, **{name: _time_in(document[name]) for name in IMPORTED_TIMES}})


def _time_out(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def _time_in(text: str | None) -> datetime | None:
    return None if text is None else datetime.fromisoformat(text)
