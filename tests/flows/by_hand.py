"""Merchants' acts on the real books, beside the facts that arrive: each wish is put to the product and to the oracle."""

from __future__ import annotations

from collections.abc import Iterator, Sequence
from contextlib import contextmanager
from dataclasses import replace
from datetime import datetime
from decimal import Decimal
from pprint import pformat
from typing import Any, cast

from sqlalchemy import Connection, Engine, text

from models.errors import Refused
from tasks.steps import merchants, reversals, shops
from tests.books import Books, expected, open_books, play, state_of, steps_of
from tests.flows.arrivals import OneConnection
from tests.oracle.claims import Seen, decimals
from tests.oracle.merchants import Act, Hand, hand_of, told
from tests.oracle.worlds import Arrival, Delivery, Wish, World

BY = "cli"


def live_through(books: Books, arrivals: Sequence[Arrival], *, look: bool = False) -> Hand:
    """Everything as it arrives, at its own time; each wish must be granted or refused as the oracle says.
    `look`: compare the whole state after each act."""
    hand = hand_of(books.world)
    for arrival in arrivals:
        if isinstance(arrival.step, Wish):
            act = hand.act_of(arrival.step)
            if act is not None:
                do(books, hand, act)
                if look:
                    same_as_the_oracle(books, hand, arrival.at)
        else:
            play(books, [arrival.step], now=arrival.at)
            took_in(hand, arrival.step)
    return hand


def took_in(hand: Hand, step: Any) -> None:
    seen = [Seen(step.received_at, fact) for fact in step.facts] if isinstance(step, Delivery) else []
    told(hand, step, seen)


def same_as_the_oracle(books: Books, hand: Hand, now: datetime) -> None:
    books.pass_time(now=now)
    assert state_of(books) == expected(hand.settle(now)), pformat(hand.acts)


def do(books: Books, hand: Hand, act: Act) -> None:
    """Ask the product; it must say what the oracle says."""
    verdict, id = ask(books, act)
    assert verdict == act.verdict, (verdict, act, hand.acts)
    if verdict == "done":
        hand.keep(act, id)


def ask(books: Books, act: Act) -> tuple[str, int | None]:
    """("done" or the code of the refusal, the id of what was made)."""
    try:
        with books.engine.begin() as connection:
            return "done", _ask(connection, books, act)
    except Refused as refused:
        return refused.code, None


def _ask(connection: Connection, books: Books, act: Act) -> int | None:
    usual: dict[str, Any] = {"reason": "asked for", "by": BY, "now": act.at}
    if act.kind == "reverse":
        shop = shops.by_id(connection, books.shop_id)
        made = reversals.reverse(
            connection, shop, act.of, amount=act.amount, kind="reversed", code="untracked", **usual
        )
        return made.id
    if act.kind == "undo_reversal":
        reversals.undo(connection, shops.by_id(connection, books.shop_id), act.of, **usual)
        return None
    if act.kind == "cancel":
        merchants.cancel_order(connection, books.shop_id, act.of, **usual)
        return last(connection, "cancellation_ids")
    if act.kind == "refund":
        amount = None if act.amount is None else in_units(act.amount, currency_of(books, act.of))
        lines = None if act.lines is None else dict(act.lines)
        merchants.refund_order(connection, books.shop_id, act.of, amount=amount, lines=lines, **usual)
        return last(connection, "merchant_refund_ids")
    undo = merchants.undo_refund if act.kind == "undo_refund" else merchants.undo_ending
    undo(connection, books.shop_id, act.of, **usual)
    return None


def last(connection: Connection, sequence: str) -> int:
    """The id that this connection drew last."""
    return int(connection.execute(text("select currval(:name)"), {"name": sequence}).scalar_one())


def in_units(minor: int, currency: str) -> Decimal:
    return Decimal(minor).scaleb(-decimals(currency))


def currency_of(books: Books, order_id: int) -> str:
    for delivery in books.world.deliveries:
        for fact in delivery.facts:
            if fact.order_id == order_id and hasattr(fact, "financial_status"):
                return str(fact.currency)
    raise AssertionError(f"no snapshot of order {order_id}")


# -- a shop that stands, and attempts that leave nothing behind ------------------------------------------


@contextmanager
def standing_shop(engine: Engine, world: World) -> Iterator[tuple[Books, Hand]]:
    """A world played to its end, inside a transaction that is taken back."""
    for redemption in world.redemptions:
        redemption["used_elsewhere"] = False  # the books find this out by themselves
    opened = open_books(engine, world)
    hand = hand_of(world)
    with engine.connect() as connection, connection.begin() as all_of_it:
        books = replace(opened, engine=cast(Engine, OneConnection(connection)))
        play(books, steps_of(world), now=world.now)
        for step in steps_of(world):
            took_in(hand, step)
        books.pass_time(now=world.now)
        yield books, hand
        all_of_it.rollback()


@contextmanager
def attempt(books: Books) -> Iterator[None]:
    """What happens inside leaves nothing behind."""
    connection = cast(OneConnection, books.engine).connection
    with connection.begin_nested() as savepoint:
        yield
        savepoint.rollback()


STANDING = {
    "wallets": "select customer_id, balance, debt, pending, spend_minor, orders, points, tier from wallets",
    "lots": "select customer_id, lot, at, expires_at, remainder from lots where remainder > 0",
    "awards": "select order_id, target, customer_id, amount, status, reversed, reduced, debited, shortfall from awards",
    "redemptions": "select id, order_id, returned, credited, expired, restitution, reactivation, code_state, ended"
    " from redemptions",
    "days": "select customer_id, day, spend_minor, orders, points from customer_days"
    " where (spend_minor, orders, points) <> (0, 0, 0)",
    "orders": "select order_id, status, refunded_minor from orders",
    "timeline": "select customer_id, kind, cause, target, at, amount, moved, short, expired, debt_change, folded"
    " from timeline where amount > 0",
    "wanted of Shopify": "select kind, key from outbox where state = 'pending'",
}


def what_stands(books: Books) -> dict[str, list[str]]:
    """Everything that counts, lot by lot, and what is asked of Shopify; without the record of how it came about."""
    found = {}
    with books.engine.begin() as connection:
        for name, statement in STANDING.items():
            where = " and" if " where " in statement else " where"
            rows = connection.execute(text(f"{statement}{where} shop_id = :shop"), {"shop": books.shop_id})
            found[name] = sorted(str(tuple(row)) for row in rows)
    return found


TABLES = text(
    "select c.table_name from information_schema.columns c join information_schema.tables t using (table_name)"
    " where c.table_schema = 'public' and t.table_schema = 'public' and c.column_name = 'shop_id' order by 1"
)


def everything(books: Books) -> dict[str, list[str]]:
    """Every row of the shop in every table."""
    with books.engine.begin() as connection:
        found = {}
        for name in connection.execute(TABLES).scalars():
            rows = connection.execute(
                text(f"select row_to_json(t)::text from {name} t where shop_id = :shop"),
                {"shop": books.shop_id},
            )
            found[name] = sorted(rows.scalars())
        assert {"wallets", "entries", "lots", "timeline", "activity", "outbox", "refunds"} <= set(found)
        return found
