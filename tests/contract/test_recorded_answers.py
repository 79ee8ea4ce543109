"""Answers in every shape that Shopify was seen to give go through the client without an unforeseen error.

Shapes of our own always; beside them recordings of the live API, where such a folder stands next to the repository.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from pytest_httpserver import HTTPServer
from werkzeug import Response

from models.errors import Later, Never, OutcomeUnknown, ShopifyRefused, ShopifyUnreachable
from models.settings import Settings
from tasks.gateway.answers import accepted, read_cost, user_errors
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tasks.steps.load import ShopRow

RECORDED = Path(__file__).resolve().parents[3] / "shared" / "fixtures" / "shopify_draft_proxy_graphql"
SHOP = ShopRow(7, "recorded-tests.myshopify.com", "EUR")
PATH = "/admin/api/2026-10/graphql.json"
STATUS = {"maximumAvailable": 2000, "currentlyAvailable": 1990, "restoreRate": 100}
COST = {"cost": {"requestedQueryCost": 10, "actualQueryCost": 10, "throttleStatus": STATUS}}

OURS: dict[str, dict[str, Any]] = {
    "data and cost": {"data": {"order": {"id": "gid://shopify/Order/900001"}}, "extensions": COST},
    "nothing found": {"data": {"order": None}, "extensions": COST},
    "done": {"data": {"discountCodeDelete": {"deletedCodeDiscountId": "gid://x/1", "userErrors": []}}},
    "user errors": {
        "data": {
            "discountCodeBasicCreate": {
                "codeDiscountNode": None,
                "userErrors": [
                    {
                        "field": ["basicCodeDiscount", "code"],
                        "message": "Code must be unique. Please try a different code.",
                        "code": "TAKEN",
                        "extraInfo": None,
                    }
                ],
            }
        },
        "extensions": COST,
    },
    "user errors without code or field": {
        "data": {"webhookSubscriptionCreate": {"userErrors": [{"field": None, "message": "Address is taken"}]}}
    },
    "user errors of an older name": {
        "data": {"orderCancel": {"job": None, "orderCancelUserErrors": [{"field": [], "message": "no", "code": "INVALID"}]}}
    },
    "invalid variable": {
        "errors": [
            {
                "message": "Variable $id of type ID! was provided invalid value",
                "locations": [{"line": 1, "column": 7}],
                "extensions": {"value": None, "problems": [{"path": [], "explanation": "Expected"}], "code": "INVALID_VARIABLE"},
            }
        ]
    },
    "undefined field": {
        "errors": [
            {
                "message": "Field 'x' doesn't exist on type 'Order'",
                "path": ["query", "order", "x"],
                "extensions": {"code": "undefinedField", "typeName": "Order", "fieldName": "x"},
            }
        ]
    },
    "not found, beside data": {
        "data": {"codeDiscountNode": None},
        "errors": [{"message": "Invalid id", "path": ["codeDiscountNode"], "extensions": {"code": "RESOURCE_NOT_FOUND"}}],
        "extensions": COST,
    },
    "throttled": {
        "data": None,
        "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED", "documentation": "https://x"}}],
        "extensions": {"cost": {"requestedQueryCost": 900, "actualQueryCost": None, "throttleStatus": {**STATUS, "currentlyAvailable": 890}}},
    },
    "denied, beside data": {
        "data": {"customer": None},
        "errors": [
            {
                "message": "Access denied for customer field.",
                "extensions": {"code": "ACCESS_DENIED", "requiredAccess": "`read_customers` access scope."},
                "path": ["customer"],
            }
        ],
        "extensions": COST,
    },
    "internal error": {
        "errors": [{"message": "Internal error. Looks like something went wrong.", "extensions": {"code": "INTERNAL_SERVER_ERROR", "requestId": "r-1"}}]
    },
    "bulk operation under way": {
        "data": {
            "bulkOperationRunQuery": {
                "bulkOperation": None,
                "userErrors": [{"field": None, "message": "A bulk query operation for this app and shop is already in progress"}],
            }
        },
        "extensions": COST,
    },
}  # fmt: skip


def answers_in(node: Any) -> Iterator[dict[str, Any]]:
    """Every answer of the API in a recording: an object with `data`, or with a list of `errors`."""
    if isinstance(node, dict):
        if isinstance(node.get("data"), dict) or isinstance(node.get("errors"), list):
            yield node
        for inner in node.values():
            yield from answers_in(inner)
    elif isinstance(node, list):
        for inner in node:
            yield from answers_in(inner)


def recordings() -> list[Any]:
    found = sorted(RECORDED.rglob("*.json")) if RECORDED.is_dir() else []
    return [pytest.param(path, id=path.stem) for path in found]


@pytest.fixture
def says(httpserver: HTTPServer) -> Iterator[Any]:
    """says(body, document) -> what the client makes of this answer: its data, or one of our errors."""
    settings = Settings(shopify_base_url=httpserver.url_for("").rstrip("/"))
    gateway = Shopify(settings, GivenToken(SHOP.domain, "a-token"), sleep=lambda _: None)
    told: list[dict[str, Any]] = []
    httpserver.expect_request(PATH).respond_with_handler(lambda _: Response(json.dumps(told[-1])))

    def says(body: dict[str, Any], document: str) -> dict[str, Any] | Later | Never:
        told.append(body)
        try:
            return gateway.run(SHOP, document, {})
        except (Later, Never) as error:
            return error

    yield says
    gateway.close()


def holds(says: Any, body: dict[str, Any]) -> None:
    """The answer comes through as what it is: data when there are no errors, and each layer's own error otherwise."""
    for document in ("shop", "discount_delete"):
        found = says(body, document)
        if body.get("errors") or not isinstance(body.get("data"), dict):
            assert isinstance(found, (Later, Never))
            continue
        assert found == json.loads(json.dumps(body["data"]), parse_float=str)
        for field, payload in found.items():
            if isinstance(payload, dict) and "userErrors" in payload:
                agrees(found, field, payload)
    if "cost" in (body.get("extensions") or {}):
        assert read_cost(body) is not None


def agrees(data: dict[str, Any], field: str, payload: dict[str, Any]) -> None:
    said = payload["userErrors"]
    try:
        assert accepted(data, field) is payload and not said
    except ShopifyRefused as error:
        assert {each.message for each in error.errors} == {each["message"][:200] for each in said}


@pytest.mark.parametrize("body", OURS.values(), ids=OURS.keys())
def test_an_answer_of_a_known_shape_is_understood(says, body):
    holds(says, body)


@pytest.mark.parametrize("recording", [pytest.param(OURS, id="ours, as one recording"), *recordings()])
def test_every_answer_in_a_recording_is_found_and_understood(says, recording):
    if isinstance(recording, Path):
        recording = json.loads(recording.read_text(encoding="utf-8"))
    for body in answers_in(recording):
        holds(says, body)


def test_trouble_leaves_a_mutations_outcome_unknown_and_a_query_unanswered(says):
    assert isinstance(says(OURS["internal error"], "discount_delete"), OutcomeUnknown)
    assert isinstance(says(OURS["internal error"], "shop"), ShopifyUnreachable)


def test_user_errors_are_found_under_their_older_names():
    payload = OURS["user errors of an older name"]["data"]["orderCancel"]
    assert [error.code for error in user_errors(payload)] == ["INVALID"]
