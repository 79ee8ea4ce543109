"""Settings."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("program.html")


PAGES = (Page(path="/settings", name="program", view=show),)
