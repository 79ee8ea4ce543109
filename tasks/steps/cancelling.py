"""Cancel a redemption (R34): points back at once, or when its code has been taken away at Shopify, never both (R21).

cancel       what a merchant asks for; decided under the locks of its codes, orders and wallets
code_gone    the outbox took the code away: the points come back in the transaction that ends its row
code_stays   it could not be taken away: the merchant sees why, and what `force` would do
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import replace
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import Later, NotFound, Refused
from models.rules.cancelling import (
    ALREADY_REFUNDED,
    CHANGING,
    CODE_IN_FLIGHT,
    CODE_SHARED,
    CODE_USED,
    NOT_REACHABLE,
    REMOVED,
    STAYS_USED,
    UNCHANGED,
    WARNINGS,
    Standing,
    Verdict,
    verdict,
)
from models.rules.program import Program
from tasks.steps import read, sql
from tasks.steps.activities import entry, say
from tasks.steps.installations import is_connected
from tasks.steps.load import ShopRow, World
from tasks.steps.programs import programs_of
from tasks.steps.removals import CANCELLED, ask_removal
from tasks.steps.reversals import Reversed, held, last_returns, reverse
from tasks.steps.shops import by_id
from tasks.steps.timeline import redemption_target

STANDING = text(
    "select r.*, r.amount - r.returned as points_left, jsonb_array_length(r.reactivated_orders) as times_back,"
    " coalesce((select o.order_id from redemption_codes c join order_codes o on o.shop_id = c.shop_id and o.code = c.code_key"
    "   where c.shop_id = r.shop_id and c.redemption_id = r.id"
    "   and not jsonb_exists(r.reactivated_orders, o.order_id::text)"
    "   order by o.order_id <> coalesce(r.order_id, 0), o.order_id limit 1),"
    "  case when r.imported_at is not null and not jsonb_exists(r.reactivated_orders, r.order_id::text)"
    "   then r.order_id end) as used_on,"  # the other program's word: Shopify may never tell of its order
    " exists (select from outbox w where w.shop_id = r.shop_id and w.state in ('pending', 'leased')"
    "   and w.key = 'cancel:' || r.id) as asked,"
    " exists (select from outbox w where w.shop_id = r.shop_id and w.state <> 'done'"
    "   and w.key = 'reactivate:' || r.id || ':' || (r.reactivations + 1)"
    "   and jsonb_exists(w.payload, 'sent')) as in_flight"
    " from redemptions r where r.shop_id = :shop_id and r.id = any(cast(:ids as bigint[])) order by r.id"
)
REVERSALS = text("select * from reversals where shop_id = :shop_id and redemption_id = :id order by id")
STOP_MAKING = text(
    "update outbox set state = 'cancelled', finished_at = now() where shop_id = :shop_id and state = 'pending'"
    " and key = 'create_code:' || :id and (:though_sent or not jsonb_exists(payload, 'sent')) returning 1"
)
MAKE_AFTER_ALL = text(  # the removal stopped it before it asked Shopify
    "update outbox set state = 'pending', finished_at = null, not_before = now(), rung_at = null"
    " where :wanted and shop_id = :shop_id and key = 'create_code:' || :id and state = 'cancelled'"
)
REFUSED = text("update redemptions set cancel_refused = :reason where shop_id = :shop_id and id = :id")
SET_CODE = text("update redemptions set code_state = :state where shop_id = :shop_id and id = :id")
CODE_AFTER = {CODE_USED: STAYS_USED, CODE_SHARED: UNCHANGED}  # any other reason: nobody reached it


def shown(connection: Connection, shop_id: int, redemption_id: int) -> dict[str, Any]:
    """A redemption as `GET /redemptions/{id}` shows it: with what cancelling it would do. Raises NotFound."""
    found = read.redemption(connection, shop_id, redemption_id)
    program = programs_of(connection, shop_id)[-1]
    key = {"shop_id": shop_id, "id": redemption_id}
    given_back = [read.reversal(row, program) for row in connection.execute(REVERSALS, key)]
    stands = standing(connection, shop_id, redemption_id)
    now = verdict(stands)
    return {
        **found,
        "cancellation": {
            "state": now.state,
            "needs_force": now.needs_force,
            "message": now.message,
            "refunded_at": stands.refunded_at and stands.refunded_at.isoformat(),
            "used_on": None if stands.used_on is None else str(stands.used_on),
            "refused": stands.refused,
        },
        "reversals": given_back,
    }


def standing(connection: Connection, shop_id: int, redemption_id: int) -> Standing:
    """How a redemption stands, as the rule wants to know it. Raises NotFound."""
    found = standings(connection, shop_id, [redemption_id])
    if redemption_id not in found:
        raise NotFound("redemption", redemption_id)
    return found[redemption_id]


def verdicts(connection: Connection, shop_id: int, ids: Sequence[int]) -> dict[int, Verdict]:
    """What cancelling each of these would do now, for a page of them."""
    return {id: verdict(stands) for id, stands in standings(connection, shop_id, ids).items()}


def standings(connection: Connection, shop_id: int, ids: Sequence[int]) -> dict[int, Standing]:
    """How these redemptions stand, by id; in as many statements as for one."""
    rows = sql.fetch(connection, STANDING, shop_id=shop_id, ids=list(ids))
    connected = is_connected(connection, shop_id)
    rewards = programs_of(connection, shop_id)[-1].rewards
    returns = last_returns(connection, shop_id, [row.id for row in rows if row.points_left == 0])
    return {
        row.id: Standing(
            kind=row.kind,
            left=row.points_left,
            code_state=row.code_state,
            used_on=row.used_on,
            rule_gone=row.kind != "custom" and row.reward_id not in rewards,
            connected=connected,
            asked=row.asked,
            in_flight=row.in_flight or row.reactivation == "wanted",
            came_back=row.times_back > 0,
            refused=row.cancel_refused,
            refunded_at=returns.get(row.id),
        )
        for row in rows
    }


def cancel(
    connection: Connection,
    shop_id: int,
    redemption_id: int,
    *,
    by: str,
    force: bool = False,
    reason: str | None = None,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Give back what is left of a redemption, by the state of its code (R34). The redemption, what was booked (None
    while its code has to be taken away first: `code_being_changed`), and warnings.

    Safe to run twice, and twice at once: one that is asked for is asked for, what came back is refused with its date.
    Raises NotFound; Refused: already_refunded, spending_rule_gone, code_used, code_shared, not_connected,
    code_in_flight, given_back_as_code. Nothing is changed then.
    """
    shop = by_id(connection, shop_id)
    held(connection, shop, redemption_id, now or datetime.now(UTC))
    now = now or datetime.now(UTC)  # that of the locks: what others did while we waited comes before
    stands = standing(connection, shop_id, redemption_id)
    found = verdict(stands)
    if found.refuses(force=force):
        raise _refusal(found, stands)
    said = {"by": by, "reason": reason, "force": force}
    booked = (
        None if found.state == CHANGING else _begun(connection, shop, redemption_id, stands, found, said, now)
    )
    return {
        **shown(connection, shop_id, redemption_id),
        "reversal": None if booked is None else _booked(booked, programs_of(connection, shop_id)[-1]),
        "warnings": [WARNINGS[booked.code]] if booked is not None and booked.code in WARNINGS else [],
    }


def code_gone(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    said: Mapping[str, Any],
    *,
    cause: str,
    now: datetime | None,
) -> str:
    """Nobody can use the code any more: what is left comes back. Unless an order was told of meanwhile that used it.

    Safe twice: what came back does not come back again. Raises Later while the code may just be coming back.
    """
    world, row = held(connection, shop, redemption_id, now or datetime.now(UTC))
    now = now or datetime.now(UTC)
    stands = standing(connection, shop.id, redemption_id)
    if row.code_state != "none":
        _set_code(connection, shop.id, redemption_id, "removed")
    if stands.left and stands.used_on is not None and not said["force"]:
        return _not_cancelled(world, row, said, code=CODE_USED, words=None, cause=cause)
    code = REMOVED if stands.used_on is None else STAYS_USED
    return _given_back(connection, shop, redemption_id, said, code, now)


def code_stays(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    said: Mapping[str, Any],
    *,
    code: str,
    words: str,
    cause: str,
    now: datetime | None,
) -> str:
    """The code was not taken away: it is used, shared, or out of reach (`code`). With `force` the points come back all
    the same; without, the redemption and the activity say why not."""
    world, row = held(connection, shop, redemption_id, now or datetime.now(UTC))
    now = now or datetime.now(UTC)
    if not said["force"]:
        key = {"shop_id": shop.id, "id": str(redemption_id), "wanted": row.code_state == "wanted"}
        connection.execute(MAKE_AFTER_ALL, key)
        return _not_cancelled(world, row, said, code=code, words=words, cause=cause)
    if row.code_state == "wanted":
        _set_code(connection, shop.id, redemption_id, "failed")
    after = CODE_AFTER.get(code, NOT_REACHABLE)
    try:
        with connection.begin_nested():
            return _given_back(connection, shop, redemption_id, said, after, now)
    except Refused:
        return _not_cancelled(world, row, said, code=code, words=words, cause=cause)


def is_used(connection: Connection, shop: ShopRow, redemption_id: int, now: datetime) -> bool:
    """Whether an order carries one of its codes and did not give it back; stays so until the transaction ends."""
    held(connection, shop, redemption_id, now)
    return standing(connection, shop.id, redemption_id).used_on is not None


# -- steps -------------------------------------------------------------------------------------------


def _begun(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    stands: Standing,
    found: Verdict,
    said: Mapping[str, Any],
    now: datetime,
) -> Reversed | None:
    """What can be done at once is done; a code that may be at Shopify is asked away first (None)."""
    code = found.code
    if stands.code_state == "wanted" and _stopped(
        connection, shop.id, redemption_id, though_sent=not found.removes
    ):
        code = code or REMOVED
        _set_code(connection, shop.id, redemption_id, "removed" if code == REMOVED else "failed")
    if code is None:
        connection.execute(REFUSED, {"shop_id": shop.id, "id": redemption_id, "reason": None})
        key = f"cancel:{redemption_id}"
        ask_removal(connection, shop.id, redemption_id, then={CANCELLED: said}, key=key)
        return None
    return _reversed(connection, shop, redemption_id, said, code, now)


def _stopped(connection: Connection, shop_id: int, redemption_id: int, *, though_sent: bool) -> bool:
    """Whether the code was to be made and now is not. Not while somebody is at it, nor what may be made for all we know."""
    key = {"shop_id": shop_id, "id": str(redemption_id), "though_sent": though_sent}
    return connection.execute(STOP_MAKING, key).one_or_none() is not None


def _reversed(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    said: Mapping[str, Any],
    code: str,
    now: datetime,
) -> Reversed:
    booked = reverse(
        connection,
        shop,
        redemption_id,
        amount=None,
        kind="cancelled",
        code=code,
        by=said["by"],
        reason=said.get("reason"),
        now=now,
    )
    connection.execute(REFUSED, {"shop_id": shop.id, "id": redemption_id, "reason": None})
    return booked


def _given_back(
    connection: Connection,
    shop: ShopRow,
    redemption_id: int,
    said: Mapping[str, Any],
    code: str,
    now: datetime,
) -> str:
    try:
        booked = _reversed(connection, shop, redemption_id, said, code, now)
    except Refused as refused:
        if refused.code == CODE_IN_FLIGHT:
            raise Later("its code may just be coming back") from None
        if refused.code != ALREADY_REFUNDED:
            raise
        return "all of it had come back already"
    return f"{booked.amount} given back (cancelled), its code {code}"


def _not_cancelled(
    world: World, row: Row[Any], said: Mapping[str, Any], *, code: str, words: str | None, cause: str
) -> str:
    """The merchant sees why: on the redemption, and in the activity with what force would do."""
    key = {"shop_id": world.shop.id, "id": row.id}
    world.connection.execute(REFUSED, {**key, "reason": code})
    stands = replace(standing(world.connection, world.shop.id, row.id), asked=False)  # its row ends with this
    told = verdict(stands).message
    detail = {"code": code, "message": told, "by": said["by"], "reason": said.get("reason")}
    if words is not None:
        detail["shopify"] = words
    target = redemption_target(row.id)
    say(
        world,
        [entry(world, "redemption.not_cancelled", row.customer_id, row.order_id, cause, target, detail)],
    )
    return f"not cancelled: {code}"


def _set_code(connection: Connection, shop_id: int, redemption_id: int, state: str) -> None:
    connection.execute(SET_CODE, {"shop_id": shop_id, "id": redemption_id, "state": state})


def _refusal(found: Verdict, stands: Standing) -> Refused:
    assert found.refusal is not None
    details: dict[str, object] = {"state": found.state, "needs_force": found.needs_force}
    if stands.refunded_at is not None:
        details["refunded_at"] = stands.refunded_at.isoformat()
    if stands.used_on is not None:
        details["used_on"] = str(stands.used_on)
    return Refused(found.refusal, found.message, **details)


# -- for callers -------------------------------------------------------------------------------------


def _booked(booked: Reversed, program: Program) -> dict[str, Any]:
    """What was given back just now, to whom."""
    amounts = ("amount", "credited", "expired")
    members: Sequence[dict[str, Any]] = [
        {"customer_id": str(member.customer_id)}
        | {name: read.points(getattr(member, name), program) for name in amounts}
        for member in booked.members
    ]
    return {
        "id": str(booked.id),
        "at": booked.at.isoformat(),
        "code": booked.code,
        **{name: read.points(getattr(booked, name), program) for name in amounts},
        "members": members,
    }
