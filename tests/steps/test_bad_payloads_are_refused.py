"""What must not be read is refused with the field and the reason; and nothing else ever comes out of the parser."""

from __future__ import annotations

import json
from pathlib import Path
from typing import Any

import pytest
from hypothesis import example, given, settings
from hypothesis import strategies as st

from models.errors import UnknownTopic, Unparseable
from tasks.steps.parse import FACT_TOPICS, parse, peek

PAYLOADS = Path(__file__).parents[1] / "payloads"
BODIES = {file.name.removesuffix(".json"): file.read_bytes() for file in sorted(PAYLOADS.glob("*.json"))}
TOPICS = {name: "/".join(name.split(".")[0].rsplit("_", 1)) for name in BODIES}


def refusal(topic: str, body: bytes) -> tuple[str, str]:
    with pytest.raises(Unparseable) as caught:
        parse(topic, body)
    return caught.value.field, caught.value.reason


@pytest.mark.parametrize(
    ("body", "reason"),
    [
        pytest.param(b"", "is not JSON at character 0", id="nothing"),
        pytest.param(b"null", "is not a JSON object", id="null"),
        pytest.param(b"[]", "is not a JSON object", id="a list"),
        pytest.param(b'"{}"', "is not a JSON object", id="text"),
        pytest.param(b'{"id": 1', "is not JSON at character 8", id="cut off"),
        pytest.param(b'{"id": 1} {}', "is not JSON at character 10", id="two objects"),
        pytest.param(b'\xef\xbb\xbf{"id": 1}', "starts with a byte order mark", id="byte order mark"),
        pytest.param('{"id": 1}'.encode("utf-16"), "is not UTF-8 at byte 0", id="UTF-16"),
        pytest.param('{"id": 1}'.encode("utf-32-le"), "is not JSON at character 1", id="UTF-32"),
        pytest.param(b'{"name": "caf\xe9"}', "is not UTF-8 at byte 13", id="Latin-1"),
        pytest.param(b'{"a": NaN}', "holds NaN, which is not JSON", id="NaN"),
        pytest.param(b'{"a": -Infinity}', "holds -Infinity, which is not JSON", id="Infinity"),
        pytest.param(b'{"id": 1, "id": 2}', "holds an object with one key twice", id="a key twice"),
        pytest.param(b'{"id": 1, "\\u0069d": 2}', "holds an object with one key twice", id="a key twice, escaped"),
        pytest.param(b'{"a": [{"b": {"c": 1, "c": 1}}]}', "holds an object with one key twice", id="a key twice, deep"),
        pytest.param(b'{"a": %s}' % (b"9" * 5000), "holds a number that is too long", id="5,000 digits"),
        pytest.param(b'{"a": %s}' % (b"[" * 64 + b"]" * 64), "is nested deeper than 64", id="65 deep"),
        pytest.param(b'{"a":' * 65 + b"1" + b"}" * 65, "is nested deeper than 64", id="65 objects deep"),
        pytest.param(b'{"a": %s}' % (b"[" * 99_999 + b"]" * 99_999), "is nested deeper than 64", id="100,000 deep"),
    ],
)  # fmt: skip
def test_a_body_that_is_not_one_plain_json_object_is_refused(body: bytes, reason: str) -> None:
    for topic in FACT_TOPICS:
        assert refusal(topic, body) == ("body", reason)


def test_sixty_four_deep_is_still_read() -> None:
    node = json.loads(BODIES["orders_create.plain"])
    node["note_attributes"] = json.loads("[" * 63 + "]" * 63)
    assert parse("orders/create", json.dumps(node).encode())


def changed(name: str, path: str, value: object) -> tuple[str, bytes]:
    """The payload with the field at `path` (dots, digits for places) set to `value`; `...` leaves it out."""
    node = json.loads(BODIES[name])
    *way, last = [int(step) if step.isdecimal() else step for step in path.split(".")]
    inner: Any = node
    for step in way:
        inner = inner[step]
    if value is ...:
        del inner[last]
    else:
        inner[last] = value
    return TOPICS[name], json.dumps(node).encode()


ORDER, REFUND = "orders_create.plain", "refunds_create.full"
FIRST_LINE = "refund_line_items.0.subtotal_set.shop_money"


@pytest.mark.parametrize(
    ("name", "path", "value", "field", "reason"),
    [
        # ids
        (ORDER, "id", ..., "id", "is missing"),
        (ORDER, "id", None, "id", "is missing"),
        (ORDER, "id", True, "id", "is not an id"),
        (ORDER, "id", 1.0, "id", "is not an id"),
        (ORDER, "id", "", "id", "is not an id"),
        (ORDER, "id", "gid://shopify/Order/1", "id", "is not an id"),
        (ORDER, "id", "٣", "id", "is not an id"),
        (ORDER, "id", "1e3", "id", "is not an id"),
        (ORDER, "id", [1], "id", "is not an id"),
        (ORDER, "id", 0, "id", "is outside the range of ids"),
        (ORDER, "id", -1, "id", "is outside the range of ids"),
        (ORDER, "id", 2**63, "id", "is outside the range of ids"),
        (ORDER, "id", str(2**63), "id", "is outside the range of ids"),
        (ORDER, "line_items.1.id", "x", "line_items[1].id", "is not an id"),
        (ORDER, "customer.id", "x", "customer.id", "is not an id"),
        (REFUND, "order_id", ..., "order_id", "is missing"),
        (REFUND, "transactions.0.id", None, "transactions[0].id", "is missing"),
        (REFUND, "transactions.0.order_id", 5, "transactions[0].order_id", "is not the refund's order"),
        # money
        (ORDER, "total_price_set.shop_money.amount", "a lot", "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", True, "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", "1e2", "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", " 1", "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", "1,00", "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", 1e16, "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", "9" * 13, "total_price_set.shop_money.amount", "is not an amount"),
        (ORDER, "total_price_set.shop_money.amount", 10**12, "total_price_set.shop_money.amount", "is too large for an amount"),
        (ORDER, "total_price_set.shop_money.amount", 10**400, "total_price_set.shop_money.amount", "is too large for an amount"),
        (ORDER, "total_price_set.shop_money.amount", "0.001", "total_price_set.shop_money.amount", "has more decimals than USD knows"),
        (ORDER, "total_price_set.shop_money.amount", 0.001, "total_price_set.shop_money.amount", "has more decimals than USD knows"),
        (ORDER, "total_price_set.shop_money.amount", "-1.00", "total_price_set.shop_money.amount", "is negative"),
        (ORDER, "total_price_set.shop_money.currency_code", "EUR", "total_price_set.shop_money.currency_code", "is not the order's currency USD"),
        (ORDER, "total_price_set.presentment_money.amount", "-1", "total_price_set.presentment_money.amount", "is negative"),
        ("orders_create.jpy", "line_items.0.price_set.shop_money.amount", "0.5", "line_items[0].price_set.shop_money.amount", "has more decimals than JPY knows"),
        ("orders_updated.from_2017", "total_price", None, "total_price", "is missing"),
        ("orders_updated.from_2017", "line_items.0.price", ..., "line_items[0].price", "is missing"),
        ("orders_create.several_codes", "line_items.1.discount_allocations.2.amount_set.shop_money.amount", "x",
         "line_items[1].discount_allocations[2].amount_set.shop_money.amount", "is not an amount"),
        (REFUND, f"{FIRST_LINE}.amount", "-3.00", "refund_line_items[0].subtotal_set.shop_money.amount", "is negative"),
        (REFUND, f"{FIRST_LINE}.currency_code", "CAD", "refund_line_items[0].subtotal_set.shop_money.currency_code", "is not the order's currency USD"),
        (REFUND, "transactions.0.amount", None, "transactions[0].amount", "is missing"),
        (REFUND, "transactions.0.amount", "-5.00", "transactions[0].amount", "is negative"),
        ("order_transactions_create.with_amount_set", "amount_set.shop_money.amount", "x", "amount_set.shop_money.amount", "is not an amount"),
        ("order_transactions_create.with_amount_set", "amount_set.shop_money.currency_code", "x", "amount_set.shop_money.currency_code", "is not a currency code"),
        ("disputes_update.lost", "amount", "-110.00", "amount", "is negative"),
        # currencies
        (ORDER, "currency", None, "currency", "is missing"),
        (ORDER, "currency", "dollars", "currency", "is not a currency code"),
        (ORDER, "currency", 840, "currency", "is not a currency code"),
        # times
        (ORDER, "created_at", "yesterday", "created_at", "is not a time"),
        (ORDER, "created_at", 1772460900, "created_at", "is not a time"),
        (ORDER, "created_at", "2026-03-02T09:15:00", "created_at", "is a time without an offset"),
        (ORDER, "updated_at", "0001-01-01T00:00:00+05:00", "updated_at", "is not a time"),
        (ORDER, "cancelled_at", "2026-02-30T00:00:00Z", "cancelled_at", "is not a time"),
        ("orders_edited.swap", "order_edit.committed_at", "", "order_edit.committed_at", "is not a time"),
        ("disputes_update.lost", "finalized_on", "2026-02-31", "finalized_on", "is not a day"),
        # units
        (ORDER, "line_items.0.quantity", None, "line_items[0].quantity", "is missing"),
        (ORDER, "line_items.0.quantity", -1, "line_items[0].quantity", "is not a number of units"),
        (ORDER, "line_items.0.quantity", 1.5, "line_items[0].quantity", "is not a number of units"),
        (ORDER, "line_items.0.current_quantity", True, "line_items[0].current_quantity", "is not a number of units"),
        (REFUND, "refund_line_items.1.quantity", 2**31, "refund_line_items[1].quantity", "is not a number of units"),
        ("orders_edited.swap", "order_edit.line_items.removals.0.delta", "x", "order_edit.line_items.removals[0].delta", "is not a number of units"),
        # shapes
        (ORDER, "line_items", "none", "line_items", "is not a list"),
        (ORDER, "line_items", {"a": 1}, "line_items", "is not a list"),
        (ORDER, "line_items", [7], "line_items[0]", "is not an object"),
        (ORDER, "customer", 7, "customer", "is not an object"),
        (ORDER, "test", "yes", "test", "is neither true nor false"),
        (ORDER, "refunds", [None], "refunds[0]", "is not an object"),
        (ORDER, "refunds", [{}], "refunds[0].id", "is missing"),
        ("orders_updated.refunded", "refunds.0.order_id", 5, "refunds[0].order_id", "is not the order that the refund stands in"),
        ("orders_updated.refunded", "refunds.0.transactions.0.status", None, "refunds[0].transactions[0].status", "is missing"),
        (REFUND, "refund_shipping_lines.0.shipping_line.tax_lines", 3, "refund_shipping_lines[0].shipping_line.tax_lines", "is not a list"),
        ("orders_edited.swap", "order_edit.line_items", [], "order_edit.line_items", "is not an object"),
        # text
        (ORDER, "name", "a\0b", "name", "holds a character that cannot be stored"),
        (ORDER, "name", "\ud800", "name", "holds a character that cannot be stored"),
        (ORDER, "name", 2001, "name", "is not text"),
        (ORDER, "name", "#" * 256, "name", "is longer than 255 characters"),
        ("orders_create.several_codes", "discount_applications.1.code", "a\0", "discount_applications[1].code", "holds a character that cannot be stored"),
        ("orders_updated.from_2017", "discount_codes.0.code", 5, "discount_codes[0].code", "is not text"),
    ],
)  # fmt: skip
def test_a_field_that_cannot_be_is_refused_by_its_path(
    name: str, path: str, value: object, field: str, reason: str
) -> None:
    assert refusal(*changed(name, path, value)) == (field, reason)


@pytest.mark.parametrize("amount", ["110", "110.0", "110.00", "110.000000", 110, 110.0])
def test_an_amount_may_be_text_or_number_with_any_count_of_zeros(amount: object) -> None:
    told = parse(*changed(ORDER, "total_price_set.shop_money.amount", amount))
    assert told == parse(TOPICS[ORDER], BODIES[ORDER])


def test_zero_may_carry_a_minus() -> None:
    assert parse(*changed(REFUND, "refund_line_items.0.total_tax_set.shop_money.amount", -0.0))


@pytest.mark.parametrize("place", ["note", "email", "landing_site"])
def test_text_that_is_not_kept_may_hold_anything(place: str) -> None:
    assert parse(*changed(ORDER, place, "\0\ud800\U0001f600")) == parse(TOPICS[ORDER], BODIES[ORDER])


def test_a_reason_never_quotes_what_was_sent() -> None:
    secret = "canary@example.test"
    for path in (
        "id",
        "currency",
        "created_at",
        "total_price_set.shop_money.amount",
        "test",
        "line_items",
        "customer",
    ):
        field, reason = refusal(*changed(ORDER, path, secret))
        assert secret not in field + reason


def reads_or_refuses(topic: str, body: bytes) -> None:
    peek(body)
    try:
        parse(topic, body)
    except (Unparseable, UnknownTopic) as refused:
        assert str(refused)


ODDITIES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5),
    st.sampled_from(["", "-0.00", "1E5", "9" * 40, "2026-01-01", "9999-12-31T23:59:59-23:59", "NaN", 10**30, -1, 2**63]),
    st.sampled_from(["[]", "{}", "[null]", "[[]]", "[{}]", '{"id": {}}', '{"shop_money": []}']).map(json.loads),
)  # fmt: skip


def mutate(data: st.DataObject, node: Any) -> Any:
    """One value somewhere in the tree replaced by an oddity."""
    if isinstance(node, dict | list) and node and data.draw(st.integers(0, 6)):
        key = data.draw(st.sampled_from(sorted(node) if isinstance(node, dict) else range(len(node))))
        node[key] = mutate(data, node[key])
        return node
    return data.draw(ODDITIES)


@settings(max_examples=300, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(BODIES)), topic=st.sampled_from(sorted(FACT_TOPICS)))
def test_a_payload_with_odd_values_anywhere_is_read_or_refused_and_nothing_else(
    data: st.DataObject, name: str, topic: str
) -> None:
    node = json.loads(BODIES[name])
    for _ in range(data.draw(st.integers(1, 3))):
        node = mutate(data, node)
    for tried in (topic, TOPICS[name]):
        reads_or_refuses(tried, json.dumps(node).encode())


@settings(max_examples=200, deadline=None)
@given(body=st.binary(max_size=60), topic=st.sampled_from([*sorted(FACT_TOPICS), "orders/fulfilled", ""]))
@example(body=b'{"id":1e999999999999999999999}', topic="orders/create")
@example(body=b'{"id":-0}', topic="refunds/create")
@example(body=b"\x00", topic="orders/create")
def test_any_bytes_under_any_topic_are_read_or_refused_and_nothing_else(body: bytes, topic: str) -> None:
    reads_or_refuses(topic, body)


@settings(max_examples=200, deadline=None)
@given(data=st.data(), name=st.sampled_from(sorted(BODIES)))
def test_a_payload_damaged_on_its_way_is_read_or_refused_and_nothing_else(
    data: st.DataObject, name: str
) -> None:
    body = bytearray(BODIES[name])
    for _ in range(data.draw(st.integers(1, 4))):
        body[data.draw(st.integers(0, len(body) - 1))] = data.draw(st.integers(0, 255))
    cut = data.draw(st.one_of(st.just(len(body)), st.integers(0, len(body))))
    reads_or_refuses(TOPICS[name], bytes(body[:cut]))
