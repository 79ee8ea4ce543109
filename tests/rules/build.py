"""Small builders for the tests of the rules: facts in one line, the plan and the fold of them, real books for those
that need arrival. Money in the currency's smallest unit; `day(3)` is the third day of the story, at noon UTC."""

from __future__ import annotations

import copy
from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

from models.rules.facts import (
    Adjustment,
    Dispute,
    Edit,
    Fact,
    Line,
    Refund,
    ReturnedLine,
    Snapshot,
    Transaction,
)
from models.rules.order import OrderFacts
from models.rules.plan import OrderPlan, Redemption, plan
from models.rules.program import DEFAULTS, Program, complete, program_from
from models.rules.wallet import GRANT, SPEND, Event, Fold, Result, WalletState, fold
from tasks.steps.timeline import event_of, items_of, redemption_target

ORDER = 7_000_001
CUSTOMER = 9_100_000_001
OTHER = 9_100_000_002
LATER = datetime(2027, 6, 1, tzinfo=UTC)


def day(number: int, *, seconds: int = 0) -> datetime:
    return datetime(2026, 3, 1, 12, tzinfo=UTC) + timedelta(days=number - 1, seconds=seconds)


# -- facts -------------------------------------------------------------------------------------------


def line(
    id: int,
    net: int,
    *,
    units: int = 1,
    current: int | None = None,
    tax: int = 0,
    codes: Mapping[str, int] | None = None,
) -> Line:
    """`net`: what the units cost after discounts; `codes`: what each code took off."""
    shares = tuple(sorted((codes or {}).items()))
    left = units if current is None else current
    return Line(
        id=id, quantity=units, current_quantity=left, net_minor=net, tax_minor=tax, code_discounts=shares
    )


def order(total: int | None = None, *lines: Line, **changed: Any) -> Snapshot:
    """An order, paid on day 1 unless said otherwise. Without lines it has one, id 1, of the whole total."""
    lines = lines or (line(1, total or 0),)
    net = sum(each.net_minor for each in lines)
    taxes = sum(each.tax_minor for each in lines)
    included = bool(changed.get("taxes_included"))
    total = net + (0 if included else taxes) if total is None else total
    at = changed.pop("at", day(1))
    usual: dict[str, Any] = {
        "order_id": ORDER,
        "placed_at": at,
        "updated_at": at,
        "currency": "USD",
        "total_minor": total,
        "subtotal_minor": net - (taxes if included else 0),
        "outstanding_minor": 0,
        "financial_status": "paid",
        "cancelled_at": None,
        "customer_id": CUSTOMER,
        "test": False,
        "taxes_included": included,
        "lines": tuple(lines),
        "codes": tuple(sorted({code for each in lines for code, _ in each.code_discounts})),
    }
    told = usual | changed
    told.setdefault("name", f"#{told['order_id'] % 10_000}")
    told.setdefault("presentment_currency", told["currency"])
    told.setdefault("presentment_total_minor", told["total_minor"])
    return Snapshot(**told)


def returned(line_id: int, subtotal: int, *, units: int = 1, tax: int = 0) -> ReturnedLine:
    return ReturnedLine(line_id=line_id, quantity=units, subtotal_minor=subtotal, tax_minor=tax)


def adjusted(amount: int, tax: int = 0, *, shipping: bool = False) -> Adjustment:
    return Adjustment(amount_minor=amount, tax_minor=tax, shipping=shipping)


def refund(
    id: int,
    money: int | None,
    *lines: ReturnedLine,
    at: datetime,
    order_id: int = ORDER,
    shipping: int = 0,
    status: str = "success",
    adjustments: Sequence[Adjustment] | None = None,
    **transaction: Any,
) -> tuple[Fact, ...]:
    """A refund and its money (None: a record without any). Unless told, an adjustment makes the record equal it."""
    worth = sum(each.subtotal_minor + each.tax_minor for each in lines) + shipping
    if adjustments is None:
        adjustments = (adjusted(worth - money),) if money is not None and worth != money else ()
    ids = () if money is None else (id * 10,)
    record = Refund(
        id=id,
        order_id=order_id,
        created_at=at,
        lines=tuple(lines),
        shipping_minor=shipping,
        adjustments=tuple(adjustments),
        transaction_ids=ids,
    )
    if money is None:
        return (record,)
    return record, paid_back(id, money, at=at, order_id=order_id, status=status, **transaction)


def paid_back(refund: int, amount: int, *, at: datetime, **changed: Any) -> Transaction:
    """The money of a refund, by the refund's id."""
    told: dict[str, Any] = {
        "id": refund * 10,
        "order_id": ORDER,
        "kind": "refund",
        "status": "success",
        "amount_minor": amount,
        "currency": "USD",
        "shop_amount_minor": None,
        "at": at,
        "refund_id": refund,
    }
    return Transaction(**(told | changed))


def edit(id: int, *, at: datetime, added: Mapping[int, int] | None = None) -> Edit:
    additions = tuple((added or {}).items())
    return Edit(id=id, order_id=ORDER, committed_at=at, additions=additions, removals=())


def dispute(id: int, amount: int, *, at: datetime, status: str = "lost") -> Dispute:
    return Dispute(id=id, order_id=ORDER, status=status, amount_minor=amount, currency="USD", at=at)


Told = Fact | Sequence[Fact]


def flat(told: Iterable[Told]) -> list[Fact]:
    return [fact for each in told for fact in (each if isinstance(each, tuple) else (each,))]


def joined(*told: Told, received_at: datetime = LATER) -> OrderFacts:
    """All that was told of one order, each received at that time."""
    facts = flat(told)
    order = OrderFacts(order_id=facts[0].order_id)
    for fact in facts:
        order.add(fact, received_at)
    return order


# -- programs and redemptions ------------------------------------------------------------------------


def settings(**changed: Any) -> dict[str, Any]:
    """The defaults with returns on; dictionaries are merged, and some words stand for longer ones:
    points (per currency unit), rule (of the one earning rule), reward (of the one reward), returns (on or off)."""
    full = copy.deepcopy(dict(DEFAULTS))
    full["return_redeemed"]["enabled"] = changed.pop("returns", True)
    full["earning"][0]["per_currency_unit"] = str(changed.pop("points", 1))
    full["earning"][0] |= changed.pop("rule", {})
    full["rewards"][0] |= changed.pop("reward", {})
    for name, value in changed.items():
        full[name] = full[name] | value if isinstance(value, dict) else value
    return complete(full)


def program(*, version: int = 1, from_at: datetime | None = None, **changed: Any) -> Program:
    return program_from(settings(**changed), version=version, from_at=from_at)


def redeemed(id: int, amount: int, code: str | None = "save", *, at: datetime, **changed: Any) -> Redemption:
    """Value spent on the reward `5-off`; `members` as a dictionary when it came from several."""
    members = tuple(sorted(changed.pop("members", {CUSTOMER: amount}).items()))
    told: dict[str, Any] = {"customer_id": members[0][0], "reward_id": "5-off", "kind": "amount_discount"}
    return Redemption(id=id, amount=amount, code_key=code, at=at, members=members, **(told | changed))


# -- decisions ---------------------------------------------------------------------------------------


def decided(
    *told: Told, by: Program | Sequence[Program] | None = None, redemptions: Sequence[Redemption] = ()
) -> OrderPlan:
    """The plan of one order by its facts."""
    programs = [by or program()] if by is None or isinstance(by, Program) else by
    return plan(joined(*told), programs=programs, redemptions=redemptions)


def claims(made: OrderPlan, award: str = "place-order") -> list[int]:
    """What each cause takes of an award, in the order of their own time."""
    return [claim.amount for claim in made.claims if claim.award.target == award]


def why(made: OrderPlan, award: str = "place-order") -> list[tuple[str, ...]]:
    return [claim.reasons for claim in made.claims if claim.award.target == award]


def returns(made: OrderPlan, redemption: int = 1) -> list[int]:
    return [back.amount for back in made.returns if back.redemption.id == redemption]


def why_returned(made: OrderPlan, redemption: int = 1) -> list[tuple[str, ...]]:
    return [back.reasons for back in made.returns if back.redemption.id == redemption]


def grant(id: int, amount: int, *, at: datetime, expires_at: datetime | None = None) -> Event:
    name = f"grant:{id}"
    return Event(at=at, kind=GRANT, sort_id=id, target=name, cause=name, amount=amount, expires_at=expires_at)


def spend(redemption: int, amount: int, *, at: datetime, carry_debt: bool = False) -> Event:
    name = redemption_target(redemption)
    return Event(
        at=at,
        kind=SPEND,
        sort_id=redemption,
        target=name,
        cause=name,
        amount=amount,
        redemption_id=redemption,
        carry_debt=carry_debt,
    )


def wallet(
    made: OrderPlan | Sequence[OrderPlan], *events: Event, of: int = CUSTOMER, until: datetime = LATER
) -> Fold:
    """A customer's wallet after what the plans put on its timeline, and these events besides."""
    plans = [made] if isinstance(made, OrderPlan) else made
    rows = [row for each in plans for row in items_of(each, 1)]
    mine = [row for row in rows if row["customer_id"] == of and not row["reduces_pending"]]
    return fold(WalletState(), [*map(event_of, mine), *events], until)


def result(folded: Fold, cause: str, kind: int | None = None) -> Result:
    """What became of everything (of a kind) that one cause brought to a wallet."""
    total = Result()
    for (_, what, _, _, by), each in folded.results.items():
        if by == cause and kind in (None, what):
            total.moved += each.moved
            total.short += each.short
            total.expired += each.expired
            total.debt_change += each.debt_change
    return total


def live_lots(folded: Fold) -> dict[str, int]:
    return {name: lot.remainder for name, lot in folded.state.lots.items() if lot.remainder}
