"""Transactions, order edits and disputes that came on their own."""

from __future__ import annotations

from models.rules.facts import Dispute, Edit, Fact
from tasks.steps.parse.body import Node
from tasks.steps.parse.fields import (
    currency_in,
    day_or_time_in,
    each_in,
    id_in,
    minor_of,
    optional_id_in,
    quantity_in,
    read_in,
    text_in,
    time_in,
)
from tasks.steps.parse.refunds import read_transaction


def parse_transaction_alone(node: Node, shop_currency: str) -> list[Fact]:
    """`order_transactions/create`: also how a pending refund is settled or dropped (S3)."""
    return [read_transaction(node, shop_currency)]


def parse_edit(node: Node, shop_currency: str) -> list[Fact]:
    """`orders/edited`: deltas without money (S9)."""
    additions, removals = read_in(node, "line_items", _changes)
    return [
        Edit(
            id=id_in(node, "id"),
            order_id=id_in(node, "order_id"),
            committed_at=time_in(node, "committed_at", "created_at"),
            additions=additions,
            removals=removals,
        )
    ]


def _changes(node: Node) -> tuple[tuple[tuple[int, int], ...], tuple[tuple[int, int], ...]]:
    return tuple(each_in(node, "additions", _units)), tuple(each_in(node, "removals", _units))


def _units(change: Node) -> tuple[int, int]:
    return id_in(change, "id"), quantity_in(change, "delta")


def parse_dispute(node: Node, shop_currency: str) -> list[Fact]:
    """`disputes/create|update` (R29). One that belongs to no order says nothing of any order. An inquiry takes no
    money, so its outcome is not a chargeback's: its status gets `inquiry_` in front."""
    id = id_in(node, "id")
    order_id = optional_id_in(node, "order_id")
    if order_id is None:
        return []
    currency = currency_in(node, "currency", shop_currency)
    status = text_in(node, "status").casefold()
    inquiry = text_in(node, "type", default="").casefold() == "inquiry"
    return [
        Dispute(
            id=id,
            order_id=order_id,
            status=f"inquiry_{status}" if inquiry else status,
            amount_minor=minor_of(node.get("amount"), currency, "amount"),
            currency=currency,
            at=day_or_time_in(node, "finalized_on", "initiated_at", "evidence_due_by"),
        )
    ]
