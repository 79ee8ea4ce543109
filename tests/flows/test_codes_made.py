"""A reward's code made at Shopify, and taken away unused: the points are behind the code or with the customer, never
both (R16, R21, R30)."""

from __future__ import annotations

from concurrent.futures import ThreadPoolExecutor
from contextlib import suppress
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.errors import AccessDenied, NeedsMerchant, OutcomeUnknown, ShopifyUnreachable
from models.rules.codes import mark
from models.settings import Settings
from tasks.steps.codes import codes_key
from tasks.steps.merges import merge
from tasks.steps.shops import by_id
from tasks.steps.survivors import hold_alone
from tests.conftest import RegisteredShop
from tests.flows.codes_story import COST, REWARD, CodeRefused, Died, Story, Wire, raising

UNKNOWN = OutcomeUnknown("no answer")
WAITING = text(
    "select exists (select from pg_locks where locktype = 'advisory' and not granted"
    " and database = (select oid from pg_database where datname = current_database()))"
)


@pytest.fixture
def story(engine: Engine, shop: RegisteredShop) -> Story:
    made = Story(engine, shop)
    made.redeem()
    return made


def assert_made(story: Story) -> str:
    """One discount stands for the redemption, usable once, and the points are spent."""
    [code] = story.codes()
    assert (story.redemption.code, story.redemption.code_state) == (code, "active")
    assert (story.redemption.ended, story.balance) == (None, 0)
    assert [discount.codes[0].code for discount in story.store.codes.discounts.values()] == [code]
    assert story.usable_uses(code) == 1
    story.assert_books_are_right()
    return code


def assert_given_back(story: Story, why: str, *, state: str) -> None:
    redemption = story.redemption
    assert (redemption.ended, redemption.code_state) == (why, state)
    assert (redemption.restitution, redemption.returned, story.balance) == ("points", COST, COST)
    story.assert_books_are_right()


# -- made --------------------------------------------------------------------------------------------


def test_the_redeemer_and_nobody_else_can_use_the_code_once(story: Story) -> None:
    story.work()
    code = assert_made(story)
    with pytest.raises(CodeRefused, match="another customer's"):
        story.buy(code, story.shopify.customer())
    story.buy(code)
    with pytest.raises(CodeRefused):
        story.buy(code)


def test_the_discount_says_what_it_is(story: Story) -> None:
    story.work()
    [discount] = story.store.codes.discounts.values()
    assert discount.title == f"$5 off (redemption {story.redemption_id})"
    assert discount.tags == ("unwind", mark(story.redemption_id, 0))
    assert (discount.amount_minor, discount.usage_limit, discount.ends_at) == (500, 1, None)
    assert not discount.once_per_customer  # its use may come back to him


@pytest.mark.parametrize(
    ("reward", "fields"),
    [
        pytest.param(
            {"kind": "percentage_discount", "value": "12.5"},
            {"kind": "DiscountCodeBasic", "percent": Decimal("0.125")},
            id="percentage",
        ),
        pytest.param({"kind": "free_shipping"}, {"kind": "DiscountCodeFreeShipping"}, id="free shipping"),
    ],
)
def test_every_kind_of_discount_reward_is_made(
    engine: Engine, shop: RegisteredShop, reward: dict[str, Any], fields: dict[str, object]
) -> None:
    story = Story(engine, shop, reward={**REWARD, **reward})
    story.redeem()
    story.work()
    assert_made(story)
    [discount] = story.store.codes.discounts.values()
    assert {name: getattr(discount, name) for name in fields} == fields


@pytest.mark.parametrize(
    "reward",
    [
        pytest.param({"value": "0.00"}, id="nothing off"),
        pytest.param({"kind": "percentage_discount", "value": "150"}, id="more than all"),
    ],
)
def test_a_value_that_makes_no_discount_gives_the_points_back(
    engine: Engine, shop: RegisteredShop, reward: dict[str, Any]
) -> None:
    story = Story(engine, shop, reward={**REWARD, **reward})
    story.redeem()
    story.work()
    assert_given_back(story, "code_failed", state="failed")
    assert story.redemption.code_error


@pytest.mark.parametrize("kind", ["gift_card", "store_credit", "free_product", "vip_entry", "membership"])
def test_a_reward_that_is_no_discount_asks_nothing_of_shopify(
    engine: Engine, shop: RegisteredShop, kind: str
) -> None:
    story = Story(engine, shop, reward={**REWARD, "kind": kind})
    story.redeem()
    assert story.rows() == []
    assert (story.redemption.code_state, story.redemption.code, story.balance) == ("none", None, 0)


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("died", [UNKNOWN, Died()], ids=["the answer is lost", "the worker dies"])
def test_a_code_is_made_once_whatever_becomes_of_the_answer(
    story: Story, died: BaseException, when: str
) -> None:
    getattr(story.wire, when).append(raising(died))
    with suppress(Died):
        story.work()
    story.work(wait=1000)
    assert_made(story)


def test_two_workers_make_one_discount(story: Story) -> None:
    [row] = story.rows()

    def another_worker() -> None:
        story.pass_time(seconds=1000)
        story.work_row(row.id)

    story.wire.before.append(another_worker)
    story.work_row(row.id)
    assert_made(story)
    assert story.wire.mutations() == ["discount_create", "discount_create"]  # the second was TAKEN


def test_a_code_that_somebody_else_has_gives_the_points_back(story: Story) -> None:
    theirs = story.discount(story.redemption.code, usage_limit=None)
    story.work()
    assert_given_back(story, "code_failed", state="failed")
    assert story.store.codes.discounts == {theirs.id: theirs}
    assert story.wire.mutations() == []
    assert [row.error_code for row in story.rows()] == ["code_taken_at_shopify"]


def test_denied_access_gives_the_points_back(story: Story) -> None:
    story.gateway = Wire(story.front, scopes=("read_discounts",))
    story.work()
    assert_given_back(story, "code_failed", state="failed")
    assert story.store.codes.discounts == {}


def test_a_code_given_up_in_the_middle_of_a_merge_goes_to_the_survivor(story: Story) -> None:
    """Locks come in one order everywhere: whoever gives up waits for the merge, and the merge for nobody."""
    survivor = story.shopify.customer()
    story.wire.before.append(raising(AccessDenied("write_discounts")))
    with ThreadPoolExecutor(1) as worker, story.engine.begin() as connection:
        hold_alone(connection, story.id)
        giving_up = worker.submit(story.work)
        while not connection.execute(WAITING).scalar_one():
            assert not giving_up.done()
        shop = by_id(connection, story.id)
        merge(connection, shop, kept=survivor.id, deleted=story.customer.id, cause="test", now=story.clock())
        connection.commit()
        assert giving_up.result() == ["failed: access_denied"]
    assert story.redemption.customer_id == survivor.id
    assert_given_back(story, "code_failed", state="failed")


def test_without_a_token_code_and_points_wait_for_the_merchant(story: Story) -> None:
    story.wire.before.append(raising(NeedsMerchant(story.domain, "token_revoked")))
    story.work()
    assert (story.redemption.code_state, story.balance) == ("wanted", 0)
    story.work(wait=4000)
    assert_made(story)


def test_a_store_that_is_away_for_too_long_gives_the_points_back(story: Story) -> None:
    story.wire.before.extend(raising(ShopifyUnreachable("away")) for _ in range(30))
    for _ in range(30):
        story.work(wait=4000)
    assert_given_back(story, "code_failed", state="failed")


def test_a_code_that_may_have_been_made_keeps_the_points(story: Story) -> None:
    """Nobody can look whether it was: points now, and a usable code, would be two benefits (R21)."""
    story.wire.after.append(raising(UNKNOWN))
    story.work()
    story.gateway = Wire(story.front, scopes=("read_orders",))
    story.work(wait=1000)
    assert (story.redemption.code_state, story.redemption.ended, story.balance) == ("wanted", None, 0)
    assert "nobody knows" in story.redemption.code_error
    assert [row.error_code for row in story.rows()] == ["access_denied"]


def test_no_code_is_made_for_points_that_are_back_already(story: Story) -> None:
    story.ask("remove_code", then="auto_refunded")
    _, row = story.rows()
    story.work_row(row.id)
    assert story.work() == []
    assert_given_back(story, "auto_refunded", state="removed")
    assert story.store.codes.discounts == {}


def test_a_code_is_not_removed_while_it_is_being_made(story: Story) -> None:
    story.ask("remove_code", then="auto_refunded")
    made, removed = story.rows()
    said: list[str] = []
    story.wire.before.append(lambda: said.append(story.work_row(removed.id)))
    story.work_row(made.id)
    assert said == ["later: try_again"]
    story.work(wait=10)
    assert_given_back(story, "auto_refunded", state="removed")
    assert story.store.codes.discounts == {}


# -- taken away --------------------------------------------------------------------------------------


def test_our_unused_code_is_deleted_and_its_points_come_back(story: Story) -> None:
    story.work()
    code = assert_made(story)
    story.ask("remove_code", then="auto_refunded")
    story.work()
    assert_given_back(story, "auto_refunded", state="removed")
    assert story.store.codes.discounts == {} and not story.is_usable(code)


def test_a_code_can_go_without_its_points(story: Story) -> None:
    story.work()
    story.ask("remove_code")
    story.work()
    assert (story.redemption.code_state, story.redemption.ended, story.balance) == ("removed", None, 0)
    assert story.store.codes.discounts == {}


@pytest.mark.parametrize("when", ["before", "after"])
@pytest.mark.parametrize("died", [UNKNOWN, Died()], ids=["the answer is lost", "the worker dies"])
def test_points_come_back_once_whatever_becomes_of_the_answer(
    story: Story, died: BaseException, when: str
) -> None:
    story.work()
    story.ask("remove_code", then="auto_refunded")
    getattr(story.wire, when).append(raising(died))
    with suppress(Died):
        story.work()
    assert story.balance == 0
    story.work(wait=1000)
    assert_given_back(story, "auto_refunded", state="removed")
    assert story.store.codes.discounts == {}


def test_our_code_is_found_though_it_was_renamed(story: Story) -> None:
    story.work()
    [discount] = story.store.codes.discounts.values()
    discount.codes[0].code = "SOMETHING-ELSE"
    story.ask("remove_code", then="auto_refunded")
    story.work()
    assert_given_back(story, "auto_refunded", state="removed")
    assert story.store.codes.discounts == {}


@pytest.mark.parametrize("told", [True, False], ids=["we know its order", "only Shopify knows"])
def test_a_used_code_stays_and_its_points_stay_spent(story: Story, told: bool) -> None:
    story.work()
    story.buy(story.redemption.code)
    if told:
        story.hear()
    story.ask("remove_code", then="auto_refunded")
    story.work()
    assert (story.redemption.code_state, story.redemption.ended, story.balance) == ("active", None, 0)
    assert [row.error_code for row in story.rows("remove_code")] == ["code_used"]
    assert len(story.store.codes.discounts) == 1


def test_a_use_told_of_while_the_code_goes_keeps_the_points_spent(story: Story) -> None:
    story.store.codes.lag = story.clock() - story.clock().replace(year=2025)
    story.work()
    story.buy(story.redemption.code)  # neither counted by Shopify nor told to us
    story.ask("remove_code", then="auto_refunded")
    story.wire.after.append(story.hear)
    story.work()
    assert (story.redemption.code_state, story.redemption.ended, story.balance) == ("removed", None, 0)
    story.assert_books_are_right()


def test_a_merchants_code_for_one_use_is_ended_and_stays_for_him_to_see(
    engine: Engine, shop: RegisteredShop
) -> None:
    story = Story(engine, shop)
    discount = story.discount("SAVE5")
    story.redeem("SAVE5")
    story.ask("remove_code", then="auto_refunded")
    story.pass_time(seconds=5)
    story.work()
    assert_given_back(story, "auto_refunded", state="removed")
    assert discount.ends_at is not None and not story.is_usable("SAVE5")
    assert story.wire.mutations() == ["discount_deactivate"]


@pytest.mark.parametrize(
    "fields",
    [
        pytest.param({"usage_limit": None}, id="everybody's"),
        pytest.param({"usage_limit": 50}, id="fifty uses"),
    ],
)
def test_a_discount_that_others_use_is_left_alone(
    engine: Engine, shop: RegisteredShop, fields: dict[str, Any]
) -> None:
    story = Story(engine, shop)
    story.discount("SAVE5", **fields)
    story.redeem("SAVE5")
    story.ask("remove_code", then="auto_refunded")
    story.work()
    assert [row.error_code for row in story.rows()] == ["code_shared"]
    assert (story.redemption.ended, story.balance, story.is_usable("SAVE5")) == (None, 0, True)


def test_a_code_that_is_gone_already_gives_its_points_back(engine: Engine, shop: RegisteredShop) -> None:
    story = Story(engine, shop)
    story.redeem("SAVE5")
    story.ask("remove_code", then="auto_refunded")
    story.work()
    assert_given_back(story, "auto_refunded", state="removed")


def test_a_redemption_without_a_code_gives_its_points_back(engine: Engine, shop: RegisteredShop) -> None:
    story = Story(engine, shop, reward={**REWARD, "kind": "gift_card"})
    story.redeem()
    story.ask("remove_code", then="auto_refunded")
    story.work()
    assert_given_back(story, "auto_refunded", state="none")
    assert story.wire.calls == []


def test_denied_access_takes_nothing_away(story: Story) -> None:
    story.work()
    story.ask("remove_code", then="auto_refunded")
    story.wire.before.append(raising(AccessDenied("write_discounts is missing")))
    story.work()
    assert_made(story)


# -- the key -----------------------------------------------------------------------------------------


def test_codes_are_derived_under_a_key_of_their_own() -> None:
    first, second = "A" * 43 + "=", "B" * 43 + "="
    key = codes_key(Settings(token_encryption_keys=(first,)))  # type: ignore[arg-type]
    assert key != first.encode() and len(key) == 32
    assert key == codes_key(Settings(token_encryption_keys=(first, second)))  # type: ignore[arg-type]
    assert key != codes_key(Settings(token_encryption_keys=(second,)))  # type: ignore[arg-type]
