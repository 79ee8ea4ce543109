"""Webhook subscriptions that this server makes itself: idempotent, self-repairing, and never anybody else's."""

from __future__ import annotations

import secrets
from collections.abc import Callable, Mapping
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st
from sqlalchemy import Engine, text

from app.sandbox.subscriptions import Subscriptions
from models.errors import AccessDenied, NeedsMerchant, OutcomeUnknown, ShopifyThrottled
from models.settings import Settings
from tasks.gateway.oauth import Grant
from tasks.steps import installations, outbox, shops, subscriptions
from tasks.steps.load import ShopRow
from tasks.steps.parse import FACT_TOPICS
from tasks.steps.subscriptions import TOPICS, Subscription, enum_of, plan
from tests.steps.token_server import SCOPES, key

URI = "https://loyalty.example.com/webhooks"
NOW = datetime.now(UTC)
DEFAULT = [topic for topic in TOPICS if not topic.startswith("disputes/")]


def settings(**changes: Any) -> Settings:
    given = {"token_encryption_keys": key("a"), "shopify_app_url": "https://loyalty.example.com"}
    return Settings(**{**given, **changes})


class Admin:
    """Shopify's side of these documents, in small pages. `says`: what happens at a document instead of its answer."""

    def __init__(self) -> None:
        self.held = Subscriptions(lambda: NOW)
        self.scopes = SCOPES.split(",")
        self.asked: list[str] = []
        self.says: dict[str, list[Exception | Callable[[], None]]] = {}

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        self.asked.append(document_name)
        for said in self.says.pop(document_name, [])[:1]:
            if isinstance(said, Exception):
                raise said
            said()
        return getattr(self, document_name)(**variables)

    def current_app_installation(self) -> dict[str, Any]:
        scopes = [{"handle": scope} for scope in self.scopes]
        return {"currentAppInstallation": {"accessScopes": scopes}}

    def webhook_subscriptions(self, after: str | None) -> dict[str, Any]:
        ids = sorted(self.held.all)
        rest = [id for id in ids if after is None or id > int(after)]
        page = {"hasNextPage": len(rest) > 3, "endCursor": str(rest[2]) if len(rest) > 2 else None}
        nodes = [self.held.all[id].shown() for id in rest[:3]]
        return {"webhookSubscriptions": {"nodes": nodes, "pageInfo": page}}

    def webhook_subscription_create(self, topic: str, webhookSubscription: Any) -> dict[str, Any]:
        made, errors = self.held.create(topic, webhookSubscription, "2026-10")
        shown = None if made is None else {"id": made.shown()["id"]}
        return {"webhookSubscriptionCreate": {"webhookSubscription": shown, "userErrors": errors}}

    def webhook_subscription_update(self, id: str, webhookSubscription: Any) -> dict[str, Any]:
        _, errors = self.held.update(number(id), webhookSubscription)
        return {"webhookSubscriptionUpdate": {"webhookSubscription": {"id": id}, "userErrors": errors}}

    def webhook_subscription_delete(self, id: str) -> dict[str, Any]:
        errors = self.held.delete(number(id))
        deleted = None if errors else id
        return {"webhookSubscriptionDelete": {"deletedWebhookSubscriptionId": deleted, "userErrors": errors}}

    def add(self, topic: str, uri: str = URI, **changes: Any) -> int:
        made, errors = self.held.create(enum_of(topic), {"uri": uri, **changes}, "2026-10")
        assert made is not None, errors
        return made.id

    def ours(self) -> list[str]:
        return sorted(
            each.topic for each in self.held.all.values() if each.uri == URI and is_whole(each.shown())
        )

    def changes(self) -> list[str]:
        return [name for name in self.asked if name.startswith("webhook_subscription_")]


def number(gid: str) -> int:
    return int(gid.rpartition("/")[2])


def is_whole(node: Mapping[str, Any]) -> bool:
    return node["format"] == "JSON" and not (node["filter"] or node["includeFields"])


@pytest.fixture
def admin() -> Admin:
    return Admin()


def connect(engine: Engine, ours: Settings, *, expiring: bool = False) -> ShopRow:
    ends = NOW + timedelta(hours=1) if expiring else None
    grant = Grant("shpat_1", tuple(SCOPES.split(",")), ends, "shprt_1" if expiring else None, None)
    with engine.begin() as connection:
        name = f"shop-{secrets.token_hex(6)}.myshopify.com"
        return shops.by_id(connection, installations.record_grant(connection, ours, name, grant, NOW))


def check(engine: Engine, ours: Settings, admin: Admin, shop: ShopRow) -> str:
    """The shop's row of the outbox that is due, worked off as the task does."""
    with engine.begin() as connection:
        outbox.hurry(connection, shop.id)
        query = text("select id from outbox where shop_id = :id and state = 'pending' order by id limit 1")
        id = connection.execute(query, {"id": shop.id}).scalar_one_or_none()
        if id is None:
            outbox.put(connection, shop.id, "check_subscriptions", secrets.token_hex(4), {})
            id = connection.execute(query, {"id": shop.id}).scalar_one()
    return outbox.work(
        engine, shop.domain, id, lambda leased: subscriptions.check(engine, ours, admin, leased)
    )


def recorded(engine: Engine, shop: ShopRow) -> tuple[str | None, bool]:
    query = text(
        "select subscriptions_error, subscriptions_checked_at is not null from installations where shop_id = :id"
    )
    with engine.begin() as connection:
        return tuple(connection.execute(query, {"id": shop.id}).one())


ALL = sorted(map(enum_of, DEFAULT))


def test_every_topic_that_tells_a_fact_is_subscribed_to():
    assert FACT_TOPICS - {"orders/read"} <= set(TOPICS)
    assert not {"customers/redact", "customers/data_request", "shop/redact"} & set(TOPICS), (
        "cannot be asked for"
    )


def test_after_the_installation_all_are_made_and_then_left_alone(engine: Engine, admin: Admin):
    shop = connect(engine, settings())
    assert check(engine, settings(), admin, shop) == f"{len(ALL)} made, 0 changed, 0 deleted"
    assert admin.ours() == ALL
    made = admin.changes()
    assert check(engine, settings(), admin, shop) == "0 made, 0 changed, 0 deleted"
    assert admin.changes() == made and recorded(engine, shop) == (None, True)


def test_what_is_lost_is_made_again(engine: Engine, admin: Admin):
    shop = connect(engine, settings())
    check(engine, settings(), admin, shop)
    for id in list(admin.held.all)[:4]:
        admin.held.delete(id)
    assert check(engine, settings(), admin, shop) == "4 made, 0 changed, 0 deleted"
    assert admin.ours() == ALL


@pytest.mark.parametrize(
    "wrong",
    [
        pytest.param({"format": "XML"}, id="another format"),
        pytest.param({"filter": "total_price:>100"}, id="filtered"),
        pytest.param({"includeFields": ["id"]}, id="trimmed"),
        pytest.param({"metafieldNamespaces": ["custom"]}, id="with metafields"),
    ],
)
def test_what_is_wrong_is_set_right(engine: Engine, admin: Admin, wrong: dict[str, Any]):
    admin.add("refunds/create", **wrong)
    shop = connect(engine, settings())
    check(engine, settings(), admin, shop)
    assert admin.ours() == ALL and len(admin.held.all) == len(ALL)
    assert recorded(engine, shop) == (None, True)


def test_what_is_there_twice_goes_and_the_whole_one_stays(engine: Engine, admin: Admin):
    admin.add("refunds/create", filter="id:1")
    whole = admin.add("refunds/create")
    admin.add("refunds/create", filter="id:2")
    shop = connect(engine, settings())
    assert check(engine, settings(), admin, shop).endswith("0 changed, 2 deleted")
    assert whole in admin.held.all and admin.ours() == ALL


def test_other_subscriptions_are_never_touched(engine: Engine, admin: Admin):
    others = [
        admin.add("refunds/create", "https://another.example.com/webhooks"),
        admin.add("refunds/create", URI + "/other", filter="id:1"),
        admin.add("products/update", URI),
        admin.add("orders/paid", "pubsub://project:topic"),
    ]
    before = {id: admin.held.all[id].shown() for id in others}
    check(engine, settings(), admin, connect(engine, settings()))
    assert {id: admin.held.all[id].shown() for id in others} == before


def test_an_address_with_a_slash_at_its_end_is_ours_and_set_right(engine: Engine, admin: Admin):
    admin.add("refunds/create", URI + "/")
    assert "1 changed" in check(engine, settings(), admin, connect(engine, settings()))
    assert admin.ours() == ALL


def test_topics_that_the_scopes_do_not_allow_are_not_asked_for(engine: Engine, admin: Admin):
    admin.scopes = ["read_orders", "read_shopify_payments_disputes"]
    shop = connect(engine, settings())
    said = check(engine, settings(), admin, shop)
    assert "DISPUTES_CREATE" in admin.ours() and "CUSTOMERS_MERGE" not in admin.ours()
    assert "scopes missing" in said
    with engine.begin() as connection:
        held = installations.read(connection, shop.id)
    assert held is not None and (held.reason, held.scopes) == ("scopes_missing", tuple(sorted(admin.scopes)))


@pytest.mark.parametrize(
    ("registration", "expiring", "made"),
    [
        ("auto", False, True),
        ("auto", True, False),
        ("shop", True, True),
        ("app", False, False),
    ],
    ids=str,
)
def test_who_subscribes_is_a_setting(
    engine: Engine, admin: Admin, registration: str, expiring: bool, made: bool
):
    ours = settings(webhook_registration=registration)
    shop = connect(engine, ours, expiring=expiring)
    said = check(engine, ours, admin, shop)
    assert bool(admin.held.all) == made
    assert made or said == "the app's own subscriptions serve it"


def test_what_shopify_refuses_is_kept_and_the_rest_is_made(engine: Engine, admin: Admin):
    ours = settings(shopify_app_url="https://loyalty.internal")
    shop = connect(engine, ours)
    check(engine, ours, admin, shop)
    error, checked = recorded(engine, shop)
    assert error is not None and "refunds/create: Address cannot be a Shopify or an internal domain" in error
    assert checked
    check(engine, settings(), admin, shop)
    assert recorded(engine, shop) == (None, True)


def test_without_an_address_of_our_own_nothing_is_asked_for_and_the_setting_is_named(
    engine: Engine, admin: Admin
):
    ours = settings(shopify_app_url="")
    shop = connect(engine, ours)
    assert check(engine, ours, admin, shop) == "later: invalid_setting"
    assert "SHOPIFY_APP_URL" in (recorded(engine, shop)[0] or "")
    assert not admin.changes()


def test_a_denied_call_is_kept_as_the_error(engine: Engine, admin: Admin):
    shop = connect(engine, settings())
    admin.says["webhook_subscription_create"] = [AccessDenied("webhook_subscription_create: not approved")]
    assert check(engine, settings(), admin, shop) == "failed: access_denied"
    assert "not approved" in (recorded(engine, shop)[0] or "")


@pytest.mark.parametrize(
    ("document", "trouble", "outcome"),
    [
        ("current_app_installation", ShopifyThrottled(1.0), "later: shopify_throttled"),
        ("current_app_installation", NeedsMerchant("a-shop", "token_revoked"), "later: needs_merchant"),
        ("webhook_subscription_create", OutcomeUnknown("no answer"), "later: outcome_unknown"),
    ],
    ids=str,
)
def test_trouble_is_tried_again_and_comes_to_the_same(
    engine: Engine, admin: Admin, document: str, trouble: Exception, outcome: str
):
    shop = connect(engine, settings())
    admin.says[document] = [trouble]
    assert check(engine, settings(), admin, shop) == outcome
    check(engine, settings(), admin, shop)
    assert admin.ours() == ALL and recorded(engine, shop) == (None, True)


def test_a_subscription_made_without_a_word_is_found_and_not_made_twice(engine: Engine, admin: Admin):
    shop = connect(engine, settings())

    def done_but_unanswered() -> None:
        admin.add("app/scopes_update")
        raise OutcomeUnknown("no answer")

    admin.says["webhook_subscription_create"] = [done_but_unanswered]
    check(engine, settings(), admin, shop)
    check(engine, settings(), admin, shop)
    assert admin.ours() == ALL and len(admin.held.all) == len(ALL)


def test_two_checks_at_once_make_each_once(engine: Engine, admin: Admin):
    shop = connect(engine, settings())

    def another_was_faster() -> None:
        admin.add("app/scopes_update")
        admin.add("app/uninstalled")

    admin.says["webhook_subscription_create"] = [another_was_faster]
    check(engine, settings(), admin, shop)
    assert admin.ours() == ALL and len(admin.held.all) == len(ALL)
    assert recorded(engine, shop) == (None, True)


def test_the_daily_job_asks_once_a_shop_and_day(fresh_engine: Engine, admin: Admin):
    shop, other = connect(fresh_engine, settings()), connect(fresh_engine, settings())
    gone, dead = connect(fresh_engine, settings()), connect(fresh_engine, settings())
    with fresh_engine.begin() as connection:
        installations.forget(connection, gone.id)
        installations.needs_merchant(connection, dead.id, "token_revoked")
    assert subscriptions.ask_daily(fresh_engine) == 0, "every shop waits for its first check"
    for each in (shop, other):
        check(fresh_engine, settings(), admin, each)
    assert subscriptions.ask_daily(fresh_engine) == 0, "they were checked just now"
    with fresh_engine.begin() as connection:
        connection.execute(
            text(
                "update installations set subscriptions_checked_at = now() - interval '1 day' where shop_id = :id"
            ),
            {"id": shop.id},
        )
    assert subscriptions.ask_daily(fresh_engine) == 1
    assert subscriptions.ask_daily(fresh_engine) == 0
    check(fresh_engine, settings(), admin, shop)
    with fresh_engine.begin() as connection:
        query = text("select shop_id from outbox where state = 'pending'")
        assert connection.execute(query).scalars().all() == [dead.id]


some = st.builds(
    Subscription,
    id=st.integers(1, 40).map(lambda n: f"gid://shopify/WebhookSubscription/{n}"),
    topic=st.sampled_from(["orders/paid", "refunds/create", "orders/edited", "PRODUCTS_UPDATE"]),
    uri=st.sampled_from([URI, URI + "/", "https://another.example.com/webhooks"]),
    is_whole=st.booleans(),
)


@given(st.lists(some, unique_by=lambda each: each.id, max_size=8))
def test_a_plan_carried_out_leaves_nothing_to_do_and_others_as_they_were(found: list[Subscription]):
    topics = ["orders/paid", "refunds/create"]
    todo = plan(found, URI, topics)
    gone, mended = {each.id for each in todo.extra}, {each.id for each in todo.wrong}
    after = [
        each if each.id not in mended else Subscription(each.id, each.topic, URI, True)
        for each in found
        if each.id not in gone
    ]
    after += [Subscription(f"new {topic}", topic, URI, True) for topic in todo.missing]
    assert not plan(after, URI, topics)
    others = [each for each in found if each.topic not in topics or each.uri.startswith("https://another")]
    assert [each for each in after if each in others] == others
    assert not mended & gone
