from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Integer, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, ShopId


class Shop(Base):
    """A tenant. Guarantee: one row a domain; a removed shop keeps its books."""

    __tablename__ = "shops"
    __table_args__ = (CheckConstraint("state in ('installed', 'removed')", name="state"),)

    id: Mapped[int] = mapped_column(Integer, Identity(), primary_key=True)
    domain: Mapped[str] = mapped_column(unique=True)
    state: Mapped[str] = mapped_column(server_default="installed")
    currency: Mapped[str | None]  # the shop's own, learnt from its first order
    installed_at: Mapped[datetime] = mapped_column(server_default=func.now())
    earning_from: Mapped[
        datetime | None
    ]  # orders placed before earn nothing here: set by the first installation
    identifier_key: Mapped[bytes | None]  # under it customers' identifiers are hashed; encrypted


class Program(Base):
    """One version of a shop's program (R17). Guarantee: versions are added, never changed; the first has no beginning."""

    __tablename__ = "programs"
    __table_args__ = (CheckConstraint("(version = 1) = (from_at is null)", name="first_has_no_beginning"),)

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    version: Mapped[int] = mapped_column(Integer, primary_key=True)
    settings: Mapped[dict[str, Any]]
    from_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class ApiToken(Base):
    """A caller's key to one shop. Guarantee: only its SHA-256 is stored."""

    __tablename__ = "api_tokens"
    __table_args__ = (UniqueConstraint("digest"),)

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str] = mapped_column(server_default="")
    digest: Mapped[bytes]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class IdempotencyKey(Base):
    """The answer a write gave under a caller's key. Guarantee: a key answers once, and only for the same body."""

    __tablename__ = "idempotency_keys"

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    key: Mapped[str] = mapped_column(primary_key=True)
    request_digest: Mapped[bytes]
    status: Mapped[int] = mapped_column(Integer)
    response: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
