"""What a refund is worth: money that moved, read from a record that is not money (S1-S4)."""

from __future__ import annotations

from dataclasses import dataclass
from fractions import Fraction

from models.rules.facts import Refund, Snapshot, Transaction
from models.rules.money import half_up
from models.rules.order import OrderFacts

TOLERANCE_MINOR = 1  # S2: Shopify's own roundings differ by up to one unit

NO_MONEY_MOVED = "NO_MONEY_MOVED"
MONEY_PENDING = "MONEY_PENDING"
MONEY_FAILED = "MONEY_FAILED"
MONEY_DIFFERS = "MONEY_DIFFERS"
ITEMS_WITHOUT_MONEY = "ITEMS_WITHOUT_MONEY"


@dataclass(frozen=True, slots=True, kw_only=True)
class RefundMoney:
    """All in the shop currency's smallest unit.

    value: what was given back (never negative)     identity: what S2's sum over the record says
    settled: what the successful transactions say   items: the part for items, without tax (for the `subtotal` mask)
    has_lines: some returned line carries value; otherwise the refund is of an amount (or of shipping) only
    """

    value: int
    identity: int
    settled: int
    shipping: int
    items: Fraction
    has_lines: bool
    pending: bool
    reasons: tuple[str, ...]

    @property
    def amount_only(self) -> int:
        """What was given back beside shipping, where no line carries value."""
        return max(self.value - self.shipping, 0)


def shop_money(transaction: Transaction, order: Snapshot) -> int:
    """A transaction's amount in shop money, by the order's own exact ratio where the payload has none (S1)."""
    if transaction.shop_amount_minor is not None:
        return transaction.shop_amount_minor
    return in_shop_money(transaction.amount_minor, transaction.currency, order)


def in_shop_money(amount_minor: int, currency: str, order: Snapshot) -> int:
    """Presentment money by the order's own exact ratio, halves up; as it is where there is no ratio (S1)."""
    if currency == order.currency or order.presentment_total_minor == 0:
        return amount_minor
    return half_up(Fraction(amount_minor * order.total_minor, order.presentment_total_minor))


def items_of(refund: Refund) -> int:
    """What the returned items were worth by the record, with their tax."""
    return sum(line.subtotal_minor + line.tax_minor for line in refund.lines)


def identity_of(refund: Refund) -> int:
    """Value given back as the record tells it (S2): lines + shipping - signed adjustments, each with its tax."""
    adjusted = sum(a.amount_minor + a.tax_minor for a in refund.adjustments)
    return items_of(refund) + refund.shipping_minor - adjusted


def money_of(refund: Refund, order: OrderFacts, *, items_without_money: bool = False) -> RefundMoney:
    """The refund's money (S2, S3). `order.placed` must be known."""
    assert order.placed is not None
    transactions = order.transactions_of(refund)
    settled = sum(shop_money(t, order.placed) for t in transactions if t.status == "success")
    pending = any(t.status == "pending" for t in transactions)
    identity = identity_of(refund)
    value, reasons = _value(transactions, settled=settled, identity=identity)
    if items_without_money and not transactions and refund.lines:
        value, reasons = max(identity, 0), (ITEMS_WITHOUT_MONEY,)
    subtotal = sum(line.subtotal_minor for line in refund.lines)
    discrepancy = sum(a.amount_minor for a in refund.adjustments if not a.shipping)
    items = Fraction(subtotal - discrepancy)
    if value != identity:
        items = items * value / identity if identity > 0 else Fraction(value)
    shipping = refund.shipping_minor - sum(
        a.amount_minor + a.tax_minor for a in refund.adjustments if a.shipping
    )
    return RefundMoney(
        value=value,
        identity=identity,
        settled=settled,
        shipping=shipping,
        items=max(items, Fraction(0)),
        has_lines=subtotal > 0,
        pending=pending,
        reasons=reasons,
    )


def _value(transactions: list[Transaction], *, settled: int, identity: int) -> tuple[int, tuple[str, ...]]:
    statuses = {t.status for t in transactions}
    if not transactions:
        return 0, (NO_MONEY_MOVED,)
    if "success" not in statuses:
        return 0, (MONEY_PENDING if "pending" in statuses else MONEY_FAILED,)
    waiting = (MONEY_PENDING,) if "pending" in statuses else ()
    if abs(identity - settled) <= TOLERANCE_MINOR:
        return max(identity, 0), waiting
    return max(settled, 0), (MONEY_DIFFERS, *waiting)
