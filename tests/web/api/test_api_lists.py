"""Activity and failed events: newest first, page by page, narrowed by what is asked for."""

from __future__ import annotations

from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text

from app import api as the_api
from app import errors
from app.api.paging import cursor_text
from models.settings import Settings
from tasks.steps.words import WORDS


def pages(caller, path: str, limit: int) -> list[list[dict[str, Any]]]:
    found, cursor = [], None
    while True:
        sign = "&" if "?" in path else "?"
        page = caller.get(f"{path}{sign}limit={limit}" + (f"&cursor={cursor}" if cursor else "")).get_json()
        found.append(page["data"])
        cursor = page["next_cursor"]
        if cursor is None:
            return found


@pytest.fixture
def busy(api, store):
    """A shop with two customers, two orders and a refund."""
    for order, customer in ((450, 7001), (451, 7002)):
        store.place(api, order, customer=customer)
    store.refund(api, 450, 9, 2_000)
    for customer in (7001, 7001, 7002):
        api.post(f"/customers/{customer}/grants", {"amount": 5, "reason": "x"})
    return api


def test_activity_is_newest_first_and_pages_join_to_the_whole(busy) -> None:
    whole = busy.get("/activity").get_json()["data"]
    ids = [int(entry["id"]) for entry in whole]
    assert len(ids) > 5 and ids == sorted(ids, reverse=True)
    for limit in (1, 2, 3, len(ids), len(ids) + 1):
        found = pages(busy, "/activity", limit)
        assert [entry for page in found for entry in page] == whole
        assert all(len(page) == limit for page in found[:-1]) and found[-1]


def test_entries_that_come_while_pages_are_turned_shift_nothing(busy) -> None:
    first = busy.get("/activity?limit=2").get_json()
    expected = busy.get("/activity").get_json()["data"][2:4]
    busy.post("/customers/7001/grants", {"amount": 5, "reason": "x"})
    second = busy.get(f"/activity?limit=2&cursor={first['next_cursor']}").get_json()
    assert second["data"] == expected


@pytest.mark.parametrize(
    ("query", "name", "value"),
    [("customer=7001", "customer_id", "7001"), ("order=450", "order_id", "450"), ("kind=points.reversed", "kind", "points.reversed")],
)  # fmt: skip
def test_activity_is_narrowed_by_what_is_asked_for(busy, query: str, name: str, value: str) -> None:
    whole = busy.get("/activity").get_json()["data"]
    found = [entry for page in pages(busy, f"/activity?{query}", 1) for entry in page]
    assert found == [entry for entry in whole if entry[name] == value] and found


def test_the_activity_of_a_customer_is_the_shops_activity_narrowed(busy) -> None:
    mine = busy.get("/customers/7001/activity?kind=points.reversed").get_json()
    assert (
        mine == busy.get("/activity?customer=7001&kind=points.reversed").get_json() and len(mine["data"]) == 1
    )


def test_a_reversal_tells_amount_ratio_balances_and_policy(busy) -> None:
    detail = busy.get("/activity?kind=points.reversed").get_json()["data"][0]["detail"]
    assert (detail["moved"], detail["ratio"], detail["policy_version"]) == (20, "1/5", 1)
    assert (detail["balance_before"], detail["balance_after"]) == (100, 80)


BAD_QUERIES = [
    "limit=0", "limit=201", "limit=-1", "limit=x", "limit=1.5", "limit=", "limit=١", "limit=1&limit=2",
    "cursor=", "cursor=x", "cursor=!!", "cursor=" + "A" * 5000, "cursor=MTA", "cursor=YmVmb3JlOi0x", "cursor=%00",
    "cursor=YmVmb3JlOjk5OTk5OTk5OTk5OTk5OTk5OTk", "customers=7001", "order=x", "order=0", "customer=1%20or%201",
    "kind=", "kind=%00", "kind=points.revrsed", "kind=" + "x" * 65, "shop_id=1", "colour=red",
]  # fmt: skip


@pytest.mark.parametrize("query", BAD_QUERIES, ids=lambda query: query[:40])
def test_a_query_that_cannot_be_is_422_and_named(api, query: str) -> None:
    response = api.get(f"/activity?{query}")
    assert response.status_code == 422
    assert response.get_json()["error"]["details"]["field"] == query.partition("=")[0]


def test_every_kind_there_is_can_be_asked_for_and_stands_in_the_document(api) -> None:
    operation = api.get("/openapi.json").get_json()["paths"]["/activity"]["get"]
    [kinds] = [each["schema"]["enum"] for each in operation["parameters"] if each["name"] == "kind"]
    assert set(kinds) == set(WORDS)
    assert {api.get(f"/activity?kind={kind}").status_code for kind in kinds} == {200}


@pytest.mark.parametrize(
    "path", ["/program", "/customers/1", "/orders/1", "/redemptions/1", "/orders/1/trace"]
)
def test_calls_without_a_query_refuse_one(api, path: str) -> None:
    assert api.get(f"{path}?verbose=1").status_code == 422


def test_a_cursor_says_nothing_of_what_is_behind_it() -> None:
    assert (
        cursor_text(1234) is not None and "1234" not in str(cursor_text(1234)) and cursor_text(None) is None
    )


@pytest.fixture
def parked(api, store) -> int:
    """An event of the shop that could not be parsed."""
    event_id = store.receive(api, "refunds/create", b'{"email": "someone@example.com"', id="w-1")
    store.work(api)
    return event_id


def test_a_parked_event_is_listed_with_its_reason_and_without_its_body(api, parked: int) -> None:
    response = api.get("/failed")
    event = response.get_json()["data"][0]
    assert (event["id"], event["topic"], event["state"]) == (str(parked), "refunds/create", "failed")
    assert event["reason"]["code"] and event["reason"]["message"]
    assert "example.com" not in response.get_data(as_text=True)


def test_failed_events_come_newest_first_in_pages(api, store) -> None:
    ids = [str(store.receive(api, "refunds/create", b"{", id=f"w-{i}")) for i in range(5)]
    store.work(api)
    found = pages(api, "/failed", 2)
    assert [event["id"] for page in found for event in page] == ids[::-1]


def test_a_retry_puts_the_event_back_as_if_it_had_just_come(api, engine: Engine, parked: int) -> None:
    response = api.post(f"/failed/{parked}/retry")
    assert response.status_code == 200
    assert (response.get_json()["state"], response.get_json()["attempts"]) == ("pending", 0)
    assert api.get("/failed").get_json()["data"] == []
    with engine.connect() as connection:
        query = text("select state, attempts, error, not_before <= now() as due from inbox where id = :id")
        assert tuple(connection.execute(query, {"id": parked}).one()) == ("pending", 0, None, True)


def test_a_retry_works_once_the_cause_is_gone(api, engine: Engine, store, parked: int) -> None:
    with engine.begin() as connection:
        mended = {"id": parked, "topic": "customers/update"}
        connection.execute(text("update inbox set topic = :topic, body = '{}' where id = :id"), mended)
    api.post(f"/failed/{parked}/retry")
    store.work(api)
    assert api.get("/failed").get_json()["data"] == []


def test_an_event_that_is_not_parked_cannot_be_retried(api, parked: int) -> None:
    api.post(f"/failed/{parked}/retry")
    again = api.post(f"/failed/{parked}/retry")
    assert (again.status_code, again.get_json()["error"]["code"]) == (409, "not_failed")
    assert api.post("/failed/999999/retry").status_code == 404


def test_a_retry_rings_for_the_shop_after_its_commit(
    api, engine: Engine, settings: Settings, parked: int
) -> None:
    rung: list[Any] = []

    def ring(rings: list[Any]) -> None:
        with engine.connect() as connection:
            state = connection.execute(
                text("select state from inbox where id = :id"), {"id": parked}
            ).scalar_one()
        rung.append((rings[0].shop_domain, rings[0].topic, rings[0].event_id, state))

    app = Flask("rings")
    errors.register(app)
    the_api.register(app, engine, settings, ring=ring)
    api.client = app.test_client()
    api.post(f"/failed/{parked}/retry")
    assert rung == [(api.domain, "refunds/create", parked, "pending")]
    api.post("/failed/999999/retry")
    assert len(rung) == 1
