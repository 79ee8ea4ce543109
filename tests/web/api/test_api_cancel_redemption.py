"""R34 over HTTP: a redemption cancelled by the state of its code, each answer in the documented shape."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from typing import Any

import pytest

ORDER = 5_001
CODE = "LOYAL-1"


@pytest.fixture
def rich(api):
    """A caller whose customers 7001 and 7002 have 1000 each."""
    for customer in (7001, 7002):
        api.post(f"/customers/{customer}/grants", {"amount": 1000, "reason": "x"})
    return api


@pytest.fixture
def id(rich) -> str:
    """A redemption with a code that was given to us; the shop gave no access to Shopify."""
    return spend(rich, reward="5-off", code=CODE)


def spend(caller, **body: Any) -> str:
    made = caller.post("/redemptions", {"customer_id": "7001", **body})
    assert made.status_code == 201, made.get_json()
    return made.get_json()["id"]


def cancel(caller, id: str, body: Any = None, **more: Any):
    return caller.post(f"/redemptions/{id}/cancel", body, **more)


def balance(caller, customer: int = 7001) -> int:
    return caller.get(f"/customers/{customer}").get_json()["balance"]


def state(caller, id: str) -> str:
    return caller.get(f"/redemptions/{id}").get_json()["cancellation"]["state"]


def assert_refused(response, code: str) -> dict[str, Any]:
    error = response.get_json()["error"]
    assert (response.status_code, error["code"]) == (409, code)
    return error


def test_points_come_back_with_a_note_and_a_warning(rich, id: str) -> None:
    """The code is one that only the merchant can remove, and he is told to."""
    assert (state(rich, id), balance(rich)) == ("unused", 500)
    done = cancel(rich, id, {"reason": "Redeemed by mistake"}).get_json()
    assert (done["returned"], done["credited"], done["restitution"], balance(rich)) == (
        500,
        500,
        "points",
        1000,
    )
    assert done["reversal"]["code"] == "not_reachable" and "remove the code yourself" in done["warnings"][0]
    [by_hand] = done["reversals"]
    assert (by_hand["kind"], by_hand["reason"], by_hand["by"][:6]) == (
        "cancelled",
        "Redeemed by mistake",
        "token:",
    )
    [note] = rich.get("/customers/7001/activity?kind=redemption.cancelled").get_json()["data"]
    assert note["detail"]["reason"] == "Redeemed by mistake"


def test_a_second_call_is_told_the_date_and_does_nothing(rich, id: str) -> None:
    at = cancel(rich, id).get_json()["cancellation"]["refunded_at"]
    for body in (None, {}, {"force": True}):
        error = assert_refused(cancel(rich, id, body), "already_refunded")
        assert error["details"]["refunded_at"] == at and at[:10] in error["message"]
    assert balance(rich) == 1000


def test_one_key_cancels_once_and_answers_the_same(rich, id: str) -> None:
    first, again = (cancel(rich, id, {"reason": "x"}, key="k-1") for _ in range(2))
    assert (first.status_code, first.data) == (again.status_code, again.data) == (200, first.data)
    assert again.headers["Idempotent-Replayed"] == "true"


def test_a_preview_shows_it_and_changes_nothing(rich, id: str) -> None:
    before = rich.get(f"/redemptions/{id}").get_json()
    shown = rich.post(f"/redemptions/{id}/cancel?preview=true")
    assert shown.headers["Unwind-Preview"] == "true"
    assert shown.get_json()["reversal"]["amount"] == 500
    assert (rich.get(f"/redemptions/{id}").get_json(), balance(rich)) == (before, 500)


def test_a_used_code_needs_force_and_stays_used(rich, store, id: str) -> None:
    store.place(rich, ORDER, customer=7001, code=CODE)
    held = balance(rich)
    error = assert_refused(cancel(rich, id), "code_used")
    assert error["details"] == {"state": "used", "needs_force": True, "used_on": str(ORDER)}
    assert "with force" in error["message"] and balance(rich) == held
    done = cancel(rich, id, {"force": True}).get_json()
    assert (done["reversal"]["code"], balance(rich)) == ("stays_used", held + 500)


def test_without_its_spending_rule_it_needs_force(rich, id: str) -> None:
    rich.put("/program", {"rewards": []})
    assert state(rich, id) == "unused_rule_gone"
    assert_refused(cancel(rich, id), "spending_rule_gone")
    done = cancel(rich, id, {"force": True}).get_json()
    assert (done["reversal"]["code"], balance(rich)) == ("unchanged", 1000)


def test_an_untracked_one_comes_back_to_each_member(rich) -> None:
    sources = [{"customer_id": "7001", "amount": 100}, {"customer_id": 7002, "amount": 250}]
    id = spend(rich, reward="custom", amount=350, sources=sources)
    assert state(rich, id) == "untracked"
    members = cancel(rich, id).get_json()["reversal"]["members"]
    assert [(member["customer_id"], member["credited"]) for member in members] == [
        ("7001", 100),
        ("7002", 250),
    ]
    assert (balance(rich, 7001), balance(rich, 7002)) == (1000, 1000)


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"force": "true"}, id="force as text"),
        pytest.param({"force": 1}, id="force as a number"),
        pytest.param({"reason": ""}, id="an empty reason"),
        pytest.param({"reason": "x" * 201}, id="a long reason"),
        pytest.param({"reason": "a\nb"}, id="two lines"),
        pytest.param({"amount": 5}, id="an amount"),
        pytest.param([], id="a list"),
    ],
)
def test_what_cannot_be_meant_is_refused(rich, id: str, body: Any) -> None:
    response = cancel(rich, id, body)
    assert (response.status_code, response.get_json()["error"]["code"]) == (422, "invalid_request")
    assert balance(rich) == 500


def test_nobody_cancels_anothers_redemption(rich, other, id: str) -> None:
    assert cancel(other, id).status_code == 404
    assert cancel(rich, "999999999").status_code == 404
    assert balance(rich) == 500


def test_sixteen_callers_at_once(rich, id: str) -> None:
    """Each has a client of its own; one gives back, the others are told when."""
    clients = [
        type(rich)(rich.client.application.test_client(), rich.domain, rich.shop_id, rich.token)
        for _ in range(16)
    ]
    with ThreadPoolExecutor(16) as pool:
        said = [r.status_code for r in pool.map(lambda caller: cancel(caller, id), clients)]
    assert sorted(said) == [200] + [409] * 15
    assert balance(rich) == 1000
