"""`unwind shop` and `unwind token`: stores without Shopify's install page, and keys to the JSON API."""

from __future__ import annotations

import json
import re
from collections.abc import Mapping, Sequence
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, TextIO

import click

from app.cli.context import Session, data_option, emit, json_option, session, writing
from app.cli.tables import table
from models.errors import InvalidSetting, NeedsMerchant, NotFound, UnwindError
from models.rules.program import complete
from tasks.gateway.client import Shopify
from tasks.gateway.oauth import Grant
from tasks.gateway.tokens import GivenToken
from tasks.steps import endpoints, identifiers, installations, shops, subscriptions, tokens
from tasks.steps.load import ShopRow
from tasks.steps.vault import Vault

NAME_MAX_CHARACTERS = 100
TOKEN = re.compile(r"[!-~]{10,500}")
TOKEN_OPTION = "--access-token-file"  # noqa: S105 - a name
FOUND_WRONG = 1
ERROR_SHOWN_CHARACTERS = 60


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
@click.option(
    TOKEN_OPTION,
    "token_file",
    type=click.File("r"),
    metavar="FILE|-",
    help="The Admin API access token of a custom app, in a file or on standard input. It is tried, then kept encrypted.",
)
@data_option
@json_option
def add(domain: str, file: Path | None, token_file: TextIO | None, data: Path, as_json: bool) -> None:
    """Register the store DOMAIN (your-store.myshopify.com). Safe to run twice."""
    domain = shops.normal_domain(domain)
    settings = None if file is None else settings_of(file)
    access_token = None if token_file is None else token_of(token_file)
    with session(data, command="unwind shop add") as here:
        grant = None if access_token is None else tried(here, domain, access_token)
        with here.engine.begin() as connection:
            shop_id = shops.add(connection, domain, settings)
            if grant is not None:
                installations.record_grant(connection, here.settings, domain, grant, datetime.now(UTC))
    shown: dict[str, Any] = {"id": shop_id, "domain": domain}
    text = f"{domain} is registered"
    if grant is not None:
        missing = installations.missing_scopes(here.settings.shopify_scopes, grant.scopes)
        shown |= {"connected": True, "scopes": grant.scopes, "scopes_missing": missing}
        text += " and connected" + (f"; scopes missing: {', '.join(missing)}" if missing else "")
    emit(shown, as_json=as_json, text=text)


def token_of(file: TextIO) -> str:
    """The token in a file, without the line's end. Raises InvalidSetting, which does not quote it."""
    try:
        found = file.read(1_000).strip()
    except UnicodeDecodeError:
        found = ""
    if not TOKEN.fullmatch(found):
        raise InvalidSetting(TOKEN_OPTION, "holds no access token: one line such as shpat_... is expected")
    return found


def tried(here: Session, domain: str, access_token: str) -> Grant:
    """The token with the scopes that Shopify says it has. Raises InvalidSetting for one that Shopify does not take."""
    Vault(here.settings.token_keys)  # what could not be kept is not tried
    gateway = Shopify(here.settings, GivenToken(domain, access_token))
    try:
        scopes = subscriptions.granted_scopes(gateway, ShopRow(0, domain, None))
    except NeedsMerchant:
        reason = (
            f"is not taken by {domain}; copy the Admin API access token of the app that is installed there"
        )
        raise InvalidSetting(TOKEN_OPTION, reason) from None
    return Grant(access_token, tuple(scopes))


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
        unreadable = installations.unreadable(connection, here.settings)
        rows = [
            shown_shop(row._mapping, unreadable=row.id in unreadable) for row in shops.listing(connection)
        ]
    columns = ("domain", "state", "shopify", "currency", "pending", "failed")
    lines = [[row[name] for name in columns] for row in ({**row, "shopify": in_words(row)} for row in rows)]
    emit(rows, as_json=as_json, text=table(columns, lines, empty="no store is registered"))


def shown_shop(row: Mapping[Any, Any], *, unreadable: bool) -> dict[str, Any]:
    """A store as it is listed. `reason`: why it is not connected, or what its merchant has to do."""
    reason = row["reason"]
    if not row["has_token"]:
        reason = "uninstalled" if row["installation"] == "uninstalled" else "not_connected"
    elif unreadable:
        reason = "token_unreadable"
    names = ("id", "domain", "state", "currency", "installed_at", "pending", "failed")
    return {
        **{name: row[name] for name in names},
        "connected": bool(row["has_token"]) and not unreadable and reason not in installations.TOKEN_DEAD,
        "reason": reason,
        "refresh_token_expires_at": row["refresh_expires_at"],
        "subscriptions_error": row["subscriptions_error"],
    }


def in_words(row: Mapping[str, Any]) -> str:
    """What stands between the store and Shopify, for people."""
    reason = (row["reason"] or "connected").replace("_", " ")
    if row["reason"] == "token_unreadable":
        return "token unreadable: no key of TOKEN_ENCRYPTION_KEYS decrypts it"
    if row["reason"] not in (None, "not_connected", "uninstalled"):
        reason = f"needs its merchant: {reason}"
    error = row["subscriptions_error"]
    return reason if not error else f"{reason}; webhooks: {error[:ERROR_SHOWN_CHARACTERS]}"


@shop.command("rotate-keys")
@data_option
@json_option
def rotate_keys(data: Path, as_json: bool) -> int | None:
    """Encrypt all stored tokens under the first key of TOKEN_ENCRYPTION_KEYS. Then the others can be removed."""
    with session(data, command="unwind shop rotate-keys", existing=True) as here:
        done, unreadable = resealed(here)
    emit({"encrypted": done, "unreadable": unreadable}, as_json=as_json, text=rotation(done, unreadable))
    return FOUND_WRONG if unreadable else None


def resealed(here: Session) -> tuple[int, list[str]]:
    """How many stores' tokens and secrets are under the first key now, and the stores of whom no key decrypts something."""
    vault = Vault(here.settings.token_keys)
    done, unreadable = 0, []
    with here.engine.connect() as connection:
        stores = [(row.id, row.domain) for row in shops.listing(connection)]
    for shop_id, domain in stores:
        try:
            with here.engine.begin() as connection:
                told = endpoints.reseal(connection, vault, shop_id)
                known = identifiers.reseal(connection, vault, shop_id)
                done += installations.reseal(connection, here.settings, shop_id) or told > 0 or known
        except UnwindError:
            unreadable.append(domain)
    return done, unreadable


def rotation(done: int, unreadable: Sequence[str]) -> str:
    said = f"the tokens of {done} stores are encrypted under the first key"
    if not unreadable:
        return f"{said}; the other keys can be removed"
    return f"{said}; keep the other keys: what is kept of {', '.join(unreadable)} could not be decrypted"


@shop.command()
@click.argument("domain")
@data_option
@json_option
def remove(domain: str, data: Path, as_json: bool) -> None:
    """Stop working for a store. Its books stay, its tokens end."""
    domain = shops.normal_domain(domain)
    with writing(data) as connection:
        found = shops.find(connection, domain)
        if found is None or not shops.remove(connection, domain):
            raise NotFound("shop", domain)
        installations.forget(connection, found.id)
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
