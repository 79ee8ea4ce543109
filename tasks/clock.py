"""What happens because time passes."""

from __future__ import annotations

from celery import shared_task

from tasks.runtime import runtime
from tasks.steps.clock import check_tiers, mature


@shared_task(name="clock.mature", send_events=False)  # every five seconds: it would bury the others in Flower
def mature_due() -> str:
    """Approve what is due, expire lots.

    Safe to run twice, and twice at once: wallets are locked, and what stands is a function of the facts and the time.
    """
    wallets = mature(runtime().engine)
    return f"{wallets} wallets touched"


@shared_task(name="clock.tiers")
def check_stale_tiers() -> str:
    """Recompute tiers whose window, grace or program has moved on.

    Safe to run twice, and twice at once: a tier is a function of the record and the time.
    """
    wallets = check_tiers(runtime().engine)
    return f"{wallets} tiers looked at"
