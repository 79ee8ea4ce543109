"""Activity: what happened, found by action, customer, order and day; the Action's name leads on; all of it as CSV."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime, timedelta

from tests.web.api.conftest import CUSTOMER
from tests.web.pages.conftest import PageShop, Visitor
from tests.web.pages.reading import Answer


def actions(page: Answer) -> list[str]:
    return [row[1] for row in page.rows]


def sheet(answer: Answer) -> list[dict[str, str]]:
    assert answer.status == 200 and answer.response.mimetype == "text/csv", answer.html
    return list(csv.DictReader(io.StringIO(answer.response.get_data(as_text=True))))


def test_a_refund_is_told_in_words_newest_first(visitor: Visitor) -> None:
    page = visitor.get("/activity")
    assert actions(page)[0] == "Points redeemed"
    row = next(row for row in page.rows if row[1] == "Points taken back")
    assert "20.00 of 100.00 EUR refunded" in row[2] and row[3] == str(CUSTOMER) and row[4] == "#450"


def test_the_name_of_a_redemptions_action_leads_to_the_redemption(visitor: Visitor) -> None:
    page = visitor.get("/activity?kind=points.redeemed")
    assert actions(page) == ["Points redeemed"]
    redemption = visitor.click(page, "Points redeemed")
    assert redemption.path.startswith("/admin/redemptions/") and redemption.button("Refund points")


def test_order_and_customer_lead_to_their_pages(visitor: Visitor) -> None:
    page = visitor.get("/activity?kind=points.reversed")
    assert page.link("#450") == page.link("Points taken back") == "/admin/orders/450"
    assert page.link(str(CUSTOMER)) == f"/admin/customers/{CUSTOMER}"


def test_filters_narrow_by_action_order_customer_and_day(busy_store: PageShop, visitor: Visitor) -> None:
    busy_store.grant(5, to=8002)
    found = visitor.submit(visitor.get("/activity"), "Show", kind="points.approved", order="#451")
    assert [row[4] for row in found.rows] == ["#451"] * len(found.rows) != []
    assert {row[3] for row in visitor.get("/activity?customer=8002").rows} == {"8002"}
    tomorrow = (datetime.now(UTC) + timedelta(days=2)).date().isoformat()
    assert "Nothing like this has happened" in visitor.get(f"/activity?since={tomorrow}").text
    assert visitor.get("/activity?since=2020-01-01").rows


def test_a_day_begins_in_the_stores_own_time_zone(busy_store: PageShop, visitor: Visitor) -> None:
    busy_store.program(time_zone="Pacific/Auckland")
    zoned = visitor.get("/activity?since=2020-01-01")
    assert zoned.rows and zoned.root.find("input", name="since")["value"] == "2020-01-01"


def test_a_filter_that_cannot_be_meant_is_said_at_its_field(visitor: Visitor) -> None:
    for query in ("customer=Ada", "since=yesterday", "kind=points.lost"):
        page = visitor.get(f"/activity?{query}", status=422)
        field = query.partition("=")[0]
        assert page.root.find(id=f"f-{field}-help").text.startswith("It must be")
        assert not page.rows
    page = visitor.get("/activity?order=%239999")
    assert "No order has this name or number." in page.text and "Nothing is shown" in page.text


def test_pages_are_turned_by_a_cursor(store: PageShop) -> None:
    for _ in range(14):  # each is told twice: the points, and the reason
        store.grant(1)
    visitor = store.visitor()
    first = visitor.get("/activity")
    second = visitor.click(first, "Next page")
    assert len(first.rows) == 25 and len(second.rows) == 3 and not second.root.has("a", rel="next")
    assert visitor.click(second, "First page").rows == first.rows
    assert "refused" in visitor.get("/activity?cursor=x", status=422).html


def test_the_download_has_every_entry_that_the_filters_leave(visitor: Visitor) -> None:
    page = visitor.get("/activity?kind=points.reversed&order=%23450")
    link = page.root.find("a", data_download="")
    assert link["hx-boost"] == "false"
    answer = visitor.get(link["href"])
    [row] = sheet(answer)
    assert row["kind"] == "points.reversed" and row["order_id"] == "450"
    name = answer.response.headers["Content-Disposition"]
    assert name.startswith("attachment") and f"activity-{visitor.domain.partition('.')[0]}-20" in name


def test_inside_the_admin_the_download_comes_by_a_request_with_the_token(busy_store: PageShop) -> None:
    assert len(sheet(busy_store.embedded().get("/activity.csv"))) > 3


def test_a_download_with_a_filter_that_cannot_be_meant_is_a_page(visitor: Visitor) -> None:
    assert visitor.get("/activity.csv?customer=Ada", status=422).h1 == "Activity"


def test_a_download_gives_its_place_back(visitor: Visitor) -> None:
    for _ in range(3):
        assert sheet(visitor.get("/activity.csv"))


def test_a_shop_in_which_nothing_happened_is_told_what_will_stand_here(store: PageShop) -> None:
    page = store.visitor().get("/activity")
    assert "Nothing has happened yet" in page.text and not page.root.has("a", data_download="")


def test_another_shop_sees_none_of_it(visitor: Visitor, foreign: Visitor) -> None:
    assert "Nothing has happened yet" in foreign.get("/activity").text
    assert "No order has this name" in foreign.get("/activity?order=%23450").text
    assert not foreign.get(f"/activity?customer={CUSTOMER}").rows
    assert sheet(foreign.get("/activity.csv")) == []
