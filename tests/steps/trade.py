"""A shop to which facts are told directly, each booked when it comes."""

from __future__ import annotations

import secrets
from dataclasses import dataclass
from datetime import datetime
from itertools import count
from typing import Any

from sqlalchemy import Engine, Row, text

from tasks.steps import shops, wallets
from tasks.steps.load import open_world
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tests.conftest import RegisteredShop
from tests.rules.build import Told as Telling
from tests.rules.build import flat, settings


@dataclass
class Trade:
    engine: Engine
    shop: RegisteredShop

    def __post_init__(self) -> None:
        self.numbers = count(1)

    @property
    def id(self) -> int:
        return self.shop.id

    def tell(self, *told: Telling, at: datetime) -> None:
        """Facts that come at this time and are booked at once."""
        with self.engine.begin() as connection:
            world = open_world(connection, by_id(connection, self.id), at)
            told_ = [
                Told(fact=fact, received_at=at, cause=f"inbox:{next(self.numbers)}") for fact in flat(told)
            ]
            settle(world, told_)

    def grant(self, customer: int, amount: int, *, at: datetime) -> None:
        with self.engine.begin() as connection:
            wallets.grant(connection, self.id, customer, amount=amount, reason="a gift", now=at)

    def redeem(self, customer: int, *, at: datetime, **changed: Any) -> int:
        with self.engine.begin() as connection:
            return wallets.redeem(connection, self.id, customer, **{"reward": "5-off", **changed}, now=at)

    def sql(self, statement: str, **values: object) -> list[Row[Any]]:
        """Rows of a statement about this shop (`:shop`, `:domain`)."""
        with self.engine.begin() as connection:
            named = {"shop": self.id, "domain": self.shop.domain, **values}
            made = text(statement)
            found = connection.execute(made, {name: named[name] for name in made.compile().params})
            return list(found.all()) if found.returns_rows else []

    def read(self, step: Any, *arguments: Any, **named: Any) -> Any:
        with self.engine.connect() as connection:
            return step(connection, self.id, *arguments, **named)

    def do(self, step: Any, *arguments: Any, **named: Any) -> Any:
        with self.engine.begin() as connection:
            return step(connection, self.id, *arguments, **named)

    def walk(self, step: Any, *, limit: int, **named: Any) -> list[dict[str, Any]]:
        """Every row of a list, page by page."""
        rows, cursor = [], None
        while True:
            page = self.read(step, cursor=cursor, limit=limit, **named)
            assert len(page.rows) <= limit
            rows += page.rows
            cursor = page.cursor
            if cursor is None:
                return rows


def trade_of(engine: Engine, **changed: Any) -> Trade:
    """A new shop, with the program's defaults but for what is named (`tests.rules.build.settings`)."""
    domain = f"trade-{secrets.token_hex(6)}.myshopify.com"
    with engine.begin() as connection:
        shop_id = shops.add(connection, domain, settings(**changed))
    return Trade(engine, RegisteredShop(domain, shop_id))
