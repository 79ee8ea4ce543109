"""Rows into the books: one set of reads, one of writes, one transaction, and with them the references that say so.

Lock order: imports of the shop, then as everywhere: customers, codes, orders, wallets.
"""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, replace
from datetime import datetime
from typing import Any

from sqlalchemy import Connection, text

from models.rules.awards import IMPORTED
from models.rules.facts import ImportedAward
from models.rules.program import Program, program_at
from models.rules.wallet import BY_IMPORT, GRANT, SPEND
from tasks.steps import sql
from tasks.steps.activities import entry, record, say
from tasks.steps.book import Booked, book, write_wallets
from tasks.steps.counting import recompute_tiers, tiers_at
from tasks.steps.fold import fold_wallets
from tasks.steps.identifiers import remember
from tasks.steps.imports.check import Standing, against_the_books
from tasks.steps.imports.days import keep_days, orders_counted
from tasks.steps.imports.rows import Row
from tasks.steps.load import (
    CODES_BEHIND,
    ShopRow,
    World,
    customers_booked,
    customers_of,
    load_orders,
    load_redemptions,
    lock_codes,
    lock_wallets,
    open_world,
)
from tasks.steps.settle import Told, settle
from tasks.steps.survivors import hold_alone, survivors
from tasks.steps.timeline import Item, compare, item, redemption_target

GRANTED = ("balance", "lot")  # records whose value is the wallet's at once

LOCK = text("select pg_advisory_xact_lock(hashtextextended('unwind import', :shop_id))")
CARRIERS = text("select distinct order_id from order_codes where shop_id = :shop_id and code = any(:codes)")
ADD_REDEMPTIONS = text(
    "insert into redemptions (shop_id, customer_id, reward_id, kind, amount, code, code_key, code_state, at, order_id,"
    " imported_at) select :shop_id, n.customer_id, n.reward_id, n.kind, n.amount, n.code, n.code_key, 'tracked', n.at,"
    " n.order_id, :since from unnest(cast(:customers as bigint[]), cast(:rewards as text[]), cast(:kinds as text[]),"
    "  cast(:amounts as bigint[]), cast(:codes as text[]), cast(:keys as text[]), cast(:times as timestamptz[]),"
    "  cast(:orders as bigint[])) as n(customer_id, reward_id, kind, amount, code, code_key, at, order_id)"
    " returning id, code_key"
)
COUNT = text("update imports set booked = booked + :booked where shop_id = :shop_id and id = :id")


@dataclass(frozen=True, slots=True)
class Place:
    """Where rows go. at: the moment as of which the file's values stand; now: when they are booked."""

    shop: ShopRow
    import_id: int
    at: datetime
    now: datetime


def book_rows(connection: Connection, place: Place, rows: Sequence[Row]) -> Standing:
    """Book those that do not stand yet and that nothing speaks against.

    Safe to run twice, and twice at once: under the lock of the shop's imports, a reference once a shop is the promise.
    """
    connection.execute(LOCK, {"shop_id": place.shop.id})
    if any(row.record == "history" for row in rows):
        hold_alone(connection, place.shop.id)  # an order told just now must not count beside its history
    world = _open(connection, place)
    lock_codes(world, _codes(world, rows))
    standing = against_the_books(connection, place.shop, rows, scale=world.programs[-1].scale)
    if standing.new:
        now_one = survivors(connection, place.shop.id, [row.customer_id for row in standing.new])
        told = [_told(row, place) for row in standing.new if row.record == "award"]
        owned = [
            replace(row, customer_id=now_one.get(row.customer_id, row.customer_id)) for row in standing.new
        ]
        counted = _counted_before(connection, place, owned)
        carriers = _lock(world, owned, counted)
        looked_at = _book(connection, place, owned, look=not counted)
        _keep(connection, place, owned)
        if told or carriers or counted:
            settle(_open(connection, place), told, orders=[*carriers, *counted])
        if counted:
            _look_at_tiers(_open(connection, place), looked_at)
        remember(connection, place.shop.id, [each for row in standing.new for each in row.named])
    return standing


def _codes(world: World, rows: Sequence[Row]) -> set[str]:
    """The codes of the redemptions, and those that awarded orders carry: all of them before any order is locked."""
    awarded = [row.order_id for row in rows if row.record == "award"]
    key = {"shop_id": world.shop.id, "ids": awarded}
    behind = world.connection.execute(CODES_BEHIND, key).scalars() if awarded else ()
    return {*behind, *(row.code.casefold() for row in rows if row.record == "redemption")}


def cause_of(row: Row) -> str:
    return f"{BY_IMPORT}{row.reference}"


def _open(connection: Connection, place: Place) -> World:
    """The books, with nobody outside told of what was long before."""
    world = open_world(connection, place.shop, place.now)
    world.tells = False
    return world


def _counted_before(connection: Connection, place: Place, rows: Sequence[Row]) -> list[int]:
    """Orders told already that the history of these rows may have in it: they are counted anew beside it (D29)."""
    customers = sorted({row.customer_id for row in rows if row.record == "history"})
    return orders_counted(connection, place.shop.id, customers) if customers else []


def _look_at_tiers(world: World, causes: Mapping[int, str]) -> None:
    """Once the days and the orders beside them are right: a tier that only stood between the two is nothing to tell."""
    lock_wallets(world, causes)
    record(world, {}, Booked(tiers=recompute_tiers(world, causes)), causes, ())


def _lock(world: World, rows: Sequence[Row], counted: Sequence[int]) -> list[int]:
    """Everything that these rows touch, in order; returns the orders that carry the codes of redemptions."""
    codes = sorted({row.code.casefold() for row in rows if row.record == "redemption"})
    key: dict[str, Any] = {"shop_id": world.shop.id, "codes": codes}
    carriers = [row.order_id for row in sql.fetch(world.connection, CARRIERS, **key)] if codes else []
    awarded = [row.order_id for row in rows if row.record == "award" and row.order_id is not None]
    load_orders(world, [*awarded, *carriers, *counted])
    load_redemptions(world)
    concerned = [*customers_of(world), *customers_booked(world)]
    lock_wallets(world, [*(row.customer_id for row in rows), *concerned])
    return carriers


def _book(connection: Connection, place: Place, rows: Sequence[Row], *, look: bool) -> Mapping[int, str]:
    """Grants, spending, days and tiers: all that no order asks for. Returns whose tiers it looked at, or without
    `look` left to be looked at, and for which row."""
    world = _open(connection, place)
    lock_wallets(world, (row.customer_id for row in rows))
    program = program_at(world.programs, place.at)
    items = [_granted(row, place, program) for row in rows if row.record in GRANTED]
    items += _spent(world, place, [row for row in rows if row.record == "redemption"], program)
    causes: dict[int, str] = {}
    for row in rows:
        causes.setdefault(row.customer_id, cause_of(row))
    changes = compare((), items)
    folds = fold_wallets(world, changes, ())
    booked = book(world, changes, folds, {}, causes)
    zone = world.programs[-1].time_zone
    sums = keep_days(connection, place.shop.id, [row for row in rows if row.record == "history"], zone)
    pinned = _pin(world, [row for row in rows if row.record == "tier"])
    looked_at = sorted({*sums, *pinned})
    write_wallets(world, booked, sums, tiers_at(world, looked_at if look else (), world.now, sums))
    record(world, {}, booked, causes, ())
    return {customer: causes[customer] for customer in looked_at}


def _granted(row: Row, place: Place, program: Program) -> Item:
    return item(
        shop_id=place.shop.id,
        customer_id=row.customer_id,
        kind=GRANT,
        cause=cause_of(row),
        target=cause_of(row),
        at=place.at,
        sort_id=0,
        amount=row.amount,
        expires_at=row.expires_at,
        reasons=(IMPORTED,),
        policy_version=program.version,
    )


def _spent(world: World, place: Place, rows: Sequence[Row], program: Program) -> list[Item]:
    """Redemptions, each with its code, and spending that brings its own value (models/rules/wallet.py)."""
    ids = _add_redemptions(world, place, rows) if rows else {}
    items: list[Item] = []
    for row in rows:
        assert row.at is not None
        id = ids[row.code.casefold()]
        items.append(
            item(
                shop_id=place.shop.id,
                customer_id=row.customer_id,
                kind=SPEND,
                cause=cause_of(row),
                target=redemption_target(id),
                at=row.at,
                sort_id=id,
                redemption_id=id,
                amount=row.amount,
                expires_at=row.expires_at,
                reasons=(IMPORTED,),
                policy_version=program.version,
            )
        )
    return items


def _add_redemptions(world: World, place: Place, rows: Sequence[Row]) -> dict[str, int]:
    """Casefolded code -> the new redemption's id."""
    rewards = world.programs[-1].rewards
    added = sql.fetch(
        world.connection,
        ADD_REDEMPTIONS,
        shop_id=place.shop.id,
        since=place.at,
        customers=[row.customer_id for row in rows],
        rewards=[row.reward for row in rows],
        kinds=[rewards[row.reward].kind if row.reward in rewards else row.reward for row in rows],
        amounts=[row.amount for row in rows],
        codes=[row.code for row in rows],
        keys=[row.code.casefold() for row in rows],
        times=[row.at for row in rows],
        orders=[row.order_id for row in rows],
    )
    ids = {row.code_key: row.id for row in added}
    members, codes = [], []
    for row in rows:
        key = row.code.casefold()
        of = {"shop_id": place.shop.id, "redemption_id": ids[key]}
        members.append({**of, "customer_id": row.customer_id, "amount": row.amount})
        codes.append({**of, "code_key": key, "n": 0, "code": row.code})
    sql.insert(world.connection, "redemption_members", members)
    sql.insert(world.connection, "redemption_codes", codes)
    return ids


def _pin(world: World, rows: Sequence[Row]) -> list[int]:
    """Tiers kept by hand (R26); one that is kept already is nothing new."""
    new = {row.customer_id: row for row in rows if world.wallets[row.customer_id].pinned_tier != row.tier}
    pins = [
        {"shop_id": world.shop.id, "customer_id": customer, "pinned_tier": row.tier}
        for customer, row in sorted(new.items())
    ]
    sql.update(world.connection, "wallets", pins, key=("shop_id", "customer_id"))
    entries = []
    for customer, row in sorted(new.items()):
        detail = {"before": None, "after": row.tier, "reasons": [IMPORTED]}
        entries.append(entry(world, "tier.pinned", customer, None, cause_of(row), "tier", detail))
    say(world, entries)
    return list(new)


def _told(row: Row, place: Place) -> Told:
    """The award as a fact of its order; the customer by the id that the file names (R33)."""
    assert row.order_id is not None
    award = ImportedAward(
        order_id=row.order_id,
        customer_id=row.customer_id,
        rule=row.rule,
        earned=row.earned,
        amount=row.amount,
        granted=row.remaining,
        at=place.at,
        due_at=max(row.due_at or place.at, place.at),
        expires_at=row.expires_at,
    )
    return Told(fact=award, received_at=place.now, cause=cause_of(row))


def _keep(connection: Connection, place: Place, rows: Sequence[Row]) -> None:
    """These rows stand from now on, under their references."""
    kept = [
        {
            "shop_id": place.shop.id,
            "reference": row.reference,
            "record": row.record,
            "digest": row.digest,
            "import_id": place.import_id,
            "line": row.line,
            "customer_id": row.customer_id,
        }
        for row in rows
    ]
    sql.insert(connection, "imported_rows", kept)
    connection.execute(COUNT, {"shop_id": place.shop.id, "id": place.import_id, "booked": len(kept)})
