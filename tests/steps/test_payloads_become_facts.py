"""Each payload of tests/payloads, read to facts worked out by hand. Amounts are in the currency's smallest unit."""

from __future__ import annotations

import json
from datetime import UTC, datetime
from pathlib import Path
from typing import Any

import pytest

from models.errors import UnknownTopic, Unparseable
from models.rules.facts import (
    Adjustment,
    Dispute,
    Edit,
    Fact,
    Line,
    Refund,
    ReturnedLine,
    Snapshot,
    Transaction,
)
from tasks.steps.parse import FACT_TOPICS, READ_TOPIC, Peek, order_ids, parse, peek
from tasks.steps.parse.orders import LONGEST_NAME

PAYLOADS = Path(__file__).parents[1] / "payloads"
RECORDED = Path(__file__).parents[2].parent / "shared" / "fixtures"  # real recordings, where someone has them

ORDER = 5100000000001
REFUND = 5200000000000
REFUNDED_AT = datetime(2026, 3, 9, 19, tzinfo=UTC)
A, B = 9100000000001, 9100000000002


def topic_of(file: Path) -> str:
    noun, verb = file.name.split(".")[0].rsplit("_", 1)
    return f"{noun}/{verb}"


def facts_of(name: str) -> tuple[Fact, ...]:
    file = PAYLOADS / f"{name}.json"
    return parse(topic_of(file), file.read_bytes())


def snapshot(**changed: Any) -> Snapshot:
    placed = datetime(2026, 3, 2, 14, 15, tzinfo=UTC)
    usual: dict[str, Any] = {
        "placed_at": placed,
        "updated_at": placed,
        "currency": "USD",
        "outstanding_minor": 0,
        "financial_status": "paid",
        "cancelled_at": None,
        "customer_id": 7100000000071,
        "test": False,
        "taxes_included": False,
        "codes": (),
    }
    told = usual | changed
    told.setdefault("presentment_currency", told["currency"])
    told.setdefault("presentment_total_minor", told["total_minor"])
    return Snapshot(**told)


def line(id: int, quantity: int, net: int, tax: int = 0, *, current: int | None = None, **codes: int) -> Line:
    return Line(
        id=id,
        quantity=quantity,
        current_quantity=quantity if current is None else current,
        net_minor=net,
        tax_minor=tax,
        code_discounts=tuple(sorted(codes.items())),
    )


def refund(
    id: int,
    *lines: ReturnedLine,
    shipping: int = 0,
    adjustments: tuple[Adjustment, ...] = (),
    transactions: tuple[int, ...] = (),
    order: int = ORDER,
    at: datetime = REFUNDED_AT,
) -> Refund:
    return Refund(
        id=id,
        order_id=order,
        created_at=at,
        lines=lines,
        shipping_minor=shipping,
        adjustments=adjustments,
        transaction_ids=transactions,
    )


def back(line_id: int, quantity: int, subtotal: int, tax: int) -> ReturnedLine:
    return ReturnedLine(line_id=line_id, quantity=quantity, subtotal_minor=subtotal, tax_minor=tax)


def money(
    id: int,
    amount: int,
    refund_id: int | None,
    status: str = "success",
    currency: str = "USD",
    **changed: Any,
) -> Transaction:
    usual: dict[str, Any] = {
        "order_id": ORDER,
        "kind": "refund",
        "at": REFUNDED_AT,
        "shop_amount_minor": None,
    }
    return Transaction(
        id=id,
        amount_minor=amount,
        status=status,
        currency=currency,
        refund_id=refund_id,
        **(usual | changed),
    )


def adjusted(amount: int, tax: int = 0, *, shipping: bool = False) -> tuple[Adjustment, ...]:
    return (Adjustment(amount_minor=amount, tax_minor=tax, shipping=shipping),)


FULL = (
    refund(
        REFUND + 1, back(A, 2, 5000, 500), back(B, 1, 4000, 400), shipping=1100, transactions=(8800000000011,)
    ),
    money(8800000000011, 11000, REFUND + 1),
)
PLAIN = snapshot(
    order_id=ORDER,
    name="#2001",
    total_minor=11000,
    subtotal_minor=9000,
    lines=(line(A, 2, 5000, 500), line(B, 1, 4000, 400)),
)
SEVERAL_CODES = snapshot(
    order_id=5100000000002,
    name="#2002",
    total_minor=15300,
    subtotal_minor=15300,
    lines=(
        line(9100000000021, 1, 15000 - 714 - 3000 - 357, loyal42=3000, extra5=357),
        line(9100000000022, 3, 6000 - 286 - 1200 - 143, loyal42=1200, extra5=143),
    ),
    codes=("extra5", "loyal42", "shipfree"),
)
BIG = 9100000000000000123  # beyond 2**53, where a float would lose it
CANCELLED_AT = datetime(2026, 3, 5, 16, tzinfo=UTC)

EXPECTED: dict[str, tuple[Fact, ...]] = {
    "orders_create.plain": (PLAIN,),
    "orders_updated.refunded": (
        snapshot(
            order_id=ORDER,
            name="#2001",
            updated_at=datetime(2026, 3, 9, 19, 0, 2, tzinfo=UTC),
            financial_status="refunded",
            total_minor=11000,
            subtotal_minor=9000,
            lines=(line(A, 2, 5000, 500, current=0), line(B, 1, 4000, 400, current=0)),
        ),
        *FULL,
    ),
    "orders_create.several_codes": (SEVERAL_CODES,),
    "orders_create.shipping_code": (
        snapshot(
            order_id=5100000000003,
            name="#2003",
            total_minor=6000,
            subtotal_minor=6000,
            lines=(line(9100000000031, 1, 6000),),
            codes=("shipfree",),
        ),
    ),
    "orders_create.tax_included": (
        snapshot(
            order_id=5100000000004,
            name="#2004",
            currency="EUR",
            taxes_included=True,
            total_minor=12495,
            subtotal_minor=10000,  # 119.00 with 19.00 of tax inside
            lines=(line(9100000000041, 2, 11900, 1900),),
        ),
    ),
    "orders_create.presentment": (
        snapshot(
            order_id=5100000000005,
            name="#2005",
            presentment_currency="EUR",
            total_minor=10800,
            presentment_total_minor=10000,
            subtotal_minor=10800,
            lines=(line(9100000000051, 2, 10800),),
        ),
    ),
    "orders_create.jpy": (
        snapshot(
            order_id=5100000000006,
            name="#2006",
            currency="JPY",
            total_minor=4950,
            subtotal_minor=4500,
            lines=(line(9100000000061, 3, 4500, 450),),
        ),
    ),
    "orders_create.kwd": (
        snapshot(
            order_id=5100000000007,
            name="#2007",
            currency="KWD",
            total_minor=24690,
            subtotal_minor=24690,
            lines=(line(9100000000071, 2, 24690),),
        ),
    ),
    "orders_create.no_customer_test": (
        snapshot(
            order_id=5100000000008,
            name="#2008",
            total_minor=1800,
            subtotal_minor=1800,
            outstanding_minor=1800,
            financial_status="pending",  # null at Shopify: nothing was paid
            customer_id=None,
            test=True,
            lines=(line(-1, 1, 1800),),  # a line without an id is known by its place
        ),
    ),
    "orders_cancelled.unpaid": (
        snapshot(
            order_id=BIG,
            name="#2009",
            updated_at=datetime(2026, 3, 5, 16, 0, 1, tzinfo=UTC),
            total_minor=15000,
            subtotal_minor=15000,
            financial_status="voided",
            cancelled_at=CANCELLED_AT,
            customer_id=9100000000000000777,
            lines=(line(9100000000000000321, 2, 15000, current=0),),
        ),
        refund(9100000000000000555, back(9100000000000000321, 2, 15000, 0), order=BIG, at=CANCELLED_AT),
    ),
    "orders_updated.from_2017": (
        snapshot(
            order_id=5100000000,
            name="#1010",
            placed_at=datetime(2017, 5, 4, 8, tzinfo=UTC),
            updated_at=datetime(2017, 5, 6, 8, tzinfo=UTC),
            total_minor=16800,
            subtotal_minor=15000,
            outstanding_minor=None,
            financial_status="partially_refunded",
            customer_id=7100000101,
            lines=(line(9100000101, 2, 15000, 1200),),
            codes=("welcome10",),  # no applications to ask: the code is known, its shares are not
        ),
        refund(
            520000101,
            back(9100000101, 1, 7500, 600),
            transactions=(880000101,),
            order=5100000000,
            at=datetime(2017, 5, 6, 8, tzinfo=UTC),
        ),
        money(880000101, 8100, 520000101, order_id=5100000000, at=datetime(2017, 5, 6, 8, tzinfo=UTC)),
    ),
    "orders_edited.swap": (
        Edit(
            id=5600000000001,
            order_id=ORDER,
            committed_at=datetime(2026, 3, 4, 15, 2, tzinfo=UTC),
            additions=((9100000000003, 2),),
            removals=((A, 1),),
        ),
    ),
    "refunds_create.full": FULL,
    "refunds_create.partial": (
        refund(REFUND + 2, back(A, 1, 2500, 250), transactions=(8800000000012,)),
        money(8800000000012, 2750, REFUND + 2),
    ),
    "refunds_create.amount_only": (
        refund(REFUND + 3, adjustments=adjusted(-1500), transactions=(8800000000013,)),
        money(8800000000013, 1500, REFUND + 3),
    ),
    "refunds_create.shipping_as_adjustment": (
        refund(REFUND + 4, adjustments=adjusted(-1000, -100, shipping=True), transactions=(8800000000014,)),
        money(8800000000014, 1100, REFUND + 4),
    ),
    "refunds_create.shipping_as_line": (  # half of 10.00 and of its tax of 1.00
        refund(REFUND + 5, shipping=550, transactions=(8800000000015,)),
        money(8800000000015, 550, REFUND + 5),
    ),
    "refunds_create.shipping_both_ways": (
        refund(REFUND + 6, shipping=1100, transactions=(8800000000016,)),
        money(8800000000016, 1100, REFUND + 6),
    ),
    "refunds_create.restocking_fee": (
        refund(REFUND + 7, back(B, 1, 4000, 400), adjustments=adjusted(440), transactions=(8800000000017,)),
        money(8800000000017, 3960, REFUND + 7),
    ),
    "refunds_create.pending": (
        refund(REFUND + 8, back(B, 1, 4000, 400), adjustments=adjusted(4400), transactions=(8800000000018,)),
        money(8800000000018, 4400, REFUND + 8, "pending"),
    ),
    "order_transactions_create.settled": (money(8800000000018, 4400, None),),
    "refunds_create.failed": (
        refund(REFUND + 9, back(B, 1, 4000, 400), transactions=(8800000000019,)),
        money(8800000000019, 4400, REFUND + 9, "failure"),
    ),
    "refunds_create.no_transactions": (refund(REFUND + 10, back(B, 1, 4000, 400)),),
    "refunds_create.zero_subtotal": (
        refund(REFUND + 11, back(B, 1, 0, 0), transactions=(8800000000021,)),
        money(8800000000021, 3320, REFUND + 11),
    ),
    "refunds_create.more_than_the_order": (
        refund(
            REFUND + 12,
            back(A, 2, 5000, 500),
            back(B, 1, 4000, 400),
            shipping=1100,
            adjustments=adjusted(-2000),
            transactions=(8800000000022,),
        ),
        money(8800000000022, 13000, REFUND + 12),
    ),
    "refunds_create.split_tender": (
        refund(REFUND + 13, back(A, 1, 2500, 250), transactions=(8800000000023, 8800000000024)),
        money(8800000000023, 2000, REFUND + 13),
        money(8800000000024, 750, REFUND + 13),
    ),
    "refunds_create.tax_included": (  # 50.00 + 9.50 of tax, and the whole shipping: 5.00 + 0.95
        refund(
            REFUND + 41,
            back(9100000000041, 1, 5000, 950),
            shipping=595,
            transactions=(8800000000041,),
            order=5100000000004,
        ),
        money(8800000000041, 6545, REFUND + 41, currency="EUR", order_id=5100000000004),
    ),
    "refunds_create.presentment": (  # lines in dollars, the transaction in the buyer's euros
        refund(
            REFUND + 51,
            back(9100000000051, 1, 5400, 0),
            transactions=(8800000000051,),
            order=5100000000005,
        ),
        money(8800000000051, 5000, REFUND + 51, currency="EUR", order_id=5100000000005),
    ),
    "order_transactions_create.with_amount_set": (
        money(8800000000052, 5000, None, currency="EUR", shop_amount_minor=5400, order_id=5100000000005),
    ),
    "refunds_create.jpy": (
        refund(
            REFUND + 61,
            back(9100000000061, 1, 1500, 150),
            transactions=(8800000000061,),
            order=5100000000006,
        ),
        money(8800000000061, 1650, REFUND + 61, currency="JPY", order_id=5100000000006),
    ),
    "refunds_create.kwd": (
        refund(
            REFUND + 71,
            back(9100000000071, 1, 12345, 0),
            transactions=(8800000000071,),
            order=5100000000007,
        ),
        money(8800000000071, 12345, REFUND + 71, currency="KWD", order_id=5100000000007),
    ),
    "refunds_create.ids_as_text": (
        refund(
            9100000000000000556,
            back(9100000000000000321, 1, 7500, 0),
            transactions=(9100000000000000888,),
            order=BIG,
        ),
        money(9100000000000000888, 7500, 9100000000000000556, order_id=BIG),
    ),
    "refunds_create.from_2017": (
        refund(
            520000101,
            back(9100000101, 1, 7500, 600),
            transactions=(880000101,),
            order=5100000000,
            at=datetime(2017, 5, 6, 8, tzinfo=UTC),
        ),
        money(880000101, 8100, 520000101, order_id=5100000000, at=datetime(2017, 5, 6, 8, tzinfo=UTC)),
    ),
    "order_transactions_create.void": (
        money(8800000000025, 0, None, kind="void", at=datetime(2026, 3, 3, 13, tzinfo=UTC)),
    ),
    "disputes_update.lost": (
        Dispute(
            id=5700000000001,
            order_id=ORDER,
            status="lost",
            amount_minor=11000,
            currency="USD",
            at=datetime(2026, 4, 26, tzinfo=UTC),
        ),
    ),
    "disputes_create.inquiry": (
        Dispute(
            id=5700000000002,
            order_id=ORDER,
            status="inquiry_needs_response",
            amount_minor=11000,
            currency="USD",
            at=datetime(2026, 4, 6, tzinfo=UTC),
        ),
    ),
}


@pytest.mark.parametrize("name", sorted(EXPECTED))
def test_a_payload_becomes_the_facts_worked_out_by_hand(name: str) -> None:
    assert facts_of(name) == EXPECTED[name]


def test_every_payload_has_expected_facts_and_a_line_in_the_readme() -> None:
    names = {file.name.removesuffix(".json") for file in PAYLOADS.glob("*.json")}
    readme = (PAYLOADS / "README.md").read_text()
    assert names == set(EXPECTED)
    assert [name for name in sorted(names) if f"`{name}`" not in readme] == []


def value_told_by(told: Refund) -> int:
    """S2, spelled out once more: lines + shipping - adjustments."""
    lines = sum(line.subtotal_minor + line.tax_minor for line in told.lines)
    return lines + told.shipping_minor - sum(a.amount_minor + a.tax_minor for a in told.adjustments)


@pytest.mark.parametrize(
    "name",
    [
        "full",
        "partial",
        "amount_only",
        "shipping_as_adjustment",
        "shipping_as_line",
        "shipping_both_ways",
        "restocking_fee",
        "more_than_the_order",
        "split_tender",
        "tax_included",
        "jpy",
        "kwd",
        "ids_as_text",
        "from_2017",
    ],
)
def test_what_the_record_tells_equals_the_money_that_moved(name: str) -> None:
    told, *moved = facts_of(f"refunds_create.{name}")
    assert isinstance(told, Refund)
    assert value_told_by(told) == sum(m.amount_minor for m in moved if isinstance(m, Transaction))


def test_a_pending_refund_tells_a_value_of_nothing() -> None:
    told = facts_of("refunds_create.pending")[0]
    assert isinstance(told, Refund) and value_told_by(told) == 0


def test_a_refund_told_alone_and_inside_its_order_is_the_same() -> None:
    assert facts_of("orders_updated.refunded")[1:] == facts_of("refunds_create.full")
    assert facts_of("orders_updated.from_2017")[1:] == facts_of("refunds_create.from_2017")


def test_only_topics_that_tell_facts_are_read() -> None:
    recorded = {topic_of(file) for file in PAYLOADS.glob("*.json")}
    assert recorded | {"orders/paid", READ_TOPIC} == FACT_TOPICS
    with pytest.raises(UnknownTopic):
        parse("returns/approve", b"{}")


def variation(name: str, **changed: Any) -> tuple[Fact, ...]:
    """The payload with some of its top fields changed, `...` to leave one out."""
    file = PAYLOADS / f"{name}.json"
    node = json.loads(file.read_bytes()) | changed
    kept = {key: value for key, value in node.items() if value is not ...}
    return parse(topic_of(file), json.dumps(kept).encode())


def test_an_answer_in_its_wrapper_is_read_like_the_bare_webhook() -> None:
    for name, wrapper in (("orders_create.plain", "order"), ("refunds_create.full", "refund")):
        file = PAYLOADS / f"{name}.json"
        wrapped = json.dumps({wrapper: json.loads(file.read_bytes())}).encode()
        assert parse(topic_of(file), wrapped) == EXPECTED[name]


def test_lists_that_are_null_or_an_empty_object_are_empty() -> None:
    for nothing in (None, {}, [], ...):
        (alone,) = variation("orders_create.plain", refunds=nothing, discount_codes=nothing)
        assert alone == PLAIN


def test_a_title_among_discount_codes_is_no_code_when_an_application_says_manual() -> None:
    manual = [{"type": "manual", "target_type": "line_item", "title": "Staff"}]
    (told,) = variation(
        "orders_create.plain", discount_codes=[{"code": "Staff"}], discount_applications=manual
    )
    assert isinstance(told, Snapshot) and told.codes == ()


@pytest.mark.parametrize("index", [-1, 4, None, "1", True])
def test_an_allocation_of_no_known_application_discounts_but_belongs_to_no_code(index: object) -> None:
    file = PAYLOADS / "orders_create.several_codes.json"
    node = json.loads(file.read_bytes())
    node["line_items"][0]["discount_allocations"][1]["discount_application_index"] = index
    (told,) = parse("orders/create", json.dumps(node).encode())
    assert isinstance(told, Snapshot)
    assert told.lines[0] == line(9100000000021, 1, 15000 - 714 - 3000 - 357, extra5=357)


def test_without_lines_the_subtotal_is_what_shopify_says() -> None:
    (told,) = variation("orders_create.plain", line_items=[])
    assert isinstance(told, Snapshot) and (told.lines, told.subtotal_minor) == ((), 9000)


def test_times_fall_back_to_the_ones_that_are_there() -> None:
    (told,) = variation("orders_create.plain", updated_at=None, created_at=None)
    assert isinstance(told, Snapshot) and told.placed_at == told.updated_at == PLAIN.placed_at
    (again, _) = variation("refunds_create.full", created_at=None)
    assert again == FULL[0]


def test_owing_the_buyer_money_is_owing_nothing() -> None:
    (told,) = variation("orders_create.plain", total_outstanding="-4.00")
    assert isinstance(told, Snapshot) and told.outstanding_minor == 0


def test_an_unknown_presentment_ratio_is_shown_as_a_total_of_zero() -> None:
    (told,) = variation("orders_create.plain", presentment_currency="EUR", total_price_set=None)
    assert isinstance(told, Snapshot)
    assert (told.presentment_currency, told.presentment_total_minor, told.total_minor) == ("EUR", 0, 11000)


def test_a_transaction_status_that_is_not_final_is_pending() -> None:
    (told,) = variation("order_transactions_create.settled", status="AWAITING_RESPONSE")
    assert isinstance(told, Transaction) and told.status == "pending"


def test_a_transaction_without_a_currency_takes_its_refunds_or_the_shops() -> None:
    node = json.loads((PAYLOADS / "refunds_create.jpy.json").read_bytes())
    node["transactions"][0]["currency"] = None
    assert parse("refunds/create", json.dumps(node).encode()) == EXPECTED["refunds_create.jpy"]
    body = json.dumps({"id": 1, "order_id": 2, "kind": "refund", "status": "success", "amount": "500",
                       "created_at": "2026-03-02T09:15:00Z"}).encode()  # fmt: skip
    (told,) = parse("order_transactions/create", body, shop_currency="JPY")
    assert isinstance(told, Transaction) and (told.currency, told.amount_minor) == ("JPY", 500)
    with pytest.raises(Unparseable, match="currency: is missing"):
        parse("order_transactions/create", body)


def test_a_refund_that_names_no_currency_is_read_only_when_it_holds_no_amount() -> None:
    bare = {"id": 1, "order_id": 2, "created_at": "2026-03-02T09:15:00Z", "refund_line_items": [
        {"line_item_id": None, "line_item": {"id": 3}, "quantity": 1, "subtotal": 0}]}  # fmt: skip
    (told,) = parse("refunds/create", json.dumps(bare).encode())
    assert isinstance(told, Refund) and told.lines == (back(3, 1, 0, 0),)
    bare["refund_line_items"][0]["subtotal"] = 750  # type: ignore[index]
    with pytest.raises(Unparseable, match=r"refund_line_items\[0\].subtotal: has no currency"):
        parse("refunds/create", json.dumps(bare).encode())


def test_a_refunded_line_that_cannot_be_named_counts_with_its_money() -> None:
    item = {"line_item_id": None, "line_item": None, "quantity": 1, "subtotal": "4.00", "total_tax": None}
    told, _ = variation("refunds_create.full", refund_line_items=[item])
    assert isinstance(told, Refund) and told.lines == (back(0, 1, 400, 0),)


def test_a_dispute_of_no_order_tells_nothing() -> None:
    assert variation("disputes_update.lost", order_id=None) == ()


def test_a_dispute_finalized_on_a_bare_day_counts_from_that_days_start() -> None:
    (told,) = variation("disputes_update.lost", finalized_on="2026-04-25")
    assert isinstance(told, Dispute) and told.at == datetime(2026, 4, 25, tzinfo=UTC)


def test_order_ids_are_told_once_each() -> None:
    assert order_ids(EXPECTED["orders_updated.refunded"]) == (ORDER,)
    assert order_ids(()) == ()


@pytest.mark.parametrize(
    ("name", "seen"),
    [
        ("orders_create.plain", Peek(ORDER, None)),
        ("refunds_create.full", Peek(ORDER, REFUND + 1)),
        ("refunds_create.ids_as_text", Peek(BIG, 9100000000000000556)),
        ("order_transactions_create.void", Peek(ORDER, None)),
        ("orders_edited.swap", Peek(ORDER, None)),
        ("disputes_update.lost", Peek(ORDER, None)),
    ],
)
def test_a_glance_shows_the_ids(name: str, seen: Peek) -> None:
    assert peek((PAYLOADS / f"{name}.json").read_bytes()) == seen


@pytest.mark.parametrize(
    "body",
    [
        b"",
        b"[]",
        b"\xff",
        b'{"id": 1',
        b"[" * 100_000,
        b'{"order_id": -4}',
        b'{"order_id": 1.5}',
        b"9" * 5000,
    ],
)
def test_a_glance_at_nonsense_shows_nothing(body: bytes) -> None:
    assert peek(body) == Peek(None, None)


def recordings() -> list[Path]:
    """Our own payloads, and recorded REST bodies where someone keeps them beside the repository."""
    skipped = ("graphql", "/schemas/", "types_only", "calculate")
    kept = RECORDED.rglob("*.json") if (RECORDED / "SOURCES.md").exists() else ()
    found = [file for file in sorted(kept) if not any(word in str(file) for word in skipped)]
    return [*sorted(PAYLOADS.glob("*.json")), *found]


def recorded_bodies(node: Any) -> list[tuple[str, Any]]:
    """Every order and refund in a recording, however it is wrapped."""
    if isinstance(node, dict) and "refund_line_items" in node:
        return [("refunds/create", node)]
    if isinstance(node, dict) and "financial_status" in node:
        return [("orders/updated", node)]
    inner = node.values() if isinstance(node, dict) else node if isinstance(node, list) else ()
    return [found for part in inner for found in recorded_bodies(part)]


def test_every_recorded_order_and_refund_is_read() -> None:
    bodies = [body for file in recordings() for body in recorded_bodies(json.loads(file.read_bytes()))]
    assert len(bodies) > 15
    for topic, node in bodies:
        facts = parse(topic, json.dumps(node).encode())
        assert order_ids(facts) and isinstance(facts[0], Refund if topic == "refunds/create" else Snapshot)


def test_every_recorded_shipping_refund_tells_the_money_that_moved() -> None:
    bodies = [body for file in recordings() for body in recorded_bodies(json.loads(file.read_bytes()))]
    told = [parse(topic, json.dumps(node).encode()) for topic, node in bodies if topic == "refunds/create"]
    shipping = [facts for facts in told if isinstance(facts[0], Refund) and not facts[0].lines]
    assert len(shipping) >= 2
    for record, *moved in shipping:
        assert isinstance(record, Refund)
        assert value_told_by(record) == sum(m.amount_minor for m in moved if isinstance(m, Transaction))


@pytest.mark.parametrize(
    ("told", "called"),
    [
        pytest.param({"name": "Lamp - blue", "title": "Lamp"}, "Lamp - blue", id="with its variant"),
        pytest.param({"name": None, "title": "Lamp"}, "Lamp", id="by its product"),
        pytest.param({"name": " ", "title": ""}, "", id="not at all"),
        pytest.param({"name": 7, "title": ["Lamp"]}, "", id="by what is no text"),
        pytest.param({"name": "La\x00mp\ud800\n"}, "Lamp", id="with what cannot be stored"),
        pytest.param({"name": "Tee\u00a0Shirt\tXL\u3000茶"}, "Tee Shirt XL 茶", id="with other spaces"),
        pytest.param(
            {"name": "👩\u200d🔬 mug\u202e"},
            "👩\u200d🔬 mug",
            id="with what joins, and nothing that turns text around",
        ),
        pytest.param({"name": "L" * 5000}, "L" * LONGEST_NAME, id="at length"),
    ],
)
def test_what_a_line_is_called_is_kept_and_never_stands_in_the_way(
    told: dict[str, object], called: str
) -> None:
    body = json.loads((PAYLOADS / "orders_create.plain.json").read_bytes())
    del body["line_items"][0]["name"], body["line_items"][0]["title"]
    body["line_items"][0] |= told
    (found, *_) = parse("orders/create", json.dumps(body).encode())
    assert isinstance(found, Snapshot) and found == PLAIN
    assert [each.name for each in found.lines] == [called, "Thing"]
