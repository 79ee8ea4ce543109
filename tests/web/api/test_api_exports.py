"""Activity in words and as CSV (R39): all of it, of one moment, and safe to open in a spreadsheet."""

from __future__ import annotations

import csv
import io
from datetime import UTC, datetime

import pytest
from sqlalchemy import Engine, text

from app.api.activity import COLUMNS, DETAILS
from app.sheets import Sheet, cell, spooled
from tests.web.api.conftest import Store


def rows_of(response) -> list[dict[str, str]]:
    assert (response.status_code, response.mimetype) == (200, "text/csv")
    return list(csv.DictReader(io.StringIO(response.get_data(as_text=True), newline="")))


@pytest.fixture
def busy(api, store: Store):
    store.place(api, 450)
    store.refund(api, 450, 9, 2_000)
    api.post("/customers/7001/grants", {"amount": 5, "reason": "=HYPERLINK(1)"})
    api.post("/customers/7002/grants", {"amount": 5, "reason": "x"})
    return api


def test_a_refund_is_told_in_a_sentence(busy) -> None:
    """R39: amount, rule, order, money, ratio, balance before and after."""
    entry = busy.get("/activity?kind=points.reversed").get_json()["data"][0]
    assert entry["text"] == (
        "20.00 of 100.00 EUR refunded on #450 = 1/5; 1/5 of 100 = 20 points by place-order taken back; balance 100 -> 80"
    )
    names = {"amount", "rule", "order", "refund_amount", "balance_before", "balance_after", "ratio", "cap", "shortfall",
             "reasons", "policy_version", "of"}  # fmt: skip
    assert names <= set(entry["detail"])


def test_what_was_pending_moves_nothing_and_says_the_balance_all_the_same(api, store: Store) -> None:
    """R5, R39."""
    api.put("/program", {"waiting_days": 30})
    store.place(api, 450, at=datetime.now(UTC))
    assert api.post("/orders/450/refund", {"amount": "20.00"}).status_code == 200
    detail = api.get("/activity?kind=points.reversed").get_json()["data"][0]["detail"]
    assert (detail["amount"], detail["moved"], detail["pending"]) == (20, 0, True)
    assert (detail["balance_before"], detail["balance_after"]) == (0, 0)


def test_as_csv_it_is_every_entry_at_once_newest_first(busy) -> None:
    whole = busy.get("/activity").get_json()["data"]
    rows = rows_of(busy.get("/activity?limit=1", accept="text/csv"))
    assert [row["id"] for row in rows] == [entry["id"] for entry in whole] and len(rows) > 3
    assert list(rows[0]) == [*COLUMNS, *DETAILS]
    assert [row["text"] for row in rows] == [entry["text"] for entry in whole]


@pytest.mark.parametrize(
    "path",
    ["/activity?customer=7002", "/customers/7002/activity", "/customers/7002/activity?kind=points.granted"],
)
def test_what_is_asked_for_narrows_the_csv_too(busy, path: str) -> None:
    ids = [entry["id"] for entry in busy.get(path).get_json()["data"]]
    assert [row["id"] for row in rows_of(busy.get(path, accept="text/csv"))] == ids and ids


def test_since_narrows_it_by_when_it_was_booked(busy) -> None:
    entries = busy.get("/activity").get_json()["data"]
    since = entries[0]["booked_at"]
    assert {e["booked_at"] for e in busy.get(f"/activity?since={since}").get_json()["data"]} == {since}
    assert busy.get("/activity?since=2026-01-01").status_code == 422
    assert busy.get("/activity?since=2999-01-01T00:00:00%2B02:00").get_json()["data"] == []


def test_a_formula_is_told_as_text(busy) -> None:
    (row,) = rows_of(busy.get("/activity?kind=grant.reason&customer=7001", accept="text/csv"))
    assert row["reason"] == "'=HYPERLINK(1)"


@pytest.mark.parametrize(
    ("value", "shown"),
    [
        ("=1+1", "'=1+1"), ("+1 555", "'+1 555"), ("-5.00", "-5.00"), ("-x", "'-x"), ("@sum", "'@sum"), ("\tx", "'\tx"),
        ("\rx", "'\rx"), ("#1001", "#1001"), (-5, "-5"), (None, ""), (True, "true"), (["A", "B"], "A B"), (["=A"], "'=A"),
    ],
)  # fmt: skip
def test_a_cell_is_never_computed(value: object, shown: str) -> None:
    assert cell(value) == shown


def test_cells_with_quotes_commas_and_lines_are_quoted_as_rfc_4180_says() -> None:
    with spooled(Sheet(("a", "b"), [('x "y"', "1,2\n3")])) as file:
        assert file.read() == b'a,b\r\n"x ""y""","1,2\n3"\r\n'


def test_many_entries_come_in_chunks_and_none_twice(api, engine: Engine) -> None:
    fill = (
        "insert into activity (shop_id, kind, customer_id, cause, target, at, detail)"
        " select :shop, 'points.granted', n, 'grant:' || n, 'grant:' || n, now(), '{\"moved\": 1}' from generate_series(1, 1700) n"
    )
    with engine.begin() as connection:
        connection.execute(text(fill), {"shop": api.shop_id})
    rows = rows_of(api.get("/activity", accept="text/csv"))
    assert [int(row["customer_id"]) for row in rows] == list(range(1700, 0, -1))


@pytest.mark.parametrize(
    ("accept", "mimetype"),
    [
        pytest.param("text/csv", "text/csv", id="csv"),
        pytest.param("application/json", "application/json", id="json"),
        pytest.param("*/*", "application/json", id="anything"),
        pytest.param("text/csv;q=0.5, application/json", "application/json", id="rather json"),
        pytest.param("image/png", "application/json", id="what there is not"),
    ],
)
def test_accept_chooses(busy, accept: str, mimetype: str) -> None:
    response = busy.get("/activity", accept=accept)
    assert (response.mimetype, response.headers["Vary"]) == (mimetype, "Accept")
    response.get_data()


def test_what_is_refused_is_refused_in_json(api) -> None:
    response = api.get("/customers/1/activity", accept="text/csv")
    assert (response.status_code, response.mimetype) == (404, "application/json")


def test_what_was_undone_is_told_with_its_money_and_what_came_again(busy) -> None:
    """R38, R39."""
    assert busy.post("/refunds/9/undo", {"reason": "wrong order"}).status_code == 200
    told = {entry["kind"]: entry for entry in busy.get("/activity?limit=2").get_json()["data"]}
    assert told["refund.undone"]["detail"]["refund_amount"] == "20.00"
    assert told["points.reversed"]["text"] == (
        "refund:9 does not stand any more; 20 points by place-order given again; balance 85 -> 105"
    )
    traced = busy.get("/orders/450/trace").get_json()
    assert [(each["cause"], each["reason"]) for each in traced["undone"]] == [("refund:9", "wrong order")]
    assert "refund:9 undone by token:" in busy.get("/orders/450/trace", accept="text/plain").get_data(
        as_text=True
    )
    assert traced["decisions"] == []


def test_what_was_given_back_by_hand_stands_in_the_trace(api, store: Store) -> None:
    """R34, R35, R39."""
    api.post("/customers/7001/grants", {"amount": 100, "reason": "x"})
    body = {"customer_id": "7001", "reward": "custom", "amount": 50, "code": "CODE-450"}
    made = api.post("/redemptions", body).get_json()
    store.place(api, 450, code="CODE-450")
    api.post(f"/redemptions/{made['id']}/cancel", {"force": True, "reason": "never arrived"})
    (decision,) = api.get("/orders/450/trace").get_json()["decisions"]
    assert (decision["kind"], decision["asked"]["reason"]) == ("reversal", "never arrived")
    (back,) = decision["returns"]
    assert (back["amount"], back["rules"], back["members"][0]["credited"]) == (50, ["R34"], 50)
    assert back["members"][0]["balance_after"] - back["members"][0]["balance_before"] == 50
    text = api.get("/orders/450/trace", accept="text/plain").get_data(as_text=True)
    assert "given back by hand by token:" in text and "(never arrived)" in text
