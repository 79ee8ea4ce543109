"""What Shopify told us of an order, keyed by Shopify's own ids, and how two tellings become one.

Every merge here is a join: commutative, associative, idempotent. That is what makes the arrival order
of webhooks irrelevant (R0). Money is in the smallest unit of the shop's currency unless a name says otherwise.
Times are aware datetimes in UTC.
"""

from __future__ import annotations

from dataclasses import dataclass, field
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Line:
    """One line item of a snapshot. `net_minor` is price x quantity less every discount allocation,
    `tax_minor` the sum of its tax lines; with `taxes_included` the tax is inside `net_minor`.
    `code_discounts` holds, per discount code (casefolded), what that code took off this line (S5). `name` is of the
    product and variant, for people to read: no rule reads it, and lines that differ in it alone are the same."""

    id: int
    quantity: int
    current_quantity: int
    net_minor: int
    tax_minor: int = 0
    code_discounts: tuple[tuple[str, int], ...] = ()
    name: str = field(default="", compare=False, repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Snapshot:
    """The order as one payload showed it. Totals are shop money (S1).

    total_minor: `total_price` (items, shipping, tax, tip, less discounts)
    subtotal_minor: items after discounts, no tax, no shipping
    outstanding_minor: `total_outstanding`, None where the payload has none
    presentment_total_minor: `total_price` in the presentment currency's own smallest unit
    codes: the discount codes used, casefolded; lines carry their shares
    """

    order_id: int
    name: str
    placed_at: datetime
    updated_at: datetime
    currency: str
    presentment_currency: str
    total_minor: int
    subtotal_minor: int
    presentment_total_minor: int
    outstanding_minor: int | None
    financial_status: str
    cancelled_at: datetime | None
    customer_id: int | None
    test: bool
    taxes_included: bool
    lines: tuple[Line, ...]
    codes: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class ReturnedLine:
    """Units of one line that a refund took back: `subtotal` + `total_tax`, as Shopify counted them."""

    line_id: int
    quantity: int
    subtotal_minor: int
    tax_minor: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Adjustment:
    """An order adjustment, signed as an effect on sales: negative, more was refunded than lines are worth (S2).
    `shipping` is true for the older `shipping_refund` kind."""

    amount_minor: int
    tax_minor: int
    shipping: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Transaction:
    """Money that moved, or is to move, for an order.

    kind: authorization, capture, sale, void, refund, ...   status: success, pending, failure, error
    amount_minor: in `currency`'s own smallest unit, which is presentment money unless it is the shop's (S1)
    shop_amount_minor: the same in shop money where the payload gave it
    refund_id: the refund that listed it, None when it came alone
    """

    id: int
    order_id: int
    kind: str
    status: str
    amount_minor: int
    currency: str
    shop_amount_minor: int | None
    at: datetime
    refund_id: int | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Refund:
    """A refund record (not money: S3). Its transactions are facts of their own.

    transaction_ids: those it listed. shipping_minor includes shipping tax.
    """

    id: int
    order_id: int
    created_at: datetime
    lines: tuple[ReturnedLine, ...]
    shipping_minor: int
    adjustments: tuple[Adjustment, ...]
    transaction_ids: tuple[int, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Edit:
    """A committed order edit: deltas only (S9). (line id, units) pairs."""

    id: int
    order_id: int
    committed_at: datetime
    additions: tuple[tuple[int, int], ...]
    removals: tuple[tuple[int, int], ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Dispute:
    """A chargeback (R29): lost ones count as a refund of `amount_minor` (in `currency`) at `at`."""

    id: int
    order_id: int
    status: str
    amount_minor: int
    currency: str
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Cancellation:
    """The merchant told us, not Shopify, that the order is off (R36); `id` is of a sequence of our own."""

    id: int
    order_id: int
    at: datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Undo:
    """The merchant wants the effects of one cause taken back (R38): `refund:5`, `void:1`, `cancel:1`, `cancellation:2`."""

    order_id: int
    cause: str


@dataclass(frozen=True, slots=True, kw_only=True)
class ImportedAward:
    """What another program had awarded for the order, as it stood at `at` (D29). Told by a file, once an order and rule.

    earned: before any refund, which is what ratios are of     amount: of that, what stood: no more can be taken back
    granted: of that, what was not spent, which is what it puts into the wallet     due_at: when, at `at` or later
    """

    order_id: int
    customer_id: int
    rule: str
    earned: int
    amount: int
    granted: int
    at: datetime
    due_at: datetime
    expires_at: datetime | None


Fact = Snapshot | Refund | Transaction | Edit | Dispute | Cancellation | Undo | ImportedAward
