"""A shop whose merchant comes from another program, and `unwind` at the terminal."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from pathlib import Path
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, text

from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.flows.conftest import door
from tests.terminal import Output, Unwind, unwind

__all__ = ["door", "unwind"]

Import = Callable[..., Output]
KEY = Fernet.generate_key().decode()

STATE = {
    "wallets": "select customer_id, balance, pending, debt, spend_minor, orders, points, tier, pinned_tier from wallets"
    " where shop_id = :id order by 1",
    "lots": "select customer_id, lot, amount, remainder, expires_at from lots where shop_id = :id and lot not like 'spent:%'"
    " order by 1, 2",
    "awards": "select order_id, target, customer_id, amount, status, reversed, reduced, debited, shortfall, due_at, expires_at"
    " from awards where shop_id = :id order by 1, 2",
    "redemptions": "select code_key, customer_id, amount, kind, reward_id, returned, credited, expired, restitution, at, order_id"
    " from redemptions where shop_id = :id order by 1",
    "days": "select customer_id, day, spend_minor, orders, points from customer_days where shop_id = :id order by 1, 2",
    "rows": "select reference, record, digest, customer_id from imported_rows where shop_id = :id order by 1",
}
COUNTS = ("entries", "timeline", "activity", "lots", "awards", "redemptions", "imported_rows", "opening_days")


@pytest.fixture
def environment(database_url: str, redis_url: str) -> dict[str, str]:
    """With a key for secrets."""
    return {"database_url": database_url, "redis_url": redis_url, "token_encryption_keys": KEY}


@pytest.fixture
def take_in(unwind: Unwind, shop: RegisteredShop, tmp_path: Path) -> Import:
    """`take_in("record,...", "balance,...", "--dry-run")`: lines of a file, then options."""

    def call(*lines: str, name: str = "customers.csv", options: tuple[str, ...] = ()) -> Output:
        file = tmp_path / name
        file.write_text("".join(f"{line}\n" for line in lines), newline="")
        return unwind("import", str(file), "--shop", shop.domain, "--json", *options)

    return call


def state_of(engine: Engine, shop_id: int) -> Mapping[str, Any]:
    """What stands of a shop, without what differs from one run to another."""
    with engine.connect() as connection:
        return {
            name: [tuple(row) for row in connection.execute(text(query), {"id": shop_id})]
            for name, query in STATE.items()
        }


def counts_of(engine: Engine, shop_id: int) -> Mapping[str, int]:
    with engine.connect() as connection:
        return {
            table: connection.execute(
                text(f"select count(*) from {table} where shop_id = :id"), {"id": shop_id}
            ).scalar_one()
            for table in COUNTS
        }


def everything_agrees(engine: Engine, shop_id: int) -> bool:
    with engine.connect() as connection:
        assert verify(connection, shop_id) == []
    return True
