"""Home: whether all is well in words, what was taken and given back this month, what waits, what a new shop does next."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from app.admin.chart import DAY_WIDTH, HEIGHT, month_of
from app.admin.home import ago, connection_words, run_words
from tests.web.pages.conftest import PageShop, Visitor
from tests.web.pages.reading import Node

DAY = {"returned": 0, "expired": 0, "forgiven": 0}
NOW = datetime(2026, 3, 5, 12, tzinfo=UTC)


def fact(page, name: str) -> str:
    """What stands beside a name in the list of facts."""
    inside = [child for child in page.main.find("dl", class_="facts").children if isinstance(child, Node)]
    return next(
        value.text for term, value in zip(inside[::2], inside[1::2], strict=True) if term.text == name
    )


def test_a_new_shop_is_told_what_happens_next(store: PageShop) -> None:
    page = store.visitor().get("/")
    steps = page.main.find("ol", class_="steps")
    assert len([step for step in steps.children if isinstance(step, Node)]) == 5
    assert "Connect the store" in steps.text and "Done" not in steps.text
    assert "unwind import" in steps.find("code").text and page.main.find(id="verdict").text.startswith(
        "Ready"
    )
    assert "Nothing this month" in page.text and "None yet" in fact(page, "Last webhook")
    assert store.visitor().click(page, "Settings").h1 == "Settings"


def test_a_step_that_is_done_says_so(store: PageShop) -> None:
    store.connect()
    page = store.visitor().get("/")
    assert "Connect the store Done" in page.text and fact(page, "Connection") == "Connected"


def test_a_shop_that_was_told_of_something_has_no_steps(busy_store: PageShop) -> None:
    busy_store.receive("customers/update", b'{"id": 7001}')
    busy_store.work()
    page = busy_store.visitor().get("/")
    assert "What happens next" not in page.text and "just now" in fact(page, "Last webhook")
    assert page.main.find(id="verdict").text.startswith("All is well")


def test_the_months_figures_stand_in_words_bars_and_a_table(store: PageShop) -> None:
    at = datetime.now(UTC).replace(day=1, hour=0, minute=0, second=1)
    store.place(450, at=at)
    store.refund(450, 9001, 2_000)
    page = store.visitor().get("/")
    figures = page.main.find("dl", class_="figures").text
    assert "Taken back this month 20 points" in figures or "Taken back last month 20 points" in figures
    if "this month 20" in figures:
        assert [row[1:] for row in page.rows] == [["20", "0"]]
        assert page.main.has("rect", class_="reversed")


def test_what_failed_makes_the_verdict_and_leads_to_it(busy_store: PageShop) -> None:
    busy_store.receive("refunds/create", b"{}")
    busy_store.work()
    visitor = busy_store.visitor()
    page = visitor.get("/")
    assert page.main.find(id="verdict").text.startswith("Something is wrong 1 event could not be processed")
    attention = visitor.click(page, "1 could not be processed")
    assert attention.h1 == "Needs attention" and "refunds/create" in attention.text


def test_only_the_status_comes_again_by_itself_and_says_when_it_was_looked_at(visitor: Visitor) -> None:
    page = visitor.get("/")
    status = page.main.find(id="status")
    assert status["hx-trigger"] == "every 30s" and status["hx-select"] == "#status"
    assert status.has("p", data_stale="") and fact(page, "Looked at")
    assert not status.has("figure")


def test_another_shops_figures_are_not_in_it(busy_store: PageShop, foreign: Visitor) -> None:
    busy_store.receive("refunds/create", b"{}")
    busy_store.work()
    page = foreign.get("/")
    assert "What happens next" in page.text and "20 points" not in page.text
    assert "0 points" in page.main.find("dl", class_="figures").text


def test_a_bar_stands_at_its_day_and_is_as_high_as_its_part_of_the_most() -> None:
    days = [
        {"day": "2026-02-01", "reversed": 50, **DAY},
        {"day": "2026-02-02", "reversed": 0, **DAY, "returned": 200},
        {"day": "2026-02-03", "reversed": 1, **DAY},
    ]
    chart = month_of(days)
    assert chart is not None
    assert (chart.width, chart.most, list(chart.ticks)) == (
        28 * DAY_WIDTH,
        200,
        ["1 Feb", "14 Feb", "28 Feb"],
    )
    first, second, third = chart.bars
    assert (first.kind, first.height, first.day, first.amount) == ("reversed", HEIGHT / 4, "1 Feb", 50)
    assert (second.kind, second.height, second.y) == ("returned", HEIGHT, 0)
    assert third.height > 0 and third.y + third.height == HEIGHT
    assert month_of([{"day": "2026-02-01", "reversed": 0, **DAY}]) is None


@pytest.mark.parametrize(
    ("seconds", "words"),
    [
        (0, "just now"),
        (-5, "just now"),
        (60, "1 minute ago"),
        (3_599, "59 minutes ago"),
        (3_600, "1 hour ago"),
        (2 * 86_400, "2 days ago"),
    ],
)
def test_how_long_ago_is_said_in_whole_units(seconds: int, words: str) -> None:
    assert ago((NOW - timedelta(seconds=seconds)).isoformat(), NOW) == words


def test_a_comparison_with_shopify_is_told_in_words() -> None:
    run = {
        "kind": "nightly", "state": "done", "orders_read": 1, "missing": 0, "different": 0, "repaired": 0, "error": None,
    }  # fmt: skip
    assert run_words(None) == "None yet"
    assert run_words(run) == "The one of the night read 1 order, and all agreed"
    assert run_words({**run, "missing": 2, "repaired": 2}).endswith("2 missing and 0 different, 2 put right")
    assert run_words({**run, "state": "running"}).endswith("under way: 1 order read")
    assert run_words({**run, "state": "failed", "error": "away"}) == "The one of the night failed: away"


def test_trouble_with_the_connection_is_told_before_its_state() -> None:
    link = {"state": "needs_merchant", "reason": "scopes_missing", "missing_scopes": ["read_orders"]}
    assert connection_words(link) == "Connected, but permissions are missing: read_orders"
    assert "accepts" in connection_words({**link, "reason": "token_revoked", "missing_scopes": []})
