"""A whole small shop by the oracle: all facts in, the state of everybody and everything out. Nothing is kept between two calls."""

from __future__ import annotations

from collections import Counter
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from models.rules.facts import Snapshot
from tests.oracle.claims import (
    Cancelled,
    Outcome,
    Redemption,
    Return,
    Reversal,
    Seen,
    decide,
    in_force,
    returns_by_hand,
    snapshot_order,
)
from tests.oracle.tiers import spend_windows, tier
from tests.oracle.wallet import Event, Result, Wallet, fold

Settings = dict[str, Any]


@dataclass(frozen=True)
class Grant:
    """Value given by hand. `at` may lie before the time it was told (an import, a late grant)."""

    id: int
    customer_id: int
    amount: int
    at: datetime
    expires_at: datetime | None = None
    received_at: datetime | None = None


@dataclass
class AwardState:
    """reversed = reduced (while pending) + debited + shortfall."""

    amount: int
    status: str
    reversed: int
    reduced: int
    debited: int
    shortfall: int


@dataclass
class RedemptionState:
    amount: int
    returned: int
    credited: int
    expired: int
    restitution: str
    drawn: int
    uncovered: int
    order_id: int | None


@dataclass
class OrderState:
    status: str
    customer_id: int | None
    awards: dict[str, AwardState]
    redemptions: dict[int, RedemptionState]
    refunds: dict[int, tuple[int, tuple[str, ...]]]
    refunded_minor: int
    flags: tuple[str, ...]
    outcome: Outcome


@dataclass
class CustomerState:
    balance: int
    pending: int
    debt: int
    lots: Counter[tuple[datetime | None, int]]
    by_expiry: dict[datetime | None, int]
    tier: str | None
    spend: dict[str, int]
    orders_count: int
    wallet: Wallet


@dataclass
class State:
    customers: dict[int, CustomerState]
    orders: dict[int, OrderState]
    redemptions: dict[int, RedemptionState]


@dataclass
class Shop:
    """Everything ever told. `settle` judges it as known at `until`: what was received later is not there yet.

    reversals, cancellations: what merchants did by hand (D25, D27); a refund asked of us is among `seen` (D26)
    undone: names of causes that were taken back (D28)
    """

    program: Sequence[tuple[datetime | None, Settings]]
    seen: Sequence[Seen] = ()
    grants: Sequence[Grant] = ()
    redemptions: Sequence[Redemption] = ()
    pins: dict[int, str] = field(default_factory=dict)
    reversals: Sequence[Reversal] = ()
    cancellations: Sequence[Cancelled] = ()
    undone: frozenset[str] = frozenset()

    def settle(self, until: datetime) -> State:
        seen = [s for s in self.seen if s.received_at <= until]
        redemptions = [r for r in self.redemptions if r["at"] <= until]
        reversals = [r for r in self.reversals if r.at <= until]
        used_on = {r["id"]: first_order_with(r["code"], seen) for r in redemptions}
        outcomes = {}
        for order_id in sorted({order_of(s) for s in seen}):
            outcome = decide(
                seen=[s for s in seen if order_of(s) == order_id],
                program=self.program,
                redemptions=[r for r in redemptions if used_on[r["id"]] == order_id],
                reversals=reversals,
                cancellations=[c for c in self.cancellations if c.order_id == order_id and c.at <= until],
                undone=self.undone,
            )
            if outcome is not None:
                outcomes[order_id] = outcome
        returns, restitution = self._given_back(outcomes, redemptions, reversals)
        wallets = {
            c: self._wallet(c, outcomes, redemptions, returns, until)
            for c in self._customers(outcomes, redemptions)
        }
        redeemed = {
            r["id"]: redemption_state(r, used_on[r["id"]], restitution[r["id"]], wallets) for r in redemptions
        }
        orders = {
            id: order_state(o, wallets, {r: s for r, s in redeemed.items() if used_on[r] == id}, until)
            for id, o in outcomes.items()
        }
        return State({c: self._customer(c, w, outcomes, until) for c, w in wallets.items()}, orders, redeemed)

    def _given_back(
        self, outcomes: dict[int, Outcome], redemptions: Sequence[Redemption], reversals: Sequence[Reversal]
    ) -> tuple[list[Return], dict[int, str]]:
        """Every return, and the restitution of each redemption, used or not."""
        returns = [back for o in outcomes.values() for back in o.returns]
        restitution = {id: word for o in outcomes.values() for id, word in o.restitution.items()}
        for r in redemptions:
            if r["id"] not in restitution:
                mine = [each for each in reversals if each.redemption_id == r["id"]]
                by_hand, restitution[r["id"]] = returns_by_hand(r, self.program, mine)
                returns += by_hand
        return returns, restitution

    def _customers(self, outcomes: dict[int, Outcome], redemptions: Sequence[Redemption]) -> list[int]:
        ids = {o.customer_id for o in outcomes.values() if o.customer_id is not None} | {
            g.customer_id for g in self.grants
        }
        return sorted(ids | {m for r in redemptions for m in r["members"]})

    def _carries_debt(self, at: datetime) -> bool:
        return bool(in_force(self.program, at)["below_zero"] == "carry_debt")

    def _wallet(
        self,
        customer: int,
        outcomes: dict[int, Outcome],
        redemptions: Sequence[Redemption],
        returns: Sequence[Return],
        until: datetime,
    ) -> Wallet:
        events, awards = [], []
        for g in self.grants:
            if g.customer_id == customer and (g.received_at or g.at) <= until:
                events.append(
                    Event(
                        kind="grant",
                        at=g.at,
                        number=g.id,
                        target="",
                        cause=f"grant:{g.id}",
                        amount=g.amount,
                        expires_at=g.expires_at,
                    )
                )
        for r in redemptions:
            if customer in r["members"]:
                events.append(
                    Event(
                        kind="spend",
                        at=r["at"],
                        number=r["id"],
                        target=str(r["id"]),
                        cause=f"redemption:{r['id']}",
                        amount=r["members"][customer],
                        carry_debt=self._carries_debt(r["at"]),
                    )
                )
        for o in outcomes.values():
            if o.customer_id == customer:
                for a in o.awards:
                    target = f"{o.order_id}/{a.target}"
                    awards.append((a.at, target, a.amount))
                    events.append(
                        Event(
                            kind="approval",
                            at=a.due,
                            number=o.order_id,
                            target=target,
                            cause=f"order:{o.order_id}",
                            amount=a.amount,
                            expires_at=a.expires_at,
                        )
                    )
                for c in o.claims:
                    events.append(
                        Event(
                            kind="claim",
                            at=c.at,
                            number=c.number,
                            target=f"{o.order_id}/{c.target}",
                            cause=c.cause,
                            amount=c.amount,
                            carry_debt=self._carries_debt(c.at),
                        )
                    )
        for back in returns:
            if back.split.get(customer):
                events.append(
                    Event(
                        kind="return",
                        at=back.at,
                        number=back.number,
                        target=str(back.redemption_id),
                        cause=back.cause,
                        amount=back.split[customer],
                        grace_days=back.grace_days,
                    )
                )
        return fold(events, until, awards)

    def _customer(
        self, customer: int, wallet: Wallet, outcomes: dict[int, Outcome], until: datetime
    ) -> CustomerState:
        orders = [o for o in outcomes.values() if o.customer_id == customer]
        settings = in_force(self.program, until)
        currency = next((s.fact.currency for s in self.seen if isinstance(s.fact, Snapshot)), "USD")
        return CustomerState(
            balance=wallet.balance,
            pending=wallet.pending,
            debt=wallet.debt,
            lots=wallet.lot_multiset(),
            by_expiry=wallet.by_expiry(),
            tier=tier(orders, at=until, settings=settings, currency=currency, pinned=self.pins.get(customer)),
            spend=spend_windows(orders, at=until, settings=settings),
            orders_count=sum(o.count_at(until) for o in orders),
            wallet=wallet,
        )


def order_of(seen: Seen) -> int:
    return seen.fact.order_id


def first_order_with(code: str | None, seen: Sequence[Seen]) -> int | None:
    """D16: of the orders that carried the code when placed, the first by (placed_at, id)."""
    if not code:
        return None
    found = []
    for order_id in {order_of(s) for s in seen}:
        snapshots = [s.fact for s in seen if isinstance(s.fact, Snapshot) and s.fact.order_id == order_id]
        if snapshots:
            placed = min(snapshots, key=snapshot_order)
            if code.casefold() in placed.codes:
                found.append((placed.placed_at, order_id))
    return min(found)[1] if found else None


def redemption_state(
    r: Redemption, order_id: int | None, restitution: str, wallets: dict[int, Wallet]
) -> RedemptionState:
    results = [
        (key, result)
        for member in r["members"]
        for key, result in wallets[member].results.items()
        if key[2] == str(r["id"])
    ]
    backs = [result for key, result in results if key[0] == "return"]
    spends = [result for key, result in results if key[0] == "spend"]
    return RedemptionState(
        amount=r["amount"],
        returned=sum(x.credited + x.expired for x in backs),
        credited=sum(x.credited for x in backs),
        expired=sum(x.expired for x in backs),
        restitution=restitution,
        drawn=sum(x.drawn for x in spends),
        uncovered=sum(x.uncovered for x in spends),
        order_id=order_id,
    )


def order_state(
    o: Outcome, wallets: dict[int, Wallet], redeemed: dict[int, RedemptionState], until: datetime
) -> OrderState:
    awards = {}
    for a in o.awards:
        assert o.customer_id is not None
        results: list[Result] = [
            x
            for key, x in wallets[o.customer_id].results.items()
            if key[0] == "claim" and key[2] == f"{o.order_id}/{a.target}"
        ]
        reduced, debited, shortfall = (
            sum(getattr(x, f) for x in results) for f in ("reduced", "debited", "shortfall")
        )
        awards[a.target] = AwardState(
            a.amount,
            "approved" if a.due <= until else "pending",
            reduced + debited + shortfall,
            reduced,
            debited,
            shortfall,
        )
    refunds = {c.number: (c.value, c.reasons) for c in o.causes if c.kind == "refund"}
    return OrderState(o.status, o.customer_id, awards, redeemed, refunds, o.refunded_minor, o.flags, o)
