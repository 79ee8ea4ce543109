"""Home."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("home.html")


PAGES = (Page(path="/", name="home", view=show),)
