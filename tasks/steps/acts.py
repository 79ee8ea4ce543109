"""Events that tell no fact of an order but ask for something: an uninstall, a merge, a redaction.

Each is done in a transaction of its own, so that what it locks comes in the same order as everywhere.
"""

from __future__ import annotations

from collections.abc import Callable, Mapping
from typing import Any

from sqlalchemy import Connection

from tasks.steps.event import Event
from tasks.steps.installations import scopes_updated, uninstalled
from tasks.steps.load import ShopRow
from tasks.steps.merges import merged
from tasks.steps.privacy import customer_redacted, data_requested, of_unknown_shop, shop_redacted

Act = Callable[[Connection, ShopRow, Mapping[str, Any], Event], str]

# topic -> what is done for it; who does it imports `Event` from tasks.steps.event
ACTS: Mapping[str, Act] = {
    "app/scopes_update": scopes_updated,
    "app/uninstalled": uninstalled,
    "customers/merge": merged,
    "customers/data_request": data_requested,
    "customers/redact": customer_redacted,
    "shop/redact": shop_redacted,
}
EVEN_WHEN_REMOVED = frozenset(["customers/data_request", "customers/redact", "shop/redact"])

__all__ = ["ACTS", "EVEN_WHEN_REMOVED", "Act", "of_unknown_shop"]
