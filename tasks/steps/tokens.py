"""API tokens: made once, shown once, kept as a SHA-256 only. A token is one shop's, and says nothing by itself."""

from __future__ import annotations

import hashlib
import secrets
from dataclasses import dataclass, field

from sqlalchemy import Connection, insert, select

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
