"""A tier kept by hand (R26): it stays whatever the customer spends or is refunded, and the record says so."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Connection, select, update

from models.errors import NotFound, Refused
from models.tables.ledger import Wallet
from tasks.steps.activities import entry, record, say
from tasks.steps.book import Booked
from tasks.steps.counting import recompute_tiers
from tasks.steps.load import World, lock_wallets, open_world
from tasks.steps.shops import by_id
from tasks.steps.survivors import survivor


def pin_tier(
    connection: Connection, shop_id: int, customer_id: int, *, level: str | None, now: datetime | None = None
) -> None:
    """Keep the customer at `level`; None lets the tier move again, at once. Safe to run twice: the same pin is none.

    Raises NotFound for a customer without a wallet, Refused (`unknown_tier`) for a level the program does not have.
    """
    world = open_world(connection, by_id(connection, shop_id), now or datetime.now(UTC))
    customer_id = survivor(connection, shop_id, customer_id)
    mine = (Wallet.shop_id == shop_id, Wallet.customer_id == customer_id)
    if connection.execute(select(Wallet.customer_id).where(*mine)).first() is None:
        raise NotFound("customer", customer_id)
    known = [each.id for each in world.programs[-1].tiers.levels]
    if level is not None and level not in known:
        has = ", ".join(known) or "none"
        raise Refused("unknown_tier", f"the program has no level {level!r}; it has: {has}", level=level)
    lock_wallets(world, [customer_id])
    before = world.wallets[customer_id].pinned_tier
    if before == level:
        return
    connection.execute(update(Wallet).where(*mine).values(pinned_tier=level))
    _say(world, customer_id, before=before, after=level)
    booked = Booked(tiers=recompute_tiers(world, [customer_id]))
    record(world, {}, booked, {customer_id: "tier.pinned"}, ())


def _say(world: World, customer_id: int, *, before: str | None, after: str | None) -> None:
    kind = "tier.pinned" if after is not None else "tier.unpinned"
    detail = {"before": before, "after": after}
    say(world, [entry(world, kind, customer_id, None, "tier.pinned", "tier", detail)])
