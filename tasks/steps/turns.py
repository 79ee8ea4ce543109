"""Whose deliveries are sent next: one shop after the other, those that waited longest first.

Whoever delivers holds a place; there is always one less than a worker has processes, so that slow endpoints keep nobody's
books waiting. With a place it serves shop after shop for a moment each (at least one round of calls), so that neither a
long backlog nor slow answers of one shop keep the others from being heard. Nothing of this is kept in the books: which
shop is being served, and which was served when, are keys in the broker. Losing them is harmless.
"""

from __future__ import annotations

import secrets
import time
from collections.abc import Callable, Sequence
from datetime import UTC, datetime

import structlog
from redis import Redis, RedisError
from sqlalchemy import Engine, text

from tasks.steps.deliveries import BUDGET_SECONDS, Delivered

log = structlog.get_logger()

SLICE_SECONDS = 1.0  # of a shop; the round that is under way then is brought to its end
TURN_SECONDS = 60  # longer than a run; a worker that died gives its place back by then
SERVED_SECONDS = 86_400  # that it is remembered who was served when

SHOP = "unwind:delivering:{}"
PLACE = "unwind:delivering-place:{}"
SERVED = "unwind:delivering-served"
GIVE_BACK = "if redis.call('get', KEYS[1]) == ARGV[1] then return redis.call('del', KEYS[1]) end return 0"

# Hops from shop to shop along ix_deliveries_due: what it costs is the shops that wait for something, not their rows.
DUE = text("""
with recursive waiting as (
  (select shop_id from deliveries where state = 'pending' order by shop_id limit 1)
  union all
  select (select d.shop_id from deliveries d where d.state = 'pending' and d.shop_id > w.shop_id
           order by d.shop_id limit 1)
    from waiting w where w.shop_id is not null
)
select s.domain from waiting w join shops s on s.id = w.shop_id and s.state = 'installed'
 cross join lateral (
   select from deliveries d where d.shop_id = w.shop_id and d.state = 'pending' and d.not_before <= :now
      and coalesce(d.leased_until, :now) <= :now order by d.not_before limit 1
 ) d
""")


def due(engine: Engine, *, now: datetime | None = None) -> Sequence[str]:
    """The shops of which something is to be sent now."""
    with engine.connect() as connection:
        return connection.execute(DUE, {"now": now or datetime.now(UTC)}).scalars().all()


class Turn:
    """A place among those who deliver, and in it one shop at a time that nobody else is serving.

    Without the broker everybody has a place, and shops come in no order.
    """

    def __init__(self, broker: Redis, *, places: int, token: str) -> None:
        self._broker, self._token = broker, token
        self._places = [PLACE.format(n) for n in range(places)]
        self._held: list[str] = []

    def take(self) -> bool:
        try:
            return any(self._set(place) for place in self._places)
        except RedisError:
            return True

    def begin(self, domains: Sequence[str]) -> str | None:
        """The shop to serve now: of these the one that waited longest. None: others serve them."""
        try:
            for domain in self._longest_unserved(domains):
                if self._set(SHOP.format(domain)):
                    self._broker.hset(SERVED, domain, str(time.time()))
                    self._broker.expire(SERVED, SERVED_SECONDS)
                    return domain
        except RedisError:
            return secrets.choice(domains) if domains else None
        return None

    def done(self, domain: str) -> None:
        """The shop can be served again, by whoever comes to it."""
        self._give_back([SHOP.format(domain)])

    def end(self) -> None:
        self._give_back(list(self._held))

    def _longest_unserved(self, domains: Sequence[str]) -> list[str]:
        if not domains:
            return []
        served = self._broker.hmget(SERVED, list(domains))
        return [domain for _, domain in sorted(zip((float(at or 0) for at in served), domains, strict=True))]

    def _set(self, name: str) -> bool:
        found = bool(self._broker.set(name, self._token, nx=True, ex=TURN_SECONDS))
        if found:
            self._held.append(name)
        return found

    def _give_back(self, names: Sequence[str]) -> None:
        try:
            for name in names:
                if name in self._held:
                    self._held.remove(name)
                    self._broker.eval(GIVE_BACK, 1, name, self._token)
        except RedisError:
            log.warning("turn_not_ended")  # it ends by itself


def places(processes: int) -> int:
    """How many may deliver at once, of so many processes."""
    return max(1, processes - 1)


def serve(
    turn: Turn,
    due: Callable[[], Sequence[str]],
    deliver: Callable[[str, float], Delivered],
    *,
    budget_seconds: float = BUDGET_SECONDS,
    slice_seconds: float = SLICE_SECONDS,
) -> Delivered:
    """Shop after shop, until nothing is due or the time is up. `deliver(domain, seconds)` serves one.

    The caller has taken its place. What is left is rung for again.
    """
    total, until, idle = Delivered(), time.monotonic() + budget_seconds, set[str]()
    while domain := turn.begin([each for each in due() if each not in idle]):
        done = deliver(domain, slice_seconds)
        turn.done(domain)
        total.outcomes.update(done.outcomes)
        if not done.outcomes:
            idle.add(domain)  # what is due of it cannot be sent: not again in this run
        if time.monotonic() >= until:
            total.unfinished = True
            break
    return total
