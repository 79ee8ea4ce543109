"""Orders: the list, one order with everything that happened to it in words, and what is done to it by clicking."""

from __future__ import annotations

from datetime import timedelta

import pytest

from tests.web.api.conftest import PLACED
from tests.web.pages.conftest import PageShop, Visitor

CODE = "LOYAL-1"


@pytest.fixture
def spent(new_page_shop) -> PageShop:
    """Order 450 of 100.00 earned 500 and used a code of 500 points, of the 1,000 that its customer had."""
    earning = [{"id": "place-order", "name": "Place an order", "per_currency_unit": "5"}]
    store: PageShop = new_page_shop(earning=earning, return_redeemed={"enabled": True})
    store.grant(1_000)
    store.redeem(500, code=CODE, at=PLACED - timedelta(days=1))
    store.place(450, code=CODE)
    return store


# -- the list ----------------------------------------------------------------------------------------


def test_the_list_shows_money_and_points_of_each_order_the_latest_first(visitor: Visitor) -> None:
    page = visitor.get("/orders")
    assert [(row[0], *row[2:7]) for row in page.rows] == [
        ("#451", "Open", "100.00 EUR", "0.00 EUR", "100", "0"),
        ("#450", "Partially refunded", "100.00 EUR", "20.00 EUR", "100", "20"),
    ]
    assert visitor.click(page, "#450").h1.startswith("Order #450")


@pytest.mark.parametrize(
    ("fields", "found"),
    [
        pytest.param({"search": "#450"}, ["#450"], id="by its name"),
        pytest.param({"search": "451"}, ["#451"], id="by its number"),
        pytest.param({"search": "#45"}, [], id="by half a name"),
        pytest.param({"status": "partially_refunded"}, ["#450"], id="by its status"),
        pytest.param({"status": "voided"}, [], id="by a status that none has"),
        pytest.param({"flag": "NO_CUSTOMER"}, [], id="by a note that none has"),
    ],
)
def test_an_order_is_found(visitor: Visitor, fields: dict[str, str], found: list[str]) -> None:
    page = visitor.submit(visitor.get("/orders"), "Show", **fields)
    assert [row[0] for row in page.rows] == found
    assert ("No order is like this" in page.text) == (not found)


def test_a_status_or_a_note_that_there_is_none_of_is_refused(visitor: Visitor) -> None:
    for address in ("/orders?status=lost", "/orders?flag=LOST", "/orders?cursor=!"):
        visitor.get(address, status=400)


def test_a_list_without_orders_says_when_some_will_come(store: PageShop) -> None:
    assert "No orders yet" in store.visitor().get("/orders").text


def test_a_long_list_is_turned_page_by_page(store: PageShop) -> None:
    store.place(1000)
    store.run(
        "insert into orders (shop_id, order_id, facts, name, currency, placed_at, status, total_minor,"
        " refunded_minor, flags, counted) select shop_id, order_id + n, facts, '#' || order_id + n, currency,"
        " placed_at + interval '1 minute' * n, status, total_minor, refunded_minor, flags, counted"
        " from orders, generate_series(1, 25) n where shop_id = :shop_id"
    )
    visitor = store.visitor()
    first = visitor.get("/orders")
    rest = visitor.click(first, "Next page")
    assert (len(first.rows), [row[0] for row in rest.rows]) == (25, ["#1000"])


# -- one order ---------------------------------------------------------------------------------------


def test_a_refund_is_explained_in_plain_words(spent: PageShop) -> None:
    spent.refund(450, 9001, 2_000)
    page = spent.visitor().get("/orders/450")
    told = page.main.find("ol").text
    assert "20.00 of 100.00 EUR refunded = 1/5:" in told
    assert "Place an order: 1/5 of 500 = 100 points taken back" in told
    assert "0 points of 500 given back (a partial refund without items)" in told
    assert "balance 1,000 → 900" in page.text and "told by Shopify" in page.text
    assert "Rules R1, R2, R6. At most 500 points could be taken back." in page.text
    assert "version 1" in page.text and "Lot order:450:place-order: −100." in page.text


def test_what_was_redeemed_comes_back_with_the_items(spent: PageShop) -> None:
    spent.refund(450, 9001, 5_000, units=1)
    page = spent.visitor().get("/orders/450")
    assert "told by Shopify 1 × Desk lamp - blue refunded. 50.00 of 100.00 EUR refunded" in page.text
    assert f"Custom reward ({CODE}): 1/2 of 500 = 250 points given back; balance" in page.text
    assert page.rows[1] == ["Custom reward", CODE, "500 points", "250", "0", "points"]


def test_an_order_links_to_shopify_its_customer_and_its_activity(visitor: Visitor) -> None:
    page = visitor.get("/orders/450")
    link = page.main.find("a", target="_blank")
    assert link["href"] == f"https://{visitor.domain}/admin/orders/450" and link["rel"] == "noopener"
    assert page.link("customer 7001") == "/admin/customers/7001"
    assert page.link("All activity of this order") == "/admin/activity?order=450"


def test_a_flag_says_what_it_means_and_what_to_do(store: PageShop) -> None:
    store.place(450, customer=None)
    page = store.visitor().get("/orders/450")
    assert (
        "The order has no customer yet. Nothing to do: it counts as soon as Shopify names a customer"
        in page.text
    )
    assert "It earned nothing: the order has no customer yet." in page.text


def test_a_refund_known_before_its_order_is_shown_until_the_order_comes(store: PageShop) -> None:
    """R28."""
    store.refund(450, 9001, 2_000)
    visitor = store.visitor()
    page = visitor.get("/orders/450")
    assert page.h1 == "Order 450 Not told yet" and "Refund 9001" in page.text and "20.00 EUR" in page.text
    assert [row[0] for row in visitor.get("/orders?flag=ORDER_UNKNOWN").rows] == ["450"]
    visitor.get("/orders/450/refund", status=404)
    store.place(450)
    assert "1/5 of 100 = 20 points taken back" in visitor.get("/orders/450").text


def test_a_voided_order_says_so_and_offers_no_refund(store: PageShop) -> None:
    """R27."""
    store.place(450, status="authorized")
    store.place(450, status="voided", at=PLACED + timedelta(hours=1))
    page = store.visitor().get("/orders/450")
    assert "Payment voided" in page.text and "Closed the order" in page.text
    assert not page.main.has("a", href="/admin/orders/450/refund")


def test_what_the_wallet_lacked_is_told(store: PageShop) -> None:
    """R7."""
    store.place(450)
    store.redeem(90, at=PLACED + timedelta(days=1))
    store.refund(450, 9001, 10_000)
    page = store.visitor().get("/orders/450")
    assert "90 of them were not there to take" in page.text and "the order is closed" in page.text


# -- by clicking -------------------------------------------------------------------------------------


def test_an_amount_is_refunded_after_a_look_at_what_would_happen(spent: PageShop) -> None:
    """R36, R37."""
    visitor = spent.visitor()
    form = visitor.click(visitor.get("/orders/450"), "Refund")
    at = form.forms[0]
    look = visitor.get(f"{at.action}?what=amount&amount=20,00")
    assert "20.00 EUR of 100.00 EUR = 1/5 of the order" in look.text and spent.balance() == 1_000
    assert "from 1,000 points to 900 points" in look.text
    done = visitor.submit(look, "Book this refund", reason="Arrived late")
    assert done.path.startswith("/admin/orders/450?done=refunded") and "The refund is booked" in done.text
    assert "Refund by hand" in done.text and "reason: Arrived late" in done.text
    assert "asked for by a person in these pages" in done.text and spent.balance() == 900


def test_items_are_refunded_with_what_was_redeemed_on_them(spent: PageShop) -> None:
    """R12."""
    visitor = spent.visitor()
    look = visitor.get("/orders/450/refund?what=lines&line-4500=1")
    visitor.submit(look, "Book this refund")
    assert spent.balance() == 1_000 - 250 + 250


def test_a_refund_sent_twice_counts_once(spent: PageShop) -> None:
    visitor = spent.visitor()
    look = visitor.get("/orders/450/refund?what=amount&amount=20.00")
    for _ in range(2):
        assert visitor.submit(look, "Book this refund").status == 200
    assert spent.balance() == 900


@pytest.mark.parametrize(
    ("query", "words"),
    [
        pytest.param("what=amount&amount=100.01", "up to 100.00 can be refunded", id="more than is left"),
        pytest.param("what=amount&amount=", "Type an amount", id="no amount"),
        pytest.param("what=amount&amount=ten", "Type an amount", id="no number"),
        pytest.param("what=lines&line-4500=3", "has 2 units left", id="more units than there are"),
        pytest.param("what=lines&line-4500=", "Type how many units", id="no units"),
        pytest.param("what=lines&line-99=1", "no line 99", id="a line of another order"),
        pytest.param("what=lines&line-x=y", "Type how many units", id="no line at all"),
    ],
)  # fmt: skip
def test_a_refund_that_cannot_be_says_why(spent: PageShop, query: str, words: str) -> None:
    page = spent.visitor().get(f"/orders/450/refund?{query}", status=422)
    assert words in page.main.find(role="alert").text
    assert "Book this refund" not in page.text and "See what would happen" in page.text


def test_an_order_is_cancelled_and_the_cancellation_undone(spent: PageShop) -> None:
    """R36, R38."""
    visitor = spent.visitor()
    look = visitor.click(visitor.get("/orders/450"), "Cancel order")
    assert "The order goes from open to cancelled" in look.text and "500 points" in look.text
    done = visitor.submit(look, "Cancel the order", reason="Changed their mind")
    assert "Order cancelled by hand" in done.text and "Closed the order" in done.text
    again = visitor.get("/orders/450/cancel", status=409)
    assert "The order is cancelled since" in again.main.find(role="alert").text
    undo = visitor.get(done.main.find("ol").find("a", class_="button")["href"])
    undone = visitor.submit(undo, "Undo the cancellation", reason="The wrong order")
    assert "It is undone" in undone.text and "Undone" in undone.main.find("ol").text
    assert "(reason: The wrong order). It counts for nothing." in undone.text
    assert spent.balance() == 1_000


def test_a_refund_is_undone(spent: PageShop) -> None:
    """R38."""
    spent.refund(450, 9001, 2_000)
    visitor = spent.visitor()
    look = visitor.get("/orders/450/refunds/9001/undo")
    assert "from 900 points to 1,000 points" in look.text
    done = visitor.submit(look, "Undo the refund")
    assert "It was: 20.00 of 100.00 EUR refunded = 1/5" in done.text or "Undone" in done.text
    assert spent.balance() == 1_000
    assert "undone already" in visitor.get("/orders/450/refunds/9001/undo", status=409).text


def test_an_undo_that_waits_for_a_code_at_shopify_says_so_until_it_is_done(new_page_shop) -> None:
    """R38: 202; the code that came back is taken away first."""
    reward = {
        "id": "5-off",
        "name": "$5 off",
        "kind": "amount_discount",
        "cost": 500,
        "value": "5.00",
        "reactivate_code": True,
    }
    store: PageShop = new_page_shop(rewards=[reward])
    store.connect()
    store.grant(500)
    redemption = store.redeem(reward="5-off", at=PLACED - timedelta(days=1))
    store.work_outside()
    [row] = store.run("select code from redemptions where shop_id = :shop_id and id = :id", id=redemption)
    store.place(450, code=row.code)
    store.refund(450, 9001, 10_000, units=2)
    store.work_outside()
    visitor = store.visitor()
    page = visitor.get("/orders/450")
    assert page.rows[0][0] == "$5 off" and page.rows[0][-1] == "its discount code"
    look = visitor.get("/orders/450/refunds/9001/undo")
    assert "First the discount code that came back is taken away at Shopify." in look.text
    begun = visitor.submit(look, "Undo the refund", reason="The wrong order")
    assert "Being done at Shopify" in begun.text and "Undo being done at Shopify" in begun.text
    assert begun.h1 == "Order #450 Fully refunded" and "Asked for" in begun.text
    assert "being taken away already" in visitor.get("/orders/450/refunds/9001/undo", status=409).text
    store.work_outside()
    done = visitor.get("/orders/450")
    assert done.h1 == "Order #450 Open" and "(reason: The wrong order)" in done.text


# -- whose it is -------------------------------------------------------------------------------------

PATHS = ("", "/refund", "/cancel", "/refunds/9001/undo", "/undo", "/reversals/1/undo")


@pytest.mark.parametrize("path", PATHS)
def test_another_shops_order_is_not_there(busy_store: PageShop, foreign: Visitor, path: str) -> None:
    foreign.get(f"/orders/450{path}", status=404)
    if path:
        assert foreign.post(f"/orders/450{path}", {"what": "rest"}).status == 404
    assert busy_store.balance() == 140


def test_what_is_undone_must_be_the_orders_own(visitor: Visitor) -> None:
    visitor.get("/orders/451/refunds/9001/undo", status=404)
    visitor.get("/orders/450/undo", status=404)


@pytest.mark.parametrize("path", PATHS[1:])
def test_a_form_that_is_not_ours_changes_nothing(busy_store: PageShop, visitor: Visitor, path: str) -> None:
    assert visitor.post(f"/orders/450{path}", {"what": "rest"}, csrf=False).status == 403
    assert busy_store.balance() == 140
