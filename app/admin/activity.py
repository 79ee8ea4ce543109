"""Activity: what happened in the program, newest first, narrowed by kind, customer, order and day; as CSV too."""

from __future__ import annotations

from contextlib import ExitStack, suppress
from dataclasses import dataclass
from datetime import date, datetime, time
from typing import Any

from flask import Response

from app.admin.asking import Said
from app.admin.entries import NAMES, action, leads_to
from app.admin.filters import zone
from app.admin.visit import Page, Visit
from app.api.answers import pieces
from app.api.calls import until_sent
from app.api.operation import CSV
from tasks.steps import listings

FIELDS = ("kind", "customer", "order", "since")
KINDS = (("", "Any action"), *NAMES.items())


@dataclass(frozen=True, slots=True, kw_only=True)
class Filters:
    """What the list is narrowed by, as the API's call takes it; `wrong`: words beside the field that cannot be meant."""

    query: dict[str, str]
    wrong: dict[str, str]


def filters_of(visit: Visit) -> Filters:
    """From the address. An order may be named as the store names it, a day is one of the store's own time zone."""
    query = {name: visit.query[name] for name in FIELDS if name in visit.query}
    wrong = {}
    if "order" in query:
        found = visit.read(listings.orders, search=query["order"], limit=1).rows
        id = found[0]["id"] if found else listings.id_in(query["order"])
        if id is None:
            wrong["order"] = "No order has this name or number."
        query["order"] = str(id)
    if "since" in query:
        with suppress(ValueError):  # else it is a time already, or the call says what it should be
            query["since"] = datetime.combine(
                date.fromisoformat(query["since"]), time.min, zone()
            ).isoformat()
    return Filters(query=query, wrong=wrong)


def show(visit: Visit) -> Response:
    """A page of it. A filter that cannot be meant is said at its field, above an empty list."""
    filters = filters_of(visit)
    cursor = {"cursor": visit.query["cursor"]} if "cursor" in visit.query else {}
    wanted = {**filters.query, **cursor, "limit": str(listings.LIMIT)}
    said = None if filters.wrong else visit.ask("list_activity", query=wanted)
    return page(visit, filters, said)


def page(visit: Visit, filters: Filters, said: Said | None) -> Response:
    wrong = {**filters.wrong, **wrong_of(said)}
    found: dict[str, Any] = said.document if said and said.ok else {"data": [], "next_cursor": None}
    return visit.page(
        "activity.html",
        status=said.status if said else 200,
        said=said if said and not wrong else None,
        wrong=wrong,
        rows=found["data"],
        cursor=found["next_cursor"],
        kinds=KINDS,
        filtered=any(name in visit.query for name in FIELDS),
        csv={name: visit.query[name] for name in FIELDS if name in visit.query},
        action=action,
        leads_to=leads_to,
    )


def wrong_of(said: Said | None) -> dict[str, str]:
    """The field that the call refuses, with its reason."""
    field = "" if said is None else str(said.details.get("field", ""))
    return {field: f"It {said.details['reason']}."} if said and field in FIELDS else {}


def download(visit: Visit) -> Response:
    """The list as CSV, all its pages; whoever asks for too much gets the page that says so."""
    filters = filters_of(visit)
    if filters.wrong:
        return page(visit, filters, None)
    with ExitStack() as places:
        places.enter_context(visit.api.shares.exports.one(visit.shop_id))
        said = visit.ask("list_activity", query=filters.query, media=CSV)
        if said.file is None:
            return page(visit, filters, said)
        response = Response(pieces(said.file), content_type=f"{CSV}; charset=utf-8")
        response.call_on_close(said.file.close)
        name = f"activity-{visit.domain.partition('.')[0]}-{datetime.now(zone()):%Y-%m-%d}.csv"
        response.headers["Content-Disposition"] = f'attachment; filename="{name}"'
        until_sent(response, places.pop_all())
    return response


PAGES = (
    Page(path="/activity", name="activity", view=show),
    Page(path="/activity.csv", name="activity_csv", view=download),
)
