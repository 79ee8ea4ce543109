"""Tables for the terminal."""

from __future__ import annotations

import io
from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from rich import box
from rich.console import Console
from rich.table import Table
from rich.text import Text

WIDTH = 160  # when the output is no terminal; wide enough that ids are not broken


def table(columns: Sequence[str], rows: Iterable[Sequence[object]], *, empty: str) -> str:
    """Rows as a table of text, `empty` when there are none. Values are never markup, and tell a terminal nothing."""
    found = [[cell(value) for value in row] for row in rows]
    if not found:
        return empty
    drawn = Table(*columns, box=box.SIMPLE_HEAD, highlight=False, pad_edge=False)
    for row in found:
        drawn.add_row(*map(Text, row))
    out = io.StringIO()
    Console(file=out, width=WIDTH, no_color=True).print(drawn)
    return "\n".join(line.rstrip() for line in out.getvalue().splitlines()).strip("\n")


def why(row: Mapping[str, Any]) -> str:
    """The `reason` of what could not be done, on one line."""
    reason = row["reason"]
    return f"{reason.get('code') or ''}: {reason.get('message') or ''}" if reason else ""


def cell(value: object) -> str:
    """A value as text: merchants name their orders, and a name may hold what steers a terminal."""
    text = "" if value is None else str(value)
    return "".join(c if c.isprintable() or c == "\n" else "?" for c in text)
