from __future__ import annotations

from datetime import date, datetime
from typing import Any

from sqlalchemy import (
    CheckConstraint,
    ForeignKey,
    ForeignKeyConstraint,
    Identity,
    Index,
    Integer,
    func,
    text,
)
from sqlalchemy.orm import Mapped, mapped_column

from models.tables.base import Amount, Base, Key, ShopId
from models.tables.ledger import OF_WALLET


class Award(Base):
    """Value earned by one rule for one order. Guarantees: 0 <= reversed <= amount, and every reversed unit was
    either taken before approval (reduced), debited, or short (R3, R5, R7)."""

    __tablename__ = "awards"
    __table_args__ = (
        ForeignKeyConstraint(["shop_id", "order_id"], ["orders.shop_id", "orders.order_id"]),
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("0 <= reversed and reversed <= amount", name="cap"),
        CheckConstraint(
            "reduced >= 0 and debited >= 0 and shortfall >= 0 and reduced + debited + shortfall = reversed",
            name="adds_up",
        ),
        CheckConstraint("status in ('pending', 'approved', 'cancelled')", name="status"),
        Index("ix_awards_customer", "shop_id", "customer_id"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    order_id: Mapped[int] = mapped_column(primary_key=True)
    target: Mapped[Key] = mapped_column(
        primary_key=True
    )  # the rule's id; `rule+line` for a line added by an edit
    customer_id: Mapped[int]
    rule: Mapped[str]
    mask: Mapped[str]
    base_minor: Mapped[int]
    amount: Mapped[int]
    at: Mapped[datetime]
    due_at: Mapped[datetime]
    expires_at: Mapped[datetime | None]
    policy_version: Mapped[int] = mapped_column(Integer)
    status: Mapped[str]
    reversed: Mapped[Amount]
    reduced: Mapped[Amount]
    debited: Mapped[Amount]
    shortfall: Mapped[Amount]


USED = (
    "(order_id is not null and not jsonb_exists(reactivated_orders, order_id::text)"
    " or kind in ('gift_card', 'store_credit') or cancel_refused = 'code_used')"
)
BY_USE = {  # how a redemption stands, by what its row says; each has an index for its list
    "refunded": "returned = amount",
    "used": f"returned < amount and {USED}",
    "untracked": f"returned < amount and code_state = 'none' and {USED} is not true",
    "unused": f"returned < amount and code_state <> 'none' and {USED} is not true",
}


class Redemption(Base):
    """Value spent on a reward. Guarantees: 0 <= credited + expired = returned <= amount (R19, R40); the benefit
    comes back once, as points or as a usable code, never both (R21)."""

    __tablename__ = "redemptions"
    __table_args__ = (
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint(
            "credited >= 0 and expired >= 0 and credited + expired = returned and returned <= amount",
            name="returned_adds_up",
        ),
        CheckConstraint("restitution in ('none', 'points', 'code')", name="restitution"),
        CheckConstraint("(restitution = 'points') = (returned > 0)", name="one_benefit_once"),
        CheckConstraint(
            "code_state in ('none', 'tracked', 'wanted', 'active', 'removed', 'failed')", name="code_state"
        ),
        CheckConstraint(
            "reactivation in ('none', 'wanted', 'done', 'failed') and reactivations >= 0", name="reactivation"
        ),
        CheckConstraint(
            "ended in ('auto_refunded', 'code_failed', 'cancelled') and ended_at is not null or ended is null and ended_at is null",
            name="ended",
        ),
        Index("ix_redemptions_customer", "shop_id", "customer_id"),
        Index("ix_redemptions_order", "shop_id", "order_id"),
        *(
            Index(f"ix_redemptions_{use}", "shop_id", "id", postgresql_where=text(condition))
            for use, condition in BY_USE.items()
        ),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    customer_id: Mapped[int]
    reward_id: Mapped[str]
    kind: Mapped[str]
    amount: Mapped[int]
    code: Mapped[str | None]
    code_key: Mapped[Key | None]  # casefolded
    at: Mapped[datetime]
    order_id: Mapped[int | None]  # the order it was used on
    returned: Mapped[Amount]
    credited: Mapped[Amount]
    expired: Mapped[Amount]
    restitution: Mapped[str] = mapped_column(server_default="none")
    reactivations: Mapped[int] = mapped_column(Integer, server_default="0")
    reactivation: Mapped[str] = mapped_column(server_default="none")  # none, wanted, done, failed
    reactivated_orders: Mapped[list[str]] = mapped_column(
        server_default="[]"
    )  # whose use was given back as a code
    reactivation_error: Mapped[str | None]  # why it failed, in the open (R23)
    code_state: Mapped[str] = mapped_column(server_default="none")  # tracked: given to us; others: made by us
    code_ends_at: Mapped[datetime | None]  # the code's own end at Shopify, as last read
    code_error: Mapped[str | None]
    cancel_refused: Mapped[str | None]  # why its code could not be taken away to cancel it (R34)
    ended: Mapped[
        str | None
    ]  # given back whole without an order: auto_refunded (R30), code_failed, cancelled
    ended_at: Mapped[datetime | None]
    imported_at: Mapped[
        datetime | None
    ]  # until then it was another program's, and what came back of it that one's
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class RedemptionMember(Base):
    """How much of a redemption came from whom (R20). Guarantee: the parts sum to the redemption (by the task)."""

    __tablename__ = "redemption_members"
    __table_args__ = (
        ForeignKeyConstraint(["shop_id", "redemption_id"], ["redemptions.shop_id", "redemptions.id"]),
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("amount > 0", name="amount_positive"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    redemption_id: Mapped[int] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True)
    amount: Mapped[int]


class CustomerDay(Base):
    """What a customer's orders of one day count for (shop's time zone), net of refunds at the order's date (R24)."""

    __tablename__ = "customer_days"
    __table_args__ = (ForeignKeyConstraint(*OF_WALLET),)

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True)
    day: Mapped[date] = mapped_column(primary_key=True)
    spend_minor: Mapped[Amount]
    orders: Mapped[Amount]
    points: Mapped[Amount]


class Activity(Base):
    """What happened, for people (R39). Guarantee: added, never changed."""

    __tablename__ = "activity"
    __table_args__ = (
        Index("ix_activity_customer", "shop_id", "customer_id", "id"),
        Index("ix_activity_order", "shop_id", "order_id", "id"),
        Index("ix_activity_kind", "shop_id", "kind", "id"),
        Index(
            "ix_activity_booked",
            "booked_at",
            postgresql_using="brin",
            postgresql_with={"autosummarize": "on"},
        ),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    kind: Mapped[str]
    customer_id: Mapped[int | None]
    order_id: Mapped[int | None]
    cause: Mapped[str]
    target: Mapped[str]
    at: Mapped[datetime]  # the event's own time
    detail: Mapped[dict[str, Any]]
    booked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class Reversal(Base):
    """Value of a redemption that a merchant gave back by hand (R34, R35): a fact beside its order's refunds.

    Guarantees: never less than a unit; an undone one stands, marked, and counts for nothing (R38). That all returns
    together stay within the redemption is the redemption's own guarantee.
    amount: asked, of what was left when it was booked     kind: cancelled (R34, all that was left), reversed (R35)
    code: what became of its code: removed, unchanged, stays_used, untracked, not_reachable
    """

    __tablename__ = "reversals"
    __table_args__ = (
        ForeignKeyConstraint(["shop_id", "redemption_id"], ["redemptions.shop_id", "redemptions.id"]),
        CheckConstraint("amount > 0", name="amount_positive"),
        CheckConstraint("kind in ('cancelled', 'reversed')", name="kind"),
        CheckConstraint(
            "code in ('removed', 'unchanged', 'stays_used', 'untracked', 'not_reachable')", name="code"
        ),
        Index("ix_reversals_redemption", "shop_id", "redemption_id"),
        Index("ix_reversals_customer", "shop_id", "customer_id", "at"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    redemption_id: Mapped[int]
    customer_id: Mapped[int]  # the redemption's own when it was booked; limits count by it (903)
    kind: Mapped[str]
    amount: Mapped[int]
    at: Mapped[datetime]
    code: Mapped[str]
    reason: Mapped[str | None]  # the merchant's words
    by: Mapped[str]  # token:5, session, cli
    undone_at: Mapped[datetime | None]


class ReversalLock(Base):
    """A customer for whom nothing is reversed by hand for a while (904). Guarantee: one a customer, with its end."""

    __tablename__ = "reversal_locks"

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    customer_id: Mapped[int] = mapped_column(primary_key=True, autoincrement=False)
    until: Mapped[datetime]
    reason: Mapped[str]
    by: Mapped[str]
    created_at: Mapped[datetime] = mapped_column(server_default=func.now())


class CustomerIdentifier(Base):
    """By which telephone numbers and addresses a customer is known: keyed hashes, never the text itself.

    Guarantee: an identifier is one customer's of a shop, the one that was told of last (`seen_at`).
    digest: HMAC-SHA256 of the normal form under a key of the shop's own
    """

    __tablename__ = "customer_identifiers"
    __table_args__ = (
        CheckConstraint("kind in ('EMAIL', 'PHONE')", name="kind"),
        CheckConstraint("octet_length(digest) = 32", name="digest_whole"),
        Index("ix_customer_identifiers_customer", "shop_id", "customer_id"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    kind: Mapped[str] = mapped_column(primary_key=True)
    digest: Mapped[bytes] = mapped_column(primary_key=True)
    customer_id: Mapped[int]
    seen_at: Mapped[datetime]
