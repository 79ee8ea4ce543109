"""R34: a worker dies by SIGKILL while it takes the code of a cancelled redemption away, at a store over real HTTP."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tests.faults.conftest import DieRemoving
from tests.faults.removals import Scene, deaths
from tests.flows.codes_story import COST, CodeRefused


class Cancelled(Scene):
    """A redemption whose cancellation waits for its code to be taken away."""

    def ask(self) -> None:
        self.story.cancel(reason="a mistake")

    def booked(self) -> int:
        return self.story.balance

    def assert_done_once(self) -> None:
        story = self.story
        assert (story.redemption.returned, story.balance) == (COST, COST)
        [entry] = story.activity("redemption.cancelled")
        assert (entry.detail["code"], entry.detail["reason"]) == ("removed", "a mistake")
        assert [row.state for row in story.rows("remove_code")] == ["done"]
        with pytest.raises(CodeRefused):
            story.buy(self.code)
        story.assert_books_are_right()


def test_death_anywhere_between_the_removal_and_its_booking_gives_back_once(
    engine: Engine, die_removing: DieRemoving, capsys: pytest.CaptureFixture[str]
) -> None:
    """R21, R34: whoever takes the row over finds what was done at Shopify, and books it."""
    found = deaths(Cancelled, engine, die_removing)
    for died, balance in found:
        assert balance == (COST if died == "after all" else 0), died
    with capsys.disabled():
        print(f"\n  killed at {len(found)} points of a removal, each finished by the next worker")
