"""Write the difference, and nothing else: entries, and everything that follows from them, in sets (R0, R40).

Every statement here takes all rows of the work at once. `cause` names what made us book: `inbox:5`, `grant:7`, `clock`.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import text

from models.rules.wallet import APPROVAL, CLAIM, RETURN, EventKey, Lot
from tasks.steps import sql
from tasks.steps.fold import WalletFold
from tasks.steps.load import World
from tasks.steps.timeline import COLUMNS, RESULTS, Changes, Item, ItemId, event_key

NEXT_BOOKING = text("select nextval('booking_ids')")
AWARDS = text(
    "select a.* from unnest(cast(:orders as bigint[]), cast(:targets as text[])) as n(order_id, target)"
    ' join awards a on a.shop_id = :shop_id and a.order_id = n.order_id and a.target = n.target collate "C"'
)
REDEMPTIONS = text(
    "select id, returned, credited, expired, restitution from redemptions"
    " where shop_id = :shop_id and id = any(:ids)"
)
WALLET_OF = ("shop_id", "customer_id")
TIMELINE_KEY = ("shop_id", "customer_id", "kind", "cause", "target")
AWARD_COLUMNS = [
    "shop_id",
    "order_id",
    "target",
    "customer_id",
    "rule",
    "mask",
    "base_minor",
    "amount",
    "at",
    "due_at",
    "expires_at",
    "policy_version",
    "status",
    "reversed",
    "reduced",
    "debited",
    "shortfall",
]


@dataclass(slots=True)
class Booked:
    """What a piece of work changed: timeline rows before and after, and how many entries it posted."""

    entries: int = 0
    rows: list[tuple[Item | None, Item | None]] = field(default_factory=list)  # (before, after)
    folds: list[WalletFold] = field(default_factory=list)
    tiers: list[tuple[int, str | None, str | None]] = field(default_factory=list)
    folds_by_customer: dict[int, WalletFold] = field(init=False)

    def __post_init__(self) -> None:
        self.folds_by_customer = {each.customer_id: each for each in self.folds}


def book(
    world: World,
    changes: Changes,
    folds: Sequence[WalletFold],
    awards: Mapping[tuple[int, str], Mapping[str, Any]],
    causes: Mapping[int, str],
) -> Booked:
    """Post what differs. `awards`: the awards that should stand for the orders at hand; `causes`: customer -> cause.

    What wallets know of themselves is written by `write_wallets`, once their sums and tiers are known as well.
    """
    booked = Booked(folds=list(folds), rows=_row_changes(changes, folds))
    _write_lots(world, folds, before=True)
    booked.entries = _write_entries(world, folds, causes)
    _write_lots(world, folds, before=False)
    _write_timeline(world, changes, booked.rows)
    _write_awards(world, awards, booked.rows)
    _write_redemptions(world, booked.rows)
    return booked


def _row_changes(changes: Changes, folds: Sequence[WalletFold]) -> list[tuple[Item | None, Item | None]]:
    """Every timeline row whose decision or result differs, as (before, after)."""
    rows: list[tuple[Item | None, Item | None]] = [(row, None) for row in changes.gone.values()]
    folded: dict[ItemId, Item] = {}
    for each in folds:
        for id, row in each.window.items():
            folded[id] = _with_result(row, each)
    for id, row in changes.new.items():
        rows.append((changes.old.get(id), folded.pop(id, row)))
    stood = {id: row for each in folds for id, row in each.stored.items()}
    for id, row in folded.items():
        before = stood[id]
        if any(before[name] != row[name] for name in RESULTS):
            rows.append((before, row))
    return rows


def _with_result(row: Item, each: WalletFold) -> Item:
    assert each.made is not None
    result = each.made.results.get(event_key(row))
    if result is None:  # it lowers a pending award: nothing to fold
        return row
    return {
        **row,
        "moved": result.moved,
        "short": result.short,
        "expired": result.expired,
        "debt_change": result.debt_change,
        "folded": True,
    }


def _write_lots(world: World, folds: Sequence[WalletFold], *, before: bool) -> None:
    """New lots and larger amounts before the entries that fill them; smaller amounts after those that empty them."""
    rows = []
    for each in folds:
        assert each.made is not None
        for lot in each.made.state.lots.values():
            stands = each.lots.get(lot.lot)
            if stands is None or (stands.amount, stands.expires_at, stands.at) != (
                lot.amount,
                lot.expires_at,
                lot.at,
            ):
                shrinks = stands is not None and stands.amount > lot.amount
                if before or shrinks:
                    amount = stands.amount if before and shrinks and stands is not None else lot.amount
                    rows.append(_lot_row(world, each.customer_id, lot, amount))
    sql.upsert(world.connection, "lots", rows, key=("shop_id", "customer_id", "lot"))


def _lot_row(world: World, customer_id: int, lot: Lot, amount: int) -> dict[str, Any]:
    return {
        "shop_id": world.shop.id,
        "customer_id": customer_id,
        "lot": lot.lot,
        "at": lot.at,
        "amount": amount,
        "expires_at": lot.expires_at,
    }


def _write_entries(world: World, folds: Sequence[WalletFold], causes: Mapping[int, str]) -> int:
    rows = []
    for each in folds:
        for posting in each.differences():
            rows.append(
                {
                    "shop_id": world.shop.id,
                    "customer_id": each.customer_id,
                    "lot": posting.lot,
                    "kind": posting.kind,
                    "amount": posting.amount,
                    **_event_columns(posting.event),
                    "cause": causes.get(each.customer_id, "clock"),
                }
            )
    if rows:
        booking_id = world.connection.execute(NEXT_BOOKING).scalar_one()
        sql.insert(world.connection, "entries", [{**row, "booking_id": booking_id} for row in rows])
    return len(rows)


def _event_columns(key: EventKey) -> dict[str, Any]:
    at, kind, sort_id, target, cause = key
    return {
        "event_at": at,
        "event_kind": kind,
        "event_sort": sort_id,
        "event_target": target,
        "event_cause": cause,
    }


def _write_timeline(world: World, changes: Changes, rows: Iterable[tuple[Item | None, Item | None]]) -> None:
    sql.delete(
        world.connection, "timeline", [{k: row[k] for k in TIMELINE_KEY} for row in changes.gone.values()]
    )
    after = [{name: row[name] for name in COLUMNS} for _, row in rows if row is not None]
    sql.upsert(world.connection, "timeline", after, key=TIMELINE_KEY)


def _write_awards(
    world: World,
    awards: Mapping[tuple[int, str], Mapping[str, Any]],
    rows: Iterable[tuple[Item | None, Item | None]],
) -> None:
    """Awards as they should stand, with what their claims took; awards no longer earned go, their entries reversed."""
    deltas, granted = _award_deltas(rows)
    wanted = {key for key in deltas if key not in awards} - set(world.awards)
    known = {**world.awards, **_fetch_awards(world, wanted)}
    out = []
    for key in sorted({*awards, *deltas}):
        base = awards.get(key) or (
            known[key]._mapping if key in known and key[0] not in world.orders else None
        )
        if base is None:
            continue
        stood = known.get(key)
        row = _award_row(
            base, None if stood is None else stood._mapping, deltas.get(key, {}), granted.get(key)
        )
        if stood is None or any(stood._mapping[name] != row[name] for name in AWARD_COLUMNS):
            out.append(row)
    gone = [row for key, row in world.awards.items() if key not in awards]
    sql.delete(
        world.connection,
        "awards",
        [{"shop_id": row.shop_id, "order_id": row.order_id, "target": row.target} for row in gone],
    )
    sql.upsert(world.connection, "awards", out, key=("shop_id", "order_id", "target"))


def _award_deltas(
    rows: Iterable[tuple[Item | None, Item | None]],
) -> tuple[dict[tuple[int, str], dict[str, int]], dict[tuple[int, str], bool]]:
    """(order, target) -> what its claims take more or less than before; and whether it is granted now."""
    deltas: dict[tuple[int, str], dict[str, int]] = {}
    granted: dict[tuple[int, str], bool] = {}
    for before, after in rows:
        for row, sign in ((before, -1), (after, 1)):
            if row is None or row["kind"] not in (CLAIM, APPROVAL):
                continue
            key = row["order_id"], row["target"].split(":", 2)[2]
            delta = deltas.setdefault(key, dict.fromkeys(("reversed", "reduced", "debited", "shortfall"), 0))
            if row["kind"] == APPROVAL:
                granted[key] = sign > 0 and row["folded"]
            else:
                delta["reversed"] += sign * row["amount"] if row["folded"] else 0
                delta["reduced" if row["reduces_pending"] else "debited"] += sign * row["moved"]
                delta["shortfall"] += sign * row["short"]
    return deltas, granted


def _fetch_awards(world: World, keys: set[tuple[int, str]]) -> dict[tuple[int, str], Any]:
    if not keys:
        return {}
    orders, targets = [order for order, _ in keys], [target for _, target in keys]
    rows = sql.fetch(world.connection, AWARDS, shop_id=world.shop.id, orders=orders, targets=targets)
    return {(row.order_id, row.target): row for row in rows}


def _award_row(
    base: Mapping[str, Any], stood: Mapping[str, Any] | None, delta: Mapping[str, int], granted: bool | None
) -> dict[str, Any]:
    row = {name: base[name] for name in AWARD_COLUMNS if name in base}
    for name in ("reversed", "reduced", "debited", "shortfall"):
        row[name] = (0 if stood is None else stood[name]) + delta.get(name, 0)
    approved = granted if granted is not None else stood is not None and stood["status"] == "approved"
    emptied = row["amount"] > 0 and row["reduced"] == row["amount"]
    row["status"] = "cancelled" if emptied else "approved" if approved else "pending"
    return {name: row[name] for name in AWARD_COLUMNS}


def _write_redemptions(world: World, rows: Iterable[tuple[Item | None, Item | None]]) -> None:
    """What came back of each redemption, as points credited or expired (R19)."""
    deltas: dict[int, dict[str, int]] = {}
    for before, after in rows:
        for row, sign in ((before, -1), (after, 1)):
            if row is None or row["kind"] != RETURN or not row["folded"]:
                continue
            delta = deltas.setdefault(
                row["redemption_id"], dict.fromkeys(("returned", "credited", "expired"), 0)
            )
            delta["returned"] += sign * row["amount"]
            delta["credited"] += sign * row["moved"]
            delta["expired"] += sign * row["expired"]
    changed = {id: delta for id, delta in deltas.items() if any(delta.values())}
    if not changed:
        return
    out = []
    for stood in sql.fetch(world.connection, REDEMPTIONS, shop_id=world.shop.id, ids=sorted(changed)):
        returned = stood.returned + changed[stood.id]["returned"]
        restitution = "points" if returned else "none" if stood.restitution == "points" else stood.restitution
        out.append(
            {"shop_id": world.shop.id, "id": stood.id, **changed[stood.id], "restitution": restitution}
        )
    sql.update(
        world.connection, "redemptions", out, key=("shop_id", "id"), add=("returned", "credited", "expired")
    )


def write_wallets(
    world: World,
    booked: Booked,
    sums: Mapping[int, Sequence[int]],
    tiers: Iterable[tuple[Any, str | None]],
) -> None:
    """One update a wallet: debt, what is pending, up to when the timeline stands, what its orders count for, its tier.

    sums: customer -> what to add to spend, orders and points    tiers: wallet row and the tier that it should have
    """
    pending = _pending_changes(booked.rows)
    folds = booked.folds_by_customer
    looked_at = {row.customer_id: tier for row, tier in tiers}
    out = []
    for customer in sorted({*folds, *sums, *looked_at}):
        stood = world.wallets[customer]
        spend, orders, points = sums.get(customer, (0, 0, 0))
        made = folds[customer].made if customer in folds else None
        tier = looked_at.get(customer, stood.tier)
        out.append(
            {
                "shop_id": world.shop.id,
                "customer_id": customer,
                "debt": stood.debt if made is None else made.state.debt,
                "pending": pending.get(customer, 0),
                "folded_until": stood.folded_until if made is None else folds[customer].until,
                "spend_minor": spend,
                "orders": orders,
                "points": points,
                "tier": tier,
                "tier_checked_at": world.now if customer in looked_at else stood.tier_checked_at,
            }
        )
        if tier != stood.tier:
            booked.tiers.append((customer, stood.tier, tier))
    sql.update(
        world.connection, "wallets", out, key=WALLET_OF, add=("pending", "spend_minor", "orders", "points")
    )


def _pending_changes(rows: Iterable[tuple[Item | None, Item | None]]) -> dict[int, int]:
    pending: dict[int, int] = {}
    for before, after in rows:
        for row, sign in ((before, -1), (after, 1)):
            if row is not None and row["kind"] == APPROVAL and not row["folded"]:
                customer = row["customer_id"]
                pending[customer] = pending.get(customer, 0) + sign * row["amount"]
    return pending
