"""What we know of Shopify's side of a shop: its tokens, how far its orders were read, what its customers asked."""

from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    func,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Amount, Base, Key, ShopId


class Installation(Base):
    """What a shop granted us, and how far its orders were read. No row: a shop added by hand, without a token.

    Guarantees: one row a shop; tokens only encrypted, with the shop's id inside (a token moved to another row does
    not decrypt); access token, refresh token and both expiries change in one statement; an uninstalled shop has none.
    access_expires_at: None for tokens that do not expire (custom apps).     reason: why `state` needs the merchant
    """

    __tablename__ = "installations"
    __table_args__ = (
        CheckConstraint("state in ('active', 'needs_merchant', 'uninstalled')", name="state"),
        CheckConstraint(
            "state <> 'uninstalled' or (access_token is null and refresh_token is null)",
            name="uninstalled_has_no_token",
        ),
        CheckConstraint("(state = 'needs_merchant') = (reason is not null)", name="reason_given"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    state: Mapped[str] = mapped_column(server_default="active")
    reason: Mapped[str | None]
    scopes: Mapped[list[str]] = mapped_column(server_default="[]")
    access_token: Mapped[bytes | None]
    access_expires_at: Mapped[datetime | None]
    refresh_token: Mapped[bytes | None]
    refresh_expires_at: Mapped[datetime | None]
    obtained_at: Mapped[datetime] = mapped_column(server_default=func.now())  # by the merchant's consent
    refreshed_at: Mapped[datetime | None]
    uninstalled_at: Mapped[datetime | None]
    subscriptions_checked_at: Mapped[datetime | None]
    subscriptions_error: Mapped[str | None]
    orders_read_until: Mapped[datetime | None]  # every order changed before then was compared
    deep_read_at: Mapped[datetime | None]  # the last nightly reading that ended


class Reconciliation(Base):
    """One comparison of a shop's orders with our record. Guarantee: what was found is counted once, in one row."""

    __tablename__ = "reconciliations"
    __table_args__ = (
        CheckConstraint("kind in ('recent', 'nightly', 'asked', 'import')", name="kind"),
        CheckConstraint("state in ('running', 'done', 'failed')", name="state"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="running")
    since: Mapped[datetime | None]
    until: Mapped[datetime]
    cursor: Mapped[str | None]  # where an interrupted reading goes on
    bulk_operation: Mapped[str | None]  # Shopify's id of an import's bulk operation
    orders_read: Mapped[Amount]
    missing: Mapped[Amount]
    different: Mapped[Amount]
    repaired: Mapped[Amount]
    auto_refunded: Mapped[Amount]
    error: Mapped[str | None]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class CustomerAlias(Base):
    """A customer merged into another at Shopify (R33). Guarantees: one survivor a customer; `survivor_id` is the end of
    the chain, never merged itself (by the task, under the lock of both)."""

    __tablename__ = "customer_aliases"
    __table_args__ = (
        CheckConstraint("customer_id <> survivor_id", name="of_another"),
        Index("ix_customer_aliases_survivor", "shop_id", "survivor_id"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    survivor_id: Mapped[int]
    cause: Mapped[str]
    told_at: Mapped[datetime] = mapped_column(server_default=func.now())


class PrivacyRequest(Base):
    """What a customer or a shop asked of their data through Shopify. Guarantee: one row an event that asked."""

    __tablename__ = "privacy_requests"
    __table_args__ = (
        UniqueConstraint("shop_id", "cause"),
        CheckConstraint("kind in ('data_request', 'customer_redact', 'shop_redact')", name="kind"),
        CheckConstraint("state in ('open', 'done')", name="state"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    state: Mapped[str] = mapped_column(server_default="open")
    customer_id: Mapped[int | None]
    orders: Mapped[list[str]] = mapped_column(server_default="[]")
    cause: Mapped[str]
    detail: Mapped[dict[str, Any]] = mapped_column(server_default="{}")  # counts only, nothing personal
    requested_at: Mapped[datetime] = mapped_column(server_default=func.now())
    done_at: Mapped[datetime | None]


class RedemptionCode(Base):
    """A discount code that stands for a redemption: its first one (n = 0), or one made afresh when it came back (R22).

    Guarantee: a code stands for one redemption of a shop.     discount_id: the number in Shopify's DiscountCodeNode id
    """

    __tablename__ = "redemption_codes"
    __table_args__ = (
        ForeignKeyConstraint(["shop_id", "redemption_id"], ["redemptions.shop_id", "redemptions.id"]),
        UniqueConstraint("shop_id", "redemption_id", "n"),
        CheckConstraint("n >= 0", name="n_not_negative"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    code_key: Mapped[Key] = mapped_column(primary_key=True)  # casefolded
    redemption_id: Mapped[int]
    n: Mapped[int] = mapped_column(Integer)
    code: Mapped[str]
    discount_id: Mapped[int | None]
