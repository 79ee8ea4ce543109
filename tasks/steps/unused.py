"""Redemptions whose order never came (R30): found after a nightly comparison, given back whole where that is safe.

Only what no order can use any more comes back as points (R21): a code of ours is taken away at Shopify first, which
shows that nobody used it; a code that was given to us stays with whoever gave it, and so do its points.
"""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import Connection, Engine, text

from models.errors import Refused
from tasks.steps.endings import end_whole
from tasks.steps.load import ShopRow
from tasks.steps.removals import AUTO_REFUNDED, ask_removal

BATCH = 200  # of one night; what is left waits for the next
DISCOUNTS = (
    "amount_discount",
    "percentage_discount",
    "free_shipping",
    "free_product",
)  # worth something on an order

UNUSED = text("""
select r.id, r.code_state from redemptions r
 where r.shop_id = :shop_id and r.at < :before and r.order_id is null and r.ended is null and r.returned = 0
   and r.restitution = 'none' and r.kind = any(:kinds)
   and (r.code_state = 'active' or (r.code_state = 'none' and r.code is null))
   and not exists (select 1 from redemption_codes c join order_codes o on o.shop_id = c.shop_id and o.code = c.code_key
                    where c.shop_id = r.shop_id and c.redemption_id = r.id)
   and not exists (select 1 from outbox w where w.shop_id = r.shop_id and w.key = 'auto_refund:' || r.id)
 order by r.id limit :batch
""")


def give_back_unused(engine: Engine, shop: ShopRow, *, before: datetime, now: datetime) -> int:
    """Redemptions made before `before` that no order used: returned whole, or their code asked to be taken away first.

    Safe to run twice, and twice at once: what has ended stays ended, and a code is asked for once a redemption.
    Returns how many that were.
    """
    key = {"shop_id": shop.id, "before": before, "kinds": list(DISCOUNTS), "batch": BATCH}
    with engine.connect() as connection:
        found = connection.execute(UNUSED, key).all()
    given = 0
    for row in found:
        with engine.begin() as connection:
            given += _give_back(connection, shop, row.id, has_code=row.code_state == "active", now=now)
    return given


def _give_back(connection: Connection, shop: ShopRow, id: int, *, has_code: bool, now: datetime) -> bool:
    if has_code:
        return ask_removal(connection, shop.id, id, then=AUTO_REFUNDED, key=f"auto_refund:{id}")
    try:
        return end_whole(connection, shop, id, kind="auto_refunded", now=now) > 0
    except Refused:  # an order used it just now
        return False
