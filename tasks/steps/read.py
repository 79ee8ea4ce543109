"""What callers see of customers, orders and redemptions: the shapes of the contract, ready for JSON.

Ids are strings, money is a decimal string beside its currency, points are numbers in the program's unit.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound
from models.rules.money import from_minor, scaled_text
from models.rules.program import Program
from models.rules.tiers import window_start
from tasks.steps import sql
from tasks.steps.programs import programs_of
from tasks.steps.survivors import survivor

WALLET = text(
    "select w.*, s.currency from wallets w join shops s on s.id = w.shop_id where shop_id = :shop_id and customer_id = :id"
)
LOTS = text(
    "select lot, at, amount, remainder, expires_at from lots where shop_id = :shop_id and customer_id = :id"
    " and remainder > 0 order by expires_at, at, lot"
)
SPENT_SINCE = text(
    "select coalesce(sum(spend_minor), 0)::bigint from customer_days"
    " where shop_id = :shop_id and customer_id = :id and day between :start and :today"
)
ORDER = text("select * from orders where shop_id = :shop_id and order_id = :id")
AWARDS = text("select * from awards where shop_id = :shop_id and order_id = :id order by target")
ON_ORDER = text("select * from redemptions where shop_id = :shop_id and order_id = :id order by id")
REDEMPTION = text("select * from redemptions where shop_id = :shop_id and id = :id")
MEMBERS = text(
    "select m.customer_id, m.amount, t.moved as drawn, t.short as uncovered,"
    " coalesce(sum(r.amount), 0)::bigint as returned, coalesce(sum(r.moved), 0)::bigint as credited,"
    " coalesce(sum(r.expired), 0)::bigint as expired"
    " from redemption_members m"
    " join timeline t on t.shop_id = m.shop_id and t.redemption_id = m.redemption_id"
    "  and t.customer_id = m.customer_id and t.kind = 5"
    " left join timeline r on r.shop_id = m.shop_id and r.redemption_id = m.redemption_id"
    "  and r.customer_id = m.customer_id and r.kind = 3"
    " where m.shop_id = :shop_id and m.redemption_id = :id"
    " group by m.customer_id, m.amount, t.moved, t.short order by m.customer_id"
)
REFUNDS = text(
    "select r.refund_id, r.at, r.value_minor, r.reasons, r.policy_version, r.origin, r.reason, r.undone,"
    " coalesce(sum(t.amount) filter (where t.kind = 4), 0)::bigint as reversed,"
    " coalesce(sum(t.amount) filter (where t.kind = 3), 0)::bigint as returned"
    " from refunds r left join timeline t on t.shop_id = r.shop_id and t.order_id = r.order_id"
    "  and t.cause = 'refund:' || r.refund_id"
    " where r.shop_id = :shop_id and r.order_id = :id group by 1, 2, 3, 4, 5, 6, 7, 8 order by r.at, r.refund_id"
)
REVERSALS = text(
    "select v.* from reversals v join redemptions r on r.shop_id = v.shop_id and r.id = v.redemption_id"
    " where r.shop_id = :shop_id and r.order_id = :id order by v.id"
)
CANCELLED = text(
    "select cause, detail ->> 'reason' as reason, detail ->> 'by' as by from activity"
    " where shop_id = :shop_id and order_id = :id and kind = 'order.cancelled'"
)
UNDONE = text(
    "select kind, cause, at, detail ->> 'reason' as reason, detail ->> 'by' as by,"
    " detail ->> 'refund_amount' as amount from activity where shop_id = :shop_id and order_id = :id"
    " and kind in ('undo.asked', 'refund.undone', 'cancellation.undone') order by id"
)


def points(units: int, program: Program) -> int | Decimal:
    """An amount in the program's unit: an integer for points, a decimal with its places for credits."""
    return units if program.scale == 0 else Decimal(scaled_text(units, program.scale))


def customer(
    connection: Connection, shop_id: int, customer_id: int, *, now: datetime | None = None
) -> dict[str, Any]:
    """A customer's wallet as `GET /customers/{id}` shows it; a merged customer's is his survivor's (R33). Raises NotFound."""
    customer_id = survivor(connection, shop_id, customer_id)
    row = connection.execute(WALLET, {"shop_id": shop_id, "id": customer_id}).one_or_none()
    if row is None:
        raise NotFound("customer", customer_id)
    program = programs_of(connection, shop_id)[-1]
    today = (now or datetime.now(UTC)).astimezone(program.time_zone).date()
    key = {"shop_id": shop_id, "id": customer_id}
    currency = row.currency or "USD"
    return {
        "id": str(customer_id),
        "balance": points(row.balance, program),
        "pending": points(row.pending, program),
        "debt": points(row.debt, program),
        "tier": row.tier,
        "tier_pinned": row.pinned_tier is not None,
        "spend": {
            "lifetime": from_minor(max(0, row.spend_minor), currency),
            "calendar_year": _spent(connection, key, "calendar_year", today, currency),
            "rolling_year": _spent(connection, key, "rolling_year", today, currency),
            "currency": currency,
        },
        "orders_count": max(0, row.orders),
        "lots": [
            {
                "id": lot.lot,
                "amount": points(lot.amount, program),
                "remainder": points(lot.remainder, program),
                "earned_at": lot.at.isoformat(),
                "expires_at": _time(lot.expires_at),
            }
            for lot in sql.fetch(connection, LOTS, **key)
        ],
    }


def _spent(connection: Connection, key: dict[str, Any], window: str, today: date, currency: str) -> str:
    span = {"start": window_start(window, today), "today": today}
    spent: int = connection.execute(SPENT_SINCE, {**key, **span}).scalar_one()
    return from_minor(max(0, spent), currency)  # more can come back than an imported history knew of (D29)


def order(connection: Connection, shop_id: int, order_id: int) -> dict[str, Any]:
    """An order as `GET /orders/{id}` shows it. Raises NotFound while Shopify has not told of it."""
    key = {"shop_id": shop_id, "id": order_id}
    row = connection.execute(ORDER, key).one_or_none()
    if row is None or row.status == "unknown":  # of an unknown order only refunds have been told (R28)
        raise NotFound("order", order_id)
    program = programs_of(connection, shop_id)[-1]
    currency = row.currency
    undone = _undone(connection, row.facts.get("undone", ()), key)
    return {
        "id": str(order_id),
        "name": row.name,
        "status": row.status,
        "customer_id": None if row.customer_id is None else str(row.customer_id),
        "currency": currency,
        "total": None if row.total_minor is None else from_minor(row.total_minor, currency),
        "refunded": None if currency is None else from_minor(row.refunded_minor, currency),
        "placed_at": _time(row.placed_at),
        "flags": row.flags,
        "awards": [_award(award, program) for award in sql.fetch(connection, AWARDS, **key)],
        "redemptions": [
            {**_on_order(used, program), "ended": used.ended}
            for used in sql.fetch(connection, ON_ORDER, **key)
        ],
        "refunds": [
            _refund(refund, program, currency, undone) for refund in sql.fetch(connection, REFUNDS, **key)
        ],
        "cancellations": _cancellations(connection, row.facts, key),
        "reversals": [reversal(given, program) for given in sql.fetch(connection, REVERSALS, **key)],
        "undone": [
            {"cause": cause, "at": act.at.isoformat(), "by": act.by, "reason": act.reason}
            for cause, act in undone.items()
        ],
    }


def _award(row: Row[Any], program: Program) -> dict[str, Any]:
    return {
        "rule": row.target,
        "status": row.status,
        "amount": points(row.amount, program),
        "reversed": points(row.reversed, program),
        "debited": points(row.debited, program),
        "shortfall": points(row.shortfall, program),
        "due_at": _time(row.due_at),
        "expires_at": _time(row.expires_at),
    }


def _on_order(row: Row[Any], program: Program) -> dict[str, Any]:
    return {
        "id": str(row.id),
        "code": row.code,
        "reward": row.reward_id,
        "amount": points(row.amount, program),
        "returned": points(row.returned, program),
        "credited": points(row.credited, program),
        "expired": points(row.expired, program),
        "restitution": row.restitution,
    }


@dataclass(frozen=True, slots=True)
class Undoing:
    """When a cause was taken back (R38), by whom and why; `amount`: what a refund had been worth."""

    at: datetime
    by: str | None
    reason: str | None
    amount: str | None


def _undone(connection: Connection, causes: Sequence[str], key: Mapping[str, Any]) -> dict[str, Undoing]:
    """The undone causes of an order, each with its act. One that had to wait for a code has its words from the asking."""
    acts = sql.fetch(connection, UNDONE, **key) if causes else ()
    asked = {act.cause: act.reason for act in acts if act.kind == "undo.asked"}
    done = {
        act.cause: Undoing(act.at, act.by, act.reason or asked.get(act.cause), act.amount)
        for act in acts
        if act.kind != "undo.asked"
    }
    # Of an ending of Shopify's, which has two causes (S7), the act names the one that had closed the order.
    endings = [act for cause, act in done.items() if cause.startswith(("void:", "cancel:"))]
    return {cause: done[cause] if cause in done else endings[-1] for cause in causes}


def _refund(
    row: Row[Any], program: Program, currency: str | None, undone: Mapping[str, Undoing]
) -> dict[str, Any]:
    """A refund; one that is undone counts for nothing and still shows what it had been worth."""
    act = undone.get(f"refund:{row.refund_id}")
    worth = None if currency is None else from_minor(row.value_minor, currency)
    return {
        "id": str(row.refund_id),
        "at": row.at.isoformat(),
        "amount": worth if act is None or act.amount is None else act.amount,
        "reversed": points(row.reversed, program),
        "returned": points(row.returned, program),
        "reasons": row.reasons,
        "policy_version": row.policy_version,
        "origin": row.origin,
        "reason": row.reason,
        "undone": row.undone,
    }


def _cancellations(
    connection: Connection, facts: Mapping[str, Any], key: Mapping[str, Any]
) -> list[dict[str, Any]]:
    """What a merchant asked of us (R36); that the order is cancelled at Shopify is told by its status."""
    asked = facts.get("cancellations", ())
    said = {row.cause: row for row in sql.fetch(connection, CANCELLED, **key)} if asked else {}
    undone = facts.get("undone", ())
    return [
        {
            "id": str(id),
            "at": at,
            "reason": said[cause].reason if cause in said else None,
            "by": said[cause].by if cause in said else None,
            "undone": cause in undone,
        }
        for id, at in asked
        for cause in (f"cancellation:{id}",)
    ]


def reversal(row: Row[Any], program: Program) -> dict[str, Any]:
    """What a merchant gave back of a redemption by hand (R34, R35), also where it was undone since."""
    return {
        "id": str(row.id),
        "redemption_id": str(row.redemption_id),
        "kind": row.kind,
        "amount": points(row.amount, program),
        "at": row.at.isoformat(),
        "code": row.code,
        "reason": row.reason,
        "by": row.by,
        "undone_at": _time(row.undone_at),
    }


def redemption(connection: Connection, shop_id: int, redemption_id: int) -> dict[str, Any]:
    """A redemption as `GET /redemptions/{id}` shows it. Raises NotFound."""
    key = {"shop_id": shop_id, "id": redemption_id}
    row = connection.execute(REDEMPTION, key).one_or_none()
    if row is None:
        raise NotFound("redemption", redemption_id)
    program = programs_of(connection, shop_id)[-1]
    return {
        **_on_order(row, program),
        "customer_id": str(row.customer_id),
        "kind": row.kind,
        "order_id": None if row.order_id is None else str(row.order_id),
        "at": row.at.isoformat(),
        "code_state": row.code_state,
        "code_error": row.code_error,
        "code_ends_at": _time(row.code_ends_at),
        "ended": row.ended,
        "reactivation": row.reactivation,
        "reactivations": row.reactivations,
        "reactivation_error": row.reactivation_error,
        "sources": _members(sql.fetch(connection, MEMBERS, **key), program),
    }


def _members(rows: Sequence[Row[Any]], program: Program) -> list[dict[str, Any]]:
    names = ("amount", "drawn", "uncovered", "returned", "credited", "expired")
    return [
        {"customer_id": str(row.customer_id), **{n: points(getattr(row, n), program) for n in names}}
        for row in rows
    ]


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
