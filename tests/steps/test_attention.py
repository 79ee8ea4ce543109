"""What a person should look at: found, explained, tried again, put aside, and back when it happens again."""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from models.errors import NotFound, Refused
from tasks.steps import attention, endpoints, shops
from tasks.steps.privacy import redact_shop
from tasks.steps.retention import NO_EVENT
from tests.rules.build import day, order, refund, returned
from tests.steps.trade import Trade, trade_of

ORDER = 7_000_001
PARKED = (
    "insert into inbox (shop_domain, topic, body, state, error_code, error, order_id)"
    " values (:domain, :topic, :body, 'failed', :code, 'lines: is missing', 450) returning id"
)
CODE = (
    "insert into outbox (shop_id, kind, key, payload, state, error_code, error, finished_at)"
    " values (:shop, 'reactivate_code', :key, '{\"redemption_id\": 5}', 'failed', 'shopify_refused', 'no', :at) returning id"
)
ENDPOINT = (
    "insert into endpoints (shop_id, url, events, secret, state, paused_reason, failing_since)"
    " values (:shop, 'https://shop.example/hook', '[\"*\"]', 'sealed', 'paused', :why, :at) returning id"
)
RUN = (
    "insert into reconciliations (shop_id, kind, state, until, error, finished_at)"
    " values (:shop, 'nightly', :state, :at, :error, :at) returning id"
)
REQUEST = "insert into privacy_requests (shop_id, kind, customer_id, cause) values (:shop, 'data_request', 7, 'x') returning id"
CONNECTED = "insert into installations (shop_id, state, reason, scopes) values (:shop, 'needs_merchant', 'scopes_missing', '[]')"


@pytest.fixture
def trade(engine: Engine) -> Trade:
    return trade_of(engine)


def one(trade: Trade, statement: str, **values: object) -> int:
    [(id,)] = trade.sql(statement, **values)
    return int(id)


def flagged(trade: Trade) -> int:
    """An order that is cancelled, paid and not refunded."""
    trade.tell(order(10_000, cancelled_at=day(2), updated_at=day(2)), at=day(2))
    return ORDER


MAKERS: dict[str, Callable[[Trade], int]] = {
    "failed": lambda trade: one(trade, PARKED, topic="refunds/create", body=b"{}", code="unparseable"),
    "order": flagged,
    "outbox": lambda trade: one(trade, CODE, key="reactivate:5:1", at=day(1)),
    "endpoint": lambda trade: one(trade, ENDPOINT, why="failing", at=day(1)),
    "reconcile": lambda trade: one(trade, RUN, state="failed", at=day(1), error="Shopify refused"),
    "privacy": lambda trade: one(trade, REQUEST),
}


def items(trade: Trade, **wanted: Any) -> list[dict[str, Any]]:
    return list(trade.read(attention.items, **wanted).rows)


@pytest.mark.parametrize("kind", MAKERS)
def test_each_kind_says_what_happened_and_what_to_do(engine: Engine, trade: Trade, kind: str) -> None:
    id = MAKERS[kind](trade)
    [item] = items(trade)
    assert (item["kind"], item["id"]) == (kind, str(id))
    assert all(item[name] for name in ("title", "what", "remedy", "at", "code"))
    assert item["severity"] in ("wrong", "look")
    counts = trade.read(attention.counts)
    assert {name for name, count in counts.items() if count} == {kind, "total"}
    assert items(trade_of(engine)) == []


def test_a_refund_that_was_not_understood_is_called_one(trade: Trade) -> None:
    MAKERS["failed"](trade)
    [item] = items(trade)
    assert item["title"] == "A refund that could not be understood"
    assert "lines: is missing" in item["what"]
    assert item["actions"] == ["retry", "dismiss"]
    assert item["link"] == {"page": "order", "id": "450"}


def test_an_event_whose_body_was_erased_can_only_be_dismissed(trade: Trade) -> None:
    id = one(trade, PARKED, topic="orders/paid", body=None, code="unparseable")
    [item] = items(trade)
    assert (item["code"], item["actions"]) == ("body_erased", ["dismiss"])
    with pytest.raises(Refused):
        trade.do(attention.retry, "failed", id)


def test_the_connection_names_what_it_lacks_and_cannot_be_put_aside(trade: Trade) -> None:
    trade.sql(CONNECTED)
    [item] = items(trade, scopes=("read_orders", "write_discounts"))
    assert (item["kind"], item["code"], item["actions"]) == ("connection", "scopes_missing", [])
    assert "It lacks read_orders, write_discounts." in item["what"]
    assert trade.read(attention.counts)["connection"] == 1


@pytest.mark.parametrize("kind", attention.DISMISSABLE)
def test_what_is_put_aside_is_gone_and_stays_so(trade: Trade, kind: str) -> None:
    id = MAKERS[kind](trade)
    trade.do(attention.dismiss, kind, id, by="session")
    assert items(trade) == []
    assert trade.read(attention.counts)["total"] == 0
    if kind == "failed":
        with pytest.raises(Refused):
            trade.do(attention.dismiss, kind, id, by="session")
    else:
        trade.do(attention.dismiss, kind, id, by="session")  # twice is once
        assert [row.by for row in trade.sql("select by from dismissals where shop_id = :shop")] == ["session"]


@pytest.mark.parametrize(
    ("kind", "again"),
    [
        ("outbox", "update outbox set finished_at = now() + interval '1 minute' where shop_id = :shop"),
        (
            "endpoint",
            "update endpoints set failing_since = now() + interval '1 minute' where shop_id = :shop",
        ),
    ],
)
def test_what_fails_again_is_back(trade: Trade, kind: str, again: str) -> None:
    trade.do(attention.dismiss, kind, MAKERS[kind](trade), by="session")
    trade.sql(again)
    assert [item["kind"] for item in items(trade)] == [kind]


def test_a_run_that_fails_after_one_was_put_aside_is_another_and_one_that_ends_well_is_none(
    trade: Trade,
) -> None:
    trade.do(attention.dismiss, "reconcile", MAKERS["reconcile"](trade), by="session")
    again = MAKERS["reconcile"](trade)
    assert [item["id"] for item in items(trade)] == [str(again)]
    one(trade, RUN, state="done", at=day(3), error=None)
    assert items(trade) == []


def test_an_order_is_back_when_its_money_moves_and_not_before(trade: Trade) -> None:
    trade.do(attention.dismiss, "order", flagged(trade), by="session")
    later = order(10_000, cancelled_at=day(2), updated_at=day(3), name="#1-changed")
    trade.tell(later, at=day(3))
    assert items(trade) == []
    trade.tell(refund(1, 2_000, returned(1, 2_000), at=day(4)), at=day(4))
    [item] = items(trade)
    assert item["code"] == "CANCELLED_PAID_WAITING"


def test_flags_that_leave_nothing_to_do_are_none_of_it(trade: Trade) -> None:
    trade.tell(order(10_000, customer_id=None), at=day(1))
    assert items(trade) == []
    with pytest.raises(NotFound):
        trade.do(attention.dismiss, "order", ORDER, by="session")


def test_a_night_that_failed_stays_until_the_next_one_however_often_the_day_is_compared(trade: Trade) -> None:
    night = MAKERS["reconcile"](trade)
    trade.sql(
        "insert into reconciliations (shop_id, kind, state, until, finished_at)"
        " select :shop, 'recent', 'done', now(), now() from generate_series(1, 96)"
    )
    assert [item["id"] for item in items(trade)] == [str(night)]
    one(trade, RUN, state="done", at=day(2), error=None)
    assert items(trade) == []


def test_an_endpoint_that_its_owner_paused_needs_nobody(trade: Trade) -> None:
    one(trade, ENDPOINT, why="by_hand", at=day(1))
    assert items(trade) == []


@pytest.mark.parametrize("kind", ["connection", "privacy", "nonsense"])
def test_what_only_its_remedy_ends_is_not_put_aside(trade: Trade, kind: str) -> None:
    with pytest.raises(Refused) as refused:
        trade.do(attention.dismiss, kind, 1, by="session")
    assert refused.value.code == "not_dismissable"


@pytest.mark.parametrize("kind", attention.DISMISSABLE)
def test_nobody_puts_aside_or_tries_again_what_is_another_shops(
    engine: Engine, trade: Trade, kind: str
) -> None:
    id, other = MAKERS[kind](trade), trade_of(engine)
    with pytest.raises(NotFound):
        other.do(attention.dismiss, kind, id, by="session")
    with pytest.raises((NotFound, Refused)):
        other.do(attention.retry, kind, id)
    assert len(items(trade)) == 1


def test_what_is_tried_again_waits_as_if_it_were_new(trade: Trade) -> None:
    event, row = MAKERS["failed"](trade), MAKERS["outbox"](trade)
    trade.do(attention.retry, "failed", event)
    trade.do(attention.retry, "outbox", row)
    assert items(trade) == []
    states = "select state, attempts from inbox where id = :id union all select state, attempts from outbox where id = :row"
    assert trade.sql(states, id=event, row=row) == [("pending", 0), ("pending", 0)]


def test_an_endpoint_is_enabled_again(trade: Trade) -> None:
    id = MAKERS["endpoint"](trade)
    trade.do(attention.retry, "endpoint", id)
    assert trade.read(endpoints.get, id)["state"] == "active"


def test_a_kind_is_read_page_by_page_and_all_kinds_the_newest_of_each(trade: Trade) -> None:
    made = [one(trade, CODE, key=f"reactivate:{n}:1", at=day(n)) for n in range(1, 6)]
    MAKERS["failed"](trade)
    rows = trade.walk(attention.items, limit=2, kind="outbox")
    assert [int(row["id"]) for row in rows] == made[::-1]
    assert [row["kind"] for row in items(trade, limit=2)] == ["failed", "outbox", "outbox"]


def test_a_redacted_shop_has_nothing_put_aside_and_nobody_logged_in(engine: Engine, trade: Trade) -> None:
    trade.do(attention.dismiss, "order", flagged(trade), by="session")
    logins = (
        "insert into admin_links (shop_id, digest, expires_at) values (:shop, sha256('a'), now());"
        "insert into admin_sessions (shop_id, digest, expires_at) values (:shop, sha256('a'), now())"
    )
    for statement in logins.split(";"):
        trade.sql(statement)
    with engine.begin() as connection:
        shops.remove(connection, trade.shop.domain)
        assert trade.sql("select 1 from dismissals where shop_id = :shop") == [(1,)]
        counts = redact_shop(connection, shops.by_id(connection, trade.id), NO_EVENT)
    assert (counts["logins"], counts["dismissals"]) == (0, 1)  # the removal ended the logins
    for table in ("admin_links", "admin_sessions", "dismissals"):
        assert trade.sql(f"select 1 from {table} where shop_id = :shop") == []


def test_times_are_told(trade: Trade) -> None:
    MAKERS["outbox"](trade)
    [item] = items(trade)
    assert datetime.fromisoformat(item["at"]) == day(1)
    assert datetime.now(UTC) - datetime.fromisoformat(item["at"]) > timedelta(days=1)
