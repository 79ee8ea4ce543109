"""Customers merged at Shopify, as deliveries tell it (R33): what callers and operators see of it."""

from __future__ import annotations

import json
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime, timedelta
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.errors import Refused
from models.rules.facts import Fact
from tasks.steps import pins, read, shops, tokens, wallets
from tasks.steps.endings import end_whole
from tasks.steps.load import open_world
from tasks.steps.merges import merge
from tasks.steps.programs import put
from tasks.steps.replay import replay
from tasks.steps.settle import Told, settle
from tasks.steps.trace import trace
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.flows.conftest import Door
from tests.oracle.worlds import DEFAULTS
from tests.rules.build import ORDER, day, order, refund

KEPT, GONE, THIRD = 9_300_000_001, 9_300_000_002, 9_300_000_003
MINE, HIS = ORDER + 1, ORDER + 2


@pytest.fixture(autouse=True)
def books_stay_right(engine: Engine, shop: RegisteredShop) -> Iterator[None]:
    """Whatever a story does, everything can be worked out again from the record."""
    yield
    with engine.begin() as connection:
        assert verify(connection, shop.id) == []


def payload(deleted: int, kept: int, **more: Any) -> bytes:
    told = {
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{kept}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{deleted}",
        "admin_graphql_api_job_id": None,
        "status": "completed",
        "errors": [],
        **more,
    }
    return json.dumps(told).encode()


def merged(door: Door, deleted: int, kept: int, **more: Any) -> str:
    """One delivery, worked off; its outcome."""
    assert door.send("customers/merge", payload(deleted, kept, **more)) == 200
    [outcome] = door.work()
    return outcome


def told(door: Door, *facts: Fact) -> None:
    with door.engine.begin() as connection:
        world = open_world(connection, shops.by_id(connection, door.shop.id), datetime.now(UTC))
        settle(world, [Told(fact=fact, received_at=datetime.now(UTC), cause="test") for fact in facts])


def granted(door: Door, customer: int, amount: int) -> dict[str, Any]:
    with door.engine.begin() as connection:
        return wallets.grant(connection, door.shop.id, customer, amount=amount, reason="hello")


def customer(door: Door, id: int) -> dict[str, Any]:
    with door.engine.begin() as connection:
        return read.customer(connection, door.shop.id, id)


def rows(door: Door, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with door.engine.begin() as connection:
        return [
            tuple(row) for row in connection.execute(text(query), {"shop": door.shop.id, **parameters}).all()
        ]


# -- what is moved -----------------------------------------------------------------------------------


def test_two_wallets_become_one_and_the_old_one_keeps_its_history_at_zero(door: Door) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE), order(5_000, order_id=MINE, customer_id=KEPT))
    granted(door, GONE, 7)
    assert merged(door, GONE, KEPT) == (
        f"customer {GONE} merged into {KEPT}: 1 orders and 1 other rows moved, balance 107"
    )
    seen = customer(door, KEPT)
    assert (seen["id"], seen["balance"], seen["orders_count"]) == (str(KEPT), 157, 2)
    assert seen["spend"]["lifetime"] == "150.00"
    assert customer(door, GONE) == seen
    old = rows(
        door, "select sum(amount), count(*) from entries where shop_id = :shop and customer_id = :id", id=GONE
    )
    assert old == [(0, 4)]
    assert rows(door, "select balance from wallets where shop_id = :shop and customer_id = :id", id=GONE) == [
        (0,)
    ]
    assert rows(door, "select distinct customer_id from awards where shop_id = :shop") == [(KEPT,)]


def test_a_late_refund_of_the_merged_customers_order_takes_from_the_survivor(door: Door) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    merged(door, GONE, KEPT)
    told(door, *refund(1, 4_000, order_id=HIS, at=day(3)))
    assert customer(door, KEPT)["balance"] == 60
    with door.engine.begin() as connection:
        decisions = trace(connection, door.shop.id, HIS)["decisions"]
    assert decisions, "the trace of a merged customer's order can be read"


def test_what_names_the_merged_customer_later_is_the_survivors(door: Door) -> None:
    merged(door, GONE, KEPT)
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    assert granted(door, GONE, 5)["customer_id"] == str(KEPT)
    assert customer(door, KEPT)["balance"] == 105
    assert rows(door, "select customer_id from wallets where shop_id = :shop") == [(KEPT,)]


def test_a_shortfall_is_covered_by_what_the_other_wallet_held_at_that_time(door: Door) -> None:
    """R7, R33: as one customer he had enough, so the refund takes all of it, however late the merge is told."""
    told(door, order(10_000, order_id=HIS, customer_id=GONE), order(10_000, order_id=MINE, customer_id=KEPT))
    with door.engine.begin() as connection:
        wallets.redeem(connection, door.shop.id, GONE, reward="custom", amount=100, code="merged-1")
    told(door, *refund(1, 10_000, order_id=HIS, at=datetime.now(UTC)))
    assert door.order(HIS)["awards"][0]["shortfall"] == 100
    merged(door, GONE, KEPT)
    assert door.order(HIS)["awards"][0]["shortfall"] == 0
    assert customer(door, KEPT)["balance"] == 0


def test_members_of_a_group_who_are_one_now_gave_as_one(door: Door) -> None:
    """R20, R33: 30 of one and 50 of the other are 80 of the survivor, drawn and given back."""
    for each in (GONE, KEPT, THIRD):
        granted(door, each, 100)
    sources = [(GONE, 30), (KEPT, 50), (THIRD, 20)]
    with door.engine.begin() as connection:
        made = wallets.redeem(
            connection, door.shop.id, GONE, reward="custom", amount=100, sources=sources, code="group-1"
        )
    merged(door, GONE, KEPT)
    with door.engine.begin() as connection:
        shown = read.redemption(connection, door.shop.id, made)
    assert shown["customer_id"] == str(KEPT)
    assert [(s["customer_id"], s["drawn"]) for s in shown["sources"]] == [(str(KEPT), 80), (str(THIRD), 20)]
    with door.engine.begin() as connection:
        shop = shops.by_id(connection, door.shop.id)
        end_whole(connection, shop, made, kind="cancelled", now=datetime.now(UTC))
    assert [customer(door, each)["balance"] for each in (KEPT, THIRD)] == [200, 100]
    merged(door, THIRD, KEPT)
    assert customer(door, KEPT)["balance"] == 300


def test_sources_who_are_one_customer_give_together(door: Door) -> None:
    for each in (GONE, KEPT):
        granted(door, each, 50)
    merged(door, GONE, KEPT)
    with door.engine.begin() as connection:
        sources = [(GONE, 40), (KEPT, 40)]
        made = wallets.redeem(
            connection, door.shop.id, GONE, reward="custom", amount=80, sources=sources, code="one-1"
        )
        shown = read.redemption(connection, door.shop.id, made)
    assert [(s["customer_id"], s["amount"]) for s in shown["sources"]] == [(str(KEPT), 80)]
    with pytest.raises(Refused, match="which is less than"), door.engine.begin() as connection:
        wallets.redeem(connection, door.shop.id, GONE, reward="custom", amount=30, code="one-2")


def test_callers_who_give_and_spend_while_a_merge_is_done_lose_nothing(door: Door) -> None:
    """Whoever looked the customer up before the merge has posted before it; whoever comes later posts to the survivor."""
    for each in (GONE, KEPT):
        granted(door, each, 100)

    def call(n: int) -> None:
        with door.engine.begin() as connection:
            if n == 20:
                shop = shops.by_id(connection, door.shop.id)
                merge(connection, shop, kept=KEPT, deleted=GONE, cause="test", now=datetime.now(UTC))
            elif n % 2:
                wallets.grant(connection, door.shop.id, GONE, amount=10, reason="hello")
            else:
                wallets.redeem(connection, door.shop.id, GONE, reward="custom", amount=1, code=f"race-{n}")

    with ThreadPoolExecutor(4) as pool:
        list(pool.map(call, range(40)))
    assert customer(door, GONE)["balance"] == 200 + 20 * 10 - 19
    left = "select balance from wallets where shop_id = :shop and customer_id = :id"
    assert rows(door, left, id=GONE) == [(0,)]


# -- tiers -------------------------------------------------------------------------------------------


@pytest.fixture
def gold(door: Door) -> Door:
    """A program with gold at 120.00."""
    levels = [
        {"id": "silver", "name": "Silver", "threshold": "1.00"},
        {"id": "gold", "name": "Gold", "threshold": "120.00"},
    ]
    with door.engine.begin() as connection:
        put(connection, door.shop.id, {**DEFAULTS, "tiers": {**DEFAULTS["tiers"], "levels": levels}})
    return door


def test_the_survivors_tier_is_by_what_both_spent(gold: Door) -> None:
    """R24, R26, R33."""
    told(gold, order(10_000, order_id=HIS, customer_id=GONE), order(5_000, order_id=MINE, customer_id=KEPT))
    assert customer(gold, KEPT)["tier"] == "silver"
    merged(gold, GONE, KEPT)
    assert customer(gold, KEPT)["tier"] == "gold"
    moved = "select customer_id, detail->>'before', detail->>'after' from activity where shop_id = :shop and kind = 'tier.changed' order by id desc limit 1"
    assert rows(gold, moved) == [(KEPT, "silver", "gold")]


@pytest.mark.parametrize(
    ("own", "other", "tier"),
    [(None, "gold", "gold"), ("silver", "gold", "silver"), ("silver", None, "silver")],
    ids=["only the other was pinned", "both were", "only the survivor was"],
)
def test_the_survivors_own_pin_wins_else_the_others_stays(
    gold: Door, own: str | None, other: str | None, tier: str
) -> None:
    """R26, R33."""
    for each in (GONE, KEPT):
        granted(gold, each, 1)
    with gold.engine.begin() as connection:
        pins.pin_tier(connection, gold.shop.id, KEPT, level=own)
        pins.pin_tier(connection, gold.shop.id, GONE, level=other)
    merged(gold, GONE, KEPT)
    seen = customer(gold, KEPT)
    assert (seen["tier"], seen["tier_pinned"]) == (tier, True)
    with gold.engine.begin() as connection:
        pins.pin_tier(connection, gold.shop.id, GONE, level=None)
    assert customer(gold, KEPT)["tier_pinned"] is False


# -- what is told ------------------------------------------------------------------------------------


def test_both_are_told_that_they_are_one_and_each_event_once_more_of_the_survivor(door: Door) -> None:
    """R39."""
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    merged(door, GONE, KEPT)
    said = "select customer_id, detail - '{balance_before,balance_after,policy_version}'::text[] from activity where shop_id = :shop and kind = 'customer.merged' order by customer_id"
    assert rows(door, said) == [(KEPT, {"merged_from": str(GONE)}), (GONE, {"merged_into": str(KEPT)})]
    earned = "select customer_id, detail->>'amount', detail->>'moved_from' from activity where shop_id = :shop and kind = 'points.approved' order by id"
    assert rows(door, earned) == [(GONE, "100", None), (KEPT, "100", str(GONE))]


def test_callers_may_go_on_using_the_old_id(door: Door) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    merged(door, GONE, KEPT)
    with door.engine.begin() as connection:
        token = tokens.create(connection, door.shop.domain).text
    headers = {"Authorization": f"Bearer {token}"}
    for path in ("", "/activity"):
        old, new = (door.client.get(f"/api/v1/customers/{id}{path}", headers=headers) for id in (GONE, KEPT))
        assert (old.status_code, old.json) == (200, new.json)
    raw = door.client.get(f"/api/v1/activity?customer={GONE}", headers=headers).json
    assert [each["kind"] for each in raw["data"]] == ["customer.merged", "points.approved"]


# -- deliveries that repeat, contradict or fail ------------------------------------------------------


def test_a_merge_told_twice_moves_nothing_the_second_time(door: Door) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    merged(door, GONE, KEPT)
    before = rows(door, "select count(*) from entries where shop_id = :shop")
    assert merged(door, GONE, KEPT) == f"customer {GONE} is one with {KEPT} already"
    assert rows(door, "select count(*) from entries where shop_id = :shop") == before
    assert replay(door.engine, door.shop.domain).changed == 0


@pytest.mark.parametrize("ends_first", [False, True], ids=["in order", "the end of the chain first"])
def test_a_chain_of_merges_ends_at_its_end(door: Door, ends_first: bool) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    chain = [(GONE, THIRD), (THIRD, KEPT)]
    for deleted, kept in reversed(chain) if ends_first else chain:
        merged(door, deleted, kept)
    aliases = rows(
        door, "select customer_id, survivor_id from customer_aliases where shop_id = :shop order by 1"
    )
    assert aliases == [(GONE, KEPT), (THIRD, KEPT)]
    assert customer(door, GONE)["balance"] == 100
    assert merged(door, GONE, THIRD) == f"customer {GONE} is one with {KEPT} already"


@pytest.mark.parametrize(
    "second",
    [(KEPT, GONE), (GONE, THIRD)],
    ids=["merged both ways", "merged into two"],
)
def test_merges_that_contradict_each_other_are_parked(door: Door, second: tuple[int, int]) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    merged(door, GONE, KEPT)
    assert merged(door, *second) == "failed: merge_conflict"
    assert customer(door, GONE)["balance"] == 100


def test_a_ring_of_merges_is_parked_where_it_closes(door: Door) -> None:
    merged(door, GONE, THIRD)
    merged(door, THIRD, KEPT)
    assert merged(door, KEPT, GONE) == "failed: merge_conflict"


def test_a_merge_that_failed_at_shopify_changes_nothing_and_names_nobody(door: Door) -> None:
    told(door, order(10_000, order_id=HIS, customer_id=GONE))
    errors = [{"customer_ids": [GONE], "field": "gift_cards", "message": "Jane Doe has gift cards."}]
    outcome = merged(door, GONE, KEPT, status="failed", errors=errors)
    assert outcome == (
        f"merge of customer {GONE} into {KEPT} failed at Shopify (gift_cards): nothing changed"
    )
    assert rows(door, "select count(*) from customer_aliases where shop_id = :shop") == [(0,)]
    assert customer(door, GONE)["balance"] == 100


def test_a_merge_that_fails_and_then_succeeds_is_done(door: Door) -> None:
    merged(door, GONE, KEPT, status="failed")
    assert merged(door, GONE, KEPT, status="in_progress").endswith("nothing changed yet")
    assert merged(door, GONE, KEPT).startswith(f"customer {GONE} merged into {KEPT}")


@pytest.mark.parametrize(
    "change",
    [
        {"status": "reticulated"},
        {"status": None},
        {"admin_graphql_api_customer_kept_id": None},
        {"admin_graphql_api_customer_kept_id": "gid://shopify/Order/1"},
        {"admin_graphql_api_customer_kept_id": "gid://shopify/Customer/9223372036854775808"},
        {"admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{GONE}"},
    ],
    ids=[
        "an unknown status",
        "no status",
        "nobody kept",
        "an order kept",
        "an id too large",
        "merged into himself",
    ],
)
def test_a_merge_that_cannot_be_understood_is_parked(door: Door, change: dict[str, Any]) -> None:
    assert merged(door, GONE, KEPT, **change) == "failed: unparseable"


def test_customers_of_another_shop_stay_apart(door: Door, engine: Engine) -> None:
    with engine.begin() as connection:
        other = shops.add(connection, f"other-{door.shop.id}.myshopify.com")
        wallets.grant(connection, other, GONE, amount=9, reason="hello")
    merged(door, GONE, KEPT)
    with engine.begin() as connection:
        assert read.customer(connection, other, GONE)["balance"] == 9


def test_points_that_expired_in_the_old_wallet_stay_expired(door: Door) -> None:
    now = datetime.now(UTC)
    with door.engine.begin() as connection:
        wallets.grant(
            connection, door.shop.id, GONE, amount=9, reason="hello",
            now=now - timedelta(days=9), expires_at=now - timedelta(days=2),
        )  # fmt: skip
    granted(door, KEPT, 1)
    merged(door, GONE, KEPT)
    assert customer(door, KEPT)["balance"] == 1
