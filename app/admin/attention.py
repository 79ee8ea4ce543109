"""Needs attention."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("attention.html")


PAGES = (Page(path="/attention", name="attention", view=show),)
