"""The first page's figures: what is counted, in which month, and the one word that sums it up."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.steps.overview import overview
from tests.rules.build import CUSTOMER, day, order, refund, returned
from tests.steps.trade import Trade, trade_of

NOW = datetime(2026, 4, 2, 12, tzinfo=UTC)
EVENT = (
    "insert into inbox (shop_domain, topic, webhook_id, body, received_at, state, error_code)"
    " values (:domain, :topic, :id, '{}', :at, :state, :code)"
)
CONNECTED = "insert into installations (shop_id, scopes, access_token, orders_read_until) values (:shop, '[\"read_orders\"]', 'sealed', :at)"


@pytest.fixture
def trade(engine: Engine) -> Trade:
    return trade_of(engine)


def seen(trade: Trade, **named: Any) -> dict[str, Any]:
    found: dict[str, Any] = trade.read(overview, NOW, **named)
    return found


def comes(
    trade: Trade, state: str = "done", *, at: datetime, topic: str = "orders/paid", code: str | None = None
) -> None:
    trade.sql(EVENT, topic=topic, id=f"{topic}-{at}-{state}", at=at, state=state, code=code)


def test_points_stand_in_the_month_and_on_the_day_of_their_own_event_in_the_programs_time_zone(
    engine: Engine,
) -> None:
    trade = trade_of(engine, time_zone="Europe/Berlin")
    trade.tell(order(10_000, at=day(1)), at=day(1))
    trade.redeem(CUSTOMER, at=day(2), reward="custom", amount=80)
    in_march, in_april = datetime(2026, 3, 31, 21, tzinfo=UTC), datetime(2026, 3, 31, 23, tzinfo=UTC)
    trade.tell(refund(1, 3_000, returned(1, 3_000), at=in_march), at=in_march)
    trade.tell(refund(2, 2_000, returned(1, 2_000), at=in_april), at=in_april)
    found = seen(trade)
    nothing = {"returned": 0, "expired": 0}
    assert found["months"] == {
        "this": {"month": "2026-04", "reversed": 20, "forgiven": 20, **nothing},
        "last": {"month": "2026-03", "reversed": 30, "forgiven": 10, **nothing},
    }
    assert found["days"] == [
        {"day": "2026-04-01", "reversed": 20, "forgiven": 20, **nothing},
        {"day": "2026-04-02", "reversed": 0, "forgiven": 0, **nothing},
    ]


def test_what_came_back_of_redemptions_is_returned(engine: Engine) -> None:
    trade = trade_of(engine, returns=True)
    trade.grant(CUSTOMER, 500, at=day(1))
    trade.redeem(CUSTOMER, at=day(2), code="SAVE")
    trade.tell(order(10_000, at=day(3), codes=("save",)), at=day(3))
    trade.tell(refund(1, 10_000, returned(1, 10_000), at=day(32)), at=day(32))
    month = seen(trade)["months"]["this"]
    assert (month["reversed"], month["returned"], month["forgiven"]) == (100, 500, 0)


def test_a_new_shop_is_well(trade: Trade) -> None:
    found = seen(trade)
    assert (found["verdict"], found["last_webhook_at"], found["reconcile"]) == ("well", None, None)
    assert found["connection"]["state"] == "never"
    assert found["attention"]["total"] == 0
    assert [row["day"] for row in found["days"]] == ["2026-04-01", "2026-04-02"]


def test_arrivals_are_the_shops_own_and_readings_are_no_webhooks(engine: Engine, trade: Trade) -> None:
    comes(trade, at=NOW - timedelta(hours=3))
    comes(trade, at=NOW - timedelta(hours=1), topic="orders/read")
    comes(trade_of(engine), at=NOW, state="pending")
    comes(trade, at=NOW - timedelta(minutes=5), state="pending", topic="orders/read")
    found = seen(trade)
    assert found["last_webhook_at"] == (NOW - timedelta(hours=3)).isoformat()
    assert (found["pending"]["count"], found["pending"]["oldest_seconds"]) == (1, 300)
    assert found["verdict"] == "well"


def test_the_last_comparison_is_told(trade: Trade) -> None:
    run = "insert into reconciliations (shop_id, kind, state, until, orders_read, missing) values (:shop, :kind, 'done', :at, 7, 1)"
    for kind in ("nightly", "recent"):
        trade.sql(run, kind=kind, at=NOW)
    last = seen(trade)["reconcile"]
    assert (last["kind"], last["state"], last["orders_read"], last["missing"]) == ("recent", "done", 7, 1)


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        pytest.param("update installations set state = 'needs_merchant', reason = 'token_revoked' where shop_id = :shop", "open the app once", id="token"),
        pytest.param("update installations set state = 'uninstalled', access_token = null where shop_id = :shop", "was uninstalled", id="uninstalled"),
        pytest.param("update installations set orders_read_until = :then where shop_id = :shop", "not compared", id="behind"),
        pytest.param("insert into inbox (shop_domain, topic, body, received_at) values (:domain, 'orders/paid', '{}', :then)", "1 event waits to be processed, the oldest for 1800 minutes", id="backlog"),
        pytest.param("insert into inbox (shop_domain, topic, body, state) values (:domain, 'orders/paid', '{}', 'failed')", "1 event could not be processed", id="failed"),
        pytest.param("insert into outbox (shop_id, kind, key, payload, state) values (:shop, 'create_code', 'x', '{}', 'failed')", "1 change could not be made at Shopify", id="outbox"),
    ],
)  # fmt: skip
def test_what_does_not_work_is_wrong_and_says_so(trade: Trade, statement: str, words: str) -> None:
    trade.sql(CONNECTED, at=NOW)
    assert seen(trade)["verdict"] == "well"
    trade.sql(statement, then=NOW - timedelta(hours=30)) if ":then" in statement else trade.sql(statement)
    found = seen(trade)
    assert found["verdict"] == "wrong"
    assert words in found["sentence"]


def test_what_a_person_should_look_at_is_no_trouble_of_the_machine(trade: Trade) -> None:
    cancelled = order(10_000, at=day(1), cancelled_at=day(2), updated_at=day(2))
    trade.tell(cancelled, at=day(2))
    found = seen(trade)
    assert (found["verdict"], found["attention"]["order"]) == ("look", 1)
    assert "one thing" in found["sentence"]


def test_missing_scopes_are_named(trade: Trade) -> None:
    trade.sql(CONNECTED, at=NOW)
    found = seen(trade, scopes=("read_orders", "write_discounts"))
    assert found["connection"]["missing_scopes"] == ["write_discounts"]
