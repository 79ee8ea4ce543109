"""A shop that asked to be told, and its own system that listens: a real HTTP server which verifies what it hears with the
library of Standard Webhooks, as the documents tell integrators to."""

from __future__ import annotations

import base64
import json
import threading
import time
from collections import deque
from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from typing import Any

from cryptography.fernet import Fernet
from sqlalchemy import Engine, Row, text
from standardwebhooks import Webhook, WebhookVerificationError

from models.rules.facts import Fact
from tasks.gateway.outgoing import Outgoing, networks_of
from tasks.steps import deliveries, endpoints, programs
from tasks.steps.load import open_world
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tasks.steps.vault import Vault
from tests.conftest import RegisteredShop
from tests.rules.build import day, settings

HERE = networks_of(["127.0.0.0/8"])
KEY = Fernet.generate_key()
KEY_OF_CHILDREN = base64.urlsafe_b64encode(b"the key of processes that die...")  # known to both


@dataclass(frozen=True)
class Heard:
    """One call that came, and whether the library believed it."""

    id: str
    body: dict[str, Any]
    headers: dict[str, str]
    verified: bool

    @property
    def event(self) -> str:
        return str(self.body["type"])


@dataclass(frozen=True)
class Answer:
    status: int = 204
    headers: dict[str, str] = field(default_factory=dict)
    after_seconds: float = 0.0


class Server(ThreadingHTTPServer):
    """Keeps connections waiting until they are taken: of more than the usual five, some would be dropped."""

    daemon_threads = True
    request_queue_size = 128


class Listener:
    """`answers` are given one after the other, then 204 for ever; `secret` is what calls are verified with."""

    def __init__(self) -> None:
        self.heard: list[Heard] = []
        self.answers: deque[Answer] = deque()
        self.always: Answer = Answer()
        self.secret = ""
        self.arrived = threading.Condition()
        listener = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                raw = self.rfile.read(int(self.headers["Content-Length"]))
                answer = listener.hear(raw, dict(self.headers.items()))
                time.sleep(answer.after_seconds)
                self.send_response(answer.status)
                for name, value in answer.headers.items():
                    self.send_header(name, value)
                self.send_header("Content-Length", "0")
                self.end_headers()

            def log_message(self, *_: Any) -> None:
                pass

        self.server = Server(("127.0.0.1", 0), Handler)
        self.url = f"http://127.0.0.1:{self.server.server_port}/hooks?shop=1"
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,), daemon=True)
        self.thread.start()

    def hear(self, raw: bytes, headers: dict[str, str]) -> Answer:
        try:
            body = Webhook(self.secret).verify(raw, headers)
            verified = True
        except WebhookVerificationError:
            body, verified = json.loads(raw), False
        with self.arrived:
            self.heard.append(Heard(headers["webhook-id"], body, headers, verified))
            self.arrived.notify_all()
            return self.answers.popleft() if self.answers else self.always

    def wait_for(self, calls: int, *, seconds: float = 20.0) -> None:
        with self.arrived:
            assert self.arrived.wait_for(lambda: len(self.heard) >= calls, seconds), len(self.heard)

    def events(self) -> list[str]:
        return [each.event for each in self.heard]

    def of(self, event: str) -> list[dict[str, Any]]:
        return [each.body["data"] for each in self.heard if each.event == event]

    def close(self) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


@contextmanager
def listening() -> Iterator[Listener]:
    listener = Listener()
    try:
        yield listener
    finally:
        listener.close()


class Telling:
    """One shop: facts go in, what is due goes out when the test says so."""

    def __init__(self, engine: Engine, shop: RegisteredShop, *, key: bytes = KEY, **program: Any) -> None:
        self.engine, self.id, self.domain = engine, shop.id, shop.domain
        self.vault, self.outgoing = Vault([key]), Outgoing(HERE)
        with engine.begin() as connection:
            programs.put(connection, shop.id, settings(**program), now=day(-90))

    def listen(self, listener: Listener, events: Sequence[str] | None = None) -> int:
        """The listener becomes an endpoint of the shop."""
        url = self.outgoing.check(listener.url)
        with self.engine.begin() as connection:
            made = endpoints.add(connection, self.vault, self.id, url=url, events=events)
        listener.secret = made["secret"]
        return int(made["id"])

    def tell(self, *facts: Fact | tuple[Fact, ...], now: datetime | None = None) -> None:
        now = now or datetime.now(UTC)
        flat = [fact for each in facts for fact in (each if isinstance(each, tuple) else (each,))]
        with self.engine.begin() as connection:
            world = open_world(connection, by_id(connection, self.id), now)
            settle(world, [Told(fact=fact, received_at=now, cause="inbox:1") for fact in flat])

    def deliver(self, *, now: datetime | None = None, ahead: float = 1.0) -> str:
        """Send what is due now, or at another time."""
        at = now or datetime.fromtimestamp(time.time() + ahead, UTC)
        done = deliveries.deliver(self.engine, self.outgoing, self.vault, self.domain, now=lambda: at)
        return str(done)

    def rows(self, query: str, **parameters: Any) -> Sequence[Row[Any]]:
        with self.engine.begin() as connection:
            return connection.execute(text(query), {"shop": self.id, **parameters}).all()

    def messages(self) -> list[tuple[str, str, int]]:
        found = self.rows("select event, subject, sequence from messages where shop_id = :shop order by id")
        return [(row.event, row.subject, row.sequence) for row in found]

    def endpoint(self, id: int) -> dict[str, Any]:
        with self.engine.begin() as connection:
            return endpoints.get(connection, self.id, id)

    def deliveries(self, id: int) -> Sequence[dict[str, Any]]:
        """Of an endpoint, oldest first."""
        with self.engine.begin() as connection:
            return list(reversed(deliveries.listing(connection, self.id, id).rows))
