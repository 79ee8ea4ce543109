"""What the benchmarks work on: paid orders with one refund each, in the bytes that Shopify would send, and long ledgers."""

from __future__ import annotations

import uuid
from collections.abc import Iterable, Sequence
from dataclasses import dataclass
from datetime import UTC, datetime, timedelta
from fractions import Fraction
from random import Random

from sqlalchemy import Engine, text

from app.sandbox.payloads import body_of, order_payload, refund_payload
from app.sandbox.records import Customer, Item, Order, Presentment, Product, Refund, RefundLine, Transaction
from tasks.steps import shops, sql
from tasks.steps.drain import BATCH, drain

CURRENCY = "USD"
TAX_BASIS_POINTS = 800
LINES_MOST = 6
FIRST_ID = 5_500_000_000_000  # Shopify's ids are of this size
FIRST_CUSTOMER = 7_000_000_000_000
ID_STEP = 32_768
SALE_TOOK, REFUND_TOOK = timedelta(seconds=2), timedelta(seconds=3)  # from the event to its arrival
SOLD_AGO, REFUNDED_AGO = timedelta(days=10), timedelta(hours=1)


@dataclass(frozen=True, slots=True)
class Message:
    """A webhook that waits in the inbox, or is to be sent."""

    topic: str
    body: bytes
    received_at: datetime


@dataclass(frozen=True, slots=True)
class Sale:
    """A paid order of a customer, and its refund of one unit of its first line."""

    order_id: int
    paid: Message
    refunded: Message


def sales(
    count: int, *, seed: int, now: datetime, customers: Sequence[int] = (), lines_most: int = LINES_MOST
) -> Iterable[Sale]:
    """Orders of one line or more, each of a customer of its own. Same seed and time, same bytes."""
    dice = Random(seed)  # noqa: S311 - a world to measure on, no secret
    first = FIRST_ID + seed * 10**9
    owners = customers or range(FIRST_CUSTOMER, FIRST_CUSTOMER + count)
    for number, owner in zip(range(count), owners, strict=False):
        yield _sale(dice, first + number * 100 * ID_STEP, number, owner, now, dice.randint(1, lines_most))


def _sale(dice: Random, id: int, number: int, owner: int, now: datetime, lines: int) -> Sale:
    sold, refunded = now - SOLD_AGO + timedelta(seconds=number), now - REFUNDED_AGO
    items = [_item(dice, id + ID_STEP * (n + 10)) for n in range(lines)]
    order = Order(
        id=id,
        number=1001 + number,
        customer=Customer(owner, "Robin", "Ashfield"),
        items=items,
        discounts=[],
        shipping_line_id=id + ID_STEP,
        shipping_minor=590,
        currency=CURRENCY,
        presentment=Presentment(CURRENCY, Fraction(1)),
        taxes_included=False,
        test=False,
        placed_at=sold,
        updated_at=sold,
    )
    order.transactions.append(_money(order, id + ID_STEP * 2, "sale", order.total_minor, sold))
    paid = body_of(order_payload(order))
    refund = _refund(order, items[0], refunded)
    return Sale(
        order_id=id,
        paid=Message("orders/paid", paid, sold + SALE_TOOK),
        refunded=Message("refunds/create", body_of(refund_payload(order, refund)), refunded + REFUND_TOOK),
    )


def _item(dice: Random, id: int) -> Item:
    product = Product(
        id + 1, f"Product {dice.randrange(1000)}", f"SKU-{id % 9973}", dice.randrange(500, 9000)
    )
    return Item(id, product, dice.randint(2, 4), TAX_BASIS_POINTS, taxes_included=False)


def _money(order: Order, id: int, kind: str, minor: int, at: datetime) -> Transaction:
    return Transaction(id, order.id, kind, "success", minor, at, "bogus")


def _refund(order: Order, item: Item, at: datetime) -> Refund:
    tax = item.part(item.tax_minor, before=0, units=1)
    paid = item.part(item.paid_minor, before=0, units=1)
    line = RefundLine(order.id + ID_STEP * 4, item, 1, paid - tax, tax, "return")
    money = _money(order, order.id + ID_STEP * 5, "refund", paid, at)
    refund = Refund(order.id + ID_STEP * 3, order.id, at, None, [line], 0, None, 0, [money])
    money.refund_id = refund.id
    return refund


def add_shop(engine: Engine, domain: str) -> int:
    """A shop with the program's defaults; returns its id."""
    with engine.begin() as connection:
        return shops.add(connection, domain)


def deliver(engine: Engine, domain: str, messages: Iterable[Message]) -> None:
    """Put messages in the inbox, as if they had come at their own times."""
    rows = [
        {
            "shop_domain": domain,
            "topic": message.topic,
            "webhook_id": str(uuid.uuid4()),
            "body": message.body,
            "received_at": message.received_at,
            "not_before": message.received_at,
        }
        for message in messages
    ]
    with engine.begin() as connection:
        sql.insert(connection, "inbox", rows)


def sell(engine: Engine, domain: str, sold: Iterable[Sale], *, now: datetime) -> None:
    """Settle the orders, as the days before would have: the wallets are folded until then, not until now."""
    deliver(engine, domain, (sale.paid for sale in sold))
    then = now - SOLD_AGO / 2
    while (done := drain(engine, domain, limit=BATCH, now=then)).left:
        assert not done.failed, done.outcomes


# A ledger of many rows, by the way that every entry takes: each lot is opened, then filled by its entry (the trigger
# moves the lot and the wallet). Customers have ten grants each, a month apart.

GRANTS_EACH = 10
FILL_CHUNK = 5_000  # customers in one statement
WALLETS = text(
    "insert into wallets (shop_id, customer_id, folded_until)"
    " select :shop, :first + c, :until from generate_series(cast(:low as bigint), :high - 1) c"
)
GRANTS = """
 from generate_series(cast(:low as bigint), :high - 1) c, generate_series(1, :each) g,
 lateral (select :first + c as customer, c * :each + g as id, :until - g * interval '30 days' as at) x
"""
LOTS = text(
    "insert into lots (shop_id, customer_id, lot, at, amount) select :shop, customer, 'grant:' || id, at, 100"
    + GRANTS
)
TIMELINE = text(
    "insert into timeline (shop_id, customer_id, kind, cause, target, at, sort_id, amount, grace_days, carry_debt,"
    " reduces_pending, reasons, policy_version, moved, short, expired, debt_change, folded)"
    " select :shop, customer, 1, 'grant:' || id, 'grant:' || id, at, id, 100, 0, false,"
    " false, '[]', 1, 100, 0, 0, 0, true" + GRANTS
)
ENTRIES = text(
    "insert into entries (shop_id, customer_id, lot, kind, amount, event_at, event_kind, event_sort, event_target,"
    " event_cause, cause, booking_id)"
    " select :shop, customer, 'grant:' || id, 'grant', 100, at, 1, id, 'grant:' || id,"
    " 'grant:' || id, 'grant:' || id, nextval('booking_ids')" + GRANTS
)


def fill(engine: Engine, shop_id: int, rows: int, *, now: datetime) -> range:
    """Give the shop `rows` ledger rows; returns the customers that have them."""
    customers = max(rows // GRANTS_EACH, 1)
    until = now - SOLD_AGO * 2
    for low in range(0, customers, FILL_CHUNK):
        values = {
            "shop": shop_id,
            "first": FIRST_CUSTOMER,
            "low": low,
            "high": min(low + FILL_CHUNK, customers),
            "each": GRANTS_EACH,
            "until": until,
        }
        with engine.begin() as connection:
            for statement in (WALLETS, LOTS, TIMELINE, ENTRIES):
                used = {name: values[name] for name in statement.compile().params}
                connection.execute(statement, used)
    return range(FIRST_CUSTOMER, FIRST_CUSTOMER + customers)


def tidy(engine: Engine) -> None:
    """What autovacuum does sooner or later: done now, so that it does not fall into the measurement."""
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        connection.execute(text("vacuum (analyze)"))


def utc_now() -> datetime:
    return datetime.now(UTC).replace(microsecond=0)
