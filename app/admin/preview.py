"""Preview: an order, and what a refund of it would do (R37). Nothing changes here."""

from __future__ import annotations

from typing import Any

from flask import Response

from app.admin.order_acts import fields_of, known_order, wish_of, wrong_in
from app.admin.visit import Page, Visit
from tasks.steps import listings


def show(visit: Visit) -> Response:
    """Which order, then what of it, then what would happen: each in the address, so that it can be sent to somebody."""
    order, choices = picked(visit)
    wish = None if order is None else wish_of(visit.query)
    said = None
    if order is not None and wish is not None:
        said = visit.ask("preview_refund", ids={"order_id": int(order["id"])}, body=wish)
    would = said.document if said is not None and said.ok else None
    return visit.page(
        "preview.html",
        status=said.status if said is not None else 200,
        order=order,
        choices=choices,
        said=said,
        would=would,
        given=visit.query,
        wrong=wrong_in(said),
        fields=fields_of(visit.query),
    )


def picked(visit: Visit) -> tuple[dict[str, Any] | None, list[dict[str, Any]] | None]:
    """The order, or those that bear the name that was typed. Raises NotFound for an id that is not the shop's."""
    id = listings.id_in(visit.query.get("id", ""))
    if id is not None:
        return known_order(visit, id), None
    search = visit.query.get("order", "").strip()
    if not search:
        return None, None
    found = list(visit.read(listings.orders, search=search).rows)
    return (known_order(visit, int(found[0]["id"])), None) if len(found) == 1 else (None, found)


PAGES = (Page(path="/preview", name="preview", view=show),)
