"""Two ways to the same numbers: the product's parser and rules over the world's webhooks, and the world's own sums."""

from datetime import UTC, datetime, timedelta
from random import Random

import pytest

from app.cli.demo_story import program
from app.sandbox.world import Plan, World
from models.rules.order import OrderFacts
from models.rules.plan import CODE_REACTIVATED, OrderPlan, Redemption, plan
from models.rules.program import complete, program_from
from tasks.steps.parse import parse

SATURDAY = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)
ARRIVED = SATURDAY + timedelta(hours=1)
PROGRAM = program_from(complete(program()), version=1, from_at=None)


def planned(world: World, shuffle: int) -> dict[int, OrderPlan]:
    """Every order's plan, once all webhooks were read twice, in a random order."""
    deliveries = 2 * (world.place(SATURDAY) + world.unwind(SATURDAY + timedelta(minutes=1)))
    Random(shuffle).shuffle(deliveries)
    facts: dict[int, OrderFacts] = {}
    for delivery in deliveries:
        order = facts.setdefault(delivery.order_id, OrderFacts(order_id=delivery.order_id))
        for fact in parse(delivery.topic, delivery.body, shop_currency="USD"):
            order.add(fact, ARRIVED)
    return {
        p.placed.id: plan(facts[p.placed.id], programs=[PROGRAM], redemptions=redemptions(p))
        for p in world.plans
    }


def redemptions(p: Plan) -> list[Redemption]:
    return [
        Redemption(
            id=number,
            customer_id=spent.customer_id,
            reward_id=spent.reward,
            kind="amount_discount",
            amount=spent.points,
            code_key=spent.code.casefold(),
            at=SATURDAY,
            members=((spent.customer_id, spent.points),),
        )
        for number, spent in enumerate(p.spent)
    ]


@pytest.mark.parametrize("seed", range(1, 7))
def test_each_refund_takes_and_gives_back_what_the_worlds_own_sums_say(seed: int) -> None:
    world = World(domain="lamps.myshopify.com", seed=seed, orders=54, refunds=90)
    plans = planned(world, shuffle=seed)
    compared = 0
    for p in world.plans:
        expected, got = world.expectation(p), plans[p.placed.id]
        if expected is None:
            continue
        assert sum(award.amount for award in got.awards) == expected.awarded, p.scenario.name
        for id, effect in expected.by_refund.items():
            cause = f"refund:{id}"
            claims = sum(claim.amount for claim in got.claims if claim.cause.key == cause)
            returns = sum(back.amount for back in got.returns if back.cause.key == cause)
            assert (claims, returns) == (effect.reversed, effect.returned), p.scenario.name
            compared += 1
        for number, spent in enumerate(p.spent):
            returned = sum(back.amount for back in got.returns if back.redemption.id == number)
            assert returned == expected.returned[spent.code], p.scenario.name
            assert (got.restitution[number] == "code") == (spent.code in expected.reactivated), (
                p.scenario.name
            )
    assert compared > 70


def test_a_code_that_is_given_back_says_so() -> None:
    world = World(domain="lamps.myshopify.com", seed=2, orders=54, refunds=90)
    plans = planned(world, shuffle=1)
    codes = [back for got in plans.values() for back in got.returns if CODE_REACTIVATED in back.reasons]
    assert codes
