"""What takes away or gives out looks into the signed body: for its shop, and for what tells its topic."""

from __future__ import annotations

import pytest

from models.errors import ForeignShop, Unparseable
from tasks.steps.acts_guard import check_act, same_shop
from tasks.steps.load import ShopRow

SHOP = ShopRow(1, "ours.myshopify.com", None)
SHOP_REDACT = {"shop_id": 77, "shop_domain": "ours.myshopify.com"}
REDACT = {**SHOP_REDACT, "customer": {"id": 5}, "orders_to_redact": [9]}
DATA_REQUEST = {**SHOP_REDACT, "customer": {"id": 5}, "orders_requested": [9], "data_request": {"id": 3}}
UNINSTALLED = {"id": 77, "domain": "www.ours.example", "myshopify_domain": "ours.myshopify.com"}


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        pytest.param("app/uninstalled", UNINSTALLED, id="a shop object, whose own domain is another"),
        pytest.param("customers/data_request", DATA_REQUEST, id="a customer asks for data"),
        pytest.param("customers/redact", REDACT, id="a customer is to be forgotten"),
        pytest.param("shop/redact", SHOP_REDACT, id="a shop is to be forgotten"),
        pytest.param(
            "shop/redact", {**SHOP_REDACT, "shop_domain": "OURS.myshopify.com"}, id="in capital letters"
        ),
        pytest.param("customers/merge", {"job_id": 1}, id="a body that names no shop"),
    ],
)
def test_a_body_of_this_shop_and_topic_is_let_through(topic, payload):
    check_act(topic, SHOP, payload)


@pytest.mark.parametrize(
    "topic", ["app/uninstalled", "customers/data_request", "customers/redact", "shop/redact"]
)
@pytest.mark.parametrize(
    "payload",
    [
        pytest.param({**REDACT, "shop_domain": "other.myshopify.com"}, id="another shop"),
        pytest.param({**REDACT, "shop_domain": "ours.myshopify.com.evil.com"}, id="a longer name"),
        pytest.param({**REDACT, "shop_domain": 77}, id="a number"),
        pytest.param({**REDACT, "shop_domain": None}, id="null"),
        pytest.param({"domain": "ours.myshopify.com"}, id="only the merchant's own domain"),
        pytest.param({}, id="nothing"),
    ],
)
def test_a_body_of_another_shop_or_of_none_does_nothing(topic, payload):
    with pytest.raises(ForeignShop):
        check_act(topic, SHOP, payload)


@pytest.mark.parametrize(
    ("topic", "payload"),
    [
        pytest.param("shop/redact", REDACT, id="one customer's erasure sent again as the whole shop's"),
        pytest.param("shop/redact", DATA_REQUEST, id="a request for data sent again as the shop's erasure"),
        pytest.param("customers/redact", SHOP_REDACT, id="a shop's erasure as a customer's"),
        pytest.param("customers/redact", DATA_REQUEST, id="a request for data as an erasure"),
        pytest.param("customers/data_request", REDACT, id="an erasure as a request for data"),
        pytest.param("app/uninstalled", SHOP_REDACT, id="a shop's erasure as an uninstall"),
    ],
)
def test_a_body_sent_again_under_another_topic_does_nothing(topic, payload):
    with pytest.raises((Unparseable, ForeignShop)):
        check_act(topic, SHOP, payload)


def test_the_shop_may_be_asked_alone():
    same_shop(SHOP, SHOP_REDACT)
    with pytest.raises(ForeignShop, match=r"ours\.myshopify\.com"):
        same_shop(ShopRow(2, "ours.myshopify.com", None), {"shop_domain": "other.myshopify.com"})
