"""What tasks work with, built once a process: the database engine, the broker's client, the settings.

Safe across forks: a process that finds another process's runtime builds its own and never touches the inherited one.
"""

from __future__ import annotations

import os
from collections.abc import Callable
from dataclasses import dataclass
from functools import cache, cached_property, partial
from typing import Any

from celery import Task
from redis import Redis
from redis.backoff import NoBackoff
from redis.retry import Retry
from redis.sentinel import Sentinel
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError

from models.broker import sentinels_of
from models.errors import Later
from models.session import make_engine
from models.settings import Settings, load_settings
from tasks.gateway.budget import Budget
from tasks.gateway.client import Connections, Shopify
from tasks.gateway.counts import Counts
from tasks.gateway.outgoing import Outgoing, networks_of
from tasks.gateway.tokens import StoredTokens
from tasks.steps.drain import drain
from tasks.steps.identifiers import Hashers
from tasks.steps.work import LIMIT, process

USUAL_BROKER = "redis://127.0.0.1:6379/0"
USUAL_DATABASE = "postgresql://127.0.0.1/unwind"
CONNECT_SECONDS = 0.2  # a webhook has 5 s in all, and the sweep makes good what is not rung
ANSWER_SECONDS = 0.3
ENGINE_CONNECTIONS = 2  # a task uses one; one more for what it asks beside it


@dataclass(frozen=True)
class Runtime:
    process: int
    settings: Settings
    engine: Engine
    broker: Redis

    @cached_property
    def connections(self) -> Connections:
        """To Shopify; opened when something is first asked there."""
        return Connections(self.settings)

    @cached_property
    def outgoing(self) -> Outgoing:
        """To the addresses that merchants chose for their webhooks."""
        return Outgoing(networks_of(self.settings.endpoints_allow_networks))

    @cached_property
    def gateway(self) -> Shopify:
        return make_gateway(self.settings, self.engine, self.broker, self.connections)

    @cached_property
    def hashers(self) -> Hashers | None:
        """Of customers' identifiers; None without a key to keep their secrets by."""
        keys = self.settings.token_keys
        return Hashers(self.engine, keys) if keys else None


_built: dict[str, Runtime] = {}


def runtime() -> Runtime:
    """This process's runtime, from the environment's settings."""
    built = _built.get("now")
    if built is None or built.process != os.getpid():
        built = _built["now"] = build(load_settings())
    return built


def build(settings: Settings) -> Runtime:
    return Runtime(
        process=os.getpid(),
        settings=settings,
        engine=make_engine(settings.database_url or USUAL_DATABASE, pool_size=ENGINE_CONNECTIONS),
        broker=make_broker_client(settings.redis_url or USUAL_BROKER),
    )


def make_gateway(settings: Settings, engine: Engine, broker: Redis, connections: Connections) -> Shopify:
    """Shopify, with the tokens that are stored and the budget that all processes share."""
    tokens = StoredTokens(engine, settings, connections.post_form)
    return Shopify(settings, tokens, Budget(broker), counts=Counts(broker), connections=connections)


def gateway_of(settings: Settings, engine: Engine) -> Callable[[], Shopify]:
    """Shopify for a process that seldom asks it: nothing is opened before the first time."""

    @cache
    def gateway() -> Shopify:
        broker = make_broker_client(settings.redis_url or USUAL_BROKER)
        return make_gateway(settings, engine, broker, Connections(settings))

    return gateway


def make_broker_client(
    url: str, *, connect_seconds: float = CONNECT_SECONDS, answer_seconds: float = ANSWER_SECONDS
) -> Redis:
    """A client with short time limits and no retries: whoever rings must never wait for a broker that is gone.

    With Sentinels each new connection asks them who the master is, and one to a master of before is given up.
    """
    limits: dict[str, Any] = {
        "socket_connect_timeout": connect_seconds,
        "socket_timeout": answer_seconds,
        "retry": Retry(NoBackoff(), 0),
    }
    watched = sentinels_of(url)
    if watched is None:
        return Redis.from_url(client_url(url), **limits)
    asked: Any = Sentinel  # untyped in its library
    sentinels = asked(
        watched.hosts, sentinel_kwargs=limits | {"password": watched.sentinel_password}, **limits
    )
    login = {"username": watched.user, "password": watched.password}
    client: Redis = sentinels.master_for(watched.master, db=watched.database, **login)
    return client


def client_url(url: str) -> str:
    """Celery's name of a Unix socket (`redis+socket:///path?virtual_host=1`) in the words of the Redis client."""
    if not url.startswith("redis+socket://"):
        return url
    return url.replace("redis+socket://", "unix://", 1).replace("virtual_host=", "db=", 1)


AGAIN: dict[str, Any] = {  # the world may change within seconds; what is still left then, the sweep rings for
    "autoretry_for": (OperationalError, Later),
    "retry_backoff": 1,
    "retry_backoff_max": 10,  # seconds; a longer countdown would outlive the broker's visibility timeout
    "retry_jitter": True,
    "max_retries": 3,
}


def process_shop(task: Task[Any, Any], shop: str) -> str:
    """What every `*.process` task does, with this process's runtime."""
    here = runtime()
    take = partial(
        drain,
        here.engine,
        shop,
        limit=LIMIT,
        max_attempts=here.settings.max_attempts,
        ids_are_global=here.settings.shopify_base_url is None,
        hashers=here.hashers,
    )
    return process(
        shop,
        take=take,
        broker=here.broker,
        ring_again=lambda: task.apply_async(kwargs={"shop": shop}),
    )
