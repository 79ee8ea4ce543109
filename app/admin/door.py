"""Who may see a page: the visitor of a shop's admin, by session token, or whoever holds a login of this server.

Default-deny: no page is made before the shop is known, and nothing but that shop's can be read afterwards. Inside the
admin every request carries a session token and no cookie is set, so no other site can act in a visitor's name. A login
(`unwind admin link`) is a cookie that no script reads and no other site sends; its forms carry a word derived from it.
"""

from __future__ import annotations

import hashlib
import hmac
import secrets
from collections.abc import Iterator, Mapping
from contextlib import ExitStack, contextmanager
from datetime import UTC, datetime
from functools import cache
from pathlib import Path
from urllib.parse import urlencode, urlsplit

import structlog
from flask import Flask, Response, g, render_template, request
from markupsafe import Markup
from sqlalchemy.exc import OperationalError, TimeoutError
from werkzeug.exceptions import BadRequest, HTTPException, MethodNotAllowed

from app.admin import filters, words
from app.admin.visit import CSRF_FIELD, FRAME, KEY_FIELD, Visit
from app.api.calls import NOBODY
from app.api.calls import Door as ApiDoor
from app.api.limits import admission
from app.api.reading import ids_of, storable
from app.install import BOUNCE, BOUNCED, KEPT, RELOAD, bearer, is_local
from app.pages import BRIDGE, BRIDGE_HOST, ancestors, with_headers
from app.session_tokens import RETRY_HEADER, NotASessionToken, verify
from models.errors import InvalidSetting, Later, NotFound, UnwindError
from models.settings import Settings
from tasks.steps import admin_logins, shops
from tasks.steps.tokens import Caller

log = structlog.get_logger(__name__)

PREFIX = "/admin"
STATIC = Path(__file__).with_name("static")
COOKIE = "unwind_admin"
CALLS_PER_MINUTE = 600  # of a shop's visitors together; a page is one call, its pictures none
FORM_MAX_BYTES = 1024 * 1024
FOREVER_SECONDS = 365 * 86_400  # static files: their addresses change with the version
RETRY_AFTER_SECONDS = 5
SAFE = frozenset(["GET", "HEAD"])  # only look
UNFRAMED = frozenset(
    ["login", "logged_in", "logout"]
)  # endpoints of a browser without Shopify's admin around it

NAVIGATION = (
    ("home", "Home"),
    ("orders", "Orders"),
    ("customers", "Customers"),
    ("activity", "Activity"),
    ("redemptions", "Redemptions"),
    ("preview", "Preview"),
    ("attention", "Needs attention"),
    ("integrations", "Integrations"),
    ("program", "Settings"),
)


class NoVisitor(Exception):
    """Nobody that we know. `reason`: one of words.REFUSALS."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


class Door:
    """What the pages share: who may come, how often, and what every answer says of itself."""

    def __init__(self, app: Flask, api: ApiDoor, *, calls_per_minute: int = CALLS_PER_MINUTE) -> None:
        self.api = api
        self._settings: Settings = api.settings
        self.admit = admission(
            app, self._settings.redis_url, below=f"{PREFIX}/", calls_per_minute=calls_per_minute
        )
        app.config["MAX_CONTENT_LENGTH"] = FORM_MAX_BYTES
        app.config["SEND_FILE_MAX_AGE_DEFAULT"] = FOREVER_SECONDS
        app.register_error_handler(Exception, self.failed)
        app.after_request(self.headed)
        app.context_processor(self.shown)
        app.jinja_env.filters.update(filters.FILTERS)

    @contextmanager
    def visit(self, arguments: Mapping[str, str]) -> Iterator[Visit | Response]:
        """The visit of this request, or the way to a token for it. Raises NoVisitor, Busy, NotFound."""
        with ExitStack() as places:
            places.enter_context(self.api.shares.calls.one(NOBODY))
            found = self._who()
            if isinstance(found, Response):
                yield found
                return
            caller, csrf = found
            g.caller = caller
            self.admit()
            check_address()
            places.enter_context(self.api.shares.shops.one(caller.shop_id))
            g.visit = Visit(caller=caller, api=self.api, ids=ids_of(arguments), csrf=csrf, embedded=not csrf)
            yield g.visit

    def _who(self) -> tuple[Caller, str] | Response:
        """The shop, and the word that its forms must carry where a cookie speaks."""
        sent = bearer()
        token = request.args.get("id_token") if sent is None and request.method in SAFE else sent
        if token is not None:
            return self._of_session(token, by_header=sent is not None)
        cookie = request.cookies.get(COOKIE)
        if cookie is not None:
            return self._of_login(cookie)
        if "shop" in request.args and request.method in SAFE:
            return self._to_bounce()
        self.admit()
        raise NoVisitor("nobody")

    def _of_session(self, token: str, *, by_header: bool) -> tuple[Caller, str] | Response:
        try:
            session = verify(self._settings, token, datetime.now(UTC))
        except NotASessionToken as error:
            log.warning("session_token_refused", reason=error.reason)
            if not by_header and "shop" in request.args:
                return self._to_bounce()
            g.retry = by_header
            self.admit()
            raise NoVisitor("session_ended") from None
        g.domain = session.domain
        with self.api.engine.connect() as connection:
            shop = shops.find(connection, session.domain)
        if shop is None:
            if not by_header:
                return Response(
                    status=302, headers={"Location": f"{request.script_root}/?{urlencode(request.args)}"}
                )
            raise NoVisitor("not_installed")
        return Caller(shop_id=shop.id, domain=shop.domain), ""

    def _of_login(self, cookie: str) -> tuple[Caller, str]:
        with self.api.engine.connect() as connection:
            caller = admin_logins.visitor(connection, cookie, datetime.now(UTC))
        if caller is None:
            self.admit()
            raise NoVisitor("login_ended")
        csrf = csrf_of(cookie)
        if request.method not in SAFE and not (is_from_here() and is_own_form(csrf)):
            raise NoVisitor("not_our_form")
        return caller, csrf

    def _to_bounce(self) -> Response:
        """To App Bridge, which comes back to this very page with a fresh token; once."""
        named = {name: value for name, value in request.args.items() if name in (*KEPT, "shop")}
        asked = {name: value for name, value in request.args.items() if name not in FRAME}
        back = f"{request.script_root}{request.path}?{urlencode({**asked, **named, BOUNCED: '1'})}"
        if request.args.get(BOUNCED) == "1" or not is_local(back):
            self.admit()
            raise NoVisitor("session_ended")
        address = f"{self._settings.shopify_app_url}{BOUNCE}?{urlencode({**named, RELOAD: back})}"
        return Response(status=302, headers={"Location": address})

    def failed(self, error: Exception) -> Response:
        """Every error as a page: what happened, what to do."""
        status, name = status_of(error)
        if status == 503:
            log.error("page_busy", path=request.path, error=type(error).__name__)
        elif status >= 500:
            log.error("page_failed", path=request.path, exc_info=error)
        said = words.ERRORS[name]
        visit: Visit | None = g.get("visit")
        text = render_template("error.html", visit=visit, said=said)
        response = Response(text, status=status, content_type="text/html; charset=utf-8")
        if isinstance(error, MethodNotAllowed) and error.valid_methods:
            response.headers["Allow"] = ", ".join(sorted(error.valid_methods))
        if g.get("retry"):
            response.headers[RETRY_HEADER] = "1"
        if status == 503:
            g.come_back = response.headers["Retry-After"] = str(RETRY_AFTER_SECONDS)
        return response

    def headed(self, response: Response) -> Response:
        if request.endpoint == "static" and response.status_code < 400:
            response.headers["X-Content-Type-Options"] = "nosniff"
            return response
        if (
            response.status_code == 308
        ):  # of the router, which knows no proxy: `http://` would send a token in clear
            at = urlsplit(response.headers["Location"])
            response.headers["Location"] = f"{at.path}?{at.query}" if at.query else at.path
        response.headers["Content-Security-Policy"] = self._policy()
        response.headers["Vary"] = "Authorization, Cookie"
        return with_headers(response)

    def _policy(self) -> str:
        """Scripts, styles and calls of this server alone; inside the admin also App Bridge, which puts styles in."""
        visit: Visit | None = g.get("visit")
        inside = visit is not None and visit.embedded
        alone = request.endpoint in UNFRAMED if visit is None else not inside
        domain = None if alone else g.get("domain") or named_shop()
        bridge = f" {BRIDGE_HOST}" if inside else ""
        style = "'self' 'unsafe-inline'" if inside else "'self'"
        talks = "'self' https://*.shopify.com https://*.shopifysvc.com" if inside else "'self'"
        return (
            f"default-src 'none'; script-src 'self'{bridge}; style-src {style}; img-src 'self' data:; font-src 'self';"
            f" connect-src {talks}; form-action 'self'; base-uri 'none'; object-src 'none';"
            f" frame-ancestors {ancestors(self._settings, domain)}"
        )

    def shown(self) -> dict[str, object]:
        """What every template may use."""
        return {
            "bridge": BRIDGE,
            "api_key": self._settings.shopify_api_key,
            "asset": lambda name: f"{request.script_root}{asset(name)}",
            "hidden": hidden,
            "navigation": NAVIGATION,
        }


@cache
def asset(name: str) -> str:
    """The path of a static file, which changes with what is in it."""
    content = (STATIC / name).read_bytes()
    return f"{PREFIX}/static/{name}?v={hashlib.sha256(content).hexdigest()[:12]}"


def hidden(visit: Visit) -> Markup:
    """What every form carries: a key, so that it counts once, and the word of its login where there is one."""
    fields = {KEY_FIELD: secrets.token_urlsafe(16), **({CSRF_FIELD: visit.csrf} if visit.csrf else {})}
    inputs = (Markup('<input type="hidden" name="{}" value="{}">').format(*each) for each in fields.items())
    return Markup("").join(inputs)


def check_address() -> None:
    """No text that a database could not be asked for. Raises BadRequest."""
    if not all(storable(text) for pair in request.args.items(multi=True) for text in pair):
        raise BadRequest


def is_from_here() -> bool:
    """No other site's page sent it, as browsers tell; what tells nothing is believed, and shown the door elsewhere."""
    return request.headers.get("Sec-Fetch-Site", "same-origin") in ("same-origin", "none")


def is_own_form(csrf: str) -> bool:
    """It carries the word of this very login."""
    given = request.form.get(CSRF_FIELD, "").encode("utf-8", "surrogatepass")
    return hmac.compare_digest(given, csrf.encode())


def named_shop() -> str | None:
    """The shop that the address names, which may frame a page that says nothing of any shop."""
    try:
        return shops.normal_domain(request.args.get("shop", ""))
    except InvalidSetting:
        return None


def csrf_of(cookie: str) -> str:
    """The word of a login's forms: from its secret, so nothing more is kept, and useless without the cookie."""
    return hmac.new(cookie.encode("utf-8", "surrogatepass"), b"unwind admin form", hashlib.sha256).hexdigest()


def status_of(error: Exception) -> tuple[int, str]:
    """The status of an error and the name of its words."""
    if isinstance(error, NoVisitor):
        return (403 if error.reason == "not_our_form" else 401), error.reason
    if isinstance(error, NotFound):
        return 404, "not_found"
    if isinstance(error, Later | OperationalError | TimeoutError):
        return 503, "busy"
    if isinstance(error, HTTPException) and error.code is not None and error.code < 500:
        return error.code, words.OF_STATUS.get(error.code, "bad_request")
    if isinstance(error, UnwindError) and getattr(error, "status", 500) < 500:
        return int(getattr(error, "status", 400)), "bad_request"
    return 500, "unexpected"
