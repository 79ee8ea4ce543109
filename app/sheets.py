"""Tables as CSV (RFC 4180), which a spreadsheet may open without running anything that stands in them."""

from __future__ import annotations

import csv
import re
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from decimal import Decimal
from io import TextIOWrapper
from tempfile import SpooledTemporaryFile
from typing import IO

IN_MEMORY_BYTES = 1024 * 1024  # what is larger waits in a file
NUMBER = re.compile(r"-?[0-9]+(\.[0-9]+)?")
FORMULA = ("=", "+", "-", "@", "\t", "\r", "\n")  # how a cell begins that a spreadsheet would compute


@dataclass(frozen=True, slots=True)
class Sheet:
    """A table that is still to be written: its columns, and its rows as they come."""

    columns: Sequence[str]
    rows: Iterable[Sequence[object]]


def write(sheet: Sheet, file: IO[str]) -> None:
    """The header and the rows; lines end in CRLF."""
    writer = csv.writer(file, lineterminator="\r\n")
    writer.writerow(sheet.columns)
    for row in sheet.rows:
        writer.writerow([cell(value) for value in row])


def spooled(sheet: Sheet) -> IO[bytes]:
    """The whole sheet in UTF-8, ready to be read: whatever goes wrong goes wrong before anything is sent."""
    file: IO[bytes] = SpooledTemporaryFile(max_size=IN_MEMORY_BYTES)  # noqa: SIM115 - closed with the answer
    text = TextIOWrapper(file, encoding="utf-8", newline="")
    write(sheet, text)
    text.detach()
    file.seek(0)
    return file


def cell(value: object) -> str:
    """A value as a cell. Text that a spreadsheet would take for a formula begins with an apostrophe; numbers stay."""
    if value is None:
        return ""
    if isinstance(value, bool):
        return "true" if value else "false"
    if isinstance(value, int | Decimal):
        return str(value)
    if isinstance(value, list | tuple):
        value = " ".join(map(str, value))
    text = str(value)
    return f"'{text}" if text.startswith(FORMULA) and not NUMBER.fullmatch(text) else text
