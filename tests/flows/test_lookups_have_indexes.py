"""What is asked with every look at an order is answered by an index, however many rows other orders have."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine, TextClause, text

from tasks.steps.clock import DUE
from tasks.steps.read import AWARDS, ON_ORDER, REFUNDS
from tests.rules.build import day


@pytest.mark.parametrize("statement", [ON_ORDER, AWARDS, REFUNDS], ids=["redemptions", "awards", "refunds"])
def test_what_belongs_to_an_order_is_found_by_the_order(engine: Engine, statement: TextClause) -> None:
    plan = plan_of(engine, statement, shop_id=1, id=1)
    filtered = [step for step in plan if step.strip().startswith("Filter:") and "order_id" in step]
    assert (filtered, whole_tables(plan)) == ([], [])


def test_what_is_due_is_found_by_when_it_is_due(engine: Engine) -> None:
    assert whole_tables(plan_of(engine, DUE, now=day(1), limit=200)) == []


def whole_tables(plan: list[str]) -> list[str]:
    return [step for step in plan if "Seq Scan" in step]


def plan_of(engine: Engine, statement: TextClause, **values: object) -> list[str]:
    """The plan where a table is read whole only if there is no other way: as if it were large."""
    with engine.begin() as connection:
        connection.execute(text("set local enable_seqscan = off"))
        return list(connection.execute(text("explain " + statement.text), values).scalars())
