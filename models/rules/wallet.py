"""What a wallet holds: the `fold` of R0 over its timeline, in time order, then kind, then id.

Kinds at one instant: expiry, grant, approval, return, claim, spend; so what comes back comes before what is taken (R8).
The fold goes on from any state, so new events in time order cost the same whatever came before; a late one is folded
again from just before its own time (`models.rules.wallet` gives the state back, `tasks.steps.fold` rewinds it).
"""

from __future__ import annotations

import heapq
from collections.abc import Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

EXPIRY, GRANT, APPROVAL, RETURN, CLAIM, SPEND = range(6)
KIND_NAMES = ("expiry", "grant", "approval", "return", "claim", "spend")

BY_IMPORT = "import:"  # how the cause of what came from another program begins

EventKey = tuple[datetime, int, int, str, str]


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """One event of one wallet. `amount` >= 0 in the smallest unit.

    cause: what brought it (`refund:5`)    target: what it acts on (`order:7:place-order`, `redemption:3`, `grant:1`);
    for grants and approvals it is the lot that they make, for claims the award's own lot.
    expires_at: of the lot that it makes; of spending, only where it brings its own value (`brings_its_lot`).
    """

    at: datetime
    kind: int
    sort_id: int
    target: str
    cause: str
    amount: int
    expires_at: datetime | None = None
    grace_days: int = 0
    carry_debt: bool = False
    redemption_id: int | None = None

    @property
    def key(self) -> EventKey:
        return self.at, self.kind, self.sort_id, self.target, self.cause

    @property
    def brings_its_lot(self) -> bool:
        """Spent in another program: of value that this wallet never held, so it takes nothing from what it holds."""
        return self.kind == SPEND and self.cause.startswith(BY_IMPORT)


@dataclass(slots=True)
class Lot:
    """Spendable value: 0 <= remainder <= amount."""

    lot: str
    at: datetime
    amount: int
    remainder: int
    expires_at: datetime | None

    @property
    def rank(self) -> tuple[bool, datetime, datetime, str]:
        """First to expire first, no expiry last; then age, then id."""
        return self.expires_at is None, self.expires_at or self.at, self.at, self.lot


@dataclass(frozen=True, slots=True)
class Posting:
    """One movement of one lot. kind: the event's, or `debt` where a credit paid debt off."""

    event: EventKey
    lot: str
    kind: str
    amount: int


@dataclass(slots=True)
class Result:
    """What became of an event: moved + short + expired = its amount (R7, R19); the balance before and after (R39)."""

    moved: int = 0
    short: int = 0
    expired: int = 0
    debt_change: int = 0
    before: int = 0
    after: int = 0


@dataclass(slots=True)
class WalletState:
    """Lots by id, the debt, what each redemption drew (in order drawn; lot None = uncovered) and how much came back."""

    lots: dict[str, Lot] = field(default_factory=dict)
    debt: int = 0
    draws: dict[int, list[tuple[str | None, int]]] = field(default_factory=dict)
    came_back: dict[int, int] = field(default_factory=dict)

    @property
    def balance(self) -> int:
        return sum(lot.remainder for lot in self.lots.values())


class Fold:
    """Folds events into a state. Feed them in the order of their keys, then `finish(until)`."""

    def __init__(self, state: WalletState, balance: int | None = None) -> None:
        self.state = state
        self.balance = state.balance if balance is None else balance
        self.postings: list[Posting] = []
        self.results: dict[EventKey, Result] = {}
        self._expiring = [(lot.expires_at, lot.lot) for lot in state.lots.values() if lot.expires_at]
        heapq.heapify(self._expiring)

    def take(self, event: Event) -> None:
        """Fold one event. Every event before it, and every expiry up to it, comes first."""
        assert event.amount >= 0
        self._expire(event.at)
        result = self.results[event.key] = Result(before=self.balance)
        if event.kind in (GRANT, APPROVAL):
            self._credit_new(event, event.target, event.amount, event.expires_at, result)
            result.moved = event.amount
        elif event.kind == RETURN:
            self._give_back(event, result)
        elif event.kind == CLAIM:
            self._debit(event, event.amount, result, own=event.target)
        elif event.brings_its_lot:
            self.state.draws[_redemption(event)] = self._spend_its_own(event, result)
        else:
            self.state.draws[_redemption(event)] = self._debit(event, event.amount, result)
        result.after = self.balance
        assert result.moved + result.short + result.expired == event.amount

    def finish(self, until: datetime) -> None:
        """Expire what is due by `until`."""
        self._expire(until)

    def _post(self, event: EventKey, lot: Lot, kind: str, amount: int) -> None:
        if amount:
            lot.remainder += amount
            self.balance += amount
            assert 0 <= lot.remainder <= lot.amount
            self.postings.append(Posting(event, lot.lot, kind, amount))

    def _expire(self, until: datetime) -> None:
        while self._expiring and self._expiring[0][0] <= until:
            at, name = heapq.heappop(self._expiring)
            lot = self.state.lots[name]
            self._post((at, EXPIRY, 0, name, "expiry"), lot, "expiry", -lot.remainder)

    def _credit(self, event: Event, lot: Lot, amount: int, result: Result) -> None:
        """A credit first pays what is owed (R7, carry_debt); under `forgive` nothing is."""
        self._post(event.key, lot, KIND_NAMES[event.kind], amount)
        paid = min(self.state.debt, amount)
        self._post(event.key, lot, "debt", -paid)
        self.state.debt -= paid
        result.debt_change -= paid

    def _credit_new(
        self, event: Event, name: str, amount: int, expires_at: datetime | None, result: Result
    ) -> None:
        if amount == 0:
            return
        lot = Lot(name, event.at, amount, 0, expires_at)
        self.state.lots[name] = lot
        if expires_at is not None:
            heapq.heappush(self._expiring, (expires_at, name))
        self._credit(event, lot, amount, result)

    def _debit(
        self, event: Event, amount: int, result: Result, *, own: str | None = None
    ) -> list[tuple[str | None, int]]:
        """Take from the award's own lot first, then from what expires first (R6); what is missing is short (R7)."""
        draws: list[tuple[str | None, int]] = []
        left = amount
        for lot in self._in_order_of_debit(own, left):
            if left == 0:
                break
            taken = min(lot.remainder, left)
            self._post(event.key, lot, KIND_NAMES[event.kind], -taken)
            draws.append((lot.lot, taken))
            left -= taken
        result.moved, result.short = amount - left, left
        if left:
            draws.append((None, left))
            if event.carry_debt:
                self.state.debt += left
                result.debt_change += left
        return draws

    def _spend_its_own(self, event: Event, result: Result) -> list[tuple[str | None, int]]:
        """A lot of its own, made and drawn to the end in one instant, for the value to come back to (R19)."""
        lot = Lot(f"spent:{event.target}", event.at, event.amount, 0, event.expires_at)
        self.state.lots[lot.lot] = lot
        if event.expires_at is not None:
            heapq.heappush(self._expiring, (event.expires_at, lot.lot))
        self._post(event.key, lot, KIND_NAMES[GRANT], event.amount)
        self._post(event.key, lot, KIND_NAMES[SPEND], -event.amount)
        result.moved = event.amount
        return [(lot.lot, event.amount)]

    def _in_order_of_debit(self, own: str | None, amount: int) -> Iterable[Lot]:
        lots = self.state.lots
        first = lots.get(own) if own is not None else None
        if first is not None and first.remainder >= amount:
            return (first,)
        live = sorted(
            (lot for lot in lots.values() if lot.remainder and lot is not first), key=lambda lot: lot.rank
        )
        return live if first is None or not first.remainder else [first, *live]

    def _give_back(self, event: Event, result: Result) -> None:
        """Back to the lots it was drawn from, last drawn first (R19); the uncovered part was drawn last."""
        redemption = _redemption(event)
        skip, left = self.state.came_back.get(redemption, 0), event.amount
        self.state.came_back[redemption] = skip + left
        for name, drawn in reversed(self.state.draws.get(redemption, ())):
            passed = min(skip, drawn)
            skip -= passed
            part = min(drawn - passed, left)
            left -= part
            if part:
                self._give_back_part(event, name, part, result)
        if left:  # a return with no draw behind it: nothing was taken from this wallet that is known yet
            self._give_back_part(event, None, left, result)

    def _give_back_part(self, event: Event, name: str | None, part: int, result: Result) -> None:
        if name is None:
            self._credit_new(event, _lot_of_return(event.key), part, None, result)
            result.moved += part
            return
        lot = self.state.lots[name]
        if lot.expires_at is None or lot.expires_at > event.at:
            self._credit(event, lot, part, result)
            result.moved += part
            return
        graced = lot.expires_at + timedelta(days=event.grace_days)
        if event.at < graced:
            self._credit_new(event, f"{_lot_of_return(event.key)}:{name}", part, graced, result)
            result.moved += part
        else:
            result.expired += part


def fold(state: WalletState, events: Iterable[Event], until: datetime, *, balance: int | None = None) -> Fold:
    """What a wallet holds at `until` after these events, given in any order (R0 b). Changes `state`.

    `balance`: the wallet's, where the state has only the lots that these events can touch.
    """
    folding = Fold(state, balance)
    for event in sorted(events, key=lambda event: event.key):
        if event.at <= until:
            folding.take(event)
    folding.finish(until)
    assert state.debt >= 0
    return folding


def _lot_of_return(key: EventKey) -> str:
    """The lot that a return makes where the lot drawn from cannot take it back."""
    _, _, _, target, cause = key
    return f"return:{cause}:{target}"


def is_lot_of_return(lot: str, key: EventKey) -> bool:
    """Whether this very return made the lot, rather than gave back to it."""
    made = _lot_of_return(key)
    return lot == made or lot.startswith(made + ":")


def _redemption(event: Event) -> int:
    assert event.redemption_id is not None
    return event.redemption_id
