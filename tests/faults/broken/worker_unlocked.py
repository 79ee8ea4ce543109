"""The slow worker, and it does not lock the orders and wallets that it reads: what it read is old when it books."""

from __future__ import annotations

from sqlalchemy import text

from tasks.steps import load

LOCK = " for no key update"

assert LOCK in str(load.LOCK_ORDERS)
assert LOCK in str(load.LOCK_WALLETS)
load.LOCK_ORDERS = text(str(load.LOCK_ORDERS).replace(LOCK, ""))
load.LOCK_WALLETS = text(str(load.LOCK_WALLETS).replace(LOCK, ""))

from tests.faults.broken.worker_slow import celery_app  # noqa: E402, F401 - forks with what was broken above
