"""A file's bytes as numbered lines of cells. One line is one row, so what is wrong has its line, and no quote that is
never closed can swallow the rest of the file."""

from __future__ import annotations

import csv
from codecs import BOM_UTF8, BOM_UTF16_BE, BOM_UTF16_LE
from collections.abc import Iterator, Sequence
from dataclasses import dataclass
from difflib import get_close_matches
from typing import BinaryIO

from tasks.steps.imports.columns import COLUMNS, NEEDED

LINE_MAX_BYTES = 64 * 1024  # far more than all columns need; what is longer is no such file
SEPARATORS = ";\t|"


@dataclass(frozen=True, slots=True)
class Mistake:
    """What is wrong, and where. line 0: the file itself. column: as the header names it, None for the line."""

    line: int
    column: str | None
    message: str


@dataclass(frozen=True, slots=True)
class Cells:
    """One line: its cells by column, or why it has none. bytes: how far the file is read."""

    line: int
    cells: dict[str, str]
    mistakes: tuple[Mistake, ...]
    bytes: int


class Unreadable(Exception):
    """No line of the file can be read: its header, or its coding, is wrong."""

    def __init__(self, mistakes: Sequence[Mistake]) -> None:
        super().__init__("; ".join(mistake.message for mistake in mistakes))
        self.mistakes = tuple(mistakes)


def cells_of(file: BinaryIO) -> Iterator[Cells]:
    """Every line after the header that is not empty. Raises Unreadable."""
    file.seek(0)
    header: list[str] | None = None
    number = 0
    while raw := file.readline(LINE_MAX_BYTES + 1):
        number += 1
        if number == 1:
            raw = _without_mark(raw)
        if len(raw) > LINE_MAX_BYTES:
            text = f"is longer than {LINE_MAX_BYTES} bytes; is this a CSV file, with its line ends?"
            raise Unreadable([Mistake(number, None, text)])
        found = split(raw, number)
        if header is None:
            if isinstance(found, Mistake):
                raise Unreadable([found])
            header = header_of(found, number)
        elif isinstance(found, Mistake):
            yield Cells(number, {}, (found,), file.tell())
        elif any(found):
            yield _paired(header, found, number, file.tell())
    if header is None:
        raise Unreadable([Mistake(0, None, "the file is empty: its first line names the columns")])


def split(raw: bytes, number: int) -> list[str] | Mistake:
    """The cells of one line, trimmed, or what keeps it from having any."""
    try:
        text = raw.decode("utf-8").rstrip("\r\n")
    except UnicodeDecodeError as error:
        said = f"is not UTF-8 (byte {error.start + 1} of the line); save the file as CSV UTF-8"
        return Mistake(number, None, said)
    if "\0" in text or "\r" in text:
        return Mistake(number, None, "has a character that no text has; save the file as CSV UTF-8")
    try:
        cells = next(csv.reader([text], strict=True), [])
    except csv.Error:
        return Mistake(
            number, None, "a quote is not closed, or text follows a closing quote; a row is one line"
        )
    return [cell.strip() for cell in cells]


def header_of(names: Sequence[str], number: int) -> list[str]:
    """The columns that the first line names. Raises Unreadable."""
    mistakes = [Mistake(number, name, _unknown(name)) for name in names if name not in COLUMNS]
    if len(names) == 1 and any(separator in names[0] for separator in SEPARATORS):
        said = "the columns are not separated by commas; save the file as CSV with commas"
        raise Unreadable([Mistake(number, None, said)])
    twice = sorted({name for name in names if name in COLUMNS and list(names).count(name) > 1})
    mistakes += [Mistake(number, name, "is named twice") for name in twice]
    mistakes += [
        Mistake(number, name, "is missing: every file has it") for name in NEEDED if name not in names
    ]
    if mistakes:
        raise Unreadable(mistakes)
    return list(names)


def _unknown(name: str) -> str:
    near = get_close_matches(name.casefold().replace(" ", "_"), COLUMNS, n=1)
    meant = f"; is {near[0]} meant?" if near else f"; known are {', '.join(COLUMNS)}"
    return f"unknown column {shown(name)}{meant}"


def _paired(header: Sequence[str], cells: Sequence[str], number: int, read: int) -> Cells:
    if len(cells) > len(header) and any(cells[len(header) :]):
        said = f"has {len(cells)} cells, the header {len(header)}; is a comma inside a cell not in quotes?"
        return Cells(number, {}, (Mistake(number, None, said),), read)
    filled = {name: cell for name, cell in zip(header, cells, strict=False) if cell}
    return Cells(number, filled, (), read)


def _without_mark(raw: bytes) -> bytes:
    if raw.startswith((BOM_UTF16_LE, BOM_UTF16_BE)):
        raise Unreadable([Mistake(1, None, "the file is UTF-16; save it as CSV UTF-8")])
    return raw.removeprefix(BOM_UTF8)


def shown(text: str) -> str:
    """A cell quoted for people: short, and nothing that steers a terminal."""
    return repr(text if len(text) <= 40 else text[:39] + "…")
