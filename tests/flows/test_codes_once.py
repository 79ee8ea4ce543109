"""Whatever happens to a code, to its order and to the worker, in any order: one benefit, once (R21).

Schedules of purchases with the code, refunds, webhooks heard late, deletions at Shopify, and a worker whose calls
get lost, come twice, are throttled, or outlive him. After each step the store never allows more uses than the ledger
knows of; in the end the value is on one order, or in one code, or back as points.
"""

from __future__ import annotations

from collections.abc import Callable
from contextlib import suppress
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import HealthCheck, event, example, given, settings
from hypothesis import strategies as st
from sqlalchemy import Engine

from app.sandbox.records import Order
from models.errors import OutcomeUnknown, ShopifyThrottled
from tests.conftest import register
from tests.flows.codes_story import COST, START, CodeRefused, Died, Story, raising

UNKNOWN = OutcomeUnknown("no answer")
PATIENCE = 12  # rounds after which everything must have come to rest

KINDS: dict[str, dict[str, Any] | None] = {
    "made by us": None,
    "plain": {},
    "with an end": {"ends_at": START + timedelta(days=20)},
    "once per customer": {"once_per_customer": True},
    "pool": {},
    "buy X get Y": {"kind": "DiscountCodeBxgy"},
}


class Schedule:
    """One redemption and everything that may happen to it."""

    def __init__(self, engine: Engine, kind: str, *, returns: bool) -> None:
        self.story = story = Story(engine, register(engine), returns=returns)
        self.orders: list[Order] = []
        self.tampered = False  # the merchant took something away, so a benefit may be lost
        fields = KINDS[kind]
        if fields is None:
            story.redeem()
            story.work()
        else:
            story.discount("SAVE5", *(["SAVE6"] if kind == "pool" else []), **fields)
            story.redeem("SAVE5")

    # -- what may happen -----------------------------------------------------------------------------

    def buy(self) -> None:
        code = next((code for code in self.story.codes() if self.story.is_usable(code)), None)
        if code is not None:
            with suppress(CodeRefused):  # its time was over while he shopped
                self.orders.append(self.story.buy(code))

    def refund_part(self) -> None:
        order = next((order for order in self.orders if order.items[0].current_quantity == 2), None)
        if order is not None:
            self.story.refund(order, units=1)

    def refund_all(self) -> None:
        for order in self.standing[:1]:
            self.story.refund(order)

    def hear_one(self) -> None:
        self.story.hear(1)

    def hear_all(self) -> None:
        self.story.hear()

    def work(self) -> None:
        self.story.work(wait=100)

    def work_and_lose_the_answer(self) -> None:
        self._disturbed(self.story.wire.after, UNKNOWN)

    def work_and_lose_the_call(self) -> None:
        self._disturbed(self.story.wire.before, UNKNOWN)

    def die_after_the_call(self) -> None:
        self._disturbed(self.story.wire.after, Died())

    def die_before_the_call(self) -> None:
        self._disturbed(self.story.wire.before, Died())

    def work_and_be_throttled(self) -> None:
        self._disturbed(self.story.wire.before, ShopifyThrottled(60))

    def two_workers(self) -> None:
        self._between(lambda: self.story.work(wait=1000))

    def hear_while_working(self) -> None:
        self._between(lambda: self.story.hear())

    def buy_while_working(self) -> None:
        """Done at Shopify, used and told of before it is booked."""
        self.story.wire.after.append(lambda: (self.buy(), self.story.hear()))
        self.story.work(wait=100)
        self.story.wire.after.clear()

    def delete(self) -> None:
        self.tampered = True
        self.story.store.codes.discounts.clear()

    def deactivate(self) -> None:
        self.tampered = True
        for discount in self.story.store.codes.discounts.values():
            discount.ends_at = self.story.clock()

    def pass_a_month(self) -> None:
        self.tampered = True
        self.story.pass_time(days=30)

    def _disturbed(self, when: Any, error: BaseException) -> None:
        when.append(raising(error))
        with suppress(Died):
            self.story.work(wait=1000)
        when.clear()

    def _between(self, act: Callable[[], object]) -> None:
        self.story.wire.before.append(act)
        self.story.work(wait=100)
        self.story.wire.before.clear()

    # -- what must be so -----------------------------------------------------------------------------

    @property
    def standing(self) -> list[Order]:
        """The orders that the code paid for, and still does."""
        return [order for order in self.orders if order.refunded_minor < order.captured_minor]

    @property
    def usable(self) -> int:
        return sum(self.story.usable_uses(code) for code in self.story.codes())

    def check(self) -> None:
        """At any time: the store allows one use, and one more for each that we gave back or may have given back."""
        redemption = self.story.redemption
        may_be = any("sent" in row.payload and row.state != "done" for row in self.story.rows())
        assert len(self.orders) + self.usable <= 1 + len(redemption.reactivated_orders) + may_be
        assert redemption.returned == 0 or redemption.restitution == "points"

    def come_to_rest(self) -> None:
        for _ in range(PATIENCE):
            self.story.hear()
            self.story.work(wait=2000)
            if not any(row.state in ("pending", "leased") for row in self.story.rows()):
                return
        pytest.fail(f"not at rest: {[(row.kind, row.state, row.error_code) for row in self.story.rows()]}")

    def check_the_end(self, *, returns: bool) -> None:
        redemption = self.story.redemption
        benefits = len(self.standing) + self.usable + (redemption.returned == COST)
        assert benefits <= 1
        if redemption.returned:
            assert self.usable == 0
        if returns and not self.tampered:
            assert benefits == 1
        assert redemption.reactivation != "wanted"
        assert redemption.reactivations == len(redemption.reactivated_orders) <= 3
        self.story.assert_books_are_right()


STEPS = [
    name
    for name, value in vars(Schedule).items()
    if callable(value) and not name.startswith(("_", "check", "come"))
]
GIVEN_UP = ("buy", "hear_all", "refund_all", "hear_all")
WORKED = [(name,) for name in STEPS if "work" in name or "call" in name]
OTHERS = [(name,) for name in STEPS if (name,) not in WORKED]
PHRASES = [GIVEN_UP] * 6 + WORKED * 2 + OTHERS


def flat(phrases: list[tuple[str, ...]]) -> list[str]:
    return [step for phrase in phrases for step in phrase]


@given(
    st.sampled_from(sorted(KINDS)),
    st.booleans(),
    st.lists(st.sampled_from(PHRASES), min_size=3, max_size=9).map(flat),
)
@example("plain", True, [*GIVEN_UP, "work_and_lose_the_answer", "buy", "hear_all", "refund_all", "work"])
@example("plain", True, [*GIVEN_UP, "buy_while_working", "refund_all", "hear_all", "two_workers"])
@example("once per customer", True, [*GIVEN_UP, "die_after_the_call", "buy", "hear_all", "refund_all"])
@example("pool", False, [*GIVEN_UP, "work_and_lose_the_answer", "delete", "hear_all", "work"])
@example("made by us", True, [*GIVEN_UP, "work"] * 4)
@example("with an end", True, [*GIVEN_UP[:2], "pass_a_month", "refund_all", "hear_all", "work", "buy"])
@settings(max_examples=20, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
def test_one_benefit_once(engine: Engine, kind: str, returns: bool, steps: list[str]) -> None:
    schedule = Schedule(engine, kind, returns=returns)
    for step in steps:
        getattr(schedule, step)()
        schedule.check()
    schedule.come_to_rest()
    schedule.check()
    schedule.check_the_end(returns=returns)
    event(f"reactivations: {schedule.story.redemption.reactivations}")
    event(f"restitution: {schedule.story.redemption.restitution}")
