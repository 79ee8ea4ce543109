"""The state of an installation under way: who comes back from Shopify is who was sent there, once, within minutes.

A random nonce goes to Shopify and comes back in the query; the same nonce, with its shop, lies signed in a cookie of
the browser that was sent. So a link made by somebody else, or opened in another browser, leads nowhere. A nonce that
came back is remembered in Redis until its cookie has ended, so that it counts once.

The cookie's key is derived from TOKEN_ENCRYPTION_KEYS under a label, and is not the app's client secret: whatever is
signed here signs no webhook and no query.
"""

from __future__ import annotations

import base64
import hashlib
import hmac
import secrets
from dataclasses import dataclass

from cryptography.hazmat.primitives.hashes import SHA256
from cryptography.hazmat.primitives.kdf.hkdf import HKDF
from itsdangerous import BadData, URLSafeTimedSerializer
from redis import Redis, RedisError

from app.pages import PageError
from models.errors import BrokerUnreachable
from models.settings import Settings

COOKIE = "unwind_install"
SECONDS = 600  # from the consent page being asked for to its answer
REMEMBERED_SECONDS = 2 * SECONDS  # a spent nonce; its cookie has ended long before
KEY_BYTES = 32
LABEL = b"unwind: cookie of an installation under way"
SPENT = "unwind:install:spent:"


@dataclass(frozen=True, slots=True)
class Begun:
    """What the browser carries away: the nonce in its address, the cookie beside it."""

    nonce: str
    cookie: str


class States:
    """Makes states, and takes each back once. Guarantee: of two that bring the same one at once, one is let in."""

    def __init__(self, settings: Settings, broker: Redis) -> None:
        self._broker = broker
        keys = [derived(key) for key in reversed(settings.token_keys)]  # the last one signs, all are known
        self._signer = URLSafeTimedSerializer(
            keys,
            salt=LABEL,
            signer_kwargs={"digest_method": hashlib.sha256, "key_derivation": "hmac"},
        )

    def begin(self, domain: str) -> Begun:
        nonce = secrets.token_urlsafe(KEY_BYTES)
        return Begun(nonce, self._signer.dumps([nonce, domain]))

    def end(self, *, cookie: str | None, nonce: str, domain: str) -> None:
        """The nonce is this browser's, of this shop, and was not here before; it is spent now.

        Raises PageError, BrokerUnreachable: without Redis nobody can say whether it was spent.
        """
        if not same(self._cookie(cookie), nonce, domain):
            raise PageError("other_browser")
        digest = hashlib.sha256(nonce.encode("utf-8", "replace")).hexdigest()
        try:
            fresh = self._broker.set(SPENT + digest, "1", nx=True, ex=REMEMBERED_SECONDS)
        except RedisError as error:
            raise BrokerUnreachable(f"the broker does not answer: {type(error).__name__}") from None
        if not fresh:
            raise PageError("used_link")

    def _cookie(self, cookie: str | None) -> tuple[str, str]:
        """What the cookie says, two empty texts when it is none of ours or too old."""
        try:
            nonce, domain = self._signer.loads(cookie or "", max_age=SECONDS)
        except (BadData, ValueError, TypeError):
            return "", ""
        return (nonce, domain) if isinstance(nonce, str) and isinstance(domain, str) else ("", "")


def same(known: tuple[str, str], nonce: str, domain: str) -> bool:
    """Compared in constant time, as bytes. An empty nonce is nobody's."""
    pairs = zip(known, (nonce, domain), strict=True)
    alike = [hmac.compare_digest(a.encode(), b.encode("utf-8", "replace")) for a, b in pairs]
    return all(alike) and bool(nonce)


def derived(key: bytes) -> bytes:
    """A key for cookies out of a key for tokens: neither tells anything of the other."""
    return HKDF(algorithm=SHA256(), length=KEY_BYTES, salt=None, info=LABEL).derive(
        base64.urlsafe_b64decode(key)
    )
