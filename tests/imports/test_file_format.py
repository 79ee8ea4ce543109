"""What a file of another program may say, and what is told of what it may not: by line and by column."""

from __future__ import annotations

import io
from collections.abc import Mapping
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.rules.program import program_from
from tasks.steps.identifiers import Hasher
from tasks.steps.imports.columns import COLUMNS, EVERY, RECORDS, template
from tasks.steps.imports.lines import LINE_MAX_BYTES, Unreadable
from tasks.steps.imports.rows import Read, Row, Terms, rows_of
from tests.rules.build import settings

M = datetime(2026, 6, 1, tzinfo=UTC)
WHO = "6940095564"


def terms(*, currency: str | None = None, **changed: Any) -> Terms:
    program = program_from(settings(**changed), version=1, from_at=None)
    return Terms(program=program, at=M, currency=currency, hasher=lambda: Hasher(1, b"secret"))


def read(*lines: str | bytes, by: Terms | None = None) -> list[Read]:
    told = b"\n".join(line if isinstance(line, bytes) else line.encode() for line in lines)
    return list(rows_of(io.BytesIO(told), by or terms()))


def row(by: Terms | None = None, **cells: str) -> Read:
    """The one line of a file with these cells."""
    told = {"customer_id": WHO, **cells}
    quoted = ",".join('"{}"'.format(cell.replace('"', '""')) for cell in told.values())
    (found,) = read(",".join(told), quoted, by=by)
    return found


def right(by: Terms | None = None, **cells: str) -> Row:
    found = row(by, **cells)
    assert found.row is not None, found.mistakes
    return found.row


def wrong(found: Read) -> Mapping[str | None, str]:
    return {mistake.column: mistake.message for mistake in found.mistakes}


BALANCE = {"record": "balance", "amount": "10"}
AWARD = {"record": "award", "order_id": "820982911946154500", "amount": "500"}
REDEMPTION = {
    "record": "redemption",
    "reward": "5-off",
    "amount": "500",
    "code": "A-1",
    "at": "2026-01-02T03:04:05Z",
}


# -- the file ----------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "told",
    [
        pytest.param(b"\xef\xbb\xbfrecord,customer_id,amount\nbalance,5,10\n", id="a mark at the beginning"),
        pytest.param(b"record,customer_id,amount\r\nbalance,5,10\r\n", id="line ends of Windows"),
        pytest.param(b'"record","customer_id","amount"\n"balance","5","10"', id="quotes, no last line end"),
        pytest.param(b" amount , record,customer_id\n\n,,\n 10 ,balance, 5 \n", id="spaces, empty lines, another order"),
        pytest.param(b"record,customer_id,amount\nbalance,gid://shopify/Customer/5,10.000\n", id="Shopify's long ids"),
    ],
)  # fmt: skip
def test_a_file_is_read_however_it_was_saved(told: bytes) -> None:
    (found,) = rows_of(io.BytesIO(told), terms())
    assert found.row is not None, found.mistakes
    assert (found.row.customer_id, found.row.amount) == (5, 10)


@pytest.mark.parametrize(
    ("told", "column", "message"),
    [
        pytest.param(b"", None, "the file is empty", id="empty"),
        pytest.param("record,customer_id\n".encode("utf-16"), None, "the file is UTF-16", id="UTF-16"),
        pytest.param(b"record;customer_id;amount\n", None, "not separated by commas", id="semicolons"),
        pytest.param(b"record,customer_id,amont\n", "amont", "is amount meant?", id="a misspelt column"),
        pytest.param(b"record,customer_id,Order Id\n", "Order Id", "is order_id meant?", id="a column of another style"),
        pytest.param(b"record,customer_id,amount,amount\n", "amount", "is named twice", id="twice"),
        pytest.param(b"record,amount\n", "customer_id", "is missing", id="whose is it"),
        pytest.param(b"record,customer_id\n" + b"x" * (LINE_MAX_BYTES + 1), None, "is longer than", id="no line ends"),
    ],
)  # fmt: skip
def test_a_file_that_cannot_be_read_says_why(told: bytes, column: str | None, message: str) -> None:
    with pytest.raises(Unreadable) as caught:
        list(rows_of(io.BytesIO(told), terms()))
    (mistake,) = caught.value.mistakes
    assert mistake.column == column
    assert message in mistake.message


@pytest.mark.parametrize(
    ("line", "message"),
    [
        pytest.param(b"balance,5,\xff10", "is not UTF-8 (byte 11 of the line)", id="not UTF-8"),
        pytest.param(b'balance,5,"10', "a quote is not closed", id="a quote that is not closed"),
        pytest.param(b'balance,5,"1"0', "text follows a closing quote", id="text after a quote"),
        pytest.param(b"balance,5,1,000", "has 4 cells, the header 3", id="a comma too many"),
        pytest.param(b"balance,5,1\x000", "a character that no text has", id="a null"),
    ],
)
def test_a_line_that_cannot_be_read_keeps_none_after_it_from_being_read(line: bytes, message: str) -> None:
    bad, good = read("record,customer_id,amount", line, "balance,5,10")
    assert (bad.mistakes[0].line, bad.mistakes[0].column) == (2, None)
    assert message in bad.mistakes[0].message
    assert good.row is not None and good.row.line == 3


def test_every_mistake_of_a_line_is_told_with_its_column() -> None:
    found = row(record="award", order_id="7.65E+17", amount="1,000", due_at="soon", tier="gold")
    assert set(wrong(found)) == {"order_id", "amount", "due_at", "tier"}
    assert "rounded by a spreadsheet" in wrong(found)["order_id"]


# -- values ------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("cells", "column", "message"),
    [
        pytest.param({**BALANCE, "record": "balances"}, "record", "is balance meant?", id="record"),
        pytest.param({**BALANCE, "record": ""}, "record", "is empty; known are balance, lot", id="no record"),
        pytest.param({"record": "balance"}, "amount", "is empty", id="no amount"),
        pytest.param({**BALANCE, "tier": "gold"}, "tier", "no row of the record balance has it", id="another's column"),
        pytest.param({**BALANCE, "customer_id": "jane"}, "customer_id", "is not a customer's id", id="customer"),
        pytest.param({**BALANCE, "customer_id": "9" * 19}, "customer_id", "is not a customer's id", id="beyond 64 bits"),
        pytest.param({**BALANCE, "amount": "-5"}, "amount", "is below zero", id="a debt"),
        pytest.param({**BALANCE, "amount": "1.5"}, "amount", "more decimals than the unit", id="half a point"),
        pytest.param({**BALANCE, "amount": "1e3"}, "amount", "is not a number", id="an exponent"),
        pytest.param({**BALANCE, "amount": "1,5"}, "amount", "is not a number", id="a comma"),
        pytest.param({**BALANCE, "amount": "\u0661\u0662"}, "amount", "is not a number", id="digits of another script"),
        pytest.param({**BALANCE, "amount": "9" * 17}, "amount", "at most", id="too many"),
        pytest.param({**BALANCE, "expires_at": "2026-12-31T10:00:00"}, "expires_at", "does not say its offset", id="no offset"),
        pytest.param({**BALANCE, "expires_at": "31.12.2026"}, "expires_at", "is not a time such as", id="a date of another style"),
        pytest.param({**BALANCE, "expires_at": "2026-02-30"}, "expires_at", "is no date", id="no such day"),
        pytest.param({**BALANCE, "expires_at": "2026-01-01T25:00Z"}, "expires_at", "is no time", id="no such hour"),
        pytest.param({**BALANCE, "expires_at": "9999-12-31"}, "expires_at", "leave it empty for never", id="for ever"),
        pytest.param({**BALANCE, "reference": "jane@example.com"}, "reference", "looks like an e-mail address", id="an address kept for good"),
        pytest.param({**BALANCE, "reference": "+491701234567"}, "reference", "looks like a telephone number", id="a number kept for good"),
        pytest.param({**BALANCE, "reference": "+49-170-1234567"}, "reference", "looks like a telephone number", id="a number with signs"),
        pytest.param({**BALANCE, "reference": "0049-170/1234567"}, "reference", "looks like a telephone number", id="a number with 00"),
        pytest.param({**BALANCE, "reference": "a b"}, "reference", "1 to 100 letters", id="reference"),
        pytest.param({**BALANCE, "email": "jane"}, "email", "is not an e-mail address", id="e-mail"),
        pytest.param({**BALANCE, "phone": "0170 123"}, "phone", "with its country", id="telephone"),
        pytest.param({**AWARD, "rule": "for fun!"}, "rule", "1 to 64 letters", id="rule"),
        pytest.param({**AWARD, "earned": "400"}, "earned", "is less than the amount", id="earned less"),
        pytest.param({**AWARD, "remaining": "600"}, "remaining", "is more than the amount", id="remaining more"),
        pytest.param({**AWARD, "due_at": "2026-07-01", "remaining": "1"}, "remaining", "of a pending award nothing is spent", id="spent of a pending one"),
        pytest.param({**AWARD, "due_at": "2026-07-01", "expires_at": "2026-06-15"}, "expires_at", "is not after due_at", id="expired when approved"),
        pytest.param({**REDEMPTION, "reward": "5-of"}, "reward", "is 5-off meant?", id="reward"),
        pytest.param({**REDEMPTION, "amount": "0"}, "amount", "above 0", id="nothing redeemed"),
        pytest.param({**REDEMPTION, "at": "2026-06-02"}, "at", "after the moment of the import", id="redeemed tomorrow"),
        pytest.param({**REDEMPTION, "expires_at": "2026-01-01"}, "expires_at", "is not after at", id="expired when redeemed"),
        pytest.param({**REDEMPTION, "code": "x" * 256}, "code", "printable characters", id="code"),
        pytest.param({"record": "tier", "tier": "golden"}, "tier", "is gold meant?", id="tier"),
        pytest.param({"record": "history", "day": "2026-06-02", "currency": "USD"}, "day", "after the moment of the import", id="bought tomorrow"),
        pytest.param({"record": "history", "day": "2026-05-02", "spend": "1"}, "currency", "no order has told", id="no currency"),
        pytest.param({"record": "history", "day": "2026-05-02", "spend": "1", "currency": "usd"}, "currency", "such as USD", id="currency"),
        pytest.param({"record": "history", "day": "2026-05-02", "orders": "1.5", "currency": "USD"}, "orders", "whole number", id="half an order"),
        pytest.param({"record": "history", "day": "2026-05-02", "spend": "1.005", "currency": "USD"}, "spend", "more decimals", id="half a cent"),
        pytest.param({"record": "customer"}, "email", "so is phone", id="a customer of whom nothing is said"),
    ],
)  # fmt: skip
def test_a_value_that_is_none_is_told_with_what_is_expected(
    cells: Mapping[str, str], column: str, message: str
) -> None:
    found = row(**cells)
    assert list(wrong(found)) == [column]
    assert message in wrong(found)[column]


@pytest.mark.parametrize("reference", ["0012345678", "49-170-1234567", "2026-03-01/17"])
def test_a_number_of_something_else_is_a_reference(reference: str) -> None:
    (found,) = read("record,customer_id,amount,reference", f"balance,5,10,{reference}")
    assert found.row is not None and found.row.reference == reference


def test_no_mistake_repeats_an_address_or_a_telephone_number() -> None:
    found = row(**BALANCE, email="jane.example.com", phone="12 34")
    assert set(wrong(found)) == {"email", "phone"}
    assert not any("jane" in message or "12 34" in message for message in wrong(found).values())


def test_a_currency_is_one_of_the_store_and_one_of_the_file() -> None:
    day = {"record": "history", "day": "2026-05-02", "spend": "7"}
    assert right(terms(currency="JPY"), **day).spend_minor == 7
    assert "is not JPY" in wrong(row(terms(currency="JPY"), **day, currency="USD"))["currency"]
    one, two = read("record,customer_id,day,currency", "history,5,2026-05-02,USD", "history,5,2026-05-03,EUR")
    assert one.row is not None
    assert two.mistakes[0].message == "line 2 has USD; a store has one"


def test_amounts_are_exact_in_the_units_of_the_program() -> None:
    credits = terms(unit={"kind": "credits", "scale": 2})
    assert [
        right(credits, record="balance", amount=text).amount for text in ("1250", "0.1", "12.50", "7.000")
    ] == [
        125_000,
        10,
        1_250,
        700,
    ]


def test_a_date_is_its_beginning_in_the_stores_time_zone_and_an_expiry_its_end() -> None:
    berlin = terms(time_zone="Europe/Berlin")
    found = right(berlin, **AWARD, due_at="2026-07-01", expires_at="2026-12-31")
    assert found.due_at == datetime(2026, 6, 30, 22, tzinfo=UTC)
    assert found.expires_at == datetime(2026, 12, 31, 23, tzinfo=UTC)
    found = right(berlin, **AWARD, due_at="2026-07-01T10:00:00+02:00")
    assert found.due_at == datetime(2026, 7, 1, 8, tzinfo=UTC)


def test_what_expired_before_the_moment_of_the_import_is_left_out_and_told() -> None:
    found = row(record="lot", amount="10", expires_at="2026-05-30")
    assert (found.row, found.mistakes, found.left_out) == (None, (), "expired")
    assert "nothing of it to book" in found.notes[0].message
    assert right(record="lot", amount="10", expires_at="2026-06-01").expires_at == datetime(
        2026, 6, 2, tzinfo=UTC
    )


# -- what there is once ------------------------------------------------------------------------------


def test_a_row_without_a_reference_is_known_by_its_content_and_its_number() -> None:
    header = "record,customer_id,amount"
    first, second, other = read(header, "balance,5,10", "balance,5,10", "balance,5,11")
    again = read("amount,customer_id,record,reference", "11,5,balance,", "10,5,balance,", "10,5,balance,")
    assert first.row and second.row and other.row
    assert second.row.reference == f"{first.row.reference}-2" != other.row.reference
    assert "the same as line 2" in second.notes[0].message
    assert [each.row.reference for each in again if each.row] == [
        other.row.reference,
        first.row.reference,
        second.row.reference,
    ]


def test_an_address_is_part_of_what_a_row_says_and_only_as_a_keyed_hash() -> None:
    bare, one, two = (
        right(**BALANCE, **cells) for cells in ({}, {"email": "a@b.c"}, {"email": "d@e.f"})
    )  # fmt: skip
    assert len({bare.digest, one.digest, two.digest}) == 3
    assert one.digest == right(**BALANCE, email=" A@B.C ").digest
    other = Terms(terms().program, M, None, lambda: Hasher(1, b"another secret"))
    assert one.digest != right(other, **BALANCE, email="a@b.c").digest


@pytest.mark.parametrize(
    ("lines", "column", "message"),
    [
        pytest.param(["balance,5,r-1,10,,,,,", "balance,5,r-1,11,,,,,"], "reference", "line 2 has it too", id="a reference"),
        pytest.param(["award,5,,10,7,,,,", "award,5,,11,7,,,,"], "rule", "line 2 has an award of this order", id="an award of an order and rule"),
        pytest.param(["award,5,,10,7,a,,,", "award,6,,11,7,b,,,"], "customer_id", "line 2 has this order for another", id="an order's customer"),
        pytest.param(["redemption,5,,10,,,A1,custom,2026-01-01", "redemption,6,,10,,,a1,custom,2026-01-01"], "code", "line 2 has this code", id="a code"),
    ],
)  # fmt: skip
def test_what_there_is_once_is_told_with_the_line_that_had_it(
    lines: list[str], column: str, message: str
) -> None:
    first, second = read("record,customer_id,reference,amount,order_id,rule,code,reward,at", *lines)
    assert first.mistakes == ()
    assert list(wrong(second)) == [column]
    assert message in wrong(second)[column]


def test_a_customers_tier_is_one() -> None:
    levels = {"levels": [{"id": id, "threshold": str(n)} for n, id in enumerate(("gold", "silver"), start=1)]}
    _, same, other = read(
        "record,customer_id,tier", "tier,5,gold", "tier,5,gold", "tier,5,silver", by=terms(tiers=levels)
    )
    assert same.mistakes == ()
    assert wrong(other) == {"tier": "line 2 has the tier gold for this customer"}


def test_a_reference_that_says_the_same_again_is_one_row() -> None:
    first, second = read("record,customer_id,reference,amount", "balance,5,r-1,10", "balance,5,r-1,10")
    assert first.row is not None
    assert (second.row, second.mistakes, second.left_out) == (None, (), "repeated")


def test_the_template_shows_every_record_but_the_bare_customer_and_has_every_column() -> None:
    lines = template().splitlines()
    assert tuple(lines[0].split(",")) == COLUMNS
    shown = [each.row.record for each in read(*lines) if each.row is not None]
    assert {*shown, "customer"} == set(RECORDS)


def test_the_document_has_every_record_and_every_column() -> None:
    document = (Path(__file__).parents[2] / "docs/import.md").read_text()
    assert [name for name in (*RECORDS, *COLUMNS) if f"`{name}`" not in document] == []


def test_every_column_is_of_some_record() -> None:
    used = {*EVERY, *(column for each in RECORDS.values() for column in (*each.needs, *each.may))}
    assert used == set(COLUMNS)
