"""What a file may say: its records, and the columns that each takes. docs/import.md lists the same."""

from __future__ import annotations

import csv
import io
from collections.abc import Mapping
from dataclasses import dataclass


@dataclass(frozen=True, slots=True)
class Record:
    """One kind of row: the columns that it must fill, beside those of every row, and those that it may."""

    needs: tuple[str, ...]
    may: tuple[str, ...] = ()


EVERY = ("record", "reference", "customer_id")  # of every row; a reference may be left out
RECORDS: Mapping[str, Record] = {
    "balance": Record(("amount",), ("expires_at", "email", "phone")),
    "lot": Record(("amount", "expires_at"), ("email", "phone")),
    "award": Record(("order_id", "amount"), ("rule", "earned", "remaining", "due_at", "expires_at")),
    "redemption": Record(("reward", "amount", "code", "at"), ("expires_at", "order_id")),
    "tier": Record(("tier",)),
    "history": Record(("day",), ("spend", "currency", "orders", "points")),
    "customer": Record((), ("email", "phone")),
}
COLUMNS = (
    *EVERY,
    "amount",
    "expires_at",
    "order_id",
    "rule",
    "earned",
    "remaining",
    "due_at",
    "reward",
    "code",
    "at",
    "tier",
    "day",
    "spend",
    "currency",
    "orders",
    "points",
    "email",
    "phone",
)
NEEDED = ("record", "customer_id")  # in every header
PERSONAL = frozenset({"email", "phone"})  # never shown again, kept as keyed hashes only

EXAMPLES: tuple[Mapping[str, str], ...] = (
    {"record": "balance", "reference": "b-1", "amount": "120", "email": "jane@example.com"},
    {"record": "lot", "reference": "l-1", "amount": "80", "expires_at": "2199-12-31"},
    {
        "record": "award",
        "reference": "a-1",
        "order_id": "820982911946154500",
        "rule": "purchase",
        "amount": "500",
        "remaining": "0",
    },
    {
        "record": "award",
        "reference": "a-2",
        "order_id": "gid://shopify/Order/820982911946154501",
        "rule": "purchase",
        "amount": "250",
        "due_at": "2199-01-15T10:00:00+01:00",
    },
    {
        "record": "redemption",
        "reference": "r-1",
        "reward": "5-off",
        "amount": "500",
        "code": "LOYAL-7F3K",
        "at": "2025-11-02T08:30:00Z",
    },
    {"record": "tier", "reference": "t-1", "tier": "gold"},
    {
        "record": "history",
        "reference": "h-1",
        "day": "2025-06-30",
        "spend": "340.50",
        "currency": "USD",
        "orders": "3",
    },
)


def template() -> str:
    """An example file: every record, every column, for the program's defaults."""
    out = io.StringIO()
    writer = csv.DictWriter(out, COLUMNS, lineterminator="\n")
    writer.writeheader()
    writer.writerows({**row, "customer_id": "6940095564"} for row in EXAMPLES)
    return out.getvalue()
