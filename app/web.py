"""The web application: webhooks at the front, the JSON API and what operators ask behind."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

from flask import Flask
from prometheus_client import CollectorRegistry
from redis import Redis
from sqlalchemy import Engine
from werkzeug.middleware.proxy_fix import ProxyFix

from app import admin, api, errors, install, ops, receiver
from app.admin.door import PREFIX as ADMIN
from app.api.calls import Door
from app.inbox import Writer, make_inbox_engine
from models import telemetry
from models.session import make_engine
from models.settings import Settings
from tasks.gateway.client import Connections
from tasks.runtime import USUAL_BROKER, USUAL_DATABASE, make_broker_client
from worker.celery_settings import make_sender
from worker.doorbell import Doorbell, Ringer, sender


@dataclass(frozen=True)
class Unwind:
    """What requests work with, built once a process; `app.extensions["unwind"]`."""

    settings: Settings
    engine: Engine
    inbox_engine: Engine
    broker: Redis
    doorbell: Doorbell
    ringer: Ringer
    writer: Writer
    registry: CollectorRegistry

    def close(self) -> None:
        """End the threads, give the connections back. For tests and tools; a server's end does it by itself."""
        self.writer.close()
        self.ringer.close()
        self.engine.dispose()
        self.inbox_engine.dispose()
        self.broker.close()


def create_app(settings: Settings) -> Flask:
    """The web application. Raises `InvalidSetting` when webhooks could be forged."""
    settings.require_receiver()
    app = Flask("unwind", static_folder=None, template_folder=None)
    unwind = app.extensions["unwind"] = build(settings)
    errors.register(app)
    app.register_blueprint(ops.make_blueprint(unwind.engine, unwind.broker, unwind.registry))
    post_form = Connections(settings).post_form
    app.register_blueprint(install.make_blueprint(unwind.engine, unwind.broker, settings, post_form))
    calls, door = create_api(settings, unwind)
    doors = {
        receiver.PATH: webhooks(unwind),
        f"{api.PREFIX}/": behind(settings.trusted_proxies, calls.wsgi_app),
        f"{ADMIN}/": behind(settings.trusted_proxies, below(settings.path, create_admin(door).wsgi_app)),
    }
    app.wsgi_app = by_path(doors, app.wsgi_app)  # type: ignore[method-assign, assignment]
    return app


def create_api(settings: Settings, unwind: Unwind) -> tuple[Flask, Door]:
    """The JSON API, an application of its own: what it does around each request would cost webhooks a tenth."""
    app = Flask("unwind.api", static_folder=None, template_folder=None)
    app.config["MAX_CONTENT_LENGTH"] = settings.webhook_max_bytes
    errors.register(app)
    return app, api.register(app, unwind.engine, settings, ring=unwind.ringer.ask)


def create_admin(door: Door) -> Flask:
    """The pages, an application of their own for the same reason; they ask the API's calls through its door."""
    app = Flask("app.admin", static_url_path=f"{ADMIN}/static")
    admin.register(app, door)
    return app


def behind(proxies: int, application: WSGIApplication) -> WSGIApplication:
    """The visitor's own address and scheme, as so many proxies before us tell them; nobody else's word counts."""
    return ProxyFix(application, x_for=proxies, x_proto=proxies, x_host=0) if proxies else application


def below(path: str, application: WSGIApplication) -> WSGIApplication:
    """An application whose links begin with a path that the proxy before us takes away."""

    def named(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        return application({**environ, "SCRIPT_NAME": path}, start_response)

    return named if path else application


def by_path(doors: Mapping[str, WSGIApplication], flask: WSGIApplication) -> WSGIApplication:
    """One address, several applications: a path that ends in a slash stands for all below it."""

    def choose(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        path = environ.get("PATH_INFO", "")
        for prefix, application in doors.items():
            if path == prefix or (prefix.endswith("/") and f"{path}/".startswith(prefix)):
                return application(environ, start_response)
        return flask(environ, start_response)

    return choose


def build(settings: Settings) -> Unwind:
    """Nothing is connected yet, and no thread is started: a server may fork afterwards."""
    database = settings.database_url or USUAL_DATABASE
    redis_url = settings.redis_url or USUAL_BROKER
    broker, inbox_engine = make_broker_client(redis_url), make_inbox_engine(database)
    doorbell = Doorbell(broker, sender(make_sender(redis_url)))
    ringer = Ringer(doorbell)
    return Unwind(
        settings=settings,
        engine=make_engine(database, pool_size=settings.database_connections),
        inbox_engine=inbox_engine,
        broker=broker,
        doorbell=doorbell,
        ringer=ringer,
        writer=Writer(inbox_engine, ringer.ask),
        registry=CollectorRegistry(),
    )


def webhooks(unwind: Unwind) -> WSGIApplication:
    counter = ops.webhook_counter(unwind.registry)
    settings = unwind.settings
    door = receiver.make_receiver(
        unwind.writer, settings.webhook_secrets, counter, settings.webhook_max_bytes
    )
    return receiver.traced(door) if telemetry.is_on() else door
