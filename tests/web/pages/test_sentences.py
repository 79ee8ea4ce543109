"""Sentences of the record as pages show them: numbers as elsewhere on the pages, names instead of ids."""

from __future__ import annotations

import pytest

from app.admin.filters import grouped
from tests.web.pages.conftest import PageShop


@pytest.mark.parametrize(
    ("said", "shown"),
    [
        ("balance 2998 → 13708", "balance 2,998 → 13,708"),
        ("balance stays 2487", "balance stays 2,487"),
        ("1451.66 of 12490.81 USD refunded on #1015", "1,451.66 of 12,490.81 USD refunded on #1015"),
        ("5166/49081 of 2454 rounded down = 1258 points", "5166/49081 of 2,454 rounded down = 1,258 points"),
        ("2553 points of 2553 taken back; it was 1977 before", "2,553 points of 2,553 taken back; it was 1,977 before"),
        ("moved here from customer 5623347913805", "moved here from customer 5623347913805"),
        ("until 5 Jan 2027, 15:03", "until 5 Jan 2027, 15:03"),
        ("999 points", "999 points"),
    ],
)  # fmt: skip
def test_amounts_are_grouped_and_ids_fractions_and_years_are_left_alone(said: str, shown: str) -> None:
    assert grouped(said) == shown


def test_what_happened_names_rules_and_rewards_as_the_settings_do(busy_store: PageShop) -> None:
    page = busy_store.visitor().get("/activity").text
    assert "by “Place an order” on #450" in page
    assert "place-order" not in page and "->" not in page
