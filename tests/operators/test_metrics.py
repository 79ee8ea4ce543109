"""Each promised figure moves, read as Prometheus reads it; and readiness is lost and found with what it stands on."""

from __future__ import annotations

import select
import socket
import threading
from collections.abc import Iterator
from contextlib import suppress
from urllib.parse import urlsplit

import pytest
from prometheus_client.parser import text_string_to_metric_families as prometheus
from pydantic import SecretStr
from redis import Redis

from app.web import create_app
from models.settings import Settings
from tests.operators.conftest import Watched
from tests.seeds.product import until

FORGOTTEN = "insert into inbox (shop_domain, topic, body, received_at) values (%s, 'orders/paid', '{}', now() - interval '1 hour')"
MOVED = {  # by what happened in `watched`
    'unwind_webhooks_total{result="stored",topic="refunds/create"}': 4,
    'unwind_webhooks_total{result="stored",topic="orders/create"}': 4,
    'unwind_inbox_failed{topic="orders/updated"}': 1,
    'unwind_refunds{outcome="with_money"}': 4,
    "unwind_points_reversed": 100 + 250 + 500,
    "unwind_points_forgiven": 500,
    "unwind_points_returned": 500,
    'unwind_shopify_calls_total{operation="discount_create",result="ok"}': 1,
    'unwind_shopify_calls_total{operation="discount_create",result="throttled"}': 1,
    "unwind_shopify_throttled_total": 1,
    'unwind_sweeps_total{result="done"}': 1,
}


def figures(text: str) -> dict[str, float]:
    found = {}
    for family in prometheus(text):
        for sample in family.samples:
            labels = ",".join(f'{name}="{value}"' for name, value in sorted(sample.labels.items()))
            found[f"{sample.name}{{{labels}}}" if labels else sample.name] = sample.value
    return found


def test_each_promised_figure_moves_with_what_it_counts(watched: Watched) -> None:
    before = figures(watched.before)
    assert (
        before["unwind_points_reversed"] == 0
        and before["unwind_database_up"] == before["unwind_broker_up"] == 1
    )

    def moved() -> bool:
        now = figures(watched.metrics())
        return all(now.get(name, 0) - before.get(name, 0) >= least for name, least in MOVED.items())

    with suppress(AssertionError):
        until(moved)
    now = figures(watched.metrics())
    short = {
        name: now.get(name) for name, least in MOVED.items() if now.get(name, 0) - before.get(name, 0) < least
    }
    assert not short


def test_what_the_sweep_finds_and_when_it_last_did_are_figures(watched: Watched) -> None:
    found = "unwind_sweep_findings_total"
    before = figures(watched.metrics())[found]
    watched.product.database.execute(FORGOTTEN, ("nobody.myshopify.com",))
    until(lambda: figures(watched.metrics())[found] > before)
    assert figures(watched.metrics())["unwind_sweep_last_seconds"] < 60


@pytest.fixture
def settings(database_url: str, redis_url: str) -> Settings:
    return Settings(database_url=database_url, redis_url=redis_url, shopify_api_secret=(SecretStr("hush"),))


def test_messages_that_wait_are_counted_by_queue(settings: Settings) -> None:
    with Redis.from_url(str(settings.redis_url)) as redis:
        redis.lpush("unwind:events", "a", "b")
    app = create_app(settings)
    found = figures(app.test_client().get("/metrics").text)
    app.extensions["unwind"].close()
    assert found['unwind_queue_depth{queue="events"}'] == 2
    assert found['unwind_queue_depth{queue="outbox"}'] == 0


class Line:
    """A way to a server, on a port of its own, that can be cut and mended."""

    def __init__(self, host: str, port: int) -> None:
        self.target = (host, port)
        self.listener: socket.socket | None = None
        self.sockets: list[socket.socket] = []
        self.port = 0
        self.mend()

    def mend(self) -> None:
        self.listener = socket.create_server(("127.0.0.1", self.port))
        self.port = self.listener.getsockname()[1]
        threading.Thread(target=self._accept, args=(self.listener,), daemon=True).start()

    def cut(self) -> None:
        assert self.listener is not None
        for each in [self.listener, *self.sockets]:
            with suppress(OSError):
                each.shutdown(socket.SHUT_RDWR)
            each.close()
        self.sockets.clear()

    def _accept(self, listener: socket.socket) -> None:
        with suppress(OSError):
            while True:
                inner = listener.accept()[0]
                outer = socket.create_connection(self.target)
                self.sockets += [inner, outer]
                threading.Thread(target=self._carry, args=(inner, outer), daemon=True).start()

    @staticmethod
    def _carry(inner: socket.socket, outer: socket.socket) -> None:
        with suppress(OSError, ValueError):
            while ready := select.select([inner, outer], [], [])[0]:
                for one in ready:
                    data = one.recv(65536)
                    if not data:
                        return
                    (outer if one is inner else inner).sendall(data)


@pytest.fixture
def lines(settings: Settings) -> Iterator[tuple[Line, Line]]:
    addresses = [urlsplit(str(url)) for url in (settings.database_url, settings.redis_url)]
    made = [Line(at.hostname or "", at.port or 5432) for at in addresses]
    yield made[0], made[1]
    for line in made:
        line.cut()


def through(url: str, line: Line) -> str:
    at = urlsplit(url)
    return url.replace(f"{at.hostname}:{at.port}", f"127.0.0.1:{line.port}")


def test_it_is_ready_again_as_database_and_broker_go_and_come(
    settings: Settings, lines: tuple[Line, Line]
) -> None:
    database, broker = lines
    ours = settings.model_copy(
        update={
            "database_url": through(str(settings.database_url), database),
            "redis_url": through(str(settings.redis_url), broker),
        }
    )
    app = create_app(ours)
    client = app.test_client()

    def checks() -> tuple[int, dict[str, str]]:
        answer = client.get("/readyz")
        return answer.status_code, answer.json["checks"]

    well = (200, {"database": "ok", "broker": "ok"})
    assert checks() == well
    database.cut()
    assert checks() == (503, {"database": "OperationalError", "broker": "ok"})
    database.mend()
    assert checks() == well
    broker.cut()
    status, found = checks()
    assert status == 503 and found["database"] == "ok" and found["broker"] != "ok"
    broker.mend()
    assert checks() == well
    app.extensions["unwind"].close()
