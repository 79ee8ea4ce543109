"""`unwind up`: everything a real store needs, in one command."""

from __future__ import annotations

import contextlib
import http.client
import socket
import sys
import time
from collections.abc import Callable
from dataclasses import dataclass
from pathlib import Path

import click

from app.cli.context import ENV_FILE, Session, data_option, emit, json_option, note, session
from models.errors import InvalidSetting
from models.settings import Settings, load_settings
from worker import telemetry
from worker.supervisor import Child, Supervisor

CELERY = (sys.executable, "-m", "celery", "--app", "worker.celery_app")
FLOWER = (sys.executable, "-m", "worker.flower")  # its address and its login come from the environment
FLOWER_GRACE_SECONDS = 5.0  # it keeps nothing, and may ignore SIGTERM when the broker was gone
KILL_AFTER_GRACE_SECONDS = 5.0  # the children end by themselves within the grace time; then we insist
ANSWER_SECONDS = 0.5
SLOW_START_SECONDS = 30.0
EVERYWHERE = {"0.0.0.0": "127.0.0.1", "::": "::1"}  # noqa: S104 - listening there is the caller's choice


@click.command()
@click.option("--host", help="Address to listen on; HOST in the environment.")
@click.option("--port", type=click.IntRange(1, 65535), help="Port to listen on; PORT in the environment.")
@click.option("--flower", is_flag=True, help="Flower as well, to watch the tasks.")
@data_option
@json_option
def up(host: str | None, port: int | None, flower: bool, data: Path, as_json: bool) -> int:
    """Run the receiver, the worker and the scheduler for a real store.

    Uses DATABASE_URL and REDIS_URL when they are set, else servers of its own under --data. Ends cleanly on SIGTERM:
    work in hand is finished or returned.
    """
    given = load_settings(ENV_FILE, host=host, port=port)
    check(given, flower=flower)
    with session(data, command="unwind up", lasting=True, upgraded=True, host=host, port=port) as here:
        addresses = urls(here.settings, flower=flower)
        unset = unset_for_stores(here.settings)
        if unset:
            note(
                f"no merchant can connect a store: {', '.join(unset)} is not set; `unwind settings` explains each"
            )
        return supervised(here, children(here, flower=flower), addresses, as_json=as_json)


def check(settings: Settings, *, flower: bool) -> None:
    """Refuse what could only fail later: a receiver that cannot verify, an open Flower, a port in use."""
    settings.require_receiver()
    telemetry.check(settings)
    port_is_free("PORT", settings.host, settings.port)
    if flower:
        settings.require_flower()
        port_is_free("FLOWER_PORT", settings.flower_address, settings.flower_port)


def unset_for_stores(settings: Settings) -> list[str]:
    """What is missing for the installation of an app, when one is meant: webhooks sent by hand need none of it."""
    needed = {
        "SHOPIFY_API_KEY": settings.shopify_api_key,
        "SHOPIFY_APP_URL": settings.shopify_app_url,
        "TOKEN_ENCRYPTION_KEYS": settings.token_encryption_keys,
    }
    meant = settings.shopify_api_key or settings.shopify_app_url
    return [name for name, value in needed.items() if meant and not value]


def port_is_free(name: str, host: str, port: int) -> None:
    family = socket.AF_INET6 if ":" in host else socket.AF_INET
    with socket.socket(family) as probe:
        probe.setsockopt(socket.SOL_SOCKET, socket.SO_REUSEADDR, 1)
        try:
            probe.bind((host, port))
        except OSError as error:
            reason = f"{host}:{port} cannot be listened on ({error.strerror}); choose another"
            raise InvalidSetting(name, reason) from None


def children(here: Session, *, flower: bool) -> list[Child]:
    """The processes of `up`, each with the settings in its environment."""
    settings = here.settings
    env, grace = here.environment(), settings.stop_grace_seconds + KILL_AFTER_GRACE_SECONDS
    found = [
        Child("receiver", receiver_command(settings), env, grace),
        Child("worker", worker_command(settings), env, grace),
        Child("scheduler", scheduler_command(settings), env, grace),
    ]
    if flower:
        found.append(Child("flower", FLOWER, env, FLOWER_GRACE_SECONDS))
    return found


def receiver_command(settings: Settings) -> list[str]:
    """Granian: one process, many threads."""
    options = {
        "--interface": "wsgi",
        "--host": settings.host,
        "--port": str(settings.port),
        "--workers": "1",
        "--blocking-threads": str(settings.receiver_threads),
        "--workers-kill-timeout": str(settings.stop_grace_seconds),
        "--log-level": settings.log_level.lower(),
    }
    flat = [part for pair in options.items() for part in pair]
    return [sys.executable, "-m", "granian", *flat, "--no-ws", "app.wsgi:application"]


def worker_command(settings: Settings) -> list[str]:
    return [
        *CELERY,
        "worker",
        "--task-events",
        "--concurrency",
        str(settings.worker_processes),
        "--loglevel",
        settings.log_level,
    ]


def scheduler_command(settings: Settings) -> list[str]:
    """The schedule is kept in memory: every entry is due again after a restart, and all are safe to run twice."""
    return [
        *CELERY,
        "beat",
        "--scheduler",
        "celery.beat:Scheduler",
        "--pidfile",
        "",
        "--loglevel",
        settings.log_level,
    ]


def urls(settings: Settings, *, flower: bool) -> list[str]:
    """What to open and where Shopify sends webhooks."""
    own = f"http://{reachable_host(settings.host)}:{settings.port}"
    lines = [
        f"receiver: {settings.shopify_app_url or own}/webhooks",
    ]
    if flower:
        lines.append(f"flower:   http://{reachable_host(settings.flower_address)}:{settings.flower_port}/")
    return lines


def reachable_host(host: str) -> str:
    """An address that answers when the server listens on `host`, as it stands in a URL."""
    found = EVERYWHERE.get(host, host)
    return f"[{found}]" if ":" in found else found


@dataclass
class Watch:
    """Runs on every tick: revives embedded servers, and says once that the receiver answers (or is slow to)."""

    here: Session
    announce: Callable[[], None]
    announced: bool = False
    warned: bool = False
    began: float = 0.0

    def __call__(self) -> None:
        for line in self.here.parts.revive():
            note(line)
        if self.announced:
            return
        self.began = self.began or time.monotonic()
        if healthy(self.here.settings):
            self.announced = True
            self.announce()
        elif not self.warned and time.monotonic() - self.began > SLOW_START_SECONDS:
            self.warned = True
            note(f"the receiver has not answered /healthz for {SLOW_START_SECONDS:g} s; its log is above")


def supervised(here: Session, family: list[Child], addresses: list[str], *, as_json: bool = False) -> int:
    lines = [*addresses, *here.parts.describe().splitlines()]

    def announce() -> None:
        if as_json:
            emit(
                {name: said.strip() for name, _, said in (line.partition(":") for line in lines)},
                as_json=True,
                text="",
            )
        for line in [] if as_json else [*lines, "running; Ctrl-C or SIGTERM ends it"]:
            note(line)

    status = Supervisor(family, note, Watch(here, announce)).run()
    note(
        "stopped"
        if status == 0
        else "stopped; something had to be killed, its work is picked up again at the next start"
    )
    return 0


def healthy(settings: Settings) -> bool:
    """Whether GET /healthz answers 200."""
    host = EVERYWHERE.get(settings.host, settings.host)
    connection = http.client.HTTPConnection(host, settings.port, timeout=ANSWER_SECONDS)
    with contextlib.closing(connection), contextlib.suppress(OSError, http.client.HTTPException):
        connection.request("GET", "/healthz")
        return connection.getresponse().status == http.client.OK
    return False
