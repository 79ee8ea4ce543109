"""The figures of what needs a merchant."""

from __future__ import annotations

import secrets
from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from models.settings import Settings
from tasks.gateway.oauth import Grant
from tasks.steps import installations
from tests.steps.token_server import key

NOW = datetime.now(UTC)
DAY = 86_400.0


def connect(engine, *, days=90.0, reason=None, expiring=True):
    ours = Settings(token_encryption_keys=key("a"))
    ends = NOW + timedelta(days=days)
    expiry = (NOW + timedelta(hours=1), "shprt_1", ends) if expiring else (None, None, None)
    grant = Grant("shpat_1", ours.shopify_scopes, *expiry)
    with engine.begin() as connection:
        domain = f"shop-{secrets.token_hex(6)}.myshopify.com"
        shop_id = installations.record_grant(connection, ours, domain, grant, NOW)
        if reason is not None:
            installations.needs_merchant(connection, shop_id, reason)
    return shop_id


@pytest.fixture
def figures(app_with, fresh_engine):
    url = fresh_engine.url.render_as_string(hide_password=False)

    def figures(name):
        lines = app_with(database_url=url).test_client().get("/metrics").text.splitlines()
        pairs = (line.rpartition(" ") for line in lines if line.startswith(name))
        return {key.removeprefix(name): float(value) for key, _, value in pairs}

    return figures


def test_shops_that_need_their_merchant_are_counted_by_reason(figures, fresh_engine):
    connect(fresh_engine)
    for reason in ("token_revoked", "token_revoked", "scopes_missing"):
        connect(fresh_engine, reason=reason)
    assert figures("unwind_shops_needing_merchant") == {
        '{reason="refresh_token_expired"}': 0,
        '{reason="scopes_missing"}': 1,
        '{reason="token_revoked"}': 2,
    }


def test_the_refresh_token_that_ends_first_is_a_figure(figures, fresh_engine):
    connect(fresh_engine, expiring=False)
    assert figures("unwind_refresh_token_expires_soonest_seconds") == {}
    connect(fresh_engine)
    connect(fresh_engine, days=20)
    connect(fresh_engine, days=1, reason="token_revoked")
    with fresh_engine.begin() as connection:
        installations.forget(connection, connect(fresh_engine, days=2))
    (soonest,) = figures("unwind_refresh_token_expires_soonest_seconds").values()
    assert 19.9 * DAY < soonest < 20 * DAY


def test_subscriptions_that_could_not_be_set_right_are_counted(figures, fresh_engine):
    wrong, right = connect(fresh_engine), connect(fresh_engine)
    with fresh_engine.begin() as connection:
        connection.exec_driver_sql(
            "update installations set subscriptions_error = 'no' where shop_id = %s", (wrong,)
        )
    assert right and figures("unwind_shops_subscriptions_failing") == {"": 1}


def test_a_shop_that_was_removed_calls_for_nobody(figures, fresh_engine):
    removed = [connect(fresh_engine, days=3), connect(fresh_engine, reason="token_revoked")]
    rows = (
        "update installations set subscriptions_error = 'no' where shop_id = :shop",
        "insert into orders (shop_id, order_id, facts, status, refunded_minor, flags, counted)"
        " values (:shop, 7, '{}', 'open', 0, '[\"REFUND_CONFLICT\"]', '{}')",
        "insert into outbox (shop_id, kind, key, payload, state) values (:shop, 'create_code', 'x', '{}', 'failed')",
        "insert into endpoints (shop_id, url, events, secret, state, paused_reason)"
        " values (:shop, 'https://shop.example/hook', '[\"*\"]', 'sealed', 'paused', 'failing')",
    )
    with fresh_engine.begin() as connection:
        for statement in rows:
            connection.execute(text(statement), {"shop": removed[0]})
    calling = {
        'unwind_orders_flagged{flag="REFUND_CONFLICT"}': 1,
        'unwind_outbox{kind="create_code",state="failed"}': 1,
        'unwind_endpoints_paused{reason="failing"}': 1,
        'unwind_shops_needing_merchant{reason="token_revoked"}': 1,
        "unwind_shops_subscriptions_failing": 1,
    }
    before = figures("unwind_")
    assert before.keys() >= {name.removeprefix("unwind_") for name in calling}
    assert [before[name.removeprefix("unwind_")] for name in calling] == list(calling.values())
    with fresh_engine.begin() as connection:
        connection.execute(text("update shops set state = 'removed'"))
    after = figures("unwind_")
    assert {name for name in calling if after.get(name.removeprefix("unwind_"))} == set()
    assert "refresh_token_expires_soonest_seconds" in before.keys() - after.keys()
