"""Six things that happened to a customer, each; chosen so that their order of arrival could matter."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from pprint import pformat
from typing import Any

from models.rules.order import OrderFacts
from models.rules.plan import OrderPlan, plan
from models.rules.program import program_from
from models.rules.wallet import Event, Fold
from tests.books import Step
from tests.oracle.store import Grant
from tests.oracle.worlds import Delivery, World
from tests.rules.build import (
    CUSTOMER,
    LATER,
    ORDER,
    OTHER,
    Told,
    day,
    dispute,
    edit,
    flat,
    grant,
    line,
    order,
    paid_back,
    redeemed,
    refund,
    returned,
    settings,
    spend,
    wallet,
)

SECOND = ORDER + 1
TWO = (line(1, 6_000, units=2, codes={"save": 600}), line(2, 4_000, codes={"save": 400}))


@dataclass
class Story:
    words: str
    steps: list[Step]
    program: dict[str, Any] = field(default_factory=dict)

    @property
    def world(self) -> World:
        world = World(program=[(None, settings(**self.program))], now=LATER)
        world.deliveries = [step for step in self.steps if isinstance(step, Delivery)]
        world.grants = [step for step in self.steps if isinstance(step, Grant)]
        world.redemptions = [step for step in self.steps if isinstance(step, dict)]
        return world


def came(number: int, *facts: Told) -> Delivery:
    """A webhook of that day."""
    return Delivery(day(number), "told", tuple(flat(facts)))


def given(
    id: int, amount: int, *, at: datetime, to: int = CUSTOMER, expires_at: datetime | None = None
) -> Grant:
    return Grant(id=id, customer_id=to, amount=amount, at=at, expires_at=expires_at)


def spent(id: int, members: dict[int, int], *, at: datetime, code: str = "save") -> dict[str, Any]:
    """A redemption as the helpers of the books take it."""
    known = {"reward_id": "5-off", "kind": "amount_discount", "code": code, "members": members, "at": at}
    state = {"reactivations": 0, "reactivation_failed": False, "used_elsewhere": False, "reactivated": False}
    return {"id": id, "amount": sum(members.values()), **known, **state}


STORIES = [
    Story(
        "partial refunds by items and by amount, a chargeback, and the rest",
        [
            came(1, order(None, *TWO, financial_status="pending")),
            came(2, order(None, *TWO, updated_at=day(2))),
            came(4, refund(1, 3_000, returned(1, 3_000), at=day(3))),
            came(5, refund(2, 1_111, at=day(5))),
            came(6, dispute(3, 500, at=day(6))),
            came(9, refund(4, 5_389, at=day(8))),
        ],
        {"points": 3, "reverse_earned": {"rounding": "cumulative"}},
    ),
    Story(
        "money that was pending when its refund came, and a final word on it",
        [
            came(1, order(None, *TWO, financial_status="authorized")),
            came(2, order(None, *TWO, updated_at=day(2))),
            came(3, refund(1, 6_000, returned(1, 6_000, units=2), at=day(3), status="pending")),
            came(7, paid_back(1, 6_000, at=day(3), refund_id=None)),
            came(5, refund(2, 4_000, returned(2, 4_000), at=day(5))),
            spent(1, {CUSTOMER: 77}, at=day(4), code="other"),
        ],
        {"waiting_days": 3},
    ),
    Story(
        "two orders that pay for each other's refunds, and spending between",
        [
            came(1, order(10_000, at=day(1))),
            came(4, order(7_000, order_id=SECOND, at=day(4))),
            came(5, refund(1, 10_000, at=day(3))),
            came(9, refund(2, 3_500, at=day(8), order_id=SECOND)),
            given(1, 40, at=day(2), expires_at=day(6)),
            spent(1, {CUSTOMER: 120}, at=day(2, seconds=60), code="other"),
        ],
        {"below_zero": "carry_debt"},
    ),
    Story(
        "an exchange: items out, items in, an edit, and everything back in the end",
        [
            came(1, order(None, *TWO)),
            came(3, edit(9, at=day(2), added={50: 1})),
            came(4, order(None, *TWO, line(50, 5_500), total_minor=10_000, updated_at=day(3))),
            came(5, refund(1, None, returned(2, 4_000), at=day(3))),
            came(6, order(None, TWO[0], line(2, 4_000, current=0, codes={"save": 400}), line(50, 5_500), total_minor=10_000, updated_at=day(5))),
            came(9, refund(2, 11_500, at=day(9))),
        ],
    ),
    Story(
        "a reward of two members, part of it expired, returned in two parts",
        [
            given(1, 100, at=day(-9)),
            given(2, 250, at=day(-9), to=OTHER, expires_at=day(6)),
            spent(1, {CUSTOMER: 100, OTHER: 250}, at=day(0)),
            came(1, order(None, *TWO)),
            came(4, refund(1, 3_000, returned(1, 3_000), at=day(4))),
            came(9, refund(2, 7_000, at=day(8))),
        ],
        {"return_redeemed": {"expired_grace_days": 0}},
    ),
    Story(
        "an authorization voided and the order cancelled, with a code to give back",
        [
            came(1, order(None, *TWO, financial_status="authorized", outstanding_minor=10_000)),
            came(3, order(None, *TWO, financial_status="voided", outstanding_minor=10_000, updated_at=day(3))),
            came(4, order(None, *TWO, financial_status="voided", cancelled_at=day(4), updated_at=day(4))),
            came(4, refund(1, None, returned(1, 6_000, units=2), returned(2, 4_000), at=day(4))),
            came(3, paid_back(77, 0, at=day(3), kind="void", refund_id=None)),
            spent(1, {CUSTOMER: 80}, at=day(0)),
        ],
        {"reward": {"reactivate_code": True}},
    ),
    Story(
        "an order whose customer is known late, beside one of his that is refunded",
        [
            came(1, order(10_000, customer_id=None)),
            came(6, order(10_000, customer_id=CUSTOMER, updated_at=day(6))),
            came(4, refund(1, 2_500, at=day(4))),
            came(2, order(8_000, order_id=SECOND, at=day(2))),
            came(5, refund(2, 8_000, at=day(5), order_id=SECOND)),
            spent(1, {CUSTOMER: 150}, at=day(3), code="other"),
        ],
        {"expiry_days": 30},
    ),
    Story(
        "everything in one second, and one refund told with two contents",
        [
            came(1, order(None, *TWO, financial_status="pending")),
            came(1, order(None, *TWO)),
            came(1, refund(1, 3_000, returned(1, 3_000), at=day(1))),
            came(1, refund(1, 3_000, returned(2, 3_000), at=day(1))),
            came(1, refund(2, 7_000, at=day(1))),
            spent(1, {CUSTOMER: 30}, at=day(1)),
        ],
    ),
]  # fmt: skip


def final_of(story: Story, steps: Sequence[Step]) -> str:
    """What the rules alone make of the steps in this order: every plan, and every wallet folded from them."""
    by = program_from(settings(**story.program), version=1, from_at=None)
    orders: dict[int, OrderFacts] = {}
    events: dict[int, list[Event]] = {CUSTOMER: [], OTHER: []}
    redemptions = []
    for step in steps:
        if isinstance(step, Delivery):
            for fact in step.facts:
                orders.setdefault(fact.order_id, OrderFacts(order_id=fact.order_id)).add(
                    fact, step.received_at
                )
        elif isinstance(step, Grant):
            events[step.customer_id].append(
                grant(step.id, step.amount, at=step.at, expires_at=step.expires_at)
            )
        else:
            redemptions.append(
                redeemed(step["id"], step["amount"], step["code"], at=step["at"], members=step["members"])
            )
            for member, part in step["members"].items():
                events[member].append(spend(step["id"], part, at=step["at"], carry_debt=by.carry_debt))
    plans = []
    for _, facts in sorted(orders.items()):
        codes = facts.placed.codes if facts.placed else ()
        plans.append(plan(facts, programs=[by], redemptions=[r for r in redemptions if r.code_key in codes]))
    return pformat(
        ([decided(each) for each in plans], [held(wallet(plans, *events[of], of=of)) for of in events])
    )


def decided(made: OrderPlan) -> tuple[Any, ...]:
    took = [(c.cause.key, c.award.target, c.amount, c.ratio, c.reasons) for c in made.claims]
    gave = [(b.cause.key, b.redemption.id, b.split, b.ratio, b.reasons) for b in made.returns]
    return made.status, made.flags, took, gave, made.restitution, made.refunded


def held(folded: Fold) -> tuple[Any, ...]:
    lots = {name: (lot.remainder, lot.expires_at) for name, lot in folded.state.lots.items() if lot.remainder}
    return folded.balance, folded.state.debt, lots, sorted(folded.results.items())
