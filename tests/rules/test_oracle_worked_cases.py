"""The oracle says what the law's table of worked cases says, so that a test against it is a test against the law."""

from __future__ import annotations

import random
from collections import Counter
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings

from models.rules.facts import Fact, Line, Refund, ReturnedLine, Snapshot, Transaction
from tasks.steps.parse import parse
from tests.oracle.claims import Seen
from tests.oracle.render import render
from tests.oracle.store import Grant, Shop, State
from tests.oracle.tiers import tier
from tests.oracle.worlds import World, settings, worlds

ORDER, BUYER, FRIEND = 71, 501, 502
DAY_1 = datetime(2026, 3, 1, 12, tzinfo=UTC)
LATER = DAY_1 + timedelta(days=400)


def day(number: float) -> datetime:
    return DAY_1 + timedelta(days=number - 1)


def paid_order(
    total: int, *lines: Line, order_id: int = ORDER, at: datetime = DAY_1, codes: tuple[str, ...] = ()
) -> Snapshot:
    lines = lines or (Line(id=1, quantity=1, current_quantity=1, net_minor=total),)
    return Snapshot(
        order_id=order_id,
        name=f"#{order_id}",
        placed_at=at,
        updated_at=at,
        currency="USD",
        presentment_currency="USD",
        total_minor=total,
        subtotal_minor=sum(ln.net_minor for ln in lines),
        presentment_total_minor=total,
        outstanding_minor=0,
        financial_status="paid",
        cancelled_at=None,
        customer_id=BUYER,
        test=False,
        taxes_included=False,
        lines=lines,
        codes=codes,
    )


def refunded(minor: int, *, number: int, at: datetime, lines: tuple[ReturnedLine, ...] = ()) -> list[Fact]:
    """Money that went back; what the lines do not explain is an amount."""
    money = Transaction(
        id=number + 1000,
        order_id=ORDER,
        kind="refund",
        status="success",
        amount_minor=minor,
        currency="USD",
        shop_amount_minor=None,
        at=at,
        refund_id=number,
    )
    return [
        Refund(
            id=number,
            order_id=ORDER,
            created_at=at,
            lines=lines,
            shipping_minor=0,
            adjustments=(),
            transaction_ids=(money.id,),
        ),
        money,
    ]


def units(line_id: int, quantity: int = 1, subtotal: int = 0) -> ReturnedLine:
    return ReturnedLine(line_id=line_id, quantity=quantity, subtotal_minor=subtotal, tax_minor=0)


def redemption(
    amount: int, *, at: datetime, members: dict[int, int] | None = None, code: str | None = "SAVE-1"
) -> dict[str, Any]:
    return {
        "id": 31,
        "reward_id": "5-off",
        "kind": "amount_discount",
        "amount": amount,
        "code": code,
        "members": members or {BUYER: amount},
        "at": at,
        "reactivations": 0,
        "reactivation_failed": False,
        "used_elsewhere": False,
    }


def earning(per_unit: str, **others: Any) -> dict[str, Any]:
    rule = {
        "id": "r",
        "name": "R",
        "per_currency_unit": per_unit,
        "fixed": 0,
        "mask": "total",
        "on_partial": "proportional",
    }
    return settings(earning=[{**rule, "fixed": others.pop("fixed", 0)}], **others)


def settled(
    facts: list[Fact],
    program: dict[str, Any],
    *,
    grants: list[Grant] | None = None,
    redemptions: list[dict[str, Any]] | None = None,
    late: dict[int, datetime] | None = None,
) -> State:
    """`late`: refund id -> when it was told."""
    seen = [Seen((late or {}).get(getattr(f, "id", 0), LATER), f) for f in facts]
    return Shop([(None, program)], seen, grants or [], redemptions or []).settle(LATER)


def claimed(state: State) -> list[int]:
    return [c.amount for c in state.orders[ORDER].outcome.claims]


def grant(
    amount: int, at: datetime, *, customer: int = BUYER, expires_at: datetime | None = None, number: int = 1
) -> Grant:
    return Grant(id=number, customer_id=customer, amount=amount, at=at, expires_at=expires_at)


def test_case_1_three_refunds_take_their_parts_and_the_last_the_rest() -> None:
    facts = [
        paid_order(10000),
        *refunded(2000, number=1, at=day(2)),
        *refunded(3000, number=2, at=day(3)),
        *refunded(5000, number=3, at=day(4)),
    ]
    assert claimed(settled(facts, earning("5"))) == [100, 150, 250]


def test_case_2_a_claim_is_floored() -> None:
    assert claimed(settled([paid_order(10000), *refunded(3300, number=1, at=day(2))], earning("3.33"))) == [
        109
    ]


def test_case_3_a_balance_never_goes_below_zero() -> None:
    facts = [paid_order(20000), *refunded(20000, number=1, at=day(3))]
    state = settled(facts, earning("1"), redemptions=[redemption(100, at=day(2), code=None)])
    award = state.orders[ORDER].awards["r"]
    assert (state.customers[BUYER].balance, award.debited, award.shortfall) == (0, 100, 100)


@pytest.mark.parametrize(
    ("rounding", "parts"),
    [
        pytest.param("per_refund", [249, 249, 119], id="each refund floored"),
        pytest.param("cumulative", [249, 250, 118], id="the sum floored"),
    ],
)
def test_case_4_the_remainder_goes_with_the_last(rounding: str, parts: list[int]) -> None:
    facts = [
        paid_order(12345),
        *refunded(5000, number=1, at=day(2)),
        *refunded(5000, number=2, at=day(3)),
        *refunded(2345, number=3, at=day(4)),
    ]
    program = earning("5", reverse_earned={"rounding": rounding})
    assert claimed(settled(facts, program)) == parts


def test_case_5_value_comes_back_before_value_is_taken() -> None:
    line = Line(id=1, quantity=1, current_quantity=1, net_minor=20000, code_discounts=(("save-1", 1000),))
    facts = [paid_order(20000, line, codes=("save-1",)), *refunded(20000, number=1, at=day(3))]
    state = settled(
        facts,
        earning("1"),
        grants=[grant(100, day(0)), grant(300, day(-10), number=2)],
        redemptions=[redemption(300, at=day(0.5))],
    )
    spent_later = redemption(200, at=day(2), code=None) | {"id": 32}
    both = settled(
        facts,
        earning("1"),
        grants=[grant(100, day(0)), grant(300, day(-10), number=2)],
        redemptions=[redemption(300, at=day(0.5)), spent_later],
    )
    assert state.customers[BUYER].balance == 400
    assert both.customers[BUYER].balance == 200
    assert both.orders[ORDER].awards["r"].shortfall == 0


@pytest.mark.parametrize(
    ("refund", "balance"),
    [
        pytest.param(refunded(7000, number=1, at=day(3)), 200, id="case 6, all of it"),
        pytest.param(
            refunded(3500, number=1, at=day(3), lines=(units(1, 1, 3500),)), 160, id="case 7, half of it"
        ),
    ],
)
def test_cases_6_and_7_earned_and_spent_on_one_order_both_unwind(refund: list[Fact], balance: int) -> None:
    line = Line(id=1, quantity=2, current_quantity=2, net_minor=7000, code_discounts=(("save-1", 1500),))
    state = settled(
        [paid_order(7000, line, codes=("save-1",)), *refund],
        earning("1"),
        grants=[grant(200, day(0))],
        redemptions=[redemption(150, at=day(0.5))],
    )
    assert state.customers[BUYER].balance == balance


def test_case_8_a_pending_award_is_granted_net_of_its_refund() -> None:
    state = settled([paid_order(10000), *refunded(7500, number=1, at=day(2))], earning("1", waiting_days=14))
    assert state.customers[BUYER].wallet.results[("approval", f"order:{ORDER}", f"{ORDER}/r")].granted == 25
    assert state.customers[BUYER].balance == 25


def test_case_9_a_returned_line_brings_back_its_share_of_the_code() -> None:
    first = Line(id=1, quantity=1, current_quantity=1, net_minor=12000, code_discounts=(("save-1", 3000),))
    second = Line(id=2, quantity=1, current_quantity=1, net_minor=4800, code_discounts=(("save-1", 1200),))
    facts = [
        paid_order(16800, first, second, codes=("save-1",)),
        *refunded(12000, number=1, at=day(2), lines=(units(1, 1, 12000),)),
    ]
    state = settled(
        facts, earning("0"), grants=[grant(420, day(0))], redemptions=[redemption(420, at=day(0.5))]
    )
    assert state.redemptions[31].returned == 300


def test_case_10_a_group_gets_back_what_each_gave_and_hears_of_what_expired() -> None:
    line = Line(id=1, quantity=1, current_quantity=1, net_minor=10000, code_discounts=(("save-1", 350),))
    grants = [
        grant(100, day(0)),
        grant(20, day(0), customer=FRIEND, expires_at=day(3), number=2),
        grant(230, day(0), customer=FRIEND, number=3),
    ]
    facts = [paid_order(10000, line, codes=("save-1",)), *refunded(10000, number=1, at=day(5))]
    state = settled(
        facts,
        earning("0"),
        grants=grants,
        redemptions=[redemption(350, at=day(0.5), members={BUYER: 100, FRIEND: 250})],
    )
    back = state.redemptions[31]
    assert (back.credited, back.expired) == (330, 20)
    assert (state.customers[BUYER].balance, state.customers[FRIEND].balance) == (100, 230)


def test_case_11_refunds_too_small_to_count_are_made_up_at_the_end() -> None:
    facts: list[Fact] = [paid_order(10000)]
    for n in range(150):
        facts += refunded(50, number=n + 1, at=day(2) + timedelta(minutes=n))
    facts += refunded(2500, number=151, at=day(9))
    assert claimed(settled(facts, earning("1"))) == [0] * 150 + [100]


def test_case_12_repeats_and_arrival_order_change_nothing() -> None:
    facts = [paid_order(10000), *refunded(2000, number=1, at=day(2)), *refunded(8000, number=2, at=day(3))]
    once = settled(facts, earning("1"))
    for seed in range(20):
        repeated = facts * 5
        random.Random(seed).shuffle(repeated)
        again = settled(repeated, earning("1"))
        assert (again.customers[BUYER].balance, claimed(again)) == (
            once.customers[BUYER].balance,
            claimed(once),
        )


def opted_in() -> dict[str, Any]:
    return earning(
        "0",
        rewards=[
            {
                "id": "5-off",
                "name": "x",
                "kind": "amount_discount",
                "cost": 100,
                "value": "5.00",
                "reactivate_code": True,
            }
        ],
    )


def test_case_13_a_code_opted_in_comes_back_instead_of_points() -> None:
    facts = [paid_order(10000, codes=("save-1",)), *refunded(10000, number=1, at=day(2))]
    state = settled(
        facts, opted_in(), grants=[grant(100, day(0))], redemptions=[redemption(100, at=day(0.5))]
    )
    assert (state.redemptions[31].restitution, state.redemptions[31].returned) == ("code", 0)


def test_case_14_after_points_came_back_the_rest_comes_as_points() -> None:
    line = Line(id=1, quantity=5, current_quantity=5, net_minor=10000, code_discounts=(("save-1", 500),))
    facts = [
        paid_order(10000, line, codes=("save-1",)),
        *refunded(4000, number=1, at=day(2), lines=(units(1, 2, 4000),)),
        *refunded(6000, number=2, at=day(3)),
    ]
    state = settled(
        facts, opted_in(), grants=[grant(100, day(0))], redemptions=[redemption(100, at=day(0.5))]
    )
    assert [r.amount for r in state.orders[ORDER].outcome.returns] == [40, 60]
    assert state.redemptions[31].restitution == "points"


def test_case_15_a_late_refund_takes_only_what_was_there_at_its_time() -> None:
    facts = [
        paid_order(10000),
        *refunded(10000, number=1, at=day(3)),
        paid_order(10000, order_id=72, at=day(4)),
    ]
    state = settled(
        facts,
        earning("1"),
        redemptions=[redemption(100, at=day(2), code=None)],
        late={1: day(5), 1001: day(5)},
    )
    assert (state.customers[BUYER].balance, state.orders[ORDER].awards["r"].shortfall) == (100, 100)


def test_case_16_a_late_earlier_credit_is_taken_first() -> None:
    facts = [
        paid_order(10000),
        *refunded(10000, number=1, at=day(4)),
        paid_order(10000, order_id=72, at=day(2)),
    ]
    state = settled(facts, earning("1"), redemptions=[redemption(100, at=day(3), code=None)])
    assert (state.customers[BUYER].balance, state.orders[ORDER].awards["r"].shortfall) == (0, 0)


def test_case_17_what_a_late_refund_leaves_uncovered_is_forgiven() -> None:
    facts = [
        paid_order(50000),
        *refunded(40000, number=1, at=day(2)),
        paid_order(5000, order_id=72, at=day(5)),
    ]
    state = settled(facts, earning("1"), redemptions=[redemption(300, at=day(3), code=None)])
    spend = state.redemptions[31]
    assert (state.orders[ORDER].awards["r"].debited, spend.drawn, spend.uncovered) == (400, 100, 200)
    assert (state.customers[BUYER].balance, state.customers[BUYER].debt) == (50, 0)


def test_under_carry_debt_the_same_case_leaves_a_debt_that_later_earning_pays() -> None:
    facts = [
        paid_order(50000),
        *refunded(40000, number=1, at=day(2)),
        paid_order(5000, order_id=72, at=day(5)),
    ]
    state = settled(
        facts, earning("1", below_zero="carry_debt"), redemptions=[redemption(300, at=day(3), code=None)]
    )
    assert (state.customers[BUYER].balance, state.customers[BUYER].debt) == (0, 150)


@pytest.mark.parametrize(
    ("downgrade", "asked_on", "level"),
    [
        pytest.param("immediate", day(3.5), None, id="at once"),
        pytest.param("never", day(300), "gold", id="never"),
        pytest.param("grace", day(9.9), "gold", id="within the grace days"),
        pytest.param("grace", day(10), None, id="when the grace days are over"),
        pytest.param("period_end", datetime(2026, 12, 31, 23, tzinfo=UTC), "gold", id="until the year ends"),
        pytest.param("period_end", datetime(2027, 1, 1, tzinfo=UTC), None, id="when the year has ended"),
    ],
)
def test_a_tier_is_left_as_its_downgrade_policy_says(
    downgrade: str, asked_on: datetime, level: str | None
) -> None:
    program = earning("1", tiers={"downgrade": downgrade, "grace_days": 7})
    facts = [paid_order(60000), *refunded(20000, number=1, at=day(3))]
    outcome = settled(facts, program).orders[ORDER].outcome
    assert tier([outcome], at=asked_on, settings=program, currency="USD") == level


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(world=worlds())
def test_whatever_happens_the_oracle_keeps_its_own_books(world: World) -> None:
    state = world.shop().settle(world.now)
    for customer in state.customers.values():
        results = customer.wallet.results.values()
        came = sum(x.granted + x.credited - x.paid_debt for x in results)
        went = sum(x.debited + x.drawn for x in results) + sum(n for _, n in customer.wallet.expiries)
        assert customer.balance == came - went >= 0
        assert customer.debt >= 0 and customer.pending >= 0
    for order in state.orders.values():
        assert all(0 <= a.reversed <= a.amount for a in order.awards.values())
    for redeemed in state.redemptions.values():
        assert 0 <= redeemed.returned <= redeemed.amount
        assert redeemed.restitution != "code" or redeemed.returned == 0


@hypothesis_settings(
    max_examples=60, deadline=None, suppress_health_check=[HealthCheck.too_slow, HealthCheck.data_too_large]
)
@given(world=worlds())
def test_a_rendered_body_parses_to_the_facts_that_it_was_made_of(world: World) -> None:
    currency = next(f.currency for d in world.deliveries for f in d.facts if isinstance(f, Snapshot))
    for delivery in world.deliveries:
        topic, body = render(delivery, currency=currency)
        assert Counter(parse(topic, body)) == Counter(delivery.facts)
