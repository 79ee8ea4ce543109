"""Set-based statements, built once a table: many rows in one round trip, typed arrays in, rows out.

Arrays go in binary form (`%b`): quoting JSON inside the text of an array costs more than the rest of a refund.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from functools import lru_cache
from typing import Any

from sqlalchemy import Connection, Row, TextClause
from sqlalchemy.dialects.postgresql import JSONB, psycopg
from sqlalchemy.exc import DBAPIError, OperationalError

from models.tables import Base
from tasks.steps.codec import dumps

Rows = Sequence[Mapping[str, Any]]


def insert(connection: Connection, table: str, rows: Rows, *, ignore: Sequence[str] = ()) -> None:
    """Insert the rows; those whose `ignore` key is there already are left as they stand."""
    if rows:
        _run(connection, table, rows, f"on conflict ({', '.join(ignore)}) do nothing" if ignore else "")


def upsert(
    connection: Connection,
    table: str,
    rows: Rows,
    *,
    key: Sequence[str],
    add: Sequence[str] = (),
    where: str = "",
) -> None:
    """Insert the rows or set their other columns; columns named in `add` are added to what stands."""
    if not rows:
        return
    columns = [name for name in rows[0] if name not in key]
    sets = [f"{c} = {table}.{c} + excluded.{c}" if c in add else f"{c} = excluded.{c}" for c in columns]
    _run(connection, table, rows, f"on conflict ({', '.join(key)}) do update set {', '.join(sets)} {where}")


def update(
    connection: Connection, table: str, rows: Rows, *, key: Sequence[str], add: Sequence[str] = ()
) -> None:
    """Set the columns of rows that are there; columns named in `add` are added to what stands."""
    if rows:
        statement, jsons = _update(table, tuple(rows[0]), tuple(key), tuple(add))
        connection.exec_driver_sql(statement, _columns(rows, jsons))


def delete(connection: Connection, table: str, rows: Rows) -> None:
    """Delete the rows that have exactly these keys."""
    if rows:
        names = tuple(rows[0])
        connection.exec_driver_sql(_delete(table, names), _columns(rows, frozenset()))


def fetch(connection: Connection, statement: TextClause, **parameters: Any) -> Sequence[Row[Any]]:
    """The rows of a statement; lists among the parameters go as binary arrays."""
    lists = frozenset(name for name, value in parameters.items() if isinstance(value, list))
    return connection.exec_driver_sql(_of_driver(statement, lists), parameters).all()


def run(connection: Connection, statement: TextClause, **parameters: Any) -> None:
    """The same for a statement that gives no rows."""
    lists = frozenset(name for name, value in parameters.items() if isinstance(value, list))
    connection.exec_driver_sql(_of_driver(statement, lists), parameters)


@lru_cache(maxsize=256)
def _of_driver(statement: TextClause, lists: frozenset[str]) -> str:
    """The statement as the driver takes it."""
    compiled = str(statement.compile(dialect=psycopg.dialect()))  # type: ignore[no-untyped-call]
    for name in lists:
        compiled = compiled.replace(f"%({name})s", f"%({name})b")
    return compiled


def _run(connection: Connection, table: str, rows: Rows, conflict: str) -> None:
    statement, jsons = _insert(table, tuple(rows[0]), conflict)
    connection.exec_driver_sql(statement, _columns(rows, jsons))


@lru_cache(maxsize=256)
def _insert(table: str, names: tuple[str, ...], conflict: str) -> tuple[str, frozenset[str]]:
    listed = ", ".join(names)
    statement = f"insert into {table} ({listed}) select {listed} from {_unnest(table, names)} {conflict}"
    return statement, _jsons(table, names)


@lru_cache(maxsize=256)
def _update(
    table: str, names: tuple[str, ...], key: tuple[str, ...], add: tuple[str, ...]
) -> tuple[str, frozenset[str]]:
    sets = ", ".join(f"{n} = t.{n} + v.{n}" if n in add else f"{n} = v.{n}" for n in names if n not in key)
    on = " and ".join(f"t.{name} = v.{name}" for name in key)
    statement = f"update {table} t set {sets} from {_unnest(table, names)} where {on}"
    return statement, _jsons(table, names)


@lru_cache(maxsize=256)
def _delete(table: str, names: tuple[str, ...]) -> str:
    on = " and ".join(f"t.{name} = v.{name}" for name in names)
    return f"delete from {table} t using {_unnest(table, names)} where {on}"


def _jsons(table: str, names: Iterable[str]) -> frozenset[str]:
    columns = Base.metadata.tables[table].columns
    return frozenset(name for name in names if isinstance(columns[name].type, JSONB))


def _unnest(table: str, names: Iterable[str]) -> str:
    columns = Base.metadata.tables[table].columns
    dialect = psycopg.dialect()  # type: ignore[no-untyped-call]
    types = {name: columns[name].type.compile(dialect).split(" COLLATE")[0] for name in names}
    arrays = ", ".join(f"cast(%({name})b as {types[name]}[])" for name in names)
    return f"unnest({arrays}) as v({', '.join(names)})"


def _columns(rows: Rows, jsons: frozenset[str]) -> dict[str, list[Any]]:
    return {
        name: [dumps(row[name]) for row in rows] if name in jsons else [row[name] for row in rows]
        for name in rows[0]
    }


def is_of_the_database(error: Exception) -> bool:
    """Trouble that another try may not have: connection lost, deadlock, lock wait, shutdown."""
    return isinstance(error, OperationalError) or (
        isinstance(error, DBAPIError) and error.connection_invalidated
    )
