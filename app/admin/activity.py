"""Activity."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("activity.html")


PAGES = (Page(path="/activity", name="activity", view=show),)
