"""Preview: an order, what of it, and what would happen; nothing changes (R37)."""

from __future__ import annotations

from datetime import timedelta

import pytest
from sqlalchemy import Engine

from tasks.steps import privacy, shops
from tasks.steps.privacy import Asked
from tests.web.api.conftest import PLACED
from tests.web.api.test_api_merchants import books
from tests.web.pages.conftest import NewPageShop, PageShop, Visitor


def test_an_order_is_picked_by_its_name_and_an_amount_is_looked_at(
    busy_store: PageShop, visitor: Visitor, engine: Engine
) -> None:
    before = books(engine, busy_store.id)
    page = visitor.submit(visitor.get("/preview"), "Find it", order="#451")
    assert "100.00 EUR, 100 points earned" in page.text
    look = visitor.submit(page, "See what would happen", amount="25")
    assert "25.00 EUR of 100.00 EUR = 1/4 of the order" in look.text
    assert look.rows == [["Place an order", "25 points", "the balance", "0", "in proportion"]]
    assert "The order goes from open to partially refunded." in look.text
    assert "from 140 points to 115 points" in look.text
    assert "Afterwards 75.00 EUR, 75 points earned and 0 points redeemed are left" in look.text
    assert books(engine, busy_store.id) == before


def test_a_tier_that_would_fall_is_told_by_its_name(new_page_shop: NewPageShop) -> None:
    """R26: 100.00 spent reaches it, 75.00 does not."""
    level = {"id": "l-1", "name": "Silver Club", "threshold": "100.00"}
    store = new_page_shop(tiers={"metric": "spend", "window": "lifetime", "levels": [level]})
    store.place(451)
    look = store.visitor().get("/preview?id=451&what=amount&amount=25")
    assert "tier Silver Club becomes none" in look.text


def test_from_there_the_same_can_be_refunded(busy_store: PageShop, visitor: Visitor) -> None:
    look = visitor.get("/preview?id=451&what=lines&line-4510=1")
    form = visitor.click(look, "Refund this")
    assert "This would happen" in form.text and "1/2 of the order" in form.text
    visitor.submit(form, "Book this refund")
    assert busy_store.balance() == 140 - 50


def test_items_are_called_as_they_were_sold_and_by_their_ids_when_names_are_not_kept(
    busy_store: PageShop, visitor: Visitor, engine: Engine
) -> None:
    def labels() -> list[str]:
        items = visitor.get("/preview?id=451").main.find("section", aria_label="Items")
        return [label.text for label in items.all("label")]

    assert labels() == ["Desk lamp - blue"]
    with engine.begin() as connection:
        privacy.redact(
            connection, shops.by_id(connection, busy_store.id), Asked(customer_id=None, orders=(451,))
        )
    assert labels() == ["Line 4510"]


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param("what=amount&amount=100.01", "up to 100.00 can be refunded", id="too much"),
        pytest.param("what=lines", "Type how many units", id="no items"),
        pytest.param("what=lines&line-4510=3", "has 2 units left", id="too many units"),
    ],
)
def test_what_cannot_be_refunded_says_why(visitor: Visitor, query: str, words: str) -> None:
    page = visitor.get(f"/preview?id=451&{query}", status=422)
    assert words in page.main.find(role="alert").text and "Refund this" not in page.text


def test_what_is_left_of_a_refunded_order_is_all_that_can_be_looked_at(visitor: Visitor) -> None:
    look = visitor.get("/preview?id=450&what=rest")
    assert "80.00 EUR of 100.00 EUR = 4/5" in look.text and "fully refunded" in look.text


def test_a_name_of_several_orders_is_a_choice_and_one_of_none_says_so(store: PageShop) -> None:
    store.place(450)
    store.place(451, at=PLACED + timedelta(days=1))
    store.run("update orders set name = '#450' where shop_id = :shop_id")
    visitor = store.visitor()
    page = visitor.get("/preview?order=450")
    assert page.main.find("ul").text.count("#450") == 2
    chosen = visitor.get(page.main.find("ul").find("a")["href"])
    assert "All that is left" in chosen.text
    assert "No order has this name" in visitor.get("/preview?order=none").text


def test_another_shops_order_cannot_be_looked_at(foreign: Visitor) -> None:
    foreign.get("/preview?id=450", status=404)
    foreign.get("/preview?id=450&what=rest", status=404)
    assert "No order has this name" in foreign.get("/preview?order=%23450").text
