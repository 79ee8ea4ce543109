"""What POST /webhooks answers, and what it keeps: 200 only for what is committed."""

from __future__ import annotations

import json
import secrets
import socket
from concurrent.futures import ThreadPoolExecutor

import pytest
from hypothesis import HealthCheck, given
from hypothesis import settings as hypothesis_settings
from hypothesis import strategies as st
from sqlalchemy import text

from app.inbox import Delivery, Writer, store
from app.receiver import clean, delivery_of, id_of
from app.signature import signature_of
from app.web import create_app
from models.errors import InvalidSetting
from models.settings import Settings

SECRET = "a client secret of the tests"
LIMIT = 100_000  # as the settings of these tests say


def rows(engine, domain):
    with engine.connect() as connection:
        found = connection.execute(
            text("select * from inbox where shop_domain = :domain order by id"), {"domain": domain}
        )
        return found.mappings().all()


def test_a_signed_webhook_is_kept_as_it_came_and_waits(send, engine, shop):
    body = b'{ "id": 5001,  "order_id": 42 }'
    answer = send(
        body,
        id="w-1",
        X_Shopify_Event_Id="e-1",
        X_Shopify_Triggered_At="2026-03-01T10:00:00.123456789Z",
        X_Shopify_API_Version="2026-10",
    )
    assert (answer.status_code, answer.json) == (200, {"status": "stored"})
    (row,) = rows(engine, shop.domain)
    assert bytes(row["body"]) == body
    assert (row["topic"], row["webhook_id"], row["event_id"]) == ("refunds/create", "w-1", "e-1")
    assert (row["triggered_at"], row["api_version"]) == ("2026-03-01T10:00:00.123456789Z", "2026-10")
    assert (row["state"], row["attempts"]) == ("pending", 0)


def test_the_newer_header_family_is_read_as_well(client, engine, shop):
    body = b"{}"
    headers = {
        "shopify-hmac-sha256": signature_of(body, SECRET.encode()),
        "shopify-topic": "orders/paid",
        "shopify-shop-domain": shop.domain,
        "shopify-webhook-id": "w-1",
    }
    assert client.post("/webhooks", data=body, headers=headers).status_code == 200
    assert [(r["topic"], r["webhook_id"]) for r in rows(engine, shop.domain)] == [("orders/paid", "w-1")]


def test_the_secret_being_retired_still_signs(send):
    assert send(secret="the one before it").status_code == 200


@pytest.mark.parametrize(
    "header",
    [
        pytest.param("", id="missing"),
        pytest.param("x" * 44, id="wrong"),
        pytest.param("\xe9" * 44, id="not ASCII"),
        pytest.param(signature_of(b"{}", b"another app"), id="another app's"),
    ],
)
def test_a_webhook_that_is_not_shopifys_is_refused_and_not_kept(send, engine, shop, header):
    answer = send(X_Shopify_Hmac_Sha256=header)
    assert (answer.status_code, answer.json) == (401, {"status": "not_signed"})
    assert not rows(engine, shop.domain)


def test_a_repeat_is_answered_200_and_kept_once(send, engine, shop):
    assert [send(id="w-1").json["status"] for _ in range(3)] == ["stored", "seen_before", "seen_before"]
    assert len(rows(engine, shop.domain)) == 1


def test_the_same_webhook_id_of_another_shop_is_another_webhook(send, engine, shop):
    other = f"other-{shop.domain}"
    assert send(id="w-1").status_code == send(id="w-1", X_Shopify_Shop_Domain=other).status_code == 200
    assert len(rows(engine, shop.domain)) == len(rows(engine, other)) == 1


BODIES = {
    "nothing at all": b"",
    "not JSON": b"<html>",
    "NaN": b'{"id": NaN}',
    "the same key twice": b'{"id": 1, "id": 2}',
    "deeper than any parser goes": b"[" * 100_000,
    "NUL bytes": b'{"id": "\x00"}\x00',
    "not UTF-8": b"\xff\xfe{\x00",
    "half a surrogate": b'{"note": "\\ud800"}',
}


@pytest.mark.parametrize("body", [pytest.param(body, id=id) for id, body in BODIES.items()])
def test_a_signed_body_is_kept_whatever_is_in_it(send, engine, shop, body):
    assert send(body).status_code == 200
    assert [bytes(row["body"]) for row in rows(engine, shop.domain)] == [body]


def test_without_a_webhook_id_every_delivery_is_kept(send, engine, shop):
    assert [send().json["status"] for _ in range(2)] == ["stored", "stored"]
    assert [row["webhook_id"] for row in rows(engine, shop.domain)] == [None, None]


def test_a_shop_that_is_not_a_shop_is_kept_for_the_tasks_to_park(send, engine):
    strange = f"Ev\xeel-{secrets.token_hex(4)} '; drop table inbox; --"
    assert send(X_Shopify_Shop_Domain=strange).status_code == 200
    assert len(rows(engine, strange.replace("\xee", "?").lower())) == 1


def test_a_body_at_the_limit_is_taken_and_one_over_it_is_not(send, engine, shop):
    assert send(b"x" * LIMIT).status_code == 200
    answer = send(b"x" * (LIMIT + 1))
    assert (answer.status_code, answer.json) == (413, {"status": "too_large"})
    assert len(rows(engine, shop.domain)) == 1


def test_the_limit_is_eight_mebibytes_unless_told_otherwise():
    assert Settings().webhook_max_bytes == 8 << 20


@pytest.mark.parametrize(("size", "status"), [(LIMIT, 200), (LIMIT + 1, 413)])
def test_a_body_in_chunks_without_a_length_has_the_same_limit(client, shop, size, status):
    body = b"x" * size
    environ = {
        "wsgi.input_terminated": True,
        "HTTP_TRANSFER_ENCODING": "chunked",
        "CONTENT_LENGTH": "",
        "HTTP_X_SHOPIFY_HMAC_SHA256": signature_of(body, SECRET.encode()),
        "HTTP_X_SHOPIFY_SHOP_DOMAIN": shop.domain,
    }
    answer = client.post("/webhooks", data=body, environ_overrides=environ)
    assert answer.status_code == status


def test_only_post_is_answered_at_webhooks(client):
    answer = client.get("/webhooks")
    assert answer.status_code == 405
    assert (answer.json, answer.headers["Allow"]) == ({"status": "post_only"}, "POST")
    assert "POST" in answer.headers["Allow"]


def free_port():
    with socket.socket() as probe:
        probe.bind(("127.0.0.1", 0))
        return probe.getsockname()[1]


@pytest.fixture
def app_without(app_with):
    def app_without(what):
        gone = f"127.0.0.1:{free_port()}"
        addresses = {
            "database": {"database_url": f"postgresql://{gone}/x"},
            "broker": {"redis_url": f"redis://{gone}/0"},
        }
        return app_with(**addresses[what])

    return app_without


def posted(app, domain, id=""):
    headers = {
        "X-Shopify-Hmac-Sha256": signature_of(b"{}", SECRET.encode()),
        "X-Shopify-Shop-Domain": domain,
        "X-Shopify-Topic": "refunds/create",
        "X-Shopify-Webhook-Id": id,
    }
    return app.test_client().post("/webhooks", data=b"{}", headers=headers)


def test_without_a_database_shopify_is_asked_to_send_again(app_without, shop):
    answer = posted(app_without("database"), shop.domain)
    assert (answer.status_code, answer.json) == (503, {"status": "try_again"})
    assert int(answer.headers["Retry-After"]) > 0


def test_without_a_broker_the_webhook_is_stored(app_without, engine, shop):
    app = app_without("broker")
    assert [posted(app, shop.domain, id=f"w-{n}").status_code for n in range(3)] == [200, 200, 200]
    assert len(rows(engine, shop.domain)) == 3


def test_a_server_whose_webhooks_anyone_could_forge_does_not_start(settings):
    with pytest.raises(InvalidSetting, match="SHOPIFY_API_SECRET"):
        create_app(settings.model_copy(update={"shopify_api_secret": ()}))


@pytest.fixture
def writer_with(engine):
    """A writer that rings as it is told."""
    made = []

    def writer_with(ring):
        made.append(Writer(engine, ring))
        return made[-1]

    yield writer_with
    for writer in made:
        writer.close()


def delivery(domain, id, body=b"{}", topic="refunds/create"):
    return Delivery(domain, topic, id, None, None, None, body)


def test_one_statement_tells_the_new_from_the_seen(engine, shop):
    group = [delivery(shop.domain, id) for id in ("a", "b", "a", None, None)]
    with engine.begin() as connection:
        first = store(connection, group)
    with engine.begin() as connection:
        connection.execute(
            text("update inbox set state = 'done' where shop_domain = :d and webhook_id = 'a'"),
            {"d": shop.domain},
        )
        again = store(connection, group[:2])
    assert [stored.new for stored in first] == [True, True, False, True, True]
    assert first[2].id == first[0].id
    assert len({stored.id for stored in first}) == 4
    assert [(stored.new, stored.waiting, stored.id) for stored in again] == [
        (False, False, first[0].id),
        (False, True, first[1].id),
    ]


def test_one_that_the_database_refuses_does_not_take_the_others_with_it(writer_with, engine, shop):
    writer = writer_with(lambda rings: None)
    deliveries = [
        delivery(shop.domain, str(n), topic="\x00" if n == 5 else "refunds/create") for n in range(10)
    ]

    def kept(delivery):
        try:
            return writer.keep(delivery).new
        except Exception as error:
            return type(error).__name__

    with ThreadPoolExecutor(10) as pool:
        found = list(pool.map(kept, deliveries))
    assert found == [n != 5 or "DatabaseBusy" for n in range(10)]
    assert len(rows(engine, shop.domain)) == 9


def test_a_bell_that_fails_does_not_take_the_writer_with_it(writer_with, engine, shop):
    def broken(rings):
        raise RuntimeError("no bell")

    writer = writer_with(broken)
    assert [writer.keep(delivery(shop.domain, str(n))).new for n in range(3)] == [True, True, True]


def test_many_at_once_are_each_kept_once(writer_with, engine, shop):
    rung = []
    writer = writer_with(rung.extend)
    with ThreadPoolExecutor(16) as pool:
        found = list(pool.map(lambda n: writer.keep(delivery(shop.domain, f"w-{n % 100}")), range(300)))
    assert sum(stored.new for stored in found) == len(rows(engine, shop.domain)) == 100
    assert {ring.event_id for ring in rung} == {stored.id for stored in found}


@given(value=st.text(alphabet=st.characters(max_codepoint=255), max_size=400))
def test_whatever_a_header_holds_it_fits_the_database_and_the_logs(value):
    text = clean(value)
    assert text.isprintable() and text.isascii() and len(text) <= 255
    id = id_of(value)
    assert id is None or (id == value.strip() and 0 < len(id) <= 128)


def test_two_ids_that_differ_are_never_kept_as_one():
    assert id_of("a" * 128) == "a" * 128
    assert id_of("a" * 129) is None
    assert id_of("w-\xe9") is None


@hypothesis_settings(
    max_examples=50, suppress_health_check=[HealthCheck.function_scoped_fixture], deadline=None
)
@given(
    body=st.binary(max_size=300),
    headers=st.fixed_dictionaries(
        {
            name: st.text(alphabet=st.characters(max_codepoint=255), max_size=50)
            for name in ("TOPIC", "WEBHOOK_ID")
        }
    ),
)
def test_any_signed_delivery_can_be_stored(engine, shop, body, headers):
    environ = {f"HTTP_X_SHOPIFY_{name}": value for name, value in headers.items()}
    environ["HTTP_X_SHOPIFY_SHOP_DOMAIN"] = shop.domain
    with engine.begin() as connection:
        (stored,) = store(connection, [delivery_of(environ, body)])
    assert stored.id


def test_answers_are_short_json(send):
    answer = send()
    assert answer.content_type == "application/json"
    assert json.loads(answer.data) == {"status": "stored"}
