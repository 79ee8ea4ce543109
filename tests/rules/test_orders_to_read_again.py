"""When what was told of an order leaves something open that only the order itself says (R28, S3, S7, S9)."""

from __future__ import annotations

from datetime import datetime

import pytest

from models.rules.facts import Dispute, Edit, Fact, Transaction
from models.rules.order import OrderFacts
from models.rules.reads import EDITED, SETTLED, UNKNOWN_ORDER, VOIDED, reads_wanted
from tests.rules.build import ORDER, adjusted, day, order, refund, returned


def known(*facts: Fact) -> OrderFacts:
    found = OrderFacts(ORDER)
    for fact in facts:
        found.add(fact, day(30))
    return found


def edit(at: datetime) -> Edit:
    return Edit(id=5, order_id=ORDER, committed_at=at, additions=((9, 1),), removals=())


def transaction(kind: str, at: datetime, *, id: int = 8, status: str = "success") -> Transaction:
    return Transaction(
        id=id,
        order_id=ORDER,
        kind=kind,
        status=status,
        amount_minor=0,
        currency="USD",
        shop_amount_minor=None,
        at=at,
    )


UNKNOWN = [(f"read_order:{ORDER}:unknown", UNKNOWN_ORDER)]


@pytest.mark.parametrize(
    "facts",
    [
        pytest.param(refund(1, 500, at=day(2)), id="a refund"),
        pytest.param([transaction("sale", day(2))], id="a transaction"),
        pytest.param([edit(day(2))], id="an edit"),
        pytest.param(
            [Dispute(id=3, order_id=ORDER, status="lost", amount_minor=5, currency="USD", at=day(2))],
            id="a dispute",
        ),
    ],
)
def test_what_is_told_of_an_unknown_order_asks_for_the_order(facts: list[Fact]) -> None:
    assert reads_wanted(known(*facts)) == UNKNOWN


def test_an_order_of_which_nothing_is_told_asks_for_nothing() -> None:
    assert reads_wanted(known()) == []


def test_an_order_that_was_told_asks_for_nothing() -> None:
    told = known(order(10_000), *refund(1, 2000, at=day(2)), transaction("sale", day(1)))
    assert reads_wanted(told) == []


def test_an_edit_younger_than_the_order_asks_for_it_until_the_order_is_told_again() -> None:
    wanted = [(f"read_order:{ORDER}:edit:5", EDITED)]
    assert reads_wanted(known(order(10_000), edit(day(2)))) == wanted
    told_again = order(10_000, updated_at=day(2))
    assert reads_wanted(known(order(10_000), edit(day(2)), told_again)) == []


def test_a_void_younger_than_the_order_asks_for_it_until_the_order_is_told_again() -> None:
    authorized = order(10_000, financial_status="authorized")
    wanted = [(f"read_order:{ORDER}:void:8", VOIDED)]
    assert reads_wanted(known(authorized, transaction("void", day(2)))) == wanted
    voided = order(10_000, financial_status="voided", updated_at=day(2))
    assert reads_wanted(known(authorized, transaction("void", day(2)), voided)) == []


def test_a_void_that_failed_asks_for_nothing() -> None:
    told = known(order(10_000), transaction("void", day(2), status="failure"))
    assert reads_wanted(told) == []


def held_back(status: str) -> tuple[Fact, ...]:
    """A line of 50.00 came back; the record says that its money is not given yet (S3)."""
    return refund(1, 5000, returned(1, 5000), at=day(2), status=status, adjustments=[adjusted(5000)])


def test_pending_money_that_has_arrived_asks_for_the_order_once() -> None:
    assert reads_wanted(known(order(10_000), *held_back("pending"))) == []
    wanted = [(f"read_order:{ORDER}:settled:10", SETTLED)]
    assert reads_wanted(known(order(10_000), *held_back("pending"), *held_back("success"))) == wanted
    assert reads_wanted(known(order(10_000), *held_back("failure"))) == []


def test_the_same_facts_ask_for_the_same_readings_in_any_order() -> None:
    facts = [order(10_000), edit(day(2)), transaction("void", day(3)), *held_back("success")]
    keys = [key for key, _ in reads_wanted(known(*facts))]
    assert keys == [key for key, _ in reads_wanted(known(*reversed(facts)))]
    assert [key.split(":")[2] for key in keys] == ["edit", "void", "settled"]
