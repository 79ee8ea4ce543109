"""A login without Shopify, for who runs the server: `unwind admin link` prints an address that logs in once."""

from __future__ import annotations

from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

from flask import Flask, Response, render_template, request, url_for
from werkzeug.utils import redirect

from app.admin.door import COOKIE, PREFIX, Door, NoVisitor, is_from_here
from app.api.calls import NOBODY
from app.api.places import Places
from tasks.steps import admin_logins

PATH = f"{PREFIX}/login"
FORM_MAX_BYTES = 4096  # a link's secret has 43 characters, and whoever sends it is not known yet
SHARE = 8  # of the threads one in so many may wait for the form of somebody who is not known yet


def add_to(app: Flask, door: Door) -> None:
    """The addresses of a login. The link shows a button: what looks at links before people do uses none up."""
    api, public = door.api, door.api.settings.shopify_app_url
    most = api.settings.receiver_threads // SHARE
    places = Places(most, most)

    @app.get(PATH)
    def login() -> str:
        return render_template("login.html", visit=None, token=request.args.get("token", ""))

    @app.post(PATH)
    def logged_in() -> Response:
        if not is_from_here():  # else another site could log this browser in to a store of its own
            raise NoVisitor("not_our_form")
        request.max_content_length = FORM_MAX_BYTES
        with places.one(NOBODY), api.shares.calls.one(NOBODY):
            door.admit()
            with api.engine.begin() as connection:
                cookie = admin_logins.redeem(connection, request.form.get("token", ""), datetime.now(UTC))
                if cookie is not None:
                    admin_logins.end(connection, request.cookies.get(COOKIE, ""))
        if cookie is None:
            raise NoVisitor("link_used")
        response = Response(status=303, headers={"Location": url_for("home")})
        response.set_cookie(COOKIE, cookie, max_age=admin_logins.SESSION_SECONDS, **marks(public))
        return response

    @app.post(f"{PREFIX}/logout")
    def logout() -> Any:
        with door.visit({}), api.engine.begin() as connection:
            admin_logins.end(connection, request.cookies.get(COOKIE, ""))
        response = redirect(url_for("login"), 303, Response)
        response.delete_cookie(COOKIE, **marks(public))
        return response


def marks(public: str) -> dict[str, Any]:
    """Of the cookie: for these pages, no script and this site alone. Over https it never goes without it."""
    path = f"{request.script_root}{PREFIX}"
    return {"path": path, "httponly": True, "secure": is_https(public), "samesite": "Strict"}


def is_https(public: str) -> bool:
    """Whether the browser speaks https, as a proxy in front says, or as the public address does that it asked for.

    Believed of everybody: who makes it up is only given a cookie that his own browser keeps back.
    """
    said = request.headers.get("X-Forwarded-Proto", "").partition(",")[0].strip().lower()
    at, asked = urlsplit(public), urlsplit(f"//{request.host}")
    return request.is_secure or said == "https" or (at.scheme == "https" and at.hostname == asked.hostname)
