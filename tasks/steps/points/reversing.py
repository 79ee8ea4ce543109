"""Points reversed by redemption and customer (R35): decided and booked under the locks of everything that it touches."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, text
from sqlalchemy.exc import DBAPIError

from models.errors import NotFound
from models.rules import reversing
from models.rules.cancelling import NO_CODE, REMOVED, STAYS_USED, UNCHANGED
from models.rules.program import Program
from models.rules.reversing import Standing
from tasks.steps import cancelling, read
from tasks.steps.load import ShopRow, World
from tasks.steps.points.locks import locked_until
from tasks.steps.reversals import Member, Reversed, held, reverse
from tasks.steps.survivors import merged_into, survivor

LOCK_WAIT_SECONDS = 5  # the caller waits for the answer; whoever holds a wallet longer is at something large

PATIENCE = text("select set_config('lock_timeout', :limit, true)")
MEMBERS = text(
    "select m.customer_id, m.amount, coalesce(sum(t.amount) filter (where t.kind = 3), 0)::bigint as returned"
    " from redemption_members m left join timeline t on t.shop_id = m.shop_id and t.redemption_id = m.redemption_id"
    " and t.customer_id = m.customer_id where m.shop_id = :shop_id and m.redemption_id = :id"
    " group by m.customer_id, m.amount order by m.customer_id"
)
BY_HAND = text(
    "select count(*) as all, count(*) filter (where kind = 'reversed' and amount = :amount) as same from reversals"
    " where shop_id = :shop_id and redemption_id = :id and undone_at is null"
)
RECENT = text(
    "select count(*) from reversals where shop_id = :shop_id and customer_id = any(:people) and kind = 'reversed'"
    " and undone_at is null and at > :since"
)
LOCK_NOT_AVAILABLE = "55P03"
NOT_THERE = ("08", "53", "57P03")  # no connection, no room, starting or stopping


@dataclass(frozen=True, slots=True, kw_only=True)
class Wish:
    """What is asked for. amount: in the program's unit, None for all that is left
    customer_id: as somebody told it, None for the owner, whoever that is
    is_another: an Idempotency-Key says that it is no repetition of one that was done"""

    redemption_id: int
    customer_id: int | None
    amount: int | Decimal | None
    is_another: bool
    by: str
    reason: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Part:
    """What a member of a group got back. whole: nothing more of what he gave is to come back."""

    member: Member
    whole: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """A reversal as the caller is told of it. parts: empty unless several gave to the redemption (R20)
    code_usable: nobody used its code, and anybody who has it can"""

    customer_id: int
    booked: Reversed
    program: Program
    parts: Sequence[Part]
    code_usable: bool

    @property
    def debt_paid(self) -> int:
        """What of it paid for what the members owed (R7, carry_debt)."""
        return sum(member.debt_paid for member in self.booked.members)


def reverse_points(
    connection: Connection, shop: ShopRow, wish: Wish, *, now: datetime | None = None
) -> Outcome:
    """Reverse so much of a redemption, or what is left of it, for a customer who has part in it (R19, R20, R35).

    Safe at once with anything else: decided under the locks of the redemption's codes, orders and wallets. Raises
    the errors of `models/rules/reversing.py`, those of the database among them; nothing is changed then.
    """
    try:
        connection.execute(PATIENCE, {"limit": f"{LOCK_WAIT_SECONDS}s"})
        return _reversed(connection, shop, wish, now)
    except NotFound:
        raise reversing.refused(reversing.GENERAL, "the shop has no such redemption") from None
    except DBAPIError as error:
        other = trouble(error)
        if other is None:
            raise
        raise other from error


def trouble(error: DBAPIError) -> Exception | None:
    """What the database's trouble means to the caller; None for an error that is a fault of ours."""
    state = getattr(error.orig, "sqlstate", None)
    if state == LOCK_NOT_AVAILABLE:
        return reversing.refused(
            reversing.NOT_NOW, "somebody else is at work on this wallet; try again in a moment"
        )
    if state is None or state.startswith(NOT_THERE):
        return reversing.refused(reversing.UNAVAILABLE, "the database does not answer; try again soon")
    if state.startswith(("40", "57")):
        return reversing.refused(reversing.BROKEN_OFF, "the database broke off; nothing was done, try again")
    return None


# -- steps -------------------------------------------------------------------------------------------


def _reversed(connection: Connection, shop: ShopRow, wish: Wish, now: datetime | None) -> Outcome:
    world, row = held(connection, shop, wish.redemption_id, now)
    customer_id = survivor(connection, shop.id, wish.customer_id or row.customer_id)
    amount = None if wish.amount is None else reversing.units(wish.amount, world.programs[-1].scale)
    now_stands = _standing(world, row, wish, customer_id, amount)
    reversing.check(now_stands)
    after = _code_after(row, used=now_stands.used)
    booked = reverse(
        connection,
        shop,
        row.id,
        amount=amount,
        kind="reversed",
        code=after,
        by=wish.by,
        reason=wish.reason,
        now=world.now,
    )
    is_group = _members(world, row) != {row.customer_id}
    return Outcome(
        customer_id=customer_id,
        booked=booked,
        program=world.programs[-1],
        parts=_parts(connection, shop.id, booked) if is_group else (),
        code_usable=after == UNCHANGED,
    )


def _standing(world: World, row: Row[Any], wish: Wish, customer_id: int, amount: int | None) -> Standing:
    """How things stand, under the locks."""
    connection, shop_id, program = world.connection, world.shop.id, world.programs[-1]
    code = cancelling.standing(connection, shop_id, row.id)
    key = {"shop_id": shop_id, "id": row.id, "amount": amount}
    by_hand, same = connection.execute(BY_HAND, key).one()
    return Standing(
        enabled=program.reversals.enabled,
        kind=row.kind,
        is_part=customer_id in {row.customer_id, *_members(world, row)},
        left=row.amount - row.returned,
        left_shown=read.points(row.amount - row.returned, program),
        by_hand=by_hand > 0,
        asked=amount,
        repeated=same > 0 and not wish.is_another,
        recent=_recent(connection, shop_id, row.customer_id, program, world.now),
        limit=program.reversals.limit_per_customer,
        limit_days=program.reversals.limit_days,
        locked_until=locked_until(connection, shop_id, {customer_id, row.customer_id}, world.now),
        code_state=row.code_state,
        used=code.used_on is not None,
        came_back=code.came_back and code.used_on is None,
        changing=code.asked or code.in_flight,
    )


def _members(world: World, row: Row[Any]) -> set[int]:
    """Who gave to the redemption."""
    return {member for member, _ in world.redemptions[row.id].members}


def _recent(connection: Connection, shop_id: int, customer_id: int, program: Program, now: datetime) -> int:
    """Reversals of the customer that stand, also under ids that were merged into his (R33)."""
    if program.reversals.limit_per_customer is None:
        return 0
    people = [customer_id, *merged_into(connection, shop_id, customer_id)]
    since = now - timedelta(days=program.reversals.limit_days)
    found: int = connection.execute(
        RECENT, {"shop_id": shop_id, "people": people, "since": since}
    ).scalar_one()
    return found


def _code_after(row: Row[Any], *, used: bool) -> str:
    """What becomes of its code (`reversals.code`): nothing is done to it."""
    if used:
        return STAYS_USED
    if row.code_state == "none":
        return NO_CODE
    return REMOVED if row.code_state in ("removed", "failed") else UNCHANGED


def _parts(connection: Connection, shop_id: int, booked: Reversed) -> list[Part]:
    """Whose value it was, in the order of their ids; of each, whether all that he gave has come back."""
    rows = connection.execute(MEMBERS, {"shop_id": shop_id, "id": booked.redemption_id})
    whole = {row.customer_id: row.returned >= row.amount for row in rows}
    return [
        Part(member=member, whole=whole[member.customer_id]) for member in booked.members if member.amount
    ]
