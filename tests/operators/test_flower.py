"""Flower over its own HTTP API, beside a real worker: what happens is told, who it happened to is not."""

from __future__ import annotations

import re
from pathlib import Path
from typing import Any

import pytest
import requests

from app.cli import run
from tests.operators.conftest import LOGIN, PLANTED, Watched
from tests.seeds.conftest import free_port
from tests.seeds.product import until

PERSONAL = re.compile(
    r"[\w.+-]+@[\w-]+\.\w+"  # an email address
    r"|\+\d[\d ()-]{7,}"  # a telephone number
    r"|shp[a-z]{2}_\w+|Bearer|eyJ\w+\."  # tokens
    r"|\b\d{1,5} [A-Z][a-z]+ (Street|Road|Avenue)\b",
    re.IGNORECASE,
)


def tasks_of(watched: Watched) -> list[dict[str, Any]]:
    answer = requests.get(f"{watched.flower}/api/tasks", auth=LOGIN, timeout=5)
    assert answer.status_code == 200
    return list(answer.json().values())


@pytest.fixture(scope="module")
def tasks(watched: Watched) -> list[dict[str, Any]]:
    """All that Flower saw, once it saw the end."""

    def all_seen() -> list[dict[str, Any]] | None:
        found = tasks_of(watched)
        done = {task["name"] for task in found if task["state"] == "SUCCESS"}
        return (
            found
            if {"refunds.process", "orders.process", "codes.reactivate", "codes.create"} <= done
            else None
        )

    return list(until(all_seen))


def test_the_tasks_of_a_refund_have_their_promised_names_and_arguments(watched: Watched, tasks: Any) -> None:
    shown = [task for task in tasks if task["name"] == "refunds.process"]
    wanted = (f"'shop': '{watched.shop.domain}'", "'topic': 'refunds/create'", f"'order_id': {watched.order.id}",
              f"'refund_id': {watched.refund.id}", "'event_id': ")  # fmt: skip
    assert any(all(each in task["kwargs"] for each in wanted) for task in shown), shown
    [back] = [task for task in tasks if task["name"] == "codes.reactivate"]
    assert watched.shop.domain in back["kwargs"] and "'redemption_id': " in back["kwargs"]


def test_a_task_s_result_tells_in_words_what_happened(watched: Watched, tasks: Any) -> None:
    results = " ".join(str(task["result"]) for task in tasks)
    said = f"refunds/create refund {watched.refund.id}: order {watched.order.id} partially refunded: 500 points earned, 100 reversed"
    assert said in results, results
    assert re.search(r"orders/updated failed: unparseable", results)


def test_no_argument_and_no_result_is_personal_or_secret(watched: Watched, tasks: Any) -> None:
    token = watched.product.shopify.token_for(watched.shop.domain, expiring=False)
    for task in tasks:
        text = repr(task)
        assert not PERSONAL.search(text), text
        for private in (
            *PLANTED,
            watched.customer.email,
            token,
            *watched.product.environment["TOKEN_ENCRYPTION_KEYS"].split(","),
        ):
            assert private.lower() not in text.lower()


def test_what_ticks_every_few_seconds_does_not_bury_the_rest(tasks: Any) -> None:
    assert not {task["name"] for task in tasks} & {"sweeps.ring", "outbox.ring", "clock.mature"}


@pytest.mark.parametrize(
    "path", ["/", "/tasks", "/api/tasks", "/api/workers", "/metrics", "/worker/x", "/broker"]
)
def test_nothing_is_shown_without_the_login(watched: Watched, path: str) -> None:
    for wrong in (None, ("operator", "wrong"), ("", "")):
        assert requests.get(f"{watched.flower}{path}", auth=wrong, timeout=5).status_code == 401


def test_nothing_can_be_changed_with_it_either(watched: Watched) -> None:
    worker = next(
        iter(requests.get(f"{watched.flower}/api/workers?refresh=1", auth=LOGIN, timeout=10).json())
    )
    for path in (f"worker/shutdown/{worker}", "task/send-task/sweeps.ring", "task/async-apply/sweeps.ring",
                 "task/apply/sweeps.ring", "task/revoke/x", f"worker/queue/cancel-consumer/{worker}?queue=events"):  # fmt: skip
        answer = requests.post(f"{watched.flower}/api/{path}", auth=LOGIN, json={}, timeout=5)
        assert answer.status_code == 403, (path, answer.text)
        assert requests.post(f"{watched.flower}/api/{path}", json={}, timeout=5).status_code == 401


def test_what_it_tells_of_workers_holds_no_secret(watched: Watched) -> None:
    told = requests.get(f"{watched.flower}/api/workers?refresh=1", auth=LOGIN, timeout=10).text
    secrets = [
        watched.product.environment[name]
        for name in ("TOKEN_ENCRYPTION_KEYS", "SHOPIFY_API_SECRET", "FLOWER_BASIC_AUTH")
    ]
    state = next((watched.place / "data").glob("**/*.json"), None)
    redis_password = re.findall(r"redis://:([^@]+)@", state.read_text()) if state else []
    assert all(secret not in told for secret in [*secrets, *redis_password, LOGIN[1]])


def test_it_does_not_start_outside_loopback_without_a_login(
    tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("FLOWER_UNAUTHENTICATED_API", "true")
    for command in (["flower", "--host", "0.0.0.0"], ["up", "--flower", "--port", str(free_port())]):
        monkeypatch.setenv("FLOWER_ADDRESS", "0.0.0.0")
        monkeypatch.setenv("SHOPIFY_API_SECRET", "hush")
        assert run([*command, "--data", str(tmp_path)]) == 2
        assert "FLOWER_BASIC_AUTH: is empty, but Flower would listen on 0.0.0.0" in capsys.readouterr().err
