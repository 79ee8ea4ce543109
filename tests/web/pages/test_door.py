"""The door of the pages: who may come in, what every answer says of itself, and what is said to whom it refuses."""

from __future__ import annotations

import re
import time
from collections.abc import Callable, Iterator
from datetime import UTC, datetime, timedelta
from urllib.parse import parse_qs, urlsplit

import pytest
from flask import Flask
from sqlalchemy import Engine
from werkzeug.test import TestResponse

from app.admin import PAGES, register
from app.admin.door import COOKIE, FORM_MAX_BYTES, asset, csrf_of
from app.api.calls import NOBODY, Door
from app.session_tokens import RETRY_HEADER
from app.web import create_api, create_app
from models.settings import Settings
from tasks.steps import admin_logins, shops
from tests.web.pages.conftest import APP, NewPageShop, PageShop, Visitor
from tests.web.pages.reading import Answer


@pytest.fixture
def nobody(app: Flask) -> Visitor:
    return Visitor(app.test_client())


@pytest.fixture
def app_with(settings: Settings) -> Iterator[Callable[..., Flask]]:
    """The application with other settings."""
    made: list[Flask] = []

    def app_with(**other: object) -> Flask:
        made.append(create_app(settings.model_copy(update=other)))
        return made[-1]

    yield app_with
    for app in made:
        app.extensions["unwind"].close()


def new_link(store: PageShop, *, ago: timedelta = timedelta(0)) -> str:
    """The token of `unwind admin link`."""
    with store.engine.begin() as connection:
        return admin_logins.make_link(connection, store.domain, datetime.now(UTC) - ago)


def logged_in(visitor: Visitor, token: str, **headers: str) -> Answer:
    return visitor.post("/login", {"token": token}, headers=headers)


def cookie_of(response: TestResponse) -> str:
    return next(value for name, value in response.headers if name == "Set-Cookie")


def policy(answer: Answer) -> dict[str, str]:
    """The Content-Security-Policy's directives."""
    parts = answer.response.headers["Content-Security-Policy"].split(";")
    return {name: values for name, _, values in (part.strip().partition(" ") for part in parts)}


# -- every page ------------------------------------------------------------------------------------------


def test_whoever_is_logged_in_sees_each_page(visitor: Visitor) -> None:
    home = visitor.get("/")
    for link in home.root.find("nav", class_="tabs").all("a"):
        assert visitor.get(link["href"]).root.has("a", aria_current="page")


def test_a_visitor_of_the_admin_sees_each_page_without_a_cookie(busy_store: PageShop) -> None:
    home = busy_store.embedded().get("/")
    assert not home.root.has("nav", class_="tabs")
    for link in home.root.find("ui-nav-menu").all("a"):
        assert "Set-Cookie" not in busy_store.embedded().get(link["href"]).response.headers


def test_no_page_is_made_for_nobody(nobody: Visitor) -> None:
    for page in PAGES:
        path = re.sub("<[^>]+>", "1", page.path)
        answer = nobody.get(path, status=401) if "GET" in page.methods else nobody.post(path)
        assert answer.status == 401 and answer.h1 == "Who are you?", page.path
    assert nobody.post("/logout").status == 401


def test_the_address_without_its_last_slash_leads_to_the_pages(nobody: Visitor) -> None:
    answer = nobody.client.get("/admin")
    assert answer.status_code == 308 and urlsplit(answer.headers["Location"]).path == "/admin/"


# -- session tokens --------------------------------------------------------------------------------------


def test_a_token_in_the_address_opens_the_page_and_is_in_none_of_its_links(busy_store: PageShop) -> None:
    token = busy_store.shopify.session_token(busy_store.domain)
    query = f"id_token={token}&shop={busy_store.domain}&host=aG9zdA&embedded=1&hmac=x&timestamp=1"
    page = Visitor(busy_store.app.test_client()).get(f"/activity?{query}&kind=points.reversed")
    assert page.rows and token not in page.html and "host=" not in page.html
    assert page.root.find("ui-nav-menu")


def test_a_shop_named_by_the_frame_is_no_filter(store: PageShop) -> None:
    page = store.embedded().get(f"/orders?shop={store.domain}&host=aG9zdA&embedded=1&locale=en")
    assert "No orders yet" in page.text


@pytest.mark.parametrize(
    "claims",
    [{"exp": int(time.time()) - 60}, {"aud": "another-app"}, {"dest": "https://evil.example"}],
    ids=["expired", "of another app", "of another site"],
)
def test_a_request_with_a_token_that_is_not_valid_is_told_to_fetch_another(store: PageShop, claims) -> None:
    answer = store.embedded(**claims).get("/", status=401)
    assert answer.response.headers[RETRY_HEADER] == "1" and "opened again" in answer.h1


def test_a_page_without_a_valid_token_goes_to_fetch_one_and_comes_back_to_where_it_was(
    store: PageShop, nobody: Visitor
) -> None:
    for token in ("", "&id_token=rubbish"):
        path = f"/activity?shop={store.domain}&host=aG9zdA&embedded=1&kind=points.reversed{token}"
        answer = nobody.get(path, status=302)
        at = urlsplit(answer.location)
        assert f"{at.scheme}://{at.netloc}{at.path}" == f"{APP}/session-token-bounce"
        given = parse_qs(at.query)
        assert given["shop"] == [store.domain] and given["host"] == ["aG9zdA"]
        back = urlsplit(given["shopify-reload"][0])
        assert back.path == "/admin/activity" and "rubbish" not in answer.location
        asked = parse_qs(back.query)
        assert asked["kind"] == ["points.reversed"] and asked["bounced"] == ["1"]


def test_a_page_that_came_back_without_a_valid_token_is_explained_inside_the_frame(
    store: PageShop, nobody: Visitor
) -> None:
    answer = nobody.get(f"/?shop={store.domain}&embedded=1&bounced=1&id_token=x", status=401)
    assert "opened again" in answer.h1
    assert f"https://{store.domain}" in policy(answer)["frame-ancestors"]


def test_a_store_that_is_not_installed_is_led_to_the_installation(store: PageShop, nobody: Visitor) -> None:
    remove(store)
    token = store.shopify.session_token(store.domain)
    answer = nobody.get(f"/?shop={store.domain}&id_token={token}", status=302)
    assert answer.location.startswith(f"/?shop={store.domain}")
    assert store.embedded().get("/", status=401).h1 == "The app is not installed in this store"


def test_a_token_goes_before_a_cookie(new_page_shop: NewPageShop) -> None:
    first, second = new_page_shop(), new_page_shop()
    first.place(450)
    visitor = first.visitor()
    visitor.headers = second.embedded().headers
    assert "450" not in visitor.get("/orders").text


def test_a_token_acts_by_its_header_only(store: PageShop, nobody: Visitor) -> None:
    token = store.shopify.session_token(store.domain)
    fields = {"act": "retry", "kind": "failed", "id": "1"}
    assert nobody.post(f"/attention?id_token={token}", fields).status == 401
    assert store.embedded().post("/attention", fields).status == 404


# -- a login ---------------------------------------------------------------------------------------------


def test_a_link_logs_in_once(store: PageShop, nobody: Visitor) -> None:
    token = new_link(store)
    for _ in range(3):  # looking at it uses nothing up
        page = nobody.get(f"/login?token={token}")
    answer = nobody.submit(page, "Log in", follow=False)
    assert answer.status == 303 and answer.location == "/admin/"
    assert store.domain in nobody.get("/").root.text
    again = logged_in(Visitor(store.app.test_client()), token)
    assert again.status == 401 and again.h1 == "This link leads nowhere any more"


def test_the_cookie_is_for_these_pages_and_this_site_and_no_script(store: PageShop, nobody: Visitor) -> None:
    marks = cookie_of(logged_in(nobody, new_link(store)).response)
    for mark in ("HttpOnly", "SameSite=Strict", "Path=/admin", f"Max-Age={admin_logins.SESSION_SECONDS}"):
        assert mark in marks
    assert "Secure" not in marks  # plain http, as on the operator's own machine


def test_over_https_the_cookie_is_never_sent_without_it(store: PageShop) -> None:
    client = store.app.test_client()
    answer = client.post("/admin/login", data={"token": new_link(store)}, base_url=APP)
    assert "Secure" in cookie_of(answer)
    behind = APP.replace("https", "http")  # what stands before this server speaks https for it
    answer = client.post("/admin/login", data={"token": new_link(store)}, base_url=behind)
    assert "Secure" in cookie_of(answer)


def test_a_link_ends_after_a_quarter_of_an_hour(store: PageShop, nobody: Visitor) -> None:
    assert logged_in(nobody, new_link(store, ago=timedelta(minutes=14))).status == 303
    assert logged_in(nobody, new_link(store, ago=timedelta(minutes=16))).status == 401
    assert logged_in(nobody, "").status == 401


def test_a_login_ends_after_twelve_hours(store: PageShop) -> None:
    visitor = store.visitor()
    store.run("update admin_sessions set expires_at = now() where shop_id = :shop_id")
    answer = visitor.get("/", status=401)
    assert answer.h1 == "Your login has ended" and "unwind admin link" in answer.text


def test_logging_out_ends_the_login(store: PageShop) -> None:
    visitor = store.visitor()
    cookie = visitor.client.get_cookie(COOKIE, path="/admin")
    assert cookie is not None
    page = visitor.get("/")
    form = page.root.find("form", action="/admin/logout")
    csrf = form.find("input", name="csrf")["value"]
    answer = visitor.post("/logout", {"csrf": csrf}, csrf=False)
    assert answer.status == 303 and "logged out" in visitor.get(answer.location).text
    visitor.client.set_cookie(COOKIE, cookie.value, path="/admin")
    assert visitor.get("/", status=401).h1 == "Your login has ended"


def test_logging_in_again_ends_the_login_before(new_page_shop: NewPageShop) -> None:
    first, second = new_page_shop(), new_page_shop()
    visitor = first.visitor()
    cookie = visitor.client.get_cookie(COOKIE, path="/admin")
    assert cookie is not None
    assert logged_in(visitor, new_link(second)).status == 303
    assert second.domain in visitor.get("/").root.text
    visitor.client.set_cookie(COOKIE, cookie.value, path="/admin")
    assert visitor.get("/", status=401)


def test_a_removed_shops_login_ends_and_its_links_lead_nowhere(store: PageShop, nobody: Visitor) -> None:
    visitor, token = store.visitor(), new_link(store)
    remove(store)
    assert visitor.get("/", status=401).h1 == "Your login has ended"
    assert logged_in(nobody, token).status == 401


def test_the_database_keeps_neither_link_nor_login(store: PageShop) -> None:
    token = new_link(store)
    visitor = store.visitor()
    cookie = visitor.client.get_cookie(COOKIE, path="/admin")
    assert cookie is not None
    kept = repr([*store.run("select * from admin_links"), *store.run("select * from admin_sessions")])
    assert token not in kept and cookie.value not in kept


# -- forms -----------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "word",
    ["", "x", csrf_of("another login"), "\N{SNOWMAN}"],
    ids=["none", "made up", "another's", "a snowman"],
)
def test_a_form_without_the_logins_own_word_is_refused(store: PageShop, word: str) -> None:
    visitor = store.visitor()
    answer = visitor.post("/logout", {"csrf": word} if word else {}, csrf=False)
    assert answer.status == 403 and answer.h1 == "Nothing was done"
    assert visitor.get("/").status == 200


def test_a_form_around_which_another_site_stands_is_refused(store: PageShop, nobody: Visitor) -> None:
    visitor = store.visitor()
    for site in ("cross-site", "same-site"):
        assert visitor.post("/logout", headers={"Sec_Fetch_Site": site}).status == 403
        assert logged_in(nobody, new_link(store), Sec_Fetch_Site=site).status == 403
    assert visitor.post("/logout", headers={"Sec_Fetch_Site": "same-origin"}).status == 303


def test_inside_the_admin_forms_carry_no_word_since_no_cookie_speaks(busy_store: PageShop) -> None:
    busy_store.receive("refunds/create", b"{}")
    busy_store.work()
    page = busy_store.embedded().get("/attention")
    assert page.button("Retry") and 'name="csrf"' not in page.html


# -- what every answer says of itself --------------------------------------------------------------------


def test_a_page_runs_and_loads_nothing_of_others_and_is_framed_by_nobody(visitor: Visitor) -> None:
    found = policy(visitor.get("/"))
    assert found["default-src"] == "'none'" and found["frame-ancestors"] == "'none'"
    for name in ("script-src", "style-src", "connect-src", "form-action"):
        assert found[name] == "'self'", name


def test_inside_the_admin_it_is_framed_by_that_shops_admin_alone(settings: Settings, store: PageShop) -> None:
    app = create_app(settings.model_copy(update={"shopify_base_url": None}))
    try:
        page = Visitor(app.test_client(), headers=store.embedded().headers).get("/")
    finally:
        app.extensions["unwind"].close()
    found = policy(page)
    assert found["frame-ancestors"] == f"https://{store.domain} https://admin.shopify.com"
    assert found["script-src"] == "'self' https://cdn.shopify.com"
    assert page.root.find("script", data_api_key=store.shopify.application.key)


@pytest.mark.parametrize("path", ["/", "/nothing-here", "/login", "/orders/1"])
def test_every_answer_is_its_visitors_alone(store: PageShop, path: str) -> None:
    for visitor in (store.visitor(), store.embedded(), Visitor(store.app.test_client())):
        headers = visitor.client.get(f"/admin{path}", headers=visitor.headers).headers
        assert headers["Cache-Control"] == "no-store"
        assert headers["X-Content-Type-Options"] == "nosniff"
        assert headers["Referrer-Policy"] == "no-referrer"
        assert {"Authorization", "Cookie"} <= set(headers["Vary"].split(", "))
        assert "default-src 'none'" in headers["Content-Security-Policy"]


def test_static_files_are_kept_for_ever_under_an_address_that_changes_with_them(nobody: Visitor) -> None:
    for name in ("admin.css", "admin.js", "htmx.min.js", "polaris-tokens.css", "icon.svg"):
        answer = nobody.client.get(asset(name))
        answer.close()
        assert answer.status_code == 200 and "max-age=31536000" in answer.headers["Cache-Control"]
        assert answer.headers["X-Content-Type-Options"] == "nosniff" and "Set-Cookie" not in answer.headers
        assert re.fullmatch(rf"/admin/static/{re.escape(name)}\?v=[0-9a-f]{{12}}", asset(name))


@pytest.mark.parametrize("path", ["../door.py", "%2e%2e/door.py", "nothing.css"])
def test_nothing_else_is_a_static_file(nobody: Visitor, path: str) -> None:
    answer = nobody.client.get(f"/admin/static/{path}")
    assert answer.status_code in (401, 404) and b"import" not in answer.data
    assert answer.headers["Cache-Control"] == "no-store"


def test_the_head_of_a_page_is_told_without_it(visitor: Visitor) -> None:
    answer = visitor.client.head("/admin/")
    assert answer.status_code == 200 and answer.data == b""


def test_a_page_that_takes_no_form_says_what_it_takes(visitor: Visitor) -> None:
    answer = visitor.post("/activity")
    assert answer.status == 405 and answer.response.headers["Allow"] == "GET, HEAD, OPTIONS"


@pytest.mark.parametrize(
    "path", ["/nothing-here", "/orders/1", "/orders/x", "/redemptions/99999999999999999999"]
)
def test_what_is_not_there_is_a_page(visitor: Visitor, path: str) -> None:
    assert visitor.get(path, status=404).h1 == "There is nothing here"


# -- trouble ---------------------------------------------------------------------------------------------


def test_a_form_that_is_too_large_is_refused_and_nothing_of_it_done(store: PageShop) -> None:
    for visitor in (store.visitor(), store.embedded()):
        answer = visitor.post("/attention", {"what": "x" * (FORM_MAX_BYTES + 1)})
        assert answer.status == 413 and answer.h1 == "That was too much at once"


def test_a_database_that_is_away_is_a_page_that_says_so(
    app_with: Callable[..., Flask], store: PageShop
) -> None:
    app = app_with(database_url="postgresql+psycopg://postgres@127.0.0.1:1/none?connect_timeout=1")
    answer = Visitor(app.test_client(), headers=store.embedded().headers).get("/", status=503)
    assert answer.h1 == "The server is busy" and answer.response.headers["Retry-After"] == "5"
    assert answer.response.headers["Cache-Control"] == "no-store"


def test_a_server_at_work_on_too_much_says_so_and_when_to_come_again(
    settings: Settings, store: PageShop
) -> None:
    pages, door = pages_of(store, settings.model_copy(update={"receiver_threads": 1}))
    visitor = Visitor(pages.test_client(), headers=store.embedded().headers)
    with door.shares.calls.one(NOBODY):
        answer = visitor.get("/", status=503)
        assert answer.h1 == "The server is busy" and answer.response.headers["Retry-After"] == "5"
    assert visitor.get("/").status == 200


def test_whoever_asks_too_often_is_told_so_and_others_are_not(
    settings: Settings, new_page_shop: NewPageShop
) -> None:
    first, second = new_page_shop(), new_page_shop()
    pages, _ = pages_of(first, settings, calls_per_minute=2)
    visitor = Visitor(pages.test_client(), headers=first.embedded().headers)
    assert [visitor.client.get("/admin/", headers=visitor.headers).status_code for _ in range(2)] == [
        200,
        200,
    ]
    refused = visitor.get("/", status=429)
    assert refused.h1 == "That was too often"
    assert 0 < int(refused.response.headers["Retry-After"]) <= 60
    assert Visitor(pages.test_client(), headers=second.embedded().headers).get("/").status == 200


def pages_of(store: PageShop, settings: Settings, **more: int) -> tuple[Flask, Door]:
    """The pages' own application with other settings, and the door of the calls behind it."""
    _, door = create_api(settings, store.app.extensions["unwind"])
    pages = Flask("app.admin", static_url_path="/admin/static")
    register(pages, door, **more)
    return pages, door


def remove(store: PageShop) -> None:
    with store.engine.begin() as connection:
        assert shops.remove(connection, store.domain)


def test_a_fault_of_ours_is_a_page_that_tells_nothing_of_our_insides(store: PageShop, engine: Engine) -> None:
    visitor = store.embedded()
    store.run(
        "insert into programs (shop_id, version, settings, from_at) values (:shop_id, 2, '{}'::jsonb, now())"
    )
    answer = visitor.get("/", status=500)
    assert answer.h1 == "Something went wrong on our side" and "Traceback" not in answer.html
