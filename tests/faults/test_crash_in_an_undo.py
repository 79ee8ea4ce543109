"""R38: a worker dies by SIGKILL while it takes the code away that came back for what a merchant undoes, at a store over
real HTTP."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager

import pytest
from sqlalchemy import Engine

from models.settings import load_settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tasks.steps import read
from tests.conftest import register
from tests.faults.conftest import DieRemoving
from tests.faults.crash_child import LIVES
from tests.flows.codes_story import CodeRefused, Story
from tests.pretend import pretend_shopify

OUTSIDE = ("begin", "before the commit", "after all")  # and each call of Shopify


class Scene:
    """An order whose refund gave a code back; its undo waits for the code to be taken away."""

    def __init__(self, story: Story, token: str) -> None:
        self.story = story
        self.code = story.redemption.code
        order = story.buy(self.code)
        self.order_id = order.id
        story.refund(order)
        story.hear()
        story.work()
        assert story.usable_uses(self.code) == 1
        assert story.undo(int(self.order["refunds"][0]["id"]))["state"] == "removing_code"
        [row] = story.rows("remove_code")
        self.asked = {
            "domain": story.domain,
            "row": row.id,
            "base_url": story.shopify.base_url,
            "token": token,
        }

    @property
    def order(self) -> dict[str, object]:
        with self.story.engine.connect() as connection:
            return read.order(connection, self.story.id, self.order_id)


@contextmanager
def scene(engine: Engine) -> Iterator[Scene]:
    shop = register(engine)
    with pretend_shopify(shop.domain) as shopify:
        token = shopify.token_for()
        gateway = Shopify(load_settings(None, **shopify.settings()), GivenToken(shop.domain, token))
        story = Story(engine, shop, shopify=shopify, gateway=gateway)
        story.redeem()
        story.work()
        yield Scene(story, token)


def assert_undone_once(scene: Scene) -> None:
    story, redemption = scene.story, scene.story.redemption
    assert (scene.order["status"], scene.order["refunded"]) == ("open", "0.00")
    assert (redemption.restitution, redemption.reactivation, redemption.returned) == ("none", "none", 0)
    assert [row.state for row in story.rows("remove_code")] == ["done"]
    assert len(story.activity("refund.undone")) == 1 and story.activity("undo.refused") == []
    with pytest.raises(CodeRefused):
        story.buy(scene.code)
    story.assert_books_are_right()


def test_death_anywhere_between_the_removal_and_its_booking_undoes_once(
    engine: Engine, die_removing: DieRemoving, capsys: pytest.CaptureFixture[str]
) -> None:
    """R21, R38: until it is booked the refund stands; whoever takes the row over finds what was done at Shopify."""
    with scene(engine) as undisturbed:
        labels = die_removing(undisturbed.asked, LIVES)
        assert_undone_once(undisturbed)
    points = [
        n for n, label in enumerate(labels) if label in OUTSIDE or label.endswith(("_by_code", "_delete"))
    ]
    assert any(labels[n] == "after discount_delete" for n in points)
    for point in points:
        with scene(engine) as crashed:
            died = die_removing(crashed.asked, point)
            assert died == labels[point]
            before = crashed.order["status"]
            crashed.story.work(wait=1000)
            assert_undone_once(crashed)
            assert before == ("open" if died == "after all" else "fully_refunded"), died
    with capsys.disabled():
        print(f"\n  killed at {len(points)} points of an undo, each finished by the next worker")
