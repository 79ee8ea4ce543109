"""Waiting for what other processes do."""

from __future__ import annotations

import time
from collections.abc import Callable
from typing import TypeVar

Answer = TypeVar("Answer")
PATIENCE_SECONDS = 30.0


def until(found: Callable[[], Answer], seconds: float = PATIENCE_SECONDS) -> Answer:
    """The first answer that is true."""
    end = time.monotonic() + seconds
    while not (answer := found()):
        assert time.monotonic() < end, "it took too long"
        time.sleep(0.02)
    return answer
