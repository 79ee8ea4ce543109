"""What came from another program: which lines of which file stand in the books."""

from __future__ import annotations

from datetime import date, datetime

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
from models.tables.ledger import OF_WALLET


class Import(Base):
    """One file of `unwind import`. Guarantee: a file (by its digest) has one row, however often it is run.

    at: the moment as of which its values stand, the same whenever the rest of the file is booked
    """

    __tablename__ = "imports"
    __table_args__ = (
        CheckConstraint("state in ('running', 'done')", name="state"),
        UniqueConstraint("shop_id", "digest"),
    )

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    id: Mapped[int] = mapped_column(Identity(), primary_key=True)
    name: Mapped[str]  # the file's own, without its folder
    digest: Mapped[bytes]
    at: Mapped[datetime]
    state: Mapped[str] = mapped_column(server_default="running")
    lines: Mapped[Amount]
    booked: Mapped[Amount]
    seen_before: Mapped[Amount]
    started_at: Mapped[datetime] = mapped_column(server_default=func.now())
    finished_at: Mapped[datetime | None]


class ImportedRow(Base):
    """A line that stands in the books. Guarantee: a reference is booked once a shop, with one content."""

    __tablename__ = "imported_rows"
    __table_args__ = (Index("ix_imported_rows_customer", "shop_id", "customer_id"),)

    shop_id: Mapped[ShopId] = mapped_column(ForeignKey("shops.id"), primary_key=True)
    reference: Mapped[Key] = mapped_column(primary_key=True)
    record: Mapped[str]
    digest: Mapped[bytes]
    import_id: Mapped[int]
    line: Mapped[int] = mapped_column(Integer)
    customer_id: Mapped[int]
    booked_at: Mapped[datetime] = mapped_column(server_default=func.now())


class OpeningDay(Base):
    """What a customer bought on one day before this program, for tiers (R24): a fact, summed into `customer_days`."""

    __tablename__ = "opening_days"
    __table_args__ = (
        ForeignKeyConstraint(*OF_WALLET),
        CheckConstraint("spend_minor >= 0 and orders >= 0 and points >= 0", name="not_negative"),
        Index("ix_opening_days_customer", "shop_id", "customer_id"),
    )

    shop_id: Mapped[ShopId] = mapped_column(primary_key=True)
    reference: Mapped[Key] = mapped_column(primary_key=True)  # of its imported row
    customer_id: Mapped[int]
    day: Mapped[date]
    at: Mapped[datetime]  # the day's beginning in the shop's time zone: since when it is known
    spend_minor: Mapped[int]
    orders: Mapped[int]
    points: Mapped[int]
