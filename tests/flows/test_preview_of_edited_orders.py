"""What a preview takes for the rest of an order (R37): edits, exchanges and foreign money counted."""

from __future__ import annotations

from datetime import datetime
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine

from models.errors import Refused
from tasks.steps.load import open_world
from tasks.steps.preview import preview
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tests.conftest import RegisteredShop
from tests.rules.build import ORDER, day, line, order, paid_back, refund, returned


def tell(engine: Engine, shop: RegisteredShop, *facts: Any, now: datetime) -> None:
    with engine.begin() as connection:
        world = open_world(connection, by_id(connection, shop.id), now)
        settle(world, [Told(fact=fact, received_at=now, cause="inbox:1") for fact in facts])


def previewed(engine: Engine, shop: RegisteredShop, **wish: Any) -> tuple[str, str, int]:
    with engine.begin() as connection:
        told = preview(connection, shop.id, ORDER, now=day(9), **wish)
        return told["amount"], told["status_after"], told["reversed"]


def test_a_line_that_an_edit_added_can_be_previewed_and_is_part_of_the_rest(
    engine: Engine, shop: RegisteredShop
) -> None:
    """S9: $100 paid, a line of $50 added and paid."""
    edited = order(15_000, line(1, 10_000), line(2, 5_000), updated_at=day(2))
    tell(engine, shop, order(None, line(1, 10_000)), edited, now=day(3))
    assert previewed(engine, shop) == ("150.00", "fully_refunded", 150)
    assert previewed(engine, shop, lines={2: 1}) == ("50.00", "partially_refunded", 50)
    assert previewed(engine, shop, amount=Decimal("150.00"))[1] == "fully_refunded"


def test_units_that_an_edit_removed_are_not_there_to_refund(engine: Engine, shop: RegisteredShop) -> None:
    """S9: two of three units of $20 are left."""
    edited = order(6_000, line(1, 6_000, units=3, current=2), updated_at=day(2))
    tell(engine, shop, order(None, line(1, 6_000, units=3)), edited, now=day(3))
    assert previewed(engine, shop) == ("40.00", "fully_refunded", 40)
    with pytest.raises(Refused, match="2 units left"):
        previewed(engine, shop, lines={1: 3})


def test_money_given_back_in_another_currency_counts_in_shop_money(
    engine: Engine, shop: RegisteredShop
) -> None:
    """S1: 18 of 90 euros are 20 of 100 dollars, so 80 are left."""
    placed = order(10_000, presentment_currency="EUR", presentment_total_minor=9_000)
    record, _ = refund(51, 2_000, at=day(2))
    tell(engine, shop, placed, record, paid_back(51, 1_800, at=day(2), currency="EUR"), now=day(3))
    assert previewed(engine, shop) == ("80.00", "fully_refunded", 80)


def test_lines_bring_no_more_money_than_is_left(engine: Engine, shop: RegisteredShop) -> None:
    """S2: $90 of $100 went back as an amount; returning the $100 line brings the last $10."""
    tell(engine, shop, order(None, line(1, 10_000)), *refund(51, 9_000, at=day(2)), now=day(3))
    assert previewed(engine, shop, lines={1: 1}) == ("10.00", "fully_refunded", 10)


def test_the_rest_after_some_units_came_back_is_the_other_units(engine: Engine, shop: RegisteredShop) -> None:
    tell(
        engine,
        shop,
        order(None, line(1, 10_001, units=3)),
        *refund(51, 3_333, returned(1, 3_333), at=day(2)),
        now=day(3),
    )
    assert previewed(engine, shop) == ("66.68", "fully_refunded", 67)


def test_the_rest_of_an_edited_order_closes_it(engine: Engine, shop: RegisteredShop) -> None:
    """S9, R36: $80, two of $5 and $10 of shipping paid; an edit takes the two off, then $10 come back without items."""
    lines = (line(1, 8_000), line(2, 1_000, units=2))
    edited = order(10_000, lines[0], line(2, 1_000, units=2, current=0), updated_at=day(3))
    tell(engine, shop, order(10_000, *lines), edited, now=day(3))
    assert previewed(engine, shop) == ("100.00", "fully_refunded", 90)
    tell(engine, shop, *refund(77, 1_000, at=day(4)), now=day(5))
    assert previewed(engine, shop) == ("90.00", "fully_refunded", 90)
