"""Redemptions."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("redemptions.html")


PAGES = (Page(path="/redemptions", name="redemptions", view=show),)
