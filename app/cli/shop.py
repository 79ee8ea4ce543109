"""`unwind shop` and `unwind token`: stores without Shopify's install page, and keys to the JSON API."""

from __future__ import annotations

import json
from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from app.cli.context import data_option, emit, json_option, session
from app.cli.tables import table
from models.errors import InvalidSetting, NotFound
from models.rules.program import complete
from tasks.steps import shops, tokens

NAME_MAX_CHARACTERS = 100


@click.group()
def shop() -> None:
    """Add, list and remove stores without Shopify's install page."""


@shop.command()
@click.argument("domain")
@click.option(
    "--settings",
    "file",
    type=click.Path(exists=True, dir_okay=False, path_type=Path),
    metavar="FILE.json",
    help="The store's program, as PUT /program takes it.",
)
@data_option
@json_option
def add(domain: str, file: Path | None, data: Path, as_json: bool) -> None:
    """Register the store DOMAIN (your-store.myshopify.com). Safe to run twice."""
    domain = shops.normal_domain(domain)
    settings = None if file is None else settings_of(file)
    with session(data, command="unwind shop add") as here, here.engine.begin() as connection:
        shop_id = shops.add(connection, domain, settings)
    emit({"id": shop_id, "domain": domain}, as_json=as_json, text=f"{domain} is registered")


def settings_of(file: Path) -> Mapping[str, Any]:
    """A program's settings from a file, checked. Raises InvalidSetting."""
    try:
        settings = json.loads(file.read_bytes())
    except (ValueError, RecursionError):
        raise InvalidSetting(str(file), "is not JSON") from None
    complete(settings)
    assert isinstance(settings, dict)  # or it would have been refused
    return settings


@shop.command("list")
@data_option
@json_option
def list_(data: Path, as_json: bool) -> None:
    """All stores, with what waits and what failed."""
    with (
        session(data, command="unwind shop list", existing=True) as here,
        here.engine.connect() as connection,
    ):
        rows = [dict(row._mapping) for row in shops.listing(connection)]
    columns = ("domain", "state", "currency", "pending", "failed")
    text = table(columns, [[row[name] for name in columns] for row in rows], empty="no store is registered")
    emit(rows, as_json=as_json, text=text)


@shop.command()
@click.argument("domain")
@data_option
@json_option
def remove(domain: str, data: Path, as_json: bool) -> None:
    """Stop working for a store. Its books stay, its tokens end."""
    domain = shops.normal_domain(domain)
    with (
        session(data, command="unwind shop remove", existing=True) as here,
        here.engine.begin() as connection,
    ):
        if not shops.remove(connection, domain):
            raise NotFound("shop", domain)
    emit({"domain": domain, "state": "removed"}, as_json=as_json, text=f"{domain} is removed; its books stay")


@click.group()
def token() -> None:
    """Create a token for the JSON API."""


@token.command()
@click.argument("domain")
@click.option("--name", default="", help="What it is for, for people.")
@data_option
@json_option
def create(domain: str, name: str, data: Path, as_json: bool) -> None:
    """Print a new API token of the store DOMAIN, this once: only its hash is kept."""
    domain = shops.normal_domain(domain)
    if len(name) > NAME_MAX_CHARACTERS or not (name == "" or name.isprintable()):
        raise click.BadParameter(f"at most {NAME_MAX_CHARACTERS} printable characters", param_hint="--name")
    with session(data, command="unwind token create") as here, here.engine.begin() as connection:
        made = tokens.create(connection, domain, name=name)
    shown = {"id": made.id, "domain": made.domain, "name": made.name, "token": made.text}
    emit(shown, as_json=as_json, text=made.text)
