"""R38: what is undone had given a discount code back. The code is taken away at Shopify first, or nothing is undone."""

from __future__ import annotations

from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine

from app.sandbox.records import Order
from models.errors import AccessDenied, OutcomeUnknown, Refused, ShopifyUnreachable
from tasks.steps import merchants, read
from tasks.steps.wallets import grant
from tests.conftest import RegisteredShop
from tests.flows.codes_story import COST, CodeRefused, Died, Story, raising

UNKNOWN = OutcomeUnknown("no answer")


@pytest.fixture
def story(engine: Engine, shop: RegisteredShop) -> Story:
    return Story(engine, shop)


def bought(story: Story, *, code: str | None = None) -> Order:
    """An order with the redemption's code: a merchant's own, or one that was made."""
    if code is not None:
        story.discount(code)
    story.redeem(code)
    story.work()
    order = story.buy(story.redemption.code)
    story.hear()
    return order


@pytest.fixture
def given_up(story: Story) -> Order:
    """The order is refunded whole, and the code it used can be used again."""
    order = bought(story)
    story.refund(order)
    story.hear()
    story.work()
    assert story.usable_uses(story.redemption.code) == 1 and story.redemption.restitution == "code"
    return order


def refund_of(story: Story, order: Order) -> int:
    return int(shown(story, order)["refunds"][-1]["id"])


def shown(story: Story, order: Order) -> dict[str, Any]:
    with story.engine.connect() as connection:
        return read.order(connection, story.id, order.id)


@contextmanager
def refused(code: str) -> Iterator[pytest.ExceptionInfo[Refused]]:
    with pytest.raises(Refused) as caught:
        yield caught
    assert caught.value.code == code


def assert_undone(story: Story, order: Order) -> None:
    """As if there had been no refund: the order has its discount, the customer has neither code nor points."""
    redemption = story.redemption
    assert shown(story, order)["status"] == "open"
    assert (redemption.reactivation, redemption.restitution, redemption.reactivated_orders) == (
        "none",
        "none",
        [],
    )
    assert (redemption.returned, story.balance) == (0, 0)
    assert [code for code in story.codes() if story.is_usable(code)] == []
    assert len(story.activity("refund.undone")) == 1
    story.assert_books_are_right()


def assert_nothing_was_undone(story: Story, order: Order) -> None:
    assert (shown(story, order)["status"], story.redemption.restitution) == ("fully_refunded", "code")
    assert shown(story, order)["undone"] == [] and story.activity("refund.undone") == []
    story.assert_books_are_right()


# -- unused ------------------------------------------------------------------------------------------


def test_an_unused_code_is_taken_away_before_anything_is_booked(story: Story, given_up: Order) -> None:
    """R21, R38: at no moment are there points and a usable code, or a discount twice."""
    asked = story.undo(refund_of(story, given_up), "by mistake")
    assert (asked["state"], asked["status_after"]) == ("removing_code", "fully_refunded")
    assert_nothing_was_undone(story, given_up)
    [entry] = story.activity("undo.asked")
    assert (entry.detail["reason"], entry.detail["by"]) == ("by mistake", "cli")
    story.work()
    assert_undone(story, given_up)
    with pytest.raises(CodeRefused):
        story.buy(story.redemption.code)


def test_a_code_that_a_merchant_made_is_taken_away_as_well(story: Story) -> None:
    """R38."""
    order = bought(story, code="SAVE5")
    story.refund(order)
    story.hear()
    story.work()
    assert story.usable_uses("SAVE5") == 1
    story.undo(refund_of(story, order))
    story.work()
    assert_undone(story, order)


@pytest.mark.parametrize(
    ("code", "comes_back_as"),
    [
        pytest.param(
            "SAVE5", ("code", 2, 1), id="a merchant's own code: the same again, the second time of three"
        ),
        pytest.param(None, ("points", 1, 0), id="a code of ours: it is deleted, so as points"),
    ],
)
def test_what_was_undone_can_be_refunded_again(
    story: Story, code: str | None, comes_back_as: tuple[str, int, int]
) -> None:
    """R21, R22, R38."""
    order = bought(story, code=code)
    story.refund(order)
    story.hear()
    story.work()
    story.undo(refund_of(story, order))
    story.work()
    with story.engine.begin() as connection:
        merchants.refund_order(
            connection, story.id, order.id, amount=None, lines=None, reason=None, by="cli", now=story.clock()
        )
    story.work()
    redemption = story.redemption
    usable = sum(story.usable_uses(code) for code in story.codes())
    assert (redemption.restitution, redemption.reactivations, usable) == comes_back_as
    assert story.balance == (COST if comes_back_as[0] == "points" else 0)
    story.assert_books_are_right()


def test_a_cancellation_that_gave_a_code_back_is_undone_likewise(story: Story) -> None:
    """R36, R38."""
    order = bought(story)
    with story.engine.begin() as connection:
        merchants.cancel_order(connection, story.id, order.id, reason=None, by="cli", now=story.clock())
    story.work()
    assert (story.redemption.restitution, shown(story, order)["status"]) == ("code", "cancelled")
    assert story.undo_end(order.id)["state"] == "removing_code"
    story.work()
    assert (story.redemption.restitution, shown(story, order)["status"]) == ("none", "open")
    assert not story.is_usable(story.redemption.code)
    story.assert_books_are_right()


def test_what_closed_the_order_only_together_with_another_takes_the_code_along(story: Story) -> None:
    """R22, R38: without the first refund the order is not closed any more, so its code goes too."""
    order = bought(story)
    with story.front.act() as store:
        store.refund(order, amount_minor=1_000)
    story.hear()
    first = refund_of(story, order)
    story.refund(order)
    story.hear()
    story.work()
    assert story.redemption.restitution == "code"
    assert story.undo(first)["state"] == "removing_code"
    story.work()
    assert shown(story, order)["status"] == "partially_refunded"
    assert not any(story.is_usable(code) for code in story.codes())
    assert story.redemption.restitution == "points" and story.redemption.returned == COST == story.balance
    story.assert_books_are_right()


def test_a_code_that_would_come_back_all_the_same_is_left_alone(story: Story, given_up: Order) -> None:
    """R23, R38: the order is closed by its refund too, so undoing nothing of that takes nothing away."""
    with story.front.act() as store:
        store.refund(given_up, amount_minor=100)
    story.hear()
    over = refund_of(story, given_up)
    before = story.wire.mutations()
    assert story.undo(over)["state"] == "done"
    assert story.usable_uses(story.redemption.code) == 1 and story.wire.mutations() == before
    assert (shown(story, given_up)["status"], story.redemption.restitution) == ("fully_refunded", "code")
    story.assert_books_are_right()


# -- used, or on its way -----------------------------------------------------------------------------


def test_a_code_that_was_used_again_keeps_the_refund_from_being_undone(story: Story, given_up: Order) -> None:
    """R38: refused, with the reason."""
    story.buy(story.redemption.code)
    story.hear()
    with refused("code_used_again") as caught:
        story.undo(refund_of(story, given_up))
    assert caught.value.details == {"redemption_id": str(story.redemption_id)}
    assert story.rows("remove_code") == []
    assert shown(story, given_up)["status"] == "fully_refunded" and shown(story, given_up)["undone"] == []
    story.assert_books_are_right()


@pytest.mark.parametrize("heard", [False, True], ids=["not told of yet", "told of in between"])
def test_a_code_that_is_used_before_it_can_be_taken_away_keeps_everything_as_it_was(
    story: Story, given_up: Order, heard: bool
) -> None:
    """R38: found out at Shopify; the record says so, and asking again says it at once when its order was told."""
    story.undo(refund_of(story, given_up))
    story.buy(story.redemption.code)
    if heard:
        story.hear()
    story.work()
    [entry] = story.activity("undo.refused")
    assert (entry.detail["why"], entry.detail["by"]) == ("code_used", "cli")
    assert story.activity("refund.undone") == [] and shown(story, given_up)["undone"] == []
    assert shown(story, given_up)["status"] == "fully_refunded"
    story.hear()
    with refused("code_used_again"):
        story.undo(refund_of(story, given_up))
    story.assert_books_are_right()


def test_a_code_that_is_just_coming_back_is_waited_for(story: Story) -> None:
    """R38: sent, and no answer yet."""
    order = bought(story)
    story.refund(order)
    story.hear()
    story.wire.after.append(raising(UNKNOWN))
    story.work()
    with refused("code_in_flight"):
        story.undo(refund_of(story, order))
    story.work(wait=1000)
    story.undo(refund_of(story, order))
    story.work(wait=1000)
    assert_undone(story, order)


def test_a_code_that_is_only_wanted_back_is_not_brought_back(story: Story) -> None:
    """R22, R38: nothing was sent, so nothing has to be taken away."""
    order = bought(story)
    story.refund(order)
    story.hear()
    assert story.redemption.reactivation == "wanted"
    assert story.undo(refund_of(story, order))["state"] == "done"
    story.work()
    assert_undone(story, order)


def test_asked_twice_it_is_taken_away_once(story: Story, given_up: Order) -> None:
    """R38."""
    story.undo(refund_of(story, given_up))
    with refused("undo_in_progress"):
        story.undo(refund_of(story, given_up))
    story.work()
    with refused("already_undone"):
        story.undo(refund_of(story, given_up))
    assert len(story.rows("remove_code")) == 1
    assert_undone(story, given_up)


def test_many_at_once_ask_once(story: Story, given_up: Order) -> None:
    """R38."""
    refund, ready = refund_of(story, given_up), Barrier(4)

    def ask() -> str:
        ready.wait(timeout=30)
        try:
            return str(story.undo(refund)["state"])
        except Refused as error:
            return error.code

    with ThreadPoolExecutor(4) as pool:
        said = sorted(made.result() for made in [pool.submit(ask) for _ in range(4)])
    assert said == ["removing_code", *["undo_in_progress"] * 3]
    story.work()
    assert_undone(story, given_up)


def test_of_two_codes_one_redemption_has_to_be_cancelled_first(story: Story) -> None:
    """R34, R38: the merchant decides about each code by itself."""
    with story.engine.begin() as connection:
        grant(connection, story.id, story.customer.id, amount=COST, reason="more", now=story.clock())
    for code in ("SAVE5", "SAVE6"):
        story.discount(code)
        story.redeem(code)
    story.clock.advance(seconds=60)
    order = story.shopify.buy("SAVE5", "SAVE6", customer=story.customer)
    story.hear()
    story.refund(order)
    story.hear()
    story.work()
    assert story.usable_uses("SAVE5") == story.usable_uses("SAVE6") == 1
    with refused("several_codes_given_back"):
        story.undo(refund_of(story, order))
    story.cancel()
    story.work()
    assert story.undo(refund_of(story, order))["state"] == "removing_code"
    story.work()
    assert not story.is_usable("SAVE5") and not story.is_usable("SAVE6")
    assert shown(story, order)["status"] == "open" and story.balance == COST
    story.assert_books_are_right()


# -- the worker, and Shopify -------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize(
    "died",
    [UNKNOWN, Died(), ShopifyUnreachable("503")],
    ids=["the answer is lost", "the worker dies", "Shopify is away"],
)
def test_what_is_interrupted_goes_on_and_is_undone_once(
    story: Story, given_up: Order, died: BaseException, when: str
) -> None:
    """R38, S11."""
    story.undo(refund_of(story, given_up))
    getattr(story.wire, when).append(raising(died))
    with suppress(Died):
        story.work()
    assert_nothing_was_undone(story, given_up)
    story.work(wait=1000)
    assert_undone(story, given_up)


def test_without_access_nothing_is_undone_and_the_record_says_why(story: Story, given_up: Order) -> None:
    """R38: it can be asked for again once access is there."""
    story.undo(refund_of(story, given_up))
    story.wire.before.append(raising(AccessDenied("write_discounts is missing")))
    story.work()
    assert_nothing_was_undone(story, given_up)
    [entry] = story.activity("undo.refused")
    assert entry.detail["why"] == "access_denied"
    story.undo(refund_of(story, given_up))
    story.work()
    assert_undone(story, given_up)
