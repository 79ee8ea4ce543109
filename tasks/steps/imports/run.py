"""A file from its first line to its last: looked through whole, then booked in batches. Killed at any point and run again,
it goes on: what stands, stands under its reference, in the transaction that booked it."""

from __future__ import annotations

import hashlib
import time
from collections import Counter
from collections.abc import Callable, Iterator, Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime
from pathlib import Path
from typing import BinaryIO

from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models.errors import Refused
from models.rules.money import scaled_text
from tasks.steps import programs
from tasks.steps.identifiers import Hasher, Hashers
from tasks.steps.imports.book import Place, book_rows
from tasks.steps.imports.check import Replaced, Standing, against_the_books
from tasks.steps.imports.lines import Mistake, Unreadable
from tasks.steps.imports.rows import Read, Row, Terms, rows_of
from tasks.steps.load import ShopRow
from tasks.steps.sql import is_of_the_database

BATCH = 250  # enough to share the reads and writes, few enough to keep nobody waiting for a wallet
PAUSES_SECONDS = (0.1, 0.5, 2, 5)  # after a batch that the database broke off
KEPT = 200  # mistakes that are told one by one; all are counted

OPEN = text(
    "insert into imports (shop_id, name, digest, at) values (:shop_id, :name, :digest, :at)"
    " on conflict (shop_id, digest) do nothing"
)
KNOWN = text("select id, at, state from imports where shop_id = :shop_id and digest = :digest")
FINISH = text(
    "update imports set state = 'done', lines = :lines, seen_before = :lines - :left_out - booked, finished_at = :now"
    " where shop_id = :shop_id and id = :id and state = 'running'"
)

Progress = Callable[[str, int], None]  # what is done, and how many bytes of the file are through


@dataclass(slots=True)
class Report:
    """What a file came to. rows, amounts: by record, of what was booked (or would be, when nothing was)."""

    shop: str
    file: str
    at: datetime
    dry_run: bool
    booked: bool = False
    lines: int = 0
    rows: Counter[str] = field(default_factory=Counter)
    units: Counter[str] = field(default_factory=Counter)
    scale: int = 0
    stood: int = 0
    repeated: int = 0
    expired: int = 0
    bad: int = 0
    mistakes: list[Mistake] = field(default_factory=list)
    mistakes_total: int = 0
    notes: list[Mistake] = field(default_factory=list)
    notes_total: int = 0
    replaced: Replaced = field(default_factory=Replaced)

    def read(self, found: Read) -> None:
        self.lines += 1
        self.bad += bool(found.mistakes)
        self.repeated += found.left_out == "repeated" and not found.mistakes
        self.expired += found.left_out == "expired"
        self.against(found.mistakes)
        self.worth_a_look(found.notes)

    def against(self, mistakes: Sequence[Mistake]) -> None:
        self.mistakes_total += len(mistakes)
        self.mistakes += mistakes[: KEPT - len(self.mistakes)]

    def worth_a_look(self, notes: Sequence[Mistake]) -> None:
        self.notes_total += len(notes)
        self.notes += notes[: KEPT - len(self.notes)]

    def take(self, standing: Standing) -> None:
        self.stood += standing.stood
        self.bad += len(standing.mistakes)
        self.against(standing.mistakes)
        self.worth_a_look(standing.notes)
        self.replaced += standing.replaced
        for row in standing.new:
            self.rows[row.record] += 1
            self.units[row.record] += row.remaining if row.record == "award" else row.amount

    def amount(self, record: str) -> str:
        return self.scaled(self.units[record])

    def scaled(self, units: int) -> str:
        return scaled_text(units, self.scale)


def import_file(
    engine: Engine,
    keys: Sequence[bytes],
    shop: ShopRow,
    path: Path,
    *,
    dry_run: bool = False,
    skip_bad: bool = False,
    as_of: datetime | None = None,
    progress: Progress = lambda stage, through: None,
    now: datetime | None = None,
) -> Report:
    """Book a file, or say what keeps it from being booked. Of a file with mistakes nothing is, unless `skip_bad`.

    keys: as in `Settings.token_keys`    as_of: the moment as of which its values stand: usually its first run's
    Safe to run twice, and twice at once, and to kill. Raises Refused (another_moment, in_the_future).
    """
    now = now or datetime.now(UTC)
    with path.open("rb") as file:
        digest = hashlib.file_digest(file, hashlib.sha256).digest()
        at = _moment(engine, shop, digest, as_of, now)
        report = Report(shop.domain, path.name, at, dry_run)
        try:
            terms = _terms(engine, keys, shop, at)
            report.scale = terms.program.scale
            _check(engine, shop, file, terms, report, progress)
        except Unreadable as error:
            report.against(error.mistakes)
            return report
        if dry_run or (report.mistakes_total and not skip_bad):
            return report
        place = _place(engine, shop, path.name, digest, at, now)
        if report.rows:
            report = Report(shop.domain, path.name, at, dry_run=False, scale=terms.program.scale)
            _book(engine, place, file, terms, report, progress)
        report.booked = True
        _finish(engine, place, report)
        return report


def _moment(engine: Engine, shop: ShopRow, digest: bytes, as_of: datetime | None, now: datetime) -> datetime:
    """The moment of the file: that of its first run, whenever the rest of it is booked."""
    if as_of is not None and as_of > now:
        raise Refused("in_the_future", "the moment of an import cannot lie in the future")
    with engine.connect() as connection:
        known = connection.execute(KNOWN, {"shop_id": shop.id, "digest": digest}).one_or_none()
    if known is None:
        return as_of or now
    if as_of is not None and as_of != known.at:
        said = f"the file was imported as of {known.at.isoformat()}, and is not again as of another moment"
        raise Refused("another_moment", said)
    at: datetime = known.at
    return at.astimezone(UTC)


def _terms(engine: Engine, keys: Sequence[bytes], shop: ShopRow, at: datetime) -> Terms:
    with engine.connect() as connection:
        program = programs.programs_of(connection, shop.id)[-1]
    hashers = Hashers(engine, keys)

    def hasher() -> Hasher:
        found = hashers.of(shop.domain)
        assert found is not None  # the shop is there: its program was read
        return found

    return Terms(program=program, at=at, currency=shop.currency, hasher=hasher)


def _check(
    engine: Engine, shop: ShopRow, file: BinaryIO, terms: Terms, report: Report, progress: Progress
) -> None:
    """Every mistake of the file, whatever it is; changes nothing."""
    for rows, through in _batches(file, terms, report):
        with engine.connect() as connection:
            report.take(against_the_books(connection, shop, rows, scale=report.scale))
        progress("checking", through)


def _place(engine: Engine, shop: ShopRow, name: str, digest: bytes, at: datetime, now: datetime) -> Place:
    """The file's one row, opened by its first run."""
    key = {"shop_id": shop.id, "digest": digest}
    with engine.begin() as connection:
        connection.execute(OPEN, {**key, "name": name, "at": at})
        found = connection.execute(KNOWN, key).one()
    return Place(shop, found.id, at, now)


def _book(
    engine: Engine, place: Place, file: BinaryIO, terms: Terms, report: Report, progress: Progress
) -> None:
    """Read again from the beginning, and book what is right; each batch is a transaction of its own."""
    for rows, through in _batches(file, terms, report):
        report.take(_batch(engine, place, rows))
        progress("booking", through)


def _batch(engine: Engine, place: Place, rows: Sequence[Row]) -> Standing:
    """Book a batch; again when the database broke it off: a deadlock must not end a file of 100,000 lines."""
    for pause in PAUSES_SECONDS:
        try:
            with engine.begin() as connection:
                return book_rows(connection, place, rows)
        except DBAPIError as error:
            if not is_of_the_database(error):
                raise
            time.sleep(pause)
    with engine.begin() as connection:
        return book_rows(connection, place, rows)


def _finish(engine: Engine, place: Place, report: Report) -> None:
    """The file is through; once it was, another run changes nothing of its row."""
    left_out = report.bad + report.repeated + report.expired
    key = {"shop_id": place.shop.id, "id": place.import_id, "now": datetime.now(UTC)}
    with engine.begin() as connection:
        connection.execute(FINISH, {**key, "lines": report.lines, "left_out": left_out})


def _batches(file: BinaryIO, terms: Terms, report: Report) -> Iterator[tuple[list[Row], int]]:
    """Rows that nothing in the file speaks against, some hundred at a time, and how far the file is read."""
    rows: list[Row] = []
    through = 0
    for read in rows_of(file, terms):
        report.read(read)
        through = read.bytes
        if read.row is not None:
            rows.append(read.row)
        if len(rows) == BATCH:
            yield rows, through
            rows = []
    yield rows, through
