"""What merchants did in a small shop by the oracle: which of their wishes are granted, and the facts that these leave
(R31, R34-R36, R38, D25-D28). Everything is asked of the facts told so far, from the beginning, each time."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from models.rules.facts import Adjustment, Fact, Refund, ReturnedLine, Transaction
from tests.oracle.claims import ENDINGS, OURS, Cancelled, Facts, Reversal, Seen
from tests.oracle.store import OrderState, Shop, State, order_of
from tests.oracle.worlds import Wish, World

TERMINAL = {
    "fully_refunded": "already_refunded",
    "cancelled": "already_cancelled",
    "voided": "already_cancelled",
}


@dataclass(frozen=True)
class Act:
    """A wish with its object. `verdict`: "done", or the code of the refusal.

    kind: reverse, cancel, refund, undo_refund, undo_ending, undo_reversal     of: the id of the redemption, order, refund
    or reversal     amount: of the reversal, or of the refund in the currency's smallest unit     lines: line id -> units
    facts: what a refund that is granted leaves, under an id that is not known yet     cause: what an ending's undo undoes
    """

    kind: str
    of: int
    at: datetime
    verdict: str
    amount: int | None = None
    lines: tuple[tuple[int, int], ...] | None = None
    facts: tuple[Fact, ...] = ()
    cause: str = ""


@dataclass
class Hand:
    """Everything told so far, and every act that was done."""

    shop: Shop
    seen: list[Seen] = field(default_factory=list)
    reversals: list[Reversal] = field(default_factory=list)
    cancellations: list[Cancelled] = field(default_factory=list)
    undone: set[str] = field(default_factory=set)
    acts: list[Act] = field(default_factory=list)

    def as_shop(self) -> Shop:
        return replace(
            self.shop,
            seen=list(self.seen),
            reversals=list(self.reversals),
            cancellations=list(self.cancellations),
            undone=frozenset(self.undone),
        )

    def settle(self, until: datetime) -> State:
        return self.as_shop().settle(until)

    def facts_of(self, order_id: int, until: datetime) -> Facts:
        seen = [s for s in self.seen if order_of(s) == order_id and s.received_at <= until]
        return Facts(
            seen,
            self.shop.program,
            frozenset(self.undone),
            [c for c in self.cancellations if c.order_id == order_id],
        )

    # -- keeping what was done -------------------------------------------------------------------------

    def keep(self, act: Act, id: int | None = None) -> None:
        """`id`: what the books call it, for acts that make something."""
        self.acts.append(act)
        if act.kind == "reverse":
            assert id is not None and act.amount is not None
            self.reversals.append(Reversal(id, act.of, act.at, act.amount))
        elif act.kind == "cancel":
            assert id is not None
            self.cancellations.append(Cancelled(id, act.of, act.at))
        elif act.kind == "refund":
            assert id is not None and id >= OURS
            self.seen += [Seen(act.at, named(fact, id)) for fact in act.facts]
        elif act.kind == "undo_reversal":
            self.reversals = [replace(r, undone=r.undone or r.id == act.of) for r in self.reversals]
        elif act.cause.startswith(("void:", "cancel:")):
            self.undone |= {
                f"void:{act.of}",
                f"cancel:{act.of}",
            }  # one ending of Shopify's, in two shapes (S7)
        else:
            self.undone.add(act.cause)

    # -- wishes ----------------------------------------------------------------------------------------

    def act_of(self, wish: Wish) -> Act | None:
        """None when there is nothing to wish for yet."""
        state = self.settle(wish.at)
        if wish.kind == "reverse":
            ids = sorted(state.redemptions)
            return self.reverse(state, ids[wish.pick % len(ids)], wish) if ids else None
        if wish.kind == "undo":
            return self._undo(state, wish)
        orders = [o for _, o in sorted(state.orders.items())]
        if not orders:
            return None
        order = orders[wish.pick % len(orders)]
        if wish.kind == "cancel":
            return Act("cancel", order.outcome.order_id, wish.at, TERMINAL.get(order.status, "done"))
        return self._refund(order, wish)

    def reverse(self, state: State, redemption: int, wish: Wish) -> Act:
        known = state.redemptions[redemption]
        left = known.amount - known.returned
        amount = None if wish.part == 100 else 1 + known.amount * wish.part // 100
        verdict = "amount_above_left" if (amount or 0) > left else "done"
        if left == 0:
            verdict = "already_refunded"
        elif known.restitution == "code":
            verdict = "code_in_flight"  # in these worlds nobody is there to give it back
        return Act("reverse", redemption, wish.at, verdict, amount=left if amount is None else amount)

    def _refund(self, order: OrderState, wish: Wish) -> Act | None:
        id = order.outcome.order_id
        facts = self.facts_of(id, wish.at)
        amount, lines = None, None
        if wish.kind == "refund_amount":
            amount = max(1, (facts.money_left + facts.unpaid_goods) * wish.part // 100)
        elif wish.kind == "refund_lines":
            there = sorted((line, n) for line, n in units_left(facts).items() if n)
            if not there:
                return None
            line, n = there[wish.pick % len(there)]
            lines = {line: max(1, n * wish.part // 100)}
        return refund_asked(facts, wish.at, order.status, amount=amount, lines=lines)

    def _undo(self, state: State, wish: Wish) -> Act | None:
        found = [Act("undo_reversal", r.id, wish.at, done_unless(r.undone)) for r in self.reversals]
        for id, order in sorted(state.orders.items()):
            for refund in order.refunds:
                cause = f"refund:{refund}"
                again = done_unless(cause in self.undone)
                found.append(Act("undo_refund", refund, wish.at, again, cause=cause))
            closing = order.outcome.closing
            if closing is not None and closing.kind in ENDINGS:
                found.append(Act("undo_ending", id, wish.at, "done", cause=closing.name))
        return found[wish.pick % len(found)] if found else None


def done_unless(undone: bool) -> str:
    return "already_undone" if undone else "done"


def named(fact: Fact, id: int) -> Fact:
    """The facts of a refund asked of us under the id that it got."""
    if isinstance(fact, Refund):
        return replace(fact, id=id, transaction_ids=(id,))
    assert isinstance(fact, Transaction)
    return replace(fact, id=id, refund_id=id)


def refund_asked(
    facts: Facts,
    at: datetime,
    status: str,
    *,
    amount: int | None = None,
    lines: Mapping[int, int] | None = None,
) -> Act:
    """D26: an amount, units of lines at what was paid for them (no more than is left to give back), or the rest."""
    there = units_left(facts)
    whole = {line: n for line, n in there.items() if n}
    wanted = dict(lines) if lines is not None else whole if amount is None else {}
    act = Act(
        "refund",
        facts.placed.order_id,
        at,
        TERMINAL.get(status, "done"),
        amount=amount,
        lines=None if lines is None else tuple(sorted(lines.items())),
    )
    if act.verdict != "done":
        return act
    returned = tuple(_returned(facts, line, there[line], n) for line, n in sorted(wanted.items()))
    worth = sum(r.subtotal_minor + r.tax_minor for r in returned)
    owed = (
        facts.money_left + facts.unpaid_goods
    )  # money after an edit is first taken for what the edit took (D15d)
    rest = facts.money_left if worth >= facts.money_left else owed
    value = amount if amount is not None else rest if lines is None else min(worth, facts.money_left)
    free = (
        amount is None and facts.placed.total_minor == 0 and bool(wanted)
    )  # it comes back without money (R13)
    if lines is None and not 0 < value <= owed and not free:
        return replace(act, verdict="wrong_amount")
    adjustment = Adjustment(amount_minor=worth - value, tax_minor=0, shipping=False)
    record = Refund(
        id=0,
        order_id=act.of,
        created_at=at,
        lines=returned,
        shipping_minor=0,
        adjustments=(adjustment,) if worth != value else (),
        transaction_ids=(0,),
    )
    money = Transaction(
        id=0,
        order_id=act.of,
        kind="refund",
        status="success",
        amount_minor=value,
        currency=facts.placed.currency,
        shop_amount_minor=value,
        at=at,
        refund_id=0,
    )
    return replace(act, facts=(record, money))


def units_left(facts: Facts) -> dict[int, int]:
    """Units of each line that neither a refund took nor anything else: an edit, a cancellation."""
    off = {now.id: now for now in facts.newest.lines}
    left = {}
    for line in [*facts.placed.lines, *facts.added_lines]:
        back = sum(
            r.quantity
            for refund in facts.refunds.values()
            if not (refund.id >= OURS and facts.is_undone(refund))
            for r in refund.lines
            if r.line_id == line.id
        )
        gone = facts.taken_off(line, off[line.id], facts.newest.updated_at) if line.id in off else 0
        left[line.id] = max(0, line.quantity - gone - back)
    return left


def _returned(facts: Facts, line_id: int, left: int, units: int) -> ReturnedLine:
    line = next(ln for ln in [*facts.placed.lines, *facts.added_lines] if ln.id == line_id)
    net = line.net_minor - (line.tax_minor if facts.placed.taxes_included else 0)
    before = line.quantity - left

    def paid_for(whole: int) -> int:
        return whole * (before + units) // line.quantity - whole * before // line.quantity

    return ReturnedLine(
        line_id=line_id, quantity=units, subtotal_minor=paid_for(net), tax_minor=paid_for(line.tax_minor)
    )


def hand_of(world: World) -> Hand:
    """Nothing was told yet."""
    return Hand(replace(world.shop(), seen=[], grants=[], redemptions=[]))


def told(hand: Hand, step: Any, seen: list[Seen]) -> None:
    """Something else reached us: facts, a grant, a redemption."""
    hand.seen += seen
    if isinstance(step, dict):
        hand.shop = replace(hand.shop, redemptions=[*hand.shop.redemptions, step])
    elif not seen:
        hand.shop = replace(hand.shop, grants=[*hand.shop.grants, step])
