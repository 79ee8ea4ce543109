"""Home: is all well, what was taken and given back this month, what needs a look; for a new shop, what happens next."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, date, datetime
from typing import Any

from flask import Response

from app.admin.attention import TITLES
from app.admin.chart import month_of
from app.admin.visit import Page, Visit
from tasks.steps import overview

VERDICTS = {  # tone of the banner, its first words
    "new": ("info", "Ready: nothing has happened yet"),
    "well": ("success", "All is well"),
    "look": ("attention", "Something waits for you"),
    "wrong": ("critical", "Something is wrong"),
}
CONNECTIONS = {  # by state, or by what is wrong with it
    "active": "Connected",
    "never": "Not connected: this store was added by hand, so nothing can be read or changed at Shopify",
    "uninstalled": "The app was uninstalled",
    "needs_merchant": "Shopify needs your consent: open the app once from the store's admin",
    "scopes_missing": "Connected, but permissions are missing",
    "token_revoked": "Shopify no longer accepts our access",
    "refresh_token_expired": "Our access has ended",
}
RUNS = {
    "recent": "of the last changes",
    "nightly": "of the night",
    "asked": "asked for",
    "import": "of the orders from before",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Step:
    """Of what a new shop's owner does. endpoint: the page where it is done"""

    title: str
    what: str
    done: bool = False
    endpoint: str = ""
    words: str = ""


def show(visit: Visit) -> Response:
    now = datetime.now(UTC)
    found = visit.read(overview.overview, now, scopes=visit.api.settings.shopify_scopes)
    is_new = found["last_webhook_at"] is None
    tone, title = VERDICTS["new" if is_new and found["verdict"] == "well" else found["verdict"]]
    return visit.page(
        "home.html",
        now=now,
        found=found,
        tone=tone,
        verdict=title,
        connection=connection_words(found["connection"]),
        compared=run_words(found["reconcile"]),
        chart=month_of(found["days"]),
        titles=TITLES,
        steps=first_steps(found) if is_new else (),
        ago=lambda at: ago(at, now),
        named=named,
    )


def connection_words(link: Mapping[str, Any]) -> str:
    """How Shopify lets us in."""
    said = CONNECTIONS.get(link["reason"] or link["state"], CONNECTIONS["needs_merchant"])
    if link["missing_scopes"]:
        said += f": {', '.join(link['missing_scopes'])}"
    return said


def run_words(run: Mapping[str, Any] | None) -> str:
    """What the last comparison with Shopify found."""
    if run is None:
        return "None yet"
    name = f"The one {RUNS.get(run['kind'], run['kind'])}"
    if run["state"] == "failed":
        return f"{name} failed: {run['error']}"
    read = counted(run["orders_read"], "order")
    if run["state"] == "running":
        return f"{name} is under way: {read} read"
    if not run["missing"] and not run["different"]:
        return f"{name} read {read}, and all agreed"
    found = f"{run['missing']} missing and {run['different']} different"
    return f"{name} read {read}: {found}, {run['repaired']} put right"


def counted(count: int, thing: str) -> str:
    return f"{count:,} {thing}" if count == 1 else f"{count:,} {thing}s"


def ago(at: str | None, now: datetime) -> str:
    """`3 minutes ago`, in the largest unit of which there is a whole one."""
    if at is None:
        return ""
    seconds = max(0, int((now - datetime.fromisoformat(at)).total_seconds()))
    for unit, length in (("day", 86_400), ("hour", 3_600), ("minute", 60)):
        if seconds >= length:
            return f"{counted(seconds // length, unit)} ago"
    return "just now"


def named(day: str) -> str:
    """`5 Mar` of 2026-03-05: a day of the store's own, which no time zone moves."""
    at = date.fromisoformat(day)
    return f"{at.day} {at:%b}"


def first_steps(found: Mapping[str, Any]) -> list[Step]:
    """What happens next in a shop of which Shopify has told nothing yet."""
    return [
        Step(
            title="Connect the store",
            what="Open the app once from your store's admin, and agree to what it asks for.",
            done=found["connection"]["connected"],
        ),
        Step(
            title="Say how points are earned, and what a refund does",
            what="The settings begin with one point for each unit of money, taken back in proportion to what is refunded.",
            endpoint="program",
            words="Settings",
        ),
        Step(
            title="Bring your customers' points along",
            what="If they have points in another program, whoever runs this server imports them with `unwind import`.",
        ),
        Step(
            title="See what a refund would do",
            what="Preview shows it for any order, with each step in words, and changes nothing.",
            endpoint="preview",
            words="Preview",
        ),
        Step(
            title="Wait for the first order",
            what="It appears here seconds after it was placed. Nothing more is to be done.",
        ),
    ]


PAGES = (Page(path="/", name="home", view=show),)
