"""Webhook bodies in the shape of Shopify's REST payloads of 2026-07.

Money is a decimal string, but `subtotal` and `total_tax` of a refund line and every tax `rate` are JSON numbers, as
Shopify sends them. Names and addresses are made up.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping
from datetime import datetime, timedelta, timezone
from decimal import Decimal
from typing import Any

from app.sandbox.records import (
    BASIS_POINTS,
    Customer,
    Discount,
    Edit,
    Item,
    Order,
    Refund,
    RefundLine,
    Transaction,
)
from models.rules.money import from_minor

Json = dict[str, Any]

SHOP_TIME = timezone(timedelta(hours=-5))
_NUMBER_MARK = "@number:"
_MARKED_NUMBER = re.compile(rb'"@number:(-?[0-9.]+)"')


def body_of(payload: Mapping[str, Any]) -> bytes:
    """The exact bytes to send and to sign."""
    text = json.dumps(payload, ensure_ascii=False, separators=(",", ":"))
    return _MARKED_NUMBER.sub(rb"\1", text.encode())


def number(text: str) -> str:
    """A decimal that `body_of` writes as a JSON number, without a float on the way."""
    return _NUMBER_MARK + text


def gid(kind: str, id: int) -> str:
    return f"gid://shopify/{kind}/{id}"


def timestamp(at: datetime) -> str:
    return at.astimezone(SHOP_TIME).isoformat(timespec="seconds")


def timestamp_or_none(at: datetime | None) -> str | None:
    return None if at is None else timestamp(at)


def money(order: Order, minor: int) -> str:
    return from_minor(minor, order.currency)


def money_set(order: Order, minor: int, *, currency_key: str = "currency_code") -> Json:
    shown = order.presentment
    return {
        "shop_money": {"amount": money(order, minor), currency_key: order.currency},
        "presentment_money": {
            "amount": from_minor(shown.of(minor), shown.currency),
            currency_key: shown.currency,
        },
    }


def priced(order: Order, name: str, minor: int) -> Json:
    """A shop money string beside its set: {"total_tax": "1.00", "total_tax_set": {...}}."""
    return {name: money(order, minor), f"{name}_set": money_set(order, minor)}


def order_payload(order: Order) -> Json:
    """The order as it is now: a snapshot at its own `updated_at`."""
    return {
        **_order_identity(order),
        **_order_state(order),
        **_order_totals(order),
        **_order_current_totals(order),
        **_order_people(order),
        "discount_applications": [_discount_application(order, d) for d in order.discounts],
        "discount_codes": [
            _discount_code(order, index, d) for index, d in enumerate(order.discounts) if d.code
        ],
        "fulfillments": [],
        "line_items": [_line_item(order, item) for item in order.items],
        "payment_terms": None,
        "refunds": [refund_payload(order, refund) for refund in order.refunds],
        "returns": [],
        "shipping_lines": [_shipping_line(order)] if order.shipping_minor + order.shipping_off_minor else [],
        "line_item_groups": [],
    }


def _order_identity(order: Order) -> Json:
    return {
        "id": order.id,
        "admin_graphql_api_id": gid("Order", order.id),
        "app_id": 580111,
        "cart_token": None,
        "checkout_token": None,
        "confirmation_number": None,
        "confirmed": True,
        "created_at": timestamp(order.placed_at),
        "currency": order.currency,
        "customer_locale": "en",
        "landing_site": None,
        "location_id": None,
        "name": order.name,
        "note": None,
        "note_attributes": [],
        "number": order.number - 1000,
        "order_number": order.number,
        "payment_gateway_names": sorted({t.gateway for t in order.transactions}),
        "presentment_currency": order.presentment.currency,
        "processed_at": timestamp(order.placed_at),
        "source_name": "web" if order.customer else "pos",
        "tags": "",
        "taxes_included": order.taxes_included,
        "test": order.test,
        "updated_at": timestamp(order.updated_at),
        "user_id": None,
    }


def _order_state(order: Order) -> Json:
    return {
        "cancel_reason": order.cancel_reason,
        "cancelled_at": timestamp_or_none(order.cancelled_at),
        "closed_at": None,
        "financial_status": order.financial_status,
        "fulfillment_status": None,
    }


def _order_totals(order: Order) -> Json:
    discounts = sum(sum(item.allocations.values()) for item in order.items) + order.shipping_off_minor
    return {
        **priced(order, "subtotal_price", order.subtotal_minor),
        **priced(order, "total_discounts", discounts),
        **priced(order, "total_line_items_price", sum(item.gross_minor for item in order.items)),
        "total_outstanding": money(order, order.outstanding_minor),
        **priced(order, "total_price", order.total_minor),
        "total_shipping_price_set": money_set(order, order.shipping_minor + order.shipping_off_minor),
        **priced(order, "total_tax", order.tax_minor),
        "total_tip_received": "0.00",
        "total_weight": 0,
        "tax_lines": _tax_lines(order, order.tax_minor, order.items[0].tax_basis_points),
        "total_cash_rounding_payment_adjustment_set": money_set(order, 0),
        "total_cash_rounding_refund_adjustment_set": money_set(order, 0),
        "original_total_additional_fees_set": None,
        "original_total_duties_set": None,
    }


def _order_current_totals(order: Order) -> Json:
    live = [item for item in order.items if item.current_quantity]
    gone = {item.id: item.quantity - item.current_quantity for item in live}
    net = sum(i.part(i.net_minor, before=gone[i.id], units=i.current_quantity) for i in live)
    tax = sum(i.part(i.tax_minor, before=gone[i.id], units=i.current_quantity) for i in live)
    off = sum(i.part(sum(i.allocations.values()), before=gone[i.id], units=i.current_quantity) for i in live)
    return {
        **priced(order, "current_subtotal_price", net),
        **priced(order, "current_total_discounts", off),
        **priced(order, "current_total_price", order.current_total_minor),
        **priced(order, "current_total_tax", tax),
        "current_shipping_price_set": money_set(order, order.shipping_minor - order.refunded_shipping_minor),
        "current_total_additional_fees_set": None,
        "current_total_duties_set": None,
    }


def _order_people(order: Order) -> Json:
    customer = order.customer
    return {
        "email": customer.email if customer else "",
        "contact_email": customer.email if customer else None,
        "phone": None,
        "buyer_accepts_marketing": False,
        "billing_address": None,
        "shipping_address": None,
        "customer": customer_payload(customer, order.currency) if customer else None,
    }


def customer_payload(customer: Customer, currency: str) -> Json:
    return {
        "id": customer.id,
        "admin_graphql_api_id": gid("Customer", customer.id),
        "created_at": None,
        "updated_at": None,
        "first_name": customer.first_name,
        "last_name": customer.last_name,
        "email": customer.email,
        "phone": customer.phone,
        "currency": currency,
        "note": None,
        "state": "disabled",
        "tax_exempt": False,
        "tax_exemptions": [],
        "verified_email": True,
    }


def _discount_application(order: Order, discount: Discount) -> Json:
    by_amount = discount.percent == 0 and not discount.free_shipping
    percent = 100 if discount.free_shipping else discount.percent
    shape: Json = {
        "target_type": "shipping_line" if discount.free_shipping else "line_item",
        "type": "discount_code" if discount.code else "automatic",
        "value": money(order, discount.amount_minor) if by_amount else f"{percent}.0",
        "value_type": "fixed_amount" if by_amount else "percentage",
        "allocation_method": "each" if discount.free_shipping else "across",
        "target_selection": "all",
    }
    return {**shape, "code": discount.code} if discount.code else {**shape, "title": discount.title}


def _discount_code(order: Order, index: int, discount: Discount) -> Json:
    if discount.free_shipping:
        return {"code": discount.code, "amount": money(order, order.shipping_off_minor), "type": "shipping"}
    taken = sum(item.allocations.get(index, 0) for item in order.items)
    kind = "fixed_amount" if discount.percent == 0 else "percentage"
    return {"code": discount.code, "amount": money(order, taken), "type": kind}


def free_shipping_index(order: Order) -> int | None:
    """Which discount application pays for the shipping."""
    return next((i for i, d in enumerate(order.discounts) if d.free_shipping), None)


def _tax_lines(order: Order, tax_minor: int, basis_points: int) -> list[Json]:
    if not tax_minor:
        return []
    rate = number(str(Decimal(basis_points) / BASIS_POINTS))
    return [
        {"title": "Sales Tax", "rate": rate, "channel_liable": False, **priced(order, "price", tax_minor)}
    ]


def _line_item(order: Order, item: Item) -> Json:
    product = item.product
    return {
        "id": item.id,
        "admin_graphql_api_id": gid("LineItem", item.id),
        "attributed_staffs": [],
        "current_quantity": item.current_quantity,
        "fulfillable_quantity": item.current_quantity,
        "fulfillment_service": "manual",
        "fulfillment_status": None,
        "gift_card": False,
        "grams": 0,
        "name": product.title,
        **priced(order, "price", product.price_minor),
        "product_exists": True,
        "product_id": product.id,
        "properties": [],
        "quantity": item.quantity,
        "requires_shipping": True,
        "sales_line_item_group_id": None,
        "sku": product.sku,
        "taxable": True,
        "title": product.title,
        **priced(order, "total_discount", 0),
        "variant_id": product.id + 1,
        "variant_inventory_management": "shopify",
        "variant_title": None,
        "vendor": None,
        "tax_lines": _tax_lines(order, item.tax_minor, item.tax_basis_points),
        "duties": [],
        "discount_allocations": [
            {**priced(order, "amount", minor), "discount_application_index": index}
            for index, minor in sorted(item.allocations.items())
        ],
    }


def _shipping_line(order: Order) -> Json:
    free = free_shipping_index(order)
    return {
        "id": order.shipping_line_id,
        "carrier_identifier": None,
        "code": "Standard",
        **priced(order, "discounted_price", order.shipping_minor),
        "is_removed": False,
        "phone": None,
        **priced(order, "price", order.shipping_minor + order.shipping_off_minor),
        "requested_fulfillment_service_id": None,
        "source": "shopify",
        "title": "Standard",
        "tax_lines": [],
        "discount_allocations": []
        if free is None
        else [{**priced(order, "amount", order.shipping_off_minor), "discount_application_index": free}],
    }


def refund_payload(order: Order, refund: Refund) -> Json:
    """The refund as it is now. It has neither discount applications nor a customer: both are the order's (S5)."""
    adjusted = refund.adjustment_id is not None
    return {
        "id": refund.id,
        "admin_graphql_api_id": gid("Refund", refund.id),
        "order_id": order.id,
        "created_at": timestamp(refund.at),
        "processed_at": timestamp(refund.at),
        "note": refund.note,
        "user_id": None,
        "restock": any(line.restock_type != "no_restock" for line in refund.lines),
        "duties": [],
        "total_duties_set": money_set(order, 0),
        "return": None,
        "additional_fees": [],
        "total_additional_fees_set": money_set(order, 0),
        "refund_shipping_lines": [_refunded_shipping(order, refund)] if refund.shipping_minor else [],
        "order_adjustments": [_adjustment(order, refund)] if adjusted else [],
        "refund_line_items": [_refund_line(order, line) for line in refund.lines],
        "transactions": [transaction_payload(order, t) for t in refund.transactions],
    }


def _refunded_shipping(order: Order, refund: Refund) -> Json:
    return {
        "id": refund.id + 1,
        "shipping_line_id": order.shipping_line_id,
        "subtotal_amount_set": money_set(order, refund.shipping_minor),
        "shipping_line": _shipping_line(order),
    }


def _adjustment(order: Order, refund: Refund) -> Json:
    return {
        "id": refund.adjustment_id,
        "order_id": order.id,
        "refund_id": refund.id,
        "kind": "refund_discrepancy",
        "reason": "Refund discrepancy",
        **priced(order, "amount", refund.adjustment_minor),
        **priced(order, "tax_amount", 0),
    }


def _refund_line(order: Order, line: RefundLine) -> Json:
    return {
        "id": line.id,
        "line_item_id": line.item.id,
        "location_id": None,
        "quantity": line.quantity,
        "restock_type": line.restock_type,
        "subtotal": number(money(order, line.subtotal_minor)),
        "subtotal_set": money_set(order, line.subtotal_minor),
        "total_tax": number(money(order, line.tax_minor)),
        "total_tax_set": money_set(order, line.tax_minor),
        "line_item": _line_item(order, line.item),
    }


def transaction_payload(order: Order, transaction: Transaction) -> Json:
    """`amount` is presentment money (S1); only the gateway's reservations are unsettled."""
    shown = order.presentment
    failed = transaction.status in ("failure", "error")
    unsettled = transaction.amount_minor if transaction.kind == "authorization" else 0
    return {
        "id": transaction.id,
        "admin_graphql_api_id": gid("OrderTransaction", transaction.id),
        "order_id": order.id,
        "parent_id": transaction.parent_id,
        "kind": transaction.kind,
        "status": transaction.status,
        "gateway": transaction.gateway,
        "message": "The bank said no" if failed else None,
        "error_code": "processing_error" if failed else None,
        "created_at": timestamp(transaction.at),
        "processed_at": timestamp(transaction.at),
        "test": order.test,
        "authorization": None,
        "location_id": None,
        "user_id": None,
        "device_id": None,
        "source_name": "web",
        "receipt": {},
        "amount": from_minor(shown.of(transaction.amount_minor), shown.currency),
        "currency": shown.currency,
        "payment_id": f"{order.name}.1",
        "total_unsettled_set": money_set(order, unsettled, currency_key="currency"),
        "manual_payment_gateway": transaction.gateway == "manual",
        "amount_rounding": None,
    }


def edit_payload(edit: Edit) -> Json:
    """`orders/edited`: deltas only, no order and no money (S9)."""
    return {
        "order_edit": {
            "id": edit.id,
            "app_id": None,
            "created_at": timestamp(edit.at),
            "committed_at": timestamp(edit.at),
            "notify_customer": False,
            "order_id": edit.order_id,
            "staff_note": "",
            "user_id": None,
            "line_items": {
                "additions": [{"id": id, "delta": delta} for id, delta in edit.additions],
                "removals": [{"id": id, "delta": delta} for id, delta in edit.removals],
            },
            "discounts": {"line_item": {"additions": [], "removals": []}},
            "shipping_lines": {"additions": [], "removals": []},
        }
    }
