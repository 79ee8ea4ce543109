"""One call of the API as data: how it is reached, what it takes, what it gives. The routes and the OpenAPI document
are both made from the same list, so the document cannot say what the server does not do.

(spectree was tried first: it reads bodies through floats, repeats what was sent in its 422, and has no place for a
second media type, for headers or for examples of answers; the two hundred lines here have.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection

from tasks.steps.tokens import Caller
from worker.doorbell import Ring


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """A call that may be answered: who asks (always one shop), and what, already read and checked."""

    connection: Connection
    caller: Caller
    ids: Mapping[str, int]
    body: Any
    document: Any  # the body as it came, with exact decimals
    query: Any
    wants_text: bool

    @property
    def shop_id(self) -> int:
        return self.caller.shop_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error that a call is documented to give."""

    status: int
    code: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`path` is written as in OpenAPI; what is in braces is an id. `run` holds no decision: it calls a step.

    writes: the call has an effect, so it takes an Idempotency-Key; others see one unchanging moment of the books.
    locks: it has no effect, but needs the write path to find out what one would be.
    checked_by_step: the body's fields are a matter of the rules; the step refuses what is wrong with them.
    ring: for an effect that leaves something to do: whom to ring for, given the answer, once it is committed.
    text_example: the call also answers as text/plain.
    """

    method: str
    path: str
    tag: str
    name: str
    summary: str
    run: Callable[[Call], Any]
    answer: type[BaseModel]
    status: int = 200
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    refusals: tuple[Refusal, ...] = ()
    writes: bool = False
    locks: bool = False
    checked_by_step: bool = False
    ring: Callable[[Caller, Mapping[str, Any]], Ring] | None = None
    text_example: str | None = None


def no_such(kind: str) -> Refusal:
    return Refusal(status=404, code="not_found", when=f"the shop has no such {kind}")
