"""R34: a merchant cancels a redemption. Points or a usable code, never both (R21), whatever state its code is in."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager, suppress
from datetime import timedelta
from threading import Barrier
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.errors import AccessDenied, NeedsMerchant, OutcomeUnknown, Refused, ShopifyUnreachable
from tasks.steps import installations, wallets
from tasks.steps.load import ShopRow
from tasks.steps.merges import merge
from tasks.steps.programs import put
from tasks.steps.shops import by_id
from tests.conftest import RegisteredShop
from tests.flows.codes_story import COST, REWARD, CodeRefused, Died, Story, raising

UNKNOWN = OutcomeUnknown("no answer")
DISCONNECT = text("delete from installations where shop_id = :id")


@pytest.fixture
def story(engine: Engine, shop: RegisteredShop) -> Story:
    return Story(engine, shop)


@pytest.fixture
def made(story: Story) -> Story:
    """A redemption whose code was made at Shopify and is unused."""
    story.redeem()
    story.work()
    assert story.usable_uses(story.redemption.code) == 1
    return story


def assert_cancelled(story: Story, code: str, *, amount: int = COST) -> None:
    """All that was left came back, once; the record says what became of the code."""
    redemption = story.redemption
    assert (redemption.returned, redemption.restitution, story.balance) == (COST, "points", COST)
    [entry] = story.activity("redemption.cancelled")
    assert (entry.detail["code"], entry.detail["amount"], entry.detail["by"]) == (code, amount, "cli")
    assert story.cancellation()["state"] == "already_refunded"
    assert redemption.cancel_refused is None
    story.assert_books_are_right()


def assert_nothing_came_back(story: Story) -> None:
    assert (story.redemption.returned, story.balance) == (0, 0)
    assert story.activity("redemption.cancelled") == []
    story.assert_books_are_right()


@contextmanager
def refused(code: str) -> Iterator[pytest.ExceptionInfo[Refused]]:
    with pytest.raises(Refused) as caught:
        yield caught
    assert caught.value.code == code


def without_the_rule(story: Story) -> None:
    settings = {"earning": [], "return_redeemed": {"enabled": True}, "rewards": []}
    with story.engine.begin() as connection:
        put(connection, story.id, settings, now=story.clock())


def without_access(story: Story) -> None:
    with story.engine.begin() as connection:
        connection.execute(DISCONNECT, {"id": story.id})


def spent(story: Story, reward: str = "custom", **more: Any) -> None:
    with story.engine.begin() as connection:
        story.redemption_id = wallets.redeem(
            connection, story.id, story.customer.id, reward=reward, now=story.clock(), **more
        )


# -- unused ------------------------------------------------------------------------------------------


def test_an_unused_code_is_removed_and_the_points_come_back_with_a_note(made: Story) -> None:
    """R34: unused -> code removed and points back, with a note."""
    code = made.redemption.code
    assert made.cancellation()["state"] == "unused"
    answer = made.cancel(reason="Redeemed by mistake")
    assert (answer["cancellation"]["state"], answer["reversal"]) == ("code_being_changed", None)
    assert_nothing_came_back(made)
    made.work()
    assert_cancelled(made, "removed")
    assert made.store.codes.discounts == {}
    with pytest.raises(CodeRefused):
        made.buy(code)
    assert made.redemption.code_state == "removed"
    assert made.activity("redemption.cancelled")[0].detail["reason"] == "Redeemed by mistake"


def test_what_the_merchant_typed_is_not_kept_with_the_work(made: Story) -> None:
    made.cancel(reason="a word")
    assert made.rows("remove_code")[0].payload["then"]["cancelled"]["reason"] == "a word"
    made.work()
    assert "a word" not in str(made.rows("remove_code")[0].payload)


def test_a_code_that_is_not_made_yet_is_not_made(story: Story) -> None:
    """R34: nothing has to be removed, so the points come back at once."""
    story.redeem()
    answer = story.cancel()
    assert (answer["reversal"]["amount"], answer["warnings"]) == (COST, [])
    assert_cancelled(story, "removed")
    assert story.work() == [] and story.store.codes.discounts == {}


def test_a_code_that_is_just_being_made_is_made_and_removed(story: Story) -> None:
    story.redeem()
    states: list[str] = []
    story.wire.before.append(lambda: states.append(story.cancel()["cancellation"]["state"]))
    story.work()
    assert states == ["code_being_changed"]
    story.work(wait=10)
    assert_cancelled(story, "removed")
    assert story.store.codes.discounts == {}


@pytest.mark.parametrize("when", ["before", "after"])
def test_a_code_that_may_have_been_made_is_looked_for_first(story: Story, when: str) -> None:
    """R21: the answer to its making was lost, so nobody knows whether it can be used."""
    story.redeem()
    getattr(story.wire, when).append(raising(UNKNOWN))
    story.work()
    assert story.cancel()["reversal"] is None
    story.work(wait=10)
    assert_cancelled(story, "removed")
    assert story.store.codes.discounts == {}


def test_a_code_that_may_have_been_made_and_cannot_be_asked_about_is_made_after_all(story: Story) -> None:
    """R21, R34: not cancelled, so the customer gets the code that was paid for; the next call takes it away."""
    story.redeem()
    story.wire.before.append(raising(UNKNOWN))
    story.work()
    story.cancel()
    story.gateway = Unreachable(story)
    [_, removal] = story.rows()
    assert story.work_row(removal.id) == "not cancelled: not_connected"
    story.gateway = story.wire
    story.work(wait=1000)
    assert story.usable_uses(story.redemption.code) == 1
    story.cancel()
    story.work()
    assert_cancelled(story, "removed")


class Unreachable:
    """A store whose token works no more."""

    def __init__(self, story: Story) -> None:
        self.domain = story.domain

    def run(self, *asked: object, **more: object) -> dict[str, Any]:
        raise NeedsMerchant(self.domain, "token_revoked")


def test_a_merchants_code_for_one_use_is_ended(story: Story) -> None:
    discount = story.discount("SAVE5")
    story.redeem("SAVE5")
    story.cancel()
    story.pass_time(seconds=5)
    story.work()
    assert_cancelled(story, "removed")
    assert discount.ends_at is not None and not story.is_usable("SAVE5")


def test_a_code_that_was_deleted_at_shopify_gives_the_points_back(story: Story) -> None:
    story.redeem("SAVE5")
    story.cancel()
    story.work()
    assert_cancelled(story, "removed")


# -- unused, and the rule is gone --------------------------------------------------------------------


def test_without_its_spending_rule_the_merchant_is_asked_first(made: Story) -> None:
    """R34: unused but the spending rule is gone -> error first, and with force points back, code unchanged."""
    code = made.redemption.code
    without_the_rule(made)
    assert made.cancellation()["state"] == "unused_rule_gone"
    with refused("spending_rule_gone"):
        made.cancel()
    assert_nothing_came_back(made)
    answer = made.cancel(force=True)
    assert answer["reversal"]["code"] == "unchanged" and "remove it at Shopify" in answer["warnings"][0]
    assert_cancelled(made, "unchanged")
    assert made.usable_uses(code) == 1 and made.work() == []


def test_a_free_amount_has_no_rule_to_be_gone(story: Story) -> None:
    story.discount("SAVE5")
    spent(story, amount=COST, code="SAVE5")
    without_the_rule(story)
    story.cancel()
    story.work()
    assert_cancelled(story, "removed")


# -- used --------------------------------------------------------------------------------------------


def test_a_used_code_stays_used_and_its_points_come_back_with_force(made: Story) -> None:
    """R34: used -> points back with force, code stays used."""
    order = made.buy(made.redemption.code)
    made.hear()
    assert (made.cancellation()["state"], made.cancellation()["used_on"]) == ("used", str(order.id))
    with refused("code_used") as error:
        made.cancel()
    assert error.value.details["used_on"] == str(order.id)
    assert_nothing_came_back(made)
    made.cancel(force=True)
    assert_cancelled(made, "stays_used")
    assert len(made.store.codes.discounts) == 1 and made.wire.mutations() == ["discount_create"]
    made.refund(order)
    made.hear()
    assert_cancelled(made, "stays_used")  # the refund finds nothing left
    assert made.rows("reactivate_code") == [] and not made.is_usable(made.redemption.code)


def test_of_a_used_code_what_a_refund_returned_is_not_returned_again(
    engine: Engine, shop: RegisteredShop
) -> None:
    """R14, R34: partly returned: the rest comes back."""
    story = Story(engine, shop, reward={**REWARD, "reactivate_code": False})
    story.redeem()
    story.work()
    order = story.buy(story.redemption.code)
    story.hear()
    story.refund(order, units=1)
    story.hear()
    assert (story.redemption.returned, story.balance) == (COST // 2, COST // 2)
    story.cancel(force=True)
    assert_cancelled(story, "stays_used", amount=COST - COST // 2)


def test_a_use_that_only_shopify_knows_of_is_told_to_the_merchant(made: Story) -> None:
    """R34: the answer of the removal is the merchant's, no failure of ours; force stands over it."""
    made.buy(made.redemption.code)
    made.cancel()
    assert made.work() == ["not cancelled: code_used"]
    assert_nothing_came_back(made)
    assert [row.state for row in made.rows("remove_code")] == ["done"]
    told = made.cancellation()
    assert (told["state"], told["needs_force"], told["refused"]) == ("used", True, "code_used")
    [entry] = made.activity("redemption.not_cancelled")
    assert entry.detail["code"] == "code_used" and "with force" in entry.detail["message"]
    with refused("code_used"):
        made.cancel()
    made.cancel(force=True)
    assert_cancelled(made, "stays_used")


def test_force_goes_on_when_shopify_says_that_the_code_was_used(made: Story) -> None:
    made.buy(made.redemption.code)
    made.cancel(force=True)
    made.work()
    assert_cancelled(made, "stays_used")
    assert made.activity("redemption.not_cancelled") == []


@pytest.mark.parametrize("force", [False, True], ids=["asked plainly", "asked with force"])
def test_a_use_told_of_while_the_code_goes(made: Story, force: bool) -> None:
    """R21, R34: the code was used before it went, so its points are on an order."""
    made.store.codes.lag = timedelta(days=400)
    made.buy(made.redemption.code)  # neither counted by Shopify nor told to us
    made.cancel(force=force)
    made.wire.after.append(made.hear)
    made.work()
    if force:
        assert_cancelled(made, "stays_used")
    else:
        assert_nothing_came_back(made)
        assert made.cancellation()["state"] == "used"
    assert made.redemption.code_state == "removed"


def test_an_order_that_comes_after_all_is_seen_and_returns_nothing_more(made: Story) -> None:
    """R21, R34: Shopify counts uses late, so a code can have been used just before it was removed."""
    made.store.codes.lag = timedelta(days=400)
    order = made.buy(made.redemption.code)
    made.cancel()
    made.work()
    assert_cancelled(made, "removed")
    made.hear()
    with made.engine.connect() as connection:
        statement = text("select flags from orders where shop_id = :shop and order_id = :id")
        assert connection.execute(statement, {"shop": made.id, "id": order.id}).scalar_one() == [
            "CODE_OF_CANCELLED"
        ]
    assert made.cancellation()["used_on"] == str(order.id)
    made.refund(order)
    made.hear()
    assert_cancelled(made, "removed")


@pytest.mark.parametrize("kind", ["gift_card", "store_credit"])
def test_a_gift_card_is_value_that_was_given_out(engine: Engine, shop: RegisteredShop, kind: str) -> None:
    """R16, R34: nothing returns it by itself; a merchant may, with force."""
    story = Story(engine, shop, reward={**REWARD, "kind": kind})
    story.redeem()
    assert story.cancellation()["state"] == "used" and "given out" in story.cancellation()["message"]
    with refused("code_used"):
        story.cancel()
    story.cancel(force=True)
    assert_cancelled(story, "stays_used")


# -- untracked ---------------------------------------------------------------------------------------


@pytest.mark.parametrize("kind", ["free_product", "vip_entry", "membership"])
def test_an_untracked_reward_gives_its_points_back(engine: Engine, shop: RegisteredShop, kind: str) -> None:
    """R18, R34: untracked -> points back, code not touched; asked for nothing first."""
    story = Story(engine, shop, reward={**REWARD, "kind": kind})
    story.redeem()
    assert story.cancellation()["state"] == "untracked"
    answer = story.cancel()
    assert "cannot be told" in answer["warnings"][0]
    assert_cancelled(story, "untracked")
    assert story.wire.calls == []


def test_a_group_gets_back_what_each_gave(story: Story) -> None:
    """R20, R34."""
    other = story.shopify.customer()
    with story.engine.begin() as connection:
        wallets.grant(connection, story.id, other.id, amount=40, reason="x", now=story.clock())
    spent(story, amount=100, sources=[(story.customer.id, 60), (other.id, 40)])
    booked = story.cancel()["reversal"]
    assert {member["customer_id"]: member["credited"] for member in booked["members"]} == {
        str(story.customer.id): 60,
        str(other.id): 40,
    }
    story.assert_books_are_right()


def test_what_has_expired_is_told_and_not_credited(story: Story) -> None:
    """R19, R34."""
    late = story.shopify.customer()
    with story.engine.begin() as connection:
        ends = story.clock() + timedelta(days=10)
        wallets.grant(
            connection, story.id, late.id, amount=50, reason="x", expires_at=ends, now=story.clock()
        )
        story.redemption_id = wallets.redeem(
            connection, story.id, late.id, reward="custom", amount=50, now=story.clock()
        )
    story.pass_time(days=11)
    booked = story.cancel()["reversal"]
    assert (booked["amount"], booked["credited"], booked["expired"]) == (50, 0, 50)
    story.assert_books_are_right()


# -- already refunded --------------------------------------------------------------------------------


def test_what_came_back_already_is_told_with_its_date(engine: Engine, shop: RegisteredShop) -> None:
    """R34: already refunded -> the date of that refund, nothing done, with force neither."""
    story = Story(engine, shop, reward={**REWARD, "reactivate_code": False})
    story.redeem()
    story.work()
    order = story.buy(story.redemption.code)
    story.refund(order)
    story.hear()
    assert story.redemption.returned == COST
    refunded_at = story.cancellation()["refunded_at"]
    assert refunded_at is not None and refunded_at.startswith("2026-03-01")
    for force in (False, True):
        with refused("already_refunded") as error:
            story.cancel(force=force)
        assert error.value.details["refunded_at"] == refunded_at and "2026-03-01" in str(error.value)
    assert story.activity("redemption.cancelled") == []


def test_a_redemption_given_back_by_itself_is_refunded_already(made: Story) -> None:
    """R30, R34."""
    made.ask("remove_code", then="auto_refunded")
    made.work()
    with refused("already_refunded"):
        made.cancel(force=True)


def test_a_second_cancellation_is_refused_with_the_date_of_the_first(made: Story) -> None:
    """R34."""
    made.cancel()
    assert made.cancel()["cancellation"]["state"] == "code_being_changed"  # asked again: asked for once
    assert len(made.rows("remove_code")) == 1
    made.work()
    with refused("already_refunded"):
        made.cancel()
    assert_cancelled(made, "removed")


# -- a code that came back ---------------------------------------------------------------------------


def given_up(story: Story, code: str) -> None:
    order = story.buy(code)
    story.hear()
    story.refund(order)
    story.hear()


def test_a_code_that_came_back_and_is_unused_is_cancelled_like_any_other(made: Story) -> None:
    """R22, R23, R34: its use was given back, so it is unused again; its restitution is points then."""
    code = made.redemption.code
    given_up(made, code)
    made.work()
    assert (made.redemption.restitution, made.usable_uses(code)) == ("code", 1)
    assert made.cancellation()["state"] == "unused"
    made.cancel()
    made.work()
    assert_cancelled(made, "removed")
    assert not made.is_usable(code) and made.store.codes.discounts == {}


def test_one_that_came_back_as_another_code_leaves_none_that_can_be_used(story: Story) -> None:
    """R34, S11: a code of a pool came back as a fresh one: that is removed, the pool is left alone."""
    story.discount("SAVE5", "SAVE6")
    story.redeem("SAVE5")
    given_up(story, "SAVE5")
    story.work()
    first, fresh = story.codes()
    assert (story.is_usable(first), story.usable_uses(fresh)) == (False, 1)
    story.cancel()
    story.work()
    assert_cancelled(story, "removed")
    assert not story.is_usable(fresh) and story.is_usable("SAVE6")


def test_one_that_came_back_and_was_used_again_is_used(made: Story) -> None:
    code = made.redemption.code
    given_up(made, code)
    made.work()
    made.buy(code)
    made.hear()
    with refused("code_used"):
        made.cancel()
    made.cancel(force=True)
    assert_cancelled(made, "stays_used")


def test_one_that_came_back_and_was_used_as_only_shopify_knows(made: Story) -> None:
    """R21, R34: the code is worth nothing any more, so force gives the points back."""
    code = made.redemption.code
    given_up(made, code)
    made.work()
    made.buy(code)
    made.cancel()
    assert made.work() == ["not cancelled: code_used"]
    with refused("code_used"):
        made.cancel()
    made.cancel(force=True)
    assert_cancelled(made, "stays_used")


def test_a_code_everybody_shares_that_came_back_keeps_the_points(story: Story) -> None:
    """R21: the customer can use it, so he does not get the points as well, with force neither."""
    story.discount("SAVE5", usage_limit=None)
    story.redeem("SAVE5")
    given_up(story, "SAVE5")
    story.work()
    assert story.redemption.restitution == "code"
    story.cancel(force=True)
    assert story.work() == ["not cancelled: code_shared"]
    with refused("given_back_as_code"):
        story.cancel(force=True)
    assert story.balance == 0 and story.is_usable("SAVE5")
    story.assert_books_are_right()


def test_while_a_code_may_just_be_coming_back_nothing_is_cancelled(made: Story) -> None:
    """R21, R34: nobody knows whether it was made usable again."""
    given_up(made, made.redemption.code)
    made.wire.after.append(raising(UNKNOWN))
    made.work()
    for force in (False, True):
        with refused("code_in_flight"):
            made.cancel(force=force)
    made.work(wait=1000)
    made.cancel()
    made.work()
    assert_cancelled(made, "removed")
    assert made.store.codes.discounts == {}


def test_a_code_that_is_about_to_come_back_is_waited_for(made: Story) -> None:
    """R21, R22: wanted, and nothing sent yet: refused for the moment; once it is back it is cancelled like any unused one."""
    given_up(made, made.redemption.code)
    assert made.redemption.reactivation == "wanted"
    with pytest.raises(Refused) as refused:
        made.cancel(force=True)
    assert refused.value.code == "code_in_flight"
    assert_nothing_came_back(made)
    made.work()
    made.cancel()
    made.work()
    assert_cancelled(made, "removed")
    assert not made.is_usable(made.redemption.code)


# -- shared, and out of reach ------------------------------------------------------------------------


@pytest.mark.parametrize(
    "others",
    [
        pytest.param({"usage_limit": None}, id="everybody's"),
        pytest.param({"usage_limit": 50}, id="fifty uses"),
        pytest.param({"names": ("SAVE5", "SAVE6")}, id="one of a pool"),
    ],
)
def test_a_discount_that_others_use_is_left_alone(story: Story, others: dict[str, Any]) -> None:
    """R34, S11: never on a pool of codes; with force the points come back and the code is unchanged."""
    story.discount(*others.get("names", ()), **{k: v for k, v in others.items() if k != "names"})
    story.redeem("SAVE5")
    story.cancel()
    assert story.work() == ["not cancelled: code_shared"]
    assert_nothing_came_back(story)
    told = story.cancellation()
    assert (told["state"], told["needs_force"], told["refused"]) == ("unused", True, "code_shared")
    with refused("code_shared"):
        story.cancel()
    answer = story.cancel(force=True)
    assert answer["reversal"]["code"] == "unchanged" and story.is_usable("SAVE5")
    assert_cancelled(story, "unchanged")


def test_a_code_given_to_us_by_a_shop_without_access_is_the_merchants_to_remove(story: Story) -> None:
    """R34: points back at once, with the word that the code is still there."""
    without_access(story)
    story.redeem("SAVE5")
    answer = story.cancel()
    assert answer["warnings"] == [
        "the code could not be taken away, for the shop gives us no access; remove the code yourself"
    ]
    assert_cancelled(story, "not_reachable")
    assert story.rows() == []


def test_a_code_of_ours_out_of_reach_is_asked_about_first(made: Story) -> None:
    """R21, R34: it can be used, so only the merchant can say that points come back beside it."""
    without_access(made)
    with refused("not_connected"):
        made.cancel()
    made.cancel(force=True)
    assert_cancelled(made, "not_reachable")


def test_access_lost_in_the_middle_is_told_and_asked_again(made: Story) -> None:
    made.cancel()
    made.wire.before.append(raising(NeedsMerchant(made.domain, "token_revoked")))
    assert made.work() == ["not cancelled: not_connected"]
    assert made.cancellation()["refused"] == "not_connected"
    made.cancel()
    made.work()
    assert_cancelled(made, "removed")


def test_denied_access_is_told_to_merchant_and_operator(made: Story) -> None:
    made.cancel()
    made.wire.before.append(raising(AccessDenied("write_discounts is missing")))
    assert made.work() == ["failed: access_denied"]
    assert made.cancellation()["refused"] == "access_denied"
    assert len(made.activity("redemption.not_cancelled")) == 1
    assert_nothing_came_back(made)
    made.cancel()
    made.work()
    assert_cancelled(made, "removed")


def test_a_store_that_is_away_for_too_long_is_told(made: Story) -> None:
    made.wire.before.extend(raising(ShopifyUnreachable("away")) for _ in range(30))
    made.cancel(force=True)
    for _ in range(30):
        made.work(wait=4000)
    assert_cancelled(made, "not_reachable")


# -- once --------------------------------------------------------------------------------------------


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("died", [UNKNOWN, Died()], ids=["the answer is lost", "the worker dies"])
def test_points_come_back_once_whatever_becomes_of_the_answer(
    made: Story, died: BaseException, when: str
) -> None:
    """R34: what was begun at Shopify is finished by whoever comes next."""
    made.cancel()
    getattr(made.wire, when).append(raising(died))
    with suppress(Died):
        made.work()
    assert_nothing_came_back(made)
    made.work(wait=1000)
    assert_cancelled(made, "removed")
    assert made.store.codes.discounts == {}


def test_two_workers_give_back_once(made: Story) -> None:
    made.cancel()
    [row] = made.rows("remove_code")

    def another_worker() -> None:
        made.pass_time(seconds=1000)
        made.work_row(row.id)

    made.wire.before.append(another_worker)
    made.work_row(row.id)
    assert_cancelled(made, "removed")


def test_the_nightly_giving_back_and_a_merchant_give_back_once(made: Story) -> None:
    """R30, R34."""
    made.ask("remove_code", then="auto_refunded")
    made.cancel()
    made.work()
    assert (made.redemption.returned, made.balance) == (COST, COST)
    assert [row.state for row in made.rows("remove_code")] == ["done", "done"]
    made.assert_books_are_right()


def test_a_customer_merged_meanwhile_gets_it_as_the_one_he_is_now(made: Story) -> None:
    """R33, R34."""
    made.cancel()
    survivor = made.shopify.customer()
    with made.engine.begin() as connection:
        shop = by_id(connection, made.id)
        merge(connection, shop, kept=survivor.id, deleted=made.customer.id, cause="test", now=made.clock())
    made.work()
    assert made.redemption.customer_id == survivor.id
    assert_cancelled(made, "removed")


def at_once(count: int, *calls: Any) -> list[Any]:
    """Each call from so many threads, all begun together: what it returned, or the code of its refusal."""
    begin = Barrier(count * len(calls))

    def run(call: Any) -> Any:
        begin.wait(30)
        try:
            return call()
        except Refused as error:
            return error.code

    with ThreadPoolExecutor(count * len(calls)) as pool:
        return [done.result() for done in [pool.submit(run, call) for call in calls * count]]


@pytest.mark.parametrize("reward", ["custom", "five-off"], ids=["untracked", "used"])
def test_sixteen_clients_cancel_at_once(story: Story, reward: str) -> None:
    """R34: one of them gives back, the others are told when."""
    if reward == "custom":
        spent(story, amount=COST)
    else:
        story.redeem()
        story.work()
        story.buy(story.redemption.code)
        story.hear()
    said = at_once(16, lambda: story.cancel(force=True)["reversal"]["amount"])
    assert sorted(map(str, said)) == [str(COST), *["already_refunded"] * 15]
    assert_cancelled(story, "untracked" if reward == "custom" else "stays_used")


def test_sixteen_clients_ask_for_one_removal(made: Story) -> None:
    said = at_once(16, lambda: made.cancel()["cancellation"]["state"])
    assert said == ["code_being_changed"] * 16
    assert len(made.rows("remove_code")) == 1
    made.work()
    assert_cancelled(made, "removed")


def test_a_refund_and_a_cancellation_at_once_return_it_once(engine: Engine, shop: RegisteredShop) -> None:
    """R14, R34: the caps hold, and nobody waits for ever."""
    story = Story(engine, shop, reward={**REWARD, "reactivate_code": False})
    story.redeem()
    story.work()
    order = story.buy(story.redemption.code)
    story.hear()
    story.refund(order)
    said = at_once(1, *[lambda: story.cancel(force=True)["reversal"]["amount"]] * 8, story.hear)
    assert sum(1 for each in said if each == COST) <= 2  # hear() counts deliveries
    assert (story.redemption.returned, story.balance) == (COST, COST)
    story.assert_books_are_right()


# -- what happens while nobody looks -----------------------------------------------------------------


class Meanwhile:
    """The store's wire; once its next answer is on its way, something else happens."""

    def __init__(self, story: Story, act: Callable[[], object]) -> None:
        self.story, self.act = story, act

    def run(
        self, shop: ShopRow, document: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        answer = self.story.wire.run(shop, document, variables, background=background)
        self.story.gateway = self.story.wire
        self.act()
        return answer


def test_shopifys_word_of_a_use_is_forgotten_when_that_use_is_given_back(story: Story) -> None:
    """R21: refused as used, then the order is told and given up and the code comes back: it is unused again."""
    story.discount("SAVE5")
    story.redeem("SAVE5")
    order = story.buy("SAVE5")  # Shopify knows of it, we do not yet
    story.cancel()
    assert story.work() == ["not cancelled: code_used"]
    story.hear()
    story.refund(order)
    story.hear()
    story.work()
    assert story.cancellation()["state"] == "unused"
    assert story.cancel(force=True)["reversal"] is None
    story.work()
    assert_cancelled(story, "removed")
    assert not story.is_usable("SAVE5")


@pytest.mark.parametrize("force", [False, True])
def test_a_code_that_comes_back_while_its_removal_is_decided_is_looked_at_again(
    story: Story, force: bool
) -> None:
    """R21: what Shopify said of the code before it came back is not booked; never points and a usable code."""
    story.discount("SAVE5")
    story.redeem("SAVE5")
    story.cancel(force=force)
    order = story.buy("SAVE5")
    story.hear()
    story.refund(order)
    story.hear()
    [removal], [reactivation] = story.rows("remove_code"), story.rows("reactivate_code")
    story.gateway = Meanwhile(story, lambda: story.work_row(reactivation.id))
    assert story.work_row(removal.id) == "later: try_again"
    assert (story.redemption.returned, story.is_usable("SAVE5")) == (0, True)
    story.work(wait=60)
    assert story.is_usable("SAVE5") == (story.redemption.returned == 0)
    story.assert_books_are_right()


def test_an_uninstalled_shop_keeps_what_its_customers_wait_for(engine: Engine, story: Story) -> None:
    """R21, R22: a code that is to come back does not vanish with the app; it waits for the merchant."""
    story.discount("SAVE5")
    story.redeem("SAVE5")
    order = story.buy("SAVE5")
    story.hear()
    story.refund(order)
    story.hear()
    with engine.begin() as connection:
        installations.forget(connection, story.id)
    assert [(row.kind, row.state) for row in story.rows()] == [("reactivate_code", "pending")]
