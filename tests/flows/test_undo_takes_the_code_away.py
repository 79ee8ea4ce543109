"""R38: an undo of what made a code come back takes that code away first, at a store whose checkout says so (R21)."""

from __future__ import annotations

from contextlib import suppress
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.errors import NeedsMerchant, OutcomeUnknown, Refused
from tasks.steps import merchants
from tests.conftest import RegisteredShop
from tests.flows.codes_story import COST, Died, Story, raising

REFUND = text("select refund_id from refunds where shop_id = :shop")


class Undone(Story):
    """A customer's order was refunded, and his code came back for it."""

    def __init__(self, engine: Engine, registered: RegisteredShop) -> None:
        super().__init__(engine, registered)
        self.redeem()
        self.work()
        self.code: str = self.redemption.code
        self.order = self.buy(self.code)
        self.hear()
        self.refund(self.order)
        self.hear()
        self.work()
        assert (self.redemption.restitution, self.usable_uses(self.code)) == ("code", 1)

    def ask_undo(self) -> dict[str, Any]:
        with self.engine.begin() as connection:
            refund = connection.execute(REFUND, {"shop": self.id}).scalar_one()
            return merchants.undo_refund(connection, self.id, refund, reason="a mistake", by="cli")


@pytest.fixture
def story(engine: Engine, shop: RegisteredShop) -> Undone:
    return Undone(engine, shop)


def assert_undone(story: Undone) -> None:
    """As if the refund had never been: the code is used, its points are spent."""
    redemption = story.redemption
    assert (redemption.reactivated_orders, redemption.restitution, redemption.order_id) == (
        [],
        "none",
        story.order.id,
    )
    assert (redemption.returned, story.balance, story.is_usable(story.code)) == (0, 0, False)
    story.assert_books_are_right()


def assert_not_undone(story: Undone, why: str) -> None:
    assert story.redemption.reactivated_orders == [str(story.order.id)]
    with story.engine.connect() as connection:
        found = connection.execute(
            text("select detail ->> 'why' from activity where shop_id = :shop and kind = 'undo.refused'"),
            {"shop": story.id},
        )
        assert list(found.scalars()) == [why]
    story.assert_books_are_right()


def test_the_code_goes_first_and_then_the_refund_is_undone(story: Undone) -> None:
    """R38: neither the code nor the points are there for both."""
    assert story.ask_undo()["state"] == "removing_code"
    assert story.redemption.restitution == "code"
    story.work()
    assert_undone(story)
    assert story.store.codes.discounts == {}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "died", [OutcomeUnknown("no answer"), Died()], ids=["the answer is lost", "the worker dies"]
)
def test_an_undo_is_finished_by_whoever_comes_next(story: Undone, died: BaseException, when: str) -> None:
    """R38."""
    story.ask_undo()
    getattr(story.wire, when).append(raising(died))
    with suppress(Died):
        story.work()
    story.work(wait=1000)
    assert_undone(story)


def test_a_code_used_again_stays_and_so_does_the_refund(story: Undone) -> None:
    """R38: refused with a reason when a reactivated code has been used; Shopify may be the first to know."""
    story.ask_undo()
    story.buy(story.code)
    assert story.work() == ["not undone: code_used"]
    assert_not_undone(story, "code_used")


def test_one_used_again_as_it_goes_stays_used(story: Undone) -> None:
    """R38: the order was placed before the code went, and told of after."""
    story.store.codes.lag = story.clock() - story.clock().replace(year=2025)
    story.ask_undo()
    story.buy(story.code)
    story.wire.after.append(story.hear)
    story.work()
    assert_not_undone(story, "code_used")


def test_one_out_of_reach_is_told_and_can_be_asked_for_again(story: Undone) -> None:
    """R38."""
    story.ask_undo()
    with pytest.raises(Refused, match="being taken away already"):
        story.ask_undo()
    story.wire.before.append(raising(NeedsMerchant(story.domain, "token_revoked")))
    assert story.work() == ["not undone: not_connected"]
    assert_not_undone(story, "not_connected")
    assert story.ask_undo()["state"] == "removing_code"
    story.work()
    assert_undone(story)


def test_what_was_undone_can_be_cancelled_by_hand(story: Undone) -> None:
    """R34, R38: the redemption is one of a used code again."""
    story.ask_undo()
    story.work()
    with pytest.raises(Refused) as refused:
        story.cancel()
    assert refused.value.code == "code_used"
    story.cancel(force=True)
    assert (story.redemption.returned, story.balance) == (COST, COST)
    story.assert_books_are_right()
