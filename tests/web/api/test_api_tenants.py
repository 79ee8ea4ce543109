"""A token is one shop's: the same ids in another shop are other things, and never seen."""

from __future__ import annotations

import json

import pytest

MARK = "only-for-the-first-shop"


@pytest.fixture
def both(api, other, store):
    """Two shops with the same customer, order and refund ids, other amounts, and a parked event of the first one."""
    for caller, total in ((api, 10_000), (other, 30_000)):
        store.place(caller, 450, total_minor=total)
        store.refund(caller, 450, 9, 2_000)
    api.post("/customers/7001/grants", {"amount": 1000, "reason": MARK})
    made = api.post("/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 7, "code": MARK})
    store.place(api, 451, customer=7002)
    event = store.receive(api, "refunds/create", b"{", id="w-1")
    store.work(api)
    return api, other, made.get_json()["id"], event


def test_the_same_ids_are_other_things_in_another_shop(both) -> None:
    first, second, *_ = both
    assert first.get("/orders/450").get_json()["total"] == "100.00"
    assert second.get("/orders/450").get_json()["total"] == "300.00"
    assert first.get("/customers/7001").get_json()["balance"] == 80 + 1000 - 7
    assert second.get("/customers/7001").get_json()["balance"] == 280
    assert second.get("/orders/450/trace").get_json()["decisions"][0]["fraction"] == "1/15"


def test_what_only_one_shop_has_is_404_for_the_other(both) -> None:
    first, second, redemption, event = both
    for path in (
        f"/redemptions/{redemption}",
        "/orders/451",
        "/orders/451/trace",
        "/customers/7002",
        "/customers/7002/activity",
    ):
        assert first.get(path).status_code == 200, path
        assert second.get(path).status_code == 404, path
    assert second.post("/orders/451/preview").status_code == 404
    assert second.put("/customers/7002/tier", {"pinned": "gold"}).status_code == 404
    assert second.post(f"/failed/{event}/retry").status_code == 404
    assert [entry["id"] for entry in first.get("/failed").get_json()["data"]] == [str(event)]


def test_no_list_of_one_shop_has_anything_of_the_other(both) -> None:
    _, second, *_ = both
    assert second.get("/failed").get_json()["data"] == []
    for query in ("", "?customer=7001", "?order=450", "?customer=7002", "?order=451"):
        found = second.get(f"/activity{query}").get_json()["data"]
        assert MARK not in json.dumps(found)
        assert all(entry["order_id"] in (None, "450") for entry in found)
    assert second.get("/activity?customer=7002").get_json()["data"] == []


def test_a_cursor_of_one_shop_opens_nothing_of_it_in_another(both) -> None:
    first, second, *_ = both
    cursor = first.get("/activity?limit=1").get_json()["next_cursor"]
    found = second.get(f"/activity?cursor={cursor}").get_json()["data"]
    mine = {entry["id"] for entry in second.get("/activity").get_json()["data"]}
    assert {entry["id"] for entry in found} <= mine


def test_what_one_shop_does_changes_nothing_in_the_other(both) -> None:
    first, second, *_ = both
    before = [
        first.get(path).get_data() for path in ("/customers/7001", "/program", "/orders/450", "/failed")
    ]
    second.post("/customers/7001/grants", {"amount": 5, "reason": "x"})
    second.put("/program", {"waiting_days": 3})
    second.put("/customers/7001/tier", {"pinned": "gold"})
    second.post("/redemptions", {"customer_id": "7001", "reward": "custom", "amount": 7, "code": MARK})
    assert before == [
        first.get(path).get_data() for path in ("/customers/7001", "/program", "/orders/450", "/failed")
    ]
