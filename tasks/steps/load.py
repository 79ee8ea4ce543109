"""Lock, then read: the orders, redemptions and wallets that a piece of work touches, in as few sets as possible.

Lock order everywhere: the shop's customers, code locks, order rows by id, wallet rows by id. READ COMMITTED: what is read after a lock
is what stands.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound
from models.rules.facts import Transaction
from models.rules.order import KnownRefund, OrderFacts
from models.rules.plan import Redemption, Reversal
from models.rules.program import Program
from tasks.steps import sql
from tasks.steps.codec import order_facts, refund_fact
from tasks.steps.programs import standing_of
from tasks.steps.survivors import hold, survivors
from tasks.steps.timeline import Item

LOCK_CODES = text(
    "select pg_advisory_xact_lock(hashtextextended(code, :shop_id))"
    " from unnest(cast(:codes as text[])) as c(code) order by code"
)
OPEN_ORDERS = text(
    "insert into orders (shop_id, order_id, facts, status, refunded_minor, flags, counted)"
    " select :shop_id, id, '{}', 'unknown', 0, '[]', '{}' from unnest(cast(:ids as bigint[])) as o(id)"
    " on conflict do nothing"
)
READ_ORDERS = (
    "select order_id, facts, customer_id, status, refunded_minor, flags, counted, name, currency, placed_at, total_minor"
    " from orders where shop_id = :shop_id and order_id = any(:ids) order by order_id"
)
READ_ORDERS_ONLY = text(READ_ORDERS)
LOCK_ORDERS = text(READ_ORDERS + " for no key update")
REFUNDS = text(
    "select refund_id, order_id, facts, undone, value_minor, reasons, policy_version from refunds where shop_id = :shop_id and order_id = any(:ids)"
)
DECIDED = ("value_minor", "reasons", "policy_version")
TRANSACTIONS = text(
    "select transaction_id, order_id, refund_id, kind, status, amount_minor, currency, shop_amount_minor, at"
    " from transactions where shop_id = :shop_id and order_id = any(:ids)"
)
REDEMPTION = (
    "select r.*, (select jsonb_agg(jsonb_build_array(m.customer_id, m.amount) order by m.customer_id)"
    " from redemption_members m where m.shop_id = r.shop_id and m.redemption_id = r.id) as members,"
    " (select jsonb_agg(c.code_key order by c.n) from redemption_codes c"
    " where c.shop_id = r.shop_id and c.redemption_id = r.id) as codes,"
    " (select (w.payload ->> 'order_id')::bigint from outbox w where w.shop_id = r.shop_id"
    "  and w.key = 'reactivate:' || r.id || ':' || (r.reactivations + 1)"
    "  and w.state <> 'done' and jsonb_exists(w.payload, 'sent')) as sent_for,"
    " (select jsonb_agg(jsonb_build_array(v.id, v.at, v.amount, v.kind, v.code, v.undone_at is null) order by v.id)"
    "  from reversals v where v.shop_id = r.shop_id and v.redemption_id = r.id) as reversals"
    " from redemptions r where r.shop_id = :shop_id and r.id"
)
REDEMPTIONS = text(
    f"{REDEMPTION} in (select redemption_id from redemption_codes where shop_id = :shop_id and code_key = any(:codes))"
)
REDEMPTIONS_BY_ID = text(f"{REDEMPTION} = any(:ids)")
CODES_BEHIND = text(
    "select distinct c.code_key from order_codes o"
    " join redemption_codes n on n.shop_id = o.shop_id and n.code_key = o.code"
    " join redemption_codes c on c.shop_id = n.shop_id and c.redemption_id = n.redemption_id"
    " where o.shop_id = :shop_id and o.order_id = any(:ids)"
)
SIBLINGS = text(
    "select distinct order_id from order_codes where shop_id = :shop_id and code = any(:codes)"
    " and not order_id = any(:ids)"
)
OPEN_WALLETS = text(
    "insert into wallets (shop_id, customer_id, folded_until)"
    " select :shop_id, id, '1900-01-01T00:00Z' from unnest(cast(:ids as bigint[])) as w(id) on conflict do nothing"
)
LOCK_WALLETS = text(
    "select customer_id, balance, debt, pending, folded_until, spend_minor, orders, points, tier, pinned_tier, tier_checked_at"
    " from wallets where shop_id = :shop_id and customer_id = any(:ids) order by customer_id for no key update"
)
TIMELINE_OF_REVERSALS = text(
    "select * from timeline where shop_id = :shop_id and redemption_id = any(:ids) and kind = 3"
    " and order_id is null and cause like 'reversal:%'"
)
TIMELINE_OF_ORDERS = text("select * from timeline where shop_id = :shop_id and order_id = any(:ids)")
AWARDS_OF_ORDERS = text("select * from awards where shop_id = :shop_id and order_id = any(:ids)")


@dataclass(slots=True)
class ShopRow:
    id: int
    domain: str
    currency: str | None


@dataclass(frozen=True, slots=True)
class Moving:
    """A merge at work (R33): `customer`'s rows that no order asks for, as they stand and as `survivor` shall have them."""

    customer: int
    survivor: int
    stood: Sequence[Item]
    stand: Sequence[Item]
    cause: str

    @property
    def causes(self) -> dict[int, str]:
        return {self.customer: self.cause, self.survivor: self.cause}


@dataclass(slots=True)
class World:
    """What is locked and known of one shop while its books are worked on.

    tells: somebody outside is told of what happens (tasks/steps/messages.py)
    has_history: what some customers bought before was imported (tasks/steps/counting.py)
    why: cause -> the merchant's words for it, where he gave some
    """

    connection: Connection
    shop: ShopRow
    programs: list[Program]
    now: datetime
    read_only: bool = False
    any_merged: bool = True
    tells: bool = False
    has_history: bool = False
    why: dict[str, str] = field(default_factory=dict)
    aliases: dict[int, int] = field(default_factory=dict)
    looked_up: set[int] = field(default_factory=set)
    moving: Moving | None = None
    orders: dict[int, OrderFacts] = field(default_factory=dict)
    stored: dict[int, Row[Any]] = field(default_factory=dict)
    refunds_stored: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    refunds_decided: dict[int, Mapping[str, Any]] = field(default_factory=dict)
    transactions_stored: dict[tuple[int, int], Transaction] = field(default_factory=dict)
    redemptions: dict[int, Row[Any]] = field(default_factory=dict)
    wallets: dict[int, Row[Any]] = field(default_factory=dict)
    timeline: list[Row[Any]] = field(default_factory=list)
    awards: dict[tuple[int, str], Row[Any]] = field(default_factory=dict)


def open_world(connection: Connection, shop: ShopRow, now: datetime, *, read_only: bool = False) -> World:
    """The shop's books, opened. Nobody is merged at the shop while they are (R33), unless they are only looked at."""
    any_merged = read_only or hold(connection, shop.id)
    programs, tells, has_history = standing_of(connection, shop.id)
    return World(connection, shop, programs, now, read_only, any_merged, tells, has_history)


def lock_codes(world: World, codes: Iterable[str]) -> None:
    """One at a time for each code: an order that uses it and the redemption that made it must see each other."""
    wanted = sorted(set(codes))
    if wanted:
        world.connection.execute(LOCK_CODES, {"shop_id": world.shop.id, "codes": wanted})


def load_orders(world: World, ids: Iterable[int]) -> None:
    """Read the orders' facts, locked unless the world is only looked at; unknown ones are opened empty (R28)."""
    wanted = sorted(set(ids) - set(world.orders))
    if not wanted:
        return
    key = {"shop_id": world.shop.id, "ids": wanted}
    if not world.read_only:
        world.connection.execute(OPEN_ORDERS, key)
    for row in sql.fetch(world.connection, READ_ORDERS_ONLY if world.read_only else LOCK_ORDERS, **key):
        world.stored[row.order_id] = row
        order = world.orders[row.order_id] = order_facts(row.order_id, row.facts)
        order.aliases = world.aliases
    for row in sql.fetch(world.connection, REFUNDS, **key):
        _take_refund(world, row)
    for row in sql.fetch(world.connection, TRANSACTIONS, **key):
        transaction = _transaction(row)
        world.orders[row.order_id].transactions[row.transaction_id] = transaction
        world.transactions_stored[row.order_id, row.transaction_id] = transaction


def load_order(world: World, order_id: int) -> OrderFacts:
    """One order that a person asks about, and its redemptions: locked after their codes, so that two who ask about two
    orders of one code wait for each other instead of both. Raises NotFound while Shopify has not told of it (R28)."""
    key = {"shop_id": world.shop.id, "ids": [order_id]}
    lock_codes(world, world.connection.execute(CODES_BEHIND, key).scalars())
    load_orders(world, [order_id])
    if world.orders[order_id].placed is None:
        raise NotFound("order", order_id)
    load_redemptions(world)
    return world.orders[order_id]


def load_redemptions(world: World, ids: Iterable[int] = ()) -> None:
    """These redemptions and those whose codes the orders carry, every order that carries one of their codes, and so on.

    An order is planned with all its redemptions or not at all: one that is left out would be taken for unused.
    """
    asked: set[str] = set()
    if named := sorted(set(ids) - set(world.redemptions)):
        rows = sql.fetch(world.connection, REDEMPTIONS_BY_ID, shop_id=world.shop.id, ids=named)
        world.redemptions |= {row.id: row for row in rows}
        _load_carriers(world)
    while codes := _codes(world) - asked:
        asked |= codes
        rows = sql.fetch(world.connection, REDEMPTIONS, shop_id=world.shop.id, codes=sorted(codes))
        if not rows:
            break
        world.redemptions |= {row.id: row for row in rows}
        _load_carriers(world)
    know_customers(world)


def _load_carriers(world: World) -> None:
    """Every order that carries a code of a redemption at hand."""
    redeemed = sorted({code for row in world.redemptions.values() for code in row.codes or ()})
    known = sorted(world.orders)
    siblings = sql.fetch(world.connection, SIBLINGS, shop_id=world.shop.id, codes=redeemed, ids=known)
    load_orders(world, (row.order_id for row in siblings))


def know_customers(world: World) -> None:
    """Look up who the customers that the orders name are now (R33); nothing is asked where nobody was ever merged."""
    named = {order.told_id for order in world.orders.values() if order.told_id is not None}
    if world.any_merged and (new := named - world.looked_up):
        world.looked_up |= new
        world.aliases.update(survivors(world.connection, world.shop.id, new))


def _codes(world: World) -> set[str]:
    return {code for order in world.orders.values() if order.placed for code in order.placed.codes}


def load_books(world: World, customers: Iterable[int]) -> None:
    """What stands of the orders, then the wallets of everyone concerned, locked in id order."""
    if not world.read_only:
        lock_wallets(world, {*customers, *customers_booked(world)})
    key = {"shop_id": world.shop.id, "ids": sorted(world.orders)}
    world.timeline = list(sql.fetch(world.connection, TIMELINE_OF_ORDERS, **key))
    others = {row.customer_id for row in world.timeline} - set(world.wallets)
    if others and not world.read_only:  # an order that no longer carries the code of a redemption
        lock_wallets(world, others)
        world.timeline = list(sql.fetch(world.connection, TIMELINE_OF_ORDERS, **key))
    if by_hand := sorted(row.id for row in world.redemptions.values() if row.reversals):
        reversed = sql.fetch(world.connection, TIMELINE_OF_REVERSALS, shop_id=world.shop.id, ids=by_hand)
        world.timeline += reversed
    for row in sql.fetch(world.connection, AWARDS_OF_ORDERS, **key):
        world.awards[row.order_id, row.target] = row


def lock_wallets(world: World, ids: Iterable[int]) -> None:
    """Open and lock wallets, in id order."""
    wanted = sorted(set(ids) - set(world.wallets))
    if wanted:
        key = {"shop_id": world.shop.id, "ids": wanted}
        world.connection.execute(OPEN_WALLETS, key)
        for row in sql.fetch(world.connection, LOCK_WALLETS, **key):
            world.wallets[row.customer_id] = row


def redemptions_on(world: World) -> Mapping[int, list[Redemption]]:
    """Order id -> the redemptions used on it.

    A redemption stands for one use at a time: the first, by the order's time, that was not given back as a code (R22);
    as long as nobody knows whether the code of a use came back, for that one.
    """
    used: dict[int, list[Redemption]] = {id: [] for id in world.orders}
    for row in world.redemptions.values():
        uses = _uses_of(world, row.codes or ())
        standing = open_uses(world, row)
        sent_for = row.sent_for if row.sent_for in standing else None
        held = sent_for or next(iter(standing or reversed(uses)), None)
        for order_id, code_key in uses.items():
            if order_id == held or order_id not in standing:
                fact = redemption_fact(row, code_key, used_elsewhere=len(standing) > 1)
                fact = replace(fact, in_flight=order_id == sent_for)
                used[order_id].append(_in_use(fact, held=order_id == held, open_use=order_id in standing))
    return used


def open_uses(world: World, row: Row[Any]) -> list[int]:
    """The orders that carry a code of this redemption and whose use was not given back, first placed first (D16c)."""
    uses = _uses_of(world, row.codes or ())
    return [id for id in uses if str(id) not in row.reactivated_orders]


def _uses_of(world: World, codes: Sequence[str]) -> Mapping[int, str]:
    """The orders that carry one of these codes, first placed first, and which code each carries."""
    carriers = sorted(
        (order.placed.placed_at, order.order_id, code)
        for order in world.orders.values()
        if order.placed is not None
        for code in codes
        if code in order.placed.codes
    )
    return {order_id: code for _, order_id, code in carriers}


def _in_use(fact: Redemption, *, held: bool, open_use: bool) -> Redemption:
    """The redemption as one of its uses sees it: a use that was given back stays so (R23), a new one starts afresh."""
    if not held:
        fact = replace(fact, reversals=())
    if not open_use:
        return replace(fact, reactivation="done", held=held)
    return (
        replace(fact, reactivation="none") if fact.reactivation == "done" and fact.was_reactivated else fact
    )


def unused_redemptions(world: World) -> list[Redemption]:
    """The redemptions at hand that no order carries."""
    return [
        redemption_fact(row, None, used_elsewhere=False)
        for row in world.redemptions.values()
        if not _uses_of(world, row.codes or ())
    ]


def redemption_fact(row: Row[Any], code_key: str | None, *, used_elsewhere: bool) -> Redemption:
    return Redemption(
        id=row.id,
        customer_id=row.customer_id,
        reward_id=row.reward_id,
        kind=row.kind,
        amount=row.amount,
        code_key=code_key,
        at=row.at,
        members=tuple((member, amount) for member, amount in row.members),
        reactivations=row.reactivations,
        reactivation=row.reactivation,
        used_elsewhere=used_elsewhere,
        was_reactivated=bool(row.reactivated_orders),
        ended=row.ended is not None,
        since=row.imported_at,
        reversals=tuple(
            Reversal(
                id=id, at=datetime.fromisoformat(at), amount=amount, cancels=kind == "cancelled", code=code
            )
            for id, at, amount, kind, code, stands in row.reversals or ()
            if stands
        ),
    )


def customers_of(world: World) -> set[int]:
    """Whose the orders are, by the facts."""
    return {
        o.customer_id
        for o in world.orders.values()
        if (o.placed is not None or o.imported) and o.customer_id is not None
    }


def customers_booked(world: World) -> Sequence[int]:
    """Whose wallets the orders stand in now: an order whose customer changed must leave the old one."""
    booked = [row.customer_id for row in world.stored.values() if row.customer_id is not None]
    members = [member for row in world.redemptions.values() for member, _ in row.members]
    owners = [row.customer_id for row in world.redemptions.values()]
    return [*booked, *members, *owners]


def _take_refund(world: World, row: Row[Any]) -> None:
    document = row.facts
    known = KnownRefund(
        refund_fact(row.refund_id, row.order_id, document),
        datetime.fromisoformat(document["received_at"]),
        list(document["conflicts"]),
        row.undone,
    )
    world.orders[row.order_id].refunds[row.refund_id] = known
    world.refunds_stored[row.refund_id] = document
    world.refunds_decided[row.refund_id] = {name: row._mapping[name] for name in DECIDED}


def _transaction(row: Row[Any]) -> Transaction:
    return Transaction(
        id=row.transaction_id,
        order_id=row.order_id,
        kind=row.kind,
        status=row.status,
        amount_minor=row.amount_minor,
        currency=row.currency,
        shop_amount_minor=row.shop_amount_minor,
        at=row.at,
        refund_id=row.refund_id,
    )
