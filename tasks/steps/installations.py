"""A shop's connection to Shopify: made by its merchant, lost, made again. All in the caller's transaction.

Lock order: the shop's row, then its installation's. A token is written and read only here and in
`tasks.gateway.tokens`, always encrypted, always by the shop's id.
"""

from __future__ import annotations

import json
from collections.abc import Iterable, Mapping
from dataclasses import dataclass
from datetime import datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, text

from models.errors import Unparseable, UnwindError
from models.settings import Settings
from tasks.gateway.oauth import Grant
from tasks.steps import endpoints, outbox, shops
from tasks.steps.acts_guard import check_act
from tasks.steps.event import Event
from tasks.steps.load import ShopRow
from tasks.steps.vault import Vault

log = structlog.get_logger()

TOKEN_DEAD = ("token_revoked", "refresh_token_expired")  # reasons that leave no call possible
CHECK = "check_subscriptions"
KEPT_ALIVE_AT_ONCE = 1_000  # a day; 30 days of them are more shops than one server has

SHOP_LOCKED = text("select id from shops where id = :shop_id for no key update")
COLUMNS = (
    "state, reason, scopes, access_token, access_expires_at, refresh_token, refresh_expires_at, obtained_at,"
    " refreshed_at, uninstalled_at"
)
READ = text(f"select {COLUMNS} from installations where shop_id = :shop_id")
LOCKED = text(f"select {COLUMNS} from installations where shop_id = :shop_id for update")
LOCKED_AT_ONCE = text(f"select {COLUMNS} from installations where shop_id = :shop_id for update nowait")
BEGIN_EARNING = text(
    "update shops s set earning_from = :now where s.id = :shop_id and s.earning_from is null"
    " and not exists (select from installations i where i.shop_id = s.id)"
    " and not exists (select from orders o where o.shop_id = s.id)"
)
INSTALL = text("""
insert into installations (shop_id, state, reason, scopes, access_token, access_expires_at, refresh_token,
                           refresh_expires_at, obtained_at)
values (:shop_id, :state, :reason, cast(:scopes as jsonb), :access_token, :access_expires_at, :refresh_token,
        :refresh_expires_at, :now)
on conflict (shop_id) do update set
  state = excluded.state, reason = excluded.reason, scopes = excluded.scopes,
  access_token = excluded.access_token, access_expires_at = excluded.access_expires_at,
  refresh_token = excluded.refresh_token, refresh_expires_at = excluded.refresh_expires_at,
  obtained_at = excluded.obtained_at, refreshed_at = null, uninstalled_at = null,
  subscriptions_checked_at = null, subscriptions_error = null
""")
REFRESHED = text("""
update installations set
  access_token = :access_token, access_expires_at = :access_expires_at, refresh_token = :refresh_token,
  refresh_expires_at = :refresh_expires_at, refreshed_at = :now,
  state = case when reason = any(:dead) then 'active' else state end,
  reason = case when reason = any(:dead) then null else reason end
where shop_id = :shop_id and state <> 'uninstalled'
""")
RESEALED = text(
    "update installations set access_token = :access_token, refresh_token = :refresh_token where shop_id = :shop_id"
)
NEEDED = text(
    "update installations set state = 'needs_merchant', reason = :reason"
    " where shop_id = :shop_id and state <> 'uninstalled' and reason is distinct from :reason returning 1"
)
GRANTED = text(
    "update installations set scopes = cast(:scopes as jsonb)"
    " where shop_id = :shop_id and state <> 'uninstalled' returning 1"
)
HEALED = text(
    "update installations set state = 'active', reason = null"
    " where shop_id = :shop_id and state = 'needs_merchant' and reason = :reason returning 1"
)
UNINSTALL = text(
    "update installations set state = 'uninstalled', reason = null, access_token = null, access_expires_at = null,"
    " refresh_token = null, refresh_expires_at = null, uninstalled_at = now()"
    " where shop_id = :shop_id and state <> 'uninstalled'"
)
TOKENS = text("select shop_id, access_token, refresh_token from installations where access_token is not null")
OLD = text(
    "select s.domain from installations i join shops s on s.id = i.shop_id"
    " where s.state = 'installed' and i.state <> 'uninstalled' and i.refresh_token is not null"
    " and (i.reason = any(:dead) or coalesce(i.refreshed_at, i.obtained_at) < now() - :days * interval '1 day')"
    " order by i.refresh_expires_at nulls first limit :limit"
)
CONNECTED = text(
    "select 1 from installations where shop_id = :shop_id and access_token is not null"
    " and not coalesce(reason, '') = any(:dead)"
)
IN_ORDER = text(
    "select 1 from installations where shop_id = :shop_id and state = 'active' and access_token is not null"
)
TOLD_BEFORE = text(
    "select 1 from inbox old join inbox new on new.shop_domain = old.shop_domain and new.topic = old.topic"
    " and new.body = old.body where new.id = :id and old.id < new.id and old.received_at < :since limit 1"
)
UNPARK = text(
    "update inbox set state = 'pending', attempts = 0, error_code = null, error = null, not_before = now(),"
    " rung_at = null, rings = 0 where shop_domain = :domain and state = 'failed' and error_code = 'unknown_shop'"
)
# `finished_at` of what an uninstall cancelled is the time of its transaction, as `uninstalled_at` is. Work that was
# decided while it was uninstalled was cancelled later (`forget` again, when the shop is redacted): it is due as well
REVIVE = text(
    "update outbox o set state = 'pending', attempts = 0, not_before = now(), rung_at = null, finished_at = null"
    " from installations i where i.shop_id = :shop_id and o.shop_id = i.shop_id and o.state = 'cancelled'"
    " and o.finished_at >= i.uninstalled_at"
)


@dataclass(frozen=True, slots=True)
class Held:
    """What is kept of a shop's connection; tokens as they are stored, encrypted."""

    state: str
    reason: str | None
    scopes: tuple[str, ...]
    access_token: bytes | None
    access_expires_at: datetime | None
    refresh_token: bytes | None
    refresh_expires_at: datetime | None
    obtained_at: datetime
    refreshed_at: datetime | None
    uninstalled_at: datetime | None

    @property
    def newest_at(self) -> datetime:
        """When the tokens were given."""
        return self.refreshed_at or self.obtained_at


def read(connection: Connection, shop_id: int) -> Held | None:
    """What is kept, None for a shop that was never connected."""
    return _held(connection, READ, shop_id)


def locked(connection: Connection, shop_id: int, *, wait: bool = True) -> Held | None:
    """The same under the row's lock. Without `wait`, a lock that another holds is an OperationalError at once."""
    return _held(connection, LOCKED if wait else LOCKED_AT_ONCE, shop_id)


def _held(connection: Connection, query: Any, shop_id: int) -> Held | None:
    row = connection.execute(query, {"shop_id": shop_id}).one_or_none()
    return None if row is None else Held(**{**row._mapping, "scopes": tuple(row.scopes)})


def is_connected(connection: Connection, shop_id: int) -> bool:
    """Whether calls can be made for the shop now, as far as we know. Missing scopes forbid some of them only."""
    key = {"shop_id": shop_id, "dead": list(TOKEN_DEAD)}
    return connection.execute(CONNECTED, key).one_or_none() is not None


def is_in_order(connection: Connection, shop_id: int) -> bool:
    """Connected, and nothing is needed of the merchant: scopes neither."""
    return connection.execute(IN_ORDER, {"shop_id": shop_id}).one_or_none() is not None


def record_grant(connection: Connection, settings: Settings, domain: str, grant: Grant, now: datetime) -> int:
    """The merchant consented: register the shop (again), keep its tokens, let what waited go on. Returns its id.

    Safe to run twice, and twice at once: the shop's row is locked first, one row is kept, the later grant stands. Of
    two made at once the earlier may be stored last; its access token lives on, and its refusal at the next refresh is
    shown as `token_revoked`. Events parked while the shop was unknown are tried again, what its uninstall cancelled is
    due again. From the first consent on, orders earn: what was bought before did so elsewhere (D10b), unless the shop was
    at work here before. Raises InvalidSetting without a key to encrypt with.
    """
    vault = Vault(settings.token_keys)
    shop_id = shops.add(connection, domain)
    missing = missing_scopes(settings.shopify_scopes, grant.scopes)
    connection.execute(BEGIN_EARNING, {"shop_id": shop_id, "now": now})
    connection.execute(REVIVE, {"shop_id": shop_id})
    values = {**sealed(vault, shop_id, grant), "scopes": json.dumps(grant.scopes), "now": now}
    state = {
        "state": "needs_merchant" if missing else "active",
        "reason": "scopes_missing" if missing else None,
    }
    connection.execute(INSTALL, {"shop_id": shop_id, **values, **state})
    connection.execute(UNPARK, {"domain": shops.normal_domain(domain)})
    outbox.put(connection, shop_id, CHECK, f"{CHECK}:installed:{now.isoformat()}", {})
    outbox.hurry(connection, shop_id)
    log.info("shop_connected", shop_id=shop_id, expires=grant.expires_at is not None, missing_scopes=missing)
    return shop_id


def record_refresh(
    connection: Connection, settings: Settings, shop_id: int, grant: Grant, now: datetime
) -> None:
    """Both tokens and both expiries, in one statement. What had no token that worked is connected again."""
    values = sealed(Vault(settings.token_keys), shop_id, grant)
    connection.execute(REFRESHED, {"shop_id": shop_id, **values, "now": now, "dead": list(TOKEN_DEAD)})


def sealed(vault: Vault, shop_id: int, grant: Grant) -> dict[str, Any]:
    """The columns of a grant's tokens."""
    refresh = grant.refresh_token
    return {
        "access_token": vault.seal(shop_id, "access", grant.access_token),
        "access_expires_at": grant.expires_at,
        "refresh_token": None if refresh is None else vault.seal(shop_id, "refresh", refresh),
        "refresh_expires_at": grant.refresh_expires_at,
    }


def to_keep_alive(connection: Connection, age: timedelta) -> list[str]:
    """The shops whose refresh token is that old, and those whose last one was refused; what ends first comes first."""
    limits = {"dead": list(TOKEN_DEAD), "days": age.days, "limit": KEPT_ALIVE_AT_ONCE}
    return list(connection.execute(OLD, limits).scalars())


def unreadable(connection: Connection, settings: Settings) -> set[int]:
    """The shops whose tokens no key of ours decrypts."""
    rows = connection.execute(TOKENS).all()
    return {
        row.shop_id
        for row in rows
        if not is_readable(settings, row.shop_id, row.access_token, row.refresh_token)
    }


def is_readable(settings: Settings, shop_id: int, access: bytes | None, refresh: bytes | None) -> bool:
    """Whether our keys decrypt these tokens of the shop. False without an access token."""
    if access is None:
        return False
    vault = Vault(settings.token_keys)
    try:
        vault.open(shop_id, "access", access)
        if refresh is not None:
            vault.open(shop_id, "refresh", refresh)
    except UnwindError:
        return False
    return True


def reseal(connection: Connection, settings: Settings, shop_id: int) -> bool:
    """Encrypt the shop's tokens under the first key, so that the others can be removed. False when it has none.

    Safe to run twice, and twice at once: under the row's lock. Raises InvalidSetting when no key fits.
    """
    vault, held = Vault(settings.token_keys), locked(connection, shop_id)
    if held is None or held.access_token is None:
        return False
    refresh = held.refresh_token
    again = {
        "access_token": vault.reseal(shop_id, "access", held.access_token),
        "refresh_token": None if refresh is None else vault.reseal(shop_id, "refresh", refresh),
    }
    connection.execute(RESEALED, {"shop_id": shop_id, **again})
    return True


def needs_merchant(connection: Connection, shop_id: int, reason: str) -> None:
    """The merchant has to open the app: `reason` as in models.errors.NeedsMerchant. Told once in the log."""
    if connection.execute(NEEDED, {"shop_id": shop_id, "reason": reason}).one_or_none() is not None:
        log.warning("shop_needs_merchant", shop_id=shop_id, reason=reason)


def forget(connection: Connection, shop_id: int) -> None:
    """The shop's tokens and its endpoints are dropped, and what was to be done outside is cancelled. Safe to run twice."""
    connection.execute(UNINSTALL, {"shop_id": shop_id})
    outbox.cancel_all(connection, shop_id)
    endpoints.forget(connection, shop_id)


def uninstalled(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """The act of `app/uninstalled`: the tokens are dropped at once, nothing more is done for the shop; its books stay.

    Safe to run twice, and twice at once: under the shop's lock. An event that is older than the present installation
    tells of an earlier one and changes nothing. A body of another shop is refused (ForeignShop): headers are unsigned.
    So is the time that the header says: a body that disconnected an earlier installation is not believed again by
    itself. Shopify is asked, and refuses the tokens if the app is gone.
    """
    check_act(event.topic, shop, payload)
    connection.execute(SHOP_LOCKED, {"shop_id": shop.id})
    held = locked(connection, shop.id)
    if held is not None and held.state != "uninstalled" and _told_at(payload, event) < held.obtained_at:
        return "installed again since: nothing to do"
    if held is not None and held.state != "uninstalled" and _was_told(connection, event, held.obtained_at):
        outbox.put(connection, shop.id, CHECK, f"{CHECK}:{event.cause}", {})
        return "told word by word before this installation: Shopify is asked"
    forget(connection, shop.id)
    shops.remove(connection, shop.domain)
    log.info("shop_uninstalled", shop_id=shop.id)
    return "uninstalled: tokens dropped"


def _was_told(connection: Connection, event: Event, since: datetime) -> bool:
    """Whether the very same body came before then: whoever keeps one can send it again under other headers."""
    return connection.execute(TOLD_BEFORE, {"id": event.id, "since": since}).one_or_none() is not None


def scopes_updated(connection: Connection, shop: ShopRow, payload: Mapping[str, Any], event: Event) -> str:
    """The act of `app/scopes_update`: keep what it says, and ask Shopify, whose answer decides what is missing.

    Safe to run twice: the question is one outbox row an event. Its body names the shop by a number that we do not
    keep, and two of them may come in the wrong order: so it is a hint, and the answer (`granted`) is absolute.
    """
    current = payload.get("current")
    if not isinstance(current, list) or not all(isinstance(scope, str) for scope in current):
        raise Unparseable("current", "is not a list of scopes")
    held = locked(connection, shop.id)
    if held is None or held.state == "uninstalled":
        return "not connected: nothing to do"
    if _told_at(payload, event) < held.obtained_at:
        return "installed again since: nothing to do"
    connection.execute(GRANTED, {"shop_id": shop.id, "scopes": json.dumps(sorted(set(current)))})
    outbox.put(connection, shop.id, CHECK, f"{CHECK}:{event.cause}", {})
    return f"{len(set(current))} scopes granted, to be compared with Shopify's answer"


def granted(connection: Connection, settings: Settings, shop_id: int, scopes: Iterable[str]) -> list[str]:
    """What Shopify says is granted: kept, and judged. Returns what is missing of what we need."""
    found = sorted(set(scopes))
    missing = missing_scopes(settings.shopify_scopes, found)
    known = connection.execute(GRANTED, {"shop_id": shop_id, "scopes": json.dumps(found)}).one_or_none()
    if known is not None and missing:
        needs_merchant(connection, shop_id, "scopes_missing")
    elif known is not None:
        connection.execute(HEALED, {"shop_id": shop_id, "reason": "scopes_missing"})
    return missing


def missing_scopes(needed: Iterable[str], given: Iterable[str]) -> list[str]:
    """What is needed and not given. `write_x` holds `read_x`: Shopify names only the wider one."""
    have = set(given)
    have |= {"read_" + scope.removeprefix("write_") for scope in have if scope.startswith("write_")}
    return sorted(set(needed) - have)


def _told_at(payload: Mapping[str, Any], event: Event) -> datetime:
    """When it happened: what the header said, else the body, else when it came."""
    if event.triggered_at is not None:
        return event.triggered_at
    try:
        found = datetime.fromisoformat(str(payload.get("updated_at")))
    except ValueError:
        return event.received_at
    return found if found.tzinfo else event.received_at
