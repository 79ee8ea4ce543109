"""What one order's facts ask for, the slow way: every question is answered from the raw facts each time it is asked.

Shares nothing with models.rules but the fact dataclasses. Numbers like D12 name the decisions the product follows.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Sequence
from dataclasses import asdict, dataclass, field, replace
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from math import floor
from typing import Any

from models.rules.facts import Dispute, Edit, Fact, Line, Refund, ReturnedLine, Snapshot, Transaction

Settings = dict[str, Any]
Program = Sequence[tuple[datetime | None, Settings]]
Redemption = dict[str, Any]

NO_DECIMALS = {
    "JPY",
    "KRW",
    "VND",
    "CLP",
    "ISK",
    "UGX",
    "XAF",
    "XOF",
    "XPF",
    "PYG",
    "RWF",
    "BIF",
    "DJF",
    "GNF",
    "KMF",
    "VUV",
    "UYI",
}
THREE_DECIMALS = {"KWD", "BHD", "JOD", "OMR", "TND", "IQD", "LYD"}
PAID = {"paid", "partially_refunded", "refunded"}
NOT_CAPTURED = {"pending", "authorized", "voided", "expired"}
PROGRESS = [
    "pending",
    "authorized",
    "expired",
    "voided",
    "partially_paid",
    "paid",
    "partially_refunded",
    "refunded",
]
BEST_STATUS = ["success", "error", "failure", "pending"]
OURS = 9 * 10**18  # ids of refunds that a merchant asked of us begin here (D26)
ENDINGS = ("cancel", "void")


@dataclass(frozen=True)
class Seen:
    """One telling of a fact. The same fact may be told many times."""

    received_at: datetime
    fact: Fact


@dataclass(frozen=True)
class Reversal:
    """Value of a redemption that a merchant gave back by hand (D25). `amount`: what was asked of what was left then."""

    id: int
    redemption_id: int
    at: datetime
    amount: int
    undone: bool = False


@dataclass(frozen=True)
class Cancelled:
    """An order that a merchant told us is off (D27)."""

    id: int
    order_id: int
    at: datetime


@dataclass(frozen=True)
class Award:
    target: str
    rule: str
    amount: int
    at: datetime
    due: datetime
    expires_at: datetime | None
    mask: str
    only_on_full: bool
    line_id: int | None = None


@dataclass(frozen=True)
class Cause:
    """`kind`: refund, dispute, edit, cancel, void, reversal. `value`: shop money given back (edits: what left the order;
    reversals: what was asked, in the program's unit)."""

    name: str
    kind: str
    number: int
    at: datetime
    value: int = 0
    reasons: tuple[str, ...] = ()
    refund: Refund | None = None
    line_id: int | None = None
    units: int = 0
    covered: int = 0

    @property
    def order(self) -> tuple[datetime, bool, int, str]:
        return (self.at, self.kind in ENDINGS, self.number, self.name)


@dataclass(frozen=True)
class Claim:
    cause: str
    at: datetime
    number: int
    target: str
    amount: int
    pending: bool
    ratio: Fraction
    reason: str


@dataclass(frozen=True)
class Return:
    """`split` names what each member gets back of `amount` (R20)."""

    cause: str
    at: datetime
    number: int
    redemption_id: int
    amount: int
    split: dict[Any, int]
    reason: str
    grace_days: int


@dataclass
class Outcome:
    """Everything one order asks for. Times of a cause are effective ones (D6)."""

    order_id: int
    name: str
    customer_id: int | None
    ignored: bool
    placed_at: datetime
    paid_at: datetime | None
    total_minor: int
    status: str
    closing: Cause | None
    flags: tuple[str, ...]
    causes: list[Cause]
    awards: list[Award] = field(default_factory=list)
    claims: list[Claim] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    restitution: dict[int, str] = field(default_factory=dict)
    forfeited: dict[int, int] = field(default_factory=dict)
    added: list[tuple[datetime, int]] = field(default_factory=list)

    @property
    def refunded_minor(self) -> int:
        return sum(c.value for c in self.causes if c.kind in ("refund", "dispute"))

    def counts_at(self, t: datetime) -> bool:
        return (
            not self.ignored
            and self.customer_id is not None
            and self.paid_at is not None
            and self.paid_at <= t
        )

    def closed_at(self, t: datetime) -> bool:
        return self.closing is not None and self.closing.at <= t

    def spend_at(self, t: datetime) -> int:
        """Shop money this order counts for in tiers, as recorded until t (D23)."""
        if not self.counts_at(t) or self.closed_at(t):
            return 0
        given_back = sum(
            c.value - c.covered for c in self.causes if c.kind in ("refund", "dispute", "edit") and c.at <= t
        )
        return max(0, self.total_minor + sum(v for at, v in self.added if at <= t) - given_back)

    def count_at(self, t: datetime) -> int:
        return int(self.counts_at(t) and not self.closed_at(t))

    def points_at(self, t: datetime) -> int:
        if not self.counts_at(t):
            return 0
        total = 0
        for award in self.awards:
            if award.at <= t:
                total += award.amount - sum(
                    c.amount for c in self.claims if c.target == award.target and c.at <= t
                )
        return total

    def recorded_times(self) -> list[datetime]:
        """Every instant at which one of the three contributions may change."""
        times = [c.at for c in self.causes] + [a.at for a in self.awards] + [at for at, _ in self.added]
        return times + ([self.paid_at] if self.paid_at else [])


def decide(
    *,
    seen: Iterable[Seen],
    program: Program,
    redemptions: Sequence[Redemption] = (),
    reversals: Sequence[Reversal] = (),
    cancellations: Sequence[Cancelled] = (),
    undone: frozenset[str] = frozenset(),
) -> Outcome | None:
    """The outcome of ONE order, None while no snapshot of it is known (R28). `redemptions`: those used on it (D16).
    `undone`: names of causes that count for nothing (D28)."""
    facts = Facts(list(seen), program, undone, cancellations)
    if not facts.snapshots:
        return None
    outcome = Outcome(
        order_id=facts.placed.order_id,
        name=facts.placed.name,
        customer_id=facts.customer_id,
        ignored=facts.ignored,
        placed_at=facts.placed.placed_at,
        paid_at=facts.paid_at,
        total_minor=facts.placed.total_minor,
        status=facts.status,
        closing=facts.closing,
        flags=facts.flags,
        causes=facts.causes,
        added=facts.added_values,
    )
    if facts.customer_id is not None and not facts.ignored:
        for award in facts.awards():
            outcome.awards.append(award)
            outcome.claims += claims_on(award, facts)
    for redemption in redemptions:
        mine = [r for r in reversals if r.redemption_id == redemption["id"]]
        returns, restitution, forfeited = returns_of(redemption, facts, mine)
        outcome.returns += returns
        outcome.restitution[redemption["id"]] = restitution
        outcome.forfeited[redemption["id"]] = forfeited
    return outcome


def in_force(program: Program, at: datetime) -> Settings:
    """The policy version of that time; the first one has no beginning (R17)."""
    versions = sorted(program, key=lambda v: v[0] or datetime.min.replace(tzinfo=UTC))
    chosen = versions[0][1]
    for from_at, settings in versions[1:]:
        if from_at is not None and from_at <= at:
            chosen = settings
    return chosen


def decimals(currency: str) -> int:
    return 0 if currency in NO_DECIMALS else 3 if currency in THREE_DECIMALS else 2


def canonical(fact: Fact) -> str:
    return json.dumps(asdict(fact), sort_keys=True, default=str)


def snapshot_order(s: Snapshot) -> tuple[datetime, int, bool, int, int, str]:
    """Which snapshot is the later one: `updated_at`, then how far the order has come, then the content (D1)."""
    gone = sum(line.quantity - line.current_quantity for line in s.lines)
    return (
        s.updated_at,
        PROGRESS.index(s.financial_status),
        s.cancelled_at is not None,
        len(s.lines),
        gone,
        canonical(s),
    )


def line_value(line: Line, mask: str, taxes_included: bool) -> int:
    if mask == "total":
        return line.net_minor + (0 if taxes_included else line.tax_minor)
    return line.net_minor - (line.tax_minor if taxes_included else 0)


class Facts:
    """The facts of one order, joined (D1-D8, D12, D15)."""

    def __init__(
        self,
        seen: list[Seen],
        program: Program,
        undone: frozenset[str],
        cancellations: Sequence[Cancelled] = (),
    ) -> None:
        self.seen, self.program, self.undone, self.cancellations = seen, program, undone, cancellations
        self.snapshots: list[Snapshot] = [s.fact for s in seen if isinstance(s.fact, Snapshot)]
        if not self.snapshots:
            return
        self.placed = min(self.snapshots, key=snapshot_order)
        self.newest = max(self.snapshots, key=snapshot_order)
        self.refunds = self._refunds()
        self.transactions = self._transactions()
        self.customer_id = self._customer()
        self.paid_at = self._least_update(lambda s: s.financial_status in PAID)
        self.voided_at = self._least_update(lambda s: s.financial_status in ("voided", "expired"))
        self.cancelled_at = self._cancelled_at()
        judged = in_force(program, self.paid_at or self.placed.placed_at)
        self.ignored = self.newest.test and not judged["include_test_orders"]
        self.added_lines = [ln for ln in self.newest.lines if ln.id not in {p.id for p in self.placed.lines}]
        self.removed = self._removed()
        self.new_money = self._new_money()
        self.edit_worths = self._edit_worths()
        self.added_values = [
            (
                self.added_at(ln),
                floor(line_value(ln, "total", self.newest.taxes_included) * self.new_money[ln.id]),
            )
            for ln in self.added_lines
        ]
        self._causes()

    # -- joins ---------------------------------------------------------------------------------------

    def _refunds(self) -> dict[int, Refund]:
        """D5: of two contents the smaller stands; transactions listed by either count; its time is the earliest told."""
        merged: dict[int, Refund] = {}
        for id in {s.fact.id for s in self.seen if isinstance(s.fact, Refund)}:
            told = [s for s in self.seen if isinstance(s.fact, Refund) and s.fact.id == id]
            tellings = [s.fact for s in told if isinstance(s.fact, Refund)]
            base = min(
                tellings,
                key=lambda r: canonical(
                    Refund(
                        id=0,
                        order_id=0,
                        created_at=r.created_at.min,
                        lines=r.lines,
                        shipping_minor=r.shipping_minor,
                        adjustments=r.adjustments,
                        transaction_ids=(),
                    )
                ),
            )
            at = min(min(r.created_at for r in tellings), min(s.received_at for s in told))
            ids = tuple(sorted({t for r in tellings for t in r.transaction_ids}))
            merged[id] = Refund(
                id=id,
                order_id=base.order_id,
                created_at=at,
                lines=base.lines,
                shipping_minor=base.shipping_minor,
                adjustments=base.adjustments,
                transaction_ids=ids,
            )
        return merged

    def _transactions(self) -> dict[int, Transaction]:
        merged: dict[int, Transaction] = {}
        facts = [s.fact for s in self.seen if isinstance(s.fact, Transaction)]
        for id in {t.id for t in facts}:
            tellings = sorted(
                (t for t in facts if t.id == id), key=lambda t: (BEST_STATUS.index(t.status), canonical(t))
            )
            best = tellings[0]
            shop = [t.shop_amount_minor for t in tellings if t.shop_amount_minor is not None]
            listed = [t.refund_id for t in tellings if t.refund_id is not None]
            merged[id] = Transaction(
                id=id,
                order_id=best.order_id,
                kind=best.kind,
                status=best.status,
                amount_minor=best.amount_minor,
                currency=best.currency,
                shop_amount_minor=min(shop) if shop else None,
                at=best.at,
                refund_id=min(listed) if listed else None,
            )
        return merged

    def _customer(self) -> int | None:
        having = [s for s in self.snapshots if s.customer_id is not None]
        return max(having, key=snapshot_order).customer_id if having else None

    def _least_update(self, wanted: Any) -> datetime | None:
        times = [
            min(s.fact.updated_at, s.received_at)
            for s in self.seen
            if isinstance(s.fact, Snapshot) and wanted(s.fact)
        ]
        return min(times) if times else None

    def _cancelled_at(self) -> datetime | None:
        times = [
            min(s.fact.cancelled_at, s.received_at)
            for s in self.seen
            if isinstance(s.fact, Snapshot) and s.fact.cancelled_at
        ]
        return min(times) if times else None

    # -- money (D7) ----------------------------------------------------------------------------------

    def shop_money(self, amount: int, currency: str) -> int:
        """Half up by the order's own ratio (S1)."""
        if currency == self.placed.currency or not self.placed.presentment_total_minor:
            return amount
        return floor(
            Fraction(amount * self.placed.total_minor, self.placed.presentment_total_minor) + Fraction(1, 2)
        )

    def money_of(self, refund: Refund) -> list[Transaction]:
        return [
            t
            for t in self.transactions.values()
            if t.kind == "refund" and (t.id in refund.transaction_ids or t.refund_id == refund.id)
        ]

    def identity(self, refund: Refund) -> int:
        lines = sum(ln.subtotal_minor + ln.tax_minor for ln in refund.lines)
        return lines + refund.shipping_minor - sum(a.amount_minor + a.tax_minor for a in refund.adjustments)

    def shipping(self, refund: Refund) -> int:
        return refund.shipping_minor - sum(
            a.amount_minor + a.tax_minor for a in refund.adjustments if a.shipping
        )

    def is_undone(self, refund: Refund) -> bool:
        return f"refund:{refund.id}" in self.undone

    def value(self, refund: Refund) -> tuple[int, tuple[str, ...]]:
        if self.is_undone(refund):
            return 0, ("UNDONE",)
        money = self.money_of(refund)
        statuses = {t.status for t in money}
        if not money:
            return 0, ("NO_MONEY_MOVED",)
        if "success" not in statuses:
            return 0, ("MONEY_PENDING",) if "pending" in statuses else ("MONEY_FAILED",)
        settled = sum(
            t.shop_amount_minor
            if t.shop_amount_minor is not None
            else self.shop_money(t.amount_minor, t.currency)
            for t in money
            if t.status == "success"
        )
        reasons = () if "pending" not in statuses else ("MONEY_PENDING",)
        identity = self.identity(refund)
        if abs(identity - settled) <= 1:
            return max(0, identity), reasons
        return max(0, settled), ("MONEY_DIFFERS", *reasons)

    # -- edits (D15) ---------------------------------------------------------------------------------

    def added_at(self, line: Line) -> datetime:
        """First time it was seen, not before the order was paid."""
        times = [
            min(s.fact.updated_at, s.received_at)
            for s in self.seen
            if isinstance(s.fact, Snapshot) and any(ln.id == line.id for ln in s.fact.lines)
        ]
        times += [
            min(s.fact.committed_at, s.received_at)
            for s in self.seen
            if isinstance(s.fact, Edit) and any(id == line.id for id, _ in s.fact.additions)
        ]
        return max([min(times), *([self.paid_at] if self.paid_at else [])])

    def _removed(self) -> list[tuple[Line, int, datetime]]:
        """(line as it counts, units that an edit took off, since when)."""
        placed = {ln.id: ln for ln in self.placed.lines}
        removed = []
        for now in self.newest.lines:
            line = placed.get(now.id, now)
            units = self.taken_off(line, now, self.newest.updated_at)
            if units and line.quantity:
                same = [
                    min(s.fact.updated_at, s.received_at)
                    for s in self.seen
                    if isinstance(s.fact, Snapshot)
                    and any(
                        ln.id == now.id
                        and self.taken_off(line, ln, min(s.fact.updated_at, s.received_at)) >= units
                        for ln in s.fact.lines
                    )
                ]
                if self.cancelled_at is None or min(same) < self.cancelled_at:
                    removed.append((line, units, min(same)))
        return sorted(removed, key=lambda r: r[0].id)

    def taken_off(self, line: Line, seen: Line, at: datetime) -> int:
        """Units gone in a view of the line, less those that refunds up to its time took back. Undone ones of Shopify's
        took them too (D28)."""
        back = sum(
            r.quantity
            for refund in self.refunds.values()
            if refund.created_at <= at and not (refund.id >= OURS and self.is_undone(refund))
            for r in refund.lines
            if r.line_id == line.id
        )
        return max(0, line.quantity - max(0, line.quantity - (seen.quantity - seen.current_quantity)) - back)

    def _edit_worths(self) -> dict[int, tuple[int, Fraction]]:
        """Line id -> (value that an edit took off, the part of the line that it is)."""
        worths = {}
        for line, units, _ in self.removed:
            units_part = Fraction(units, line.quantity)
            whole = line_value(line, "total", self.newest.taxes_included) * units_part
            worths[line.id] = (floor(whole * self.new_money.get(line.id, 1)), units_part)
        return worths

    def _once(self, causes: list[Cause]) -> list[Cause]:
        """S9: an edit of a paid order and money that came back for it without items are one thing; the later of the
        two counts for the rest only."""
        unpaid_goods, unnamed_money = 0, 0
        result: list[Cause] = []
        for cause in sorted(causes, key=lambda c: c.order):
            if cause.kind == "edit" and self.paid_at is not None and cause.at > self.paid_at:
                both = min(unnamed_money, cause.value)
                unnamed_money -= both
                unpaid_goods += cause.value - both
                value, units_part = self.edit_worths[cause.line_id or 0]
                if value:
                    units_part *= 1 - Fraction(both, value)
                self.edit_worths[cause.line_id or 0] = (value - both, units_part)
                cause = replace(cause, value=cause.value - both)
            elif cause.refund is not None:
                named = (
                    sum(r.subtotal_minor + r.tax_minor for r in cause.refund.lines)
                    + cause.refund.shipping_minor
                )
                unnamed = max(0, cause.value - named)
                both = min(unpaid_goods, unnamed)
                unpaid_goods -= both
                unnamed_money += unnamed - both
                cause = replace(cause, covered=both)
            result.append(cause)
        self.unpaid_goods = unpaid_goods
        return result

    def removed_value(self, line: Line, units: int, mask: str) -> int:
        return line_value(line, mask, self.newest.taxes_included) * units // line.quantity

    def _new_money(self) -> dict[int, Fraction]:
        """D15b: the part of each added line that was not paid with returned goods."""
        credit = 0
        for refund in self.refunds.values():
            if not self.is_undone(refund) and all(t.status == "success" for t in self.money_of(refund)):
                goods = sum(r.subtotal_minor + r.tax_minor for r in refund.lines) + refund.shipping_minor
                credit += max(0, goods - self.value(refund)[0])
        parts = {}
        for line in sorted(self.added_lines, key=lambda ln: ln.id):
            worth = max(0, line_value(line, "total", self.newest.taxes_included))
            paid_in_goods = min(worth, credit)
            credit -= paid_in_goods
            parts[line.id] = Fraction(worth - paid_in_goods, worth) if worth else Fraction(0)
        return parts

    # -- causes, closing, status (D12, D13) ----------------------------------------------------------

    def _causes(self) -> None:
        causes = []
        for refund in self.refunds.values():
            value, reasons = self.value(refund)
            causes.append(
                Cause(f"refund:{refund.id}", "refund", refund.id, refund.created_at, value, reasons, refund)
            )
        for id in {s.fact.id for s in self.seen if isinstance(s.fact, Dispute)}:
            lost = [
                s
                for s in self.seen
                if isinstance(s.fact, Dispute) and s.fact.id == id and s.fact.status == "lost"
            ]
            if lost:
                fact = min(
                    (s.fact for s in lost if isinstance(s.fact, Dispute)), key=lambda d: (d.at, canonical(d))
                )
                at = min(fact.at, min(s.received_at for s in lost))
                causes.append(
                    Cause(
                        f"dispute:{id}", "dispute", id, at, self.shop_money(fact.amount_minor, fact.currency)
                    )
                )
        gives_back = sorted(causes, key=lambda c: c.order)
        for line, units, at in self.removed:
            causes.append(
                Cause(
                    f"edit:{line.id}",
                    "edit",
                    line.id,
                    at,
                    self.edit_worths[line.id][0],
                    line_id=line.id,
                    units=units,
                )
            )
        causes = self._once(causes)
        gives_back = [c for c in causes if c.kind in ("refund", "dispute")]
        self.flags: tuple[str, ...] = ()
        by_refund = self._closing_refund(gives_back)
        by_state = self._closing_state(by_refund)
        endings = [by_state] if by_state is not None else []
        id = self.placed.order_id
        endings += [Cause(f"cancellation:{c.id}", "cancel", id, c.at) for c in self.cancellations]
        endings = [c for c in endings if c.name not in self.undone]
        candidates = [*([by_refund] if by_refund else []), *sorted(endings, key=lambda c: c.order)]
        self.closing = min(candidates, key=lambda c: (c.at, c.kind in ENDINGS)) if candidates else None
        if self.closing is not None and self.closing.kind in ENDINGS:
            causes.append(self.closing)
        self.causes = sorted(causes, key=lambda c: c.order)
        self.status = self._status(gives_back)

    def _closing_refund(self, gives_back: list[Cause]) -> Cause | None:
        gone = sum(worth for worth, _ in self.edit_worths.values())
        worth = {ln.id: line_value(ln, "total", self.newest.taxes_included) for ln in self.added_lines}
        to_reach = floor(
            self.placed.total_minor + sum(worth[id] * e for id, e in self.new_money.items()) - gone
        )
        self.money_left = max(0, to_reach - sum(c.value - c.covered for c in gives_back))
        if to_reach == 0 and not any(c.value for c in gives_back):
            return self._last_unit_back(gives_back)
        running = 0
        for cause in gives_back:
            running += cause.value - cause.covered
            if running >= to_reach > 0 and running > 0:
                return cause
        with_value = [c for c in gives_back if c.value > 0]
        waiting = any(t.status == "pending" for r in self.refunds.values() for t in self.money_of(r))
        if any(self.is_undone(r) for r in self.refunds.values()):
            return None
        if self.newest.financial_status == "refunded" and not waiting and with_value:
            return with_value[-1]
        return None

    def _last_unit_back(self, gives_back: list[Cause]) -> Cause | None:
        """An order that cost nothing is given back when its last unit is."""
        owed = {ln.id: ln.quantity for ln in self.placed.lines}
        for cause in gives_back:
            if cause.refund is not None and not self.is_undone(cause.refund):
                for ln in cause.refund.lines:
                    owed[ln.line_id] = owed.get(ln.line_id, 0) - ln.quantity
                if owed and max(owed.values()) <= 0:
                    return cause
        return None

    def _closing_state(self, by_refund: Cause | None) -> Cause | None:
        took_money = any(
            t.kind in ("sale", "capture") and t.status == "success" for t in self.transactions.values()
        )
        free = self.newest.total_minor == 0
        nothing_captured = (free or self.newest.financial_status in NOT_CAPTURED) and not took_money
        never_paid = self.newest.financial_status in ("voided", "expired")
        id = self.placed.order_id
        if self.cancelled_at is not None:
            if nothing_captured:
                return Cause(
                    f"{'void' if never_paid else 'cancel'}:{id}",
                    "void" if never_paid else "cancel",
                    id,
                    self.cancelled_at,
                )
            if by_refund is not None:
                return None
            if in_force(self.program, self.cancelled_at)["cancelled_paid"] == "close":
                return Cause(f"cancel:{id}", "cancel", id, self.cancelled_at)
            self.flags += ("CANCELLED_PAID_WAITING",)
        elif never_paid and nothing_captured and self.voided_at is not None:
            if (self.newest.outstanding_minor or 0) <= 0:
                return Cause(f"void:{id}", "void", id, self.voided_at)
            self.flags += ("VOIDED_STILL_OWED",)
        return None

    def _status(self, gives_back: list[Cause]) -> str:
        if self.closing is not None:
            return {"void": "voided", "cancel": "cancelled"}.get(self.closing.kind, "fully_refunded")
        return "partially_refunded" if any(c.value > 0 for c in gives_back) else "open"

    def after_closing(self, cause: Cause) -> bool:
        return self.closing is not None and cause.order > self.closing.order

    def cause_status(self, cause: Cause) -> str:
        if cause.kind in ENDINGS:
            return {"cancel": "cancelled", "void": "voided"}[cause.kind]
        return "refunded" if cause is self.closing else "partially_refunded"

    # -- earned (D9, D10, D15) -----------------------------------------------------------------------

    def awards(self) -> list[Award]:
        if self.paid_at is None:
            return []
        settings = in_force(self.program, self.paid_at)
        scale, awards = settings["unit"]["scale"], []
        for rule in settings["earning"]:
            base = self.placed.total_minor if rule["mask"] == "total" else self.placed.subtotal_minor
            amount = self._earned(base, rule, scale) + floor(Fraction(str(rule["fixed"])) * 10**scale)
            awards.append(self._award(rule["id"], rule, amount, self.paid_at, settings))
            if Fraction(rule["per_currency_unit"]) > 0:
                for line in self.added_lines:
                    amount = self._earned(
                        line_value(line, rule["mask"], self.newest.taxes_included) * self.new_money[line.id],
                        rule,
                        scale,
                    )
                    awards.append(
                        self._award(
                            f"{rule['id']}+{line.id}", rule, amount, self.added_at(line), settings, line.id
                        )
                    )
        return awards

    def _earned(self, base_minor: int | Fraction, rule: Settings, scale: int) -> int:
        currency_units = Fraction(base_minor) / int(10 ** decimals(self.placed.currency))
        return floor(currency_units * Fraction(rule["per_currency_unit"]) * int(10**scale))

    def _award(
        self,
        target: str,
        rule: Settings,
        amount: int,
        at: datetime,
        settings: Settings,
        line_id: int | None = None,
    ) -> Award:
        due = at + timedelta(hours=24) * settings["waiting_days"]
        days = settings["expiry_days"]
        expires_at = None if days is None else due + timedelta(hours=24) * days
        return Award(
            target,
            rule["id"],
            amount,
            at,
            due,
            expires_at,
            rule["mask"],
            rule["on_partial"] == "only_on_full",
            line_id,
        )

    def ratio(self, cause: Cause, award: Award) -> Fraction:
        """The part of this award that this cause is about, closing apart. At least 0, not yet capped."""
        if award.line_id is not None:
            return self._ratio_on_added_line(cause, award.line_id)
        whole = self.placed.total_minor if award.mask == "total" else self.placed.subtotal_minor
        if cause.kind == "edit":
            line = next(r[0] for r in self.removed if r[0].id == cause.line_id)
            if any(ln.id == line.id for ln in self.added_lines):
                return Fraction(0)
            uncovered = self.edit_worths[line.id][1]
            if award.mask == "total":
                return part(self.edit_worths[line.id][0], whole)
            return part(floor(line_value(line, "subtotal", self.newest.taxes_included) * uncovered), whole)
        if award.mask == "total" or cause.refund is None:
            return part(cause.value - cause.covered - self._of_added(cause, "total"), self.placed.total_minor)
        refund = cause.refund
        subtotal = sum(ln.subtotal_minor for ln in refund.lines)
        if subtotal <= 0:
            return part(max(0, cause.value - self.shipping(refund)) - cause.covered, self.placed.total_minor)
        items = Fraction(subtotal - sum(a.amount_minor for a in refund.adjustments if not a.shipping))
        identity = self.identity(refund)
        if cause.value != identity:
            items = items * cause.value / identity if identity > 0 else Fraction(cause.value)
        return part(max(Fraction(0), items) - self._of_added(cause, "subtotal") - cause.covered, whole)

    def _of_added(self, cause: Cause, mask: str) -> Fraction:
        added = {ln.id for ln in self.added_lines}
        lines = cause.refund.lines if cause.refund else ()
        return sum(
            (ln.subtotal_minor + (ln.tax_minor if mask == "total" else 0)) * self.new_money[ln.line_id]
            for ln in lines
            if ln.line_id in added
        ) + Fraction(0)

    def _ratio_on_added_line(self, cause: Cause, line_id: int) -> Fraction:
        line = next(ln for ln in self.added_lines if ln.id == line_id)
        if cause.kind == "edit":
            mine = cause.line_id == line_id
            return self.edit_worths[line_id][1] if mine else Fraction(0)
        if cause.refund is None:
            return Fraction(0)
        back = [ln for ln in cause.refund.lines if ln.line_id == line_id and names_items(ln, line)]
        return part(sum(ln.quantity for ln in back), line.quantity)


def names_items(returned: ReturnedLine, bought: Line) -> bool:
    """S4: a returned line worth nothing, of a line that cost something, is no return of items."""
    return returned.subtotal_minor + returned.tax_minor != 0 or bought.net_minor <= 0


def part(amount: Fraction | int, whole: int) -> Fraction:
    return Fraction(max(Fraction(0), Fraction(amount)), whole) if whole > 0 else Fraction(0)


def claims_on(award: Award, facts: Facts) -> list[Claim]:
    """What each cause, in time order, reverses of one award (R1-R5, R9-R11, D13, D14)."""
    claims: list[Claim] = []
    ratios = Fraction(0)
    for cause in facts.causes:
        left = award.amount - sum(c.amount for c in claims)
        policy = in_force(facts.program, cause.at)["reverse_earned"]
        ratio, amount, reason = Fraction(0), 0, ""
        if cause is not facts.closing and cause.value == 0:
            reason = cause.reasons[0] if cause.reasons else "NOTHING"
        elif facts.after_closing(cause):
            reason = "ALREADY_CLOSED"
        elif not policy[facts.cause_status(cause)]:
            reason = "STATUS_OFF"
        elif cause is facts.closing:
            ratio, amount, reason = Fraction(1), left, "CLOSING"
        elif award.only_on_full:
            reason = "ONLY_ON_FULL"
        else:
            ratio = facts.ratio(cause, award)
            ratios += ratio
            if policy["rounding"] == "cumulative":
                asked = floor(award.amount * min(Fraction(1), ratios)) - (award.amount - left)
            else:
                asked = floor(award.amount * min(Fraction(1), ratio))
            amount = min(left, max(0, asked))
        claims.append(
            Claim(
                cause.name, cause.at, cause.number, award.target, amount, cause.at < award.due, ratio, reason
            )
        )
    return claims


def returns_of(
    redemption: Redemption, facts: Facts, reversals: Sequence[Reversal] = ()
) -> tuple[list[Return], str, int]:
    """What each cause gives back of one redemption; the restitution; what was forfeited (R12-R23, D16-D18, D22, D25)."""
    returns: list[Return] = []
    amount_redeemed: int = redemption["amount"]
    by_hand = standing(reversals)
    back = dict.fromkeys(redemption["members"], 0)
    code = redemption["code"].casefold() if redemption["code"] else None
    shares = {
        ln.id: (ln.quantity, sum(s for c, s in ln.code_discounts if c == code)) for ln in facts.placed.lines
    }
    whole = sum(share for _, share in shares.values())
    units = dict.fromkeys(shares, 0)
    forfeited, restitution = 0, "code" if redemption.get("reactivated") else "none"
    for cause in sorted([*facts.causes, *by_hand], key=lambda c: c.order):
        if cause.kind == "edit":
            continue
        settings = in_force(facts.program, cause.at)
        left = max(0, amount_redeemed - sum(back.values()) - forfeited)
        returning = settings["return_redeemed"]["enabled"]
        discount = 0
        if cause.refund is not None and cause.value > 0:
            for line in cause.refund.lines:
                bought_line = next((ln for ln in facts.placed.lines if ln.id == line.line_id), None)
                if bought_line is not None and names_items(line, bought_line):
                    bought, share = shares[line.line_id]
                    before = units[line.line_id]
                    units[line.line_id] = min(bought, before + line.quantity)
                    discount += share * units[line.line_id] // bought - share * before // bought
        amount, reason = 0, ""
        if cause.kind == "reversal":
            amount, reason = min(cause.value, amount_redeemed - sum(back.values())), "BY_HAND"
        elif facts.customer_id is None or facts.ignored:
            reason = "ORDER_IGNORED"
        elif cause is not facts.closing and cause.value == 0:
            reason = cause.reasons[0] if cause.reasons else "NOTHING"
        elif redemption["kind"] == "gift_card":
            reason = "GIFT_CARD_REWARD"
        elif facts.after_closing(cause):
            reason = "ALREADY_CLOSED"
        elif redemption.get("reactivated"):
            reason = "CODE_REACTIVATED"
        elif cause is facts.closing:
            if restitution == "none" and not by_hand and may_reactivate(redemption, settings):
                restitution, reason = "code", "CODE_REACTIVATED"
            elif returning:
                amount, reason = left, "CLOSING"
            else:
                reason = "RETURN_OFF"
        else:
            asked = min(left, amount_redeemed * discount // whole) if whole else 0
            if not returning:
                forfeited, reason = forfeited + asked, "RETURN_OFF"
            elif whole == 0:
                reason = "NO_LINE_DISCOUNT"
            elif cause.refund is None or not cause.refund.lines:
                reason = (
                    "SHIPPING_ONLY"
                    if cause.refund and 0 < cause.value <= facts.shipping(cause.refund)
                    else "AMOUNT_ONLY"
                )
            else:
                amount = asked
        if amount:
            restitution = "points"
        returns.append(_return(redemption, cause, amount, back, settings, reason))
    return returns, restitution, forfeited


def standing(reversals: Sequence[Reversal]) -> list[Cause]:
    """Those that were not undone, as causes (D25, D28)."""
    return [Cause(f"reversal:{r.id}", "reversal", r.id, r.at, r.amount) for r in reversals if not r.undone]


def returns_by_hand(
    redemption: Redemption, program: Program, reversals: Sequence[Reversal]
) -> tuple[list[Return], str]:
    """What merchants gave back of a redemption that no order used, and its restitution (D25)."""
    back, returns = dict.fromkeys(redemption["members"], 0), []
    for cause in sorted(standing(reversals), key=lambda c: c.order):
        amount = min(cause.value, redemption["amount"] - sum(back.values()))
        returns.append(_return(redemption, cause, amount, back, in_force(program, cause.at), "BY_HAND"))
    return returns, "points" if sum(back.values()) else "none"


def _return(
    redemption: Redemption, cause: Cause, amount: int, back: dict[Any, int], settings: Settings, reason: str
) -> Return:
    """`back`, what each member has got so far, grows by this return."""
    split = split_over({m: n - back[m] for m, n in redemption["members"].items()}, amount)
    for member, given in split.items():
        back[member] += given
    return Return(
        cause.name,
        cause.at,
        cause.number,
        redemption["id"],
        amount,
        split,
        reason,
        settings["return_redeemed"]["expired_grace_days"],
    )


def may_reactivate(redemption: Redemption, settings: Settings) -> bool:
    """R22, apart from `nothing returned yet`."""
    reward = next((r for r in settings["rewards"] if r["id"] == redemption["reward_id"]), None)
    return bool(
        reward
        and reward["reactivate_code"]
        and redemption["code"]
        and redemption["kind"] != "gift_card"
        and redemption["reactivations"] < 3
        and not redemption["used_elsewhere"]
        and not redemption["reactivation_failed"]
    )


def split_over(owed: dict[Any, int], amount: int) -> dict[Any, int]:
    """R20: in proportion to what each is still owed, whole units, largest remainder first, ties by the id as text."""
    total = sum(owed.values())
    if amount == 0 or total == 0:
        return dict.fromkeys(owed, 0)
    exact = {m: Fraction(amount * n, total) for m, n in owed.items()}
    given = {m: floor(q) for m, q in exact.items()}
    for member in sorted(owed, key=lambda m: (-(exact[m] - floor(exact[m])), str(m)))[
        : amount - sum(given.values())
    ]:
        given[member] += 1
    return given
