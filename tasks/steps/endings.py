"""How a redemption's value comes back other than by a refund of its order: its code usable again, or whole.

Either is a fact on the redemption's row, booked in the transaction that learnt it; settling its orders afterwards
takes it into account (R21-R23, R30).
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound, Refused
from models.rules.wallet import RETURN
from tasks.steps.activities import entry, say
from tasks.steps.load import (
    ShopRow,
    World,
    load_orders,
    load_redemptions,
    lock_codes,
    lock_wallets,
    open_world,
)
from tasks.steps.settle import settle, settle_items
from tasks.steps.timeline import item, redemption_target

KINDS = ("auto_refunded", "code_failed", "cancelled")

CODES = text(
    "select code_key from redemption_codes where shop_id = :shop_id and redemption_id = :id order by n"
)
MEMBERS = text(
    "select customer_id, amount from redemption_members where shop_id = :shop_id and redemption_id = :id"
    " order by customer_id"
)
USED_ON = text(
    "select order_id from order_codes where shop_id = :shop_id and code in"
    " (select code_key from redemption_codes where shop_id = :shop_id and redemption_id = :id) order by order_id"
)
LOCK = text("select * from redemptions where shop_id = :shop_id and id = :id for no key update")
END = text("update redemptions set ended = :kind, ended_at = :now where shop_id = :shop_id and id = :id")
CAME_BACK = text(
    "update redemptions set reactivation = 'done', reactivation_error = null, reactivations = reactivations + 1,"
    " reactivated_orders = reactivated_orders || to_jsonb(cast(:order_id as text)), code_ends_at = :ends_at,"
    " cancel_refused = null"  # Shopify's word of a use that is given back now
    " where shop_id = :shop_id and id = :id"
)
IS_GONE = text(
    "update redemptions set reactivation = 'failed', reactivation_error = :reason where shop_id = :shop_id and id = :id"
)
NEW_CODE = text(
    "insert into redemption_codes (shop_id, code_key, redemption_id, n, code, discount_id)"
    " values (:shop_id, :code_key, :id, (select coalesce(max(n), 0) + 1 from redemption_codes"
    "   where shop_id = :shop_id and redemption_id = :id), :code, :discount_id)"
    " on conflict (shop_id, code_key) do nothing"
)


def end_whole(connection: Connection, shop: ShopRow, redemption_id: int, *, kind: str, now: datetime) -> int:
    """Give a redemption that no order used back whole, to each member what they gave (R20, R30). Returns how much.

    Whoever calls has made sure that its code cannot be used any more (R21). Safe twice: what has ended stays ended.
    Raises Refused (already_used) when an order carries its code, NotFound.
    """
    assert kind in KINDS, kind
    key = {"shop_id": shop.id, "id": redemption_id}
    world, members, redemption = locked_whole(connection, shop, redemption_id, now)
    if redemption.ended is not None:
        return 0
    if redemption.returned:
        raise Refused("already_returned", "some of this redemption's value was given back already")
    orders = connection.execute(USED_ON, key).scalars().all()
    if orders:
        raise Refused("already_used", f"an order used this redemption: {orders[0]}", order_id=str(orders[0]))
    connection.execute(END, {**key, "kind": kind, "now": now})
    program = world.programs[-1]
    cause, target = f"{kind}:{redemption_id}", redemption_target(redemption_id)
    items = [
        item(
            shop_id=shop.id,
            customer_id=member.customer_id,
            kind=RETURN,
            cause=cause,
            target=target,
            at=now,
            sort_id=redemption_id,
            redemption_id=redemption_id,
            amount=member.amount,
            grace_days=program.expired_grace_days,
            reasons=(kind.upper(),),
            policy_version=program.version,
        )
        for member in members
    ]
    settle_items(world, items, cause)
    return sum(member.amount for member in members)


def locked_whole(
    connection: Connection, shop: ShopRow, redemption_id: int, now: datetime
) -> tuple[World, Sequence[Row[Any]], Row[Any]]:
    """The redemption and what its members gave, locked after its codes and their wallets, as everywhere. Raises NotFound."""
    key = {"shop_id": shop.id, "id": redemption_id}
    world = open_world(connection, shop, now)
    lock_codes(world, connection.execute(CODES, key).scalars())
    members = connection.execute(MEMBERS, key).all()
    lock_wallets(world, [member.customer_id for member in members])
    return world, members, _locked(connection, shop, redemption_id)


def code_is_back(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    order_id: int,
    *,
    ends_at: datetime | None,
    now: datetime,
    fresh_code: str | None = None,
    discount_id: int | None = None,
) -> None:
    """Shopify has made the code usable again for the use on this order: from now on that is its restitution (R23).

    fresh_code: the code of a new discount, where the first one could not be given back (S11). Safe twice: a use is
    given back once.
    """
    redemption = locked_for_use(connection, shop, redemption_id, order_id, now, fresh_code)
    if str(order_id) in redemption.reactivated_orders:
        return
    key = {"shop_id": shop.id, "id": redemption_id}
    if fresh_code is not None:
        code = {"code": fresh_code, "code_key": fresh_code.casefold(), "discount_id": discount_id}
        connection.execute(NEW_CODE, {**key, **code})
    connection.execute(CAME_BACK, {**key, "order_id": str(order_id), "ends_at": ends_at})
    ends = {"ends_at": ends_at and ends_at.isoformat()}
    _settle_again(open_world(connection, shop, now), redemption, order_id, "code.reactivated", ends)


def code_is_gone(
    connection: Connection, shop: ShopRow, redemption_id: int, order_id: int, *, reason: str, now: datetime
) -> None:
    """Shopify says that the code cannot be made usable again: its points come back if the program returns them (R23)."""
    redemption = locked_for_use(connection, shop, redemption_id, order_id, now, None)
    if redemption.reactivation != "wanted":
        return
    connection.execute(IS_GONE, {"shop_id": shop.id, "id": redemption_id, "reason": reason})
    why = {"reason": reason}
    _settle_again(open_world(connection, shop, now), redemption, order_id, "code.not_reactivated", why)


def locked_for_use(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    order_id: int,
    now: datetime,
    fresh_code: str | None,
) -> Row[Any]:
    """The redemption, locked after its codes and the orders that carry them, as everything that settles them does."""
    key = {"shop_id": shop.id, "id": redemption_id}
    world = open_world(connection, shop, now)
    codes = list(connection.execute(CODES, key).scalars())
    lock_codes(world, [*codes, *([fresh_code.casefold()] if fresh_code else [])])
    load_orders(world, [order_id])
    load_redemptions(world)
    return _locked(connection, shop, redemption_id)


def _locked(connection: Connection, shop: ShopRow, redemption_id: int) -> Row[Any]:
    row = connection.execute(LOCK, {"shop_id": shop.id, "id": redemption_id}).one_or_none()
    if row is None:
        raise NotFound("redemption", redemption_id)
    return row


def _settle_again(
    world: World, redemption: Row[Any], order_id: int, kind: str, detail: Mapping[str, Any]
) -> None:
    """Say what became of the code, and settle its order by it."""
    target = redemption_target(redemption.id)
    say(world, [entry(world, kind, redemption.customer_id, order_id, target, target, detail)])
    settle(world, orders=[order_id])
