"""How a shop's tokens are got from Shopify: by a code, by a session token, by a refresh token.

Asked for expiring tokens always (`expiring=1`): an access token of an hour and a refresh token of 90 days that every
refresh replaces. What Shopify answers is judged here; nothing is stored here.
"""

from __future__ import annotations

import re
from collections.abc import Callable, Mapping
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any

from models.errors import InvalidSetting, ShopifyRefused, ShopifyThrottled, ShopifyUnreachable, UserError
from models.settings import Settings
from tasks.gateway.addresses import shop_url

PostForm = Callable[
    [str, Mapping[str, str]], tuple[int, Any]
]  # the client's `post_form`: status, JSON or None

TOKEN_PATH = "/admin/oauth/access_token"  # noqa: S105 - a path
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name
OFFLINE_TOKEN = "urn:shopify:params:oauth:token-type:offline-access-token"  # noqa: S105 - a name
OUR_FAULT = frozenset(["invalid_client", "application_cannot_be_found", "unauthorized_client"])
REFUSING_STATUSES = frozenset([400, 401, 403])
THROTTLED_STATUS = 429
THROTTLED_SECONDS = 2.0  # this address says no figures
ERROR_NAME = re.compile(r"[a-z_]{1,60}")
SCOPES_MAX_CHARACTERS = 4_000
LIFE_MAX_SECONDS = 400 * 86_400  # a life beyond it is no life that Shopify gives


@dataclass(frozen=True, slots=True)
class Grant:
    """What Shopify gave. `expires_at` None: a token that does not expire, which has no refresh token either."""

    access_token: str = field(repr=False)
    scopes: tuple[str, ...]
    expires_at: datetime | None = None
    refresh_token: str | None = field(default=None, repr=False)
    refresh_expires_at: datetime | None = None


def exchange_code(post_form: PostForm, settings: Settings, domain: str, code: str) -> Grant:
    """The tokens for the code that the merchant's browser brought back. Raises ShopifyRefused for a used or foreign
    one, InvalidSetting when Shopify does not know us, ShopifyUnreachable, ShopifyThrottled."""
    return _ask(post_form, settings, domain, {"code": code, "expiring": "1"})


def exchange_session_token(post_form: PostForm, settings: Settings, domain: str, session_token: str) -> Grant:
    """The shop's tokens for the session token of an embedded page, which was verified before. Raises as above."""
    fields = {
        "grant_type": TOKEN_EXCHANGE,
        "subject_token": session_token,
        "subject_token_type": ID_TOKEN,
        "requested_token_type": OFFLINE_TOKEN,
        "expiring": "1",
    }
    return _ask(post_form, settings, domain, fields)


def refresh(post_form: PostForm, settings: Settings, domain: str, refresh_token: str) -> Grant:
    """New tokens for a refresh token. Shopify takes the just-used one again until its replacement is used, so a crash
    before the new ones were stored is made good by asking again. Raises as above."""
    return _ask(post_form, settings, domain, {"grant_type": "refresh_token", "refresh_token": refresh_token})


def _ask(post_form: PostForm, settings: Settings, domain: str, fields: Mapping[str, str]) -> Grant:
    """Ask with each of our secrets until one is known: while they are rotated two are, and the old one ends any time."""
    url = shop_url(settings, domain, TOKEN_PATH)
    secrets = settings.shopify_api_secret
    if not settings.shopify_api_key or not secrets:
        name = "SHOPIFY_API_SECRET" if settings.shopify_api_key else "SHOPIFY_API_KEY"
        raise InvalidSetting(name, "is empty, so Shopify gives no token; copy it from your app's settings")
    for secret in secrets:
        ours = {"client_id": settings.shopify_api_key, "client_secret": secret.get_secret_value()}
        asked_at = datetime.now(UTC)
        status, answer = post_form(url, {**ours, **fields})
        if 200 <= status < 300:
            return _grant(answer, asked_at)
        error = _refusal(status, answer)
        if error not in OUR_FAULT:
            raise ShopifyRefused("access_token", [UserError(error, (), f"answered {status}")])
    raise InvalidSetting(
        "SHOPIFY_API_SECRET",
        "is not known to Shopify for SHOPIFY_API_KEY, none of it; copy both again from your app's settings",
    )


def _refusal(status: int, answer: Any) -> str:
    """The name of Shopify's error, nothing else of its answer: that may quote what was sent.

    Raises what may be over later: its own trouble, too many calls, a store that is frozen (402, 423).
    """
    if status == THROTTLED_STATUS:
        raise ShopifyThrottled(THROTTLED_SECONDS)
    if status not in REFUSING_STATUSES and status != 404:
        raise ShopifyUnreachable(f"the token address answered {status}")
    said = answer.get("error") if isinstance(answer, Mapping) else None
    return said if isinstance(said, str) and ERROR_NAME.fullmatch(said) else f"http_{status}"


def _grant(answer: Any, asked_at: datetime) -> Grant:
    """The answer as a grant. One that can not be read is Shopify's own trouble: nothing is stored of it."""
    fields = answer if isinstance(answer, Mapping) else {}
    access, refreshing = fields.get("access_token"), fields.get("refresh_token")
    life, refreshing_life = fields.get("expires_in"), fields.get("refresh_token_expires_in")
    if not _is_token(access) or (life is not None and not (_is_life(life) and _is_token(refreshing))):
        raise ShopifyUnreachable("the token address answered without a token that can be used")
    return Grant(
        access_token=access,
        scopes=scopes_of(fields.get("scope")),
        expires_at=None if life is None else asked_at + timedelta(seconds=life),
        refresh_token=None if life is None else refreshing,
        refresh_expires_at=asked_at + timedelta(seconds=refreshing_life)
        if life is not None and _is_life(refreshing_life)
        else None,
    )


def _is_token(value: object) -> bool:
    return isinstance(value, str) and value.isascii() and value.isprintable() and 0 < len(value) <= 4_000


def _is_life(value: object) -> bool:
    return type(value) is int and 0 < value <= LIFE_MAX_SECONDS


def scopes_of(said: object) -> tuple[str, ...]:
    """`read_orders, write_discounts` as a tuple, each once, in order of the alphabet."""
    if not isinstance(said, str) or len(said) > SCOPES_MAX_CHARACTERS:
        return ()
    return tuple(sorted({scope.strip() for scope in said.split(",") if scope.strip()}))
