"""Stores that Unwind works for."""

from __future__ import annotations

import re
from collections.abc import Mapping, Sequence
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import InvalidSetting, NotFound
from models.rules.program import DEFAULTS
from tasks.steps import admin_logins, programs
from tasks.steps.load import ShopRow

DOMAIN = re.compile(r"[a-z0-9][a-z0-9-]{0,60}\.myshopify\.com")

ADD = text(
    "insert into shops (domain) values (:domain)"
    " on conflict (domain) do update set state = 'installed' returning id"
)
FIND = text("select id, domain, currency from shops where domain = :domain and state = 'installed'")
FIND_ANY = text("select id, domain, currency from shops where domain = :domain")
FIND_BY_ID = text("select id, domain, currency from shops where id = :id")
LISTING = text(
    "select s.id, domain, s.state, currency, installed_at, n.state as installation, n.reason,"
    " n.access_token is not null as has_token, n.refresh_expires_at, n.subscriptions_error,"
    " (select count(*) from inbox i where i.shop_domain = s.domain and i.state = 'pending') as pending,"
    " (select count(*) from inbox i where i.shop_domain = s.domain and i.state = 'failed') as failed"
    " from shops s left join installations n on n.shop_id = s.id order by domain"
)
REMOVE = text(
    "update shops set state = 'removed' where domain = :domain and state = 'installed' returning id"
)


def normal_domain(domain: str) -> str:
    """The shop's myshopify.com domain, checked to its very end. Raises InvalidSetting."""
    found = domain.strip().lower()
    if not DOMAIN.fullmatch(found):
        raise InvalidSetting("domain", f"{domain!r} is not like your-store.myshopify.com")
    return found


def add(connection: Connection, domain: str, settings: Mapping[str, Any] | None = None) -> int:
    """Register a store (again: as it was), with a first program. Safe to run twice; returns the shop's id."""
    shop_id: int = connection.execute(ADD, {"domain": normal_domain(domain)}).scalar_one()
    if settings is not None or not programs.programs_of(connection, shop_id):
        programs.put(connection, shop_id, DEFAULTS if settings is None else settings)
    return shop_id


def find(connection: Connection, domain: str) -> ShopRow | None:
    """The installed shop of a domain, None when there is none."""
    row = connection.execute(FIND, {"domain": domain}).one_or_none()
    return None if row is None else ShopRow(row.id, row.domain, row.currency)


def any_state(connection: Connection, domain: str) -> ShopRow | None:
    """The shop of a domain, removed or not, None when it was never ours."""
    row = connection.execute(FIND_ANY, {"domain": domain}).one_or_none()
    return None if row is None else ShopRow(row.id, row.domain, row.currency)


def get(connection: Connection, domain: str) -> ShopRow:
    """The installed shop of a domain. Raises NotFound."""
    shop = find(connection, domain)
    if shop is None:
        raise NotFound("shop", domain)
    return shop


def known(connection: Connection, domain: str | None) -> None:
    """A list of nothing would hide a misspelt store, removed or not. None: all of them. Raises NotFound."""
    if domain is not None and any_state(connection, domain) is None:
        raise NotFound("shop", domain)


def listing(connection: Connection) -> Sequence[Row[Any]]:
    return connection.execute(LISTING).all()


def remove(connection: Connection, domain: str) -> bool:
    """Stop working for a store and log out whoever is in its pages; its books stay. False when it was not installed."""
    shop_id = connection.execute(REMOVE, {"domain": normal_domain(domain)}).scalar_one_or_none()
    if shop_id is not None:
        admin_logins.end_all(connection, shop_id)
    return shop_id is not None


def by_id(connection: Connection, shop_id: int) -> ShopRow:
    """A shop by its id, installed or not."""
    row = connection.execute(FIND_BY_ID, {"id": shop_id}).one()
    return ShopRow(row.id, row.domain, row.currency)
