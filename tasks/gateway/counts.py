"""How many calls were made outside, by operation and result: kept in Redis, for processes come and go.

Figures for operators, not books: a count lost with Redis is lost.
"""

from __future__ import annotations

from collections.abc import Iterator
from dataclasses import dataclass

from redis import Redis, RedisError

KEY = "unwind:shopify:calls"
DELIVERIES = "unwind:deliveries"  # to merchants' endpoints
THROTTLED = "throttled"  # the result that Shopify's refusals for cost are counted under


@dataclass(frozen=True, slots=True)
class Counts:
    redis: Redis
    key: str = KEY

    def count(self, operation: str, result: str) -> None:
        try:
            self.redis.hincrby(self.key, f"{operation}|{result}", 1)
        except RedisError:
            return

    def read(self) -> Iterator[tuple[str, str, int]]:
        """(operation, result, calls). Raises RedisError."""
        for key, count in sorted(self.redis.hgetall(self.key).items()):
            assert isinstance(key, bytes), "the client gives bytes"
            operation, _, result = key.decode().partition("|")
            yield operation, result, int(count)
