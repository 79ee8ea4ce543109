"""Every order of arrival, on the real books: what orders have in common at their beginning is played once.

Each step is a savepoint, taken back for the next order; so 720 orders of six steps cost 1,956 steps, not 4,320.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Sequence
from contextlib import contextmanager
from dataclasses import dataclass, field, replace
from datetime import datetime
from pprint import pformat
from typing import Any, cast

from sqlalchemy import Connection, Engine

from tests.books import Books, Step, open_books, play, state_of
from tests.oracle.worlds import World


@dataclass
class Finals:
    """How many orders were played, and each state that one of them ended in."""

    orders: int = 0
    states: Counter[str] = field(default_factory=Counter)
    one: dict[str, Any] = field(default_factory=dict)

    def __str__(self) -> str:
        return f"orders={self.orders} distinct_finals={len(self.states)}"


class OneConnection:
    """Stands in for an engine: its transactions are savepoints of one connection, so all of them can be taken back."""

    def __init__(self, connection: Connection) -> None:
        self.connection = connection

    @contextmanager
    def begin(self) -> Iterator[Connection]:
        with self.connection.begin_nested():
            yield self.connection


def every_arrival(engine: Engine, world: World, steps: Sequence[Step], *, now: datetime) -> Finals:
    """Play the steps in every order that differs (equal steps are duplicates); nothing of it stays in the books."""
    books = open_books(engine, world)
    finals = Finals()
    with engine.connect() as connection:
        inside = replace(books, engine=cast(Engine, OneConnection(connection)))
        for n in distinct(steps):
            with connection.begin() as attempt:
                _go_on(inside, connection, n, steps, finals, now)
                attempt.rollback()
    return finals


def these_arrivals(
    engine: Engine, world: World, orders: Iterable[Sequence[Step]], *, now: datetime
) -> Finals:
    """Play each of these orders of arrival; nothing of it stays in the books."""
    books = open_books(engine, world)
    finals = Finals()
    with engine.connect() as connection:
        inside = replace(books, engine=cast(Engine, OneConnection(connection)))
        for steps in orders:
            with connection.begin() as attempt:
                play(inside, steps, now=now)
                _keep_final(inside, finals, now)
                attempt.rollback()
    return finals


def _keep_final(books: Books, finals: Finals, now: datetime) -> None:
    """Told once more, all of it posts nothing; then the state is kept, with its keys in order."""
    again = books.world.deliveries
    assert not again or books.tell(again, now=now) == 0
    books.pass_time(now=now)
    finals.one = state_of(books)
    finals.states[pformat(finals.one)] += 1
    finals.orders += 1


def _go_on(
    books: Books, connection: Connection, n: int, steps: Sequence[Step], finals: Finals, now: datetime
) -> None:
    play(books, [steps[n]], now=now)
    rest = [*steps[:n], *steps[n + 1 :]]
    if not rest:
        _keep_final(books, finals, now)
    for each in distinct(rest):
        with connection.begin_nested() as attempt:
            _go_on(books, connection, each, rest, finals, now)
            attempt.rollback()


def distinct(steps: Sequence[Step]) -> list[int]:
    """The index of the first of each."""
    return [n for n, step in enumerate(steps) if step not in steps[:n]]
