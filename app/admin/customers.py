"""Customers."""

from __future__ import annotations

from flask import Response

from app.admin.visit import Page, Visit


def show(visit: Visit) -> Response:
    return visit.page("customers.html")


PAGES = (Page(path="/customers", name="customers", view=show),)
