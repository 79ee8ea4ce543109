"""An order payload to a Snapshot, followed by the facts of every refund inside it (S1, S5, S10)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import replace
from typing import NamedTuple

from models.errors import Unparseable
from models.rules.facts import Fact, Line, Snapshot
from tasks.steps.parse.body import Node
from tasks.steps.parse.fields import (
    currency_in,
    each_in,
    flag_in,
    id_in,
    items_in,
    minor_of,
    money_in,
    optional_id_in,
    optional_time_in,
    quantity_in,
    read_in,
    side_of,
    text_in,
    time_in,
)
from tasks.steps.parse.refunds import refund_facts

LONGEST_NAME = 120  # characters
JOINERS = "\u200c\u200d"


class _Presentment(NamedTuple):
    currency: str
    total_minor: int


def parse_order(node: Node, shop_currency: str) -> list[Fact]:
    """The snapshot first, then each refund with its transactions."""
    currency = currency_in(node, "currency", shop_currency)
    if not currency:
        raise Unparseable("currency", "is missing")
    snapshot = _snapshot(node, currency)
    facts: list[Fact] = [snapshot]
    for told in each_in(node, "refunds", lambda refund: refund_facts(refund, currency, snapshot.order_id)):
        facts += told
    return facts


def _snapshot(node: Node, currency: str) -> Snapshot:
    order_id = id_in(node, "id")
    placed_at = time_in(node, "created_at", "processed_at", "updated_at")
    taxes_included = flag_in(node, "taxes_included")
    applications = _codes_by_index(node)
    lines = _lines(node, currency, applications)
    presentment = _presentment(node, currency)
    return Snapshot(
        order_id=order_id,
        name=text_in(node, "name", default=f"#{order_id}"),
        placed_at=placed_at,
        updated_at=optional_time_in(node, "updated_at") or placed_at,
        currency=currency,
        presentment_currency=presentment.currency,
        total_minor=money_in(node, "total_price", currency),
        subtotal_minor=_subtotal(node, currency, lines, taxes_included),
        presentment_total_minor=presentment.total_minor,
        outstanding_minor=_outstanding(node, currency),
        # null is what an order without any payment has: nothing was paid
        financial_status=text_in(node, "financial_status", default="pending").casefold(),
        cancelled_at=optional_time_in(node, "cancelled_at"),
        customer_id=read_in(node, "customer", lambda customer: optional_id_in(customer, "id")),
        test=flag_in(node, "test"),
        taxes_included=taxes_included,
        lines=lines,
        codes=_codes(node, applications),
    )


def _presentment(node: Node, currency: str) -> _Presentment:
    """What the buyer was shown. An old payload with another presentment currency and no amount set gives total 0:
    its ratio is not known, and a zero says so (S1)."""
    shown = side_of(node, "total_price", "presentment_money")
    named = currency_in(node, "presentment_currency", currency)
    if shown is None:
        return _Presentment(named, money_in(node, "total_price", currency) if named == currency else 0)
    named = currency_in(shown, "currency_code", named)
    return _Presentment(named, minor_of(shown["amount"], named, "total_price_set.presentment_money.amount"))


def _outstanding(node: Node, currency: str) -> int | None:
    """What the buyer still owes; None where the payload does not say. Owing the buyer (negative) is owing nothing."""
    if node.get("total_outstanding") is None:
        return None
    return max(minor_of(node["total_outstanding"], currency, "total_outstanding", signed=True), 0)


def _subtotal(node: Node, currency: str, lines: tuple[Line, ...], taxes_included: bool) -> int:
    """Items after discounts, without tax and shipping. Counted from the lines, because `subtotal_price` includes tax
    in some shops and its discounts differ in recorded samples; taken from it only when there are no lines."""
    if not lines:
        return money_in(node, "subtotal_price", currency, default=0)
    tax = sum(line.tax_minor for line in lines) if taxes_included else 0
    return max(sum(line.net_minor for line in lines) - tax, 0)


def _lines(node: Node, currency: str, applications: Mapping[int, str]) -> tuple[Line, ...]:
    """A line without an id (a sample, a deleted custom item) gets -1, -2, ... by its place: its money counts, and no
    refund can name it."""
    lines = each_in(node, "line_items", lambda item: _line(item, currency, applications))
    if all(line.id for line in lines):
        return tuple(lines)
    return tuple(
        replace(line, id=-place) if not line.id else line for place, line in enumerate(lines, start=1)
    )


def _line(item: Node, currency: str, applications: Mapping[int, str]) -> Line:
    """Allocations are the discount; `total_discount` is a legacy field, read only where there are none to read."""
    quantity = quantity_in(item, "quantity")
    gross = money_in(item, "price", currency) * quantity
    shares: dict[str, int] = {}
    if item.get("discount_allocations") is None:
        discount = money_in(item, "total_discount", currency, default=0)
    else:
        discount = 0
        for index, amount in each_in(item, "discount_allocations", lambda a: _allocation(a, currency)):
            discount += amount
            code = applications.get(index)
            if code and amount:
                shares[code] = shares.get(code, 0) + amount
    return Line(
        id=optional_id_in(item, "id") or 0,
        quantity=quantity,
        current_quantity=quantity_in(item, "current_quantity", quantity),
        net_minor=max(gross - discount, 0),
        tax_minor=sum(each_in(item, "tax_lines", lambda tax: money_in(tax, "price", currency, default=0))),
        code_discounts=tuple(sorted(shares.items())),
        name=_name(item),
    )


def _name(item: Node) -> str:
    """What a line is called, with its variant. Nothing depends on it: what cannot be kept of it is left out."""
    for told in (item.get("name"), item.get("title")):
        words = told.split() if type(told) is str else []
        if kept := " ".join("".join(filter(_is_shown, word)) for word in words).strip():
            return kept[:LONGEST_NAME]
    return ""


def _is_shown(character: str) -> bool:
    """Whether it can be read, or joins what can (in Persian, in emoji)."""
    return character.isprintable() or character in JOINERS


def _allocation(node: Node, currency: str) -> tuple[int, int]:
    index = node.get("discount_application_index")
    return (index if type(index) is int else -1), money_in(node, "amount", currency)


def _codes_by_index(node: Node) -> dict[int, str]:
    """Place in `discount_applications` -> code, for codes that take money off lines (S5)."""
    return {
        index: code
        for index, (code, target) in enumerate(each_in(node, "discount_applications", _application))
        if code and target == "line_item"
    }


def _application(node: Node) -> tuple[str, str]:
    """(code, what it takes money off); no code for what is not a discount code."""
    if node.get("type") != "discount_code":
        return "", ""
    return text_in(node, "code", default="").casefold(), text_in(node, "target_type", default="")


def _codes(node: Node, applications: Mapping[int, str]) -> tuple[str, ...]:
    """Every code used, shipping codes too. `discount_codes` may hold a title instead of a code, so it is believed
    only when there are no applications to tell which is which."""
    if items_in(node, "discount_applications"):
        codes = [code for code, _ in each_in(node, "discount_applications", _application)]
    else:
        codes = each_in(node, "discount_codes", lambda used: text_in(used, "code", default="").casefold())
    return tuple(sorted({code for code in codes if code}))
