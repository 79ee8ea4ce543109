"""Where a shop wants to be told of what happens: addresses, their secrets, their pauses (docs/webhooks.md).

Addresses are checked by whoever calls, before the transaction (tasks/gateway/outgoing.py): the look-up is a call outside.
"""

from __future__ import annotations

import base64
import json
import secrets
from collections.abc import Sequence
from datetime import UTC, datetime, timedelta
from typing import Any

import structlog
from sqlalchemy import Connection, Row, text

from models.errors import InvalidSetting, NotFound, Refused
from models.settings import Settings
from tasks.steps.activities import entry, say
from tasks.steps.activity import utc_text
from tasks.steps.load import open_world
from tasks.steps.messages import ALL, EVENTS, PING
from tasks.steps.shops import by_id
from tasks.steps.vault import SETTING, Vault

log = structlog.get_logger()

ENDPOINTS_MAX = 20  # of a shop: each message is sent to every one of them
SECRET_BYTES = 32
PREFIX = "whsec_"  # Standard Webhooks
OVERLAP = timedelta(days=1)  # that an old secret signs beside the new one
CHANGED_AT_ONCE = 10_000  # deliveries, by one act; who delivers changes the others by and by
MESSAGES_AT_ONCE = 500  # of a shop that left, with all their tries; the rest by the hourly job
FAILING, GONE, BY_HAND = "failing", "gone", "by_hand"
ACTIVE, PAUSED = "active", "paused"

COLUMNS = (
    "e.id, e.url, e.description, e.events, e.state, e.paused_reason, e.failing_since, e.resting_until, e.last_success_at, e.created_at,"
    " e.old_secret_until, (select count(*) from deliveries d where d.shop_id = e.shop_id and d.endpoint_id = e.id"
    " and d.state = 'pending') + (select count(*) from deliveries d where d.shop_id = e.shop_id"
    " and d.endpoint_id = e.id and d.state = 'waiting') as waiting"
)
LISTING = text(
    f"select {COLUMNS} from endpoints e where e.shop_id = :shop_id and e.state <> 'deleted' order by e.id"
)
READ = text(
    f"select {COLUMNS} from endpoints e where e.shop_id = :shop_id and e.id = :id and e.state <> 'deleted'"
)
LOCK = text(
    "select id, state, secret from endpoints where shop_id = :shop_id and id = :id and state <> 'deleted'"
    " for no key update"
)
LOCK_SHOP = text("select id from shops where id = :shop_id for no key update")
COUNT = text("select count(*) from endpoints where shop_id = :shop_id and state <> 'deleted'")
ADD = text(
    "insert into endpoints (shop_id, url, description, events, secret)"
    " values (:shop_id, :url, :description, cast(:events as jsonb), :secret) returning id"
)
CHANGE = text(
    "update endpoints set url = coalesce(:url, url), description = coalesce(:description, description),"
    " events = coalesce(cast(:events as jsonb), events) where shop_id = :shop_id and id = :id"
)
ROTATE = text(
    "update endpoints set old_secret = secret, old_secret_until = :until, secret = :secret"
    " where shop_id = :shop_id and id = :id"
)
PAUSE = text(
    "update endpoints set state = 'paused', paused_reason = :why where shop_id = :shop_id and id = :id"
    " and state = 'active' returning failing_since"
)
HOLD = text(  # what is being sent is left alone: it is set aside when it comes back
    "with open as (select id from deliveries where shop_id = :shop_id and endpoint_id = :id and state = 'pending'"
    "   and coalesce(leased_until, :now) <= :now order by not_before, id limit :limit)"
    " update deliveries d set state = 'waiting' from open where d.shop_id = :shop_id and d.id = open.id"
)
ENABLE = text(
    "update endpoints set state = 'active', paused_reason = null, failing_since = null, failures = 0,"
    " resting_until = null where shop_id = :shop_id and id = :id"
)
RELEASE = text(
    "with open as (select id from deliveries where shop_id = :shop_id and endpoint_id = :id"
    "   and state in ('pending', 'waiting') and coalesce(leased_until, :now) <= :now order by id limit :limit)"
    " update deliveries d set state = 'pending', attempts = 0, leased_until = null, not_before = :now"
    " from open where d.shop_id = :shop_id and d.id = open.id"
)
DELETE = text(
    "update endpoints set state = 'deleted', paused_reason = null, secret = null, old_secret = null,"
    " old_secret_until = null where shop_id = :shop_id and id = :id"
)
CANCEL = text(
    "with open as (select id from deliveries where shop_id = :shop_id and endpoint_id = any(:ids)"
    "   and state in ('pending', 'waiting') limit :limit)"
    " update deliveries d set state = 'cancelled', finished_at = :now, leased_until = null"
    " from open where d.shop_id = :shop_id and d.id = open.id"
)
LIVE_IDS = text(
    "select id from endpoints where shop_id = :shop_id and state <> 'deleted' order by id for update"
)
FORGET = text(
    "update endpoints set state = 'deleted', paused_reason = null, secret = null, old_secret = null,"
    " old_secret_until = null, url = '', description = '' where shop_id = :shop_id"
)
FORGET_MESSAGES = text(
    "delete from messages where shop_id = :shop_id and id in"
    " (select id from messages where shop_id = :shop_id order by id limit :limit)"
)
FORGET_ANSWERS = text(  # an address can hold a key of the system behind it
    "delete from idempotency_keys where shop_id = :shop_id and response ->> 'text' like '%\"paused_reason\":%'"
)
PINGING = text(
    "select d.id from message_subjects s"
    " join messages m on m.shop_id = s.shop_id and m.subject = s.subject and m.sequence = s.last"
    " join deliveries d on d.shop_id = m.shop_id and d.message_id = m.id and d.endpoint_id = :id"
    " where s.shop_id = :shop_id and s.subject = :subject and d.state in ('pending', 'waiting')"
)
PING_ONE = text("""
with numbered as (
  insert into message_subjects as s (shop_id, subject, last) values (:shop_id, :subject, 1)
  on conflict (shop_id, subject) do update set last = s.last + 1 returning last
), written as (
  insert into messages (shop_id, event, subject, sequence, at, data)
  select :shop_id, :event, :subject, last, :now, cast(:data as jsonb) from numbered returning id
)
insert into deliveries (shop_id, endpoint_id, message_id) select :shop_id, :id, id from written returning id
""")
SECRETS = text(
    "select id, secret, old_secret from endpoints where shop_id = :shop_id and state <> 'deleted' order by id"
    " for no key update"
)
RESEALED = text(
    "update endpoints set secret = :secret, old_secret = :old_secret where shop_id = :shop_id and id = :id"
)


def vault_of(settings: Settings) -> Vault:
    """What seals secrets. Raises Refused (no_encryption_key): an operator's matter, and no fault of the call."""
    try:
        return Vault(settings.token_keys)
    except InvalidSetting:
        raise Refused(
            "no_encryption_key",
            f"the server has no key to keep a secret with; its operator has to set {SETTING}",
        ) from None


def events_of(names: Sequence[str] | None) -> list[str]:
    """The events that an endpoint takes; None: all, those of later versions too. Raises InvalidSetting."""
    if names is None or ALL in names:
        return [ALL]
    unknown = sorted(set(names) - set(EVENTS))
    if unknown or not names:
        known = ", ".join(EVENTS)
        what = f"has {unknown[0]!r}, which is no event" if unknown else "names no event"
        raise InvalidSetting("events", f"{what}; there are: {known}, or {ALL} alone for all of them")
    return [name for name in EVENTS if name in names]


def new_secret() -> str:
    """A signing secret as Standard Webhooks writes it."""
    return PREFIX + base64.b64encode(secrets.token_bytes(SECRET_BYTES)).decode()


def add(
    connection: Connection,
    vault: Vault,
    shop_id: int,
    *,
    url: str,
    events: Sequence[str] | None = None,
    description: str = "",
) -> dict[str, Any]:
    """A new endpoint, with its secret: told here and never again. `url` as `Outgoing.check` gave it.

    Raises InvalidSetting (events), Refused (too_many_endpoints).
    """
    wanted = events_of(events)
    connection.execute(LOCK_SHOP, {"shop_id": shop_id})
    if connection.execute(COUNT, {"shop_id": shop_id}).scalar_one() >= ENDPOINTS_MAX:
        raise Refused(
            "too_many_endpoints",
            f"a shop has at most {ENDPOINTS_MAX} endpoints; delete one first",
            limit=ENDPOINTS_MAX,
        )
    secret = new_secret()
    values = {"shop_id": shop_id, "url": url, "description": description, "events": json.dumps(wanted)}
    values["secret"] = vault.seal(shop_id, "endpoint", secret)
    id = connection.execute(ADD, values).scalar_one()
    return {**get(connection, shop_id, id), "secret": secret}


def listing(connection: Connection, shop_id: int) -> list[dict[str, Any]]:
    return [shown(row) for row in connection.execute(LISTING, {"shop_id": shop_id})]


def get(connection: Connection, shop_id: int, id: int) -> dict[str, Any]:
    """Raises NotFound."""
    row = connection.execute(READ, {"shop_id": shop_id, "id": id}).one_or_none()
    if row is None:
        raise NotFound("endpoint", id)
    return shown(row)


def change(
    connection: Connection,
    shop_id: int,
    id: int,
    *,
    by: str,
    url: str | None = None,
    events: Sequence[str] | None = None,
    description: str | None = None,
    state: str | None = None,
) -> dict[str, Any]:
    """Change what is given. `active` sends what waited, from now on; also for an endpoint that rests after failures.

    Safe to run twice, and twice at once: under the endpoint's lock. Raises NotFound, InvalidSetting (events).
    """
    locked(connection, shop_id, id)
    wanted = None if events is None else json.dumps(events_of(events))
    values = {"url": url, "description": description, "events": wanted}
    connection.execute(CHANGE, {"shop_id": shop_id, "id": id, **values})
    if state == PAUSED:
        pause(connection, shop_id, id, why=BY_HAND, by=by, now=datetime.now(UTC))
    elif state == ACTIVE:
        enable(connection, shop_id, id, by=by)
    return get(connection, shop_id, id)


def pause(connection: Connection, shop_id: int, id: int, *, why: str, by: str, now: datetime) -> bool:
    """Nothing is sent until it is enabled again; what is to be told waits. False when it was paused before.

    The caller holds the endpoint's lock. The notice: an entry of the activity, a line of the log, a figure.
    """
    key = {"shop_id": shop_id, "id": id}
    found = connection.execute(PAUSE, {**key, "why": why}).one_or_none()
    if found is None:
        return False
    connection.execute(HOLD, {**key, "now": now, "limit": CHANGED_AT_ONCE})
    since = time_text(found.failing_since)
    _say(connection, shop_id, id, "endpoint.paused", {"why": why, "failing_since": since, "by": by}, now)
    if why != BY_HAND:
        log.warning("endpoint_paused", shop_id=shop_id, endpoint_id=id, why=why, failing_since=since)
    return True


def enable(connection: Connection, shop_id: int, id: int, *, by: str) -> None:
    """Send again, what waited too. The caller holds the endpoint's lock."""
    key, now = {"shop_id": shop_id, "id": id}, datetime.now(UTC)
    was_paused = locked(connection, shop_id, id).state == PAUSED
    connection.execute(ENABLE, key)
    connection.execute(RELEASE, {**key, "now": now, "limit": CHANGED_AT_ONCE})
    if was_paused:
        _say(connection, shop_id, id, "endpoint.enabled", {"by": by}, now)


def remove(connection: Connection, shop_id: int, id: int) -> None:
    """Its secrets are gone at once, what was to be sent is not sent. Raises NotFound."""
    locked(connection, shop_id, id)
    connection.execute(DELETE, {"shop_id": shop_id, "id": id})
    _cancel(connection, shop_id, [id])


def rotate(connection: Connection, vault: Vault, shop_id: int, id: int) -> dict[str, Any]:
    """A new secret, told here and never again; for a day the old one signs as well. Raises NotFound."""
    locked(connection, shop_id, id)
    secret = new_secret()
    values = {"secret": vault.seal(shop_id, "endpoint", secret), "until": datetime.now(UTC) + OVERLAP}
    connection.execute(ROTATE, {"shop_id": shop_id, "id": id, **values})
    return {**get(connection, shop_id, id), "secret": secret}


def ping(connection: Connection, shop_id: int, id: int) -> int:
    """Send this endpoint a message that means nothing, one at a time. Returns the id of its delivery.

    Raises NotFound, Refused.
    """
    if locked(connection, shop_id, id).state == PAUSED:
        raise Refused("endpoint_paused", "the endpoint is paused, so nothing is sent to it; enable it first")
    pending = connection.execute(PINGING, {"shop_id": shop_id, "id": id, "subject": f"endpoint:{id}"})
    if (already := pending.scalar_one_or_none()) is not None:
        return int(already)
    data = json.dumps({"endpoint_id": str(id)})
    values = {"subject": f"endpoint:{id}", "event": PING, "now": datetime.now(UTC), "data": data}
    return int(connection.execute(PING_ONE, {"shop_id": shop_id, "id": id, **values}).scalar_one())


def locked(connection: Connection, shop_id: int, id: int) -> Row[Any]:
    """The endpoint's row, locked before any of its deliveries. Raises NotFound."""
    row = connection.execute(LOCK, {"shop_id": shop_id, "id": id}).one_or_none()
    if row is None:
        raise NotFound("endpoint", id)
    return row


def forget(connection: Connection, shop_id: int) -> None:
    """The shop left: its endpoints end with their addresses and secrets, and what was told is erased. Safe to run twice."""
    ids = list(connection.execute(LIVE_IDS, {"shop_id": shop_id}).scalars())
    connection.execute(FORGET, {"shop_id": shop_id})
    _cancel(connection, shop_id, ids)
    connection.execute(FORGET_ANSWERS, {"shop_id": shop_id})
    connection.execute(FORGET_MESSAGES, {"shop_id": shop_id, "limit": MESSAGES_AT_ONCE})


def _cancel(connection: Connection, shop_id: int, ids: Sequence[int]) -> None:
    values = {"shop_id": shop_id, "ids": ids, "now": datetime.now(UTC), "limit": CHANGED_AT_ONCE}
    connection.execute(CANCEL, values)


def reseal(connection: Connection, vault: Vault, shop_id: int) -> int:
    """The shop's secrets under the vault's first key; how many endpoints. Raises InvalidSetting when no key fits."""
    rows = connection.execute(SECRETS, {"shop_id": shop_id}).all()
    for row in rows:
        old = row.old_secret
        sealed = {
            "secret": vault.reseal(shop_id, "endpoint", row.secret),
            "old_secret": None if old is None else vault.reseal(shop_id, "endpoint", old),
        }
        connection.execute(RESEALED, {"shop_id": shop_id, "id": row.id, **sealed})
    return len(rows)


def shown(row: Row[Any]) -> dict[str, Any]:
    """An endpoint for people and callers: never its secret."""
    return {
        "id": str(row.id),
        "url": row.url,
        "description": row.description,
        "events": row.events,
        "state": row.state,
        "paused_reason": row.paused_reason,
        "failing_since": time_text(row.failing_since),
        "resting_until": time_text(row.resting_until) if ahead(row.resting_until) else None,
        "last_success_at": time_text(row.last_success_at),
        "waiting": row.waiting,
        "old_secret_until": time_text(row.old_secret_until) if ahead(row.old_secret_until) else None,
        "created_at": time_text(row.created_at),
    }


def ahead(at: datetime | None) -> bool:
    return at is not None and at > datetime.now(UTC)


def time_text(at: datetime | None) -> str | None:
    return None if at is None else utc_text(at)


def _say(
    connection: Connection, shop_id: int, id: int, kind: str, detail: dict[str, Any], now: datetime
) -> None:
    world, cause = open_world(connection, by_id(connection, shop_id), now), f"endpoint:{id}"
    say(world, [entry(world, kind, None, None, cause, cause, {"endpoint_id": str(id), **detail})])
