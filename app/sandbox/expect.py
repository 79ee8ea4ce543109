"""What the refund rules say of a plain order, worked out from the store's own records and nothing else.

It shares no code with the product, so that a demo which agrees with it has been checked twice. Orders with edits are
left out: their arithmetic (S9) is not one that a person does in the head.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from fractions import Fraction

from app.sandbox.records import Order, Refund


@dataclass(frozen=True, slots=True)
class Spent:
    """A redemption whose code is used on an order. reactivates: its reward asks for the code to be usable again."""

    customer_id: int
    reward: str
    code: str
    points: int
    reactivates: bool


@dataclass(slots=True)
class RefundEffect:
    """Points reversed and returned by one refund, of `value_minor` given back: `ratio` of the order as placed."""

    value_minor: int
    ratio: Fraction
    reversed: int = 0
    returned: int = 0


@dataclass(slots=True)
class Expected:
    """All that one order should come to. `returned` is by code; `reactivated` are the codes given back as codes."""

    awarded: int
    by_refund: dict[int, RefundEffect]
    closed: bool
    returned: dict[str, int] = field(default_factory=dict)
    reactivated: set[str] = field(default_factory=set)

    @property
    def reversed(self) -> int:
        return sum(effect.reversed for effect in self.by_refund.values())


def expect(order: Order, spent: Sequence[Spent], *, points_per_unit: int) -> Expected | None:
    """None for an order that was edited. `points_per_unit` are earned for each 1.00 of the order as placed (R1)."""
    if order.edits:
        return None
    awarded = awarded_points(order, points_per_unit=points_per_unit)
    effects = {refund.id: _effect(order, refund) for refund in _in_time(order)}
    closing = _closing_refund(order, effects)
    _claim(effects, awarded, closing)
    never_paid = not order.captured_minor and order.cancelled_at is not None
    expected = Expected(awarded, effects, closed=closing is not None or never_paid)
    for redemption in spent:
        _return(order, redemption, expected, closing)
    return expected


def awarded_points(order: Order, *, points_per_unit: int) -> int:
    """Nothing for test orders, guests and orders that were never paid."""
    if order.customer is None or order.test or not order.captured_minor:
        return 0
    return order.placed_total_minor * points_per_unit // 100


def _in_time(order: Order) -> list[Refund]:
    return sorted(order.refunds, key=lambda refund: (refund.at, refund.id))


def _effect(order: Order, refund: Refund) -> RefundEffect:
    return RefundEffect(refund.settled_minor, Fraction(refund.settled_minor, order.placed_total_minor))


def _closing_refund(order: Order, effects: Mapping[int, RefundEffect]) -> int | None:
    """R4: the refund at which the whole total has gone back."""
    so_far = 0
    for id, effect in effects.items():
        so_far += effect.value_minor
        if so_far >= order.placed_total_minor:
            return id
    return None


def _claim(effects: Mapping[int, RefundEffect], awarded: int, closing: int | None) -> None:
    """R2-R4: floor of award x ratio, never more than is left, and the closing refund takes the remainder."""
    left = awarded
    for id, effect in effects.items():
        share = awarded * effect.ratio.numerator // effect.ratio.denominator
        effect.reversed = left if id == closing else min(left, share)
        left -= effect.reversed


def _return(order: Order, redemption: Spent, expected: Expected, closing: int | None) -> None:
    """R12-R15 and R22: by the code's discount on the units that came back; all of it when the order is closed."""
    if order.test or order.customer is None:  # ignored, or nobody's (R32)
        expected.returned[redemption.code] = 0
        return
    shares = _shares_of_code(order, redemption.code)
    total_share = sum(shares.values())
    back: dict[int, int] = {}
    returned = 0
    for refund in _in_time(order):
        effect = expected.by_refund[refund.id]
        if effect.value_minor == 0:
            continue
        came_back = _share_that_came_back(refund, shares, back)
        if refund.id == closing:
            if redemption.reactivates and returned == 0:
                expected.reactivated.add(redemption.code)
                break
            points = redemption.points - returned
        else:
            points = min(redemption.points - returned, redemption.points * came_back // total_share)
        effect.returned += points
        returned += points
    if expected.closed and closing is None:
        if redemption.reactivates:
            expected.reactivated.add(redemption.code)
        else:
            returned = redemption.points
    expected.returned[redemption.code] = returned


def _shares_of_code(order: Order, code: str) -> dict[int, int]:
    ours = [
        i
        for i, d in enumerate(order.discounts)
        if d.code is not None and d.code.casefold() == code.casefold()
    ]
    return {item.id: sum(item.allocations.get(index, 0) for index in ours) for item in order.items}


def _share_that_came_back(refund: Refund, shares: Mapping[int, int], back: dict[int, int]) -> int:
    """The code's discount on this refund's units; all units of a line carry all of it (S5)."""
    total = 0
    for line in refund.lines:
        if not (line.subtotal_minor or line.tax_minor):
            continue  # a line of no value beside money is an amount, not items (S4)
        before, share, units = back.get(line.item.id, 0), shares[line.item.id], line.item.quantity
        total += share * (before + line.quantity) // units - share * before // units
        back[line.item.id] = before + line.quantity
    return total
