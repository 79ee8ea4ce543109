"""The worked cases of the rules, one row each, through the very rules that the workers use: plan, then fold."""

from __future__ import annotations

import re
from dataclasses import dataclass, field
from datetime import datetime
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from models.rules.plan import Redemption
from models.rules.wallet import RETURN, Event
from tests.books import Step, open_books, play, state_of
from tests.flows.arrivals import every_arrival
from tests.oracle.worlds import Delivery, World
from tests.rules.build import (
    CUSTOMER,
    LATER,
    ORDER,
    OTHER,
    Told,
    claims,
    day,
    decided,
    flat,
    grant,
    line,
    order,
    program,
    redeemed,
    refund,
    result,
    returned,
    settings,
    spend,
    wallet,
)

SECOND = ORDER + 1


@dataclass
class Case:
    """Facts of one order or more, what happened in wallets besides, and what must come of it (of the first order).

    expected, by the names of `come_of`: claims, returned, balance, short, expired, credited, granted, restitution
    """

    words: str
    told: list[list[Any]]
    expected: dict[str, Any]
    program: dict[str, Any] = field(default_factory=dict)
    redemptions: list[Redemption] = field(default_factory=list)
    events: list[Event] = field(default_factory=list)
    others: list[Event] = field(default_factory=list)  # in the wallet of a second customer


DISCOUNTED = (line(1, 5_000, codes={"save": 500}), line(2, 5_000, codes={"save": 500}))

CASES = [
    Case(
        "case 1: 500 points on $100, refunds of $20, $30 and the rest take 100, 150, 250 (R1, R2, R4)",
        [[order(10_000), refund(1, 2_000, at=day(2)), refund(2, 3_000, at=day(3)), refund(3, 5_000, at=day(4))]],
        {"claims": [100, 150, 250], "balance": 0},
        {"points": 5},
    ),
    Case(
        "case 2: a third of 333 points is rounded down to 109 (R2)",
        [[order(33_300), refund(1, 10_989, at=day(2))]],
        {"claims": [109], "balance": 224},
    ),
    Case(
        "case 3: a claim of 200 on a balance of 100 leaves 0 and a shortfall of 100 (R7)",
        [[order(20_000), refund(1, 20_000, at=day(3))]],
        {"claims": [200], "balance": 0, "short": 100},
        events=[spend(7, 100, at=day(2))],
    ),
    Case(
        "case 4: 617 points on 123.45, refunds of 50, 50, 23.45 take 249, 249, 119 (R2, R4)",
        [[order(12_345), refund(1, 5_000, at=day(2)), refund(2, 5_000, at=day(3)), refund(3, 2_345, at=day(4))]],
        {"claims": [249, 249, 119]},
        {"points": 5},
    ),
    Case(
        "case 4, cumulative: the same refunds take 249, 250, 118 (R2)",
        [[order(12_345), refund(1, 5_000, at=day(2)), refund(2, 5_000, at=day(3)), refund(3, 2_345, at=day(4))]],
        {"claims": [249, 250, 118]},
        {"points": 5, "reverse_earned": {"rounding": "cumulative"}},
    ),
    Case(
        "case 5: one event on a balance of 100 returns 300, then claims 200: 200 (R8)",
        [[order(20_000, line(1, 20_000, codes={"save": 900})), refund(1, 20_000, at=day(3))]],
        {"claims": [200], "returned": [300], "balance": 200, "short": 0},
        redemptions=[redeemed(1, 300, at=day(0))],
        events=[grant(1, 300, at=day(-1)), spend(1, 300, at=day(0)), spend(2, 100, at=day(2))],
    ),
    Case(
        "case 6: 200, 70 earned and 150 spent on one order; all of it back leaves 200 (R8, R12, R13)",
        [[order(7_000, line(1, 7_000, codes={"save": 900})), refund(1, 7_000, returned(1, 7_000), at=day(3))]],
        {"claims": [70], "returned": [150], "balance": 200},
        redemptions=[redeemed(1, 150, at=day(0))],
        events=[grant(1, 200, at=day(-1)), spend(1, 150, at=day(0))],
    ),
    Case(
        "case 7: half the money and half the discounted lines back leaves 160 (R1, R12)",
        [[order(7_000, line(1, 3_500, codes={"save": 450}), line(2, 3_500, codes={"save": 450})),
          refund(1, 3_500, returned(1, 3_500), at=day(3))]],
        {"claims": [35], "returned": [75], "balance": 160},
        redemptions=[redeemed(1, 150, at=day(0))],
        events=[grant(1, 200, at=day(-1)), spend(1, 150, at=day(0))],
    ),
    Case(
        "case 8: 100 pending points on $100, $75 back, then approval grants 25 (R5)",
        [[order(10_000), refund(1, 7_500, at=day(2))]],
        {"claims": [75], "granted": 25, "balance": 25, "short": 0},
        {"waiting_days": 14},
    ),
    Case(
        "case 9: lines of 150 and 60, a reward takes 42, 30 of it on the first: that line back returns 30/42 (R12)",
        [[order(16_800, line(1, 12_000, codes={"save": 3_000}), line(2, 4_800, codes={"save": 1_200})),
          refund(1, 12_000, returned(1, 12_000), at=day(3))]],
        {"returned": [300]},
        redemptions=[redeemed(1, 420, at=day(0))],
    ),
    Case(
        "case 10: 350 redeemed from two members, 20 of them expired: 100 + 230 credited, 20 expired (R19, R20)",
        [[order(7_000, line(1, 7_000, codes={"save": 900})), refund(1, 7_000, at=day(20))]],
        {"returned": [350], "credited": {CUSTOMER: 100, OTHER: 230}, "expired": {CUSTOMER: 0, OTHER: 20}},
        redemptions=[redeemed(1, 350, at=day(0), members={CUSTOMER: 100, OTHER: 250})],
        events=[grant(1, 100, at=day(-2)), spend(1, 100, at=day(0))],
        others=[grant(2, 230, at=day(-2)), grant(3, 20, at=day(-2), expires_at=day(10)), spend(1, 250, at=day(0))],
    ),
    Case(
        "case 11: 150 refunds of $0.50 take nothing of 100 points, the last $25 takes all (R2, R4)",
        [[order(10_000), *(refund(n, 50, at=day(2, seconds=n)) for n in range(1, 151)), refund(999, 2_500, at=day(9))]],
        {"claims": [0] * 150 + [100]},
    ),
    Case(
        "case 12: a refund told five times, before and after its order, counts once (R0, R28)",
        [[*[refund(1, 2_000, at=day(2))] * 3, order(10_000), *[refund(1, 2_000, at=day(2))] * 2]],
        {"claims": [20], "balance": 80},
    ),
    Case(
        "case 13: a full refund where the code may come back: code usable again, 0 points returned (R21, R22)",
        [[order(7_000, *DISCOUNTED), refund(1, 7_000, at=day(3))]],
        {"returned": [0], "restitution": {1: "code"}},
        {"reward": {"reactivate_code": True}},
        redemptions=[redeemed(1, 100, at=day(0))],
    ),
    Case(
        "case 14: a partial refund returned 40 of 100 points, then all: 60 points, no code (R14, R21, R22)",
        [[order(10_000, line(1, 4_000, codes={"save": 400}), line(2, 6_000, codes={"save": 600})),
          refund(1, 4_000, returned(1, 4_000), at=day(3)), refund(2, 6_000, returned(2, 6_000), at=day(4))]],
        {"returned": [40, 60], "restitution": {1: "points"}},
        {"reward": {"reactivate_code": True}},
        redemptions=[redeemed(1, 100, at=day(0))],
    ),
    Case(
        "case 15: a claim takes only what the wallet held at its own time, not what came later (R0, R7)",
        [[order(10_000), refund(1, 10_000, at=day(3))], [order(10_000, order_id=SECOND, at=day(4))]],
        {"claims": [100], "balance": 100, "short": 100},
        events=[spend(7, 100, at=day(2))],
    ),
    Case(
        "case 16: an earlier credit that arrives late is taken first (R0, R7)",
        [[order(10_000), refund(1, 10_000, at=day(4))], [order(10_000, order_id=SECOND, at=day(2))]],
        {"claims": [100], "balance": 0, "short": 0},
        events=[spend(7, 100, at=day(3))],
    ),
    Case(
        "case 17: spending that was granted stays granted; what a late refund leaves uncovered is forgiven (R7)",
        [[order(10_000), refund(1, 8_000, at=day(2))], [order(1_000, order_id=SECOND, at=day(5))]],
        {"claims": [400], "balance": 50, "short": 200},
        {"points": 5},
        events=[spend(7, 300, at=day(3))],
    ),
]  # fmt: skip


def come_of(case: Case) -> dict[str, Any]:
    """Everything that a row may expect something of."""
    by = program(**case.program)
    plans = [
        decided(*told, by=by, redemptions=case.redemptions if n == 0 else ())
        for n, told in enumerate(case.told)
    ]
    first = plans[0]
    folded = wallet(plans, *case.events)
    back = {CUSTOMER: result(folded, "refund:1", RETURN)}
    back[OTHER] = result(wallet(plans, *case.others, of=OTHER), "refund:1", RETURN)
    return {
        "claims": claims(first),
        "returned": [sum(b.amount for b in first.returns if b.cause is cause) for cause in first.causes],
        "restitution": first.restitution,
        "balance": folded.balance,
        "short": sum(each.short for each in folded.results.values()),
        "granted": result(folded, f"order:{ORDER}").moved,
        "credited": {of: each.moved for of, each in back.items()},
        "expired": {of: each.expired for of, each in back.items()},
    }


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_each_worked_case_comes_out_as_written(case: Case) -> None:
    """The cases of the rules that arrival does not change: each row names its rules."""
    outcome = come_of(case)
    assert {name: outcome[name] for name in case.expected} == case.expected


ROW = re.compile(r"^\| (\d+) \| (.+) \| (.+) \| ([R0-9, ]+) \|$", re.M)
TOLD = {
    number: words for number, *words in ROW.findall((Path(__file__).parents[2] / "docs/rules.md").read_text())
}


def numbers_in(expected: object) -> set[int]:
    """Every number that a case comes to, however deep."""
    if isinstance(expected, dict):
        return numbers_in(list(expected.values()))
    if isinstance(expected, list):
        return set().union(*map(numbers_in, expected))
    return {expected} if isinstance(expected, int) else set()


@pytest.mark.parametrize("case", CASES, ids=lambda case: case.words)
def test_each_worked_case_stands_in_the_document_with_its_numbers_and_rules(case: Case) -> None:
    number = re.match(r"case (\d+)", case.words)
    rules = re.search(r"\((R.+)\)$", case.words)
    assert number is not None and rules is not None
    happens, comes_of_it, told_rules = TOLD[number[1]]
    numbers = set(re.findall(r"\d+", f"{happens} {comes_of_it}"))
    assert {str(each) for each in numbers_in(case.expected)} <= numbers
    assert set(rules[1].split(", ")) <= set(told_rules.split(", "))


# -- the cases that are about arrival, on the real books ----------------------------------------------


def told_at(at: datetime, *facts: Told) -> Delivery:
    return Delivery(at, "told", tuple(flat(facts)))


def world_of(steps: list[Step], *, points: int = 1) -> World:
    world = World(program=[(None, settings(points=points))], now=LATER)
    world.deliveries = [step for step in steps if isinstance(step, Delivery)]
    world.redemptions = [step for step in steps if isinstance(step, dict)]
    return world


def spent(id: int, amount: int, *, at: datetime) -> dict[str, Any]:
    """A redemption as the helpers of the books take it."""
    known = {
        "reward_id": "5-off",
        "kind": "amount_discount",
        "code": f"spent-{id}",
        "members": {CUSTOMER: amount},
    }
    return {"id": id, "amount": amount, "at": at, "reactivations": 0, "reactivation_failed": False, **known}


ARRIVALS: dict[str, tuple[list[Step], int, tuple[int, int, int]]] = {
    # steps, points for a dollar, and the balance, the debited and the short of the refunded order's award
    "case 12: a refund delivered five times, before and after its order": (
        [
            told_at(day(1), order(10_000, financial_status="pending")),
            told_at(day(2), order(10_000, updated_at=day(2))),
            *[told_at(day(3), refund(1, 2_000, at=day(3)))] * 5,
        ],
        1,
        (80, 20, 0),
    ),
    "case 15: the refund of a spent award arrives after another award": (
        [
            told_at(day(1), order(10_000)),
            spent(7, 100, at=day(2)),
            told_at(day(5), refund(1, 10_000, at=day(3))),
            told_at(day(4), order(10_000, order_id=SECOND, at=day(4))),
        ],
        1,
        (100, 0, 100),
    ),
    "case 16: an award of day 2 arrives after the refund of day 4": (
        [
            told_at(day(1), order(10_000)),
            spent(7, 100, at=day(3)),
            told_at(day(4), refund(1, 10_000, at=day(4))),
            told_at(day(6), order(10_000, order_id=SECOND, at=day(2))),
        ],
        1,
        (0, 100, 0),
    ),
    "case 17: the refund of day 2 arrives after the spending of day 3": (
        [
            told_at(day(1), order(10_000)),
            spent(7, 300, at=day(3)),
            told_at(day(4), refund(1, 8_000, at=day(2))),
            told_at(day(5), order(1_000, order_id=SECOND, at=day(5))),
        ],
        5,
        (50, 400, 0),
    ),
}


@pytest.mark.parametrize("words", ARRIVALS)
def test_each_worked_case_of_arrival_ends_as_written_in_every_order(engine: Engine, words: str) -> None:
    """R0, R7, R28: cases 12, 15, 16 and 17, in every order of arrival that differs."""
    steps, points, expected = ARRIVALS[words]
    world = world_of(steps, points=points)
    finals = every_arrival(engine, world, steps, now=LATER)
    print(finals)
    assert len(finals.states) == 1
    assert come_to(finals.one) == expected


@pytest.mark.parametrize("words", ARRIVALS)
def test_each_worked_case_of_arrival_ends_as_written_when_days_pass_between(
    engine: Engine, words: str
) -> None:
    """R0: the clock stands at the day on which each step arrives, as it did in life."""
    steps, points, expected = ARRIVALS[words]
    books = open_books(engine, world_of(steps, points=points))
    for step in sorted(steps, key=arrived):
        play(books, [step], now=arrived(step))
    books.pass_time(now=LATER)
    assert come_to(state_of(books)) == expected


def arrived(step: Step) -> datetime:
    return step.received_at if isinstance(step, Delivery) else step["at"]


def come_to(state: dict[str, Any]) -> tuple[int, int, int]:
    """The balance, and what was debited and short of the refunded order's award."""
    _, _, awards, _ = state["orders"][ORDER]
    _, _, _, debited, short = awards["place-order"]
    return state["customers"][CUSTOMER][0], debited, short
