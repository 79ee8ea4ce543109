"""Whether what a webhook asks is asked of the shop that its headers name, and by a body of its topic.

Shopify signs the body, not the headers: a body that was seen once can be sent again under another shop's name, or under
another topic. What takes away or gives out (a token, a customer's data, a whole shop) therefore looks into the body.
"""

from __future__ import annotations

from collections.abc import Mapping
from typing import Any

from models.errors import ForeignShop, Unparseable
from tasks.steps.load import ShopRow

OF_ONE_SHOP = frozenset(["app/uninstalled", "customers/data_request", "customers/redact", "shop/redact"])
REQUIRED = {  # what tells these bodies from one another
    "app/uninstalled": "myshopify_domain",
    "customers/data_request": "data_request",
    "customers/redact": "orders_to_redact",
}
ONLY_OF_CUSTOMERS = ("customer", "data_request", "orders_to_redact")


def same_shop(shop: ShopRow, payload: Mapping[str, Any]) -> None:
    """The body's own shop is this one. Raises ForeignShop when it is another, or when the body names none.

    A shop object (`app/uninstalled`) says it in `myshopify_domain`: its `domain` is the merchant's own. The others have
    `shop_domain`.
    """
    named = payload.get("myshopify_domain", payload.get("shop_domain"))
    if not isinstance(named, str) or named.strip().lower() != shop.domain:
        raise ForeignShop(shop.domain)


def check_act(topic: str, shop: ShopRow, payload: Mapping[str, Any]) -> None:
    """Both checks of a topic, none for topics whose body names no shop. Raises ForeignShop, Unparseable.

    The request to erase one customer must never be taken for the request to erase the shop: their bodies differ only
    in what they name beside the shop.
    """
    if topic in OF_ONE_SHOP:
        same_shop(shop, payload)
    wanted = REQUIRED.get(topic)
    if wanted is not None and wanted not in payload:
        raise Unparseable(wanted, f"is missing from a body of {topic}")
    if topic == "shop/redact":
        for field in ONLY_OF_CUSTOMERS:
            if field in payload:
                raise Unparseable(field, "does not belong into a body of shop/redact")
