"""Codes that tie orders together: each order is planned with all its redemptions, however it came to be looked at."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime, timedelta

from sqlalchemy import Engine, text

from models.rules.facts import Fact
from tasks.steps.load import open_world
from tasks.steps.preview import preview
from tasks.steps.programs import put
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tasks.steps.verify import verify
from tasks.steps.wallets import grant, redeem
from tests.conftest import RegisteredShop
from tests.rules.build import CUSTOMER, OTHER, day, line, order, refund, returned

FIRST, SECOND, THIRD = 7_000_001, 7_000_002, 7_000_003


def tell(engine: Engine, shop: RegisteredShop, *facts: Fact, now: datetime) -> int:
    with engine.begin() as connection:
        world = open_world(connection, by_id(connection, shop.id), now)
        told = [Told(fact=fact, received_at=now, cause="inbox:1") for fact in facts]
        return settle(world, told).booked.entries


def spend(engine: Engine, shop: RegisteredShop, codes: Sequence[str], members: Sequence[int]) -> None:
    """Returns are on from the start; each code costs 30 points of each member."""
    with engine.begin() as connection:
        put(connection, shop.id, {"return_redeemed": {"enabled": True}}, now=day(0) - timedelta(days=30))
        for member in members:
            grant(connection, shop.id, member, amount=100, reason="start", now=day(0))
        for code in codes:
            sources = [(member, 30) for member in members]
            redeem(
                connection,
                shop.id,
                members[0],
                reward="custom",
                amount=30 * len(members),
                code=code,
                sources=sources,
                now=day(0, seconds=60),
            )


def returned_by_code(engine: Engine, shop: RegisteredShop) -> dict[str, int]:
    with engine.begin() as connection:
        rows = connection.execute(
            text("select code_key, returned from redemptions where shop_id = :id"), {"id": shop.id}
        )
        return {row.code_key: row.returned for row in rows}


def test_an_order_that_shares_one_code_leaves_what_another_order_returned_of_its_other_codes(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R12, R14: the first order used two codes; news of an order that shares one of them changes nothing of the other."""
    spend(engine, shop, ["aaa", "bbb"], [CUSTOMER])
    first = order(None, line(1, 1000, codes={"aaa": 100, "bbb": 100}), order_id=FIRST)
    facts = refund(51, 1000, returned(1, 1000), at=day(2), order_id=FIRST)
    tell(engine, shop, first, *facts, now=day(3))
    assert returned_by_code(engine, shop) == {"aaa": 30, "bbb": 30}

    later = order(None, line(2, 500, codes={"bbb": 50}), order_id=SECOND, at=day(3))
    tell(engine, shop, later, now=day(4))
    with engine.begin() as connection:
        preview(connection, shop.id, SECOND, now=day(4))
        assert returned_by_code(engine, shop) == {"aaa": 30, "bbb": 30}
        assert verify(connection, shop.id) == []


def test_a_chain_of_orders_that_share_codes_is_planned_as_a_whole(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R0: the third order shares a code with the second, which shares another one with the first."""
    spend(engine, shop, ["aaa", "bbb", "ccc"], [CUSTOMER])
    orders = [
        order(None, line(1, 1000, codes={"aaa": 100, "bbb": 100}), order_id=FIRST, at=day(1)),
        order(None, line(2, 1000, codes={"bbb": 100, "ccc": 100}), order_id=SECOND, at=day(2)),
        order(None, line(3, 1000, codes={"ccc": 100}), order_id=THIRD, at=day(3)),
    ]
    refunds = [
        refund(50 + n, 1000, returned(n + 1, 1000), at=day(4), order_id=each.order_id)
        for n, each in enumerate(orders)
    ]
    for each, facts in zip(reversed(orders), reversed(refunds), strict=True):
        tell(engine, shop, each, *facts, now=day(5))
    assert returned_by_code(engine, shop) == {"aaa": 30, "bbb": 30, "ccc": 30}
    with engine.begin() as connection:
        assert verify(connection, shop.id) == []


def test_an_older_telling_without_the_code_takes_back_what_every_member_had_returned(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R0, R20: the members' wallets are found by what stands there, not only by the codes that the order still has."""
    spend(engine, shop, ["aaa"], [CUSTOMER, OTHER])
    newer = order(None, line(1, 1000, codes={"aaa": 100}), at=day(1), updated_at=day(1, seconds=9))
    tell(engine, shop, newer, *refund(51, 1000, returned(1, 1000), at=day(2)), now=day(3))
    assert returned_by_code(engine, shop) == {"aaa": 60}
    tell(engine, shop, order(None, line(1, 1000), at=day(1)), now=day(3))
    assert returned_by_code(engine, shop) == {"aaa": 0}
    with engine.begin() as connection:
        assert verify(connection, shop.id) == []
