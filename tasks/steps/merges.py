"""Customers merged at Shopify: wallets, lots, tiers and facts follow the survivor (R33).

A merged customer was always one with his survivor. So the survivor's wallet is the fold of both timelines, whenever
the merge becomes known, and whatever names the merged customer later is the survivor's at once.
"""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from models.errors import MergeConflict, Unparseable
from tasks.steps import sql
from tasks.steps.activities import entry, record, say
from tasks.steps.book import Booked
from tasks.steps.counting import recompute_tiers
from tasks.steps.event import Event
from tasks.steps.imports.days import counted_beside, move_days
from tasks.steps.load import Moving, ShopRow, World, load_orders, lock_wallets, open_world
from tasks.steps.settle import settle
from tasks.steps.survivors import hold_alone, survivors
from tasks.steps.timeline import COLUMNS, RESULTS, Item

CUSTOMER = re.compile(r"(?:gid://shopify/Customer/)?([1-9][0-9]{0,18})")
MERGED = frozenset(["completed"])
NOT_MERGED = frozenset(["failed"])
NOT_YET = frozenset(["requested", "in_progress"])

ADD_ALIAS = text(
    "insert into customer_aliases (shop_id, customer_id, survivor_id, cause, told_at)"
    " values (:shop_id, :customer_id, :survivor_id, :cause, :now)"
)
SHORTEN = text(
    "update customer_aliases set survivor_id = :survivor_id where shop_id = :shop_id and survivor_id = :customer_id"
)
WALLET = text("select pinned_tier from wallets where shop_id = :shop_id and customer_id = :id")
BALANCES = text(
    "select customer_id, balance from wallets where shop_id = :shop_id and customer_id = any(:ids)"
)
SPENT_ON = (  # whoever gave to a redemption has spending on his timeline, which has an index by customer
    "select redemption_id from timeline where shop_id = :shop_id and customer_id = {id} and kind = 5"
)
ORDERS_OF = text(
    "select order_id from orders where shop_id = :shop_id and customer_id = :id"
    " union select order_id from timeline where shop_id = :shop_id and customer_id = :id and order_id is not null"
    " union select order_id from redemptions where shop_id = :shop_id and customer_id = :id and order_id is not null"
    " union select order_id from redemptions where shop_id = :shop_id and order_id is not null"
    f"  and id in ({SPENT_ON.format(id=':id')})"
)
ROWS_OF = text(
    "select t.* from timeline t where t.shop_id = :shop_id and t.customer_id = any(:ids) and t.order_id is null"
    " and (t.customer_id = :id or t.redemption_id is not null) and t.cause not like 'reversal:%'"
)
REVERSED = text(  # planned again with its members as they are now
    "select distinct v.redemption_id from reversals v where v.shop_id = :shop_id"
    f" and (v.customer_id = :id or v.redemption_id in ({SPENT_ON.format(id=':id')}))"
)
REDEMPTIONS = text(
    "update redemptions set customer_id = :survivor_id where shop_id = :shop_id and customer_id = :customer_id"
)
REVERSALS = text(
    "update reversals set customer_id = :survivor_id where shop_id = :shop_id and customer_id = :customer_id"
)
MEMBERS = text(
    "with left_out as (delete from redemption_members where shop_id = :shop_id and customer_id = :customer_id"
    f" and redemption_id in ({SPENT_ON.format(id=':customer_id')}) returning redemption_id, amount)"
    " insert into redemption_members as m (shop_id, redemption_id, customer_id, amount)"
    " select :shop_id, redemption_id, :survivor_id, amount from left_out"
    " on conflict (shop_id, redemption_id, customer_id) do update set amount = m.amount + excluded.amount"
)
PINS = text(
    "update wallets w set pinned_tier = case when w.customer_id = :survivor_id then coalesce(w.pinned_tier, :pinned) end"
    " where w.shop_id = :shop_id and w.customer_id in (:survivor_id, :customer_id)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Merge:
    """What a `customers/merge` delivery says. fields: what kept Shopify from doing it; its sentences name people."""

    kept: int
    deleted: int
    status: str
    fields: tuple[str, ...]


def merged(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """What a `customers/merge` delivery asks for. Raises Unparseable, MergeConflict.

    Safe to run twice, and twice at once: the shop's books are held alone, and one alias a customer is the promise.
    """
    told = read(payload)
    if told.status in NOT_MERGED:
        why = ", ".join(told.fields) or "no reason given"
        return f"merge of customer {told.deleted} into {told.kept} failed at Shopify ({why}): nothing changed"
    if told.status in NOT_YET:
        return f"merge of customer {told.deleted} into {told.kept} is {told.status} at Shopify: nothing changed yet"
    return merge(
        connection, shop, kept=told.kept, deleted=told.deleted, cause=event.cause, now=datetime.now(UTC)
    )


def read(payload: Mapping[str, Any]) -> Merge:
    """The delivery, or Unparseable: for a status that is not known, too, so that it is parked and not lost."""
    kept, deleted = (_customer(payload, f"admin_graphql_api_customer_{which}_id") for which in KEPT_DELETED)
    if kept == deleted:
        raise Unparseable("admin_graphql_api_customer_deleted_id", "is the customer that is kept")
    status = payload.get("status")
    status = status.strip().casefold() if isinstance(status, str) else ""
    if status not in MERGED | NOT_MERGED | NOT_YET:
        raise Unparseable("status", "is none of completed, failed, requested, in_progress")
    return Merge(kept=kept, deleted=deleted, status=status, fields=_fields(payload.get("errors")))


KEPT_DELETED = ("kept", "deleted")
FIELD = re.compile(r"[a-z_]{1,40}")


def _customer(payload: Mapping[str, Any], name: str) -> int:
    found = CUSTOMER.fullmatch(str(payload.get(name) or ""))
    if found is None or int(found[1]) >= 2**63:
        raise Unparseable(name, "names no customer")
    return int(found[1])


def _fields(errors: object) -> tuple[str, ...]:
    """The errors' codes, as far as they are codes."""
    if not isinstance(errors, list):
        return ()
    codes = {str(error.get("field")) for error in errors if isinstance(error, dict)}
    return tuple(sorted(code for code in codes if FIELD.fullmatch(code)))


def merge(
    connection: Connection, shop: ShopRow, *, kept: int, deleted: int, cause: str, now: datetime
) -> str:
    """Make `deleted` one with `kept` for good, in one transaction; what it came to, in words. Raises MergeConflict.

    Costs as much as the merged customer's whole history: every order of his is planned again, both wallets are folded
    from his first event on. Nobody else works on the shop's books meanwhile.
    """
    hold_alone(connection, shop.id)
    ends = survivors(connection, shop.id, [kept, deleted])
    survivor = ends.get(kept, kept)
    if deleted in ends and ends[deleted] == survivor:
        return f"customer {deleted} is one with {survivor} already"
    if deleted in ends or survivor == deleted:
        raise MergeConflict(deleted, kept, ends.get(deleted, survivor))
    key = {"shop_id": shop.id, "customer_id": deleted, "survivor_id": survivor}
    connection.execute(SHORTEN, key)
    connection.execute(ADD_ALIAS, {**key, "cause": cause, "now": now})
    world = open_world(connection, shop, now)
    moved = _move(world, deleted, survivor, cause)
    return f"customer {deleted} merged into {survivor}: {moved}"


def _move(world: World, deleted: int, survivor: int, cause: str) -> str:
    """What was the merged customer's becomes the survivor's; nothing is lost when there was nothing."""
    key = {"shop_id": world.shop.id, "id": deleted}
    wallet = world.connection.execute(WALLET, key).one_or_none()
    before = _balances(world, deleted, survivor)
    orders = []
    if wallet is not None:
        orders = list(world.connection.execute(ORDERS_OF, key).scalars())
        others = counted_beside(world.connection, world.shop.id, deleted, survivor)
        by_hand = list(world.connection.execute(REVERSED, key).scalars())
        load_orders(world, [*orders, *others])
        lock_wallets(world, [deleted, survivor])
        _rename(world, deleted, survivor, wallet.pinned_tier)
        move_days(world.connection, world.shop.id, deleted, survivor)
        world.moving = _rows(world, deleted, survivor, cause)
        settle(world, orders=[*orders, *others], redemptions=by_hand)
        _move_tiers(world, deleted, survivor, cause)
    _say(world, deleted, survivor, cause, before)
    rows = 0 if world.moving is None else len(world.moving.stand)
    return f"{len(orders)} orders and {rows} other rows moved, balance {before.get(deleted, 0)}"


def _balances(world: World, *ids: int) -> dict[int, int]:
    rows = world.connection.execute(BALANCES, {"shop_id": world.shop.id, "ids": list(ids)})
    return {row.customer_id: row.balance for row in rows}


def _rename(world: World, deleted: int, survivor: int, pinned: str | None) -> None:
    """Redemptions, and what each member of a group gave; a tier kept by hand, where the survivor has none."""
    key = {"shop_id": world.shop.id, "customer_id": deleted, "survivor_id": survivor}
    world.connection.execute(REDEMPTIONS, key)
    world.connection.execute(REVERSALS, key)
    world.connection.execute(MEMBERS, key)
    world.connection.execute(PINS, {**key, "pinned": pinned})


def _rows(world: World, deleted: int, survivor: int, cause: str) -> Moving:
    """The rows that no order asks for: grants, spending, what came back without an order.

    Members of one group redemption who are one now gave, and get back, as one: their amounts add up.
    """
    key = {"shop_id": world.shop.id, "ids": [deleted, survivor], "id": deleted}
    found: dict[tuple[Any, ...], list[Item]] = {}
    for row in sql.fetch(world.connection, ROWS_OF, **key):
        found.setdefault((row.kind, row.cause, row.target), []).append(dict(row._mapping))
    touched = [rows for rows in found.values() if any(row["customer_id"] == deleted for row in rows)]
    return Moving(
        customer=deleted,
        survivor=survivor,
        stood=[row for rows in touched for row in rows],
        stand=[_as_one(rows, survivor) for rows in touched],
        cause=cause,
    )


def _as_one(rows: Sequence[Item], survivor: int) -> Item:
    row = {name: rows[0][name] for name in COLUMNS}
    amount = sum(each["amount"] for each in rows)
    return {**row, **dict.fromkeys(RESULTS, 0), "folded": False, "customer_id": survivor, "amount": amount}


def _move_tiers(world: World, deleted: int, survivor: int, cause: str) -> None:
    """The survivor's tier by what both spent; the other's is none (R26)."""
    moved = [each for each in recompute_tiers(world, [deleted, survivor]) if each[0] == survivor]
    record(world, {}, Booked(tiers=moved), {survivor: cause}, ())


def _say(world: World, deleted: int, survivor: int, cause: str, before: Mapping[int, int]) -> None:
    """One entry for each of the two (R39)."""
    after = _balances(world, deleted, survivor)
    others = {deleted: {"merged_into": str(survivor)}, survivor: {"merged_from": str(deleted)}}
    target = f"customer:{deleted}"
    entries = []
    for customer, other in others.items():
        balances = {
            "balance_before": before.get(customer, 0),
            "balance_after": after.get(customer, 0),
        }
        entries.append(entry(world, "customer.merged", customer, None, cause, target, {**other, **balances}))
    say(world, entries)
