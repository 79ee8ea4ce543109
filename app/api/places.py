"""How many of the receiver's threads calls may hold at once: webhooks come through the same, and Shopify waits 5 seconds.

A call that finds no place is answered 503 at once and may come again. What waits for others (`Operation.before`: Shopify,
a name look-up) and what takes long (an export) has smaller shares of its own; no shop has all of any of them.
"""

from __future__ import annotations

import threading
from collections import Counter
from collections.abc import Iterator
from contextlib import contextmanager

from models.errors import Later

RETRY_AFTER_SECONDS = 1


class Busy(Later):
    """Too many calls are at work. Nothing was begun."""

    code = "busy"
    retry_after_seconds = RETRY_AFTER_SECONDS

    def __init__(self) -> None:
        super().__init__("too many calls are at work just now; send the same call again in a moment")


class Places:
    """So many, and so many of them for one shop. Safe to share between threads."""

    def __init__(self, most: int, of_one_shop: int) -> None:
        self._most, self._of_one_shop = max(1, most), max(1, of_one_shop)
        self._taken: Counter[int] = Counter()
        self._guard = threading.Lock()

    @contextmanager
    def one(self, shop_id: int) -> Iterator[None]:
        """Hold a place. Raises Busy when there is none: nobody waits for one, since that would take a thread too."""
        with self._guard:
            if self._taken.total() >= self._most or self._taken[shop_id] >= self._of_one_shop:
                raise Busy
            self._taken[shop_id] += 1
        try:
            yield
        finally:
            with self._guard:
                self._taken[shop_id] -= 1
                self._taken += Counter()  # shops that hold none are forgotten


class Shares:
    """Of the receiver's `threads`. Installs may hold a quarter (`app/install.py`), so an eighth is webhooks' alone."""

    def __init__(self, threads: int) -> None:
        calls = threads * 5 // 8
        self.calls = Places(calls, calls)  # who calls is not known yet: that takes a question to the database
        self.shops = Places(calls, calls * 9 // 10)
        self.waiting = Places(threads // 4, threads // 8)
        self.exports = Places(threads // 8, 1)
