"""A program's versions with what each changed, and the keys that a merchant has given out."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from models.errors import NotFound
from tasks.steps import programs, tokens
from tests.rules.build import day, settings
from tests.steps.trade import Trade, trade_of


@pytest.fixture
def trade(engine: Engine) -> Trade:
    return trade_of(engine)


def test_each_version_says_what_it_changed_of_the_one_before(trade: Trade) -> None:
    trade.do(programs.put, settings(points=2, waiting_days=14), now=day(2))
    trade.do(programs.put, settings(points=2, waiting_days=14, rewards=[]), now=day(3))
    third, second, first = trade.walk(programs.history, limit=2)
    assert (first["version"], first["from_at"], first["changes"]) == (1, None, [])
    assert second["from_at"] == day(2).isoformat()
    assert second["changes"] == [
        {"path": "earning[place-order].per_currency_unit", "before": "1", "after": "2"},
        {"path": "waiting_days", "before": 0, "after": 14},
    ]
    [gone] = third["changes"]
    assert (gone["path"], gone["before"]["cost"], gone["after"]) == ("rewards[5-off]", 500, None)


@pytest.mark.parametrize(
    ("before", "after", "changes"),
    [
        pytest.param({"a": 1}, {"a": 1}, [], id="nothing"),
        pytest.param({"a": {"b": 1}}, {"a": {"b": 2}}, [("a.b", 1, 2)], id="inside"),
        pytest.param({"a": None}, {"a": {"b": 1}}, [("a", None, {"b": 1})], id="what was not set"),
        pytest.param({"a": []}, {"a": [{"id": "x"}]}, [("a[x]", None, {"id": "x"})], id="one more"),
        pytest.param(
            {"a": [{"id": "x", "n": 1}, {"id": "y"}]},
            {"a": [{"id": "y"}, {"id": "x", "n": 2}]},
            [("a[x].n", 1, 2)],
            id="by id, whatever their order",
        ),
        pytest.param({"a": ["x"]}, {"a": ["x", "y"]}, [("a", ["x"], ["x", "y"])], id="plain lists whole"),
    ],
)
def test_what_differs_is_named_by_its_path(before: Any, after: Any, changes: list[Any]) -> None:
    found = programs.diff(before, after)
    assert [(each["path"], each["before"], each["after"]) for each in found] == changes


def test_tokens_are_listed_without_what_opens_anything(engine: Engine, trade: Trade) -> None:
    with engine.begin() as connection:
        made = tokens.create(connection, trade.shop.domain, name="checkout")
    [shown] = trade.read(tokens.listing)
    assert shown.keys() == {"id", "name", "created_at"}
    assert (shown["id"], shown["name"]) == (str(made.id), "checkout")
    assert trade_of(engine).read(tokens.listing) == []


def test_a_revoked_token_lets_nobody_in(engine: Engine, trade: Trade) -> None:
    with engine.begin() as connection:
        made = tokens.create(connection, trade.shop.domain)
    with pytest.raises(NotFound):
        trade_of(engine).do(tokens.revoke, made.id)
    trade.do(tokens.revoke, made.id)
    with engine.connect() as connection:
        assert tokens.find(connection, made.text) is None
    with pytest.raises(NotFound):
        trade.do(tokens.revoke, made.id)
