"""Who calls. Every call is one shop's, and every query after this has that shop's id."""

from __future__ import annotations

from flask import Request
from sqlalchemy import Engine

from app.api.errors import Unauthorized
from tasks.steps import tokens
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


def identify(engine: Engine, token: str) -> Caller:
    """Whose token it is. Raises Unauthorized; a removed shop's tokens are nobody's.

    Session tokens belong here: what does not start with `tokens.PREFIX` would be checked as one.
    """
    with engine.connect() as connection:
        caller = tokens.find(connection, token)
    if caller is None:
        raise Unauthorized("this token is not known, or its shop was removed", error="invalid_token")
    return caller
