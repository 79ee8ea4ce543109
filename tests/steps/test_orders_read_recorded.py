"""Every order and refund that a live Admin API was recorded to answer is translated and parsed.

The recordings asked for less than our document does: what they did not ask for is filled in neutrally, what they hold
is read as it came. Without recordings beside the checkout, an answer of our own in their shape is.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from models.rules.facts import Refund, Snapshot, Transaction
from tasks.steps.parse import READ_TOPIC, parse
from tasks.steps.parse.graphql import body_of

RECORDED = Path(__file__).parents[2].parent / "shared" / "fixtures" / "shopify_draft_proxy_graphql"
AT = "2026-05-08T02:34:17Z"
ORDER = "gid://shopify/Order/"
USEFUL = (
    "lineItems",
    "refunds",
    "transactions",
    "totalPriceSet",
    "currentTotalPriceSet",
    "displayFinancialStatus",
)
Node = dict[str, Any]


def orders(found: Any) -> Iterator[Node]:
    """Every node of an order in a recording, with more in it than its id."""
    if isinstance(found, dict):
        if str(found.get("id", "")).startswith(ORDER) and any(name in found for name in USEFUL):
            yield found
        for inner in found.values():
            yield from orders(inner)
    elif isinstance(found, list):
        for inner in found:
            yield from orders(inner)


OUR_OWN: Node = {
    "id": ORDER + "5300000000001",
    "displayFinancialStatus": "PARTIALLY_REFUNDED",
    "totalPriceSet": {"shopMoney": {"amount": "30.0", "currencyCode": "CAD"}},
    "lineItems": {
        "nodes": [{"id": "gid://shopify/LineItem/5300000000002", "quantity": 2, "currentQuantity": 1}]
    },
    "transactions": [
        {"id": "gid://shopify/OrderTransaction/5300000000003", "kind": "SALE", "status": "SUCCESS"}
    ],
    "refunds": [
        {
            "id": "gid://shopify/Refund/5300000000004",
            "refundLineItems": {
                "edges": [
                    {"node": {"quantity": 1, "lineItem": {"id": "gid://shopify/LineItem/5300000000002"}}}
                ]
            },
            "transactions": {"edges": [{"node": {"kind": "REFUND", "status": "PENDING"}}]},
        }
    ],
}


def answers() -> list[Any]:
    return [
        pytest.param(OUR_OWN, id="an answer of our own"),
        *recorded(),
    ]


def recorded() -> list[Any]:
    return [
        pytest.param(order, id=f"{path.stem}-{number}")
        for path in sorted(RECORDED.glob("*.json"))
        for number, order in enumerate(orders(json.loads(path.read_text())))
    ]


def bag(found: Node | None, currency: str) -> Node:
    shop = (found or {}).get("shopMoney") or {"amount": "0.0", "currencyCode": currency}
    return {"shopMoney": shop, "presentmentMoney": (found or {}).get("presentmentMoney") or shop}


def nodes(found: Any) -> list[Node]:
    if isinstance(found, list):
        return found
    if not isinstance(found, dict):
        return []
    return found["nodes"] if "nodes" in found else [edge["node"] for edge in found.get("edges", [])]


def connection(found: list[Node]) -> Node:
    return {"nodes": found, "pageInfo": {"hasNextPage": False, "endCursor": None}}


def currency_of(order: Node) -> str:
    text = json.dumps(order)
    at = text.find('"currencyCode": "')
    return text[at + 17 : at + 20] if at >= 0 else "USD"


def completed(order: Node) -> Node:
    """The recording with what our document asks for beside it."""
    currency = currency_of(order)
    number = order["id"].removeprefix(ORDER).partition("?")[0]
    neutral: Node = {
        "legacyResourceId": number,
        "name": f"#{number}",
        "createdAt": AT,
        "processedAt": AT,
        "updatedAt": AT,
        "cancelledAt": None,
        "displayFinancialStatus": None,
        "test": False,
        "taxesIncluded": False,
        "currencyCode": currency,
        "presentmentCurrencyCode": currency,
        "customer": None,
    }
    told = {**neutral, **{name: value for name, value in order.items() if name in neutral}}
    total = order.get("totalPriceSet") or order.get("currentTotalPriceSet")
    return {
        **told,
        "totalPriceSet": bag(total, currency),
        "subtotalPriceSet": bag(order.get("subtotalPriceSet"), currency),
        "totalOutstandingSet": bag(order.get("totalOutstandingSet"), currency),
        "discountApplications": connection([]),
        "lineItems": connection(
            [line(each, n, currency) for n, each in enumerate(nodes(order.get("lineItems")), 1)]
        ),
        "refunds": [refund(each, n, currency) for n, each in enumerate(nodes(order.get("refunds")), 1)],
        "transactions": [
            transaction(each, n, currency) for n, each in enumerate(nodes(order.get("transactions")), 1)
        ],
    }


def line(found: Node, n: int, currency: str) -> Node:
    units = found.get("quantity", 1)
    return {
        "id": found.get("id", f"gid://shopify/LineItem/{n}"),
        "quantity": units,
        "currentQuantity": found.get("currentQuantity", units),
        "originalUnitPriceSet": bag(found.get("originalUnitPriceSet"), currency),
        "taxLines": [],
        "discountAllocations": [],
    }


def refund(found: Node, n: int, currency: str) -> Node:
    id = found.get("id", f"gid://shopify/Refund/{n}")
    lines = [
        {
            "quantity": each.get("quantity", 1),
            "subtotalSet": bag(each.get("subtotalSet"), currency),
            "totalTaxSet": bag(each.get("totalTaxSet"), currency),
            "lineItem": {"id": (each.get("lineItem") or {}).get("id", "gid://shopify/LineItem/1")},
        }
        for each in nodes(found.get("refundLineItems"))
    ]
    return {
        "legacyResourceId": id.rpartition("/")[2],
        "createdAt": found.get("createdAt", AT),
        "processedAt": found.get("processedAt") or AT,
        "refundLineItems": connection(lines),
        "refundShippingLines": connection([]),
        "orderAdjustments": connection([]),
        "transactions": connection(
            [
                transaction(each, 1000 * n + m, currency)
                for m, each in enumerate(nodes(found.get("transactions")))
            ]
        ),
    }


def transaction(found: Node, n: int, currency: str) -> Node:
    return {
        "id": found.get("id", f"gid://shopify/OrderTransaction/{n}"),
        "kind": found.get("kind", "SALE"),
        "status": found.get("status", "SUCCESS"),
        "createdAt": found.get("createdAt", AT),
        "processedAt": found.get("processedAt") or AT,
        "amountSet": bag(found.get("amountSet"), currency),
    }


@pytest.mark.parametrize("order", answers())
def test_a_recorded_order_is_understood(order: Node) -> None:
    facts = parse(READ_TOPIC, body_of(completed(order)))
    snapshot = facts[0]
    assert isinstance(snapshot, Snapshot)
    assert len(snapshot.lines) == len(nodes(order.get("lineItems")))
    assert len([fact for fact in facts if isinstance(fact, Refund)]) == len(nodes(order.get("refunds")))
    told = {fact.kind for fact in facts if isinstance(fact, Transaction)}
    assert told >= {t["kind"].lower() for t in nodes(order.get("transactions")) if "kind" in t}
    status = order.get("displayFinancialStatus")
    assert snapshot.financial_status == (status or "PENDING").lower()
