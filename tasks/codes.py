"""Discount codes at Shopify: made, taken away, given back."""

from __future__ import annotations

from celery import shared_task

from tasks.runtime import runtime
from tasks.steps import codes, outbox


@shared_task(name="codes.create")
def create(shop: str, outbox_id: int, **for_the_eye: object) -> str:
    """Make the discount code of a redemption.

    Safe to run twice, and twice at once: the row is leased; the code is looked up first, and Shopify takes a code once.
    """
    here = runtime()
    return outbox.work(
        here.engine,
        shop,
        outbox_id,
        lambda leased: codes.create(here.engine, here.gateway, leased),
        give_up=codes.create_given_up,
    )


@shared_task(name="codes.remove")
def remove(shop: str, outbox_id: int, **for_the_eye: object) -> str:
    """Take away codes that nobody should use, and give their points back where that was asked for (R30, R34, R38).

    Safe to run twice, and twice at once: the row is leased; what is gone is gone, and what has ended stays ended.
    """
    here = runtime()
    return outbox.work(
        here.engine,
        shop,
        outbox_id,
        lambda leased: codes.remove(here.engine, here.gateway, leased),
        give_up=codes.remove_given_up,
    )


@shared_task(name="codes.reactivate")
def reactivate(shop: str, outbox_id: int, **for_the_eye: object) -> str:
    """Make a used code usable once more, for the customer whose order was given up (R22, R23).

    Safe to run twice, and twice at once: the row is leased; absolute values are set, and a use is booked as given back
    once, under the locks of its order.
    """
    here = runtime()
    key = codes.codes_key(here.settings)
    return outbox.work(
        here.engine,
        shop,
        outbox_id,
        lambda leased: codes.reactivate(here.engine, here.gateway, key, leased),
        give_up=codes.reactivate_given_up,
    )
