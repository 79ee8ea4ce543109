"""Customers by clicking: found without telling anybody who was looked for, shown whole, and what is done by hand."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from tasks.steps import identifiers
from tasks.steps.identifiers import Hashers
from tests.web.api.conftest import CUSTOMER, PLACED
from tests.web.pages.conftest import NewPageShop, PageShop, Visitor
from tests.web.pages.reading import Answer

EMAIL, PHONE = "ada@example.com", "+49 30 1234567"
TIERS = {"levels": [{"id": "silver", "threshold": "50.00"}, {"id": "gold", "threshold": "500.00"}]}


@pytest.fixture
def profile(busy_store: PageShop, visitor: Visitor) -> Answer:
    return visitor.get(f"/customers/{CUSTOMER}")


def named(store: PageShop) -> None:
    """Shopify told of the customer's address and number."""
    hasher = Hashers(store.engine, store.settings.token_keys).of(store.domain)
    assert hasher is not None
    told = hasher.named(CUSTOMER, email=EMAIL, phone=PHONE, seen_at=datetime.now(UTC))
    with store.engine.begin() as connection:
        identifiers.remember(connection, store.id, told)


# -- found -------------------------------------------------------------------------------------------


@pytest.mark.parametrize("text", [str(CUSTOMER), "ADA@example.com ", "0049 30 123 45 67"])
def test_a_customer_is_found_by_number_address_or_telephone_and_no_address_tells_whom(
    busy_store: PageShop, visitor: Visitor, text: str, capfd: pytest.CaptureFixture[str]
) -> None:
    named(busy_store)
    went = visitor.submit(visitor.get("/customers"), "Search", follow=False, search=text)
    assert (went.status, went.location) == (303, f"/admin/customers/{CUSTOMER}")
    assert visitor.get(went.location).h1 == f"Customer {CUSTOMER}"
    assert "ada@" not in "".join(capfd.readouterr()).lower()


def test_who_is_not_known_is_said_to_be_nobody(visitor: Visitor) -> None:
    for text in ("nobody@example.com", "12345", "<b>x</b>"):
        assert (
            "Nobody is known by this" in visitor.submit(visitor.get("/customers"), "Search", search=text).text
        )
    assert visitor.submit(visitor.get("/customers"), "Search", search=" ").rows


def test_the_list_shows_each_customer_once_and_an_empty_one_says_so(
    busy_store: PageShop, visitor: Visitor, new_page_shop: NewPageShop
) -> None:
    busy_store.grant(7, to=7002)
    rows = visitor.get("/customers").rows
    assert sorted(row[0] for row in rows) == [str(CUSTOMER), "7002"]
    assert "No customers yet" in new_page_shop().visitor().get("/customers").text


# -- shown -------------------------------------------------------------------------------------------


def test_the_profile_shows_what_is_there_what_expires_next_and_what_happened(
    new_page_shop: NewPageShop,
) -> None:
    store = new_page_shop(tiers=TIERS, waiting_days=400)
    ends = datetime.now(UTC) + timedelta(days=20)
    store.grant(300, expires_at=ends)
    store.grant(50)
    store.place(450)
    page = store.visitor().get(f"/customers/{CUSTOMER}")
    assert "Balance 350 points" in page.text and "Pending 100 points" in page.text
    assert f"Next to expire: 300 points on {ends.day} {ends:%b %Y}" in page.text
    assert "Silver" not in page.text and "silver" in page.text
    assert "400.00 EUR more to gold (500.00 EUR)" in page.text
    assert ["Lifetime decides", "100.00 EUR", "1", "100"] in page.rows
    assert page.main.find("progress")["value"] == "20"
    assert page.link("#450").endswith("/orders/450")
    assert f"https://{store.domain}/admin/customers/{CUSTOMER}" in [a["href"] for a in page.main.all("a")]


def test_a_merged_customer_is_whom_he_became_with_both_ones_orders(
    busy_store: PageShop, visitor: Visitor
) -> None:
    """R33: the address of the one leads to the other."""
    busy_store.place(460, customer=7002)
    busy_store.run(
        "insert into customer_aliases (shop_id, customer_id, survivor_id, cause) values (:shop_id, 7002, :to, 'x')",
        to=CUSTOMER,
    )
    went = visitor.get("/customers/7002", status=303)
    assert went.location == f"/admin/customers/{CUSTOMER}"
    assert visitor.get(went.location).link("#460")


def test_credits_have_their_decimals(new_page_shop: NewPageShop) -> None:
    store = new_page_shop(unit={"kind": "credits", "scale": 2}, rewards=[])
    store.grant(1_000)
    visitor = store.visitor()
    page = visitor.get(f"/customers/{CUSTOMER}")
    done = visitor.submit(page, "Give points", amount="2,25", reason="x")
    assert "Balance 12.25 credits" in done.text
    made = visitor.submit(done, "Spend points", reward="custom", amount="10.5")
    assert made.h1.startswith("Custom reward") and "10.50 credits" in made.text
    part = visitor.submit(made, "Give back", amount="0.5")
    assert "10.00 credits" in part.text and store.balance() == 225


def test_the_activity_card_leads_to_orders_and_redemptions_page_by_page(
    busy_store: PageShop, visitor: Visitor, profile: Answer
) -> None:
    assert profile.link("Points redeemed").startswith("/admin/redemptions/")
    assert profile.link("Points taken back") == "/admin/orders/450"
    for _ in range(12):
        busy_store.grant(1)
    first = visitor.get(f"/customers/{CUSTOMER}")
    assert "Points redeemed" in visitor.click(first, "Next page").text


def test_what_was_told_days_later_shows_both_times_like_the_list_of_all(
    visitor: Visitor, profile: Answer
) -> None:
    """The list stands by booking; a refund of days ago that comes now is not out of place."""
    told = f"of {PLACED.day} {PLACED:%b %Y}"
    late = {row[0]: row[-1] for row in profile.rows if len(row) == 3}
    assert late["Points earned"].endswith(told) and told not in late["Points redeemed"]
    listed = {row[1]: row[0] for row in visitor.get("/activity").rows}
    assert (listed["Points earned"], listed["Points redeemed"]) == (
        late["Points earned"],
        late["Points redeemed"],
    )


# -- done by hand ------------------------------------------------------------------------------------


def test_points_are_given_with_a_reason_and_a_last_day(
    busy_store: PageShop, visitor: Visitor, profile: Answer
) -> None:
    before = busy_store.balance()
    done = visitor.submit(profile, "Give points", amount="100", reason="Sorry", last_day="2099-01-31")
    assert "The points were given." in done.text and busy_store.balance() == before + 100
    assert "on 1 Feb 2099, 00:00" in done.text and "The grant's reason: Sorry" in done.text
    visitor.submit(profile, "Give points", amount="100", reason="Sorry", last_day="2099-01-31")
    assert busy_store.balance() == before + 100, "the same form is one grant"


@pytest.mark.parametrize("wrong", [{"amount": "many"}, {"reason": ""}, {"last_day": "2001-01-01"}])
def test_a_refused_grant_says_why_and_keeps_what_was_typed(
    busy_store: PageShop, visitor: Visitor, profile: Answer, wrong: dict[str, str]
) -> None:
    before = busy_store.balance()
    asked = {"amount": "100", "reason": "Sorry", "last_day": "", **wrong}
    refused = visitor.submit(profile, "Give points", **asked)
    assert refused.status == 422 and "Nothing was done." in refused.main.find(role="alert").text
    assert refused.main.find("input", id="f-grant-amount")["value"] == asked["amount"]
    assert busy_store.balance() == before


def test_points_are_spent_on_a_reward_and_the_redemption_is_shown(
    busy_store: PageShop, visitor: Visitor
) -> None:
    busy_store.grant(500)
    page = visitor.get(f"/customers/{CUSTOMER}")
    made = visitor.submit(page, "Spend points", reward="5-off", code="GIVEN-1")
    assert made.h1.startswith("$5 off") and "GIVEN-1" in made.text
    poor = visitor.submit(page, "Spend points", reward="custom", amount="99999", key="another")
    assert poor.status == 409 and "Nothing was done." in poor.text


def test_a_tier_is_kept_by_hand_and_moves_again(visitor: Visitor, profile: Answer) -> None:
    kept = visitor.submit(profile, "Keep this tier", level="gold")
    assert "kept by hand" in kept.text and "Tier Gold" in kept.text
    assert "The tier moves again." in visitor.click(kept, "Let it move again").text


def test_reversals_are_locked_until_a_day_and_allowed_again(
    busy_store: PageShop, visitor: Visitor, profile: Answer
) -> None:
    locked = visitor.submit(profile, "Lock reversals", last_day="2099-01-30", reason="Looked into")
    assert "Reversals are locked for this customer" in locked.text and "31 Jan 2099, 00:00" in locked.text
    refused = visitor.submit(visitor.click(locked, "Points redeemed"), "Give back", amount="1")
    assert refused.status == 423 and "Nothing was done." in refused.text
    assert "Points can be reversed by hand again." in visitor.click(locked, "Allow reversals again").text


# -- the door ----------------------------------------------------------------------------------------


def test_a_customer_of_another_shop_is_not_there(busy_store: PageShop, foreign: Visitor) -> None:
    foreign.get(f"/customers/{CUSTOMER}", status=404)
    named(busy_store)
    assert "Nobody" in foreign.submit(foreign.get("/customers"), "Search", search=EMAIL).text
    assert foreign.post(f"/customers/{CUSTOMER}", {"act": "pin", "level": "gold"}).status == 404


def test_a_form_that_is_not_ours_does_nothing(busy_store: PageShop, visitor: Visitor) -> None:
    before = busy_store.balance()
    asked = {"act": "grant", "amount": "5", "reason": "x"}
    assert visitor.post(f"/customers/{CUSTOMER}", asked, csrf=False).status == 403
    assert visitor.post(f"/customers/{CUSTOMER}", {"act": "explode"}).status == 400
    assert visitor.post("/customers", {"search": str(CUSTOMER)}, csrf=False).status == 403
    assert busy_store.balance() == before
