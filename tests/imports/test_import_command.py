"""`unwind import`: a file of another program, at the terminal."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tasks.steps import shops
from tasks.steps.identifiers import Hashers, customer_known_by, normal_email
from tasks.steps.imports.columns import template
from tests.conftest import RegisteredShop
from tests.imports.conftest import KEY, Import, counts_of, everything_agrees, state_of
from tests.terminal import Unwind

HEADER = "record,reference,customer_id,amount,expires_at"
WHO = 6940095564


def day(offset: int) -> str:
    return (datetime.now(UTC) + timedelta(days=offset)).date().isoformat()


def test_the_template_is_a_file_that_can_be_imported(
    take_in: Import, unwind: Unwind, engine: Engine, shop: RegisteredShop
) -> None:
    """R26: and a second run changes nothing."""
    shown = unwind("import", "--template")
    assert (shown.status, shown.out) == (0, template())
    done = take_in(*template().splitlines())
    assert done.status == 0, done.out
    assert done.json["rows"]["balance"] == {"rows": 1, "amount": "120"}
    assert state_of(engine, shop.id)["wallets"] == [(WHO, 200, 250, 0, 34050, 3, 0, "gold", "gold")]
    assert everything_agrees(engine, shop.id)
    before = counts_of(engine, shop.id)
    again = take_in(*template().splitlines())
    assert (again.status, again.json["imported_before"], again.json["rows"]) == (0, 7, {})
    assert counts_of(engine, shop.id) == before


def test_a_dry_run_says_what_would_be_and_changes_nothing(
    take_in: Import, engine: Engine, shop: RegisteredShop
) -> None:
    told = take_in(HEADER, f"balance,,{WHO},120,", f"lot,,{WHO},80,{day(30)}", options=("--dry-run",))
    assert told.status == 0
    assert (told.json["dry_run"], told.json["booked"], told.json["lines"]) == (True, False, 2)
    assert told.json["rows"]["lot"] == {"rows": 1, "amount": "80"}
    assert set(counts_of(engine, shop.id).values()) == {0}


def test_nothing_of_a_file_with_a_mistake_is_booked_unless_asked_for(
    take_in: Import, engine: Engine, shop: RegisteredShop
) -> None:
    lines = (
        HEADER,
        f"balance,,{WHO},120,",
        f"balance,,{WHO},-1,",
        f"lot,,{WHO},many,{day(1)}",
        f"lot,,{WHO},7,",
    )
    refused = take_in(*lines)
    assert (refused.status, refused.json["errors_total"], refused.json["wrong"]) == (1, 3, 3)
    assert [(each["line"], each["column"]) for each in refused.json["errors"]] == [
        (3, "amount"),
        (4, "amount"),
        (5, "expires_at"),
    ]
    assert set(counts_of(engine, shop.id).values()) == {0}
    assert "nothing was booked" not in refused.err  # what is for programs has all of it

    booked = take_in(*lines, options=("--skip-bad",))
    assert (booked.status, booked.json["wrong"], booked.json["rows"]) == (
        1,
        3,
        {"balance": {"rows": 1, "amount": "120"}},
    )
    corrected = take_in(HEADER, f"balance,,{WHO},120,", f"balance,,{WHO},1,", name="corrected.csv")
    assert (corrected.status, corrected.json["imported_before"]) == (0, 1)
    assert state_of(engine, shop.id)["wallets"][0][1] == 121
    assert everything_agrees(engine, shop.id)


def test_mistakes_are_read_by_people_too(unwind: Unwind, shop: RegisteredShop, tmp_path: Path) -> None:
    file = tmp_path / "wrong.csv"
    file.write_text(f"{HEADER}\nbalance,,{WHO},-1,\n")
    told = unwind("import", str(file), "--shop", shop.domain)
    assert told.status == 1
    assert "2      amount   '-1' is below zero" in told.out
    assert "nothing was booked" in told.err


def test_a_file_that_is_no_such_file_is_one_mistake(take_in: Import) -> None:
    told = take_in("name;points", "jane;5")
    assert told.status == 1
    assert [each["column"] for each in told.json["errors"]] == [None]


def test_a_reference_has_one_content_for_good(take_in: Import, engine: Engine, shop: RegisteredShop) -> None:
    first = take_in(HEADER, f"balance,b-1,{WHO},120,", name="first.csv")
    assert first.status == 0
    other = take_in(HEADER, f"balance,b-1,{WHO},130,", f"balance,b-2,{WHO},5,", name="other.csv")
    assert other.status == 1
    (error,) = other.json["errors"]
    assert (error["line"], error["column"]) == (2, "reference")
    assert error["message"] == f"was imported with another content on {day(0)} (line 2 of first.csv)"
    assert state_of(engine, shop.id)["wallets"][0][1] == 120


@pytest.mark.parametrize(
    ("first", "second", "column"),
    [
        pytest.param("award,a-1,5,10,7,,,", "award,a-2,5,10,7,,,", "rule", id="an award of the same order and rule"),
        pytest.param("award,a-1,5,10,7,,,", "award,a-2,6,10,7,bonus,,", "customer_id", id="an order of somebody else"),
        pytest.param("redemption,r-1,5,10,,,A1,", "redemption,r-2,6,10,,,a1,", "code", id="a code that is tracked"),
        pytest.param("tier,t-1,5,,,,,gold", "tier,t-2,5,,,,,silver", "tier", id="a tier that is kept"),
    ],
)  # fmt: skip
def test_what_the_books_have_against_a_row_is_told_by_line(
    take_in: Import,
    unwind: Unwind,
    engine: Engine,
    shop: RegisteredShop,
    first: str,
    second: str,
    column: str,
) -> None:
    levels = '\'[{"id": "gold", "name": "Gold", "threshold": "500"}, {"id": "silver", "name": "S", "threshold": "9"}]\''
    with engine.begin() as connection:  # programs are added, never changed
        connection.execute(
            text(
                "insert into programs (shop_id, version, settings, from_at) select shop_id, 2,"
                f" jsonb_set(settings, '{{tiers,levels}}', {levels}::jsonb), now() from programs where shop_id = :id"
            ),
            {"id": shop.id},
        )
    header = "record,reference,customer_id,amount,order_id,rule,code,tier,reward,at"
    more = ",custom,2026-01-01" if first.startswith("redemption") else ",,"
    assert take_in(header, first + more, name="first.csv").status == 0
    told = take_in(header, second + more, name="second.csv")
    assert told.status == 1
    assert [(each["line"], each["column"]) for each in told.json["errors"]] == [(2, column)]
    assert everything_agrees(engine, shop.id)


def test_the_moment_of_a_file_is_that_of_its_first_run(take_in: Import) -> None:
    lines = (HEADER, f"balance,,{WHO},120,")
    assert (
        take_in(*lines, options=("--as-of", "2026-01-02T03:04:05Z")).json["as_of"]
        == "2026-01-02T03:04:05+00:00"
    )
    assert take_in(*lines).json["as_of"] == "2026-01-02T03:04:05+00:00"
    other = take_in(*lines, options=("--as-of", "2026-01-03T00:00:00Z"))
    assert other.status == 1
    assert "is not again as of another moment" in other.err
    assert take_in(*lines, name="x.csv", options=("--as-of", "2099-01-01T00:00:00Z")).status == 1


def test_which_store_is_asked_only_when_there_are_several(
    unwind: Unwind, fresh_engine: Engine, tmp_path: Path
) -> None:
    url = fresh_engine.url.render_as_string(hide_password=False)
    file = tmp_path / "customers.csv"
    file.write_text(f"{HEADER}\nbalance,,{WHO},120,\n")
    assert unwind("import", str(file), DATABASE_URL=url).status == 2
    with fresh_engine.begin() as connection:
        shops.add(connection, "one.myshopify.com")
    assert unwind("import", str(file), DATABASE_URL=url).status == 0
    with fresh_engine.begin() as connection:
        shops.add(connection, "two.myshopify.com")
    asked = unwind("import", str(file), DATABASE_URL=url)
    assert asked.status == 2
    assert "one.myshopify.com, two.myshopify.com" in asked.err
    assert unwind("import", str(file), "--shop", "three.myshopify.com", DATABASE_URL=url).status == 1


def test_without_a_file_the_usage_is_wrong(unwind: Unwind, tmp_path: Path) -> None:
    assert unwind("import").status == 2
    assert unwind("import", str(tmp_path / "none.csv")).status == 2


def test_what_expired_is_left_out_and_told(take_in: Import, engine: Engine, shop: RegisteredShop) -> None:
    """R19: only what is worth something is booked."""
    told = take_in(HEADER, f"lot,,{WHO},80,{day(-3)}", f"lot,,{WHO},20,{day(3)}")
    assert (told.status, told.json["expired"], told.json["rows"]["lot"]["rows"]) == (0, 1, 1)
    assert [each["line"] for each in told.json["notes"]] == [2]
    assert state_of(engine, shop.id)["wallets"][0][1] == 20


def test_addresses_are_kept_as_keyed_hashes_only(
    take_in: Import, engine: Engine, shop: RegisteredShop
) -> None:
    """R35: the customer is found by them; nowhere do they stand."""
    lines = (
        "record,customer_id,amount,email,phone",
        f"balance,{WHO},5,Jane.Doe@Example.com,",
        f"customer,{WHO + 1},,,+49 170 1234567",
    )
    assert take_in(*lines).status == 0
    hasher = Hashers(engine, [KEY.encode()]).of(shop.domain)
    assert hasher is not None
    with engine.connect() as connection:
        digest = hasher.digest("EMAIL", normal_email("jane.doe@example.com") or "")
        assert customer_known_by(connection, shop.id, "EMAIL", digest) == WHO
        assert (
            customer_known_by(connection, shop.id, "PHONE", hasher.digest("PHONE", "491701234567")) == WHO + 1
        )
        for table in (
            "imported_rows",
            "imports",
            "timeline",
            "activity",
            "entries",
            "customer_identifiers",
            "outbox",
        ):
            held = connection.execute(
                text(f"select t::text from {table} t where shop_id = :id"), {"id": shop.id}
            )
            assert not [row for row in held.scalars() if "jane" in row.lower() or "1234567" in row], table


def test_the_activity_says_where_it_came_from(
    unwind: Unwind, take_in: Import, engine: Engine, shop: RegisteredShop
) -> None:
    """R39: one entry for each row that moved value, with the balance before and after."""
    assert take_in(*template().splitlines()).status == 0
    with engine.connect() as connection:
        rows = connection.execute(
            text("select kind, cause, detail from activity where shop_id = :id order by id"), {"id": shop.id}
        ).all()
    kinds = [row.kind for row in rows]
    assert sorted(kinds) == ["points.approved", "points.granted", "points.granted", "points.redeemed", "tier.changed", "tier.pinned"]  # fmt: skip
    assert all("IMPORTED" in row.detail["reasons"] for row in rows if row.kind != "tier.changed")
    assert all(row.detail.get("booked_by", row.cause).startswith("import:") for row in rows)
    redeemed = next(row.detail for row in rows if row.kind == "points.redeemed")
    assert redeemed["balance_before"] == redeemed["balance_after"]


def test_nobody_outside_is_told_of_an_import(take_in: Import, engine: Engine, shop: RegisteredShop) -> None:
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into endpoints (shop_id, url, events, secret) values (:id, 'https://x.example/', '[\"*\"]', 'x')"
            ),
            {"id": shop.id},
        )
    assert take_in(*template().splitlines()).status == 0
    with engine.connect() as connection:
        told = connection.execute(text("select count(*) from messages where shop_id = :id"), {"id": shop.id})
        assert told.scalar_one() == 0
