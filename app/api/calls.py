"""How a call is answered: who calls, how often, what is asked, the step in one transaction, the answer."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterable, Iterator
from contextlib import ExitStack
from dataclasses import dataclass, replace
from datetime import UTC, datetime
from decimal import Decimal
from typing import Any

from flask import Response, g, request
from sqlalchemy import Connection, Engine

from app.api.answers import as_asked, json_text, refusal, response_of
from app.api.auth import bearer_of, identify
from app.api.errors import Unauthorized
from app.api.idempotency import Answer, digest_of, known, once
from app.api.operation import ACCEPTED, CSV, JSON, PREVIEW_HEADER, Asked, Call, Operation
from app.api.places import Shares
from app.api.reading import body_of, document_of, ids_of, key_of, media_of, preview_of, query_of
from app.session_tokens import RETRY_HEADER
from app.sheets import Sheet, spooled
from models.errors import Refused, UnwindError
from models.settings import Settings
from tasks.gateway.client import Gateway
from tasks.steps.tokens import Caller
from worker.doorbell import Ring

NOBODY = 0  # no shop has this id


@dataclass(frozen=True, slots=True, kw_only=True)
class Door:
    """What every call passes: how often and how many at once may come, the books, Shopify, whom to ring for."""

    engine: Engine
    settings: Settings
    admit: Callable[[], None]
    ring: Callable[[list[Ring]], object] | None
    gateway: Callable[[], Gateway]
    shares: Shares


def view_of(operation: Operation, door: Door) -> Callable[..., Response]:
    """The Flask view of an operation."""

    def view(**arguments: str) -> Response:
        g.operation = operation
        with ExitStack() as places:
            places.enter_context(door.shares.calls.one(NOBODY))
            caller = known_caller(door)
            places.enter_context(
                door.shares.shops.one(caller.shop_id)
            )  # before its body, which may come slowly
            asked = asked_of(operation, door, caller, arguments)
            hold(places, operation, asked, door.shares)
            answer = answer_to(operation, asked, asked.key)
            response = response_of(completed(operation, asked, answer))
            if answer.file is not None:
                until_sent(response, places.pop_all())
        ring_for(operation, door, asked, answer)
        return response

    return view


def ring_for(operation: Operation, door: Door, asked: Asked, answer: Answer) -> None:
    """Tell the worker what the call left to do, once it is done: not of a refusal, nor of a preview."""
    if door.ring is not None and operation.ring is not None and answer.status < 400 and not asked.preview:
        door.ring([operation.ring(asked.caller, json.loads(answer.text))])


def hold(places: ExitStack, operation: Operation, asked: Asked, shares: Shares) -> None:
    """Take the shop's places that this call needs."""
    hold_waiting(places, operation, asked, shares)
    if asked.media == CSV:
        places.enter_context(shares.exports.one(asked.shop_id))


def hold_waiting(places: ExitStack, operation: Operation, asked: Asked, shares: Shares) -> None:
    """The place of a call that waits for others: of a page's too."""
    if operation.before is not None and (operation.waits is None or operation.waits(asked)):
        places.enter_context(shares.waiting.one(asked.shop_id))


def until_sent(response: Response, places: ExitStack) -> None:
    """A file goes out at its reader's pace, from the call's thread: its places are held until it is out, or given up."""

    def parts(file: Iterable[Any]) -> Iterator[Any]:
        with places:
            yield from file

    response.response = parts(response.iter_encoded())
    response.call_on_close(places.close)


def known_caller(door: Door) -> Caller:
    """Who calls, counted. Callers who are nobody are counted too, by their address."""
    try:
        caller = identify(door.engine, door.settings, bearer_of(request), datetime.now(UTC))
    except Unauthorized as error:
        g.retry = error.headers.get(RETRY_HEADER)  # also true when even asking was too often
        door.admit()
        raise
    g.caller = caller
    door.admit()
    return caller


def asked_of(operation: Operation, door: Door, caller: Caller, arguments: dict[str, str]) -> Asked:
    preview = preview_of(request, operation)
    g.preview = preview
    ids, query = ids_of(arguments), query_of(request, operation)
    document = document_of(request, operation)
    return Asked(
        engine=door.engine,
        settings=door.settings,
        gateway=door.gateway,
        caller=caller,
        ids=ids,
        body=body_of(document, operation),
        document=document,
        query=query,
        preview=preview,
        media=media_of(request, operation),
        key=key_of(request),
    )


def answer_to(operation: Operation, asked: Asked, key: str | None) -> Answer:
    """The answer kept under the key, or else that of the step. A preview is never kept, nor answered from what was."""
    if not operation.writes or key is None or asked.preview:
        run = prepared(operation, asked)
        return previewed(asked, run) if asked.preview else in_one(operation, asked, run)
    essence = asked.document if operation.essence is None else operation.essence(asked)
    digest = digest_of(request.method, request.path, essence)
    before = kept_before(operation, asked, key, digest)
    if before is not None:
        return before
    run = prepared(operation, asked)
    with asked.engine.connect() as connection, connection.begin():
        return once(
            connection,
            asked.shop_id,
            key=key,
            request_digest=digest,
            do=lambda: done_or_refused(connection, run),
        )


def completed(operation: Operation, asked: Asked, answer: Answer) -> Answer:
    """The answer with what is not kept of it; the same for the same call."""
    if operation.completed is None or answer.status >= 400:
        return answer
    whole = operation.completed(asked, json.loads(answer.text, parse_float=Decimal))
    return replace(answer, text=json_text(whole))


Run = Callable[[Connection], Answer]


def prepared(operation: Operation, asked: Asked) -> Run:
    """What is left to do once `before` has run. Its refusal is told from inside the transaction, to be kept as others are."""
    if operation.before is None:
        return lambda connection: done(operation, asked, connection, None)
    try:
        found = operation.before(asked)
    except UnwindError as error:
        failure = as_asked(error) if isinstance(error, Refused) else error
        if refusal(failure) is None:
            raise
        return refusing(failure)
    return lambda connection: done(operation, asked, connection, found)


def refusing(failure: UnwindError) -> Run:
    def run(connection: Connection) -> Answer:
        raise failure

    return run


def kept_before(operation: Operation, asked: Asked, key: str, digest: bytes) -> Answer | None:
    """The kept answer of a call whose preparation is not to be repeated: it may ask Shopify, which may be away."""
    if operation.before is None:
        return None
    with asked.engine.connect() as connection:
        return known(connection, asked.shop_id, key=key, request_digest=digest)


def in_one(operation: Operation, asked: Asked, run: Run) -> Answer:
    """In one transaction. One that only reads sees a single moment: an answer's parts always agree with each other."""
    connection = asked.engine.connect()
    if not operation.writes and not operation.locks:
        connection = connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)
    with connection, connection.begin():
        return run(connection)


def previewed(asked: Asked, run: Run) -> Answer:
    """The answer that the call would give, from the code that gives it; then everything is as it was (R37)."""
    with asked.engine.connect() as connection, connection.begin() as transaction:
        try:
            return run(connection)
        finally:
            transaction.rollback()


def done(operation: Operation, asked: Asked, connection: Connection, found: Any) -> Answer:
    """What the step says, as an answer. Raises what the step raises, refusals with whose fault they are."""
    try:
        result = operation.run(Call(connection=connection, asked=asked, prepared=found))
    except Refused as refused:
        raise as_asked(refused) from None
    if isinstance(result, Sheet):
        return Answer(status=operation.status, text="", file=spooled(result), media_type=CSV)
    if isinstance(result, str):
        return Answer(status=operation.status, text=result, media_type=asked.media)
    kept = json_text({**result, **dict.fromkeys(operation.told_once)}) if operation.told_once else None
    later = operation.accepted is not None and operation.accepted(result)
    return Answer(status=ACCEPTED if later else operation.status, text=json_text(result), kept=kept)


def done_or_refused(connection: Connection, run: Run) -> Answer:
    """A refusal undoes what the step had begun, and is the answer to keep."""
    try:
        with connection.begin_nested():
            return run(connection)
    except UnwindError as error:
        answer = refusal(error)
        if answer is None:
            raise
        return answer


def marked(response: Response) -> Response:
    """What an answer says of its call: that it was a preview, that it depends on Accept; errors in the call's own shape."""
    operation: Operation | None = g.get("operation")
    if operation is None:
        return response
    if g.get("retry"):
        response.headers[RETRY_HEADER] = g.retry
    if g.get("preview"):
        response.headers[PREVIEW_HEADER] = "true"
    if operation.media:
        response.headers["Vary"] = "Accept"
    if operation.shape_error is not None and response.status_code >= 400 and response.mimetype == JSON:
        response.set_data(json_text(operation.shape_error(response.get_json())))
    return response
