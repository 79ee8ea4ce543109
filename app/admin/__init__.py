"""The pages under /admin: read a step or ask a call of the API, show what it says. Nothing is decided here."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from itertools import chain

from flask import Flask
from werkzeug.wrappers import Response

from app.admin import (
    activity,
    attention,
    customers,
    home,
    integrations,
    login,
    orders,
    preview,
    program,
    redemptions,
)
from app.admin.door import CALLS_PER_MINUTE, PREFIX, Door
from app.admin.visit import Page
from app.api.calls import Door as ApiDoor

NOUNS = (home, orders, customers, activity, redemptions, preview, program, attention, integrations)
PAGES: Sequence[Page] = tuple(chain.from_iterable(noun.PAGES for noun in NOUNS))


def register(app: Flask, api: ApiDoor, *, calls_per_minute: int = CALLS_PER_MINUTE) -> None:
    """Mount the pages on an application of their own. calls_per_minute: of one shop's visitors together."""
    door = Door(app, api, calls_per_minute=calls_per_minute)
    login.add_to(app, door)
    for page in PAGES:
        rule = f"{PREFIX}{page.path}"
        app.add_url_rule(rule, page.name, view_of(page, door), methods=page.methods)


def view_of(page: Page, door: Door) -> Callable[..., Response]:
    """The Flask view of a page: whoever visits is known before it is made."""

    def view(**arguments: str) -> Response:
        with door.visit(arguments) as visit:
            return visit if isinstance(visit, Response) else page.view(visit)

    return view
