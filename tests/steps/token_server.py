"""A token address like Shopify's, over HTTP: codes and session tokens for tokens, refresh tokens that rotate.

As Shopify does since 28 August 2026: a refresh token that was just used is taken again until its replacement is used;
then it is refused. A new exchange ends every refresh token before it. Old access tokens live out their hour.
"""

from __future__ import annotations

import secrets
import threading
from collections import Counter
from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass, field
from typing import Any

import requests
from flask import Flask, jsonify, request
from werkzeug.serving import make_server

from models.errors import ShopifyUnreachable
from models.settings import Settings
from tasks.gateway.oauth import PostForm

CLIENT, SECRET, OLD_SECRET = "the-client-id", "the secret of today", "the secret of yesterday"
SCOPES = "read_all_orders,read_customer_merge,read_customers,read_orders,read_returns,write_discounts"


@dataclass
class TokenServer:
    """`whose`: the shop of each access token. `refreshes`: how many were granted, by shop."""

    url: str = ""
    secrets: set[str] = field(default_factory=lambda: {SECRET})
    scopes: str = SCOPES
    expiring: bool = True
    life_seconds: int = 3600
    whose: dict[str, str] = field(default_factory=dict)
    refreshes: Counter[str] = field(default_factory=Counter)
    asked: Counter[str] = field(default_factory=Counter)
    troubles: list[tuple[int, Any]] = field(default_factory=list)  # answers to give next, instead
    held: threading.Event = field(default_factory=threading.Event)  # set: answers are given at once
    _refresh: dict[str, list[str]] = field(default_factory=dict)  # by shop: the just-used one, the newest
    _lock: threading.Lock = field(default_factory=threading.Lock)

    def settings(self, **changes: Any) -> Settings:
        given: dict[str, Any] = {
            "shopify_api_key": CLIENT,
            "shopify_api_secret": SECRET,
            "shopify_base_url": self.url + "/{shop}",
            "token_encryption_keys": key("a"),
            "shopify_timeout_seconds": 60,
        }
        return Settings(**{**given, **changes})

    def answer(self, shop: str, fields: Mapping[str, str]) -> tuple[dict[str, Any], int]:
        self.held.wait(60)
        with self._lock:
            self.asked[shop] += 1
            if self.troubles:
                status, body = self.troubles.pop(0)
                return body, status
            if fields.get("client_id") != CLIENT or fields.get("client_secret") not in self.secrets:
                return {"error": "invalid_client", "error_description": "unknown client"}, 401
            if fields.get("grant_type") == "refresh_token":
                return self._refreshed(shop, fields["refresh_token"])
            self._refresh.pop(shop, None)
            return self._given(shop), 200

    def _refreshed(self, shop: str, token: str) -> tuple[dict[str, Any], int]:
        known = self._refresh.get(shop, [])
        if token not in known:
            return {"error": "invalid_grant", "error_description": f"not valid: {token}"}, 400
        self.refreshes[shop] += 1
        self._refresh[shop] = [token]
        return self._given(shop), 200

    def _given(self, shop: str) -> dict[str, Any]:
        access = f"shpat_{secrets.token_hex(16)}"
        self.whose[access] = shop
        if not self.expiring:
            return {"access_token": access, "scope": self.scopes}
        refresh = f"shprt_{secrets.token_hex(16)}"
        self._refresh[shop] = [*self._refresh.get(shop, []), refresh]
        return {
            "access_token": access,
            "scope": self.scopes,
            "expires_in": self.life_seconds,
            "refresh_token": refresh,
            "refresh_token_expires_in": 7_776_000,
        }

    def end_refresh_tokens(self, shop: str) -> None:
        """Revoked, or lapsed: the merchant has to come."""
        self._refresh.pop(shop, None)

    def all_tokens(self) -> set[str]:
        return {*self.whose, *(token for tokens in self._refresh.values() for token in tokens)}


def key(letter: str) -> str:
    """An encryption key of this test's own."""
    return letter * 43 + "="


def post_form(url: str, fields: Mapping[str, str]) -> tuple[int, Any]:
    """As the gateway's client does it."""
    try:
        answer = requests.post(url, data=dict(fields), timeout=60)
    except requests.RequestException as error:
        raise ShopifyUnreachable(type(error).__name__) from None
    try:
        return answer.status_code, answer.json()
    except ValueError:
        return answer.status_code, None


POST_FORM: PostForm = post_form


@contextmanager
def token_server() -> Iterator[TokenServer]:
    """The server, as long as the block."""
    here, app = TokenServer(), Flask(__name__)
    here.held.set()

    @app.post("/<shop>/admin/oauth/access_token")
    def access_token(shop: str) -> Any:
        body, status = here.answer(shop, request.form.to_dict())
        return (body if isinstance(body, str) else jsonify(body)), status

    server = make_server("127.0.0.1", 0, app, threaded=True)
    here.url = f"http://127.0.0.1:{server.port}"
    thread = threading.Thread(target=server.serve_forever, kwargs={"poll_interval": 0.02}, daemon=True)
    thread.start()
    try:
        yield here
    finally:
        here.held.set()
        server.shutdown()
        thread.join(5)
        server.server_close()
