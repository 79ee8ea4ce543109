"""Wallets: what is shown of them, grants into them, tiers kept by hand."""

from __future__ import annotations

import json
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest

GRANT = {"amount": 100, "reason": "Sorry for the delay"}
IN_A_YEAR = (datetime.now(UTC) + timedelta(days=365)).isoformat()


def test_a_customer_who_was_never_seen_is_404(api) -> None:
    assert api.get("/customers/7001").status_code == 404
    assert api.get("/customers/7001/activity").status_code == 404
    assert api.put("/customers/7001/tier", {"pinned": "gold"}).status_code == 404


def test_a_grant_opens_a_wallet_and_says_what_is_in_it(api) -> None:
    response = api.post("/customers/7001/grants", {**GRANT, "expires_at": IN_A_YEAR})
    assert response.status_code == 201
    grant = response.get_json()
    assert (grant["customer_id"], grant["amount"], grant["balance"]) == ("7001", 100, 100)
    customer = api.get("/customers/7001").get_json()
    assert (customer["id"], customer["balance"], customer["pending"], customer["debt"]) == ("7001", 100, 0, 0)
    assert [lot["remainder"] for lot in customer["lots"]] == [100]
    assert customer["lots"][0]["expires_at"] is not None


def test_grants_add_up_and_lots_sum_to_the_balance(api) -> None:
    for amount in (1, 20, 300):
        api.post("/customers/7001/grants", {**GRANT, "amount": amount})
    customer = api.get("/customers/7001").get_json()
    assert customer["balance"] == 321 == sum(lot["remainder"] for lot in customer["lots"])


def test_an_order_fills_the_wallet_and_counts_for_the_tier(api, store) -> None:
    store.place(api, 450, total_minor=60_000)
    customer = api.get("/customers/7001").get_json()
    assert (customer["balance"], customer["tier"], customer["orders_count"]) == (600, "gold", 1)
    assert (customer["spend"]["lifetime"], customer["spend"]["currency"]) == ("600.00", "EUR")
    store.refund(api, 450, 9, 20_000)
    customer = api.get("/customers/7001").get_json()
    assert (customer["balance"], customer["tier"], customer["spend"]["rolling_year"]) == (400, None, "400.00")


def test_a_pinned_tier_stays_through_refunds_until_it_is_let_go(api, store) -> None:
    store.place(api, 450, total_minor=60_000)
    assert api.put("/customers/7001/tier", {"pinned": "gold"}).get_json()["tier_pinned"] is True
    store.refund(api, 450, 9, 20_000)
    assert api.get("/customers/7001").get_json()["tier"] == "gold"
    let_go = api.put("/customers/7001/tier", {"pinned": None}).get_json()
    assert (let_go["tier"], let_go["tier_pinned"]) == (None, False)
    kinds = [entry["kind"] for entry in api.get("/customers/7001/activity").get_json()["data"]]
    assert kinds[:3] == ["tier.changed", "tier.unpinned", "points.reversed"] and "tier.pinned" in kinds


def test_a_pin_lifts_a_customer_at_once_and_twice_is_once(api) -> None:
    api.post("/customers/7001/grants", GRANT)
    for _ in range(2):
        assert api.put("/customers/7001/tier", {"pinned": "gold"}).get_json()["tier"] == "gold"
    kinds = [entry["kind"] for entry in api.get("/customers/7001/activity").get_json()["data"]]
    assert kinds.count("tier.pinned") == 1


@pytest.mark.parametrize(
    ("body", "code"),
    [
        pytest.param({"pinned": "platinum"}, "unknown_tier", id="a level that there is not"),
        pytest.param({}, "invalid_request", id="nothing said"),
        pytest.param({"pinned": 1}, "invalid_request", id="a number"),
        pytest.param({"pinned": ""}, "invalid_request", id="an empty text"),
        pytest.param({"pinned": "gold", "why": "x"}, "invalid_request", id="an unknown field"),
    ],
)
def test_a_pin_that_cannot_be_is_422(api, body: Any, code: str) -> None:
    api.post("/customers/7001/grants", GRANT)
    response = api.put("/customers/7001/tier", body)
    assert (response.status_code, response.get_json()["error"]["code"]) == (422, code)


BAD_GRANTS = [
    pytest.param({"reason": "x"}, "amount", id="no amount"),
    pytest.param({"amount": 0, "reason": "x"}, "amount", id="nothing"),
    pytest.param({"amount": -1, "reason": "x"}, "amount", id="below zero"),
    pytest.param({"amount": 1.5, "reason": "x"}, "amount", id="half a point"),
    pytest.param({"amount": 1.0, "reason": "x"}, "amount", id="a float that is whole"),
    pytest.param({"amount": True, "reason": "x"}, "amount", id="true"),
    pytest.param({"amount": "100", "reason": "x"}, "amount", id="a number as text"),
    pytest.param({"amount": None, "reason": "x"}, "amount", id="null"),
    pytest.param({"amount": [1], "reason": "x"}, "amount", id="a list"),
    pytest.param({"amount": 10**15 + 1, "reason": "x"}, "amount", id="more than all points there are"),
    pytest.param({"amount": 10**100, "reason": "x"}, "amount", id="a googol"),
    pytest.param({"amount": 5}, "reason", id="no reason"),
    pytest.param({"amount": 5, "reason": ""}, "reason", id="an empty reason"),
    pytest.param({"amount": 5, "reason": "   "}, "reason", id="a blank reason"),
    pytest.param({"amount": 5, "reason": "x" * 201}, "reason", id="a long reason"),
    pytest.param({"amount": 5, "reason": "two\nlines"}, "reason", id="two lines"),
    pytest.param({"amount": 5, "reason": "nul\x00"}, "reason", id="a NUL"),
    pytest.param({"amount": 5, "reason": "\ud83d"}, "reason", id="half a character"),
    pytest.param({"amount": 5, "reason": 7}, "reason", id="a number for a reason"),
    pytest.param({"amount": 5, "reason": "x", "expires_at": "soon"}, "expires_at", id="soon"),
    pytest.param({"amount": 5, "reason": "x", "expires_at": 1_900_000_000}, "expires_at", id="seconds"),
    pytest.param({"amount": 5, "reason": "x", "expires_at": "2099-01-01T00:00:00"}, "expires_at", id="no offset"),
    pytest.param({"amount": 5, "reason": "x", "expires_at": "2020-01-01T00:00:00Z"}, "expires_at", id="past"),
    pytest.param({"amount": 5, "reason": "x", "expires_at": "9999-12-31T23:59:59-14:00"}, "expires_at", id="year 10000"),
    pytest.param({"amount": 5, "reason": "x", "customer": 1}, "customer", id="an unknown field"),
]  # fmt: skip


@pytest.mark.parametrize(("body", "field"), BAD_GRANTS)
def test_a_grant_that_cannot_be_is_422_names_the_field_and_gives_nothing(api, body: Any, field: str) -> None:
    response = api.post("/customers/7001/grants", body)
    assert (response.status_code, response.get_json()["error"]["details"]["field"]) == (422, field)
    assert api.get("/customers/7001").status_code == 404


def test_every_fault_of_a_body_is_named_at_once_and_nothing_sent_is_repeated(api) -> None:
    response = api.post("/customers/7001/grants", {"amount": -1, "reason": "", "secret-7f3k": "very-private"})
    details = response.get_json()["error"]["details"]
    named = {details["field"], *(other["field"] for other in details["others"])}
    assert named == {"amount", "reason", "secret-7f3k"}
    assert "very-private" not in response.get_data(as_text=True)


def test_credits_are_counted_to_the_cent_and_shown_in_the_programs_unit(api) -> None:
    api.put("/program", {"unit": {"kind": "credits", "scale": 2}, "rewards": []})
    answer = api.post("/customers/7001/grants", b'{"amount": 4.35, "reason": "x"}')
    assert json.loads(answer.get_data(), parse_float=Decimal)["balance"] == Decimal("4.35")
    api.post("/customers/7001/grants", b'{"amount": 0.05, "reason": "x"}')
    shown = json.loads(api.get("/customers/7001").get_data(), parse_float=Decimal)
    assert shown["balance"] == Decimal("4.40") and shown["lots"][0]["amount"] == Decimal("4.35")
    assert api.post("/customers/7001/grants", b'{"amount": 0.005, "reason": "x"}').status_code == 422
    assert (
        api.post("/customers/7001/grants", b'{"amount": 999999999999.99, "reason": "x"}').status_code == 201
    )
    shown = json.loads(api.get("/customers/7001").get_data(), parse_float=Decimal)
    assert shown["balance"] == Decimal("1000000000004.39")


def test_the_greatest_grant_is_exact(api) -> None:
    api.post("/customers/7001/grants", {**GRANT, "amount": 10**15})
    assert api.get("/customers/7001").get_json()["balance"] == 10**15


def test_the_greatest_id_is_an_id(api) -> None:
    assert api.post(f"/customers/{2**63 - 1}/grants", GRANT).get_json()["customer_id"] == str(2**63 - 1)


def test_the_reason_of_a_grant_stands_in_the_record(api) -> None:
    api.post("/customers/7001/grants", GRANT)
    entries = api.get("/customers/7001/activity").get_json()["data"]
    assert GRANT["reason"] in json.dumps(entries)
    assert {entry["customer_id"] for entry in entries} == {"7001"}
