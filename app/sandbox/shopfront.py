"""One store as its server holds it, and how a request finds its store."""

from __future__ import annotations

import threading
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from datetime import UTC, datetime

from flask import current_app, g, request

from app.sandbox.access import Access, Application
from app.sandbox.bulk import BulkOperations
from app.sandbox.faults import Faults
from app.sandbox.limits import Bucket
from app.sandbox.store import Delivery, Store
from app.sandbox.subscriptions import Subscriptions

EXTENSION = "shopfronts"


def wall_clock() -> datetime:
    return datetime.now(UTC)


@dataclass
class Shopfront:
    """The store as the server holds it: one act at a time, its webhooks handed to `deliver`.

    application: the app that may ask to be installed. clock: the time of tokens, discounts, subscriptions and limits.
    consents: the merchant agrees to an installation without being asked. forever_tokens: tokens without an end are
    taken. calls: the operations that the Admin API and the token endpoint were asked for, oldest first.
    """

    store: Store
    deliver: Callable[[list[Delivery]], None]
    application: Application = field(default_factory=Application)
    clock: Callable[[], datetime] = wall_clock
    consents: bool = False
    forever_tokens: bool = True
    faults: Faults = field(default_factory=Faults)
    lock: threading.RLock = field(default_factory=threading.RLock)
    calls: list[str] = field(default_factory=list)
    access: Access = field(init=False)
    bucket: Bucket = field(init=False)
    subscriptions: Subscriptions = field(init=False)
    bulk: BulkOperations = field(init=False)

    def __post_init__(self) -> None:
        self.access = Access(self.now)
        self.bucket = Bucket(self.now)
        self.subscriptions = Subscriptions(self.now)
        self.bulk = BulkOperations(self.now)
        self.store.codes.clock = self.now

    def now(self) -> datetime:
        return self.clock()

    @property
    def domain(self) -> str:
        return self.store.domain

    @contextmanager
    def act(self) -> Iterator[Store]:
        with self.lock:
            yield self.store
            sent = self.store.take_outbox()
        self.deliver(sent)


def current() -> Shopfront:
    """The store that the request is for: the one named in the path, or the server's first."""
    found: Mapping[str, Shopfront] = current_app.extensions[EXTENSION]
    return found[g.domain] if g.get("domain") else next(iter(found.values()))


def address() -> str:
    """Where this store answers, as its caller sees it; without a slash at the end."""
    base = request.url_root.rstrip("/")
    return f"{base}/{g.domain}" if g.get("domain") else base
