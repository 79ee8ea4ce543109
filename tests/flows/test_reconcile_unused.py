"""R30: a redemption whose order never came is given back whole, once, and never while its code could still be used."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest
from sqlalchemy import text

from app.sandbox.records import Customer, Discount
from tasks.steps import wallets
from tasks.steps.codec import dumps
from tasks.steps.unused import give_back_unused
from tasks.steps.verify import verify
from tests.flows.conftest import Door
from tests.flows.reconciling import Town, found_town

DAY = timedelta(days=1)


@pytest.fixture
def town(door: Door) -> Town:
    return found_town(door)


def spent(
    town: Town, customer: Customer, *, code: str | None, state: str, kind: str = "amount_discount"
) -> int:
    """300 points spent two days ago, with a code in this state."""
    at = datetime.now(UTC) - 2 * DAY
    shop = town.door.shop.id
    with town.door.engine.begin() as connection:
        wallets.grant(connection, shop, customer.id, amount=300, reason="a test", expires_at=None)
        made = wallets.redeem(
            connection, shop, customer.id, reward="custom", amount=300, code=code or "GIVEN"
        )
        changed = {"shop": shop, "id": made, "code": code, "state": state, "kind": kind, "at": at}
        connection.execute(
            text(
                "update redemptions set code = :code, code_state = :state, kind = :kind, at = :at"
                " where shop_id = :shop and id = :id"
            ),
            changed,
        )
        if code is None:
            connection.execute(
                text("delete from redemption_codes where shop_id = :shop and redemption_id = :id"), changed
            )
    return made


def given_back(town: Town, *, after: timedelta = DAY) -> int:
    now = datetime.now(UTC)
    return give_back_unused(town.door.engine, town.shop, before=now - after, now=now)


def redemption(town: Town, id: int) -> dict:
    (row,) = town.rows("select * from redemptions where shop_id = :shop and id = :id", id=id)
    return row


def test_one_without_a_code_comes_back_whole_and_once(town: Town) -> None:
    customer = town.customer()
    id = spent(town, customer, code=None, state="none")
    assert town.balance(customer) == 0
    assert (given_back(town), given_back(town)) == (1, 0)
    assert (town.balance(customer), redemption(town, id)["ended"]) == (300, "auto_refunded")
    with town.door.engine.begin() as connection:
        assert verify(connection, town.door.shop.id) == []


def test_one_with_a_code_of_ours_has_it_taken_away_first(town: Town) -> None:
    customer = town.customer()
    id = spent(town, customer, code="OURS-1", state="active")
    assert (given_back(town), given_back(town)) == (1, 0)
    (asked,) = town.rows("select kind, key, payload from outbox where shop_id = :shop")
    assert (asked["kind"], asked["key"]) == ("remove_code", f"auto_refund:{id}")
    assert dumps(asked["payload"]) == dumps({"then": "auto_refunded", "redemption_id": id})
    assert (town.balance(customer), redemption(town, id)["ended"]) == (0, None)


@pytest.mark.parametrize(
    ("code", "state", "kind"),
    [
        pytest.param("THEIRS", "tracked", "amount_discount", id="a code that was given to us"),
        pytest.param("OURS-2", "wanted", "amount_discount", id="a code that is being made"),
        pytest.param("OURS-3", "failed", "amount_discount", id="a code that could not be made"),
        pytest.param(None, "none", "gift_card", id="a gift card"),
        pytest.param(None, "none", "membership", id="a membership"),
    ],
)
def test_what_may_have_been_used_without_an_order_is_left(
    town: Town, code: str | None, state: str, kind: str
) -> None:
    spent(town, town.customer(), code=code, state=state, kind=kind)
    assert given_back(town) == 0


def test_one_that_is_young_is_left(town: Town) -> None:
    spent(town, town.customer(), code=None, state="none")
    assert given_back(town, after=3 * DAY) == 0


def test_one_that_an_order_used_is_left(town: Town) -> None:
    customer = town.customer()
    spent(town, customer, code="OURS-4", state="active")
    town.sell(customer, discounts=[Discount("A reward", code="ours-4", amount_minor=300)])
    town.deliver()
    assert given_back(town) == 0
