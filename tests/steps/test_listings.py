"""Lists of orders, customers and redemptions: what each row says, how they are found, and that pages never shift."""

from __future__ import annotations

from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine

from tasks.steps import cancelling, listings
from tasks.steps.identifiers import Hashers, remember
from tests.rules.build import CUSTOMER, OTHER, day, line, order, refund, returned
from tests.steps.trade import Trade, trade_of

FIRST = 7_000_001


@pytest.fixture
def trade(engine: Engine) -> Trade:
    return trade_of(engine)


def ids(rows: list[dict[str, Any]]) -> list[str]:
    return [row["id"] for row in rows]


def sell(trade: Trade, number: int, **changed: Any) -> None:
    at = changed.pop("at", day(number))
    trade.tell(order(10_000, order_id=FIRST + number, name=f"#{1000 + number}", at=at, **changed), at=at)


# -- orders ------------------------------------------------------------------------------------------


def test_an_order_shows_what_was_earned_and_redeemed_and_what_came_back(engine: Engine) -> None:
    trade = trade_of(engine, points=5)
    trade.grant(CUSTOMER, 1000, at=day(1))
    trade.redeem(CUSTOMER, at=day(2), code="SAVE")
    one = line(1, 10_000, units=2, codes={"save": 500})
    trade.tell(order(10_000, one, at=day(3)), at=day(3))
    trade.tell(refund(1, 5_000, returned(1, 5_000), at=day(4)), at=day(4))
    [row] = trade.read(listings.orders).rows
    assert row == {
        "id": str(FIRST),
        "name": "#1",
        "placed_at": "2026-03-03T12:00:00+00:00",
        "status": "partially_refunded",
        "customer_id": str(CUSTOMER),
        "total": "100.00",
        "refunded": "50.00",
        "currency": "USD",
        "earned": 500,
        "reversed": 250,
        "pending": 0,
        "redeemed": 500,
        "returned": 250,
        "flags": [],
    }


def test_orders_come_by_when_they_were_placed_whatever_their_numbers_and_statuses(trade: Trade) -> None:
    for number, at in ((1, 5), (2, 4), (3, 9), (4, 4), (5, 1)):
        sell(trade, number, at=day(at))
    trade.tell(refund(1, 10_000, returned(1, 10_000), at=day(10), order_id=FIRST + 2), at=day(10))
    rows = trade.walk(listings.orders, limit=2)
    assert [int(row["id"]) - FIRST for row in rows] == [3, 1, 4, 2, 5]  # of two at one time the greater id


def test_an_order_that_comes_while_pages_are_turned_shifts_none(trade: Trade) -> None:
    for number in range(1, 5):
        sell(trade, number)
    first = trade.read(listings.orders, limit=2)
    sell(trade, 9)
    second = trade.read(listings.orders, limit=2, cursor=first.cursor)
    assert [int(id) - FIRST for id in ids([*first.rows, *second.rows])] == [4, 3, 2, 1]
    assert second.cursor is None


@pytest.mark.parametrize(
    "search", ["#1002", "1002", " 1002 ", str(FIRST + 2), f"gid://shopify/Order/{FIRST + 2}"]
)
def test_an_order_is_found_by_its_name_or_its_number(trade: Trade, search: str) -> None:
    for number in range(1, 4):
        sell(trade, number)
    assert ids(trade.read(listings.orders, search=search).rows) == [str(FIRST + 2)]


@pytest.mark.parametrize("search", ["#100", "100", "2", "' or true --", "%", "٣"])
def test_what_names_no_order_finds_none(trade: Trade, search: str) -> None:
    sell(trade, 2)
    assert trade.read(listings.orders, search=search).rows == []


def test_orders_are_narrowed_by_status_and_flag(trade: Trade) -> None:
    for number in range(1, 6):
        sell(trade, number, customer_id=None if number == 4 else CUSTOMER)
    sell(trade, 2, cancelled_at=day(3), updated_at=day(3))
    trade.tell(refund(1, 10_000, returned(1, 10_000), at=day(6), order_id=FIRST + 3), at=day(6))

    def found(**wanted: str) -> list[int]:
        return [int(row["id"]) - FIRST for row in trade.walk(listings.orders, limit=1, **wanted)]

    assert found(status="open") == [5, 4, 2, 1]
    assert found(status="fully_refunded") == [3]
    assert found(status="voided") == []
    assert found(flag="CANCELLED_PAID_WAITING") == [2]
    assert found(flag="NO_CUSTOMER") == [4]
    assert found(flag="NO_CUSTOMER", status="voided") == []
    assert found(search="1004", flag="NO_CUSTOMER") == [4]
    assert found(search="1004", status="voided") == []


def test_an_order_that_was_never_told_is_listed_only_by_its_flag(trade: Trade) -> None:
    trade.tell(refund(1, 5_000, at=day(2)), at=day(2))
    assert trade.read(listings.orders).rows == []
    [row] = trade.read(listings.orders, flag="ORDER_UNKNOWN").rows
    assert (row["name"], row["placed_at"], row["total"], row["status"]) == (None, None, None, "unknown")


def test_another_shops_rows_are_in_no_list(engine: Engine, trade: Trade) -> None:
    other = trade_of(engine)
    other.grant(CUSTOMER, 1000, at=day(1))
    other.redeem(CUSTOMER, at=day(2), code="THEIRS")
    sell(other, 1)
    for step, search in (
        (listings.orders, "#1001"),
        (listings.customers, str(CUSTOMER)),
        (listings.redemptions, "THEIRS"),
    ):
        assert len(other.read(step, search=search).rows) == 1
        assert trade.read(step).rows == [] == trade.read(step, search=search).rows


# -- customers ---------------------------------------------------------------------------------------


def test_customers_come_by_what_happened_last_and_those_who_wait_come_after(engine: Engine) -> None:
    trade = trade_of(engine, waiting_days=30)
    for customer in (5, 6, 7, 8):
        trade.grant(customer, 100, at=day(1))
    trade.grant(6, 10, at=day(2))
    sell(trade, 1, customer_id=20)  # nothing is told of them until their points are approved
    sell(trade, 2, customer_id=21)
    rows = trade.walk(listings.customers, limit=1)
    assert ids(rows) == ["6", "8", "7", "5", "21", "20"]
    assert [row["last_activity_at"] is None for row in rows] == [False] * 4 + [True] * 2
    newest = {name: rows[0][name] for name in ("id", "balance", "pending", "debt", "tier", "orders_count")}
    assert newest == {"id": "6", "balance": 110, "pending": 0, "debt": 0, "tier": None, "orders_count": 0}
    assert (rows[5]["pending"], rows[5]["balance"]) == (100, 0)
    assert ids(trade.walk(listings.customers, limit=4)) == ids(rows)


def test_of_whom_nothing_was_told_lately_comes_after_by_number(trade: Trade) -> None:
    for customer in (7, 5, 6):
        trade.grant(customer, 100, at=day(1))
    trade.grant(9, 100, at=day(2))
    told = (
        "insert into activity (shop_id, kind, customer_id, cause, target, at, detail) select :shop, 'points.granted',"
        " 8 + n % 2, 'x', 'x', now(), '{}' from generate_series(1, cast(:many as int)) n"
    )
    trade.grant(8, 100, at=day(2))
    trade.sql(told, many=listings.RECENT)
    for limit in (1, 2, 10):
        assert ids(trade.walk(listings.customers, limit=limit)) == ["8", "9", "7", "6", "5"]
    rows = trade.walk(listings.customers, limit=10)
    assert all(row["last_activity_at"] for row in rows)


def test_a_merged_customer_is_who_he_is_now(trade: Trade) -> None:
    for customer in (5, 6):
        trade.grant(customer, 100, at=day(1))
    trade.sql(
        "insert into customer_aliases (shop_id, customer_id, survivor_id, cause) values (:shop, 5, 6, 'test')"
    )
    assert ids(trade.walk(listings.customers, limit=1)) == ["6"]
    assert ids(trade.read(listings.customers, search="5").rows) == ["6"]


def test_a_customer_is_found_by_number_address_and_telephone(engine: Engine, trade: Trade) -> None:
    trade.grant(CUSTOMER, 100, at=day(1))
    trade.grant(OTHER, 100, at=day(1))
    hasher = Hashers(engine, (Fernet.generate_key(),)).of(trade.shop.domain)
    assert hasher is not None
    told = hasher.named(CUSTOMER, email="Ada@shop.example", phone="+49 30 123456", seen_at=day(1))
    trade.do(remember, told)
    for search in (str(CUSTOMER), " ada@Shop.example ", "+49 (30) 123456", "4930123456"):
        assert ids(trade.read(listings.customers, search=search, hasher=hasher).rows) == [str(CUSTOMER)]
    assert trade.read(listings.customers, search="eve@shop.example", hasher=hasher).rows == []
    assert trade.read(listings.customers, search="ada@shop.example").rows == []  # no key: nobody is found
    [found] = trade.read(listings.customers, search=str(OTHER)).rows
    assert found["last_activity_at"] is not None


# -- redemptions -------------------------------------------------------------------------------------


@pytest.fixture
def redeemed(trade: Trade) -> Trade:
    """Four redemptions: unused, used, untracked, refunded; the newest last."""
    trade.grant(CUSTOMER, 5000, at=day(1))
    for code in ("UNUSED", "Used", None, "BACK"):
        tracked = {"code": code} if code else {"reward": "custom", "amount": 300}
        trade.redeem(CUSTOMER, at=day(2), **tracked)
    trade.tell(order(9_500, line(1, 9_500, codes={"used": 500}), at=day(3)), at=day(3))
    [(back,)] = trade.sql("select id from redemptions where shop_id = :shop and code = 'BACK'")
    trade.do(cancelling.cancel, back, by="cli", force=True, now=day(4))
    return trade


def test_each_redemption_says_how_it_stands_as_its_own_page_does(redeemed: Trade) -> None:
    rows = redeemed.walk(listings.redemptions, limit=3)
    assert [row["reward_status"] for row in rows] == ["already_refunded", "untracked", "used", "unused"]
    for row in rows:
        shown = redeemed.read(cancelling.shown, int(row["id"]))
        now = shown["cancellation"]
        assert (row["reward_status"], row["needs_force"], row["message"]) == (
            now["state"],
            now["needs_force"],
            now["message"],
        )
        same = {name: row[name] for name in row if name in shown}
        assert same == {name: shown[name] for name in same}
    assert [row["reward_name"] for row in rows] == ["$5 off", None, "$5 off", "$5 off"]
    assert [row["can_refund"] for row in rows] == [False, True, True, True]


@pytest.mark.parametrize(
    ("status", "state"),
    [("unused", "unused"), ("used", "used"), ("untracked", "untracked"), ("refunded", "already_refunded")],
)
def test_redemptions_are_narrowed_by_how_they_stand(redeemed: Trade, status: str, state: str) -> None:
    [row] = redeemed.walk(listings.redemptions, limit=1, status=status)
    assert row["reward_status"] == state
    assert redeemed.read(listings.redemptions, status=status, search="nothing").rows == []


def test_a_redemption_is_found_by_its_code_or_its_number(redeemed: Trade) -> None:
    [row] = redeemed.read(listings.redemptions, search=" used ").rows
    assert row["code"] == "Used"
    assert ids(redeemed.read(listings.redemptions, search=row["id"]).rows) == [row["id"]]
