"""A call of the API, asked by a page of the same process: one list of calls, one set of checks, one set of words."""

from __future__ import annotations

import json
from collections.abc import Mapping
from contextlib import ExitStack
from dataclasses import dataclass
from decimal import Decimal
from typing import IO, Any

from app import errors
from app.api import OPERATIONS
from app.api.answers import as_asked
from app.api.calls import Door, answer_to, completed, hold_waiting, ring_for
from app.api.errors import ApiError
from app.api.operation import JSON, Asked, Operation
from app.api.reading import DEPTH_MAX, body_of, check_text, checked_query
from models.errors import InvalidSetting, NotFound, Refused, UnwindError
from tasks.steps.tokens import Caller

ANSWERS = (ApiError, InvalidSetting, NotFound, Refused)
BY_NAME: Mapping[str, Operation] = {operation.name: operation for operation in OPERATIONS}


@dataclass(frozen=True, slots=True, kw_only=True)
class Said:
    """What a call answered: `document` is its JSON; `file` a sheet that is ready to be sent."""

    status: int
    document: Any = None
    file: IO[bytes] | None = None

    @property
    def ok(self) -> bool:
        return self.status < 400

    @property
    def later(self) -> bool:
        """Begun, and still to be done at Shopify."""
        return self.status == 202

    @property
    def code(self) -> str:
        """The refusal's code."""
        return "" if self.ok else str(self.document["error"]["code"])

    @property
    def message(self) -> str:
        """The refusal in words for people."""
        return "" if self.ok else str(self.document["error"]["message"])

    @property
    def details(self) -> Mapping[str, Any]:
        """Of a refusal: `field` and `reason`, or what else the call documents."""
        return {} if self.ok else (self.document["error"]["details"] or {})

    def expected(self) -> Any:
        """The document of a call that no visitor can make go wrong."""
        assert self.ok, self.document
        return self.document


def ask(
    door: Door,
    caller: Caller,
    name: str,
    *,
    ids: Mapping[str, int],
    query: Mapping[str, str],
    body: Any,
    preview: bool,
    key: str | None,
    media: str = JSON,
) -> Said:
    """The answer of the call `name`, or its refusal. Raises what is nobody's fault (Later), as every call does."""
    operation = BY_NAME[name]
    try:
        asked = asked_of(operation, door, caller, ids, query, body, preview=preview, media=media, key=key)
        with ExitStack() as places:  # a file's place is the page's to hold: it goes out after this
            hold_waiting(places, operation, asked, door.shares)
            answer = completed(
                operation, asked, answer_to(operation, asked, key if operation.writes else None)
            )
    except UnwindError as error:
        return refused(error)
    if answer.file is not None:
        return Said(status=answer.status, file=answer.file)
    document = json.loads(answer.text, parse_float=Decimal)
    ring_for(operation, door, asked, answer)
    return Said(status=answer.status, document=document)


def refused(error: UnwindError) -> Said:
    """A refusal as the API words it. Raises again what is no answer to a question: who is away, what is our fault."""
    known = as_asked(error) if isinstance(error, Refused) else error
    response = errors.ours(known) if isinstance(known, ANSWERS) else None
    if response is None or response.status_code >= 500:
        raise error
    return Said(status=response.status_code, document=response.get_json())


def asked_of(
    operation: Operation,
    door: Door,
    caller: Caller,
    ids: Mapping[str, int],
    query: Mapping[str, str],
    body: Any,
    *,
    preview: bool,
    media: str,
    key: str | None,
) -> Asked:
    """What a request with this body and this query would have asked. Raises InvalidRequest."""
    document = {} if body is None else body
    check_text(document, "", DEPTH_MAX)
    return Asked(
        engine=door.engine,
        settings=door.settings,
        gateway=door.gateway,
        caller=caller,
        ids=dict(ids),
        body=body_of(document, operation),
        document=document,
        query=checked_query(query, operation),
        preview=preview,
        media=media,
        key=key,
    )
