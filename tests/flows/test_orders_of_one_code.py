"""Two orders that carry one code, asked about at once: whoever comes second waits, and neither is thrown out."""

from __future__ import annotations

import threading
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from decimal import Decimal

from sqlalchemy import Engine

from models.session import make_engine
from tasks.steps import merchants, shops, wallets
from tasks.steps.load import open_world
from tasks.steps.settle import Told, settle
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.rules.build import CUSTOMER, line, order

PAIRS = 12


def test_acts_on_two_orders_of_one_code_wait_for_each_other(
    engine: Engine, database_url: str, shop: RegisteredShop
) -> None:
    """R36: codes are locked before orders, so of two merchants' programs none meets the other half-way."""
    now = datetime.now(UTC)
    with engine.begin() as connection:
        wallets.grant(connection, shop.id, CUSTOMER, amount=10_000, reason="welcome")
        for n in range(PAIRS):
            wallets.redeem(connection, shop.id, CUSTOMER, reward="custom", amount=100, code=f"PAIR-{n}")
        told = [
            Told(
                fact=order(None, line(id, 10_000, codes={f"pair-{n}": 100}), order_id=id),
                received_at=now,
                cause="inbox:1",
            )
            for n in range(PAIRS)
            for id in pair(shop, n)
        ]
        settle(open_world(connection, shops.by_id(connection, shop.id), now), told)
    start = threading.Barrier(2)

    def one_of_each_pair(which: int) -> list[str]:
        own = make_engine(database_url)
        answers = []
        for n in range(PAIRS):
            start.wait(timeout=30)
            with own.begin() as connection:
                made = merchants.refund_order(
                    connection,
                    shop.id,
                    pair(shop, n)[which],
                    amount=Decimal(5),
                    lines=None,
                    reason=None,
                    by="cli",
                )
            answers.append(made["status_after"])
        own.dispose()
        return answers

    with ThreadPoolExecutor(2) as pool:
        answers = list(pool.map(one_of_each_pair, (0, 1)))
    assert answers == [["partially_refunded"] * PAIRS] * 2
    with engine.connect() as connection:
        assert verify(connection, shop.id) == []


def pair(shop: RegisteredShop, n: int) -> tuple[int, int]:
    first = shop.id * 1_000 + 2 * n
    return first, first + 1
