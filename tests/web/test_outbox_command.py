"""What could not be done at Shopify is seen in the figures and at the terminal, and is tried again from there."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Engine, text

from tasks.steps import outbox
from tests.conftest import RegisteredShop
from tests.terminal import Unwind


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


def test_what_failed_is_listed_with_its_reason_and_tried_again(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, rows: list[int]
) -> None:
    shown = unwind("outbox", "list", shop.domain, "--json")
    assert shown.status == 0
    (failed,) = shown.json["rows"]
    assert (failed["id"], failed["kind"], failed["reason"]) == (
        str(rows[0]),
        "create_code",
        {"code": "access_denied", "message": "no scope"},
    )
    assert unwind("outbox", "retry", str(rows[0])).status == 0
    assert unwind("outbox", "list", shop.domain).out.strip() == "nothing failed"
    waiting = unwind("outbox", "list", shop.domain, "--waiting", "--json")
    assert [(row["id"], row["attempts"]) for row in waiting.json["rows"]] == [
        (str(rows[1]), 0),
        (str(rows[0]), 0),
    ]


def test_a_long_list_comes_in_pages_by_the_cursor_that_it_names(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, rows: list[int]
) -> None:
    with engine.begin() as connection:
        connection.execute(text("update outbox set state = 'failed' where id = any(:ids)"), {"ids": rows})
    first = unwind("outbox", "list", shop.domain, "--limit", "1", "--json").json
    assert ([row["id"] for row in first["rows"]], first["next_cursor"]) == ([str(rows[1])], rows[1])
    assert f"--cursor {rows[1]}" in unwind("outbox", "list", shop.domain, "--limit", "1").out
    second = unwind("outbox", "list", shop.domain, "--cursor", str(rows[1]), "--json").json
    assert ([row["id"] for row in second["rows"]], second["next_cursor"]) == ([str(rows[0])], None)


@pytest.mark.parametrize("which", ["waiting", "unknown"])
def test_what_did_not_fail_is_not_tried_again(unwind: Unwind, rows: list[int], which: str) -> None:
    assert unwind("outbox", "retry", str(rows[1] if which == "waiting" else 10**9)).status == 1


@pytest.mark.parametrize("command", ["outbox", "privacy"])
def test_a_misspelt_store_is_no_empty_list(unwind: Unwind, command: str) -> None:
    said = unwind(command, "list", "no-such-store.myshopify.com")
    assert (said.status, said.out) == (1, "")


def test_work_outside_moves_the_figures(client: Any, engine: Engine, rows: list[int]) -> None:
    figures = client.get("/metrics").text
    assert 'unwind_outbox{kind="create_code",state="pending"}' in figures
    assert 'unwind_outbox{kind="create_code",state="failed"}' in figures
    (oldest,) = (line for line in figures.splitlines() if line.startswith("unwind_outbox_oldest_seconds "))
    assert float(oldest.split()[1]) > 0
