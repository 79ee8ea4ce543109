"""A webhook's raw body to facts: pure, strict where a wrong reading would cost value, lenient where Shopify is.

    body.py       bytes -> one JSON object, or Unparseable
    fields.py     one field -> id, amount, time, text, or Unparseable with the field's dotted path
    orders.py     an order -> Snapshot, and the refunds inside it
    refunds.py    a refund -> Refund and its Transactions
    others.py     transactions, edits, disputes that came alone
    graphql.py    an order that we read at Shopify -> the shape above

Nothing here reads a clock, a setting or a database. A body means the same facts whenever it is read.
"""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Mapping
from typing import NamedTuple

from models.errors import UnknownTopic, Unparseable
from models.rules.facts import Fact, Refund
from tasks.steps.parse.body import Node, read_object
from tasks.steps.parse.graphql import parse_read
from tasks.steps.parse.orders import parse_order
from tasks.steps.parse.others import parse_dispute, parse_edit, parse_transaction_alone
from tasks.steps.parse.refunds import parse_refund

Reader = Callable[[Node, str], list[Fact]]

READ_TOPIC = "orders/read"  # no topic of Shopify's: an order that we read again

# topic -> (how it is read, the wrapper that recorded API answers have and webhooks mostly have not)
_READERS: Mapping[str, tuple[Reader, str]] = {
    "orders/create": (parse_order, "order"),
    "orders/paid": (parse_order, "order"),
    "orders/updated": (parse_order, "order"),
    "orders/cancelled": (parse_order, "order"),
    "orders/edited": (parse_edit, "order_edit"),
    "refunds/create": (parse_refund, "refund"),
    "order_transactions/create": (parse_transaction_alone, "transaction"),
    "disputes/create": (parse_dispute, "dispute"),
    "disputes/update": (parse_dispute, "dispute"),
    READ_TOPIC: (parse_read, ""),
}
FACT_TOPICS = frozenset(_READERS)


class Peek(NamedTuple):
    """Ids for people to see beside a queue message. Never decided upon."""

    order_id: int | None
    refund_id: int | None


def parse(topic: str, body: bytes, *, shop_currency: str = "") -> tuple[Fact, ...]:
    """The facts that `body` tells under `topic`, in the payload's own order: a snapshot before its refunds, a refund
    before its transactions. `shop_currency` serves only old payloads that name no currency anywhere.

    Raises UnknownTopic outside FACT_TOPICS, Unparseable (dotted path, reason) for what cannot be understood; nothing else.
    """
    if topic not in _READERS:
        raise UnknownTopic(topic)
    return parse_object(topic, read_object(body), shop_currency=shop_currency)


def parse_object(topic: str, node: Node, *, shop_currency: str = "") -> tuple[Fact, ...]:
    """The same for a body that is read already, under one of FACT_TOPICS. Raises Unparseable."""
    read, wrapper = _READERS[topic]
    inner = unwrapped(topic, node)
    if inner is node:
        return tuple(read(node, shop_currency))
    try:
        return tuple(read(inner, shop_currency))
    except Unparseable as error:
        raise Unparseable(f"{wrapper}.{error.field}", error.reason) from None


def unwrapped(topic: str, node: Node) -> Node:
    """What the body is about: itself, or what stands in the wrapper that recorded API answers have."""
    inner = node.get(_READERS[topic][1])
    return inner if isinstance(inner, dict) and "id" not in node else node


def order_ids(facts: Iterable[Fact]) -> tuple[int, ...]:
    """The orders that the facts are about, each once, least first."""
    return tuple(sorted({fact.order_id for fact in facts}))


def refund_ids(facts: Iterable[Fact]) -> tuple[int, ...]:
    """The refunds that the facts tell of, each once, least first."""
    return tuple(sorted({fact.id for fact in facts if isinstance(fact, Refund)}))


def peek(body: bytes) -> Peek:
    """The order's and the refund's id as far as they can be seen at a glance. Never raises."""
    try:
        node = json.loads(body, parse_float=str)
    except (ValueError, RecursionError):
        return Peek(None, None)
    if not isinstance(node, dict):
        return Peek(None, None)
    for wrapper in ("order", "refund", "order_edit", "transaction", "dispute"):
        if "id" not in node and isinstance(node.get(wrapper), dict):
            node = node[wrapper]
    if "line_items" in node and "order_id" not in node:
        return Peek(_shown(node.get("id")), None)
    is_refund = "refund_line_items" in node or "order_adjustments" in node
    return Peek(_shown(node.get("order_id")), _shown(node.get("id")) if is_refund else None)


def _shown(value: object) -> int | None:
    if isinstance(value, str) and value.isascii() and value.isdecimal() and len(value) < 20:
        value = int(value)
    return value if type(value) is int and 0 < value < 2**63 else None


__all__ = [
    "FACT_TOPICS",
    "READ_TOPIC",
    "Peek",
    "order_ids",
    "parse",
    "parse_object",
    "peek",
    "refund_ids",
    "unwrapped",
]
