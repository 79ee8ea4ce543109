"""A used code made usable again at Shopify: one benefit, once, whatever happens on the way (R21-R23, S11)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from datetime import UTC, datetime, timedelta
from threading import Barrier
from typing import NoReturn

import pytest
from sqlalchemy import Engine

from models.errors import (
    AccessDenied,
    Later,
    NeedsMerchant,
    OutcomeUnknown,
    ShopifyThrottled,
    ShopifyUnreachable,
)
from models.rules.codes import derived_code, mark
from tasks.steps import codes, outbox
from tasks.steps.load import ShopRow
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.flows.codes_story import COST, KEY, START, CodeRefused, Died, Story, Wire, raising
from tests.rules.build import line, refund, returned
from tests.rules.build import order as placed

UNKNOWN = OutcomeUnknown("no answer")
CHANGED = ["discount_update"]


@pytest.fixture
def story(engine: Engine, shop: RegisteredShop) -> Story:
    return Story(engine, shop)


def refunded(story: Story, code: str = "SAVE5", **fields: object) -> None:
    """The customer's code was used on an order, and the order given up: the code is to come back."""
    if story.store.codes.find(code) is None:
        story.discount(code, **fields)
    story.redeem(code)
    order = story.buy(code)
    story.hear()
    story.refund(order)
    story.hear()
    assert story.redemption.reactivation == "wanted"


def assert_code_is_back(story: Story, code: str = "SAVE5") -> None:
    """The code can be used once, and the points are spent."""
    redemption = story.redemption
    assert (redemption.code, redemption.code_key) == (code, code.casefold())  # what people are shown
    assert (redemption.reactivation, redemption.restitution) == ("done", "code")
    assert (redemption.reactivations, redemption.returned, story.balance) == (1, 0, 0)
    assert story.usable_uses(code) == 1
    assert len(story.activity("code.reactivated")) == 1
    assert [row.state for row in story.rows("reactivate_code")] == ["done"]
    story.assert_books_are_right()


def assert_points_are_back(story: Story, code: str = "SAVE5") -> None:
    redemption = story.redemption
    assert (redemption.reactivation, redemption.restitution) == ("failed", "points")
    assert (redemption.reactivations, redemption.returned, story.balance) == (0, COST, COST)
    assert story.usable_uses(code) == 0
    assert len(story.activity("code.not_reactivated")) == 1
    story.assert_books_are_right()


def test_a_used_code_can_be_used_once_more(story: Story) -> None:
    refunded(story)
    with pytest.raises(CodeRefused):
        story.buy("SAVE5")
    story.work()
    assert_code_is_back(story)
    story.buy("save5")
    with pytest.raises(CodeRefused):
        story.buy("SAVE5")
    assert story.wire.mutations() == CHANGED


def test_its_end_date_stays(story: Story) -> None:
    end = START + timedelta(days=90)
    refunded(story, ends_at=end)
    story.work()
    found = story.store.codes.find("SAVE5")
    assert found is not None and found[0].ends_at == end
    assert story.redemption.code_ends_at == end


def test_a_code_that_ended_meanwhile_has_the_time_that_was_left_when_it_was_used(story: Story) -> None:
    story.discount("SAVE5", ends_at=START + timedelta(days=2, seconds=60))
    story.redeem("SAVE5")
    order = story.buy("SAVE5")  # a minute in
    story.pass_time(days=30)
    story.refund(order)
    story.hear()
    story.work()
    assert story.usable_uses("SAVE5") == 1
    found = story.store.codes.find("SAVE5")
    assert found is not None and found[0].ends_at == story.clock() + timedelta(days=2)
    story.assert_books_are_right()


def test_shopify_counts_uses_late(story: Story) -> None:
    story.store.codes.lag = timedelta(hours=1)
    refunded(story)
    story.work()
    assert_code_is_back(story)


def test_a_row_worked_twice_gives_back_once(story: Story) -> None:
    refunded(story)
    [row] = story.rows("reactivate_code")
    story.work_row(row.id)
    assert "nothing to do" in story.work_row(row.id)
    assert_code_is_back(story)
    assert story.wire.mutations() == CHANGED


@pytest.mark.parametrize("died", [UNKNOWN, Died()], ids=["the answer is lost", "the worker dies"])
def test_what_was_done_without_an_answer_is_booked_and_not_done_again(
    story: Story, died: BaseException
) -> None:
    refunded(story)
    story.wire.after.append(raising(died))
    with suppress(Died):
        story.work()
    assert story.usable_uses("SAVE5") == 1  # done there, not booked here
    story.work(wait=1000)
    assert_code_is_back(story)
    assert story.wire.mutations() == CHANGED


def test_a_code_used_before_we_booked_that_it_is_back_does_not_come_back_twice(story: Story) -> None:
    refunded(story)
    story.wire.after.append(raising(UNKNOWN))
    story.work()
    story.buy("SAVE5")
    story.work(wait=1000)  # its order is not heard of yet
    assert story.redemption.reactivations == 1
    story.hear()
    story.work(wait=1000)
    assert (story.redemption.reactivations, story.redemption.restitution, story.balance) == (1, "code", 0)
    assert not story.is_usable("SAVE5")
    assert story.wire.mutations() == CHANGED
    story.assert_books_are_right()


def test_a_code_used_and_told_of_before_we_booked_is_booked_all_the_same(story: Story) -> None:
    refunded(story)
    story.wire.after.append(raising(UNKNOWN))
    story.work()
    story.buy("SAVE5")
    story.hear()  # a second order has the code: for all we know it was used elsewhere
    story.work(wait=1000)
    assert (story.redemption.reactivations, story.redemption.returned, story.balance) == (1, 0, 0)
    assert not story.is_usable("SAVE5")
    story.assert_books_are_right()


@pytest.mark.parametrize("was_done", [True, False], ids=["and it was done", "and it was not done"])
@pytest.mark.parametrize("pool", [False, True], ids=["the code itself", "a code of his own"])
def test_points_do_not_come_back_while_the_code_may_be_back(story: Story, was_done: bool, pool: bool) -> None:
    """R21: points that came back for a moment could be spent before the code's return is booked."""
    story.discount("SAVE5", *(["SAVE6"] if pool else []))
    story.redeem("SAVE5")
    order = story.buy("SAVE5")
    story.tell(*refund(4_402, 300, at=order.placed_at + timedelta(seconds=10), order_id=order.id))
    story.refund(order)
    story.hear()
    (story.wire.after if was_done else story.wire.before).append(raising(UNKNOWN))
    story.work()
    story.assert_books_are_right()
    later = order.placed_at + timedelta(seconds=30)
    story.tell(
        placed(None, line(1, 5_000, codes={"save5": 500}), order_id=9_300, at=later)
    )  # it has the code too
    assert (story.redemption.returned, story.balance) == (0, 0)
    story.assert_books_are_right()
    story.work(wait=1000)
    known = (story.redemption.restitution, story.balance)
    assert known == (("code", 0) if was_done else ("points", COST))
    story.assert_books_are_right()


def test_a_call_that_never_arrived_is_made_again(story: Story) -> None:
    refunded(story)
    story.wire.before.append(raising(UNKNOWN))
    story.work()
    assert not story.is_usable("SAVE5")
    story.work(wait=1000)
    assert_code_is_back(story)
    assert story.wire.mutations() == CHANGED


def test_a_worker_that_lost_its_lease_in_the_middle_changes_nothing_more(story: Story) -> None:
    refunded(story)
    [row] = story.rows("reactivate_code")
    others: list[str] = []

    def another_worker() -> None:
        story.ahead += timedelta(seconds=1000)
        others.append(story.work_row(row.id))

    story.wire.before.append(another_worker)
    story.work_row(row.id)
    assert "is back" in others[0]
    assert_code_is_back(story)


@pytest.mark.parametrize("fields", [{}, {"once_per_customer": True}], ids=["its own", "a fresh one"])
def test_four_workers_at_once_give_back_once(story: Story, fields: dict[str, object]) -> None:
    """All with the lease, as if it meant nothing: the store and the books take one of them."""
    refunded(story, **fields)
    [row] = story.rows("reactivate_code")
    now = datetime.now(UTC) + timedelta(seconds=1)
    leased = outbox.lease(story.engine, story.domain, row.id, now)
    assert leased is not None
    together = Barrier(4)

    def give_back(wire: Wire) -> str:
        together.wait()
        try:
            return codes.reactivate(story.engine, wire, KEY, leased, now=story.clock())
        except Later as error:
            return f"later: {error}"  # another was done first

    with ThreadPoolExecutor(4) as pool:
        said = list(pool.map(give_back, [Wire(story.front) for _ in range(4)]))
    assert sum("is back:" in words for words in said) >= 1
    assert_code_is_back(story, story.codes()[-1])
    assert len(story.store.codes.discounts) == len(story.codes())


def test_two_workers_that_make_a_fresh_code_make_one(story: Story) -> None:
    refunded(story, once_per_customer=True)
    [row] = story.rows("reactivate_code")

    def another_worker() -> None:
        story.ahead += timedelta(seconds=1000)
        story.work_row(row.id)

    story.wire.before.append(another_worker)
    story.work_row(row.id)
    first, fresh = story.codes()
    assert (first, story.usable_uses(fresh)) == ("SAVE5", 1)
    assert len(story.store.codes.discounts) == 2
    assert_code_is_back(story, fresh)


def test_throttled_for_a_minute(story: Story) -> None:
    refunded(story)
    story.front.faults.throttle(story.clock(), 60)
    assert story.work() == ["later: shopify_throttled"]
    story.pass_time(seconds=30)
    assert story.work() == ["later: shopify_throttled"]
    story.pass_time(seconds=31)
    story.work(wait=10)
    assert_code_is_back(story)


def test_throttled_in_the_middle(story: Story) -> None:
    refunded(story)
    story.wire.before.append(raising(ShopifyThrottled(60)))
    assert story.work() == ["later: shopify_throttled"]
    assert "nothing to do" in story.work(wait=30)[0]
    story.work(wait=40)
    assert_code_is_back(story)


def test_a_customer_who_was_merged_may_use_what_comes_back(story: Story) -> None:
    discount = story.discount("SAVE5", customers=frozenset([story.customer.id]))
    refunded(story)
    before = story.shopify.customer().id  # whom Shopify still names
    discount.customers = frozenset([before])
    story.work()
    assert discount.customers == {before, story.customer.id}
    assert_code_is_back(story)


def test_a_deactivated_code_is_active_again_until_its_own_end(story: Story) -> None:
    end = START + timedelta(days=60)
    discount = story.discount("SAVE5", ends_at=end)
    refunded(story)
    story.work()
    order = story.buy("SAVE5")
    story.hear()
    discount.ends_at = story.clock()  # by the merchant, after we had seen its end
    story.pass_time(days=3)
    story.refund(order)
    story.hear()
    story.work()
    assert (discount.ends_at, discount.usage_limit) == (end, 3)
    assert story.usable_uses("SAVE5") == 1


def test_a_deleted_code_gives_its_points_back(story: Story) -> None:
    refunded(story)
    story.store.codes.discounts.clear()
    story.work()
    assert_points_are_back(story)
    assert "no discount with this code" in story.redemption.reactivation_error


def test_a_deleted_code_ends_in_the_open_where_nothing_is_returned(
    engine: Engine, shop: RegisteredShop
) -> None:
    story = Story(engine, shop, returns=False)
    refunded(story)
    story.store.codes.discounts.clear()
    story.work()
    assert (story.redemption.reactivation, story.redemption.restitution) == ("failed", "none")
    assert (story.balance, story.redemption.returned) == (0, 0)
    assert [entry.detail["reason"] for entry in story.activity("code.not_reactivated")]
    story.assert_books_are_right()


def test_a_code_deleted_after_it_came_back_stays_what_it_was(story: Story) -> None:
    refunded(story)
    story.work()
    story.store.codes.discounts.clear()
    story.work(wait=1000)
    assert (story.redemption.restitution, story.balance) == ("code", 0)


def test_a_use_that_shopify_counts_and_we_do_not_know_stops_it(story: Story) -> None:
    discount = story.discount("SAVE5")
    refunded(story)
    discount.usage_limit = 2  # by the merchant, and the customer found out
    story.buy("SAVE5")
    story.work()
    assert_points_are_back(story)
    assert story.wire.mutations() == []


def test_a_code_used_on_another_order_that_we_know_is_not_wanted_any_more(story: Story) -> None:
    discount = story.discount("SAVE5")
    refunded(story)
    discount.usage_limit = 2
    story.buy("SAVE5")
    story.hear()
    assert story.redemption.reactivation == "none"
    assert story.work() == []
    assert (story.redemption.restitution, story.balance) == ("points", COST)
    story.assert_books_are_right()


def test_a_limit_that_somebody_raised_already_is_left_as_it_is(story: Story) -> None:
    discount = story.discount("SAVE5")
    refunded(story)
    discount.usage_limit = 2
    story.work()
    assert story.wire.mutations() == []
    assert_code_is_back(story)


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"once_per_customer": True, "usage_limit": None}, id="once per customer"),
        pytest.param({"kind": "DiscountCodeBxgy"}, id="buy X get Y"),
        pytest.param({"kind": "DiscountCodeApp"}, id="an app's"),
    ],
)
def test_what_cannot_be_changed_comes_back_as_a_discount_of_his_own(
    story: Story, fields: dict[str, object]
) -> None:
    merchants = story.discount("SAVE5", **fields)
    refunded(story)
    story.work()
    first, fresh = story.codes()
    assert fresh == derived_code(KEY, shop_id=story.id, redemption_id=story.redemption_id, n=1)
    assert_code_is_back(story, fresh)
    made, _ = story.store.codes.find(fresh) or pytest.fail("not made")
    assert (made.amount_minor, made.usage_limit, made.once_per_customer) == (500, 1, False)
    assert made.customers == {story.customer.id}
    assert mark(story.redemption_id, 1) in made.tags
    assert not story.is_usable(fresh, story.shopify.customer())
    assert (first, merchants.kind) == ("SAVE5", fields.get("kind", "DiscountCodeBasic"))
    story.buy(fresh)
    with pytest.raises(CodeRefused):
        story.buy(fresh)


def test_a_code_of_a_pool_comes_back_as_another_and_the_pool_is_left_alone(story: Story) -> None:
    pool = story.discount(
        "SAVE5", "SAVE6", "SAVE7", percent=0, minimum_minor=2000, combines=(True, False, True)
    )
    ends = START + timedelta(days=20)
    pool.ends_at = ends
    refunded(story)
    story.work()
    _, fresh = story.codes()
    assert_code_is_back(story, fresh)
    made, _ = story.store.codes.find(fresh) or pytest.fail("not made")
    assert (made.amount_minor, made.minimum_minor, made.combines) == (500, 2000, (True, False, True))
    assert (pool.usage_limit, pool.ends_at, made.ends_at) == (1, ends, ends)
    assert story.wire.mutations() == ["discount_create"]


@pytest.mark.parametrize("died", [UNKNOWN, Died()], ids=["the answer is lost", "the worker dies"])
def test_a_fresh_code_made_without_an_answer_is_found_by_its_mark(story: Story, died: BaseException) -> None:
    refunded(story, once_per_customer=True)
    story.wire.after.append(raising(died))
    with suppress(Died):
        story.work()
    story.work(wait=1000)
    assert_code_is_back(story, story.codes()[1])
    assert story.wire.mutations() == ["discount_create"]
    assert len(story.store.codes.discounts) == 2


def test_a_fresh_code_that_was_used_before_we_booked_it_is_known(story: Story) -> None:
    refunded(story, once_per_customer=True)
    story.wire.after.append(raising(UNKNOWN))
    story.work()
    fresh = story.codes()[1]
    story.buy(fresh)
    story.hear()
    story.work(wait=1000)
    assert (story.redemption.reactivations, story.redemption.restitution, story.balance) == (1, "code", 0)
    assert not story.is_usable(fresh)
    story.assert_books_are_right()


def test_a_derived_code_that_a_merchant_has_already_is_passed_over(story: Story) -> None:
    refunded(story, once_per_customer=True)
    taken = derived_code(KEY, shop_id=story.id, redemption_id=story.redemption_id, n=1)
    theirs = story.discount(taken)
    story.work()
    second = derived_code(KEY, shop_id=story.id, redemption_id=story.redemption_id, n=1, attempt=1)
    assert story.codes() == ["SAVE5", second]
    assert theirs.codes[0].code == taken and theirs.tags == ()
    assert_code_is_back(story, second)


def test_with_every_derived_code_taken_the_points_come_back(story: Story) -> None:
    refunded(story, once_per_customer=True)
    for attempt in range(3):
        story.discount(
            derived_code(KEY, shop_id=story.id, redemption_id=story.redemption_id, n=1, attempt=attempt)
        )
    story.work()
    assert_points_are_back(story)
    assert story.codes() == ["SAVE5"]


@pytest.mark.parametrize("was_done", [True, False], ids=["and it was done", "and it was not done"])
def test_no_longer_wanted_while_nobody_knows(story: Story, was_done: bool) -> None:
    """A partial refund told late would return points, and the code not come back (R22); what was done is a fact (R23).
    Nothing comes back until it is known which (R21)."""
    story.discount("SAVE5")
    story.redeem("SAVE5")
    order = story.buy("SAVE5")
    partly = order.placed_at + timedelta(seconds=10)
    story.refund(order)
    story.hear()
    (story.wire.after if was_done else story.wire.before).append(raising(UNKNOWN))
    story.work()
    item = order.items[0]
    late = refund(4_400, 5_000, returned(item.id, 5_000), at=partly, order_id=order.id)
    story.tell(*late)
    assert (story.redemption.reactivation, story.balance) == ("wanted", 0)
    story.work(wait=1000)
    assert story.usable_uses("SAVE5") == int(was_done)
    assert story.redemption.restitution == ("code" if was_done else "points")
    assert story.balance == (0 if was_done else COST)
    assert story.rows("reactivate_code")[0].state == ("done" if was_done else "cancelled")
    story.assert_books_are_right()


def test_wanted_again_after_it_was_not(story: Story) -> None:
    """The partial refund is taken back (R38): the code is to come back after all, and the same row does it."""
    story.discount("SAVE5")
    story.redeem("SAVE5")
    order = story.buy("SAVE5")
    partly = order.placed_at + timedelta(seconds=10)
    story.refund(order)
    story.hear()
    story.wire.before.append(raising(UNKNOWN))
    story.work()
    story.tell(*refund(4_401, 5_000, returned(order.items[0].id, 5_000), at=partly, order_id=order.id))
    story.work(wait=1000)
    story.undo(4_401)
    assert story.redemption.reactivation == "wanted"
    story.work(wait=1000)
    assert_code_is_back(story)


def test_denied_access_gives_the_points_back(story: Story) -> None:
    refunded(story)
    story.wire.before.append(raising(AccessDenied("write_discounts is missing")))
    story.work()
    assert_points_are_back(story)


def test_reading_denied_gives_the_points_back(engine: Engine, shop: RegisteredShop) -> None:
    story = Story(engine, shop)
    refunded(story)
    story.gateway = Wire(story.front, scopes=("read_orders",))
    story.work()
    assert_points_are_back(story)
    assert [row.state for row in story.rows("reactivate_code")] == ["failed"]


def test_without_a_token_it_waits_for_the_merchant(story: Story) -> None:
    refunded(story)
    story.wire.before.append(raising(NeedsMerchant(story.domain, "token_revoked")))
    assert story.work() == ["later: needs_merchant"]
    assert story.redemption.reactivation == "wanted"
    story.work(wait=4000)
    assert_code_is_back(story)


def test_a_store_that_never_answers_ends_in_points(story: Story) -> None:
    refunded(story)
    for _ in range(30):
        story.wire.before.append(raising(ShopifyUnreachable("away")))
    for _ in range(30):
        story.work(wait=4000)
    assert [row.error_code for row in story.rows("reactivate_code")] == ["attempts_exhausted"]
    assert_points_are_back(story)


def test_what_nobody_can_ask_about_is_left_in_the_open(story: Story) -> None:
    """The call may have been done: points now, and a usable code, would be two benefits (R21)."""
    refunded(story)
    story.wire.after.append(raising(UNKNOWN))
    story.work()
    story.gateway = Wire(story.front, scopes=("read_orders",))
    story.work(wait=1000)
    [row] = story.rows("reactivate_code")
    assert (row.state, row.error_code) == ("failed", "access_denied")
    assert (story.redemption.reactivation, story.balance) == ("wanted", 0)
    assert story.usable_uses("SAVE5") == 1
    with story.engine.begin() as connection:  # it waits for somebody's retry, as is shown: nothing differs
        assert verify(connection, story.id) == []


def test_a_code_comes_back_three_times_and_no_more(story: Story) -> None:
    refunded(story)
    for _ in range(2):
        story.work()
        order = story.buy("SAVE5")
        story.hear()
        story.refund(order)
        story.hear()
    story.work()
    assert (story.redemption.reactivations, story.balance) == (3, 0)
    order = story.buy("SAVE5")
    story.hear()
    story.refund(order)
    story.hear()
    assert story.work() == []
    assert (story.redemption.reactivations, story.redemption.returned, story.balance) == (3, COST, COST)
    assert not story.is_usable("SAVE5")
    story.assert_books_are_right()


class Closed:
    """The gateway of a shop that was never connected."""

    def run(
        self, shop: ShopRow, document_name: str, variables: object, *, background: bool = False
    ) -> NoReturn:
        raise NeedsMerchant(shop.domain, "not_connected")


def test_a_shop_that_never_gave_access_has_the_points_given_back(story: Story) -> None:
    """R23: there is nobody to wait for."""
    refunded(story)
    story.gateway = Closed()
    story.work()
    assert_points_are_back(story)
    assert story.redemption.reactivation_error == "the shop gave no access to Shopify"
