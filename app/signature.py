"""Shopify's signature of a webhook: base64 of HMAC-SHA256 over the raw body, keyed by the app's client secret."""

from __future__ import annotations

import base64
import hmac
from collections.abc import Iterable

DIGEST_BYTES = 32
ENCODED_CHARACTERS = 44  # of 32 bytes in base64; anything else is refused before it is decoded


def is_signed(body: bytes, secrets: Iterable[bytes], header: str | None) -> bool:
    """Whether `header` signs exactly these bytes under any of the secrets.

    Never raises, whatever the header holds. Every secret is tried, each compared in constant time. An empty secret
    signs nothing: with it anyone could forge.
    """
    given = digest_of(header)
    if given is None:
        return False
    matches = [
        hmac.compare_digest(hmac.digest(secret, body, "sha256"), given) for secret in secrets if secret
    ]
    return any(matches)


def digest_of(header: str | None) -> bytes | None:
    """The 32 bytes that the header stands for, None when it is not their base64, the one way there is to write it."""
    if header is None or len(header) != ENCODED_CHARACTERS:
        return None
    try:
        encoded = header.encode("ascii")
        digest = base64.b64decode(encoded, validate=True)
    except ValueError:  # not ASCII, or not base64
        return None
    return digest if len(digest) == DIGEST_BYTES and base64.b64encode(digest) == encoded else None


def signature_of(body: bytes, secret: bytes) -> str:
    """The header that signs `body`, as Shopify sends it."""
    return base64.b64encode(hmac.digest(secret, body, "sha256")).decode("ascii")
