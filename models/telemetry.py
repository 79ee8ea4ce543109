"""Spans: what took how long, for a tracing system. Nothing at all happens until `install` was called.

    with span("drain", shop="a.myshopify.com") as note:
        ...
        note(done=3)

Attributes are ids and counts, never anything personal; an error is noted by its kind, never by its words.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import AbstractContextManager, nullcontext
from typing import Literal, Protocol

Kind = Literal["internal", "client", "server", "consumer"]
Note = Callable[..., None]


class Tracer(Protocol):
    def span(
        self, name: str, kind: Kind, parent: str, attributes: dict[str, object]
    ) -> AbstractContextManager[Note]:
        """parent: a W3C `traceparent`, "" for the span that surrounds this one, or none."""
        ...

    def here(self) -> str:
        """The `traceparent` of the span that we are in, "" outside of any."""
        ...


def _unheard(**attributes: object) -> None:
    """Nobody traces."""


_OFF = nullcontext(_unheard)
_installed: dict[str, Tracer] = {}


def install(tracer: Tracer) -> None:
    _installed["tracer"] = tracer


def is_on() -> bool:
    return bool(_installed)


def span(
    name: str, *, kind: Kind = "internal", parent: str = "", **attributes: object
) -> AbstractContextManager[Note]:
    """A span around the block; it is handed what notes further attributes."""
    tracer = _installed.get("tracer")
    return _OFF if tracer is None else tracer.span(name, kind, parent, attributes)


def here() -> str:
    """The `traceparent` to hand on, "" when nobody traces."""
    tracer = _installed.get("tracer")
    return "" if tracer is None else tracer.here()
