"""Spending: on a reward, a free amount, alone or as a group."""

from __future__ import annotations

from typing import Any

import pytest


@pytest.fixture
def rich(api):
    """A caller whose customers 7001 and 7002 have 1000 each."""
    for customer in (7001, 7002):
        api.post(f"/customers/{customer}/grants", {"amount": 1000, "reason": "x"})
    return api


def balance(caller, customer: int = 7001) -> int:
    return caller.get(f"/customers/{customer}").get_json()["balance"]


def test_a_reward_is_paid_for_and_its_code_tracked(rich) -> None:
    response = rich.post("/redemptions", {"customer_id": "7001", "reward": "5-off", "code": "LOYAL-1"})
    assert response.status_code == 201
    made = response.get_json()
    assert (made["reward"], made["kind"], made["amount"], made["code"]) == (
        "5-off",
        "amount_discount",
        500,
        "LOYAL-1",
    )
    assert made["sources"][0]["drawn"] == 500 and balance(rich) == 500
    assert rich.get(f"/redemptions/{made['id']}").get_json() == made


@pytest.mark.parametrize("id", ["7001", 7001], ids=["text", "number"])
def test_ids_may_be_sent_as_text_or_as_numbers(rich, id: Any) -> None:
    made = rich.post("/redemptions", {"customer_id": id, "reward": "custom", "amount": 10}).get_json()
    assert made["customer_id"] == "7001"


def test_a_custom_redemption_takes_the_amount_given(rich) -> None:
    assert (
        rich.post("/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 350}).status_code
        == 201
    )
    assert balance(rich) == 650


def test_a_group_gives_from_each_wallet_what_each_promised(rich) -> None:
    sources = [{"customer_id": "7001", "amount": 100}, {"customer_id": 7002, "amount": 250}]
    body = {"customer_id": "7001", "reward": "custom", "amount": 350, "sources": sources}
    made = rich.post("/redemptions", body).get_json()
    assert [(member["customer_id"], member["drawn"]) for member in made["sources"]] == [
        ("7001", 100),
        ("7002", 250),
    ]
    assert (balance(rich, 7001), balance(rich, 7002)) == (900, 750)


BAD: list[Any] = [
    pytest.param({"reward": "5-off"}, 422, "invalid_request", id="no customer"),
    pytest.param({"customer_id": "7001"}, 422, "invalid_request", id="no reward"),
    pytest.param({"customer_id": "x", "reward": "5-off"}, 422, "invalid_request", id="an id that is none"),
    pytest.param({"customer_id": 7001.0, "reward": "5-off"}, 422, "invalid_request", id="an id that is a float"),
    pytest.param({"customer_id": True, "reward": "5-off"}, 422, "invalid_request", id="true for an id"),
    pytest.param({"customer_id": 2**63, "reward": "5-off"}, 422, "invalid_request", id="an id beyond 64 bits"),
    pytest.param({"customer_id": "7001", "reward": "custom", "amount": 0}, 422, "invalid_request", id="nothing"),
    pytest.param({"customer_id": "7001", "reward": "custom", "amount": -5}, 422, "invalid_request", id="below zero"),
    pytest.param({"customer_id": "7001", "reward": "custom", "amount": 1.5}, 422, "invalid_setting", id="half a point"),
    pytest.param({"customer_id": "7001", "reward": "custom"}, 422, "wrong_amount", id="custom without an amount"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "amount": 400}, 422, "wrong_amount", id="another price"),
    pytest.param({"customer_id": "7001", "reward": "6-off"}, 422, "unknown_reward", id="an unknown reward"),
    pytest.param({"customer_id": "7009", "reward": "5-off"}, 422, "unknown_customer", id="an unknown customer"),
    pytest.param({"customer_id": "7001", "reward": "custom", "amount": 1001}, 409, "insufficient_balance", id="more than there is"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "code": ""}, 422, "invalid_request", id="an empty code"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "code": "x" * 256}, 422, "invalid_request", id="a long code"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "code": "a\tb"}, 422, "invalid_request", id="a tab in a code"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "code": "Taken"}, 409, "code_taken", id="a code that is taken"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "code": "TAKEN"}, 409, "code_taken", id="taken in other letters"),
    pytest.param({"customer_id": "7001", "reward": "5-off", "sources": []}, 422, "invalid_request", id="no sources"),
    pytest.param(
        {"customer_id": "7001", "reward": "5-off", "sources": [{"customer_id": "7002", "amount": 400}]},
        422, "wrong_sources", id="sources that do not sum up",
    ),
    pytest.param(
        {"customer_id": "7001", "reward": "5-off", "sources": [{"customer_id": "7002", "amount": 250}] * 2},
        422, "invalid_request", id="one source twice",
    ),
    pytest.param(
        {"customer_id": "7001", "reward": "5-off", "sources": [{"customer_id": "7008", "amount": 500}]},
        422, "unknown_customer", id="a source that nobody knows",
    ),
    pytest.param({"customer_id": "7001", "reward": "5-off", "note": "x"}, 422, "invalid_request", id="an unknown field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "status", "code"), BAD)
def test_a_redemption_that_cannot_be_says_why_and_takes_nothing(
    rich, body: Any, status: int, code: str
) -> None:
    rich.post("/redemptions", {"customer_id": "7002", "reward": "5-off", "code": "taken"})
    response = rich.post("/redemptions", body)
    assert (response.status_code, response.get_json()["error"]["code"]) == (status, code)
    assert (balance(rich, 7001), balance(rich, 7002)) == (1000, 500)


def test_a_redemption_that_there_is_not_is_404(api) -> None:
    assert api.get("/redemptions/1").status_code == 404
