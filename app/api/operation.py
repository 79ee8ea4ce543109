"""One call of the API as data: how it is reached, what it takes, what it gives. The routes and the OpenAPI document
are both made from the same list, so the document cannot say what the server does not do.

(spectree was tried first: it reads bodies through floats, repeats what was sent in its 422, and has no place for a
second media type, for headers or for examples of answers; the two hundred lines here have.)
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from functools import partial
from typing import Any

from pydantic import BaseModel
from sqlalchemy import Connection, Engine

from models.settings import Settings
from tasks.gateway.client import Gateway
from tasks.steps.tokens import Caller
from worker.doorbell import Ring

PREVIEW = "preview"  # the query parameter of calls that can be previewed
PREVIEW_HEADER = "Unwind-Preview"
ACCEPTED = 202
JSON, TEXT, CSV = "application/json", "text/plain", "text/csv"


@dataclass(frozen=True, slots=True, kw_only=True)
class Asked:
    """What is asked, already read and checked, and by whom: always one shop. No transaction is open."""

    engine: Engine
    settings: Settings
    gateway: Callable[[], Gateway]  # Shopify, connected to when it is first asked for
    caller: Caller
    ids: Mapping[str, int]
    body: Any
    document: Any  # the body as it came, with exact decimals
    query: Any
    preview: bool  # nothing may be changed, here or outside
    media: str  # of the answer: JSON, TEXT or CSV
    key: str | None = None  # under it a repetition is none: another act has another key

    @property
    def shop_id(self) -> int:
        return self.caller.shop_id


@dataclass(frozen=True, slots=True, kw_only=True)
class Call:
    """What is asked, in its transaction."""

    connection: Connection
    asked: Asked
    prepared: Any = None  # what `Operation.before` found

    @property
    def caller(self) -> Caller:
        return self.asked.caller

    @property
    def shop_id(self) -> int:
        return self.asked.caller.shop_id

    @property
    def ids(self) -> Mapping[str, int]:
        return self.asked.ids

    @property
    def body(self) -> Any:
        return self.asked.body

    @property
    def document(self) -> Any:
        return self.asked.document

    @property
    def query(self) -> Any:
        return self.asked.query

    @property
    def preview(self) -> bool:
        return self.asked.preview

    @property
    def by(self) -> str:
        """Who it was, for the record: `token:5`, or `session` for a page of the shop's admin."""
        return "session" if self.caller.token_id is None else f"token:{self.caller.token_id}"

    @property
    def wants_text(self) -> bool:
        return self.asked.media == TEXT

    @property
    def wants_csv(self) -> bool:
        return self.asked.media == CSV


@dataclass(frozen=True, slots=True, kw_only=True)
class Refusal:
    """An error that a call is documented to give."""

    status: int
    code: str
    when: str


@dataclass(frozen=True, slots=True, kw_only=True)
class Operation:
    """`path` is written as in OpenAPI; what is in braces is an id. `run` holds no decision: it calls a step.

    description: more than the summary says, for the document.
    writes: the call has an effect, so it takes an Idempotency-Key; others see one unchanging moment of the books.
    previews: it takes `preview=true` too: the same code runs, its transaction is rolled back, nobody is rung for and no
      key is kept; the answer is the one that the call would give.
    locks: it has no effect, but needs the write path to find out what one would be.
    before: run first, without a transaction, so that it may ask Shopify; what it returns is `call.prepared`. A refusal
      that it raises is kept under the key like one of `run`; a call whose answer is kept does not come here again.
    waits: whether `before` may wait for somebody else, such as Shopify; without it always. Few calls may at once.
    essence: what is the same when a call is repeated under its key, instead of the body; so that nothing personal in the
      body is kept, not even as a hash that could be tried out.
    completed: a success as it goes out, made of the answer that is kept: with what is the caller's own and not kept.
    checked_by_step: the body's fields are a matter of the rules; the step refuses what is wrong with them.
    ring: for an effect that leaves something to do: whom to ring for, given the answer, once it is committed.
    told_once: fields of the answer (a new secret) that go out now and are never kept: null when the call is repeated.
    text_example, csv_example: the call also answers as text/plain, as text/csv.
    shape_error: its errors look otherwise than those of all calls: `{"error": {...}}` -> what goes out, an `error_body`.
    accepted: says of an answer that what it tells of is still to be done: it goes out as 202.
    links: to the calls that can follow a success: name -> (operation's name, {its id: where that stands in the answer,
      such as `id`, or in the request: `$request.path.customer_id`}).
    """

    method: str
    path: str
    tag: str
    name: str
    summary: str
    run: Callable[[Call], Any]
    answer: type[BaseModel]
    description: str = ""
    status: int = 200
    body: type[BaseModel] | None = None
    body_required: bool = True
    query: type[BaseModel] | None = None
    refusals: tuple[Refusal, ...] = ()
    writes: bool = False
    locks: bool = False
    checked_by_step: bool = False
    ring: Callable[[Caller, Mapping[str, Any]], Ring] | None = None
    told_once: tuple[str, ...] = ()
    text_example: str | None = None
    csv_example: str | None = None
    previews: bool = False
    before: Callable[[Asked], Any] | None = None
    waits: Callable[[Asked], bool] | None = None
    essence: Callable[[Asked], Any] | None = None
    completed: Callable[[Asked, Mapping[str, Any]], Mapping[str, Any]] | None = None
    shape_error: Callable[[Mapping[str, Any]], Mapping[str, Any]] | None = None
    error_body: type[BaseModel] | None = None
    accepted: Callable[[Mapping[str, Any]], bool] | None = None
    links: Mapping[str, tuple[str, Mapping[str, str]]] = field(default_factory=dict)

    @property
    def media(self) -> Mapping[str, str]:
        """The other media types of its answer, each with an example."""
        texts = {TEXT: self.text_example, CSV: self.csv_example}
        return {media: example for media, example in texts.items() if example is not None}


# What is done to one thing by hand: its body may be left out, and what it would do can be seen first (R37).
by_hand = partial(Operation, method="POST", body_required=False, writes=True, previews=True)


def no_such(kind: str) -> Refusal:
    return Refusal(status=404, code="not_found", when=f"the shop has no such {kind}")
