"""The pretend store's Admin API: orders as its webhooks tell them, limits, faults, subscriptions, bulk files, many shops."""

from __future__ import annotations

import json
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
import requests

from app.sandbox.payloads import body_of, order_payload
from app.sandbox.records import Customer
from tests.pretend import PretendShopify, pretend_shopify

NOON = datetime(2026, 11, 21, 12, 0, tzinfo=UTC)
SHOP = "query Shop { shop { myshopifyDomain } }"
ORDERS = """
query Orders($first: Int!, $after: String, $query: String) {
  orders(first: $first, after: $after, query: $query, sortKey: UPDATED_AT) {
    nodes { legacyResourceId updatedAt }
    pageInfo { hasNextPage endCursor }
  }
}
"""
ORDER = """
query Order($id: ID!) {
  order(id: $id) {
    legacyResourceId displayFinancialStatus totalPriceSet { shopMoney { amount } }
    customer { id }
    lineItems(first: 9) { nodes { id currentQuantity discountAllocations {
      allocatedAmountSet { shopMoney { amount } } discountApplication { index } } } }
    discountApplications(first: 9) { nodes { index ... on DiscountCodeApplication { code } } }
    transactions { id kind status amountSet { shopMoney { amount } } }
    refunds { legacyResourceId
      refundLineItems(first: 9) { nodes { quantity subtotalSet { shopMoney { amount } } } }
      orderAdjustments(first: 9) { nodes { reason amountSet { shopMoney { amount } } } }
      transactions(first: 9) { nodes { kind status } } }
  }
}
"""


@pytest.fixture
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify("lamps.myshopify.com", "mugs.myshopify.com") as found:
        found.clock.set(NOON)
        yield found


def call(
    shopify: PretendShopify, query: str, token: str | None = None, /, **variables: Any
) -> dict[str, Any]:
    answer = shopify.graphql(query, variables, token=token or shopify.token_for())
    assert answer.status_code == 200, answer.text
    return answer.json()


def gid(kind: str, id: int) -> str:
    return f"gid://shopify/{kind}/{id}"


# -- orders ----------------------------------------------------------------------------------------------------------


def test_an_order_is_as_its_webhooks_tell_it(shopify: PretendShopify) -> None:
    ada = shopify.customer()
    order = shopify.buy("LOYAL", customer=ada, price_minor=1000, quantity=3, amount_minor=500)
    shopify.store.refund(order, units=[(order.items[0], 1)], amount_minor=900)
    told = json.loads(body_of(order_payload(order)))
    shown = call(shopify, ORDER, id=gid("Order", order.id))["data"]["order"]
    assert shown["legacyResourceId"] == str(told["id"])
    assert shown["displayFinancialStatus"] == told["financial_status"].upper() == "PARTIALLY_REFUNDED"
    assert shown["totalPriceSet"]["shopMoney"]["amount"] == "25.0"
    assert shown["customer"] == {"id": told["customer"]["admin_graphql_api_id"]}
    [line], [told_line] = shown["lineItems"]["nodes"], told["line_items"]
    assert (line["id"], line["currentQuantity"]) == (told_line["admin_graphql_api_id"], 2)
    [share] = line["discountAllocations"]
    assert share["allocatedAmountSet"]["shopMoney"]["amount"] == "5.0"
    assert share["discountApplication"]["index"] == 0
    assert shown["discountApplications"]["nodes"] == [{"index": 0, "code": "LOYAL"}]
    assert [t["kind"] for t in shown["transactions"]] == ["SALE", "REFUND"]
    [refund], [told_refund] = shown["refunds"], told["refunds"]
    assert refund["legacyResourceId"] == str(told_refund["id"])
    assert refund["refundLineItems"]["nodes"][0]["quantity"] == 1
    [adjustment] = refund["orderAdjustments"]["nodes"]
    assert adjustment["reason"] == "REFUND_DISCREPANCY"
    assert refund["transactions"]["nodes"] == [{"kind": "REFUND", "status": "SUCCESS"}]


def test_orders_are_read_page_by_page_by_their_last_change(shopify: PretendShopify) -> None:
    made = [shopify.buy(at=NOON - timedelta(hours=hours)) for hours in (5, 4, 3, 2, 1)]
    since = (NOON - timedelta(hours=4, minutes=30)).isoformat()
    seen, after = [], None
    while True:
        page = call(shopify, ORDERS, first=2, after=after, query=f"updated_at:>='{since}'")["data"]["orders"]
        seen += [node["legacyResourceId"] for node in page["nodes"]]
        if not page["pageInfo"]["hasNextPage"]:
            break
        after = page["pageInfo"]["endCursor"]
    assert seen == [str(order.id) for order in made[1:]]


def test_an_order_that_changes_between_two_pages_is_seen_again_and_none_is_missed(
    shopify: PretendShopify,
) -> None:
    made = [shopify.buy(at=NOON - timedelta(hours=hours)) for hours in (5, 4, 3)]
    first = call(shopify, ORDERS, first=1)["data"]["orders"]
    with shopify.front().act() as store:
        store.clock = lambda: NOON
        store.refund(made[0], amount_minor=100)
    rest = call(shopify, ORDERS, first=9, after=first["pageInfo"]["endCursor"])["data"]["orders"]
    assert [node["legacyResourceId"] for node in rest["nodes"]] == [
        str(order.id) for order in (made[1], made[2], made[0])
    ]


def test_orders_of_more_than_sixty_days_ago_are_seen_only_by_those_who_may(shopify: PretendShopify) -> None:
    order = shopify.buy(at=NOON - timedelta(days=61))
    usual = shopify.token_for(scopes=("read_orders",))
    assert call(shopify, ORDERS, usual, first=9)["data"]["orders"]["nodes"] == []
    short = "query Order($id: ID!) { order(id: $id) { id } }"
    assert call(shopify, short, usual, id=gid("Order", order.id))["data"] == {"order": None}
    everything = shopify.token_for(scopes=("read_orders", "read_all_orders"))
    assert call(shopify, short, everything, id=gid("Order", order.id))["data"]["order"] is not None


def test_a_field_without_its_scope_is_null_beside_an_error(shopify: PretendShopify) -> None:
    order = shopify.buy(customer=shopify.customer())
    token = shopify.token_for(scopes=("read_orders",))
    query = "query Order($id: ID!) { order(id: $id) { name customer { id } } }"
    answer = call(shopify, query, token, id=gid("Order", order.id))
    assert answer["data"] == {"order": {"name": order.name, "customer": None}}
    [error] = answer["errors"]
    assert error["extensions"]["code"] == "ACCESS_DENIED"
    assert error["path"] == ["order", "customer"]


def test_a_write_scope_lets_one_read(shopify: PretendShopify) -> None:
    query = 'query ByCode { codeDiscountNodeByCode(code: "NONE") { id } }'
    assert "errors" not in call(shopify, query, shopify.token_for(scopes=("write_discounts",)))
    [error] = call(shopify, query, shopify.token_for(scopes=("read_orders",)))["errors"]
    assert error["extensions"]["requiredAccess"] == "`read_discounts` access scope."


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("query { nothing }", id="no such field"),
        pytest.param("query {", id="no document"),
        pytest.param("query { orders(first: 251) { nodes { id } } }", id="too many"),
        pytest.param("query { orders { nodes { id } } }", id="a connection without a length"),
        pytest.param('query { orders(first: 1, after: "x") { nodes { id } } }', id="a foreign cursor"),
        pytest.param('query { order(id: "gid://shopify/Customer/1") { id } }', id="another thing's id"),
    ],
)
def test_what_does_not_fit_is_an_error_under_200(shopify: PretendShopify, query: str) -> None:
    assert call(shopify, query)["errors"]


# -- limits and faults -----------------------------------------------------------------------------------------------


def test_every_answer_says_what_it_cost_and_what_is_left(shopify: PretendShopify) -> None:
    cost = call(shopify, SHOP)["extensions"]["cost"]
    assert cost == {
        "requestedQueryCost": 1,
        "actualQueryCost": 1,
        "throttleStatus": {"maximumAvailable": 2000, "currentlyAvailable": 1999, "restoreRate": 100},
    }


@pytest.mark.parametrize(
    ("query", "most"),
    [
        pytest.param("query { shop { id plan { shopifyPlus } } }", 2, id="objects"),
        pytest.param(
            "query { orders(first: 10) { nodes { id totalPriceSet { shopMoney { amount } } } } }", 6, id="ten"
        ),
        pytest.param(
            "query { orders(first: 50) { edges { node { id } } pageInfo { hasNextPage } } }", 9, id="fifty"
        ),
        pytest.param(
            "query { orders(first: 5) { nodes { id refunds { id } lineItems(first: 10) { nodes { id } } } } }",
            2 + 3 * (1 + 1 + 6),
            id="pages in a page",
        ),
        pytest.param(
            'mutation { discountCodeDelete(id: "gid://shopify/DiscountCodeNode/1") { userErrors { code } } }',
            10,
            id="a mutation",
        ),
    ],
)
def test_a_call_costs_as_recorded_calls_did(shopify: PretendShopify, query: str, most: int) -> None:
    cost = call(shopify, query)["extensions"]["cost"]
    assert cost["requestedQueryCost"] == most
    assert cost["throttleStatus"]["currentlyAvailable"] == 2000 - cost["actualQueryCost"]


def test_an_empty_bucket_refuses_under_200_and_fills_with_time(shopify: PretendShopify) -> None:
    token = shopify.token_for()
    shopify.front().bucket.drain()
    answer = call(shopify, SHOP, token)
    assert answer["data"] is None
    assert answer["errors"][0]["extensions"]["code"] == "THROTTLED"
    assert answer["extensions"]["cost"]["actualQueryCost"] is None
    assert answer["extensions"]["cost"]["throttleStatus"]["currentlyAvailable"] == 0
    shopify.clock.advance(seconds=1)
    assert call(shopify, SHOP, token)["data"]


@pytest.mark.parametrize("status", [200, 429])
def test_a_store_can_refuse_for_a_while(shopify: PretendShopify, status: int) -> None:
    token = shopify.token_for()
    shopify.faults().throttle(shopify.clock(), 60, status=status)
    answer = shopify.graphql(SHOP, token=token)
    assert answer.status_code == status
    assert (status == 429) == ("Retry-After" in answer.headers)
    shopify.clock.advance(seconds=61)
    assert call(shopify, SHOP, token)["data"]


def test_an_answer_can_be_lost_after_its_effect_or_before_it(shopify: PretendShopify) -> None:
    token = shopify.token_for()
    create = (
        "mutation Create($code: String!) { discountCodeBasicCreate(basicCodeDiscount: {code: $code,"
        ' startsAt: "2026-11-01T00:00:00Z", customerGets: {value: {percentage: 0.1}, items: {all: true}}})'
        " { userErrors { code } } }"
    )
    for kind, code in (("lost", "DONE"), ("refuse", "NOT-DONE")):
        shopify.faults().add(kind, only="Create")
        with pytest.raises(requests.ConnectionError):
            shopify.graphql(create, {"code": code}, token=token)
    assert shopify.store.codes.find("DONE")
    assert not shopify.store.codes.find("NOT-DONE")
    assert shopify.calls() == ["Create", "Create"]


def test_a_fault_hits_the_operation_that_is_named_and_as_often_as_asked(shopify: PretendShopify) -> None:
    token = shopify.token_for()
    shopify.faults().add("status", only="Shop", status=503, times=2)
    assert call(shopify, "query Other { shop { id } }", token)["data"]
    statuses = [shopify.graphql(SHOP, token=token).status_code for _ in range(3)]
    assert statuses == [503, 503, 200]


def test_a_slow_answer_is_late(shopify: PretendShopify) -> None:
    token = shopify.token_for()
    shopify.faults().add("slow", seconds=0.5)
    with pytest.raises(requests.Timeout):
        requests.post(
            f"{shopify.url}/admin/api/2026-10/graphql.json",
            json={"query": SHOP},
            headers={"X-Shopify-Access-Token": token},
            timeout=0.1,
        )


def test_a_token_that_is_nobodys_is_refused_as_shopify_does(shopify: PretendShopify) -> None:
    answer = shopify.graphql(SHOP, token="shpat_nobody")
    assert answer.status_code == 401
    assert answer.json()["errors"].startswith("[API] Invalid API key or access token")


# -- many stores -----------------------------------------------------------------------------------------------------


def test_each_store_has_its_own_orders_tokens_and_limits(shopify: PretendShopify) -> None:
    mugs = "mugs.myshopify.com"
    shopify.buy()
    token, other = shopify.token_for(), shopify.token_for(mugs)
    assert shopify.graphql(SHOP, token=token, domain=mugs).status_code == 401
    shown = shopify.graphql(SHOP, token=other, domain=mugs).json()
    assert shown["data"]["shop"]["myshopifyDomain"] == mugs
    assert (
        shopify.graphql(ORDERS, {"first": 9}, token=other, domain=mugs).json()["data"]["orders"]["nodes"]
        == []
    )
    assert requests.get(f"{shopify.url}/{mugs}/control/orders", timeout=5).json() == {"orders": []}
    assert requests.get(f"{shopify.url}/nobody.myshopify.com/control/orders", timeout=5).status_code == 404


def test_the_first_store_answers_without_a_name_too(shopify: PretendShopify) -> None:
    url = f"{shopify.url}/admin/api/2026-10/graphql.json"
    headers = {"X-Shopify-Access-Token": shopify.token_for()}
    answer = requests.post(url, json={"query": SHOP}, headers=headers, timeout=5).json()
    assert answer["data"]["shop"]["myshopifyDomain"] == shopify.domain


# -- subscriptions ---------------------------------------------------------------------------------------------------

SUBSCRIBE = """
mutation Subscribe($topic: WebhookSubscriptionTopic!, $input: WebhookSubscriptionInput!) {
  webhookSubscriptionCreate(topic: $topic, webhookSubscription: $input) {
    webhookSubscription { id topic uri } userErrors { field message } }
}
"""
CHANGE = """
mutation Change($id: ID!, $input: WebhookSubscriptionInput!) {
  webhookSubscriptionUpdate(id: $id, webhookSubscription: $input) {
    webhookSubscription { uri includeFields } userErrors { field message } }
}
"""
END = "mutation End($id: ID!) { webhookSubscriptionDelete(id: $id) { deletedWebhookSubscriptionId userErrors { message } } }"
ALL = "query All { webhookSubscriptions(first: 9) { nodes { topic uri } } }"


def subscribed(shopify: PretendShopify, uri: str, topic: str = "REFUNDS_CREATE") -> dict[str, Any]:
    answer = call(shopify, SUBSCRIBE, topic=topic, input={"uri": uri})
    return answer["data"]["webhookSubscriptionCreate"]


def test_a_subscription_is_made_changed_listed_and_ended(shopify: PretendShopify) -> None:
    made = subscribed(shopify, "https://unwind.example/webhooks")
    id = made["webhookSubscription"]["id"]
    changed = call(
        shopify, CHANGE, id=id, input={"uri": "https://unwind.example/new", "includeFields": ["id"]}
    )
    assert changed["data"]["webhookSubscriptionUpdate"]["webhookSubscription"]["includeFields"] == ["id"]
    listed = call(shopify, ALL)["data"]["webhookSubscriptions"]["nodes"]
    assert listed == [{"topic": "REFUNDS_CREATE", "uri": "https://unwind.example/new"}]
    assert (
        call(shopify, END, id=id)["data"]["webhookSubscriptionDelete"]["deletedWebhookSubscriptionId"] == id
    )
    gone = call(shopify, END, id=id)["data"]["webhookSubscriptionDelete"]
    assert gone["userErrors"] == [{"message": "Webhook subscription does not exist"}]


@pytest.mark.parametrize(
    ("uri", "message"),
    [
        pytest.param(" ", "Address can't be blank", id="nowhere"),
        pytest.param(
            "http://unwind.example/webhooks", "Address protocol http:// is not supported", id="in the clear"
        ),
        pytest.param(
            "https://x.myshopify.com/w",
            "Address cannot be a Shopify or an internal domain",
            id="Shopify's own",
        ),
        pytest.param("https://localhost/w", "Address cannot be a Shopify or an internal domain", id="inside"),
    ],
)
def test_an_address_that_shopify_does_not_take(shopify: PretendShopify, uri: str, message: str) -> None:
    [error] = subscribed(shopify, uri)["userErrors"]
    assert error == {"field": ["webhookSubscription", "callbackUrl"], "message": message}


def test_one_topic_is_sent_to_one_address_once(shopify: PretendShopify) -> None:
    uri = "https://unwind.example/webhooks"
    assert subscribed(shopify, uri)["userErrors"] == []
    [error] = subscribed(shopify, uri)["userErrors"]
    assert error["message"] == "Address for this topic has already been taken"
    assert subscribed(shopify, uri, "ORDERS_UPDATED")["userErrors"] == []


# -- bulk operations -------------------------------------------------------------------------------------------------

RUN = """
mutation Run($query: String!) { bulkOperationRunQuery(query: $query, groupObjects: true) {
  bulkOperation { id status } userErrors { field message code } } }
"""
LOOK = "query Look($id: ID!) { bulkOperation(id: $id) { status errorCode objectCount url } }"
EVERYTHING = "{ orders { edges { node { id name lineItems { edges { node { id } } } } } } }"


def run(shopify: PretendShopify, query: str) -> dict[str, Any]:
    return call(shopify, RUN, query=query)["data"]["bulkOperationRunQuery"]


def look(shopify: PretendShopify, id: str) -> dict[str, Any]:
    return call(shopify, LOOK, id=id)["data"]["bulkOperation"]


def test_a_bulk_operation_ends_in_a_file_of_objects_and_their_children(shopify: PretendShopify) -> None:
    orders = [shopify.buy(), shopify.buy()]
    started = run(shopify, EVERYTHING)
    id = started["bulkOperation"]["id"]
    assert started["bulkOperation"]["status"] == "CREATED"
    assert look(shopify, id) == {"status": "RUNNING", "errorCode": None, "objectCount": "0", "url": None}
    done = look(shopify, id)
    assert (done["status"], done["objectCount"]) == ("COMPLETED", "4")
    lines = [json.loads(line) for line in requests.get(done["url"], timeout=5).text.splitlines()]
    assert lines == [
        line
        for order in orders
        for line in (
            {"id": gid("Order", order.id), "name": order.name},
            {"id": gid("LineItem", order.items[0].id), "__parentId": gid("Order", order.id)},
        )
    ]


def test_a_bulk_operation_over_nothing_has_no_file(shopify: PretendShopify) -> None:
    id = run(shopify, EVERYTHING)["bulkOperation"]["id"]
    look(shopify, id)
    assert look(shopify, id) == {"status": "COMPLETED", "errorCode": None, "objectCount": "0", "url": None}


def test_a_bulk_operation_can_fail(shopify: PretendShopify) -> None:
    shopify.front().bulk.fail_next = "INTERNAL_SERVER_ERROR"
    id = run(shopify, EVERYTHING)["bulkOperation"]["id"]
    look(shopify, id)
    assert look(shopify, id)["errorCode"] == "INTERNAL_SERVER_ERROR"


@pytest.mark.parametrize(
    "query",
    [
        pytest.param("{ shop { id } }", id="no connection"),
        pytest.param(
            "{ orders { edges { node { id refunds { refundLineItems { edges { node { id } } } } } } } }",
            id="a connection inside a list",
        ),
        pytest.param("{ orders { edges { node { nothing } } } ", id="no document"),
    ],
)
def test_what_cannot_be_a_bulk_operation(shopify: PretendShopify, query: str) -> None:
    refused = run(shopify, query)
    assert refused["bulkOperation"] is None
    assert refused["userErrors"][0]["code"] == "INVALID"


# -- by hand ---------------------------------------------------------------------------------------------------------


def test_somebody_shopping_by_hand_is_told_why_a_code_is_refused(shopify: PretendShopify) -> None:
    ada: Customer = shopify.customer()
    shopify.store.codes.create("once", ["ONCE"], usage_limit=1, amount_minor=500)
    shopify.buy()  # so that there is something on the shelves
    product = shopify.store.orders[next(iter(shopify.store.orders))].items[0].product
    shopify.store.products[product.id] = product
    body = {"customer_id": ada.id, "lines": [{"product_id": product.id}], "codes": [{"code": "once"}]}
    url = f"{shopify.url}/{shopify.domain}/control"
    assert requests.post(f"{url}/orders", json=body, timeout=5).status_code == 201
    refused = requests.post(f"{url}/orders", json=body, timeout=5)
    assert refused.status_code == 422
    assert "used 1 times, of 1" in refused.json()["error"]["message"]
    [shown] = requests.get(f"{url}/discounts", timeout=5).json()["discounts"]
    assert len(shown["codes"][0]["orders"]) == 1


def test_a_merchant_who_takes_the_app_out_ends_its_tokens_and_tells_it(shopify: PretendShopify) -> None:
    token = shopify.token_for()
    url = f"{shopify.url}/{shopify.domain}/control/uninstall"
    assert requests.post(url, timeout=5).status_code == 200
    assert shopify.graphql(SHOP, token=token).status_code == 401
    assert [delivery.topic for delivery in shopify.sent] == ["app/uninstalled"]
    assert requests.post(url, timeout=5).status_code == 409
