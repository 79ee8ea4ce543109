"""Access tokens that must not lapse."""

from __future__ import annotations

from typing import Any

from celery import Task, shared_task

from models.errors import NeedsMerchant
from tasks.gateway.tokens import REFRESH_AFTER, StoredTokens
from tasks.runtime import AGAIN, runtime
from tasks.steps import installations, shops


@shared_task(name="tokens.keep_alive", bind=True)
def keep_alive(self: Task[Any, Any]) -> str:
    """Send one task for each shop whose refresh token is old, and for each that was refused: once a day.

    Safe to run twice, and twice at once: a task looks again under the row's lock.
    """
    with runtime().engine.begin() as connection:
        domains = installations.to_keep_alive(connection, REFRESH_AFTER)
    for domain in domains:
        self.app.send_task("tokens.refresh", kwargs={"shop": domain})
    return f"{len(domains)} shops to be refreshed"


@shared_task(name="tokens.refresh", **AGAIN)
def refresh(shop: str) -> str:
    """Refresh one shop's tokens when they are old.

    Safe to run twice, and twice at once: under the row's lock, whoever comes second finds new ones.
    """
    here = runtime()
    with here.engine.begin() as connection:
        found = shops.find(connection, shop)
    if found is None:
        return "not installed"
    try:
        return StoredTokens(here.engine, here.settings, here.connections.post_form).kept_alive(found)
    except NeedsMerchant as error:
        return f"needs its merchant: {error.reason}"
