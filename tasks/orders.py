"""Orders and their money, as the store tells of them."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task
from redis import RedisError

from tasks.runtime import AGAIN, process_shop, runtime
from tasks.steps import bell, outbox
from tasks.steps.reads import read_order


@shared_task(name="orders.process", bind=True, **AGAIN)
def process(self: Task[Any, Any], shop: str, **for_the_eye: object) -> str:
    """Work off the shop's events, rung for by an order.

    Safe to run twice, and twice at once: each event is claimed under its row's lock and leaves `pending` in the
    transaction that books it. The other arguments are ids for Flower and the logs; nothing is decided by them.
    """
    return process_shop(self, shop)


@shared_task(name="transactions.process", bind=True, **AGAIN)
def process_transactions(self: Task[Any, Any], shop: str, **for_the_eye: object) -> str:
    """Work off the shop's events, rung for by a transaction.

    Safe to run twice, and twice at once: each event is claimed under its row's lock and leaves `pending` in the
    transaction that books it. The other arguments are ids for Flower and the logs; nothing is decided by them.
    """
    return process_shop(self, shop)


@shared_task(name="orders.read", bind=True)
def read(self: Task[Any, Any], /, shop: str, outbox_id: int, **for_the_eye: object) -> str:
    """Read an order again at Shopify, and put what it says into the inbox (R28, S3, S7, S9).

    Safe to run twice, and twice at once: the row is leased, nothing is changed at Shopify, and the same reading is
    kept once. The other arguments are ids for Flower and the logs; nothing is decided by them.
    """
    here = runtime()
    said = outbox.work(
        here.engine, shop, outbox_id, lambda leased: read_order(here.engine, here.gateway, leased)
    )
    try:
        if bell.try_ring(here.broker, [shop]):
            self.app.send_task("orders.process", kwargs={"shop": shop})
    except RedisError:
        pass  # the sweep rings for it
    return said
