"""GET and PUT /program: the settings as the contract shows them, and every impossible one named."""

from __future__ import annotations

import json
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.api.program import ProgramSettings
from models.rules.program import DEFAULTS, OPTIONAL_SECTIONS

CONTRACT = json.loads("""
{"unit": {"kind": "points", "scale": 0},
 "earning": [{"id": "place-order", "name": "Place an order", "per_currency_unit": "1", "fixed": 0, "mask": "total", "on_partial": "proportional"}],
 "waiting_days": 0, "expiry_days": null,
 "reverse_earned": {"refunded": true, "partially_refunded": true, "voided": true, "cancelled": true, "rounding": "per_refund"},
 "return_redeemed": {"enabled": false, "expired_grace_days": 0},
 "below_zero": "forgive", "cancelled_paid": "wait", "include_test_orders": false,
 "tiers": {"metric": "spend", "window": "lifetime", "downgrade": "immediate", "grace_days": 0, "levels": [{"id": "gold", "name": "Gold", "threshold": "500.00"}]},
 "rewards": [{"id": "5-off", "name": "$5 off", "kind": "amount_discount", "cost": 500, "value": "5.00", "reactivate_code": false}],
 "time_zone": "UTC"}
""")


def versions(engine: Engine, shop_id: int) -> int:
    with engine.connect() as connection:
        query = text("select count(*) from programs where shop_id = :id")
        return connection.execute(query, {"id": shop_id}).scalar_one()


def test_a_new_shop_has_exactly_the_program_of_the_contract(api) -> None:
    assert api.get("/program").get_json() == CONTRACT


def test_the_document_describes_the_same_defaults() -> None:
    assert dict(DEFAULTS) == CONTRACT
    assert ProgramSettings().model_dump() == {**DEFAULTS, **OPTIONAL_SECTIONS}


def test_a_put_makes_a_new_version_and_answers_with_it(api, engine: Engine) -> None:
    response = api.put("/program", {**CONTRACT, "waiting_days": 14})
    assert (response.status_code, response.get_json()) == (200, {**CONTRACT, "waiting_days": 14})
    assert api.get("/program").get_json() == response.get_json()
    assert versions(engine, api.shop_id) == 2


def test_a_put_replaces_what_it_leaves_out_takes_its_default(api) -> None:
    api.put("/program", {"waiting_days": 14})
    assert api.put("/program", {"expiry_days": 365}).get_json() == {**CONTRACT, "expiry_days": 365}


def test_what_a_section_leaves_out_takes_its_default_too(api) -> None:
    answer = api.put("/program", {"return_redeemed": {"enabled": True}}).get_json()
    assert answer["return_redeemed"] == {"enabled": True, "expired_grace_days": 0}


def test_the_same_settings_again_make_no_new_version(api, engine: Engine) -> None:
    api.put("/program", CONTRACT)
    assert versions(engine, api.shop_id) == 1


def test_credits_may_have_decimals_and_stay_exact(api) -> None:
    reward = {
        "id": "r",
        "name": "R",
        "kind": "amount_discount",
        "cost": 4.35,
        "value": "4.35",
        "reactivate_code": False,
    }
    rule = {**CONTRACT["earning"][0], "per_currency_unit": "0.05", "fixed": 0.1}
    answer = api.put(
        "/program", {"unit": {"kind": "credits", "scale": 2}, "rewards": [reward], "earning": [rule]}
    )
    assert answer.status_code == 200
    shown = json.loads(api.get("/program").get_data(), parse_float=Decimal)
    assert (shown["rewards"][0]["cost"], shown["earning"][0]["fixed"]) == (Decimal("4.35"), Decimal("0.1"))


IMPOSSIBLE: list[Any] = [
    pytest.param({"colour": "red"}, "colour", id="an unknown setting"),
    pytest.param({"unit": {"kind": "points", "decimals": 2}}, "unit.decimals", id="an unknown setting within"),
    pytest.param({"unit": {"kind": "points", "scale": 2}}, "unit.scale", id="points with decimals"),
    pytest.param({"unit": {"kind": "credits", "scale": 4}}, "unit.scale", id="four decimals"),
    pytest.param({"unit": {"kind": "gold"}}, "unit.kind", id="a unit that there is not"),
    pytest.param({"unit": None}, "unit", id="a section that is null"),
    pytest.param({"waiting_days": -1}, "waiting_days", id="days below zero"),
    pytest.param({"waiting_days": 1.5}, "waiting_days", id="half a day"),
    pytest.param({"waiting_days": True}, "waiting_days", id="true days"),
    pytest.param({"waiting_days": "7"}, "waiting_days", id="days as text"),
    pytest.param({"waiting_days": 10**9}, "waiting_days", id="more days than a calendar has"),
    pytest.param({"expiry_days": 0}, "expiry_days", id="expired at once"),
    pytest.param({"below_zero": "sue"}, "below_zero", id="a way that there is not"),
    pytest.param({"include_test_orders": 1}, "include_test_orders", id="a number for a truth"),
    pytest.param({"reverse_earned": {"refunded": "yes"}}, "reverse_earned.refunded", id="a text for a truth"),
    pytest.param({"reverse_earned": {"rounding": "up"}}, "reverse_earned.rounding", id="rounding up"),
    pytest.param({"earning": {}}, "earning", id="an object for a list"),
    pytest.param({"earning": [{}]}, "earning[0]", id="a rule without an id"),
    pytest.param({"earning": [{"id": "a", "mask": "tax"}]}, "earning[0].mask", id="a mask that there is not"),
    pytest.param(
        {"earning": [{"id": "a", "per_currency_unit": "-1"}]}, "earning[0].per_currency_unit", id="earning below zero"
    ),
    pytest.param(
        {"earning": [{"id": "a", "per_currency_unit": 1.5}]}, "earning[0].per_currency_unit", id="a number for a decimal"
    ),
    pytest.param({"earning": [{"id": "a", "fixed": 0.5}]}, "earning[0].fixed", id="half a point"),
    pytest.param({"earning": [{"id": "a"}, {"id": "a"}]}, "earning", id="one id twice"),
    pytest.param({"rewards": [{"id": "r", "name": "R", "kind": "gift_card"}]}, "rewards[0].cost", id="no cost"),
    pytest.param(
        {"rewards": [{"id": "r", "name": "R", "kind": "gift_card", "cost": 0}]}, "rewards[0].cost", id="a free reward"
    ),
    pytest.param(
        {"rewards": [{"id": "custom", "name": "R", "kind": "gift_card", "cost": 5}]}, "rewards[0].id", id="the id custom"
    ),
    pytest.param({"tiers": {"levels": [{"id": "g", "threshold": "much"}]}}, "tiers.levels[0].threshold", id="much"),
    pytest.param({"tiers": {"metric": "orders", "levels": [{"id": "g", "threshold": "1.5"}]}}, "tiers.levels[0]", id="half an order"),
    pytest.param({"time_zone": "Mars/Olympus"}, "time_zone", id="a zone on another planet"),
    pytest.param({"time_zone": "../../etc/passwd"}, "time_zone", id="a path for a zone"),
    pytest.param({"time_zone": 5}, "time_zone", id="a number for a zone"),
    pytest.param({"time_zone": ["UTC"]}, "time_zone", id="a list for a zone"),
    pytest.param({"earning": [{"id": "a", "name": "nul \u0000"}]}, "earning[0].name", id="a NUL"),
    pytest.param({"earning": [{"id": "a", "name": "\ud800"}]}, "earning[0].name", id="half a character"),
    pytest.param({"earning": [{"id": "a", "fixed": 0.12345678901234567890123}]}, "earning[0].fixed", id="too many digits"),
]  # fmt: skip


@pytest.mark.parametrize(("wrong", "field"), IMPOSSIBLE)
def test_an_impossible_setting_is_422_and_named(api, engine: Engine, wrong: Any, field: str) -> None:
    response = api.put("/program", wrong)
    error = response.get_json()["error"]
    assert response.status_code == 422
    assert error["details"]["field"].startswith(field) and field in error["message"]
    assert versions(engine, api.shop_id) == 1


@pytest.mark.parametrize("value", ["1e-999999999", "1e999999999", "0.1e-40000000"])
def test_a_number_made_to_be_slow_is_refused_at_once(api, value: str) -> None:
    response = api.put("/program", {"earning": [{"id": "a", "per_currency_unit": value}]})
    assert response.status_code == 422


def test_the_scale_cannot_change_once_something_is_booked(api) -> None:
    """R40: amounts are kept in the smallest unit; with another scale 0.29 would read as 29."""
    credits = {"unit": {"kind": "credits", "scale": 2}}
    assert api.put("/program", credits).status_code == 200, "nothing is booked yet"
    assert api.put("/program", {"unit": {"kind": "credits", "scale": 3}}).status_code == 200
    api.post("/customers/7001/grants", {"amount": 5, "reason": "welcome"})
    refused = api.put("/program", credits)
    assert (refused.status_code, refused.get_json()["error"]["details"]["field"]) == (422, "unit.scale")
    assert (
        api.put("/program", {"unit": {"kind": "credits", "scale": 3}, "waiting_days": 5}).status_code == 200
    )
