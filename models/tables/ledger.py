from __future__ import annotations

from datetime import datetime

from sqlalchemy import (
    Boolean,
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    SmallInteger,
    UniqueConstraint,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Amount, Base, Key, ShopId

OF_WALLET = (["shop_id", "customer_id"], ["wallets.shop_id", "wallets.customer_id"])


class Wallet(Base):
    """A customer's value at a shop. Locked before anything of the customer is read.

    Guarantees: balance = sum of entries = sum of lots' remainders, kept by a trigger on `entries`, which is the
    only way to change it; balance, debt and pending are never negative (R7, R40).
    `folded_until`: every timeline row up to then stands in the books.
    """

    __tablename__ = "wallets"
    __table_args__ = (
        CheckConstraint("balance >= 0", name="balance_not_negative"),
        CheckConstraint("debt >= 0", name="debt_not_negative"),
        CheckConstraint("pending >= 0", name="pending_not_negative"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    balance: Mapped[Amount]
    debt: Mapped[Amount]
    pending: Mapped[Amount]
    folded_until: Mapped[datetime]
    spend_minor: Mapped[Amount]  # lifetime
    orders: Mapped[Amount]
    points: Mapped[Amount]
    tier: Mapped[str | None]
    pinned_tier: Mapped[str | None]
    tier_checked_at: Mapped[datetime | None]
    opened_at: Mapped[datetime] = mapped_column(server_default=func.now())


class TimelineRow(Base):
    """One event of a wallet in its own time (R0 b): what should happen, and what the fold made of it.

    kind: 1 grant, 2 approval, 3 return, 4 claim, 5 spend (0, expiry, has no row). Zero amounts stand too (R10, R39).
    moved: granted, credited, debited or drawn     short: the claim's shortfall, the spending left uncovered
    reduces_pending: the claim fell before the approval, so it lowered the award and touched no wallet (R5).
    Guarantees: one row a (cause, target, kind); moved + short + expired = amount for what has been folded.
    """

    __tablename__ = "timeline"
    __table_args__ = (
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("amount >= 0 and moved >= 0 and short >= 0 and expired >= 0", name="not_negative"),
        CheckConstraint("not folded or moved + short + expired = amount", name="adds_up"),
        Index("ix_timeline_order_of_time", "shop_id", "customer_id", "at", "kind", "sort_id", "target"),
        Index("ix_timeline_order", "shop_id", "order_id"),
        Index("ix_timeline_redemption", "shop_id", "redemption_id"),
        Index("ix_timeline_due", "at", postgresql_where=text("not folded")),
        Index("ix_timeline_taken", "shop_id", "at", postgresql_where=text("kind in (3, 4, 5)")),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True)
    kind: Mapped[int] = mapped_column(SmallInteger, primary_key=True)
    cause: Mapped[Key] = mapped_column(primary_key=True)
    target: Mapped[Key] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    sort_id: Mapped[int]
    order_id: Mapped[int | None]
    redemption_id: Mapped[int | None]
    amount: Mapped[int]
    expires_at: Mapped[datetime | None]
    grace_days: Mapped[int] = mapped_column(Integer)
    carry_debt: Mapped[bool] = mapped_column(Boolean)
    reduces_pending: Mapped[bool] = mapped_column(Boolean)
    ratio: Mapped[str | None]  # the exact fraction asked, as "1/5"
    reasons: Mapped[list[str]]
    policy_version: Mapped[int] = mapped_column(Integer)
    moved: Mapped[int]
    short: Mapped[int]
    expired: Mapped[int]
    debt_change: Mapped[int]
    folded: Mapped[bool] = mapped_column(Boolean)


class Lot(Base):
    """Spendable value with its expiry. Guarantee: 0 <= remainder <= amount, and only entries move the remainder."""

    __tablename__ = "lots"
    __table_args__ = (
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("remainder between 0 and amount", name="remainder_within_amount"),
        Index(
            "ix_lots_live",
            "shop_id",
            "customer_id",
            "expires_at",
            "at",
            "lot",
            postgresql_where=text("remainder > 0"),
        ),
        Index("ix_lots_due", "expires_at", postgresql_where=text("remainder > 0 and expires_at is not null")),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True)
    lot: Mapped[Key] = mapped_column(primary_key=True)
    at: Mapped[datetime]
    amount: Mapped[int]
    remainder: Mapped[Amount]
    expires_at: Mapped[datetime | None]


class Entry(Base):
    """The ledger. Guarantees: rows are added, never changed or removed (trigger, R40); one posting a
    (booking, timeline event, lot, kind); each insert moves its lot and its wallet by the same amount (trigger).

    event_*: the timeline event it belongs to. cause: what made us book it (`inbox:5`, `grant:7`, `clock`).
    kind: grant, approval, return, claim, spend, expiry, or debt (a credit that paid debt).
    """

    __tablename__ = "entries"
    __table_args__ = (
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("amount <> 0", name="never_zero"),
        UniqueConstraint(
            "shop_id", "customer_id", "booking_id", "event_at", "event_cause", "event_target", "event_kind", "lot", "kind",
            name="uq_entries_one_posting",
        ),
        Index("ix_entries_event_at", "shop_id", "customer_id", "event_at"),
        Index("ix_entries_draws", "shop_id", "customer_id", "event_target", postgresql_where=text("event_kind = 5")),
    )  # fmt: skip

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    customer_id: Mapped[int]
    lot: Mapped[Key]
    kind: Mapped[str]
    amount: Mapped[int]
    event_at: Mapped[datetime]
    event_kind: Mapped[int] = mapped_column(SmallInteger)
    event_sort: Mapped[int]
    event_target: Mapped[Key]
    event_cause: Mapped[Key]
    cause: Mapped[str]
    booking_id: Mapped[int]
    booked_at: Mapped[datetime] = mapped_column(server_default=func.now())
