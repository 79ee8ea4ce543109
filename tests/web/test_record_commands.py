"""`unwind activity`, `trace` and `report`: what they print, for people, programs and spreadsheets."""

from __future__ import annotations

import csv
import io
import secrets

import pytest
from sqlalchemy import Engine

from tasks.steps import shops
from tests.terminal import Unwind
from tests.web.api.conftest import Caller, Store

TOLD = "20.00 of 100.00 EUR refunded on #{order} = 1/5; 1/5 of 100 = 20 points by place-order taken back; balance 100 -> 80"


@pytest.fixture
def domain() -> str:
    return f"shop-{secrets.token_hex(6)}.myshopify.com"


@pytest.fixture
def order(engine: Engine, domain: str) -> int:
    """An order of 100.00 that earned 100, with 20.00 refunded."""
    with engine.begin() as connection:
        shop_id = shops.add(connection, domain)
    caller, store = Caller(None, domain, shop_id, ""), Store(engine)  # type: ignore[arg-type]
    store.place(caller, shop_id * 1000)
    store.refund(caller, shop_id * 1000, shop_id * 1000 + 1, 2_000)
    return shop_id * 1000


def test_activity_is_told_in_words(unwind: Unwind, domain: str, order: int) -> None:
    """R39."""
    told = unwind("activity", domain)
    assert told.status == 0
    assert "points.approved" in told.out and "points.reversed" in told.out and "balance 100 -> 80" in told.out


def test_activity_for_programs_and_spreadsheets_is_the_same(unwind: Unwind, domain: str, order: int) -> None:
    entries = unwind("activity", domain, "--json").json["entries"]
    assert entries[0]["text"] == TOLD.format(order=order)
    rows = list(csv.DictReader(io.StringIO(unwind("activity", domain, "--csv").out, newline="")))
    assert [row["text"] for row in rows] == [entry["text"] for entry in entries]
    assert unwind("activity", domain, "--csv", "--json").status == 2


@pytest.mark.parametrize(
    ("narrowed", "count"),
    [
        pytest.param(["--kind", "points.reversed"], 1, id="by kind"),
        pytest.param(["--customer", "7001"], 2, id="by customer"),
        pytest.param(["--customer", "7002"], 0, id="by another customer"),
        pytest.param(["--order", "1"], 0, id="by another order"),
        pytest.param(["--since", "2999-01-01"], 0, id="by a time to come"),
        pytest.param(["--limit", "1"], 1, id="by how many"),
    ],
)
def test_activity_is_narrowed(
    unwind: Unwind, domain: str, order: int, narrowed: list[str], count: int
) -> None:
    found = unwind("activity", domain, "--json", *narrowed).json["entries"]
    assert len([entry for entry in found if entry["kind"].startswith("points.")]) == count


def test_activity_of_a_store_that_is_not_there_is_wrong(unwind: Unwind) -> None:
    assert unwind("activity", "nobody.myshopify.com").status == 1
    assert unwind("activity", "nobody.myshopify.com", "--customer", "x").status == 2
    assert unwind("activity", "nobody.myshopify.com", "--kind", "points.revrsed").status == 2


def test_a_trace_says_why(unwind: Unwind, domain: str, order: int) -> None:
    """R39: rule, fraction, cap, before and after."""
    told = unwind("trace", str(order))
    assert told.status == 0
    assert "takes back 1/5 of 100 = 20 (20 debited, 0 short) [R1, R2, R6]; balance 100 -> 80" in told.out
    assert unwind("trace", str(order), "--shop", domain, "--json").json["decisions"][0]["fraction"] == "1/5"
    assert unwind("trace", "1").status == 1


def test_a_report_tells_what_is_owed(unwind: Unwind, domain: str, order: int) -> None:
    told = unwind("report", domain, "--refunds", "1")
    assert told.status == 0
    assert (
        "80 points outstanding, 0 pending, 0 owed" in told.out and "never" in told.out and "7001" in told.out
    )
    assert unwind("report", domain, "--json").json["balance"] == 80
    rows = list(csv.reader(io.StringIO(unwind("report", domain, "--csv").out, newline="")))
    assert ["outstanding", "never", "amount", "80"] in rows
    assert unwind("report", domain, "--csv", "--json").status == 2
    assert unwind("report", "nobody.myshopify.com").status == 1
