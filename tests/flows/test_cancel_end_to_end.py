"""R34 from the call to the checkout: the API over HTTP, the tasks by their names, stored tokens, a store over HTTP."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine

from app.sandbox.codes import CodeRefused
from app.web import create_app
from models.settings import Settings, load_settings
from tasks import codes
from tasks import runtime as running
from tasks.gateway.oauth import Grant
from tasks.steps import outbox, tokens
from tasks.steps.installations import record_grant
from tests.pretend import PretendShopify, pretend_shopify

KEY = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()
TASKS = {task.name: task for task in (codes.create, codes.remove, codes.reactivate)}


@pytest.fixture
def shopify(
    engine: Engine, database_url: str, redis_url: str, monkeypatch: pytest.MonkeyPatch
) -> Iterator[PretendShopify]:
    """A connected store whose checkout takes no code it does not know, and the environment of its worker."""
    with pretend_shopify() as found:
        found.store.codes.strict = True
        more = {"database_url": database_url, "redis_url": redis_url, "token_encryption_keys": KEY}
        for name, value in found.settings(**more).items():
            monkeypatch.setenv(name.upper(), value)
        connect(engine, found)
        running._built.clear()
        yield found
        built = running._built.pop("now", None)
        if built is not None:
            built.engine.dispose()
            built.broker.close()


def connect(engine: Engine, shopify: PretendShopify) -> None:
    settings, given = load_settings(None, token_encryption_keys=KEY), shopify.grant_for()
    now = datetime.now(UTC)
    later = now + timedelta(hours=1)
    grant = Grant(
        str(given["access_token"]), settings.shopify_scopes, later, str(given["refresh_token"]), later
    )
    with engine.begin() as connection:
        record_grant(connection, settings, shopify.domain, grant, now)


class Caller:
    """The merchant's own program."""

    def __init__(self, client: FlaskClient, token: str) -> None:
        self.client, self.headers = client, {"Authorization": f"Bearer {token}"}

    def get(self, path: str) -> Any:
        return self.client.get(f"/api/v1{path}", headers=self.headers).get_json()

    def post(self, path: str, body: Any) -> Any:
        return self.client.post(f"/api/v1{path}", headers=self.headers, json=body).get_json()


@pytest.fixture
def caller(shopify: PretendShopify, engine: Engine, database_url: str, redis_url: str) -> Iterator[Caller]:
    settings = Settings(
        database_url=database_url, redis_url=redis_url, shopify_api_secret=(SecretStr("a secret"),)
    )
    app = create_app(settings)
    with engine.begin() as connection:
        token = tokens.create(connection, shopify.domain).text
    yield Caller(app.test_client(), token)
    app.extensions["unwind"].close()


def work(engine: Engine) -> list[str]:
    """What the scheduler's ring would send, done as a worker does it; the names of the tasks."""
    rings = [ring for ring in outbox.due(engine) if ring.task in TASKS]
    for ring in rings:
        assert set(ring.arguments) <= {"shop", "outbox_id", "redemption_id", "order_id"}  # ids, no words
        TASKS[ring.task].apply(kwargs=dict(ring.arguments)).get()
    return [ring.task for ring in rings]


def test_a_code_is_made_cancelled_and_refused_at_the_checkout(
    shopify: PretendShopify, caller: Caller, engine: Engine
) -> None:
    """R34: unused -> code removed and points back, with a note."""
    customer = shopify.customer()
    caller.post(f"/customers/{customer.id}/grants", {"amount": 500, "reason": "x"})
    made = caller.post("/redemptions", {"customer_id": str(customer.id), "reward": "5-off"})
    assert work(engine) == ["codes.create"]
    path = f"/redemptions/{made['id']}"
    assert caller.get(path)["code_state"] == "active"

    asked = caller.post(f"{path}/cancel", {"reason": "by mistake"})
    assert (asked["cancellation"]["state"], asked["reversal"]) == ("code_being_changed", None)
    assert caller.get(f"/customers/{customer.id}")["balance"] == 0
    assert work(engine) == ["codes.remove"]

    now = caller.get(path)
    assert (now["code_state"], now["cancellation"]["state"]) == ("removed", "already_refunded")
    assert [(each["code"], each["reason"]) for each in now["reversals"]] == [("removed", "by mistake")]
    assert caller.get(f"/customers/{customer.id}")["balance"] == 500
    with pytest.raises(CodeRefused):
        shopify.buy(made["code"], customer=customer)
    again = caller.post(f"{path}/cancel", {"force": True})
    assert again["error"]["details"]["refunded_at"] == now["cancellation"]["refunded_at"]


def test_a_code_used_before_its_order_is_told_stays(
    shopify: PretendShopify, caller: Caller, engine: Engine
) -> None:
    """R34: used -> asked first; the answer comes from Shopify here, and force overrules it."""
    customer = shopify.customer()
    caller.post(f"/customers/{customer.id}/grants", {"amount": 500, "reason": "x"})
    made = caller.post("/redemptions", {"customer_id": str(customer.id), "reward": "5-off"})
    work(engine)
    shopify.buy(made["code"], customer=customer)
    path = f"/redemptions/{made['id']}"
    caller.post(f"{path}/cancel", {})
    work(engine)
    now = caller.get(path)["cancellation"]
    assert (now["state"], now["needs_force"], now["refused"]) == ("used", True, "code_used")
    [note] = caller.get(f"/customers/{customer.id}/activity?kind=redemption.not_cancelled")["data"]
    assert "with force" in note["detail"]["message"]
    assert caller.post(f"{path}/cancel", {})["error"]["code"] == "code_used"
    assert caller.post(f"{path}/cancel", {"force": True})["reversal"]["code"] == "stays_used"
    assert caller.get(f"/customers/{customer.id}")["balance"] == 500
