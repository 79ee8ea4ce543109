"""The access token of a shop, in time: read, refreshed under the shop's lock, never another shop's.

The one place that calls Shopify inside a transaction, by design: whoever refreshes holds the installation's row, so
one refresh is made however many workers need it, and both tokens are stored before anybody else looks (docs/decisions).
"""

from __future__ import annotations

from collections.abc import Callable
from datetime import UTC, datetime, timedelta
from typing import Protocol

import structlog
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import OperationalError

from models.errors import DatabaseBusy, Later, NeedsMerchant, ShopifyRefused
from models.settings import Settings
from tasks.gateway import oauth
from tasks.gateway.oauth import Grant, PostForm
from tasks.steps import installations
from tasks.steps.installations import Held
from tasks.steps.load import ShopRow
from tasks.steps.vault import Vault

log = structlog.get_logger()

MARGIN = timedelta(seconds=60)  # a token that lives longer outlives a call
REFRESH_AFTER = timedelta(days=30)  # a third of a refresh token's life: from then on it is tried once a day
JUST_NOW = timedelta(seconds=60)  # tokens this new were given to somebody who had the same trouble
LOCK_WAIT_SECONDS = 15  # for another's refresh, which takes as long as Shopify does
LIMITS = text(
    "select set_config('lock_timeout', :lock, true), set_config('idle_in_transaction_session_timeout', :idle, true)"
)


class TokenProvider(Protocol):
    """Where the gateway gets a shop's access token from: the seam for other kinds of tokens (docs/decisions)."""

    def token(self, shop: ShopRow) -> str:
        """A token that lives long enough for a call. Raises NeedsMerchant, or Later."""
        ...

    def renewed(self, shop: ShopRow, refused: str | None = None) -> str:
        """After a 401: a token to try once more, another than `refused` where there is one. Raises as `token`."""
        ...

    def revoked(self, shop: ShopRow, refused: str) -> None:
        """After a second 401, on what `renewed` gave: record that the merchant is needed."""
        ...


class GivenToken:
    """One token for one shop, to try it before it is kept."""

    def __init__(self, domain: str, token: str) -> None:
        self._domain, self._token = domain, token

    def token(self, shop: ShopRow) -> str:
        if shop.domain != self._domain:
            raise NeedsMerchant(shop.domain, "not_connected")
        return self._token

    def renewed(self, shop: ShopRow, refused: str | None = None) -> str:
        raise NeedsMerchant(shop.domain, "token_revoked")

    def revoked(self, shop: ShopRow, refused: str) -> None:
        """Nothing is kept, so there is nothing to record."""


class StoredTokens:
    """The tokens that a merchant's installation gave: of the shop's own row, bound to it inside their encryption.

    Guarantees: one refresh at a time a shop, and one for all who need it; both tokens and their expiries change in one
    statement; a crash before that leaves the old refresh token, which Shopify takes again; the old access token of a
    call under way lives on at Shopify.
    """

    def __init__(
        self,
        engine: Engine,
        settings: Settings,
        post_form: PostForm,
        *,
        clock: Callable[[], datetime] = lambda: datetime.now(UTC),
        lock_wait_seconds: int = LOCK_WAIT_SECONDS,
    ) -> None:
        self._engine, self._settings, self._post_form = engine, settings, post_form
        self._clock, self._lock_wait_seconds = clock, lock_wait_seconds

    def token(self, shop: ShopRow) -> str:
        """Refreshed when it lives for a minute at most. While it still lives, trouble with that holds nobody up."""
        with self._engine.begin() as connection:
            held = usable(shop, installations.read(connection, shop.id))
        if self._lives(held, MARGIN):
            return self._open(shop, held)
        living = self._lives(held)
        try:
            return self._refreshed(shop, lambda now_held: self._lives(now_held, MARGIN), wait=not living)
        except Later as error:
            if not living:
                raise
            log.info("token_refresh_put_off", shop_id=shop.id, code=error.code)
            return self._open(shop, held)

    def renewed(self, shop: ShopRow, refused: str | None = None) -> str:
        """What another worker got meanwhile, else refreshed. A token that does not expire is tried once more."""
        return self._refreshed(shop, lambda held: self._is_another(shop, held, refused))

    def revoked(self, shop: ShopRow, refused: str) -> None:
        """Nothing is recorded when the merchant came by meanwhile: the token that is kept is another then."""
        with self._engine.begin() as connection:
            held = self._locked(connection, shop, wait=True)
            if held.access_token is not None and self._open(shop, held) == refused:
                installations.needs_merchant(connection, shop.id, "token_revoked")

    def kept_alive(self, shop: ShopRow) -> str:
        """Refresh when that is long ago, so that the refresh token does not lapse; also what was refused before, which
        may have been Shopify's mistake. Returns what was done. Raises as `token`."""
        done = ["nothing to do"]

        def is_young(held: Held) -> bool:
            if held.reason not in installations.TOKEN_DEAD and self._age(held) < REFRESH_AFTER:
                return True
            done.append("refreshed")
            return False

        self._refreshed(shop, is_young, even_when_dead=True)
        return done[-1]

    def _refreshed(
        self,
        shop: ShopRow,
        is_enough: Callable[[Held], bool],
        *,
        wait: bool = True,
        even_when_dead: bool = False,
    ) -> str:
        """The token that stands under the lock when it `is_enough`, else a new one, stored."""
        with self._engine.begin() as connection:
            held = usable(shop, self._locked(connection, shop, wait=wait), even_when_dead=even_when_dead)
            if held.refresh_token is None or is_enough(held):
                return self._open(shop, held)
            grant = self._ask(shop, held)
            if grant is not None:
                installations.record_refresh(connection, self._settings, shop.id, grant, self._clock())
                return grant.access_token
            reason = self._reason(held)
            installations.needs_merchant(connection, shop.id, reason)
        raise NeedsMerchant(shop.domain, reason)

    def _ask(self, shop: ShopRow, held: Held) -> Grant | None:
        """New tokens from Shopify, None when it refuses: this refresh token is of no more use."""
        assert held.refresh_token is not None
        refresh_token = self._vault.open(shop.id, "refresh", held.refresh_token)
        try:
            return oauth.refresh(self._post_form, self._settings, shop.domain, refresh_token, self._clock())
        except ShopifyRefused as error:
            log.warning("token_refresh_refused", shop_id=shop.id, codes=sorted(map(str, error.codes)))
            return None

    def _locked(self, connection: Connection, shop: ShopRow, *, wait: bool) -> Held:
        """The row under its lock, with limits on the wait and on our own stay. Raises DatabaseBusy."""
        stay = 2 * len(self._settings.shopify_api_secret) * self._settings.shopify_timeout_seconds + 10
        connection.execute(LIMITS, {"lock": f"{self._lock_wait_seconds}s", "idle": f"{stay}s"})
        try:
            held = installations.locked(connection, shop.id, wait=wait)
        except OperationalError as error:
            raise DatabaseBusy(f"another worker is at the tokens of {shop.domain}") from error
        if held is None:
            raise NeedsMerchant(shop.domain, "not_connected")
        return held

    def _is_another(self, shop: ShopRow, held: Held, refused: str | None) -> bool:
        if not self._lives(held):
            return False
        return self._age(held) < JUST_NOW if refused is None else self._open(shop, held) != refused

    def _reason(self, held: Held) -> str:
        ended = held.refresh_expires_at is not None and held.refresh_expires_at <= self._clock()
        return "refresh_token_expired" if ended else "token_revoked"

    def _lives(self, held: Held, margin: timedelta = timedelta()) -> bool:
        return held.access_expires_at is None or held.access_expires_at - self._clock() > margin

    def _age(self, held: Held) -> timedelta:
        return self._clock() - held.newest_at

    def _open(self, shop: ShopRow, held: Held) -> str:
        assert held.access_token is not None
        return self._vault.open(shop.id, "access", held.access_token)

    @property
    def _vault(self) -> Vault:
        return Vault(self._settings.token_keys)


def usable(shop: ShopRow, held: Held | None, *, even_when_dead: bool = False) -> Held:
    """What is held, when a token can be had of it. Raises NeedsMerchant with what is wrong."""
    if held is None:
        raise NeedsMerchant(shop.domain, "not_connected")
    if held.access_token is None:
        raise NeedsMerchant(shop.domain, "uninstalled" if held.state == "uninstalled" else "not_connected")
    if held.reason in installations.TOKEN_DEAD and not even_when_dead:
        raise NeedsMerchant(shop.domain, str(held.reason))
    return held
