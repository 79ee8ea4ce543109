"""A request as it came -> what a call may use. Everything wrong is refused here, with the field named."""

from __future__ import annotations

import json
from collections.abc import Mapping
from decimal import Decimal
from typing import Any

from flask import Request
from pydantic import BaseModel, ValidationError
from werkzeug.exceptions import RequestEntityTooLarge

from app.api.errors import InvalidRequest, NotJson, UnsupportedMediaType, from_pydantic
from app.api.fields import read_id
from app.api.operation import JSON, PREVIEW, Operation
from app.receiver import whole_body
from models.errors import NotFound

BODY_MAX_BYTES = 1024 * 1024  # a hundred times the largest program; webhooks have a limit of their own
DEPTH_MAX = 32  # far deeper than any body we know
KEY_HEADER = "Idempotency-Key"
KEY_MAX_CHARACTERS = 255


def ids_of(arguments: Mapping[str, str]) -> dict[str, int]:
    """The ids in the path. What cannot be an id names nothing: NotFound."""
    found = {}
    for name, text in arguments.items():
        try:
            found[name] = read_id(text)
        except ValueError:
            raise NotFound(name.removesuffix("_id"), text[:40]) from None
    return found


def document_of(request: Request, operation: Operation) -> Any:
    """The JSON body, {} where none is needed and none came. Decimals are exact."""
    if operation.body is None:
        return {}
    raw = whole_body(request.environ, BODY_MAX_BYTES)
    if raw is None:
        raise RequestEntityTooLarge
    if not raw and not operation.body_required:
        return {}
    if request.mimetype != "application/json":
        raise UnsupportedMediaType("send the body as application/json")
    try:
        document = json.loads(raw, parse_float=exact, parse_constant=refuse, object_pairs_hook=distinct)
    except (ValueError, RecursionError):
        raise NotJson("the body is not JSON") from None
    check_text(document, "", DEPTH_MAX)
    return document


def exact(text: str) -> Decimal:
    """A number with a fraction or an exponent. What no amount could be is refused before it costs anything."""
    number = Decimal(text)
    if not -30 < number.adjusted() < 30 or len(number.as_tuple().digits) > 30:
        raise ValueError("a number out of all proportion")
    return number


def refuse(constant: str) -> None:
    raise ValueError(f"{constant} is not JSON")


def distinct(pairs: list[tuple[str, Any]]) -> dict[str, Any]:
    """An object. The same name twice could be read in two ways, so it is refused."""
    found = dict(pairs)
    if len(found) != len(pairs):
        raise ValueError("a name stands twice in an object")
    return found


def check_text(value: Any, path: str, depth: int) -> None:
    """No text that a database could not keep, and no depth that nobody means."""
    if depth == 0:
        raise InvalidRequest([(path, "is nested too deeply")])
    if isinstance(value, str):
        if not storable(value):
            raise InvalidRequest([(path or "body", "has characters that cannot be stored")])
    elif isinstance(value, dict):
        for name, part in value.items():
            if not storable(name):
                raise InvalidRequest([(path or "body", "has a name with characters that cannot be stored")])
            check_text(part, f"{path}.{name}".lstrip("."), depth - 1)
    elif isinstance(value, list):
        for i, part in enumerate(value):
            check_text(part, f"{path}[{i}]", depth - 1)


def storable(text: str) -> bool:
    return "\0" not in text and not any("\ud800" <= character <= "\udfff" for character in text)


def body_of(document: Any, operation: Operation) -> Any:
    if operation.body is None:
        return None
    if not isinstance(document, dict):
        raise InvalidRequest([("body", "must be an object")])
    if operation.checked_by_step:
        return None
    return checked(operation.body, document)


def query_of(request: Request, operation: Operation) -> Any:
    """The query, each name once. Unknown names are refused: a misspelt filter must not show everything."""
    repeated = next((name for name, values in request.args.lists() if len(values) > 1), None)
    if repeated is not None:
        raise InvalidRequest([(repeated[:80], "stands twice in the query")])
    given = request.args.to_dict()
    if operation.previews:
        given.pop(PREVIEW, None)
    return checked_query(given, operation)


def checked_query(given: Mapping[str, str], operation: Operation) -> BaseModel | None:
    """Parameters as the call reads them, each named once. Raises InvalidRequest."""
    if operation.query is None:
        if given:
            raise InvalidRequest([(name[:80], "is not known here") for name in given])
        return None
    for name, text in given.items():
        check_text(text, name[:80], 2)
    return checked(operation.query, given)


def preview_of(request: Request, operation: Operation) -> bool:
    """Whether the call is only to be tried. What is neither yes nor no is refused: it must not be done by mistake."""
    text = request.args.get(PREVIEW) if operation.previews else None
    if text not in (None, "true", "false"):
        raise InvalidRequest([(PREVIEW, "must be true or false")])
    return text == "true"


def media_of(request: Request, operation: Operation) -> str:
    """The media type of the answer, by `Accept`. JSON where nothing fits: an answer in it is better than none."""
    wanted = request.accept_mimetypes.best_match([JSON, *operation.media])
    return wanted or JSON


def checked(model: type[BaseModel], values: Mapping[str, Any]) -> BaseModel:
    try:
        return model.model_validate(values)
    except ValidationError as error:
        raise from_pydantic(error) from None


def key_of(request: Request) -> str | None:
    """The Idempotency-Key: 1 to 255 visible ASCII characters."""
    key = request.headers.get(KEY_HEADER)
    if key is None:
        return None
    if not is_key(key):
        reason = f"must be 1 to {KEY_MAX_CHARACTERS} visible ASCII characters, without spaces"
        raise InvalidRequest([(KEY_HEADER, reason)])
    return key


def is_key(text: str) -> bool:
    return 0 < len(text) <= KEY_MAX_CHARACTERS and all("!" <= character <= "~" for character in text)
