"""What the commands share by which a merchant acts: a reason, a preview first, a question on a terminal."""

from __future__ import annotations

import sys
from collections.abc import Callable, Iterator, Mapping, Sequence
from contextlib import contextmanager
from dataclasses import dataclass
from functools import wraps
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection, Engine, text

from app.api.fields import REASON, REASON_MAX_CHARACTERS, read_id, read_line
from app.cli.context import data_option, emit, json_option, note, session
from models.errors import NotFound
from tasks.steps import shops

Command = Callable[..., Any]
Decorator = Callable[[Command], Command]
Step = Callable[[Connection, int], Mapping[str, Any]]  # what is done at a shop

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
        ("redemption", "redemptions", "id"),
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


def acts_on(kind: str, *, shop: Decorator = shop_option) -> Decorator:
    """A command that a merchant acts by: the id of what it is done to, `--reason`, `--preview`, `--yes` and where, handed
    over as an `Act`.

    Where nobody can be asked, one of `--preview` and `--yes` has to be said: a script acts because it was told to, never
    because its terminal was missing.
    """
    options: Sequence[Decorator] = (
        click.argument("id", type=Id(kind), metavar=kind.upper()),
        click.option("--reason", type=Reason(), help=f"{REASON}."),
        click.option("--preview", is_flag=True, help="Only say what it would do."),
        click.option("--yes", is_flag=True, help="Do not ask first; in scripts."),
        shop,
        data_option,
        json_option,
    )

    def decorated(command: Command) -> Command:
        @wraps(command)
        def told(*, id: int, domain: str | None, reason: str | None, **more: Any) -> Any:
            how = {field: more.pop(field) for field in ("preview", "yes", "data", "as_json")}
            if not (how["yes"] or how["preview"] or at_a_terminal()):
                raise click.UsageError(
                    "not at a terminal: say --yes or --preview", click.get_current_context()
                )
            return command(Act(kind=kind, id=id, domain=domain, reason=reason, **how), **more)

        found: Command = told
        for option in reversed(options):
            found = option(found)
        return found

    return decorated


def at_a_terminal() -> bool:
    return sys.stdin is not None and sys.stdin.isatty()


def shop_of(connection: Connection, kind: str, id: int, domain: str | None) -> int:
    """The shop of an order, a refund, a reversal or a redemption. Raises NotFound, UsageError when there are several."""
    wanted = None if domain is None else shops.normal_domain(domain)
    found = connection.execute(OWNERS[kind], {"id": id, "domain": wanted}).all()
    if not found:
        raise NotFound(kind, id)
    if len(found) > 1:
        names = ", ".join(row.domain for row in found)
        raise click.UsageError(f"several stores have the {kind} {id} ({names}); say which with --shop")
    return int(found[0].id)


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """What is to be done to `kind` number `id`, and how: asked about first, only tried (`preview`), or at once (`yes`)."""

    kind: str
    id: int
    domain: str | None
    reason: str | None
    preview: bool
    yes: bool
    data: Path
    as_json: bool

    def do(self, step: Step, in_words: Callable[[Mapping[str, Any]], str]) -> None:
        """Do it and say what it did. Without `yes` its preview is shown first, and whoever sits there is asked (R37)."""
        with session(self.data, existing=True) as here:
            if self.preview:
                with tried(here.engine) as connection:
                    would = {**self._done(connection, step), "preview": True}
                emit(would, as_json=self.as_json, text=f"{NOTHING_DONE}\n\n{in_words(would)}")
                return
            if not self.yes:
                with tried(here.engine) as connection:
                    note(in_words(self._done(connection, step)))
                click.confirm("\ndo this?", abort=True, err=True)
            with here.engine.begin() as connection:
                found = self._done(connection, step)
            emit(found, as_json=self.as_json, text=in_words(found))

    def _done(self, connection: Connection, step: Step) -> Mapping[str, Any]:
        return step(connection, shop_of(connection, self.kind, self.id, self.domain))


@contextmanager
def tried(engine: Engine) -> Iterator[Connection]:
    """A transaction that is rolled back."""
    with engine.connect() as connection, connection.begin() as transaction:
        try:
            yield connection
        finally:
            transaction.rollback()
