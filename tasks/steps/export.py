"""Everything we hold of one customer, for the person who asked to see it: one JSON document (docs/privacy.md)."""

from __future__ import annotations

import json
from collections.abc import Sequence
from datetime import date, datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import Connection, text

from models.errors import NotFound
from tasks.steps import read, sql
from tasks.steps.load import ShopRow
from tasks.steps.privacy import Asked, family, orders_of, others_naming

BODIES = text(
    "select id, topic, received_at, body from inbox where shop_domain = :domain and body is not null"
    " and order_id = any(:orders) order by id"
)
BODIES_BY_ID = text("select id, topic, received_at, body from inbox where id = any(:ids) order by id")

OF_PEOPLE = {
    "lots": text(
        "select customer_id::text, lot, at, amount, remainder, expires_at from lots"
        " where shop_id = :shop_id and customer_id = any(:people) order by at, lot"
    ),
    "entries": text(
        "select id::text, customer_id::text, lot, kind, amount, event_at, booked_at from entries"
        " where shop_id = :shop_id and customer_id = any(:people) order by id"
    ),
    "events": text(
        "select customer_id::text, kind, cause, target, at, order_id::text, redemption_id::text, amount, moved, short,"
        " expired, reasons from timeline where shop_id = :shop_id and customer_id = any(:people)"
        " order by at, kind, sort_id"
    ),
    "awards": text(
        "select order_id::text, target as rule, amount, status, reversed, at, due_at, expires_at from awards"
        " where shop_id = :shop_id and customer_id = any(:people) order by at, order_id, target"
    ),
    "redemptions": text(
        "select r.id::text, r.reward_id as reward, r.kind, r.amount, r.code, r.at, r.order_id::text, r.returned,"
        " r.restitution, m.amount as given_by_this_customer from redemptions r left join redemption_members m"
        " on m.shop_id = r.shop_id and m.redemption_id = r.id and m.customer_id = any(:people)"
        " where r.shop_id = :shop_id and (r.customer_id = any(:people) or m.customer_id is not null) order by r.id"
    ),
    "identifiers": text(  # that we know one, not which: a keyed hash is all that there is
        "select customer_id::text, kind, seen_at, 'kept as a keyed hash only' as kept from customer_identifiers"
        " where shop_id = :shop_id and customer_id = any(:people) order by kind, seen_at, digest"
    ),
    "reversal_locks": text(
        "select customer_id::text, until, reason, created_at from reversal_locks"
        " where shop_id = :shop_id and customer_id = any(:people) order by customer_id"
    ),
    "spend_by_day": text(
        "select day, spend_minor, orders, points from customer_days"
        " where shop_id = :shop_id and customer_id = any(:people) order by day"
    ),
    "imported": text(
        "select reference, record, customer_id::text, booked_at from imported_rows"
        " where shop_id = :shop_id and customer_id = any(:people) order by reference"
    ),
    "bought_before_by_day": text(
        "select day, spend_minor, orders, points from opening_days"
        " where shop_id = :shop_id and customer_id = any(:people) order by day"
    ),
    "reversals": text(
        "select id::text, redemption_id::text, customer_id::text, kind, amount, code, at, reason, by, undone_at"
        " from reversals where shop_id = :shop_id and customer_id = any(:people) order by id"
    ),
}
OF_ORDERS = {
    "orders": text(
        "select order_id::text, name, currency, customer_id::text, placed_at, status, total_minor, refunded_minor,"
        " facts, seen_at from orders where shop_id = :shop_id and order_id = any(:orders) order by order_id"
    ),
    "refunds": text(
        "select refund_id::text, order_id::text, at, value_minor, reasons, reason, undone, facts from refunds"
        " where shop_id = :shop_id and order_id = any(:orders) order by at, refund_id"
    ),
    "transactions": text(
        "select transaction_id::text, order_id::text, refund_id::text, kind, status, amount_minor, currency, at"
        " from transactions where shop_id = :shop_id and order_id = any(:orders) order by at, transaction_id"
    ),
}
# Of an order that had no customer when it was written of, the entries of nobody are his; those of others never.
ACTIVITY = text(
    "select id::text, kind, customer_id::text, order_id::text, at, booked_at, detail from activity"
    " where shop_id = :shop_id and (customer_id = any(cast(:people as bigint[]))"
    "  or (customer_id is null and order_id = any(cast(:orders as bigint[])))) order by id"
)


def export(connection: Connection, shop: ShopRow, asked: Asked) -> dict[str, Any]:
    """What is kept of a customer, and of the orders named, ours and as delivered. Amounts in the smallest unit.

    Holds personal data: the raw deliveries that have not been erased yet. A customer we know nothing of is empty lists.
    """
    people = family(connection, shop.id, asked.customer_id)
    orders = sorted({*asked.orders, *orders_of(connection, shop.id, people)})
    key: dict[str, Any] = {"shop_id": shop.id, "people": people, "orders": orders}
    return {
        "shop": shop.domain,
        "customer_id": None if asked.customer_id is None else str(asked.customer_id),
        "known_as": [str(id) for id in people],
        "wallet": _wallet(connection, shop.id, asked.customer_id),
        **{name: _rows(connection, query, key, "people") for name, query in OF_PEOPLE.items()},
        "activity": _rows(connection, ACTIVITY, key, "people", "orders"),
        **{name: _rows(connection, query, key, "orders") for name, query in OF_ORDERS.items()},
        "deliveries": _deliveries(connection, shop.domain, people, orders),
    }


def as_text(document: Any) -> str:
    """The document as JSON; times as ISO 8601, exact decimals as text."""
    return json.dumps(document, ensure_ascii=False, indent=2, default=_plain) + "\n"


def _plain(value: object) -> str:
    if isinstance(value, date | datetime):
        return value.isoformat()
    assert isinstance(value, Decimal), type(value)
    return str(value)


def _wallet(connection: Connection, shop_id: int, customer_id: int | None) -> dict[str, Any] | None:
    try:
        return None if customer_id is None else read.customer(connection, shop_id, customer_id)
    except NotFound:
        return None


def _rows(connection: Connection, query: Any, key: dict[str, Any], *ids: str) -> list[dict[str, Any]]:
    found = sql.fetch(connection, query, shop_id=key["shop_id"], **{name: key[name] for name in ids})
    return [dict(row._mapping) for row in found]


def _deliveries(
    connection: Connection, domain: str, people: Sequence[int], orders: Sequence[int]
) -> list[dict[str, Any]]:
    """The raw deliveries that we still hold, as they came."""
    rows = list(sql.fetch(connection, BODIES, domain=domain, orders=list(orders)))
    others = others_naming(connection, domain, [*people, *orders])
    rows += sql.fetch(connection, BODIES_BY_ID, ids=others)
    return [
        {"id": str(r.id), "topic": r.topic, "received_at": r.received_at, "body": _body(bytes(r.body))}
        for r in sorted(rows, key=lambda r: r.id)
    ]


def _body(body: bytes) -> Any:
    try:
        return json.loads(body, parse_float=str)
    except (ValueError, RecursionError):
        return body.decode("utf-8", "replace")
