"""R38: a worker dies by SIGKILL while it takes the code away that came back for what a merchant undoes, at a store over
real HTTP."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine

from tasks.steps import read
from tests.faults.conftest import DieRemoving
from tests.faults.removals import Scene, deaths
from tests.flows.codes_story import CodeRefused


class Undone(Scene):
    """An order whose refund gave a code back; its undo waits for the code to be taken away."""

    def ask(self) -> None:
        story = self.story
        order = story.buy(self.code)
        self.order_id = order.id
        story.refund(order)
        story.hear()
        story.work()
        assert story.usable_uses(self.code) == 1
        assert story.undo(int(self.order["refunds"][0]["id"]))["state"] == "removing_code"

    @property
    def order(self) -> dict[str, Any]:
        with self.story.engine.connect() as connection:
            return read.order(connection, self.story.id, self.order_id)

    def booked(self) -> str:
        return str(self.order["status"])

    def assert_done_once(self) -> None:
        story, redemption = self.story, self.story.redemption
        assert (self.order["status"], self.order["refunded"]) == ("open", "0.00")
        assert (redemption.restitution, redemption.reactivation, redemption.returned) == ("none", "none", 0)
        assert [row.state for row in story.rows("remove_code")] == ["done"]
        assert len(story.activity("refund.undone")) == 1 and story.activity("undo.refused") == []
        with pytest.raises(CodeRefused):
            story.buy(self.code)
        story.assert_books_are_right()


def test_death_anywhere_between_the_removal_and_its_booking_undoes_once(
    engine: Engine, die_removing: DieRemoving, capsys: pytest.CaptureFixture[str]
) -> None:
    """R21, R38: until it is booked the refund stands; whoever takes the row over finds what was done at Shopify."""
    found = deaths(Undone, engine, die_removing)
    for died, status in found:
        assert status == ("open" if died == "after all" else "fully_refunded"), died
    with capsys.disabled():
        print(f"\n  killed at {len(found)} points of an undo, each finished by the next worker")
