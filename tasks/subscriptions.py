"""Webhook subscriptions, and what Shopify says of the app's installation."""

from __future__ import annotations

from celery import shared_task

from tasks.runtime import runtime
from tasks.steps import outbox, subscriptions


@shared_task(name="subscriptions.check")
def check(shop: str, outbox_id: int) -> str:
    """Compare a shop's scopes and subscriptions with what is needed, and set right what is ours.

    Safe to run twice, and twice at once: the outbox row is leased, and every run starts from what Shopify lists.
    """
    here = runtime()
    return outbox.work(
        here.engine,
        shop,
        outbox_id,
        lambda leased: subscriptions.check(here.engine, here.settings, here.gateway, leased),
    )


@shared_task(name="subscriptions.daily")
def daily() -> str:
    """Ask for that check at every connected shop.

    Safe to run twice, and twice at once: one outbox row a shop and day.
    """
    return f"{subscriptions.ask_daily(runtime().engine)} shops to be checked"
