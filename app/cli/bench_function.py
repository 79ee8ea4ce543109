"""The yardstick of the drain: one refund settled by one SQL function, in one round trip and one transaction.

What a careful hand would write for the same books: it locks the inbox row, the order and the wallet, reads what a
decision needs (the shop and its program, the order's refunds and transactions, timeline, awards, the wallet's window
of the timeline and of the ledger, its lots), and writes what was decided (refund, transaction, entry with its trigger,
timeline, award, wallet with its sums and tier, the customer's day, the order, the activity, the inbox row done).

What it does not do, in its favour: it parses no payload, computes no rule, and draws no ids. The rows to be written
are given as arguments: they were found beforehand, untimed, by settling the same refunds with the product in a
transaction that was rolled back. So both sides write the same rows, and `verify` holds after either.
"""

from __future__ import annotations

from collections.abc import Sequence
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, Engine, text

from tasks.steps import shops
from tasks.steps.load import open_world
from tasks.steps.parse import parse
from tasks.steps.settle import Told, settle

CREATE = """
create function bench_settle(
  event_number bigint, said text, o orders, r refunds, m transactions, t timeline, e entries, a awards, w wallets,
  d customer_days, h activity
) returns void language plpgsql as $$
declare
  event inbox;
begin
  select * into strict event from inbox where id = event_number and state = 'pending' for update skip locked;
  perform s.id, p.settings from shops s join programs p on p.shop_id = s.id where s.domain = event.shop_domain;
  perform facts, customer_id, counted from orders where shop_id = o.shop_id and order_id = o.order_id for no key update;
  perform facts from refunds where shop_id = o.shop_id and order_id = o.order_id;
  perform * from transactions where shop_id = o.shop_id and order_id = o.order_id;
  perform * from wallets where shop_id = w.shop_id and customer_id = w.customer_id for no key update;
  perform * from timeline where shop_id = o.shop_id and order_id = o.order_id;
  perform * from awards where shop_id = o.shop_id and order_id = o.order_id;
  perform * from timeline where shop_id = w.shop_id and customer_id = w.customer_id and at >= t.at;
  perform * from entries where shop_id = w.shop_id and customer_id = w.customer_id and event_at >= t.at;
  perform * from lots where shop_id = w.shop_id and customer_id = w.customer_id and lot = e.lot;
  perform * from lots where shop_id = w.shop_id and customer_id = w.customer_id and remainder > 0
    order by expires_at, at, lot limit 8;
  insert into refunds values (r.*);
  insert into transactions values (m.*);
  insert into entries values (e.*);
  insert into timeline values (t.*);
  update awards set status = a.status, reversed = a.reversed, reduced = a.reduced, debited = a.debited,
    shortfall = a.shortfall where shop_id = a.shop_id and order_id = a.order_id and target = a.target;
  update wallets set debt = w.debt, pending = w.pending, folded_until = w.folded_until, spend_minor = w.spend_minor,
    orders = w.orders, points = w.points, tier = w.tier, tier_checked_at = w.tier_checked_at
    where shop_id = w.shop_id and customer_id = w.customer_id;
  insert into customer_days values (d.*) on conflict (shop_id, customer_id, day)
    do update set spend_minor = excluded.spend_minor, orders = excluded.orders, points = excluded.points;
  update orders set facts = o.facts, status = o.status, refunded_minor = o.refunded_minor, flags = o.flags,
    counted = o.counted where shop_id = o.shop_id and order_id = o.order_id;
  insert into activity values (h.*);
  update inbox set state = 'done', order_id = o.order_id, outcome = said, processed_at = now() where id = event_number;
end $$;
"""
CALL = (
    "select bench_settle(%s, %s, %s::text::orders, %s::text::refunds, %s::text::transactions, %s::text::timeline,"
    " %s::text::entries, %s::text::awards, %s::text::wallets, %s::text::customer_days, %s::text::activity)"
)
PENDING = text(
    "select id, topic, body, received_at from inbox where shop_domain = :domain and state = 'pending'"
    " order by id limit :limit"
)
ROWS = text(
    "select n.id, 'order ' || o.order_id || ': ' || o.status, o::text, r::text, m::text, t::text, e::text, a::text, w::text, d::text, h::text"
    " from unnest(cast(:events as bigint[]), cast(:orders as bigint[])) as n(id, order_id)"
    " join orders o on o.shop_id = :shop_id and o.order_id = n.order_id"
    " join refunds r on r.shop_id = o.shop_id and r.order_id = o.order_id"
    " join transactions m on m.shop_id = o.shop_id and m.refund_id = r.refund_id"
    " join timeline t on t.shop_id = o.shop_id and t.order_id = o.order_id and t.kind = 4"
    " join entries e on e.shop_id = o.shop_id and e.customer_id = o.customer_id and e.event_cause = t.cause"
    " join awards a on a.shop_id = o.shop_id and a.order_id = o.order_id"
    " join wallets w on w.shop_id = o.shop_id and w.customer_id = o.customer_id"
    " join customer_days d on d.shop_id = o.shop_id and d.customer_id = o.customer_id"
    " join activity h on h.shop_id = o.shop_id and h.order_id = o.order_id and h.kind = 'points.reversed'"
)


def create(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text(CREATE))


def arguments(engine: Engine, domain: str, limit: int, *, now: datetime) -> list[tuple[Any, ...]]:
    """What to call the function with for the next `limit` refunds of the backlog. Changes nothing."""
    with engine.connect() as connection, connection.begin() as transaction:
        found = _decided(connection, domain, limit, now)
        transaction.rollback()
    return found


def _decided(connection: Connection, domain: str, limit: int, now: datetime) -> list[tuple[Any, ...]]:
    world = open_world(connection, shops.get(connection, domain), now)
    events: Sequence[Any] = connection.execute(PENDING, {"domain": domain, "limit": limit}).all()
    told = [
        Told(fact=fact, received_at=row.received_at, cause=f"inbox:{row.id}")
        for row in events
        for fact in parse(row.topic, bytes(row.body), shop_currency=world.shop.currency or "")
    ]
    settle(world, told)
    by_cause = {each.cause: each.fact.order_id for each in told}
    values = {
        "shop_id": world.shop.id,
        "events": [row.id for row in events],
        "orders": [by_cause[f"inbox:{row.id}"] for row in events],
    }
    found = [tuple(row) for row in connection.execute(ROWS, values)]
    assert len(found) == len(events), "one row of each kind a refund"
    return found
