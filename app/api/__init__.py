"""The JSON API under /api/v1: validates, calls a step, shapes the answer. Nothing is decided here."""

from __future__ import annotations

import json
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from itertools import chain

from flask import Blueprint, Flask, Response, g, request
from sqlalchemy import Connection, Engine

from app.api import activity, customers, failed, openapi, orders, program, redemptions
from app.api.answers import as_asked, json_text, refusal, response_of, with_headers
from app.api.auth import bearer_of, identify
from app.api.errors import Unauthorized
from app.api.idempotency import Answer, digest_of, once
from app.api.limits import CALLS_PER_MINUTE, admission
from app.api.operation import Call, Operation
from app.api.reading import body_of, document_of, ids_of, key_of, query_of
from models.errors import Refused, UnwindError
from models.settings import Settings
from tasks.steps.tokens import Caller
from worker.doorbell import Ring

PREFIX = "/api/v1"
NOUNS = (program, customers, orders, redemptions, activity, failed)
OPERATIONS: Sequence[Operation] = tuple(chain.from_iterable(noun.OPERATIONS for noun in NOUNS))


def register(
    app: Flask,
    engine: Engine,
    settings: Settings,
    *,
    ring: Callable[[list[Ring]], object] | None = None,
    calls_per_minute: int = CALLS_PER_MINUTE,
) -> None:
    """Mount the API on the app.

    ring: told what a call left to do, after its commit, so that nobody waits for the sweep (`Ringer.ask`).
    calls_per_minute: one token's share.
    """
    admit = admission(app, settings.redis_url, below=f"{PREFIX}/", calls_per_minute=calls_per_minute)
    api = Blueprint("api", __name__, url_prefix=PREFIX, template_folder="templates")
    for operation in OPERATIONS:
        path = operation.path.replace("{", "<").replace("}", ">")
        view = view_of(operation, engine, settings, admit, ring)
        api.add_url_rule(
            path, operation.name, view, methods=[operation.method], provide_automatic_options=False
        )
    openapi.add_pages(api, openapi.document_of(OPERATIONS, prefix=PREFIX))
    api.after_request(with_headers)
    app.register_blueprint(api)


def view_of(
    operation: Operation,
    engine: Engine,
    settings: Settings,
    admit: Callable[[], None],
    ring: Callable[[list[Ring]], object] | None,
) -> Callable[..., Response]:
    """The Flask view of an operation: who calls, how often, what; then the step in one transaction."""

    def view(**arguments: str) -> Response:
        caller = known_caller(engine, settings, admit)
        answer = answer_to(operation, engine, caller, arguments)
        if ring is not None and operation.ring is not None and answer.status < 400:
            ring([operation.ring(caller, json.loads(answer.text))])
        response = response_of(answer)
        if operation.text_example is not None:
            response.headers["Vary"] = "Accept"
        return response

    return view


def known_caller(engine: Engine, settings: Settings, admit: Callable[[], None]) -> Caller:
    """Who calls, counted. Callers who are nobody are counted too, by their address."""
    try:
        caller = identify(engine, settings, bearer_of(request), datetime.now(UTC))
    except Unauthorized:
        admit()
        raise
    g.caller = caller
    admit()
    return caller


def answer_to(operation: Operation, engine: Engine, caller: Caller, arguments: dict[str, str]) -> Answer:
    ids, query, key = ids_of(arguments), query_of(request, operation), key_of(request)
    document = document_of(request, operation)
    body = body_of(document, operation)
    with connection_for(operation, engine) as connection, connection.begin():
        call = Call(
            connection=connection,
            caller=caller,
            ids=ids,
            body=body,
            document=document,
            query=query,
            wants_text=wants_text(operation),
        )
        if not operation.writes or key is None:
            return done(operation, call)
        return once(
            connection,
            caller.shop_id,
            key=key,
            request_digest=digest_of(request.method, request.path, document),
            do=lambda: done_or_refused(operation, call),
        )


def connection_for(operation: Operation, engine: Engine) -> Connection:
    """A connection to write on, or one that sees a single moment: an answer's parts always agree with each other."""
    connection = engine.connect()
    if operation.writes or operation.locks:
        return connection
    return connection.execution_options(isolation_level="REPEATABLE READ", postgresql_readonly=True)


def done(operation: Operation, call: Call) -> Answer:
    """What the step says, as an answer. Raises what the step raises, refusals with whose fault they are."""
    try:
        result = operation.run(call)
    except Refused as refused:
        raise as_asked(refused) from None
    if isinstance(result, str):
        return Answer(status=operation.status, text=result, media_type="text/plain")
    return Answer(status=operation.status, text=json_text(result))


def done_or_refused(operation: Operation, call: Call) -> Answer:
    """A refusal undoes what the step had begun, and is the answer to keep."""
    try:
        with call.connection.begin_nested():
            return done(operation, call)
    except UnwindError as error:
        answer = refusal(error)
        if answer is None:
            raise
        return answer


def wants_text(operation: Operation) -> bool:
    if operation.text_example is None:
        return False
    return request.accept_mimetypes.best_match(["application/json", "text/plain"]) == "text/plain"
