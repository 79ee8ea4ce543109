"""What somebody hostile sends to the pages: another shop's ids, texts that are no texts, floods, answers taken from each other."""

from __future__ import annotations

import re
import threading
from contextlib import ExitStack
from typing import Any

import pytest
from flask import Flask

from app.admin import PAGES, login
from app.admin.door import PREFIX
from app.api.reading import KEY_MAX_CHARACTERS
from models.settings import Settings
from tests.web.api.conftest import CUSTOMER
from tests.web.pages.conftest import APP, NewPageShop, PageShop, Visitor
from tests.web.pages.test_attention import failed_outbox
from tests.web.pages.test_door import cookie_of, logged_in, new_link, pages_of, policy
from tests.web.pages.test_integrations import URL, add, deliver
from worker.reporting import HIDDEN, hidden

KEPT = ("api_tokens", "endpoints", "deliveries", "orders", "redemptions", "reversals", "wallets", "entries", "activity",
        "programs", "dismissals", "outbox", "idempotency_keys", "reversal_locks", "admin_links", "admin_sessions")  # fmt: skip
PAYLOAD = "\"'><img src=x onerror=alert(1)></script><svg/onload=alert(2)>"
HOLDING_IT = 7  # pages at least
ACTS = ("grant", "spend", "pin", "unpin", "lock", "unlock", "refund", "part", "undo")


@pytest.fixture
def full_store(busy_store: PageShop) -> PageShop:
    """`busy_store` with a token, an endpoint to which something was sent, a parked event and a failed change, all
    named as somebody hostile would name them.
    """
    visitor = busy_store.visitor()
    visitor.post("/integrations/tokens", {"name": PAYLOAD})
    add(visitor, description=PAYLOAD)
    visitor.post(f"/customers/{CUSTOMER}", {"act": "grant", "amount": "5", "reason": PAYLOAD})
    visitor.post("/redemptions/" + ids_in(busy_store)["redemption_id"], {"act": "part", "customer_id": str(CUSTOMER), "amount": "5", "reason": PAYLOAD})  # fmt: skip
    visitor.post(f"/customers/{CUSTOMER}", {"act": "lock", "last_day": "2999-01-01", "reason": PAYLOAD})
    deliver(busy_store, 500)
    busy_store.receive("refunds/create", b"{}")
    busy_store.work()
    failed_outbox(busy_store, int(ids_in(busy_store)["redemption_id"]))
    for statement in (
        "update orders set name = :text where shop_id = :shop_id",
        "update redemptions set code = :text, reward_id = :text where shop_id = :shop_id",
        "update outbox set error = :text where shop_id = :shop_id",
        "update inbox set error = :text where shop_domain = (select domain from shops where id = :shop_id)",
    ):
        busy_store.run(statement, text=PAYLOAD)
    return busy_store


def ids_in(store: PageShop) -> dict[str, str]:
    """An id of the shop for each argument of a page's address."""

    def first(table: str) -> str:
        return str(
            next(
                iter(store.run(f"select id from {table} where shop_id = :shop_id order by id limit 1")), [0]
            )[0]
        )

    return {
        "order_id": "450",
        "refund_id": "9001",
        "customer_id": str(CUSTOMER),
        "redemption_id": first("redemptions"),
        "reversal_id": first("reversals"),
        "token_id": first("api_tokens"),
        "endpoint_id": first("endpoints"),
        "delivery_id": first("deliveries"),
    }


def kept_of(store: PageShop) -> dict[str, Any]:
    """Everything of the shop, so that a change of it shows."""
    found = {
        name: sorted(map(repr, store.run(f"select * from {name} where shop_id = :shop_id"))) for name in KEPT
    }
    inbox = store.run(
        "select * from inbox where shop_domain = (select domain from shops where id = :shop_id)"
    )
    return {**found, "inbox": sorted(map(repr, inbox))}


def address(path: str, ids: dict[str, str]) -> str:
    return re.sub("<([^>]+)>", lambda found: ids[found[1]], path)


# -- another shop's --------------------------------------------------------------------------------------


@pytest.mark.parametrize("how", ["visitor", "embedded"])
def test_nothing_of_a_shop_is_shown_to_another_nor_changed_by_it(
    full_store: PageShop, new_page_shop: NewPageShop, how: str
) -> None:
    foreign: Visitor = getattr(new_page_shop(), how)()
    ids, before = ids_in(full_store), kept_of(full_store)
    event = full_store.run("select max(id) as id from inbox where state = 'failed'")[0].id
    fields = {**ids, "id": str(event), "kind": "failed", "amount": "5", "what": "rest", "reason": "x", "confirm": "true"}  # fmt: skip
    for page in PAGES:
        path = address(page.path, ids)
        if "GET" in page.methods:
            shown = foreign.client.get(f"{PREFIX}{path}", headers=foreign.headers)
            assert shown.status_code == 404 or "<" not in page.path or shown.status_code == 303, path
            assert full_store.domain.encode() not in shown.data and b"onerror" not in shown.data, path
        acts = ACTS if page.name in ("customer", "redemption") else ACTS[:1]
        for act in acts if "POST" in page.methods and "<" in page.path else ():
            answer = foreign.post(path, {**fields, "act": act})
            assert answer.status < 500 and "onerror" not in answer.html, (path, act)
            # a number of a customer is Shopify's: points can be given to it in any shop, of that shop
            assert answer.status != 303 or "customer_id" in page.path, (path, act)
    for kind in ("failed", "order", "outbox", "endpoint", "reconcile"):
        for act in ("retry", "dismiss"):
            id = {"failed": str(event), "order": "450", "endpoint": ids["endpoint_id"]}.get(kind, "1")
            assert foreign.post("/attention", {"act": act, "kind": kind, "id": id}).status in (404, 409)
    assert kept_of(full_store) == before


def test_a_delivery_is_not_sent_again_by_way_of_another_shops_endpoint(
    full_store: PageShop, new_page_shop: NewPageShop
) -> None:
    other = new_page_shop()
    foreign = other.visitor()
    add(foreign)
    path = f"/integrations/endpoints/{ids_in(other)['endpoint_id']}/deliveries/{ids_in(full_store)['delivery_id']}/resend"
    before = kept_of(full_store)
    assert foreign.post(path).status == 404 and kept_of(full_store) == before


def test_a_forms_key_answers_for_its_own_shop_alone(new_page_shop: NewPageShop) -> None:
    for points in (5, 7):
        shop = new_page_shop()
        shop.grant(100)
        visitor = shop.visitor()
        for _ in range(2):
            visitor.post(
                f"/customers/{CUSTOMER}", {"act": "grant", "amount": points, "reason": "x", "key": "the-same"}
            )
        assert shop.balance() == 100 + points


def test_what_is_stored_runs_nowhere(full_store: PageShop) -> None:
    """Each page is checked for attributes and elements that run (`check_sound`); none holds the text as it was given."""
    visitor, ids, met = full_store.visitor(), ids_in(full_store), 0
    for page in PAGES:
        if "GET" not in page.methods or page.path.endswith(".csv"):
            continue
        answer = visitor.get(address(page.path, ids), status=None)  # type: ignore[arg-type]
        assert answer.status in (200, 303, 404), (page.path, answer.status)
        assert "<img src=x" not in answer.html and "<svg/onload" not in answer.html, page.path
        met += "&lt;img src=x" in answer.html
    assert met >= HOLDING_IT


# -- texts that are none ---------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "path", ["/orders?search=%00", "/redemptions?search=%00", "/activity?order=%00", "/preview?%00=1"]
)
def test_an_address_that_no_database_could_be_asked_for_is_refused(visitor: Visitor, path: str) -> None:
    assert visitor.get(path, status=400).h1 == "That could not be understood"


@pytest.mark.parametrize("key", ["\0", "k" * (KEY_MAX_CHARACTERS + 1), "\N{SNOWMAN}", "a b"])
def test_a_key_that_no_form_of_ours_carries_is_refused(
    visitor: Visitor, busy_store: PageShop, key: str
) -> None:
    before = busy_store.balance()
    fields = {"act": "grant", "amount": "5", "reason": "x", "key": key}
    assert visitor.post(f"/customers/{CUSTOMER}", fields).status == 400
    assert busy_store.balance() == before


@pytest.mark.parametrize("digits", ["9" * 5000, "9" * 19, "\N{SUPERSCRIPT TWO}"])
def test_units_out_of_all_proportion_are_a_wrong_field(visitor: Visitor, digits: str) -> None:
    wish = {"what": "lines", "line-4500": digits}
    assert visitor.post("/orders/450/refund", wish).status == 422
    assert visitor.get(f"/preview?id=450&what=lines&line-4500={digits}", status=422).forms


# -- the door --------------------------------------------------------------------------------------------


def test_of_many_who_open_one_link_at_once_one_is_logged_in(store: PageShop) -> None:
    token, answers, together = new_link(store), [], threading.Barrier(6)

    def open_it() -> None:
        client = store.app.test_client()
        together.wait()
        answers.append(client.post("/admin/login", data={"token": token}).status_code)

    threads = [threading.Thread(target=open_it) for _ in range(together.parties)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert answers.count(303) == 1 and set(answers) <= {303, 401, 503}, (
        answers
    )  # 503: too many at the door at once


@pytest.mark.parametrize("method", ["GET", "HEAD", "OPTIONS"])
def test_looking_at_a_link_uses_nothing_up(store: PageShop, method: str) -> None:
    token = new_link(store)
    for _ in range(2):
        assert store.app.test_client().open(f"/admin/login?token={token}", method=method).status_code == 200
    assert logged_in(Visitor(store.app.test_client()), token).status == 303


def test_a_link_is_asked_for_in_no_frame_whatever_shop_the_address_names(store: PageShop, app: Flask) -> None:
    nobody = Visitor(app.test_client())
    for answer in (
        nobody.get("/login?token=x&shop=evil.myshopify.com"),
        nobody.post("/login?shop=evil.myshopify.com", {"token": "x"}),
    ):
        assert policy(answer)["frame-ancestors"] == "'none'"


@pytest.mark.parametrize(
    "headers,base",
    [
        ({"X-Forwarded-Proto": "https"}, "http://127.0.0.1:8000"),
        ({"X-Forwarded-Proto": "https, http"}, "http://unwind:8000"),
        ({}, f"http://{APP.removeprefix('https://')}:443"),
    ],
)
def test_behind_what_speaks_https_for_us_the_cookie_needs_https(
    store: PageShop, headers: dict[str, str], base: str
) -> None:
    answer = store.app.test_client().post(
        "/admin/login", data={"token": new_link(store)}, base_url=base, headers=headers
    )
    assert "Secure" in cookie_of(answer)


@pytest.mark.parametrize("path", ["/admin", "/admin//orders", "/admin/customers/%2f%2fevil.example"])
def test_a_tidied_address_stays_on_this_server_and_its_scheme(app: Flask, path: str) -> None:
    answer = app.test_client().get(f"{path}?id_token=secret", base_url="http://evil.example")
    assert answer.status_code == 308
    assert answer.headers["Location"].startswith("/admin/") and "//" not in answer.headers["Location"]


def test_who_is_not_known_can_neither_send_much_nor_hold_the_threads(store: PageShop, app: Flask) -> None:
    nobody = Visitor(app.test_client())
    assert nobody.post("/login", {"token": "x" * login.FORM_MAX_BYTES}).status == 413
    assert logged_in(nobody, new_link(store)).status == 303


@pytest.mark.parametrize("cookie", ["\xff", '"', "a" * 5000, "\\000"])
def test_a_cookie_that_is_none_of_ours_is_no_login(app: Flask, cookie: str) -> None:
    answer = app.test_client().get("/admin/", headers={"Cookie": f"unwind_admin={cookie}"})
    assert answer.status_code == 401 and "Set-Cookie" not in answer.headers


def test_a_page_that_waits_for_others_takes_one_of_the_few_places_for_it(
    store: PageShop, settings: Settings
) -> None:
    pages, door = pages_of(store, settings)
    visitor = Visitor(pages.test_client(), headers=store.embedded().headers)
    fields = {"url": URL, "event:*": "true"}
    with ExitStack() as places:
        for shop in range(settings.receiver_threads // 4):
            places.enter_context(door.shares.waiting.one(-shop))
        assert visitor.post("/integrations/endpoints/new", fields).status == 503
    assert visitor.post("/integrations/endpoints/new", fields).status == 200


@pytest.mark.parametrize(
    "secret", ["whsec_" + "A" * 44, "eyJhbGciOiJIUzI1NiJ9.eyJkZXN0Ijoi.c2ln", "Bearer x", "a@b.example"]
)
def test_a_secret_in_the_words_of_an_error_is_not_reported(secret: str) -> None:
    assert hidden({"message": f"said {secret} there"}, keep=()) == {"message": f"said {HIDDEN} there"}
