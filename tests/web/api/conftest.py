"""A caller of the API whose every answer is held against the OpenAPI document that the app itself serves."""

from __future__ import annotations

import json
import re
import secrets
from collections.abc import Callable, Iterator
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from jsonschema import Draft202012Validator
from pydantic import SecretStr
from sqlalchemy import Engine, insert
from werkzeug.test import TestResponse

from app.api import OPERATIONS, PREFIX, openapi
from app.web import create_app
from models.rules.facts import Adjustment, Fact, Line, Refund, ReturnedLine, Snapshot, Transaction
from models.settings import Settings
from models.tables import InboxEvent
from tasks.steps import shops, tokens
from tasks.steps.drain import drain
from tasks.steps.load import open_world
from tasks.steps.settle import Told, settle

CUSTOMER = 7001
PLACED = datetime.now(UTC).replace(microsecond=0) - timedelta(days=5)
REFUNDED = PLACED + timedelta(days=2)
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


@pytest.fixture(scope="module")
def app(database_url: str, redis_server: str) -> Iterator[Flask]:
    """One application for all of a module's tests: each has a shop, a token and a limit of its own."""
    settings = Settings(
        database_url=database_url,
        redis_url=redis_server,
        shopify_api_secret=(SecretStr("a secret of the tests"),),
    )
    app = create_app(settings)
    yield app
    app.extensions["unwind"].close()


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


class Store:
    """Tells the books of orders and refunds, as the tasks do once they have read the webhooks."""

    def __init__(self, engine: Engine) -> None:
        self.engine = engine

    def place(
        self,
        caller: Caller,
        order_id: int,
        *,
        customer: int | None = CUSTOMER,
        total_minor: int = 10_000,
        code: str | None = None,
        status: str = "paid",
        at: datetime = PLACED,
        currency: str = "EUR",
    ) -> None:
        """An order of one line of two units; `code` takes 5.00 off it."""
        shares = ((code.casefold(), 500),) if code else ()
        line = Line(
            id=order_id * 10,
            quantity=2,
            current_quantity=2,
            net_minor=total_minor,
            code_discounts=shares,
            name="Desk lamp - blue",
        )
        snapshot = Snapshot(
            order_id=order_id,
            name=f"#{order_id}",
            placed_at=at,
            updated_at=at,
            currency=currency,
            presentment_currency=currency,
            total_minor=total_minor,
            subtotal_minor=total_minor,
            presentment_total_minor=total_minor,
            outstanding_minor=0,
            financial_status=status,
            cancelled_at=None,
            customer_id=customer,
            test=False,
            taxes_included=False,
            lines=(line,),
            codes=tuple(name for name, _ in shares),
        )
        self.tell(caller, snapshot)

    def refund(self, caller: Caller, order_id: int, refund_id: int, minor: int, *, units: int = 0) -> None:
        """Money back: `units` of the order's line, or just the amount."""
        lines = (ReturnedLine(line_id=order_id * 10, quantity=units, subtotal_minor=minor, tax_minor=0),)
        adjustment = Adjustment(amount_minor=-minor, tax_minor=0, shipping=False)
        record = Refund(
            id=refund_id,
            order_id=order_id,
            created_at=REFUNDED,
            lines=lines if units else (),
            shipping_minor=0,
            adjustments=() if units else (adjustment,),
            transaction_ids=(refund_id,),
        )
        money = Transaction(
            id=refund_id,
            order_id=order_id,
            kind="refund",
            status="success",
            amount_minor=minor,
            currency="EUR",
            shop_amount_minor=minor,
            at=REFUNDED,
            refund_id=refund_id,
        )
        self.tell(caller, record, money)

    def tell(self, caller: Caller, *facts: Fact) -> None:
        now = datetime.now(UTC)
        with self.engine.begin() as connection:
            world = open_world(connection, shops.by_id(connection, caller.shop_id), now)
            settle(world, [Told(fact=fact, received_at=now, cause="inbox:1") for fact in facts])

    def receive(self, caller: Caller, topic: str, body: bytes, *, id: str | None = None) -> int:
        """Put a delivery into the inbox, as the receiver does."""
        row = {"shop_domain": caller.domain, "topic": topic, "webhook_id": id, "body": body}
        with self.engine.begin() as connection:
            return connection.execute(insert(InboxEvent).values(row).returning(InboxEvent.id)).scalar_one()

    def work(self, caller: Caller) -> None:
        """Work off the shop's inbox."""
        drain(self.engine, caller.domain)


@pytest.fixture
def store(engine: Engine) -> Store:
    return Store(engine)
