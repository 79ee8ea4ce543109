"""Stored secrets (tokens first of all), encrypted: under keys that can be rotated, each bound to its shop and its purpose.

Fernet (AES-128-CBC and HMAC-SHA256) with several keys: the first encrypts, all decrypt. The shop's id and the purpose
stand inside what is encrypted, so a token that was moved to another row, or to another column, is refused.
"""

from __future__ import annotations

from collections.abc import Sequence
from typing import Literal

from cryptography.fernet import Fernet, InvalidToken, MultiFernet

from models.errors import InvalidSetting, InvariantBroken

Purpose = Literal["access", "refresh", "identifiers", "endpoint"]

SETTING = "TOKEN_ENCRYPTION_KEYS"
NEW_KEY = "openssl rand -base64 32 | tr '+/' '-_'"
NO_KEY = f"is empty, so no access token can be kept or read; put a key into it, made by `{NEW_KEY}`, and keep it safe"
NO_KEY_FITS = "holds no key that decrypts the stored {what} of shop {shop_id}; put the key that encrypted it back, after the new one"
NEW_TOKENS = ", or let the shop's merchant open the app once, which makes new tokens"


class Vault:
    """Encrypts and decrypts tokens. Safe to share between threads; shows nothing of itself."""

    def __init__(self, keys: Sequence[bytes]) -> None:
        """`keys` as in `Settings.token_keys`. Raises InvalidSetting when there is none."""
        if not keys:
            raise InvalidSetting(SETTING, NO_KEY)
        self._fernet = MultiFernet([Fernet(key) for key in keys])

    def seal(self, shop_id: int, purpose: Purpose, token: str) -> bytes:
        """The token as it is stored, under the first key."""
        return self._fernet.encrypt(_bound(shop_id, purpose) + token.encode())

    def open(self, shop_id: int, purpose: Purpose, sealed: bytes) -> str:
        """The token. Raises InvalidSetting when no key fits, InvariantBroken when it was sealed for somebody else."""
        try:
            found = self._fernet.decrypt(bytes(sealed))
        except InvalidToken:
            raise InvalidSetting(SETTING, no_key_fits(shop_id, purpose)) from None
        bound = _bound(shop_id, purpose)
        if not found.startswith(bound):
            raise InvariantBroken(
                f"the {purpose} token in the row of shop {shop_id} was encrypted for another"
            )
        return found.removeprefix(bound).decode()

    def reseal(self, shop_id: int, purpose: Purpose, sealed: bytes) -> bytes:
        """The same token under the first key. Raises as `open` does."""
        return self.seal(shop_id, purpose, self.open(shop_id, purpose, sealed))


def no_key_fits(shop_id: int, purpose: Purpose) -> str:
    if purpose == "identifiers":
        return NO_KEY_FITS.format(what="key of customers' identifiers", shop_id=shop_id)
    return NO_KEY_FITS.format(what="token", shop_id=shop_id) + NEW_TOKENS


def _bound(shop_id: int, purpose: Purpose) -> bytes:
    return f"{shop_id}:{purpose}:".encode()
