"""Session tokens: what App Bridge signs for a page inside Shopify's admin, to say whose page it is. They live a minute.

A JWT, HS256 under the app's client secret. PyJWT checks its form and signature; the claims are checked here, because
what stands in the way of other uses of a signed token is in them: for which app (`aud`), of which shop (`iss`, `dest`),
from when until when. `shopify.session_token` of shopifyapi is not used: it knows one secret, takes several audiences,
and holds the issuer against a pattern that lets a newline through.
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any
from urllib.parse import urlsplit

import jwt

from models.errors import InvalidSetting
from models.settings import Settings
from tasks.steps.shops import normal_domain

ALGORITHM = "HS256"
LEEWAY_SECONDS = 10  # between Shopify's clock and ours; its own libraries allow as much
RETRY_HEADER = "X-Shopify-Retry-Invalid-Session-Request"  # App Bridge then fetches a fresh one and asks again
LONGEST = 4096  # characters; Shopify's have about 600
BLOCK_BYTES = 64  # of SHA-256
LATEST_TIME = 253_402_300_799  # the last second of the year 9999
ONLY_THE_SIGNATURE: Any = {
    "verify_aud": False,
    "verify_exp": False,
    "verify_iat": False,
    "verify_iss": False,
    "verify_jti": False,
    "verify_nbf": False,
    "verify_sub": False,
}


class NotASessionToken(Exception):
    """`reason`: what is wrong, in a word, without anything of the token."""

    def __init__(self, reason: str) -> None:
        super().__init__(reason)
        self.reason = reason


@dataclass(frozen=True, slots=True)
class SessionToken:
    """Whose page it is: the shop, and the user of its admin."""

    domain: str
    user_id: str
    expires_at: datetime


def verify(settings: Settings, token: str, now: datetime) -> SessionToken:
    """The claims of a token that Shopify signed for this app, now. Raises NotASessionToken for every other text.

    Any configured secret signs (rotation). `exp` and `nbf` are compared with `now`, with LEEWAY_SECONDS.
    """
    claims = _signed_claims(settings, token)
    _check_times(claims, int(now.timestamp()))
    if claims.get("aud") != settings.shopify_api_key:
        raise NotASessionToken("aud")
    user_id = claims.get("sub")
    if not isinstance(user_id, str) or not user_id:
        raise NotASessionToken("sub")
    return SessionToken(_domain(claims), user_id, datetime.fromtimestamp(claims["exp"], UTC))


def _signed_claims(settings: Settings, token: str) -> Mapping[str, Any]:
    """What is inside, when it is signed with one of our secrets and by no other algorithm than HS256."""
    if not settings.shopify_api_key:
        raise NotASessionToken("no_app")  # else an empty audience would be ours
    if not token.isascii() or len(token) > LONGEST:
        raise NotASessionToken("form")
    for secret in filter(None, settings.webhook_secrets):
        try:
            return jwt.decode(token, _key(secret), algorithms=[ALGORITHM], options=ONLY_THE_SIGNATURE)
        except jwt.InvalidSignatureError:
            continue
        except jwt.InvalidAlgorithmError:
            raise NotASessionToken("alg") from None
        except (jwt.PyJWTError, ValueError, RecursionError):
            raise NotASessionToken("form") from None
    raise NotASessionToken("signature")


def _key(secret: bytes) -> bytes:
    """The same key at the block's full length: HMAC itself fills up with zeros, PyJWT warns of what is shorter."""
    return secret.ljust(BLOCK_BYTES, b"\0") if len(secret) < BLOCK_BYTES else secret


def _check_times(claims: Mapping[str, Any], now: int) -> None:
    expires, begins = claims.get("exp"), claims.get("nbf")
    if type(expires) is not int or not 0 < expires <= LATEST_TIME or expires <= now - LEEWAY_SECONDS:
        raise NotASessionToken("exp")
    if type(begins) is not int or begins > now + LEEWAY_SECONDS:
        raise NotASessionToken("nbf")


def _domain(claims: Mapping[str, Any]) -> str:
    """The shop of `dest`, which is exactly https://SHOP, when `iss` has the same host. Raises NotASessionToken."""
    destination, issuer = claims.get("dest"), claims.get("iss")
    if not isinstance(destination, str) or not isinstance(issuer, str):
        raise NotASessionToken("dest")
    domain = destination.removeprefix("https://")
    try:
        if destination != f"https://{normal_domain(domain)}":
            raise NotASessionToken("dest")
        at = urlsplit(issuer)
    except (InvalidSetting, ValueError):
        raise NotASessionToken("dest") from None
    if at.scheme != "https" or at.netloc != domain:
        raise NotASessionToken("iss")
    return domain
