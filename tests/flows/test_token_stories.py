"""Stories of tokens, told over HTTP with the gateway's own client and a pretend Shopify that rotates and refuses."""

from __future__ import annotations

import json
import os
import secrets
import signal
import subprocess
import sys
import time
from collections.abc import Callable, Iterator
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import redis
from sqlalchemy import Engine, text

from models.errors import NeedsMerchant, ShopifyUnreachable
from models.settings import Settings, load_settings
from tasks.gateway import oauth
from tasks.gateway.client import Connections, Shopify
from tasks.gateway.tokens import StoredTokens
from tasks.steps import installations, outbox, shops, subscriptions
from tasks.steps.drain import drain
from tasks.steps.load import ShopRow
from tests.pretend import PretendShopify, pretend_shopify
from tests.steps.token_server import key
from worker.celery_settings import make_sender

PATIENCE_SECONDS = 40.0
ONE, OTHER = (f"one-{secrets.token_hex(5)}.myshopify.com", f"other-{secrets.token_hex(5)}.myshopify.com")


class World(NamedTuple):
    """Two shops at a pretend Shopify, and the product's way to it, on the same clock."""

    shopify: PretendShopify
    engine: Engine
    settings: Settings
    tokens: StoredTokens
    gateway: Shopify

    def install(self, domain: str = ONE, **more: Any) -> ShopRow:
        """The merchant consents, with a code or, for a custom app, with a token that does not expire."""
        granted = self.shopify.grant_for(domain, **more)
        post: oauth.PostForm = lambda url, fields: (200, granted)  # noqa: E731 - the answer that the store gave
        grant = oauth.exchange_code(post, self.settings, domain, "a-code")
        with self.engine.begin() as connection:
            at = self.shopify.clock()
            return shops.by_id(
                connection, installations.record_grant(connection, self.settings, domain, grant, at)
            )

    def call(self, shop: ShopRow) -> list[str]:
        return subscriptions.granted_scopes(self.gateway, shop)

    def refreshes(self, domain: str = ONE) -> int:
        return self.shopify.calls(domain).count("access_token")

    def row(self, shop: ShopRow) -> dict[str, Any]:
        query = text("select * from installations where shop_id = :id")
        with self.engine.begin() as connection:
            return dict(connection.execute(query, {"id": shop.id}).one()._mapping)


@pytest.fixture
def world(fresh_engine: Engine) -> Iterator[World]:
    with pretend_shopify(ONE, OTHER) as shopify:
        ours = load_settings(
            None,
            **shopify.settings(token_encryption_keys=key("a"), shopify_app_url="https://loyalty.example.com"),
        )
        connections = Connections(ours)
        tokens = StoredTokens(fresh_engine, ours, connections.post_form, clock=shopify.clock)
        gateway = Shopify(ours, tokens, connections=connections, sleep=lambda seconds: None)
        yield World(shopify, fresh_engine, ours, tokens, gateway)


def test_a_day_of_calls_is_a_refresh_an_hour(world: World):
    shop = world.install()
    for _ in range(24):
        world.shopify.clock.advance(hours=1)
        assert "read_orders" in world.call(shop) and world.call(shop)
    assert world.refreshes() == 24


def test_an_answer_that_got_lost_is_asked_for_again(world: World):
    shop = world.install()
    for _ in range(3):
        world.shopify.clock.advance(hours=1)
        world.shopify.faults(ONE).add("lost", only="access_token")
        with pytest.raises(ShopifyUnreachable):
            world.tokens.token(shop)
        assert world.call(shop), "the just-used refresh token was taken again"


def test_an_access_token_that_was_revoked_is_replaced_within_the_call(world: World):
    shop = world.install()
    world.shopify.front(ONE).access.revoke(world.tokens.token(shop))
    assert world.call(shop) and world.refreshes() == 1


def test_a_silent_uninstall_is_noticed_recorded_and_mended_by_the_merchant(world: World):
    shop = world.install()
    world.shopify.front(ONE).access.uninstall()
    for _ in range(3):
        with pytest.raises(NeedsMerchant, match="token_revoked"):
            world.call(shop)
    assert world.row(shop)["reason"] == "token_revoked"
    assert world.refreshes() == 1, "asked once, not at every call"
    world.shopify.clock.advance(minutes=5)
    world.install()
    assert world.call(shop) and world.row(shop)["reason"] is None


def test_a_custom_apps_token_that_was_revoked_needs_somebody(world: World):
    shop = world.install(expiring=False)
    assert world.call(shop)
    world.shopify.front(ONE).access.revoke(world.tokens.token(shop))
    with pytest.raises(NeedsMerchant, match="token_revoked"):
        world.call(shop)
    assert world.row(shop)["state"] == "needs_merchant"


def test_a_shop_that_is_silent_for_a_quarter_loses_its_token(world: World):
    shop = world.install()
    world.shopify.clock.advance(days=91)
    with pytest.raises(NeedsMerchant, match="refresh_token_expired"):
        world.call(shop)
    assert world.row(shop)["reason"] == "refresh_token_expired"


def test_the_daily_job_keeps_a_silent_shop_for_ever(world: World):
    shop = world.install()
    for _ in range(12):
        world.shopify.clock.advance(days=31)
        assert world.tokens.kept_alive(shop) == "refreshed"
    assert world.call(shop) and world.refreshes() == 12


def test_secrets_are_rotated_while_shops_work(world: World):
    shop = world.install()
    old = world.shopify.application.secrets[0]
    both = world.settings.model_copy(
        update={"shopify_api_secret": load_settings(None, shopify_api_secret=f"new,{old}").shopify_api_secret}
    )
    tokens = StoredTokens(world.engine, both, Connections(both).post_form, clock=world.shopify.clock)
    for live in (["new", old], ["new"], [old]):
        world.shopify.application.secrets[:] = live
        world.shopify.clock.advance(hours=1)
        assert tokens.token(shop)


def test_two_shops_in_turn_each_call_with_their_own(world: World):
    one, other = world.install(ONE), world.install(OTHER, scopes=["read_orders", "write_discounts"])
    for turn in range(12):
        world.shopify.clock.advance(minutes=31)
        assert ("read_returns" in world.call(one)) and ("read_returns" not in world.call(other))
        if turn % 4 == 3:
            world.shopify.front(ONE).access.revoke(world.tokens.token(one))
    world.shopify.front(ONE).access.uninstall()
    with pytest.raises(NeedsMerchant):
        world.call(one)
    assert world.call(other), "what happens to one does nothing to the other"


def deliver(world: World, topic: str, payload: Any) -> list[str]:
    values = {
        "domain": ONE,
        "topic": topic,
        "body": json.dumps(payload).encode(),
        "id": secrets.token_hex(6),
        "at": world.shopify.clock().isoformat(),
    }
    with world.engine.begin() as connection:
        connection.execute(
            text(
                "insert into inbox (shop_domain, topic, webhook_id, body, triggered_at)"
                " values (:domain, :topic, :id, :body, :at)"
            ),
            values,
        )
    return drain(world.engine, ONE).outcomes


def work_off(world: World) -> list[str]:
    return [
        outbox.work(
            world.engine,
            ONE,
            ring.arguments["outbox_id"],
            lambda leased: subscriptions.check(world.engine, world.settings, world.gateway, leased),
        )
        for ring in outbox.due(world.engine)
    ]


def test_scopes_are_what_shopify_says_whatever_a_webhook_said(world: World):
    shop = world.install()
    work_off(world)
    world.shopify.clock.advance(minutes=1)
    told = {"id": 1, "shop_id": "gid://shopify/Shop/9", "previous": [], "current": ["read_orders"]}
    deliver(world, "app/scopes_update", told)
    assert world.row(shop)["scopes"] == ["read_orders"]
    work_off(world)
    assert "write_discounts" in world.row(shop)["scopes"], "it was a late one, or a forged one"
    world.shopify.front(ONE).access.granted = ("read_orders",)
    deliver(world, "app/scopes_update", told)
    work_off(world)
    assert world.row(shop)["reason"] == "scopes_missing"
    world.shopify.front(ONE).access.granted = world.settings.shopify_scopes
    deliver(world, "app/scopes_update", {**told, "current": list(world.settings.shopify_scopes)})
    work_off(world)
    assert world.row(shop)["state"] == "active"


def test_a_custom_app_is_subscribed_at_the_shop_and_again_what_shopify_deleted(world: World):
    shop = world.install(expiring=False)
    (made,) = work_off(world)
    held = world.shopify.front(ONE).subscriptions.all
    assert made == f"{len(held)} made, 0 changed, 0 deleted" and len(held) == 10
    held.clear()
    with world.engine.begin() as connection:
        outbox.put(connection, shop.id, "check_subscriptions", "again", {})
    assert work_off(world) == [made] and len(held) == 10


# ---- the worker itself


@pytest.fixture
def worker(world: World, redis_url: str, tmp_path: Path) -> Iterator[Path]:
    """A worker's process on these servers; its log."""
    ours = world.settings.model_copy(
        update={
            "database_url": world.engine.url.render_as_string(hide_password=False),
            "redis_url": redis_url,
        }
    )
    command = "-m celery -A worker.celery_app worker -Q events,outbox,sweeps -c 1 -l INFO --without-gossip"
    log = tmp_path / "worker.log"
    with log.open("w") as out:
        child = subprocess.Popen(
            [sys.executable, *command.split(), "--without-mingle"],
            env={**os.environ, **ours.environment()},
            stdout=out,
            stderr=out,
        )
        yield log
        child.send_signal(signal.SIGTERM)
        try:
            child.wait(PATIENCE_SECONDS)
        finally:
            child.kill()
            child.wait()


def until(found: Callable[[], bool]) -> None:
    end = time.monotonic() + PATIENCE_SECONDS
    while not found():
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.05)


def test_what_runs_by_the_clock_refreshes_and_checks_and_shows_no_token_anywhere(
    world: World, worker: Path, redis_url: str
):
    shop = world.install()
    with world.engine.begin() as connection:
        connection.execute(text("update installations set obtained_at = now() - interval '40 days'"))
    before = world.row(shop)
    send = make_sender(redis_url).send_task
    seen = b""
    with redis.Redis.from_url(redis_url) as client:
        for task, queue in (
            ("tokens.keep_alive", "outbox"),
            ("subscriptions.daily", "outbox"),
            ("outbox.ring", "sweeps"),
        ):
            send(task, queue=queue, ignore_result=True)
            seen += b"".join(client.dump(name) or b"" for name in client.scan_iter())
        until(lambda: world.row(shop)["refreshed_at"] is not None)
        until(lambda: world.row(shop)["subscriptions_checked_at"] is not None)
        seen += b"".join(client.dump(name) or b"" for name in client.scan_iter())
    after = world.row(shop)
    assert after["refresh_token"] != before["refresh_token"] and after["state"] == "active"
    said = worker.read_text() + seen.decode("latin-1")
    assert "tokens.refresh" in said and "subscriptions.check" in said
    secret = world.shopify.application.secrets[0]
    for token in (world.tokens.token(shop), secret, "shpat_", "shprt_", key("a")):
        assert token not in said
