"""A shop's connection to Shopify: made, lost, made again. All in the caller's transaction."""

from __future__ import annotations

from collections.abc import Mapping
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from models.settings import Settings
from tasks.gateway.oauth import Grant
from tasks.steps.event import Event
from tasks.steps.load import ShopRow

CONNECTED = text(
    "select 1 from installations where shop_id = :shop_id and state = 'active' and access_token is not null"
)


def record_grant(connection: Connection, settings: Settings, domain: str, grant: Grant, now: datetime) -> int:
    """The merchant consented: register the shop (again), keep its tokens, let what waited go on. Returns its id."""
    raise NotImplementedError


def uninstalled(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """The act of `app/uninstalled`."""
    raise NotImplementedError


def scopes_updated(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """The act of `app/scopes_update`."""
    raise NotImplementedError


def needs_merchant(connection: Connection, shop_id: int, reason: str) -> None:
    """No call can be made until the merchant opens the app: `reason` as in models.errors.NeedsMerchant."""
    raise NotImplementedError


def is_connected(connection: Connection, shop_id: int) -> bool:
    """Whether calls can be made for the shop now, as far as we know."""
    return connection.execute(CONNECTED, {"shop_id": shop_id}).one_or_none() is not None
