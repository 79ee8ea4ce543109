"""The payloads in docs/webhooks.md are what a shop is told, to the letter; and the document names what there is."""

from __future__ import annotations

import json
import re
from collections.abc import Iterator
from dataclasses import replace
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.gateway import outgoing
from tasks.steps import deliveries, endpoints, messages
from tasks.steps.endings import code_is_back, end_whole
from tasks.steps.retention import MESSAGE_DAYS
from tasks.steps.shops import by_id
from tasks.steps.wallets import grant, redeem
from tests.conftest import RegisteredShop
from tests.flows.listening import Listener, Telling, listening
from tests.rules.build import day, line, order, refund, returned

DOCUMENT = Path(__file__).parents[2] / "docs/webhooks.md"
CUSTOMER = 6_940_095_564
REWARD = {"id": "5-off", "cost": 500, "kind": "amount_discount", "value": "5.00", "reactivate_code": True}
TIERS = {"levels": [{"id": "gold", "name": "Gold", "threshold": "50.00"}]}
OF = {"customer_id": CUSTOMER, "currency": "EUR"}


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def told(engine: Engine, shop: RegisteredShop, listener: Listener) -> dict[str, dict[str, Any]]:
    """One body of each event, as the listener heard it; ids that differ from run to run are the document's."""
    telling = Telling(engine, shop, tiers=TIERS, reward=REWARD)
    telling.listen(listener)
    partial, whole, never = spent(telling)
    bought = order(
        None, line(1, 6_000, units=2, codes={"save": 500}), order_id=450_789_469, name="#1001", **OF
    )
    telling.tell(bought, now=day(1, seconds=4))
    back = refund(
        929_361_462, 6_000, returned(1, 6_000, units=2), at=day(3), order_id=450_789_469, currency="EUR"
    )
    first = (replace(back[0], lines=(replace(back[0].lines[0], quantity=1, subtotal_minor=3_000),)),)
    telling.tell(*first, replace(back[1], amount_minor=3_000))
    unpaid = order(2_500, order_id=450_789_470, name="#1002", financial_status="pending", **OF)
    telling.tell(unpaid)
    telling.tell(replace(unpaid, cancelled_at=day(4), updated_at=day(4)))
    again = order(None, line(9, 4_000, codes={"again": 500}), order_id=450_789_471, name="#1003", **OF)
    telling.tell(again)
    telling.tell(
        refund(929_361_463, 4_000, returned(9, 4_000), at=day(5), order_id=450_789_471, currency="EUR")
    )
    with engine.begin() as connection:
        known = by_id(connection, telling.id)
        code_is_back(connection, known, whole, 450_789_471, ends_at=day(60), now=day(5, seconds=9))
        end_whole(connection, known, never, kind="auto_refunded", now=day(8))
    telling.deliver()
    names = {str(partial): "17", str(whole): "18", str(never): "19"}
    names |= {f"auto_refunded:{never}": "auto_refunded:19", f"redemption:{whole}": "redemption:18"}
    rows = telling.rows("select id, key from messages where shop_id = :shop")
    number = {deliveries.message_name(row.key): row.id for row in rows}
    bodies = {each.event: each.body for each in sorted(listener.heard, key=lambda h: -number[h.id])}
    return {
        event: named(body, {**names, telling.domain: "your-store.myshopify.com", "inbox:1": "inbox:5120"})
        for event, body in bodies.items()
    }


def spent(telling: Telling) -> list[int]:
    """Three redemptions of 500 points: two are used on orders, one never is."""
    with telling.engine.begin() as connection:
        grant(connection, telling.id, CUSTOMER, amount=1_500, reason="welcome", now=day(0))
        return [
            redeem(connection, telling.id, CUSTOMER, reward="5-off", code=code, now=day(0, seconds=n + 1))
            for n, code in enumerate(("SAVE", "AGAIN", "NEVER"))
        ]


def named(value: Any, names: dict[str, str]) -> Any:
    if isinstance(value, dict):
        return {name: named(part, names) for name, part in value.items()}
    if isinstance(value, list):
        return [named(part, names) for part in value]
    return names.get(value, value) if isinstance(value, str) else value


def documented() -> dict[str, dict[str, Any]]:
    """Event -> the body under its heading."""
    text = DOCUMENT.read_text()
    found = re.findall(r"^### `([a-z_.]+)`.*?^```json\n(.*?)^```", text, re.M | re.S)
    return {event: json.loads(body) for event, body in found}


@pytest.mark.parametrize("event", messages.EVENTS)
def test_the_payload_in_the_document_is_the_payload(event: str, told: dict[str, dict[str, Any]]) -> None:
    """R30, R36: each event of the contract."""
    assert documented()[event] == told[event]


def test_the_document_says_the_waits_and_the_limits() -> None:
    text = DOCUMENT.read_text()
    assert in_words(deliveries.WAITS) in re.sub(r"\s+", " ", text)
    for number, unit in (
        (len(deliveries.WAITS) + 1, "tries"),
        (endpoints.ENDPOINTS_MAX, "endpoints"),
        (MESSAGE_DAYS, "days"),
        (int(outgoing.WHOLE_SECONDS), "seconds"),
        (int(outgoing.CONNECT_SECONDS), "seconds"),
        (deliveries.FAILING_SECONDS // deliveries.DAY, "days"),
        (deliveries.RETRY_AFTER_SECONDS_MAX // deliveries.HOUR, "hours"),
        (deliveries.REST_SECONDS_MAX // deliveries.MINUTE, "minutes"),
        (f"{endpoints.CHANGED_AT_ONCE:,}", "of them"),
    ):
        assert f"{number} {unit}" in text, (number, unit)


def in_words(waits: tuple[int, ...]) -> str:
    """5 s, 30 s, 2 min, ..., 12 h"""
    units = ((3600, "h"), (60, "min"), (1, "s"))
    said = [next(f"{wait // size} {unit}" for size, unit in units if wait >= size) for wait in waits]
    return ", ".join(said)
