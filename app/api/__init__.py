"""The JSON API under /api/v1: validates, calls a step, shapes the answer. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from flask import Blueprint, Flask
from sqlalchemy import Engine

from app.api import (
    activity,
    customers,
    endpoints,
    failed,
    merchants,
    openapi,
    orders,
    points,
    program,
    redemptions,
    reports,
)
from app.api.answers import with_headers
from app.api.calls import Door, marked, view_of
from app.api.limits import CALLS_PER_MINUTE, admission
from app.api.operation import Operation
from app.api.places import Shares
from models.settings import Settings
from tasks.runtime import gateway_of
from worker.doorbell import Ring

PREFIX = "/api/v1"
NOUNS = (program, customers, orders, merchants, redemptions, points, activity, reports, endpoints, failed)
OPERATIONS: Sequence[Operation] = tuple(chain.from_iterable(noun.OPERATIONS for noun in NOUNS))


def register(
    app: Flask,
    engine: Engine,
    settings: Settings,
    *,
    ring: Callable[[list[Ring]], object] | None = None,
    calls_per_minute: int = CALLS_PER_MINUTE,
) -> Door:
    """Mount the API on the app. Returns its door, for the pages, which ask the same calls in the same shares of threads.

    ring: told what a call left to do, after its commit, so that nobody waits for the sweep (`Ringer.ask`).
    calls_per_minute: one token's share.
    """
    admit = admission(app, settings.redis_url, below=f"{PREFIX}/", calls_per_minute=calls_per_minute)
    door = Door(
        engine=engine,
        settings=settings,
        admit=admit,
        ring=ring,
        gateway=gateway_of(settings, engine),
        shares=Shares(settings.receiver_threads),
    )
    api = Blueprint("api", __name__, url_prefix=PREFIX, template_folder="templates")
    for operation in OPERATIONS:
        path = operation.path.replace("{", "<").replace("}", ">")
        view = view_of(operation, door)
        api.add_url_rule(
            path, operation.name, view, methods=[operation.method], provide_automatic_options=False
        )
    openapi.add_pages(api, openapi.document_of(OPERATIONS, prefix=f"{settings.path}{PREFIX}"))
    api.after_request(with_headers)
    api.after_request(marked)
    app.register_blueprint(api)
    return door
