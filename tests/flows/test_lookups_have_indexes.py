"""What is asked all the time is answered by an index, however many rows a shop has."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, TextClause, text

from tasks.steps.clock import DUE
from tasks.steps.read import ON_ORDER
from tests.conftest import RegisteredShop
from tests.rules.build import day

MANY = (
    "insert into wallets (shop_id, customer_id, folded_until) values (:shop, 1, now());"
    "insert into redemptions (shop_id, customer_id, reward_id, kind, amount, at, order_id)"
    " select :shop, 1, 'custom', 'custom', 1, now(), n from generate_series(1, 3000) as n;"
    "analyze redemptions"
)


def test_the_redemptions_used_on_an_order_are_found_by_the_order(
    engine: Engine, shop: RegisteredShop
) -> None:
    with engine.begin() as connection:
        for statement in MANY.split(";"):
            connection.execute(text(statement), {"shop": shop.id} if ":shop" in statement else {})
        plan = plan_of(connection, ON_ORDER, shop_id=shop.id, id=7)
    assert "ix_redemptions_order" in plan


def test_what_is_due_is_found_by_when_it_is_due(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("set local enable_seqscan = off"))  # as if the tables were large
        plan = plan_of(connection, DUE, now=day(1), limit=200)
    assert "ix_timeline_due" in plan
    assert "ix_lots_due" in plan


def plan_of(connection: Connection, statement: TextClause, **values: object) -> str:
    return "\n".join(connection.execute(text("explain " + statement.text), values).scalars())
