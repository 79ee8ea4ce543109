"""Points given back by redemption and customer, over HTTP: Capillary's request, its answers, its numbers."""

from __future__ import annotations

from datetime import timedelta
from decimal import Decimal
from typing import Any

import pytest

from tests.web.api.conftest import Store as Orders
from tests.web.points.conftest import ADA, BELA, CHIDI, NOW, Shop

CREDITS = {"unit": {"kind": "credits", "scale": 2}}


def activity(store: Shop, customer: int = ADA) -> list[dict[str, Any]]:
    return store.call("GET", f"/customers/{customer}/activity").body["data"]


def family_of_the_seed(store: Shop) -> int:
    """350 points, 100 of Bela's and 250 of Chidi's, of whose 20 have expired since."""
    store.grant(0 + 100, to=BELA, ends_in_days=140)
    store.grant(20, to=CHIDI, ends_in_days=-5)
    store.grant(230, to=CHIDI, ends_in_days=100)
    store.grant(1)
    return store.redeem(350, sources={BELA: 100, CHIDI: 250})


def test_a_part_of_a_redemption_comes_back_with_the_fields_of_the_seed(store) -> None:
    """R35: the first example of Capillary's page."""
    redemption = store.spent()
    got = store.reverse(redemption, 2)
    assert got.status == 200
    assert got.body == {
        "orgId": store.id,
        "identifier": {"type": "ID", "value": str(ADA)},
        "customerId": ADA,
        "redemptionId": str(redemption),
        "reversalId": got.body["reversalId"],
        "pointsToBeReversed": 2,
        "pointsReversed": 2,
        "pointsReversedDetails": {"available": 2, "expired": 0},
        "warnings": [],
    }
    assert store.balance() == 2 and store.holds_together()


def test_a_group_gets_back_what_each_gave_less_what_has_expired(store) -> None:
    """R35, R19, R20: the second example of Capillary's page: 350 -> 330 and 20 expired."""
    redemption = family_of_the_seed(store)
    got = store.reverse(redemption)
    assert got.body["pointsToBeReversed"] == got.body["pointsReversed"] == 350
    assert got.body["pointsReversedDetails"] == {"available": 330, "expired": 20}
    bela, chidi = got.body["crossMemberReversalBreakup"]
    assert bela == {
        "memberId": BELA,
        "pointsRestored": 100,
        "pointsExpiredByReversal": 0,
        "expiryBatchDate": f"{NOW + timedelta(days=140):%Y-%m-%dT%H:%M:%SZ}",
        "status": "REVERSED",
    }
    assert chidi == {
        "memberId": CHIDI,
        "pointsRestored": 250,
        "pointsExpiredByReversal": 20,
        "expiryBatchDate": f"{NOW - timedelta(days=5):%Y-%m-%dT%H:%M:%SZ}",
        "status": "REVERSED",
    }
    assert (store.balance(BELA), store.balance(CHIDI), store.balance(ADA)) == (100, 230, 1)
    assert store.holds_together()


def test_a_part_of_a_groups_redemption_is_split_in_proportion(store) -> None:
    """R20: 35 of 350 points, 10 of Bela's and 25 of Chidi's; more of each is to come."""
    redemption = family_of_the_seed(store)
    got = store.reverse(redemption, 35)
    parts = got.body["crossMemberReversalBreakup"]
    assert [(part["memberId"], part["pointsRestored"], part["status"]) for part in parts] == [
        (BELA, 10, "PARTIALLY_REVERSED"),
        (CHIDI, 25, "PARTIALLY_REVERSED"),
    ]
    rest = store.reverse(redemption).body
    assert rest["pointsReversed"] == 315
    assert [part["status"] for part in rest["crossMemberReversalBreakup"]] == ["REVERSED", "REVERSED"]
    assert (store.balance(BELA), store.balance(CHIDI)) == (100, 230) and store.holds_together()


def test_a_member_of_the_group_may_ask_for_all(store) -> None:
    """R35: whoever has part in the redemption is eligible."""
    redemption = family_of_the_seed(store)
    got = store.reverse(redemption, by=("ID", str(CHIDI)))
    assert (got.status, got.body["customerId"], got.body["pointsReversed"]) == (200, CHIDI, 350)


def test_without_an_amount_all_that_is_left_comes_back(store) -> None:
    redemption = store.spent()
    store.reverse(redemption, 40)
    got = store.reverse(redemption)
    assert (got.body["pointsToBeReversed"], got.body["pointsReversed"]) == (60, 60)
    assert store.balance() == 100 and "crossMemberReversalBreakup" not in got.body


def test_within_its_days_of_grace_expired_value_is_credited_again(store) -> None:
    """R19: a program may give grace days."""
    store.program(return_redeemed={"expired_grace_days": 30})
    store.grant(100, ends_in_days=-5)
    redemption = store.redeem(100)
    assert store.reverse(redemption).body["pointsReversedDetails"] == {"available": 100, "expired": 0}
    assert store.balance() == 100 and store.holds_together()


def test_what_comes_back_pays_a_debt_first(new_shop) -> None:
    """R7: an order's 60 points were spent as well when it was refunded; what comes back pays for them first."""
    store = new_shop(below_zero="carry_debt")
    redemption = store.spent()
    orders = Orders(store.engine)
    orders.place(store, 450, customer=ADA, total_minor=6_000)
    store.redeem(60, days_ago=4)
    orders.refund(store, 450, 9, 6_000)
    assert store.call("GET", f"/customers/{ADA}").body["debt"] == 60
    got = store.reverse(redemption)
    assert got.body["pointsReversedDetails"] == {"available": 100, "expired": 0}
    assert got.body["warnings"] == [
        {"code": "debt_paid", "message": "60 of it paid what was owed", "amount": 60}
    ]
    shown = store.call("GET", f"/customers/{ADA}").body
    assert (shown["balance"], shown["debt"]) == (40, 0) and store.holds_together()


def test_what_paid_a_debt_is_told_beside_the_balance(new_shop) -> None:
    """R7, R39: the debt comes from a refund that found nothing to take, and a return pays for it."""
    store = new_shop(below_zero="carry_debt")
    redemption = store.spent()
    orders = Orders(store.engine)
    orders.place(store, 450, customer=ADA, total_minor=6_000)
    store.redeem(60, days_ago=4)
    orders.refund(store, 450, 9, 6_000)
    store.reverse(redemption, 20)
    told = store.call("GET", f"/activity?customer={ADA}").body["data"]
    [taken] = [entry for entry in told if entry["kind"] == "points.reversed"]
    [back] = [entry for entry in told if entry["kind"] == "redemption.returned"]
    assert (taken["detail"]["shortfall"], taken["detail"]["debt_added"]) == (60, 60)
    assert "60 of them were not there to take, and are owed now; balance stays 0" in taken["text"]
    assert (back["detail"]["debt_paid"], back["detail"]["balance_after"]) == (20, 0)
    assert "20 of them paid what was owed; balance stays 0" in back["text"]


@pytest.mark.parametrize(
    ("sent", "back"),
    [
        pytest.param(2.5, 2.5, id="one decimal"),
        pytest.param(0.01, 0.01, id="the smallest unit"),
        pytest.param(10, 10, id="whole"),
    ],
)
def test_credits_come_back_in_the_programs_unit(new_shop, sent: float, back: float) -> None:
    store = new_shop(**CREDITS)
    store.grant(10_000)
    redemption = store.redeem(10_000)
    got = store.reverse(redemption, sent)
    assert got.body["pointsReversed"] == back == got.body["pointsReversedDetails"]["available"]
    assert Decimal(str(store.balance())) == Decimal(str(back))


def test_a_whole_number_of_points_may_be_written_with_a_point(store) -> None:
    """R35: the seed writes 2.0."""
    redemption = store.spent()
    assert store.reverse(redemption, 2.0).body["pointsReversed"] == 2


def test_a_merged_customer_is_his_survivor(store) -> None:
    """R33, R35."""
    redemption = store.spent()
    told = {
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{BELA}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{ADA}",
        "status": "completed",
    }
    store.tell("customers/merge", told)
    got = store.reverse(redemption, 10)
    assert got.body["customerId"] == BELA and got.body["identifier"]["value"] == str(ADA)
    assert store.reverse(redemption, 20, by=("ID", str(BELA))).status == 200
    assert store.balance(BELA) == 30


def test_a_reversal_stands_in_the_activity_with_its_reason_and_who_asked(store) -> None:
    """R39."""
    redemption = store.spent()
    store.reverse(redemption, 30, reason="Came back in the shop")
    kinds = {entry["kind"]: entry for entry in activity(store)}
    assert kinds["redemption.reversed"]["detail"]["reason"] == "Came back in the shop"
    assert kinds["redemption.reversed"]["detail"]["by"].startswith("token:")
    assert kinds["redemption.returned"]["detail"]["balance_after"] == 30


def test_a_preview_says_the_same_and_changes_nothing(store) -> None:
    """R37."""
    redemption = store.spent()
    seen = store.reverse(redemption, 30, query="?preview=true")
    assert seen.headers["Unwind-Preview"] == "true" and store.balance() == 0
    done = store.reverse(redemption, 30)
    for answer in (seen, done):
        answer.body.pop("reversalId")
    assert seen.body == done.body


def test_a_code_that_was_given_to_us_stays_and_the_answer_warns_of_it(store) -> None:
    """R35: nothing is done to codes; who wants the code gone cancels the redemption (R34)."""
    store.grant(100)
    redemption = store.redeem(100, code="LOYAL-7F3K")
    (warning,) = store.reverse(redemption, 50).body["warnings"]
    assert warning["code"] == "code_usable" and store.balance() == 50
