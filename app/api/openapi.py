"""The OpenAPI 3.1 document, made from the operations that the routes are made from, and a page to read it."""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping, Sequence
from importlib.metadata import version
from typing import Any

from flask import Blueprint, Response, render_template
from pydantic import BaseModel, Field
from pydantic.json_schema import JsonSchemaMode, models_json_schema

from app.api.answers import response_of
from app.api.fields import ID_MAX, Given
from app.api.idempotency import Answer
from app.api.operation import ACCEPTED, PREVIEW, PREVIEW_HEADER, Operation, Refusal
from app.api.reading import KEY_HEADER, KEY_MAX_CHARACTERS
from app.session_tokens import RETRY_HEADER

SCHEMAS = "#/components/schemas/"
PAGE_POLICY = "default-src 'none'; style-src 'unsafe-inline'; base-uri 'none'; form-action 'none'; frame-ancestors 'none'"
INTRODUCTION = """\
What Unwind knows of one shop's loyalty program, and what may be done to it.

- **Who**: every call carries `Authorization: Bearer <token>`; a token (`unwind token create`) is one shop's. Pages inside
  Shopify's admin send App Bridge's session token instead; when it is not valid any more, 401 says so with
  `X-Shopify-Retry-Invalid-Session-Request: 1`, and App Bridge asks again with a fresh one.
- **Ids** are Shopify's, as text. **Money** is a decimal string with a currency. **Points** are JSON numbers in the
  program's unit.
- **Writes** take an `Idempotency-Key`: the same key with the same call and body is answered as before and does
  nothing again (`Idempotent-Replayed: true`); with another body it is refused.
- **Previews**: calls with a `preview` parameter answer with `preview=true` what they would do, and do nothing
  (`Unwind-Preview: true`).
- **Lists** are newest first: `next_cursor`, given as `cursor`, leads to the next page.
- **Errors** are `{"error": {"code", "message", "details"}}`. `code` is stable; 422 names the fields in `details`.
- **Limits** are a token's own: `RateLimit-Policy` says how many calls (`q`) in how many seconds (`w`), `RateLimit` how
  many are left (`r`) and when they are whole again (`t` seconds); the older `X-RateLimit-*` say the same. 429 and 503 say
  when to come back in `Retry-After`.
"""


class ErrorBody(Given):
    code: str = Field(description="Stable, for programs")
    message: str = Field(description="For people; may change")
    details: Any = Field(
        description="What is known besides: the fields, what was not found; null when nothing is"
    )


class Error(Given):
    error: ErrorBody


def refusals_of(operation: Operation) -> list[Refusal]:
    """Every error the operation can give, those of all operations among them."""
    found = [Refusal(status=401, code="unauthorized", when="no token, or one that is not known")]
    found += operation.refusals
    if operation.body is not None:
        found += [
            Refusal(status=400, code="not_json", when="the body is not JSON"),
            Refusal(status=413, code="request_entity_too_large", when="the body is larger than 1 MiB"),
            Refusal(status=415, code="unsupported_media_type", when="the body is not application/json"),
        ]
    if "{" in operation.path and all(refusal.status != 404 for refusal in found):
        found.append(Refusal(status=404, code="not_found", when="there can be no such id"))
    found.append(
        Refusal(status=422, code="invalid_request", when="fields are unknown, missing or impossible; named")
    )
    if operation.writes:
        found.append(
            Refusal(status=422, code="idempotency_key_reused", when="the key was used with another body")
        )
    found += [
        Refusal(status=429, code="too_many_requests", when="the token calls too often"),
        Refusal(status=503, code="database_busy", when="busy; the same call may be sent again"),
        Refusal(status=503, code="busy", when="too many calls are at work at once; nothing was begun"),
    ]
    return found


def document_of(operations: Sequence[Operation], *, prefix: str) -> dict[str, Any]:
    """The document of these operations, served below `prefix`."""
    names, schemas = schemas_of(operations)
    paths: dict[str, dict[str, Any]] = {}
    for operation in operations:
        paths.setdefault(operation.path, {})[operation.method.lower()] = described(operation, names)
    return {
        "openapi": "3.1.0",
        "info": {"title": "Unwind", "version": version("unwind"), "description": INTRODUCTION},
        "servers": [{"url": prefix}],
        "security": [{"token": []}],
        "tags": [{"name": name} for name in dict.fromkeys(operation.tag for operation in operations)],
        "paths": paths,
        "components": {
            "schemas": schemas,
            "securitySchemes": {
                "token": {
                    "type": "http",
                    "scheme": "bearer",
                    "description": "An API token of one shop, or a session token of its admin (App Bridge)",
                }
            },
        },
    }


Names = Mapping[tuple[Any, JsonSchemaMode], Any]


def schemas_of(operations: Iterable[Operation]) -> tuple[Names, dict[str, Any]]:
    """References to every model that goes in or out, and the schemas behind them."""
    wanted: dict[tuple[type[BaseModel], JsonSchemaMode], None] = {(Error, "serialization"): None}
    for operation in operations:
        if operation.body is not None:
            wanted[operation.body, "validation"] = None
        wanted[operation.answer, "serialization"] = None
        if operation.error_body is not None:
            wanted[operation.error_body, "serialization"] = None
    names, found = models_json_schema(list(wanted), ref_template=SCHEMAS + "{model}")
    return names, found["$defs"]


def described(operation: Operation, names: Names) -> dict[str, Any]:
    entry: dict[str, Any] = {
        "operationId": operation.name,
        "tags": [operation.tag],
        "summary": operation.summary,
        "parameters": parameters_of(operation),
        "responses": {**successes(operation, names), **failures(operation, names)},
    }
    if operation.description:
        entry["description"] = operation.description
    if operation.body is not None:
        content = {"schema": names[operation.body, "validation"], "example": example_of(operation.body)}
        entry["requestBody"] = {
            "required": operation.body_required,
            "content": {"application/json": content},
        }
    return entry


def successes(operation: Operation, names: Names) -> dict[str, Any]:
    found = {str(operation.status): success(operation, names)}
    if operation.accepted is not None:
        later = "The same, once something is done at Shopify: the answer says what, and is kept under the key"
        found[str(ACCEPTED)] = {**success(operation, names), "description": later}
    return found


def success(operation: Operation, names: Names) -> dict[str, Any]:
    example = {"schema": names[operation.answer, "serialization"], "example": example_of(operation.answer)}
    content: dict[str, Any] = {"application/json": example}
    for media, text in operation.media.items():
        content[media] = {"schema": {"type": "string"}, "example": text}
    headers = dict(LIMITS)
    if operation.media:
        headers["Vary"] = header("Accept", "string")
    if operation.previews:
        headers[PREVIEW_HEADER] = header("`true`: it was a preview, nothing was done", "string")
    if operation.writes:
        headers["Idempotent-Replayed"] = header(
            "`true`: the answer was kept, nothing was done again", "string"
        )
    answer = {"description": operation.summary, "content": content, "headers": headers}
    links = {name: link_to(*target) for name, target in operation.links.items()}
    return answer | ({"links": links} if links else {})


def link_to(operation_name: str, parameters: Mapping[str, str]) -> dict[str, Any]:
    """To a call that can follow: each of its path's ids, and where it stands in the answer or the request."""
    given = {
        f"path.{name}": place if place.startswith("$") else f"$response.body#/{place}"
        for name, place in parameters.items()
    }
    return {"operationId": operation_name, "parameters": given}


def failures(operation: Operation, names: Names) -> dict[str, Any]:
    """The error answers by status, with one example for each code."""
    by_status: dict[str, list[Refusal]] = {}
    for refusal in refusals_of(operation):
        by_status.setdefault(str(refusal.status), []).append(refusal)
    return {
        status: {
            "description": "; ".join(f"`{refusal.code}`: {refusal.when}" for refusal in refusals),
            "content": {
                "application/json": {
                    "schema": names[operation.error_body or Error, "serialization"],
                    "examples": {r.code: {"value": error_example(operation, r)} for r in refusals},
                }
            },
            "headers": headers_of_failure(status),
        }
        for status, refusals in sorted(by_status.items())
    }


def headers_of_failure(status: str) -> dict[str, Any]:
    if status == "401":
        retry = "`1`: the session token is not valid any more, a fresh one will do"
        challenge = {"WWW-Authenticate": header("Bearer", "string"), RETRY_HEADER: header(retry, "string")}
        return LIMITS | challenge
    if status in {"429", "503"}:
        return LIMITS | {"Retry-After": header("Seconds to wait", "integer")}
    return dict(LIMITS)


def error_example(operation: Operation, refusal: Refusal) -> Mapping[str, Any]:
    details = (
        {"field": "amount", "reason": "must be more than 0"} if refusal.code.startswith("invalid") else None
    )
    error = {"error": {"code": refusal.code, "message": refusal.when, "details": details}}
    return error if operation.shape_error is None else operation.shape_error(error)


def header(description: str, kind: str) -> dict[str, Any]:
    return {"description": description, "schema": {"type": kind}}


LIMITS = {
    "RateLimit-Policy": header('Calls (`q`) in a window (`w` seconds): `"calls";q=1200;w=60`', "string"),
    "RateLimit": header(
        'Calls left (`r`), seconds until all are there again (`t`): `"calls";r=1199;t=42`', "string"
    ),
    "X-RateLimit-Limit": header("Calls in a window", "integer"),
    "X-RateLimit-Remaining": header("Calls left in it", "integer"),
    "X-RateLimit-Reset": header("When the next one begins, in seconds since 1970", "integer"),
}


def example_of(model: type[BaseModel]) -> Any:
    return getattr(model, "EXAMPLE", {})


def parameters_of(operation: Operation) -> list[dict[str, Any]]:
    names = [part[1:-1] for part in operation.path.split("/") if part.startswith("{")]
    id_schema = {"type": "string", "pattern": "^[1-9][0-9]{0,18}$"}
    found: list[dict[str, Any]] = [
        {
            "name": name,
            "in": "path",
            "required": True,
            "schema": id_schema,
            "description": f"At most {ID_MAX}",
            "example": "450789469",
        }
        for name in names
    ]
    if operation.query is not None:
        schema = operation.query.model_json_schema(mode="validation")
        found += [query_parameter(name, part) for name, part in schema["properties"].items()]
    if operation.previews:
        found.append(preview_parameter())
    if operation.writes:
        found.append(key_parameter())
    return found


def query_parameter(name: str, schema: Mapping[str, Any]) -> dict[str, Any]:
    """A field of a query model: absent means not given, so null has no place in its schema."""
    kinds = [kind for kind in schema.get("anyOf", []) if kind.get("type") != "null"]
    plain = {key: value for key, value in schema.items() if key not in {"anyOf", "title", "default"}}
    plain |= kinds[0] if len(kinds) == 1 else ({"anyOf": kinds} if kinds else {})
    if schema.get("default") is not None:
        plain["default"] = schema["default"]
    return {"name": name, "in": "query", "required": False, "schema": plain}


def preview_parameter() -> dict[str, Any]:
    return {
        "name": PREVIEW,
        "in": "query",
        "required": False,
        "schema": {"type": "boolean", "default": False},
        "description": "`true`: answers what the call would answer, and changes nothing (R37). The same code runs and is"
        " undone. An Idempotency-Key beside it is neither looked up nor used; ids that the answer names are not given",
    }


def key_parameter() -> dict[str, Any]:
    return {
        "name": KEY_HEADER,
        "in": "header",
        "required": False,
        "schema": {"type": "string", "minLength": 1, "maxLength": KEY_MAX_CHARACTERS, "pattern": "^[!-~]+$"},
        "description": "Makes the call safe to repeat",
    }


def add_pages(api: Blueprint, document: Mapping[str, Any]) -> None:
    """`openapi.json` and `docs`, open to everyone: they say nothing of any shop."""
    text = json.dumps(document, indent=1, ensure_ascii=False)

    def openapi_json() -> Response:
        return response_of(Answer(status=200, text=text))

    def docs() -> Response:
        page = render_template("api_docs.html", document=document, pretty=pretty)
        response = response_of(Answer(status=200, text=page, media_type="text/html"))
        response.headers["Content-Security-Policy"] = PAGE_POLICY
        return response

    api.add_url_rule("/openapi.json", "openapi_json", openapi_json)
    api.add_url_rule("/docs", "docs", docs)


def pretty(value: Any) -> str:
    return json.dumps(value, indent=2, ensure_ascii=False)
