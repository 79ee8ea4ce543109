"""Every recorded REST order and refund at hand goes through receiver and engine; each is one line of a report.

Recordings stand in `../shared/fixtures` beside the checkout where there are any; without them, our own payloads do.
"""

from __future__ import annotations

import json
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import text

from models.rules.facts import Refund, Transaction
from models.rules.refunds import identity_of
from tasks.steps.parse import parse
from tasks.steps.trace import as_text, trace
from tasks.steps.verify import verify
from tests.flows.conftest import Door

REPOSITORY = Path(__file__).parents[2]
RECORDED = REPOSITORY.parent / "shared" / "fixtures"
OWN = REPOSITORY / "tests" / "payloads"

# Documentation samples made of parts that do not belong together: lines and money differ, and the money wins (S2).
INCONSISTENT = {509562969, 929361462, 929361464, 929361465, 929361466, 929361467, 929361472}


def bodies(folder: Path) -> Iterator[tuple[str, str, dict[str, Any]]]:
    """(where it was found, topic, payload) of each order and refund, wrapped or not."""
    for path in sorted(folder.rglob("*.json")):
        if "schemas" in path.parts or "types_only" in str(path) or "graphql" in str(path):
            continue
        for payload in _unwrapped(json.loads(path.read_text())):
            name = str(path.relative_to(folder))
            if "refund_line_items" in payload and payload.get("id"):
                yield name, "refunds/create", payload
            elif "line_items" in payload and "total_price" in payload and payload.get("id"):
                yield name, "orders/updated", payload


def _unwrapped(found: Any) -> Iterator[dict[str, Any]]:
    if isinstance(found, list):
        for each in found:
            yield from _unwrapped(each)
    elif isinstance(found, dict):
        inner = [found[key] for key in ("order", "orders", "refund", "refunds", "response") if key in found]
        if inner and "line_items" not in found:
            yield from _unwrapped(inner)
        else:
            yield found


FOLDER = RECORDED if RECORDED.is_dir() else OWN
FOUND = list(bodies(FOLDER))


def test_there_are_recordings_of_both_kinds() -> None:
    topics = [topic for _, topic, _ in FOUND]
    assert topics.count("refunds/create") >= 10
    assert topics.count("orders/updated") >= 8


def test_every_recording_passes_through_receiver_and_engine(
    door: Door, capsys: pytest.CaptureFixture[str]
) -> None:
    for name, topic, payload in FOUND:
        assert door.send(topic, json.dumps(payload).encode()) == 200, name
    door.work()
    rows = door.inbox()
    assert len(rows) == len(FOUND)
    lines = [_line(door, name, payload, row) for (name, _, payload), row in zip(FOUND, rows, strict=True)]
    with capsys.disabled():
        print("\n" + "\n".join(lines))
    assert {row[1] for row in rows} <= {"done", "failed"}
    assert {row[2] for row in rows if row[1] == "failed"} <= {"unparseable"}, (
        "parked with a reason, never an exception"
    )
    assert sum(row[1] == "failed" for row in rows) * 10 <= len(rows), "almost every recording is understood"
    with door.engine.begin() as connection:
        assert verify(connection, door.shop.id) == []


def _line(door: Door, name: str, payload: dict[str, Any], row: tuple[Any, ...]) -> str:
    topic, state, code, error, order_id = row
    if state != "done":
        return f"{name}: {topic} {payload['id']} {code}: {error}"
    with door.engine.begin() as connection:
        shown = trace(connection, door.shop.id, order_id)
        as_text(shown)
        value = connection.execute(
            text("select value_minor from refunds where shop_id = :shop and refund_id = :id"),
            {"shop": door.shop.id, "id": payload["id"]},
        ).scalar()
    own = [
        d for d in shown["decisions"] if topic != "refunds/create" or d["cause"] == f"refund:{payload['id']}"
    ]
    claims = [f"{claim['award']} {claim['amount']}" for d in own for claim in d["claims"]]
    reasons = sorted({r["code"] for d in own for r in d["reasons"]} | {f["code"] for f in shown["flags"]})
    return (
        f"{name}: {topic} {payload['id']} {shown['status']} value {value} claims {claims} reasons {reasons}"
    )


def test_the_money_identity_holds_in_every_refund_with_settled_money() -> None:
    """S2: lines + shipping - signed adjustments = the successful transactions, to one unit of the currency."""
    checked = 0
    for name, topic, payload in FOUND:
        if topic != "refunds/create" or payload["id"] in INCONSISTENT or "samples" in name:
            continue
        facts = parse(topic, json.dumps(payload).encode(), shop_currency="USD")
        refund = next(fact for fact in facts if isinstance(fact, Refund))
        money = [f for f in facts if isinstance(f, Transaction) and f.kind == "refund"]
        subtotals = payload["refund_line_items"] and all(
            "subtotal" not in x for x in payload["refund_line_items"]
        )
        if not money or any(t.status != "success" for t in money) or subtotals:
            continue
        settled = sum(
            t.shop_amount_minor if t.shop_amount_minor is not None else t.amount_minor for t in money
        )
        if FOLDER == OWN and payload["id"] in OWN_DIFFERENT:
            continue
        assert abs(identity_of(refund) - settled) <= 1, name
        checked += 1
    assert checked >= 2


# Our own shapes where the money is meant to differ from the lines: presentment money, and a line with subtotal 0.
OWN_DIFFERENT = {
    json.loads((OWN / f"refunds_create.{name}.json").read_text())["id"]
    for name in ("presentment", "zero_subtotal")
}
