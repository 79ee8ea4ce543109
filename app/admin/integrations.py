"""Integrations."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("integrations.html")


PAGES = (Page(path="/integrations", name="integrations", view=show),)
