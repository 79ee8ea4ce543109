"""`unwind settings`: every setting, what it is, and what it is now."""

from __future__ import annotations

from dataclasses import asdict
from pathlib import Path

import click

from app.cli.context import ENV_FILE, data_option, emit, json_option
from models.settings import Described, described, env_example, load_settings


@click.command()
@click.option("--example", is_flag=True, help="Print an environment file with every setting at its default.")
@data_option
@json_option
def settings(example: bool, data: Path, as_json: bool) -> None:
    """Every setting, with its value and a help line. Secrets are not shown."""
    del data  # settings come from the environment; the option is there because every command has it
    if example:
        click.echo(env_example(), nl=False)
        return
    rows = list(described(load_settings(ENV_FILE)))
    emit([asdict(row) for row in rows], as_json=as_json, text="\n\n".join(paragraph(row) for row in rows))


def paragraph(row: Described) -> str:
    choices = f" ({', '.join(row.choices)})" if row.choices else ""
    return f"{row.name}={row.value}\n    {row.help}{choices}"
