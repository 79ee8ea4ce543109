"""Orders that a delivery claims for one shop and that another shop has.

Shopify signs a delivery's body and not its headers, so a body that somebody got hold of can be sent again in another
shop's name. Its order ids give it away: they are Shopify's own, the same id is never an order of two shops.
"""

from __future__ import annotations

from collections.abc import Sequence

from sqlalchemy import Connection, text

from tasks.steps.load import ShopRow

# Only between shops that Shopify itself connected to us: then both ids are truly Shopify's. A shop that was removed
# does not count: one that changed its myshopify.com name comes again under the new one, with the orders it had. Each
# other shop is asked by its own index, and only for orders that are new to this one: `limit` keeps the planner from
# reading every order of every shop instead, which it thinks cheaper for a batch. That a file named an order
# (`unwind import`) shows nothing, as long as Shopify told nothing of it.
ELSEWHERE = text("""
with new as materialized (
  select id from unnest(cast(:ids as bigint[])) as o(id)
   where exists (select 1 from installations where shop_id = :shop_id)
     and not exists (select 1 from orders mine where mine.shop_id = :shop_id and mine.order_id = id)
)
select new.id from installations i
  join shops s on s.id = i.shop_id and s.state = 'installed' and s.id <> :shop_id
  cross join new
  cross join lateral (
    select 1 from orders where orders.shop_id = s.id and orders.order_id = new.id
       and not (orders.status = 'unknown' and jsonb_exists(orders.facts, 'imported')) limit 1
  ) theirs
""")


def of_another_shop(connection: Connection, shop: ShopRow, order_ids: Sequence[int]) -> frozenset[int]:
    """Which of the orders are new to this shop and on record at another."""
    if not order_ids:
        return frozenset()
    found = connection.execute(ELSEWHERE, {"shop_id": shop.id, "ids": sorted(set(order_ids))})
    return frozenset(found.scalars())
