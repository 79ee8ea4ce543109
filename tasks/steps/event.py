"""A delivery that asks for something, as those who do it see it."""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime


@dataclass(frozen=True, slots=True, kw_only=True)
class Event:
    """The delivery that asked. `triggered_at` is what its (unsigned) header said, None when it said nothing legible."""

    id: int
    topic: str
    received_at: datetime
    triggered_at: datetime | None

    @property
    def cause(self) -> str:
        return f"inbox:{self.id}"
