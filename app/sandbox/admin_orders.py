"""Orders by the Admin API of the pretend store: the same records that its webhooks are made of."""

from __future__ import annotations

import re
from collections.abc import Callable, Iterable
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from graphql import GraphQLError

from app.sandbox.payloads import free_shipping_index
from app.sandbox.records import BASIS_POINTS, Discount, Item, Order, Refund, RefundLine, Transaction
from app.sandbox.shown import Node, connection, cursor_value, gid, id_of, moment, money, time, time_or_none
from app.sandbox.store import Store

WINDOW = timedelta(days=60)  # what read_orders shows; read_all_orders shows the rest
TERM = re.compile(r"(\w+):(>=|<=|>|<)?('[^']*'|\"[^\"]*\"|\S+)")
SORTS: dict[str, Callable[[Order], str]] = {
    "CREATED_AT": lambda order: time(order.placed_at),
    "PROCESSED_AT": lambda order: time(order.placed_at),
    "UPDATED_AT": lambda order: time(order.updated_at),
    "ID": lambda order: f"{order.id:020}",
    "ORDER_NUMBER": lambda order: f"{order.number:020}",
}


@dataclass
class Orders:
    """The resolvers, for a caller who may see all orders or only those of the last 60 days."""

    store: Store
    now: datetime
    all_of_them: bool
    customers: bool

    def one(self, info: Any, id: str) -> Node | None:
        return self.by_id(id_of(id, "Order"))

    def by_id(self, id: int) -> Node | None:
        order = self.store.orders.get(id)
        return None if order is None or not self._visible(order) else self.node(order)

    def many(self, info: Any, **asked: Any) -> Node:
        """A page goes on behind what its cursor names, wherever that has moved meanwhile."""
        sort = SORTS.get(asked.get("sortKey") or "PROCESSED_AT")
        if sort is None:
            raise GraphQLError(f"the pretend store cannot sort by {asked['sortKey']}")

        def place(order: Order) -> tuple[str, str]:
            return sort(order), f"{order.id:020}"

        wanted = searched(asked.get("query") or "")
        found = sorted((o for o in self.store.orders.values() if self._visible(o) and wanted(o)), key=place)
        after, backwards = asked.pop("after", None), bool(asked.get("reverse"))
        if after is not None:
            last = cursor_value(after)
            found = [o for o in found if (place(o) < last if backwards else place(o) > last)]
        page: Node = connection([_Lazy(self, order, place(order)) for order in found], key=_place)(
            info, **asked
        )
        page["pageInfo"]["hasPreviousPage"] = page["pageInfo"]["hasPreviousPage"] or after is not None
        return page

    def refund(self, info: Any, id: str) -> Node | None:
        number = id_of(id, "Refund")
        found = ((o, r) for o in self.store.orders.values() for r in o.refunds if r.id == number)
        order, refund = next(found, (None, None))
        if order is None or refund is None or not self._visible(order):
            return None
        return self._refund(order, refund)

    def _visible(self, order: Order) -> bool:
        return self.all_of_them or order.placed_at >= self.now - WINDOW

    # -- what is shown -------------------------------------------------------------------------------------------

    def node(self, order: Order) -> Node:
        return {
            **_identity(order),
            **_state(order),
            **_totals(order),
            **_current_totals(order),
            "customer": lambda info: self._customer(order),
            "discountCode": next(iter(order.codes), None),
            "discountCodes": order.codes,
            "discountApplications": connection(
                [_application(order, i) for i, _ in enumerate(order.discounts)]
            ),
            "taxLines": _tax_lines(order, order.tax_minor, order.items[0].tax_basis_points),
            "lineItems": connection([_line(order, item) for item in order.items], key=_id),
            "shippingLine": next(iter(_shipping_lines(order)), None),
            "shippingLines": connection(_shipping_lines(order)),
            "transactions": lambda info, **asked: _first(
                [_transaction(order, t) for t in _all_transactions(order)], asked
            ),
            "refunds": lambda info, **asked: _first([self._refund(order, r) for r in order.refunds], asked),
        }

    def _customer(self, order: Order) -> Node | None:
        if order.customer is None:
            return None
        if not self.customers:
            raise denied("customer", "read_customers")
        return customer(order.customer.id)

    def _refund(self, order: Order, refund: Refund) -> Node:
        return {
            "__typename": "Refund",
            "id": gid("Refund", refund.id),
            "legacyResourceId": str(refund.id),
            "createdAt": time(refund.at),
            "updatedAt": time(refund.at),
            "processedAt": time(refund.at),
            "note": refund.note,
            "totalRefundedSet": _bag(order, refund.settled_minor),
            "order": lambda info: self.node(order),
            "return": None,
            "refundLineItems": connection([_refund_line(order, line) for line in refund.lines], key=_id),
            "refundShippingLines": connection(_refunded_shipping(order, refund)),
            "orderAdjustments": connection(_adjustments(order, refund)),
            "transactions": connection([_transaction(order, t) for t in refund.transactions], key=_id),
        }


class _Lazy(dict[str, Any]):
    """An order that is shown only when its page is."""

    def __init__(self, orders: Orders, order: Order, place: tuple[str, str]) -> None:
        super().__init__(__typename="Order")
        self.place = place
        self._orders, self._order, self._shown = orders, order, False

    def get(self, name: str, default: Any = None) -> Any:
        if not self._shown:
            self.update(self._orders.node(self._order))
            self._shown = True
        return super().get(name, default)


def customer(id: int) -> Node:
    return {"__typename": "Customer", "id": gid("Customer", id), "legacyResourceId": str(id)}


def denied(field: str, scope: str) -> GraphQLError:
    """What Shopify answers to a field that the app has no scope for; the rest of the data is there."""
    wanted = f"`{scope}` access scope."
    return GraphQLError(
        f"Access denied for {field} field. Required access: {wanted}",
        extensions={
            "code": "ACCESS_DENIED",
            "documentation": "https://shopify.dev/api/usage/access-scopes",
            "requiredAccess": wanted,
        },
    )


def searched(query: str) -> Callable[[Order], bool]:
    """Shopify's search syntax, as far as the pretend store knows it; what it does not know it refuses."""
    terms = [_term(*found.groups()) for found in TERM.finditer(query)]
    rest = TERM.sub(" ", query).replace(" AND ", " ").strip()
    if rest and rest != "AND":
        raise GraphQLError(f"the pretend store cannot search for {rest!r}")
    return lambda order: all(term(order) for term in terms)


def _term(name: str, sign: str | None, value: str) -> Callable[[Order], bool]:
    text = value.strip("'\"")
    if name in ("updated_at", "created_at", "processed_at"):
        at = moment(text)
        if name == "updated_at":
            return lambda order: _compare(order.updated_at, sign, at)
        return lambda order: _compare(order.placed_at, sign, at)
    if name == "id":
        return lambda order: _compare(order.id, sign, int(text))
    if name == "name":
        return lambda order: order.name == text
    if name == "financial_status":
        return lambda order: order.financial_status == text.lower()
    if name == "test":
        return lambda order: order.test is (text == "true")
    raise GraphQLError(f"the pretend store cannot search by {name}")


def _compare(left: Any, sign: str | None, right: Any) -> bool:
    if sign == ">=":
        return bool(left >= right)
    if sign == "<=":
        return bool(left <= right)
    if sign == ">":
        return bool(left > right)
    return bool(left < right) if sign == "<" else bool(left == right)


def _place(node: Node) -> object:
    assert isinstance(node, _Lazy)
    return node.place


def _id(node: Node) -> object:
    return node["id"]


def _first(nodes: list[Node], asked: dict[str, Any]) -> list[Node]:
    return nodes if asked.get("first") is None else nodes[: asked["first"]]


def _bag(order: Order, minor: int) -> Node:
    shown = order.presentment
    return {
        "shopMoney": money(minor, order.currency),
        "presentmentMoney": money(shown.of(minor), shown.currency),
    }


def _identity(order: Order) -> Node:
    return {
        "__typename": "Order",
        "id": gid("Order", order.id),
        "legacyResourceId": str(order.id),
        "name": order.name,
        "number": order.number,
        "createdAt": time(order.placed_at),
        "updatedAt": time(order.updated_at),
        "processedAt": time(order.placed_at),
        "currencyCode": order.currency,
        "presentmentCurrencyCode": order.presentment.currency,
        "taxesIncluded": order.taxes_included,
        "test": order.test,
        "sourceName": "web" if order.customer else "pos",
        "paymentGatewayNames": sorted({t.gateway for t in order.transactions}),
    }


def _state(order: Order) -> Node:
    status = order.financial_status
    return {
        "cancelledAt": time_or_none(order.cancelled_at),
        "cancelReason": order.cancel_reason.upper() if order.cancel_reason else None,
        "closedAt": None,
        "confirmed": True,
        "edited": bool(order.edits),
        "displayFinancialStatus": status.upper(),
        "displayFulfillmentStatus": "UNFULFILLED",
        "unpaid": not order.captured_minor,
        "fullyPaid": status in ("paid", "partially_refunded", "refunded"),
        "capturable": status == "authorized",
    }


def _totals(order: Order) -> Node:
    off = sum(sum(item.allocations.values()) for item in order.items) + order.shipping_off_minor
    return {
        "subtotalPriceSet": _bag(order, order.subtotal_minor),
        "totalPriceSet": _bag(order, order.total_minor),
        "originalTotalPriceSet": _bag(order, order.placed_total_minor),
        "totalTaxSet": _bag(order, order.tax_minor),
        "totalShippingPriceSet": _bag(order, order.shipping_minor + order.shipping_off_minor),
        "totalDiscountsSet": _bag(order, off),
        "totalOutstandingSet": _bag(order, order.outstanding_minor),
        "totalReceivedSet": _bag(order, order.captured_minor),
        "totalRefundedSet": _bag(order, order.refunded_minor),
        "totalRefundedShippingSet": _bag(order, order.refunded_shipping_minor),
        "totalTipReceivedSet": _bag(order, 0),
        "totalCapturableSet": _bag(order, order.total_minor if order.financial_status == "authorized" else 0),
        "netPaymentSet": _bag(order, order.captured_minor - order.refunded_minor),
    }


def _current_totals(order: Order) -> Node:
    live = [item for item in order.items if item.current_quantity]

    def left(worth: Callable[[Item], int]) -> int:
        return sum(
            i.part(worth(i), before=i.quantity - i.current_quantity, units=i.current_quantity) for i in live
        )

    return {
        "currentSubtotalPriceSet": _bag(order, left(lambda item: item.net_minor)),
        "currentTotalDiscountsSet": _bag(order, left(lambda item: sum(item.allocations.values()))),
        "currentTotalTaxSet": _bag(order, left(lambda item: item.tax_minor)),
        "currentTotalPriceSet": _bag(order, order.current_total_minor),
        "currentShippingPriceSet": _bag(order, order.shipping_minor - order.refunded_shipping_minor),
    }


def _application(order: Order, index: int) -> Node:
    discount = order.discounts[index]
    shape: Node = {
        "index": index,
        "allocationMethod": "EACH" if discount.free_shipping else "ACROSS",
        "targetSelection": "ALL",
        "targetType": "SHIPPING_LINE" if discount.free_shipping else "LINE_ITEM",
        "value": _value(order, discount),
    }
    if discount.code:
        return {**shape, "__typename": "DiscountCodeApplication", "code": discount.code}
    return {**shape, "__typename": "AutomaticDiscountApplication", "title": discount.title}


def _value(order: Order, discount: Discount) -> Node:
    percent = 100 if discount.free_shipping else discount.percent
    if percent:
        return {"__typename": "PricingPercentageValue", "percentage": float(percent)}
    return {"__typename": "MoneyV2", **money(discount.amount_minor, order.currency)}


def _tax_lines(order: Order, tax_minor: int, basis_points: int) -> list[Node]:
    if not tax_minor:
        return []
    rate = Decimal(basis_points) / BASIS_POINTS
    return [
        {
            "title": "Sales Tax",
            "rate": float(rate),
            "ratePercentage": float(rate * 100),
            "channelLiable": False,
            "priceSet": _bag(order, tax_minor),
        }
    ]


def _line(order: Order, item: Item) -> Node:
    unit = item.product.price_minor
    return {
        "__typename": "LineItem",
        "id": gid("LineItem", item.id),
        "name": item.product.title,
        "title": item.product.title,
        "sku": item.product.sku,
        "variantTitle": None,
        "quantity": item.quantity,
        "currentQuantity": item.current_quantity,
        "refundableQuantity": item.current_quantity,
        "isGiftCard": False,
        "requiresShipping": True,
        "taxable": True,
        "product": {
            "id": gid("Product", item.product.id),
            "legacyResourceId": str(item.product.id),
        },
        "discountAllocations": _allocations(order, item),
        "originalUnitPriceSet": _bag(order, unit),
        "originalTotalSet": _bag(order, item.gross_minor),
        "discountedUnitPriceSet": _bag(order, unit),
        "discountedTotalSet": lambda info, withCodeDiscounts=False: _bag(
            order, item.net_minor if withCodeDiscounts else item.gross_minor
        ),
        "totalDiscountSet": _bag(order, 0),
        "taxLines": _tax_lines(order, item.tax_minor, item.tax_basis_points),
    }


def _allocations(order: Order, item: Item) -> list[Node]:
    return [
        {"allocatedAmountSet": _bag(order, minor), "discountApplication": _application(order, index)}
        for index, minor in sorted(item.allocations.items())
    ]


def _shipping_lines(order: Order) -> list[Node]:
    return [_shipping(order)] if order.shipping_minor + order.shipping_off_minor else []


def _shipping(order: Order) -> Node:
    free = free_shipping_index(order)
    left = order.shipping_minor - order.refunded_shipping_minor
    return {
        "id": gid("ShippingLine", order.shipping_line_id),
        "code": "Standard",
        "title": "Standard",
        "source": "shopify",
        "isRemoved": False,
        "originalPriceSet": _bag(order, order.shipping_minor + order.shipping_off_minor),
        "discountedPriceSet": _bag(order, order.shipping_minor),
        "currentDiscountedPriceSet": _bag(order, left),
        "discountAllocations": []
        if free is None
        else [
            {
                "allocatedAmountSet": _bag(order, order.shipping_off_minor),
                "discountApplication": _application(order, free),
            }
        ],
        "taxLines": [],
    }


def _all_transactions(order: Order) -> Iterable[Transaction]:
    """Those of refunds are the order's too."""
    known = [*order.transactions, *(t for refund in order.refunds for t in refund.transactions)]
    return sorted(known, key=lambda t: (t.at, t.id))


def _transaction(order: Order, transaction: Transaction) -> Node:
    failed = transaction.status in ("failure", "error")
    parent = next((t for t in order.transactions if t.id == transaction.parent_id), None)
    unsettled = transaction.amount_minor if transaction.kind == "authorization" else 0
    return {
        "__typename": "OrderTransaction",
        "id": gid("OrderTransaction", transaction.id),
        "kind": transaction.kind.upper(),
        "status": transaction.status.upper(),
        "gateway": transaction.gateway,
        "createdAt": time(transaction.at),
        "processedAt": time(transaction.at),
        "test": order.test,
        "errorCode": "PROCESSING_ERROR" if failed else None,
        "manualPaymentGateway": transaction.gateway == "manual",
        "paymentId": f"{order.name}.1",
        "amountSet": _bag(order, transaction.amount_minor),
        "totalUnsettledSet": _bag(order, unsettled),
        "parentTransaction": None if parent is None else lambda info: _transaction(order, parent),
        "order": None,
    }


def _refund_line(order: Order, line: RefundLine) -> Node:
    return {
        "id": gid("RefundLineItem", line.id),
        "lineItem": lambda info: _line(order, line.item),
        "quantity": line.quantity,
        "restockType": line.restock_type.upper(),
        "restocked": line.restock_type != "no_restock",
        "priceSet": _bag(order, line.item.product.price_minor),
        "subtotalSet": _bag(order, line.subtotal_minor),
        "totalTaxSet": _bag(order, line.tax_minor),
    }


def _refunded_shipping(order: Order, refund: Refund) -> list[Node]:
    if not refund.shipping_minor:
        return []
    return [
        {
            "id": gid("RefundShippingLine", refund.id + 1),
            "shippingLine": lambda info: _shipping(order),
            "subtotalAmountSet": _bag(order, refund.shipping_minor),
            "taxAmountSet": _bag(order, 0),
        }
    ]


def _adjustments(order: Order, refund: Refund) -> list[Node]:
    if refund.adjustment_id is None:
        return []
    return [
        {
            "id": gid("OrderAdjustment", refund.adjustment_id),
            "amountSet": _bag(order, refund.adjustment_minor),
            "taxAmountSet": _bag(order, 0),
            "reason": "REFUND_DISCREPANCY",
        }
    ]
