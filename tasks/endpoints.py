"""What a shop's own systems are told, on its way to them."""

from __future__ import annotations

import secrets
from functools import partial

from celery import shared_task

from tasks.gateway.counts import DELIVERIES, Counts
from tasks.runtime import AGAIN, runtime
from tasks.steps import turns
from tasks.steps.deliveries import deliver
from tasks.steps.vault import Vault


@shared_task(name="endpoints.deliver", **AGAIN)
def deliver_due() -> str:
    """Send what is due to endpoints, shop after shop, those that waited longest first.

    Safe to run twice, and twice at once: deliveries are leased; a message sent twice has the same `webhook-id`.
    """
    here = runtime()
    places = turns.places(here.settings.worker_processes)
    turn = turns.Turn(here.broker, places=places, token=secrets.token_hex(8))
    if not turn.take():
        return "others are at it"
    try:
        vault, counts = Vault(here.settings.token_keys), Counts(here.broker, DELIVERIES)
        send = partial(deliver, here.engine, here.outgoing, vault, count=partial(counts.count, "try"))
        return str(turns.serve(turn, partial(turns.due, here.engine), send))
    finally:
        turn.end()
