"""The broker's master dies, and the Sentinel that is asked first with it: everything goes on with the next master."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
from collections.abc import Iterator
from pathlib import Path

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.api.limits import admission
from models.settings import Settings
from tasks.gateway.budget import Budget
from tasks.gateway.documents import document
from tasks.runtime import make_broker_client
from tests.faults.sentinels import Watched, watched
from tests.waiting import until
from worker.celery_settings import make_sender
from worker.doorbell import Ring, make_doorbell


@pytest.fixture
def broker(tmp_path: Path) -> Iterator[Watched]:
    with watched(tmp_path) as found:
        yield found


@pytest.fixture
def worker(broker: Watched, database_url: str, tmp_path: Path) -> Iterator[subprocess.Popen[bytes]]:
    settings = Settings(
        database_url=database_url, redis_url=broker.url, shopify_api_secret=(SecretStr("hush"),)
    )
    celery = (sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "--concurrency", "1")
    environment = {**os.environ, **settings.environment()}
    with (tmp_path / "worker.log").open("wb") as log:
        child = subprocess.Popen(celery, env=environment, stdout=log, stderr=log)
    yield child
    child.kill()
    child.wait()


def state_of(engine: Engine, domain: str) -> str:
    question = text("select state from inbox where shop_domain = :domain")
    with engine.connect() as connection:
        return str(connection.execute(question, {"domain": domain}).scalar_one())


def arrived(engine: Engine) -> str:
    """A webhook that waits in the inbox, of a shop that nobody knows: it is worked off by being parked."""
    domain = f"watched-{secrets.token_hex(4)}.myshopify.com"
    row = "insert into inbox (shop_domain, topic, body) values (:domain, 'refunds/create', '{}')"
    with engine.begin() as connection:
        connection.execute(text(row), {"domain": domain})
    return domain


def rung_and_worked_off(broker: Watched, engine: Engine) -> None:
    domain = arrived(engine)
    doorbell = make_doorbell(broker.url)
    until(lambda: doorbell.ring([Ring(domain, "refunds/create", 1)]))
    until(lambda: state_of(engine, domain) == "failed")


def test_a_worker_the_bell_the_budget_and_the_limits_follow_the_master(
    broker: Watched, engine: Engine, worker: subprocess.Popen[bytes]
) -> None:
    client = make_broker_client(broker.url)
    budget = Budget(client)
    rung_and_worked_off(broker, engine)
    broker.kill("master", "sentinel-1")
    began_at = broker.ports["master"]
    assert (
        make_doorbell(broker.url).ring([Ring(arrived(engine), "refunds/create", 1)]) == 0
    )  # left to the sweep
    until(lambda: broker.master() not in (None, began_at))
    rung_and_worked_off(broker, engine)
    assert budget.reserve("a.myshopify.com", document("shop")) is not None
    assert counted(broker.url) == ["1", "0"]
    make_sender(broker.url).send_task("sweeps.ring", queue="sweeps", ignore_result=True)
    with client:
        until(lambda: client.llen("unwind:sweeps") == 0)
    assert worker.poll() is None


def counted(url: str) -> list[str]:
    """What two calls have left of the two that are allowed a minute, each counted by an application of its own."""
    left = []
    for _ in range(2):
        app = Flask("counting")
        admit = admission(app, url, below="/api/", calls_per_minute=2)
        app.add_url_rule("/api/x", view_func=lambda admit=admit: (admit(), "")[1])
        left.append(app.test_client().get("/api/x").headers["X-RateLimit-Remaining"])
    return left
