"""R34 from the call to the checkout: the API over HTTP, the tasks by their names, stored tokens, a store over HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from typing import Any

import pytest
from flask.testing import FlaskClient
from pydantic import SecretStr
from sqlalchemy import Engine

from app.sandbox.codes import CodeRefused
from app.web import create_app
from models.settings import Settings
from tasks import codes
from tasks.steps import outbox, tokens
from tests.pretend import PretendShopify

TASKS = {task.name: task for task in (codes.create, codes.remove, codes.reactivate)}


@pytest.fixture
def shopify(connected_store: PretendShopify) -> PretendShopify:
    """A store whose checkout takes no code that it does not know."""
    connected_store.store.codes.strict = True
    return connected_store


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
