"""What a file named already, and on which line: kept in a database of the process's own that spills to disk, so that a
long file needs no more memory than a short one."""

from __future__ import annotations

import sqlite3
from collections.abc import Iterator
from contextlib import contextmanager
from typing import NamedTuple

TABLE = "create table seen (kind text, key text, line int, times int, value text, primary key (kind, key)) without rowid"
NAME = (
    "insert into seen values (?, ?, ?, 1, ?) on conflict do update set times = times + 1"
    " returning line, times, value"
)


class Named(NamedTuple):
    """line: the first that named the key, with this value; times: how often it was named by now."""

    line: int
    times: int
    value: str


class Seen:
    """One for each time that a file is read from its first line on."""

    def __init__(self, connection: sqlite3.Connection) -> None:
        self._connection = connection

    def name(self, kind: str, key: str, line: int, value: str = "") -> Named:
        """Remember that this line named the key."""
        return Named(*self._connection.execute(NAME, (kind, key, line, value)).fetchone())


@contextmanager
def nothing_seen() -> Iterator[Seen]:
    connection = sqlite3.connect("", isolation_level=None)  # no name: private, and gone at the end
    try:
        connection.execute("pragma synchronous = off")
        connection.execute("pragma journal_mode = off")
        connection.execute(TABLE)
        connection.execute("begin")
        yield Seen(connection)
    finally:
        connection.close()
