"""Discounts at Shopify: what is asked, and what an answer says. Everything that changes is set to an absolute value.

Times go without fractions of a second, for Shopify drops them. Customers are named by their id alone.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from decimal import Decimal, InvalidOperation
from typing import Any

from models.errors import OutcomeUnknown, ShopifyRefused, ShopifyUnreachable
from models.rules.codes import (
    AMOUNT,
    BASIC,
    FREE_SHIPPING,
    PERCENTAGE,
    SHIPPING,
    TAG,
    Benefit,
    DiscountState,
    PutBackEnd,
    SetUsageLimit,
    Terms,
    mark,
)
from tasks.gateway.answers import accepted
from tasks.gateway.client import Gateway
from tasks.steps.load import ShopRow

TITLE_CHARACTERS = 255
COMBINES = ("orderDiscounts", "productDiscounts", "shippingDiscounts")
TAKEN = "TAKEN"
GONE = ("discount does not exist", "code discount does not exist")  # said without a code of its own

CREATE = {BASIC: "discountCodeBasicCreate", FREE_SHIPPING: "discountCodeFreeShippingCreate"}
UPDATE = {BASIC: "discountCodeBasicUpdate", FREE_SHIPPING: "discountCodeFreeShippingUpdate"}
DOCUMENTS = {
    "discountCodeBasicCreate": "discount_create",
    "discountCodeFreeShippingCreate": "discount_create_free_shipping",
    "discountCodeBasicUpdate": "discount_update",
    "discountCodeFreeShippingUpdate": "discount_update_free_shipping",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class New:
    """A discount to be made: one code, usable once, by one customer."""

    code: str
    title: str
    redemption_id: int
    n: int
    customer_id: int
    starts_at: datetime
    ends_at: datetime | None
    terms: Terms


def by_code(gateway: Gateway, shop: ShopRow, code: str) -> DiscountState | None:
    """The discount behind a code, as it stands now; None when there is none."""
    data = gateway.run(shop, "discount_by_code", {"code": code})
    return read_state(data.get("codeDiscountNodeByCode"))


def by_id(gateway: Gateway, shop: ShopRow, id: int) -> DiscountState | None:
    """A discount by its own id, whatever its code is now; None when there is none."""
    data = gateway.run(shop, "discount_by_id", {"id": discount_gid(id)})
    return read_state(data.get("node"))


def create(gateway: Gateway, shop: ShopRow, new: New) -> int:
    """Make a discount; its id. Raises ShopifyRefused (`TAKEN`: another has this code), OutcomeUnknown."""
    kind = FREE_SHIPPING if new.terms.benefit.kind == SHIPPING else BASIC
    data = gateway.run(shop, DOCUMENTS[CREATE[kind]], {"discount": new_input(new)})
    node = accepted(data, CREATE[kind]).get("codeDiscountNode")
    if not isinstance(node, Mapping):
        raise OutcomeUnknown("a discount was made, and its id was not told")
    return number_of(node["id"])


def update(
    gateway: Gateway, shop: ShopRow, found: DiscountState, asked: SetUsageLimit | PutBackEnd, customer_id: int
) -> None:
    """Limit, end and customers in one call: all of it is done, or nothing. Raises ShopifyRefused, OutcomeUnknown."""
    changes: dict[str, Any] = {"endsAt": time_text(asked.ends_at)}
    if isinstance(asked, SetUsageLimit):
        changes["usageLimit"] = asked.usage_limit
    if asked.add_customer:
        changes["context"] = {"customers": {"add": [customer_gid(customer_id)]}}
    field = UPDATE[found.kind]  # of its own kind: another would turn it into that kind
    data = gateway.run(shop, DOCUMENTS[field], {"id": discount_gid(found.id), "discount": changes})
    accepted(data, field)


def delete(gateway: Gateway, shop: ShopRow, id: int) -> None:
    """Take a discount away; one that is gone already is no error."""
    data = gateway.run(shop, "discount_delete", {"id": discount_gid(id)})
    _accepted_or_gone(data, "discountCodeDelete")


def deactivate(gateway: Gateway, shop: ShopRow, id: int) -> None:
    """End a discount now; one that is gone already is no error."""
    data = gateway.run(shop, "discount_deactivate", {"id": discount_gid(id)})
    _accepted_or_gone(data, "discountCodeDeactivate")


def _accepted_or_gone(data: Mapping[str, Any], field: str) -> None:
    try:
        accepted(data, field)
    except ShopifyRefused as error:
        if not is_gone(error):
            raise


def is_gone(error: ShopifyRefused) -> bool:
    """Whether Shopify refused because there is no such discount."""
    return any(said.message.rstrip(".").casefold() in GONE for said in error.errors)


# -- what is sent ------------------------------------------------------------------------------------


def new_input(new: New) -> dict[str, Any]:
    """The input of a new discount, amount off or free shipping."""
    order, product, shipping = new.terms.combines_with
    given: dict[str, Any] = {
        "title": new.title[:TITLE_CHARACTERS],
        "code": new.code,
        "tags": [TAG, mark(new.redemption_id, new.n)],
        "startsAt": time_text(new.starts_at),
        "endsAt": time_text(new.ends_at),
        "usageLimit": 1,
        "appliesOncePerCustomer": False,  # it would bar him from a use that comes back (S11)
        "context": {"customers": {"add": [customer_gid(new.customer_id)]}},
        "combinesWith": dict(zip(COMBINES, (order, product, shipping), strict=True)),
    }
    if minimum := _minimum_input(new.terms):
        given["minimumRequirement"] = minimum
    if new.terms.benefit.kind != SHIPPING:
        return {**given, "customerGets": {"value": _value_input(new.terms.benefit), "items": {"all": True}}}
    if new.terms.shipping_up_to is not None:
        given["maximumShippingPrice"] = new.terms.shipping_up_to
    return {**given, "destination": {"all": True}}


def _value_input(benefit: Benefit) -> dict[str, Any]:
    if benefit.kind == PERCENTAGE:
        return {"percentage": float(benefit.value)}  # no money: a part of one, as Shopify takes it
    return {"discountAmount": {"amount": benefit.value, "appliesOnEachItem": benefit.per_item}}


def _minimum_input(terms: Terms) -> dict[str, Any]:
    if terms.minimum_subtotal is not None:
        return {"subtotal": {"greaterThanOrEqualToSubtotal": terms.minimum_subtotal}}
    if terms.minimum_quantity is not None:
        return {"quantity": {"greaterThanOrEqualToQuantity": terms.minimum_quantity}}
    return {}


def whole_seconds(at: datetime) -> datetime:
    return at.astimezone(UTC).replace(microsecond=0)


def time_text(at: datetime | None) -> str | None:
    return None if at is None else whole_seconds(at).isoformat().replace("+00:00", "Z")


def discount_gid(id: int) -> str:
    return f"gid://shopify/DiscountCodeNode/{id}"


def customer_gid(id: int) -> str:
    return f"gid://shopify/Customer/{id}"


# -- what is answered --------------------------------------------------------------------------------


def read_state(node: Any) -> DiscountState | None:
    """A DiscountCodeNode as we understand it. Raises ShopifyUnreachable for one that cannot be: nothing is decided by it."""
    if not isinstance(node, Mapping) or not node:
        return None
    try:
        return _state(node["id"], node["codeDiscount"])
    except (KeyError, TypeError, ValueError, InvalidOperation) as error:
        raise ShopifyUnreachable(f"a discount that cannot be read: {type(error).__name__}") from None


def _state(gid: str, discount: Mapping[str, Any]) -> DiscountState:
    return DiscountState(
        id=number_of(gid),
        kind=discount["__typename"],
        starts_at=_time(discount["startsAt"]),
        ends_at=None if discount["endsAt"] is None else _time(discount["endsAt"]),
        usage_limit=None if discount["usageLimit"] is None else int(discount["usageLimit"]),
        usage_count=int(discount["asyncUsageCount"]),
        once_per_customer=bool(discount["appliesOncePerCustomer"]),
        codes=1 if discount.get("codesCount") is None else int(discount["codesCount"]["count"]),
        customers=_customers(discount.get("context")),
        terms=_terms(discount),
        tags=frozenset(discount.get("tags") or ()),
    )


def _customers(context: Any) -> frozenset[int] | None:
    """Whom a discount is for by name; segments and markets are not ours to judge, so they bar nobody."""
    if not context or "customers" not in context:
        return None
    return frozenset(number_of(customer["id"]) for customer in context["customers"])


def _terms(discount: Mapping[str, Any]) -> Terms | None:
    """What another discount would have to give; None when it is limited in a way that we do not read."""
    benefit, up_to = _benefit(discount), discount.get("maximumShippingPrice")
    if benefit is None:
        return None
    least = discount.get("minimumRequirement") or {}
    subtotal, quantity = (
        least.get("greaterThanOrEqualToSubtotal"),
        least.get("greaterThanOrEqualToQuantity"),
    )
    order, product, shipping = (bool(discount["combinesWith"][name]) for name in COMBINES)
    return Terms(
        benefit=benefit,
        minimum_subtotal=None if subtotal is None else str(subtotal["amount"]),
        minimum_quantity=None if quantity is None else str(quantity),
        combines_with=(order, product, shipping),
        shipping_up_to=None if up_to is None else str(up_to["amount"]),
    )


def _benefit(discount: Mapping[str, Any]) -> Benefit | None:
    if discount["__typename"] == FREE_SHIPPING:
        everywhere = discount["destinationSelection"]["__typename"] == "DiscountCountryAll"
        return Benefit(kind=SHIPPING) if everywhere else None
    if discount["__typename"] != BASIC:
        return None
    gets = discount["customerGets"]
    value = gets["value"]
    if gets["items"]["__typename"] != "AllDiscountItems":
        return None
    if value["__typename"] == "DiscountPercentage":
        return Benefit(kind=PERCENTAGE, value=str(Decimal(str(value["percentage"]))))
    if value["__typename"] == "DiscountAmount":
        amount = str(Decimal(str(value["amount"]["amount"])))
        return Benefit(kind=AMOUNT, value=amount, per_item=bool(value["appliesOnEachItem"]))
    return None


def number_of(gid: str) -> int:
    """gid://shopify/DiscountCodeNode/12 -> 12."""
    return int(gid.rpartition("/")[2])


def _time(text: str) -> datetime:
    at = datetime.fromisoformat(text)
    if at.tzinfo is None:
        raise ValueError("a time without its zone")
    return at
