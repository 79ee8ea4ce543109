"""Customers for whom nothing is reversed by hand for a while (R35, 904)."""

from __future__ import annotations

from collections.abc import Iterable
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from models.errors import NotFound, Refused
from tasks.steps.activities import entry, say
from tasks.steps.load import World, open_world
from tasks.steps.shops import by_id
from tasks.steps.survivors import merged_into, survivor

SET = text(
    "insert into reversal_locks (shop_id, customer_id, until, reason, by)"
    " values (:shop_id, :customer_id, :until, :reason, :by) on conflict (shop_id, customer_id)"
    " do update set until = excluded.until, reason = excluded.reason, by = excluded.by, created_at = now()"
)
LIFT = text("delete from reversal_locks where shop_id = :shop_id and customer_id = any(:people) returning 1")
STANDS = text(
    "select until, reason, by from reversal_locks where shop_id = :shop_id and customer_id = any(:people)"
    " and until > :now order by until desc limit 1"
)
WALLET = text("select from wallets where shop_id = :shop_id and customer_id = :id")


def locked_until(
    connection: Connection, shop_id: int, customers: Iterable[int], now: datetime
) -> datetime | None:
    """When the last lock of these customers ends, of ids merged into theirs too (R33); None when none stands."""
    people = {
        one for customer in customers for one in (customer, *merged_into(connection, shop_id, customer))
    }
    row = connection.execute(STANDS, {"shop_id": shop_id, "people": sorted(people), "now": now}).one_or_none()
    return None if row is None else row.until


def shown(connection: Connection, shop_id: int, customer_id: int) -> dict[str, Any]:
    """The lock that stands, for callers; without one its fields are None. Raises NotFound."""
    people = _known(connection, shop_id, customer_id)
    key = {"shop_id": shop_id, "people": people, "now": datetime.now(UTC)}
    row = connection.execute(STANDS, key).one_or_none()
    return {
        "customer_id": str(people[0]),
        "until": None if row is None else row.until.astimezone(UTC).isoformat(),
        "reason": None if row is None else row.reason,
        "by": None if row is None else row.by,
    }


def put(
    connection: Connection, shop_id: int, customer_id: int, *, until: datetime, reason: str, by: str
) -> dict[str, Any]:
    """Lock, or lock otherwise. Raises NotFound for a customer without a wallet, Refused for a time that is over."""
    now = datetime.now(UTC)
    if until <= now:
        raise Refused("expires_in_the_past", "until must lie in the future", until=until.isoformat())
    world, people = _opened(connection, shop_id, customer_id, now)
    connection.execute(LIFT, {"shop_id": shop_id, "people": people})
    key = {"shop_id": shop_id, "customer_id": people[0]}
    connection.execute(SET, {**key, "until": until, "reason": reason, "by": by})
    words = {"until": until.isoformat(), "reason": reason, "by": by}
    _note(world, people[0], "reversals.locked", words)
    return shown(connection, shop_id, people[0])


def lift(connection: Connection, shop_id: int, customer_id: int, *, by: str) -> dict[str, Any]:
    """Safe to run twice. Raises NotFound for a customer without a wallet."""
    world, people = _opened(connection, shop_id, customer_id, datetime.now(UTC))
    if connection.execute(LIFT, {"shop_id": shop_id, "people": people}).first() is not None:
        _note(world, people[0], "reversals.unlocked", {"by": by})
    return shown(connection, shop_id, people[0])


def _opened(connection: Connection, shop_id: int, customer_id: int, now: datetime) -> tuple[World, list[int]]:
    world = open_world(connection, by_id(connection, shop_id), now)
    return world, _known(connection, shop_id, customer_id)


def _known(connection: Connection, shop_id: int, customer_id: int) -> list[int]:
    """Who the customer is now, and all ids merged into his. Raises NotFound for one without a wallet."""
    end = survivor(connection, shop_id, customer_id)
    if connection.execute(WALLET, {"shop_id": shop_id, "id": end}).one_or_none() is None:
        raise NotFound("customer", customer_id)
    return [end, *merged_into(connection, shop_id, end)]


def _note(world: World, customer_id: int, kind: str, words: dict[str, Any]) -> None:
    cause = f"reversal_lock:{customer_id}"
    say(world, [entry(world, kind, customer_id, None, cause, cause, words)])
