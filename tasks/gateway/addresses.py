"""Where a shop's Admin API is."""

from __future__ import annotations

from models.settings import Settings
from tasks.steps.shops import normal_domain

SHOP = "{shop}"  # in SHOPIFY_BASE_URL: stands for the shop's domain


def shop_url(settings: Settings, domain: str, path: str) -> str:
    """`https://{domain}{path}`, or the same path at SHOPIFY_BASE_URL. `path` starts with a slash.

    A domain is checked to its very end before it becomes part of an address: no token is ever sent elsewhere because
    of what a shop calls itself. Raises InvalidSetting.
    """
    assert path.startswith("/"), path
    shop = normal_domain(domain)
    base = settings.shopify_base_url
    return f"https://{shop}{path}" if not base else base.replace(SHOP, shop) + path


def graphql_url(settings: Settings, domain: str) -> str:
    """The one address that every GraphQL document of a shop is sent to."""
    return shop_url(settings, domain, f"/admin/api/{settings.shopify_api_version}/graphql.json")
