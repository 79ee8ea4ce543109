"""How a store is connected: consent by OAuth, pages inside Shopify's admin by session token and token exchange.

GET /auth                   to the consent page, with a state
GET /auth/callback          back from it: every check, then the code for tokens
GET /                       the app's own page, as the admin opens it
GET /session-token-bounce   has App Bridge fetch a fresh session token, then opens the page again

What Shopify grants is asked for and stored by the tasks' steps; here is only who may ask for it.
"""

from __future__ import annotations

import threading
from collections.abc import Iterator
from contextlib import contextmanager
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlencode, urlsplit

import shopify
import structlog
from flask import Blueprint, Response, g, request
from redis import Redis
from sqlalchemy import Engine
from sqlalchemy.exc import OperationalError, TimeoutError

from app.install_state import COOKIE, SECONDS, States
from app.pages import PageError, error_page, page, with_headers
from app.query_signature import Pairs, is_signed_query, pairs_of, repeated
from app.session_tokens import RETRY_HEADER, NotASessionToken, verify
from models.errors import (
    BrokerUnreachable,
    DatabaseBusy,
    InvalidSetting,
    Later,
    ShopifyRefused,
    ShopifyUnreachable,
    UnwindError,
)
from models.settings import Settings
from tasks.gateway.addresses import shop_url
from tasks.gateway.oauth import Grant, PostForm, exchange_code, exchange_session_token
from tasks.steps import installations, shops
from tasks.steps.installations import missing_scopes

log = structlog.get_logger(__name__)

FRESH_SECONDS = 90  # between Shopify's signing and our reading, either way; its own libraries allow as much
AUTHORIZE = "/admin/oauth/authorize"
BOUNCE = "/session-token-bounce"
BOUNCED = "bounced"  # in the address that a bounce leads back to, so that it happens once
KEPT = ("host", "embedded", "locale")  # of the page's address, when it is opened again
RELOAD = "shopify-reload"  # App Bridge opens this address with a fresh token
SHARE = 4  # of the receiver's threads one in so many may wait for Shopify: webhooks have the others
PAGES = "/admin/"  # where the app's own pages begin


def make_blueprint(engine: Engine, broker: Redis, settings: Settings, post_form: PostForm) -> Blueprint:
    """The four addresses. `post_form`: how Shopify's token address is asked (`Connections.post_form`)."""
    install = Blueprint("install", __name__, template_folder="templates")
    door = Door(engine, broker, settings, post_form)
    install.add_url_rule("/", "home", door.home)
    install.add_url_rule("/auth", "auth", door.auth)
    install.add_url_rule("/auth/callback", "callback", door.callback)
    install.add_url_rule(BOUNCE, "bounce", door.bounce)
    install.register_error_handler(Exception, door.failed)
    install.after_request(with_headers)
    return install


class Door:
    """What the addresses share."""

    def __init__(self, engine: Engine, broker: Redis, settings: Settings, post_form: PostForm) -> None:
        self._engine = engine
        self._settings = settings
        self._post_form = post_form
        self._states = States(settings, broker) if settings.token_keys else None
        self._places = threading.BoundedSemaphore(max(1, settings.receiver_threads // SHARE))
        self._guard = threading.Lock()
        self._turns: dict[
            str, threading.Lock
        ] = {}  # of shops that Shopify vouched for, so there are only so many

    def auth(self) -> Response:
        """Send the merchant to the consent page of the store that is named."""
        states = self._ready()
        domain = domain_in(the_query())
        begun = states.begin(domain)
        response = found(self._consent_page(domain, begun.nonce))
        response.set_cookie(COOKIE, begun.cookie, max_age=SECONDS, **self._cookie_marks())
        return response

    def callback(self) -> Response:
        """The merchant comes back: who sent him is checked, then what he carries is exchanged for tokens."""
        states = self._ready()
        query = the_query()
        values = dict(query)
        domain = domain_in(query)
        if values.get("error"):
            raise PageError("declined")
        self._check_sender(query)
        code = values.get("code", "")
        if not code:
            raise PageError("bad_link")
        with self._turn(domain):
            states.end(cookie=request.cookies.get(COOKIE), nonce=values.get("state", ""), domain=domain)
            self._is_in_order(domain)  # a database that is away says so before the old tokens are ended
            grant = exchange_code(self._post_form, self._settings, domain, code)
            self._record(domain, grant)
        self._check_scopes(grant.scopes)
        response = found(self._admin_page(domain))
        response.delete_cookie(COOKIE, **self._cookie_marks())
        return response

    def home(self) -> Response:
        """The app inside the admin. Outside of it nothing of a shop is shown: the visitor is led there."""
        query = the_query()
        values = dict(query)
        sent = bearer()
        token = values.get("id_token") if sent is None else sent
        if token is None and "shop" not in values:
            return page(self._settings, "front.html")
        self._ready()
        domain = domain_in(query) if "shop" in values else None
        if token is not None:
            return self._opened(token, domain)
        assert domain is not None
        if "host" in values or values.get("embedded") == "1":
            return self._to_bounce(domain)
        with self._engine.connect() as connection:
            known = shops.find(connection, domain)
        return found(self._admin_page(domain) if known else self._address("/auth", shop=domain))

    def bounce(self) -> Response:
        """App Bridge, which reads from this page's own address where to go next: only to a page of this server."""
        self._ready()
        query = the_query()
        domain = domain_in(query)
        if not is_local(dict(query).get(RELOAD, "")):
            raise PageError("bad_link")
        return page(self._settings, "bounce.html", domain=domain, bridge=True)

    def failed(self, error: Exception) -> Response:
        """Every error as a page; only what nobody foresaw is logged whole."""
        known = page_of(error)
        if known is None:
            log.error("install_failed", path=request.path, exc_info=error)
            known = PageError("unexpected")
        else:
            log.warning("install_refused", path=request.path, page=known.code, cause=cause_of(error))
        domain = g.get("domain")
        again = self._address("/auth", shop=domain) if domain else None
        response = error_page(self._settings, known, domain, again)
        if g.get("retry"):
            response.headers[RETRY_HEADER] = "1"
        return response

    def _check_sender(self, query: Pairs) -> None:
        """Shopify signed it, just now. Raises PageError."""
        if not is_signed_query(query, self._settings.webhook_secrets):
            raise PageError("not_signed")
        if not is_fresh(dict(query).get("timestamp", ""), datetime.now(UTC)):
            raise PageError("stale_link")

    def _opened(self, token: str, named: str | None) -> Response:
        """The page of whose token it is; connected first when that is not so yet, or no longer."""
        try:
            session = verify(self._settings, token, datetime.now(UTC))
            if named not in (None, session.domain):
                raise NotASessionToken("shop")
        except NotASessionToken as error:
            log.warning("session_token_refused", reason=error.reason)
            return self._unknown(named)
        g.domain = session.domain
        if not self._connect(session.domain, token):
            return self._unknown(session.domain)
        return self._connected(session.domain)

    def _connect(self, domain: str, token: str) -> bool:
        """Tokens for the session token, unless the shop has some that do all we need. False when Shopify refuses it."""
        if self._is_in_order(domain):
            return True
        with self._turn(domain):
            if self._is_in_order(domain):
                return True
            try:
                grant = exchange_session_token(self._post_form, self._settings, domain, token)
            except ShopifyRefused as error:
                log.warning("token_exchange_refused", codes=sorted(map(str, error.codes)))
                return False
            self._record(domain, grant)
            return True

    def _unknown(self, domain: str | None) -> Response:
        """No valid token: a program is told to fetch another, a browser is sent to fetch one, once."""
        if bearer() is not None:
            g.retry = True
            raise PageError("no_session")
        if domain is None or dict(the_query()).get(BOUNCED) == "1":
            raise PageError("no_session")
        return self._to_bounce(domain)

    def _to_bounce(self, domain: str) -> Response:
        kept = {name: value for name, value in the_query() if name in KEPT}
        back = f"{self._settings.path}/?{urlencode({'shop': domain, **kept, BOUNCED: '1'})}"
        return found(self._address(BOUNCE, shop=domain, **kept, **{RELOAD: back}))

    def _connected(self, domain: str) -> Response:
        """On to the app's pages, with what the admin sent along: they ask for the same token again."""
        with self._engine.connect() as connection:
            shop = shops.get(connection, domain)
            held = installations.read(connection, shop.id)
        assert held is not None
        self._check_scopes(held.scopes)
        given = [(name, value) for name, value in the_query() if name != BOUNCED]
        return found(f"{self._settings.path}{PAGES}?{urlencode(given)}")

    @contextmanager
    def _turn(self, domain: str) -> Iterator[None]:
        """One exchange at a time for a shop: each ends the tokens of the one before. There is one receiver process.

        Whoever asks Shopify, or waits for his turn to, holds a thread that webhooks need too: so there are only a few
        places. Raises ShopifyUnreachable when they are taken.
        """
        if not self._places.acquire(blocking=False):
            raise ShopifyUnreachable("too many installations wait for Shopify's answer")
        try:
            with self._guard:
                lock = self._turns.setdefault(domain, threading.Lock())
            with lock:
                yield
        finally:
            self._places.release()

    def _is_in_order(self, domain: str) -> bool:
        with self._engine.connect() as connection:
            shop = shops.find(connection, domain)
            if shop is None or not installations.is_in_order(connection, shop.id):
                return False
            held = installations.read(connection, shop.id)
        if held is None or missing_scopes(self._settings.shopify_scopes, held.scopes):
            return False
        return installations.is_readable(self._settings, shop.id, held.access_token, held.refresh_token)

    def _record(self, domain: str, grant: Grant) -> None:
        """Always kept, with whatever scopes: an exchange ends the tokens that stood before."""
        with self._engine.begin() as connection:
            installations.record_grant(connection, self._settings, domain, grant, datetime.now(UTC))

    def _check_scopes(self, granted: tuple[str, ...]) -> None:
        missing = missing_scopes(self._settings.shopify_scopes, granted)
        if missing:
            raise PageError("scopes_missing", tuple(missing))

    def _ready(self) -> States:
        """The states, when the server is set up. Raises PageError."""
        if self._states is None or not (self._settings.shopify_api_key and self._settings.shopify_app_url):
            raise PageError("not_set_up")
        return self._states

    def _consent_page(self, domain: str, nonce: str) -> str:
        """The query is shopifyapi's, made on an object of this call alone: its class's fields stay untouched."""
        session = shopify.Session(domain, self._settings.shopify_api_version)
        session.api_key = self._settings.shopify_api_key
        callback = f"{self._settings.shopify_app_url}/auth/callback"
        asked = session.create_permission_url(list(self._settings.shopify_scopes), callback, nonce)
        return f"{shop_url(self._settings, domain, AUTHORIZE)}?{urlsplit(asked).query}"

    def _admin_page(self, domain: str) -> str:
        return shop_url(self._settings, domain, f"/admin/apps/{self._settings.shopify_api_key}")

    def _address(self, path: str, **query: str) -> str:
        """A page of this server, as the browser knows it."""
        return f"{self._settings.shopify_app_url}{path}?{urlencode(query)}"

    def _cookie_marks(self) -> dict[str, Any]:
        secure = self._settings.shopify_app_url.startswith("https://")
        return {"path": f"{self._settings.path}/auth", "httponly": True, "secure": secure, "samesite": "Lax"}


def the_query() -> Pairs:
    """This request's parameters, none of them given twice. Raises PageError."""
    pairs = pairs_of(request.query_string)
    if repeated(pairs):
        raise PageError("bad_link")
    return pairs


def domain_in(query: Pairs) -> str:
    """The shop that is named, and from then on whose pages these are. Raises PageError."""
    try:
        g.domain = shops.normal_domain(strict(dict(query).get("shop", "")))
    except InvalidSetting:
        raise PageError("bad_shop") from None
    return str(g.domain)


def strict(name: str) -> str:
    """Nothing is trimmed: Shopify puts nothing around a shop's name. Letters outside ASCII have no lower case here."""
    return name if name.isascii() and name == name.strip() else ""


def is_fresh(timestamp: str, now: datetime) -> bool:
    if not (timestamp.isascii() and timestamp.isdecimal() and len(timestamp) <= 12):
        return False
    return abs(int(now.timestamp()) - int(timestamp)) <= FRESH_SECONDS


def is_local(address: str) -> bool:
    """A path of this server, which no browser takes for another host."""
    path = address.partition("?")[0]
    if not path.startswith("/") or "//" in path or len(address) > 2000:  # `/.//x` is `//x` once it is tidied
        return False
    return address.isascii() and address.isprintable() and "\\" not in address


def bearer() -> str | None:
    """The token that a program sends along, as App Bridge does with each `fetch`."""
    scheme, _, token = request.headers.get("Authorization", "").partition(" ")
    return token.strip() if scheme.lower() == "bearer" else None


def found(address: str) -> Response:
    return Response(status=302, headers={"Location": address})


def cause_of(error: Exception) -> str:
    """For the log. Our own errors speak plainly and hold nothing of what was sent; of foreign ones only the name."""
    return str(error) if isinstance(error, UnwindError | PageError) else type(error).__name__


def page_of(error: Exception) -> PageError | None:
    """The page for an error that has one."""
    if isinstance(error, PageError):
        return error
    for kinds, code in PAGE_OF:
        if isinstance(error, kinds):
            return PageError(code)
    return None


PAGE_OF: tuple[tuple[type[Exception] | tuple[type[Exception], ...], str], ...] = (  # the first that fits
    (BrokerUnreachable, "broker_away"),
    ((DatabaseBusy, OperationalError, TimeoutError), "database_away"),
    (Later, "shopify_away"),
    (ShopifyRefused, "not_accepted"),
    (InvalidSetting, "not_set_up"),
)
