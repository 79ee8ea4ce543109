"""API tokens: made once, shown once, kept as a SHA-256 only. A token is one shop's, and says nothing by itself."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, delete, insert, select

from models.errors import NotFound
from models.tables.shops import ApiToken, Shop

PREFIX = "unwind_"  # tells our tokens from others at a glance, and lets secret scanners find a leaked one
SECRET_BYTES = 32  # 256 bits: guessing is hopeless, so a plain hash is enough to keep


@dataclass(frozen=True, slots=True, kw_only=True)
class NewToken:
    """A token as its owner sees it, this once."""

    id: int
    name: str
    domain: str
    text: str = field(repr=False)


@dataclass(frozen=True, slots=True, kw_only=True)
class Caller:
    """Who calls: a token's shop. `token_id` None: a page in the shop's admin, by its session token."""

    shop_id: int
    domain: str
    token_id: int | None = None


def create(connection: Connection, domain: str, *, name: str = "") -> NewToken:
    """A new token of an installed shop. Raises NotFound."""
    shop_id = connection.execute(
        select(Shop.id).where(Shop.domain == domain, Shop.state == "installed")
    ).scalar_one_or_none()
    if shop_id is None:
        raise NotFound("shop", domain)
    text = PREFIX + secrets.token_urlsafe(SECRET_BYTES)
    row = insert(ApiToken).values(shop_id=shop_id, name=name, digest=digest(text)).returning(ApiToken.id)
    return NewToken(id=connection.execute(row).scalar_one(), name=name, domain=domain, text=text)


def listing(connection: Connection, shop_id: int) -> list[dict[str, Any]]:
    """A shop's tokens, the oldest first, without anything that opens something."""
    rows = connection.execute(
        select(ApiToken.id, ApiToken.name, ApiToken.created_at)
        .where(ApiToken.shop_id == shop_id)
        .order_by(ApiToken.id)
    )
    return [{"id": str(row.id), "name": row.name, "created_at": row.created_at.isoformat()} for row in rows]


def revoke(connection: Connection, shop_id: int, id: int) -> None:
    """Nobody gets in with this token any more; what it did stays in the record under its number. Raises NotFound."""
    mine = (ApiToken.shop_id == shop_id, ApiToken.id == id)
    if connection.execute(delete(ApiToken).where(*mine)).rowcount != 1:
        raise NotFound("token", id)


def digest(text: str) -> bytes:
    """What is stored of a token, 32 bytes."""
    return hashlib.sha256(text.encode("utf-8", "surrogateescape")).digest()


def find(connection: Connection, text: str) -> Caller | None:
    """Whose token it is. None: nobody's, or of a shop that was removed."""
    row = connection.execute(
        select(ApiToken.id, Shop.id, Shop.domain)
        .join(Shop, Shop.id == ApiToken.shop_id)
        .where(ApiToken.digest == digest(text), Shop.state == "installed")
    ).first()
    return None if row is None else Caller(token_id=row[0], shop_id=row[1], domain=row[2])
