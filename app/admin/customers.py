"""Customers: the list, found by number, e-mail or telephone; and one of them, with what can be done by hand."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from contextlib import suppress
from datetime import date, datetime, timedelta
from typing import Any

from flask import Response
from werkzeug.exceptions import BadRequest

from app.admin import redemptions
from app.admin.asking import Said
from app.admin.entries import action, leads_to
from app.admin.filters import rule, zone
from app.admin.visit import Page, Visit, amount_typed
from app.api.paging import cursor_text
from tasks.steps import listings
from tasks.steps.activity import Wanted
from tasks.steps.activity import listing as activity_listing
from tasks.steps.identifiers import TEXT_MAX, Hashers
from tasks.steps.tier_standing import tier_standing

LOTS_SHOWN = 10  # the others are folded away
CUSTOM = "custom"  # a redemption of any amount, for no reward of the program
ENTRIES = 20  # of the activity, a page
DONE = {
    "granted": "The points were given. The customer can spend them now.",
    "pinned": "The tier is kept by hand now: it does not move.",
    "unpinned": "The tier moves again.",
    "locked": "Points are not reversed by hand for this customer until then.",
    "unlocked": "Points can be reversed by hand again.",
}
SOURCES = {
    "grant": "Given by hand",
    "import": "Imported",
    "return": "Given back",
    "spent": "Given back",
}
WINDOWS = {
    "lifetime": "Lifetime",
    "calendar_year": "This calendar year",
    "rolling_year": "Last 365 days",
}
DOWNGRADE = {
    "immediate": "A level is lost as soon as its threshold is no longer met.",
    "grace": "A level that is no longer met is kept for {} days.",
    "period_end": "A level that is no longer met is kept until the end of the year.",
    "never": "A level that was reached is never lost.",
}


# -- the list ----------------------------------------------------------------------------------------


def show_all(visit: Visit) -> Response:
    """All customers, the latest activity first; a search comes by POST, so that no address gets into the address bar."""
    if visit.is_act:
        return search(visit)
    page = visit.read(listings.customers, cursor=visit.cursor)
    return shown(visit, page.rows, cursor=cursor_text(page.cursor))


def search(visit: Visit) -> Response:
    """To the profile of whom the text names, else a word that it names nobody. It is not kept, nor logged."""
    text = visit.form.get("search", "").strip()[:TEXT_MAX]
    if not text:
        return visit.go("customers")
    keys = visit.api.settings.token_keys
    hasher = Hashers(visit.api.engine, keys).of_any(visit.domain)
    found = visit.read(listings.customers, search=text, hasher=hasher).rows
    if found:
        return visit.go("customer", customer_id=found[0]["id"])
    return shown(visit, [], searched=text, keeps_addresses=hasher is not None)


def shown(visit: Visit, rows: Any, **values: Any) -> Response:
    return visit.page("customers.html", rows=rows, tiers=tier_names(visit), **values)


def tier_names(visit: Visit) -> Mapping[str, str]:
    return {level["id"]: level.get("name") or level["id"] for level in visit.settings["tiers"]["levels"]}


# -- one customer ------------------------------------------------------------------------------------


def show(visit: Visit, *, said: Said | None = None, act: str = "") -> Response:
    """A customer's profile. said: what was refused of `act`"""
    found = visit.found("get_customer")
    id = int(found["id"])
    if id != visit.ids["customer_id"]:  # merged at Shopify: whoever it is now (R33)
        return visit.go("customer", customer_id=id)
    wanted = Wanted(customer_id=id)
    orders = visit.read(listings.orders_of, id)
    entries = visit.read(activity_listing, wanted, cursor=visit.cursor, limit=ENTRIES)
    return visit.page(
        "customer.html",
        status=200 if said is None else said.status,
        customer=found,
        next_to_expire=next((lot for lot in found["lots"] if lot["expires_at"]), None),
        lots_shown=LOTS_SHOWN,
        source=source_of,
        standing=visit.read(tier_standing, id),
        windows=WINDOWS,
        downgrade=DOWNGRADE,
        orders=orders,
        order_names={order["id"]: order["name"] for order in orders},
        redemptions=visit.read(listings.redemptions_of, id),
        statuses=redemptions.STATUS,
        lock=visit.found("get_reversal_lock"),
        entries=entries.rows,
        cursor=cursor_text(entries.cursor),
        action=action,
        leads_to=leads_to,
        rewards=visit.settings["rewards"],
        said=said,
        act=act,
        form=visit.form,
        done_words=DONE,
    )


def source_of(lot: str) -> tuple[str, str | None]:
    """Where a lot comes from, in words, and its order: `order:450:place-order` -> ("Place an order", "450")."""
    kind, _, rest = lot.partition(":")
    order_id, _, target = rest.partition(":")
    if kind == "order" and order_id.isdigit():
        return rule(target), order_id
    return SOURCES.get(kind, kind), None


def act(visit: Visit) -> Response:
    """What a button of the profile asks for."""
    name = visit.form.get("act", "")
    if name not in ACTS:
        raise BadRequest
    operation, body, done = ACTS[name]
    said = visit.ask(operation, body=body(visit))
    if not said.ok:
        return show(visit, said=said, act=name)
    if name == "spend":
        return visit.go("redemption", redemption_id=said.document["id"])
    return visit.go("customer", customer_id=visit.ids["customer_id"], done=done)


def grant_asked(visit: Visit) -> dict[str, Any]:
    last_day = visit.form.get("last_day", "").strip()
    body = {"amount": amount_typed(visit.form.get("amount", "")), "reason": visit.form.get("reason", "")}
    return {**body, "expires_at": end_of(last_day)} if last_day else body


def spend_asked(visit: Visit) -> dict[str, Any]:
    """A reward of the program, or any amount for `custom`; a code that is there already is tracked."""
    reward, code = visit.form.get("reward", ""), visit.form.get("code", "").strip()
    body: dict[str, Any] = {"customer_id": str(visit.ids["customer_id"]), "reward": reward}
    if reward == CUSTOM:
        body["amount"] = amount_typed(visit.form.get("amount", ""))
    return {**body, "code": code} if code else body


def lock_asked(visit: Visit) -> dict[str, Any]:
    return {
        "until": end_of(visit.form.get("last_day", "").strip()),
        "reason": visit.form.get("reason", ""),
    }


def end_of(day: str) -> str:
    """The end of a day (2027-01-31) in the store's own time; what is no day goes on as it is, to be refused."""
    with suppress(ValueError, OverflowError):
        after = date.fromisoformat(day) + timedelta(days=1)
        return datetime(after.year, after.month, after.day, tzinfo=zone()).isoformat()
    return day


Body = Callable[[Visit], Any]
ACTS: Mapping[str, tuple[str, Body, str]] = {  # a button: the API's call, its body, the words for its success
    "grant": ("create_grant", grant_asked, "granted"),
    "spend": ("create_redemption", spend_asked, ""),
    "pin": ("put_customer_tier", lambda visit: {"pinned": visit.form.get("level", "")}, "pinned"),
    "unpin": ("put_customer_tier", lambda _: {"pinned": None}, "unpinned"),
    "lock": ("put_reversal_lock", lock_asked, "locked"),
    "unlock": ("delete_reversal_lock", lambda _: None, "unlocked"),
}


def one(visit: Visit) -> Response:
    return act(visit) if visit.is_act else show(visit)


PAGES = (
    Page(path="/customers", name="customers", view=show_all, methods=("GET", "POST")),
    Page(path="/customers/<customer_id>", name="customer", view=one, methods=("GET", "POST")),
)
