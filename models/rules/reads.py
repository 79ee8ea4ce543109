"""Whether an order has to be read again at Shopify: what was told leaves something open that only the order itself says.

Pure: the same facts give the same keys, so each reading is asked for once.
"""

from __future__ import annotations

from collections.abc import Iterator

from models.rules.order import OrderFacts
from models.rules.refunds import TOLERANCE_MINOR, money_of

UNKNOWN_ORDER = "its order is not known"
EDITED = "it was edited since it was last told"
VOIDED = "a payment was voided since it was last told"
SETTLED = "the money of a refund is other than the refund said"


def reads_wanted(order: OrderFacts) -> list[tuple[str, str]]:
    """(key, why) for each reading that the facts ask for. The keys are for good: what was read once is not wanted twice.

    unknown: something is told of an order that was never told itself (R28)
    edit:    an edit tells deltas only; a snapshot at least as young says what the order is now (S9)
    void:    a void is a hint; the order's state decides (S7)
    settled: the final money of a refund differs from its record: the record may say something else by now (S2, S3)
    """
    if order.placed is None or order.newest is None:
        told = order.refunds or order.transactions or order.edits or order.disputes
        return [(f"read_order:{order.order_id}:unknown", UNKNOWN_ORDER)] if told else []
    return [*_edits(order), *_voids(order), *_settled(order)]


def _edits(order: OrderFacts) -> Iterator[tuple[str, str]]:
    assert order.newest is not None
    for id, edit in sorted(order.edits.items()):
        if edit.committed_at > order.newest.updated_at:
            yield f"read_order:{order.order_id}:edit:{id}", EDITED


def _voids(order: OrderFacts) -> Iterator[tuple[str, str]]:
    assert order.newest is not None
    for id, told in sorted(order.transactions.items()):
        if told.kind == "void" and told.status == "success" and told.at > order.newest.updated_at:
            yield f"read_order:{order.order_id}:void:{id}", VOIDED


def _settled(order: OrderFacts) -> Iterator[tuple[str, str]]:
    """All of the refund's money is final, some of it arrived, and it is not what lines and adjustments come to."""
    for _, known in sorted(order.refunds.items()):
        money = money_of(known.refund, order)
        differs = money.settled and abs(money.identity - money.settled) > TOLERANCE_MINOR
        if differs and not money.pending and not known.undone:
            last = max(told.id for told in order.transactions_of(known.refund))
            yield f"read_order:{order.order_id}:settled:{last}", SETTLED
