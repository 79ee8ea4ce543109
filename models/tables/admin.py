"""The pages of merchants: what they put aside, and how those come in who have no Shopify."""

from __future__ import annotations

from datetime import datetime

from sqlalchemy import CheckConstraint, ForeignKey, UniqueConstraint, func
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key, ShopId


class Dismissal(Base):
    """Something of `Needs attention` that a person has put aside. Guarantee: one row a kind and subject, the last one;
    what happens to the subject after `at` brings it back."""

    __tablename__ = "dismissals"

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    subject: Mapped[Key] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    by: Mapped[str]  # session, cli


class AdminLink(Base):
    """A link of `unwind admin link`. Guarantees: only its SHA-256 is stored; it opens one session, before it expires."""

    __tablename__ = "admin_links"
    __table_args__ = (
        UniqueConstraint("digest"),
        CheckConstraint("octet_length(digest) = 32", name="digest_whole"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    used_at: Mapped[datetime | None]


class AdminSession(Base):
    """A browser that came in by such a link. Guarantees: only the SHA-256 of its cookie is stored; it is one shop's."""

    __tablename__ = "admin_sessions"
    __table_args__ = (
        UniqueConstraint("digest"),
        CheckConstraint("octet_length(digest) = 32", name="digest_whole"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    expires_at: Mapped[datetime]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())
