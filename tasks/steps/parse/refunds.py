"""A refund payload to a Refund and its Transactions (S2-S4).

Value given back = lines + shipping - signed adjustments, each with its tax. Shopify tells refunded shipping in two
ways, in some API versions in both at once: as `refund_shipping_lines`, and as an adjustment of kind `shipping_refund`.
It is the same money, so it is counted once: where there are shipping lines, they carry the amount, the shipping
adjustments only lend their tax (shipping lines have none of their own) and are dropped. A `refund_discrepancy` is
never dropped. With this the identity equals the money of the transactions in every recorded shipping refund.
"""

from __future__ import annotations

from collections.abc import Iterator
from datetime import datetime
from fractions import Fraction

from models.errors import Unparseable
from models.rules.facts import Adjustment, Fact, Refund, ReturnedLine, Transaction
from models.rules.money import half_up
from tasks.steps.parse.body import Node
from tasks.steps.parse.fields import (
    currency_in,
    each_in,
    id_in,
    items_in,
    minor_of,
    money_in,
    node_in,
    optional_id_in,
    quantity_in,
    read_in,
    side_of,
    text_in,
    time_in,
)

SETTLED = frozenset({"success", "failure", "error"})


def parse_refund(node: Node, shop_currency: str) -> list[Fact]:
    """A refund that came alone. Its currency is the one its own shop amounts name."""
    shop, presentment = _currencies(node)
    return refund_facts(node, shop or presentment or shop_currency, order_id=None)


def refund_facts(node: Node, currency: str, order_id: int | None) -> list[Fact]:
    """The Refund, then its Transactions. `order_id` is the order that it was found in, None when it came alone."""
    id = id_in(node, "id")
    named = optional_id_in(node, "order_id")
    if order_id is None:
        order_id = id_in(node, "order_id")
    elif named is not None and named != order_id:
        raise Unparseable("order_id", "is not the order that the refund stands in")
    paid_in = _currencies(node)[1] or currency
    transactions = each_in(
        node, "transactions", lambda t: read_transaction(t, paid_in, order_id=order_id, refund=node)
    )
    shipping, adjustments = _shipping_and_adjustments(node, currency)
    refund = Refund(
        id=id,
        order_id=order_id,
        created_at=time_in(node, "created_at", "processed_at"),
        lines=tuple(each_in(node, "refund_line_items", lambda item: _returned_line(item, currency))),
        shipping_minor=shipping,
        adjustments=adjustments,
        transaction_ids=tuple(sorted({transaction.id for transaction in transactions})),
    )
    return [refund, *transactions]


def read_transaction(
    node: Node, currency: str, *, order_id: int | None = None, refund: Node | None = None
) -> Transaction:
    """Money moved. `amount` is in the transaction's own `currency` (presentment money); `currency` is used where it
    names none. A status that is not final counts as pending: nothing is settled until Shopify says so (S3)."""
    own = currency_in(node, "currency", currency)
    if not own:
        raise Unparseable("currency", "is missing")
    named = optional_id_in(node, "order_id")
    if named is None or (order_id is not None and named != order_id):
        if order_id is None or named is not None:
            raise Unparseable("order_id", "is missing" if named is None else "is not the refund's order")
        named = order_id
    status = text_in(node, "status").casefold()
    return Transaction(
        id=id_in(node, "id"),
        order_id=named,
        kind=text_in(node, "kind").casefold(),
        status=status if status in SETTLED else "pending",
        amount_minor=_amount(node, own),
        currency=own,
        shop_amount_minor=_shop_amount(node),
        at=_transaction_time(node, refund),
        refund_id=None if refund is None else id_in(refund, "id"),
    )


def _amount(node: Node, currency: str) -> int:
    if node.get("amount") is not None:
        return minor_of(node["amount"], currency, "amount")
    shown = side_of(node, "amount", "presentment_money")
    return minor_of(shown and shown["amount"], currency, "amount")


def _shop_amount(node: Node) -> int | None:
    shop = side_of(node, "amount", "shop_money")
    if shop is None:
        return None
    field = "amount_set.shop_money"
    try:
        currency = currency_in(shop, "currency_code")
    except Unparseable as error:
        raise Unparseable(f"{field}.{error.field}", error.reason) from None
    return minor_of(shop["amount"], currency, f"{field}.amount")


def _transaction_time(node: Node, refund: Node | None) -> datetime:
    if refund is not None and node.get("created_at") is None and node.get("processed_at") is None:
        return time_in(refund, "created_at", "processed_at")
    return time_in(node, "created_at", "processed_at")


def _returned_line(item: Node, currency: str) -> ReturnedLine:
    """The outer quantity came back; the inner line's is what was bought (S4). A line that cannot be named is 0: its
    money counts, and it is no line of the order. 2016's payloads have no `subtotal`: no value is said, so none is read."""
    line_id = optional_id_in(item, "line_item_id") or optional_id_in(node_in(item, "line_item"), "id")
    return ReturnedLine(
        line_id=line_id or 0,
        quantity=quantity_in(item, "quantity"),
        subtotal_minor=money_in(item, "subtotal", currency, default=0),
        tax_minor=money_in(item, "total_tax", currency, default=0),
    )


def _shipping_and_adjustments(node: Node, currency: str) -> tuple[int, tuple[Adjustment, ...]]:
    """Refunded shipping with its tax, and the adjustments that are not that shipping told again."""
    adjustments = each_in(node, "order_adjustments", lambda a: _adjustment(a, currency))
    shipping_lines = each_in(node, "refund_shipping_lines", lambda s: _shipping_line(s, currency))
    if not shipping_lines:
        return 0, tuple(adjustments)
    told_again = [a for a in adjustments if a.shipping]
    amount = sum(amount for amount, _ in shipping_lines)
    if told_again:
        tax = max(-sum(a.tax_minor for a in told_again), 0)
    else:
        tax = sum(tax for _, tax in shipping_lines)
    return amount + tax, tuple(a for a in adjustments if not a.shipping)


def _adjustment(node: Node, currency: str) -> Adjustment:
    """`kind` until 2024-10, afterwards only `reason` tells shipping from the rest."""
    kind = text_in(node, "kind", default="").casefold()
    reason = text_in(node, "reason", default="").casefold()
    return Adjustment(
        amount_minor=money_in(node, "amount", currency, signed=True),
        tax_minor=money_in(node, "tax_amount", currency, default=0, signed=True),
        shipping=kind == "shipping_refund" if kind else reason.replace(" ", "_") == "shipping_refund",
    )


def _shipping_line(node: Node, currency: str) -> tuple[int, int]:
    """(amount, tax) given back of one shipping line. Its tax is `tax_amount_set` where there is one, else the part of
    the shipping line's tax that the amount is of the line's price, halves up."""
    amount = money_in(node, "subtotal_amount", currency)
    if side_of(node, "tax_amount", "shop_money") is not None:
        return amount, money_in(node, "tax_amount", currency)
    price, tax = read_in(node, "shipping_line", lambda line: _price_and_tax(line, currency))
    if tax == 0 or price == 0 or amount == price - tax:  # the last: all of a line whose price includes tax
        return amount, tax if amount else 0
    return amount, min(half_up(Fraction(tax * amount, price)), tax)


def _price_and_tax(line: Node, currency: str) -> tuple[int, int]:
    """What the whole shipping line cost after discounts, and its tax."""
    price_key = "discounted_price" if line.get("discounted_price") is not None else "price"
    tax = sum(each_in(line, "tax_lines", lambda t: money_in(t, "price", currency, default=0)))
    return money_in(line, price_key, currency, default=0), tax


def _currencies(node: Node) -> tuple[str, str]:
    """(shop currency, presentment currency) as the refund's own amounts name them, "" where none does."""
    shop = presentment = ""
    for both in _amount_sets(node):
        shop = shop or _code_of(both, "shop_money")
        presentment = presentment or _code_of(both, "presentment_money")
        if shop and presentment:
            return shop, presentment
    for transaction in items_in(node, "transactions"):
        presentment = presentment or currency_in(transaction, "currency")
    return shop, presentment


def _code_of(both: object, side: str) -> str:
    """Only looks: an amount that is wrong is refused where it is read."""
    money = both.get(side) if isinstance(both, dict) else None
    code = money.get("currency_code") if isinstance(money, dict) else None
    return code if type(code) is str else ""


def _amount_sets(node: Node) -> Iterator[object]:
    yield node.get("total_duties_set")
    for key, inner in (
        ("refund_line_items", "subtotal_set"),
        ("refund_shipping_lines", "subtotal_amount_set"),
        ("order_adjustments", "amount_set"),
    ):
        for item in items_in(node, key):
            yield item.get(inner)
