"""After an import: what webhooks take back of imported awards, and give back of imported redemptions."""

from __future__ import annotations

import copy
import json
from collections.abc import Callable, Iterator, Mapping, Sequence
from datetime import UTC, datetime
from decimal import Decimal
from itertools import permutations
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from tasks.steps import read, reversals, shops, wallets
from tasks.steps.clock import mature
from tasks.steps.merchants import undo_refund
from tasks.steps.merges import merge
from tasks.steps.preview import preview
from tasks.steps.programs import put
from tasks.steps.replay import replay
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.flows.conftest import Door
from tests.imports.conftest import Import, everything_agrees
from tests.rules.build import settings

PAYLOADS = Path(__file__).parents[1] / "payloads"
WHO, OTHER = 7100000000071, 7100000000072
ORDER, CODED = 5100000000001, 5100000000002  # of 110.00, and of 153.00 with a code that took 30 + 12 off
AS_OF = ("--as-of", "2026-03-03T00:00:00Z")  # the day after the orders, days before the refunds
AWARDS = "record,reference,customer_id,order_id,amount,earned,remaining,due_at,expires_at"
REDEMPTIONS = "record,reference,customer_id,reward,amount,code,at,expires_at"


@pytest.fixture(autouse=True)
def books_stay_right(engine: Engine, shop: RegisteredShop) -> Iterator[None]:
    """Whatever a story does, everything can be worked out again from the record."""
    with engine.begin() as connection:
        put(connection, shop.id, settings(returns=True), now=datetime(2019, 1, 1, tzinfo=UTC))
    yield
    assert everything_agrees(engine, shop.id)


def payload(name: str, **changed: Any) -> dict[str, Any]:
    return {**json.loads((PAYLOADS / f"{name}.json").read_text()), **changed}


def sent(door: Door, topic: str, told: Mapping[str, Any]) -> None:
    assert door.send(topic, json.dumps(told).encode()) == 200
    assert not [row for row in door.inbox() if row[1] == "failed"]
    door.work()


def placed(door: Door) -> None:
    sent(door, "orders/create", payload("orders_create.plain"))


def refunded(
    door: Door,
    id: int,
    money: str,
    *,
    order: int = ORDER,
    lines: Sequence[tuple[int, int, str]] = (),
    at: str = "2026-03-09T14:00:00-05:00",
) -> None:
    """A refund of so much money, with or without units of lines (line, units, what they were paid)."""
    told = payload("refunds_create.partial", id=id, order_id=order, created_at=at, processed_at=at)
    transaction = copy.deepcopy(told["transactions"][0])
    transaction |= {"id": id * 10, "order_id": order, "amount": money, "created_at": at, "processed_at": at}
    transaction.pop("amount_set", None)
    line = told["refund_line_items"][0]
    told["refund_line_items"] = [
        {**{k: v for k, v in line.items() if not k.endswith("_set") and k != "line_item"}, "id": id * 10 + n, "line_item_id": line_id, "quantity": units,
         "subtotal": paid, "total_tax": "0.00"}
        for n, (line_id, units, paid) in enumerate(lines)
    ]  # fmt: skip
    beyond = Decimal(money) - sum(Decimal(paid) for _, _, paid in lines)
    adjustment = {"id": id * 10, "order_id": order, "refund_id": id, "amount": str(-beyond), "tax_amount": "0.00", "kind": "refund_discrepancy", "reason": "Refund discrepancy"}  # fmt: skip
    told |= {"transactions": [transaction], "order_adjustments": [adjustment] if beyond else []}
    sent(door, "refunds/create", told)


def customer(door: Door, id: int = WHO) -> dict[str, Any]:
    with door.engine.begin() as connection:
        return read.customer(connection, door.shop.id, id)


def awards(door: Door) -> list[tuple[Any, ...]]:
    query = text(
        "select target, amount, status, reversed, reduced, debited, shortfall from awards where shop_id = :id order by order_id, target"
    )
    with door.engine.begin() as connection:
        return [tuple(row) for row in connection.execute(query, {"id": door.shop.id})]


def redemption(door: Door) -> dict[str, Any]:
    with door.engine.begin() as connection:
        query = text("select id from redemptions where shop_id = :id")
        id = connection.execute(query, {"id": door.shop.id}).scalar_one()
        return read.redemption(connection, door.shop.id, id)


# -- awards ------------------------------------------------------------------------------------------


def test_a_refund_takes_its_part_of_an_imported_award_and_the_last_one_the_rest(
    door: Door, take_in: Import
) -> None:
    """R1, R4, R9: 27.50 of 110.00 is a quarter of 500."""
    assert take_in(AWARDS, f"award,a-1,{WHO},{ORDER},500,,,,", options=AS_OF).status == 0
    assert customer(door)["balance"] == 500
    placed(door)
    assert awards(door) == [("imported", 500, "approved", 0, 0, 0, 0)]
    refunded(door, 1, "27.50")
    assert (customer(door)["balance"], awards(door)[0][3:]) == (375, (125, 0, 125, 0))
    refunded(door, 2, "82.50", at="2026-03-10T10:00:00Z")
    assert (customer(door)["balance"], awards(door)[0][3:]) == (0, (500, 0, 500, 0))
    assert door.order(ORDER)["status"] == "fully_refunded"


def test_a_refund_lowers_a_pending_imported_award_and_its_approval_gives_the_rest(
    door: Door, take_in: Import, engine: Engine
) -> None:
    """R5."""
    assert take_in(AWARDS, f"award,a-1,{WHO},{ORDER},500,,,2199-01-01,", options=AS_OF).status == 0
    placed(door)
    refunded(door, 1, "27.50")
    seen = customer(door)
    assert (seen["balance"], seen["pending"]) == (0, 375)
    assert awards(door) == [("imported", 500, "pending", 125, 125, 0, 0)]
    assert mature(engine, now=datetime(2199, 1, 2, tzinfo=UTC)) >= 1
    assert customer(door)["balance"] == 375
    refunded(door, 2, "82.50", at="2026-03-10T10:00:00Z")
    assert awards(door)[0][:4] == ("imported", 500, "cancelled", 500)


def test_a_pending_imported_award_of_an_order_refunded_whole_is_cancelled(
    door: Door, take_in: Import
) -> None:
    """R4, R5."""
    assert take_in(AWARDS, f"award,a-1,{WHO},{ORDER},333,,,2199-01-01,", options=AS_OF).status == 0
    placed(door)
    sent(door, "refunds/create", payload("refunds_create.full"))
    assert awards(door) == [("imported", 333, "cancelled", 333, 333, 0, 0)]
    assert customer(door)["pending"] == 0


TOLD: Mapping[str, Callable[[Door, Import], None]] = {
    "import": lambda door, take_in: check(
        take_in(AWARDS, f"award,a-1,{WHO},{ORDER},500,,,,", options=AS_OF).status == 0
    ),
    "order": lambda door, take_in: placed(door),
    "refund": lambda door, take_in: refunded(door, 1, "27.50"),
}


def check(right: bool) -> None:
    assert right


@pytest.mark.parametrize("sequence", list(permutations(TOLD)), ids=" then ".join)
def test_import_order_and_refund_come_in_any_order(
    door: Door, take_in: Import, sequence: Sequence[str]
) -> None:
    """R0, R28: the award in place of the 110 points that the order would have earned here."""
    for step in sequence:
        TOLD[step](door, take_in)
    assert awards(door) == [("imported", 500, "approved", 125, 0, 125, 0)]
    assert (customer(door)["balance"], customer(door)["spend"]["lifetime"]) == (375, "82.50")
    assert replay(door.engine, door.shop.domain).changed == 0


def test_an_award_of_an_order_that_earned_here_already_says_what_it_replaces(
    door: Door, take_in: Import, engine: Engine
) -> None:
    """R9, R39: in the dry run, in the summary and in the activity."""
    placed(door)
    refunded(door, 1, "27.50")
    lines = (AWARDS, f"award,a-1,{WHO},{ORDER},40,,,,", f"award,a-2,{WHO},{CODED},7,,,,")
    for options in ((*AS_OF, "--dry-run"), AS_OF):
        told = take_in(*lines, options=options)
        assert (told.status, told.json["notes_total"]) == (0, 1)
        assert told.json["replaced"] == {"orders": 1, "before": "83", "after": "40"}
        said = f"order {ORDER} has earned 83 here; 40 will stand instead"
        assert told.json["notes"] == [{"line": 2, "column": "order_id", "message": said}]
    query = text("select detail from activity where shop_id = :id and target like :own order by id")
    with engine.connect() as connection:
        own = {"id": door.shop.id, "own": f"order:{ORDER}:place-order"}
        entries = [row.detail for row in connection.execute(query, own)]
    gone = [detail for detail in entries if detail.get("gone")]
    assert len(gone) == 2 and all("REPLACED_BY_IMPORT" in detail["reasons"] for detail in gone)
    assert not any("REPLACED_BY_IMPORT" in detail["reasons"] for detail in entries if detail not in gone)
    again = take_in(*lines, options=AS_OF).json
    assert (again["notes_total"], again["replaced"]["orders"]) == (0, 0)


def test_what_was_refunded_before_the_file_was_written_is_not_judged_again(
    door: Door, take_in: Import
) -> None:
    """R17: 500 were earned, 400 stood when the file was written."""
    placed(door)
    refunded(door, 1, "22.00", at="2026-03-02T20:00:00Z")
    assert take_in(AWARDS, f"award,a-1,{WHO},{ORDER},400,500,,,", options=AS_OF).status == 0
    assert customer(door)["balance"] == 400
    refunded(door, 2, "27.50")
    assert customer(door)["balance"] == 275
    refunded(door, 3, "60.50", at="2026-03-10T10:00:00Z")
    assert awards(door) == [("imported", 400, "approved", 400, 0, 400, 0)]


def test_what_was_spent_of_an_award_elsewhere_is_short_when_it_is_taken_back(
    door: Door, take_in: Import
) -> None:
    """R6, R7."""
    lines = (f"award,a-1,{WHO},{ORDER},500,,0,,", f"balance,b-1,{WHO},,300,,,,")
    assert take_in(AWARDS, *lines, options=AS_OF).status == 0
    placed(door)
    assert customer(door)["balance"] == 300
    sent(door, "refunds/create", payload("refunds_create.full"))
    assert (customer(door)["balance"], awards(door)[0][3:]) == (0, (500, 0, 300, 200))


def test_a_voided_order_cancels_its_pending_imported_award(door: Door, take_in: Import) -> None:
    """R27."""
    assert take_in(AWARDS, f"award,a-1,{WHO},{ORDER},500,,,2199-01-01,", options=AS_OF).status == 0
    told = payload("orders_create.plain", financial_status="voided", cancelled_at="2026-03-04T10:00:00-05:00", updated_at="2026-03-04T10:00:00-05:00", total_outstanding="0.00")  # fmt: skip
    sent(door, "orders/cancelled", told)
    assert awards(door) == [("imported", 500, "cancelled", 500, 500, 0, 0)]


def test_a_preview_of_a_refund_is_what_the_refund_does_and_its_undo_takes_all_of_it_back(
    door: Door, take_in: Import
) -> None:
    """R37, R38."""
    lines = (f"award,a-1,{WHO},{ORDER},500,,,,", f"award,a-2,{WHO},{CODED},70,,,2199-01-01,")
    assert take_in(AWARDS, *lines, options=AS_OF).status == 0
    placed(door)
    before = customer(door), awards(door)
    with door.engine.begin() as connection:
        shown = preview(connection, door.shop.id, ORDER, amount=Decimal("27.50"))
    assert (customer(door), awards(door)) == before
    refunded(door, 1, "27.50")
    assert shown["reversed"] == 125 == before[0]["balance"] - customer(door)["balance"]
    with door.engine.begin() as connection:
        undo_refund(connection, door.shop.id, 1, reason="a mistake", by="cli")
    assert (customer(door), awards(door)) == before


# -- redemptions -------------------------------------------------------------------------------------


def redeemed(take_in: Import, expires_at: str = "", *more: str) -> None:
    line = f"redemption,r-1,{WHO},custom,100,LOYAL42,2026-02-01T10:00:00Z,{expires_at}"
    assert take_in(REDEMPTIONS, line, *more, options=AS_OF).status == 0


def bought_with_the_code(door: Door) -> None:
    sent(door, "orders/create", payload("orders_create.several_codes"))


@pytest.mark.parametrize("first", ["import", "order"])
def test_a_refund_returns_the_part_of_the_redemption_that_its_lines_used(
    door: Door, take_in: Import, first: str
) -> None:
    """R12, S5, worked case 9: the code took 30 of its 42 off the line that comes back."""
    steps = [lambda: redeemed(take_in, "", f"balance,b-1,{WHO},,20,,,"), lambda: bought_with_the_code(door)]
    for step in steps if first == "import" else reversed(steps):
        step()
    before = customer(door)["balance"]
    refunded(door, 1, "112.86", order=CODED, lines=[(9100000000021, 1, "112.86")])
    seen = redemption(door)
    assert (seen["returned"], seen["credited"], seen["order_id"]) == (71, 71, str(CODED))
    assert customer(door)["balance"] < before + 71  # what the order earned is taken back in part


def test_value_of_a_redemption_that_expired_meanwhile_is_reported_not_credited(
    door: Door, take_in: Import
) -> None:
    """R19."""
    redeemed(take_in, "2026-03-05")
    bought_with_the_code(door)
    refunded(door, 1, "112.86", order=CODED, lines=[(9100000000021, 1, "112.86")])
    seen = redemption(door)
    assert (seen["returned"], seen["credited"], seen["expired"]) == (71, 0, 71)


def test_a_redemption_that_expires_later_comes_back_with_its_own_expiry(door: Door, take_in: Import) -> None:
    """R19."""
    redeemed(take_in, "2199-12-31")
    bought_with_the_code(door)
    refunded(door, 1, "112.86", order=CODED, lines=[(9100000000021, 1, "112.86")])
    query = text("select remainder, expires_at from lots where shop_id = :id and lot like 'spent:%'")
    with door.engine.begin() as connection:
        row = connection.execute(query, {"id": door.shop.id}).one()
    assert (row.remainder, row.expires_at) == (71, datetime(2200, 1, 1, tzinfo=UTC))


def test_an_imported_redemption_neither_spends_the_balance_nor_pays_debt(
    door: Door, take_in: Import, engine: Engine
) -> None:
    """R7."""
    with engine.begin() as connection:
        put(
            connection,
            door.shop.id,
            settings(returns=True, below_zero="carry_debt"),
            now=datetime(2026, 1, 1, tzinfo=UTC),
        )
    placed(door)
    with engine.begin() as connection:
        wallets.redeem(
            connection, door.shop.id, WHO, reward="custom", amount=100, now=datetime(2026, 3, 4, tzinfo=UTC)
        )
    sent(door, "refunds/create", payload("refunds_create.full"))
    owed = customer(door)
    assert (owed["balance"], owed["debt"]) == (0, 100)
    redeemed(take_in)
    assert customer(door) == {**customer(door), "balance": 0, "debt": 100}


def test_an_imported_redemption_is_reversed_by_hand_like_any_other(door: Door, take_in: Import) -> None:
    """R34, R35."""
    redeemed(take_in)
    with door.engine.begin() as connection:
        shop = shops.by_id(connection, door.shop.id)
        id = int(redemption(door)["id"])
        back = reversals.reverse(connection, shop, id, amount=40, kind="reversed", code="untracked", by="cli")
    assert (back.credited, back.left) == (40, 60)
    assert customer(door)["balance"] == 40


# -- merged customers --------------------------------------------------------------------------------

HISTORY = "record,reference,customer_id,amount,order_id,reward,code,at,tier,day,spend,currency,orders"


def all_of(id: int) -> tuple[str, ...]:
    return (
        HISTORY,
        f"balance,b-{id},{id},120,,,,,,,,,",
        f"award,a-{id},{id},500,{ORDER},,,,,,,,",
        f"redemption,r-{id},{id},100,,custom,LOYAL42,2026-02-01T10:00:00Z,,,,,",
        f"history,h-{id},{id},,,,,,,2026-01-10,340.50,USD,3",
    )


@pytest.mark.parametrize(
    "merged_first", [True, False], ids=["merged, then imported", "imported, then merged"]
)
def test_what_is_imported_of_a_merged_customer_is_his_survivors(
    door: Door, take_in: Import, merged_first: bool
) -> None:
    """R33: whichever comes first."""

    def merging() -> None:
        with door.engine.begin() as connection:
            shop = shops.by_id(connection, door.shop.id)
            merge(connection, shop, kept=OTHER, deleted=WHO, cause="test", now=datetime.now(UTC))

    def importing() -> None:
        assert take_in(*all_of(WHO), options=AS_OF).status == 0

    for step in (merging, importing) if merged_first else (importing, merging):
        step()
    seen = customer(door, OTHER)
    assert (seen["id"], seen["balance"], seen["orders_count"]) == (str(OTHER), 620, 3)
    assert seen["spend"]["lifetime"] == "340.50"
    placed(door)
    refunded(door, 1, "27.50")
    assert customer(door, OTHER)["balance"] == 495
    assert take_in(*all_of(WHO), options=AS_OF).json["imported_before"] == 4


# -- tiers -------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("tiers", "expected"),
    [
        pytest.param({"window": "lifetime"}, "gold", id="ever"),
        pytest.param({"window": "calendar_year"}, None, id="this year"),
        pytest.param({"window": "calendar_year", "downgrade": "never"}, "gold", id="once reached, kept"),
        pytest.param(
            {"window": "rolling_year", "downgrade": "grace", "grace_days": 7}, None, id="grace is over"
        ),
        pytest.param(
            {"metric": "orders", "levels": [{"id": "gold", "threshold": "3"}]}, "gold", id="by orders"
        ),
    ],
)
def test_what_was_bought_before_counts_in_its_window_at_its_day(
    door: Door, take_in: Import, tiers: dict[str, Any], expected: str | None
) -> None:
    """R24, R26: two years ago, 600.00 in three orders."""
    with door.engine.begin() as connection:
        put(connection, door.shop.id, settings(tiers=tiers), now=datetime(2020, 1, 1, tzinfo=UTC))
    day = f"{datetime.now(UTC).year - 2}-06-30"
    header = "record,customer_id,day,spend,currency,orders"
    assert take_in(header, f"history,{WHO},{day},600,USD,3").status == 0
    assert customer(door)["tier"] == expected


def test_days_that_were_changed_behind_the_books_are_found(door: Door, take_in: Import) -> None:
    """R40: `unwind verify` holds the days against orders and imports."""
    assert take_in("record,customer_id,day,spend,currency", f"history,{WHO},2026-01-10,5,USD").status == 0
    with door.engine.connect() as connection:
        key = {"id": door.shop.id}
        connection.execute(text("update customer_days set spend_minor = 700 where shop_id = :id"), key)
        found = verify(connection, door.shop.id)
        connection.rollback()
    assert [(each.what, each.expected, each.found) for each in found] == [("days spend_minor", "500", "700")]
