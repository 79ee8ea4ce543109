"""An order as the Admin API tells it (documents/order.graphql), in the words of the webhooks: the same parser reads both.

What a webhook and a reading say of the same moment gives the same facts. Enums become REST's words, ids numbers, and
money keeps both sides. What the facts do not need is not carried, so the body holds nothing personal but ids.

    {"order": {... as in orders/updated ...}, "transactions": [... those that belong to no refund ...]}
"""

from __future__ import annotations

import json
import re
from collections.abc import Iterable, Mapping
from typing import Any

from models.errors import Unparseable
from models.rules.facts import Fact, Snapshot
from tasks.steps.parse.body import Node
from tasks.steps.parse.fields import currency_in, each_in
from tasks.steps.parse.orders import parse_order
from tasks.steps.parse.refunds import read_transaction

GID = re.compile(r"gid://shopify/[A-Za-z]+/([0-9]{1,19})(?:\?.*)?")
CODE_APPLICATION = "DiscountCodeApplication"


def parse_read(node: Node, shop_currency: str) -> list[Fact]:
    """Topic `orders/read`: the order's facts, then the transactions that stand in no refund."""
    order = node.get("order")
    if not isinstance(order, dict):
        raise Unparseable("order", "is missing")
    try:
        facts = parse_order(order, shop_currency)
    except Unparseable as error:
        raise Unparseable(f"order.{error.field}", error.reason) from None
    snapshot = facts[0]
    assert isinstance(snapshot, Snapshot)
    shown = currency_in(order, "presentment_currency", snapshot.currency)
    read = lambda told: read_transaction(told, shown, order_id=snapshot.order_id)  # noqa: E731
    return [*facts, *each_in(node, "transactions", read)]


def body_of(order: Mapping[str, Any]) -> bytes:
    """The body to keep: the same order at the same moment gives the same bytes, whoever reads it."""
    told = rest_of(order)
    return json.dumps(told, ensure_ascii=False, separators=(",", ":"), sort_keys=True).encode()


def rest_of(order: Mapping[str, Any]) -> Node:
    """The node of `order`, with every connection complete, in REST's shape. Raises Unparseable for another shape."""
    try:
        return _rest(order)
    except (KeyError, TypeError, AttributeError) as error:
        raise Unparseable("order", f"is not as the document asks ({type(error).__name__}: {error})") from None


def number_of(gid: str) -> int:
    """`gid://shopify/Order/1` -> 1. Raises Unparseable."""
    match = GID.fullmatch(gid)
    if match is None:
        raise Unparseable("id", "is not an id of the Admin API")
    return int(match[1])


def gid_of(kind: str, number: int) -> str:
    return f"gid://shopify/{kind}/{number}"


def _rest(order: Mapping[str, Any]) -> Node:
    id = int(order["legacyResourceId"])
    applications = sorted(order["discountApplications"]["nodes"], key=lambda each: each["index"])
    place = {each["index"]: at for at, each in enumerate(applications)}
    refunds = [_refund(refund, id) for refund in order["refunds"]]
    inside = {told["id"] for refund in refunds for told in refund["transactions"]}
    alone = [_transaction(told, id) for told in order["transactions"]]
    return {
        "order": {
            **_state(order, id),
            "discount_applications": [_application(each) for each in applications],
            "line_items": [_line(line, place) for line in order["lineItems"]["nodes"]],
            "refunds": sorted(refunds, key=lambda refund: refund["id"]),
        },
        "transactions": sorted((t for t in alone if t["id"] not in inside), key=lambda t: t["id"]),
    }


def _state(order: Mapping[str, Any], id: int) -> Node:
    customer, status = order["customer"], order["displayFinancialStatus"]
    return {
        "id": id,
        "name": order["name"],
        "created_at": order["createdAt"],
        "processed_at": order["processedAt"],
        "updated_at": order["updatedAt"],
        "cancelled_at": order["cancelledAt"],
        "financial_status": None if status is None else status.lower(),
        "test": order["test"],
        "taxes_included": order["taxesIncluded"],
        "currency": order["currencyCode"],
        "presentment_currency": order["presentmentCurrencyCode"],
        "total_price_set": _money(order["totalPriceSet"]),
        "subtotal_price_set": _money(order["subtotalPriceSet"]),
        "total_outstanding": order["totalOutstandingSet"]["shopMoney"]["amount"],
        "customer": None if customer is None else {"id": number_of(customer["id"])},
    }


def _money(bag: Mapping[str, Any] | None) -> Node | None:
    """A MoneyBag as an amount set, with the sides that were asked for."""
    if bag is None:
        return None
    sides = {"shop_money": bag["shopMoney"], "presentment_money": bag.get("presentmentMoney")}
    return {
        name: {"amount": side["amount"], "currency_code": side["currencyCode"]}
        for name, side in sides.items()
        if side is not None
    }


def _application(each: Mapping[str, Any]) -> Node:
    is_code = each["__typename"] == CODE_APPLICATION
    told = {
        "type": "discount_code" if is_code else "other",
        "target_type": each["targetType"].lower(),
    }
    return {**told, "code": each["code"]} if is_code else told


def _line(line: Mapping[str, Any], place: Mapping[int, int]) -> Node:
    return {
        "id": number_of(line["id"]),
        "name": line.get("name"),
        "quantity": line["quantity"],
        "current_quantity": line["currentQuantity"],
        "price_set": _money(line["originalUnitPriceSet"]),
        "tax_lines": [{"price_set": _money(tax["priceSet"])} for tax in line["taxLines"]],
        "discount_allocations": [
            {
                "amount_set": _money(each["allocatedAmountSet"]),
                "discount_application_index": place[each["discountApplication"]["index"]],
            }
            for each in line["discountAllocations"]
        ],
    }


def _refund(refund: Mapping[str, Any], order_id: int) -> Node:
    return {
        "id": int(refund["legacyResourceId"]),
        "order_id": order_id,
        "created_at": refund["createdAt"],
        "processed_at": refund["processedAt"],
        "refund_line_items": [_returned(line) for line in _nodes(refund, "refundLineItems")],
        "refund_shipping_lines": [_shipping(line) for line in _nodes(refund, "refundShippingLines")],
        "order_adjustments": [_adjustment(each) for each in _nodes(refund, "orderAdjustments")],
        "transactions": sorted(
            (_transaction(told, order_id) for told in _nodes(refund, "transactions")), key=lambda t: t["id"]
        ),
    }


def _returned(line: Mapping[str, Any]) -> Node:
    return {
        "line_item_id": number_of(line["lineItem"]["id"]),
        "quantity": line["quantity"],
        "subtotal_set": _money(line["subtotalSet"]),
        "total_tax_set": _money(line["totalTaxSet"]),
    }


def _shipping(line: Mapping[str, Any]) -> Node:
    return {
        "subtotal_amount_set": _money(line["subtotalAmountSet"]),
        "tax_amount_set": _money(line["taxAmountSet"]),
    }


def _adjustment(each: Mapping[str, Any]) -> Node:
    """Its reason is never shipping here: the Admin API tells refunded shipping as shipping lines only."""
    return {
        "reason": (each["reason"] or "").lower(),
        "amount_set": _money(each["amountSet"]),
        "tax_amount_set": _money(each["taxAmountSet"]),
    }


def _transaction(told: Mapping[str, Any], order_id: int) -> Node:
    """`amount` is presentment money, as in the webhook, and the shop's own amount stands beside it (S1)."""
    shown = told["amountSet"]["presentmentMoney"]
    return {
        "id": number_of(told["id"]),
        "order_id": order_id,
        "kind": told["kind"].lower(),
        "status": told["status"].lower(),
        "amount": shown["amount"],
        "currency": shown["currencyCode"],
        "amount_set": _money(told["amountSet"]),
        "created_at": told["createdAt"],
        "processed_at": told["processedAt"],
    }


def _nodes(holder: Mapping[str, Any], connection: str) -> Iterable[Mapping[str, Any]]:
    found: Iterable[Mapping[str, Any]] = holder[connection]["nodes"]
    return found
