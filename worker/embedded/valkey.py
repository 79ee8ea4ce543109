"""An embedded Valkey (Redis protocol): every write in a file within a second, nothing ever evicted.

It listens on a free port of loopback with a password made for this run: one address that redis-py, Celery, Flower and
the rate limiter all understand, which a socket's is not. The configuration goes in by standard input, so the password
stands in no file and no argument.
"""

from __future__ import annotations

import secrets
import signal
import socket
from pathlib import Path

import redis
from redis.backoff import NoBackoff
from redis.retry import Retry

from worker.embedded.account import Account
from worker.embedded.process import Server

ANSWER_SECONDS = 2


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def new_address() -> str:
    return f"redis://:{secrets.token_urlsafe(24)}@127.0.0.1:{free_port()}/0"


def valkey_server(program: Path, url: str, *, data: Path, log: Path, account: Account, lock: int) -> Server:
    """The server for `url` over `data`."""
    return Server(
        name="Valkey",
        command=[str(program), "-"],
        stop_signal=signal.SIGTERM,
        directory=data,
        log=log,
        account=account,
        lock=lock,
        standard_input=configuration(url, data).encode(),
    )


def configuration(url: str, data: Path) -> str:
    """The server's settings; `dir` is quoted, for paths with spaces."""
    given = redis.Redis.from_url(url).get_connection_kwargs()
    quoted = str(data).replace("\\", "\\\\").replace('"', '\\"')
    return "\n".join(
        [
            "bind 127.0.0.1",
            f"port {given['port']}",
            f"requirepass {given['password']}",
            f'dir "{quoted}"',
            "appendonly yes",
            "appendfsync everysec",
            'save ""',
            "maxmemory-policy noeviction",
            "daemonize no",
            "",
        ]
    )


def answers(url: str) -> bool:
    """Whether the server with this password is there; another program may have taken the port."""
    try:
        with connected(url) as client:
            return bool(client.ping())
    except redis.RedisError:
        return False


def version_of(url: str) -> str:
    with connected(url) as client:
        told = client.info("server")
    assert isinstance(told, dict)
    return (
        f"Valkey {told['valkey_version']}" if "valkey_version" in told else f"Redis {told['redis_version']}"
    )


def connected(url: str) -> redis.Redis:
    """One try: whoever waits for the server asks again by itself, and sooner than the client would."""
    once = Retry(NoBackoff(), 0)
    return redis.Redis.from_url(
        url, socket_timeout=ANSWER_SECONDS, socket_connect_timeout=ANSWER_SECONDS, retry=once
    )
