"""A demo that stays up goes on as a store does: refunds made by hand are taken, and nothing else uses its data."""

from __future__ import annotations

import subprocess
import sys

import requests

from tests.browser.conftest import Demo
from tests.browsing import Tab
from tests.terminal import nothing_set
from tests.waiting import until


def test_a_refund_made_by_hand_at_the_store_takes_the_orders_points_and_its_page_says_so(
    demo: Demo, tab: Tab
) -> None:
    orders = requests.get(f"{demo.store_url}/control/orders", timeout=5).json()["orders"]
    kept = next(order for order in orders if order["financial_status"] in ("paid", "partially_refunded"))
    refund = requests.post(f"{demo.store_url}/control/orders/{kept['id']}/refunds", json={}, timeout=5)
    assert refund.status_code == 201, refund.text
    api, token = demo.api

    def told() -> dict[str, object]:
        answer = requests.get(
            f"{api}/orders/{kept['id']}", headers={"Authorization": f"Bearer {token}"}, timeout=5
        )
        return dict(answer.json())

    until(lambda: told()["status"] == "fully_refunded")
    awards = told()["awards"]
    assert isinstance(awards, list) and all(award["reversed"] == award["amount"] for award in awards)
    tab.go(f"/admin/orders/{kept['id']}")
    tab.says("Fully refunded")


def test_its_data_is_not_for_a_second_demo(demo: Demo) -> None:
    """Which would take its tasks."""
    beside = subprocess.run(
        [sys.executable, "-m", "app.cli", "demo", "--once", "--data", str(demo.data)],
        env=nothing_set(),
        capture_output=True,
        text=True,
        timeout=60,
        check=False,
    )
    assert beside.returncode != 0 and "`unwind demo`" in beside.stderr
