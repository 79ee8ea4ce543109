"""What was bought before is in the imported history: orders of that time that are told all the same count once."""

from __future__ import annotations

from collections.abc import Callable, Iterator, Mapping
from concurrent.futures import ThreadPoolExecutor, wait
from datetime import UTC, datetime
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tasks.steps import shops
from tasks.steps.imports.run import import_file
from tasks.steps.load import open_world
from tasks.steps.merges import merge
from tasks.steps.programs import put
from tasks.steps.replay import replay
from tasks.steps.settle import Told, settle
from tests.conftest import RegisteredShop
from tests.flows.conftest import Door
from tests.imports.conftest import KEY, Import, everything_agrees
from tests.imports.test_refunds_of_imported import (
    AS_OF,
    CODED,
    ORDER,
    OTHER,
    WHO,
    customer,
    payload,
    placed,
    refunded,
    sent,
)
from tests.rules.build import CUSTOMER, order, settings

DAYS = "record,reference,customer_id,day,spend,currency,orders"
GOLD = {"metric": "spend", "levels": [{"id": "gold", "name": "Gold", "threshold": "500.00"}]}


@pytest.fixture(autouse=True)
def books_stay_right(engine: Engine, shop: RegisteredShop) -> Iterator[None]:
    """Gold from 500.00 on; whatever a story does, everything can be worked out again from the record."""
    with engine.begin() as connection:
        put(connection, shop.id, settings(tiers=GOLD), now=datetime(2019, 1, 1, tzinfo=UTC))
    yield
    assert everything_agrees(engine, shop.id)
    assert replay(engine, shop.domain).changed == 0


def history(take_in: Import, *more: str, who: int = WHO, options: tuple[str, ...] = AS_OF) -> None:
    """450.00 in five orders, one of them the order of 110.00 that Shopify can tell of."""
    line = f"history,h-{who},{who},2026-03-02,450.00,USD,5"
    assert take_in(DAYS, line, *more, name=f"{who}-{len(more)}.csv", options=options).status == 0


def stands(door: Door, who: int = WHO) -> tuple[Any, ...]:
    seen = customer(door, who)
    return seen["spend"]["lifetime"], seen["orders_count"], seen["tier"]


def tiers_moved(door: Door) -> int:
    query = text("select count(*) from activity where shop_id = :id and kind = 'tier.changed'")
    with door.engine.connect() as connection:
        found: int = connection.execute(query, {"id": door.shop.id}).scalar_one()
    return found


def merged(door: Door) -> None:
    """WHO becomes one with OTHER."""
    with door.engine.begin() as connection:
        shop = shops.by_id(connection, door.shop.id)
        merge(connection, shop, kept=OTHER, deleted=WHO, cause="test", now=datetime.now(UTC))


STEPS: Mapping[str, Callable[[Door, Import], None]] = {
    "history": lambda door, take_in: history(take_in),
    "order": lambda door, take_in: placed(door),
    "refund": lambda door, take_in: refunded(door, 1, "27.50"),
}


@pytest.mark.parametrize("sequence", list(permutations(STEPS)), ids=" then ".join)
def test_an_old_order_that_is_told_because_of_its_refund_takes_from_the_history_what_came_back(
    door: Door, take_in: Import, sequence: tuple[str, ...]
) -> None:
    """R0, R24, R25, R26: 450.00 and five orders with it, so 422.50 and five; at no time 560.00, and gold."""
    for step in sequence:
        STEPS[step](door, take_in)
    assert stands(door) == ("422.50", 5, None)
    assert tiers_moved(door) == 0


@pytest.mark.parametrize("first", ["history", "order"])
def test_a_refund_that_closes_an_old_order_takes_the_rest_of_it_and_one_order(
    door: Door, take_in: Import, first: str
) -> None:
    """R25: what came back before the file was written is not in its history."""
    steps = [lambda: history(take_in), lambda: placed(door)]
    for step in steps if first == "history" else reversed(steps):
        step()
    refunded(door, 1, "10.00", at="2026-03-02T20:00:00Z")
    assert stands(door) == ("450.00", 5, None)
    refunded(door, 2, "100.00")
    assert stands(door) == ("350.00", 4, None)


def test_a_downgrade_by_a_refund_of_an_old_order(door: Door, take_in: Import) -> None:
    """R26: 520.00 were gold."""
    history(take_in, f"history,h-2,{WHO},2026-01-10,70.00,USD,1")
    assert stands(door) == ("520.00", 6, "gold")
    placed(door)
    assert stands(door) == ("520.00", 6, "gold")
    refunded(door, 1, "27.50")
    assert stands(door) == ("492.50", 6, None)


def test_orders_placed_since_the_import_and_of_people_without_history_count_whole(
    door: Door, take_in: Import
) -> None:
    """R24."""
    history(take_in, who=OTHER)
    placed(door)
    assert stands(door) == ("110.00", 1, None)
    history(take_in)
    assert stands(door) == ("450.00", 5, None)
    later = payload("orders_create.plain", id=ORDER + 50, created_at="2026-03-04T10:00:00Z", updated_at="2026-03-04T10:00:00Z")  # fmt: skip
    sent(door, "orders/create", later)
    assert stands(door) == ("560.00", 6, "gold")


def test_a_later_file_with_an_old_day_says_nothing_of_the_orders_since_the_first_one(
    door: Door, take_in: Import
) -> None:
    """R24: one with a new day does."""
    first = f"history,h-1,{WHO},2026-01-10,40.00,USD,1"
    assert take_in(DAYS, first, name="1.csv", options=("--as-of", "2026-02-01T00:00:00Z")).status == 0
    placed(door)
    assert stands(door)[:2] == ("150.00", 2)
    old = f"history,h-2,{WHO},2025-12-24,5.00,USD,1"
    assert take_in(DAYS, old, name="2.csv", options=AS_OF).status == 0
    assert stands(door)[:2] == ("155.00", 3)
    new = f"history,h-3,{WHO},2026-03-02,110.00,USD,1"
    assert take_in(DAYS, new, name="3.csv", options=AS_OF).status == 0
    assert stands(door)[:2] == ("155.00", 3)


def test_what_an_edit_took_before_the_file_was_written_is_not_taken_again(
    door: Door, take_in: Import
) -> None:
    """S9, R24: the order is told for the first time after it; one unit of 25.00 was gone before."""
    history(take_in)
    told = payload("orders_create.plain", updated_at="2026-03-08T10:00:00Z")
    told["line_items"][0]["current_quantity"] = 1
    sent(door, "orders/updated", told)
    assert stands(door) == ("450.00", 5, None)
    again = payload("orders_create.plain", updated_at="2026-03-09T10:00:00Z")
    again["line_items"][0]["current_quantity"] = 0
    sent(door, "orders/updated", again)
    spent, orders, _ = stands(door)
    assert (float(spent) < 450, float(spent) > 420, orders) == (True, True, 5)


def test_less_than_nothing_was_never_spent(door: Door, take_in: Import) -> None:
    """R24: a history that knew of less than came back."""
    line = f"history,h-1,{WHO},2026-03-02,20.00,USD,0"
    assert take_in(DAYS, line, options=AS_OF).status == 0
    placed(door)
    sent(door, "refunds/create", payload("refunds_create.full"))
    seen = customer(door)
    assert (set(seen["spend"].values()) - {"USD"}, seen["orders_count"]) == ({"0.00"}, 0)


def ordered_by(who: int) -> dict[str, Any]:
    told = payload("orders_create.several_codes")
    return {**told, "customer": {**told["customer"], "id": who}}


MERGING: Mapping[str, Callable[[Door, Import], None]] = {
    "history of the merged": lambda door, take_in: history(take_in),
    "order of the survivor": lambda door, take_in: sent(door, "orders/create", ordered_by(OTHER)),
    "merge": lambda door, take_in: merged(door),
    "order of the merged": lambda door, take_in: placed(door),
}


@pytest.mark.parametrize("sequence", list(permutations(MERGING)), ids=", ".join)
def test_merged_customers_have_one_history(door: Door, take_in: Import, sequence: tuple[str, ...]) -> None:
    """R33, R0: whatever comes first; the survivor's own order of that time is in it, too."""
    for step in sequence:
        MERGING[step](door, take_in)
    assert stands(door, OTHER) == ("450.00", 5, None)
    refunded(door, 1, "27.50")
    refunded(door, 2, "53.00", order=CODED, at="2026-03-10T10:00:00Z")
    assert stands(door, OTHER) == ("369.50", 5, None)


def test_history_waits_for_an_order_that_is_just_being_told(door: Door, tmp_path: Path) -> None:
    """R0: whoever has the books open counts the order without the history, which sees it when it is through."""
    file = tmp_path / "days.csv"
    file.write_text(f"{DAYS}\nhistory,h-1,{CUSTOMER},2026-03-01,450.00,USD,5\n")
    at = datetime(2026, 3, 3, tzinfo=UTC)
    with ThreadPoolExecutor(1) as others, door.engine.begin() as connection:
        shop = shops.by_id(connection, door.shop.id)
        told = Told(fact=order(11_000), received_at=at, cause="test")
        settle(open_world(connection, shop, at), [told])
        importing = others.submit(import_file, door.engine, [KEY.encode()], shop, file, as_of=at)
        assert wait([importing], 1).not_done
        connection.commit()
        assert importing.result(30).booked
    assert stands(door, CUSTOMER) == ("450.00", 5, None)
