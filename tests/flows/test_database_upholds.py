"""What the database itself refuses, whoever asks: the last line behind the rules (R3, R19, R21, R40)."""

from __future__ import annotations

from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError, IntegrityError

from tasks.steps.verify import verify
from tests.books import Books, Step, open_books, play, state_of
from tests.flows.stories import CUSTOMER, TWO, Story, came, given, spent
from tests.rules.build import LATER, ORDER, day, order, refund, returned

STORY = Story(
    "one order with a reward, refunded in part",
    [
        given(1, 500, at=day(-3)),
        spent(1, {CUSTOMER: 200}, at=day(0)),
        came(1, order(None, *TWO)),
        came(4, refund(1, 3_000, returned(1, 3_000), at=day(4))),
    ],
)
MINE = f"shop_id = :shop and customer_id = {CUSTOMER}"


@pytest.fixture(scope="module")
def books(engine: Engine) -> Books:
    books = open_books(engine, STORY.world)
    play(books, STORY.steps, now=LATER)
    return books


def attempt(books: Books, *statements: str, **more: Any) -> None:
    """Run statements as anybody with a connection could; whatever they do is taken back."""
    with books.engine.connect() as connection:
        for statement in statements:
            connection.execute(text(statement), {"shop": books.shop_id, **more})
        connection.rollback()


def refused(books: Books, words: str, *statements: str) -> None:
    with pytest.raises(DBAPIError, match=words):
        attempt(books, *statements)


@pytest.mark.parametrize("table", ["entries", "activity", "programs"])
@pytest.mark.parametrize(
    "change",
    ["update {} set shop_id = shop_id where shop_id = :shop", "delete from {} where shop_id = :shop"],
)
def test_what_is_on_record_is_neither_changed_nor_removed(books: Books, table: str, change: str) -> None:
    """R40, R39, R17: the ledger, the activity and the program's versions are append-only."""
    refused(books, f"{table} is append-only", change.format(table))


@pytest.mark.parametrize("table", ["entries", "activity"])
def test_the_record_cannot_be_emptied(books: Books, table: str) -> None:
    """R40: not by TRUNCATE either."""
    refused(books, f"{table} is append-only", f"truncate {table} cascade")


@pytest.mark.parametrize(
    ("statement", "words"),
    [
        (f"update wallets set balance = balance + 1 where {MINE}", "a balance moves by entries only"),
        (f"update lots set remainder = remainder - 1 where {MINE}", "a lot moves by entries only"),
        ("insert into wallets (shop_id, customer_id, balance, folded_until) values (:shop, 1, 5, now())", "starts at zero"),
        (f"insert into lots (shop_id, customer_id, lot, at, amount, remainder) values (:shop, {CUSTOMER}, 'x', now(), 5, 5)",
         "starts at zero"),
    ],
    ids=["a balance", "a lot", "a new balance", "a new lot"],
)  # fmt: skip
def test_value_moves_by_entries_only(books: Books, statement: str, words: str) -> None:
    """R40: balance = sum of entries = sum of lots' remainders."""
    refused(books, words, statement)


ENTRY = (
    "insert into entries (shop_id, customer_id, lot, kind, amount, event_at, event_kind, event_sort, event_target, event_cause, cause, booking_id)"
    " values (:shop, {customer}, '{lot}', 'claim', {amount}, now(), 4, 1, 'x', 'x', 'x', {booking})"
)


def entry(*, lot: str = "grant:1", amount: int = -1, booking: int = -7, customer: int = CUSTOMER) -> str:
    return ENTRY.format(lot=lot, amount=amount, booking=booking, customer=customer)


@pytest.mark.parametrize(
    ("statements", "words"),
    [
        ([entry(amount=-10_000)], "remainder_within_amount"),
        ([entry(amount=10_000)], "remainder_within_amount"),
        ([entry(amount=0)], "never_zero"),
        ([entry(lot="nowhere")], "names a lot that is not there"),
        ([entry(customer=123)], "foreign key|names a lot"),
        ([entry(), entry()], "uq_entries_one_posting"),
    ],
    ids=["below nothing", "above the amount", "of zero", "of no lot", "of no wallet", "posted twice"],
)
def test_an_entry_that_would_be_wrong_is_refused(books: Books, statements: list[str], words: str) -> None:
    """R7, R40: 0 <= remainder <= amount, and one posting a key."""
    refused(books, words, *statements)


def test_an_entry_moves_its_lot_and_its_wallet_alike(books: Books) -> None:
    """R40."""
    with books.engine.connect() as connection:
        before = held(connection, books)
        connection.execute(text(entry(amount=-9)), {"shop": books.shop_id})
        after = held(connection, books)
        connection.rollback()
    assert [a - b for a, b in zip(after, before, strict=True)] == [-9, -9, -9]


def held(connection: Connection, books: Books) -> list[int]:
    """The balance, the lots' remainders, the entries."""
    sums = ["sum(balance) from wallets", "sum(remainder) from lots", "sum(amount) from entries"]
    return [
        int(
            connection.execute(
                text(f"select {each} where shop_id = :shop"), {"shop": books.shop_id}
            ).scalar_one()
        )
        for each in sums
    ]


@pytest.mark.parametrize(
    ("change", "words"),
    [
        ("update wallets set debt = -1 where shop_id = :shop", "debt_not_negative"),
        ("update wallets set pending = -1 where shop_id = :shop", "pending_not_negative"),
        ("update awards set reversed = amount + 1, debited = amount + 1 where shop_id = :shop", "cap"),
        ("update awards set reversed = -1 where shop_id = :shop", "cap|adds_up"),
        ("update awards set debited = debited + 1 where shop_id = :shop", "adds_up"),
        (
            "update redemptions set returned = amount + 1, credited = amount + 1 where shop_id = :shop",
            "returned_adds_up",
        ),
        ("update redemptions set credited = credited + 1 where shop_id = :shop", "returned_adds_up"),
        ("update redemptions set restitution = 'code' where shop_id = :shop", "one_benefit_once"),
        ("update redemptions set restitution = 'both' where shop_id = :shop", "restitution|one_benefit_once"),
        ("update timeline set moved = moved + 1 where shop_id = :shop and folded", "adds_up"),
        ("update refunds set value_minor = -1 where shop_id = :shop", "value_not_negative"),
    ],
)
def test_a_number_that_breaks_a_rule_is_refused(books: Books, change: str, words: str) -> None:
    """R3, R7, R19, R21, R40: caps, sums and the one benefit are constraints."""
    with pytest.raises(IntegrityError, match=words):
        attempt(books, change)


def test_a_negative_balance_is_refused_whatever_the_trigger_lets_through(books: Books) -> None:
    """R7, R40: the constraint stands behind the lots' own."""
    constraint = "select pg_get_constraintdef(oid) from pg_constraint where conname = 'ck_wallets_balance_not_negative'"
    with books.engine.connect() as connection:
        assert connection.execute(text(constraint)).scalar_one() == "CHECK ((balance >= 0))"


def test_a_shop_has_one_redemption_a_code(books: Books) -> None:
    """R14, R21: a code belongs to one redemption."""
    another = (
        "insert into redemptions (shop_id, id, customer_id, reward_id, kind, amount, code, code_key, at)"
        f" values (:shop, 99, {CUSTOMER}, '5-off', 'amount_discount', 5, 'SAVE', 'save', now())"
    )
    again = "insert into redemption_codes (shop_id, code_key, redemption_id, n, code) values (:shop, 'save', 99, 0, 'SAVE')"
    refused(books, "pk_redemption_codes", another, again)


def test_two_shops_with_the_same_ids_never_mix(engine: Engine, books: Books) -> None:
    """R40: the same orders, customers, refunds and codes in a second shop leave the first as it was."""
    before = state_of(books)
    second = open_books(engine, STORY.world)
    steps: list[Step] = [*STORY.steps, came(9, refund(2, 7_000, at=day(8)))]
    play(second, steps, now=LATER)
    assert state_of(books) == before
    assert state_of(second)["orders"][ORDER][0] == "fully_refunded"
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == verify(connection, second.shop_id) == []


# Tables whose unique keys do not start with the shop, and why.
NOT_BY_SHOP = {
    ("shops", "id"): "it is the shop",
    ("shops", "domain"): "it is the shop",
    ("inbox", "id"): "a delivery is kept before anybody knows whose it is",
    ("inbox", "shop_domain"): "the shop, as the unsigned header names it",
    ("api_tokens", "digest"): "a token is looked up before its shop is known, and opens one shop only",
    ("admin_links", "digest"): "looked up before its shop is known, as a token is",
    ("admin_sessions", "digest"): "looked up before its shop is known, as a token is",
    ("alembic_version", "version_num"): "the schema's own",
}
UNIQUE_KEYS = text(
    "select c.relname, a.attname from pg_index i join pg_class c on c.oid = i.indrelid"
    " join pg_namespace n on n.oid = c.relnamespace join pg_attribute a on a.attrelid = c.oid and a.attnum = i.indkey[0]"
    " where i.indisunique and n.nspname = 'public'"
)


def test_every_unique_key_starts_with_the_shop(engine: Engine) -> None:
    """R40: what is the same id in two shops is two things."""
    with engine.connect() as connection:
        first = {(row.relname, row.attname) for row in connection.execute(UNIQUE_KEYS)}
    others = {key for key in first if key[1] != "shop_id"}
    assert others == set(NOT_BY_SHOP)
    assert len({table for table, column in first if column == "shop_id"}) >= 14
