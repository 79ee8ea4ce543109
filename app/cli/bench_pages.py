"""How long the admin's pages take in a shop of years, beside a shop in which nothing has happened yet."""

from __future__ import annotations

import http.client
import tempfile
import time
from collections.abc import Iterator, Mapping, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import UTC, datetime
from pathlib import Path
from statistics import median, quantiles
from typing import Any
from urllib.parse import urlencode

from redis import Redis
from sqlalchemy import Engine

from app import admin
from app.admin.door import COOKIE, PREFIX
from app.cli import bench_shop
from app.cli import bench_world as world
from app.cli.bench_receiver import LOOPBACK, served
from app.cli.bench_scratch import Bar, one_connection, scratch_database
from models.errors import Refused
from models.settings import Settings
from tasks.runtime import make_broker_client
from tasks.steps import admin_logins, shops

LARGE, SMALL, EMPTY = (f"bench-{name}.myshopify.com" for name in ("large", "template", "empty"))
P95_MS_MOST = 150.0
RATIO_MOST = 3.0
WARMING_UP = 6  # until the driver has prepared every statement (it does so at the fifth use)
LOGIN_SECONDS = 3600

# The filters of each list, beside the page itself; {order} and the like are of the shop that is asked.
FILTERED: Mapping[str, Sequence[Mapping[str, str]]] = {
    "orders": (
        {"search": "{name}"},
        {"status": "partially_refunded"},
        {"status": "voided"},
        {"flag": "CANCELLED_PAID_WAITING"},
        {"flag": "NO_CUSTOMER"},
    ),
    "customers": ({"search": "{customer_id}"},),
    "redemptions": (
        {"search": "{code}"},
        {"status": "unused"},
        {"status": "used"},
        {"status": "untracked"},
        {"status": "refunded"},
    ),
    "activity": (
        {"kind": "points.reversed"},
        {"kind": "refund.undone"},
        {"customer_id": "{customer_id}"},
        {"order_id": "{order_id}"},
    ),
}
NOT_SHOWN = (303, 404)  # what is only done, not shown; what there is for other orders, such as an undo


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    shop: bench_shop.Sizes


FULL = Sizes(rounds=40, shop=bench_shop.FULL)
QUICK = Sizes(rounds=2, shop=bench_shop.QUICK)


@dataclass(frozen=True, slots=True)
class Asked:
    """A page under one address. `beside`: the shop that it is compared with; what names a thing has none in an empty one."""

    name: str
    path: str
    query: Mapping[str, str]

    @property
    def beside(self) -> str:
        return SMALL if "<" in self.path or any("{" in value for value in self.query.values()) else EMPTY

    @property
    def label(self) -> str:
        """The address as a pattern, for people."""
        said = "&".join(f"{name}={value}" for name, value in self.query.items())
        return PREFIX + self.path + (f"?{said}" if said else "")

    def address(self, known: Mapping[str, Any]) -> str:
        path = self.path
        for name, value in known.items():
            path = path.replace(f"<{name}>", str(value))
        query = urlencode({name: value.format_map(known) for name, value in self.query.items()})
        return PREFIX + path + (f"?{query}" if query else "")


def measure_pages(settings: Settings, sizes: Sizes, bar: Bar) -> dict[str, Any]:
    """Every page that only shows, in turns with the same page of the other shop; wall time over HTTP, one visitor."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    with ExitStack() as stack:
        url = stack.enter_context(scratch_database(settings.database_url))
        engine = stack.enter_context(one_connection(url))
        with bar.part("pages: a shop of years", 1):
            with engine.begin() as connection:
                shops.add(connection, EMPTY)
            built = bench_shop.build(engine, SMALL, LARGE, sizes.shop, now=world.utc_now())
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unwind-bench-")))
        server = served(stack, settings, url, None, folder / "receiver.log")
        broker = stack.enter_context(make_broker_client(settings.redis_url))
        visitors = {
            domain: stack.enter_context(visiting(engine, domain, server.settings.port, broker))
            for domain in (LARGE, SMALL, EMPTY)
        }
        pages = [page for page in asked_pages(visitors[LARGE].known) if is_shown(page, visitors)]
        with bar.part("pages: in turns", len(pages)):
            rows = [_measured(page, visitors, sizes.rounds, bar) for page in pages]
    worst = max(row["large_p95_ms"] for row in rows), max(row["ratio"] for row in rows)
    return {
        "rounds": sizes.rounds,
        **built,
        "pages": rows,
        "worst_p95_ms": worst[0],
        "worst_ratio": worst[1],
        "too_slow": [row["page"] for row in rows if row["large_p95_ms"] > P95_MS_MOST],
        "grows": [row["page"] for row in rows if row["ratio"] >= RATIO_MOST],
    }


def asked_pages(known: Mapping[str, Any]) -> Iterator[Asked]:
    """Every page that can be asked for by a plain GET, and the lists under their filters."""
    for page in admin.PAGES:
        named = [part.strip("<>") for part in page.path.split("/") if part.startswith("<")]
        if "GET" not in page.methods or page.path.endswith(".csv") or not set(named) <= set(known):
            continue
        for query in ({}, *FILTERED.get(page.name, ())):
            yield Asked(page.name, page.path, query)


# -- visitors ----------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Visitor:
    """Somebody who is logged in to a shop; `known`: what of it is looked at."""

    connection: http.client.HTTPConnection
    cookie: str
    known: Mapping[str, Any]
    broker: Redis

    def get(self, address: str) -> tuple[int, float]:
        """The status, and the milliseconds until the last byte."""
        before = time.perf_counter()
        self.connection.request("GET", address, headers={"Cookie": f"{COOKIE}={self.cookie}"})
        answer = self.connection.getresponse()
        answer.read()
        return answer.status, (time.perf_counter() - before) * 1000


@contextmanager
def visiting(engine: Engine, domain: str, port: int, broker: Redis) -> Iterator[Visitor]:
    now = datetime.now(UTC)
    with engine.begin() as connection:
        cookie = admin_logins.redeem(connection, admin_logins.make_link(connection, domain, now), now)
        shop = shops.get(connection, domain)
    assert cookie is not None
    connection_ = http.client.HTTPConnection(LOOPBACK, port, timeout=30)
    known = {name: value for name, value in bench_shop.one_of_each(engine, shop.id).items() if value}
    try:
        yield Visitor(connection_, cookie, known, broker)
    finally:
        connection_.close()


def is_shown(page: Asked, visitors: Mapping[str, Visitor]) -> bool:
    """Whether there is such a page in both shops. Raises Refused for one that fails."""
    found = [visitors[domain].get(page.address(visitors[domain].known))[0] for domain in (LARGE, page.beside)]
    if not set(found) <= {200, *NOT_SHOWN}:
        raise Refused("bench", f"{page.label} was answered {found}")
    return found == [200, 200]


def _measured(page: Asked, visitors: Mapping[str, Visitor], rounds: int, bar: Bar) -> dict[str, Any]:
    """One page in both shops. Raises Refused for a page that does not answer 200."""
    large, beside = visitors[LARGE], visitors[page.beside]
    for visitor in (large, beside):
        visitor.connection.close()  # the server has hung up on who waited long; the first request opens it again
    large.broker.flushdb()  # of the benchmark's own server: what counts how often somebody comes
    times: dict[int, list[float]] = {id(large): [], id(beside): []}
    for number in range(WARMING_UP + rounds):
        for visitor in (large, beside):
            status, milliseconds = visitor.get(page.address(visitor.known))
            if status != 200:
                raise Refused("bench", f"{page.address(visitor.known)} was answered {status}")
            if number >= WARMING_UP:
                times[id(visitor)].append(milliseconds)
    bar.step()
    ours, theirs = times[id(large)], times[id(beside)]
    return {
        "page": page.label,
        "large_p50_ms": round(median(ours), 1),
        "large_p95_ms": round(p95(ours), 1),
        "beside": page.beside.removeprefix("bench-").partition(".")[0],
        "beside_p50_ms": round(median(theirs), 1),
        "beside_p95_ms": round(p95(theirs), 1),
        "ratio": round(median(ours) / median(theirs), 2),
    }


def p95(times: Sequence[float]) -> float:
    return quantiles(times, n=20, method="inclusive")[-1]
