"""Orders cancelled and refunded by hand, and effects taken back, over HTTP (R31, R36, R37, R38)."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from pathlib import Path
from threading import Barrier
from typing import Any

import pytest
from flask import Flask
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.api import merchants
from app.cli.order import order
from app.cli.undo import undo
from tasks.steps import reversals
from tasks.steps.endings import end_whole
from tasks.steps.shops import by_id
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.flows.codes_story import Story
from tests.web.api.conftest import PLACED, Caller

TABLES = (
    "orders", "refunds", "transactions", "timeline", "entries", "lots", "wallets", "awards", "activity",
    "redemptions", "reversals", "outbox", "messages", "idempotency_keys", "customer_days",
)  # fmt: skip
DEFAULT_REASON = "Order cancelled via API"
BOTH_UNITS = {"lines": [{"id": "4500", "quantity": 2}]}
ONE_UNIT = {"lines": [{"id": "4500", "quantity": 1}]}


def books(engine: Engine, shop_id: int) -> dict[str, str]:
    """Everything on record of a shop, so that any change shows."""
    digest = (
        "select coalesce(md5(string_agg(t::text, '|' order by t::text)), '') from {} t where shop_id = :id"
    )
    with engine.connect() as connection:
        return {
            table: connection.execute(text(digest.format(table)), {"id": shop_id}).scalar_one()
            for table in TABLES
        }


def wallet(api: Caller) -> Any:
    """Balance, lots, tier, spend: what must be as it was after an undo."""
    return api.get("/customers/7001").get_json()


def status_of(api: Caller, order_id: int = 450) -> str:
    return str(api.get(f"/orders/{order_id}").get_json()["status"])


def causes_undone(order: Any) -> list[str]:
    return [each["cause"] for each in order["undone"]]


def refusal_of(response: TestResponse) -> tuple[int, str]:
    return response.status_code, response.get_json()["error"]["code"]


@pytest.fixture
def spent(api, store) -> str:
    """The redemption of 500 on order 450, which cost 100.00 and earned 100. 400 of 1,000 points are left beside them."""
    tiers = {"levels": [{"id": "gold", "name": "Gold", "threshold": "90.00"}]}
    api.put("/program", {"return_redeemed": {"enabled": True}, "tiers": tiers})
    api.post("/customers/7001/grants", {"amount": 900, "reason": "x"})
    made = api.post("/redemptions", {"customer_id": "7001", "reward": "5-off", "code": "LOYAL-1"}).get_json()
    store.place(api, 450, code="LOYAL-1")
    return str(made["id"])


def reversal_of(api: Caller, engine: Engine, redemption: str, amount: int | None = None) -> str:
    """A merchant gave so much of a redemption back by hand; the reversal's id."""
    with engine.begin() as connection:
        made = reversals.reverse(
            connection, by_id(connection, api.shop_id), int(redemption), amount=amount,
            kind="reversed", code="untracked", by="cli", reason="sorry",
        )  # fmt: skip
    return str(made.id)


def refunded_at_shopify(api: Caller, store: Any, engine: Engine, redemption: str) -> str:
    store.refund(api, 450, 9, 5_000, units=1)
    return "/refunds/9/undo"


def refunded_by_hand(api: Caller, store: Any, engine: Engine, redemption: str) -> str:
    return f"/refunds/{api.post('/orders/450/refund', ONE_UNIT).get_json()['id']}/undo"


def cancelled_by_hand(api: Caller, store: Any, engine: Engine, redemption: str) -> str:
    api.post("/orders/450/cancel")
    return "/orders/450/undo"


def reversed_by_hand(api: Caller, store: Any, engine: Engine, redemption: str) -> str:
    return f"/reversals/{reversal_of(api, engine, redemption, 200)}/undo"


Act = Callable[[Caller, Any, Engine, str], str]
UNDOS = [
    pytest.param(refunded_at_shopify, id="a refund that Shopify told of"),
    pytest.param(refunded_by_hand, id="a refund by hand"),
    pytest.param(cancelled_by_hand, id="a cancellation by hand"),
    pytest.param(reversed_by_hand, id="a reversal by hand"),
]

# -- preview (R37) -----------------------------------------------------------------------------------


def previewed_then_done(api: Caller, engine: Engine, path: str, body: Any = None) -> Any:
    """What the call did, which is what its preview had said; the preview changed nothing."""
    before = books(engine, api.shop_id)
    told = api.post(f"{path}?preview=true", body)
    assert (told.status_code, told.headers["Unwind-Preview"]) == (200, "true")
    assert books(engine, api.shop_id) == before
    done = api.post(path, body)
    assert done.status_code == 200 and "Unwind-Preview" not in done.headers
    assert {**told.get_json(), "id": ""} == {**done.get_json(), "id": ""}
    assert books(engine, api.shop_id) != before
    for each in done.get_json()["customers"]:
        assert api.get(f"/customers/{each['id']}").get_json()["balance"] == each["balance_after"]
    return done.get_json()


@pytest.mark.parametrize(
    ("path", "body", "reversed_", "returned", "status"),
    [
        pytest.param("refund", {"amount": "33.33"}, 33, 0, "partially_refunded", id="an amount"),
        pytest.param("refund", ONE_UNIT, 50, 250, "partially_refunded", id="one of two units"),
        pytest.param("refund", BOTH_UNITS, 100, 500, "fully_refunded", id="all units"),
        pytest.param("refund", {"amount": "100.00"}, 100, 500, "fully_refunded", id="all of the money"),
        pytest.param("refund", {}, 100, 500, "fully_refunded", id="the rest"),
        pytest.param("refund", None, 100, 500, "fully_refunded", id="the rest, without a body"),
        pytest.param("cancel", {"reason": "Off"}, 100, 500, "cancelled", id="a cancellation"),
        pytest.param("cancel", None, 100, 500, "cancelled", id="a cancellation, without a body"),
    ],
)
def test_what_a_preview_tells_is_what_then_happens(
    api, engine: Engine, spent: str, path: str, body: Any, reversed_: int, returned: int, status: str
) -> None:
    """R36, R37."""
    would = api.post("/orders/450/preview", body).get_json() if path == "refund" else None
    done = previewed_then_done(api, engine, f"/orders/450/{path}", body)
    assert (done["reversed"], done["returned"]) == (reversed_, returned)
    assert (done["status_before"], done["status_after"], status_of(api)) == ("open", status, status)
    if would is not None:
        assert {name: done[name] for name in would} == would


@pytest.mark.parametrize("act", UNDOS)
def test_what_the_preview_of_an_undo_tells_is_what_then_happens(
    api, store, engine: Engine, spent: str, act: Act
) -> None:
    """R37, R38."""
    path = act(api, store, engine, spent)
    previewed_then_done(api, engine, path, {"reason": "by mistake"})
    assert refusal_of(api.post(f"{path}?preview=true")) == (409, "already_undone")


# -- what an order comes to (R31, R36) ---------------------------------------------------------------


REFUND_20, REFUND_REST, CANCEL = ("refund", {"amount": "20.00"}), ("refund", None), ("cancel", None)


@pytest.mark.parametrize(
    ("acts", "ends"),
    [
        pytest.param([REFUND_20], "partially_refunded", id="refunded in part"),
        pytest.param([REFUND_20, REFUND_20], "partially_refunded", id="twice in part"),
        pytest.param([REFUND_REST], "fully_refunded", id="refunded"),
        pytest.param([REFUND_20, REFUND_REST], "fully_refunded", id="in part, then the rest"),
        pytest.param([CANCEL], "cancelled", id="cancelled"),
        pytest.param([REFUND_20, CANCEL], "cancelled", id="refunded in part, then cancelled"),
    ],
)
def test_an_order_goes_from_open_to_an_end_and_stays_there(
    api, engine: Engine, spent: str, acts: Sequence[tuple[str, Any]], ends: str
) -> None:
    """R31: a second end is refused, with the day of the first; R36."""
    for path, body in acts:
        assert api.post(f"/orders/450/{path}", body).status_code == 200
    assert status_of(api) == ends
    if ends == "partially_refunded":
        return
    before = books(engine, api.shop_id)
    for path, body in (CANCEL, REFUND_REST, REFUND_20):
        response = api.post(f"/orders/450/{path}", body)
        code = "already_refunded" if ends == "fully_refunded" else "already_cancelled"
        assert refusal_of(response) == (409, code)
        details = response.get_json()["error"]["details"]
        assert details["status"] == ends
        assert datetime.now(UTC) - datetime.fromisoformat(details["at"]) < timedelta(minutes=5)
    assert books(engine, api.shop_id) == before


def test_an_order_that_shopify_refunded_or_voided_cannot_be_cancelled(api, store) -> None:
    """R31."""
    store.place(api, 450)
    store.refund(api, 450, 9, 10_000)
    store.place(api, 451, status="authorized")
    store.place(api, 451, status="voided", at=PLACED + timedelta(hours=1))
    assert refusal_of(api.post("/orders/450/cancel")) == (409, "already_refunded")
    response = api.post("/orders/451/cancel")
    assert refusal_of(response) == (409, "already_cancelled")
    assert response.get_json()["error"]["details"] == {
        "status": "voided",
        "at": (PLACED + timedelta(hours=1)).isoformat(),
    }


def test_what_is_left_of_an_order_goes_down_with_every_refund(api, spent: str) -> None:
    """R36: the remaining amounts."""
    left = [
        api.post("/orders/450/refund", body).get_json()["remaining"]
        for body in ({"amount": "20.00"}, ONE_UNIT, {})
    ]
    assert left == [
        {"amount": "80.00", "earned": 80, "redeemed": 500},
        {"amount": "30.00", "earned": 30, "redeemed": 250},
        {"amount": "0.00", "earned": 0, "redeemed": 0},
    ]  # fmt: skip


def test_a_reason_is_kept_and_a_cancellation_without_one_gets_the_usual_one(api, store, spent: str) -> None:
    """R36, R39."""
    refund = api.post("/orders/450/refund", {"amount": "20.00", "reason": "Arrived late"}).get_json()
    cancelled = api.post("/orders/450/cancel").get_json()
    assert (refund["reason"], cancelled["reason"]) == ("Arrived late", DEFAULT_REASON)
    shown = api.get("/orders/450").get_json()
    assert [(r["id"], r["origin"], r["reason"], r["undone"], r["amount"]) for r in shown["refunds"]] == [
        (refund["id"], "merchant", "Arrived late", False, "20.00")
    ]
    [only] = shown["cancellations"]
    assert (only["id"], only["reason"], only["undone"]) == (cancelled["id"], DEFAULT_REASON, False)
    assert only["by"].startswith("token:")
    told = {e["kind"]: e["detail"] for e in api.get("/activity?order=450").get_json()["data"]}
    assert told["order.refunded"]["reason"] == "Arrived late"
    assert told["order.cancelled"]["reason"] == DEFAULT_REASON


@pytest.mark.parametrize(
    "body",
    [
        pytest.param({"reason": ""}, id="an empty reason"),
        pytest.param({"reason": "x" * 201}, id="a long reason"),
        pytest.param({"reason": "two\nlines"}, id="two lines"),
        pytest.param({"reason": 5}, id="a number for a reason"),
        pytest.param({"why": "x"}, id="an unknown field"),
        pytest.param([], id="a list"),
    ],
)
@pytest.mark.parametrize(
    "path",
    ["/orders/450/cancel", "/orders/450/refund", "/orders/450/undo", "/refunds/9/undo", "/reversals/1/undo"],
)
def test_a_body_that_cannot_be_is_422_and_changes_nothing(
    api, store, engine: Engine, path: str, body: Any
) -> None:
    store.place(api, 450)
    store.refund(api, 450, 9, 2_000)
    before = books(engine, api.shop_id)
    assert api.post(path, body).status_code == 422
    assert books(engine, api.shop_id) == before


@pytest.mark.parametrize(
    ("path", "body", "code"),
    [
        pytest.param("refund", {"amount": "100.01"}, "wrong_amount", id="more than is left"),
        pytest.param("refund", {"amount": "20.001"}, "wrong_amount", id="a tenth of a cent"),
        pytest.param("refund", {"amount": "0.00"}, "invalid_request", id="nothing"),
        pytest.param("refund", {"amount": 20}, "invalid_request", id="an amount that is a number"),
        pytest.param("refund", {"amount": "5.00", **ONE_UNIT}, "invalid_request", id="both"),
        pytest.param(
            "refund", {"lines": [{"id": "4501", "quantity": 1}]}, "unknown_line", id="a line of nobody's"
        ),
        pytest.param(
            "refund", {"lines": [{"id": "4500", "quantity": 3}]}, "wrong_quantity", id="more units than there are"
        ),
        pytest.param("cancel", {"amount": "5.00"}, "invalid_request", id="a cancellation in part"),
    ],
)  # fmt: skip
def test_a_refund_that_cannot_be_says_why_and_changes_nothing(
    api, engine: Engine, spent: str, path: str, body: Any, code: str
) -> None:
    before = books(engine, api.shop_id)
    assert refusal_of(api.post(f"/orders/450/{path}", body)) == (422, code)
    assert books(engine, api.shop_id) == before


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"amount": None}, "amount", id="an amount that is null"),
        pytest.param({"lines": None}, "lines", id="lines that are null"),
        pytest.param({"amount": None, "lines": None}, "amount", id="both are null"),
        pytest.param({"amount": "5.00", "lines": None}, "lines", id="an amount and null"),
        pytest.param({"lines": []}, "lines", id="no lines"),
    ],
)
@pytest.mark.parametrize("path", ["refund", "preview"])
def test_a_full_refund_is_meant_only_by_leaving_the_fields_out(
    api, engine: Engine, spent: str, path: str, body: Any, field: str
) -> None:
    """R36: a variable that was null, or a list that was empty, is not a wish for all of it."""
    before = books(engine, api.shop_id)
    refused = api.post(f"/orders/450/{path}", body)
    assert refusal_of(refused) == (422, "invalid_request")
    details = refused.get_json()["error"]["details"]
    assert (details["field"], details["reason"]) == (
        field,
        "say what to refund, or leave it out to refund the rest",
    )
    assert books(engine, api.shop_id) == before


@pytest.mark.parametrize("body", [pytest.param({}, id="nothing in it"), pytest.param(None, id="no body")])
@pytest.mark.parametrize("path", ["refund", "preview"])
def test_a_full_refund_needs_no_field(api, spent: str, path: str, body: Any) -> None:
    """R36."""
    assert api.post(f"/orders/450/{path}", body).get_json()["amount"] == "100.00"


def test_the_document_has_no_null_for_what_to_refund(api) -> None:
    schemas = api.get("/openapi.json").get_json()["components"]["schemas"]
    for name in ("RefundRequest", "PreviewRequest"):
        fields = schemas[name]["properties"]
        assert (fields["amount"]["type"], fields["lines"]["type"]) == ("string", "array")
        assert not {"anyOf", "default"} & (fields["amount"].keys() | fields["lines"].keys())


def test_an_order_is_its_own_shops_to_cancel_refund_and_undo(
    api, other, store, engine: Engine, spent: str
) -> None:
    """R31, R36 (Points API): merchant ownership of the order."""
    store.refund(api, 450, 9, 2_000)
    id = reversal_of(api, engine, spent, 100)
    before = books(engine, api.shop_id)
    paths = (
        "orders/450/cancel",
        "orders/450/refund",
        "orders/450/undo",
        "refunds/9/undo",
        f"reversals/{id}/undo",
    )
    for path in paths:
        assert refusal_of(other.post(f"/{path}")) == (404, "not_found"), path
        assert refusal_of(other.post(f"/{path}?preview=true")) == (404, "not_found"), path
    assert books(engine, api.shop_id) == before


@pytest.mark.parametrize(
    "path",
    ["/orders/450/cancel", "/orders/450/refund", "/orders/450/undo", "/refunds/9/undo", "/reversals/1/undo"],
)
def test_what_there_is_not_is_404(api, path: str) -> None:
    assert refusal_of(api.post(path)) == (404, "not_found")


def test_an_order_known_only_by_its_refund_cannot_be_cancelled_yet(api, store) -> None:
    """R28."""
    store.refund(api, 450, 9, 2_000)
    for path in ("/orders/450/cancel", "/orders/450/refund", "/refunds/9/undo"):
        assert refusal_of(api.post(path)) == (404, "not_found")


def test_one_refund_a_key(api, spent: str) -> None:
    """R36: a repeated call answers the same; another body under its key is refused."""
    answers = [api.post("/orders/450/refund", {"amount": "20.00"}, key="k") for _ in range(3)]
    assert len({answer.get_data() for answer in answers}) == 1
    assert refusal_of(api.post("/orders/450/refund", {"amount": "21.00"}, key="k")) == (
        422,
        "idempotency_key_reused",
    )
    assert api.get("/orders/450").get_json()["refunded"] == "20.00"
    api.post("/orders/450/cancel", key="c")
    refused = [api.post("/orders/450/cancel", key="c-2") for _ in range(2)]
    assert {refusal_of(answer) for answer in refused} == {(409, "already_cancelled")}
    assert api.post("/orders/450/cancel", key="c").status_code == 200


def at_once(app: Flask, api: Caller, calls: Sequence[tuple[str, Any]]) -> list[TestResponse]:
    """All of them at the same moment, each with a connection of its own."""
    ready = Barrier(len(calls))

    def call(path: str, body: Any) -> TestResponse:
        caller = Caller(app.test_client(), api.domain, api.shop_id, api.token)
        ready.wait(timeout=30)
        return caller.post(path, body)

    with ThreadPoolExecutor(len(calls)) as pool:
        return [made.result() for made in [pool.submit(call, *each) for each in calls]]


@pytest.mark.parametrize(
    ("path", "body", "codes"),
    [
        pytest.param("/orders/450/cancel", None, {"already_cancelled"}, id="cancelled"),
        pytest.param("/orders/450/refund", None, {"already_refunded"}, id="refunded whole"),
        pytest.param("/orders/450/refund", {"amount": "60.00"}, {"wrong_amount"}, id="refunded for the most part"),
        pytest.param("/refunds/9/undo", None, {"already_undone"}, id="undone"),
    ],
)  # fmt: skip
def test_of_several_calls_at_once_one_wins(
    app: Flask, api, store, engine: Engine, spent: str, path: str, body: Any, codes: set[str]
) -> None:
    """R31: the others are refused as if they had come later."""
    if path.endswith("/undo"):
        store.refund(api, 450, 9, 2_000)
    answers = at_once(app, api, [(path, body)] * 6)
    assert [answer.status_code for answer in answers].count(200) == 1
    assert {answer.get_json()["error"]["code"] for answer in answers if answer.status_code != 200} == codes
    with engine.begin() as connection:
        assert verify(connection, api.shop_id) == []


def test_a_cancellation_and_a_refund_at_once_leave_one_end(
    app: Flask, api, engine: Engine, spent: str
) -> None:
    """R31."""
    calls = [("/orders/450/cancel", None), ("/orders/450/refund", None)] * 3
    answers = at_once(app, api, calls)
    [(path, _)] = [each for each, answer in zip(calls, answers, strict=True) if answer.status_code == 200]
    assert status_of(api) == ("cancelled" if path.endswith("cancel") else "fully_refunded")
    assert wallet(api)["balance"] == 900
    with engine.begin() as connection:
        assert verify(connection, api.shop_id) == []


# -- undo (R38) --------------------------------------------------------------------------------------


@pytest.mark.parametrize("act", UNDOS)
def test_an_undo_leads_back_to_the_exact_earlier_state(
    api, store, engine: Engine, spent: str, act: Act
) -> None:
    """R38: balance, lots, tier, spend, status, what was returned. Nothing is deleted (R40)."""
    before, order, redeemed = wallet(api), api.get("/orders/450").get_json(), api.get(f"/redemptions/{spent}")
    path = act(api, store, engine, spent)
    assert wallet(api) != before
    assert api.post(path).status_code == 200
    assert wallet(api) == before
    shown = api.get("/orders/450").get_json()
    same = ("status", "refunded", "awards", "redemptions", "flags")
    assert {name: shown[name] for name in same} == {name: order[name] for name in same}
    now, was = api.get(f"/redemptions/{spent}").get_json(), redeemed.get_json()
    named = ("returned", "credited", "expired", "restitution", "sources")
    assert {name: now[name] for name in named} == {name: was[name] for name in named}
    with engine.begin() as connection:
        assert verify(connection, api.shop_id) == []


@pytest.mark.parametrize("act", UNDOS)
def test_what_is_undone_is_not_undone_again_and_the_answer_says_since_when(
    api, store, engine: Engine, spent: str, act: Act
) -> None:
    """R38."""
    path = act(api, store, engine, spent)
    api.post(path)
    response = api.post(path)
    assert refusal_of(response) == (409, "already_undone")
    at = datetime.fromisoformat(response.get_json()["error"]["details"]["at"])
    assert datetime.now(UTC) - at < timedelta(minutes=5)
    assert at.isoformat() in response.get_json()["error"]["message"]


def test_an_order_whose_cancellation_was_undone_can_be_cancelled_and_refunded_again(api, spent: str) -> None:
    """R31, R38: open again, in every way."""
    api.post("/orders/450/cancel", {"reason": "one"})
    api.post("/orders/450/undo", {"reason": "the wrong order"})
    assert api.post("/orders/450/refund", {"amount": "20.00"}).status_code == 200
    assert api.post("/orders/450/cancel", {"reason": "two"}).status_code == 200
    shown = api.get("/orders/450").get_json()
    assert [(c["reason"], c["undone"]) for c in shown["cancellations"]] == [("one", True), ("two", False)]
    assert causes_undone(shown) == [f"cancellation:{shown['cancellations'][0]['id']}"]
    assert shown["status"] == "cancelled" and wallet(api)["balance"] == 900


def test_an_order_that_nothing_closed_has_no_end_to_undo(api, store) -> None:
    """R38: its refunds are undone one by one."""
    store.place(api, 450)
    assert refusal_of(api.post("/orders/450/undo")) == (409, "not_cancelled")
    api.post("/orders/450/refund")
    assert refusal_of(api.post("/orders/450/undo")) == (409, "not_cancelled")


def test_a_void_that_is_undone_stays_undone_when_shopify_tells_of_it_again(api, store, spent: str) -> None:
    """R27, R38: told again, in both of its shapes (S7)."""
    store.place(api, 451, status="authorized")
    for _ in range(2):
        store.place(api, 451, status="voided", at=PLACED + timedelta(hours=1))
    assert status_of(api, 451) == "voided"
    done = api.post("/orders/451/undo", {"reason": "paid in cash"}).get_json()
    assert (done["status_before"], done["status_after"]) == ("voided", "open")
    assert done["undone"] == ["void:451", "cancel:451"]
    for hours in (1, 2):
        store.place(api, 451, status="voided", at=PLACED + timedelta(hours=hours))
    assert status_of(api, 451) == "open"
    assert causes_undone(api.get("/orders/451").get_json()) == ["cancel:451", "void:451"]


def test_a_void_that_gave_redeemed_points_back_is_undone_to_the_exact_state(
    api, store, engine: Engine, spent: str
) -> None:
    """R27, R37, R38: the order was never paid; what was spent on it is spent again."""
    api.post("/customers/7001/grants", {"amount": 200, "reason": "x"})
    api.post("/redemptions", {"customer_id": "7001", "reward": "5-off", "code": "LOYAL-2"})
    store.place(api, 451, code="LOYAL-2", status="authorized")
    before = wallet(api)
    store.place(api, 451, code="LOYAL-2", status="voided", at=datetime.now(UTC))
    assert (status_of(api, 451), wallet(api)["balance"]) == ("voided", before["balance"] + 500)
    previewed_then_done(api, engine, "/orders/451/undo")
    assert (status_of(api, 451), wallet(api)) == ("open", before)
    with engine.begin() as connection:
        assert verify(connection, api.shop_id) == []


def test_an_undone_refund_still_shows_what_was_undone_when_by_whom_and_why(api, store, spent: str) -> None:
    """R38, R39."""
    store.refund(api, 450, 9, 5_000, units=1)
    before = datetime.now(UTC)
    api.post("/refunds/9/undo", {"reason": "by mistake"})
    shown = api.get("/orders/450").get_json()
    [refund] = shown["refunds"]
    assert (refund["amount"], refund["undone"], refund["reversed"]) == ("50.00", True, 0)
    assert shown["refunded"] == "0.00"
    [act] = shown["undone"]
    assert (act["cause"], act["reason"]) == ("refund:9", "by mistake") and act["by"].startswith("token:")
    assert before <= datetime.fromisoformat(act["at"]) <= datetime.now(UTC)
    store.refund(api, 450, 9, 5_000, units=1)  # told again
    assert api.get("/orders/450").get_json()["refunds"] == [refund]


def test_a_refund_that_is_undone_stays_undone_when_shopify_tells_of_it_again(
    api, store, engine: Engine, spent: str
) -> None:
    """R38: a later webhook of it changes nothing, and the next refund works on from what stands."""
    store.refund(api, 450, 9, 5_000, units=1)
    api.post("/refunds/9/undo", {"reason": "by mistake"})
    before = wallet(api)
    store.refund(api, 450, 9, 5_000, units=1)
    assert (wallet(api), status_of(api)) == (before, "open")
    store.refund(api, 450, 10, 2_000)
    shown = api.get("/orders/450").get_json()
    assert [(r["id"], r["undone"], r["reversed"]) for r in shown["refunds"]] == [
        ("9", True, 0),
        ("10", False, 20),
    ]
    assert (shown["status"], shown["refunded"], shown["awards"][0]["reversed"]) == (
        "partially_refunded",
        "20.00",
        20,
    )
    with engine.begin() as connection:
        assert verify(connection, api.shop_id) == []  # fmt: skip


def test_the_tier_that_a_refund_took_comes_back_with_its_undo(api, spent: str) -> None:
    """R26, R38."""
    assert wallet(api)["tier"] == "gold"
    refund = api.post("/orders/450/refund", {"amount": "20.00"}).get_json()
    assert refund["tiers"] == [{"id": "7001", "before": "gold", "after": None}]
    undone = api.post(f"/refunds/{refund['id']}/undo").get_json()
    assert undone["tiers"] == [{"id": "7001", "before": None, "after": "gold"}]


def test_a_reversal_whose_code_was_taken_away_cannot_be_undone(api, engine: Engine, spent: str) -> None:
    """R21, R38: there would be neither code nor points."""
    with engine.begin() as connection:
        shop = by_id(connection, api.shop_id)
        made = reversals.reverse(
            connection, shop, int(spent), amount=None, kind="cancelled", code="removed", by="cli"
        )
    assert refusal_of(api.post(f"/reversals/{made.id}/undo")) == (409, "code_removed")


# -- undo of what gave a code back (R22, R38) ----------------------------------------------------------


@pytest.fixture
def story(api, engine: Engine) -> Story:
    """The caller's shop at a pretend store: an order refunded whole, whose code can be used again."""
    story = Story(engine, RegisteredShop(api.domain, api.shop_id))
    story.redeem()
    story.work()
    order = story.buy(story.redemption.code)
    story.refund(order)
    story.hear()
    story.work()
    assert story.usable_uses(story.redemption.code) == 1
    return story


def paths_of(api: Caller, story: Story) -> tuple[str, str]:
    """The undo of its refund, and where its order is read."""
    order = f"/orders/{story.redemption.order_id}"
    [refund] = api.get(order).get_json()["refunds"]
    return f"/refunds/{refund['id']}/undo", order


def test_an_undo_that_takes_a_code_away_first_is_accepted_and_done_later(
    api, engine: Engine, story: Story
) -> None:
    """R37, R38: 202, also in a preview; a repeated call answers the same."""
    path, order = paths_of(api, story)
    before = books(engine, api.shop_id)
    told = api.post(f"{path}?preview=true")
    assert books(engine, api.shop_id) == before
    asked = [api.post(path, key="k") for _ in range(2)]
    assert [answer.status_code for answer in (told, *asked)] == [202, 202, 202]
    assert told.get_json() == asked[0].get_json() == asked[1].get_json()
    assert told.get_json()["state"] == "removing_code"
    assert refusal_of(api.post(path)) == (409, "undo_in_progress")
    assert api.get(order).get_json()["status"] == "fully_refunded"
    story.work()
    assert api.get(order).get_json()["status"] == "open" and not story.is_usable(story.redemption.code)
    assert refusal_of(api.post(path)) == (409, "already_undone")


def test_a_code_that_was_used_again_keeps_its_refund_from_being_undone(api, story: Story) -> None:
    """R38."""
    path, order = paths_of(api, story)
    story.buy(story.redemption.code)
    story.hear()
    response = api.post(path)
    assert refusal_of(response) == (409, "code_used_again")
    assert response.get_json()["error"]["details"] == {"redemption_id": str(story.redemption_id)}
    assert api.get(order).get_json()["undone"] == []


# -- what a reader sees ------------------------------------------------------------------------------


def test_an_order_shows_what_was_given_back_of_its_redemptions_by_hand(
    api, engine: Engine, spent: str
) -> None:
    id = reversal_of(api, engine, spent, 200)
    [shown] = api.get("/orders/450").get_json()["reversals"]
    assert (shown["id"], shown["redemption_id"], shown["kind"], shown["amount"]) == (
        id,
        spent,
        "reversed",
        200,
    )
    assert (shown["reason"], shown["by"], shown["undone_at"]) == ("sorry", "cli", None)
    api.post(f"/reversals/{id}/undo")
    assert api.get("/orders/450").get_json()["reversals"][0]["undone_at"] is not None


def test_an_order_shows_a_redemption_that_was_given_back_before_it_came(api, store, engine: Engine) -> None:
    """R30: it was auto-refunded; its order is told afterwards."""
    api.post("/customers/7001/grants", {"amount": 500, "reason": "x"})
    made = api.post("/redemptions", {"customer_id": "7001", "reward": "5-off", "code": "LATE-1"}).get_json()
    with engine.begin() as connection:
        shop = by_id(connection, api.shop_id)
        end_whole(connection, shop, int(made["id"]), kind="auto_refunded", now=datetime.now(UTC))
    store.place(api, 450, code="LATE-1")
    [shown] = api.get("/orders/450").get_json()["redemptions"]
    assert (shown["ended"], shown["returned"], shown["restitution"]) == ("auto_refunded", 500, "points")


# -- the page about it -------------------------------------------------------------------------------

PAGE = (Path(__file__).parents[3] / "docs/orders.md").read_text()


def test_the_page_has_every_call_with_its_command() -> None:
    told = re.findall(r"^\| `(\w+) (/\S+)` \| `unwind (\w+) (\w+) [A-Z]+` \|", PAGE, re.M)
    known = {(operation.method, operation.path) for operation in merchants.OPERATIONS}
    assert {(method, path) for method, path, *_ in told} == known | {("GET", "/orders/{order_id}")}
    commands = {("order", name) for name in order.commands} | {("undo", name) for name in undo.commands}
    assert {(group, name) for *_, group, name in told} == commands


def test_the_page_has_every_refusal_with_its_status() -> None:
    told = dict(re.findall(r"^\| `([a-z_]+)` \| (\d{3}) \|", PAGE, re.M))
    refusals = [refusal for operation in merchants.OPERATIONS for refusal in operation.refusals]
    assert told == {refusal.code: str(refusal.status) for refusal in refusals}
