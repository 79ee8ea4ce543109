"""Orders at the terminal: shown, cancelled, refunded, and what was done taken back, by the steps of the API (R31, R36, R38)."""

from __future__ import annotations

import os
import pty
import subprocess
import sys
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tasks.steps import reversals, wallets
from tasks.steps.load import open_world
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tests.conftest import RegisteredShop, register
from tests.rules.build import day, line, order
from tests.terminal import Output, Unwind

ROOT = Path(__file__).parents[2]


def place(engine: Engine, shop: RegisteredShop, id: str) -> None:
    """An order of $100, two units of one line, that earned 100."""
    placed = order(10_000, line(int(id) * 10, 10_000, units=2), order_id=int(id))
    with engine.begin() as connection:
        world = open_world(connection, by_id(connection, shop.id), day(2))
        settle(world, [Told(fact=placed, received_at=day(2), cause="inbox:1")])


@pytest.fixture
def placed(engine: Engine, shop: RegisteredShop) -> str:
    id = str(10_000 + shop.id)
    place(engine, shop, id)
    return id


def complaint(said: Output) -> str:
    """The last line beside the output; before it a command says which database it talks to."""
    return said.err.splitlines()[-1]


def facts(engine: Engine, shop: RegisteredShop) -> int:
    statement = "select (select count(*) from refunds where shop_id = :id) + (select count(*) from activity where shop_id = :id)"
    with engine.connect() as connection:
        return int(connection.execute(text(statement), {"id": shop.id}).scalar_one())


def test_an_order_is_refunded_shown_and_the_refund_undone(unwind: Unwind, placed: str) -> None:
    said = unwind("order", "refund", placed, "--amount", "20.00", "--yes", "--reason", "Arrived late")
    assert said.status == 0
    assert (
        "of 20.00 USD (1/5 of the order): it goes from open to partially refunded; 80.00 are left" in said.out
    )
    shown = unwind("order", "show", placed)
    assert "partially refunded, 20.00 of 100.00 USD refunded" in shown.out
    assert "merchant" in shown.out and "Arrived late" in shown.out
    refund = unwind("order", "show", placed, "--json").json["refunds"][0]["id"]
    undone = unwind("undo", "refund", refund, "--yes", "--reason", "the wrong one")
    assert undone.out.startswith(
        f"undone: refund:{refund}; the order {placed} goes from partially refunded to open"
    )
    assert f"undone: refund:{refund}" in unwind("order", "show", placed).out
    again = unwind("undo", "refund", refund, "--yes")
    assert (again.status, again.out) == (1, "")
    assert complaint(again).startswith(f"unwind: the refund {refund} was undone already, at 20")


def test_an_order_is_cancelled_and_its_cancellation_undone(unwind: Unwind, placed: str) -> None:
    said = unwind("order", "cancel", placed, "--yes")
    assert "the order goes from open to cancelled" in said.out and "REMAINDER" in said.out
    shown = unwind("order", "show", placed)
    assert "Order cancelled via API" in shown.out and "cli" in shown.out
    refused = unwind("order", "refund", placed, "--yes")
    assert refused.status == 1 and complaint(refused).startswith("unwind: the order is cancelled since 20")
    assert "from cancelled to open" in unwind("undo", "order", placed, "--yes").out
    assert unwind("order", "refund", placed, "--yes", "--lines", f"{placed}0=2").status == 0


def test_a_reversal_is_undone(unwind: Unwind, engine: Engine, shop: RegisteredShop) -> None:
    with engine.begin() as connection:
        wallets.grant(connection, shop.id, 7001, amount=500, reason="x")
        redemption = wallets.redeem(connection, shop.id, 7001, reward="custom", amount=300)
        made = reversals.reverse(
            connection, by_id(connection, shop.id), redemption, amount=100, kind="reversed", code="untracked", by="cli"
        )  # fmt: skip
    said = unwind("undo", "reversal", str(made.id), "--yes")
    assert said.out.startswith(f"undone: reversal {made.id} of 100 of the redemption {redemption}\n")
    assert "300" in said.out and "200" in said.out


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["order", "refund", "ORDER", "--amount", "20.00"], id="a refund"),
        pytest.param(["order", "refund", "ORDER", "--lines", "ORDER0=1"], id="a refund of a line"),
        pytest.param(["order", "cancel", "ORDER"], id="a cancellation"),
    ],
)
def test_with_preview_it_says_what_would_be_and_does_nothing(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, placed: str, arguments: list[str]
) -> None:
    """R37."""
    call = [each.replace("ORDER", placed) for each in arguments]
    before = facts(engine, shop)
    told = unwind(*call, "--preview", "--json").json
    said = unwind(*call, "--preview")
    assert said.status == 0 and said.out.startswith("this would happen; nothing was done\n")
    assert facts(engine, shop) == before
    done = unwind(*call, "--yes", "--json").json
    assert {**told, "id": ""} == {**done, "id": "", "preview": True}
    assert facts(engine, shop) > before


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["order", "refund", "ORDER", "--amount", "20.00"], id="a refund"),
        pytest.param(["order", "refund", "ORDER"], id="a refund of the rest"),
        pytest.param(["order", "cancel", "ORDER"], id="a cancellation"),
        pytest.param(["undo", "refund", "REFUND"], id="an undo of a refund"),
        pytest.param(["undo", "order", "ORDER"], id="an undo of an end"),
        pytest.param(["undo", "reversal", "1"], id="an undo of a reversal"),
    ],
)
def test_where_nobody_can_be_asked_nothing_is_done(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, placed: str, arguments: list[str]
) -> None:
    """A script, a job, a shell without a terminal: what was meant has to be said."""
    refund = unwind("order", "refund", placed, "--amount", "20.00", "--yes", "--json").json["id"]
    before = facts(engine, shop)
    said = unwind(*(each.replace("ORDER", placed).replace("REFUND", refund) for each in arguments))
    assert (said.status, said.out) == (2, "") and "not at a terminal: say --yes or --preview" in said.err
    assert facts(engine, shop) == before


def test_what_a_refund_would_do_is_said_in_the_words_of_what_it_does(unwind: Unwind, placed: str) -> None:
    """R37."""
    words = "of 20.00 USD (1/5 of the order): it goes from {} to partially refunded; {} are left"
    told = unwind("preview", placed, "--amount", "20.00").out
    assert told.startswith("this would happen; nothing was done\n\na refund " + words.format("open", "80.00"))
    done = unwind("order", "refund", placed, "--amount", "20.00", "--yes").out
    assert words.format("open", "80.00") in done
    assert told.splitlines()[3:] == done.splitlines()[1:]
    again = unwind("preview", placed, "--amount", "20.00").out
    assert words.format("partially refunded", "60.00") in again


@pytest.mark.parametrize(
    ("answer", "status", "after"),
    [
        pytest.param("n", 130, "open", id="no"),
        pytest.param("y", 0, "cancelled", id="yes"),
    ],
)
def test_on_a_terminal_the_preview_is_shown_and_whoever_sits_there_is_asked(
    unwind: Unwind,
    environment: dict[str, str],
    placed: str,
    tmp_path: Path,
    answer: str,
    status: int,
    after: str,
) -> None:
    ours, theirs = pty.openpty()
    try:
        os.write(ours, f"{answer}\n".encode())
        ended = subprocess.run(
            [sys.executable, "-m", "app.cli", "order", "cancel", placed],
            stdin=theirs,
            capture_output=True,
            text=True,
            timeout=60,
            cwd=tmp_path,
            env={**os.environ, **{name.upper(): value for name, value in environment.items()}, "PYTHONPATH": str(ROOT)},
        )  # fmt: skip
    finally:
        os.close(ours)
        os.close(theirs)
    assert ended.returncode == status, ended.stderr
    assert "the order goes from open to cancelled" in ended.stderr and "do this? [y/N]" in ended.stderr
    assert unwind("order", "show", placed, "--json").json["status"] == after


def test_an_order_of_another_store_is_not_found(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, placed: str
) -> None:
    other = register(engine)
    said = unwind("order", "show", placed, "--shop", other.domain)
    assert (said.status, complaint(said)) == (1, f"unwind: no order {placed}")
    assert unwind("order", "show", placed, "--shop", shop.domain).status == 0


@pytest.mark.parametrize(
    "what",
    [
        ["order", "show"],
        ["order", "cancel", "--yes"],
        ["undo", "refund", "--yes"],
        ["undo", "reversal", "--yes"],
    ],
)
def test_what_there_is_not_is_one_line(unwind: Unwind, what: list[str]) -> None:
    said = unwind(*what, "999999")
    kind = "order" if what[0] == "order" else what[1]
    assert (said.status, said.out, complaint(said)) == (1, "", f"unwind: no {kind} 999999")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["order", "show", "x"], id="no id"),
        pytest.param(["order", "cancel", "1", "--yes", "--reason", "a\tb"], id="a tab in the reason"),
        pytest.param(["order", "cancel", "1", "--yes", "--reason", "x" * 201], id="a long reason"),
        pytest.param(
            ["order", "refund", "1", "--yes", "--amount", "1.00", "--lines", "1=1"], id="an amount and lines"
        ),
        pytest.param(["order", "refund", "1", "--yes", "--lines", "1"], id="a line without units"),
        pytest.param(["undo", "refund", "--yes"], id="no refund"),
    ],
)
def test_wrong_usage_is_2(unwind: Unwind, arguments: list[str]) -> None:
    assert unwind(*arguments).status == 2
