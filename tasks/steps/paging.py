"""A page of a list."""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass
from typing import Any


@dataclass(frozen=True, slots=True, kw_only=True)
class Page:
    """Some rows, newest first. `cursor` asks for the ones before them; None: there are none."""

    rows: Sequence[dict[str, Any]]
    cursor: int | None
