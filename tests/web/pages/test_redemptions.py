"""Redemptions by clicking: the list, and "Refund points" for each status that a reward can have (R34, R35, R38)."""

from __future__ import annotations

import pytest

from tests.web.api.conftest import CUSTOMER
from tests.web.pages.conftest import NewPageShop, PageShop, Visitor
from tests.web.pages.reading import Answer

CODE = "LOYAL-1"
ORDER = 460


@pytest.fixture
def rich(store: PageShop) -> PageShop:
    """A customer with 1,000 points, at a shop that gives no access to Shopify."""
    store.grant(1_000)
    return store


def opened(visitor: Visitor, id: int) -> Answer:
    return visitor.get(f"/redemptions/{id}")


def spend(store: PageShop, code: str | None = CODE) -> int:
    """500 points on the program's reward, with a code that was given to us."""
    return store.redeem(reward="5-off", code=code)


# -- the two ways to it ------------------------------------------------------------------------------


def test_from_the_customers_profile_the_name_of_the_action_leads_to_refund_points(rich: PageShop) -> None:
    """smile-4 to smile-10: Customers, search, profile, Activity card, name of the Action, Refund points."""
    spend(rich)
    visitor = rich.visitor()
    profile = visitor.submit(visitor.get("/customers"), "Search", search=str(CUSTOMER))
    assert profile.h1 == f"Customer {CUSTOMER}" and "Activity" in profile.text
    done = visitor.click(visitor.click(profile, "Points redeemed"), "Refund points")
    assert "The points were refunded." in done.text
    assert rich.balance() == 1_000
    assert "Redemption cancelled" in visitor.get(f"/customers/{CUSTOMER}").text


def test_the_list_leads_to_it_and_is_narrowed_by_status_and_code(rich: PageShop) -> None:
    used, unused, untracked = spend(rich), spend(rich, "LOYAL-2"), 0
    rich.grant(100)
    untracked = rich.redeem(40)
    rich.place(ORDER, code=CODE)
    visitor = rich.visitor()
    page = visitor.get("/redemptions")
    assert [row[1] for row in page.rows] == ["Untracked", "Unused", "Used"]
    for status, id in (("used", used), ("unused", unused), ("untracked", untracked)):
        [row] = visitor.get(f"/redemptions?status={status}").rows
        assert f"#{id}" in row[0]
    [row] = visitor.submit(page, "Show", search="loyal-2").rows
    assert f"#{unused}" in row[0]
    assert "No redemption fits" in visitor.get("/redemptions?search=nothing").text
    visitor.get("/redemptions?status=lost", status=400)
    visitor.get("/redemptions?cursor=x", status=400)


def test_an_empty_list_says_what_will_stand_there(store: PageShop) -> None:
    assert "No redemptions yet" in store.visitor().get("/redemptions").text


# -- each status -------------------------------------------------------------------------------------


def test_an_unused_coupon_is_removed_at_shopify_and_then_the_points_come_back(
    new_page_shop: NewPageShop,
) -> None:
    """smile-17: a note says so. Until Shopify has done it the page waits, and looks again by itself."""
    store = new_page_shop()
    store.connect()
    store.grant(1_000)
    id = spend(store, code=None)
    store.work_outside()
    visitor = store.visitor()
    page = opened(visitor, id)
    assert "Reward status: Unused" in page.text and "Made by us at Shopify" in page.text
    tried = visitor.click(page, "See what would happen")
    assert "removed at Shopify first" in tried.text and store.balance() == 500
    waits = visitor.click(page, "Refund points")
    assert "Being changed" in waits.text and "Look again" in waits.text
    assert waits.main.find("section", id="refund").get("hx-trigger") == "load delay:1s"
    store.work_outside()
    done = visitor.click(waits, "Look again")
    assert "Already refunded" in done.text and "No further action is available" in done.text
    assert "the coupon was removed" in done.text and "cannot be undone" in done.text
    assert store.balance() == 1_000
    assert "Redemption cancelled" in visitor.get(f"/customers/{CUSTOMER}").text


def test_without_its_spending_rule_an_error_comes_first_and_refund_points_anyway(rich: PageShop) -> None:
    """smile-18, smile-19: the coupon's status stays as it is."""
    id = spend(rich)
    rich.program(rewards=[])
    visitor = rich.visitor()
    page = opened(visitor, id)
    assert "Unused, but the spending rule no longer exists" in page.text
    refused = visitor.click(page, "Refund points")
    assert (refused.status, rich.balance()) == (409, 500)
    assert "The coupon cannot be canceled." in refused.main.find(role="alert").text
    done = visitor.click(refused, "Refund points anyway")
    assert "The coupon's status remains unchanged" in done.text
    assert "Given to us and tracked" in done.text and rich.balance() == 1_000


def test_a_used_coupon_stays_used_and_the_points_come_back(rich: PageShop) -> None:
    """smile-20, smile-21: and the page says where it was used."""
    id = spend(rich)
    rich.place(ORDER, code=CODE)
    before = rich.balance()
    visitor = rich.visitor()
    page = opened(visitor, id)
    assert "Its code was used on order #460 and cannot be cancelled" in page.text
    assert "force" not in page.text
    assert page.link(f"Order #{ORDER}")
    done = visitor.click(page, "Refund points", reason="A gift")
    assert "The discount code remains as used." in done.text and "Reason: A gift" in done.text
    assert rich.balance() == before + 500


def test_an_untracked_reward_comes_back_and_the_page_says_that_nobody_can_follow_it(rich: PageShop) -> None:
    """smile-22, smile-23."""
    visitor = rich.visitor()
    page = opened(visitor, rich.redeem(300))
    assert "Reward status: Untracked" in page.text
    tried = visitor.click(page, "See what would happen")
    assert "300 points would be refunded; no coupon was tracked" in tried.text and rich.balance() == 700
    assert "whether it was used, or will be, cannot be told" in visitor.click(tried, "Refund points").text
    assert rich.balance() == 1_000


def test_what_was_refunded_elsewhere_shows_the_date_and_no_button(rich: PageShop) -> None:
    """smile-24."""
    id = rich.redeem(300)
    first, second = rich.visitor(), rich.visitor()
    seen = opened(second, id)
    first.click(opened(first, id), "Refund points")
    late = second.click(seen, "Refund points")
    assert (late.status, rich.balance()) == (409, 1_000)
    page = opened(second, id)
    assert "Refunded on" in page.text and page.main.find("section", id="refund").has("time")
    assert not any(button.text == "Refund points" for form in page.forms for button in form.buttons)


# -- a part, and undo --------------------------------------------------------------------------------


def test_a_part_is_given_back_twice_by_hand_and_undone(rich: PageShop) -> None:
    """Two forms are two acts, also of the same amount; one form sent twice is one."""
    visitor = rich.visitor()
    page = opened(visitor, rich.redeem(300))
    tried = visitor.submit(page, "See what would happen", amount="100", act="try-part", customer_id=CUSTOMER)
    assert "100 points would be given back" in tried.text and rich.balance() == 700
    for _ in range(2):
        once = visitor.submit(tried, "Give back", amount="100")
    assert rich.balance() == 800
    again = visitor.submit(once, "Give back", amount="100", reason="Half a box")
    assert rich.balance() == 900 and "Reason: Half a box" in again.text
    undone = visitor.submit(again, "Take the points again")
    assert "Undone" in undone.text and rich.balance() == 800


@pytest.mark.parametrize("amount", ["", "nan", "1.5", "301"])
def test_what_is_no_amount_gives_nothing_back(rich: PageShop, amount: str) -> None:
    visitor = rich.visitor()
    refused = visitor.submit(opened(visitor, rich.redeem(300)), "Give back", amount=amount)
    assert refused.status in (409, 422) and "Nothing was done." in refused.text
    assert rich.balance() == 700


# -- the door ----------------------------------------------------------------------------------------


def test_a_redemption_of_another_shop_is_not_there(rich: PageShop, foreign: Visitor) -> None:
    id = rich.redeem(300)
    foreign.get(f"/redemptions/{id}", status=404)
    for act in ("refund", "part"):
        body = {"act": act, "amount": "1", "customer_id": str(CUSTOMER)}
        assert foreign.post(f"/redemptions/{id}", body).status == 404
    assert rich.balance() == 700


def test_a_form_that_is_not_ours_does_nothing(rich: PageShop) -> None:
    id = rich.redeem(300)
    visitor = rich.visitor()
    assert visitor.post(f"/redemptions/{id}", {"act": "refund"}, csrf=False).status == 403
    assert visitor.post(f"/redemptions/{id}", {"act": "explode"}).status == 400
    assert visitor.post(f"/redemptions/{id}", {"act": "undo", "reversal_id": "x"}).status == 400
    assert rich.balance() == 700
