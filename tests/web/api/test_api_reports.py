"""The report "shortfall and liability": numbers that can be added up by hand, of one moment, and quick on many rows."""

from __future__ import annotations

import csv
import io
import time
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.session import make_engine
from tasks.steps.report import liability
from tests.web.api.conftest import Store

NOW = datetime.now(UTC)
SOON = (NOW + timedelta(days=40)).replace(hour=12)
LATER = (NOW + timedelta(days=90)).replace(hour=12)


def month(at: datetime) -> str:
    return at.astimezone(UTC).strftime("%Y-%m")


def report(api, query: str = "") -> dict[str, Any]:
    response = api.get(f"/reports/liability{query}")
    assert response.status_code == 200
    return dict(response.get_json())


@pytest.fixture
def busy(api, store: Store):
    """Two customers: 100 + 70 granted, 50 spent on a code; 100 earned on each of three orders of 7001; 7002 waits for his."""
    api.post("/customers/7001/grants", {"amount": 100, "reason": "x", "expires_at": SOON.isoformat()})
    api.post("/customers/7002/grants", {"amount": 70, "reason": "x"})
    body = {"customer_id": "7002", "reward": "custom", "amount": 50}
    assert api.post("/redemptions", {**body, "code": "UNUSED"}).status_code == 201
    for order in (450, 451, 452):
        store.place(api, order)
    return api


def test_a_new_shop_owes_nothing(api) -> None:
    found = report(api)
    assert (found["balance"], found["pending"], found["debt"]) == (0, 0, 0)
    assert found["outstanding"] == found["pending_due"] == found["forgiven"] == []
    assert found["repeated_refunders"] == {"refunds_at_least": 3, "customers": [], "more": False}


def test_what_is_outstanding_is_told_by_the_month_it_expires_in(busy) -> None:
    """100 expire soon, 300 earned and 20 left of 70 never do: 420."""
    found = report(busy)
    assert found["outstanding"] == [{"month": month(SOON), "amount": 100}, {"month": None, "amount": 320}]
    assert found["balance"] == 420
    assert found["unused_redemptions"] == {"count": 1, "amount": 50}


def test_what_is_good_through_the_last_day_of_a_year_belongs_to_it(api) -> None:
    """A date alone means through that day, so it ends at the midnight that begins the next (docs/import.md)."""
    api.put("/program", {"time_zone": "Europe/Berlin"})
    for ends in (f"{NOW.year + 1}-12-31T23:00:00Z", f"{NOW.year + 1}-12-31T23:00:01Z"):
        body = {"amount": 5, "reason": "x", "expires_at": ends}
        assert api.post("/customers/7001/grants", body).status_code == 201
    assert report(api)["outstanding"] == [
        {"month": f"{NOW.year + 1}-12", "amount": 5},
        {"month": f"{NOW.year + 2}-01", "amount": 5},
    ]


def test_what_is_pending_is_told_by_the_month_it_is_due_in(api, store: Store) -> None:
    api.put("/program", {"waiting_days": 60})
    at = datetime.now(UTC)
    store.place(api, 450, at=at)
    found = report(api)
    assert found["pending_due"] == [{"month": month(at + timedelta(days=60)), "amount": 100}]
    assert (found["pending"], found["balance"]) == (100, 0)


def test_what_was_not_there_to_take_is_forgiven_in_the_month_of_its_refund(busy, store: Store) -> None:
    """R7: 450 points spent of 400; three full refunds find 0 of 300."""
    assert (
        busy.post(
            "/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 400, "code": "ALL"}
        ).status_code
        == 201
    )
    for order in (450, 451, 452):
        busy.post(f"/orders/{order}/refund", {})
    found = report(busy)
    assert found["forgiven"] == [{"month": month(NOW), "claims": 300, "spending": 0}]
    assert found["repeated_refunders"]["customers"] == [
        {"customer_id": "7001", "refunds": 3, "orders": 3, "forgiven": 300}
    ]
    assert report(busy, "?refunds_at_least=4")["repeated_refunders"]["customers"] == []


def test_spending_that_a_late_refund_left_uncovered_is_forgiven_too(busy, store: Store) -> None:
    """R7, case 17: 400 spent today; a refund of an earlier day takes 100 of it away."""
    busy.post("/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 400, "code": "ALL"})
    store.refund(busy, 450, 9, 10_000)
    assert report(busy)["forgiven"] == [{"month": month(NOW), "claims": 0, "spending": 100}]


def test_under_carry_debt_nothing_is_forgiven_it_is_owed(busy, store: Store) -> None:
    """R7."""
    busy.put("/program", {"below_zero": "carry_debt"})
    busy.post("/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 400, "code": "ALL"})
    busy.post("/orders/450/refund", {})
    found = report(busy)
    assert (found["forgiven"], found["debt"]) == ([], 100)


def test_what_had_expired_when_it_came_back_is_told(api, store: Store, engine: Engine) -> None:
    """R19: 30 points drawn from a lot that ends before they come back."""
    soon = datetime.now(UTC) + timedelta(seconds=1)
    api.post("/customers/7001/grants", {"amount": 30, "reason": "x", "expires_at": soon.isoformat()})
    made = api.post(
        "/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 30, "code": "C"}
    ).get_json()
    time.sleep(1.1)
    assert api.post(f"/redemptions/{made['id']}/cancel", {"force": True}).status_code == 200
    found = report(api)
    assert found["expired_on_return"] == [{"month": month(soon), "amount": 30}]
    assert (found["balance"], found["unused_redemptions"]) == (0, {"count": 0, "amount": 0})


def test_an_undone_refund_is_no_refund(busy) -> None:
    """R38."""
    for order in (450, 451, 452):
        busy.post(f"/orders/{order}/refund", {})
    refund = busy.get("/orders/452").get_json()["refunds"][0]["id"]
    busy.post(f"/refunds/{refund}/undo", {})
    assert report(busy)["repeated_refunders"]["customers"] == []
    assert report(busy, "?refunds_at_least=2")["repeated_refunders"]["customers"][0]["refunds"] == 2


def test_months_are_those_of_the_programs_time_zone(api) -> None:
    api.put("/program", {"time_zone": "Pacific/Auckland"})
    ends = datetime(NOW.year + 1, 5, 31, 18, tzinfo=UTC)
    api.post("/customers/7001/grants", {"amount": 5, "reason": "x", "expires_at": ends.isoformat()})
    assert report(api)["outstanding"] == [{"month": f"{NOW.year + 1}-06", "amount": 5}]


def test_credits_are_told_with_their_decimals(api) -> None:
    api.put("/program", {"unit": {"kind": "credits", "scale": 2}, "rewards": [], "tiers": {"levels": []}})
    api.post("/customers/7001/grants", {"amount": 0.25, "reason": "x"})
    assert report(api)["balance"] == 0.25


def test_as_csv_it_is_a_line_a_number(busy) -> None:
    response = busy.get("/reports/liability", accept="text/csv")
    assert (response.status_code, response.mimetype, response.headers["Vary"]) == (200, "text/csv", "Accept")
    rows = list(csv.DictReader(io.StringIO(response.get_data(as_text=True), newline="")))
    assert {"section": "outstanding", "key": "never", "measure": "amount", "value": "320"} in rows
    assert sum(Decimal(row["value"]) for row in rows if row["section"] == "outstanding") == 420


@pytest.mark.parametrize(
    "query", ["refunds_at_least=0", "refunds_at_least=x", "refunds_at_least=1001", "month=1"]
)
def test_a_query_that_cannot_be_is_refused(api, query: str) -> None:
    assert api.get(f"/reports/liability?{query}").status_code == 422


def test_another_shops_customers_are_not_in_it(busy, other) -> None:
    assert report(other)["balance"] == 0


MANY = 100_000
FILL = (
    "insert into wallets (shop_id, customer_id, folded_until) select :shop, n, now() from generate_series(1, :many / 10) n",
    "insert into lots (shop_id, customer_id, lot, at, amount, remainder, expires_at)"
    " select :shop, 1 + n % (:many / 10), 'grant:' || n, now(), 10, 0, now() + n % 400 * interval '1 day'"
    " from generate_series(1, :many) n",
    "insert into timeline (shop_id, customer_id, kind, cause, target, at, sort_id, amount, grace_days, carry_debt, reduces_pending,"
    " reasons, policy_version, moved, short, expired, debt_change, folded)"
    " select :shop, 1 + n % (:many / 10), 4, 'refund:' || n, 'order:' || n, now() - n % 700 * interval '1 day', n, 10, 0, false,"
    " false, '[]', 1, 10 - n % 3, n % 3, 0, 0, true from generate_series(1, :many) n",
    "insert into orders (shop_id, order_id, facts, customer_id, status, refunded_minor, flags, counted)"
    " select :shop, 1000000 + n, '{}', 1 + n % (:many / 10), 'open', 0, '[]', '{}' from generate_series(1, :many) n",
    "insert into refunds (shop_id, refund_id, order_id, facts, at, value_minor, reasons)"
    " select :shop, 2000000 + n, 1000000 + n, '{}', now(), 100, '[]' from generate_series(1, :many) n",
)


def test_it_is_quick_over_one_hundred_thousand_refunds(engine: Engine, api) -> None:
    """Each table is read once: nothing grows with its square. (The rows are only counted, so they need no books.)"""
    with engine.begin() as connection:
        for statement in FILL:
            connection.execute(text(statement), {"shop": api.shop_id, "many": MANY})
    patient = make_engine(engine.url.render_as_string(hide_password=False), statement_timeout_seconds=30)
    start = time.monotonic()
    with patient.connect() as connection:
        found = liability(connection, api.shop_id)
    seconds = time.monotonic() - start
    patient.dispose()
    print(f"\n{MANY} refunds, lots and timeline rows: {seconds:.2f} s")
    assert sum(row["claims"] for row in found["forgiven"]) == sum(n % 3 for n in range(1, MANY + 1))
    assert found["repeated_refunders"]["more"] and seconds < 20
