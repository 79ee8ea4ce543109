"""R34: a worker dies by SIGKILL while it takes the code of a cancelled redemption away, at a store over real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from models.settings import load_settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tests.conftest import register
from tests.faults.conftest import DieRemoving
from tests.faults.crash_child import LIVES
from tests.flows.codes_story import COST, CodeRefused, Story
from tests.pretend import pretend_shopify

OUTSIDE = ("begin", "before the commit", "after all")  # and each call of Shopify


class Scene:
    """A redemption whose cancellation waits for its code to be taken away."""

    def __init__(self, story: Story, token: str) -> None:
        self.story = story
        self.code = story.redemption.code
        story.cancel(reason="a mistake")
        [row] = story.rows("remove_code")
        self.asked = {
            "domain": story.domain,
            "row": row.id,
            "base_url": story.shopify.base_url,
            "token": token,
        }


@contextmanager
def scene(engine: Engine) -> Iterator[Scene]:
    shop = register(engine)
    with pretend_shopify(shop.domain) as shopify:
        settings = load_settings(None, **shopify.settings())
        token = shopify.token_for()
        gateway = Shopify(settings, GivenToken(shop.domain, token))
        story = Story(engine, shop, shopify=shopify, gateway=gateway)
        story.redeem()
        story.work()
        assert story.usable_uses(story.redemption.code) == 1
        yield Scene(story, token)


def assert_cancelled_once(scene: Scene) -> None:
    story = scene.story
    assert (story.redemption.returned, story.balance) == (COST, COST)
    [entry] = story.activity("redemption.cancelled")
    assert (entry.detail["code"], entry.detail["reason"]) == ("removed", "a mistake")
    assert [row.state for row in story.rows("remove_code")] == ["done"]
    with pytest.raises(CodeRefused):
        story.buy(scene.code)
    story.assert_books_are_right()


def test_death_anywhere_between_the_removal_and_its_booking_gives_back_once(
    engine: Engine, die_removing: DieRemoving, capsys: pytest.CaptureFixture[str]
) -> None:
    """R21, R34: whoever takes the row over finds what was done at Shopify, and books it."""
    with scene(engine) as undisturbed:
        labels = die_removing(undisturbed.asked, LIVES)
        assert_cancelled_once(undisturbed)
    points = [
        n for n, label in enumerate(labels) if label in OUTSIDE or label.endswith(("_by_code", "_delete"))
    ]
    assert any(labels[n] == "after discount_delete" for n in points)
    for point in points:
        with scene(engine) as crashed:
            died = die_removing(crashed.asked, point)
            assert died == labels[point]
            before = crashed.story.balance
            crashed.story.work(wait=1000)
            assert_cancelled_once(crashed)
            assert before == (COST if died == "after all" else 0), died
    with capsys.disabled():
        print(f"\n  killed at {len(points)} points of a removal, each finished by the next worker")
