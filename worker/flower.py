"""Flower as we run it: it shows what was asked and what came of it, and nothing can be changed through it.

Its API can send any task, stop workers and take queues from them; so it runs read-only, with or without a login.
Outside loopback it needs one, for its figures (/metrics) as well; /healthcheck says `OK` to everybody.
"""

from __future__ import annotations

import os
import sys
import threading
from collections.abc import Mapping

from flower import command, urls
from flower.views import monitor
from tornado import web

from models.settings import Settings, load_settings
from tasks.runtime import USUAL_BROKER
from worker.celery_settings import make_app
from worker.logs import configure

COLUMNS = "name,kwargs,result,state,received,runtime,worker"
TASKS_KEPT = 20_000  # in its memory: a day of a busy shop, about 100 MB at most
FORGET_WORKERS_SECONDS = 600  # each deployment leaves the names of its workers behind
LAST_WORD_SECONDS = 3.0  # between SIGTERM and an end by force: it keeps nothing


class Metrics(monitor.Metrics):  # type: ignore[misc]  # Flower is untyped
    """Its figures name our tasks and workers: they need the login too."""

    @web.authenticated
    async def get(self) -> None:
        await super().get()


def run(settings: Settings) -> None:
    """Serve until SIGTERM. Raises InvalidSetting outside loopback without a login."""
    settings.require_flower()
    configure(settings)
    os.environ |= environment(settings)
    for name in ("FLOWER_UNAUTHENTICATED_API", "FLOWER_DEBUG"):  # the API needs the login, always
        os.environ.pop(name, None)
    command.sigterm_handler = end
    urls.handlers[:] = [guarded(handler) for handler in urls.handlers]
    app = make_app(settings.redis_url or USUAL_BROKER)
    app.set_default()
    app.start(argv=["flower", *options(settings)])


def options(settings: Settings) -> list[str]:
    """No secret among them: a command line can be read by everybody on the machine."""
    return [
        f"--address={settings.flower_address}",
        f"--port={settings.flower_port}",
        "--read_only=true",
        f"--tasks_columns={COLUMNS}",
        f"--max_tasks={TASKS_KEPT}",
        f"--purge_offline_workers={FORGET_WORKERS_SECONDS}",
    ]


def environment(settings: Settings) -> Mapping[str, str]:
    """The login, where Flower looks for it. Empty would ask everybody for one that nobody has."""
    login = settings.flower_basic_auth.get_secret_value()
    if login:
        return {"FLOWER_BASIC_AUTH": login}
    os.environ.pop("FLOWER_BASIC_AUTH", None)
    return {}


def end(*_: object) -> None:
    """SIGTERM. Told while it is still starting, Flower would wait for ever for a thread that it never stops."""
    timer = threading.Timer(LAST_WORD_SECONDS, os._exit, (0,))
    timer.daemon = True
    timer.start()
    sys.exit(0)


def guarded(handler: object) -> object:
    """Its figures behind the login, everything else as it was."""
    return ("/metrics", Metrics) if isinstance(handler, tuple) and handler[0] == "/metrics" else handler


if __name__ == "__main__":
    run(load_settings())
