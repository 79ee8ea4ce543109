"""The OpenAPI document is valid, complete and true."""

from __future__ import annotations

import re
import time
from itertools import product
from typing import Any

import pytest
from flask import Flask
from flask.testing import FlaskClient
from openapi_spec_validator import OpenAPIV31SpecValidator

from app.api import OPERATIONS, PREFIX
from app.web import create_api
from tests.web.api.conftest import DOCUMENT, validator

OPEN_PAGES = {"openapi.json", "docs"}
CONTRACT = [
    ("GET", "/program"),
    ("PUT", "/program"),
    ("GET", "/customers/{customer_id}"),
    ("GET", "/customers/{customer_id}/activity"),
    ("PUT", "/customers/{customer_id}/tier"),
    ("POST", "/customers/{customer_id}/grants"),
    ("GET", "/activity"),
    ("GET", "/orders/{order_id}"),
    ("GET", "/orders/{order_id}/trace"),
    ("POST", "/orders/{order_id}/preview"),
    ("POST", "/orders/{order_id}/cancel"),
    ("POST", "/orders/{order_id}/refund"),
    ("POST", "/refunds/{refund_id}/undo"),
    ("POST", "/redemptions"),
    ("GET", "/redemptions/{redemption_id}"),
    ("GET", "/failed"),
    ("POST", "/failed/{event_id}/retry"),
    ("POST", "/orders/{order_id}/cancel"),
    ("POST", "/orders/{order_id}/refund"),
    ("POST", "/refunds/{refund_id}/undo"),
    ("POST", "/redemptions/{redemption_id}/cancel"),
    ("POST", "/points/reverse"),
    ("GET", "/endpoints"),
    ("POST", "/endpoints"),
    ("DELETE", "/endpoints/{endpoint_id}"),
    ("GET", "/reports/liability"),
]
CALLS = [(method, path, call) for path, calls in DOCUMENT["paths"].items() for method, call in calls.items()]
each_call = pytest.mark.parametrize(
    ("method", "path", "call"), CALLS, ids=[call["operationId"] for *_, call in CALLS]
)


def test_it_is_valid_openapi_3_1() -> None:
    OpenAPIV31SpecValidator(DOCUMENT).validate()


def test_it_is_served_to_everyone_without_a_token(client: FlaskClient) -> None:
    response = client.get(f"{PREFIX}/openapi.json")
    assert (response.status_code, response.get_json()) == (200, DOCUMENT)


def test_it_has_every_call_of_the_contract() -> None:
    assert {(method.upper(), path) for method, path, _ in CALLS} >= set(CONTRACT)


def test_it_has_every_route_that_the_app_has_and_no_other(app: Flask) -> None:
    unwind = app.extensions["unwind"]
    inside, _ = create_api(unwind.settings, unwind)
    routed = {
        (method, re.sub(r"<([a-z_]+)>", r"{\1}", rule.rule.removeprefix(PREFIX)))
        for rule in inside.url_map.iter_rules()
        if rule.rule.startswith(f"{PREFIX}/") and rule.rule.rpartition("/")[2] not in OPEN_PAGES
        for method in (rule.methods or set()) - {"HEAD", "OPTIONS"}
    }
    assert routed == {(method.upper(), path) for method, path, _ in CALLS}


@each_call
def test_every_answer_has_an_example_that_fits_its_schema(method: str, path: str, call: Any) -> None:
    for answer in call["responses"].values():
        content = answer["content"]["application/json"]
        examples = [each["value"] for each in content.get("examples", {}).values()] or [content["example"]]
        assert examples
        for example in examples:
            validator(content["schema"]).validate(example)


@each_call
def test_every_body_has_an_example_that_fits_its_schema(method: str, path: str, call: Any) -> None:
    for content in call.get("requestBody", {}).get("content", {}).values():
        validator(content["schema"]).validate(content["example"])


@each_call
def test_every_call_tells_what_a_missing_token_and_too_many_calls_answer(
    method: str, path: str, call: Any
) -> None:
    assert {"401", "422", "429", "503"} <= set(call["responses"])
    assert call["summary"]


@pytest.mark.parametrize("operation", [o for o in OPERATIONS if o.body is not None], ids=lambda o: o.name)
def test_the_example_of_a_body_is_one_that_the_server_takes(operation) -> None:
    assert operation.body.model_validate(operation.body.EXAMPLE) is not None


@pytest.mark.parametrize("operation", OPERATIONS, ids=lambda o: o.name)
def test_calls_with_an_effect_and_only_they_take_an_idempotency_key(operation) -> None:
    call = DOCUMENT["paths"][operation.path][operation.method.lower()]
    named = {parameter["name"] for parameter in call["parameters"]}
    assert ("Idempotency-Key" in named) == operation.writes
    assert not (operation.method == "GET" and operation.writes)


def test_every_link_leads_to_a_call_and_gives_it_an_id_that_it_takes() -> None:
    paths = {call["operationId"]: path for _, path, call in CALLS}
    for _, path, call in CALLS:
        for answer in call["responses"].values():
            for link in answer.get("links", {}).values():
                asked = set(re.findall(r"{([a-z_]+)}", paths[link["operationId"]]))
                assert {name.removeprefix("path.") for name in link["parameters"]} == asked
                for place in link["parameters"].values():
                    if place.startswith("$response.body#/"):
                        assert example_at(answer, place.removeprefix("$response.body#/")) is not None
                    else:
                        assert f"{{{place.removeprefix('$request.path.')}}}" in path


def example_at(answer: Any, pointer: str) -> Any:
    found = answer["content"]["application/json"]["example"]
    for name in pointer.split("/"):
        found = found[name]
    return found


@each_call
def test_every_answer_says_how_often_its_caller_may_call(method: str, path: str, call: Any) -> None:
    for answer in call["responses"].values():
        assert {"RateLimit", "RateLimit-Policy", "X-RateLimit-Remaining"} <= set(answer["headers"])
    assert {"Retry-After"} <= set(call["responses"]["429"]["headers"]) & set(
        call["responses"]["503"]["headers"]
    )


def patterns_in(part: Any) -> set[str]:
    if isinstance(part, list):
        return {found for each in part for found in patterns_in(each)}
    if not isinstance(part, dict):
        return set()
    own = {part["pattern"]} if isinstance(part.get("pattern"), str) else set()
    return own | patterns_in(list(part.values()))


@pytest.mark.parametrize("pattern", sorted(patterns_in(DOCUMENT)))
def test_no_pattern_takes_long_to_refuse_a_long_text(pattern: str) -> None:
    """Callers' tools run these patterns, and `re` lets no other thread run meanwhile: 40,000 characters, tried in
    more than one way each, take many seconds."""
    began = time.perf_counter()
    for piece, end in product(("a", "1", " ", "\u00a0", "-", ".", "a "), ("\n", "!", "\0", "")):
        re.search(pattern, piece * 40_000 + end)
    assert time.perf_counter() - began < 5


def test_the_page_for_people_names_every_call_and_runs_no_script(client: FlaskClient) -> None:
    response = client.get(f"{PREFIX}/docs")
    page = response.get_data(as_text=True)
    assert response.status_code == 200 and response.mimetype == "text/html"
    assert all(call["operationId"] in page for *_, call in CALLS)
    assert "<script" not in page and "default-src 'none'" in response.headers["Content-Security-Policy"]
