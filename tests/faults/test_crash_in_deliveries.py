"""A worker dies by SIGKILL between what happened and its telling, and while it tells: everything arrives, under its own id."""

from __future__ import annotations

import os
import signal
import subprocess
import sys
import time
from collections.abc import Iterator
from contextlib import contextmanager
from pathlib import Path

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import Engine, text

from models.settings import Settings
from tasks.steps import deliveries
from tests.conftest import RegisteredShop, register
from tests.faults.conftest import Die
from tests.faults.crash_child import LIVES
from tests.faults.family import ROOT
from tests.flows.listening import KEY_OF_CHILDREN, Answer, Listener, Telling, listening
from tests.oracle.render import render
from tests.oracle.worlds import Delivery
from tests.rules.build import ORDER, day, order, refund
from worker.celery_settings import make_sender

PAID = order(10_000)
REFUNDS = [refund(51 + n, 1_000, at=day(2 + n)) for n in range(5)]
EVENTS = 2 * len(REFUNDS)  # refunded and points.reversed, of each
PATIENCE_SECONDS = 30.0


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def telling(engine: Engine, shop: RegisteredShop, listener: Listener) -> Telling:
    """A shop of which ten things are to be told, and nothing was sent yet."""
    telling = Telling(engine, shop, key=KEY_OF_CHILDREN)
    telling.listen(listener)
    telling.tell(PAID)
    for each in REFUNDS:
        telling.tell(each)
    assert len(telling.messages()) == EVENTS
    return telling


def environment(settings: Settings | None = None) -> dict[str, str]:
    more = {} if settings is None else settings.environment()
    return {**os.environ, **more, "PYTHONPATH": str(ROOT)}


@pytest.mark.parametrize("moment", ["leased", "sent", "booked"])
def test_what_a_worker_that_died_had_leased_is_sent_by_the_next(
    telling: Telling, listener: Listener, database_url: str, moment: str
) -> None:
    """At least once: a message that was sent and not booked is sent again, under the id that it had."""
    command = [sys.executable, "-m", "tests.faults.deliver_child", database_url, telling.domain, moment]
    child = subprocess.run(command, cwd=ROOT, env=environment(), timeout=PATIENCE_SECONDS, check=False)
    assert child.returncode == -signal.SIGKILL
    before = {each.id for each in listener.heard}
    assert bool(before) == (moment != "leased")
    telling.deliver(ahead=deliveries.LEASE_SECONDS + 1)
    everything_arrived(telling, listener)


def test_a_worker_killed_while_it_sends_loses_nothing(
    telling: Telling, listener: Listener, database_url: str, redis_url: str, tmp_path: Path
) -> None:
    """A real worker, rung as the clock rings it; SIGKILL while the other side has not answered yet, then another worker."""
    settings = Settings(
        database_url=database_url,
        redis_url=redis_url,
        shopify_api_secret=(SecretStr("a secret of the tests"),),
        token_encryption_keys=(SecretStr(KEY_OF_CHILDREN.decode()),),
        endpoints_allow_networks=("127.0.0.0/8",),
    )
    listener.always = Answer(after_seconds=5.0)
    with worker(settings, tmp_path / "first.log") as first:
        ring(redis_url)
        listener.wait_for(1, seconds=PATIENCE_SECONDS)
        os.killpg(first.pid, signal.SIGKILL)
        first.wait()
    interrupted = {each.id for each in listener.heard}
    assert interrupted and not telling.rows(
        "select 1 from deliveries where shop_id = :shop and state = 'delivered'"
    )
    listener.always = Answer()
    telling.rows(
        "update deliveries set leased_until = now() where shop_id = :shop returning 1"
    )  # the leases' time passes
    with worker(settings, tmp_path / "second.log") as second:
        end = time.monotonic() + PATIENCE_SECONDS
        while telling.rows("select 1 from deliveries where shop_id = :shop and state <> 'delivered' limit 1"):
            assert time.monotonic() < end, (tmp_path / "second.log").read_text()[-2000:]
            ring(redis_url)
            time.sleep(0.5)
        os.killpg(second.pid, signal.SIGKILL)
        second.wait()
    everything_arrived(telling, listener)
    assert interrupted <= {each.id for each in listener.heard if each.verified}


def everything_arrived(telling: Telling, listener: Listener) -> None:
    """Each message, verified; a repeat says the same under the same id; numbers without gaps."""
    assert all(each.verified for each in listener.heard)
    said: dict[str, object] = {}
    for each in listener.heard:
        assert said.setdefault(each.id, each.body) == each.body
    assert sorted(each["sequence"] for each in said.values()) == list(range(1, EVENTS + 1))  # type: ignore[index]
    states = telling.rows("select distinct state from deliveries where shop_id = :shop")
    assert [row.state for row in states] == ["delivered"]


@contextmanager
def worker(settings: Settings, log: Path) -> Iterator[subprocess.Popen[bytes]]:
    """A worker of one process in a group of its own, so that it dies with its child."""
    command = [sys.executable, "-m", "celery", "-A", "worker.celery_app", "worker", "--concurrency", "1"]
    with log.open("wb") as out:
        child = subprocess.Popen(
            command, env=environment(settings), cwd=ROOT, stdout=out, stderr=out, start_new_session=True
        )
        try:
            yield child
        finally:
            if child.poll() is None:
                os.killpg(child.pid, signal.SIGKILL)
                child.wait()


def ring(redis_url: str) -> None:
    """What the scheduler sends every second. The turn of a worker that died ends with its time."""
    with redis.Redis.from_url(redis_url) as broker:
        for key in broker.keys("unwind:delivering*"):
            broker.delete(key)
    app = make_sender(redis_url)
    app.send_task("outbox.ring", retry=False, ignore_result=True)
    app.close()


# -- the messages themselves -------------------------------------------------------------------------


def test_a_refund_whose_worker_died_before_the_commit_was_never_told_and_is_told_once(
    engine: Engine, shop: RegisteredShop, listener: Listener, die: Die
) -> None:
    """Killed at every point from the writing of the messages to the commit: none is there; then all are."""
    telling = Telling(engine, shop, key=KEY_OF_CHILDREN)
    telling.listen(listener)
    telling.tell(PAID)
    keep(engine, telling.domain, "one")
    points = die_of_another(engine, die, listener)
    writing = next(n for n, label in enumerate(points) if label.startswith("with told as"))
    commit = points.index("before the commit", writing)
    for number in range(writing, commit + 1):
        assert die(telling.domain, number) == points[number]
        assert telling.messages() == []
    with engine.begin() as connection:
        rested = "update inbox set attempts = 0, not_before = now() where shop_domain = :domain"
        connection.execute(text(rested), {"domain": telling.domain})
    assert die(telling.domain, points.index("after the commit", commit)) == "after the commit"
    assert telling.messages() == [("refunded", f"order:{ORDER}", 1), ("points.reversed", f"order:{ORDER}", 2)]
    telling.deliver()
    assert sorted(listener.events()) == ["points.reversed", "refunded"]


def die_of_another(engine: Engine, die: Die, listener: Listener) -> list[str]:
    """The points that the same refund passes at another shop, undisturbed."""
    from_start = Telling(engine, register(engine), key=KEY_OF_CHILDREN)
    from_start.listen(listener)
    from_start.tell(PAID)
    keep(engine, from_start.domain, "other")
    points: list[str] = die(from_start.domain, LIVES)
    return points


def keep(engine: Engine, domain: str, id: str) -> None:
    """The refund's webhook, in the inbox."""
    facts = refund(51, 2_000, at=day(2))
    topic, body = render(Delivery(day(2), "refunds/create", facts))
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, webhook_id, body) values (:domain, :topic, :id, :body)"
            ),
            {"domain": domain, "topic": topic, "id": id, "body": body},
        )
