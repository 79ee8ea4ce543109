"""A caller of the API whose every answer is held against the OpenAPI document that the app itself serves."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.api import OPERATIONS, PREFIX, openapi
from tasks.steps import shops, tokens

DOCUMENT = openapi.document_of(OPERATIONS, prefix=PREFIX)


@dataclass
class Caller:
    """Someone with a token. `get`, `post`, `put` take paths below /api/v1 and check the answer's shape."""

    client: FlaskClient
    domain: str
    shop_id: int
    token: str
    headers: dict[str, str] = field(default_factory=dict)

    def get(self, path: str, **more: Any) -> TestResponse:
        return self.call("GET", path, **more)

    def post(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        return self.call("POST", path, body, **more)

    def put(self, path: str, body: Any = None, **more: Any) -> TestResponse:
        return self.call("PUT", path, body, **more)

    def call(
        self, method: str, path: str, body: Any = None, *, key: str | None = None, accept: str | None = None
    ) -> TestResponse:
        headers = {"Authorization": f"Bearer {self.token}", **self.headers}
        if key is not None:
            headers["Idempotency-Key"] = key
        if accept is not None:
            headers["Accept"] = accept
        data = body if isinstance(body, bytes) else (None if body is None else json.dumps(body))
        kind = None if body is None else "application/json"
        response = self.client.open(
            f"{PREFIX}{path}", method=method, data=data, headers=headers, content_type=kind
        )
        check(method, path, response)
        return response


def check(method: str, path: str, response: TestResponse) -> None:
    """The answer is one that the document promises for this call."""
    operation = operation_at(method, path.partition("?")[0])
    if operation is None:
        return
    promised = operation["responses"].get(str(response.status_code))
    assert promised is not None, (method, path, response.status_code, response.get_data(as_text=True))
    content = promised["content"][response.mimetype]
    if response.mimetype == "application/json":
        validator(content["schema"]).validate(response.get_json())


def operation_at(method: str, path: str) -> dict[str, Any] | None:
    for template, calls in DOCUMENT["paths"].items():
        pattern = re.sub(r"\{[a-z_]+\}", "[^/]+", template)
        if re.fullmatch(pattern, path):
            return calls.get(method.lower())
    return None


def validator(schema: dict[str, Any]) -> Draft202012Validator:
    return Draft202012Validator({**schema, "components": DOCUMENT["components"]})


NewCaller = Callable[[], Caller]


@pytest.fixture
def new_caller(client: FlaskClient, engine: Engine) -> NewCaller:
    def make() -> Caller:
        domain = f"shop-{secrets.token_hex(6)}.myshopify.com"
        with engine.begin() as connection:
            shop_id = shops.add(connection, domain)
            token = tokens.create(connection, domain, name="tests").text
        return Caller(client, domain, shop_id, token)

    return make


@pytest.fixture
def api(new_caller: NewCaller) -> Caller:
    """The holder of a token of a shop of this test's own, with the program's defaults."""
    return new_caller()


@pytest.fixture
def other(new_caller: NewCaller) -> Caller:
    """The holder of a token of another shop."""
    return new_caller()
