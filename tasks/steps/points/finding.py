"""Who is meant by an identifier (R35): what we were told, else Shopify's own word, asked outside any transaction."""

from __future__ import annotations

import re
from collections.abc import Callable, Sequence
from datetime import UTC, datetime
from typing import Any, Literal

from sqlalchemy import Engine

from models.errors import (
    AccessDenied,
    InvalidSetting,
    InvariantBroken,
    Later,
    NeedsMerchant,
    ShopifyRefused,
)
from models.rules import reversing
from tasks.gateway.client import Gateway
from tasks.steps import identifiers
from tasks.steps.identifiers import Hasher, Hashers, Kind
from tasks.steps.load import ShopRow

Type = Literal["ID", "PHONE", "EMAIL"]
TYPES: tuple[Type, ...] = ("ID", "PHONE", "EMAIL")

ID = re.compile(r"[1-9][0-9]{0,18}")
ID_MAX = 2**63 - 1
CUSTOMER_GID = re.compile(r"gid://shopify/Customer/([1-9][0-9]{0,18})")
NEVER_CONNECTED = "not_connected"  # nothing can be asked there, and nobody promised that it could
WRONG = {
    "ID": "is not a customer's number at Shopify, as text of digits",
    "EMAIL": "is not an e-mail address",
    "PHONE": "is not a telephone number with its country, such as +4930123456",
}


def form_of(kind: Type, value: str) -> str:
    """The identifier in its normal form. Raises Refused 887, which does not repeat it."""
    form = _number(value) if kind == "ID" else identifiers.normal(kind, value)
    if form is None:
        raise reversing.refused(
            reversing.INVALID, f"identifier.value {WRONG[kind]}", field="identifier.value"
        )
    return form


def _number(value: str) -> str | None:
    return value if ID.fullmatch(value) and int(value) <= ID_MAX else None


def hasher_of(engine: Engine, keys: Sequence[bytes], domain: str) -> Hasher:
    """The shop's hasher. Raises Refused 888 without a key, or when none fits."""
    try:
        found = Hashers(engine, keys).of(domain)
    except (InvalidSetting, InvariantBroken) as error:
        raise reversing.refused(reversing.CONFIGURATION, str(error)) from None
    assert found is not None, "the caller's shop is there"
    return found


def customer_meant(
    engine: Engine,
    gateway: Callable[[], Gateway],
    hasher: Hasher | None,
    shop: ShopRow,
    kind: Type,
    form: str,
    *,
    remembers: bool = True,
) -> int:
    """The customer's number, as somebody told it: whoever uses it looks for the survivor (R33). No transaction is open.

    gateway: Shopify, asked about an address or number that we do not know; what it finds is remembered, unless `remembers` is off.
    Raises Refused: 901 for nobody, 898 when Shopify does not answer, 899 when it does not let us ask.
    """
    if kind == "ID":
        return int(form)
    assert hasher is not None, "addresses and numbers are looked up by their hashes"
    digest = hasher.digest(kind, form)
    with engine.connect() as connection:
        known = identifiers.customer_known_by(connection, shop.id, kind, digest)
    if known is not None:
        return known
    found = at_shopify(gateway(), shop, kind, form)
    if found is None:
        raise reversing.refused(reversing.NOT_ELIGIBLE, "no customer is known by this identifier")
    if remembers:
        seen = identifiers.Named(customer_id=found, kind=kind, digest=digest, seen_at=datetime.now(UTC))
        with engine.begin() as connection:
            identifiers.remember(connection, shop.id, [seen])
    return found


def at_shopify(gateway: Gateway, shop: ShopRow, kind: Kind, form: str) -> int | None:
    """Whose it is at Shopify: exactly, not by a search. None for nobody, and at a shop that never let us ask.

    Raises Refused 898, 899, 888, 804.
    """
    identifier = {"emailAddress": form} if kind == "EMAIL" else {"phoneNumber": f"+{form}"}
    try:
        data = gateway.run(shop, "customer_by_identifier", {"identifier": identifier})
    except Later:
        words = "Shopify, which knows the identifier, does not answer; try again soon"
        raise reversing.refused(reversing.UNAVAILABLE, words) from None
    except NeedsMerchant as error:
        if error.reason == NEVER_CONNECTED:
            return None
        raise reversing.refused(reversing.SETUP, str(error)) from None
    except AccessDenied:
        words = "Shopify does not let us look customers up; the shop's merchant has to open the app and grant read_customers"
        raise reversing.refused(reversing.SETUP, words) from None
    except InvalidSetting as error:
        raise reversing.refused(reversing.CONFIGURATION, str(error)) from None
    except ShopifyRefused:
        raise reversing.refused(reversing.GENERAL, "Shopify did not understand the identifier") from None
    return _customer_in(data)


def _customer_in(data: dict[str, Any]) -> int | None:
    node = data.get("customerByIdentifier")
    found = CUSTOMER_GID.fullmatch(str(node.get("id"))) if isinstance(node, dict) else None
    return int(found[1]) if found and int(found[1]) <= ID_MAX else None
