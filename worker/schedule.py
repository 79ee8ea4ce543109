"""What runs by the clock. Each entry is harmless when it runs twice, late, or in two schedulers at once."""

from __future__ import annotations

from typing import Any

from celery.schedules import crontab


def every(seconds: float, task: str) -> dict[str, Any]:
    """A message that nobody took before the next two were sent is thrown away: they must not pile up."""
    return {"task": task, "schedule": seconds, "options": {"expires": 3 * seconds, "ignore_result": True}}


def daily(hour: int, minute: int, task: str) -> dict[str, Any]:
    """Once a day at this time (UTC); by the clock, so that a worker that is restarted often still comes to it."""
    at = crontab(hour=str(hour), minute=str(minute))
    return {"task": task, "schedule": at, "options": {"expires": 6 * 3600, "ignore_result": True}}


def hourly(minute: int, task: str) -> dict[str, Any]:
    """Once an hour at this minute, by the clock as well."""
    options = {"expires": 3600, "ignore_result": True}
    return {"task": task, "schedule": crontab(minute=str(minute)), "options": options}


SCHEDULE = {
    "ring for what was forgotten": every(2.0, "sweeps.ring"),
    "what is to be done outside": every(1.0, "outbox.ring"),
    "orders to be compared again": every(60.0, "reconcile.ring"),
    "what becomes due": every(5.0, "clock.mature"),
    "tiers that time moves": every(60.0, "clock.tiers"),
    "tokens that must not lapse": daily(3, 11, "tokens.keep_alive"),
    "what may not be kept for ever": hourly(23, "privacy.retention"),
    "scopes and subscriptions as they should be": daily(3, 41, "subscriptions.daily"),
}
