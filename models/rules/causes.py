"""What takes an order apart: its refunds, edits, lost disputes, void and cancellation, in their own time (R4, R27-R29)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from fractions import Fraction
from math import floor
from typing import NamedTuple

from models.rules.awards import added_lines, earning_shares, is_from_before, is_ignored, line_value
from models.rules.facts import Line, Refund
from models.rules.order import MERCHANT_REFUND_FIRST, VOID_STATUSES, KnownRefund, OrderFacts, refund_key
from models.rules.program import Program, program_at
from models.rules.refunds import RefundMoney, in_shop_money, items_of, money_of

CANCELLED_PAID_WAITING = "CANCELLED_PAID_WAITING"
VOIDED_STILL_OWED = "VOIDED_STILL_OWED"
NO_CUSTOMER = "NO_CUSTOMER"
TEST_ORDER_IGNORED = "TEST_ORDER_IGNORED"
PLACED_BEFORE_INSTALL = "PLACED_BEFORE_INSTALL"
REFUND_CONFLICT = "REFUND_CONFLICT"
ORDER_UNKNOWN = "ORDER_UNKNOWN"
REFUNDED_TWICE = "REFUNDED_TWICE"


class Removal(NamedTuple):
    """What an edit took off one line: the part of its units, and what that was worth (smallest unit).

    past: it went before an award of the order was imported, and so beside what went later (D29)
    """

    line: Line
    part: Fraction
    value: int
    at: datetime
    past: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Cause:
    """One thing that asks something back. `sort_id` orders causes of one instant; `value` is money given back.

    kind: refund, dispute, edit, void, cancel, reversal     closing: the remainder belongs to it (R4)
    removed: for an edit, what went     matched: of the value, what an edit took already (S9)
    """

    key: str
    kind: str
    at: datetime
    sort_id: int
    value: int
    policy: Program
    closing: bool = False
    refund: Refund | None = None
    money: RefundMoney | None = None
    removed: Removal | None = None
    matched: int = 0

    @property
    def counted(self) -> int:
        """The money that an edit has not taken already."""
        return self.value - self.matched

    @property
    def status(self) -> str:
        """Which of R11's statuses it gives the order."""
        if self.kind in ("void", "cancel"):
            return "voided" if self.kind == "void" else "cancelled"
        return "refunded" if self.closing else "partially_refunded"


def removed_units(line: Line, order: OrderFacts) -> int:
    """Units of a line that went without a refund taking them back (S9).

    Only refunds that the newest snapshot can have seen count: one told before the order's next snapshot explains
    nothing of what this one shows.
    """
    assert order.newest is not None
    return max(
        0, line.quantity - line.current_quantity - _returned_units(line, order, order.newest.updated_at)
    )


def _returned_units(line: Line, order: OrderFacts, until: datetime) -> int:
    """Units that refunds took back; what an undone refund of Shopify's took is gone all the same (R38)."""
    return sum(
        returned.quantity
        for id, known in order.refunds.items()
        if known.at <= until and not (known.undone and id >= MERCHANT_REFUND_FIRST)
        for returned in known.refund.lines
        if returned.line_id == line.id
    )


def causes_of(order: OrderFacts, programs: Sequence[Program]) -> list[Cause]:
    """Every cause in the order of its own time, then id; the one that closes the order is marked."""
    causes = _timed(order, programs)
    closing = _closing_refund(order, causes, programs)
    ending = _ending(order, programs, refunded=closing is not None)
    if ending is not None and (closing is None or ending.at < closing.at):
        return sorted([*causes, ending], key=order_of_time)
    return [replace(cause, closing=True) if cause is closing else cause for cause in causes]


def _timed(order: OrderFacts, programs: Sequence[Program]) -> list[Cause]:
    """Refunds, lost disputes and edits, in the order of their own time."""
    refunds = [_refund_cause(known, order, programs) for known in order.refunds.values() if not known.undone]
    others = [*_dispute_causes(order, programs), *_edit_causes(order, programs)]
    causes = sorted([*refunds, *others], key=order_of_time)
    return _matched(causes, order) if any(cause.removed for cause in causes) else causes


def flags_of(order: OrderFacts, programs: Sequence[Program], causes: Sequence[Cause]) -> list[str]:
    """What a person should know of the order, in reason codes."""
    flags = []
    newest = order.newest
    if newest is None or order.placed is None:
        return [ORDER_UNKNOWN]
    if order.customer_id is None:
        flags.append(NO_CUSTOMER)
    if is_ignored(order, programs):
        flags.append(TEST_ORDER_IGNORED)
    if is_from_before(order, programs):
        flags.append(PLACED_BEFORE_INSTALL)
    if any(known.conflicts for known in order.refunds.values()):
        flags.append(REFUND_CONFLICT)
    if _refunded_twice(order, programs, causes):
        flags.append(REFUNDED_TWICE)
    closed = any(cause.closing for cause in causes)
    if order.cancelled_at is not None and order.captured and not closed:
        flags.append(CANCELLED_PAID_WAITING)
    undone = f"void:{order.order_id}" in order.undone
    if newest.financial_status in VOID_STATUSES and not closed and not order.captured and not undone:
        flags.append(VOIDED_STILL_OWED)
    return flags


def _refunded_twice(order: OrderFacts, programs: Sequence[Program], causes: Sequence[Cause]) -> bool:
    """A refund asked of us and Shopify's own, and together more than the order came to: the same money, it seems (R36)."""
    refunds = [cause for cause in causes if cause.refund is not None and cause.value > 0]
    origins = {cause.sort_id >= MERCHANT_REFUND_FIRST for cause in refunds}
    if len(origins) < 2:
        return False
    return sum(cause.counted for cause in refunds) > _net_of(order, programs, causes)


def money_left(order: OrderFacts, programs: Sequence[Program]) -> tuple[int, int]:
    """What has to come back still to close the order, and what edits after payment took that no money followed yet:
    money that names no items is taken for the latter first (S9, D15d). Neither is below 0."""
    causes = _timed(order, programs)
    back = sum(cause.counted for cause in causes if cause.kind in ("refund", "dispute"))
    paid = order.paid_at
    gone = sum(c.value for c in causes if c.removed is not None and paid is not None and c.at > paid)
    left = max(0, _net_of(order, programs, causes) - back)
    return left, gone - sum(cause.matched for cause in causes)


def _net_of(order: OrderFacts, programs: Sequence[Program], causes: Sequence[Cause]) -> int:
    assert order.placed is not None
    shares = earning_shares(order, programs)
    total = Fraction(order.placed.total_minor)
    for line in added_lines(order):
        total += line_value(line, order.placed, "total") * shares[line.id]
    return floor(total) - sum(cause.value for cause in causes if cause.kind == "edit")


def removals_of(order: OrderFacts, programs: Sequence[Program]) -> list[Removal]:
    """What edits took off the order (S9). What went with the cancellation itself is no edit (R27)."""
    assert order.placed is not None
    shares, removals = earning_shares(order, programs), []
    for line in edited_lines(order):
        units = removed_units(line, order)
        if units == 0:
            continue
        worth = line_value(line, order.placed, "total") * shares.get(line.id, Fraction(1))
        past = _past_units(line, order, units)
        for before, now, is_past in ((0, past, True), (past, units, False)):
            at = None if before == now else _gone_at(line, order, now)
            if at is None or (order.cancelled_at is not None and at >= order.cancelled_at):
                continue
            if is_past and order.imported_at is not None:
                at = min(at, order.imported_at)
            value = floor(worth * now / line.quantity) - floor(worth * before / line.quantity)
            removals.append(Removal(line, Fraction(now - before, line.quantity), value, at, is_past))
    return removals


def _past_units(line: Line, order: OrderFacts, units: int) -> int:
    """Of these units those that another program took its own from, when it awarded the order (D29)."""
    return 0 if order.imported_at is None else min(units, units_gone_by(line, order, order.imported_at))


def units_gone_by(line: Line, order: OrderFacts, until: datetime) -> int:
    """Units of a line that had gone by edit when another program's word of the order ended (D29): those seen gone by
    then, and those that the first telling shows gone already, but for what an edit told of took later."""
    placed = order.placed
    assert placed is not None
    later = [edit for edit in order.edits.values() if edit.committed_at > until]
    seen = [(level, at) for (id, level), at in order.gone_at.items() if id == line.id and at <= until]
    gone = [min(level, line.quantity) - _returned_units(line, order, at) for level, at in seen]
    for first in placed.lines:
        if first.id == line.id:
            told = first.quantity - first.current_quantity - _returned_units(line, order, placed.updated_at)
            gone.append(told - sum(units for edit in later for id, units in edit.removals if id == line.id))
    return max([0, *gone])


def _matched(causes: Sequence[Cause], order: OrderFacts) -> list[Cause]:
    """Causes in order of time, so that an edit of a paid order and money given back for it without naming items
    count once (S9): whichever comes later counts for what the earlier has not taken yet."""
    gone = money = 0
    out = []
    for cause in causes:
        if cause.removed is not None and order.paid_at is not None and cause.at > order.paid_at:
            same = min(money, cause.value)
            money, gone = money - same, gone + cause.value - same
            left = 1 - Fraction(same, cause.value) if cause.value else Fraction(1)
            removed = cause.removed._replace(part=cause.removed.part * left)
            cause = replace(cause, value=cause.value - same, removed=removed)
        elif cause.refund is not None:
            beyond = max(0, cause.value - items_of(cause.refund) - cause.refund.shipping_minor)
            same = min(gone, beyond)
            gone, money = gone - same, money + beyond - same
            cause = replace(cause, matched=same)
        out.append(cause)
    return out


def _gone_at(line: Line, order: OrderFacts, units: int) -> datetime:
    """When so many units of a line were first seen gone by edit."""
    assert order.newest is not None
    seen = [
        at
        for (id, level), at in order.gone_at.items()
        if id == line.id and min(level, line.quantity) - _returned_units(line, order, at) >= units
    ]
    return min(seen, default=order.newest.updated_at)


def edited_lines(order: OrderFacts) -> list[Line]:
    """The newest view of each line, with the placed view's money for lines that were placed."""
    assert order.placed is not None and order.newest is not None
    placed = {line.id: line for line in order.placed.lines}
    return [_as_placed(placed.get(line.id), line) for line in order.newest.lines]


def _as_placed(first: Line | None, line: Line) -> Line:
    if first is None:
        return line
    current = _current(first, line)
    return first if first.current_quantity == current else replace(first, current_quantity=current)


def _current(placed: Line, newest: Line) -> int:
    """Units still there, counted against the quantity as placed; more than that earns nothing of itself."""
    return max(0, placed.quantity - (newest.quantity - newest.current_quantity))


def order_of_time(cause: Cause) -> tuple[datetime, bool, int, str]:
    """By which causes follow each other: their own time, what gives back before what ends the order, then id (R0, D12)."""
    return cause.at, cause.kind in ("void", "cancel"), cause.sort_id, cause.key


def _refund_cause(known: KnownRefund, order: OrderFacts, programs: Sequence[Program]) -> Cause:
    policy = program_at(programs, known.at)
    money = money_of(known.refund, order, items_without_money=policy.items_without_money)
    id = known.refund.id
    return Cause(
        key=refund_key(id),
        kind="refund",
        at=known.at,
        sort_id=id,
        value=money.value,
        policy=policy,
        refund=known.refund,
        money=money,
    )


def _dispute_causes(order: OrderFacts, programs: Sequence[Program]) -> list[Cause]:
    """Chargebacks lost, as refund-class causes (R29)."""
    assert order.placed is not None
    causes = []
    for dispute in order.disputes.values():
        if dispute.status != "lost":
            continue
        policy = program_at(programs, dispute.at)
        assert order.placed is not None
        value = in_shop_money(dispute.amount_minor, dispute.currency, order.placed)
        key = f"dispute:{dispute.id}"
        causes.append(
            Cause(key=key, kind="dispute", at=dispute.at, sort_id=dispute.id, value=value, policy=policy)
        )
    return causes


def _edit_causes(order: OrderFacts, programs: Sequence[Program]) -> list[Cause]:
    return [
        Cause(
            key=f"edit:{removal.line.id}" + (":before" if removal.past else ""),
            kind="edit",
            at=removal.at,
            sort_id=removal.line.id,
            value=removal.value,
            policy=program_at(programs, removal.at),
            removed=removal,
        )
        for removal in removals_of(order, programs)
    ]


def _closing_refund(order: OrderFacts, causes: Sequence[Cause], programs: Sequence[Program]) -> Cause | None:
    """The refund (or lost dispute) that brings what was given back to the whole of the order (R4)."""
    paying = [cause for cause in causes if cause.kind in ("refund", "dispute") and cause.value > 0]
    total, running = _net_of(order, programs, causes), 0
    if total == 0 and not paying:
        return _all_units_back(order, causes)
    for cause in paying:
        running += cause.counted
        if 0 < total <= running:
            return cause
    assert order.newest is not None
    waiting = any(cause.money is not None and cause.money.pending for cause in causes)
    waiting = waiting or any(known.undone for known in order.refunds.values())
    if order.newest.financial_status == "refunded" and not waiting and paying:
        return paying[-1]
    return None


def _all_units_back(order: OrderFacts, causes: Sequence[Cause]) -> Cause | None:
    """What closes an order that cost nothing: the refund that brings the last unit back (R13)."""
    assert order.placed is not None
    left = {line.id: line.quantity for line in order.placed.lines}
    for cause in causes:
        for line in cause.refund.lines if cause.refund is not None else ():
            left[line.line_id] = left.get(line.line_id, 0) - line.quantity
        if cause.refund is not None and left and all(units <= 0 for units in left.values()):
            return cause
    return None


def _ending(order: OrderFacts, programs: Sequence[Program], *, refunded: bool) -> Cause | None:
    """The void or cancellation that closes an order, if one does: the earliest that is not undone (R27, R36, R38)."""
    told = _told_ending(order, programs, refunded=refunded)
    asked = [
        _end(order, "cancel", at, program_at(programs, at), key=f"cancellation:{id}")
        for id, at in order.cancellations.items()
    ]
    standing = [end for end in (told, *asked) if end is not None and end.key not in order.undone]
    return min(standing, key=order_of_time, default=None)


def _told_ending(order: OrderFacts, programs: Sequence[Program], *, refunded: bool) -> Cause | None:
    """The void or cancellation at Shopify (R27, S7): of a paid order only what no refund does."""
    newest = order.newest
    assert newest is not None
    voided = newest.financial_status in VOID_STATUSES
    if order.cancelled_at is not None:
        policy = program_at(programs, order.cancelled_at)
        if not order.captured:
            return _end(order, "void" if voided else "cancel", order.cancelled_at, policy)
        closes = policy.close_cancelled_paid and not refunded
        return _end(order, "cancel", order.cancelled_at, policy) if closes else None
    if not voided or order.captured or (newest.outstanding_minor or 0) > 0:
        return None
    at = order.voided_at or newest.updated_at
    return _end(order, "void", at, program_at(programs, at))


def _end(order: OrderFacts, kind: str, at: datetime, policy: Program, *, key: str | None = None) -> Cause:
    key = key or f"{kind}:{order.order_id}"
    return Cause(key=key, kind=kind, at=at, sort_id=order.order_id, value=0, policy=policy, closing=True)
