"""What time alone brings, and that no wallet and no shop waits for another's."""

from __future__ import annotations

from datetime import datetime, timedelta
from typing import Any

from sqlalchemy import Engine, text

from tasks.steps.clock import check_tiers, mature
from tasks.steps.load import open_world
from tasks.steps.programs import put
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tasks.steps.verify import verify
from tasks.steps.wallets import grant
from tests.conftest import RegisteredShop, register
from tests.rules.build import CUSTOMER, OTHER, day, order, refund

LONG_AGO = day(-400)


def program(engine: Engine, shop: RegisteredShop, *, at: datetime = LONG_AGO, **settings: Any) -> None:
    with engine.begin() as connection:
        put(connection, shop.id, settings, now=at)


def tell(engine: Engine, shop: RegisteredShop, *facts: Any, now: datetime) -> None:
    with engine.begin() as connection:
        world = open_world(connection, by_id(connection, shop.id), now)
        settle(world, [Told(fact=fact, received_at=now, cause="inbox:1") for fact in facts])


def wallet(engine: Engine, shop: RegisteredShop, customer: int = CUSTOMER) -> Any:
    with engine.begin() as connection:
        assert verify(connection, shop.id) == []
        return connection.execute(
            text("select * from wallets where shop_id = :shop and customer_id = :id"),
            {"shop": shop.id, "id": customer},
        ).one()


def test_an_award_is_approved_when_its_waiting_is_over_net_of_what_was_refunded(fresh_engine: Engine) -> None:
    """R5, case 8: $100, 100 pending, $75 back, then approval: 25 granted; later the lot expires."""
    shop = register(fresh_engine)
    program(fresh_engine, shop, waiting_days=3, expiry_days=5)
    tell(fresh_engine, shop, order(10_000), *refund(51, 7_500, at=day(2)), now=day(2))
    assert (mature(fresh_engine, now=day(3)), wallet(fresh_engine, shop).pending) == (0, 25)
    assert (mature(fresh_engine, now=day(4)), wallet(fresh_engine, shop).balance) == (1, 25)
    assert (mature(fresh_engine, now=day(9)), wallet(fresh_engine, shop).balance) == (1, 0)
    assert mature(fresh_engine, now=day(9)) == 0


def test_what_is_due_longest_comes_first_whichever_shop_it_is_of(fresh_engine: Engine) -> None:
    """No shop waits for all wallets of the shops registered before it."""
    early, late = register(fresh_engine), register(fresh_engine)
    for shop, at in ((early, day(5)), (late, day(3))):
        with fresh_engine.begin() as connection:
            for customer in (CUSTOMER, OTHER):
                grant(connection, shop.id, customer, amount=9, reason="x", expires_at=at, now=day(1))
    assert mature(fresh_engine, limit=2, now=day(6)) == 2
    assert (wallet(fresh_engine, late).balance, wallet(fresh_engine, late, OTHER).balance) == (0, 0)
    assert wallet(fresh_engine, early).balance == 9


def test_a_wallet_that_fails_holds_up_no_other(fresh_engine: Engine) -> None:
    shop = register(fresh_engine)
    with fresh_engine.begin() as connection:
        for customer in (CUSTOMER, OTHER):
            grant(connection, shop.id, customer, amount=9, reason="x", expires_at=day(2), now=day(1))
        spoil = (
            "insert into timeline (shop_id, customer_id, kind, cause, target, at, sort_id, amount, grace_days, carry_debt,"
            " reduces_pending, reasons, policy_version, moved, short, expired, debt_change, folded)"
            " values (:shop, :id, 5, 'redemption:1', 'redemption:1', :at, 1, 5, 0, false, false, '[]', 1, 0, 0, 0, 0, false)"
        )
        connection.execute(text(spoil), {"shop": shop.id, "id": CUSTOMER, "at": day(2)})
    assert mature(fresh_engine, now=day(3)) == 2
    balances = "select customer_id, balance from wallets where shop_id = :shop"
    with fresh_engine.begin() as connection:
        found = connection.execute(text(balances), {"shop": shop.id}).all()
    assert sorted(tuple(row) for row in found) == [(CUSTOMER, 9), (OTHER, 0)]


def test_a_tier_falls_when_its_window_leaves_the_order_behind(fresh_engine: Engine) -> None:
    """R24: a rolling year; looked at again after an hour, not before."""
    shop = register(fresh_engine)
    program(fresh_engine, shop, tiers={"window": "rolling_year"})
    tell(fresh_engine, shop, order(60_000), now=day(1))
    assert wallet(fresh_engine, shop).tier == "gold"
    assert check_tiers(fresh_engine, now=day(1) + timedelta(minutes=59)) == 0
    assert check_tiers(fresh_engine, now=day(365)) == 1
    assert wallet(fresh_engine, shop).tier == "gold"
    assert check_tiers(fresh_engine, now=day(366)) == 1
    assert wallet(fresh_engine, shop).tier is None
    assert check_tiers(fresh_engine, now=day(400)) == 0


def test_a_new_program_version_moves_tiers_that_time_never_moves(fresh_engine: Engine) -> None:
    """R26: lifetime spend is not looked at again for time's sake, but it is for new thresholds."""
    shop = register(fresh_engine)
    tell(fresh_engine, shop, order(10_000), now=day(1))
    assert (wallet(fresh_engine, shop).tier, check_tiers(fresh_engine, now=day(90))) == (None, 0)
    program(fresh_engine, shop, at=day(91), tiers={"levels": [{"id": "silver", "threshold": "100"}]})
    assert check_tiers(fresh_engine, now=day(92)) == 1
    assert wallet(fresh_engine, shop).tier == "silver"
    assert check_tiers(fresh_engine, now=day(93)) == 0
