"""By which address and number a customer is found over HTTP: told by webhooks, asked of Shopify, never kept in clear."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from typing import Any

import pytest
from sqlalchemy import text

from tasks.steps.export import as_text, export
from tasks.steps.load import ShopRow
from tasks.steps.privacy import Asked
from tests.web.api.conftest import Store as Orders
from tests.web.points.conftest import ADA, BELA, Shop

ADDRESS, NUMBER = "ada@shop.example", "+4930123456"


def customer(id: int, **more: Any) -> dict[str, Any]:
    return {"id": id, "email": ADDRESS, "phone": NUMBER, "updated_at": "2026-03-01T10:00:00Z", **more}


@pytest.mark.parametrize(
    ("kind", "value"),
    [
        pytest.param("EMAIL", ADDRESS, id="the address"),
        pytest.param("EMAIL", " ADA@Shop.Example ", id="written otherwise"),
        pytest.param("PHONE", NUMBER, id="the number"),
        pytest.param("PHONE", "0049 30 / 12 34 56", id="the number, written otherwise"),
        pytest.param("PHONE", "4930123456", id="the number without a plus"),
    ],
)
def test_a_customer_is_known_by_what_a_webhook_told(store, kind: str, value: str) -> None:
    """R35: from then on nobody is asked."""
    redemption = store.spent()
    store.tell("customers/update", customer(ADA))
    got = store.reverse(redemption, 10, by=(kind, value))
    assert (got.status, got.body["customerId"]) == (200, ADA)
    assert got.body["identifier"] == {"type": kind, "value": value}


def test_the_newest_telling_wins_also_when_it_comes_first(store) -> None:
    """R35: an address that moved on to another customer."""
    redemption = store.spent()
    store.grant(5, to=BELA)
    store.tell("customers/update", customer(BELA, updated_at="2026-03-02T10:00:00Z"))
    store.tell("customers/update", customer(ADA))
    assert store.reverse(redemption, by=("EMAIL", ADDRESS)).number == 901


def test_an_order_tells_its_customers_address_with_its_facts(store) -> None:
    """R35."""
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    order = store.shopify.buy(customer=ada, domain=store.domain)
    for delivery in [sent for sent in store.shopify.sent if sent.order_id == order.id]:
        assert store.tell(delivery.topic, json.loads(delivery.body))
    assert store.reverse(redemption, 10, by=("EMAIL", ada.email)).status == 200
    assert "CustomerByIdentifier" not in store.calls() and store.holds_together()


def test_who_is_not_known_here_is_asked_of_shopify_once(store) -> None:
    """R35: what Shopify said is remembered as a hash."""
    store.connect()
    ada = store.person(phone=NUMBER)
    redemption = store.redeem(100, by=ada.id)
    for points in (10, 20):
        assert store.reverse(redemption, points, by=("PHONE", NUMBER)).body["customerId"] == ada.id
    assert store.calls().count("CustomerByIdentifier") == 1


def test_a_preview_remembers_nobody(store) -> None:
    """R37."""
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    assert store.reverse(redemption, by=("EMAIL", ada.email), query="?preview=true").status == 200
    assert store.run("select from customer_identifiers where shop_id = :shop_id") == []


def test_a_merged_customers_address_is_the_survivors(store) -> None:
    """R33."""
    redemption = store.spent()
    store.tell("customers/update", customer(ADA))
    told = {
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{BELA}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{ADA}",
        "status": "completed",
    }
    store.tell("customers/merge", told)
    assert store.reverse(redemption, by=("EMAIL", ADDRESS)).body["customerId"] == BELA


def test_a_customer_who_was_erased_is_not_known_any_more(store) -> None:
    redemption = store.spent()
    store.tell("customers/update", customer(ADA))
    redact = {"shop_domain": store.domain, "customer": {"id": ADA, "email": ADDRESS}, "orders_to_redact": []}
    assert ", 2 identifiers" in store.tell("customers/redact", redact)[0]
    store.tell("customers/update", customer(ADA))
    assert store.reverse(redemption, by=("EMAIL", ADDRESS)).number == 901


def test_no_address_and_no_number_stands_in_any_table(store) -> None:
    """Once the bodies of the webhooks are gone, nobody can read who it was."""
    store.connect()
    ada = store.person(phone=NUMBER)
    redemption = store.redeem(100, by=ada.id)
    store.tell("customers/update", customer(ADA))
    store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k-1")
    store.reverse(redemption, 20, by=("PHONE", NUMBER), key="k-2", reason="Came back")
    store.reverse(redemption, 999, by=("EMAIL", ada.email), key="k-3")
    store.run("update inbox set body = null")  # of the other tests' shops, too
    for word in (ADDRESS, ada.email, NUMBER, NUMBER.removeprefix("+")):
        assert tables_with(store, word) == []


def tables_with(store: Shop, word: str) -> list[str]:
    """The tables in which some row has this word, also inside of bytes."""
    names = store.run("select tablename from pg_tables where schemaname = 'public'")
    asked = "select count(*) as n from {} t where t::text ilike :word or t::text ilike :hex"
    return [
        row.tablename
        for row in names
        if store.run(asked.format(row.tablename), word=f"%{word}%", hex=f"%{word.encode().hex()}%")[0].n
    ]


def test_the_log_names_nobody(store, capfd: pytest.CaptureFixture[str]) -> None:
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    store.tell("customers/update", customer(ADA))
    store.shopify.faults(store.domain).add("refuse", times=10)
    store.reverse(redemption, by=("EMAIL", ada.email))
    store.shopify.faults(store.domain).clear()
    store.reverse(redemption, by=("EMAIL", "not an address"))
    said = "".join(capfd.readouterr())
    assert ada.email not in said and ADDRESS not in said and "not an address" not in said


def test_the_export_says_that_identifiers_are_kept_and_not_which(store) -> None:
    store.spent()
    store.tell("customers/update", customer(ADA))
    store.run("update inbox set body = null where shop_domain = :domain", domain=store.domain)
    with store.engine.connect() as connection:
        connection.execute(text("set transaction read only"))
        document = export(
            connection, ShopRow(store.id, store.domain, None), Asked(customer_id=ADA, orders=())
        )
    assert [row["kind"] for row in document["identifiers"]] == ["EMAIL", "PHONE"]
    assert ADDRESS not in as_text(document)


FIVE_OFF = {"id": "5-off", "name": "$5 off", "kind": "amount_discount", "cost": 100, "value": "5.00"}


def test_what_was_typed_as_a_reason_is_erased_with_its_customer_wherever_it_stands(store) -> None:
    """Of reversals, refunds and cancellations by hand, of locks, of what is still to be done at Shopify, of kept answers."""
    words = {"reason": f"asked for by {ADDRESS}"}
    store.program(rewards=[FIVE_OFF])
    store.connect()
    store.reverse(store.spent(), 10, key="k-1", **words)
    gone = store.spent()
    store.call("POST", f"/redemptions/{gone}/cancel", words, key="k-2")
    store.call("POST", f"/redemptions/{gone}/cancel", words, key="k-3")
    store.grant(100)
    waiting = store.redeem(reward="5-off", days_ago=0)
    store.run(
        "update redemptions set code_state = 'active' where shop_id = :shop_id and id = :id", id=waiting
    )
    store.call("POST", f"/redemptions/{waiting}/cancel", words, key="k-4")
    Orders(store.engine).place(store, 450, customer=ADA)
    store.call("POST", "/orders/450/refund", {"amount": "20.00", **words}, key="k-5")
    store.call("POST", "/orders/450/cancel", words, key="k-6")
    until = datetime(2099, 1, 1, tzinfo=UTC).isoformat()
    store.call("PUT", f"/customers/{ADA}/reversal-lock", {"until": until, **words}, key="k-7")
    assert {"activity", "idempotency_keys", "outbox", "refunds", "reversal_locks", "reversals"} <= set(
        tables_with(store, ADDRESS)
    )
    store.run("update inbox set body = null")
    redact = {"shop_domain": store.domain, "customer": {"id": ADA}, "orders_to_redact": []}
    assert store.tell("customers/redact", redact)[0].startswith("redacted customer")
    assert tables_with(store, ADDRESS) == [] and store.holds_together()
