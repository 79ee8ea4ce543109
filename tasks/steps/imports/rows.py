"""A line's cells as one row: exact values, the reference that it is known by, and a digest of what it says.

A row's content is the text of its cells (addresses and telephone numbers as keyed hashes). Without a reference of its
own it is known by its content, and by how often the file has said the same before.
"""

from __future__ import annotations

import hashlib
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass
from datetime import date, datetime
from typing import Any, BinaryIO, TypeVar

from models.rules.program import Program
from tasks.steps.identifiers import Hasher, Named, normal_email, normal_phone
from tasks.steps.imports import values
from tasks.steps.imports.columns import EVERY, PERSONAL, RECORDS
from tasks.steps.imports.lines import Cells, Mistake, cells_of
from tasks.steps.imports.seen import Seen, nothing_seen

T = TypeVar("T")

CUSTOM = "custom"  # a reward of a free amount
RULE = "imported"  # the rule of an award that names none


@dataclass(frozen=True, slots=True)
class Terms:
    """What rows are read under. at: the moment as of which the file's values stand.

    hasher: asked for by the first row that names an address or a telephone number; it needs a key of the settings
    """

    program: Program
    at: datetime
    currency: str | None
    hasher: Callable[[], Hasher]


@dataclass(frozen=True, slots=True, kw_only=True)
class Row:
    """One row, by its record's columns; amounts in the smallest unit. digest: of its content."""

    line: int
    record: str
    reference: str
    digest: bytes
    customer_id: int
    named: tuple[Named, ...] = ()
    amount: int = 0
    expires_at: datetime | None = None
    order_id: int | None = None
    rule: str = RULE
    earned: int = 0
    remaining: int = 0
    due_at: datetime | None = None
    reward: str = CUSTOM
    code: str = ""
    at: datetime | None = None
    tier: str = ""
    day: date | None = None
    spend_minor: int = 0
    currency: str | None = None
    orders: int = 0
    points: int = 0


@dataclass(frozen=True, slots=True)
class Read:
    """What one line came to: a row to book, or mistakes, or neither: repeated in the file, or expired before `Terms.at`."""

    line: int
    bytes: int
    row: Row | None = None
    mistakes: tuple[Mistake, ...] = ()
    notes: tuple[Mistake, ...] = ()
    left_out: str = ""  # repeated, expired


def rows_of(file: BinaryIO, terms: Terms) -> Iterator[Read]:
    """The file from its first line on. Raises Unreadable."""
    with nothing_seen() as seen:
        for cells in cells_of(file):
            yield _read(cells, terms, seen)


def _read(cells: Cells, terms: Terms, seen: Seen) -> Read:
    line = _Line(cells, terms, seen)
    if cells.mistakes:
        return Read(cells.line, cells.bytes, mistakes=cells.mistakes)
    record = line.record()
    found: dict[str, Any] = {} if record is None else line.of(record)
    if line.mistakes:
        return Read(cells.line, cells.bytes, mistakes=tuple(line.mistakes))
    digest = content_of(cells.cells, found.get("named", ()))
    reference = _reference(line, digest, found.pop("reference"), seen)
    notes = tuple(line.notes)
    if reference is None:
        return Read(cells.line, cells.bytes, mistakes=tuple(line.mistakes), notes=notes, left_out="repeated")
    row = Row(line=cells.line, record=record or "", reference=reference, digest=digest, **found)
    _check_once(line, row, seen)
    if line.mistakes:
        return Read(cells.line, cells.bytes, mistakes=tuple(line.mistakes), notes=notes)
    if _is_expired(row, terms.at):
        said = "expired before the moment of the import: there is nothing of it to book"
        note = Mistake(cells.line, "expires_at", said)
        return Read(cells.line, cells.bytes, notes=(*notes, note), left_out="expired")
    return Read(cells.line, cells.bytes, row, notes=notes)


def content_of(cells: Mapping[str, str], named: tuple[Named, ...]) -> bytes:
    """A digest of what a row says, the same in every file and run; nobody's address can be tried out on it."""
    told = [f"{column}={cells[column]}" for column in sorted(set(cells) - PERSONAL - {"reference"})]
    told += [f"{each.kind}={each.digest.hex()}" for each in named]
    return hashlib.sha256("\n".join(told).encode()).digest()


def _reference(line: _Line, digest: bytes, given: str | None, seen: Seen) -> str | None:
    """The row's own, or one of its content; None for a row that the file has already, and for one that is a mistake."""
    content = digest.hex()
    if given is not None:
        known = seen.name("reference", given, line.number, content)
        if known.times > 1 and known.value != content:
            line.wrong("reference", f"line {known.line} has it too, with another content")
        return given if known.times == 1 else None
    known = seen.name("content", content, line.number)
    if known.times > 1:
        line.note(f"says the same as line {known.line}; without references both are taken")
    return f"row-{content[:32]}" + (f"-{known.times}" if known.times > 1 else "")


def _check_once(line: _Line, row: Row, seen: Seen) -> None:
    """What there is once: an award of an order and rule, an order's customer, a code, a customer's tier."""
    if row.record == "award":
        known = seen.name("award", f"{row.order_id}:{row.rule}", row.line)
        if known.times > 1:
            line.wrong("rule", f"line {known.line} has an award of this order by this rule already")
        owner = seen.name("order", str(row.order_id), row.line, str(row.customer_id))
        if owner.value != str(row.customer_id):
            line.wrong("customer_id", f"line {owner.line} has this order for another customer")
    elif row.record == "redemption":
        known = seen.name("code", row.code.casefold(), row.line)
        if known.times > 1:
            line.wrong("code", f"line {known.line} has this code already")
    elif row.record == "tier":
        known = seen.name("tier", str(row.customer_id), row.line, row.tier)
        if known.value != row.tier:
            line.wrong("tier", f"line {known.line} has the tier {known.value} for this customer")


def _is_expired(row: Row, at: datetime) -> bool:
    return row.record != "redemption" and row.expires_at is not None and row.expires_at <= at


class _Line:
    """The cells of one line, taken one by one; what is wrong with them adds up."""

    def __init__(self, cells: Cells, terms: Terms, seen: Seen) -> None:
        self.number, self._cells, self._terms, self._seen = cells.line, cells.cells, terms, seen
        self.mistakes: list[Mistake] = []
        self.notes: list[Mistake] = []

    def wrong(self, column: str | None, message: str) -> None:
        self.mistakes.append(Mistake(self.number, column, message))

    def note(self, message: str) -> None:
        self.notes.append(Mistake(self.number, None, message))

    def take(self, column: str, read: Callable[[str], T], default: T) -> T:
        """A cell's value; the default where it is empty or wrong."""
        text = self._cells.get(column)
        try:
            return default if text is None else read(text)
        except values.Wrong as error:
            self.wrong(column, str(error))
            return default

    def record(self) -> str | None:
        """Which record it is, and that it fills the columns that this one has, no others."""
        if "record" not in self._cells:
            self.wrong("record", f"is empty; known are {', '.join(RECORDS)}")
            return None
        found = self.take("record", lambda text: values.one_of(text, RECORDS, "record"), "")
        if not found:
            return None
        needs, may = RECORDS[found].needs, RECORDS[found].may
        for column in ("customer_id", *needs):
            if column not in self._cells:
                self.wrong(column, f"is empty; every row of the record {found} has it")
        for column in self._cells:
            if column not in (*EVERY, *needs, *may):
                self.wrong(column, f"says something, and no row of the record {found} has it")
        return found

    def of(self, record: str) -> dict[str, Any]:
        """The values of every row, and of this record's."""
        given: str | None = self.take("reference", values.reference, None)
        id = self.take("customer_id", values.customer_id, 0)
        return {"reference": given, "customer_id": id, "named": self._named(id), **OF_RECORD[record](self)}

    def units(self, column: str, *, least: int = 0) -> int:
        scale = self._terms.program.scale
        return self.take(column, lambda text: values.amount(text, scale, least=least), least)

    def moment(self, column: str, *, through: bool = False) -> datetime | None:
        zone = self._terms.program.time_zone
        nothing: datetime | None = None
        return self.take(column, lambda text: values.moment(text, zone, through=through), nothing)

    def _named(self, customer_id: int) -> tuple[Named, ...]:
        """The hashes of the address and the telephone number that the row names."""
        email, phone = (self._cells.get(name) for name in ("email", "phone"))
        if email is None and phone is None:
            return ()
        if email is not None and normal_email(email) is None:
            self.wrong("email", "is not an e-mail address")
        if phone is not None and normal_phone(phone) is None:
            self.wrong(
                "phone", "is not a telephone number with its country, such as +49 170 1234567, as text"
            )
        told = self._terms.hasher().named(customer_id, email=email, phone=phone, seen_at=self._terms.at)
        return tuple(told)

    # -- records -------------------------------------------------------------------------------------

    def value(self) -> dict[str, Any]:
        return {"amount": self.units("amount"), "expires_at": self.moment("expires_at", through=True)}

    def award(self) -> dict[str, Any]:
        found = self.value()
        nobody = 0
        found["order_id"] = self.take("order_id", values.order_id, nobody)
        found["rule"] = self.take("rule", values.identifier, RULE)
        amount = found["amount"]
        found["earned"] = self.units("earned") if "earned" in self._cells else amount
        found["remaining"] = self.units("remaining") if "remaining" in self._cells else amount
        due_at = found["due_at"] = self.moment("due_at")
        if found["earned"] < amount:
            self.wrong("earned", "is less than the amount: it is what the order earned before any refund")
        if found["remaining"] > amount:
            self.wrong("remaining", "is more than the amount: it is what of it was not spent yet")
        if due_at is not None and due_at > self._terms.at:
            if found["remaining"] != amount:
                self.wrong("remaining", "is not the amount, and of a pending award nothing is spent")
            if found["expires_at"] is not None and found["expires_at"] <= due_at:
                self.wrong("expires_at", "is not after due_at")
        return found

    def redemption(self) -> dict[str, Any]:
        rewards = (*self._terms.program.rewards, CUSTOM)
        found = {
            "reward": self.take("reward", lambda text: values.one_of(text, rewards, "reward"), CUSTOM),
            "amount": self.units("amount", least=1),
            "code": self.take("code", values.code, ""),
            "at": self.moment("at"),
            "expires_at": self.moment("expires_at", through=True),
            "order_id": self.take("order_id", values.order_id, 0) or None,
        }
        at, expires_at = found["at"], found["expires_at"]
        if isinstance(at, datetime) and at > self._terms.at:
            self.wrong("at", "lies after the moment of the import")
        if isinstance(at, datetime) and isinstance(expires_at, datetime) and expires_at <= at:
            self.wrong("expires_at", "is not after at")
        return found

    def tier(self) -> dict[str, Any]:
        levels = [level.id for level in self._terms.program.tiers.levels]
        return {"tier": self.take("tier", lambda text: values.one_of(text, levels, "tier"), "")}

    def history(self) -> dict[str, Any]:
        terms = self._terms
        nothing: date | None = None
        found: dict[str, Any] = {
            "day": self.take("day", values.day, nothing),
            "orders": self.take("orders", values.whole, 0),
            "points": self.units("points"),
            "currency": self.take("currency", values.currency, terms.currency),
        }
        if found["day"] is not None and found["day"] > terms.at.astimezone(terms.program.time_zone).date():
            self.wrong("day", "lies after the moment of the import")
        currency = found["currency"]
        if currency is not None:
            found["spend_minor"] = self._spend(currency)
        elif "spend" in self._cells and "currency" not in self._cells:
            self.wrong("currency", "is empty, and no order has told the store's currency yet")
        return found

    def _spend(self, currency: str) -> int:
        """Money of the store's one currency."""
        ours = self._terms.currency
        known = self._seen.name("currency", "", self.number, currency)
        if ours not in (None, currency):
            self.wrong("currency", f"is not {ours}, the store's currency")
        elif known.value != currency:
            self.wrong("currency", f"line {known.line} has {known.value}; a store has one")
        return self.take("spend", lambda text: values.money(text, currency), 0)

    def customer(self) -> dict[str, Any]:
        if not PERSONAL & set(self._cells):
            self.wrong("email", "is empty, and so is phone: a customer row has one of them, or both")
        return {}


OF_RECORD: Mapping[str, Callable[[_Line], dict[str, Any]]] = {
    "balance": _Line.value,
    "lot": _Line.value,
    "award": _Line.award,
    "redemption": _Line.redemption,
    "tier": _Line.tier,
    "history": _Line.history,
    "customer": _Line.customer,
}
