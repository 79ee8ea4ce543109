"""Everything again from the record: each order planned anew, each wallet folded from its beginning (R0, R40)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any

from sqlalchemy import Connection, text

from models.rules.plan import OrderPlan, plan
from models.rules.wallet import SPEND, Fold, WalletState, fold
from tasks.steps import sql
from tasks.steps.counting import WHAT, counted_of, expected_tier, openings
from tasks.steps.load import World, load_books, load_orders, load_redemptions, open_world, redemptions_on
from tasks.steps.settle import award_rows, returns_of
from tasks.steps.shops import by_id
from tasks.steps.timeline import RESULTS, Item, compare, event_key, event_of, items_of, reversal_items

PAGE = 500

SHOPS = text("select id from shops where cast(:shop_id as int) is null or id = :shop_id order by id")
ORDER_IDS = text(
    "select order_id from orders where shop_id = :shop_id and order_id > :after order by order_id limit :page"
)
CUSTOMER_IDS = text(
    "select customer_id from wallets where shop_id = :shop_id and customer_id > :after order by customer_id limit :page"
)
REVERSED_IDS = text(
    "select distinct redemption_id from reversals where shop_id = :shop_id and redemption_id > :after"
    " order by redemption_id limit :page"
)
WALLETS = text("select * from wallets where shop_id = :shop_id and customer_id = any(:ids)")
TIMELINES = text("select * from timeline where shop_id = :shop_id and customer_id = any(:ids)")
LOTS = text("select * from lots where shop_id = :shop_id and customer_id = any(:ids)")
SUMS = text(
    "select customer_id, lot, sum(amount)::bigint as amount from entries"
    " where shop_id = :shop_id and customer_id = any(:ids) group by 1, 2"
)
DAYS = text(
    "select customer_id, sum(spend_minor)::bigint as spend_minor, sum(orders)::bigint as orders, sum(points)::bigint as points"
    " from customer_days where shop_id = :shop_id and customer_id = any(:ids) group by 1"
)
TOLD = text(  # what the days are the sums of: orders, and what was imported
    "select customer_id, sum(spend_minor)::bigint as spend_minor, sum(orders)::bigint as orders, sum(points)::bigint as points"
    " from (select customer_id, (counted ->> 'spend_minor')::bigint as spend_minor, (counted ->> 'orders')::bigint as orders,"
    "  (counted ->> 'points')::bigint as points from orders"
    "  where shop_id = :shop_id and customer_id = any(:ids) and counted <> '{}'"
    "  union all select customer_id, spend_minor, orders, points from opening_days"
    "  where shop_id = :shop_id and customer_id = any(:ids)) told group by 1"
)
BACK = text(
    "select r.id, r.returned, r.credited, r.expired, coalesce(sum(t.amount), 0)::bigint as t_returned,"
    " coalesce(sum(t.moved), 0)::bigint as t_credited, coalesce(sum(t.expired), 0)::bigint as t_expired"
    " from redemptions r left join timeline t on t.shop_id = r.shop_id and t.redemption_id = r.id and t.kind = 3 and t.folded"
    " where r.shop_id = :shop_id group by r.shop_id, r.id"
)
SPENT = text(  # what a redemption cost, beside who gave it and what left their wallets (R20)
    "select r.id, r.amount, coalesce(m.amount, 0)::bigint as given, coalesce(t.amount, 0)::bigint as spent"
    " from redemptions r left join (select redemption_id, sum(amount) as amount from redemption_members"
    "  where shop_id = :shop_id group by 1) m on m.redemption_id = r.id"
    " left join (select redemption_id, sum(amount) as amount from timeline"
    "  where shop_id = :shop_id and kind = :spend group by 1) t on t.redemption_id = r.id"
    " where r.shop_id = :shop_id and (m.amount is distinct from r.amount or t.amount is distinct from r.amount)"
    " order by r.id"
)
UNASKED = text(  # codes that are to come back, and nobody is asked to give them back (R23)
    "select r.id, w.state from redemptions r left join outbox w on w.shop_id = r.shop_id"
    "  and w.key = 'reactivate:' || r.id || ':' || (r.reactivations + 1)"
    " where r.shop_id = :shop_id and r.reactivation = 'wanted' and (w.state in ('pending', 'leased')"
    "  or w.state = 'failed' and jsonb_exists(w.payload, 'sent')) is not true"  # sent, so it waits for a retry
    " order by r.id"
)


@dataclass(frozen=True, slots=True)
class Difference:
    """Where the books are other than the record says. `what` names the value; ids are Shopify's."""

    shop: str
    kind: str
    id: str
    what: str
    expected: str
    found: str


def verify(connection: Connection, shop_id: int | None = None) -> list[Difference]:
    """Recompute every award, claim, return, redemption, lot, balance and tier; changes nothing. Empty when all is right."""
    differences: list[Difference] = []
    for id in connection.execute(SHOPS, {"shop_id": shop_id}).scalars().all():
        world = open_world(connection, by_id(connection, id), datetime.now(UTC), read_only=True)
        for page in _pages(connection, ORDER_IDS, id):
            differences += _orders(world, page)
        for page in _pages(connection, CUSTOMER_IDS, id):
            differences += _wallets(world, page)
        for page in _pages(connection, REVERSED_IDS, id):
            differences += _reversals(world, page)
        differences += _redemptions(world)
    return differences


def _pages(connection: Connection, statement: Any, shop_id: int) -> Iterable[list[int]]:
    after = -1
    while True:
        key = {"shop_id": shop_id, "after": after, "page": PAGE}
        page = list(connection.execute(statement, key).scalars())
        if not page:
            return
        yield page
        after = page[-1]


def _orders(world: World, ids: Sequence[int]) -> Iterable[Difference]:
    """Plan each order of a page from its facts, and compare with what stands."""
    own = open_world(world.connection, world.shop, world.now, read_only=True)
    load_orders(own, ids)
    load_redemptions(own)
    load_books(own, ())
    used = redemptions_on(own)
    plans = [plan(own.orders[id], programs=own.programs, redemptions=used[id]) for id in ids]
    known = openings(own, plans)
    for made in plans:
        yield from _timeline_of(own, made)
        yield from _awards_of(own, made)
        yield from _order_row(own, made, known)
        yield from _restitutions_of(own, made)


def _reversals(world: World, ids: Sequence[int]) -> Iterable[Difference]:
    """What merchants gave back by hand of a page of redemptions, beside what stands (R34, R35)."""
    own = open_world(world.connection, world.shop, world.now, read_only=True)
    load_redemptions(own, ids)
    load_books(own, ())
    used = redemptions_on(own)
    plans = {id: plan(order, programs=own.programs, redemptions=used[id]) for id, order in own.orders.items()}
    stored = [dict(row._mapping) for row in own.timeline if row.order_id is None]
    yield from _rows_of("redemption", own, stored, reversal_items(returns_of(own, plans), world.shop.id))


def _timeline_of(world: World, made: OrderPlan) -> Iterable[Difference]:
    id = made.order.order_id
    stored = [dict(row._mapping) for row in world.timeline if row.order_id == id]
    yield from _rows_of("order", world, stored, items_of(made, world.shop.id))


def _rows_of(kind: str, world: World, stored: Sequence[Item], wanted: Sequence[Item]) -> Iterable[Difference]:
    """Timeline rows as they stand beside those that should."""
    changes = compare(stored, wanted)
    for key, row in changes.new.items():
        before = changes.old.get(key)
        found = "nothing" if before is None else str(before["amount"])
        yield _difference(world, kind, row[f"{kind}_id"], _what(row), row["amount"], found)
    for row in changes.gone.values():
        yield _difference(world, kind, row[f"{kind}_id"], _what(row), "nothing", row["amount"])


def _what(row: Item) -> str:
    return f"{row['cause']} on {row['target']}"


def _awards_of(world: World, made: OrderPlan) -> Iterable[Difference]:
    id = made.order.order_id
    wanted = award_rows(world, {id: made})
    stored = {key: row for key, row in world.awards.items() if key[0] == id}
    for key in sorted({*wanted, *stored}):
        if key not in stored or key not in wanted:
            found = "nothing" if key not in stored else stored[key].amount
            yield _difference(world, "order", id, f"award {key[1]}", "other", found)
            continue
        expected = {**wanted[key], "reversed": made.reversed_of(key[1])}
        for name, value in expected.items():
            if stored[key]._mapping[name] != value:
                yield _difference(
                    world, "order", id, f"award {key[1]} {name}", value, stored[key]._mapping[name]
                )


def _order_row(world: World, made: OrderPlan, known: Mapping[int, datetime]) -> Iterable[Difference]:
    id = made.order.order_id
    row = world.stored[id]
    expected = {
        "status": made.status,
        "refunded_minor": made.refunded,
        "flags": made.flags,
        "counted": counted_of(made, world.programs, known),
    }
    for name, value in expected.items():
        if row._mapping[name] != value:
            yield _difference(world, "order", id, name, value, row._mapping[name])


def _restitutions_of(world: World, made: OrderPlan) -> Iterable[Difference]:
    """How the benefit of each redemption that stands for this order came back (R21)."""
    for redemption in made.redemptions:
        if redemption.held:
            row = world.redemptions[redemption.id]
            expected = {
                "order_id": made.order.order_id,
                "restitution": made.restitution.get(redemption.id, "none"),
            }
            for name, value in expected.items():
                if row._mapping[name] != value:
                    yield _difference(world, "redemption", redemption.id, name, value, row._mapping[name])


def _wallets(world: World, ids: Sequence[int]) -> Iterable[Difference]:
    """Fold each wallet of a page from the beginning, and compare with what stands."""
    key = {"shop_id": world.shop.id, "ids": list(ids)}
    rows, lots, sums = _by(world, TIMELINES, key), _by(world, LOTS, key), _by(world, SUMS, key)
    days = {row.customer_id: row for row in sql.fetch(world.connection, DAYS, **key)}
    told = {row.customer_id: row for row in sql.fetch(world.connection, TOLD, **key)}
    for wallet in sql.fetch(world.connection, WALLETS, **key):
        id = wallet.customer_id
        timeline = rows.get(id, [])
        due = [r for r in timeline if not r.reduces_pending and r.at <= wallet.folded_until]
        made = fold(WalletState(), [event_of(r._mapping) for r in due], wallet.folded_until)
        yield from _lots_of(world, id, made, lots.get(id, []), sums.get(id, []))
        yield from _results_of(world, id, made, timeline, wallet.folded_until)
        yield from _wallet_row(world, wallet, made, timeline, _numbers(told.get(id)))
        for name, value in _numbers(told.get(id)).items():
            if _numbers(days.get(id))[name] != value:
                yield _difference(world, "customer", id, f"days {name}", value, _numbers(days.get(id))[name])


def _by(world: World, statement: Any, key: dict[str, Any]) -> dict[int, list[Any]]:
    found: dict[int, list[Any]] = {}
    for row in sql.fetch(world.connection, statement, **key):
        found.setdefault(row.customer_id, []).append(row)
    return found


def _lots_of(
    world: World, id: int, made: Fold, lots: Sequence[Any], sums: Sequence[Any]
) -> Iterable[Difference]:
    stored = {lot.lot: (lot.remainder, lot.expires_at) for lot in lots if lot.remainder}
    wanted = {lot.lot: (lot.remainder, lot.expires_at) for lot in made.state.lots.values() if lot.remainder}
    posted = {row.lot: row.amount for row in sums}
    for name in sorted({*stored, *wanted}):
        if stored.get(name) != wanted.get(name):
            yield _difference(world, "customer", id, f"lot {name}", wanted.get(name), stored.get(name))
    for lot in lots:
        if posted.get(lot.lot, 0) != lot.remainder:
            yield _difference(
                world, "customer", id, f"entries of lot {lot.lot}", posted.get(lot.lot, 0), lot.remainder
            )


def _results_of(
    world: World, id: int, made: Fold, timeline: Sequence[Any], until: datetime
) -> Iterable[Difference]:
    for row in timeline:
        result = made.results.get(event_key(row._mapping))
        if result is None:
            if row.folded != row.reduces_pending:
                yield _difference(
                    world, "customer", id, f"{row.cause} on {row.target} folded", False, row.folded
                )
            continue
        wanted = (result.moved, result.short, result.expired, result.debt_change, True)
        found = tuple(row._mapping[name] for name in RESULTS)
        if found != wanted:
            yield _difference(world, "customer", id, f"{row.cause} on {row.target}", wanted, found)


def _wallet_row(
    world: World, wallet: Any, made: Fold, timeline: Sequence[Any], sums: Mapping[str, int]
) -> Iterable[Difference]:
    expected = {
        "balance": made.state.balance,
        "debt": made.state.debt,
        "pending": sum(row.amount for row in timeline if row.kind == 2 and not row.folded),
        **sums,
        "tier": expected_tier(world, wallet),
    }
    for name, value in expected.items():
        if wallet._mapping[name] != value:
            yield _difference(world, "customer", wallet.customer_id, name, value, wallet._mapping[name])


def _numbers(row: Any) -> dict[str, int]:
    return {name: 0 if row is None else getattr(row, name) for name in WHAT}


def _redemptions(world: World) -> Iterable[Difference]:
    for row in sql.fetch(world.connection, BACK, shop_id=world.shop.id):
        wanted = (row.t_returned, row.t_credited, row.t_expired)
        found = (row.returned, row.credited, row.expired)
        if wanted != found:
            yield _difference(world, "redemption", row.id, "returned, credited, expired", wanted, found)
    for row in sql.fetch(world.connection, SPENT, shop_id=world.shop.id, spend=SPEND):
        whole, parts = (row.amount, row.amount), (row.given, row.spent)
        yield _difference(world, "redemption", row.id, "given by its members, spent", whole, parts)
    for row in sql.fetch(world.connection, UNASKED, shop_id=world.shop.id):
        yield _difference(
            world, "redemption", row.id, "asked to come back", "pending", row.state or "nothing"
        )


def _difference(world: World, kind: str, id: int, what: str, expected: object, found: object) -> Difference:
    return Difference(world.shop.domain, kind, str(id), what, str(expected), str(found))
