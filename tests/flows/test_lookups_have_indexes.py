"""What is asked all the time is answered by an index, however many rows a shop has."""

from __future__ import annotations

from sqlalchemy import Connection, Engine, TextClause, text

from models.tables.loyalty import BY_USE
from tasks.steps import attention, listings, overview
from tasks.steps.clock import DUE
from tasks.steps.foreign import ELSEWHERE
from tasks.steps.merchants import UNDONE_AT
from tasks.steps.read import CANCELLED, ON_ORDER, REVERSALS
from tests.conftest import RegisteredShop
from tests.rules.build import day

MANY = (
    "insert into wallets (shop_id, customer_id, folded_until) values (:shop, 1, now());"
    "insert into redemptions (shop_id, customer_id, reward_id, kind, amount, at, order_id)"
    " select :shop, 1, 'custom', 'custom', 1, now(), n from generate_series(1, 3000) as n;"
    "analyze redemptions"
)

MANY_ENTRIES = (
    "insert into activity (shop_id, kind, order_id, cause, target, at, detail)"
    " select :shop, kind, n, 'refund:' || n, 'refund:' || n, now(), '{}' from generate_series(1, 3000) as n,"
    " unnest(array['refund.undone', 'order.cancelled']) as kind"
)
MANY_ORDERS = (
    "insert into shops (domain) select 'lookups-' || n || '.myshopify.com' from generate_series(1, 10) as n;"
    "insert into installations (shop_id) select id from shops;"
    "insert into orders (shop_id, order_id, facts, status, refunded_minor, flags, counted)"
    " select 1 + n % 10, n, '{}', 'open', 0, '[]', '{}' from generate_series(1, 30000) as n;"
    "analyze orders; analyze shops; analyze installations"
)


def test_the_redemptions_used_on_an_order_are_found_by_the_order(
    engine: Engine, shop: RegisteredShop
) -> None:
    with engine.begin() as connection:
        for statement in MANY.split(";"):
            connection.execute(text(statement), {"shop": shop.id} if ":shop" in statement else {})
        plan = plan_of(connection, ON_ORDER, shop_id=shop.id, id=7)
    assert "ix_redemptions_order" in plan


def test_what_is_due_is_found_by_when_it_is_due(engine: Engine) -> None:
    with engine.begin() as connection:
        connection.execute(text("set local enable_seqscan = off"))  # as if the tables were large
        plan = plan_of(connection, DUE, now=day(1), limit=200)
    assert "ix_timeline_due" in plan
    assert "ix_lots_due" in plan


def test_what_a_merchant_did_to_an_order_is_found_by_the_order(engine: Engine, shop: RegisteredShop) -> None:
    with engine.begin() as connection:
        connection.execute(text(MANY_ENTRIES), {"shop": shop.id})
        connection.execute(text("analyze activity"))
        connection.execute(text("set local enable_seqscan = off"))  # as if the tables were large
        reversals = plan_of(connection, REVERSALS, shop_id=shop.id, id=7)
        cancelled = plan_of(connection, CANCELLED, shop_id=shop.id, id=7)
        undone = plan_of(
            connection, UNDONE_AT, shop_id=shop.id, order_id=7, kind="refund.undone", cause="refund:9"
        )
    assert "ix_reversals_redemption" in reversals
    assert "ix_activity_order" in cancelled and "ix_activity_order" in undone


MANY_LISTED = (
    "insert into orders (shop_id, order_id, name, placed_at, facts, status, refunded_minor, flags, counted)"
    " select :shop, n, '#' || n, now() - n * interval '1 minute', '{}', (array['open', 'voided'])[1 + n % 2], 0,"
    " case when n % 500 = 0 then '[\"REFUND_CONFLICT\"]' when n % 50 = 0 then '[\"NO_CUSTOMER\"]' else '[]' end::jsonb, '{}'"
    " from generate_series(1, 5000) as n;"
    "insert into activity (shop_id, kind, customer_id, cause, target, at, detail)"
    " select :shop, 'points.granted', n, 'x', 'x', now(), '{}' from generate_series(1, 5000) as n;"
    "insert into inbox (shop_domain, topic, webhook_id, state)"
    " select 'd' || n % 10, 'orders/paid', n::text, 'done' from generate_series(1, 5000) as n;"
    "analyze orders; analyze activity; analyze inbox"
)


def test_the_lists_of_the_pages_are_read_by_indexes(fresh_engine: Engine) -> None:
    with fresh_engine.begin() as connection:
        shop = connection.execute(
            text("insert into shops (domain) values ('lists.myshopify.com') returning id")
        ).scalar_one()
        for statement in MANY_LISTED.split(";"):
            connection.execute(text(statement), {"shop": shop} if ":shop" in statement else {})
        page = {"shop_id": shop, "before": 2**63 - 1, "limit": 51}
        orders = plan_of(connection, listings.ORDERS, statuses=["open", "voided"], **page)
        named = plan_of(
            connection, listings.NAMED, names=["#7"], id=7, flag="", statuses=["open", "voided"], **page
        )
        flagged = plan_of(connection, attention.ORDERS, **page)
        customers = plan_of(connection, listings.RECENTLY, **page)
        last = plan_of(connection, overview.LAST_WEBHOOK, domain="d3")
        connection.execute(text("set local enable_seqscan = off"))  # as if the table were large
        found = plan_of(connection, listings.REDEMPTIONS_FOUND[""], code="x", id=7, **page)
        taken = plan_of(
            connection, overview.TAKEN_BACK, shop_id=shop, zone="UTC", since=day(1), until=day(60)
        )
        by_use = {use: plan_of(connection, listings.REDEMPTIONS[use], **page) for use in BY_USE}
    assert "ix_orders_listed" in orders and "Sort Key" not in orders.partition("->  Limit")[2]
    assert "ix_orders_name" in named and "pk_orders" in named
    assert "ix_orders_attention" in flagged
    assert "pk_activity" in customers
    assert "pk_redemption_codes" in found and "Index Cond: ((shop_id = 1) AND (id" in found.replace(
        f"'{shop}'::smallint", "1"
    )
    assert all(f"ix_redemptions_{use}" in plan for use, plan in by_use.items())
    assert "ix_inbox_told" in last
    assert "ix_timeline_taken" in taken


def test_the_orders_of_other_shops_are_looked_up_one_by_one(fresh_engine: Engine) -> None:
    with fresh_engine.begin() as connection:
        for statement in MANY_ORDERS.split(";"):
            connection.execute(text(statement))
        plan = plan_of(connection, ELSEWHERE, shop_id=1, ids=list(range(900_000, 900_050)))
    assert "Seq Scan on orders" not in plan
    assert plan.count("pk_orders") == 2


def plan_of(connection: Connection, statement: TextClause, **values: object) -> str:
    return "\n".join(connection.execute(text("explain " + statement.text), values).scalars())
