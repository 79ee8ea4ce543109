"""Who may call, how often, and what every answer looks like."""

from __future__ import annotations

import re
import time
from io import BytesIO

import pytest
from flask import Flask, request
from flask.testing import FlaskClient
from pydantic import ValidationError
from sqlalchemy import Engine, text

from app import api as the_api
from app import errors
from app.api.fields import read_line
from app.api.merchants import CancelRequest
from app.web import behind
from models.session import make_engine
from models.settings import Settings
from tasks.steps import shops, tokens

PROGRAM = "/api/v1/program"


@pytest.mark.parametrize(
    "header",
    [
        pytest.param(None, id="no header"),
        pytest.param("", id="an empty header"),
        pytest.param("Bearer", id="no token"),
        pytest.param("Bearer    ", id="a blank token"),
        pytest.param("Basic dXNlcjpwYXNz", id="another scheme"),
        pytest.param("Bearer nobody's", id="a token that nobody has"),
        pytest.param("Bearer " + "x" * 10_000, id="a very long token"),
        pytest.param("Bearer \xff\xfe", id="bytes that are no text"),
        pytest.param("Bearer ' or 1=1 --", id="an injection"),
    ],
)
def test_a_call_without_a_known_token_is_401_with_a_challenge(
    client: FlaskClient, header: str | None
) -> None:
    response = client.get(PROGRAM, headers={} if header is None else {"Authorization": header})
    assert response.status_code == 401
    assert response.headers["WWW-Authenticate"].startswith("Bearer ")
    assert response.get_json()["error"]["code"] == "unauthorized"


def test_a_known_token_opens_its_shop_whatever_the_case_of_the_scheme(api) -> None:
    api.headers = {"Authorization": f"bEaReR {api.token}"}
    assert api.get("/program").status_code == 200


def test_the_tokens_of_a_removed_shop_are_nobodys(api, engine: Engine) -> None:
    with engine.begin() as connection:
        shops.remove(connection, api.domain)
    assert api.get("/program").status_code == 401


def test_only_the_hash_of_a_token_is_stored(api, engine: Engine) -> None:
    with engine.begin() as connection:
        row = connection.execute(
            text("select * from api_tokens where shop_id = :id"), {"id": api.shop_id}
        ).one()
    assert row.digest == tokens.digest(api.token)
    assert api.token not in repr(row._mapping)
    assert api.token.startswith(tokens.PREFIX) and len(api.token) > 40


def test_two_tokens_of_one_shop_both_work(api, engine: Engine) -> None:
    with engine.begin() as connection:
        second = tokens.create(connection, api.domain).text
    assert second != api.token
    api.token = second
    assert api.get("/program").status_code == 200


def test_the_token_of_a_token_never_shows_in_its_repr(engine: Engine, api) -> None:
    with engine.begin() as connection:
        made = tokens.create(connection, api.domain)
    assert made.text not in repr(made)


@pytest.mark.parametrize("path", ["/nothing", "/customers", "/orders/1/2/3"])
def test_a_path_that_is_not_there_is_404_as_json(api, path: str) -> None:
    response = api.get(path)
    assert response.status_code == 404
    assert response.get_json()["error"]["code"] == "not_found"


def test_a_method_that_is_not_there_is_405_with_the_ones_that_are(api) -> None:
    response = api.call("DELETE", "/program")
    assert response.status_code == 405
    assert {"GET", "PUT"} <= set(response.headers["Allow"].split(", "))
    assert response.get_json()["error"]["code"] == "method_not_allowed"


@pytest.mark.parametrize(
    "id",
    ["abc", "0", "-1", "1.5", "1e3", "9223372036854775808", "99999999999999999999999", "٣", "1%00", "%2e%2e"],
)
@pytest.mark.parametrize("path", ["/customers/{}", "/orders/{}", "/redemptions/{}", "/orders/{}/trace"])
def test_what_cannot_be_an_id_is_404(api, path: str, id: str) -> None:
    assert api.get(path.format(id)).status_code == 404


@pytest.mark.parametrize("path", ["/program", "/nothing", "/customers/1", "/activity?limit=x"])
def test_no_answer_is_kept_by_a_cache_or_taken_for_a_page(api, path: str) -> None:
    response = api.get(path)
    assert response.mimetype == "application/json"
    if response.status_code != 404 or path != "/nothing":
        assert response.headers["Cache-Control"] == "no-store"
        assert response.headers["X-Content-Type-Options"] == "nosniff"


@pytest.mark.parametrize(
    ("data", "kind", "status", "code"),
    [
        pytest.param(b"", "application/json", 400, "not_json", id="nothing"),
        pytest.param(b"{", "application/json", 400, "not_json", id="half an object"),
        pytest.param(b"\xff{}", "application/json", 400, "not_json", id="not UTF-8"),
        pytest.param(b'{"a": NaN}', "application/json", 400, "not_json", id="NaN"),
        pytest.param(b'{"a": Infinity}', "application/json", 400, "not_json", id="infinity"),
        pytest.param(
            b'{"a": 1e999999999}', "application/json", 400, "not_json", id="a number beyond all numbers"
        ),
        pytest.param(b'{"a": ' + b"9" * 5000 + b"}", "application/json", 400, "not_json", id="5000 digits"),
        pytest.param(b'{"a": 1, "a": 2}', "application/json", 400, "not_json", id="a name twice"),
        pytest.param(b"[" * 100_000, "application/json", 400, "not_json", id="a hundred thousand brackets"),
        pytest.param(b"[]", "application/json", 422, "invalid_request", id="a list"),
        pytest.param(b"null", "application/json", 422, "invalid_request", id="null"),
        pytest.param(b'"text"', "application/json", 422, "invalid_request", id="a text"),
        pytest.param(b"{}", "text/plain", 415, "unsupported_media_type", id="text"),
        pytest.param(b"a=1", "application/x-www-form-urlencoded", 415, "unsupported_media_type", id="a form"),
        pytest.param(b" " * 1_100_000, "application/json", 413, "request_entity_too_large", id="a megabyte"),
    ],
)
def test_a_body_that_cannot_be_read_says_why(api, data: bytes, kind: str, status: int, code: str) -> None:
    response = api.client.put(
        PROGRAM, data=data, content_type=kind, headers={"Authorization": f"Bearer {api.token}"}
    )
    assert (response.status_code, response.get_json()["error"]["code"]) == (status, code)


@pytest.mark.parametrize(
    "end", ["\n", "\x7f", ""], ids=["a line's end", "a control character", "nothing odd"]
)
@pytest.mark.parametrize("piece", ["a", " ", "\u3000"], ids=["letters", "blanks", "wide blanks"])
def test_a_text_of_a_megabyte_is_refused_at_once(piece: str, end: str) -> None:
    """A pattern holds up every other thread of the receiver, those that take webhooks among them."""
    text = piece * 1_000_000 + end
    began = time.perf_counter()
    with pytest.raises(ValidationError):
        CancelRequest.model_validate({"reason": text})
    assert time.perf_counter() - began < 1


@pytest.mark.parametrize(
    ("value", "taken"),
    [
        pytest.param("a", True, id="a letter"),
        pytest.param("  a b  ", True, id="blanks around it"),
        pytest.param("\u00a0\u3000x\u2028", True, id="wide blanks around it"),
        pytest.param("", False, id="nothing"),
        pytest.param("   ", False, id="blanks"),
        pytest.param("\u00a0\u2003", False, id="wide blanks"),
        pytest.param("a\n", False, id="a line's end"),
        pytest.param("\ta", False, id="a tab first"),
        pytest.param("a\x7f", False, id="a control character"),
    ],
)
def test_a_line_of_text_has_something_in_it_and_one_line(value: str, taken: bool) -> None:
    try:
        assert read_line(value) == value and taken
    except ValueError as error:
        assert not taken and str(error) == "must be one line of text, not empty"


@pytest.mark.parametrize(("spaces", "status"), [(1000, 201), (1_100_000, 413)])
def test_a_body_in_chunks_has_the_same_limit(api, spaces: int, status: int) -> None:
    response = api.client.post(
        "/api/v1/customers/7001/grants",
        input_stream=BytesIO(b'{"amount": 5, "reason": "x"}' + b" " * spaces),
        content_type="application/json",
        headers={"Authorization": f"Bearer {api.token}", "Transfer-Encoding": "chunked"},
        environ_overrides={"wsgi.input_terminated": True},
    )
    assert response.status_code == status


@pytest.fixture
def three_a_minute(engine: Engine, settings: Settings) -> FlaskClient:
    app = Flask("few")
    errors.register(app)
    app.add_url_rule("/webhooks", "webhooks", lambda: "stored", methods=["POST"])
    the_api.register(app, engine, settings, calls_per_minute=3)
    return app.test_client()


def test_a_token_that_calls_too_often_is_told_to_wait_and_others_are_not(three_a_minute, api, other) -> None:
    api.client = other.client = three_a_minute
    answers = [api.get("/program") for _ in range(4)]
    assert [answer.status_code for answer in answers] == [200, 200, 200, 429]
    assert [answer.headers["X-RateLimit-Remaining"] for answer in answers] == ["2", "1", "0", "0"]
    assert {answer.headers["X-RateLimit-Limit"] for answer in answers} == {"3"}
    assert {answer.headers["RateLimit-Policy"] for answer in answers} == {'"calls";q=3;w=60'}
    left = [re.fullmatch(r'"calls";r=(\d+);t=(\d+)', answer.headers["RateLimit"]) for answer in answers]
    assert [found and found[1] for found in left] == ["2", "1", "0", "0"]
    assert all(found and 0 <= int(found[2]) <= 60 for found in left)
    assert "Retry-After" not in answers[0].headers and 0 < int(answers[3].headers["Retry-After"]) <= 60
    assert answers[3].get_json()["error"]["code"] == "too_many_requests"
    assert api.get("/failed").status_code == 429  # all calls count together
    assert other.get("/program").status_code == 200


def test_callers_who_are_nobody_are_limited_together(three_a_minute: FlaskClient) -> None:
    answers = [three_a_minute.get(PROGRAM, headers={"Authorization": f"Bearer {i}"}) for i in range(4)]
    assert [answer.status_code for answer in answers] == [401, 401, 401, 429]


@pytest.mark.parametrize(
    ("proxies", "seen"),
    [
        pytest.param(
            0, "127.0.0.1", id="nobody stands before it: what a caller says of himself does not count"
        ),
        pytest.param(1, "203.0.113.7", id="one proxy: the address that it saw"),
    ],
)
def test_a_callers_address_is_what_trusted_proxies_say(proxies: int, seen: str) -> None:
    app = Flask("behind")
    app.add_url_rule("/", view_func=lambda: request.remote_addr or "")
    app.wsgi_app = behind(proxies, app.wsgi_app)  # type: ignore[method-assign]
    headers = {"X-Forwarded-For": "198.51.100.1, 203.0.113.7"}
    assert app.test_client().get("/", headers=headers).text == seen


def test_webhooks_are_never_limited(three_a_minute: FlaskClient) -> None:
    answers = [three_a_minute.post("/webhooks") for _ in range(20)]
    assert {answer.status_code for answer in answers} == {200}
    assert not any("RateLimit" in name for name, _ in answers[0].headers)


def test_without_its_redis_the_limit_is_kept_in_memory(engine: Engine, settings: Settings, api) -> None:
    app = Flask("alone")
    errors.register(app)
    gone = settings.model_copy(update={"redis_url": "redis://127.0.0.1:1/0"})
    the_api.register(app, engine, gone, calls_per_minute=2)
    api.client = app.test_client()
    assert [api.get("/program").status_code for _ in range(3)] == [200, 200, 429]


def test_a_busy_database_is_503_and_says_when_to_come_back(engine: Engine, settings: Settings, api) -> None:
    assert settings.database_url is not None
    impatient = make_engine(settings.database_url, statement_timeout_seconds=1)
    app = Flask("busy")
    errors.register(app)
    the_api.register(app, impatient, settings)
    api.client = app.test_client()
    with engine.begin() as holder:
        holder.execute(text("lock table programs in access exclusive mode"))
        response = api.get("/program")
    impatient.dispose()
    assert response.status_code == 503
    assert int(response.headers["Retry-After"]) > 0
