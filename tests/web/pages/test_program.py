"""Settings: changed by forms, each change shown before it becomes a version; what is wrong is said beside its field."""

from __future__ import annotations

from typing import Any

import pytest

from models.errors import Refused
from models.rules.program import DEFAULTS, OPTIONAL, OPTIONAL_SECTIONS
from tasks.steps import programs
from tests.web.pages.conftest import NewPageShop, PageShop, Visitor
from tests.web.pages.reading import Answer

RETURN = "return_redeemed.enabled"
MUG = {"name": "Free mug", "kind": "free_product", "cost": "250", "value": "12.00"}


def in_force(store: PageShop) -> tuple[int, dict[str, Any]]:
    with store.engine.connect() as connection:
        return programs.current(connection, store.id)


def saved(visitor: Visitor, path: str, **fields: Any) -> Answer:
    """Save a section with these fields changed, and confirm what the review shows."""
    review = visitor.submit(visitor.get(path), "Save", **fields)
    assert "Nothing is saved yet" in review.text, review.text
    return visitor.submit(review, "Confirm")


def test_the_overview_says_in_words_what_every_section_has_set(store: PageShop) -> None:
    page = store.visitor().get("/settings")
    for words in (
        "Orders",
        "Earning",
        "VIP tiers",
        "Rewards",
        "Refund redeemed rewards on order cancellation No",
    ):
        assert words in page.text
    assert "Version 1 is in force" in page.text


def test_a_change_is_shown_with_what_it_does_and_saved_once_it_is_confirmed(store: PageShop) -> None:
    visitor = store.visitor()
    review = visitor.submit(visitor.get("/settings/orders"), "Save", **{RETURN: "true"})
    [row] = review.rows
    assert row[:3] == ["Points refunds: Refund redeemed rewards on order cancellation", "No", "Yes"]
    assert "not retroactive: nothing comes back for refunds that happened before" in row[3]
    assert "refunds that happened before are judged by version 1" in review.text
    assert in_force(store)[0] == 1, "a review saves nothing"
    done = visitor.submit(review, "Confirm")
    assert "Saved. The new version is in force from now on." in done.text
    version, settings = in_force(store)
    assert version == 2
    assert settings == {**DEFAULTS, "return_redeemed": {"enabled": True, "expired_grace_days": 0}}


@pytest.mark.parametrize(
    ("section", "fields", "changed"),
    [
        pytest.param(
            "orders",
            {
                "reverse_earned.refunded": None,
                "reverse_earned.partially_refunded": None,
                "reverse_earned.voided": None,
                "reverse_earned.cancelled": None,
                "reverse_earned.rounding": "cumulative",
                "reverse_earned.items_without_money": "true",
                "return_redeemed.enabled": "true",
                "return_redeemed.expired_grace_days": "30",
                "below_zero": "carry_debt",
                "cancelled_paid": "close",
                "waiting_days": " 14 ",
                "expiry_days": "365",
                "include_test_orders": "true",
                "points_reversal.limit_per_customer": "3",
            },
            {
                "reverse_earned": {
                    "refunded": False, "partially_refunded": False, "voided": False, "cancelled": False,
                    "rounding": "cumulative", "items_without_money": True,
                },
                "return_redeemed": {"enabled": True, "expired_grace_days": 30},
                "below_zero": "carry_debt",
                "cancelled_paid": "close",
                "waiting_days": 14,
                "expiry_days": 365,
                "include_test_orders": True,
                "points_reversal": {"enabled": True, "limit_per_customer": 3, "limit_days": 30},
            },
            id="orders",
        ),
        pytest.param(
            "earning",
            {
                "earning[0].name": "Buy", "earning[0].per_currency_unit": "1.5", "earning[0].fixed": "20",
                "earning[0].mask": "subtotal", "earning[0].on_partial": "only_on_full",
            },
            {
                "earning": [{
                    "id": "place-order", "name": "Buy", "per_currency_unit": "1.5", "fixed": 20,
                    "mask": "subtotal", "on_partial": "only_on_full",
                }],
            },
            id="earning",
        ),
        pytest.param(
            "tiers",
            {
                "tiers.metric": "orders", "tiers.window": "rolling_year", "tiers.downgrade": "grace",
                "tiers.grace_days": "30", "tiers.levels[0].threshold": "5",
            },
            {
                "tiers": {
                    "metric": "orders", "window": "rolling_year", "downgrade": "grace", "grace_days": 30,
                    "levels": [{"id": "gold", "name": "Gold", "threshold": "5"}],
                },
            },
            id="tiers",
        ),
        pytest.param(
            "unit",
            {"unit.kind": "credits", "unit.scale": "2", "time_zone": "Europe/Berlin"},
            {"unit": {"kind": "credits", "scale": 2}, "time_zone": "Europe/Berlin"},
            id="unit and time zone",
        ),
    ],
)  # fmt: skip
def test_every_setting_of_a_section_is_changed_by_its_field_and_no_other_with_it(
    store: PageShop, section: str, fields: dict[str, str | None], changed: dict[str, Any]
) -> None:
    saved(store.visitor(), f"/settings/{section}", **fields)
    assert in_force(store) == (2, {**DEFAULTS, **changed})


def test_every_setting_of_the_program_has_a_field(store: PageShop) -> None:
    visitor = store.visitor()
    names = set()
    for section in ("orders", "earning", "tiers", "rewards", "unit"):
        page = visitor.get(f"/settings/{section}")
        names |= {each.get("name") for tag in ("input", "select") for each in page.main.all(tag)}
    wanted = {**DEFAULTS, **OPTIONAL_SECTIONS}
    wanted["reverse_earned"] = {**wanted["reverse_earned"], **OPTIONAL["reverse_earned"]}
    assert set(paths(wanted)) <= names


def paths(value: Any, path: str = "") -> list[str]:
    if isinstance(value, dict):
        return [each for name, part in value.items() for each in paths(part, f"{path}.{name}".lstrip("."))]
    if isinstance(value, list):
        return [each for i, part in enumerate(value) for each in paths(part, f"{path}[{i}]")]
    return [path]


def test_what_is_wrong_is_said_beside_its_field_and_nothing_typed_is_lost(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.submit(
        visitor.get("/settings/orders"), "Save", waiting_days="soon", expiry_days="90", **{RETURN: "true"}
    )
    assert page.status == 422
    wrong = page.main.find("input", name="waiting_days")
    assert wrong.get("aria-invalid") == "true" and wrong["value"] == "soon"
    assert "must be a whole number between 0 and 36500" in page.main.find(id=wrong["aria-describedby"]).text
    assert page.link("Waiting days") == "#f-waiting_days"
    assert page.main.find("input", name="expiry_days")["value"] == "90"
    assert "checked" in page.main.find("input", name=RETURN).attributes
    assert in_force(store)[0] == 1
    assert "Nothing is saved yet" in visitor.submit(page, "Save", waiting_days="7").text


def test_a_reward_is_added_changed_and_removed_without_scripts(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.submit(visitor.get("/settings/rewards"), "Add a reward")
    assert "autofocus" in page.main.find("input", name="rewards[1].name").attributes
    fields = {f"rewards[1].{name}": text for name, text in MUG.items()}
    review = visitor.submit(page, "Save", **fields)
    assert review.rows[0][0] == "New reward: Free mug"
    visitor.submit(review, "Confirm")
    assert in_force(store)[1]["rewards"][1] == {
        "id": "free-mug", "name": "Free mug", "kind": "free_product", "cost": 250, "value": "12.00", "reactivate_code": False,
    }  # fmt: skip
    page = visitor.get("/settings/rewards")
    review = visitor.submit(
        page, "Save", **{"rewards[0].remove": "true", "rewards[1].reactivate_code": "true"}
    )
    assert [row[0] for row in review.rows] == ["Reward removed: $5 off", "Free mug: Reactivate code"]
    visitor.submit(review, "Confirm")
    [reward] = in_force(store)[1]["rewards"]
    assert reward["id"] == "free-mug" and reward["reactivate_code"] is True


def test_a_fault_in_a_row_stands_in_that_row_also_when_one_before_it_is_to_go(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.submit(visitor.get("/settings/rewards"), "Add a reward")
    fields = {f"rewards[1].{name}": text for name, text in MUG.items()}
    page = visitor.submit(page, "Save", **{**fields, "rewards[1].cost": "many", "rewards[0].remove": "true"})
    assert page.status == 422
    assert page.main.find("input", name="rewards[1].cost").get("aria-invalid") == "true"
    assert "checked" in page.main.find("input", name="rewards[0].remove").attributes


def test_a_new_row_in_which_nothing_was_typed_is_no_change(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.submit(visitor.get("/settings/earning"), "Add an earning rule")
    page = visitor.submit(page, "Save")
    assert page.status == 200 and "Nothing to save" in page.text
    assert in_force(store)[0] == 1


def test_names_that_give_the_same_id_get_different_ones(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.get("/settings/tiers")
    for number in (1, 2):
        page = visitor.submit(
            page, "Add a level", **({f"tiers.levels[{number - 1}].name": "Gold"} if number == 2 else {})
        )
    fields = {"tiers.levels[1].name": "Gold", "tiers.levels[1].threshold": "900"}
    fields |= {"tiers.levels[2].name": "Золото", "tiers.levels[2].threshold": "1200.50"}
    visitor.submit(visitor.submit(page, "Save", **fields), "Confirm")
    levels = in_force(store)[1]["tiers"]["levels"]
    assert [(each["id"], each["threshold"]) for each in levels] == [
        ("gold", "500.00"), ("gold-2", "900"), ("level", "1200.50"),
    ]  # fmt: skip


def test_a_version_made_by_somebody_else_meanwhile_is_noticed_before_the_review(store: PageShop) -> None:
    visitor = store.visitor()
    page = visitor.get("/settings/orders")
    store.program(waiting_days=3)
    answer = visitor.submit(page, "Save", expiry_days="90")
    assert answer.status == 409 and "Somebody else changed the settings meanwhile: version 2" in answer.text
    assert "Waiting days: 0 → 3" in answer.text
    assert answer.main.find("input", name="expiry_days")["value"] == "90"
    review = visitor.submit(answer, "Save")
    assert [row[0] for row in review.rows] == [
        "When points can be spent: Waiting days", "When points can be spent: Days until points expire",
    ]  # fmt: skip


def test_and_so_is_one_made_between_the_review_and_its_confirmation(store: PageShop) -> None:
    visitor = store.visitor()
    review = visitor.submit(visitor.get("/settings/orders"), "Save", expiry_days="90")
    store.program(waiting_days=3)
    answer = visitor.submit(review, "Confirm")
    assert answer.status == 409
    version, settings = in_force(store)
    assert version == 2 and settings["expiry_days"] is None


def test_confirming_twice_makes_one_version(store: PageShop) -> None:
    visitor = store.visitor()
    review = visitor.submit(visitor.get("/settings/orders"), "Save", expiry_days="90")
    for _ in range(2):
        assert "Saved" in visitor.submit(review, "Confirm").text
    assert in_force(store)[0] == 2


def test_a_review_can_be_gone_back_from_without_losing_what_was_typed(store: PageShop) -> None:
    visitor = store.visitor()
    review = visitor.submit(visitor.get("/settings/orders"), "Save", expiry_days="90")
    page = visitor.submit(review, "Change something")
    assert page.main.find("input", name="expiry_days")["value"] == "90"


def test_decimals_of_credits_cannot_change_once_something_is_booked(new_page_shop: NewPageShop) -> None:
    store = new_page_shop(unit={"kind": "credits", "scale": 2})
    store.grant(5)
    visitor = store.visitor()
    page = visitor.get("/settings/orders")
    assert "Credits refunds" in page.text and "Credits cancelations" in page.text
    answer = visitor.submit(visitor.get("/settings/unit"), "Save", **{"unit.scale": "1"})
    assert answer.status == 422 and "cannot change once something is booked" in answer.text


def test_credits_with_decimals_are_exact(new_page_shop: NewPageShop) -> None:
    store = new_page_shop(unit={"kind": "credits", "scale": 2})
    saved(store.visitor(), "/settings/rewards", **{"rewards[0].cost": "0.1"})
    assert in_force(store)[1]["rewards"][0]["cost"] == 0.1
    assert (
        store.visitor().get("/settings/rewards").main.find("input", name="rewards[0].cost")["value"] == "0.1"
    )


def test_the_history_says_what_each_version_changed_and_since_when_it_is_in_force(store: PageShop) -> None:
    visitor = store.visitor()
    saved(visitor, "/settings/orders", **{RETURN: "true"})
    saved(visitor, "/settings/earning", **{"earning[0].per_currency_unit": "2"})
    page = visitor.get("/settings/history")
    assert page.text.index("Version 3") < page.text.index("Version 2") < page.text.index("Version 1")
    assert page.rows == [
        ["Place an order: Points for each 1.00 of the order", "1", "2"],
        ["Points refunds: Refund redeemed rewards on order cancellation", "No", "Yes"],
    ]
    assert "From the beginning" in page.text and "In force Since" in page.text


def test_a_form_that_was_not_opened_here_changes_nothing(store: PageShop) -> None:
    visitor = store.visitor()
    fields = visitor.get("/settings/orders").forms[0].values()
    del fields["csrf"]
    answer = visitor.post("/settings/orders", {**fields, "expiry_days": "90", "act": "confirm"}, csrf=False)
    assert answer.status == 403
    assert in_force(store)[0] == 1


def test_settings_and_history_are_the_own_shops_alone(store: PageShop, new_page_shop: NewPageShop) -> None:
    store.program(waiting_days=77)
    other = new_page_shop()
    page = other.visitor().get("/settings/history")
    assert "77" not in page.text and "Version 2" not in page.text
    saved(other.visitor(), "/settings/orders", expiry_days="90")
    assert in_force(store)[0] == 2 and in_force(store)[1]["expiry_days"] is None


def test_what_somebody_typed_is_never_markup(store: PageShop) -> None:
    visitor = store.visitor()
    bad = "<script>alert(1)</script>\"'"
    review = visitor.submit(visitor.get("/settings/rewards"), "Save", **{"rewards[0].name": bad})
    assert bad in review.main.find("input", name="rewards[0].name")["value"]
    assert bad in visitor.submit(review, "Confirm").main.find("legend").text


def test_of_two_changes_of_one_version_the_books_take_one(store: PageShop) -> None:
    store.program(waiting_days=3)
    with store.engine.begin() as connection, pytest.raises(Refused, match="version 2 was made meanwhile"):
        programs.put(connection, store.id, {"waiting_days": 4}, after=1)
    with store.engine.begin() as connection:
        assert programs.put(connection, store.id, {"waiting_days": 3}, after=1)[0] == 2, "it is so already"
