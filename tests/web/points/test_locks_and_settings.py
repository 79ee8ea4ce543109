"""Locks of customers, limits of programs, and the same step at the terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta

import pytest

from models.settings import Settings
from tests.terminal import Unwind
from tests.web.points.conftest import ADA, BELA, CHIDI

SOON = datetime.now(UTC).replace(microsecond=0) + timedelta(days=1)
LOCK = f"/customers/{ADA}/reversal-lock"


def test_a_lock_is_set_shown_and_lifted(store) -> None:
    """R35."""
    store.grant(1)
    nobody = {"customer_id": str(ADA), "until": None, "reason": None, "by": None}
    assert store.call("GET", LOCK).body == nobody
    put = store.call("PUT", LOCK, {"until": SOON.isoformat(), "reason": "Looked into"})
    assert put.body == store.call("GET", LOCK).body
    assert (put.body["until"], put.body["reason"]) == (SOON.isoformat(), "Looked into")
    assert put.body["by"].startswith("token:")
    assert store.call("DELETE", LOCK).body == nobody == store.call("DELETE", LOCK).body
    told = store.call("GET", f"/customers/{ADA}/activity").body["data"]
    assert [entry["kind"] for entry in told][:2] == ["reversals.unlocked", "reversals.locked"]


def test_a_lock_follows_a_merged_customer(store) -> None:
    """R33."""
    redemption = store.spent()
    store.call("PUT", LOCK, {"until": SOON.isoformat(), "reason": "Looked into"})
    told = {
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{BELA}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{ADA}",
        "status": "completed",
    }
    store.tell("customers/merge", told)
    assert store.reverse(redemption, by=("ID", str(BELA))).number == 904
    store.call("DELETE", f"/customers/{BELA}/reversal-lock")
    assert store.reverse(redemption, by=("ID", str(BELA))).status == 200


def test_a_lock_that_is_over_holds_nobody(store) -> None:
    redemption = store.spent()
    store.call("PUT", LOCK, {"until": SOON.isoformat(), "reason": "Looked into"})
    store.run("update reversal_locks set until = now() - interval '1 second' where shop_id = :shop_id")
    assert store.call("GET", LOCK).body["until"] is None
    assert store.reverse(redemption).status == 200


def test_a_customer_nobody_knows_cannot_be_locked(store) -> None:
    got = store.call("PUT", LOCK, {"until": SOON.isoformat(), "reason": "Looked into"})
    assert (got.status, got.body["error"]["code"]) == (404, "not_found")


def test_an_undone_reversal_counts_for_no_limit(store) -> None:
    """R38."""
    store.program(points_reversal={"limit_per_customer": 1})
    first = store.reverse(store.spent())
    other = store.spent()
    assert store.reverse(other).number == 903
    assert store.call("POST", f"/reversals/{first.body['reversalId']}/undo", {}).status == 200
    assert store.reverse(other).status == 200


def test_a_limit_looks_back_as_many_days_as_it_says(store) -> None:
    """R35."""
    store.program(points_reversal={"limit_per_customer": 1, "limit_days": 7})
    store.reverse(store.spent())
    other = store.spent()
    assert store.reverse(other).number == 903
    store.run("update reversals set at = at - interval '8 days' where shop_id = :shop_id")
    assert store.reverse(other).status == 200


def test_the_setting_is_shown_once_it_was_set(store) -> None:
    assert "points_reversal" not in store.call("GET", "/program").body
    store.program(points_reversal={"limit_per_customer": 2})
    shown = store.call("GET", "/program").body["points_reversal"]
    assert shown == {"enabled": True, "limit_per_customer": 2, "limit_days": 30}


@pytest.mark.parametrize(
    ("wrong", "field"),
    [
        pytest.param({"limit_per_customer": 0}, "points_reversal.limit_per_customer", id="none at all"),
        pytest.param({"limit_days": 0}, "points_reversal.limit_days", id="no days"),
        pytest.param({"enabled": "yes"}, "points_reversal.enabled", id="a word"),
        pytest.param({"limit": 1}, "points_reversal.limit", id="an unknown name"),
    ],
)
def test_a_setting_that_cannot_be_is_refused_by_name(store, wrong: dict[str, object], field: str) -> None:
    got = store.call("PUT", "/program", {"points_reversal": wrong})
    assert (got.status, got.body["error"]["details"]["field"]) == (422, field)


@pytest.fixture
def environment(settings: Settings) -> dict[str, str]:
    return {"database_url": str(settings.database_url), "redis_url": str(settings.redis_url)}


def test_points_are_reversed_at_the_terminal(store, unwind: Unwind) -> None:
    """R35, R20."""
    store.grant(1)
    store.grant(100, to=BELA)
    store.grant(250, to=CHIDI)
    redemption = str(store.redeem(350, sources={BELA: 100, CHIDI: 250}))
    seen = unwind("reverse", redemption, "--points", "35", "--preview")
    assert seen.status == 0 and "nothing was done" in seen.out and store.balance(BELA) == 0
    done = unwind("reverse", redemption, "--points", "35", "--reason", "Came back", "--yes", "--json")
    assert done.json["pointsReversed"] == 35 and (store.balance(BELA), store.balance(CHIDI)) == (10, 25)
    assert unwind("reverse", redemption, "--points", "35", "--yes").status == 1
    again = ["--again", "--customer", str(CHIDI), "--yes"]
    assert unwind("reverse", redemption, "--points", "35", *again).status == 0
    alone = unwind("reverse", redemption)
    assert alone.status == 2 and "not at a terminal: say --yes or --preview" in alone.err
    assert "280 of redemption" in unwind("reverse", redemption, "--yes").out


@pytest.mark.parametrize("points", ["0", "-1", "many"])
def test_a_number_that_cannot_be_is_wrong_usage(unwind: Unwind, points: str) -> None:
    assert unwind("reverse", "1", f"--points={points}", "--yes").status == 2
