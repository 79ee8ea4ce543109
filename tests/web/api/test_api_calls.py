"""What every call may ask of the door: a preview, a look outside before its transaction, errors in its own shape."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from app import api as the_api
from app import errors
from app.api import customers
from app.api.calls import Door, marked, view_of
from app.api.fields import Given
from app.api.operation import Asked, Call, Operation
from app.api.places import Shares
from models.errors import NotFound, Refused, ShopifyUnreachable
from models.settings import Settings
from tasks.runtime import gateway_of
from tests.web.api.conftest import DOCUMENT

GRANT = {"amount": 100, "reason": "Sorry"}
PREVIEWABLE = [o for o in the_api.OPERATIONS if o.previews]


def rows(engine: Engine, shop_id: int) -> Mapping[str, int]:
    """How much is on record of a shop: a preview leaves all of it."""
    tables = ("entries", "timeline", "activity", "wallets", "idempotency_keys", "programs", "outbox")
    counts = ", ".join(f"(select count(*) from {t} where shop_id = :id) as {t}" for t in tables)
    with engine.connect() as connection:
        return dict(connection.execute(text(f"select {counts}"), {"id": shop_id}).one()._mapping)


def test_a_preview_answers_what_the_call_then_answers_and_changes_nothing(api, engine: Engine) -> None:
    """R37: the same code, undone."""
    before = rows(engine, api.shop_id)
    told = api.post("/customers/7001/grants?preview=true", GRANT)
    assert (told.status_code, told.headers["Unwind-Preview"]) == (201, "true")
    assert rows(engine, api.shop_id) == before and api.get("/customers/7001").status_code == 404
    done = api.post("/customers/7001/grants?preview=false", GRANT)
    assert "Unwind-Preview" not in done.headers
    assert {**told.get_json(), "id": ""} == {**done.get_json(), "id": ""}


def test_a_preview_of_what_would_be_refused_is_refused_alike(api) -> None:
    response = api.put("/program?preview=true", {"waiting_days": -1})
    assert (response.status_code, response.headers["Unwind-Preview"]) == (422, "true")
    assert api.put("/program?preview=true", {"waiting_days": 3}).get_json()["waiting_days"] == 3
    assert api.get("/program").get_json()["waiting_days"] == 0


def test_a_preview_neither_uses_up_a_key_nor_is_answered_from_one(api) -> None:
    for _ in range(2):
        told = api.post("/customers/7001/grants?preview=true", GRANT, key="k")
        assert "Idempotent-Replayed" not in told.headers
    assert api.post("/customers/7001/grants", GRANT, key="k").get_json()["balance"] == 100
    told = api.post("/customers/7001/grants?preview=true", {**GRANT, "amount": 5}, key="k")
    assert (told.status_code, told.get_json()["balance"]) == (201, 105)


@pytest.mark.parametrize("query", ["preview=", "preview=1", "preview=TRUE", "preview=true&preview=false"])
def test_what_is_neither_a_preview_nor_none_is_refused_and_not_done(api, engine: Engine, query: str) -> None:
    before = rows(engine, api.shop_id)
    response = api.post(f"/customers/7001/grants?{query}", GRANT)
    assert (response.status_code, response.get_json()["error"]["details"]["field"]) == (422, "preview")
    assert rows(engine, api.shop_id) == before


def test_calls_that_change_nothing_take_no_preview(api) -> None:
    assert api.get("/program?preview=true").status_code == 422


@pytest.mark.parametrize("operation", PREVIEWABLE, ids=lambda o: o.name)
def test_what_can_be_previewed_says_so_in_the_document(operation: Operation) -> None:
    call = DOCUMENT["paths"][operation.path][operation.method.lower()]
    assert "preview" in {parameter["name"] for parameter in call["parameters"]}
    assert "Unwind-Preview" in call["responses"][str(operation.status)]["headers"]
    assert operation.writes


class Counted(Given):
    times: int


@dataclass
class Looking:
    """An operation that looks outside first, as often as it is told to look; `fails` is what it finds."""

    fails: Exception | None = None
    looked: int = 0
    ran: list[Any] = field(default_factory=list)

    def before(self, asked: Asked) -> int:
        self.looked += 1
        if self.fails is not None:
            raise self.fails
        return self.looked

    def run(self, call: Call) -> Mapping[str, Any]:
        self.ran.append(call.prepared)
        return {"times": call.prepared}

    def operation(self) -> Operation:
        return Operation(
            method="POST",
            path="/looks",
            tag="tests",
            name="look",
            summary="Looks",
            run=self.run,
            before=self.before,
            body=customers.GrantRequest,
            answer=Counted,
            writes=True,
            previews=True,
            shape_error=lambda error: {**error, "errors": [error["error"]["code"]]},
        )


Served = Callable[[Operation], FlaskClient]


@pytest.fixture
def served(engine: Engine, settings: Settings) -> Served:
    """A client of an application with this one operation."""

    def served(operation: Operation) -> FlaskClient:
        app = Flask("one")
        errors.register(app)
        door = Door(
            engine=engine,
            settings=settings,
            admit=lambda: None,
            ring=None,
            gateway=gateway_of(settings, engine),
            shares=Shares(settings.receiver_threads),
        )
        app.add_url_rule(operation.path, view_func=view_of(operation, door), methods=[operation.method])
        app.after_request(marked)
        return app.test_client()

    return served


def ask(client: FlaskClient, api, *, key: str | None = "k", body: Any = GRANT, query: str = "") -> Any:
    headers = {"Authorization": f"Bearer {api.token}"} | ({"Idempotency-Key": key} if key else {})
    return client.post(f"/looks{query}", json=body, headers=headers)


def test_what_was_found_before_the_transaction_is_given_to_the_step(api, served: Served) -> None:
    looking = Looking()
    client = served(looking.operation())
    assert ask(client, api, key=None).get_json() == {"times": 1}
    assert ask(client, api, key=None, query="?preview=true").get_json() == {"times": 2}
    assert looking.ran == [1, 2]


def test_a_call_that_was_answered_does_not_look_again(api, served: Served) -> None:
    """A repeat is answered though Shopify be away."""
    looking = Looking()
    client = served(looking.operation())
    first = ask(client, api)
    looking.fails = ShopifyUnreachable("down")
    again = ask(client, api)
    assert (again.get_data(), again.headers["Idempotent-Replayed"]) == (first.get_data(), "true")
    assert looking.looked == 1
    assert (
        ask(client, api, body={**GRANT, "amount": 1}).get_json()["error"]["code"] == "idempotency_key_reused"
    )


@pytest.mark.parametrize(
    ("fails", "status", "code"),
    [
        pytest.param(Refused("wrong_amount", "no"), 422, "wrong_amount", id="the body's fault"),
        pytest.param(Refused("locked", "no"), 409, "locked", id="the state of things"),
        pytest.param(NotFound("customer", 5), 404, "not_found", id="not there"),
    ],
)
def test_a_refusal_found_before_is_kept_like_any_other(
    api, served: Served, fails: Exception, status: int, code: str
) -> None:
    looking = Looking(fails=fails)
    client = served(looking.operation())
    answers = [ask(client, api) for _ in range(2)]
    assert [(a.status_code, a.get_json()["error"]["code"]) for a in answers] == [(status, code)] * 2
    assert (answers[1].headers["Idempotent-Replayed"], looking.looked, looking.ran) == ("true", 1, [])


def test_what_may_pass_is_not_kept(api, served: Served) -> None:
    looking = Looking(fails=ShopifyUnreachable("down"))
    client = served(looking.operation())
    response = ask(client, api)
    assert response.status_code == 503 and int(response.headers["Retry-After"]) > 0
    looking.fails = None
    assert (ask(client, api).status_code, looking.looked) == (200, 2)


@pytest.mark.parametrize(
    ("headers", "body", "status"),
    [
        pytest.param({}, GRANT, 422, id="refused"),
        pytest.param({}, {"amount": "x"}, 422, id="a body that is wrong"),
        pytest.param({"Authorization": "Bearer nobody's"}, GRANT, 401, id="a caller who is nobody"),
    ],
)
def test_an_operation_may_give_its_errors_a_shape_of_their_own(
    api, served: Served, headers: dict[str, str], body: Any, status: int
) -> None:
    client = served(Looking(fails=Refused("wrong_amount", "no")).operation())
    response = client.post("/looks", json=body, headers={"Authorization": f"Bearer {api.token}"} | headers)
    told = response.get_json()
    assert (response.status_code, told["errors"]) == (status, [told["error"]["code"]])
