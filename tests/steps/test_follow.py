"""From an event to the rows of the ledger: in the program's unit, and no other shop's."""

from __future__ import annotations

from decimal import Decimal
from itertools import count

import pytest
from sqlalchemy import Engine

from models.errors import NotFound
from tasks.steps.follow import follow
from tests.rules.build import ORDER, day, order, refund, returned
from tests.steps.trade import Trade, trade_of

CAME = (
    "insert into inbox (shop_domain, topic, webhook_id, body, state, order_id)"
    " values (:domain, 'refunds/create', 'the-same-id', '{}', 'done', :order) returning id"
)


def comes(trade: Trade) -> int:
    """A refund's webhook that is booked; its event."""
    trade.numbers = count(1_000_000)  # the order came by another event
    trade.tell(order(10_000, at=day(1)), at=day(1))
    [row] = trade.sql(CAME, order=ORDER)
    trade.numbers = count(row.id)
    trade.tell(refund(1, 2_500, returned(1, 2_500), at=day(2)), at=day(2))
    return int(row.id)


def test_what_was_posted_is_told_in_the_programs_unit(engine: Engine) -> None:
    trade = trade_of(engine, unit={"kind": "credits", "scale": 2}, points="0.05", tiers={"levels": []})
    event = comes(trade)
    with engine.connect() as connection:
        found = follow(connection, f"inbox:{event}")
    assert [entry["amount"] for entry in found["entries"]] == [Decimal("-1.25")]


def test_an_id_that_two_shops_have_is_followed_in_the_one_that_is_named(engine: Engine) -> None:
    trades = [trade_of(engine), trade_of(engine)]
    events = [comes(trade) for trade in trades]
    with engine.connect() as connection:
        for trade, event in zip(trades, events, strict=True):
            found = follow(connection, "the-same-id", domain=trade.shop.domain)
            assert (found["event_id"], len(found["entries"])) == (event, 1)
        with pytest.raises(NotFound):
            follow(connection, "the-same-id", domain="nobody.myshopify.com")
