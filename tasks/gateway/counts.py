"""How often something was done, by what and result: kept in Redis, for processes come and go.

Figures for operators, not books: a count lost with Redis is lost.
"""

from __future__ import annotations

import time
from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis, RedisError

KEY = "unwind:shopify:calls"
DELIVERIES = "unwind:deliveries"  # to merchants' endpoints
SWEEPS = "unwind:counts:sweeps"  # for what was forgotten; queues have names of their own below `unwind:`
THROTTLED = "throttled"  # the result that Shopify's refusals for cost are counted under


@dataclass(frozen=True, slots=True)
class Counts:
    redis: Redis
    key: str = KEY

    def count(self, operation: str, result: str, times: int = 1) -> None:
        try:
            self.redis.hincrby(self.key, f"{operation}|{result}", times)
        except RedisError:
            return

    def stamp(self) -> None:
        """Note that it was done just now."""
        try:
            self.redis.set(f"{self.key}:at", int(time.time()))
        except RedisError:
            return

    def stamped(self) -> int | None:
        """When it was last done, in seconds since 1970; None: never. Raises RedisError."""
        at = self.redis.get(f"{self.key}:at")
        assert at is None or isinstance(at, bytes), "the client gives bytes"
        return None if at is None else int(at)

    def read(self) -> Iterator[tuple[str, str, int]]:
        """(operation, result, calls). Raises RedisError."""
        for key, count in sorted(self.redis.hgetall(self.key).items()):
            assert isinstance(key, bytes), "the client gives bytes"
            operation, _, result = key.decode().partition("|")
            yield operation, result, int(count)
