"""One effect a key: sent again, at once, or with something else in it."""

from __future__ import annotations

import json
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app import api as the_api
from app import errors
from models.session import make_engine
from models.settings import Settings

GRANT = {"amount": 100, "reason": "Sorry"}
SPEND = {"customer_id": "7001", "reward": "custom", "amount": 60}


def balance(caller) -> int:
    return caller.get("/customers/7001").get_json()["balance"]


def test_the_same_key_and_body_answer_the_same_to_the_byte_and_act_once(api) -> None:
    answers = [api.post("/customers/7001/grants", GRANT, key="k-1") for _ in range(3)]
    assert {answer.status_code for answer in answers} == {201}
    assert len({answer.get_data() for answer in answers}) == 1
    assert [answer.headers.get("Idempotent-Replayed") for answer in answers] == [None, "true", "true"]
    assert balance(api) == 100


def test_without_a_key_each_call_acts(api) -> None:
    for _ in range(2):
        api.post("/customers/7001/grants", GRANT)
    assert balance(api) == 200


def test_spacing_and_order_of_names_make_no_other_body(api) -> None:
    api.post("/customers/7001/grants", b'{"amount": 100, "reason": "Sorry"}', key="k")
    again = api.post("/customers/7001/grants", b'{ "reason":"Sorry","amount":100 }', key="k")
    assert (again.status_code, balance(api)) == (201, 100)


@pytest.mark.parametrize(
    ("method", "path", "body"),
    [
        pytest.param("POST", "/customers/7001/grants", {**GRANT, "amount": 101}, id="another amount"),
        pytest.param("POST", "/customers/7001/grants", {**GRANT, "reason": "sorry"}, id="another reason"),
        pytest.param("POST", "/customers/7002/grants", GRANT, id="another customer"),
        pytest.param("PUT", "/program", {"waiting_days": 1}, id="another call"),
    ],
)
def test_a_key_that_was_used_for_something_else_is_422(api, method: str, path: str, body: Any) -> None:
    api.post("/customers/7001/grants", GRANT, key="k")
    response = api.call(method, path, body, key="k")
    assert (response.status_code, response.get_json()["error"]["code"]) == (422, "idempotency_key_reused")
    assert balance(api) == 100 and api.get("/program").get_json()["waiting_days"] == 0


def test_the_same_key_of_another_shop_is_another_key(api, other) -> None:
    for caller in (api, other):
        assert (
            caller.post("/customers/7001/grants", GRANT, key="k").headers.get("Idempotent-Replayed") is None
        )
        assert balance(caller) == 100


def test_a_refusal_is_kept_too_and_leaves_nothing_behind(api, engine: Engine) -> None:
    api.post("/customers/7001/grants", {**GRANT, "amount": 50})
    first = api.post("/redemptions", SPEND, key="k")
    api.post("/customers/7001/grants", GRANT)
    again = api.post("/redemptions", SPEND, key="k")
    assert (first.status_code, first.get_data()) == (409, again.get_data())
    assert again.headers["Idempotent-Replayed"] == "true" and balance(api) == 150
    assert api.post("/redemptions", SPEND, key="k-2").status_code == 201


def test_a_body_that_was_never_understood_uses_up_no_key(api) -> None:
    assert api.post("/customers/7001/grants", {"amount": -1, "reason": "x"}, key="k").status_code == 422
    assert api.post("/customers/7001/grants", GRANT, key="k").status_code == 201


def test_a_busy_database_keeps_no_answer_so_the_same_call_works_later(
    api, engine: Engine, settings: Settings
) -> None:
    assert settings.database_url is not None
    impatient = make_engine(settings.database_url, statement_timeout_seconds=1)
    app = Flask("busy")
    errors.register(app)
    the_api.register(app, impatient, settings)
    api.client = app.test_client()
    with engine.begin() as holder:
        holder.execute(text("lock table wallets in access exclusive mode"))
        assert api.post("/customers/7001/grants", GRANT, key="k").status_code == 503
    again = api.post("/customers/7001/grants", GRANT, key="k")
    impatient.dispose()
    assert (again.status_code, again.headers.get("Idempotent-Replayed")) == (201, None)


@pytest.mark.parametrize(
    "key",
    [
        pytest.param("", id="empty"),
        pytest.param("a b", id="a space"),
        pytest.param("x" * 256, id="256 characters"),
        pytest.param("schlüssel", id="not ASCII"),
        pytest.param("a\tb", id="a tab"),
    ],
)
def test_a_key_that_cannot_be_is_422_and_named(api, key: str) -> None:
    response = api.post("/customers/7001/grants", GRANT, key=key)
    assert (response.status_code, response.get_json()["error"]["details"]["field"]) == (
        422,
        "Idempotency-Key",
    )


@pytest.mark.parametrize("key", ["x" * 255, "!~", "9f0c1e4e-7d1b-4d43-9b32-0a6d1f0f9a11"])
def test_every_other_key_is_taken(api, key: str) -> None:
    assert api.post("/customers/7001/grants", GRANT, key=key).status_code == 201


def at_once(n: int, call: Any) -> list[Any]:
    """`n` threads call at the same moment."""
    start = Barrier(n)

    def one(i: int) -> Any:
        start.wait()
        return call(i)

    with ThreadPoolExecutor(n) as pool:
        return list(pool.map(one, range(n)))


def test_of_many_calls_at_once_under_one_key_one_acts_and_all_answer_the_same(api, app) -> None:
    def call(i: int) -> tuple[int, bytes, str | None]:
        response = app.test_client().post(
            "/api/v1/customers/7001/grants",
            data=json.dumps(GRANT),
            content_type="application/json",
            headers={"Authorization": f"Bearer {api.token}", "Idempotency-Key": "k"},
        )
        return response.status_code, response.get_data(), response.headers.get("Idempotent-Replayed")

    answers = at_once(8, call)
    assert {(status, body) for status, body, _ in answers} == {(201, answers[0][1])}
    assert sorted(str(replayed) for *_, replayed in answers) == ["None"] + ["true"] * 7
    assert balance(api) == 100


def test_of_many_calls_at_once_with_different_bodies_one_acts(api, app) -> None:
    def call(i: int) -> int:
        return (
            app.test_client()
            .post(
                "/api/v1/customers/7001/grants",
                data=json.dumps({**GRANT, "amount": 100 + i}),
                content_type="application/json",
                headers={"Authorization": f"Bearer {api.token}", "Idempotency-Key": "k"},
            )
            .status_code
        )

    assert sorted(at_once(6, call)) == [201] + [422] * 5
    assert 100 <= balance(api) <= 105


def test_many_spendings_at_once_never_take_more_than_there_is(api, app) -> None:
    api.post("/customers/7001/grants", GRANT)

    def call(i: int) -> int:
        return (
            app.test_client()
            .post(
                "/api/v1/redemptions",
                data=json.dumps(SPEND),
                content_type="application/json",
                headers={"Authorization": f"Bearer {api.token}", "Idempotency-Key": f"k-{i}"},
            )
            .status_code
        )

    assert sorted(at_once(6, call)) == [201] + [409] * 5
    assert balance(api) == 40
