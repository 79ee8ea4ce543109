"""The tables, each with what it guarantees. Every key starts with the shop, so no row can belong to two."""

from models.tables.base import Base
from models.tables.inbox import InboxEvent, OutboxRow
from models.tables.ledger import Entry, Lot, TimelineRow, Wallet
from models.tables.loyalty import Activity, Award, CustomerDay, Redemption, RedemptionMember
from models.tables.orders import Order, OrderCode, RefundRow, TransactionRow
from models.tables.shops import ApiToken, IdempotencyKey, Program, Shop

__all__ = [
    "Activity",
    "ApiToken",
    "Award",
    "Base",
    "CustomerDay",
    "Entry",
    "IdempotencyKey",
    "InboxEvent",
    "Lot",
    "Order",
    "OrderCode",
    "OutboxRow",
    "Program",
    "Redemption",
    "RedemptionMember",
    "RefundRow",
    "Shop",
    "TimelineRow",
    "TransactionRow",
    "Wallet",
]
