"""`unwind follow`: from a webhook's id to the rows of the ledger."""

from __future__ import annotations

from collections.abc import Mapping
from pathlib import Path
from typing import Any

import click

from app.cli.context import data_option, emit, json_option, reading
from app.cli.tables import table
from tasks.steps import shops
from tasks.steps.follow import follow as steps_follow

ENTRIES = ("entry", "customer", "kind", "amount", "because of", "booked")
ACTIVITY = ("activity", "what happened")


@click.command()
@click.argument("webhook")
@click.option("--shop", "domain", help="The store, when two have a webhook of this id.")
@data_option
@json_option
def follow(webhook: str, domain: str | None, data: Path, as_json: bool) -> None:
    """What became of WEBHOOK: Shopify's X-Shopify-Webhook-Id, or the event as logs and the ledger name it (5120, inbox:5120)."""
    wanted = None if domain is None else shops.normal_domain(domain)
    with reading(data) as connection:
        found = steps_follow(connection, webhook, domain=wanted)
    emit(found, as_json=as_json, text=as_text(found))


def tries(attempts: int) -> str:
    return "1 try" if attempts == 1 else f"{attempts} tries"


def as_text(found: Mapping[str, Any]) -> str:
    facts = [
        ("webhook", found["webhook_id"]),
        ("event", f"{found['event_id']} ({found['cause']} in the ledger)"),
        ("from", f"{found['topic']} of {found['shop']}, received {found['received_at']}"),
        ("state", f"{found['state']} after {tries(found['attempts'])}, {found['processed_at'] or 'not yet'}"),
        ("outcome", found["outcome"]),
        ("order", found["order_id"]),
    ]
    lines = [f"{name:8} {value}" for name, value in facts if value is not None]
    entries = [
        [e["id"], e["customer_id"], e["kind"], e["amount"], e["because_of"], e["booked_at"]]
        for e in found["entries"]
    ]
    told = [[a["id"], a["text"]] for a in found["activity"]]
    lines += ["", table(ENTRIES, entries, empty="nothing was posted to the ledger because of it")]
    return "\n".join([*lines, "", table(ACTIVITY, told, empty="")] if told else lines)
