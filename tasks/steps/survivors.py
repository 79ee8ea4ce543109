"""Customers merged at Shopify (R33): who a customer is now, and the lock under which that cannot change.

Facts keep the id that Shopify named; it is looked up when they are used. A merged customer was always one.
"""

from __future__ import annotations

from collections.abc import Iterable

from sqlalchemy import Connection, text

from tasks.steps import sql

HOLD = text("select hold_customers(:shop_id)")
HOLD_ALONE = text("select hold_customers_alone(:shop_id)")
SURVIVORS = text(
    "select customer_id, survivor_id from customer_aliases where shop_id = :shop_id and customer_id = any(:ids)"
)
MERGED_INTO = text(
    "select customer_id from customer_aliases where shop_id = :shop_id and survivor_id = :id order by customer_id"
)


def hold(connection: Connection, shop_id: int) -> bool:
    """Nobody is merged at this shop until the transaction ends. Returns whether anybody ever was.

    Shared: any number of workers hold it at once. Comes before every other lock on the shop's books.
    """
    held: bool = connection.execute(HOLD, {"shop_id": shop_id}).scalar_one()
    return held


def hold_alone(connection: Connection, shop_id: int) -> None:
    """Nobody else works on this shop's books until the transaction ends: for a merge, which moves whole wallets."""
    connection.execute(HOLD_ALONE, {"shop_id": shop_id})


def survivors(connection: Connection, shop_id: int, ids: Iterable[int]) -> dict[int, int]:
    """Of these customers, those who were merged, each with the one he is now."""
    rows = sql.fetch(connection, SURVIVORS, shop_id=shop_id, ids=sorted(set(ids)))
    return {row.customer_id: row.survivor_id for row in rows}


def survivor(connection: Connection, shop_id: int, customer_id: int) -> int:
    """The customer that this one is now; himself when he was never merged."""
    return survivors(connection, shop_id, [customer_id]).get(customer_id, customer_id)


def merged_into(connection: Connection, shop_id: int, customer_id: int) -> list[int]:
    """The customers that were merged into this one, at whatever remove."""
    return list(connection.execute(MERGED_INTO, {"shop_id": shop_id, "id": customer_id}).scalars())
