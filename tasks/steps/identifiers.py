"""By which address and telephone number a customer is known (R35): keyed hashes, so that nobody can be read from them.

normal      what people type -> one form, or None for what is no identifier
Hasher      the form -> HMAC-SHA256 under the shop's own secret, with the shop's id and the kind inside
Hashers     the shops' secrets, each made once and kept encrypted (`tasks/steps/vault.py`), so that a rotation of
            TOKEN_ENCRYPTION_KEYS encrypts secrets anew and leaves every hash as it is
remember    who was told of last is the customer of an identifier, in whatever order the tellings come
"""

from __future__ import annotations

import hashlib
import hmac
import re
import secrets
import unicodedata
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime
from typing import Any, Literal

import structlog
from sqlalchemy import Connection, Engine, text

from models.errors import UnwindError
from tasks.steps import sql
from tasks.steps.vault import Vault

log = structlog.get_logger()

Kind = Literal["EMAIL", "PHONE"]

SECRET_BYTES = 32
TEXT_MAX = 320  # characters of the longest address there can be
SPACED = re.compile(r"[\s\x00-\x1f\x7f]")
BETWEEN_DIGITS = re.compile(r"[\s().\-/\u00a0]")
WITH_COUNTRY = re.compile(r"(?:\+|00)([1-9][0-9]{6,14})")  # E.164: at most 15 digits, the country first
DIGITS = re.compile(r"(?:\+|00)?([1-9][0-9]{6,14})")

SECRET = text("select id, identifier_key from shops where domain = :domain")
MAKE_SECRET = text(
    "update shops set identifier_key = coalesce(identifier_key, :sealed) where id = :id returning identifier_key"
)
LOCK_SECRET = text("select identifier_key from shops where id = :id for no key update")
RESEAL = text("update shops set identifier_key = :sealed where id = :id")
REMEMBER = text(
    "insert into customer_identifiers as known (shop_id, kind, digest, customer_id, seen_at)"
    " select :shop_id, told.kind, told.digest, told.customer_id, told.seen_at from unnest(cast(:kind as text[]),"
    "  cast(:digest as bytea[]), cast(:customer_id as bigint[]), cast(:seen_at as timestamptz[]))"
    "  as told(kind, digest, customer_id, seen_at)"
    " where not exists (select from privacy_requests p"
    "  left join customer_aliases a on a.shop_id = p.shop_id and a.customer_id = p.customer_id"
    "  left join customer_aliases b on b.shop_id = p.shop_id and b.customer_id = told.customer_id"
    "  where p.shop_id = :shop_id and p.kind = 'customer_redact' and p.requested_at >= told.seen_at"
    "  and coalesce(a.survivor_id, p.customer_id) = coalesce(b.survivor_id, told.customer_id))"
    " on conflict (shop_id, kind, digest) do update set customer_id = excluded.customer_id, seen_at = excluded.seen_at"
    " where (known.seen_at, known.customer_id) < (excluded.seen_at, excluded.customer_id)"
)
CUSTOMER = text(
    "select customer_id from customer_identifiers where shop_id = :shop_id and kind = :kind and digest = :digest"
)
FORGET = text("delete from customer_identifiers where shop_id = :shop_id and customer_id = any(:ids)")
FORGET_ALL = text("delete from customer_identifiers where shop_id = :shop_id")


@dataclass(frozen=True, slots=True, kw_only=True)
class Named:
    """A customer was told of with this identifier, at this time."""

    customer_id: int
    kind: Kind
    digest: bytes
    seen_at: datetime


class Hasher:
    """Hashes identifiers of one shop. Shows nothing of its secret."""

    __slots__ = ("_secret", "shop_id")

    def __init__(self, shop_id: int, secret: bytes) -> None:
        self.shop_id, self._secret = shop_id, secret

    def digest(self, kind: Kind, form: str) -> bytes:
        """32 bytes for an identifier in its normal form."""
        return hmac.digest(self._secret, f"{self.shop_id}:{kind}:{form}".encode(), hashlib.sha256)

    def named(
        self, customer_id: int, *, email: object = None, phone: object = None, seen_at: datetime
    ) -> list[Named]:
        """What is to be remembered of a customer; what is no address or no whole telephone number is passed over."""
        forms: Mapping[Kind, str | None] = {"EMAIL": normal_email(email), "PHONE": normal_phone(phone)}
        return [
            Named(customer_id=customer_id, kind=kind, digest=self.digest(kind, form), seen_at=seen_at)
            for kind, form in forms.items()
            if form is not None
        ]


class Hashers:
    """The hashers of all shops, for a process that works for many: a shop's secret is read once. Safe to share."""

    def __init__(self, engine: Engine, keys: Sequence[bytes]) -> None:
        """`keys` as in `Settings.token_keys`."""
        self._engine, self._keys = engine, keys
        self._known: dict[str, Hasher] = {}

    def of(self, domain: str) -> Hasher | None:
        """The hasher of a shop; its secret is made when it has none. None for a shop that was never ours.

        Raises InvalidSetting when no key is set, or none fits. Asks the database outside any transaction of others.
        """
        known = self._known.get(domain)
        if known is None:
            vault = Vault(self._keys)
            with self._engine.begin() as connection:
                known = _hasher(connection, vault, domain)
            if known is not None:
                self._known[domain] = known
        return known

    def of_any(self, domain: str) -> Hasher | None:
        """The same for work that goes on without: None, told in the log, when no key is set or none fits."""
        try:
            return self.of(domain) if self._keys else None
        except UnwindError as error:
            log.warning("identifiers_not_kept", shop=domain, code=error.code)
            return None


def _hasher(connection: Connection, vault: Vault, domain: str) -> Hasher | None:
    row = connection.execute(SECRET, {"domain": domain}).one_or_none()
    if row is None:
        return None
    sealed = row.identifier_key
    if sealed is None:
        new = vault.seal(row.id, "identifiers", secrets.token_hex(SECRET_BYTES))
        sealed = connection.execute(MAKE_SECRET, {"id": row.id, "sealed": new}).scalar_one()
    return Hasher(row.id, bytes.fromhex(vault.open(row.id, "identifiers", sealed)))


def reseal(connection: Connection, vault: Vault, shop_id: int) -> bool:
    """Encrypt the shop's secret under the first key; the hashes stay what they are. False when it has none.

    Safe to run twice, and twice at once: under the row's lock. Raises InvalidSetting when no key fits.
    """
    sealed = connection.execute(LOCK_SECRET, {"id": shop_id}).scalar_one()
    if sealed is None:
        return False
    connection.execute(RESEAL, {"id": shop_id, "sealed": vault.reseal(shop_id, "identifiers", sealed)})
    return True


# -- forms -------------------------------------------------------------------------------------------


def normal_email(value: object) -> str | None:
    """The address as everybody writes it in the end: trimmed, without case, one Unicode form. None for what is none."""
    if not isinstance(value, str) or len(value) > TEXT_MAX:
        return None
    form = unicodedata.normalize("NFC", unicodedata.normalize("NFC", value.strip()).casefold())
    local, _, host = form.rpartition("@")
    if not local or not host or SPACED.search(form) or "@" in host:
        return None
    return form


def normal_phone(value: object, *, country_assumed: bool = False) -> str | None:
    """The digits of a telephone number with its country (E.164, without the plus). None for what is none.

    `+` or `00` says that the country is there; with `country_assumed` it is taken to be there without. `(0)` says that
    the number is meant in two ways at once.
    """
    if not isinstance(value, str) or len(value) > TEXT_MAX or "(0)" in value:
        return None
    found = (DIGITS if country_assumed else WITH_COUNTRY).fullmatch(BETWEEN_DIGITS.sub("", value))
    return None if found is None else found[1]


def normal(kind: Kind, value: object) -> str | None:
    """The normal form of an identifier that a caller names."""
    return normal_email(value) if kind == "EMAIL" else normal_phone(value, country_assumed=True)


# -- webhooks ----------------------------------------------------------------------------------------

ORDERS = "orders/"
CUSTOMER_TOLD = "customers/update"
TYPED_BY_ANYBODY = datetime(1970, 1, 1, tzinfo=UTC)  # before every telling of a customer's own
Node = Mapping[str, Any]


def named_in(hasher: Hasher, topic: str, node: Node, received_at: datetime) -> list[Named]:
    """What a body that is read and unwrapped says of its customer: an order's, or `customers/update`; nothing else has one.

    The customer's own address and number count from the time that the body says it was changed. Where the order's
    customer has none, what the checkout was told fills the gap: anybody can type it, so it never takes an identifier
    away from a customer who has it as his own. Never raises.
    """
    if topic == CUSTOMER_TOLD:
        return _named(hasher, node.get("id"), node, _time_in(node, "updated_at", received_at))
    customer = node.get("customer") if topic.startswith(ORDERS) else None
    if not isinstance(customer, dict):
        return []
    own = _named(hasher, customer.get("id"), customer, _time_in(node, "updated_at", received_at))
    kinds = {each.kind for each in own}
    told = _named(hasher, customer.get("id"), node, TYPED_BY_ANYBODY)
    return own + [each for each in told if each.kind not in kinds]


def _named(hasher: Hasher, id: object, node: Node, seen_at: datetime) -> list[Named]:
    if type(id) is not int or not 0 < id < 2**63:
        return []
    return hasher.named(id, email=node.get("email"), phone=node.get("phone"), seen_at=seen_at)


def _time_in(node: Node, field: str, received_at: datetime) -> datetime:
    """The body's own time, never later than it came; that for what is no time."""
    try:
        found = datetime.fromisoformat(str(node.get(field)))
    except ValueError:
        return received_at
    return min(found, received_at) if found.tzinfo else received_at


# -- rows --------------------------------------------------------------------------------------------


def remember(connection: Connection, shop_id: int, rows: Iterable[Named]) -> None:
    """Keep who was told of last with each identifier, in one statement; none for no rows.

    The later telling wins, of two at the same time the greater customer id: so the order of arrival does not matter.
    A customer who was erased (`customers/redact`) stays so for what was told before. Safe to run twice, and at once:
    rows are locked in the order of their keys, after every other lock on the shop's books.
    """
    latest: dict[tuple[str, bytes], Named] = {}
    for row in rows:
        key = row.kind, row.digest
        known = latest.get(key)
        if known is None or (known.seen_at, known.customer_id) < (row.seen_at, row.customer_id):
            latest[key] = row
    if latest:
        told = [latest[key] for key in sorted(latest)]
        columns: dict[str, Any] = {
            name: [getattr(row, name) for row in told]
            for name in ("kind", "digest", "customer_id", "seen_at")
        }
        sql.run(connection, REMEMBER, shop_id=shop_id, **columns)


def customer_known_by(connection: Connection, shop_id: int, kind: Kind, digest: bytes) -> int | None:
    """The customer who was told of last with this identifier, by the id that was told; None when nobody was."""
    key = {"shop_id": shop_id, "kind": kind, "digest": digest}
    found: int | None = connection.execute(CUSTOMER, key).scalar_one_or_none()
    return found


def forget(connection: Connection, shop_id: int, customers: Sequence[int] | None) -> int:
    """Erase the identifiers of these customers, or (None) of all; how many there were."""
    if customers is None:
        return connection.execute(FORGET_ALL, {"shop_id": shop_id}).rowcount
    return connection.execute(FORGET, {"shop_id": shop_id, "ids": list(customers)}).rowcount
