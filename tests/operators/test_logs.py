"""From a webhook's id to the rows of the ledger, by the log; and nobody's name on the way."""

from __future__ import annotations

import json
import re
from typing import Any

from tests.operators.conftest import BROKEN, PLANTED, Watched

EMAIL = re.compile(r"[\w.+-]+@[\w.-]+\.[a-z]{2,}\b")


def lines(watched: Watched) -> list[dict[str, Any]]:
    return [json.loads(line) for line in watched.log.splitlines() if line.startswith("{")]


def test_one_id_leads_from_the_webhook_to_the_ledger(watched: Watched) -> None:
    [sent] = [
        d
        for d in watched.shop.sent
        if d.topic == "refunds/create" and json.loads(d.body)["id"] == watched.refund.id
    ]
    of_it = [line for line in lines(watched) if line.get("webhook_id") == sent.webhook_id]
    kept, worked = (
        next(line for line in of_it if line["event"] == event) for event in ("webhook_kept", "event_worked")
    )
    event = kept["event_id"]
    assert (kept["shop"], kept["topic"], kept["result"]) == (watched.shop.domain, "refunds/create", "stored")
    assert (worked["event_id"], worked["order_id"], worked["refund_id"]) == (
        event,
        watched.order.id,
        watched.refund.id,
    )
    assert (worked["shop"], worked["state"]) == (watched.shop.domain, "done") and worked["task_id"]
    posted = watched.product.database.execute(
        "select amount from entries where cause = %s", (f"inbox:{event}",)
    ).fetchall()
    assert posted == [(-100,)]
    for asked in (sent.webhook_id, str(event), f"inbox:{event}"):
        found = watched.product.told("follow", asked)
        assert (found["event_id"], found["state"], found["webhook_id"]) == (event, "done", sent.webhook_id)
        assert [entry["amount"] for entry in found["entries"]] == [-100]
        assert "= 100 points by place-order taken back" in found["activity"][0]["text"]


def test_a_webhook_that_cannot_be_read_is_followed_to_its_reason(watched: Watched) -> None:
    found = watched.product.told("follow", BROKEN)
    assert (found["state"], found["entries"]) == ("failed", [])
    assert found["outcome"].startswith("unparseable")
    assert watched.product.unwind("follow", BROKEN).out.startswith(f"webhook  {BROKEN}")
    assert watched.product.unwind("follow", "no-such-id").status == 1


def test_no_line_of_the_whole_flow_is_personal_or_secret(watched: Watched) -> None:
    shop = watched.shop
    token = watched.product.shopify.token_for(shop.domain, expiring=False)
    private = (
        *PLANTED,
        watched.customer.email,
        token,
        shop.api.token,
        watched.product.environment["SHOPIFY_API_SECRET"],
    )
    said = watched.log.lower()
    assert len(lines(watched)) > 20 and not EMAIL.search(said)
    assert not [word for word in private if word.lower() in said]
