"""Webhooks that a shop's own systems receive from us: where to, what was said, how each delivery went."""

from __future__ import annotations

from datetime import datetime
from typing import Any
from uuid import UUID

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, ShopId


class Endpoint(Base):
    """Where a shop wants to be told. Guarantees: its secrets only encrypted, with the shop's id inside; a paused one says why.

    state: active, paused (by us or the merchant), deleted     paused_reason: failing, gone, by_hand
    failing_since: the first failure after the last success    failures: how many since then
    resting_until: after a failure nothing is sent until then  old_secret: signs as well until `old_secret_until`
    """

    __tablename__ = "endpoints"
    __table_args__ = (
        CheckConstraint("state in ('active', 'paused', 'deleted')", name="state"),
        CheckConstraint("(state = 'paused') = (paused_reason is not null)", name="pause_has_reason"),
        CheckConstraint("state = 'deleted' or secret is not null", name="has_secret"),
        CheckConstraint(
            "state <> 'deleted' or secret is null and old_secret is null", name="deleted_has_none"
        ),
        Index("ix_endpoints_live", "shop_id", postgresql_where=text("state <> 'deleted'")),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    url: Mapped[str]
    description: Mapped[str] = mapped_column(server_default="")
    events: Mapped[list[str]]
    secret: Mapped[bytes | None]
    old_secret: Mapped[bytes | None]
    old_secret_until: Mapped[datetime | None]
    state: Mapped[str] = mapped_column(server_default="active")
    paused_reason: Mapped[str | None]
    failing_since: Mapped[datetime | None]
    failures: Mapped[int] = mapped_column(Integer, server_default="0")
    resting_until: Mapped[datetime | None]
    last_success_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Message(Base):
    """One thing that happened, as it is told outside: written in the transaction of its cause.

    Guarantees: one number in the sequence of its subject (`order:5`, `customer:7`), without gaps, in the order in which
    the books changed; what it says never changes; `key`, by which receivers know it again, is of this message alone in
    the world, also after a restore from a backup.
    """

    __tablename__ = "messages"
    __table_args__ = (
        UniqueConstraint("shop_id", "subject", "sequence"),
        CheckConstraint("sequence > 0", name="sequence_positive"),
        Index("ix_messages_created", "created_at"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    key: Mapped[UUID] = mapped_column(server_default=func.gen_random_uuid())
    event: Mapped[str]
    subject: Mapped[str]
    sequence: Mapped[int] = mapped_column(Integer)
    at: Mapped[datetime]
    data: Mapped[dict[str, Any]]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class MessageSubject(Base):
    """How many messages a subject has had. Guarantee: the number only rises, under the row's lock, with the message that
    takes it; it outlives the messages, so that no number is given twice."""

    __tablename__ = "message_subjects"

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    subject: Mapped[str] = mapped_column(primary_key=True)
    last: Mapped[int] = mapped_column(Integer)


class Delivery(Base):
    """A message on its way to an endpoint: a queue of its own beside the outbox (docs/decisions/0014).

    Guarantees: one an endpoint and message; who sends it holds the lease (`leased_until`) of its try (`attempts`), and a
    lease that ended is taken again.
    state: pending; waiting (for a paused endpoint); delivered; failed (every try did); cancelled (endpoint deleted)
    sends: once, and once more each time it is sent again by hand
    """

    __tablename__ = "deliveries"
    __table_args__ = (
        ForeignKeyConstraint(["shop_id", "endpoint_id"], ["endpoints.shop_id", "endpoints.id"]),
        ForeignKeyConstraint(
            ["shop_id", "message_id"], ["messages.shop_id", "messages.id"], ondelete="CASCADE"
        ),
        UniqueConstraint("shop_id", "endpoint_id", "message_id"),
        CheckConstraint("state in ('pending', 'waiting', 'delivered', 'failed', 'cancelled')", name="state"),
        Index("ix_deliveries_message", "shop_id", "message_id"),
        Index("ix_deliveries_endpoint", "shop_id", "endpoint_id", "id"),
        Index(
            "ix_deliveries_pending",
            "shop_id",
            "endpoint_id",
            "not_before",
            "id",
            postgresql_where=text("state = 'pending'"),
        ),
        Index(
            "ix_deliveries_waiting",
            "shop_id",
            "endpoint_id",
            "id",
            postgresql_where=text("state = 'waiting'"),
        ),
        Index("ix_deliveries_due", "shop_id", "not_before", "id", postgresql_where=text("state = 'pending'")),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    endpoint_id: Mapped[int]
    message_id: Mapped[int]
    state: Mapped[str] = mapped_column(server_default="pending")
    sends: Mapped[int] = mapped_column(Integer, server_default="1")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())
    leased_until: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class DeliveryAttempt(Base):
    """One try of a delivery, for the log. Guarantee: added, never changed; nothing of the answer but its status is kept."""

    __tablename__ = "delivery_attempts"
    __table_args__ = (
        ForeignKeyConstraint(
            ["shop_id", "delivery_id"], ["deliveries.shop_id", "deliveries.id"], ondelete="CASCADE"
        ),
        Index("ix_delivery_attempts_delivery", "shop_id", "delivery_id", "id"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    delivery_id: Mapped[int]
    at: Mapped[datetime] = mapped_column(server_default=func.now())
    status: Mapped[int | None] = mapped_column(Integer)  # HTTP's; None: no answer came
    error: Mapped[str | None]
    milliseconds: Mapped[int] = mapped_column(Integer)
