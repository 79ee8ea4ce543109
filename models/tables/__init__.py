"""The tables, each with what it guarantees. Every key starts with the shop, so no row can belong to two."""

from models.tables.admin import AdminLink, AdminSession, Dismissal
from models.tables.base import Base
from models.tables.endpoints import Delivery, DeliveryAttempt, Endpoint, Message, MessageSubject
from models.tables.imports import Import, ImportedRow, OpeningDay
from models.tables.inbox import InboxEvent, OutboxRow
from models.tables.ledger import Entry, Lot, TimelineRow, Wallet
from models.tables.loyalty import (
    Activity,
    Award,
    CustomerDay,
    CustomerIdentifier,
    Redemption,
    RedemptionMember,
    Reversal,
    ReversalLock,
)
from models.tables.orders import Order, OrderCode, RefundRow, TransactionRow
from models.tables.shopify import (
    CustomerAlias,
    Installation,
    PrivacyRequest,
    Reconciliation,
    RedemptionCode,
)
from models.tables.shops import ApiToken, IdempotencyKey, Program, Shop

__all__ = [
    "Activity",
    "AdminLink",
    "AdminSession",
    "ApiToken",
    "Award",
    "Base",
    "CustomerAlias",
    "CustomerDay",
    "CustomerIdentifier",
    "Delivery",
    "DeliveryAttempt",
    "Dismissal",
    "Endpoint",
    "Entry",
    "IdempotencyKey",
    "Import",
    "ImportedRow",
    "InboxEvent",
    "Installation",
    "Lot",
    "Message",
    "MessageSubject",
    "OpeningDay",
    "Order",
    "OrderCode",
    "OutboxRow",
    "PrivacyRequest",
    "Program",
    "Reconciliation",
    "Redemption",
    "RedemptionCode",
    "RedemptionMember",
    "RefundRow",
    "Reversal",
    "ReversalLock",
    "Shop",
    "TimelineRow",
    "TransactionRow",
    "Wallet",
]
