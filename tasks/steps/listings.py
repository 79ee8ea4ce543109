"""A shop's orders, customers and redemptions for people, newest first, a page at a time.

Every page is read by an index, however far down the list it is: what a cursor names is looked up, never counted to.
Rows that come while pages are turned never shift a page. Amounts and ids are shown as `tasks/steps/read.py` does.
"""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, TextClause, text

from models.rules.money import from_minor
from models.rules.program import Program
from models.tables.loyalty import BY_USE
from tasks.steps import identifiers, sql
from tasks.steps.cancelling import verdicts
from tasks.steps.identifiers import Hasher
from tasks.steps.paging import Page
from tasks.steps.programs import programs_of
from tasks.steps.read import points
from tasks.steps.survivors import merged_into, survivor

LIMIT = 25  # rows of a page: what makes a long list slow to show is its rows
OF_ONE = 10  # of a customer's orders and redemptions, on the customer's own page
ID_MAX = 2**63 - 1
ID = re.compile(r"(?:gid://shopify/[A-Za-z]+/)?([1-9][0-9]{0,18})")

# What an order can be once Shopify has told of it; of an `unknown` one only refunds have been told (R28).
ORDER_STATUSES = ("open", "partially_refunded", "fully_refunded", "voided", "cancelled")
REWARD_STATUSES = tuple(BY_USE)
QUIET_FLAGS = ("NO_CUSTOMER", "TEST_ORDER_IGNORED", "PLACED_BEFORE_INSTALL")  # nothing for a person to do
NEEDS_A_LOOK = f"not flags <@ '{json.dumps(QUIET_FLAGS)}'::jsonb"  # word by word as in ix_orders_attention

# -- orders ------------------------------------------------------------------------------------------

OF_ORDER = (
    "order_id, name, placed_at, status, customer_id, currency, total_minor, refunded_minor, flags, seen_at"
)
# One short walk of the index for each status, the latest of all of them: so any choice of statuses costs the same.
ORDERS = text(
    f"select o.* from unnest(cast(:statuses as text[])) as wanted(status) cross join lateral ("
    f"  select {OF_ORDER} from orders o where o.shop_id = :shop_id and o.status = wanted.status"
    "   and (o.placed_at, o.order_id) < (coalesce((select placed_at from orders"
    "    where shop_id = :shop_id and order_id = :before), 'infinity'), :before)"
    "   order by o.placed_at desc, o.order_id desc limit :limit) o"
    " order by o.placed_at desc, o.order_id desc limit :limit"
)
# Flagged orders are few, and go by Shopify's own ids, which rise with time.
FLAGGED = (
    f"select {OF_ORDER} from orders where shop_id = :shop_id and order_id < :before and {{which}}"
    " and jsonb_exists(flags, :flag) and status = any(cast(:statuses as text[])) order by order_id desc limit :limit"
)
QUIETLY_FLAGGED = text(FLAGGED.format(which="flags <> '[]'"))
LOUDLY_FLAGGED = text(FLAGGED.format(which=NEEDS_A_LOOK))
NAMED = text(
    f"select {OF_ORDER} from orders where shop_id = :shop_id and order_id < :before"
    " and (order_id = :id or lower(name) = any(cast(:names as text[])))"
    " and status = any(cast(:statuses as text[])) and (:flag = '' or jsonb_exists(flags, :flag))"
    " order by order_id desc limit :limit"
)
ORDERS_OF = text(
    f"select o.* from unnest(cast(:people as bigint[])) as one(customer_id) cross join lateral ("
    f"  select {OF_ORDER} from orders o where o.shop_id = :shop_id and o.customer_id = one.customer_id"
    "   and o.status <> 'unknown' and o.placed_at is not null order by o.placed_at desc limit :limit) o"
    " order by o.placed_at desc, o.order_id desc limit :limit"
)
AWARDED = text(
    "select order_id, sum(amount)::bigint as earned, sum(reversed)::bigint as reversed,"
    " coalesce(sum(amount - reversed) filter (where status = 'pending'), 0)::bigint as pending from awards"
    " where shop_id = :shop_id and order_id = any(cast(:ids as bigint[])) group by 1"
)
REDEEMED = text(
    "select order_id, sum(amount)::bigint as redeemed, sum(returned)::bigint as returned from redemptions"
    " where shop_id = :shop_id and order_id = any(cast(:ids as bigint[])) group by 1"
)
POINTS_OF_ORDER = ("earned", "reversed", "pending", "redeemed", "returned")


def orders(
    connection: Connection,
    shop_id: int,
    *,
    search: str | None = None,
    status: str | None = None,
    flag: str | None = None,
    cursor: int | None = None,
    limit: int = LIMIT,
) -> Page:
    """Orders by when they were placed, the latest first; with a `flag` or a `search`, by Shopify's id.

    search: an order's name (`#1001` or `1001`) or Shopify's id, whole
    """
    statuses = [status] if status else [*ORDER_STATUSES, *(["unknown"] if flag else [])]
    asked: dict[str, Any] = {"statuses": statuses, "before": cursor or ID_MAX, "limit": limit + 1}
    if search:
        statement, more = NAMED, {**_named(search), "flag": flag or ""}
    elif flag:
        statement, more = LOUDLY_FLAGGED if flag not in QUIET_FLAGS else QUIETLY_FLAGGED, {"flag": flag}
    else:
        statement, more = ORDERS, {}
    found = sql.fetch(connection, statement, shop_id=shop_id, **asked, **more)
    return _page(found, limit, "order_id", _orders_shown(connection, shop_id, found[:limit]))


def orders_of(
    connection: Connection, shop_id: int, customer_id: int, *, limit: int = OF_ONE
) -> list[dict[str, Any]]:
    """A customer's latest orders, those of customers merged into this one among them (R33)."""
    people = _people(connection, shop_id, customer_id)
    found = sql.fetch(connection, ORDERS_OF, shop_id=shop_id, people=people, limit=limit)
    return _orders_shown(connection, shop_id, found)


def _people(connection: Connection, shop_id: int, customer_id: int) -> list[int]:
    return [customer_id, *merged_into(connection, shop_id, customer_id)]


def _named(search: str) -> dict[str, Any]:
    """An order as a person names it: `#1001`, `1001`, a long number, a gid."""
    name = search.strip().lower()
    return {"id": id_in(search) or 0, "names": sorted({name, "#" + name.removeprefix("#")})}


def id_in(search: str) -> int | None:
    """Shopify's number, as digits or inside a gid."""
    found = ID.fullmatch(search.strip())
    return int(found[1]) if found and int(found[1]) <= ID_MAX else None


def _orders_shown(connection: Connection, shop_id: int, rows: Sequence[Row[Any]]) -> list[dict[str, Any]]:
    program = programs_of(connection, shop_id)[-1]
    ids = [row.order_id for row in rows]
    awarded = _by(connection, AWARDED, shop_id, ids, "order_id")
    redeemed = _by(connection, REDEEMED, shop_id, ids, "order_id")
    return [
        {
            "id": str(row.order_id),
            "name": row.name,
            "placed_at": _time(row.placed_at),
            "status": row.status,
            "customer_id": None if row.customer_id is None else str(row.customer_id),
            "total": _money(row.total_minor, row.currency),
            "refunded": _money(row.refunded_minor, row.currency),
            "currency": row.currency,
            **_points(POINTS_OF_ORDER, (awarded.get(row.order_id), redeemed.get(row.order_id)), program),
            "flags": row.flags,
        }
        for row in rows
    ]


def _points(names: Sequence[str], rows: Sequence[Row[Any] | None], program: Program) -> dict[str, Any]:
    """Each of these sums, from whichever row has it; 0 where there is no row."""
    known: dict[str, int] = {}
    for row in rows:
        known |= {} if row is None else dict(row._mapping)
    return {name: points(known.get(name, 0), program) for name in names}


# -- customers ---------------------------------------------------------------------------------------

# The newest entries of the shop are read as they lie, so no index has to move whenever a wallet does.
RECENT = 2_000
RECENTLY = text(
    "select customer_id, max(id) as last, max(booked_at) as booked_at from (select id, customer_id, booked_at"
    f"  from activity where shop_id = :shop_id order by id desc limit {RECENT}) recent"
    " where customer_id is not null and not exists (select from customer_aliases m"
    "  where m.shop_id = :shop_id and m.customer_id = recent.customer_id)"
    " group by 1 having max(id) < :before order by last desc limit :limit"
)
OTHERS = text(
    "select w.customer_id, (select a.booked_at from activity a where a.shop_id = w.shop_id"
    "   and a.customer_id = w.customer_id order by a.id desc limit 1) as booked_at"
    " from wallets w where w.shop_id = :shop_id and w.customer_id < :before"
    " and not exists (select from activity a where a.shop_id = w.shop_id and a.customer_id = w.customer_id and a.id >="
    "  (select min(id) from (select id from activity where shop_id = :shop_id"
    f"   order by id desc limit {RECENT}) recent))"
    " and not exists (select from customer_aliases m where m.shop_id = w.shop_id and m.customer_id = w.customer_id)"
    " order by w.customer_id desc limit :limit"
)
LAST_ENTRY_OF = text(
    "select booked_at from activity where shop_id = :shop_id and customer_id = :id order by id desc limit 1"
)
WALLETS = text(
    "select customer_id, balance, pending, debt, tier, pinned_tier, orders from wallets"
    " where shop_id = :shop_id and customer_id = any(cast(:ids as bigint[]))"
)
OTHERS_FROM = 1 << 62  # cursors above are of customers, those below of entries, whose ids never get there


def customers(
    connection: Connection,
    shop_id: int,
    *,
    search: str | None = None,
    hasher: Hasher | None = None,
    cursor: int | None = None,
    limit: int = LIMIT,
) -> Page:
    """Customers to whom one of the last RECENT things happened, the latest first; after them all others, those whom
    Shopify has known for the shortest time first. So a page costs the same however many there are.

    search: Shopify's id, or a whole e-mail address or telephone number, which is looked up by its keyed hash; without a
    `hasher` those find nobody. Nothing of it is kept.
    """
    if search:
        known = _found(connection, shop_id, search, hasher)
        return Page(rows=_customers_shown(connection, shop_id, known), cursor=None)
    wanted, others = limit + 1, cursor is not None and cursor > OTHERS_FROM
    rows = [] if others else _recently(connection, shop_id, cursor, wanted)
    if len(rows) < wanted:
        below = cursor - OTHERS_FROM if cursor and others else ID_MAX
        rows += _others(connection, shop_id, below, wanted - len(rows))
    known = {customer: at for _, customer, at in rows[:limit]}
    return Page(
        rows=_customers_shown(connection, shop_id, known),
        cursor=rows[limit - 1][0] if len(rows) > limit else None,
    )


Last = tuple[
    int, int, datetime | None
]  # the cursor after it, the customer, when something was told of them last


def _recently(connection: Connection, shop_id: int, cursor: int | None, limit: int) -> list[Last]:
    found = sql.fetch(connection, RECENTLY, shop_id=shop_id, before=cursor or ID_MAX, limit=limit)
    return [(row.last, row.customer_id, row.booked_at) for row in found]


def _others(connection: Connection, shop_id: int, below: int, limit: int) -> list[Last]:
    found = sql.fetch(connection, OTHERS, shop_id=shop_id, before=below, limit=limit)
    return [(OTHERS_FROM + row.customer_id, row.customer_id, row.booked_at) for row in found]


def _found(
    connection: Connection, shop_id: int, search: str, hasher: Hasher | None
) -> dict[int, datetime | None]:
    """Who is meant: by number first, then by address or telephone; merged customers are who they are now (R33)."""
    meant = [id_in(search), *(_known_by(connection, shop_id, search, hasher) if hasher else ())]
    for id in (id for id in meant if id is not None):
        now = survivor(connection, shop_id, id)
        if sql.fetch(connection, WALLETS, shop_id=shop_id, ids=[now]):
            last = sql.fetch(connection, LAST_ENTRY_OF, shop_id=shop_id, id=now)
            return {now: last[0].booked_at if last else None}
    return {}


def _known_by(connection: Connection, shop_id: int, search: str, hasher: Hasher) -> list[int | None]:
    kind: identifiers.Kind = "EMAIL" if "@" in search else "PHONE"
    form = identifiers.normal(kind, search.strip())
    if form is None:
        return []
    return [identifiers.customer_known_by(connection, shop_id, kind, hasher.digest(kind, form))]


def _customers_shown(
    connection: Connection, shop_id: int, last: Mapping[int, datetime | None]
) -> list[dict[str, Any]]:
    program = programs_of(connection, shop_id)[-1]
    wallets = _by(connection, WALLETS, shop_id, list(last), "customer_id")
    return [
        {
            "id": str(id),
            **{name: points(getattr(wallet, name), program) for name in ("balance", "pending", "debt")},
            "tier": wallet.tier,
            "tier_pinned": wallet.pinned_tier is not None,
            "orders_count": max(0, wallet.orders),
            "last_activity_at": _time(at),
        }
        for id, at in last.items()
        if (wallet := wallets.get(id)) is not None
    ]


# -- redemptions -------------------------------------------------------------------------------------

WITH_STATUS = {"": "true", **BY_USE}
OF_REDEMPTION = (
    "id, customer_id, reward_id, kind, amount, code, code_state, at, order_id, returned, credited, expired,"
    " restitution, ended"
)
REDEMPTIONS: Mapping[str, TextClause] = {
    status: text(
        f"select {OF_REDEMPTION} from redemptions where shop_id = :shop_id and id < :before and {condition}"
        " order by id desc limit :limit"
    )
    for status, condition in WITH_STATUS.items()
}
REDEMPTIONS_OF = text(
    f"select {OF_REDEMPTION} from redemptions where shop_id = :shop_id"
    " and customer_id = any(cast(:people as bigint[])) order by id desc limit :limit"
)
REDEMPTIONS_FOUND: Mapping[str, TextClause] = {
    status: text(
        f"select {OF_REDEMPTION} from redemptions where shop_id = :shop_id and id < :before and {condition}"
        " and id in (select cast(:id as bigint) union select c.redemption_id from redemption_codes c"
        "   where c.shop_id = :shop_id and c.code_key = :code)"
        " order by id desc limit :limit"
    )
    for status, condition in WITH_STATUS.items()
}


def redemptions(
    connection: Connection,
    shop_id: int,
    *,
    search: str | None = None,
    status: str | None = None,
    cursor: int | None = None,
    limit: int = LIMIT,
) -> Page:
    """Redemptions, the latest first, each with what decides how it is cancelled (R34) as `reward_status`.

    search: a discount code or a redemption's id, whole     status: one of REWARD_STATUSES, by what the row says of its use
    """
    asked: dict[str, Any] = {"shop_id": shop_id, "before": cursor or ID_MAX, "limit": limit + 1}
    if search:
        meant = {"id": id_in(search) or 0, "code": search.strip().casefold()}
        found = sql.fetch(connection, REDEMPTIONS_FOUND[status or ""], **asked, **meant)
    else:
        found = sql.fetch(connection, REDEMPTIONS[status or ""], **asked)
    return _page(found, limit, "id", _redemptions_shown(connection, shop_id, found[:limit]))


def redemptions_of(
    connection: Connection, shop_id: int, customer_id: int, *, limit: int = OF_ONE
) -> list[dict[str, Any]]:
    """A customer's latest redemptions."""
    people = _people(connection, shop_id, customer_id)
    found = sql.fetch(connection, REDEMPTIONS_OF, shop_id=shop_id, people=people, limit=limit)
    return _redemptions_shown(connection, shop_id, found)


def _redemptions_shown(
    connection: Connection, shop_id: int, rows: Sequence[Row[Any]]
) -> list[dict[str, Any]]:
    program = programs_of(connection, shop_id)[-1]
    decided = verdicts(connection, shop_id, [row.id for row in rows])
    return [
        {
            "id": str(row.id),
            "customer_id": str(row.customer_id),
            "reward": row.reward_id,
            "reward_name": _reward_name(program, row.reward_id),
            "kind": row.kind,
            "amount": points(row.amount, program),
            "code": row.code,
            "code_state": row.code_state,
            "at": row.at.isoformat(),
            "order_id": None if row.order_id is None else str(row.order_id),
            "returned": points(row.returned, program),
            "credited": points(row.credited, program),
            "expired": points(row.expired, program),
            "restitution": row.restitution,
            "ended": row.ended,
            "reward_status": decided[row.id].state,
            "needs_force": decided[row.id].needs_force,
            "can_refund": decided[row.id].refusal is None or decided[row.id].needs_force,
            "message": decided[row.id].message,
        }
        for row in rows
    ]


def _reward_name(program: Program, id: str) -> str | None:
    """The reward's name in the program in force; None for one that it does not have (`custom` never had one)."""
    reward = program.rewards.get(id)
    return None if reward is None else reward.name


# -- steps -------------------------------------------------------------------------------------------


def _page(found: Sequence[Row[Any]], limit: int, key: str, rows: Sequence[dict[str, Any]]) -> Page:
    """One row more than wanted was asked for: it tells that there are others, and is left to the next page."""
    return Page(rows=rows, cursor=getattr(found[limit - 1], key) if len(found) > limit else None)


def _by(
    connection: Connection, statement: TextClause, shop_id: int, ids: list[int], key: str
) -> dict[int, Row[Any]]:
    found = sql.fetch(connection, statement, shop_id=shop_id, ids=ids) if ids else ()
    return {getattr(row, key): row for row in found}


def _money(minor: int | None, currency: str | None) -> str | None:
    return None if minor is None or currency is None else from_minor(minor, currency)


def _time(at: datetime | None) -> str | None:
    return None if at is None else at.isoformat()
