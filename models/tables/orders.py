from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import Boolean, CheckConstraint, ForeignKey, ForeignKeyConstraint, Index, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, Key, ShopId


class Order(Base):
    """The facts of an order (snapshots, edits, disputes, observed times) and what was decided of it.

    Guarantees: facts are joined, never overwritten by older ones; the row exists from the first fact on, even
    when that is a refund whose order has not been seen (R28). Locked before anything of the order is read.
    """

    __tablename__ = "orders"
    __table_args__ = (
        CheckConstraint(
            "status in ('unknown', 'open', 'partially_refunded', 'fully_refunded', 'voided', 'cancelled')",
            name="status",
        ),
        Index("ix_orders_customer", "shop_id", "customer_id", "placed_at"),
        Index("ix_orders_flagged", "shop_id", "order_id", postgresql_where=text("flags <> '[]'")),
        Index("ix_orders_listed", "shop_id", "status", "placed_at", "order_id"),
        Index("ix_orders_name", "shop_id", text("lower(name)")),
        Index(
            "ix_orders_attention",
            "shop_id",
            "order_id",
            postgresql_where=text(
                """not flags <@ '["NO_CUSTOMER", "TEST_ORDER_IGNORED", "PLACED_BEFORE_INSTALL"]'::jsonb"""
            ),
        ),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    facts: Mapped[dict[str, Any]]
    name: Mapped[str | None]
    currency: Mapped[str | None]
    customer_id: Mapped[int | None]
    placed_at: Mapped[datetime | None]
    status: Mapped[str]
    total_minor: Mapped[int | None]
    refunded_minor: Mapped[int]
    flags: Mapped[list[str]]
    seen_at: Mapped[datetime] = mapped_column(server_default=func.now())  # when anything of it was first told
    counted: Mapped[
        dict[str, Any]
    ]  # its booked share of a customer's day: customer, day, spend_minor, orders, points


class OrderCode(Base):
    """Which discount codes an order carried (casefolded), to find the redemption behind each."""

    __tablename__ = "order_codes"

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    code: Mapped[Key] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(primary_key=True)


class RefundRow(Base):
    """A refund. Guarantee: one row a refund id; other content under the same id is kept as a conflict.

    origin: shopify, or merchant for one that was asked of us (R36; its id is of a sequence of our own, far above
    Shopify's)     undone: its effects are taken back (R38); decided from the order's facts
    """

    __tablename__ = "refunds"
    __table_args__ = (
        ForeignKeyConstraint(["shop_id", "order_id"], ["orders.shop_id", "orders.order_id"]),
        CheckConstraint("value_minor >= 0", name="value_not_negative"),
        CheckConstraint("origin in ('shopify', 'merchant')", name="origin"),
        Index("ix_refunds_order", "shop_id", "order_id"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    refund_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    order_id: Mapped[int]
    facts: Mapped[dict[str, Any]]
    at: Mapped[datetime]  # effective time: its own, never later than its arrival
    value_minor: Mapped[int]
    reasons: Mapped[list[str]]
    policy_version: Mapped[int | None]
    undone: Mapped[bool] = mapped_column(Boolean, server_default="false")
    origin: Mapped[str] = mapped_column(server_default="shopify")
    reason: Mapped[str | None]  # the merchant's words


class TransactionRow(Base):
    """A money movement. Guarantee: one row an order and transaction id; a final status is never replaced by pending."""

    __tablename__ = "transactions"
    __table_args__ = (ForeignKeyConstraint(["shop_id", "order_id"], ["orders.shop_id", "orders.order_id"]),)

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    transaction_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    refund_id: Mapped[int | None]
    kind: Mapped[str]
    status: Mapped[str]
    amount_minor: Mapped[int]
    currency: Mapped[str]
    shop_amount_minor: Mapped[int | None]
    at: Mapped[datetime]
