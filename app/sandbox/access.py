"""Who may call the pretend store's Admin API: the app as Shopify knows it, and the tokens that a store gave to it.

Offline tokens as Shopify issues them: an access token of one hour with a refresh token of 90 days that is replaced
at each use, or one that never ends for an app that does not ask for an expiring one.
"""

from __future__ import annotations

import secrets
from collections.abc import Callable, Iterable
from dataclasses import dataclass, field
from datetime import datetime, timedelta

import jwt

ACCESS_LIFE = timedelta(hours=1)
REFRESH_LIFE = timedelta(days=90)
RETRY_LIFE = timedelta(days=30)  # how long a used refresh token may be tried again, from its first use
CODE_LIFE = timedelta(minutes=5)
CLOCK_SKEW_SECONDS = 10


class OAuthRefused(Exception):
    """What the token endpoint answers: a status, OAuth's word for it and a sentence."""

    def __init__(self, error: str, description: str, status: int = 400) -> None:
        super().__init__(description)
        self.error, self.description, self.status = error, description, status


@dataclass
class Application:
    """An app as the Partner Dashboard knows it. `secrets`: all that are live, the newest first; take one out to
    revoke it. `app_url`: redirects must go there; empty, anywhere."""

    key: str = ""
    secrets: list[str] = field(default_factory=list, repr=False)
    app_url: str = ""

    def check(self, key: str, secret: str) -> None:
        if key != self.key:
            raise OAuthRefused(
                "invalid_request", f"Could not find Shopify API application with api_key {key}"
            )
        if secret not in self.secrets:
            raise OAuthRefused("invalid_client", "The client secret is not valid", 401)


@dataclass(frozen=True)
class Held:
    """What an access token may do, and until when; never ending without `expires_at`."""

    scopes: tuple[str, ...]
    expires_at: datetime | None


@dataclass
class Code:
    scopes: tuple[str, ...]
    expires_at: datetime


@dataclass
class Refresh:
    """A refresh token. `before` is the one that it replaces."""

    expires_at: datetime
    before: str | None
    first_used_at: datetime | None = None


class Access:
    """The app's installation at one store. `granted` are its scopes now; all times are the clock's."""

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self._clock = clock
        self.granted: tuple[str, ...] = ()
        self.installed = False
        self._codes: dict[str, Code] = {}
        self._tokens: dict[str, Held] = {}
        self._refreshes: dict[str, Refresh] = {}

    # -- what the merchant does ----------------------------------------------------------------------------------

    def consent(self, scopes: Iterable[str]) -> str:
        """The merchant agrees: a code, good once and for five minutes."""
        code = secrets.token_hex(16)
        self._codes[code] = Code(tuple(scopes), self._clock() + CODE_LIFE)
        return code

    def uninstall(self) -> None:
        """Every token is dead at once."""
        self.installed = False
        self.granted = ()
        self._codes.clear()
        self._tokens.clear()
        self._refreshes.clear()

    # -- what the app does ---------------------------------------------------------------------------------------

    def by_code(self, code: str, *, expiring: bool) -> dict[str, object]:
        known = self._codes.pop(code, None)
        if known is None or known.expires_at <= self._clock():
            raise OAuthRefused("invalid_request", "The authorization code was not found or was already used")
        return self.fresh(known.scopes, expiring=expiring)

    def by_session_token(
        self, token: str, application: Application, domain: str, *, expiring: bool
    ) -> dict[str, object]:
        """Token exchange: the app is installed already (managed installation), the token proves who asks."""
        self._verify(token, application, domain)
        if not self.installed:
            raise OAuthRefused("invalid_subject_token", "The app is not installed on this shop")
        return self.fresh(self.granted, expiring=expiring)

    def _verify(self, token: str, application: Application, domain: str) -> None:
        for secret in application.secrets:
            try:
                claims = jwt.decode(
                    token,
                    secret,
                    algorithms=["HS256"],
                    audience=application.key,
                    options={"verify_exp": False, "verify_nbf": False, "verify_iat": False},
                )
            except jwt.PyJWTError:
                continue
            skew, now = CLOCK_SKEW_SECONDS, self._clock().timestamp()
            timely = claims.get("nbf", 0) - skew <= now <= claims.get("exp", 0) + skew
            if timely and claims.get("dest") == f"https://{domain}":
                return
        raise OAuthRefused("invalid_subject_token", "The session token is not valid for this app and shop")

    def by_refresh_token(self, token: str) -> dict[str, object]:
        """Rotation: what this one replaced is retired; itself it may be tried again until its own replacement is
        used. Only the newest replacement counts."""
        known, now = self._refreshes.get(token), self._clock()
        if known is None or known.expires_at <= now or _tried_too_late(known, now):
            raise OAuthRefused("invalid_grant", "The refresh token is expired, revoked or was already used")
        known.first_used_at = known.first_used_at or now
        self._refreshes = {token: known}
        return self._issue(self.granted, expiring=True, before=token)

    def fresh(self, scopes: Iterable[str], *, expiring: bool) -> dict[str, object]:
        """A new exchange ends every older refresh token; access tokens live out their hour."""
        self.granted, self.installed = tuple(scopes), True
        self._refreshes.clear()
        return self._issue(self.granted, expiring=expiring, before=None)

    def _issue(self, scopes: tuple[str, ...], *, expiring: bool, before: str | None) -> dict[str, object]:
        now, access = self._clock(), f"shpat_{secrets.token_hex(16)}"
        answer: dict[str, object] = {"access_token": access, "scope": ",".join(_told(scopes))}
        self._tokens[access] = Held(scopes, now + ACCESS_LIFE if expiring else None)
        if expiring:
            refresh = f"shprt_{secrets.token_hex(16)}"
            self._refreshes[refresh] = Refresh(now + REFRESH_LIFE, before)
            answer["expires_in"] = int(ACCESS_LIFE.total_seconds())
            answer["refresh_token"] = refresh
            answer["refresh_token_expires_in"] = int(REFRESH_LIFE.total_seconds())
        return answer

    def held(self, token: str) -> Held | None:
        """What the token may do now, with the scopes that are granted now; None when it is nobody's or over."""
        known = self._tokens.get(token)
        if known is None or (known.expires_at is not None and known.expires_at <= self._clock()):
            return None
        return Held(tuple(scope for scope in known.scopes if scope in self.granted), known.expires_at)

    def revoke(self, token: str) -> None:
        """One access token stops working, as after a new secret with the old tokens revoked."""
        self._tokens.pop(token, None)


def _tried_too_late(known: Refresh, now: datetime) -> bool:
    return known.first_used_at is not None and known.first_used_at + RETRY_LIFE <= now


def _told(scopes: Iterable[str]) -> list[str]:
    """As Shopify tells them: what a write scope implies is left out (write_discounts, not read_discounts too)."""
    wanted = list(dict.fromkeys(scopes))
    return [s for s in wanted if not (s.startswith("read_") and "write_" + s.removeprefix("read_") in wanted)]
