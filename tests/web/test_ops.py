"""What operators see: up, ready, and the figures."""

from __future__ import annotations

import socket
import threading

import pytest
from flask import Flask
from redis import Redis
from sqlalchemy import Engine, event, text
from sqlalchemy.exc import OperationalError

from app import errors
from app.figures import FLAGGED, OUTBOX, sweep_metrics
from app.ops import Books
from models.errors import BrokerUnreachable, InvalidSetting, InvariantBroken, NotFound, Refused, Unparseable


@pytest.fixture
def nowhere():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        return f"127.0.0.1:{gone.getsockname()[1]}"


def figures(client):
    answer = client.get("/metrics")
    assert answer.status_code == 200
    lines = [line for line in answer.text.splitlines() if not line.startswith("#")]
    return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}


def test_a_process_that_answers_is_up(client):
    assert client.get("/healthz").json == {"status": "up"}


def test_it_is_ready_with_a_database_of_the_newest_schema_and_a_broker(client):
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json) == (
        200,
        {"status": "ready", "checks": {"database": "ok", "broker": "ok"}},
    )


def test_it_is_up_but_not_ready_without_a_broker(app_with, nowhere):
    client = app_with(redis_url=f"redis://{nowhere}/0").test_client()
    answer = client.get("/readyz")
    assert (answer.status_code, answer.json["checks"]) == (
        503,
        {"database": "ok", "broker": "ConnectionError"},
    )
    assert client.get("/healthz").status_code == 200


def test_it_is_not_ready_without_a_database_and_says_no_address(app_with, nowhere):
    answer = app_with(database_url=f"postgresql://ann:secret@{nowhere}/x").test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "OperationalError")
    assert "secret" not in answer.text and "127.0.0.1" not in answer.text


def test_it_is_not_ready_with_an_older_schema(app_with, fresh_engine):
    with fresh_engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0001'"))
    url = fresh_engine.url.render_as_string(hide_password=False)
    assert app_with(database_url=url).test_client().get("/readyz").json["checks"]["database"] == "outdated"


def test_it_stays_ready_while_a_newer_release_has_migrated_and_replaces_it(app_with, fresh_engine):
    with fresh_engine.begin() as connection:
        connection.execute(text("update alembic_version set version_num = '0999'"))
    url = fresh_engine.url.render_as_string(hide_password=False)
    answer = app_with(database_url=url).test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["database"]) == (200, "ahead")


def test_it_is_not_ready_without_any_schema(app_with, fresh_engine):
    with fresh_engine.begin() as connection:
        connection.execute(text("drop table alembic_version"))
    url = fresh_engine.url.render_as_string(hide_password=False)
    answer = app_with(database_url=url).test_client().get("/readyz")
    assert (answer.status_code, answer.json["checks"]["database"]) == (503, "outdated")


def test_webhooks_are_counted_by_topic_and_result(client, send):
    send(id="w-1")
    send(id="w-1")
    send(topic="made/up")
    send(topic="refunds/create", X_Shopify_Hmac_Sha256="forged")
    found = figures(client)
    assert found['unwind_webhooks_total{result="stored",topic="refunds/create"}'] == 1
    assert found['unwind_webhooks_total{result="seen_before",topic="refunds/create"}'] == 1
    assert found['unwind_webhooks_total{result="stored",topic="other"}'] == 1
    assert found['unwind_webhooks_total{result="not_signed",topic="other"}'] == 1


def test_what_waits_and_what_is_parked_is_read_from_the_database(app_with, fresh_engine):
    with fresh_engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, body, state, received_at) values"
                " ('a', 'refunds/create', '', 'pending', now() - interval '90 seconds'),"
                " ('a', 'refunds/create', '', 'pending', now()), ('a', 'made/up', '', 'failed', now()),"
                " ('a', 'orders/paid', '', 'done', now())"
            )
        )
    url = fresh_engine.url.render_as_string(hide_password=False)
    found = figures(app_with(database_url=url).test_client())
    assert found['unwind_inbox_pending{topic="refunds/create"}'] == 2
    assert found['unwind_inbox_failed{topic="other"}'] == 1
    assert 90 <= found["unwind_inbox_oldest_seconds"] < 150
    assert found["unwind_database_up"] == found["unwind_broker_up"] == 1
    assert found["unwind_points_reversed"] == found['unwind_queue_depth{queue="events"}'] == 0


def test_figures_are_given_without_a_database_and_a_broker(app_with, nowhere):
    gone = app_with(database_url=f"postgresql://{nowhere}/x", redis_url=f"redis://{nowhere}/0")
    found = figures(gone.test_client())
    assert found["unwind_database_up"] == found["unwind_broker_up"] == 0


def test_figures_of_the_books_are_asked_for_once_in_a_while(client, engine, shop):
    before = figures(client)
    with engine.begin() as connection:
        connection.execute(
            text("insert into inbox (shop_domain, topic, body) values (:d, 'orders/paid', '')"),
            {"d": shop.domain},
        )
    assert figures(client).get('unwind_inbox_pending{topic="orders/paid"}') == before.get(
        'unwind_inbox_pending{topic="orders/paid"}'
    )


@pytest.mark.parametrize(
    ("error", "status", "code"),
    [
        (NotFound("order", 42), 404, "not_found"),
        (Refused("already_refunded", "it was refunded"), 409, "already_refunded"),
        (InvalidSetting("tiers.window", "is unknown"), 422, "invalid_setting"),
        (Unparseable("id", "is missing"), 422, "unparseable"),
        (BrokerUnreachable("later"), 503, "broker_unreachable"),
        (InvariantBroken("secret of the books"), 500, "internal"),
        (OperationalError("select secret", {}, Exception("secret")), 503, "database_busy"),
        (KeyError("secret"), 500, "internal"),
    ],
    ids=lambda value: type(value).__name__ if isinstance(value, Exception) else None,
)
def test_an_error_becomes_an_answer_that_tells_nothing_of_the_inside(error, status, code):
    app = Flask("errors")
    errors.register(app)

    @app.get("/")
    def fail():
        raise error

    answer = app.test_client().get("/")
    assert (answer.status_code, answer.json["error"]["code"]) == (status, code)
    assert "secret" not in answer.text
    assert ("Retry-After" in answer.headers) == (status == 503)


class SlowDatabase:
    """A clock that goes on by so many seconds with each statement that sums up a whole table."""

    def __init__(self, engine: Engine, seconds: float) -> None:
        self.now = 1000.0
        event.listen(engine, "before_cursor_execute", self.asked)
        self.seconds, self.sums = seconds, 0

    def asked(self, connection, cursor, statement, *more) -> None:
        if "sum(reversed)" in statement:
            self.now += self.seconds
            self.sums += 1

    def __call__(self) -> float:
        return self.now


@pytest.mark.parametrize(
    ("seconds", "rest"),
    [pytest.param(0.001, 10, id="a small book"), pytest.param(0.7, 70, id="a book of a million refunds")],
)
def test_sums_of_whole_tables_are_asked_for_the_more_seldom_the_longer_they_take(
    fresh_engine, redis_url, seconds, rest
):
    clock = SlowDatabase(fresh_engine, seconds)
    with Redis.from_url(redis_url) as broker:
        books = Books(fresh_engine, broker, clock=clock)
        names = [metric.name for metric in books.collect()]
        began = clock.now
        for later in range(1, rest):
            clock.now = began + later
            assert [metric.name for metric in books.collect()] == names, "the sums of before are still told"
        assert clock.sums == 1
        clock.now = began + rest + 11
        books.collect()
    assert clock.sums == 2


class Failing(SlowDatabase):
    """One whose sums over whole tables take longer than a statement may."""

    def asked(self, connection, cursor, statement, *more) -> None:
        if "sum(reversed)" in statement:
            self.now += self.seconds
            self.sums += 1
            connection.exec_driver_sql("set local statement_timeout = 1")
            connection.exec_driver_sql("select pg_sleep(1)")


def told(books: Books) -> dict[str, float]:
    return {metric.name: metric.samples[0].value for metric in books.collect() if metric.samples}


def test_sums_that_take_too_long_are_left_out_and_say_nothing_against_the_database(fresh_engine, redis_url):
    clock = Failing(fresh_engine, 30.0)
    with Redis.from_url(redis_url) as broker:
        books = Books(fresh_engine, broker, clock=clock)
        for _ in range(3):
            found = told(books)
            assert found["unwind_database_up"] == 1 and "unwind_outbox_oldest_seconds" in found
            assert "unwind_points_reversed" not in found
            clock.now += 11
    assert clock.sums == 1, "they are not asked for again with each look"


def test_sums_come_back_with_the_database(fresh_engine, redis_url):
    clock = SlowDatabase(fresh_engine, 30.0)
    away = threading.Event()

    def refuse(*given: object) -> None:
        if away.is_set():
            raise RuntimeError("the database is away")

    event.listen(fresh_engine, "before_cursor_execute", refuse)
    with Redis.from_url(redis_url) as broker:
        books = Books(fresh_engine, broker, clock=clock)
        assert "unwind_points_reversed" in told(books)
        away.set()
        clock.now += 11
        assert told(books)["unwind_database_up"] == 0
        away.clear()
        clock.now += 11
        assert "unwind_points_reversed" in told(books)


def test_what_a_merchant_has_put_aside_is_nobodys_to_look_at(shop, engine, redis_url):
    rows = (
        "insert into orders (shop_id, order_id, facts, status, refunded_minor, flags, counted) values"
        " (:shop, 7, '{}', 'open', 0, '[\"REFUND_CONFLICT\", \"NO_CUSTOMER\"]', '{}');"
        "insert into outbox (id, shop_id, kind, key, payload, state) overriding system value"
        " values (-7, :shop, 'create_code', 'x', '{}', 'failed')"
    )
    aside = "insert into dismissals (shop_id, kind, subject, at, by) values (:shop, :kind, :subject, now(), 'session')"
    with engine.connect() as connection:
        for statement in rows.split(";"):
            connection.execute(text(statement), {"shop": shop.id})
        before = dict(counted(connection))
        assert before["REFUND_CONFLICT"] >= 1 and "NO_CUSTOMER" not in before
        for kind, subject in (("order", "7:REFUND_CONFLICT"), ("outbox", "-7")):
            connection.execute(text(aside), {"shop": shop.id, "kind": kind, "subject": subject})
        after = dict(counted(connection))
        connection.rollback()
    assert before["REFUND_CONFLICT"] - after.get("REFUND_CONFLICT", 0) == 1
    assert before["create_code"] - after.get("create_code", 0) == 1


def counted(connection):
    """Flagged orders by flag, and failed work outside by kind."""
    yield from ((flag, count) for flag, count, _ in connection.execute(FLAGGED))
    yield from ((kind, n) for kind, state, n, _ in connection.execute(OUTBOX) if state == "failed")


def test_a_clock_that_never_ran_is_told_of():
    *_, last = sweep_metrics([], None, 1000.0)
    assert last.samples[0].value == float("inf")
