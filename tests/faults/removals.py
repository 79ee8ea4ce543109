"""A worker that dies by SIGKILL while it takes a code away, at a store over real HTTP: what is the same whatever it is
taken away for."""

from __future__ import annotations

from abc import ABC, abstractmethod
from collections.abc import Iterator
from contextlib import contextmanager
from typing import TypeVar

from sqlalchemy import Engine, text

from models.settings import load_settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tests.conftest import register
from tests.faults.conftest import DieRemoving
from tests.faults.crash_child import LIVES
from tests.flows.codes_story import Story
from tests.pretend import pretend_shopify

OUTSIDE = ("begin", "before the commit", "after all")  # and each call of Shopify

AnyScene = TypeVar("AnyScene", bound="Scene")


class Scene(ABC):
    """A redemption whose code waits to be taken away."""

    def __init__(self, story: Story, token: str) -> None:
        self.story = story
        self.code = story.redemption.code
        self.ask()
        [row] = story.rows("remove_code")
        self.asked = {
            "domain": story.domain,
            "row": row.id,
            "base_url": story.shopify.base_url,
            "token": token,
        }

    def wait_for_the_dead(self) -> None:
        """PostgreSQL ends the transaction of a killed worker when it notices; until then its row is passed over."""
        with self.story.engine.begin() as connection:
            connection.execute(
                text("select from outbox where id = :id for update"), {"id": self.asked["row"]}
            )

    @abstractmethod
    def ask(self) -> None:
        """Do what the code is to be taken away for."""

    @abstractmethod
    def booked(self) -> object:
        """What is another thing once the removal is booked."""

    @abstractmethod
    def assert_done_once(self) -> None: ...


@contextmanager
def scene(kind: type[AnyScene], engine: Engine) -> Iterator[AnyScene]:
    shop = register(engine)
    with pretend_shopify(shop.domain) as shopify:
        token = shopify.token_for()
        gateway = Shopify(load_settings(None, **shopify.settings()), GivenToken(shop.domain, token))
        story = Story(engine, shop, shopify=shopify, gateway=gateway)
        story.redeem()
        story.work()
        assert story.usable_uses(story.redemption.code) == 1
        yield kind(story, token)


def deaths(kind: type[Scene], engine: Engine, die_removing: DieRemoving) -> list[tuple[str, object]]:
    """Die at every point in turn, each finished by the next worker: where it was, and what was booked by then."""
    with scene(kind, engine) as undisturbed:
        labels = die_removing(undisturbed.asked, LIVES)
        undisturbed.assert_done_once()
    points = [
        n for n, label in enumerate(labels) if label in OUTSIDE or label.endswith(("_by_code", "_delete"))
    ]
    assert any(labels[n] == "after discount_delete" for n in points)
    found = []
    for point in points:
        with scene(kind, engine) as crashed:
            died = die_removing(crashed.asked, point)
            assert died == labels[point]
            crashed.wait_for_the_dead()
            found.append((died, crashed.booked()))
            crashed.story.work(wait=1000)
            crashed.assert_done_once()
    return found
