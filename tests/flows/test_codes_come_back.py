"""A code that came back and is used again stands for its next order: one benefit, once, at most three times (R21-R23)."""

from __future__ import annotations

from collections.abc import Sequence
from datetime import timedelta
from itertools import permutations
from typing import Any

import pytest
from sqlalchemy import Engine, Row, text

from models.errors import Refused
from models.rules.facts import Fact
from tasks.steps.endings import code_is_back, code_is_gone, end_whole
from tasks.steps.load import open_world
from tasks.steps.programs import put
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tasks.steps.verify import verify
from tasks.steps.wallets import grant, redeem
from tests.conftest import RegisteredShop, register
from tests.rules.build import CUSTOMER, OTHER, day, line, order, refund, returned

FIRST, SECOND, THIRD, FOURTH = 7_000_011, 7_000_012, 7_000_013, 7_000_014
ORDERS = (FIRST, SECOND, THIRD, FOURTH)
REWARD = {"id": "ten-off", "name": "10 off", "kind": "amount_discount", "cost": 60, "value": "10.00"}


class Shop:
    """A shop whose one redemption of 60 points is behind the code `save`."""

    def __init__(
        self, engine: Engine, shop_id: int, *, members: Sequence[int] = (CUSTOMER,), returns: bool = True
    ) -> None:
        self.engine, self.id = engine, shop_id
        rewards = [{**REWARD, "reactivate_code": True}]
        with engine.begin() as connection:
            settings = {"return_redeemed": {"enabled": returns}, "rewards": rewards}
            put(connection, shop_id, settings, now=day(0) - timedelta(days=30))
            for member in members:
                grant(connection, shop_id, member, amount=100, reason="start", now=day(0))
            sources = [(member, 60 // len(members)) for member in members]
            self.redemption_id = redeem(
                connection,
                shop_id,
                members[0],
                reward="ten-off",
                code="SAVE",
                sources=sources,
                now=day(0, seconds=60),
            )

    def tell(self, *facts: Fact, now: Any = None) -> None:
        at = now or day(40)
        with self.engine.begin() as connection:
            world = open_world(connection, by_id(connection, self.id), at)
            settle(world, [Told(fact=fact, received_at=at, cause="inbox:1") for fact in facts])

    def comes_back(self, order_id: int, *, fresh: str | None = None) -> None:
        with self.engine.begin() as connection:
            shop = by_id(connection, self.id)
            code_is_back(
                connection, shop, self.redemption_id, order_id, ends_at=None, now=day(40), fresh_code=fresh
            )

    def is_gone(self, order_id: int) -> None:
        with self.engine.begin() as connection:
            shop = by_id(connection, self.id)
            code_is_gone(connection, shop, self.redemption_id, order_id, reason="deleted", now=day(40))

    @property
    def redemption(self) -> Row[Any]:
        with self.engine.connect() as connection:
            return connection.execute(
                text("select * from redemptions where shop_id = :shop and id = :id"),
                {"shop": self.id, "id": self.redemption_id},
            ).one()

    @property
    def standing(self) -> tuple[Any, ...]:
        row = self.redemption
        return row.order_id, row.restitution, row.reactivation, row.reactivations, row.returned

    def wanted(self) -> list[str]:
        with self.engine.connect() as connection:
            return list(
                connection.execute(
                    text("select key from outbox where shop_id = :shop and state = 'pending' order by key"),
                    {"shop": self.id},
                ).scalars()
            )

    def differences(self) -> list[Any]:
        with self.engine.begin() as connection:
            return verify(connection, self.id)


def used(order_id: int, code: str = "save") -> Fact:
    number = ORDERS.index(order_id)
    return order(None, line(1, 1000, codes={code: 100}), order_id=order_id, at=day(1 + 5 * number))


def refunded(order_id: int) -> Sequence[Fact]:
    number = ORDERS.index(order_id)
    return refund(60 + number, 1000, returned(1, 1000), at=day(3 + 5 * number), order_id=order_id)


def test_a_code_comes_back_three_times_and_then_its_points(engine: Engine, shop: RegisteredShop) -> None:
    """R22: each order that uses it again may be refunded; the fourth time it is points."""
    books = Shop(engine, shop.id)
    for number, order_id in enumerate(ORDERS[:3], start=1):
        books.tell(used(order_id), *refunded(order_id))
        assert books.standing == (order_id, "code", "wanted", number - 1, 0)
        books.comes_back(order_id)
        books.comes_back(order_id)
        assert books.standing == (order_id, "code", "done", number, 0)
    books.tell(used(FOURTH))
    assert books.standing == (FOURTH, "code", "none", 3, 0)
    books.tell(*refunded(FOURTH))
    assert books.standing == (FOURTH, "points", "none", 3, 60)
    assert books.differences() == []


def test_a_reactivated_code_that_is_used_again_gives_points_for_a_partial_refund(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R12, R21: what came back as a code was spent again; half of that order back is half of the points."""
    books = Shop(engine, shop.id)
    books.tell(used(FIRST), *refunded(FIRST))
    books.comes_back(FIRST)
    second = order(
        None, line(1, 1000, codes={"save": 50}), line(2, 1000, codes={"save": 50}), order_id=SECOND, at=day(6)
    )
    books.tell(second, *refund(61, 1000, returned(2, 1000), at=day(8), order_id=SECOND))
    assert books.standing == (SECOND, "points", "none", 1, 30)
    books.tell(*refund(62, 1000, returned(1, 1000), at=day(9), order_id=SECOND))
    assert books.standing == (SECOND, "points", "none", 1, 60)
    assert books.differences() == []


def test_a_fresh_code_stands_for_the_same_redemption(engine: Engine, shop: RegisteredShop) -> None:
    """S11: the benefit came back under another code; whoever uses that one uses the redemption."""
    books = Shop(engine, shop.id)
    books.tell(used(FIRST), *refunded(FIRST))
    books.comes_back(FIRST, fresh="AGAIN-1")
    books.tell(used(SECOND, "again-1"), *refunded(SECOND))
    assert books.standing == (SECOND, "code", "wanted", 1, 0)
    books.is_gone(SECOND)
    assert books.standing == (SECOND, "points", "failed", 1, 60)
    assert books.redemption.reactivation_error == "deleted"
    assert books.differences() == []


def test_whatever_the_order_of_arrival_after_a_reactivation_the_same_stands(
    engine: Engine,
) -> None:
    """R0: the second use, its refund and a late telling of the first, in each of their orders."""
    standings = set()
    for arrivals in permutations([[used(SECOND)], [used(FIRST)], refunded(SECOND)]):
        books = Shop(engine, register(engine).id)
        books.tell(used(FIRST), *refunded(FIRST))
        books.comes_back(FIRST)
        for facts in arrivals:
            books.tell(*facts)
        assert books.differences() == []
        standings.add(books.standing)
    assert standings == {(SECOND, "code", "wanted", 1, 0)}


def test_a_code_used_on_two_orders_before_it_came_back_is_not_reactivated(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R22: it is used elsewhere meanwhile, so the points come back, once."""
    books = Shop(engine, shop.id)
    books.tell(used(FIRST), used(SECOND), *refunded(FIRST))
    assert books.standing == (FIRST, "points", "none", 0, 60)
    books.tell(*refunded(SECOND))
    assert books.redemption.returned == 60
    assert books.wanted() == []
    assert books.differences() == []


def test_a_reactivation_that_was_under_way_when_the_code_was_used_elsewhere_stands(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R23: what was done at Shopify is a fact; the other order is then the use that it stands for."""
    books = Shop(engine, shop.id)
    books.tell(used(FIRST), *refunded(FIRST))
    assert books.wanted() == [f"reactivate:{books.redemption_id}:1"]
    books.tell(used(SECOND))
    assert books.wanted() == []
    books.comes_back(FIRST)
    assert books.standing == (SECOND, "code", "none", 1, 0)
    assert books.differences() == []


@pytest.mark.parametrize("members", [(CUSTOMER,), (CUSTOMER, OTHER)], ids=["alone", "a group"])
def test_a_redemption_that_no_order_used_comes_back_whole_once(
    engine: Engine, shop: RegisteredShop, members: Sequence[int]
) -> None:
    """R20, R30: to each what they gave; an order that turns up afterwards returns nothing more."""
    books = Shop(engine, shop.id, members=members)
    for gives in (60, 0):
        with engine.begin() as connection:
            given = end_whole(
                connection, by_id(connection, shop.id), books.redemption_id, kind="auto_refunded", now=day(30)
            )
        assert given == gives
    books.tell(used(FIRST), *refunded(FIRST))
    assert books.standing == (FIRST, "points", "none", 0, 60)
    assert books.redemption.ended == "auto_refunded"
    with engine.connect() as connection:
        balances = connection.execute(
            text("select balance from wallets where shop_id = :shop and customer_id = any(:ids)"),
            {"shop": shop.id, "ids": list(members)},
        ).scalars()
        assert set(balances) == {100}
    assert books.differences() == []


def test_a_redemption_that_an_order_used_does_not_come_back_whole(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R30: its order decides what comes back of it."""
    books = Shop(engine, shop.id)
    books.tell(used(FIRST))
    with pytest.raises(Refused, match="an order used this redemption"), engine.begin() as connection:
        end_whole(
            connection, by_id(connection, shop.id), books.redemption_id, kind="auto_refunded", now=day(30)
        )
