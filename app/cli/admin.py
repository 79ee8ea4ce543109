"""`unwind admin`: the pages, for who runs the server."""

from __future__ import annotations

from datetime import UTC, datetime
from pathlib import Path

import click

from app.admin.login import PATH
from app.cli.context import data_option, emit, json_option, session
from app.cli.up import reachable_host
from models.settings import Settings
from tasks.steps import admin_logins, shops


@click.group()
def admin() -> None:
    """The pages in a browser, without Shopify's admin around them."""


@admin.command()
@click.argument("domain")
@click.option(
    "--address",
    metavar="URL",
    help="Where browsers reach this server.  [default: SHOPIFY_APP_URL, or HOST and PORT]",
)
@data_option
@json_option
def link(domain: str, address: str | None, data: Path, as_json: bool) -> None:
    """Print an address that logs a browser in to DOMAIN's pages: once, within 15 minutes, for 12 hours.

    Whoever opens it may see and do everything in that store.
    """
    domain = shops.normal_domain(domain)
    with session(data, command="unwind admin link", existing=True) as here, here.engine.begin() as connection:
        secret = admin_logins.make_link(connection, domain, datetime.now(UTC))
    found = f"{(address or base(here.settings)).rstrip('/')}{PATH}?token={secret}"
    shown = {"domain": domain, "address": found, "minutes": admin_logins.LINK_SECONDS // 60}
    emit(shown, as_json=as_json, text=found)


@admin.command()
@click.argument("domain")
@data_option
@json_option
def logout(domain: str, data: Path, as_json: bool) -> None:
    """End every login to DOMAIN's pages, and every link that was not opened yet. Sessions of Shopify's admin stand."""
    domain = shops.normal_domain(domain)
    with (
        session(data, command="unwind admin logout", existing=True) as here,
        here.engine.begin() as connection,
    ):
        admin_logins.end_all(connection, shops.get(connection, domain).id)
    text = f"{domain}: nobody is logged in by a link any more, and no link that was printed before logs in"
    emit({"domain": domain}, as_json=as_json, text=text)


def base(settings: Settings) -> str:
    """Where this server is reached: its public address, or else its own."""
    return settings.shopify_app_url or f"http://{reachable_host(settings.host)}:{settings.port}"
