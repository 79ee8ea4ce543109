"""Integrations: tokens for the API, and the shop's own systems that are told of what happens (docs/webhooks.md)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Annotated, Any

from flask import Response, request
from pydantic import Field
from sqlalchemy import Connection
from werkzeug.exceptions import BadRequest

from app.admin.asking import Said, refused
from app.admin.visit import Page, Visit
from app.api import PREFIX
from app.api.endpoints import DESCRIPTION_MAX_CHARACTERS
from app.api.errors import InvalidRequest
from app.api.fields import LineIn, Sent
from app.api.reading import checked
from models.errors import NotFound
from tasks.steps import tokens
from tasks.steps.messages import ALL, EVENTS

EVENT = "event:"  # begins the name of an event's tick box
EVENT_WORDS = {
    ALL: "Everything, events of later versions too",
    "refunded": "A refund counts on an order",
    "cancelled": "An order is closed by a cancellation or a void",
    "auto_refunded": "A redemption that no order used is given back",
    "redemption.returned": "Redeemed value goes back to a customer",
    "points.reversed": "Earned value is taken back",
    "code.reactivated": "A discount code can be used again",
    "tier.changed": "A customer's tier moves",
}
STATES = {  # of a delivery: words and the tone of its badge
    "pending": ("Due, or to be tried again", "info"),
    "waiting": ("Waiting: the endpoint is paused", "attention"),
    "delivered": ("Delivered", "success"),
    "failed": ("Failed: every try did", "critical"),
    "cancelled": ("Cancelled: the endpoint was removed", ""),
}
PAUSED = {
    "failing": "It was paused by us: for three days nothing was delivered.",
    "gone": "It was paused by us: it answered that it is gone (410).",
    "by_hand": "It was paused by hand.",
}
DONE = {
    "revoked": "The token was revoked. Nobody gets in with it any more.",
    "removed": "The endpoint was removed. What was to be sent to it is not sent.",
    "saved": "Saved.",
    "paused": "Paused. What happens meanwhile waits, for 30 days at most.",
    "enabled": "Enabled. What waited is being sent, oldest first.",
    "tested": "A message of the event ping is on its way. It shows under Deliveries.",
    "resent": "It is sent again, under its own webhook-id.",
}


class NewToken(Sent):
    """What a form of a new token says."""

    name: Annotated[LineIn, Field(max_length=DESCRIPTION_MAX_CHARACTERS)]


# -- tokens ------------------------------------------------------------------------------------------


def show(visit: Visit, said: Said | None = None) -> Response:
    """Both lists, and where the API is described."""
    return visit.page(
        "integrations.html",
        status=200 if said is None else said.status,
        said=said,
        faults={} if said is None else faults_of(said),
        form=visit.form,
        tokens=visit.read(tokens.listing),
        endpoints=visit.found("list_endpoints")["data"],
        api=f"{request.script_root}{PREFIX}",
        done_words=DONE,
    )


def create_token(visit: Visit) -> Response:
    """A new token, which this answer alone shows."""
    if not visit.is_act:  # somebody reloads what was shown once
        return visit.go("integrations")
    try:
        wanted = checked(NewToken, {"name": visit.form.get("name", "")})
    except InvalidRequest as error:
        return show(visit, refused(error))
    assert isinstance(wanted, NewToken)
    made = visit.write(new_token, visit.domain, wanted.name)
    return visit.page("integrations_secret.html", token=made.text, name=made.name, address=api_address(visit))


def new_token(connection: Connection, shop_id: int, domain: str, name: str) -> tokens.NewToken:
    return tokens.create(connection, domain, name=name)


def revoke_token(visit: Visit) -> Response:
    """Nobody gets in with it any more. Raises NotFound."""
    if not visit.is_act:
        return visit.go("integrations")
    visit.write(tokens.revoke, visit.ids["token_id"])
    return visit.go("integrations", done="revoked")


def api_address(visit: Visit) -> str:
    """Where callers find the API from outside."""
    return f"{visit.api.settings.shopify_app_url or request.host_url.rstrip('/')}{PREFIX}"


# -- endpoints ---------------------------------------------------------------------------------------


def new_endpoint(visit: Visit) -> Response:
    """The form of a new endpoint; made, its secret, which this answer alone shows."""
    said = visit.ask("create_endpoint", body=typed(visit)) if visit.is_act else None
    if said is not None and said.ok:
        return secret_of(visit, said.document, new=True)
    chosen = events_typed(visit) if visit.is_act else [ALL]
    return visit.page(
        "integrations_new.html",
        status=200 if said is None else said.status,
        said=said,
        faults={} if said is None else faults_of(said),
        form=visit.form,
        chosen=chosen,
        events=EVENT_WORDS,
    )


def endpoint(visit: Visit, said: Said | None = None) -> Response:
    """One endpoint: how it is doing, what it takes, and every delivery with its tries."""
    if visit.is_act and said is None:
        return act("change_endpoint", "saved", typed)(visit)
    found = visit.found("get_endpoint")
    state = visit.query.get("status", "")
    if state and state not in STATES:
        raise BadRequest
    asked = {"state": state, "cursor": visit.query.get("cursor", "")}
    typed_in = visit.is_act and request.endpoint == "integrations_endpoint"
    return visit.page(
        "integrations_endpoint.html",
        status=200 if said is None else said.status,
        said=said,
        faults={} if said is None else faults_of(said),
        endpoint=found,
        form=visit.form if typed_in else found,
        chosen=events_typed(visit) if typed_in else found["events"],
        deliveries=deliveries_of(visit, asked),
        state=state,
        states=STATES,
        paused=PAUSED,
        events=EVENT_WORDS,
        done_words=DONE,
    )


def deliveries_of(visit: Visit, query: Mapping[str, str]) -> Any:
    said = visit.ask("list_deliveries", query={name: text for name, text in query.items() if text})
    if not said.ok:  # a cursor that no page gave out
        raise BadRequest
    return said.document


def act(
    name: str, done: str, body: Callable[[Visit], Any] = lambda visit: None
) -> Callable[[Visit], Response]:
    """The view of a button: the call, then the endpoint's page, which says that it was done."""

    def view(visit: Visit) -> Response:
        if not visit.is_act:
            return visit.go("integrations_endpoint", endpoint_id=visit.ids["endpoint_id"])
        said = known(visit.ask(name, body=body(visit)))
        if not said.ok:
            return endpoint(visit, said)
        return visit.go("integrations_endpoint", endpoint_id=visit.ids["endpoint_id"], done=done)

    return view


def rotate(visit: Visit) -> Response:
    if not visit.is_act:
        return visit.go("integrations_endpoint", endpoint_id=visit.ids["endpoint_id"])
    said = known(visit.ask("rotate_endpoint_secret"))
    return secret_of(visit, said.document, new=False) if said.ok else endpoint(visit, said)


def remove(visit: Visit) -> Response:
    if not visit.is_act:
        return visit.go("integrations_endpoint", endpoint_id=visit.ids["endpoint_id"])
    known(visit.ask("delete_endpoint")).expected()
    return visit.go("integrations", done="removed")


def secret_of(visit: Visit, document: Mapping[str, Any], *, new: bool) -> Response:
    return visit.page("integrations_secret.html", endpoint=document, new=new, secret=document["secret"])


def known(said: Said) -> Said:
    """Raises NotFound for what the shop does not have."""
    if said.status == 404:
        raise NotFound("page", request.path)
    return said


def typed(visit: Visit) -> dict[str, Any]:
    """What the form of an endpoint says."""
    return {
        "url": visit.form.get("url", "").strip(),
        "description": visit.form.get("description", "").strip(),
        "events": events_typed(visit),
    }


def events_typed(visit: Visit) -> list[str]:
    """The events that are ticked; everything is everything alone."""
    ticked = [name for name in (ALL, *EVENTS) if visit.form.get(EVENT + name)]
    return [ALL] if ALL in ticked else ticked


def faults_of(said: Said) -> Mapping[str, str]:
    """The fields that are wrong, and why."""
    faults = [said.details, *said.details.get("others", ())] if "field" in said.details else []
    return {fault["field"]: f"It {fault['reason']}." for fault in faults}


ONE = "/integrations/endpoints/<endpoint_id>"
BOTH = ("GET", "POST")  # acts too: after one, its address may be reloaded
PAGES = (
    Page(path="/integrations", name="integrations", view=show),
    Page(path="/integrations/tokens", name="integrations_token", view=create_token, methods=BOTH),
    Page(
        path="/integrations/tokens/<token_id>/revoke",
        name="integrations_revoke",
        view=revoke_token,
        methods=BOTH,
    ),
    Page(path="/integrations/endpoints/new", name="integrations_new", view=new_endpoint, methods=BOTH),
    Page(path=ONE, name="integrations_endpoint", view=endpoint, methods=BOTH),
    Page(
        path=f"{ONE}/pause",
        name="integrations_pause",
        view=act("change_endpoint", "paused", lambda visit: {"state": "paused"}),
        methods=BOTH,
    ),
    Page(
        path=f"{ONE}/enable",
        name="integrations_enable",
        view=act("change_endpoint", "enabled", lambda visit: {"state": "active"}),
        methods=BOTH,
    ),
    Page(path=f"{ONE}/test", name="integrations_test", view=act("test_endpoint", "tested"), methods=BOTH),
    Page(path=f"{ONE}/rotate", name="integrations_rotate", view=rotate, methods=BOTH),
    Page(path=f"{ONE}/remove", name="integrations_remove", view=remove, methods=BOTH),
    Page(
        path=f"{ONE}/deliveries/<delivery_id>/resend",
        name="integrations_resend",
        view=act("resend_delivery", "resent"),
        methods=BOTH,
    ),
)
