"""The few pages that a merchant sees, each with what it may be framed by and nothing of what is inside.

An error is a page as well: what happened, what to do, a short code for whoever helps (docs/install.md lists them).
"""

from __future__ import annotations

import base64
import hashlib
from dataclasses import dataclass
from typing import Any
from urllib.parse import urlsplit

from flask import Response, render_template
from markupsafe import Markup

from models.settings import Settings
from tasks.gateway.addresses import shop_url

BRIDGE = "https://cdn.shopify.com/shopifycloud/app-bridge.js"
BRIDGE_HOST = "https://cdn.shopify.com"
ADMIN = "https://admin.shopify.com"
RETRY_AFTER_SECONDS = 10
STYLE = """
:root { color-scheme: light dark; }
body { font: 16px/1.5 system-ui, sans-serif; max-width: 38rem; margin: 3rem auto; padding: 0 1rem; }
h1 { font-size: 1.4rem; }
dl { display: grid; grid-template-columns: auto 1fr; gap: .25rem 1rem; }
dt { color: GrayText; } dd { margin: 0; overflow-wrap: anywhere; }
.code { color: GrayText; font-size: .85rem; }
"""
STYLE_HASH = base64.b64encode(hashlib.sha256(STYLE.encode()).digest()).decode()


@dataclass(frozen=True, slots=True)
class ErrorPage:
    """What an error page says. `again`: whether starting the installation again is what helps."""

    status: int
    title: str
    what: str
    remedy: str
    again: bool = False


START_AGAIN = "Start the installation again, and finish it in the same browser within ten minutes."
WAIT = "Wait a minute and try again. Nothing was lost."
ERROR_PAGES = {
    "bad_shop": ErrorPage(
        400,
        "This is not the address of a Shopify store",
        "The link names no store, or something that cannot be one.",
        "Open the app from the Apps page of your store's admin. A store's address is like your-store.myshopify.com.",
    ),
    "bad_link": ErrorPage(
        400,
        "This link cannot be read",
        "Something in it is missing, or is there twice.",
        "Open the app from the Apps page of your store's admin instead.",
    ),
    "not_signed": ErrorPage(
        403,
        "This link does not come from Shopify",
        "Shopify signs the links that it sends you back with, and this one is not signed by it for this app.",
        "Open the app from your store's admin. If this happens each time, whoever runs this server should compare"
        " SHOPIFY_API_SECRET with the app's client secret.",
        again=True,
    ),
    "stale_link": ErrorPage(
        403,
        "This link is too old",
        "It was made for one moment, which has passed.",
        f"{START_AGAIN} If this happens each time, the clock of this server is wrong.",
        again=True,
    ),
    "other_browser": ErrorPage(
        403,
        "This installation was not started here",
        "It was started in another browser, more than ten minutes ago, or for another store; or it has ended already;"
        " or your browser keeps no cookies.",
        f"If the app is in your store's admin, all is well. Else: {START_AGAIN}",
        again=True,
    ),
    "used_link": ErrorPage(
        403,
        "This link was used already",
        "Each link counts once, and this one has been here before.",
        "If the app is not in your store's admin, start the installation again.",
        again=True,
    ),
    "declined": ErrorPage(
        403,
        "The app was not installed",
        "The permissions it asked for were not given, so nothing was changed in your store.",
        "Start again whenever you like.",
        again=True,
    ),
    "scopes_missing": ErrorPage(
        403,
        "Some permissions are missing",
        "Without them the app cannot keep your loyalty program right.",
        "Ask for them again, and agree to all of them.",
        again=True,
    ),
    "not_accepted": ErrorPage(
        400,
        "Shopify did not accept this installation",
        "What your browser brought back is not valid at Shopify, or no longer.",
        START_AGAIN,
        again=True,
    ),
    "no_session": ErrorPage(
        401,
        "We cannot tell which store this is",
        "Shopify did not confirm it in a way that this server accepts.",
        "Open the app again from your store's admin. If this happens each time, whoever runs this server should compare"
        " SHOPIFY_API_KEY and SHOPIFY_API_SECRET with the app's, and check the server's clock.",
    ),
    "not_set_up": ErrorPage(
        503,
        "This server is not set up yet",
        "It does not know the Shopify app that it is to be.",
        "Whoever runs this server should set SHOPIFY_API_KEY, SHOPIFY_API_SECRET, SHOPIFY_APP_URL and"
        " TOKEN_ENCRYPTION_KEYS as `unwind settings` explains, and look at its log.",
    ),
    "shopify_away": ErrorPage(503, "Shopify does not answer just now", "It may be busy.", WAIT, again=True),
    "broker_away": ErrorPage(503, "This server is busy", "Its queue does not answer.", WAIT, again=True),
    "database_away": ErrorPage(503, "This server is busy", "Its database does not answer.", WAIT, again=True),
    "unexpected": ErrorPage(
        500,
        "Something went wrong on our side",
        "It has been logged.",
        "Try again; if it stays, tell whoever runs this server.",
    ),
}


class PageError(Exception):
    """A request that ends in one of ERROR_PAGES. `missing`: scopes that were not granted."""

    def __init__(self, code: str, missing: tuple[str, ...] = ()) -> None:
        super().__init__(code)
        self.code = code
        self.page = ERROR_PAGES[code]
        self.missing = missing


def page(
    settings: Settings,
    template: str,
    *,
    status: int = 200,
    domain: str | None = None,
    bridge: bool = False,
    **values: Any,
) -> Response:
    """A page that may be framed by the admin of `domain`, of no shop without one. `bridge`: with App Bridge in it."""
    text = render_template(
        template,
        style=Markup(STYLE),  # noqa: S704 - our own constant
        bridge=BRIDGE if bridge else None,
        api_key=settings.shopify_api_key,
        domain=domain,
        **values,
    )
    response = Response(text, status=status, content_type="text/html; charset=utf-8")
    response.headers["Content-Security-Policy"] = policy(settings, domain, bridge=bridge)
    return response


def error_page(settings: Settings, error: PageError, domain: str | None, again: str | None) -> Response:
    found = error.page
    response = page(
        settings,
        "error.html",
        status=found.status,
        domain=domain,
        code=error.code,
        error=found,
        missing=error.missing,
        again=again if found.again else None,
    )
    if found.status == 503:
        response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
    return response


def policy(settings: Settings, domain: str | None, *, bridge: bool) -> str:
    """The page's Content-Security-Policy. App Bridge puts styles in and talks to Shopify: there, only scripts are named."""
    framed_by = f"frame-ancestors {ancestors(settings, domain)}"
    if bridge:
        return (
            f"script-src {BRIDGE_HOST}; object-src 'none'; base-uri 'none'; form-action 'self'; {framed_by}"
        )
    style = f"style-src 'sha256-{STYLE_HASH}'"
    return f"default-src 'none'; {style}; base-uri 'none'; form-action 'none'; {framed_by}"


def ancestors(settings: Settings, domain: str | None) -> str:
    """Who may frame a page of this shop: its own admin, and nobody when no shop is known."""
    if domain is None:
        return "'none'"
    named = f"https://{domain} {ADMIN}"
    if settings.shopify_base_url is None:
        return named
    at = urlsplit(shop_url(settings, domain, "/"))
    return f"{named} {at.scheme}://{at.netloc}"


def with_headers(response: Response) -> Response:
    """What every answer says of itself, a redirect too: it is one visitor's, and its address goes no further."""
    response.headers["Cache-Control"] = "no-store"
    response.headers["X-Content-Type-Options"] = "nosniff"
    response.headers["Referrer-Policy"] = "no-referrer"
    response.headers.setdefault("Content-Security-Policy", "default-src 'none'; frame-ancestors 'none'")
    return response
