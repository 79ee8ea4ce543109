"""Redemptions at the terminal: shown, and cancelled by the same step as over the API (R34)."""

from __future__ import annotations

import pytest
from sqlalchemy import Engine

from tasks.steps import wallets
from tests.conftest import RegisteredShop, register
from tests.terminal import Unwind

CUSTOMER = 6940095564


@pytest.fixture
def redemption(engine: Engine, shop: RegisteredShop) -> str:
    """300 points on nothing that has a code."""
    with engine.begin() as connection:
        wallets.grant(connection, shop.id, CUSTOMER, amount=500, reason="x")
        return str(wallets.redeem(connection, shop.id, CUSTOMER, reward="custom", amount=300))


def test_it_is_shown_cancelled_and_shown_again(unwind: Unwind, redemption: str) -> None:
    before = unwind("redemption", "show", redemption, "--json")
    assert (before.status, before.json["cancellation"]["state"]) == (0, "untracked")
    done = unwind("redemption", "cancel", redemption, "--yes", "--reason", "by mistake")
    assert done.status == 0
    assert done.out.startswith("300 given back: 300 credited, 0 expired; its code: untracked\n")
    after = unwind("redemption", "show", redemption)
    assert "already_refunded" in after.out and "by mistake" in after.out and "cli" in after.out


def test_a_second_time_is_refused_with_the_date(unwind: Unwind, redemption: str) -> None:
    unwind("redemption", "cancel", redemption, "--yes")
    said = unwind("redemption", "cancel", redemption, "--yes", "--force")
    assert (said.status, said.out) == (1, "")
    assert said.err.splitlines()[-1].startswith("unwind: all of it was refunded on 20")


def test_with_preview_it_says_what_would_be_and_does_nothing(unwind: Unwind, redemption: str) -> None:
    """R37, R34."""
    told = unwind("redemption", "cancel", redemption, "--preview", "--json").json
    said = unwind("redemption", "cancel", redemption, "--preview")
    assert said.out.startswith("this would happen; nothing was done\n\n300 given back: 300 credited")
    assert told["preview"] is True and told["reversal"]["amount"] == 300
    stands = unwind("redemption", "show", redemption, "--json").json
    assert (stands["returned"], stands["reversals"]) == (0, [])
    assert unwind("redemption", "cancel", redemption, "--yes").status == 0


def test_where_nobody_can_be_asked_nothing_is_done(unwind: Unwind, redemption: str) -> None:
    said = unwind("redemption", "cancel", redemption)
    assert (said.status, said.out) == (2, "") and "not at a terminal: say --yes or --preview" in said.err
    assert unwind("redemption", "show", redemption, "--json").json["returned"] == 0


def test_what_needs_force_says_so(unwind: Unwind, engine: Engine, shop: RegisteredShop) -> None:
    with engine.begin() as connection:
        wallets.grant(connection, shop.id, CUSTOMER, amount=500, reason="x")
        made = wallets.redeem(connection, shop.id, CUSTOMER, reward="5-off", code="GIVEN-1")
    shown = unwind("redemption", "show", str(made), "--shop", shop.domain)
    assert "you remove the code yourself" in shown.out
    done = unwind("redemption", "cancel", str(made), "--yes", "--json")
    assert done.json["reversal"]["code"] == "not_reachable"
    assert "remove the code yourself" in done.json["warnings"][0]


@pytest.mark.parametrize("what", [["show"], ["cancel", "--yes"]], ids=["show", "cancel"])
def test_another_stores_redemption_is_not_found(
    unwind: Unwind, engine: Engine, redemption: str, what: list[str]
) -> None:
    other = register(engine)
    said = unwind("redemption", *what, redemption, "--shop", other.domain)
    assert (said.status, said.err.splitlines()[-1]) == (1, f"unwind: no redemption {redemption}")


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["show", "x"], id="no id"),
        pytest.param(["cancel", "1", "--yes", "--reason", "a\tb"], id="a tab in the reason"),
        pytest.param(["cancel", "1", "--yes", "--reason", "x" * 201], id="a long reason"),
    ],
)
def test_what_cannot_be_meant_is_wrong_usage(unwind: Unwind, arguments: list[str]) -> None:
    assert unwind("redemption", *arguments).status == 2
