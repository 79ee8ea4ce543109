"""Real webhook shapes through receiver and engine, with results worked out by hand.

The program is the default one: a point for each whole unit of the order's total (R1), rounding down each refund (R2).
Order #2001 is 110.00, so it earns 110.
"""

from __future__ import annotations

from pathlib import Path

import pytest

from tests.flows.conftest import Door

PAYLOADS = Path(__file__).parent.parent / "payloads"
PLAIN = "orders_create.plain"


def body(name: str) -> bytes:
    return (PAYLOADS / f"{name}.json").read_bytes()


def tell(door: Door, *names: str) -> None:
    for name in names:
        topic = "/".join(name.split(".")[0].rsplit("_", 1))
        assert door.send(topic, body(name)) == 200
    door.work()
    assert [row for row in door.inbox() if row[1] != "done"] == []


def summary(shown: dict) -> tuple:
    refunds = [(r["amount"], r["reversed"], r["reasons"]) for r in shown["refunds"]]
    return shown["status"], shown["refunded"], sum(a["amount"] for a in shown["awards"]), refunds


RESULTS = [
    pytest.param([PLAIN, "refunds_create.full"], 5100000000001, ("fully_refunded", "110.00", 110, [("110.00", 110, [])]), id="everything back takes everything (R4)"),
    pytest.param([PLAIN, "refunds_create.partial"], 5100000000001, ("partially_refunded", "27.50", 110, [("27.50", 27, [])]), id="27.50 of 110.00 is a quarter, 27.5 rounds down to 27 (R2)"),
    pytest.param([PLAIN, "refunds_create.amount_only"], 5100000000001, ("partially_refunded", "15.00", 110, [("15.00", 15, [])]), id="an amount counts like lines do (R1)"),
    pytest.param([PLAIN, "refunds_create.shipping_as_adjustment"], 5100000000001, ("partially_refunded", "11.00", 110, [("11.00", 11, [])]), id="shipping in the older shape (S2)"),
    pytest.param([PLAIN, "refunds_create.shipping_as_line"], 5100000000001, ("partially_refunded", "5.50", 110, [("5.50", 5, [])]), id="half the shipping in the newer shape (S2)"),
    pytest.param([PLAIN, "refunds_create.shipping_both_ways"], 5100000000001, ("partially_refunded", "11.00", 110, [("11.00", 11, [])]), id="shipping told twice counts once (S2)"),
    pytest.param([PLAIN, "refunds_create.restocking_fee"], 5100000000001, ("partially_refunded", "39.60", 110, [("39.60", 39, [])]), id="a restocking fee stays with the store (S2)"),
    pytest.param([PLAIN, "refunds_create.pending"], 5100000000001, ("open", "0.00", 110, [("0.00", 0, ["MONEY_PENDING"])]), id="pending money is not money yet (S3)"),
    pytest.param([PLAIN, "refunds_create.pending", "order_transactions_create.settled"], 5100000000001, ("partially_refunded", "44.00", 110, [("44.00", 44, ["MONEY_DIFFERS"])]), id="the money came: the settled transaction wins (S2, S3)"),
    pytest.param(["order_transactions_create.settled", "refunds_create.pending", PLAIN], 5100000000001, ("partially_refunded", "44.00", 110, [("44.00", 44, ["MONEY_DIFFERS"])]), id="the money was told first, the order last (R28)"),
    pytest.param([PLAIN, "refunds_create.failed"], 5100000000001, ("open", "0.00", 110, [("0.00", 0, ["MONEY_FAILED"])]), id="money that failed never counts (S3)"),
    pytest.param([PLAIN, "refunds_create.no_transactions"], 5100000000001, ("open", "0.00", 110, [("0.00", 0, ["NO_MONEY_MOVED"])]), id="a record without money is recorded with zero (R10, S3)"),
    pytest.param([PLAIN, "refunds_create.zero_subtotal"], 5100000000001, ("partially_refunded", "33.20", 110, [("33.20", 33, ["MONEY_DIFFERS"])]), id="a line worth nothing, money back all the same: settled wins (S2, S4)"),
    pytest.param([PLAIN, "refunds_create.more_than_the_order"], 5100000000001, ("fully_refunded", "130.00", 110, [("130.00", 110, [])]), id="more than the order takes no more than was earned (R3)"),
    pytest.param([PLAIN, "refunds_create.split_tender"], 5100000000001, ("partially_refunded", "27.50", 110, [("27.50", 27, [])]), id="gift card and store credit are money (R1, S8)"),
    pytest.param(["orders_create.tax_included", "refunds_create.tax_included"], 5100000000004, ("partially_refunded", "65.45", 124, [("65.45", 64, [])]), id="tax inside the prices: 124 x 65.45 / 124.95 = 64.95 (S2)"),
    pytest.param(["orders_create.presentment", "refunds_create.presentment"], 5100000000005, ("partially_refunded", "54.00", 108, [("54.00", 54, [])]), id="50.00 EUR of 100.00 EUR are 54.00 USD of 108.00 USD (S1)"),
    pytest.param(["orders_create.jpy", "refunds_create.jpy"], 5100000000006, ("partially_refunded", "1650", 4950, [("1650", 1650, [])]), id="yen have no decimals (S1)"),
    pytest.param(["orders_create.kwd", "refunds_create.kwd"], 5100000000007, ("partially_refunded", "12.345", 24, [("12.345", 12, [])]), id="dinars have three decimals (S1)"),
    pytest.param(["orders_create.no_customer_test"], 5100000000008, ("open", "0.00", 0, []), id="a test order without a customer is kept and earns nothing (R32)"),
    pytest.param(["disputes_update.lost", PLAIN], 5100000000001, ("fully_refunded", "110.00", 110, []), id="a chargeback lost takes everything (R29)"),
    pytest.param(["disputes_create.inquiry", PLAIN], 5100000000001, ("open", "0.00", 110, []), id="an inquiry takes nothing (R29)"),
    pytest.param(["orders_updated.refunded", "refunds_create.full", PLAIN], 5100000000001, ("fully_refunded", "110.00", 110, [("110.00", 110, [])]), id="the refund inside the order and the refund by itself are one (S6, R12)"),
]  # fmt: skip


@pytest.mark.parametrize(("names", "order_id", "expected"), RESULTS)
def test_a_real_payload_gives_the_result_worked_out_by_hand(door: Door, names, order_id, expected) -> None:
    tell(door, *names)
    assert summary(door.order(order_id)) == expected


def test_an_order_that_was_cancelled_unpaid_is_closed_and_takes_nothing(door: Door) -> None:
    """R27, S7, S10: ids beyond 2**53 and a refund without transactions inside."""
    tell(door, "orders_cancelled.unpaid")
    order_id = door.inbox()[0][4]
    assert order_id > 2**53
    assert summary(door.order(order_id))[:3] == ("voided", "0.00", 0)


def test_the_same_refund_told_five_times_before_and_after_its_order_counts_once(door: Door) -> None:
    """Worked case 12, R28."""
    tell(door, *["refunds_create.partial"] * 3, PLAIN, *["refunds_create.partial"] * 2)
    assert summary(door.order(5100000000001)) == (
        "partially_refunded", "27.50", 110, [("27.50", 27, [])]
    )  # fmt: skip
