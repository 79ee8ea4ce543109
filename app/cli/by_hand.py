"""What the commands share by which a merchant acts: a reason, a preview first, a question on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping
from contextlib import contextmanager
from functools import wraps
from typing import Any, TypeVar, cast

import click
from sqlalchemy import Connection, Engine, text

from app.api.fields import REASON, REASON_MAX_CHARACTERS, read_id, read_line
from app.cli.context import emit, note
from models.errors import NotFound
from tasks.steps import shops

Command = TypeVar("Command", bound=Callable[..., Any])
Act = Callable[[Connection], Mapping[str, Any]]

BY = "cli"  # who it was, for the record
NOTHING_DONE = "this would happen; nothing was done"

OWNERS = {
    kind: text(
        "select s.id, s.domain from shops s where s.state = 'installed'"
        " and (cast(:domain as text) is null or s.domain = :domain)"
        f" and exists (select from {table} t where t.shop_id = s.id and t.{column} = :id) order by s.domain"
    )
    for kind, table, column in (
        ("order", "orders", "order_id"),
        ("refund", "refunds", "refund_id"),
        ("reversal", "reversals", "id"),
    )
}


class Id(click.ParamType[int]):
    """An id, as the API takes it."""

    def __init__(self, name: str) -> None:
        self.name = name

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> int:
        try:
            return read_id(value)
        except ValueError:
            self.fail(
                f"{value!r} is not the id of {'an' if self.name[0] in 'aeo' else 'a'} {self.name}", param, ctx
            )


class Reason(click.ParamType[str]):
    """A line for people, as the API takes it."""

    name = "text"

    def convert(self, value: object, param: click.Parameter | None, ctx: click.Context | None) -> str:
        try:
            said = read_line(value)
        except ValueError as error:
            self.fail(str(error), param, ctx)
        if len(said) > REASON_MAX_CHARACTERS:
            self.fail(f"has more than {REASON_MAX_CHARACTERS} characters", param, ctx)
        return said


shop_option = click.option(
    "--shop", "domain", metavar="DOMAIN", help="The store; needed when two stores have this id."
)


def act_options(command: Command) -> Command:
    """`--reason`, `--preview`, `--yes`: of every command that a merchant acts by.

    Where nobody can be asked, one of the last two has to be said: a script acts because it was told to, never because
    its terminal was missing.
    """

    @wraps(command)
    def told(*arguments: Any, yes: bool, preview: bool, **more: Any) -> Any:
        if not (yes or preview or at_a_terminal()):
            raise click.UsageError("not at a terminal: say --yes or --preview", click.get_current_context())
        return command(*arguments, yes=yes, preview=preview, **more)

    found = cast(Command, told)
    for option in (
        click.option("--yes", is_flag=True, help="Do not ask first; in scripts."),
        click.option("--preview", is_flag=True, help="Only say what it would do."),
        click.option("--reason", type=Reason(), help=f"{REASON}."),
    ):
        found = option(found)
    return found


def at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def shop_of(connection: Connection, kind: str, id: int, domain: str | None) -> int:
    """The shop of an order, a refund or a reversal. Raises NotFound, UsageError when there are several."""
    wanted = None if domain is None else shops.normal_domain(domain)
    found = connection.execute(OWNERS[kind], {"id": id, "domain": wanted}).all()
    if not found:
        raise NotFound(kind, id)
    if len(found) > 1:
        names = ", ".join(row.domain for row in found)
        raise click.UsageError(f"several stores have the {kind} {id} ({names}); say which with --shop")
    return int(found[0].id)


def acted(
    engine: Engine,
    act: Act,
    in_words: Callable[[Mapping[str, Any]], str],
    *,
    preview: bool,
    yes: bool,
    as_json: bool,
) -> None:
    """Do it and say what it did. Without `yes` its preview is shown first, and whoever sits there is asked (R37)."""
    if preview:
        with tried(engine) as connection:
            would = {**act(connection), "preview": True}
        emit(would, as_json=as_json, text=f"{NOTHING_DONE}\n\n{in_words(would)}")
        return
    if not yes:
        with tried(engine) as connection:
            note(in_words(act(connection)))
        click.confirm("\ndo this?", abort=True, err=True)
    with engine.begin() as connection:
        found = act(connection)
    emit(found, as_json=as_json, text=in_words(found))


@contextmanager
def tried(engine: Engine) -> Iterator[Connection]:
    """A transaction that is rolled back."""
    with engine.connect() as connection, connection.begin() as transaction:
        try:
            yield connection
        finally:
            transaction.rollback()
