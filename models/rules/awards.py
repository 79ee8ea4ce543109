"""What an order earned: one award for each earning rule, by the program in force when it was paid (R9, S9)."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from math import floor

from models.rules.facts import ImportedAward, Line, Snapshot
from models.rules.money import exponent
from models.rules.order import PAID_STATUSES, OrderFacts
from models.rules.program import EarningRule, Program, program_at
from models.rules.refunds import items_of, money_of

IMPORTED = "IMPORTED"
BEFORE_IMPORT = "BEFORE_IMPORT"
REPLACED_BY_IMPORT = "REPLACED_BY_IMPORT"


@dataclass(frozen=True, slots=True, kw_only=True)
class Award:
    """Value earned. `amount` in the program's smallest unit; `base_minor` the masked money it was earned on.

    target: the rule's id, or `rule+line` for a line that an edit added; `line` is that line.
    An imported one (D29) is the other program's until `since`: what was taken of it up to then is past, what was spent
    of it up to then is not in the wallet. `whole`: what ratios are of; `granted`: what its approval puts in the wallet.
    """

    target: str
    rule: str
    amount: int
    mask: str
    base_minor: int
    at: datetime
    due_at: datetime
    expires_at: datetime | None
    only_on_full: bool
    policy_version: int
    line: Line | None = None
    since: datetime | None = None
    whole: int = -1
    granted: int = -1

    def __post_init__(self) -> None:
        """Of an award of our own all of it counts."""
        for name in ("whole", "granted"):
            if getattr(self, name) < 0:
                object.__setattr__(self, name, self.amount)


def line_value(line: Line, order: Snapshot, mask: str) -> int:
    """A line's worth under a mask, in the shop currency's smallest unit (R1)."""
    if mask == "subtotal":
        return line.net_minor - (line.tax_minor if order.taxes_included else 0)
    return line.net_minor + (0 if order.taxes_included else line.tax_minor)


def added_lines(order: OrderFacts) -> list[Line]:
    """Lines that an edit or exchange added (S9), in id order."""
    assert order.placed is not None and order.newest is not None
    placed = {line.id for line in order.placed.lines}
    return sorted((line for line in order.newest.lines if line.id not in placed), key=lambda line: line.id)


def exchange_credit(order: OrderFacts, programs: Sequence[Program]) -> int:
    """Value of returned items that was not given back as money, so it paid for added ones (S9, R10)."""
    credit = 0
    for known in order.refunds.values():
        statuses = {t.status for t in order.transactions_of(known.refund)}
        if known.undone or statuses - {"success"}:
            continue
        policy = program_at(programs, known.at)
        money = money_of(known.refund, order, items_without_money=policy.items_without_money)
        credit += max(0, items_of(known.refund) + known.refund.shipping_minor - money.value)
    return credit


def earning_shares(order: OrderFacts, programs: Sequence[Program]) -> dict[int, Fraction]:
    """For each added line the part of its value that was paid with new money, not with what was returned (S9)."""
    added = added_lines(order)
    if not added or order.placed is None:
        return {}
    left, shares = exchange_credit(order, programs), {}
    for line in added:
        value = line_value(line, order.placed, "total")
        absorbed = min(max(value, 0), left)
        left -= absorbed
        shares[line.id] = Fraction(value - absorbed, value) if value > 0 else Fraction(0)
    return shares


def is_ignored(order: OrderFacts, programs: Sequence[Program]) -> bool:
    """A test order, unless the program of its time includes them (R32)."""
    placed = order.placed
    if placed is None or not placed.test:
        return False
    return not program_at(programs, order.paid_at or placed.placed_at).include_test_orders


def is_from_before(order: OrderFacts, programs: Sequence[Program]) -> bool:
    """An order placed before the shop was connected, and paid by then as far as is known (D10b); none of which an award
    was imported, for those earned (D29)."""
    begins, placed = programs[-1].earning_from, order.placed
    if begins is None or placed is None or placed.placed_at >= begins or order.imported:
        return False
    if placed.financial_status not in PAID_STATUSES:  # so it was paid after its first telling
        return False
    taken = [
        t.at for t in order.transactions.values() if t.kind in ("sale", "capture") and t.status == "success"
    ]
    return not taken or min(taken) < begins


def awards_of(order: OrderFacts, programs: Sequence[Program]) -> list[Award]:
    """The awards that should stand for a paid order with a customer; none for an ignored test order (R32), and none for
    what was bought before the shop was connected (D10b). Those that were imported stand instead of all of these (R9)."""
    if order.imported:
        return [_imported_award(order, told, programs) for _, told in sorted(order.imported.items())]
    if order.placed is None or order.paid_at is None or order.customer_id is None:
        return []
    if is_ignored(order, programs) or is_from_before(order, programs):
        return []
    program = program_at(programs, order.paid_at)
    awards = [_placed_award(order, order.placed, rule, program) for rule in program.earning]
    shares = earning_shares(order, programs)
    for line in added_lines(order):
        at = max(order.paid_at, seen_at(order, line))
        rules = [rule for rule in program.earning if rule.per_currency_unit]
        awards += [_added_award(order.placed, line, shares[line.id], at, rule, program) for rule in rules]
    return awards


def _imported_award(order: OrderFacts, told: ImportedAward, programs: Sequence[Program]) -> Award:
    return Award(
        target=told.rule,
        rule=told.rule,
        amount=told.amount,
        mask="total",
        base_minor=0 if order.placed is None else order.placed.total_minor,
        at=told.at,
        due_at=told.due_at,
        expires_at=told.expires_at,
        only_on_full=False,
        policy_version=program_at(programs, told.at).version,
        since=told.at,
        whole=told.earned,
        granted=told.granted,
    )


def _placed_award(order: OrderFacts, placed: Snapshot, rule: EarningRule, program: Program) -> Award:
    assert order.paid_at is not None
    base = placed.total_minor if rule.mask == "total" else placed.subtotal_minor
    return _award(
        target=rule.id,
        rule=rule,
        program=program,
        base=base,
        at=order.paid_at,
        amount=_earned(base, rule, placed.currency) + rule.fixed,
        line=None,
    )


def _added_award(
    placed: Snapshot, line: Line, share: Fraction, at: datetime, rule: EarningRule, program: Program
) -> Award:
    base = line_value(line, placed, rule.mask)
    amount = _earned(base * share, rule, placed.currency)
    target = f"{rule.id}+{line.id}"
    return _award(target=target, rule=rule, program=program, base=base, at=at, amount=amount, line=line)


def _award(
    *,
    target: str,
    rule: EarningRule,
    program: Program,
    base: int,
    at: datetime,
    amount: int,
    line: Line | None,
) -> Award:
    due_at = at + timedelta(days=program.waiting_days)
    days = program.expiry_days
    return Award(
        target=target,
        rule=rule.id,
        amount=amount,
        mask=rule.mask,
        base_minor=base,
        at=at,
        due_at=due_at,
        expires_at=None if days is None else due_at + timedelta(days=days),
        only_on_full=rule.only_on_full,
        policy_version=program.version,
        line=line,
    )


def _earned(base_minor: int | Fraction, rule: EarningRule, currency: str) -> int:
    """floor(money x rate): earning rounds down once, on the product."""
    rate = rule.per_currency_unit / Fraction(10 ** exponent(currency))
    return floor(max(base_minor, 0) * rate)


def seen_at(order: OrderFacts, line: Line) -> datetime:
    """When an added line was first known: in a snapshot, or in the edit that names it."""
    times = [edit.committed_at for edit in order.edits.values() if line.id in dict(edit.additions)]
    return min([*times, order.line_seen_at[line.id]])
