"""Comparisons with Shopify, by the clock."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

from celery import Task, shared_task

from models.errors import Later, Never
from tasks.runtime import Runtime, runtime
from tasks.steps.reconcile import Run, note_given_back, reconcile
from tasks.steps.reconcile_due import due
from tasks.steps.shops import get
from tasks.steps.unused import give_back_unused

SLICE_SECONDS = 10.0  # then the next shop, or somebody's code, has its turn; the time limit is far away
RING_EXPIRES_SECONDS = 120  # a message that nobody took is sent again by then


@shared_task(name="reconcile.ring", bind=True)
def ring(self: Task[Any, Any]) -> str:
    """Send a named task for each shop whose orders are to be compared again.

    Safe to run twice, and twice at once: of two runs of one shop, the second finds the first at work, and ends.
    """
    found = due(runtime().engine)
    for domain, kind in found:
        self.app.send_task(
            f"reconcile.{kind}", kwargs={"shop": domain}, expires=RING_EXPIRES_SECONDS, ignore_result=True
        )
    return f"{len(found)} comparisons due"


@shared_task(name="reconcile.recent", bind=True)
def recent(self: Task[Any, Any], shop: str) -> str:
    """Compare what changed at the shop since the last run that ended, for a while, then go on in a new task.

    Safe to run twice, and twice at once: one run a shop at a time, and it goes on at its cursor; what is on record is
    not found again.
    """
    return _slice(self, shop, "recent")


@shared_task(name="reconcile.nightly", bind=True)
def nightly(self: Task[Any, Any], shop: str) -> str:
    """Compare the last days once more, and give back redemptions whose order never came (R30).

    Safe to run twice, and twice at once, as `reconcile.recent`; a redemption that has ended stays ended.
    """
    return _slice(self, shop, "nightly")


def _slice(task: Task[Any, Any], domain: str, kind: str) -> str:
    """A part of a run. What is Later is resumed when the ring finds the run unfinished; a Never stands in its row."""
    here = runtime()
    try:
        with here.engine.connect() as connection:
            shop = get(connection, domain)
        run = reconcile(here.engine, here.gateway, shop, kind=kind, budget_seconds=SLICE_SECONDS)
    except Later as error:
        return f"later: {error.code}"
    except Never as error:
        return f"failed: {error.code}"
    said = f"{run.orders_read} orders, {len(run.findings)} found, {len(run.repaired)} repaired"
    if not run.finished:
        task.apply_async(kwargs={"shop": domain})
        return f"{said}, to be continued"
    if kind == "nightly":
        said += f", {_auto_refunded(here, run)} redemptions without an order"
    return said


def _auto_refunded(here: Runtime, run: Run) -> int:
    """R30, where the operator has said after how long."""
    hours = here.settings.auto_refund_after_hours
    if not hours:
        return 0
    now = datetime.now(UTC)
    given = give_back_unused(here.engine, run.shop, before=now - timedelta(hours=hours), now=now)
    note_given_back(run, given)
    return given
