"""Value of a redemption that a merchant gives back by hand (R34, R35), and taken back again (R38): facts like others."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound, Refused
from models.rules.plan import reversal_key
from models.rules.wallet import RETURN
from tasks.steps import sql
from tasks.steps.activities import entry, say
from tasks.steps.endings import CODES, LOCK
from tasks.steps.load import (
    ShopRow,
    World,
    customers_booked,
    customers_of,
    load_redemptions,
    lock_codes,
    lock_wallets,
    open_uses,
    open_world,
)
from tasks.steps.preview import moved
from tasks.steps.read import points
from tasks.steps.settle import settle
from tasks.steps.timeline import redemption_target

TICK = timedelta(microseconds=1)  # as fine as the database keeps times

ADD = text(
    "insert into reversals (shop_id, redemption_id, customer_id, kind, amount, at, code, reason, by)"
    " values (:shop_id, :redemption_id, :customer_id, :kind, :amount, :at, :code, :reason, :by) returning id"
)
REDEMPTION_OF = text("select redemption_id from reversals where shop_id = :shop_id and id = :id")
REVERSAL = text("select * from reversals where shop_id = :shop_id and id = :id for no key update")
UNDO = text("update reversals set undone_at = :now where shop_id = :shop_id and id = :id")
LAST_RETURNS = text(
    "select redemption_id, max(at) as at from timeline where shop_id = :shop_id"
    " and redemption_id = any(cast(:ids as bigint[])) and kind = 3 and amount > 0 group by 1"
)
ENDS = text(
    "select e.customer_id, min(l.expires_at) as expires_at from entries e"
    " join lots l on l.shop_id = e.shop_id and l.customer_id = e.customer_id and l.lot = e.lot"
    " where e.shop_id = :shop_id and e.customer_id = any(:members) and e.event_kind = 5 and e.event_target = :target"
    " group by 1"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Member:
    """What one member gets back (R20). expires_at: the earliest end of the lots that it was drawn from.
    debt_paid: what of it paid at once for what the member owed (R7, carry_debt)"""

    customer_id: int
    amount: int
    credited: int
    expired: int
    expires_at: datetime | None
    debt_paid: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversed:
    """A reversal as it was booked: amount = credited + expired (R19), in the smallest unit; `left` can still come back."""

    id: int
    redemption_id: int
    customer_id: int
    at: datetime
    amount: int
    left: int
    code: str
    members: tuple[Member, ...]

    @property
    def credited(self) -> int:
        return sum(member.credited for member in self.members)

    @property
    def expired(self) -> int:
        return sum(member.expired for member in self.members)


def reverse(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    *,
    amount: int | None,
    kind: str,
    code: str,
    by: str,
    reason: str | None = None,
    now: datetime | None = None,
) -> Reversed:
    """Give back so much of a redemption, or all that is left (None), to each member what they gave (R19, R20, R34, R35).

    kind: cancelled or reversed     code: what became of its code (`reversals.code`); `removed` says that nobody can use
    it any more     by: token:5, session or cli
    Safe at once with anything else: decided under the locks of its codes, orders and wallets.
    Raises NotFound; Refused: already_refunded, amount_above_left, code_in_flight, given_back_as_code. Nothing is changed then.
    """
    world, row = held(connection, shop, redemption_id, now)
    now = world.now
    left = row.amount - row.returned
    _check(world, row, left, amount, code)
    asked = left if amount is None else amount
    words = {"amount": asked, "code": code, "reason": reason, "by": by}
    key = {"shop_id": shop.id, "redemption_id": redemption_id, "customer_id": row.customer_id}
    id = int(connection.execute(ADD, {**key, **words, "kind": kind, "at": now}).scalar_one())
    members = _booked(open_world(connection, shop, now), redemption_id, reversal_key(id), reason)
    assert sum(member.amount for member in members) == asked, "what is answered is what was booked"
    _note(world, f"redemption.{kind}", row, reversal_key(id), {"reversal_id": str(id), **words})
    return Reversed(
        id=id,
        redemption_id=redemption_id,
        customer_id=row.customer_id,
        at=now,
        amount=asked,
        left=left - asked,
        code=code,
        members=members,
    )


def undo(
    connection: Connection,
    shop: ShopRow,
    reversal_id: int,
    *,
    by: str,
    reason: str | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Take a reversal back, as if it had never been (R38). Raises NotFound; Refused: already_undone, code_removed."""
    key = {"shop_id": shop.id, "id": reversal_id}
    redemption_id = connection.execute(REDEMPTION_OF, key).scalar_one_or_none()
    if redemption_id is None:
        raise NotFound("reversal", reversal_id)
    world, redemption = held(connection, shop, redemption_id, now)
    now = world.now
    stands = connection.execute(REVERSAL, key).one()
    if stands.undone_at is not None:
        at = stands.undone_at.isoformat()
        raise Refused("already_undone", f"the reversal {reversal_id} was undone at {at}", at=at)
    if stands.code == "removed":
        raise Refused(
            "code_removed",
            "its discount code was taken away at Shopify, so the customer would be left with neither code nor points;"
            " let the customer redeem again instead",
        )
    connection.execute(UNDO, {**key, "now": now})
    world = open_world(connection, shop, now)
    settled = settle(world, redemptions=[redemption_id])
    words = {"reversal_id": str(reversal_id), "amount": stands.amount, "reason": reason, "by": by}
    _note(world, "reversal.undone", redemption, reversal_key(reversal_id), words)
    return {
        "id": str(reversal_id),
        "redemption_id": str(redemption_id),
        "amount": points(stands.amount, world.programs[-1]),
        **moved(world, settled),
        "reason": reason,
    }


def held(
    connection: Connection, shop: ShopRow, redemption_id: int, now: datetime | None
) -> tuple[World, Row[Any]]:
    """A redemption with everything that settles with it, locked in the order of everywhere: its codes, the orders that
    carry them, the wallets, itself. Without a `now` it is the moment at which all of that is held. Raises NotFound."""
    world = open_world(connection, shop, now or datetime.now(UTC))
    lock_codes(world, connection.execute(CODES, {"shop_id": shop.id, "id": redemption_id}).scalars())
    load_redemptions(world, [redemption_id])
    if redemption_id not in world.redemptions:
        raise NotFound("redemption", redemption_id)
    hold_wallets(world, now)
    return world, connection.execute(LOCK, {"shop_id": shop.id, "id": redemption_id}).one()


def hold_wallets(world: World, now: datetime | None) -> None:
    """The wallets of the orders and redemptions at hand, locked; then, unless a `now` is given, the time of the act.

    It is asked for under the locks, and is later than whatever was booked there before, also by a machine whose clock runs
    ahead. So acts that came at once stand in the order in which they were decided, and what each was answered holds.
    """
    lock_wallets(world, [*customers_of(world), *customers_booked(world)])
    if now is None:
        booked = [wallet.folded_until for wallet in world.wallets.values()]
        booked += [known.at for order in world.orders.values() for known in order.refunds.values()]
        booked += [at for order in world.orders.values() for at in order.cancellations.values()]
        world.now = max([datetime.now(UTC), *(at + TICK for at in booked)])


def last_returns(connection: Connection, shop_id: int, ids: Sequence[int]) -> dict[int, datetime]:
    """When something of each of these redemptions came back last; none for one of which nothing ever did."""
    rows = sql.fetch(connection, LAST_RETURNS, shop_id=shop_id, ids=list(ids)) if ids else ()
    return {row.redemption_id: row.at for row in rows}


def is_given_back_as_code(world: World, redemption_id: int) -> bool:
    """Whether its code came back (R22) and nobody used it since: the code is its value now (R23)."""
    row = world.redemptions[redemption_id]
    return bool(row.reactivated_orders) and not open_uses(world, row)


def _check(world: World, row: Row[Any], left: int, amount: int | None, code: str) -> None:
    if left == 0:
        at = last_returns(world.connection, world.shop.id, [row.id]).get(row.id)
        when = None if at is None else at.isoformat()
        raise Refused("already_refunded", f"all of this redemption was given back, at {when}", at=when)
    if row.reactivation == "wanted" or world.redemptions[row.id].sent_for is not None:
        raise Refused("code_in_flight", "its code is just being given back; try again in a minute")
    # taken away, or Shopify counts a use that nobody told us of
    nobody_else_has_it = code in ("removed", "stays_used")
    if is_given_back_as_code(world, row.id) and not nobody_else_has_it:
        raise Refused(
            "given_back_as_code", "its discount code was given back and can be used; cancel it instead"
        )
    if amount is not None and amount > left:
        shown = points(left, world.programs[-1])
        raise Refused("amount_above_left", f"only {shown} of this redemption can still come back", left=shown)


def _booked(world: World, redemption_id: int, cause: str, reason: str | None) -> tuple[Member, ...]:
    """The reversal in the books, and what each member got back of it."""
    if reason:
        world.why[cause] = reason
    settled = settle(world, redemptions=[redemption_id])
    rows = sorted(
        (
            after
            for _, after in settled.booked.rows
            if after is not None and after["kind"] == RETURN and after["cause"] == cause
        ),
        key=lambda row: row["customer_id"],
    )
    ids: Sequence[int] = [row["customer_id"] for row in rows]
    key = {"shop_id": world.shop.id, "members": ids, "target": redemption_target(redemption_id)}
    ends = {row.customer_id: row.expires_at for row in world.connection.execute(ENDS, key)}
    return tuple(
        Member(
            customer_id=row["customer_id"],
            amount=row["amount"],
            credited=row["moved"],
            expired=row["expired"],
            expires_at=ends.get(row["customer_id"]),
            debt_paid=-min(0, row["debt_change"]),
        )
        for row in rows
    )


def _note(world: World, kind: str, row: Row[Any], cause: str, words: dict[str, Any]) -> None:
    """The note on the customer's activity (R34, R39)."""
    made = entry(world, kind, row.customer_id, row.order_id, cause, redemption_target(row.id), words)
    say(world, [made])
