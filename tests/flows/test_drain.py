"""The drain: batches share their work, and no event can hold back or roll back another."""

from __future__ import annotations

import json
from pathlib import Path

import pytest
from sqlalchemy import create_engine, text
from sqlalchemy.exc import OperationalError

from models.session import with_driver
from tasks.steps.drain import ATTEMPTS_MAX, drain
from tasks.steps.replay import replay
from tasks.steps.survivors import hold
from tests.flows.conftest import Door

PAYLOADS = Path(__file__).parent.parent / "payloads"
PLAIN = json.loads((PAYLOADS / "orders_create.plain.json").read_text())
PARTIAL = json.loads((PAYLOADS / "refunds_create.partial.json").read_text())


def order(number: int, **changes: object) -> bytes:
    return json.dumps({**PLAIN, "id": 6_000_000 + number, **changes}).encode()


def refund(number: int, **changes: object) -> bytes:
    moved = {"id": 7_000_000 + number, "order_id": 6_000_000 + number}
    money = [{**t, "id": 8_000_000 + number, "order_id": moved["order_id"]} for t in PARTIAL["transactions"]]
    return json.dumps({**PARTIAL, **moved, "transactions": money, **changes}).encode()


def states(door: Door) -> list[tuple[str, str | None]]:
    return [(row[1], row[2]) for row in door.inbox()]


def spoil(door: Door, order_id: int) -> None:
    """Make one order's record such that working on it fails inside the books, as a bug would."""
    with door.engine.begin() as connection:
        connection.execute(
            text("update orders set facts = facts - 'placed' where shop_id = :shop and order_id = :id"),
            {"shop": door.shop.id, "id": order_id},
        )


def test_many_events_are_booked_in_one_batch(door: Door) -> None:
    for number in range(20):
        door.send("orders/paid", order(number))
        door.send("refunds/create", refund(number))
    drained = drain(door.engine, door.shop.domain)
    assert (drained.done, drained.failed, drained.left) == (40, 0, 0)
    assert door.order(6_000_007)["awards"][0]["reversed"] == 27


def test_a_poisoned_event_is_set_aside_and_the_others_are_booked(door: Door) -> None:
    for number in range(8):
        door.send("orders/paid", order(number))
    door.work()
    spoil(door, 6_000_003)
    for number in range(8):
        door.send("refunds/create", refund(number))
    drained = drain(door.engine, door.shop.domain)
    assert (drained.done, drained.later) == (7, 1)
    assert door.order(6_000_004)["awards"][0]["reversed"] == 27
    assert "KeyError" in [row[3] for row in door.inbox() if row[1] == "pending"]


def test_an_event_that_fails_again_and_again_is_parked_after_the_limit(door: Door) -> None:
    door.send("orders/paid", order(1))
    door.work()
    spoil(door, 6_000_001)
    door.send("refunds/create", refund(1))
    for _ in range(ATTEMPTS_MAX):
        with door.engine.begin() as connection:
            connection.execute(text("update inbox set not_before = now() where state = 'pending'"))
        drain(door.engine, door.shop.domain)
    assert states(door) == [("done", None), ("failed", "internal")]


def test_an_event_whose_every_try_kills_the_worker_is_tried_alone_then_parked(door: Door) -> None:
    for number in range(3):
        door.send("orders/paid", order(number))
    with door.engine.begin() as connection:
        connection.execute(
            text(
                "update inbox set attempts = :tried where id = (select max(id) from inbox where shop_domain = :shop)"
            ),
            {"tried": ATTEMPTS_MAX, "shop": door.shop.domain},
        )
    first, second = drain(door.engine, door.shop.domain), drain(door.engine, door.shop.domain)
    assert (first.done, second.failed) == (2, 1)
    assert states(door)[-1] == ("failed", "attempts_exhausted")


def test_a_merge_that_waits_in_vain_for_the_books_keeps_no_other_act_waiting(
    door: Door, database_url: str
) -> None:
    gids = {
        f"admin_graphql_api_customer_{which}_id": f"{number}"
        for which, number in (("kept", 5), ("deleted", 6))
    }
    door.send("customers/merge", json.dumps({**gids, "status": "completed"}).encode())
    asked = {"shop_domain": door.shop.domain, "data_request": {"id": 9}, "customer": {"id": 5}}
    door.send("customers/data_request", json.dumps(asked).encode())
    impatient = create_engine(
        with_driver(database_url), connect_args={"options": "-c lock_timeout=100ms -c timezone=UTC"}
    )
    with door.engine.begin() as connection:
        hold(connection, door.shop.id)
        with pytest.raises(OperationalError, match="lock timeout"):
            drain(impatient, door.shop.domain)
    impatient.dispose()
    assert states(door) == [("pending", None), ("done", None)]
    door.work()
    assert states(door) == [("done", None)] * 2


def test_what_is_signed_but_cannot_be_understood_is_kept_with_its_reason(door: Door) -> None:
    door.send("orders/paid", order(1, total_price="many", total_price_set=None))
    door.send("orders/paid", b"not json")
    door.send("cats/create", b"{}")
    door.send("returns/approve", b"{}")
    door.work()
    assert states(door) == [
        ("failed", "unparseable"),
        ("failed", "unparseable"),
        ("failed", "unknown_topic"),
        ("done", None),
    ]
    assert "total_price" in door.inbox()[0][3]


def test_a_body_replayed_under_another_shop_never_touches_the_first(door: Door) -> None:
    door.send("orders/paid", order(1))
    door.work()
    before = door.order(6_000_001)
    own, door.shop = door.shop, door.shop._replace(domain="another-store.myshopify.com")
    assert door.send("refunds/create", refund(1)) == 200
    door.work()
    assert states(door) == [("failed", "unknown_shop")]
    door.shop = own
    door.work()
    assert door.order(6_000_001) == before


def test_one_transaction_id_on_two_orders_is_two_transactions(door: Door) -> None:
    door.send("orders/paid", order(1))
    door.send("orders/paid", order(2))
    for number in (1, 2):
        money = [{**t, "id": 99, "order_id": 6_000_000 + number} for t in PARTIAL["transactions"]]
        door.send("refunds/create", refund(number, transactions=money))
    door.work()
    assert [door.order(6_000_000 + n)["awards"][0]["reversed"] for n in (1, 2)] == [27, 27]
    assert replay(door.engine, door.shop.domain).changed == 0


def test_a_refund_id_told_of_two_orders_is_kept_for_the_first_and_parked_for_the_second(door: Door) -> None:
    door.send("orders/paid", order(1))
    door.send("orders/paid", order(2))
    door.send("refunds/create", refund(1))
    door.send("refunds/create", refund(2, id=7_000_001))
    door.work()
    assert states(door)[2:] == [("done", None), ("failed", "refund_of_another_order")]
    assert [door.order(6_000_000 + n)["awards"][0]["reversed"] for n in (1, 2)] == [27, 0]
