"""A deployment stops what runs: SIGTERM, a grace time, a look at the status. Nothing is lost by it, nothing done twice.

Each process is started by a shell from its line of the Procfile, as platforms do it.
"""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path

import pytest
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.cli import bench_world as world
from app.cli.up import healthy
from models.settings import Settings
from tasks.steps.drain import drain
from tasks.steps.verify import verify
from tests.conftest import new_database, of
from tests.faults.family import HOLDERS, ROOT, free_port
from tests.waiting import until
from worker.celery_settings import make_sender

PATIENCE_SECONDS = 30.0
SOON_SECONDS = 20.0  # of a process with nothing in hand, beside a busy machine's other work

Start = Callable[..., "Process"]


class Process:
    """A line of the Procfile, running."""

    def __init__(self, line: str, environment: dict[str, str], log: Path) -> None:
        self.log = log
        with log.open("wb") as out:
            shell = shutil.which("sh")
            assert shell
            self.child = subprocess.Popen(
                [shell, "-c", line], env=environment, stdout=out, stderr=out, cwd=log.parent
            )

    def says(self, words: str) -> bool:
        assert self.child.poll() is None or words in self.log.read_text(), self.log.read_text()
        return words in self.log.read_text()

    def stopped(self, within: float = PATIENCE_SECONDS) -> tuple[int, float]:
        """Its status, and the seconds that it took."""
        began = time.monotonic()
        self.child.send_signal(signal.SIGTERM)
        return self.child.wait(within), time.monotonic() - began


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(
        database_url=database_url,
        redis_url=redis_url,
        shopify_api_secret=(SecretStr("hush"),),
        flower_basic_auth=SecretStr("me:hush"),
        port=free_port(),
        worker_processes=1,
    )


@pytest.fixture
def start(settings: Settings, tmp_path: Path) -> Iterator[Start]:
    started: list[Process] = []

    def start(line: str, **more: str) -> Process:
        path = f"{Path(sys.executable).parent}{os.pathsep}{os.environ['PATH']}"
        environment = {**os.environ, **settings.environment(), "PATH": path, "PYTHONPATH": str(ROOT), **more}
        started.append(Process(line, environment, tmp_path / f"{len(started)}.log"))
        return started[-1]

    yield start
    for process in started:
        process.child.kill()
        process.child.wait()


def line_of(name: str) -> str:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    return lines[name]


def test_the_release_step_makes_the_schema_and_ends(start: Start, database_server: str) -> None:
    with new_database(database_server) as empty:
        process = start(line_of("release"), DATABASE_URL=of(database_server, empty))
        assert process.child.wait(PATIENCE_SECONDS) == 0
        assert process.says("the schema is at version")


def test_the_web_process_answers_and_stops(start: Start, settings: Settings) -> None:
    process = start(line_of("web"))
    until(lambda: healthy(settings))
    status, seconds = process.stopped()
    assert status == 0
    assert seconds < SOON_SECONDS


@pytest.mark.parametrize(
    ("name", "words"),
    [
        pytest.param("beat", "beat: Starting", id="beat"),
        pytest.param("flower", "Broker:", id="flower"),
    ],
)
def test_what_has_nothing_in_hand_stops_at_once(start: Start, name: str, words: str) -> None:
    process = start(line_of(name))
    until(lambda: process.says(words))
    status, seconds = process.stopped()
    assert status == 0, process.log.read_text()
    assert seconds < SOON_SECONDS
    assert "Cold" not in process.log.read_text()


# -- with work in hand ---------------------------------------------------------------------------------


@pytest.fixture
def refund(engine: Engine) -> tuple[str, int]:
    """A shop with a refund that waits; the shop's domain and the event."""
    domain, now = f"stopped-{free_port()}.myshopify.com", world.utc_now()
    world.add_shop(engine, domain)
    (sale,) = world.sales(1, seed=3, now=now)
    world.sell(engine, domain, [sale], now=now)
    world.deliver(engine, domain, [sale.refunded])
    waiting = text("select id from inbox where shop_domain = :domain and state = 'pending'")
    with engine.connect() as connection:
        return domain, connection.execute(waiting, {"domain": domain}).scalar_one()


def at_work(start: Start, engine: Engine, settings: Settings, domain: str, **more: str) -> Process:
    """A slow worker in the middle of the shop's refund."""
    process = start(line_of("worker").replace("worker.celery_app", "tests.faults.broken.worker_slow"), **more)
    until(lambda: process.says("ready."))
    assert settings.redis_url
    make_sender(settings.redis_url).send_task("refunds.process", kwargs={"shop": domain})
    until(lambda: claimed(engine))
    return process


def claimed(engine: Engine) -> bool:
    with engine.connect() as connection:
        return bool(connection.execute(text(f"{HOLDERS} and datname = current_database()")).all())


def state_of(engine: Engine, event: int) -> str:
    with engine.connect() as connection:
        return str(
            connection.execute(text("select state from inbox where id = :id"), {"id": event}).scalar_one()
        )


def differences(engine: Engine) -> int:
    with engine.connect() as connection:
        return len(verify(connection))


def test_what_is_in_hand_is_finished_and_the_worker_ends_then(
    start: Start, engine: Engine, settings: Settings, refund: tuple[str, int]
) -> None:
    domain, event = refund
    process = at_work(start, engine, settings, domain, PAUSE_SECONDS="1.5")
    status, seconds = process.stopped()
    assert status == 0, process.log.read_text()
    assert seconds < SOON_SECONDS
    assert "Cold" not in process.log.read_text()
    assert state_of(engine, event) == "done"
    assert drain(engine, domain).done == 0
    assert differences(engine) == 0


def test_what_takes_longer_than_the_grace_time_is_returned_and_done_later_once(
    start: Start, engine: Engine, settings: Settings, refund: tuple[str, int]
) -> None:
    domain, event = refund
    process = at_work(start, engine, settings, domain, PAUSE_SECONDS="40", STOP_GRACE_SECONDS="1")
    status, seconds = process.stopped()
    assert status == 0, process.log.read_text()
    assert seconds < SOON_SECONDS
    until(lambda: not claimed(engine))
    assert state_of(engine, event) == "pending"
    assert drain(engine, domain).done == 1
    assert drain(engine, domain).done == 0
    assert differences(engine) == 0
