"""A shop's connection to Shopify: made by its merchant, lost, made again."""

from __future__ import annotations

import json
import secrets
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.errors import InvalidSetting
from models.settings import Settings
from tasks.gateway.oauth import Grant
from tasks.steps import installations, outbox, shops
from tasks.steps.drain import drain
from tasks.steps.load import ShopRow, open_world
from tasks.steps.settle import Told, settle
from tests.conftest import RegisteredShop, register
from tests.rules.build import order
from tests.steps.token_server import SCOPES, key

NOW = datetime.now(UTC)
SETTINGS = Settings(token_encryption_keys=key("a"))  # type: ignore[arg-type]
LASTING = Grant("shpat_lasting", tuple(SCOPES.split(",")))


def expiring(number: int = 1, scopes: str = SCOPES) -> Grant:
    ends = NOW + timedelta(hours=1)
    return Grant(
        f"shpat_{number}", tuple(scopes.split(",")), ends, f"shprt_{number}", NOW + timedelta(days=90)
    )


def domain() -> str:
    return f"shop-{secrets.token_hex(6)}.myshopify.com"


def connect(engine: Engine, name: str, grant: Grant | None = None, now: datetime = NOW) -> ShopRow:
    with engine.begin() as connection:
        shop_id = installations.record_grant(connection, SETTINGS, name, grant or expiring(), now)
        return shops.by_id(connection, shop_id)


def row(engine: Engine, shop_id: int) -> dict[str, Any]:
    query = text(
        "select i.*, s.state as shop_state from installations i join shops s on s.id = i.shop_id where s.id = :id"
    )
    with engine.begin() as connection:
        return dict(connection.execute(query, {"id": shop_id}).one()._mapping)


def rows_of_outbox(engine: Engine, shop_id: int) -> list[tuple[str, str]]:
    with engine.begin() as connection:
        query = text("select kind, state from outbox where shop_id = :id order by id")
        return [tuple(each) for each in connection.execute(query, {"id": shop_id})]


def deliver(
    engine: Engine,
    name: str,
    topic: str,
    payload: Any,
    *,
    triggered_at: datetime | str | None = None,
) -> list[str]:
    """A webhook in the inbox, worked off by the real drain; its outcome in words."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, webhook_id, body, triggered_at)"
                " values (:domain, :topic, :id, :body, :at)"
            ),
            {
                "domain": name,
                "topic": topic,
                "id": secrets.token_hex(8),
                "body": json.dumps(payload).encode(),
                "at": triggered_at.isoformat() if isinstance(triggered_at, datetime) else triggered_at,
            },
        )
    return drain(engine, name).outcomes


def uninstall(engine: Engine, name: str, *, at: datetime | str | None) -> list[str]:
    payload = {"id": 77, "myshopify_domain": name, "domain": "www.shop.example"}
    return deliver(engine, name, "app/uninstalled", payload, triggered_at=at)


# ---- installed


def test_a_merchants_consent_registers_the_shop_and_keeps_its_tokens(engine: Engine):
    shop = connect(engine, domain())
    found = row(engine, shop.id)
    assert (found["state"], found["shop_state"], found["reason"]) == ("active", "installed", None)
    assert sorted(found["scopes"]) == sorted(SCOPES.split(","))
    assert b"shpat" not in bytes(found["access_token"]) and b"shprt" not in bytes(found["refresh_token"])
    assert rows_of_outbox(engine, shop.id) == [("check_subscriptions", "pending")]
    with engine.begin() as connection:
        assert installations.is_connected(connection, shop.id)


def test_the_same_grant_recorded_twice_is_recorded_once(engine: Engine):
    name, grant = domain(), expiring()
    first, second = connect(engine, name, grant), connect(engine, name, grant)
    assert first.id == second.id
    assert rows_of_outbox(engine, first.id) == [("check_subscriptions", "pending")]


def test_without_a_key_nothing_is_recorded(engine: Engine):
    name = domain()
    with pytest.raises(InvalidSetting, match="TOKEN_ENCRYPTION_KEYS"), engine.begin() as connection:
        installations.record_grant(connection, Settings(), name, expiring(), NOW)
    with engine.begin() as connection:
        assert shops.any_state(connection, name) is None


@pytest.mark.parametrize("name", ["evil.com/x#.myshopify.com", "x.myshopify.com.evil.com", ""])
def test_what_is_no_shop_is_not_connected(engine: Engine, name: str):
    with pytest.raises(InvalidSetting, match="domain"):
        connect(engine, name)


def test_a_shop_added_by_hand_keeps_its_books_and_program_when_its_merchant_connects(
    engine: Engine, shop: RegisteredShop
):
    assert connect(engine, shop.domain).id == shop.id


@pytest.mark.parametrize(
    ("given", "missing"),
    [
        pytest.param(SCOPES, [], id="all"),
        pytest.param(SCOPES + ",write_orders", [], id="more"),
        pytest.param(SCOPES.replace("read_orders", "write_orders"), [], id="writing holds reading"),
        pytest.param(SCOPES.replace("write_discounts", "read_discounts"), ["write_discounts"], id="less"),
        pytest.param(SCOPES.replace("read_all_orders,", ""), ["read_all_orders"], id="recent orders only"),
    ],
)
def test_scopes_are_compared_with_what_is_needed(engine: Engine, given: str, missing: list[str]):
    assert installations.missing_scopes(SETTINGS.shopify_scopes, given.split(",")) == missing
    found = row(engine, connect(engine, domain(), expiring(scopes=given)).id)
    assert found["reason"] == ("scopes_missing" if missing else None)


def test_missing_scopes_do_not_disconnect(engine: Engine):
    shop = connect(engine, domain(), expiring(scopes="read_orders"))
    with engine.begin() as connection:
        assert installations.is_connected(connection, shop.id)


# ---- uninstalled


def test_an_uninstall_drops_the_tokens_and_ends_what_was_to_be_done(engine: Engine):
    shop = connect(engine, domain())
    assert uninstall(engine, shop.domain, at=NOW + timedelta(minutes=1)) == ["uninstalled: tokens dropped"]
    found = row(engine, shop.id)
    assert (found["state"], found["shop_state"]) == ("uninstalled", "removed")
    tokens = ("access_token", "access_expires_at", "refresh_token", "refresh_expires_at")
    assert [found[name] for name in tokens] == [None] * 4
    assert rows_of_outbox(engine, shop.id) == [("check_subscriptions", "cancelled")]
    with engine.begin() as connection:
        assert not installations.is_connected(connection, shop.id)


@pytest.mark.parametrize(
    ("at", "kept"),
    [
        pytest.param(NOW - timedelta(hours=3), True, id="of the installation before"),
        pytest.param(NOW + timedelta(seconds=1), False, id="of this one"),
        pytest.param(
            (NOW - timedelta(hours=1)).isoformat().replace("+00:00", "123Z"), True, id="nanoseconds"
        ),
        pytest.param(None, False, id="no time: when it came"),
        pytest.param("yesterday", False, id="no time that can be read: when it came"),
    ],
)
def test_a_late_word_of_an_earlier_uninstall_changes_nothing(
    engine: Engine, at: datetime | str | None, kept: bool
):
    shop = connect(engine, domain())
    outcome = uninstall(engine, shop.domain, at=at)
    assert row(engine, shop.id)["state"] == ("active" if kept else "uninstalled")
    assert (outcome == ["installed again since: nothing to do"]) == kept


def test_without_a_header_the_body_tells_the_time(engine: Engine):
    shop = connect(engine, domain())
    payload = {"id": 7, "myshopify_domain": shop.domain, "updated_at": "2026-01-05T10:00:00+01:00"}
    assert deliver(engine, shop.domain, "app/uninstalled", payload) == [
        "installed again since: nothing to do"
    ]


@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({"myshopify_domain": "another.myshopify.com"}, id="another shop's"),
        pytest.param({"id": 1, "line_items": []}, id="an order's"),
        pytest.param({}, id="empty"),
    ],
)
def test_a_body_that_is_not_this_shops_uninstalls_nothing(engine: Engine, payload: dict[str, Any]):
    shop = connect(engine, domain())
    late = NOW + timedelta(minutes=1)
    outcome = deliver(engine, shop.domain, "app/uninstalled", payload, triggered_at=late)
    assert outcome[0].startswith("failed:")
    assert row(engine, shop.id)["state"] == "active"


def test_the_same_body_again_disconnects_no_later_installation(engine: Engine):
    """Its signature covers neither its time nor its id: whoever kept it could send it for ever. Shopify is asked."""
    name = domain()
    connect(engine, name, now=NOW - timedelta(minutes=1))
    uninstall(engine, name, at=NOW)
    shop = connect(engine, name, expiring(2), datetime.now(UTC))
    again = uninstall(engine, name, at=NOW + timedelta(days=1))
    assert again == ["told word by word before this installation: Shopify is asked"]
    assert row(engine, shop.id)["state"] == "active"
    assert rows_of_outbox(engine, shop.id).count(("check_subscriptions", "pending")) >= 2


def test_events_after_the_uninstall_are_kept_and_go_on_when_it_is_installed_again(engine: Engine):
    shop = connect(engine, domain())
    uninstall(engine, shop.domain, at=NOW + timedelta(minutes=1))
    assert deliver(engine, shop.domain, "customers/update", {"id": 1}) == ["failed: unknown_shop"]
    assert uninstall(engine, shop.domain, at=NOW + timedelta(minutes=1)) == ["failed: unknown_shop"]
    connect(engine, shop.domain, expiring(2), NOW + timedelta(hours=1))
    assert sorted(drain(engine, shop.domain).outcomes) == [
        "customers/update: kept",
        "installed again since: nothing to do",
    ]
    found = row(engine, shop.id)
    assert (found["state"], found["shop_state"], found["uninstalled_at"]) == ("active", "installed", None)


def test_what_an_uninstall_cancelled_is_due_again_and_nothing_else(engine: Engine):
    shop = connect(engine, domain())
    with engine.begin() as connection:
        for order in (1, 2):
            outbox.put(
                connection, shop.id, "read_order", f"order:{order}", {"order_id": order, "why": "test"}
            )
        connection.execute(
            text(
                "update outbox set state = 'cancelled', finished_at = now() where shop_id = :id and key = 'order:1'"
            ),
            {"id": shop.id},
        )
    uninstall(engine, shop.domain, at=NOW + timedelta(minutes=1))
    connect(engine, shop.domain, expiring(2), NOW + timedelta(hours=1))
    assert rows_of_outbox(engine, shop.id) == [
        ("check_subscriptions", "pending"),
        ("read_order", "cancelled"),
        ("read_order", "pending"),
        ("check_subscriptions", "pending"),
    ]


def test_what_was_decided_during_the_uninstall_and_cancelled_later_is_due_again(engine: Engine):
    """A drain that had begun before the uninstall is committed after it; two days later the shop is redacted."""
    shop = connect(engine, domain())
    uninstall(engine, shop.domain, at=NOW + timedelta(minutes=1))
    with engine.begin() as connection:
        outbox.put(connection, shop.id, "read_order", "order:1", {"order_id": 1, "why": "test"})
    with engine.begin() as connection:
        installations.forget(connection, shop.id)
    connect(engine, shop.domain, expiring(2), NOW + timedelta(days=3))
    assert ("read_order", "pending") in rows_of_outbox(engine, shop.id)


def test_uninstalling_twice_is_uninstalling_once(engine: Engine):
    shop = connect(engine, domain())
    with engine.begin() as connection:
        installations.forget(connection, shop.id)
    first = row(engine, shop.id)
    with engine.begin() as connection:
        installations.forget(connection, shop.id)
    assert row(engine, shop.id) == first


# ---- scopes


def update_scopes(engine: Engine, shop: ShopRow, current: Any, at: datetime) -> list[str]:
    payload = {"id": 1, "shop_id": "gid://shopify/Shop/77", "previous": [], "current": current}
    return deliver(engine, shop.domain, "app/scopes_update", payload, triggered_at=at)


def test_changed_scopes_are_kept_and_shopify_is_asked(engine: Engine):
    shop = connect(engine, domain())
    outcome = update_scopes(engine, shop, ["read_orders", "read_orders"], NOW + timedelta(minutes=1))
    assert outcome == ["1 scopes granted, to be compared with Shopify's answer"]
    assert row(engine, shop.id)["scopes"] == ["read_orders"]
    assert len(rows_of_outbox(engine, shop.id)) == 2


def test_changed_scopes_of_an_earlier_installation_change_nothing(engine: Engine):
    shop = connect(engine, domain())
    assert "again since" in update_scopes(engine, shop, [], NOW - timedelta(minutes=1))[0]
    assert row(engine, shop.id)["scopes"] != []


@pytest.mark.parametrize("current", [None, "read_orders", [1], {}], ids=str)
def test_scopes_that_are_no_list_are_parked(engine: Engine, current: Any):
    shop = connect(engine, domain())
    outcome = update_scopes(engine, shop, current, NOW + timedelta(minutes=1))
    assert outcome == ["failed: unparseable"]


def test_changed_scopes_of_a_shop_without_a_token_do_nothing(engine: Engine, shop: RegisteredShop):
    told = update_scopes(engine, ShopRow(shop.id, shop.domain, None), [], NOW)
    assert told == ["not connected: nothing to do"]


def test_what_shopify_grants_is_judged_and_heals_by_itself(engine: Engine):
    shop = connect(engine, domain())
    for scopes, reason in (("read_orders", "scopes_missing"), (SCOPES, None)):
        with engine.begin() as connection:
            missing = installations.granted(connection, SETTINGS, shop.id, scopes.split(","))
        assert bool(missing) == bool(reason)
        assert row(engine, shop.id)["reason"] == reason


def test_granted_scopes_do_not_mend_a_token_that_is_dead(engine: Engine):
    shop = connect(engine, domain())
    with engine.begin() as connection:
        installations.needs_merchant(connection, shop.id, "token_revoked")
        installations.granted(connection, SETTINGS, shop.id, SCOPES.split(","))
    assert row(engine, shop.id)["reason"] == "token_revoked"


def test_a_merchant_who_comes_by_mends_it(engine: Engine):
    shop = connect(engine, domain())
    with engine.begin() as connection:
        installations.needs_merchant(connection, shop.id, "refresh_token_expired")
    connect(engine, shop.domain, expiring(2), NOW + timedelta(hours=1))
    assert row(engine, shop.id)["state"] == "active"


# ---- kept alive, and shown


def test_old_refresh_tokens_and_refused_ones_are_due_for_a_refresh(fresh_engine: Engine):
    old = connect(fresh_engine, domain(), now=NOW - timedelta(days=31))
    refused, young = connect(fresh_engine, domain()), connect(fresh_engine, domain())
    lasting = connect(fresh_engine, domain(), LASTING, NOW - timedelta(days=400))
    gone = connect(fresh_engine, domain(), now=NOW - timedelta(days=31))
    with fresh_engine.begin() as connection:
        installations.needs_merchant(connection, refused.id, "token_revoked")
        installations.forget(connection, gone.id)
        due = installations.to_keep_alive(connection, timedelta(days=30))
    assert set(due) == {old.domain, refused.domain}
    assert not {young.domain, lasting.domain} & set(due)


def test_a_shop_of_another_is_untouched_by_all_of_it(engine: Engine):
    shop, other = connect(engine, domain()), connect(engine, domain())
    before = row(engine, other.id), rows_of_outbox(engine, other.id)
    uninstall(engine, shop.domain, at=NOW + timedelta(minutes=1))
    connect(engine, shop.domain, expiring(2), NOW + timedelta(hours=1))
    update_scopes(engine, shop, [], NOW + timedelta(hours=2))
    assert (row(engine, other.id), rows_of_outbox(engine, other.id)) == before


def test_a_registered_shop_without_a_connection_is_not_connected(engine: Engine):
    with engine.begin() as connection:
        assert not installations.is_connected(connection, register(engine).id)


def begins(engine: Engine, name: str) -> datetime | None:
    with engine.connect() as connection:
        statement = text("select earning_from from shops where domain = :domain")
        found: datetime | None = connection.execute(statement, {"domain": name}).scalar_one()
        return found


def test_orders_earn_from_the_first_consent_on_whatever_is_granted_later(engine: Engine) -> None:
    """R17: what was bought before the shop was connected did not earn here."""
    name = domain()
    connect(engine, name, now=NOW)
    connect(engine, name, now=NOW + timedelta(days=3))
    assert begins(engine, name) == NOW


def test_a_shop_that_was_at_work_by_hand_goes_on_earning_when_it_is_connected(
    engine: Engine, shop: RegisteredShop
) -> None:
    with engine.begin() as connection:
        told = [Told(fact=order(10_000), received_at=NOW, cause="inbox:1")]
        settle(open_world(connection, shops.by_id(connection, shop.id), NOW), told)
    connect(engine, shop.domain, now=NOW)
    assert begins(engine, shop.domain) is None
