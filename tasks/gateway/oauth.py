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

PostForm = Callable[[str, Mapping[str, str]], tuple[int, Any]]  # the client's: status, and JSON or None

TOKEN_PATH = "/admin/oauth/access_token"  # noqa: S105 - a path
TOKEN_EXCHANGE = "urn:ietf:params:oauth:grant-type:token-exchange"  # noqa: S105 - a name
ID_TOKEN = "urn:ietf:params:oauth:token-type:id_token"  # noqa: S105 - a name
OFFLINE_TOKEN = "urn:shopify:params:oauth:token-type:offline-access-token"  # noqa: S105 - a name
OUR_FAULT = frozenset(["invalid_client", "application_cannot_be_found", "unauthorized_client"])
REFUSING = frozenset([400, 401, 403])  # statuses of a refusal; others are trouble
THROTTLED_STATUS = 429
THROTTLED_SECONDS = 2.0  # this address says no figures
ERROR_NAME = re.compile(r"[a-z_]{1,60}")
SCOPES_MAX_CHARACTERS = 4_000
UNREADABLE = "the token address answered without tokens that can be used"
REFRESH_SECONDS = 90 * 86_400  # where the answer leaves it out
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


def refresh(
    post_form: PostForm, settings: Settings, domain: str, refresh_token: str, now: datetime | None = None
) -> Grant:
    """New tokens for a refresh token. Shopify takes the just-used one again until its replacement is used, so a crash
    before the new ones were stored is made good by asking again. Raises as above."""
    fields = {"grant_type": "refresh_token", "refresh_token": refresh_token}
    return _ask(post_form, settings, domain, fields, now)


def _ask(
    post_form: PostForm,
    settings: Settings,
    domain: str,
    fields: Mapping[str, str],
    now: datetime | None = None,
) -> Grant:
    """Ask with each of our secrets until one is known: while they are rotated two are, and the old one ends any time."""
    url = shop_url(settings, domain, TOKEN_PATH)
    secrets = settings.shopify_api_secret
    if not settings.shopify_api_key or not secrets:
        name = "SHOPIFY_API_SECRET" if settings.shopify_api_key else "SHOPIFY_API_KEY"
        raise InvalidSetting(name, "is empty, so Shopify gives no token; copy it from your app's settings")
    for secret in secrets:
        ours = {"client_id": settings.shopify_api_key, "client_secret": secret.get_secret_value()}
        asked_at = now or datetime.now(UTC)  # not when the answer came: its lives began before
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

    Raises what may be over later: its own trouble, too many calls, a store that is frozen, an answer without a name.
    """
    if status == THROTTLED_STATUS:
        raise ShopifyThrottled(THROTTLED_SECONDS)
    fields = answer if isinstance(answer, Mapping) else {}
    name = fields.get("error")
    if status not in REFUSING or not isinstance(name, str) or not ERROR_NAME.fullmatch(name):
        raise ShopifyUnreachable(f"the token address answered {status}")
    if "api_key" in str(fields.get("error_description")):  # an `invalid_request` like any other, but ours
        return "application_cannot_be_found"
    return name


def _grant(answer: Any, asked_at: datetime) -> Grant:
    """The answer as a grant. One that cannot be read is Shopify's own trouble: nothing is stored of it."""
    fields = answer if isinstance(answer, Mapping) else {}
    access = _token(fields.get("access_token"))
    scopes = scopes_of(fields.get("scope"))
    if fields.get("expires_in") is None:
        return Grant(access, scopes)
    return Grant(
        access_token=access,
        scopes=scopes,
        expires_at=asked_at + _life(fields["expires_in"]),
        refresh_token=_token(fields.get("refresh_token")),
        refresh_expires_at=asked_at + _life(fields.get("refresh_token_expires_in", REFRESH_SECONDS)),
    )


def _token(value: object) -> str:
    if isinstance(value, str) and re.fullmatch(r"[!-~]{1,4000}", value):
        return value
    raise ShopifyUnreachable(UNREADABLE)


def _life(value: object) -> timedelta:
    if type(value) is int and 0 < value <= LIFE_MAX_SECONDS:
        return timedelta(seconds=value)
    raise ShopifyUnreachable(UNREADABLE)


def scopes_of(said: object) -> tuple[str, ...]:
    """`read_orders, write_discounts` as a tuple, each once, in order of the alphabet."""
    if not isinstance(said, str) or len(said) > SCOPES_MAX_CHARACTERS:
        return ()
    return tuple(sorted({scope.strip() for scope in said.split(",") if scope.strip()}))
