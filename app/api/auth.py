"""Who calls. Every call is one shop's, and every query after this has that shop's id."""

from __future__ import annotations

from datetime import datetime

from flask import Request
from sqlalchemy import Engine

from app.api.errors import Unauthorized
from app.session_tokens import RETRY_HEADER, NotASessionToken, verify
from models.settings import Settings
from tasks.steps import shops, tokens
from tasks.steps.tokens import Caller

TOKEN_MAX_CHARACTERS = 4096  # a session token is long; nothing else is


def bearer_of(request: Request) -> str:
    """The token of `Authorization: Bearer <token>`. Raises Unauthorized."""
    header = request.headers.get("Authorization", "")
    scheme, _, token = header.partition(" ")
    if not header:
        raise Unauthorized("send your API token as Authorization: Bearer <token>")
    if scheme.lower() != "bearer" or not 0 < len(token.strip()) <= TOKEN_MAX_CHARACTERS:
        raise Unauthorized("the Authorization header must be: Bearer <token>", error="invalid_request")
    return token.strip()


def identify(engine: Engine, settings: Settings, token: str, now: datetime) -> Caller:
    """Whose token it is: one of ours, by its prefix, or else a session token of Shopify's admin.

    Raises Unauthorized; a removed shop's tokens are nobody's.
    """
    if not token.startswith(tokens.PREFIX):
        return of_session(engine, settings, token, now)
    with engine.connect() as connection:
        caller = tokens.find(connection, token)
    if caller is None:
        raise Unauthorized("this token is not known, or its shop was removed", error="invalid_token")
    return caller


def of_session(engine: Engine, settings: Settings, token: str, now: datetime) -> Caller:
    """The shop whose admin shows the page that calls. A token that a fresh one may replace says so in its answer."""
    try:
        session = verify(settings, token, now)
    except NotASessionToken:
        message = "this token is neither an API token nor a session token that is valid now"
        raise Unauthorized(message, error="invalid_token", headers={RETRY_HEADER: "1"}) from None
    with engine.connect() as connection:
        shop = shops.find(connection, session.domain)
    if shop is None:
        raise Unauthorized("the app is not installed in this shop; open it once", error="invalid_token")
    return Caller(shop_id=shop.id, domain=shop.domain)
