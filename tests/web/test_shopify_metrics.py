"""The figures of calls to Shopify, from the call to the scrape."""

from __future__ import annotations

import json

import pytest
from redis import Redis
from werkzeug import Response

from models.errors import ShopifyThrottled
from models.settings import Settings
from tasks.gateway.budget import Budget
from tasks.gateway.client import Shopify
from tasks.gateway.counts import Counts
from tasks.gateway.tokens import GivenToken
from tasks.steps.load import ShopRow

SHOP = ShopRow(7, "metrics-tests.myshopify.com", "EUR")


@pytest.fixture
def shopify(redis_url, httpserver):
    """What the store answers, and the gateway that asks it."""
    answers = []
    httpserver.expect_request("/admin/api/2026-10/graphql.json").respond_with_handler(
        lambda _: answers.pop(0)
    )
    settings = Settings(shopify_base_url=httpserver.url_for("").rstrip("/"))
    token = GivenToken(SHOP.domain, "a-token")
    with Redis.from_url(redis_url) as redis:
        yield answers, Shopify(settings, token, Budget(redis), counts=Counts(redis))


def figures(client, name):
    lines = client.get("/metrics").text.splitlines()
    return {
        key: float(value)
        for key, _, value in (line.rpartition(" ") for line in lines)
        if key.startswith(name)
    }


def test_calls_to_shopify_are_counted_by_document_and_result(client, shopify):
    answers, gateway = shopify
    found = {"data": {"shop": {"currencyCode": "EUR"}}}
    refused = {"data": {"discountCodeDelete": {"userErrors": [{"field": ["id"], "message": "no"}]}}}
    answers += [Response(json.dumps(body)) for body in (found, found, refused)]
    gateway.run(SHOP, "shop", {})
    gateway.run(SHOP, "shop", {})
    gateway.run(SHOP, "discount_delete", {"id": "gid://x/1"})
    assert figures(client, "unwind_shopify_calls_total") == {
        'unwind_shopify_calls_total{operation="shop",result="ok"}': 2,
        'unwind_shopify_calls_total{operation="discount_delete",result="user_errors"}': 1,
    }


def test_throttled_calls_are_counted(client, shopify):
    answers, gateway = shopify
    answers.append(Response("", 429, {"Retry-After": "60"}))
    with pytest.raises(ShopifyThrottled):
        gateway.run(SHOP, "shop", {})
    assert figures(client, "unwind_shopify_throttled_total") == {"unwind_shopify_throttled_total": 1}


def test_without_a_broker_the_other_figures_are_still_there(app_with):
    client = app_with(redis_url="redis://127.0.0.1:1/0").test_client()
    assert figures(client, "unwind_broker_up") == {"unwind_broker_up": 0}
    assert figures(client, "unwind_shopify") == {}
    assert figures(client, "unwind_database_up") == {"unwind_database_up": 1}
