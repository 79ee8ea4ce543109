"""Orders: what they earned and used, why, and what a refund would do."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

BOOKS = (
    "orders",
    "refunds",
    "transactions",
    "timeline",
    "entries",
    "lots",
    "wallets",
    "activity",
    "redemptions",
)


def books(engine: Engine, shop_id: int) -> dict[str, str]:
    """Everything on record of a shop, so that any change shows."""
    with engine.connect() as connection:
        digest = "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {} t where shop_id = :id"
        return {
            table: connection.execute(text(digest.format(table)), {"id": shop_id}).scalar_one()
            for table in BOOKS
        }


@pytest.fixture
def order(api, store) -> int:
    """An order of 100.00 that earned 100, with 20.00 refunded."""
    store.place(api, 450)
    store.refund(api, 450, 9, 2_000)
    return 450


def test_an_order_shows_its_awards_and_refunds(api, order: int) -> None:
    shown = api.get("/orders/450").get_json()
    assert (shown["id"], shown["name"], shown["status"]) == ("450", "#450", "partially_refunded")
    assert (shown["total"], shown["refunded"], shown["currency"]) == ("100.00", "20.00", "EUR")
    award = shown["awards"][0]
    assert [award[name] for name in ("rule", "status", "amount", "reversed", "debited", "shortfall")] == [
        "place-order", "approved", 100, 20, 20, 0,
    ]  # fmt: skip
    assert [(refund["id"], refund["amount"], refund["reversed"]) for refund in shown["refunds"]] == [
        ("9", "20.00", 20)
    ]


def test_an_order_that_used_a_code_shows_the_redemption_and_what_came_back(api, store) -> None:
    api.put("/program", {"return_redeemed": {"enabled": True}})
    api.post("/customers/7001/grants", {"amount": 500, "reason": "x"})
    redemption = api.post(
        "/redemptions", {"customer_id": "7001", "reward": "5-off", "code": "Seven-1"}
    ).get_json()
    store.place(api, 450, code="SEVEN-1")
    shown = api.get("/orders/450").get_json()["redemptions"]
    assert [(used["id"], used["code"], used["amount"], used["restitution"]) for used in shown] == [
        (redemption["id"], "Seven-1", 500, "none")
    ]
    assert api.get(f"/redemptions/{redemption['id']}").get_json()["order_id"] == "450"


def test_an_order_without_a_customer_is_shown_and_touches_no_wallet(api, store) -> None:
    store.place(api, 450, customer=None)
    shown = api.get("/orders/450").get_json()
    assert (shown["customer_id"], shown["awards"]) == (None, [])
    assert api.get("/orders/450/trace").status_code == 200


def test_an_order_known_only_by_its_refund_is_404_and_its_trace_says_why(api, store) -> None:
    store.refund(api, 450, 9, 2_000)
    assert api.get("/orders/450").status_code == 404
    assert api.get("/orders/450/trace").get_json()["flags"] == [{"code": "ORDER_UNKNOWN", "rule": "R28"}]
    assert api.post("/orders/450/preview", {"amount": "1.00"}).status_code == 404


@pytest.mark.parametrize("path", ["/orders/450", "/orders/450/trace"])
def test_an_order_that_was_never_seen_is_404(api, path: str) -> None:
    assert api.get(path).status_code == 404


def test_a_trace_gives_rule_fraction_cap_lots_balances_and_policy(api, order: int) -> None:
    decision = api.get("/orders/450/trace").get_json()["decisions"][0]
    claim = decision["claims"][0]
    assert (decision["cause"], decision["fraction"], decision["policy_version"]) == ("refund:9", "1/5", 1)
    assert "R1" in claim["rules"] and (claim["left_before"], claim["amount"]) == (100, 20)
    assert (claim["balance_before"], claim["balance_after"]) == (100, 80) and claim["lots"][0][
        "amount"
    ] == -20


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        (None, "application/json"),
        ("*/*", "application/json"),
        ("application/json", "application/json"),
        ("text/plain", "text/plain"),
        ("text/plain; q=0.5, application/json", "application/json"),
        ("application/json; q=0.5, text/plain", "text/plain"),
        ("text/html", "application/json"),
    ],
)
def test_a_trace_is_text_for_those_who_ask_for_text(
    api, order: int, accept: str | None, mimetype: str
) -> None:
    response = api.get("/orders/450/trace", accept=accept)
    assert (response.status_code, response.mimetype, response.headers["Vary"]) == (200, mimetype, "Accept")
    if mimetype == "text/plain":
        assert "refund:9" in response.get_data(as_text=True) and "1/5" in response.get_data(as_text=True)


@pytest.mark.parametrize(
    ("body", "reversed_", "status"),
    [
        pytest.param({"amount": "20.00"}, 20, "partially_refunded", id="a fifth"),
        pytest.param({"amount": "20"}, 20, "partially_refunded", id="whole units"),
        pytest.param(
            {"lines": [{"id": "4500", "quantity": 1}]}, 50, "partially_refunded", id="one of two units"
        ),
        pytest.param(
            {"lines": [{"id": 4500, "quantity": 2}]}, 80, "fully_refunded", id="both units, 20.00 being back"
        ),
        pytest.param({"amount": "80.00"}, 80, "fully_refunded", id="what is left"),
        pytest.param({}, 80, "fully_refunded", id="the rest"),
        pytest.param(None, 80, "fully_refunded", id="no body: the rest"),
    ],
)
def test_a_preview_tells_what_would_be_and_changes_nothing(
    api, engine: Engine, order: int, body: Any, reversed_: int, status: str
) -> None:
    before = books(engine, api.shop_id)
    response = api.post("/orders/450/preview", body)
    assert response.status_code == 200
    told = response.get_json()
    assert (told["reversed"], told["status_before"], told["status_after"]) == (
        reversed_,
        "partially_refunded",
        status,
    )
    assert told["customers"] == [{"id": "7001", "balance_before": 80, "balance_after": 80 - reversed_}]
    assert books(engine, api.shop_id) == before


BAD_PREVIEWS = [
    pytest.param({"amount": 20}, id="an amount that is a number"),
    pytest.param({"amount": "20.001"}, id="a tenth of a cent"),
    pytest.param({"amount": "-5.00"}, id="below zero"),
    pytest.param({"amount": "0.00"}, id="nothing"),
    pytest.param({"amount": "1e2"}, id="an exponent"),
    pytest.param({"amount": "NaN"}, id="not a number"),
    pytest.param({"amount": "٢٠"}, id="digits of another script"),
    pytest.param({"amount": "9" * 40}, id="forty digits"),
    pytest.param({"amount": "80.01"}, id="more than is left"),
    pytest.param({"amount": "5.00", "lines": [{"id": "4500", "quantity": 1}]}, id="both"),
    pytest.param({"lines": []}, id="no lines"),
    pytest.param({"lines": [{"id": "4500"}]}, id="a line without a quantity"),
    pytest.param({"lines": [{"id": "4500", "quantity": 0}]}, id="no units"),
    pytest.param({"lines": [{"id": "4500", "quantity": 1.0}]}, id="a float of units"),
    pytest.param({"lines": [{"id": "4500", "quantity": True}]}, id="true units"),
    pytest.param({"lines": [{"id": "4500", "quantity": 3}]}, id="more units than there are"),
    pytest.param({"lines": [{"id": "4501", "quantity": 1}]}, id="a line of nobody's"),
    pytest.param({"lines": [{"id": "4500", "quantity": 1}] * 2}, id="one line twice"),
    pytest.param({"lines": [{"id": "x", "quantity": 1}]}, id="a line id that is none"),
    pytest.param({"lines": [{"id": 4500.0, "quantity": 1}]}, id="a line id that is a float"),
    pytest.param({"lines": [{"id": "4500", "quantity": 1, "why": 1}]}, id="an unknown field"),
    pytest.param({"sum": "5.00"}, id="an unknown field above"),
]


@pytest.mark.parametrize("body", BAD_PREVIEWS)
def test_a_preview_that_cannot_be_is_422_and_changes_nothing(
    api, engine: Engine, order: int, body: Any
) -> None:
    before = books(engine, api.shop_id)
    response = api.post("/orders/450/preview", body)
    assert response.status_code == 422
    assert books(engine, api.shop_id) == before


def test_a_preview_agrees_with_the_refund_that_follows(api, store, order: int) -> None:
    told = api.post("/orders/450/preview", {"amount": "33.33"}).get_json()
    store.refund(api, 450, 10, 3_333)
    shown = api.get("/orders/450").get_json()
    assert told["reversed"] == next(r["reversed"] for r in shown["refunds"] if r["id"] == "10") == 33
    assert told["customers"][0]["balance_after"] == api.get("/customers/7001").get_json()["balance"]


def test_money_without_decimals_is_shown_without_decimals(api, store) -> None:
    store.place(api, 450, currency="JPY", total_minor=10_000)
    assert api.get("/orders/450").get_json()["total"] == "10000"
    assert api.post("/orders/450/preview", {"amount": "10.50"}).status_code == 422
    assert api.post("/orders/450/preview", {"amount": "2000"}).get_json()["fraction"] == "1/5"


def test_units_that_are_not_there_are_refused_with_those_that_are(api, store) -> None:
    store.place(api, 450)
    store.refund(api, 450, 9, 5_000, units=1)
    refused = api.post("/orders/450/preview", {"lines": [{"id": "4500", "quantity": 2}]}).get_json()["error"]
    assert (refused["code"], refused["message"]) == ("wrong_quantity", "line 4500 has 1 unit left to return")
    assert refused["details"] == {"line": "4500", "left": 1}


@pytest.mark.parametrize(
    ("body", "field", "words"),
    [
        pytest.param({"reason": "x" * 201}, "reason", "must have at most 200 characters", id="a long reason"),
        pytest.param({"amount": "-1"}, "amount", "must be more than 0", id="below zero"),
        pytest.param({"lines": 5}, "lines", "must be a list", id="lines that are a number"),
        pytest.param(
            {"lines": [{"id": "1", "quantity": 0}]}, "lines[0].quantity", "must be at least 1", id="no units"
        ),
        pytest.param(
            {"lines": [{"id": "1", "quantity": 1.5}]},
            "lines[0].quantity",
            "must be a whole number",
            id="half a unit",
        ),
        pytest.param({"lines": [{"id": "1"}]}, "lines[0].quantity", "is required", id="no quantity"),
        pytest.param([], "body", "must be an object", id="a list"),
    ],
)
def test_what_is_wrong_is_said_in_words_for_callers(api, body: Any, field: str, words: str) -> None:
    details = api.post("/orders/450/refund", body).get_json()["error"]["details"]
    assert (details["field"], details["reason"]) == (field, words)
