"""Webhook subscriptions made through the Admin API (those of shopify.app.toml it does not list). What it refuses, and
in which words, is as recorded from Shopify."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from itertools import count
from typing import Any
from urllib.parse import urlsplit

from app.sandbox.shown import Node, gid, time

FIRST_ID = 1_960_000_000_001
ADDRESS = ["webhookSubscription", "callbackUrl"]
FILTER_MESSAGE = (
    "The specified filter is invalid, please ensure you specify the field(s) you wish to filter on."
)
INTERNAL = ("localhost", ".local", ".internal", ".myshopify.com", ".shopify.com", "shopify.com")


@dataclass(slots=True)
class Subscription:
    id: int
    topic: str
    uri: str
    created_at: datetime
    updated_at: datetime
    api_version: str
    format: str = "JSON"
    include_fields: list[str] = field(default_factory=list)
    filter: str = ""
    name: str | None = None
    metafield_namespaces: list[str] = field(default_factory=list)

    def shown(self) -> Node:
        return {
            "__typename": "WebhookSubscription",
            "id": gid("WebhookSubscription", self.id),
            "legacyResourceId": str(self.id),
            "topic": self.topic,
            "uri": self.uri,
            "format": self.format,
            "includeFields": self.include_fields,
            "filter": self.filter,
            "name": self.name,
            "metafieldNamespaces": self.metafield_namespaces,
            "createdAt": time(self.created_at),
            "updatedAt": time(self.updated_at),
            "apiVersion": {
                "handle": self.api_version,
                "displayName": self.api_version,
                "supported": True,
            },
        }


class Subscriptions:
    """Those of one app at one store. plain_http: addresses such as http://127.0.0.1 are taken, for demos."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self._ids = count(FIRST_ID, 32_768)
        self.plain_http = False
        self.all: dict[int, Subscription] = {}

    def create(
        self, topic: str, asked: Mapping[str, Any], api_version: str
    ) -> tuple[Subscription | None, list[Node]]:
        errors = self._errors(topic, asked, None)
        if errors:
            return None, errors
        now = self._clock()
        made = Subscription(next(self._ids), topic, str(asked["uri"]), now, now, api_version)
        self._fill(made, asked)
        self.all[made.id] = made
        return made, []

    def update(self, id: int, asked: Mapping[str, Any]) -> tuple[Subscription | None, list[Node]]:
        known = self.all.get(id)
        if known is None:
            return None, [unknown()]
        errors = self._errors(known.topic, {"uri": known.uri, **asked}, known)
        if errors:
            return None, errors
        self._fill(known, asked)
        known.updated_at = self._clock()
        return known, []

    def delete(self, id: int) -> list[Node]:
        return [] if self.all.pop(id, None) else [unknown()]

    def _fill(self, known: Subscription, asked: Mapping[str, Any]) -> None:
        known.uri = str(asked.get("uri", known.uri))
        known.format = asked.get("format") or known.format
        known.include_fields = list(asked.get("includeFields") or known.include_fields)
        known.filter = asked.get("filter") or known.filter
        known.name = asked.get("name", known.name)
        known.metafield_namespaces = list(asked.get("metafieldNamespaces") or known.metafield_namespaces)

    def _errors(self, topic: str, asked: Mapping[str, Any], known: Subscription | None) -> list[Node]:
        wanted = asked.get("filter")
        if wanted and ":" not in wanted:
            return [{"field": ["webhookSubscription"], "message": FILTER_MESSAGE}]
        uri = str(asked.get("uri") or "").strip()
        wrong = self._wrong_address(uri)
        if wrong:
            return [{"field": ADDRESS, "message": wrong}]
        taken = any(
            s is not known and s.topic == topic and s.uri == uri and s.filter == (wanted or "")
            for s in self.all.values()
        )
        return (
            [{"field": ADDRESS, "message": "Address for this topic has already been taken"}] if taken else []
        )

    def _wrong_address(self, uri: str) -> str | None:
        if not uri:
            return "Address can't be blank"
        parts = urlsplit(uri)
        host = parts.hostname or ""
        if parts.scheme in ("arn", "pubsub") or (parts.scheme == "http" and self.plain_http):
            return None
        if parts.scheme != "https":
            return f"Address protocol {parts.scheme}:// is not supported"
        if not self.plain_http and (host.endswith(INTERNAL) or host.startswith("127.")):
            return "Address cannot be a Shopify or an internal domain"
        return None


def unknown() -> Node:
    return {"field": ["id"], "message": "Webhook subscription does not exist"}
