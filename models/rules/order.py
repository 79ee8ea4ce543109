"""What is known of one order: every telling joined into one (R0, R28, S6, S9).

Joins are commutative, associative and idempotent, so any arrival order and any number of repeats end in the same
facts. "As placed" is the oldest snapshot, "newest" the youngest by `updated_at`; times observed keep their least.
A fact is never later than its arrival: Shopify's clock may run ahead of ours.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import TypeVar

from models.rules.facts import (
    Cancellation,
    Dispute,
    Edit,
    Fact,
    ImportedAward,
    Refund,
    Snapshot,
    Transaction,
    Undo,
)

PAID_STATUSES = frozenset({"paid", "partially_refunded", "refunded"})
VOID_STATUSES = frozenset({"voided", "expired"})
UNCAPTURED_STATUSES = frozenset({"pending", "authorized", "voided", "expired"})
PROGRESS = (
    "pending",
    "authorized",
    "expired",
    "voided",
    "partially_paid",
    "paid",
    "partially_refunded",
    "refunded",
)
STATUS_PRECEDENCE = {"pending": 0, "failure": 1, "error": 2, "success": 3}

MERCHANT_REFUND_FIRST = 9 * 10**18  # ids from here on are of refunds asked of us (R36), far above Shopify's

T = TypeVar("T")


def refund_key(id: int) -> str:
    """The name of a refund as a cause."""
    return f"refund:{id}"


@dataclass(slots=True)
class KnownRefund:
    """A refund, when it first arrived, and other contents that came under its id (kept, never silently taken)."""

    refund: Refund
    received_at: datetime
    conflicts: list[str] = field(default_factory=list)
    undone: bool = False

    @property
    def at(self) -> datetime:
        return min(self.refund.created_at, self.received_at)


@dataclass(slots=True)
class OrderFacts:
    """The joined facts of one order. `gone_at[(line, level)]`: when `level` units of the line were first seen gone.

    cancellations: id -> when the merchant told us that the order is off (R36)    undone: causes taken back (R38)
    imported: rule -> what another program awarded for the order, in place of what this one would (D29)
    line_names: line -> what its product is called, where that was told; for people, no rule reads it. None: erased, and
    not kept again

    named_id: the customer as Shopify named him    aliases: customers merged since, each with the one he is now (R33)
    """

    order_id: int
    placed: Snapshot | None = None
    newest: Snapshot | None = None
    named_id: int | None = None
    customer_seen_at: datetime | None = None
    paid_at: datetime | None = None
    voided_at: datetime | None = None
    cancelled_at: datetime | None = None
    line_seen_at: dict[int, datetime] = field(default_factory=dict)
    line_names: dict[int, str] | None = field(default_factory=dict)
    gone_at: dict[tuple[int, int], datetime] = field(default_factory=dict)
    refunds: dict[int, KnownRefund] = field(default_factory=dict)
    transactions: dict[int, Transaction] = field(default_factory=dict)
    edits: dict[int, Edit] = field(default_factory=dict)
    disputes: dict[int, Dispute] = field(default_factory=dict)
    cancellations: dict[int, datetime] = field(default_factory=dict)
    undone: set[str] = field(default_factory=set)
    imported: dict[str, ImportedAward] = field(default_factory=dict)
    aliases: Mapping[int, int] = field(default_factory=dict, compare=False, repr=False)

    @property
    def customer_id(self) -> int | None:
        """Whose order it is: a merged customer was always one with his survivor (R33)."""
        told = self.told_id
        return None if told is None else self.aliases.get(told, told)

    @property
    def told_id(self) -> int | None:
        """The customer as Shopify named him; until it does, as an imported award did (D29)."""
        if self.named_id is None and self.imported:
            return min(award.customer_id for award in self.imported.values())
        return self.named_id

    @property
    def imported_at(self) -> datetime | None:
        """Until when another program judged what became of the order; None when none of its awards was imported (D29)."""
        return min((award.at for award in self.imported.values()), default=None)

    def add(self, fact: Fact, received_at: datetime) -> None:
        """Join one more telling."""
        if isinstance(fact, Snapshot):
            self._add_snapshot(fact, received_at)
        elif isinstance(fact, Refund):
            self._add_refund(fact, received_at)
        elif isinstance(fact, Transaction):
            self._add_transaction(fact)
        elif isinstance(fact, Edit):
            told = replace(fact, committed_at=min(fact.committed_at, received_at))
            self.edits[fact.id] = _earlier_edit(self.edits.get(fact.id), told)
        elif isinstance(fact, Cancellation):
            self.cancellations[fact.id] = _earlier(self.cancellations.get(fact.id), fact.at)
        elif isinstance(fact, Undo):
            self._undo(fact.cause)
        elif isinstance(fact, ImportedAward):
            self.imported[fact.rule] = min(self.imported.get(fact.rule, fact), fact, key=repr)
        else:
            self.disputes[fact.id] = _join_disputes(
                self.disputes.get(fact.id), replace(fact, at=min(fact.at, received_at))
            )

    def _undo(self, cause: str) -> None:
        self.undone.add(cause)
        for known in self.refunds.values():
            known.undone = known.undone or refund_key(known.refund.id) == cause

    def _add_snapshot(self, new: Snapshot, received_at: datetime) -> None:
        if self.placed is None or _is_younger(self.placed, new):
            self.placed = new
        if self.newest is None or _is_younger(new, self.newest):
            self.newest = new
        at = min(new.updated_at, received_at)
        self._join_customer(new)
        if new.financial_status in PAID_STATUSES:
            self.paid_at = _earlier(self.paid_at, at)
        if new.financial_status in VOID_STATUSES:
            self.voided_at = _earlier(self.voided_at, at)
        if new.cancelled_at is not None:
            self.cancelled_at = _earlier(self.cancelled_at, min(new.cancelled_at, received_at))
        for line in new.lines:
            self.line_seen_at[line.id] = _earlier(self.line_seen_at.get(line.id), at)
            if line.name and self.line_names is not None:
                self.line_names[line.id] = min(self.line_names.get(line.id, line.name), line.name)
            gone = line.quantity - line.current_quantity
            if gone > 0:
                self.gone_at[line.id, gone] = _earlier(self.gone_at.get((line.id, gone)), at)

    def _join_customer(self, new: Snapshot) -> None:
        if new.customer_id is None:
            return
        seen = (self.customer_seen_at, self.named_id)
        if self.customer_seen_at is None or (new.updated_at, new.customer_id) > seen:
            self.customer_seen_at, self.named_id = new.updated_at, new.customer_id

    def _add_refund(self, new: Refund, received_at: datetime) -> None:
        known = self.refunds.get(new.id)
        if known is None:
            undone = refund_key(new.id) in self.undone
            self.refunds[new.id] = KnownRefund(new, received_at, undone=undone)
            return
        known.received_at = min(known.received_at, received_at)
        standing, other = sorted((known.refund, new), key=_content)
        if _content(standing) != _content(other):
            known.conflicts = sorted({*known.conflicts, repr(_content(other))})
        known.refund = replace(
            standing,
            created_at=min(known.refund.created_at, new.created_at),
            transaction_ids=tuple(sorted({*known.refund.transaction_ids, *new.transaction_ids})),
        )

    def _add_transaction(self, new: Transaction) -> None:
        known = self.transactions.get(new.id)
        self.transactions[new.id] = new if known is None else join_transactions(known, new)

    def name_of(self, line_id: int) -> str:
        """What a line is called; empty where that is not known."""
        return (self.line_names or {}).get(line_id, "")

    def transactions_of(self, refund: Refund) -> list[Transaction]:
        """The refund-kind transactions that the refund listed, in id order."""
        found = (self.transactions.get(id) for id in sorted(refund.transaction_ids))
        return [t for t in found if t is not None and t.kind == "refund"]

    @property
    def captured(self) -> bool:
        """Whether money was ever taken (S7): by the newest status, or a sale or capture that succeeded.

        An order that costs nothing is called paid, but nothing is ever taken for it."""
        newest = self.newest
        if newest is not None and newest.total_minor and newest.financial_status not in UNCAPTURED_STATUSES:
            return True
        return any(
            t.kind in ("sale", "capture") and t.status == "success" for t in self.transactions.values()
        )


def join_transactions(a: Transaction, b: Transaction) -> Transaction:
    """The same transaction told twice: a final status beats `pending`, and what one telling lacks the other gives."""
    best, other = sorted((a, b), key=lambda t: (-STATUS_PRECEDENCE.get(t.status, -1), _sortable(t)))
    return Transaction(
        id=best.id,
        order_id=best.order_id,
        kind=best.kind,
        status=best.status,
        amount_minor=best.amount_minor,
        currency=best.currency,
        shop_amount_minor=_first(best.shop_amount_minor, other.shop_amount_minor),
        at=min(a.at, b.at),
        refund_id=_first(best.refund_id, other.refund_id),
    )


def _sortable(t: Transaction) -> tuple[object, ...]:
    return (t.amount_minor, t.currency, t.kind, t.shop_amount_minor or -1, t.refund_id or -1)


def _first(a: T | None, b: T | None) -> T | None:
    return b if a is None else a


def _earlier(a: datetime | None, b: datetime) -> datetime:
    return b if a is None or b < a else a


def _earlier_edit(a: Edit | None, b: Edit) -> Edit:
    return b if a is None else min(a, b, key=lambda edit: (edit.committed_at, repr(edit)))


def _join_disputes(a: Dispute | None, b: Dispute) -> Dispute:
    """Lost stands over won over open; of the same, the earlier."""
    if a is None:
        return b
    return min(a, b, key=lambda d: (d.status != "lost", d.status != "won", d.at, repr(d)))


def _is_younger(a: Snapshot, b: Snapshot) -> bool:
    """Later by `updated_at`; within one instant, the one whose order has come further, then by what they say."""
    if a.updated_at != b.updated_at:
        return a.updated_at > b.updated_at
    return a != b and (_progress(a), repr(a)) > (_progress(b), repr(b))


def _progress(snapshot: Snapshot) -> tuple[int, bool, int, int]:
    """How far an order has come: Shopify's times are whole seconds, and much happens in one."""
    status = snapshot.financial_status
    step = PROGRESS.index(status) if status in PROGRESS else -1
    gone = sum(line.quantity - line.current_quantity for line in snapshot.lines)
    return step, snapshot.cancelled_at is not None, len(snapshot.lines), gone


def _content(refund: Refund) -> tuple[object, ...]:
    """What a refund says, without its transactions (their status changes by design)."""
    lines = tuple(sorted((x.line_id, x.quantity, x.subtotal_minor, x.tax_minor) for x in refund.lines))
    adjustments = tuple(sorted((x.amount_minor, x.tax_minor, x.shipping) for x in refund.adjustments))
    return lines, refund.shipping_minor, adjustments
