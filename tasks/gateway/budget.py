"""A shop's budget of calls, shared by all workers: Shopify's leaky bucket, mirrored in Redis.

Shopify gives an app a bucket of points at each shop: a call takes what it may cost at most, what it did not need is
put back, and points flow back every second. Whoever takes more is refused. The mirror lets workers wait before they
are refused, and keeps sweeps from taking what a customer's refund needs.

Guarantees, as long as Redis answers: what is reserved at one moment, by however many processes, never exceeds what the
bucket holds by the mirror; the mirror never holds more than Shopify last said. Without Redis calls go on unreserved:
Shopify's own refusals are then the only budget.
"""

from __future__ import annotations

import secrets
from collections.abc import Mapping
from dataclasses import dataclass
from typing import TypeAlias

import structlog
from redis import Redis, RedisError

from models.errors import ShopifyThrottled
from tasks.gateway.answers import LONGEST_WAIT_SECONDS, Reading, jitter
from tasks.gateway.counts import THROTTLED
from tasks.gateway.documents import Document

log = structlog.get_logger()

Argument: TypeAlias = str | int | float

# Of a shop that was never asked: the smallest plan's figures. The first answer replaces them.
FIRST_MAXIMUM = 2000
FIRST_RATE = 100
FIRST_COST: Mapping[bool, int] = {True: 10, False: 50}  # of a mutation, of a query, before one was answered
BACKGROUND_SHARE = 0.5  # of the bucket, that background work leaves alone
HELD_SECONDS = 300  # a reservation of a process that died is given up after this; no call takes so long
LIFE_SECONDS = 3600  # of a shop's mirror: long after its bucket has filled
COSTS_KEY = "unwind:shopify:costs"

MODEL = """
local clock = redis.call('TIME')
local now = clock[1] + clock[2] / 1000000
local function bucket(key, maximum, rate)
  local known = redis.call('HMGET', key, 'level', 'at', 'maximum', 'rate')
  if not known[1] then return maximum, maximum, rate end
  maximum, rate = tonumber(known[3]), tonumber(known[4])
  local elapsed = math.max(0, now - tonumber(known[2]))
  return math.min(maximum, tonumber(known[1]) + elapsed * rate), maximum, rate
end
local function keep(key, level, maximum, rate, life)
  redis.call('HSET', key, 'level', string.format('%.6f', level), 'at', string.format('%.6f', now),
    'maximum', string.format('%.6f', maximum), 'rate', string.format('%.6f', rate))
  redis.call('EXPIRE', key, life)
end
"""

# KEYS: bucket, held, costs. ARGV: id, document, first cost, share, first maximum, first rate, held seconds, life.
RESERVE = (
    MODEL
    + """
local level, maximum, rate = bucket(KEYS[1], tonumber(ARGV[5]), tonumber(ARGV[6]))
redis.call('ZREMRANGEBYSCORE', KEYS[2], '-inf', now)
for _, member in ipairs(redis.call('ZRANGE', KEYS[2], 0, -1)) do
  level = level - tonumber(string.match(member, '|(.*)$'))
end
local points = math.min(maximum, tonumber(redis.call('HGET', KEYS[3], ARGV[2]) or ARGV[3]))
local floor = math.min(maximum * tonumber(ARGV[4]), maximum - points)
local missing = points + floor - level
if missing > 0 then return {'0', string.format('%.6f', missing / rate)} end
redis.call('ZADD', KEYS[2], now + tonumber(ARGV[7]), ARGV[1] .. '|' .. points)
redis.call('EXPIRE', KEYS[2], tonumber(ARGV[7]))
if redis.call('EXISTS', KEYS[1]) == 0 then keep(KEYS[1], maximum, maximum, rate, tonumber(ARGV[8])) end
return {ARGV[1] .. '|' .. points, '0'}
"""
)

# KEYS: bucket, held, costs. ARGV: member, charge, document, life, then of the answer, or '': cost asked, available,
# maximum, rate. `charge` '' means all that was reserved.
SETTLE = (
    MODEL
    + """
if redis.call('ZREM', KEYS[2], ARGV[1]) == 0 then return 0 end
local level, maximum, rate = bucket(KEYS[1], 0, 1)
local charge = tonumber(ARGV[2]) or tonumber(string.match(ARGV[1], '|(.*)$'))
level = level - charge
if ARGV[5] ~= '' then
  maximum, rate = tonumber(ARGV[7]), tonumber(ARGV[8])
  level = math.min(level, tonumber(ARGV[6]))
  redis.call('HSET', KEYS[3], ARGV[3], ARGV[5])
end
if maximum > 0 then keep(KEYS[1], level, maximum, rate, tonumber(ARGV[4])) end
return 1
"""
)


@dataclass(frozen=True, slots=True)
class Held:
    """Points of a shop's bucket that one call may take. `member` names it in Redis."""

    domain: str
    document: str
    member: str


class Budget:
    """Reserve before a call, settle after it."""

    def __init__(self, redis: Redis) -> None:
        self._redis = redis
        self._reserve = redis.register_script(RESERVE)
        self._settle = redis.register_script(SETTLE)

    def reserve(self, domain: str, document: Document, *, background: bool = False) -> Held | None:
        """Points for one call: what the document was last priced at. None when Redis does not answer.

        Raises ShopifyThrottled with the seconds until there are enough.
        """
        arguments: list[Argument] = [
            secrets.token_hex(8),
            document.name,
            FIRST_COST[document.is_mutation],
            BACKGROUND_SHARE if background else 0,
            FIRST_MAXIMUM,
            FIRST_RATE,
            HELD_SECONDS,
            LIFE_SECONDS,
        ]
        try:
            member, wait = self._reserve(keys=keys_of(domain), args=arguments)
        except RedisError as error:
            log.warning("budget_unreachable", error=type(error).__name__)
            return None
        if member == b"0":
            raise ShopifyThrottled(min(float(wait), LONGEST_WAIT_SECONDS) + jitter())
        return Held(domain, document.name, member.decode())

    def settle(self, held: Held, reading: Reading) -> None:
        """Keep what the answer says of the bucket. Without figures, all that was reserved counts as taken."""
        cost = reading.cost
        if cost is None:
            self._run_settle(held, "0" if reading.result == THROTTLED else "")
            return
        figures = (cost.requested, cost.available, cost.maximum, cost.rate)
        self._run_settle(held, str(cost.actual or 0.0), *map(str, figures))

    def give_back(self, held: Held) -> None:
        """The call was not made."""
        self._run_settle(held, "0")

    def _run_settle(self, held: Held, charge: str, *figures: str) -> None:
        arguments: list[Argument] = [
            held.member,
            charge,
            held.document,
            LIFE_SECONDS,
            *(figures or ("", "", "", "")),
        ]
        try:
            self._settle(keys=keys_of(held.domain), args=arguments)
        except RedisError as error:
            log.warning("budget_unreachable", error=type(error).__name__)


def keys_of(domain: str) -> list[str]:
    return [f"unwind:bucket:{domain}", f"unwind:bucket:{domain}:held", COSTS_KEY]
