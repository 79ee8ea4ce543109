"""`unwind endpoints`: where a store's own systems are told of what happens, and what became of it."""

from __future__ import annotations

from collections.abc import Callable, Sequence
from pathlib import Path
from typing import Any

import click
from sqlalchemy import Connection

from app.cli import FOUND_WRONG
from app.cli.context import data_option, emit, json_option, limit_option, reading, session, writing
from app.cli.tables import table
from tasks.gateway.outgoing import Outgoing, networks_of
from tasks.steps import deliveries as delivering
from tasks.steps import endpoints as steps
from tasks.steps import shops
from tasks.steps.messages import EVENTS

BY = "cli"
STATES = ("pending", "waiting", "delivered", "failed", "cancelled")


@click.group()
def endpoints() -> None:
    """Webhooks out: a store's endpoints and their deliveries (docs/webhooks.md)."""


def of_an_endpoint(command: Callable[..., Any]) -> Callable[..., Any]:
    """The store DOMAIN, its ENDPOINT, and the options of every command."""
    for option in (
        json_option,
        data_option,
        click.argument("endpoint", type=int),
        click.argument("domain"),
    ):
        command = option(command)
    return command


@endpoints.command("list")
@click.argument("domain")
@data_option
@json_option
def list_(domain: str, data: Path, as_json: bool) -> int | None:
    """The endpoints of the store DOMAIN; status 1 when one was paused because it does not answer."""
    with reading(data) as connection:
        found = steps.listing(connection, shop_id_of(connection, domain))
    columns = ("endpoint", "address", "events", "state", "waiting", "last success")
    emit(
        {"endpoints": found}, as_json=as_json, text=table(columns, map(line_of, found), empty="no endpoints")
    )
    dead = any(each["paused_reason"] in (steps.FAILING, steps.GONE) for each in found)
    return FOUND_WRONG if dead else None


@endpoints.command()
@click.argument("domain")
@click.argument("url")
@click.option(
    "--event",
    "events",
    multiple=True,
    metavar="EVENT",
    help=f"Only this; may be repeated: {', '.join(EVENTS)}.",
)
@click.option("--description", default="", help="For people.")
@data_option
@json_option
def add(domain: str, url: str, events: Sequence[str], description: str, data: Path, as_json: bool) -> None:
    """Tell URL of what happens at the store DOMAIN. Prints the signing secret, once."""
    with session(data, command="unwind endpoints add", existing=True) as here:
        vault = steps.vault_of(here.settings)
        checked = Outgoing(networks_of(here.settings.endpoints_allow_networks)).check(url)
        with here.engine.begin() as connection:
            made = steps.add(
                connection,
                vault,
                shop_id_of(connection, domain),
                url=checked,
                events=events or None,
                description=description,
            )
    text = f"endpoint {made['id']}; its secret, shown only now:\n{made['secret']}"
    emit(made, as_json=as_json, text=text)


@endpoints.command()
@of_an_endpoint
def remove(domain: str, endpoint: int, data: Path, as_json: bool) -> None:
    """Delete an endpoint: its secret is gone, what was to be sent is not sent."""
    with writing(data) as connection:
        steps.remove(connection, shop_id_of(connection, domain), endpoint)
    emit({"id": str(endpoint), "state": "deleted"}, as_json=as_json, text=f"endpoint {endpoint} deleted")


@endpoints.command()
@of_an_endpoint
def pause(domain: str, endpoint: int, data: Path, as_json: bool) -> None:
    """Send nothing to an endpoint until it is enabled; what is told waits."""
    changed(domain, endpoint, data, as_json, state=steps.PAUSED)


@endpoints.command()
@of_an_endpoint
def enable(domain: str, endpoint: int, data: Path, as_json: bool) -> None:
    """Send to an endpoint again, and what waited for it."""
    changed(domain, endpoint, data, as_json, state=steps.ACTIVE)


def changed(domain: str, endpoint: int, data: Path, as_json: bool, *, state: str) -> None:
    with writing(data) as connection:
        shown = steps.change(connection, shop_id_of(connection, domain), endpoint, by=BY, state=state)
    emit(
        shown, as_json=as_json, text=f"endpoint {endpoint} is {shown['state']}, {shown['waiting']} to be sent"
    )


@endpoints.command()
@of_an_endpoint
def rotate(domain: str, endpoint: int, data: Path, as_json: bool) -> None:
    """A new signing secret, printed once; for a day the old one signs as well."""
    with session(data, command="unwind endpoints rotate", existing=True) as here:
        vault = steps.vault_of(here.settings)
        with here.engine.begin() as connection:
            made = steps.rotate(connection, vault, shop_id_of(connection, domain), endpoint)
    text = f"the new secret, shown only now (the old one signs too until {made['old_secret_until']}):\n{made['secret']}"
    emit(made, as_json=as_json, text=text)


@endpoints.command()
@of_an_endpoint
def test(domain: str, endpoint: int, data: Path, as_json: bool) -> None:
    """Send a message that means nothing (`ping`) to an endpoint."""
    with writing(data) as connection:
        shop_id = shop_id_of(connection, domain)
        made = delivering.get(connection, shop_id, steps.ping(connection, shop_id, endpoint))
    text = f"delivery {made['id']} of {made['message_id']}; see `unwind endpoints deliveries {domain} {endpoint}`"
    emit(made, as_json=as_json, text=text)


@endpoints.command()
@click.option("--state", type=click.Choice(STATES), help="Only those.")
@limit_option
@click.option("--cursor", type=int, help="Only deliveries before this one; the last line of a page names it.")
@of_an_endpoint
def deliveries(
    domain: str, endpoint: int, state: str | None, limit: int, cursor: int | None, data: Path, as_json: bool
) -> None:
    """What was sent to an endpoint, newest first."""
    with reading(data) as connection:
        shop_id = shop_id_of(connection, domain)
        page = delivering.listing(connection, shop_id, endpoint, state=state, cursor=cursor, limit=limit)
    columns = ("delivery", "message", "event", "about", "number", "state", "tries", "last answer")
    more = "" if page.cursor is None else f"\nolder ones: --cursor {page.cursor}"
    text = table(columns, map(delivery_line, page.rows), empty="nothing was sent") + more
    emit({"deliveries": list(page.rows), "next_cursor": page.cursor}, as_json=as_json, text=text)


@endpoints.command()
@click.argument("domain")
@click.argument("delivery_ids", type=int, nargs=-1, required=True, metavar="DELIVERY...")
@data_option
@json_option
def resend(domain: str, delivery_ids: tuple[int, ...], data: Path, as_json: bool) -> None:
    """Send messages again, each under its own webhook-id."""
    with writing(data) as connection:
        shop_id = shop_id_of(connection, domain)
        found = [delivering.resend(connection, shop_id, id) for id in delivery_ids]
    emit({"deliveries": found}, as_json=as_json, text=f"{len(found)} to be sent again")


def shop_id_of(connection: Connection, domain: str) -> int:
    return shops.get(connection, shops.normal_domain(domain)).id


def line_of(endpoint: dict[str, Any]) -> list[object]:
    why = endpoint["paused_reason"]
    state = endpoint["state"] if why is None else f"{endpoint['state']}: {why.replace('_', ' ')}"
    if why is None and endpoint["failing_since"]:
        state = f"failing since {endpoint['failing_since']}"
    if why is None and endpoint["resting_until"]:
        state += f", tried again at {endpoint['resting_until']}"
    events = ", ".join(endpoint["events"])
    return [
        endpoint["id"],
        endpoint["url"],
        events,
        state,
        endpoint["waiting"],
        endpoint["last_success_at"] or "never",
    ]


def delivery_line(delivery: dict[str, Any]) -> list[object]:
    tries = delivery["tries"]
    last = (tries[-1]["status"] or tries[-1]["error"]) if tries else ""
    return [
        delivery["id"],
        delivery["message_id"],
        delivery["event"],
        delivery["subject"],
        delivery["sequence"],
        delivery["state"],
        len(tries),
        last,
    ]
