"""What a stored webhook costs the receiver, doorbell included, beside a server that only checks the HMAC."""

from __future__ import annotations

import json
import os
import secrets
import socket
import subprocess
import sys
import tempfile
import threading
import time
import uuid
from collections.abc import Iterator, Sequence
from contextlib import ExitStack, contextmanager
from dataclasses import dataclass
from pathlib import Path
from statistics import median
from typing import Any

from pydantic import SecretStr
from redis import Redis
from sqlalchemy import text

from app.cli import bench_client
from app.cli import bench_world as world
from app.cli.bench_scratch import Bar, one_connection, scratch_database, tree_cpu_seconds
from app.cli.up import healthy, receiver_command
from app.signature import signature_of
from models.errors import Refused
from models.settings import Settings
from tasks.runtime import make_broker_client
from tasks.steps import bell

LOOPBACK = "127.0.0.1"
DOMAIN = "bench-receiver.myshopify.com"
BARE = "app.cli.bench_bare:application"
LINES_MOST = 14  # real lines are longer than the pretend store's: more of them make bodies of the usual size
BODIES = 200
START_SECONDS, STOP_SECONDS, LOAD_SECONDS = 30.0, 10.0, 300.0
DRAIN_SECONDS = 0.05  # what a worker takes for a batch: so often it would silence the bell


@dataclass(frozen=True, slots=True)
class Sizes:
    rounds: int
    webhooks: int  # a round, each server
    connections: int


FULL = Sizes(rounds=6, webhooks=3000, connections=32)
QUICK = Sizes(rounds=2, webhooks=40, connections=4)


@dataclass(frozen=True, slots=True)
class Round:
    per_second: float
    cpu_us: float | None
    stored: int  # webhooks answered 200


def measure_receiver(settings: Settings, sizes: Sizes, bar: Bar) -> dict[str, Any]:
    """Both servers under the same requests, round by round in turns; the first round only warms up."""
    assert settings.database_url is not None
    assert settings.redis_url is not None
    with ExitStack() as stack:
        url = stack.enter_context(scratch_database(settings.database_url))
        folder = Path(stack.enter_context(tempfile.TemporaryDirectory(prefix="unwind-bench-")))
        stack.enter_context(answered_bell(settings.redis_url))
        ours = served(stack, settings, url, None, folder / "receiver.log")
        bare = served(stack, settings, url, BARE, folder / "bare.log")
        messages = list(_messages())
        rounds: dict[str, list[Round]] = {"receiver": [], "bare": []}
        with bar.part("receiver: against HMAC only", sizes.rounds + 1):
            for _ in range(sizes.rounds + 1):
                requests = _requests(folder / "requests", messages, sizes.webhooks, ours.settings)
                rounds["receiver"].append(_round(ours, requests, sizes))
                rounds["bare"].append(_round(bare, requests, sizes))
                bar.step()
        kept = _kept(url)
    sent = (sizes.rounds + 1) * sizes.webhooks
    return {
        "webhooks": sizes.rounds * sizes.webhooks,
        "threads": settings.receiver_threads,
        "connections": sizes.connections,
        "body_bytes": round(sum(len(each.body) for each in messages) / len(messages)),
        "receiver": _summary(rounds["receiver"][1:]),
        "bare": _summary(rounds["bare"][1:]),
        "cpu_ratio": _cpu_ratio(rounds["receiver"][1:], rounds["bare"][1:]),
        "rate_ratio": round(_rate(rounds["receiver"][1:]) / _rate(rounds["bare"][1:]), 2),
        "lost": sent - kept,
        "refused": 2 * sent - sum(each.stored for found in rounds.values() for each in found),
    }


# -- the servers -------------------------------------------------------------------------------------


@dataclass(frozen=True, slots=True)
class Server:
    settings: Settings
    process: subprocess.Popen[bytes]


def served(stack: ExitStack, settings: Settings, url: str, target: str | None, log: Path) -> Server:
    """The receiver as `unwind up` starts it, or another application under the same options."""
    ours = settings.model_copy(
        update={
            "database_url": url,
            "host": LOOPBACK,
            "port": _free_port(),
            "log_level": "WARNING",
            "shopify_api_secret": (SecretStr(_SECRET),),
        }
    )
    command = receiver_command(ours)
    if target is not None:
        command[-1] = target
    return stack.enter_context(_running(Server(ours, _started(command, ours, log)), target, log))


_SECRET = secrets.token_hex(16)


def _started(command: Sequence[str], settings: Settings, log: Path) -> subprocess.Popen[bytes]:
    with log.open("wb") as output:
        return subprocess.Popen(  # noqa: S603 - our own program and arguments, no shell
            command,
            env={**os.environ, **settings.environment()},
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
        )


@contextmanager
def _running(server: Server, target: str | None, log: Path) -> Iterator[Server]:
    try:
        until = time.monotonic() + START_SECONDS
        while not (_listens(server.settings.port) if target else healthy(server.settings)):
            if server.process.poll() is not None or time.monotonic() > until:
                raise Refused("bench", f"a server did not start: {log.read_text()[-500:]}")
            time.sleep(0.1)
        yield server
    finally:
        server.process.terminate()
        try:
            server.process.wait(STOP_SECONDS)
        except subprocess.TimeoutExpired:
            server.process.kill()
            server.process.wait()


def _free_port() -> int:
    with socket.socket() as probe:
        probe.bind((LOOPBACK, 0))
        port: int = probe.getsockname()[1]
        return port


def _listens(port: int) -> bool:
    with socket.socket() as probe:
        return probe.connect_ex((LOOPBACK, port)) == 0


@contextmanager
def answered_bell(redis_url: str) -> Iterator[None]:
    """Silence the shop's bell as often as a busy worker would, so that the receiver really rings."""
    done = threading.Event()

    def answer(broker: Redis) -> None:
        while not done.wait(DRAIN_SECONDS):
            bell.answer(broker, DOMAIN)

    with make_broker_client(redis_url) as broker:
        thread = threading.Thread(target=answer, args=(broker,), daemon=True)
        thread.start()
        try:
            yield
        finally:
            done.set()
            thread.join()


# -- the load ----------------------------------------------------------------------------------------


def _messages() -> Iterator[world.Message]:
    """Two orders to one refund: of an order's webhooks most are the order itself."""
    for number, sale in enumerate(world.sales(BODIES, seed=4, now=world.utc_now(), lines_most=LINES_MOST)):
        yield sale.refunded if number % 3 == 2 else sale.paid


def _requests(path: Path, messages: Sequence[world.Message], count: int, settings: Settings) -> Path:
    """A file of signed requests, each with a webhook id of its own."""
    secret = settings.webhook_secrets[0]
    with path.open("wb") as file:
        for number in range(count):
            file.write(bench_client.framed(_request(messages[number % len(messages)], secret)))
    return path


def _request(message: world.Message, secret: bytes) -> bytes:
    head = {
        "Host": LOOPBACK,
        "User-Agent": "Shopify-Captain-Hook",
        "Accept": "*/*",
        "Content-Type": "application/json",
        "Content-Length": str(len(message.body)),
        "X-Shopify-Topic": message.topic,
        "X-Shopify-Hmac-Sha256": signature_of(message.body, secret),
        "X-Shopify-Shop-Domain": DOMAIN,
        "X-Shopify-Api-Version": "2026-07",
        "X-Shopify-Webhook-Id": str(uuid.uuid4()),
        "X-Shopify-Event-Id": str(uuid.uuid4()),
        "X-Shopify-Triggered-At": message.received_at.isoformat(),
    }
    lines = "".join(f"{name}: {value}\r\n" for name, value in head.items())
    return f"POST /webhooks HTTP/1.1\r\n{lines}\r\n".encode() + message.body


def _round(server: Server, requests: Path, sizes: Sizes) -> Round:
    before = tree_cpu_seconds(server.process.pid)
    told = {
        "host": LOOPBACK,
        "port": server.settings.port,
        "path": str(requests),
        "connections": sizes.connections,
    }
    done = subprocess.run(  # noqa: S603 - our own program and arguments, no shell
        [
            sys.executable,
            bench_client.__file__,
        ],  # by its path: the whole application need not be imported for it
        input=json.dumps(told).encode(),
        stdout=subprocess.PIPE,
        timeout=LOAD_SECONDS,
        check=True,
    )
    after = tree_cpu_seconds(server.process.pid)
    found = json.loads(done.stdout)
    cpu = None if before is None or after is None else (after - before) * 1e6 / sizes.webhooks
    return Round(sizes.webhooks / found["seconds"], cpu, found["answers"].get("200", 0))


def _kept(url: str) -> int:
    with one_connection(url) as engine, engine.connect() as connection:
        kept: int = connection.execute(text("select count(*) from inbox")).scalar_one()
    return kept


# -- figures -----------------------------------------------------------------------------------------


def _summary(rounds: Sequence[Round]) -> dict[str, Any]:
    cpu = _cpu(rounds)
    return {"per_second": round(_rate(rounds)), "cpu_us": None if cpu is None else round(cpu)}


def _rate(rounds: Sequence[Round]) -> float:
    return median(each.per_second for each in rounds)


def _cpu(rounds: Sequence[Round]) -> float | None:
    known = [each.cpu_us for each in rounds if each.cpu_us is not None]
    return median(known) if known else None


def _cpu_ratio(ours: Sequence[Round], bare: Sequence[Round]) -> float | None:
    a, b = _cpu(ours), _cpu(bare)
    return None if a is None or not b else round(a / b, 2)
