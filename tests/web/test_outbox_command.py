"""What could not be done at Shopify is seen in the figures and at the terminal, and is tried again from there."""

from __future__ import annotations

import json
from typing import Any

import pytest
from sqlalchemy import Engine, text

from app.cli import run
from tasks.steps import outbox
from tests.conftest import RegisteredShop


@pytest.fixture
def rows(engine: Engine, shop: RegisteredShop) -> list[int]:
    """One row that failed, and one that waits."""
    with engine.begin() as connection:
        for number in (1, 2):
            key = f"create_code:{shop.id}:{number}"
            outbox.put(connection, shop.id, "create_code", key, {"redemption_id": number})
        statement = "select id from outbox where shop_id = :id order by id"
        ids = list(connection.execute(text(statement), {"id": shop.id}).scalars())
        connection.execute(
            text(
                "update outbox set state = 'failed', attempts = 3, error_code = 'access_denied', error = 'no scope'"
                " where id = :id"
            ),
            {"id": ids[0]},
        )
    return ids


@pytest.fixture
def unwind(
    monkeypatch: pytest.MonkeyPatch,
    capsys: pytest.CaptureFixture[str],
    database_url: str,
    redis_url: str,
    tmp_path: Any,
) -> Any:
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)

    def call(*arguments: str) -> tuple[int, str]:
        capsys.readouterr()
        return run([*arguments, "--data", str(tmp_path)]), capsys.readouterr().out

    return call


def test_what_failed_is_listed_with_its_reason_and_tried_again(
    unwind: Any, engine: Engine, shop: RegisteredShop, rows: list[int]
) -> None:
    status, shown = unwind("outbox", "list", shop.domain, "--json")
    assert status == 0
    (failed,) = json.loads(shown)["rows"]
    assert (failed["id"], failed["kind"], failed["reason"]) == (
        str(rows[0]),
        "create_code",
        {"code": "access_denied", "message": "no scope"},
    )
    assert unwind("outbox", "retry", str(rows[0]))[0] == 0
    assert unwind("outbox", "list", shop.domain)[1].strip() == "nothing failed"
    status, shown = unwind("outbox", "list", shop.domain, "--waiting", "--json")
    assert [(row["id"], row["attempts"]) for row in json.loads(shown)["rows"]] == [
        (str(rows[1]), 0),
        (str(rows[0]), 0),
    ]


@pytest.mark.parametrize("which", ["waiting", "unknown"])
def test_what_did_not_fail_is_not_tried_again(unwind: Any, rows: list[int], which: str) -> None:
    assert unwind("outbox", "retry", str(rows[1] if which == "waiting" else 10**9))[0] == 1


@pytest.mark.parametrize("command", ["outbox", "privacy"])
def test_a_misspelt_store_is_no_empty_list(unwind: Any, command: str) -> None:
    assert unwind(command, "list", "no-such-store.myshopify.com") == (1, "")


def test_work_outside_moves_the_figures(client: Any, engine: Engine, rows: list[int]) -> None:
    figures = client.get("/metrics").text
    assert 'unwind_outbox{kind="create_code",state="pending"}' in figures
    assert 'unwind_outbox{kind="create_code",state="failed"}' in figures
    (oldest,) = (line for line in figures.splitlines() if line.startswith("unwind_outbox_oldest_seconds "))
    assert float(oldest.split()[1]) > 0
