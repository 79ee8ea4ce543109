"""What a preview shows is what the refund then does, asked of us or told by Shopify (R37); it changes nothing itself."""

from __future__ import annotations

import os
from collections.abc import Iterator
from contextlib import contextmanager
from dataclasses import replace
from typing import Any

import pytest
from sqlalchemy import Engine

from models.errors import Refused
from models.rules.facts import Fact
from tasks.steps import merchants
from tasks.steps.parse import parse
from tasks.steps.preview import preview
from tests.books import Books, state_of
from tests.flows.by_hand import (
    attempt,
    currency_of,
    everything,
    in_units,
    standing_shop,
    what_stands,
)
from tests.oracle.merchants import Act, named
from tests.oracle.render import render
from tests.oracle.worlds import GAPS, Delivery, Seeded, Wish, World, make_world

EXAMPLES = int(os.environ.get("UNWIND_EXAMPLES", "10"))
SHOPIFYS = 5_099_000_001  # the id of a refund of Shopify's that no world has


def refund_wished(seed: int) -> tuple[World, Wish]:
    """A world that has come to rest, and a refund that a merchant thinks of."""
    source = Seeded(seed)
    world = make_world(source, orders=2)
    kind = source.pick(["refund_amount", "refund_lines", "refund_rest"])
    part = source.pick([100, 50, 33, 1])
    return world, Wish(world.now + source.pick(GAPS[1:]), kind, source.integer(0, 5), part)


@contextmanager
def before_a_refund(engine: Engine, world: World, wish: Wish) -> Iterator[tuple[Books, Act] | None]:
    """The shop at the moment of the wish, and what it comes to; None where nothing can be refunded."""
    with standing_shop(engine, world) as (books, hand):
        act = hand.act_of(wish)
        possible = act is not None and act.kind == "refund" and act.verdict == "done"
        books.pass_time(now=wish.at)
        yield (books, act) if act is not None and possible else None


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_a_preview_shows_what_the_refund_does_and_changes_nothing(engine: Engine, seed: int) -> None:
    """R36, R37: the same numbers before and after, and the same state as when Shopify tells of this very refund."""
    with before_a_refund(engine, *refund_wished(seed)) as found:
        if found is None:
            return
        books, act = found
        shown = seen_before(books, act)
        with attempt(books):
            before = state_of(books)
            done = refunded(books, act)
            assert {name: done[name] for name in shown} == shown
            assert_shown_is_so(shown, before, state_of(books))
            asked_of_us = renamed(what_stands(books), int(done["id"]))
        with attempt(books):
            books.tell([by_shopify(books, act)], now=act.at)
            assert renamed(what_stands(books), SHOPIFYS) == asked_of_us


@pytest.mark.parametrize("seed", range(EXAMPLES))
def test_the_rest_closes_the_order(engine: Engine, seed: int) -> None:
    """R4, R31, R36, S9: whatever edits, exchanges and refunds were before; then nothing is left to refund."""
    world, wish = refund_wished(seed)
    with before_a_refund(engine, world, replace(wish, kind="refund_rest")) as found:
        if found is None:
            return
        books, act = found
        assert refunded(books, act)["status_after"] == "fully_refunded"
        with pytest.raises(Refused) as refused:
            refunded(books, act)
        assert refused.value.code == "already_refunded"


def wish_of(books: Books, act: Act) -> dict[str, Any]:
    amount = None if act.amount is None else in_units(act.amount, currency_of(books, act.of))
    return {"amount": amount, "lines": None if act.lines is None else dict(act.lines), "now": act.at}


def seen_before(books: Books, act: Act) -> dict[str, Any]:
    before = everything(books)
    with books.engine.begin() as connection:
        shown = preview(connection, books.shop_id, act.of, **wish_of(books, act))
    assert everything(books) == before
    return shown


def refunded(books: Books, act: Act) -> dict[str, Any]:
    with books.engine.begin() as connection:
        return merchants.refund_order(
            connection, books.shop_id, act.of, reason=None, by="cli", **wish_of(books, act)
        )


def by_shopify(books: Books, act: Act) -> Delivery:
    """The webhook of the same refund, through the parser."""
    facts: tuple[Fact, ...] = tuple(named(fact, SHOPIFYS) for fact in act.facts)
    currency = currency_of(books, act.of)
    topic, body = render(Delivery(act.at, "refunds/create", facts), currency=currency)
    return Delivery(act.at, topic, tuple(parse(topic, body, shop_currency=currency)))


def assert_shown_is_so(shown: dict[str, Any], before: dict[str, Any], after: dict[str, Any]) -> None:
    """What was shown against the difference that the books show."""
    order = int(shown["order_id"])
    (old_status, _, old_awards, _), (status, _, awards, _) = before["orders"][order], after["orders"][order]
    assert (shown["status_before"], shown["status_after"]) == (old_status, status)
    reversed_now = sum(a[1] for a in awards.values()) - sum(a[1] for a in old_awards.values())
    returned_now = sum(
        after["redemptions"][id][0] - row[0] for id, row in before["redemptions"].items() if row[4] == order
    )
    if {t: a[0] for t, a in awards.items()} == {t: a[0] for t, a in old_awards.items()}:
        assert shown["reversed"] == reversed_now  # goods given for goods lower what an added line earned (S9)
    assert shown["returned"] == returned_now
    for each in shown["customers"]:
        id = int(each["id"])
        assert each["balance_before"] == before["customers"][id][0]
        assert each["balance_after"] == after["customers"][id][0]
    moved = {int(each["id"]) for each in shown["customers"]}
    still = set(after["customers"]) - moved
    assert {id: after["customers"][id][0] for id in still} == {id: before["customers"][id][0] for id in still}
    for each in shown["tiers"]:
        id = int(each["id"])
        assert (each["before"], each["after"]) == (before["customers"][id][3], after["customers"][id][3])


def renamed(state: dict[str, list[str]], id: int) -> dict[str, list[str]]:
    """The state without the id of the refund in it."""
    return {
        name: sorted(row.replace(f"refund:{id}'", "refund:this'") for row in rows)
        for name, rows in state.items()
    }
