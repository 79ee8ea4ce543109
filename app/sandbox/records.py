"""What the pretend store keeps. Money is in the smallest unit of the shop's currency unless a name says otherwise."""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction

from models.rules.money import half_up

BASIS_POINTS = 10_000


@dataclass(frozen=True, slots=True)
class Product:
    id: int
    title: str
    sku: str
    price_minor: int


@dataclass(frozen=True, slots=True)
class Customer:
    id: int
    first_name: str
    last_name: str
    phone: str | None = None  # with its country, as Shopify keeps it

    @property
    def email(self) -> str:
        return f"{self.first_name}.{self.last_name}.{self.id % 10_000}@example.com".lower()


@dataclass(frozen=True, slots=True)
class Presentment:
    """The currency that the buyer saw: `rate` of its smallest units for one smallest unit of shop money."""

    currency: str
    rate: Fraction

    def of(self, minor: int) -> int:
        return half_up(minor * self.rate)


@dataclass(frozen=True, slots=True)
class Discount:
    """One discount application. `code` is None for an automatic discount. Takes `amount_minor` off the items
    together, or `percent` of each item; or the shipping, and nothing off the items."""

    title: str
    code: str | None = None
    amount_minor: int = 0
    percent: int = 0
    free_shipping: bool = False


@dataclass(slots=True)
class Item:
    """One line item. `allocations` holds what each discount application (by its index) takes off the line.

    quantity never falls; current_quantity does, by refunds (`returned`) and by edits (`removed`).
    """

    id: int
    product: Product
    quantity: int
    tax_basis_points: int
    taxes_included: bool
    allocations: dict[int, int] = field(default_factory=dict)
    returned: int = 0
    removed: int = 0
    added_by_edit: bool = False

    @property
    def current_quantity(self) -> int:
        return self.quantity - self.returned - self.removed

    @property
    def gross_minor(self) -> int:
        return self.product.price_minor * self.quantity

    @property
    def net_minor(self) -> int:
        """Price x quantity less discounts; with taxes included the tax is inside."""
        return self.gross_minor - sum(self.allocations.values())

    @property
    def tax_minor(self) -> int:
        base = BASIS_POINTS + (self.tax_basis_points if self.taxes_included else 0)
        return half_up(Fraction(self.net_minor * self.tax_basis_points, base))

    @property
    def paid_minor(self) -> int:
        """What the buyer pays for the line, tax included either way."""
        return self.net_minor + (0 if self.taxes_included else self.tax_minor)

    def part(self, whole_minor: int, *, before: int, units: int) -> int:
        """What `units` units carry of an amount of the line once `before` units are gone: all units give all of it."""
        return whole_minor * (before + units) // self.quantity - whole_minor * before // self.quantity


@dataclass(slots=True)
class Transaction:
    """kind: authorization, capture, sale, void, refund. status: success, pending, failure, error."""

    id: int
    order_id: int
    kind: str
    status: str
    amount_minor: int
    at: datetime
    gateway: str
    parent_id: int | None = None
    refund_id: int | None = None


@dataclass(frozen=True, slots=True)
class RefundLine:
    """Units of an item that came back. `subtotal_minor` has no tax in it, taxes included or not (S2)."""

    id: int
    item: Item
    quantity: int
    subtotal_minor: int
    tax_minor: int
    restock_type: str


@dataclass(slots=True)
class Refund:
    """adjustment_minor: effect on sales; negative, more money went back than the lines are worth (S2)."""

    id: int
    order_id: int
    at: datetime
    note: str | None
    lines: list[RefundLine]
    shipping_minor: int
    adjustment_id: int | None
    adjustment_minor: int
    transactions: list[Transaction]

    @property
    def settled_minor(self) -> int:
        return sum(t.amount_minor for t in self.transactions if t.status == "success")

    @property
    def identity_minor(self) -> int:
        """S2: lines and their tax, shipping, less the signed adjustments."""
        lines = sum(line.subtotal_minor + line.tax_minor for line in self.lines)
        return lines + self.shipping_minor - self.adjustment_minor


@dataclass(frozen=True, slots=True)
class Edit:
    id: int
    order_id: int
    at: datetime
    additions: tuple[tuple[int, int], ...]
    removals: tuple[tuple[int, int], ...]


@dataclass(slots=True)
class Order:
    """An order with all that happened to it. `scenario` says which act of the world it plays, for people.

    shipping_minor: what the buyer pays for it; `shipping_off_minor` is what a code took off before.
    """

    id: int
    number: int
    customer: Customer | None
    items: list[Item]
    discounts: list[Discount]
    shipping_line_id: int
    shipping_minor: int
    currency: str
    presentment: Presentment
    taxes_included: bool
    test: bool
    placed_at: datetime
    updated_at: datetime
    scenario: str = ""
    transactions: list[Transaction] = field(default_factory=list)
    refunds: list[Refund] = field(default_factory=list)
    edits: list[Edit] = field(default_factory=list)
    cancelled_at: datetime | None = None
    cancel_reason: str | None = None
    shipping_off_minor: int = 0

    @property
    def name(self) -> str:
        return f"#{self.number}"

    @property
    def codes(self) -> list[str]:
        return [d.code for d in self.discounts if d.code is not None]

    @property
    def subtotal_minor(self) -> int:
        """Items after discounts, before shipping; tax is inside when the shop's prices include it."""
        return sum(item.net_minor for item in self.items)

    @property
    def tax_minor(self) -> int:
        return sum(item.tax_minor for item in self.items)

    @property
    def total_minor(self) -> int:
        """`total_price`: grows when an edit adds a line, stays when one is removed or refunded."""
        return sum(item.paid_minor for item in self.items) + self.shipping_minor

    @property
    def placed_total_minor(self) -> int:
        return sum(item.paid_minor for item in self.items if not item.added_by_edit) + self.shipping_minor

    @property
    def removed_minor(self) -> int:
        """Worth of the units that edits removed."""
        return sum(i.part(i.paid_minor, before=0, units=i.removed) for i in self.items)

    @property
    def captured_minor(self) -> int:
        return sum(
            t.amount_minor
            for t in self.transactions
            if t.kind in ("sale", "capture") and t.status == "success"
        )

    @property
    def refunded_minor(self) -> int:
        return sum(refund.settled_minor for refund in self.refunds)

    @property
    def refunded_shipping_minor(self) -> int:
        return sum(refund.shipping_minor for refund in self.refunds)

    @property
    def current_total_minor(self) -> int:
        """`current_total_price`: what is left of the order after refunds and removals."""
        if self.cancelled_at and not self.captured_minor:
            return 0
        given_back = sum(r.identity_minor for r in self.refunds if r.transactions)
        unpaid_returns = sum(
            line.subtotal_minor + line.tax_minor
            for r in self.refunds
            if not r.transactions
            for line in r.lines
        )
        return max(0, self.total_minor - self.removed_minor - given_back - unpaid_returns)

    @property
    def outstanding_minor(self) -> int:
        """`total_outstanding`: a void leaves the whole order owed, a cancelled order owes nothing (S7)."""
        if self.cancelled_at:
            return 0
        without_money = sum(refund.identity_minor for refund in self.refunds if not refund.transactions)
        return max(0, self.total_minor - self.removed_minor - without_money - self.captured_minor)

    @property
    def is_voided(self) -> bool:
        return any(t.kind == "void" for t in self.transactions) and not self.captured_minor

    @property
    def financial_status(self) -> str:
        if self.is_voided:
            return "voided"
        if not self.captured_minor:
            return "authorized" if any(t.kind == "authorization" for t in self.transactions) else "pending"
        if self.refunded_minor >= self.captured_minor:
            return "refunded"
        if self.refunded_minor:
            return "partially_refunded"
        return "partially_paid" if self.outstanding_minor else "paid"
