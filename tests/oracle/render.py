"""Facts back to the webhook bodies that would have told them (REST shape of 2026-07), so that the parser can be asked too."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import datetime
from typing import Any

from models.rules.facts import Adjustment, Dispute, Edit, Fact, Line, Refund, Snapshot, Transaction
from tests.oracle.claims import decimals
from tests.oracle.worlds import Delivery

Node = dict[str, Any]


def render(delivery: Delivery, *, currency: str = "USD") -> tuple[str, bytes]:
    """(topic, body). `currency`: the shop's, for a refund that came alone."""
    first = delivery.facts[0]
    if isinstance(first, Snapshot):
        node = order_node(first, delivery.facts[1:])
    elif isinstance(first, Refund):
        node = refund_node(first, [t for t in delivery.facts if isinstance(t, Transaction)], currency)
    elif isinstance(first, Transaction):
        node = transaction_node(first, currency)
    elif isinstance(first, Edit):
        node = edit_node(first)
    else:
        node = dispute_node(first)
    return delivery.topic, json.dumps(node).encode()


def amount(minor: int, currency: str) -> str:
    places = decimals(currency)
    sign, digits = "-" if minor < 0 else "", str(abs(minor)).rjust(places + 1, "0")
    return sign + (f"{digits[:-places]}.{digits[-places:]}" if places else digits)


def both(minor: int, currency: str, shown: int | None = None, shown_in: str | None = None) -> Node:
    """An amount set."""
    shown, shown_in = (minor if shown is None else shown), shown_in or currency
    return {
        "shop_money": {"amount": amount(minor, currency), "currency_code": currency},
        "presentment_money": {"amount": amount(shown, shown_in), "currency_code": shown_in},
    }


def when(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()


def order_node(s: Snapshot, refunds: Sequence[Fact] = ()) -> Node:
    """With refunds and their transactions, the order carries them inside, as Shopify does."""
    codes = list(s.codes)
    tax = sum(line.tax_minor for line in s.lines)
    transactions = [t for t in refunds if isinstance(t, Transaction)]
    inside = [
        refund_node(r, [t for t in transactions if t.refund_id == r.id], s.currency)
        for r in refunds
        if isinstance(r, Refund)
    ]
    applications = [
        {
            "type": "discount_code",
            "code": c.upper(),
            "target_type": "line_item",
            "target_selection": "all",
            "allocation_method": "across",
            "value_type": "fixed_amount",
            "value": "1.0",
        }
        for c in codes
    ]
    applications.append(
        {
            "type": "automatic",
            "title": "Sale",
            "target_type": "line_item",
            "target_selection": "all",
            "allocation_method": "across",
            "value_type": "fixed_amount",
            "value": "1.0",
        }
    )
    items = [line_node(line, s, codes) for line in s.lines]
    return {
        "id": s.order_id,
        "admin_graphql_api_id": f"gid://shopify/Order/{s.order_id}",
        "name": s.name,
        "order_number": s.order_id % 10000,
        "created_at": when(s.placed_at),
        "processed_at": when(s.placed_at),
        "updated_at": when(s.updated_at),
        "cancelled_at": when(s.cancelled_at),
        "cancel_reason": "customer" if s.cancelled_at else None,
        "closed_at": None,
        "confirmed": True,
        "test": s.test,
        "taxes_included": s.taxes_included,
        "currency": s.currency,
        "presentment_currency": s.presentment_currency,
        "financial_status": s.financial_status,
        "fulfillment_status": None,
        "total_price": amount(s.total_minor, s.currency),
        "total_price_set": both(s.total_minor, s.currency, s.presentment_total_minor, s.presentment_currency),
        "subtotal_price": amount(s.subtotal_minor + (tax if s.taxes_included else 0), s.currency),
        "total_tax": amount(tax, s.currency),
        "total_outstanding": None if s.outstanding_minor is None else amount(s.outstanding_minor, s.currency),
        "customer": None
        if s.customer_id is None
        else {"id": s.customer_id, "admin_graphql_api_id": f"gid://shopify/Customer/{s.customer_id}"},
        "discount_codes": [{"code": c.upper(), "amount": "1.00", "type": "fixed_amount"} for c in codes],
        "discount_applications": applications,
        "line_items": items,
        "refunds": inside,
        "shipping_lines": [],
        "source_name": "web",
        "payment_gateway_names": ["bogus"],
        "note_attributes": [],
        "tags": "",
    }


def line_node(line: Line, s: Snapshot, codes: Sequence[str]) -> Node:
    """A price whose units, less every allocation, make the net; odd cents go to an automatic discount."""
    shares = dict(line.code_discounts)
    gross = line.net_minor + sum(shares.values())
    price = -(-gross // line.quantity)
    automatic = price * line.quantity - gross
    allocations = [(codes.index(c), share) for c, share in shares.items()] + (
        [(len(codes), automatic)] if automatic else []
    )
    return {
        "id": line.id,
        "admin_graphql_api_id": f"gid://shopify/LineItem/{line.id}",
        "title": "Thing",
        "name": line.name or "Thing",
        "sku": "THING",
        "quantity": line.quantity,
        "current_quantity": line.current_quantity,
        "fulfillable_quantity": line.current_quantity,
        "price": amount(price, s.currency),
        "price_set": both(price, s.currency),
        "gift_card": False,
        "taxable": True,
        "requires_shipping": True,
        "total_discount": "0.00",
        "tax_lines": [
            {
                "title": "Tax",
                "rate": 0.19,
                "price": amount(line.tax_minor, s.currency),
                "price_set": both(line.tax_minor, s.currency),
            }
        ]
        if line.tax_minor
        else [],
        "discount_allocations": [
            {
                "discount_application_index": i,
                "amount": amount(share, s.currency),
                "amount_set": both(share, s.currency),
            }
            for i, share in allocations
        ],
    }


def refund_node(r: Refund, transactions: Sequence[Transaction], currency: str) -> Node:
    shipping = [
        {
            "id": r.id * 10 + 1,
            "shipping_line_id": r.id * 10 + 2,
            "subtotal_amount_set": both(r.shipping_minor, currency),
            "shipping_line": {
                "id": r.id * 10 + 2,
                "price": amount(r.shipping_minor, currency),
                "tax_lines": [],
            },
        }
    ]
    return {
        "id": r.id,
        "admin_graphql_api_id": f"gid://shopify/Refund/{r.id}",
        "order_id": r.order_id,
        "created_at": when(r.created_at),
        "processed_at": when(r.created_at),
        "note": None,
        "user_id": None,
        "restock": bool(r.lines),
        "duties": [],
        "return": None,
        "total_duties_set": both(0, currency),
        "refund_shipping_lines": shipping if r.shipping_minor else [],
        "order_adjustments": [adjustment_node(a, r, n, currency) for n, a in enumerate(r.adjustments)],
        "refund_line_items": [
            {
                "id": r.id * 100 + n,
                "line_item_id": ln.line_id,
                "quantity": ln.quantity,
                "restock_type": "return",
                "subtotal": float(amount(ln.subtotal_minor, currency)),
                "total_tax": float(amount(ln.tax_minor, currency)),
                "subtotal_set": both(ln.subtotal_minor, currency),
                "total_tax_set": both(ln.tax_minor, currency),
                "line_item": {"id": ln.line_id, "quantity": ln.quantity + 1},
            }
            for n, ln in enumerate(r.lines)
        ],
        "transactions": [transaction_node(t, currency) for t in transactions],
    }


def adjustment_node(a: Adjustment, r: Refund, n: int, currency: str) -> Node:
    kind = "shipping_refund" if a.shipping else "refund_discrepancy"
    return {
        "id": r.id * 10 + 5 + n,
        "order_id": r.order_id,
        "refund_id": r.id,
        "kind": kind,
        "reason": kind.replace("_", " ").capitalize(),
        "amount": amount(a.amount_minor, currency),
        "tax_amount": amount(a.tax_minor, currency),
        "amount_set": both(a.amount_minor, currency),
        "tax_amount_set": both(a.tax_minor, currency),
    }


def transaction_node(t: Transaction, currency: str) -> Node:
    node = {
        "id": t.id,
        "admin_graphql_api_id": f"gid://shopify/OrderTransaction/{t.id}",
        "order_id": t.order_id,
        "parent_id": None,
        "kind": t.kind,
        "status": t.status,
        "gateway": "bogus",
        "amount": amount(t.amount_minor, t.currency),
        "currency": t.currency,
        "created_at": when(t.at),
        "processed_at": when(t.at),
        "test": False,
        "receipt": {},
        "error_code": None,
    }
    if t.shop_amount_minor is not None:
        node["amount_set"] = both(t.shop_amount_minor, currency, t.amount_minor, t.currency)
    return node


def edit_node(e: Edit) -> Node:
    changes = {
        "additions": [{"id": id, "delta": n} for id, n in e.additions],
        "removals": [{"id": id, "delta": n} for id, n in e.removals],
    }
    return {
        "order_edit": {
            "id": e.id,
            "order_id": e.order_id,
            "committed_at": when(e.committed_at),
            "app_id": None,
            "notify_customer": False,
            "staff_note": "",
            "user_id": None,
            "line_items": changes,
        }
    }


def dispute_node(d: Dispute) -> Node:
    return {
        "id": d.id,
        "order_id": d.order_id,
        "type": "chargeback",
        "amount": amount(d.amount_minor, d.currency),
        "currency": d.currency,
        "reason": "fraudulent",
        "network_reason_code": "4837",
        "status": d.status,
        "initiated_at": when(d.at),
        "evidence_due_by": None,
        "evidence_sent_on": None,
        "finalized_on": when(d.at),
    }
