"""Needs attention: what a person should look at, with what happened, what to do, and the acts that are one click away."""

from __future__ import annotations

from collections.abc import Mapping
from contextlib import suppress
from typing import Any

from flask import Response
from sqlalchemy import Connection
from werkzeug.exceptions import BadRequest

from app.admin.asking import Said, refused
from app.admin.visit import Page, Visit
from app.api.fields import read_id
from app.api.paging import cursor_text
from models.errors import NotFound, Refused
from tasks.steps import attention, failed
from worker.doorbell import Ring

TITLES = {
    "connection": "Connection to Shopify",
    "failed": "Events that could not be processed",
    "order": "Orders to look at",
    "outbox": "Changes that could not be made at Shopify",
    "endpoint": "Paused endpoints",
    "reconcile": "Comparisons with Shopify that failed",
    "privacy": "Requests for personal data",
}
RETRY = {"failed": "Retry", "outbox": "Retry", "endpoint": "Enable"}
DISMISS = {"failed": "Discard"}  # others: Dismiss
ASKED_BEFORE = {"failed": "Discard this event for good? What it tells will not be processed."}
SEVERITIES = {"wrong": ("Wrong", "critical"), "look": ("To look at", "attention")}
LINKS = {  # the page of an item's link: its endpoint, the name of its id, the words
    "order": ("order", "order_id", "Open the order"),
    "redemption": ("redemption", "redemption_id", "Open the redemption"),
    "customer": ("customer", "customer_id", "Open the customer"),
    "integrations": ("integrations", "", "Open Integrations"),
    "settings": ("program", "", "Open Settings"),
}
DONE = {
    "retried": "It is tried again. If it fails once more, it comes back here.",
    "enabled": "The endpoint is enabled. What waited for it is sent.",
    "discarded": "The event was discarded. It stays in the record and will not be processed.",
    "dismissed": "It was dismissed. It comes back when its cause happens again.",
    "all": "All of them are tried again. What fails once more comes back here.",
}
AT_ONCE = 500  # retried by one click
KEPT = 20  # of each kind, where all kinds are shown


def show(visit: Visit, said: Said | None = None) -> Response:
    """All kinds, the newest of each; or one kind, a page at a time."""
    kind = visit.query.get("kind")
    if kind is not None and kind not in TITLES:
        raise BadRequest
    scopes = visit.api.settings.shopify_scopes
    counts = visit.read(attention.counts, scopes=scopes)
    limit = attention.LIMIT if kind else KEPT
    found = visit.read(attention.items, kind=kind, cursor=visit.cursor, limit=limit, scopes=scopes)
    kinds = [
        (each, title, [item for item in found.rows if item["kind"] == each])
        for each, title in TITLES.items()
        if kind in (None, each)
    ]
    return visit.page(
        "attention.html",
        status=said.status if said else 200,
        said=said,
        kind=kind,
        counts=counts,
        kinds=[group for group in kinds if group[2]],
        cursor=cursor_text(found.cursor),
        titles=TITLES,
        retry=RETRY,
        dismiss=DISMISS,
        asked_before=ASKED_BEFORE,
        severities=SEVERITIES,
        link=lambda item: link_of(visit, item),
        done_words=DONE,
    )


def link_of(visit: Visit, item: Mapping[str, Any]) -> tuple[str, str] | None:
    """Where to look at it: the address and its words."""
    link = item["link"] or {}
    if link.get("page") == "install" and visit.api.settings.shopify_app_url:
        return f"{visit.api.settings.shopify_app_url}/auth?shop={visit.domain}", "Connect again"
    if link.get("page") not in LINKS:
        return None
    endpoint, name, words = LINKS[link["page"]]
    return visit.address(endpoint, **({name: link["id"]} if name else {})), words


def act(visit: Visit) -> Response:
    """Retry or dismiss one thing, or retry all failed events; a refusal is said above the list as it is now."""
    form = visit.form
    doing, kind = form.get("act", ""), form.get("kind", "")
    try:
        if doing == "retry_all":
            done = retry_all(visit)
        else:
            done = act_on(visit, doing, kind, id_of(form.get("id", "")))
    except (NotFound, Refused) as error:
        return show(visit, refused(error))
    return visit.go("attention", done=done, kind=visit.query.get("kind"))


def id_of(text: str) -> int:
    try:
        return read_id(text)
    except ValueError:
        raise BadRequest from None


def act_on(visit: Visit, doing: str, kind: str, id: int) -> str:
    """Do it; the name of its words. Raises NotFound, Refused, BadRequest."""
    if kind not in TITLES or doing not in ("retry", "dismiss"):
        raise BadRequest
    by = "session" if visit.embedded else "link"
    if doing == "dismiss":
        visit.write(attention.dismiss, kind, id, by=by)
        return "discarded" if kind == "failed" else "dismissed"
    visit.write(attention.retry, kind, id, by=by)
    if kind == "failed":
        visit.ring(Ring(visit.domain, "retry", id))
    return "enabled" if kind == "endpoint" else "retried"


def retry_all(visit: Visit) -> str:
    """Try the failed events again whose bodies are kept, so many at once."""
    moved = visit.write(retried, visit.domain)
    for row in moved[:1]:  # one ring is for all of a shop's events
        visit.ring(Ring(visit.domain, row["topic"], int(row["id"])))
    return "all"


def retried(connection: Connection, shop_id: int, domain: str) -> list[dict[str, Any]]:
    """The events that were put back into the queue. What somebody else retried meanwhile is passed over."""
    moved = []
    for row in failed.listing(connection, domain, limit=AT_ONCE, with_body=True).rows:
        with suppress(Refused):
            moved.append(failed.retry(connection, domain, int(row["id"])))
    return moved


PAGES = (
    Page(path="/attention", name="attention", view=show),
    Page(path="/attention", name="attend", view=act, methods=("POST",)),
)
