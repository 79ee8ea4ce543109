"""One wallet, told from its beginning each time: sort the timeline, walk it, write down what happened (R0b, D11, D19-D21)."""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

KINDS = {"grant": 1, "approval": 2, "return": 3, "claim": 4, "spend": 5}
Key = tuple[str, str, str]


@dataclass(frozen=True, kw_only=True)
class Event:
    """One line of a timeline.

    kind: grant, approval, return, claim, spend        at: effective time (an approval's due time)
    number: grant id / order id / refund id / order id / redemption id, the first tie-break
    target: award (`<order id>/<rule>`), redemption id as text, or ""
    cause: who did it (`refund:1`, `grant:1`, ...); (kind, cause, target) names the event in the results
    carry_debt: policy of that time (claims and spends)   grace_days: policy of that time (returns)
    """

    kind: str
    at: datetime
    number: int
    target: str
    cause: str
    amount: int
    expires_at: datetime | None = None
    carry_debt: bool = False
    grace_days: int = 0

    @property
    def order(self) -> tuple[datetime, int, int, str, str]:
        return (self.at, KINDS[self.kind], self.number, self.target, self.cause)

    @property
    def key(self) -> Key:
        return (self.kind, self.cause, self.target)


@dataclass
class Lot:
    """`source`: target of the award or "" ; `born`: where its event stands in the timeline, the tie-break."""

    source: str
    born: tuple[datetime, int, int, str, str, int]
    expires_at: datetime | None
    amount: int
    remainder: int


@dataclass
class Draw:
    lot: Lot | None
    left: int


@dataclass
class Result:
    """What became of one event. Unused fields stay 0.

    grant/approval: granted (paid_debt of it)   claim: reduced (pending) | debited + shortfall
    return: credited + expired (paid_debt of credited)   spend: drawn + uncovered
    """

    granted: int = 0
    reduced: int = 0
    debited: int = 0
    shortfall: int = 0
    credited: int = 0
    expired: int = 0
    drawn: int = 0
    uncovered: int = 0
    paid_debt: int = 0


@dataclass
class Wallet:
    lots: list[Lot] = field(default_factory=list)
    debt: int = 0
    pending: int = 0
    results: dict[Key, Result] = field(default_factory=dict)
    expiries: list[tuple[datetime, int]] = field(default_factory=list)

    @property
    def balance(self) -> int:
        return sum(lot.remainder for lot in self.lots)

    def lot_multiset(self) -> Counter[tuple[datetime | None, int]]:
        """(expires_at, remainder) of every lot that still holds something."""
        return Counter((lot.expires_at, lot.remainder) for lot in self.lots if lot.remainder)

    def by_expiry(self) -> dict[datetime | None, int]:
        sums: Counter[datetime | None] = Counter()
        for lot in self.lots:
            sums[lot.expires_at] += lot.remainder
        return {at: n for at, n in sums.items() if n}


def fold(
    timeline: Iterable[Event], until: datetime, awards_pending: Iterable[tuple[datetime, str, int]] = ()
) -> Wallet:
    """The wallet at `until`. `awards_pending`: (earned at, target, amount) of every award, for the pending sum."""
    events = sorted((e for e in timeline), key=lambda e: e.order)
    wallet, approved, reduced = Wallet(), set[str](), Counter[str]()
    draws: dict[str, list[Draw]] = {}
    for event in events:
        if event.at > until:
            continue
        expire(wallet, event.at)
        result = wallet.results.setdefault(event.key, Result())
        if event.kind == "grant":
            result.granted = event.amount
            credit_new_lot(wallet, event, result, event.amount, event.expires_at, "")
        elif event.kind == "approval":
            approved.add(event.target)
            result.granted = event.amount - reduced[event.target]
            credit_new_lot(wallet, event, result, result.granted, event.expires_at, event.target)
        elif event.kind == "claim" and event.target not in approved:
            result.reduced = event.amount
            reduced[event.target] += event.amount
        elif event.kind == "claim":
            own_first = sorted(
                wallet.lots, key=lambda lot: (lot.source != event.target, *first_expiring(lot))
            )
            result.debited = sum(d.left for d in take(own_first, event.amount))
            result.shortfall = event.amount - result.debited
            wallet.debt += result.shortfall if event.carry_debt else 0
        elif event.kind == "spend":
            taken = take(sorted(wallet.lots, key=first_expiring), event.amount)
            result.drawn = sum(d.left for d in taken)
            result.uncovered = event.amount - result.drawn
            wallet.debt += result.uncovered if event.carry_debt else 0
            draws[event.target] = [*taken, *([Draw(None, result.uncovered)] if result.uncovered else [])]
        else:
            give_back(wallet, event, result, draws.setdefault(event.target, []))
    expire(wallet, until)
    for at, target, amount in awards_pending:
        if at <= until and target not in approved:
            wallet.pending += amount - reduced[target]
    return wallet


def first_expiring(lot: Lot) -> tuple[bool, datetime, object]:
    return (lot.expires_at is None, lot.expires_at or lot.born[0], lot.born)


def expire(wallet: Wallet, now: datetime) -> None:
    """Kind 0: what has reached its end holds nothing any more."""
    for lot in wallet.lots:
        if lot.expires_at is not None and lot.expires_at <= now and lot.remainder:
            wallet.expiries.append((lot.expires_at, lot.remainder))
            lot.remainder = 0


def take(lots: list[Lot], amount: int) -> list[Draw]:
    draws = []
    for lot in lots:
        part = min(amount, lot.remainder)
        if part:
            lot.remainder -= part
            amount -= part
            draws.append(Draw(lot, part))
    return draws


def after_debt(wallet: Wallet, result: Result, amount: int) -> int:
    """What a credit leaves once debt is paid (R7 carry_debt)."""
    paid = min(wallet.debt, amount)
    wallet.debt -= paid
    result.paid_debt += paid
    return amount - paid


def credit_new_lot(
    wallet: Wallet, event: Event, result: Result, amount: int, expires_at: datetime | None, source: str
) -> None:
    rest = after_debt(wallet, result, amount)
    wallet.lots.append(Lot(source, (*event.order, len(wallet.lots)), expires_at, amount, rest))


def give_back(wallet: Wallet, event: Event, result: Result, draws: list[Draw]) -> None:
    """Last drawn first; the uncovered part was drawn last of all (D19, D20)."""
    amount = event.amount
    for draw in reversed(draws):
        part = min(amount, draw.left)
        if not part:
            continue
        draw.left -= part
        amount -= part
        lot = draw.lot
        if lot is None:
            result.credited += part
            credit_new_lot(wallet, event, result, part, None, "")
        elif lot.expires_at is None or event.at < lot.expires_at:
            result.credited += part
            lot.remainder += after_debt(wallet, result, part)
        elif event.at < lot.expires_at + timedelta(hours=24) * event.grace_days:
            result.credited += part
            credit_new_lot(
                wallet, event, result, part, lot.expires_at + timedelta(hours=24) * event.grace_days, ""
            )
        else:
            result.expired += part
    if amount:
        result.credited += amount
        credit_new_lot(wallet, event, result, amount, None, "")
