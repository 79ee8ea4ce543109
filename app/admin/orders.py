"""Orders."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("orders.html")


PAGES = (Page(path="/orders", name="orders", view=show),)
