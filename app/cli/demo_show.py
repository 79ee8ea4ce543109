"""How `unwind demo` looks: bars and tables on a terminal, plain lines elsewhere, JSON for programs."""

from __future__ import annotations

import shutil
import sys
from abc import ABC, abstractmethod
from dataclasses import asdict
from types import TracebackType
from typing import Any, Self

import click
from rich.console import Console
from rich.markup import escape
from rich.progress import BarColumn, MofNCompleteColumn, Progress, TaskID, TextColumn, TimeElapsedColumn
from rich.table import Table

from app.cli.context import emit, note
from app.cli.demo_checks import Effect, Outcome
from app.cli.demo_story import Story


def show_for(*, as_json: bool) -> Show:
    if as_json:
        return JsonShow()
    console = Console()
    return TerminalShow(console) if console.is_terminal else PlainShow()


def fraction_of(effect: Effect) -> str:
    return f"{effect.amount} of {effect.total} = {effect.ratio}"


def verdict(outcome: Outcome) -> str:
    held = sum(check.held for check in outcome.checks)
    return f"{held} of {len(outcome.checks)} checks held, after {outcome.seconds:.0f} s"


class Show(ABC):
    """What the story and its outcome are shown on. Everything is called from one thread at a time."""

    def __enter__(self) -> Self:
        return self

    def __exit__(
        self, kind: type[BaseException] | None, error: BaseException | None, trace: TracebackType | None
    ) -> None:
        self.close()

    @abstractmethod
    def close(self) -> None: ...

    @abstractmethod
    def say(self, line: str) -> None: ...

    @abstractmethod
    def scene(self, name: str, steps: int) -> None:
        """The next part begins; it has so many steps."""

    @abstractmethod
    def done(self, steps: int) -> None:
        """So many more steps of this part are done."""

    @abstractmethod
    def outcome(self, outcome: Outcome) -> None: ...

    def stays_up(self, story: Story) -> None:
        program = "unwind" if shutil.which("unwind") else sys.argv[0]
        again = f"{program} admin link {story.domain} --data {story.logs} --address {story.url}"
        for line in (
            "",
            f"admin page:    {story.login()}",
            f"               (it logs in once; again: {again})",
            f"pretend store: {story.store_url}/",
            f"receiver:      {story.url}/webhooks",
            f"JSON API:      {story.url}/api/v1   Authorization: Bearer {story.token}",
            f"shop:          {story.domain}",
            "running; Ctrl-C ends it",
        ):
            self.say(line)


class PlainShow(Show):
    """Lines, for logs and pipes."""

    def close(self) -> None:
        """Nothing is held."""

    def say(self, line: str) -> None:
        click.echo(line)

    def scene(self, name: str, steps: int) -> None:
        self.say(f"{name}: {steps}")

    def done(self, steps: int) -> None:
        """A log needs no bar."""

    def outcome(self, outcome: Outcome) -> None:
        for effect in outcome.effects:
            self.say(
                f"{effect.order} refund {effect.refund_id} ({effect.scenario}): {fraction_of(effect)},"
                f" reversed {effect.reversed}, returned {effect.returned}: {effect.result}"
            )
        for check in outcome.checks:
            self.say(f"{'ok    ' if check.held else 'BROKEN'} {check.name}: {check.detail}")
        self.say(verdict(outcome))


class JsonShow(Show):
    """The outcome as one JSON document on the output; notes for people beside it."""

    def close(self) -> None:
        """Nothing is held."""

    def say(self, line: str) -> None:
        note(line)

    def scene(self, name: str, steps: int) -> None:
        note(f"{name}: {steps}")

    def done(self, steps: int) -> None:
        """A program needs no bar."""

    def outcome(self, outcome: Outcome) -> None:
        emit(as_document(outcome), as_json=True, text="")


def as_document(outcome: Outcome) -> dict[str, Any]:
    return {
        "shop": outcome.story.domain,
        "held": outcome.held,
        "seconds": round(outcome.seconds, 1),
        "refunds": [asdict(effect) for effect in outcome.effects],
        "checks": [asdict(check) for check in outcome.checks],
    }


class TerminalShow(Show):
    """A bar while it runs, then two tables."""

    def __init__(self, console: Console) -> None:
        self._console = console
        self._progress = Progress(
            TextColumn("{task.description}"),
            BarColumn(),
            MofNCompleteColumn(),
            TimeElapsedColumn(),
            console=console,
        )
        self._task: TaskID | None = None

    def __enter__(self) -> Self:
        self._progress.start()
        return self

    def close(self) -> None:
        self._progress.stop()

    def say(self, line: str) -> None:
        self._console.print(line, markup=False, highlight=False, soft_wrap=True)

    def scene(self, name: str, steps: int) -> None:
        self._task = self._progress.add_task(name, total=steps)

    def done(self, steps: int) -> None:
        if self._task is not None:
            self._progress.advance(self._task, steps)

    def outcome(self, outcome: Outcome) -> None:
        self._progress.stop()
        self._console.print(effects_table(outcome.effects))
        self._console.print(checks_table(outcome))
        style = "bold green" if outcome.held else "bold red"
        self._console.print(verdict(outcome), style=style)


def effects_table(effects: list[Effect]) -> Table:
    table = Table(title="What each refund did")
    for name in ("Order", "What happened", "Money back"):
        table.add_column(name)
    for name in ("Reversed", "Returned"):
        table.add_column(name, justify="right")
    table.add_column("Result")
    for effect in effects:
        points = (str(effect.reversed), str(effect.returned))
        table.add_row(effect.order, effect.scenario, fraction_of(effect), *points, effect.result)
    return table


def checks_table(outcome: Outcome) -> Table:
    table = Table(title="What was checked")
    for name in ("", "Check", "Detail"):
        table.add_column(name)
    for check in outcome.checks:
        table.add_row(
            "[green]ok[/]" if check.held else "[bold red]BROKEN[/]", check.name, escape(check.detail)
        )
    return table
