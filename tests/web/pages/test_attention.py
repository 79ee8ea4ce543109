"""Needs attention: each thing with what happened, what to do, and its acts by a click."""

from __future__ import annotations

import json

import pytest

from tests.web.pages.conftest import PageShop, Visitor
from tests.web.pages.reading import Answer

FAILED_BODY = b'{"id": 1}'


def parked(store: PageShop, times: int = 1) -> list[int]:
    """Events that could not be read."""
    ids = [store.receive("refunds/create", FAILED_BODY) for _ in range(times)]
    while any(state(store, id) == "pending" for id in ids):
        store.work()
    return ids


def state(store: PageShop, id: int) -> str:
    [row] = store.run("select state from inbox where id = :id", id=id)
    return str(row.state)


def failed_outbox(store: PageShop, redemption: int) -> int:
    [row] = store.run(
        "insert into outbox (shop_id, kind, key, payload, state, error_code, error, finished_at)"
        " values (:shop_id, 'create_code', :key, cast(:payload as jsonb), 'failed', 'shopify_refused', 'no', now())"
        " returning id",
        key=f"create_code:{redemption}",
        payload=json.dumps({"redemption_id": redemption}),
    )
    return int(row.id)


def paused_endpoint(store: PageShop) -> int:
    [row] = store.run(
        "insert into endpoints (shop_id, url, events, secret, state, paused_reason) values"
        " (:shop_id, 'https://shop.example/hook', '[\"points.reversed\"]', 'sealed', 'paused', 'gone') returning id"
    )
    return int(row.id)


def flagged(store: PageShop, order_id: int) -> None:
    store.run(
        "update orders set flags = '[\"CANCELLED_PAID_WAITING\"]' where shop_id = :shop_id and order_id = :id",
        id=order_id,
    )


def thing(page: Answer, kind: str, id: object) -> str:
    return page.main.find("li", id=f"{kind}-{id}").text


def test_nothing_to_look_at_is_said(visitor: Visitor) -> None:
    assert "Nothing needs your attention" in visitor.get("/attention").text


def test_a_parked_refund_says_what_happened_and_what_to_do(busy_store: PageShop, visitor: Visitor) -> None:
    [id] = parked(busy_store)
    said = thing(visitor.get("/attention"), "failed", id)
    assert "refunds/create" in said and "What to do:" in said and "Wrong" in said


def test_a_failed_event_is_retried_by_a_click(busy_store: PageShop, visitor: Visitor) -> None:
    [id] = parked(busy_store)
    page = visitor.click(visitor.get("/attention"), "Retry")
    assert page.path.startswith("/admin/attention") and "It is tried again" in page.text
    assert state(busy_store, id) == "pending"
    busy_store.work()
    assert state(busy_store, id) == "failed"
    assert thing(visitor.get("/attention"), "failed", id)


def test_all_failed_events_are_retried_by_one_click(busy_store: PageShop, visitor: Visitor) -> None:
    ids = parked(busy_store, 3)
    page = visitor.click(visitor.get("/attention?kind=failed"), "Retry all of them")
    assert "All of them are tried again" in page.text and "kind=failed" in page.path
    assert [state(busy_store, id) for id in ids] == ["pending"] * 3


def test_a_failed_event_is_discarded_after_a_question(busy_store: PageShop, visitor: Visitor) -> None:
    [id] = parked(busy_store)
    page = visitor.get("/attention")
    assert page.button("Discard")[1]["data-confirm"]
    page = visitor.click(page, "Discard")
    assert "The event was discarded" in page.text and "Nothing needs your attention" in page.text
    assert state(busy_store, id) == "discarded"


def test_what_somebody_else_did_meanwhile_is_said_and_nothing_done(
    busy_store: PageShop, visitor: Visitor
) -> None:
    parked(busy_store)
    page = visitor.get("/attention")
    visitor.click(page, "Retry")
    again = visitor.click(page, "Retry")
    assert again.status == 409 and "Nothing was done." in again.text and again.h1 == "Needs attention"


def test_an_order_to_look_at_leads_to_it_and_is_dismissed(busy_store: PageShop, visitor: Visitor) -> None:
    flagged(busy_store, 451)
    page = visitor.get("/attention")
    assert "cancelled" in thing(page, "order", 451)
    assert page.link("Open the order: Order #451") == "/admin/orders/451"
    assert "It was dismissed" in visitor.click(page, "Dismiss").text
    assert "Nothing needs your attention" in visitor.get("/attention").text


def test_a_change_that_failed_at_shopify_is_retried(busy_store: PageShop, visitor: Visitor) -> None:
    id = failed_outbox(busy_store, 1)
    page = visitor.get("/attention")
    assert "Open the redemption" in thing(page, "outbox", id)
    assert "It is tried again" in visitor.click(page, "Retry").text
    [row] = busy_store.run("select state from outbox where id = :id", id=id)
    assert row.state == "pending"


def test_a_paused_endpoint_is_enabled(busy_store: PageShop, visitor: Visitor) -> None:
    id = paused_endpoint(busy_store)
    page = visitor.get("/attention")
    assert "https://shop.example/hook" in thing(page, "endpoint", id)
    assert "The endpoint is enabled" in visitor.click(page, "Enable").text
    [row] = busy_store.run("select state from endpoints where id = :id", id=id)
    assert row.state == "active"


def test_token_trouble_says_how_the_store_is_connected_again(busy_store: PageShop, visitor: Visitor) -> None:
    busy_store.connect()
    busy_store.run(
        "update installations set state = 'needs_merchant', reason = 'token_revoked' where shop_id = :shop_id"
    )
    page = visitor.get("/attention")
    assert "Open the app once" in thing(page, "connection", "token_revoked")
    again = page.link("Connect again: The connection to Shopify")
    assert again == f"https://unwind.example/auth?shop={busy_store.domain}"
    assert not page.main.has("button", value="dismiss")


def test_a_privacy_request_waits_until_it_is_met(busy_store: PageShop, visitor: Visitor) -> None:
    busy_store.run(
        "insert into privacy_requests (shop_id, kind, customer_id, requested_at, state, cause)"
        " values (:shop_id, 'data_request', 7001, now(), 'open', 'inbox:1')"
    )
    page = visitor.get("/attention?kind=privacy")
    assert "thirty days" in page.text and not page.main.has("button", value="dismiss")


def test_one_kind_has_pages_and_all_of_them_a_link_to_the_rest(
    busy_store: PageShop, visitor: Visitor
) -> None:
    parked(busy_store, 51)
    page = visitor.click(visitor.get("/attention"), "All 51 of them")
    assert len(list(page.main.all("li", class_="thing"))) == 50
    assert len(list(visitor.click(page, "Next page").main.all("li", class_="thing"))) == 1


@pytest.mark.parametrize("act", ["retry", "dismiss"])
def test_another_shops_things_are_not_there(busy_store: PageShop, foreign: Visitor, act: str) -> None:
    [event] = parked(busy_store)
    flagged(busy_store, 451)
    rows = {"failed": event, "outbox": failed_outbox(busy_store, 1), "endpoint": paused_endpoint(busy_store)}
    if act == "dismiss":
        rows["order"] = 451
    assert "Nothing needs your attention" in foreign.get("/attention").text
    for kind, id in rows.items():
        answer = foreign.post("/attention", {"act": act, "kind": kind, "id": str(id)})
        assert answer.status == 404 and "Nothing was done." in answer.text, kind
    assert state(busy_store, event) == "failed"
    assert not busy_store.run("select 1 from dismissals where shop_id = :shop_id")


@pytest.mark.parametrize(
    "fields",
    [
        {"act": "retry", "kind": "failed"},
        {"act": "retry", "kind": "failed", "id": "1 or 1=1"},
        {"act": "retry", "kind": "nothing", "id": "1"},
        {"act": "delete", "kind": "failed", "id": "1"},
    ],
)
def test_a_form_that_is_not_ours_is_not_understood(visitor: Visitor, fields: dict[str, str]) -> None:
    assert visitor.post("/attention", fields).status == 400
    assert visitor.get("/attention?kind=nothing", status=400).h1 == "That could not be understood"


def test_a_form_without_the_logins_word_does_nothing(busy_store: PageShop, visitor: Visitor) -> None:
    [id] = parked(busy_store)
    answer = visitor.post("/attention", {"act": "dismiss", "kind": "failed", "id": str(id)}, csrf=False)
    assert answer.status == 403 and "Nothing was done" in answer.h1
    assert state(busy_store, id) == "failed"
