"""What merchants do to orders by hand (R31, R36, R38): cancel, refund, and take effects back. Facts in, difference out.

None of it moves money at Shopify: it is what a merchant tells us of an order, as Shopify's webhooks are.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from models.errors import NotFound, Refused
from models.rules.causes import Cause, causes_of
from models.rules.facts import Cancellation, Fact, Undo
from models.rules.order import refund_key
from models.rules.plan import OrderPlan, Redemption, plan
from tasks.steps.activities import entry, say
from tasks.steps.load import ShopRow, World, load_order, open_world, redemptions_on
from tasks.steps.preview import described, imagined, minor_of, moved
from tasks.steps.remaining import remaining
from tasks.steps.removals import ask_removal
from tasks.steps.reversals import held, hold_wallets
from tasks.steps.settle import Settled, Told, settle
from tasks.steps.shops import by_id

CANCELLED_BY_API = "Order cancelled via API"  # the default reason of R36

NEXT_CANCELLATION = text("select nextval('cancellation_ids')")
NEXT_REFUND = text("select nextval('merchant_refund_ids')")
NAME_REFUND = text(
    "update refunds set origin = 'merchant', reason = :reason where shop_id = :shop_id and refund_id = :id"
)
ORDER_OF_REFUND = text("select order_id from refunds where shop_id = :shop_id and refund_id = :id")
UNDONE_AT = text(
    "select max(at) from activity where shop_id = :shop_id and order_id = :order_id and kind = :kind"
    " and (cast(:cause as text) is null or cause = :cause)"
)
ENDINGS = ("void:", "cancel:", "cancellation:")  # causes that close an order without a refund

NOT_GIVEN_BACK = text(
    "update redemptions set reactivated_orders = reactivated_orders - :order_id, reactivation = 'none',"
    " code_state = 'removed', cancel_refused = null where shop_id = :shop_id and id = :id"
)


def cancel_order(
    connection: Connection,
    shop_id: int,
    order_id: int,
    *,
    reason: str | None,
    by: str,
    now: datetime | None = None,
) -> dict[str, Any]:
    """The order is off: what is left of its awards is reversed, what was redeemed on it comes back (R36, D27).

    Raises NotFound; Refused: already_cancelled, already_refunded (R31).
    """
    world = _opened(connection, shop_id, order_id, now)
    before = _still_open(world, order_id)
    id = int(connection.execute(NEXT_CANCELLATION).scalar_one())
    key, said = f"cancellation:{id}", {"reason": reason or CANCELLED_BY_API, "by": by}
    world.why[key] = said["reason"]
    settled = _settled(world, by, [Cancellation(id=id, order_id=order_id, at=world.now)])
    _note(world, "order.cancelled", order_id, key, said)
    done = described(world, settled, order_id, key, status_before=before)
    return {"id": str(id), **done, "reason": said["reason"]}


def refund_order(
    connection: Connection,
    shop_id: int,
    order_id: int,
    *,
    amount: Decimal | None,
    lines: Mapping[int, int] | None,
    reason: str | None,
    by: str,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Book a refund of an amount, of units of lines, or of the rest (neither), as its preview shows it (R36, R37, D26).

    Raises NotFound; Refused: already_cancelled, already_refunded (R31), wrong_amount, unknown_line, wrong_quantity.
    """
    world = _opened(connection, shop_id, order_id, now)
    before = _still_open(world, order_id)
    order = world.orders[order_id]
    id = int(connection.execute(NEXT_REFUND).scalar_one())
    minor = None if amount is None else minor_of(amount, order)
    told = imagined(order, world.programs, amount=minor, lines=lines, now=world.now, id=id)
    if reason:
        world.why[refund_key(id)] = reason
    settled = _settled(world, by, told)
    connection.execute(NAME_REFUND, {"shop_id": shop_id, "id": id, "reason": reason})
    _note(world, "order.refunded", order_id, refund_key(id), {"reason": reason, "by": by})
    done = described(world, settled, order_id, refund_key(id), status_before=before)
    return {"id": str(id), **done, "reason": reason}


def undo_refund(
    connection: Connection,
    shop_id: int,
    refund_id: int,
    *,
    reason: str | None,
    by: str,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Take the effects of one refund back, as if it had never been told (R38, D28).

    Raises NotFound; Refused: already_undone, code_in_flight, code_used_again, several_codes_given_back,
    undo_in_progress. Answers `removing_code` where a code that came back has to be taken away first.
    """
    key = {"shop_id": shop_id, "id": refund_id}
    order_id = connection.execute(ORDER_OF_REFUND, key).scalar_one_or_none()
    if order_id is None:
        raise NotFound("refund", refund_id)
    world = _opened(connection, shop_id, order_id, now)
    cause = refund_key(refund_id)
    if world.orders[order_id].refunds[refund_id].undone:
        raise _undone_already(world, order_id, "refund.undone", f"the refund {refund_id} was undone", cause)
    return _undo(world, order_id, [cause], "refund.undone", reason, by)


def undo_ending(
    connection: Connection,
    shop_id: int,
    order_id: int,
    *,
    reason: str | None,
    by: str,
    now: datetime | None = None,
) -> dict[str, Any]:
    """Take the void or cancellation back that closed an order (R38, D28).

    Raises NotFound; Refused: not_cancelled, and as `undo_refund` does.
    """
    world = _opened(connection, shop_id, order_id, now)
    closing = _closing(world, order_id)
    if closing is None and any(cause.startswith(ENDINGS) for cause in world.orders[order_id].undone):
        raise _undone_already(world, order_id, "cancellation.undone", "what closed this order was undone")
    if closing is None or closing.kind not in ("void", "cancel"):
        raise Refused("not_cancelled", "no void or cancellation closed this order, so there is none to undo")
    asked = closing.key.startswith("cancellation:")
    other = f"cancel:{order_id}" if closing.kind == "void" else f"void:{order_id}"
    keys = [closing.key] if asked else [closing.key, other]  # one ending of Shopify's, in two shapes (S7)
    return _undo(world, order_id, keys, "cancellation.undone", reason, by)


def _undone_already(world: World, order_id: int, kind: str, words: str, cause: str | None = None) -> Refused:
    """What is undone stays undone (D28); the answer says since when."""
    key = {"shop_id": world.shop.id, "order_id": order_id, "kind": kind, "cause": cause}
    found = world.connection.execute(UNDONE_AT, key).scalar_one()
    at = None if found is None else found.isoformat()
    return Refused("already_undone", f"{words} already" + ("" if at is None else f", at {at}"), at=at)


def codes_at_stake(world: World, order_id: int, undone: Iterable[str]) -> list[Redemption]:
    """The redemptions whose code came back, or is about to, for what is to be undone (R22, R38); not those whose code
    was taken away since, when they were cancelled (R34)."""
    used = redemptions_on(world)[order_id]
    gone = {each.id for each in used if any(given.code == "removed" for given in each.reversals)}
    back = [each for each in used if each.id not in gone and (each.reactivation == "done" or each.in_flight)]
    if not back:
        return []
    order = deepcopy(world.orders[order_id])
    for key in undone:
        order.add(Undo(order_id=order_id, cause=key), world.now)
    anew = [replace(each, reactivation="none", in_flight=False, reactivations=0) for each in used]
    made = plan(order, programs=world.programs, redemptions=anew)
    return [each for each in back if each.id not in made.codes_back]


def _opened(connection: Connection, shop_id: int, order_id: int, now: datetime | None) -> World:
    """The order, with its redemptions and wallets, locked; `world.now` is the time of the act (see `hold_wallets`).

    Raises NotFound while Shopify has not told of the order (R28).
    """
    world = open_world(connection, by_id(connection, shop_id), now or datetime.now(UTC))
    load_order(world, order_id)
    hold_wallets(world, now)
    return world


def _closing(world: World, order_id: int) -> Cause | None:
    causes = causes_of(world.orders[order_id], world.programs)
    return next((cause for cause in causes if cause.closing), None)


def _still_open(world: World, order_id: int) -> str:
    """The order's status, where it is not the last one. Raises Refused: already_cancelled, already_refunded (R31)."""
    status = str(world.stored[order_id].status)
    closing = _closing(world, order_id)
    if closing is None:
        return status
    at = closing.at.isoformat()
    code = "already_refunded" if status == "fully_refunded" else "already_cancelled"
    words = status.replace("_", " ")
    raise Refused(code, f"the order is {words} since {at}; nothing was done", status=status, at=at)


def _settled(world: World, by: str, facts: Sequence[Fact]) -> Settled:
    return settle(world, [Told(fact=fact, received_at=world.now, cause=by) for fact in facts])


def _undo(
    world: World, order_id: int, keys: Sequence[str], kind: str, reason: str | None, by: str
) -> dict[str, Any]:
    before = str(world.stored[order_id].status)
    if (code := _to_take_away(codes_at_stake(world, order_id, keys))) is not None:
        return _ask_for_removal(world, order_id, keys, code, kind, reason, by)
    settled = _settled(world, by, [Undo(order_id=order_id, cause=key) for key in keys])
    _note(world, kind, order_id, keys[0], {"reason": reason, "by": by})
    made = settled.plans[order_id]
    return {
        "order_id": str(order_id),
        "undone": list(keys),
        "state": "done",
        "status_before": before,
        "status_after": made.status,
        **moved(world, settled),
        "remaining": remaining(made, world.programs),
        "reason": reason,
    }


def _to_take_away(back: Sequence[Redemption]) -> Redemption | None:
    """The redemption whose code has to be taken away at Shopify first; None where none came back.

    Raises Refused: code_in_flight, code_used_again, several_codes_given_back.
    """
    for each in back:
        id = str(each.id)
        if each.in_flight:
            words = "a discount code is just being given back; try again in a minute"
            raise Refused("code_in_flight", words, redemption_id=id)
        if not each.held:
            words = "the discount code that came back was used on another order"
            raise Refused("code_used_again", words, redemption_id=id)
    if len(back) > 1:
        words = (
            "several discount codes came back for this, and only one can be taken away with it; cancel the redemptions"
            " of the others first (their points come back)"
        )
        raise Refused("several_codes_given_back", words)
    return back[0] if back else None


def _ask_for_removal(
    world: World,
    order_id: int,
    keys: Sequence[str],
    code: Redemption,
    kind: str,
    reason: str | None,
    by: str,
) -> dict[str, Any]:
    """The code that came back is taken away at Shopify first; then `finish_undo` books the rest (D28)."""
    payload = {
        "redemption_id": code.id,
        "order_id": order_id,
        "undone": list(keys),
        "kind": kind,
        "by": by,
    }
    key = f"undo:{order_id}:{code.id}:{code.reactivations}"
    if not ask_removal(world.connection, world.shop.id, code.id, then={"undo": payload}, key=key):
        words = "its code is being taken away already; look at the order again in a minute"
        raise Refused("undo_in_progress", words, redemption_id=str(code.id))
    _note(world, "undo.asked", order_id, keys[0], {"reason": reason, "by": by})
    status = str(world.stored[order_id].status)
    return {
        "order_id": str(order_id),
        "undone": list(keys),
        "state": "removing_code",
        "status_before": status,
        "status_after": status,
        "customers": [],
        "tiers": [],
        "remaining": remaining(_planned(world, order_id), world.programs),
        "reason": reason,
    }


def finish_undo(connection: Connection, shop: ShopRow, payload: Mapping[str, Any]) -> str:
    """Its code was taken away at Shopify: the use counts as not given back, and the undo is booked (D16c, D28).

    In the transaction that ends the outbox row. Safe twice: what is undone stays undone.
    """
    order_id, redemption_id = int(payload["order_id"]), int(payload["redemption_id"])
    _, row = held(connection, shop, redemption_id, None)
    if str(order_id) in row.reactivated_orders:
        key = {"shop_id": shop.id, "id": redemption_id, "order_id": str(order_id)}
        connection.execute(NOT_GIVEN_BACK, key)
    world = _opened(connection, shop.id, order_id, None)
    if set(payload["undone"]) <= world.orders[order_id].undone:
        return "undone already"
    _settled(world, payload["by"], [Undo(order_id=order_id, cause=key) for key in payload["undone"]])
    _note(world, payload["kind"], order_id, payload["undone"][0], {"by": payload["by"]})
    return "undone"


def undo_refused(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], *, code: str) -> None:
    """The code could not be taken away (`code` says why: used, shared), so nothing is undone; the record says so."""
    world = _opened(connection, shop.id, int(payload["order_id"]), None)
    words = {"by": payload["by"], "why": code, "redemption_id": str(payload["redemption_id"])}
    _note(world, "undo.refused", int(payload["order_id"]), payload["undone"][0], words)


def _planned(world: World, order_id: int) -> OrderPlan:
    used = redemptions_on(world)[order_id]
    return plan(world.orders[order_id], programs=world.programs, redemptions=used)


def _note(world: World, kind: str, order_id: int, key: str, words: Mapping[str, Any]) -> None:
    """The merchant's act on the record (R39)."""
    customer = world.orders[order_id].customer_id
    say(world, [entry(world, kind, customer, order_id, key, f"order:{order_id}", words)])
