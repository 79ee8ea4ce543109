"""Shopify signs a delivery's body, not its headers: a body that somebody got hold of gains nothing under others."""

from __future__ import annotations

import base64
import itertools
import json
import secrets
import time
from typing import Any, NamedTuple

import pytest
from sqlalchemy import Engine, text

from app.query_signature import query_signature, signed_text
from app.receiver import READ_ID
from app.signature import is_signed
from tasks.steps import shops
from tasks.steps.drain import drain
from tasks.steps.foreign import ELSEWHERE
from tasks.steps.parse import FACT_TOPICS, READ_TOPIC
from tasks.steps.reads import Body
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop, register
from tests.web.admin import new_domain, session_token
from tests.web.conftest import SECRET
from tests.web.test_receiver import rows

NUMBERS = itertools.count(secrets.randbelow(10**12) * 1000)
AT = "2026-03-01T10:00:00Z"
INSTALLED = text("insert into installations (shop_id, access_token) values (:shop, '\\x00')")
BOOKS = text(
    "select (select count(*) from orders where shop_id = :shop),"
    " (select count(*) from refunds where shop_id = :shop),"
    " (select count(*) from entries where shop_id = :shop),"
    " (select coalesce(sum(balance), 0) from wallets where shop_id = :shop)"
)


class Books(NamedTuple):
    orders: int
    refunds: int
    entries: int
    balance: int


def order(order_id: int, *, customer: int = 77, total: str = "100.00") -> dict[str, Any]:
    money = {"amount": total, "currency_code": "EUR"}
    both = {"shop_money": money, "presentment_money": money}
    return {
        "id": order_id,
        "name": "#1",
        "created_at": AT,
        "updated_at": AT,
        "processed_at": AT,
        "currency": "EUR",
        "presentment_currency": "EUR",
        "financial_status": "paid",
        "total_price": total,
        "total_price_set": both,
        "current_total_price": total,
        "subtotal_price": total,
        "taxes_included": False,
        "test": False,
        "cancelled_at": None,
        "customer": {"id": customer},
        "discount_codes": [],
        "discount_applications": [],
        "line_items": [
            {
                "id": order_id + 1,
                "quantity": 1,
                "current_quantity": 1,
                "price": total,
                "total_discount": "0.00",
                "tax_lines": [],
                "discount_allocations": [],
            }
        ],
        "refunds": [],
    }


def refund(order_id: int, *, amount: str = "40.00") -> dict[str, Any]:
    return {
        "id": order_id + 2,
        "order_id": order_id,
        "created_at": "2026-03-02T10:00:00Z",
        "processed_at": "2026-03-02T10:00:00Z",
        "refund_line_items": [],
        "order_adjustments": [],
        "transactions": [
            {
                "id": order_id + 3,
                "order_id": order_id,
                "kind": "refund",
                "status": "success",
                "amount": amount,
                "currency": "EUR",
                "processed_at": "2026-03-02T10:00:00Z",
            }
        ],
    }


def body_of(content: object) -> bytes:
    return json.dumps(content).encode()


def work(engine: Engine, shop: RegisteredShop) -> None:
    while drain(engine, shop.domain, ids_are_global=True).left:
        pass


def books(engine: Engine, shop: RegisteredShop) -> Books:
    with engine.connect() as connection:
        return Books(*connection.execute(BOOKS, {"shop": shop.id}).one())


@pytest.fixture
def shop(engine: Engine) -> RegisteredShop:
    return installed(engine)


@pytest.fixture
def other(engine: Engine) -> RegisteredShop:
    return installed(engine)


def installed(engine: Engine) -> RegisteredShop:
    """A shop that Shopify connected."""
    made = register(engine)
    with engine.begin() as connection:
        connection.execute(INSTALLED, {"shop": made.id})
    return made


def last(engine: Engine, shop: RegisteredShop) -> Any:
    return rows(engine, shop.domain)[-1]


def test_a_body_sent_again_in_another_shops_name_books_nothing_there(send, engine, shop, other):
    order_id = next(NUMBERS)
    told = {"orders/create": order(order_id), "refunds/create": refund(order_id)}
    for topic, content in told.items():
        send(body_of(content), topic=topic, id=f"mine-{topic}")
    work(engine, shop)
    before = books(engine, shop)
    assert before.orders == 1 and before.entries > 0
    for topic, content in told.items():
        answer = send(body_of(content), topic=topic, id=f"theirs-{topic}", X_Shopify_Shop_Domain=other.domain)
        assert answer.json == {"status": "stored"}  # whoever sent it learns nothing
    work(engine, other)
    assert books(engine, other) == Books(0, 0, 0, 0)
    assert [row["error_code"] for row in rows(engine, other.domain)] == ["order_of_another_shop"] * 2
    assert books(engine, shop) == before
    with engine.connect() as connection:
        assert verify(connection, shop.id) == []


def test_it_takes_no_other_event_of_that_shop_with_it(send, engine, shop, other):
    mine, theirs = next(NUMBERS), next(NUMBERS)
    send(body_of(order(mine)), topic="orders/create", id="1")
    work(engine, shop)
    for number, id in enumerate((theirs, mine, theirs)):
        send(body_of(order(id)), topic="orders/create", id=f"o-{number}", X_Shopify_Shop_Domain=other.domain)
    work(engine, other)
    assert [row["state"] for row in rows(engine, other.domain)] == ["done", "failed", "done"]
    assert books(engine, other).orders == 1


def test_what_both_know_already_goes_on_being_told_to_both(send, engine, shop, other):
    """Should it ever have happened, no shop's own webhooks are stopped by it."""
    order_id = next(NUMBERS)
    for each in (shop, other):
        send(body_of(order(order_id)), topic="orders/create", id="1", X_Shopify_Shop_Domain=each.domain)
    drain(engine, shop.domain)
    drain(engine, other.domain)  # as a pretend store's worker does, whose ids are its own
    for each in (shop, other):
        send(body_of(refund(order_id)), id="2", X_Shopify_Shop_Domain=each.domain)
        work(engine, each)
        assert books(engine, each).refunds == 1


def test_what_we_read_at_shopify_ourselves_is_believed(send, engine, shop, other):
    order_id = next(NUMBERS)
    send(body_of(order(order_id)), topic="orders/create", id="1")
    work(engine, shop)
    read = "insert into inbox (shop_domain, topic, webhook_id, body) values (:shop, :topic, 'read:1', :body)"
    values = {
        "shop": other.domain,
        "topic": READ_TOPIC,
        "body": body_of({"order": order(order_id), "transactions": []}),
    }
    with engine.begin() as connection:
        connection.execute(text(read), values)
    work(engine, other)
    assert last(engine, other)["error_code"] is None
    assert books(engine, other).orders == 1


def test_a_store_that_came_back_under_a_new_name_brings_its_orders(send, engine, shop, other):
    order_id = next(NUMBERS)
    send(body_of(order(order_id)), topic="orders/create", id="1")
    work(engine, shop)
    with engine.begin() as connection:
        shops.remove(connection, shop.domain)
    send(body_of(order(order_id)), topic="orders/create", id="1", X_Shopify_Shop_Domain=other.domain)
    work(engine, other)
    assert books(engine, other).orders == 1


@pytest.mark.parametrize("connected", ["neither", "this one", "the other"])
def test_shops_that_were_added_by_hand_may_have_ids_of_their_own(send, engine, connected):
    this = installed(engine) if connected == "this one" else register(engine)
    other = installed(engine) if connected == "the other" else register(engine)
    order_id = next(NUMBERS)
    for each in (other, this):
        send(body_of(order(order_id)), topic="orders/create", id="1", X_Shopify_Shop_Domain=each.domain)
        work(engine, each)
        assert books(engine, each).orders == 1


def test_every_other_shop_is_asked_by_its_own_index(engine, shop):
    many = (
        "insert into orders (shop_id, order_id, facts, status, refunded_minor, flags, counted)"
        " select :shop, n, '{}', 'unknown', 0, '[]', '{}' from generate_series(1, 20000) as n"
    )
    with engine.begin() as connection:
        connection.execute(text(many), {"shop": shop.id})
        connection.execute(text("analyze orders"))
        explain = text("explain " + ELSEWHERE.text)
        plan = "\n".join(connection.execute(explain, {"shop_id": shop.id, "ids": [-1, -2]}).scalars())
        connection.rollback()
    assert "Seq Scan on orders" not in plan, plan


@pytest.mark.parametrize("topic", sorted(FACT_TOPICS - {READ_TOPIC}))
def test_a_body_sent_again_under_another_topic_or_id_changes_no_balance(send, engine, shop, topic):
    order_id = next(NUMBERS)
    told = [("orders/create", order(order_id)), ("refunds/create", refund(order_id))]
    for number, (first, content) in enumerate(told):
        send(body_of(content), topic=first, id=f"first-{number}")
    work(engine, shop)
    before = books(engine, shop)
    for number, (_, content) in enumerate(told):
        send(body_of(content), topic=topic, id=f"again-{number}")
        send(body_of(content), topic=topic.upper(), id=f"and again-{number}")
    work(engine, shop)
    assert books(engine, shop).balance == before.balance
    assert books(engine, shop).entries == before.entries
    with engine.connect() as connection:
        assert verify(connection, shop.id) == []


def test_no_delivery_passes_for_what_we_read_ourselves(send, engine, shop):
    """Under that topic, orders of another shop would be believed."""
    body = body_of({"order": order(next(NUMBERS)), "transactions": []})
    for topic in (READ_TOPIC, READ_TOPIC.upper(), f" {READ_TOPIC} "):
        send(body, topic=topic, id=secrets.token_hex(8))
    work(engine, shop)
    assert {row["error_code"] for row in rows(engine, shop.domain)} == {"unknown_topic"}
    assert books(engine, shop) == Books(0, 0, 0, 0)


def test_no_delivery_takes_the_place_of_what_we_read_ourselves(send, engine, shop):
    ours = Body(order_id=7, body=b"{}")
    assert ours.webhook_id.startswith(READ_ID)
    send(b"{}", topic="orders/create", id=ours.webhook_id)
    (row,) = rows(engine, shop.domain)
    assert row["webhook_id"] is None


@pytest.mark.parametrize(
    "topic", ["customers/redact", "shop/redact", "customers/data_request", "app/uninstalled"]
)
def test_a_request_of_one_shop_sent_again_in_anothers_name_does_nothing_there(
    send, engine, shop, other, topic
):
    """An erasure, an uninstall: what another shop asked for is never done to this one."""
    content = {
        "id": 5,
        "shop_id": 5,
        "domain": "www.other.example",
        "shop_domain": other.domain,
        "myshopify_domain": other.domain,
        "customer": {"id": 77},
        "orders_to_redact": [],
        "orders_requested": [],
        "data_request": {"id": 1},
    }
    order_id = next(NUMBERS)
    send(body_of(order(order_id)), topic="orders/create", id="1")
    work(engine, shop)
    before = books(engine, shop)
    send(body_of(content), topic=topic, id="2")
    work(engine, shop)
    assert last(engine, shop)["error_code"] in {"foreign_shop", "unparseable"}
    assert books(engine, shop) == before
    with engine.connect() as connection:
        assert shops.get(connection, shop.domain).id == shop.id


def test_one_customers_erasure_is_never_the_whole_shops(send, engine, shop):
    content = {
        "shop_id": 5,
        "shop_domain": shop.domain,
        "customer": {"id": 77, "email": "somebody@example.com"},
        "orders_to_redact": [],
    }
    send(body_of(order(next(NUMBERS))), topic="orders/create", id="1")
    work(engine, shop)
    before = books(engine, shop)
    send(body_of(content), topic="shop/redact", id="2")
    work(engine, shop)
    row = last(engine, shop)
    assert row["error_code"] == "unparseable" and "example.com" not in str(row["error"])
    assert books(engine, shop) == before


def test_a_body_signed_by_nobody_is_not_even_kept(send, engine):
    domain = new_domain()
    answer = send(b"{}", topic="shop/redact", id="1", secret="made up", X_Shopify_Shop_Domain=domain)
    assert answer.status_code == 401 and rows(engine, domain) == []


@pytest.mark.parametrize("what", ["a session token", "a link to the app", "a link with awkward names"])
def test_what_shopify_signs_for_a_merchants_browser_is_no_delivery(send, engine, what):
    """The same secret signs session tokens and links: whoever has such a signature cannot fill the inbox with it."""
    domain, at = new_domain(), str(int(time.time()))
    padded = SECRET.ljust(64, "\0")  # the same key to HMAC
    token, _, signature = session_token(domain, secret=padded).rpartition(".")
    pairs = {
        "a link to the app": [("host", "YWRtaW4"), ("shop", domain), ("timestamp", at)],
        "a link with awkward names": [('!{"a":"', '"}'), ("ids[]", "1"), ("shop", domain), ("timestamp", at)],
    }
    signed = {
        "a session token": (token.encode(), base64.urlsafe_b64decode(f"{signature}=")),
        **{
            name: (signed_text(query), bytes.fromhex(query_signature(query, SECRET.encode())))
            for name, query in pairs.items()
        },
    }
    body, digest = signed[what]
    assert is_signed(body, [SECRET.encode()], base64.b64encode(digest).decode())
    answer = send(
        body,
        id="1",
        X_Shopify_Hmac_Sha256=base64.b64encode(digest).decode(),
        X_Shopify_Shop_Domain=domain,
    )
    assert (answer.status_code, answer.json) == (401, {"status": "not_signed"})
    assert rows(engine, domain) == []
