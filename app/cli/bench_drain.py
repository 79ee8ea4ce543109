"""How fast a backlog of refunds is settled: beside a hand-written SQL function, and beside a hundredfold ledger."""

from __future__ import annotations

import gc
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from datetime import datetime
from itertools import islice
from statistics import median
from typing import Any

import psycopg
from sqlalchemy import Engine, make_url

from app.cli import bench_function as function
from app.cli import bench_world as world
from app.cli.bench_scratch import Bar, Spent, Stopwatch, backend_of, one_connection, scratch_database
from models.errors import Refused
from tasks.steps.drain import BATCH, drain
from tasks.steps.verify import verify

OURS, THEIRS = "bench-drain.myshopify.com", "bench-function.myshopify.com"
ROUNDS_OF_WARMING_UP = (
    6  # batches until the driver has prepared every statement (it does so at the fifth use)
)


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is measured. Refunds of a round are a multiple of a batch, or one small batch."""

    rounds: int
    refunds: int  # a round, each side
    batches: int  # of each ledger
    small_rows: int
    large_rows: int


FULL = Sizes(rounds=6, refunds=300, batches=24, small_rows=10_000, large_rows=1_000_000)
QUICK = Sizes(rounds=2, refunds=10, batches=2, small_rows=200, large_rows=1_000)


# -- against the function ----------------------------------------------------------------------------


def measure_drain(database_url: str, sizes: Sizes, bar: Bar) -> dict[str, Any]:
    """Refunds settled a second, by the drain and by the function, chunk by chunk in turns on one database."""
    now = world.utc_now()
    warming = ROUNDS_OF_WARMING_UP * BATCH if sizes.refunds >= BATCH else sizes.refunds
    total = sizes.rounds * sizes.refunds + warming
    with scratch_database(database_url) as url, one_connection(url) as engine:
        with bar.part("drain: a backlog", 2):
            for seed, domain in enumerate((OURS, THEIRS), start=1):
                _backlog(engine, domain, list(world.sales(total, seed=seed, now=now)), now)
                bar.step()
        function.create(engine)
        world.tidy(engine)
        with settled_world(), bar.part("drain: against the function", sizes.rounds + 1):
            ours, theirs = _in_turns(engine, url, [warming] + [sizes.refunds] * sizes.rounds, bar)
        with engine.connect() as connection:
            differences = len(verify(connection))
    return {
        "refunds": sizes.rounds * sizes.refunds,
        "batch": min(BATCH, sizes.refunds),
        "drain": _summary(ours),
        "function": _summary(theirs),
        "rate_ratio": _over(_rate(ours), _rate(theirs)),
        "cpu_ratio": _over(_cpu(theirs), _cpu(ours)),
        "differences": differences,
    }


def _backlog(engine: Engine, domain: str, sold: Sequence[world.Sale], now: datetime) -> None:
    world.add_shop(engine, domain)
    world.sell(engine, domain, sold, now=now)
    world.deliver(engine, domain, (sale.refunded for sale in sold))


def _in_turns(engine: Engine, url: str, rounds: Sequence[int], bar: Bar) -> tuple[list[Spent], list[Spent]]:
    """The first round only warms up."""
    ours, theirs = [], []
    with plain_connection(url) as connection:
        for count in rounds:
            ours.append(_drained(engine, OURS, count))
            arguments = function.arguments(engine, THEIRS, count, now=world.utc_now())
            theirs.append(_called(connection, arguments))
            bar.step()
    return ours[1:], theirs[1:]


def _drained(engine: Engine, domain: str, count: int) -> Spent:
    watch, done = Stopwatch(backend_of(engine)), 0
    while done < count:
        drained = drain(engine, domain, limit=min(BATCH, count - done))
        if not drained.done or drained.failed:
            raise Refused("bench", f"refunds were not settled: {drained.outcomes[:3]}")
        done += drained.done
    return watch.spent(count)


def _called(connection: psycopg.Connection[Any], arguments: Sequence[tuple[Any, ...]]) -> Spent:
    watch = Stopwatch(connection.info.backend_pid)
    for each in arguments:
        connection.execute(function.CALL, each)
    return watch.spent(len(arguments))


@contextmanager
def plain_connection(url: str) -> Iterator[psycopg.Connection[Any]]:
    """The driver without anything of ours: every call is a transaction of its own, prepared after a few."""
    plain = make_url(url).set(drivername="postgresql").render_as_string(hide_password=False)
    with psycopg.connect(plain, autocommit=True) as connection:
        yield connection


@contextmanager
def settled_world() -> Iterator[None]:
    """The made-up world is not looked at by the garbage collector: a worker has none."""
    gc.collect()
    gc.freeze()
    try:
        yield
    finally:
        gc.unfreeze()


# -- beside a long ledger ----------------------------------------------------------------------------


def measure_growth(database_url: str, sizes: Sizes, bar: Bar) -> dict[str, Any]:
    """The cost of a refund with a short and with a long ledger, batch by batch in turns on two databases."""
    rows = (sizes.small_rows, sizes.large_rows)
    batch = min(BATCH, sizes.refunds)
    with ExitStack() as stack:
        engines = [_opened(stack, database_url) for _ in rows]
        with bar.part("growth: two ledgers", len(rows)):
            for engine, count in zip(engines, rows, strict=True):
                _ledger(engine, count, (sizes.batches + ROUNDS_OF_WARMING_UP) * batch)
                bar.step()
        spent: list[list[Spent]] = [[] for _ in rows]
        with settled_world(), bar.part("growth: in turns", sizes.batches + ROUNDS_OF_WARMING_UP):
            for _ in range(sizes.batches + ROUNDS_OF_WARMING_UP):
                for each, engine in zip(spent, engines, strict=True):
                    each.append(_drained(engine, OURS, batch))
                bar.step()
    small, large = (each[ROUNDS_OF_WARMING_UP:] for each in spent)
    return {
        "refunds": sizes.batches * batch,
        "small": {"ledger_rows": rows[0], **_summary(small)},
        "large": {"ledger_rows": rows[1], **_summary(large)},
        "time_ratio": _over(_rate(small), _rate(large)),
        "cpu_ratio": _over(_cpu(large), _cpu(small)),
    }


def _opened(stack: ExitStack, database_url: str) -> Engine:
    return stack.enter_context(one_connection(stack.enter_context(scratch_database(database_url))))


def _ledger(engine: Engine, rows: int, refunds: int) -> None:
    """A shop with so many ledger rows, and a backlog of refunds spread over its customers."""
    now = world.utc_now()
    shop_id = world.add_shop(engine, OURS)
    customers = world.fill(engine, shop_id, rows, now=now)
    world.tidy(engine)
    spread = [customers[n * len(customers) // refunds] for n in range(refunds)]
    sold = list(world.sales(refunds, seed=3, now=now, customers=spread))
    world.sell(engine, OURS, sold, now=now)
    world.deliver(engine, OURS, islice((sale.refunded for sale in sold), refunds))
    world.tidy(engine)


# -- figures -----------------------------------------------------------------------------------------


def _summary(spent: Sequence[Spent]) -> dict[str, Any]:
    return {
        "per_second": round(_rate(spent)),
        "us": round(median(each.wall_us for each in spent)),
        "cpu_us": None if (cpu := _cpu(spent)) is None else round(cpu),
    }


def _rate(spent: Sequence[Spent]) -> float:
    return median(each.per_second for each in spent)


def _cpu(spent: Sequence[Spent]) -> float | None:
    """Ours and the server's; the mean, for the system counts it in coarse steps."""
    known = [each.cpu_us for each in spent if each.cpu_us is not None]
    return sum(known) / len(known) if known else None


def _over(a: float | None, b: float | None) -> float | None:
    return None if a is None or not b else round(a / b, 2)
