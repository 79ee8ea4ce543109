"""The same codes through real sockets: connections that end, answers that never come, throttled calls."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from sqlalchemy import Engine

from models.settings import load_settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tests.conftest import register
from tests.flows.codes_story import COST, CodeRefused, Story
from tests.pretend import pretend_shopify
from worker.celery_settings import make_app


@pytest.fixture
def story(fresh_engine: Engine) -> Iterator[Story]:
    shop = register(fresh_engine)
    with pretend_shopify(shop.domain) as shopify:
        settings = load_settings(None, **shopify.settings(shopify_timeout_seconds=5))
        token = GivenToken(shop.domain, shopify.token_for())
        gateway = Shopify(settings, token, sleep=lambda seconds: None)
        yield Story(fresh_engine, shop, shopify=shopify, gateway=gateway)


def given_up(story: Story, code: str) -> None:
    order = story.buy(code)
    story.hear()
    story.refund(order)
    story.hear()


def test_made_used_given_up_and_used_again(story: Story) -> None:
    story.redeem()
    story.work()
    code = story.redemption.code
    given_up(story, code)
    assert not story.is_usable(code)
    story.work()
    assert story.usable_uses(code) == 1
    story.buy(code)
    assert not story.is_usable(code)
    assert story.shopify.calls().count("DiscountCreate") == 1
    assert story.shopify.calls().count("DiscountUpdate") == 1


def test_an_answer_that_is_lost(story: Story) -> None:
    story.redeem()
    story.shopify.faults().add("lost", only="DiscountCreate")
    assert story.work() == ["later: outcome_unknown"]
    story.work(wait=10)
    assert len(story.store.codes.discounts) == 1
    code = story.redemption.code
    given_up(story, code)
    story.shopify.faults().add("lost", only="DiscountUpdate")
    assert story.work() == ["later: outcome_unknown"]
    story.work(wait=10)
    assert (story.redemption.reactivation, story.usable_uses(code)) == ("done", 1)
    assert story.shopify.calls().count("DiscountUpdate") == 1


def test_trouble_at_shopify_and_then_throttled(story: Story) -> None:
    story.redeem()
    story.shopify.faults().add("status", only="DiscountCreate", status=502)
    story.work()
    story.shopify.faults().throttle(story.clock(), 60)
    assert story.work(wait=10) == ["later: shopify_throttled"]
    story.pass_time(seconds=61)
    story.work(wait=10)
    assert story.redemption.code_state == "active"
    assert story.usable_uses(story.redemption.code) == 1


def test_a_code_of_a_pool_comes_back_as_another(story: Story) -> None:
    story.discount("SAVE5", "SAVE6", percent=0)
    story.redeem("SAVE5")
    given_up(story, "SAVE5")
    story.work()
    first, fresh = story.codes()
    assert (first, story.usable_uses(fresh), story.is_usable("SAVE6")) == ("SAVE5", 1, True)


def test_the_worker_knows_the_tasks_by_the_names_that_the_outbox_sends() -> None:
    app = make_app("redis://127.0.0.1:6379/15")
    app.loader.import_default_modules()
    assert {"codes.create", "codes.remove", "codes.reactivate"} <= set(app.tasks)


def test_cancelled_though_the_answer_of_its_removal_is_lost(story: Story) -> None:
    """R34: the checkout takes the code no more, and the points are back once."""
    story.redeem()
    story.work()
    code = story.redemption.code
    story.cancel()
    story.shopify.faults().add("lost", only="DiscountDelete")
    assert story.work() == ["later: outcome_unknown"]
    assert story.balance == 0
    story.work(wait=10)
    with pytest.raises(CodeRefused):
        story.buy(code)
    assert (story.redemption.code_state, story.balance) == ("removed", COST)
    assert story.shopify.calls().count("DiscountDelete") == 1
    story.assert_books_are_right()
