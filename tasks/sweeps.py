"""What finds what was forgotten."""

from __future__ import annotations

from celery import shared_task

from tasks.events import process
from tasks.gateway.counts import SWEEPS, Counts
from tasks.runtime import runtime
from tasks.steps import bell
from tasks.steps.sweep import QUEUE, depth_of, forgotten_shops


@shared_task(name="sweeps.ring", send_events=False)  # every two seconds: it would bury the others in Flower
def ring() -> str:
    """Ring for events that are due and that nobody works on: lost messages, tries that are due again.

    Safe to run twice, and twice at once: see `forgotten_shops`; a bell that already rings is not rung again.
    """
    here = runtime()
    swept = forgotten_shops(here.engine, depth=depth_of(here.broker, QUEUE))
    rung = bell.try_ring(here.broker, swept.shops)
    for shop in rung:
        process.apply_async(kwargs={"shop": shop, "topic": "sweep"})
    counts = Counts(here.broker, SWEEPS)
    counts.count("runs", swept.gate or "done")
    counts.count("events", "forgotten", swept.rows)
    counts.stamp()
    return f"held back: {swept.gate}" if swept.gate else f"{swept.rows} waiting, {len(rung)} shops rung for"
