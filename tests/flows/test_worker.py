"""A real Celery worker on a real broker: what is routed is registered, and a webhook is worked off within moments."""

from __future__ import annotations

import os
import secrets
import signal
import subprocess
import sys
import time

import pytest
import redis
from pydantic import SecretStr
from sqlalchemy import text

from app.signature import signature_of
from app.web import create_app
from models.settings import Settings
from tasks.refunds import process
from worker.celery_app import celery_app
from worker.celery_settings import QUEUES, SETTINGS, TASK_MODULES, make_sender
from worker.doorbell import Ring, make_doorbell
from worker.schedule import SCHEDULE
from worker.topics import ANY_EVENTS, TASK_OF_TOPIC, label_of, task_for

SECRET = "a secret of the worker's tests"
PATIENCE_SECONDS = 30.0


def test_every_task_that_a_topic_or_the_clock_rings_is_registered():
    celery_app.loader.import_default_modules()
    routed = {*TASK_OF_TOPIC.values(), ANY_EVENTS, *(entry["task"] for entry in SCHEDULE.values())}
    assert routed <= set(celery_app.tasks)


def test_every_task_module_defines_a_task():
    celery_app.loader.import_default_modules()
    modules = {type(task).__module__ for task in celery_app.tasks.values()}
    assert set(TASK_MODULES) <= modules


def test_a_shared_task_belongs_to_the_configured_application():
    assert process.app.conf.task_acks_late is True


@pytest.mark.parametrize(
    ("topic", "task"),
    [
        ("refunds/create", "refunds.process"),
        ("orders/paid", "orders.process"),
        ("order_transactions/create", "transactions.process"),
        ("customers/merge", "events.process"),
        ("returns/approve", "events.process"),
        ("something/new", "events.process"),
        ("", "events.process"),
    ],
)
def test_a_topic_names_its_task(topic, task):
    assert task_for(topic) == task


def test_a_sender_cannot_make_up_series_of_figures():
    assert label_of("refunds/create") == "refunds/create"
    assert label_of("returns/whatever") == "returns/*"
    assert label_of("made/up") == "other"


def test_every_queue_is_declared_and_every_route_leads_to_one():
    assert {route["queue"] for route in SETTINGS["task_routes"].values()} <= set(QUEUES)
    assert {queue.name for queue in SETTINGS["task_queues"]} == set(QUEUES)


def test_what_is_scheduled_and_not_taken_is_thrown_away():
    assert all(entry["options"]["expires"] for entry in SCHEDULE.values())


@pytest.fixture
def settings(database_url, redis_url):
    return Settings(database_url=database_url, redis_url=redis_url, shopify_api_secret=(SecretStr(SECRET),))


@pytest.fixture
def worker(settings, tmp_path):
    """A worker of one process, started as `unwind up` starts it; ended as a platform ends it."""
    environment = {**os.environ, **settings.environment()}
    command = [
        sys.executable,
        "-m",
        "celery",
        "-A",
        "worker.celery_app",
        "worker",
        "--concurrency",
        "1",
        "-E",
    ]
    log = (tmp_path / "worker.log").open("w+")
    child = subprocess.Popen(command, env=environment, stdout=log, stderr=log)
    yield log
    child.send_signal(signal.SIGTERM)
    try:
        assert child.wait(PATIENCE_SECONDS) == 0
    finally:
        child.kill()
        child.wait()
        log.close()


def until(found):
    end = time.monotonic() + PATIENCE_SECONDS
    while not (answer := found()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)
    return answer


def state_of(engine, domain):
    with engine.connect() as connection:
        query = text("select state, error_code from inbox where shop_domain = :domain")
        return connection.execute(query, {"domain": domain}).one()


def test_a_webhook_rings_a_worker_that_works_it_off(settings, engine, worker):
    domain = f"unknown-{secrets.token_hex(4)}.myshopify.com"
    app = create_app(settings)
    headers = {
        "X-Shopify-Hmac-Sha256": signature_of(b"{}", SECRET.encode()),
        "X-Shopify-Topic": "refunds/create",
        "X-Shopify-Shop-Domain": domain,
        "X-Shopify-Webhook-Id": "w-1",
    }
    assert app.test_client().post("/webhooks", data=b"{}", headers=headers).status_code == 200
    until(lambda: state_of(engine, domain).state != "pending")
    app.extensions["unwind"].close()
    assert tuple(state_of(engine, domain)) == ("failed", "unknown_shop")
    worker.flush()
    worker.seek(0)
    lines = worker.read()
    assert domain in lines and "refunds.process" in lines


def test_the_sweep_works_off_what_no_bell_rang_for(settings, engine, worker):
    domain = f"forgotten-{secrets.token_hex(4)}.myshopify.com"
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, body, received_at)"
                " values (:domain, 'refunds/create', '{}', now() - interval '1 minute')"
            ),
            {"domain": domain},
        )
    make_sender(settings.redis_url).send_task("sweeps.ring", queue="sweeps", ignore_result=True)
    until(lambda: state_of(engine, domain).state == "failed")


def test_a_message_holds_ids_and_no_body(redis_url):
    body = b'{"id": 1, "order_id": 42, "refund_line_items": [], "note": "a private word", "email": "ann@example.com"}'
    make_doorbell(redis_url).ring([Ring("a.myshopify.com", "refunds/create", 5, body)])
    with redis.Redis.from_url(redis_url) as client:
        (message,) = client.lrange("unwind:events", 0, -1)
    assert b"'order_id': 42" in message
    for private in (b"private", b"ann@", b"note"):
        assert private not in message
