"""Discounts by the Admin API of the pretend store. What is refused, and in which words, is as recorded from Shopify;
so is what discountCodeActivate and discountCodeDeactivate do to the dates (S11)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from decimal import Decimal
from typing import Any

from app.sandbox.codes import CodeDiscount, Codes, RedeemCode
from app.sandbox.shown import Node, connection, gid, id_of, moment, money, time, time_or_none
from app.sandbox.store import Store
from models.rules.money import to_minor

LONGEST_CODE = 255
MOST_CODES_A_CALL = 250


def _error(field: list[str], message: str, code: str | None) -> Node:
    return {"field": field, "message": message, "code": code, "extraInfo": None}


NO_DISCOUNT = _error(["id"], "Code discount does not exist.", "INVALID")
NO_DISCOUNT_TO_UPDATE = _error(["id"], "Discount does not exist", None)
BULK_CODE = _error(["id"], "Cannot update the code of a bulk discount.", None)


BASIC, FREE_SHIPPING = (
    "basicCodeDiscount",
    "freeShippingCodeDiscount",
)  # the arguments, and where errors point
Wrong = tuple[str, str, str]  # the input's field, a sentence, a code
KINDS = {BASIC: "DiscountCodeBasic", FREE_SHIPPING: "DiscountCodeFreeShipping"}


@dataclass
class Discounts:
    """The resolvers. Call them while holding the store's lock."""

    store: Store

    @property
    def codes(self) -> Codes:
        return self.store.codes

    # -- reading -------------------------------------------------------------------------------------------------

    def by_code(self, info: Any, code: str) -> Node | None:
        found = self.codes.find(code)
        return None if found is None else self.node(found[0])

    def by_id(self, id: int) -> Node | None:
        found = self.codes.discounts.get(id)
        return None if found is None else self.node(found)

    def node(self, discount: CodeDiscount) -> Node:
        return {
            "__typename": "DiscountCodeNode",
            "id": gid("DiscountCodeNode", discount.id),
            "codeDiscount": self._shown(discount),
        }

    def _shown(self, discount: CodeDiscount) -> Node:
        return {
            "__typename": discount.kind,
            "title": discount.title,
            "status": discount.status(self.codes.clock()),
            "summary": discount.title,
            "startsAt": time(discount.starts_at),
            "endsAt": time_or_none(discount.ends_at),
            "createdAt": time(discount.created_at),
            "updatedAt": time(discount.updated_at),
            "asyncUsageCount": self.codes.shown_uses(discount.codes),
            "usageLimit": discount.usage_limit,
            "appliesOncePerCustomer": discount.once_per_customer,
            "recurringCycleLimit": None,
            "discountClasses": ["SHIPPING" if discount.kind == KINDS[FREE_SHIPPING] else "ORDER"],
            "tags": list(discount.tags),
            "combinesWith": dict(
                zip(
                    ("orderDiscounts", "productDiscounts", "shippingDiscounts"),
                    discount.combines,
                    strict=True,
                )
            ),
            "context": _context(discount),
            "codesCount": {"count": len(discount.codes), "precision": "EXACT"},
            "codes": self._codes_page(discount),
            "customerGets": self._gets(discount),
            "appliesOnOneTimePurchase": discount.one_time,
            "appliesOnSubscription": discount.subscription,
            "destinationSelection": {"__typename": "DiscountCountryAll", "allCountries": True},
            "maximumShippingPrice": None
            if discount.shipping_most_minor is None
            else money(discount.shipping_most_minor, self.store.currency),
            "minimumRequirement": self._minimum(discount),
        }

    def _codes_page(self, discount: CodeDiscount) -> Any:
        def resolve(info: Any, **asked: Any) -> Node:
            wanted = str(asked.get("query") or "").removeprefix("code:").strip("'\"").casefold()
            shown = [self._redeem(c) for c in discount.codes if not wanted or c.code.casefold() == wanted]
            page: Node = connection(shown, key=lambda node: node["id"])(info, **asked)
            return page

        return resolve

    def _redeem(self, redeem: RedeemCode) -> Node:
        return {
            "id": gid("DiscountRedeemCode", redeem.id),
            "code": redeem.code,
            "asyncUsageCount": self.codes.shown_uses([redeem]),
        }

    def _gets(self, discount: CodeDiscount) -> Node:
        value: Node = {"__typename": "DiscountPercentage", "percentage": float(discount.percent)}
        if not discount.percent:
            amount = money(discount.amount_minor, self.store.currency)
            value = {
                "__typename": "DiscountAmount",
                "amount": amount,
                "appliesOnEachItem": discount.on_each_item,
            }
        return {
            "value": value,
            "items": {"__typename": "AllDiscountItems", "allItems": True},
            "appliesOnOneTimePurchase": discount.one_time,
            "appliesOnSubscription": discount.subscription,
        }

    def _minimum(self, discount: CodeDiscount) -> Node | None:
        if discount.minimum_minor is not None:
            least = money(discount.minimum_minor, self.store.currency)
            return {"__typename": "DiscountMinimumSubtotal", "greaterThanOrEqualToSubtotal": least}
        if discount.minimum_quantity is not None:
            units = str(discount.minimum_quantity)
            return {"__typename": "DiscountMinimumQuantity", "greaterThanOrEqualToQuantity": units}
        return None

    # -- making and changing -------------------------------------------------------------------------------------

    def create(self, info: Any, **given: Mapping[str, Any]) -> Node:
        ((argument, asked),) = given.items()
        wrong = self._code_errors(asked.get("code"), None) or _value_errors(asked, argument, None)
        if wrong:
            return {"codeDiscountNode": None, "userErrors": _at(argument, wrong)}
        made = self.codes.create(
            str(asked.get("title") or asked["code"]), [asked["code"]], kind=KINDS[argument]
        )
        self._fill(made, asked)
        return {"codeDiscountNode": self.node(made), "userErrors": []}

    def update(self, info: Any, id: str, **given: Mapping[str, Any]) -> Node:
        ((argument, asked),) = given.items()
        known = self._known(id)
        wrong = self._update_errors(known, asked, argument)
        if known is None or wrong:
            return {"codeDiscountNode": None, "userErrors": wrong}
        known.kind = KINDS[argument]  # Shopify makes this kind of any other, without a word
        self._fill(known, asked)
        known.updated_at = self.codes.now()
        return {"codeDiscountNode": self.node(known), "userErrors": []}

    def activate(self, info: Any, id: str) -> Node:
        """The end date is wiped; a start that is still to come becomes now. An active one is left as it is, but for
        its end date."""
        known, now = self._known(id), self.codes.now()
        if known is None:
            return {"codeDiscountNode": None, "userErrors": [NO_DISCOUNT]}
        if known.ends_at is not None or known.starts_at > now:
            known.ends_at, known.starts_at, known.updated_at = None, min(known.starts_at, now), now
        return {"codeDiscountNode": self.node(known), "userErrors": []}

    def deactivate(self, info: Any, id: str) -> Node:
        """The end date becomes now, unless it is past already."""
        known, now = self._known(id), self.codes.now()
        if known is None:
            return {"codeDiscountNode": None, "userErrors": [NO_DISCOUNT]}
        if known.ends_at is None or known.ends_at > now:
            known.ends_at, known.starts_at, known.updated_at = now, min(known.starts_at, now), now
        return {"codeDiscountNode": self.node(known), "userErrors": []}

    def delete(self, info: Any, id: str) -> Node:
        known = self._known(id)
        if known is None:
            return {"deletedCodeDiscountId": None, "userErrors": [NO_DISCOUNT]}
        del self.codes.discounts[known.id]
        return {"deletedCodeDiscountId": gid("DiscountCodeNode", known.id), "userErrors": []}

    def bulk_add(self, info: Any, discountId: str, codes: list[Mapping[str, Any]]) -> Node:
        known = self._known(discountId)
        if known is None:
            missing = _error(["discountId"], "Code discount does not exist.", "INVALID")
            return {"bulkCreation": None, "userErrors": [missing]}
        if not 0 < len(codes) <= MOST_CODES_A_CALL:
            wrong = _error(["codes"], "Codes must be between 1 and 250", "INVALID")
            return {"bulkCreation": None, "userErrors": [wrong]}
        self.codes.add_codes(known, [c["code"] for c in codes if self.codes.find(c["code"]) is None])
        creation = {
            "id": gid("DiscountRedeemCodeBulkCreation", self.codes.new_id()),
            "done": False,
            "codesCount": len(codes),
            "importedCount": 0,
            "failedCount": 0,
        }
        return {"bulkCreation": creation, "userErrors": []}

    def _known(self, id: str) -> CodeDiscount | None:
        return self.codes.discounts.get(id_of(id, "DiscountCodeNode", "DiscountNode"))

    def _update_errors(
        self, known: CodeDiscount | None, asked: Mapping[str, Any], argument: str
    ) -> list[Node]:
        if known is None:
            return [NO_DISCOUNT_TO_UPDATE]
        if asked.get("code") is not None and len(known.codes) > 1:
            return [BULK_CODE]
        wrong = self._code_errors(asked["code"], known) if "code" in asked else []
        return _at(argument, wrong or _value_errors(asked, argument, known))

    def _code_errors(self, code: str | None, known: CodeDiscount | None) -> list[Wrong]:
        if code is None:
            return [("code", "Code can't be blank", "BLANK")]
        if not code:
            return [("code", "Code is too short (minimum is 1 character)", "TOO_SHORT")]
        if "\n" in code or "\r" in code:
            return [("code", "Code cannot contain newline characters.", "INVALID")]
        if len(code) > LONGEST_CODE:
            return [("code", "Code is too long (maximum is 255 characters)", "TOO_LONG")]
        found = self.codes.find(code)
        if found is not None and found[0] is not known:
            return [("code", "Code must be unique. Please try a different code.", "TAKEN")]
        return []

    def _fill(self, known: CodeDiscount, asked: Mapping[str, Any]) -> None:
        """What was given is set; what was not stays; null takes a limit or an end date away."""
        if asked.get("title"):
            known.title = asked["title"]
        if asked.get("code"):
            known.codes[0].code = asked["code"]
        if asked.get("startsAt"):
            known.starts_at = moment(asked["startsAt"])
        if "endsAt" in asked:
            known.ends_at = moment(asked["endsAt"]) if asked["endsAt"] else None
        if "usageLimit" in asked:
            known.usage_limit = asked["usageLimit"]
        if asked.get("appliesOncePerCustomer") is not None:
            known.once_per_customer = asked["appliesOncePerCustomer"]
        if asked.get("tags") is not None:
            known.tags = tuple(asked["tags"])
        if "maximumShippingPrice" in asked:
            known.shipping_most_minor = self._minor(asked["maximumShippingPrice"])
        self._fill_value(known, asked.get("customerGets") or asked)
        self._fill_terms(known, asked)

    def _fill_value(self, known: CodeDiscount, gets: Mapping[str, Any]) -> None:
        value = gets.get("value") or {}
        if value.get("percentage") is not None:
            known.percent, known.amount_minor = Decimal(str(value["percentage"])), 0
        if value.get("discountAmount"):
            amount = value["discountAmount"]
            known.amount_minor = self._minor(amount["amount"]) or 0
            known.on_each_item, known.percent = bool(amount.get("appliesOnEachItem")), Decimal(0)
        known.one_time = gets.get("appliesOnOneTimePurchase", known.one_time)
        known.subscription = gets.get("appliesOnSubscription", known.subscription)

    def _fill_terms(self, known: CodeDiscount, asked: Mapping[str, Any]) -> None:
        context = asked.get("context")
        if context:
            known.customers = _customers(known, context)
        combines = asked.get("combinesWith")
        if combines:
            order, product, shipping = ("orderDiscounts", "productDiscounts", "shippingDiscounts")
            known.combines = (bool(combines[order]), bool(combines[product]), bool(combines[shipping]))
        if "minimumRequirement" in asked:
            least = asked["minimumRequirement"] or {}
            subtotal = (least.get("subtotal") or {}).get("greaterThanOrEqualToSubtotal")
            quantity = (least.get("quantity") or {}).get("greaterThanOrEqualToQuantity")
            known.minimum_minor = self._minor(subtotal)
            known.minimum_quantity = int(quantity) if quantity else None

    def _minor(self, amount: Any) -> int | None:
        return None if amount is None else to_minor(Decimal(str(amount)), self.store.currency)


def _customers(known: CodeDiscount, context: Mapping[str, Any]) -> frozenset[int] | None:
    if context.get("all"):
        return None
    asked = context["customers"]
    kept = known.customers or frozenset()
    added = frozenset(id_of(id, "Customer") for id in asked.get("add") or ())
    removed = frozenset(id_of(id, "Customer") for id in asked.get("remove") or ())
    return (kept | added) - removed


def _context(discount: CodeDiscount) -> Node:
    if discount.customers is None:
        return {"__typename": "DiscountBuyerSelectionAll", "all": "ALL"}
    customers = [
        {"id": gid("Customer", id), "legacyResourceId": str(id)} for id in sorted(discount.customers)
    ]
    return {"__typename": "DiscountCustomers", "customers": customers}


def _at(argument: str, wrong: list[Wrong]) -> list[Node]:
    return [_error([argument, field], message, code) for field, message, code in wrong]


def _value_errors(asked: Mapping[str, Any], argument: str, known: CodeDiscount | None) -> list[Wrong]:
    wrong: list[Wrong] = []
    limit = asked.get("usageLimit")
    if limit is not None and limit <= 0:
        wrong.append(("usageLimit", "Usage limit must be greater than 0", "GREATER_THAN"))
    starts = moment(asked["startsAt"]) if asked.get("startsAt") else (known.starts_at if known else None)
    ends = moment(asked["endsAt"]) if asked.get("endsAt") else None
    if starts is not None and ends is not None and ends <= starts:
        wrong.append(("endsAt", "Ends at needs to be after starts_at", "END_DATE_BEFORE_START_DATE"))
    if known is None and argument == BASIC and not (asked.get("customerGets") or {}).get("value"):
        wrong.append(("customerGets", "Customer gets can't be blank", "BLANK"))
    if known is None and not asked.get("startsAt"):
        wrong.append(("startsAt", "Starts at can't be blank", "BLANK"))
    return wrong
