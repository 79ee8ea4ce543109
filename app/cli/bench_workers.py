"""What a second worker adds: the same backlog of several shops, settled by one worker of one process and by two of them."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from statistics import median
from typing import Any

from celery import Celery
from sqlalchemy import Engine, text

from app.cli import bench_world as world
from app.cli.bench_scratch import Bar, one_connection, scratch_database
from models.errors import Refused
from models.settings import Settings
from tasks.steps.verify import verify
from worker.celery_settings import EVENTS, make_app
from worker.embedded.process import die_with_parent

DOMAINS = tuple(
    f"bench-workers-{n}.myshopify.com" for n in range(8)
)  # a message is a shop's: enough for both
NAMES = ("unwind-one@bench", "unwind-two@bench")
READY_SECONDS = 60.0
ROUND_SECONDS = 300.0
REPLY_SECONDS = 3.0
POLL_SECONDS = 0.01
PENDING = text("select count(*) from inbox where state = 'pending'")
NOT_DONE = text("select count(*) from inbox where state <> 'done'")


@dataclass(frozen=True, slots=True)
class Sizes:
    """How much is settled. A round is once by one worker and once by both; one more comes first, to warm up."""

    rounds: int
    refunds: int  # of a shop, a round, each way


FULL = Sizes(rounds=4, refunds=400)
QUICK = Sizes(rounds=1, refunds=2)


def measure_workers(settings: Settings, database_url: str, sizes: Sizes, bar: Bar) -> dict[str, Any]:
    """Refunds settled a second, from the bell to the last booking."""
    portions = 2 * (sizes.rounds + 1)
    with scratch_database(database_url) as url, one_connection(url) as engine:
        with bar.part("workers: a backlog", len(DOMAINS)):
            waiting = [
                _sold(engine, domain, seed, portions * sizes.refunds, bar)
                for seed, domain in enumerate(DOMAINS)
            ]
        world.tidy(engine)
        ours = settings.model_copy(update={"database_url": url, "log_level": "WARNING"})
        taken: list[float] = []
        with _workers(ours) as app, bar.part("workers: one and two", portions):
            for number in range(portions):
                _use(app, NAMES[: 1 + number % 2])
                first = number * sizes.refunds
                for domain, sold in zip(DOMAINS, waiting, strict=True):
                    world.deliver(engine, domain, (s.refunded for s in sold[first : first + sizes.refunds]))
                taken.append(_settled(app, engine))
                bar.step()
        with engine.connect() as connection:
            differences = len(verify(connection)) + connection.execute(NOT_DONE).scalar_one()
    return _figures(taken[2:], sizes.refunds * len(DOMAINS)) | {"differences": differences}


def _sold(engine: Engine, domain: str, seed: int, count: int, bar: Bar) -> Sequence[world.Sale]:
    now = world.utc_now()
    world.add_shop(engine, domain)
    sold = list(world.sales(count, seed=seed + 20, now=now, lines_most=2))
    world.sell(engine, domain, sold, now=now)
    bar.step()
    return sold


def _figures(taken: Sequence[float], refunds: int) -> dict[str, Any]:
    """taken: seconds of rounds, in turns by one worker and by two."""
    one, two = (median(taken[which::2]) for which in (0, 1))
    return {
        "refunds": refunds * len(taken) // 2,
        "shops": len(DOMAINS),
        "one": {"per_second": round(refunds / one), "seconds": round(one, 2)},
        "two": {"per_second": round(refunds / two), "seconds": round(two, 2)},
        "rate_ratio": round(one / two, 2),
    }


@contextmanager
def _workers(settings: Settings) -> Iterator[Celery]:
    """Both workers, ready; each is a process that settles and one that watches it, as `celery worker` starts them."""
    app = make_app(settings.redis_url or "")
    with ExitStack() as stack:
        stack.callback(app.close)
        for name in NAMES:
            stack.enter_context(_worker(settings, name))
        deadline = time.monotonic() + READY_SECONDS
        while len(_answering(app)) < len(NAMES):
            if time.monotonic() > deadline:
                raise Refused("bench", "the workers did not start")
        yield app


def _answering(app: Celery) -> Sequence[object]:
    return app.control.ping(timeout=REPLY_SECONDS, destination=list(NAMES), limit=len(NAMES)) or ()


@contextmanager
def _worker(settings: Settings, name: str) -> Iterator[None]:
    process = subprocess.Popen(  # noqa: S603 - our own program and arguments, no shell
        [sys.executable, "-m", "celery", "--app", "worker.celery_app", "worker", "--concurrency", "1", "--hostname", name],
        env={**os.environ, **settings.environment()},
        stdout=subprocess.DEVNULL,
        stderr=subprocess.DEVNULL,
        start_new_session=True,
        preexec_fn=lambda: die_with_parent(signal.SIGTERM),
    )  # fmt: skip
    try:
        yield
    finally:
        process.terminate()
        try:
            process.wait(settings.stop_grace_seconds)
        except subprocess.TimeoutExpired:
            os.killpg(process.pid, signal.SIGKILL)
            process.wait()


def _use(app: Celery, names: Sequence[str]) -> None:
    """Only these take events; the others listen on."""
    for name in NAMES:
        act = app.control.add_consumer if name in names else app.control.cancel_consumer
        if not act(EVENTS, destination=[name], reply=True, timeout=REPLY_SECONDS, limit=1):
            raise Refused("bench", f"{name} does not answer")


def _settled(app: Celery, engine: Engine) -> float:
    """The seconds until nothing waits any more."""
    began = time.monotonic()
    for domain in DOMAINS:
        app.send_task("events.process", kwargs={"shop": domain}, ignore_result=True)
    while True:
        with engine.connect() as connection:
            if not connection.execute(PENDING).scalar_one():
                return time.monotonic() - began
        if time.monotonic() - began > ROUND_SECONDS:
            raise Refused("bench", "the workers did not settle their backlog")
        time.sleep(POLL_SECONDS)
