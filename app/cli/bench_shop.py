"""A shop of years for the pages: a few customers are booked as webhooks would, then copied a thousandfold by SQL.

Every number of the template is `77`, six noughts, six digits; the copies have their own number where the noughts are,
in columns, in keys and in the facts alike. So each copy stands in the books as if it had been told: entries are inserted
in their order and move their lots and wallets by the triggers, as all entries do.
"""

from __future__ import annotations

from collections.abc import Iterator, Mapping
from contextlib import contextmanager
from dataclasses import dataclass
from datetime import datetime, timedelta
from fractions import Fraction
from typing import Any

from sqlalchemy import BigInteger, Column, Engine, Table, Text, text
from sqlalchemy.dialects.postgresql import JSONB

from app.cli import bench_world as world
from app.sandbox.payloads import body_of, order_payload, refund_payload
from app.sandbox.records import (
    Customer,
    Discount,
    Item,
    Order,
    Presentment,
    Product,
    Refund,
    RefundLine,
    Transaction,
)
from models.rules.program import DEFAULTS
from models.session import make_engine
from models.tables import Base
from tasks.steps import shops, wallets
from tasks.steps.drain import drain

PREFIX, DIGITS = "77", 6
BASE = int(PREFIX + "0" * 2 * DIGITS)
STEP = 10**DIGITS
OF_CUSTOMER = 10_000  # numbers of one customer of the template: his own, his orders', theirs
ORDERS_EACH, GRANTS_EACH = 4, 9
YEAR, QUARTER = timedelta(days=364), timedelta(days=91)
UNTIL = timedelta(days=7)  # since the last order: its refund comes before now
PART = 50  # copies whose entries are inserted by one statement
BUILD_SECONDS = 1800
SETTINGS: Mapping[str, Any] = {
    **DEFAULTS,
    "earning": [*DEFAULTS["earning"], {**DEFAULTS["earning"][0], "id": "bonus", "name": "Bonus"}],
    "return_redeemed": {"enabled": True, "expired_grace_days": 0},
}
# Parents before children. Messages, imports and exports are no page's business.
COPIED = (
    "wallets", "orders", "order_codes", "refunds", "transactions", "awards", "redemptions", "redemption_codes",
    "redemption_members", "customer_days", "timeline", "lots", "entries", "activity",
)  # fmt: skip
NUMBERED = {"entries": "id", "activity": "booked_at, id"}  # their ids are given in this order
BEGUN_EMPTY = {("wallets", "balance"), ("lots", "remainder")}  # entries move them
TOLD = timedelta(seconds=2)  # from an event to its booking

COUNTS = text(
    "select (select count(*) from orders where shop_id = :shop) as orders,"
    " (select count(*) from entries where shop_id = :shop) as entries,"
    " (select count(*) from activity where shop_id = :shop) as activity,"
    " (select count(*) from wallets where shop_id = :shop) as customers,"
    " (select count(*) from redemptions where shop_id = :shop) as redemptions,"
    " (select count(*) from inbox where shop_domain = :domain) as events"
)
EVENTS = text(
    "insert into inbox (shop_domain, topic, webhook_id, received_at, state, order_id, outcome, processed_at)"
    " select :domain, topic, webhook_id || '-' || c, received_at, 'done', order_id + c * :step, outcome, processed_at"
    " from inbox cross join generate_series(0, :copies - 1) c where shop_domain = :template order by received_at, c"
)
PARKED = text(
    "insert into inbox (shop_domain, topic, webhook_id, body, received_at, state, error_code, error, attempts)"
    " select :domain, 'refunds/create', 'parked-' || n, '{}', now() - n * interval '1 hour', 'failed', 'unparseable',"
    " 'transactions: is missing', 1 from generate_series(1, 60) n"
)
CURRENCY = text("update shops set currency = :currency where id = :shop")
ONE = text(
    "select (select max(order_id) from refunds where shop_id = :shop) as order_id,"
    " (select max(customer_id) from redemptions where shop_id = :shop) as customer_id,"
    " (select max(id) from redemptions where shop_id = :shop) as redemption_id,"
    " (select name from orders where shop_id = :shop order by order_id limit 1) as name,"
    " (select code from redemptions where shop_id = :shop and code is not null order by id limit 1) as code"
)


@dataclass(frozen=True, slots=True)
class Sizes:
    customers: int  # of the template
    copies: int


FULL = Sizes(customers=50, copies=1000)  # 200,000 orders, a million entries
QUICK = Sizes(customers=5, copies=4)


def build(engine: Engine, template: str, domain: str, sizes: Sizes, *, now: datetime) -> dict[str, int]:
    """Make both shops; what the large one has of each."""
    with engine.begin() as connection:
        source = shops.add(connection, template, SETTINGS)
        target = shops.add(connection, domain, SETTINGS)
        for sequence in ("redemptions_id_seq", "grant_ids"):
            connection.execute(text(f"select setval('{sequence}', {BASE})"))
    for number in range(sizes.customers):
        Story(engine, template, source, number, sizes.customers, now).tell()
    with patient(engine) as long:
        for table in COPIED:
            copy(long, Base.metadata.tables[table], source, target, sizes.copies)
        with long.begin() as connection:
            named = {"domain": domain, "template": template, "copies": sizes.copies, "step": STEP}
            connection.execute(EVENTS, named)
            connection.execute(PARKED, {"domain": domain})
            connection.execute(CURRENCY, {"currency": world.CURRENCY, "shop": target})
        world.tidy(long)
        with long.connect() as connection:
            return dict(connection.execute(COUNTS, {"shop": target, "domain": domain}).one()._mapping)


def one_of_each(engine: Engine, shop_id: int) -> dict[str, Any]:
    """An order that was refunded, a customer, a redemption, and what they are looked for by."""
    with engine.connect() as connection:
        return dict(connection.execute(ONE, {"shop": shop_id}).one()._mapping)


@contextmanager
def patient(engine: Engine) -> Iterator[Engine]:
    """The same database, for statements that take minutes."""
    url = engine.url.render_as_string(hide_password=False)
    long = make_engine(url, pool_size=1, statement_timeout_seconds=BUILD_SECONDS)
    try:
        yield long
    finally:
        long.dispose()


# -- copies ------------------------------------------------------------------------------------------


def copy(engine: Engine, table: Table, source: int, target: int, copies: int) -> None:
    """All copies of a shop's rows. Entries go in parts: what their triggers move is then looked up, not read whole."""
    statement, step = text(copy_of(table)), PART if table.name == "entries" else copies
    for low in range(0, copies, step):
        values = {"source": source, "target": target, "low": low, "high": min(low + step, copies) - 1}
        with engine.begin() as connection:
            connection.execute(statement, values)
    with engine.begin() as connection:
        connection.execute(text(f"analyze {table.name}"))


def copy_of(table: Table) -> str:
    """A statement that copies a shop's rows so many times, each time under numbers of their own."""
    order = NUMBERED.get(table.name)
    columns = [each for each in table.columns if order is None or each.name != "id"]
    shown = ", ".join(column.name for column in columns)
    values = ", ".join(_value(table, column) for column in columns)
    rows = f"from {table.name} t cross join generate_series(cast(:low as int), cast(:high as int)) c where t.shop_id = :source"
    if order is None:
        return f"insert into {table.name} ({shown}) select {values} {rows}"
    return f"insert into {table.name} ({shown}) select {shown} from (select t.id as n, c, {values} {rows}) v order by {order.replace('id', 'n')}, c"


def _value(table: Table, column: Column[Any]) -> str:
    """A column of a copy, under its own name."""
    name, here = column.name, f"t.{column.name}"
    number = f"'{PREFIX}' || lpad(c::text, {DIGITS}, '0')"
    if name == "shop_id":
        value = "cast(:target as int)"
    elif (table.name, name) in BEGUN_EMPTY:
        value = "0"
    elif name == "booked_at":
        moment = "at" if "at" in table.columns else "event_at"
        value = f"t.{moment} + interval '{TOLD.seconds} seconds'"
    elif isinstance(column.type, JSONB):
        value = f"replace({here}::text, '{PREFIX}{'0' * DIGITS}', {number})::jsonb"
    elif isinstance(column.type, Text):
        value = f"replace({here}, '{PREFIX}{'0' * DIGITS}', {number})"
    elif isinstance(column.type, BigInteger):
        value = f"case when {here} >= {BASE} then {here} + c * {STEP}::bigint else {here} end"
    else:
        value = here
    return f"{value} as {name}"


# -- the template ------------------------------------------------------------------------------------


class Story:
    """A year of one customer: grants, four orders, a redemption that the third carries; some is refunded."""

    def __init__(
        self, engine: Engine, domain: str, shop_id: int, number: int, customers: int, now: datetime
    ) -> None:
        self.engine, self.domain, self.shop_id = engine, domain, shop_id
        self.number = number
        self.first = BASE + number * OF_CUSTOMER
        self.customer = Customer(self.first + 1, "Robin", "Ashfield")
        self.start = now - YEAR - UNTIL + QUARTER * number / customers

    def at(self, quarters: float) -> datetime:
        """So many quarters after the customer's first order."""
        return self.start + QUARTER * quarters

    def tell(self) -> None:
        code = f"CODE-{self.first + 1}"
        for n in range(GRANTS_EACH):
            self.grant(self.at(n * (ORDERS_EACH - 1) / GRANTS_EACH))
        for n in range(ORDERS_EACH):
            at = self.at(n)
            if n == 2:
                self.redeem(code, at - timedelta(days=1))
            order = self.order(n, at, code if n == 2 else None)
            self.hear("orders/paid", body_of(order_payload(order)), at + world.SALE_TOOK)
            if (self.number + n) % 5 == 0:
                self.refund(order, at + timedelta(days=5))
            if self.number % 50 == 7 and n == 1:  # cancelled, and the money kept: for a person to look at
                order.cancelled_at = order.updated_at = at + timedelta(days=6)
                self.hear("orders/cancelled", body_of(order_payload(order)), order.cancelled_at)

    def grant(self, at: datetime) -> None:
        with self.engine.begin() as connection:
            wallets.grant(
                connection,
                self.shop_id,
                self.customer.id,
                amount=100,
                reason="Bonus",
                expires_at=at + YEAR * 3,
                now=at,
            )

    def redeem(self, code: str, at: datetime) -> None:
        with self.engine.begin() as connection:
            wallets.redeem(connection, self.shop_id, self.customer.id, reward="5-off", code=code, now=at)

    def order(self, n: int, at: datetime, code: str | None) -> Order:
        id = self.first + 100 * (n + 1)
        items = [
            Item(
                id + 10 + line,
                Product(id + 20 + line, f"Product {line}", f"SKU-{line}", 2_500),
                2,
                800,
                taxes_included=False,
                allocations={0: 250} if code else {},
            )
            for line in range(2)
        ]
        order = Order(
            id=id,
            number=id,
            customer=self.customer,
            items=items,
            discounts=[Discount("$5 off", code, 500)] if code else [],
            shipping_line_id=id + 1,
            shipping_minor=590,
            currency=world.CURRENCY,
            presentment=Presentment(world.CURRENCY, Fraction(1)),
            taxes_included=False,
            test=False,
            placed_at=at,
            updated_at=at,
        )
        sale = Transaction(id + 2, id, "sale", "success", order.total_minor, at, "bogus")
        order.transactions.append(sale)
        return order

    def refund(self, order: Order, at: datetime) -> None:
        """One unit of the first line, with its tax."""
        item, id = order.items[0], order.id + 50
        tax = item.part(item.tax_minor, before=0, units=1)
        paid = item.part(item.paid_minor, before=0, units=1)
        money = Transaction(
            id + 2, order.id, "refund", "success", paid, at, "bogus", parent_id=order.id + 2, refund_id=id
        )
        line = RefundLine(id + 1, item, 1, paid - tax, tax, "return")
        refund = Refund(id, order.id, at, None, [line], 0, None, 0, [money])
        self.hear("refunds/create", body_of(refund_payload(order, refund)), at + world.REFUND_TOOK)

    def hear(self, topic: str, body: bytes, at: datetime) -> None:
        world.deliver(self.engine, self.domain, [world.Message(topic, body, at)])
        done = drain(self.engine, self.domain, now=at)
        assert not done.failed, done.outcomes
