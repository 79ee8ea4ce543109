"""`unwind db upgrade`: the schema, brought up to date."""

from __future__ import annotations

from pathlib import Path

import click

from app.cli.context import data_option, emit, json_option, session
from models.session import upgrade as upgrade_schema


@click.group()
def db() -> None:
    """The database's schema."""


@db.command()
@data_option
@json_option
def upgrade(data: Path, as_json: bool) -> None:
    """Bring the schema to the newest version. Safe to run twice, and twice at once."""
    with session(data, command="unwind db upgrade", upgraded=False) as here:
        version = upgrade_schema(here.parts.database_url)
    emit({"version": version}, as_json=as_json, text=f"the schema is at version {version}")
