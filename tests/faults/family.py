"""The processes of a real installation, ours to kill: embedded database and broker, receiver, two workers, scheduler.

Only what this process started is ever signalled: our own children by their handles, the servers after a look whether
they are children of ours. Everything has ended when the block ends, however it ends.
"""

from __future__ import annotations

import os
import random
import shutil
import signal
import socket
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass, field
from pathlib import Path
from typing import Any

import psycopg
import redis

from app.cli.up import healthy, receiver_command, scheduler_command, worker_command
from models.session import upgrade
from models.settings import Settings, load_settings
from worker.celery_settings import make_sender
from worker.embedded import Parts, parts
from worker.supervisor import Child, Running, Supervisor

ROOT = Path(__file__).resolve().parents[2]
TICK_SECONDS = 0.1
WORKERS = ("worker-1", "worker-2")
SECRET = "secret of the crash tests"
HOLDERS = (
    "select application_name from pg_locks join pg_stat_activity using (pid)"
    " where relation = 'inbox'::regclass and mode = 'RowShareLock' and granted"
)


@dataclass(frozen=True)
class Setup:
    """What runs. The controls put something broken in the place of a part, and run `sql` on the new database."""

    receiver: str = "app.wsgi:application"
    worker: str = "worker.celery_app"
    scheduler: bool = True
    processes: int = 2  # of each worker
    sql: str = ""


@dataclass
class Family:
    """What runs now. Call it from the main thread: children and servers end with the thread that started them."""

    parts: Parts
    settings: Settings
    place: Path
    supervisor: Supervisor
    running: dict[str, Running]
    said: list[str] = field(default_factory=list)
    ticked: float = 0.0

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}/webhooks"

    def tick(self) -> None:
        """Start again what has died, as `unwind up` does."""
        self.ticked = time.monotonic()
        for one in self.running.values():
            self.supervisor.watch(one, self.ticked)
        self.said += self.parts.revive()

    def wait(self, done: Callable[[], bool], seconds: float, *, poll_seconds: float = 0.05) -> bool:
        """Keep everything running until `done`, at most so long; whether it was."""
        deadline = time.monotonic() + seconds
        while not done():
            if time.monotonic() > deadline:
                return False
            if time.monotonic() > self.ticked + TICK_SECONDS:
                self.tick()
            time.sleep(poll_seconds)
        return True

    def asked(self, question: str) -> list[Any]:
        """One column out of the database; nothing while it is down."""
        try:
            with psycopg.connect(self.dsn, autocommit=True, connect_timeout=2) as connection:
                return [row[0] for row in connection.execute(question.encode())]
        except psycopg.OperationalError:
            return []

    def busy_workers(self) -> list[str]:
        """Those that hold claimed events at this moment."""
        return [name for name in self.asked(HOLDERS) if name in WORKERS]

    def ring(self, domains: list[str], times: int) -> None:
        """So many messages for each of these shops, whether their bells ring already or not."""
        app = make_sender(self.parts.redis_url)
        try:
            for domain in sorted(domains * times):
                app.send_task("events.process", kwargs={"shop": domain})
        finally:
            app.close()

    @property
    def dsn(self) -> str:
        return self.parts.database_url.replace("+psycopg", "")

    def last_words(self) -> list[str]:
        """Of each child whether it lives, and the end of its log."""
        return [
            f"{name} ({one.process.pid if one.process else 'dead'}, {one.deaths} deaths):\n"
            + "\n".join((self.place / f"{name}.log").read_text(errors="replace").splitlines()[-20:])
            for name, one in self.running.items()
        ]

    # -- faults --------------------------------------------------------------------------------------

    def kill(self, name: str) -> None:
        """SIGKILL to a child of ours and everything it started; nothing when it is dead at the moment."""
        if self.running[name].process is not None:
            self.running[name].signal_all(signal.SIGKILL)

    def kill_one_of_pool(self, name: str, dice: random.Random) -> None:
        """SIGKILL to one process of a worker's pool; the worker itself lives."""
        process = self.running[name].process
        pool = children_of(process.pid) if process else []
        if pool:
            with suppress(ProcessLookupError):
                os.kill(dice.choice(pool), signal.SIGKILL)

    def wipe_broker(self) -> None:
        """SIGKILL, everything it wrote gone, started again empty at the same address."""
        pid = self.broker_pid()
        files = Path(self.broker().config_get("dir")["dir"])  # type: ignore[index]
        assert self.place in files.parents
        os.kill(pid, signal.SIGKILL)
        gone(pid)
        for path in files.iterdir():
            shutil.rmtree(path) if path.is_dir() else path.unlink()
        self.tick()

    def freeze_broker(self, seconds: float) -> None:
        """SIGSTOP: connections stay open and nobody answers. Nothing else is held up meanwhile."""
        pid = self.broker_pid()
        os.kill(pid, signal.SIGSTOP)
        try:
            self.wait(lambda: False, seconds)
        finally:
            os.kill(pid, signal.SIGCONT)

    def kill_database(self) -> None:
        """SIGKILL to the postmaster; it is started again and recovers."""
        with psycopg.connect(self.dsn, autocommit=True) as connection:
            row = connection.execute("show data_directory").fetchone()
        assert row is not None
        pid = ours(int((Path(row[0]) / "postmaster.pid").read_text().split()[0]))
        os.kill(pid, signal.SIGKILL)
        gone(pid)
        self.tick()

    def broker(self) -> redis.Redis:
        return redis.Redis.from_url(self.parts.redis_url, decode_responses=True, socket_timeout=5)

    def broker_pid(self) -> int:
        with self.broker() as client:
            return ours(int(client.info("server")["process_id"]))  # type: ignore[index]


@contextmanager
def family(setup: Setup) -> Iterator[Family]:
    """Everything up and answering, in a directory of its own."""
    with tempfile.TemporaryDirectory(prefix="unwind-faults-", ignore_cleanup_errors=True) as name:
        place = Path(name)
        place.chmod(0o755)  # the servers run as somebody else when we are root
        settings = load_settings(
            None, host="127.0.0.1", port=free_port(), shopify_api_secret=SECRET, log_level="WARNING",
            worker_processes=setup.processes,
        ).model_copy(update={"database_url": None, "redis_url": None})  # fmt: skip
        with parts(settings, place / "data", command="crash tests", shelter=place / "shelter") as found:
            upgrade(found.database_url)
            if setup.sql:
                with psycopg.connect(found.database_url.replace("+psycopg", "")) as connection:
                    connection.execute(setup.sql.encode())
            settings = settings.model_copy(
                update={"database_url": found.database_url, "redis_url": found.redis_url}
            )
            with children(settings, setup, place) as (supervisor, running):
                here = Family(found, settings, place, supervisor, running)
                assert here.wait(lambda: healthy(settings), 60), "the receiver did not come up"
                yield here


@contextmanager
def children(
    settings: Settings, setup: Setup, place: Path
) -> Iterator[tuple[Supervisor, dict[str, Running]]]:
    found = commands(settings, setup)
    env = {**settings.environment(), "PYTHONPATH": str(ROOT)}
    wanted = [
        Child(
            name, command, {**env, "PGAPPNAME": name}, 5.0, place / f"{name}.log"
        )  # the database knows them apart
        for name, command in found.items()
    ]
    supervisor = Supervisor(wanted, lambda line: None, first_delay_seconds=0.2, longest_delay_seconds=1.0)
    running = {child.name: Running(child) for child in wanted}
    try:
        yield supervisor, running
    finally:
        supervisor.end(list(running.values()))


def commands(settings: Settings, setup: Setup) -> dict[str, list[str]]:
    """The commands of `unwind up`, with a second worker, and in the controls something broken in place of a part."""
    app = {"app.wsgi:application": setup.receiver, "worker.celery_app": setup.worker}
    found = {
        "receiver": receiver_command(settings),
        **{name: [*worker_command(settings), "--hostname", f"{name}@%h"] for name in WORKERS},
    }
    if setup.scheduler:
        found["scheduler"] = scheduler_command(settings)
    return {name: [app.get(part, part) for part in command] for name, command in found.items()}


def free_port() -> int:
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        port: int = probe.getsockname()[1]
        return port


def parent_of(pid: int) -> int | None:
    try:
        return int(Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[1])
    except OSError:
        return None


def children_of(pid: int) -> list[int]:
    pids = [int(path.name) for path in Path("/proc").iterdir() if path.name.isdigit()]
    return [each for each in pids if parent_of(each) == pid]


def ours(pid: int) -> int:
    """The same number, sure to be a child of this process."""
    assert parent_of(pid) == os.getpid(), f"process {pid} is not ours"
    return pid


def gone(pid: int) -> None:
    """Wait for the end of a process that was killed; who started it takes its status later."""
    deadline = time.monotonic() + 10
    while time.monotonic() < deadline:
        try:
            if Path(f"/proc/{pid}/stat").read_text().rpartition(")")[2].split()[0] == "Z":
                return
        except OSError:
            return
        time.sleep(0.01)
