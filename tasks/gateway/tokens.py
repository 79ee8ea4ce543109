"""The access token of a shop, in time: read, refreshed under the shop's lock, never another shop's."""

from __future__ import annotations

from typing import Protocol

from sqlalchemy import Engine

from models.errors import NeedsMerchant
from models.settings import Settings
from tasks.gateway.oauth import PostForm
from tasks.steps.load import ShopRow


class TokenProvider(Protocol):
    """Where the gateway gets a shop's access token from: the seam for other kinds of tokens."""

    def token(self, shop: ShopRow) -> str:
        """A token that lives long enough for a call. Raises NeedsMerchant, or Later."""
        ...

    def renewed(self, shop: ShopRow, refused: str | None = None) -> str:
        """After a 401: another token than `refused`, which Shopify did not take. Raises NeedsMerchant, or Later."""
        ...

    def revoked(self, shop: ShopRow, refused: str) -> None:
        """After a second 401, on what `renewed` gave: record that the merchant is needed (`token_revoked`)."""
        ...


class StoredTokens:
    """The tokens that the merchant's installation gave, kept in `installations`."""

    def __init__(self, engine: Engine, settings: Settings, post_form: PostForm) -> None:
        self.engine, self.settings, self.post_form = engine, settings, post_form

    def token(self, shop: ShopRow) -> str:
        raise NeedsMerchant(shop.domain, "not_connected")

    def renewed(self, shop: ShopRow, refused: str | None = None) -> str:
        raise NeedsMerchant(shop.domain, "not_connected")

    def revoked(self, shop: ShopRow, refused: str) -> None:
        raise NotImplementedError
