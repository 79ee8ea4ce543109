from __future__ import annotations

from datetime import datetime
from typing import Any

from sqlalchemy import CheckConstraint, ForeignKey, Identity, Index, Integer, UniqueConstraint, func, text
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Base, ShopId


class InboxEvent(Base):
    """A delivery as it came: the queue of record.

    Guarantees: a webhook id is kept once a shop; nothing is answered 200 before its row is committed;
    a row leaves `pending` only in the transaction that booked it, or when it is parked with its reason.
    `shop_domain` is what the (unsigned) header said; tasks resolve it to a shop.
    """

    __tablename__ = "inbox"
    __table_args__ = (
        UniqueConstraint("shop_domain", "webhook_id"),
        CheckConstraint("state in ('pending', 'done', 'failed', 'discarded')", name="state"),
        Index("ix_inbox_pending", "shop_domain", "id", postgresql_where=text("state = 'pending'")),
        Index("ix_inbox_failed", "shop_domain", "id", postgresql_where=text("state = 'failed'")),
        Index("ix_inbox_told", "shop_domain", "received_at", postgresql_where=text("topic <> 'orders/read'")),
        Index(
            "ix_inbox_bodies",
            "received_at",
            postgresql_where=text("body is not null and state in ('done', 'discarded')"),
        ),
    )

    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    shop_domain: Mapped[str]
    topic: Mapped[str]
    webhook_id: Mapped[str | None]
    event_id: Mapped[str | None]  # Shopify's id of the merchant action
    triggered_at: Mapped[str | None]  # as the header said
    api_version: Mapped[str | None]
    body: Mapped[bytes | None]  # None: erased, by its age or because its customer asked
    received_at: Mapped[datetime] = mapped_column(server_default=func.now())
    state: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())  # back-off of tries
    rung_at: Mapped[datetime | None]  # last doorbell by the sweep
    rings: Mapped[int] = mapped_column(Integer, server_default="0")
    order_id: Mapped[int | None]
    outcome: Mapped[str | None]  # in words, without personal data
    processed_at: Mapped[datetime | None]


class OutboxRow(Base):
    """Something to do outside, written in the transaction that decided it.

    Guarantees: one row a key; who works on it holds the lease (`leased_until`), and a lease that ended is taken again.
    """

    __tablename__ = "outbox"
    __table_args__ = (
        UniqueConstraint("shop_id", "key"),
        CheckConstraint("state in ('pending', 'leased', 'done', 'failed', 'cancelled')", name="state"),
        CheckConstraint("state <> 'leased' or leased_until is not null", name="lease_ends"),
        Index("ix_outbox_failed", "shop_id", "id", postgresql_where=text("state = 'failed'")),
        Index("ix_outbox_due", "not_before", "id", postgresql_where=text("state in ('pending', 'leased')")),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    key: Mapped[str]
    payload: Mapped[dict[str, Any]]
    state: Mapped[str] = mapped_column(server_default="pending")
    attempts: Mapped[int] = mapped_column(Integer, server_default="0")
    not_before: Mapped[datetime] = mapped_column(server_default=func.now())  # back-off of tries
    leased_until: Mapped[datetime | None]
    rung_at: Mapped[datetime | None]  # when its task was last sent for
    error_code: Mapped[str | None]
    error: Mapped[str | None]
    outcome: Mapped[str | None]  # in words, without personal data
    finished_at: Mapped[datetime | None]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())
