"""Preview."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("preview.html")


PAGES = (Page(path="/preview", name="preview", view=show),)
