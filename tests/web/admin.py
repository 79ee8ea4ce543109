"""Shopify's side of an installation: who signs what comes back, and the tokens that are got for it.

The token address answers over HTTP (pytest-httpserver); everything else of Shopify here is its signatures.
"""

from __future__ import annotations

import base64
import json
import secrets
import time
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any
from urllib.parse import parse_qs, parse_qsl, urlencode, urlsplit

import jwt
from flask import Flask
from flask.testing import FlaskClient
from pydantic import SecretStr
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response
from werkzeug.test import TestResponse

from app.query_signature import query_signature
from models.settings import Settings

KEY = "the-client-id-of-the-tests"
SECRET = "shpss_0123456789abcdef0123456789abcdef"
RETIRING = "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"
UNKNOWN = "shpss_00000000000000000000000000000000"
APP = "https://unwind.example"
ENCRYPTION, OLD_ENCRYPTION = (base64.urlsafe_b64encode(bytes([n]) * 32).decode() for n in (1, 2))


def settings_for(shopify: HTTPServer, **other: Any) -> Settings:
    given: dict[str, Any] = {
        "shopify_api_key": KEY,
        "shopify_api_secret": (SecretStr(SECRET), SecretStr(RETIRING)),
        "shopify_app_url": APP,
        "shopify_base_url": shopify.url_for("/{shop}"),
        "shopify_timeout_seconds": 2,
        "token_encryption_keys": (SecretStr(ENCRYPTION),),
    }
    return Settings(**{**given, **other})


def new_domain() -> str:
    return f"store-{secrets.token_hex(6)}.myshopify.com"


@dataclass
class Tokens:
    """The token address: what it gives, and what it was asked."""

    scopes: str
    status: int = 200
    answer: Any = None  # instead of tokens
    asked: list[tuple[str, dict[str, str]]] = field(default_factory=list)

    def __call__(self, request: Request) -> Response:
        self.asked.append((request.path, request.form.to_dict()))
        if self.status != 200 or self.answer is not None:
            return answer_of(self.answer, self.status)
        tokens = {
            "access_token": f"shpat_{secrets.token_hex(16)}",
            "scope": self.scopes,
            "expires_in": 3600,
            "refresh_token": f"shprt_{secrets.token_hex(16)}",
            "refresh_token_expires_in": 7_776_000,
        }
        return answer_of(tokens, 200)


def answer_of(content: Any, status: int) -> Response:
    response = Response(status=status, content_type="application/json")
    response.set_data(json.dumps(content) if content is not None else b"")
    return response


@dataclass
class Merchant:
    """A browser, and Shopify in front of it. `start` goes to the app, `finish` comes back from the consent page."""

    app: Flask
    tokens: Tokens
    domain: str = field(default_factory=new_domain)
    client: FlaskClient = field(init=False)

    def __post_init__(self) -> None:
        self.client = self.app.test_client()

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.client.get(path, base_url=APP, **more)

    def start(self) -> TestResponse:
        return self.get(f"/auth?shop={self.domain}")

    def consented(self, sent: TestResponse, *, secret: str = SECRET, **changes: str | None) -> str:
        """The address that Shopify leads back to: everything of the one it was given, signed. None: left out."""
        asked = dict(parse_qsl(urlsplit(sent.headers["Location"]).query))
        given = {
            "code": secrets.token_hex(16),
            "host": base64.b64encode(f"admin.shopify.com/store/{self.domain}".encode()).decode().rstrip("="),
            "shop": self.domain,
            "state": asked["state"],
            "timestamp": str(int(time.time())),
        }
        return signed("/auth/callback", {**given, **changes}, secret)

    def finish(self, sent: TestResponse | None = None, **changes: Any) -> TestResponse:
        return self.get(self.consented(sent or self.start(), **changes))

    def open(self, *, token: str | None = None, **query: str) -> TestResponse:
        """The admin opens the app in its frame."""
        given = {"shop": self.domain, "host": "YWRtaW4", "embedded": "1"} | query
        return self.arrived(f"/?{urlencode(given | ({} if token is None else {'id_token': token}))}")

    def arrived(self, path: str, **more: Any) -> TestResponse:
        """What the browser shows: led on to the app's pages, those."""
        response = self.get(path, **more)
        to = response.headers.get("Location", "")
        return self.get(to, **more) if to.startswith("/admin/") else response

    def session_token(self, *, secret: str = SECRET, **changes: Any) -> str:
        return session_token(self.domain, secret=secret, **changes)


def signed(path: str, values: dict[str, str | None], secret: str) -> str:
    pairs = [(name, value) for name, value in values.items() if value is not None]
    return f"{path}?{urlencode([*pairs, ('hmac', query_signature(pairs, secret.encode()))])}"


def claims_of(domain: str, **changes: Any) -> dict[str, Any]:
    """The claims of a session token. A change to None leaves the claim out."""
    now = int(time.time())
    claims = {
        "iss": f"https://{domain}/admin",
        "dest": f"https://{domain}",
        "aud": KEY,
        "sub": "424242",
        "exp": now + 60,
        "nbf": now,
        "iat": now,
        "jti": secrets.token_hex(16),
        "sid": secrets.token_hex(16),
    } | changes
    return {name: value for name, value in claims.items() if value is not None}


def session_token(domain: str, *, secret: str = SECRET, **changes: Any) -> str:
    return jwt.encode(claims_of(domain, **changes), secret, algorithm="HS256")


def query_of(response: TestResponse) -> dict[str, list[str]]:
    return parse_qs(urlsplit(response.headers["Location"]).query)


NewMerchant = Callable[..., Merchant]
