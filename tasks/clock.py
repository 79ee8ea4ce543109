"""What happens because time passes."""

from __future__ import annotations

from celery import shared_task

from tasks.runtime import runtime
from tasks.steps.clock import mature


@shared_task(name="clock.mature")
def mature_due() -> str:
    """Approve what is due, expire lots, recompute tiers whose time has come.

    Safe to run twice, and twice at once: wallets are locked, and what stands is a function of the facts and the time.
    """
    wallets = mature(runtime().engine)
    return f"{wallets} wallets touched"
