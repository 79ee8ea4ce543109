"""What `unwind demo` prints, without running one."""

import io
import json
from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from rich.console import Console
from sqlalchemy import create_engine

from app.cli.demo import free_port, new_domain
from app.cli.demo_checks import Check, Deed, Outcome, as_expected, effects_of, untouched
from app.cli.demo_show import JsonShow, PlainShow, TerminalShow, show_for
from app.cli.demo_story import Story, program
from app.sandbox.server import Shopfront
from app.sandbox.world import World
from models.rules.program import complete
from models.settings import load_settings
from tasks.steps.shops import normal_domain

SATURDAY = datetime(2026, 11, 21, 9, 30, tzinfo=UTC)


class LoggedOut(Story):
    """A story without a database: what is printed needs none."""

    def login(self) -> str:
        return f"{self.url}/admin/login?token=once"


@pytest.fixture
def story(tmp_path: Path) -> Story:
    world = World(domain="lamps.myshopify.com", seed=5, orders=14, refunds=16)
    world.place(SATURDAY)
    world.unwind(SATURDAY + timedelta(minutes=1))
    settings = load_settings(None, shopify_api_secret="hush")
    shopfront = Shopfront(world.store, lambda sent: None)
    return LoggedOut(
        settings, create_engine("postgresql+psycopg://nowhere"), world, shopfront, "http://store", tmp_path
    )


def outcome_of(story: Story, *, held: bool = True) -> Outcome:
    refunds = [refund for order in story.world.store.orders.values() for refund in order.refunds]
    deeds = {
        refund.id: Deed(reversed=3, returned=2, short=1, reasons=("REMAINDER",)) for refund in refunds[1:]
    }
    return Outcome(story, effects_of(story, deeds), [Check("all is well", held, "[1] compared")], 12.0)


def test_every_refund_has_its_line_with_its_fraction(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    outcome = outcome_of(story)
    PlainShow().outcome(outcome)
    lines = capsys.readouterr().out.splitlines()
    assert len(lines) == len(outcome.effects) + 2 == 18
    assert any(line.endswith("reversed 3, returned 2: closes the order, 1 short, forgiven") for line in lines)
    assert sum("never seen" in line for line in lines) == 1
    goodwill = next(
        order for order in story.world.store.orders.values() if order.scenario.startswith("goodwill")
    )
    line = next(line for line in lines if line.startswith(f"{goodwill.name} "))
    assert f" of {goodwill.total_minor // 100}.{goodwill.total_minor % 100:02d} = " in line
    assert lines[-2:] == ["ok     all is well: [1] compared", "1 of 1 checks held, after 12 s"]


def test_json_is_one_document_with_checks_and_refunds(
    story: Story, capsys: pytest.CaptureFixture[str]
) -> None:
    show = show_for(as_json=True)
    assert isinstance(show, JsonShow)
    show.say("for people")
    show.outcome(outcome_of(story, held=False))
    printed = capsys.readouterr()
    document = json.loads(printed.out)
    assert document["held"] is False
    assert len(document["refunds"]) == 16
    assert document["checks"] == [{"name": "all is well", "held": False, "detail": "[1] compared"}]
    assert printed.err == "for people\n"


def test_a_terminal_gets_a_bar_and_two_tables(story: Story) -> None:
    written = io.StringIO()
    with TerminalShow(Console(file=written, force_terminal=True, width=160)) as show:
        show.scene("Orders come apart", 4)
        show.done(4)
        show.outcome(outcome_of(story))
        show.stays_up(story)
    text = written.getvalue()
    for part in (
        "Orders come apart",
        "4/4",
        "What each refund did",
        "What was checked",
        "[1] compared",
        "admin page:",
        "Ctrl-C",
    ):
        assert part in text


def test_without_a_terminal_lines_are_plain() -> None:
    assert isinstance(show_for(as_json=False), PlainShow)


def test_a_check_that_fails_names_the_first_few_and_counts_the_rest() -> None:
    assert as_expected("sums", [], 3) == Check("sums", True, "3 compared")
    assert as_expected("sums", list("abcdefg"), 9) == Check("sums", False, "a; b; c; d; e and 2 more")


def test_books_that_moved_are_told_from_books_that_did_not() -> None:
    assert untouched("still", [[(1, 2)], [(3,)]], [[(1, 2)], [(3,)]]) == Check(
        "still", True, "2 rows of the books compared"
    )
    assert not untouched("still", [[(1, 2)]], [[(1, 3)]]).held


def test_each_demo_has_a_shop_of_its_own_that_shopify_could_have_named() -> None:
    domains = {new_domain(-12345678) for _ in range(20)}
    assert len(domains) == 20
    assert {normal_domain(domain) for domain in domains} == domains


def test_the_demos_program_is_one_that_the_product_takes() -> None:
    assert complete(program())["return_redeemed"]["enabled"] is True


def test_a_free_port_can_be_listened_on() -> None:
    assert 1024 < free_port() < 65536
