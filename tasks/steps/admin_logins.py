"""Logins of the admin pages without Shopify: a link that counts once becomes a session, and both are kept as hashes.

Made on the server's own terminal (`unwind admin link`), so whoever has one may see and do everything in that store.
"""

from __future__ import annotations

import secrets
from datetime import datetime, timedelta

from sqlalchemy import Connection, text

from models.errors import NotFound
from tasks.steps.tokens import Caller, digest

LINK_SECONDS = 15 * 60
SESSION_SECONDS = 12 * 3600  # a working day; then another link
SECRET_BYTES = 32

MAKE = text(
    "insert into admin_links (shop_id, digest, created_at, expires_at)"
    " select id, :digest, :now, :expires_at from shops where domain = :domain and state = 'installed' returning shop_id"
)
USE = text(
    "update admin_links l set used_at = :now from shops s"
    " where l.digest = :digest and l.used_at is null and l.expires_at > :now"
    " and s.id = l.shop_id and s.state = 'installed' returning l.shop_id"
)
BEGIN = text(
    "insert into admin_sessions (shop_id, digest, created_at, expires_at)"
    " values (:shop_id, :digest, :now, :expires_at)"
)
FIND = text(
    "select s.id, s.domain from admin_sessions a join shops s on s.id = a.shop_id"
    " where a.digest = :digest and a.expires_at > :now and s.state = 'installed'"
)
OF_SHOP = (
    text("delete from admin_links where shop_id = :shop_id"),
    text("delete from admin_sessions where shop_id = :shop_id"),
)
END = text("delete from admin_sessions where digest = :digest")
FORGET_OLD = (
    text("delete from admin_links where expires_at < :then"),
    text("delete from admin_sessions where expires_at < :then"),
)


def make_link(connection: Connection, domain: str, now: datetime) -> str:
    """The secret of a new link, told this once. Raises NotFound for a store that is not installed."""
    for statement in FORGET_OLD:
        connection.execute(statement, {"then": now - timedelta(days=1)})
    secret = secrets.token_urlsafe(SECRET_BYTES)
    row = {"digest": digest(secret), "now": now, "expires_at": now + timedelta(seconds=LINK_SECONDS)}
    if connection.execute(MAKE, {**row, "domain": domain}).scalar_one_or_none() is None:
        raise NotFound("shop", domain)
    return secret


def redeem(connection: Connection, link: str, now: datetime) -> str | None:
    """The secret of a session for a link's, once. None: the link was used, is too old, or never was."""
    shop_id = connection.execute(USE, {"digest": digest(link), "now": now}).scalar_one_or_none()
    if shop_id is None:
        return None
    secret = secrets.token_urlsafe(SECRET_BYTES)
    expires_at = now + timedelta(seconds=SESSION_SECONDS)
    connection.execute(
        BEGIN, {"shop_id": shop_id, "digest": digest(secret), "now": now, "expires_at": expires_at}
    )
    return secret


def visitor(connection: Connection, session: str, now: datetime) -> Caller | None:
    """Whose session it is. None: it has ended, or its shop was removed."""
    row = connection.execute(FIND, {"digest": digest(session), "now": now}).one_or_none()
    return None if row is None else Caller(shop_id=row.id, domain=row.domain)


def end(connection: Connection, session: str) -> None:
    """End a session. Safe to run twice."""
    connection.execute(END, {"digest": digest(session)})


def end_all(connection: Connection, shop_id: int) -> int:
    """Nobody is logged in to this shop any more, and no link logs in. Safe to run twice; how many there were."""
    return sum(connection.execute(each, {"shop_id": shop_id}).rowcount for each in OF_SHOP)
