"""What orders count for towards VIP tiers, by customer and day, and the tiers that follow (R24-R26)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import date, datetime
from fractions import Fraction
from math import floor
from typing import Any

from sqlalchemy import text

from models.rules.awards import added_lines, earning_shares, is_ignored, line_value, seen_at
from models.rules.causes import Cause, units_gone_by
from models.rules.plan import OrderPlan
from models.rules.program import Program, program_at
from models.rules.tiers import Change, Totals, level_of, tier_with_history, window_start
from tasks.steps import sql
from tasks.steps.load import World

WHAT = ("spend_minor", "orders", "points")
Sums = dict[int, Sequence[int]]  # customer -> one number for each of WHAT
NOTHING = (0, 0, 0)
NO_HISTORY: Mapping[int, datetime] = {}
STANDING = text(
    "select w.customer_id, w.tier, w.pinned_tier, w.spend_minor, w.orders, w.points,"
    " coalesce(d.spend_minor, 0)::bigint as window_spend_minor, coalesce(d.orders, 0)::bigint as window_orders,"
    " coalesce(d.points, 0)::bigint as window_points"
    " from wallets w left join lateral ("
    "   select sum(spend_minor) as spend_minor, sum(orders) as orders, sum(points) as points from customer_days d"
    "   where d.shop_id = w.shop_id and d.customer_id = w.customer_id and d.day between :start and :today) d"
    " on :windowed where w.shop_id = :shop_id and w.customer_id = any(:ids)"
)
COUNTED = text(
    "select customer_id, counted from orders where shop_id = :shop_id and customer_id = any(:ids) and counted <> '{}'"
)
OPENED = text(
    "select customer_id, day, at, spend_minor, orders, points from opening_days"
    " where shop_id = :shop_id and customer_id = any(:ids)"
)
OPENINGS = text(  # a later file that adds an old day says nothing of the time since the first one
    "select d.customer_id, greatest(min(i.at), max(least(i.at, d.at + interval '24 hours'))) as until"
    " from opening_days d join imported_rows r on r.shop_id = d.shop_id and r.reference = d.reference"
    " join imports i on i.shop_id = r.shop_id and i.id = r.import_id"
    " where d.shop_id = :shop_id and d.customer_id = any(:ids) group by d.customer_id"
)


def openings(world: World, plans: Iterable[OrderPlan]) -> dict[int, datetime]:
    """Customer -> until when his imported history says what he bought (D29). Asks nothing at shops without any."""
    if not world.has_history:
        return {}
    ids = {made.order.customer_id for made in plans} - {None}
    rows = sql.fetch(world.connection, OPENINGS, shop_id=world.shop.id, ids=sorted(ids))
    return {row.customer_id: row.until for row in rows}


def counted_of(
    plan: OrderPlan, programs: Sequence[Program], openings: Mapping[int, datetime] = NO_HISTORY
) -> dict[str, Any]:
    """What the order counts for: at its own date, and since when each part is known (R24). {} for what never counts.

    An order that the customer's imported history has already (`openings`) counts for what became of it later (D29).
    """
    order, placed = plan.order, plan.order.placed
    if placed is None or order.paid_at is None or order.customer_id is None:
        return {}
    if is_ignored(order, programs):
        return {}
    program, paid_at = program_at(programs, order.paid_at), order.paid_at
    until = openings.get(order.customer_id)
    if until is not None and placed.placed_at > until:
        until = None
    if until is not None:
        paid_at = min(paid_at, until)
    changes = sorted([*_gains(plan, programs, paid_at, until), *_losses(plan, paid_at, until)])
    net, standing, closed, out = 0, 0, False, []
    for at, _, spend, count, points in changes:
        net, closed = net + spend, closed or count < 0
        before, standing = standing, 0 if closed else max(net, 0)
        if until is None or at > until:
            out.append([at.isoformat(), standing - before, count, points])
    return {
        "customer": order.customer_id,
        "day": placed.placed_at.astimezone(program.time_zone).date().isoformat(),
        **{name: sum(change[i] for change in out) for i, name in enumerate(WHAT, start=1)},
        "changes": out,
    }


Loose = tuple[datetime, int, int, int, int]  # at, 0 gain or 1 loss, spend, orders, points


def _gains(
    plan: OrderPlan, programs: Sequence[Program], paid_at: datetime, until: datetime | None
) -> list[Loose]:
    placed = plan.order.placed
    assert placed is not None
    own = sum(award.amount for award in plan.awards if award.line is None)
    gains: list[Loose] = [(paid_at, 0, placed.total_minor, 1, own)]
    shares = earning_shares(plan.order, programs)
    for line in added_lines(plan.order):
        awards = [award for award in plan.awards if award.line is not None and award.line.id == line.id]
        at = awards[0].at if awards else paid_at
        if until is not None:
            at = max(paid_at, seen_at(plan.order, line))
        spend = floor(line_value(line, placed, "total") * shares[line.id])
        gains.append((at, 0, spend, 0, sum(award.amount for award in awards)))
    return gains


def _losses(plan: OrderPlan, paid_at: datetime, until: datetime | None) -> list[Loose]:
    """Each cause takes its money and its points; closing takes the rest of the spend and the count, once (R25)."""
    losses: list[Loose] = []
    for cause in plan.causes:
        points = sum(claim.amount for claim in plan.claims if claim.cause is cause)
        at, past = max(cause.at, paid_at), _gone_before(cause, plan, until)
        if past and until is not None:
            losses.append((min(at, until), 1, -past, 0, 0))
        losses.append((at, 1, past - cause.counted, -1 if cause.closing else 0, -points))
    return losses


def _gone_before(cause: Cause, plan: OrderPlan, until: datetime | None) -> int:
    """Of what an edit took, the part that the imported history left out, though we were told of it later."""
    if until is None or cause.removed is None or not cause.removed.part or plan.order.imported:
        return 0
    gone = Fraction(units_gone_by(cause.removed.line, plan.order, until), cause.removed.line.quantity)
    return floor(cause.counted * min(gone / cause.removed.part, Fraction(1)))


def count_orders(world: World, counts: Mapping[int, Mapping[str, Any]]) -> Sums:
    """Book the difference in what the orders count for by day; returns what to add to each wallet's sums."""
    days: dict[tuple[int, str], list[int]] = {}
    for id, count in counts.items():
        for counted, sign in ((world.stored[id].counted, -1), (count, 1)):
            if counted:
                sums = days.setdefault((counted["customer"], counted["day"]), [0, 0, 0])
                for i, name in enumerate(WHAT):
                    sums[i] += sign * counted[name]
    changed = {key: sums for key, sums in sorted(days.items()) if any(sums)}
    rows = [
        {
            "shop_id": world.shop.id,
            "customer_id": customer,
            "day": date.fromisoformat(day),
            **dict(zip(WHAT, sums, strict=True)),
        }
        for (customer, day), sums in changed.items()
    ]
    sql.upsert(world.connection, "customer_days", rows, key=("shop_id", "customer_id", "day"), add=WHAT)
    by_customer: Sums = {}
    for (customer, _), sums in changed.items():
        so_far = by_customer.get(customer, NOTHING)
        by_customer[customer] = [a + b for a, b in zip(so_far, sums, strict=True)]
    return by_customer


def recompute_tiers(world: World, customers: Iterable[int]) -> list[tuple[int, str | None, str | None]]:
    """Set the tiers that the wallets' sums call for now; returns (customer, before, after) of those that moved."""
    moved, rows = [], []
    for row, tier in tiers_at(world, sorted(set(customers)), world.now):
        key = {"shop_id": world.shop.id, "customer_id": row.customer_id}
        rows.append({**key, "tier": tier, "tier_checked_at": world.now})
        if tier != row.tier:
            moved.append((row.customer_id, row.tier, tier))
    sql.update(world.connection, "wallets", rows, key=("shop_id", "customer_id"))
    return moved


def expected_tier(world: World, wallet: Any) -> str | None:
    """The tier that a wallet should have had when it was last looked at."""
    if wallet.tier_checked_at is None:
        return None
    return tiers_at(world, [wallet.customer_id], wallet.tier_checked_at)[0][1]


def tiers_at(
    world: World, ids: Sequence[int], now: datetime, sums: Mapping[int, Sequence[int]] | None = None
) -> list[tuple[Any, str | None]]:
    """Each customer's wallet row and the tier that it should have at a time, under the program of that time.

    sums: what is still to be added to the wallets' own sums (their days have it)
    """
    if not ids:
        return []
    program = program_at(world.programs, now)
    tiers = program.tiers
    today = now.astimezone(program.time_zone).date()
    windowed = tiers.window != "lifetime"
    standing = sql.fetch(
        world.connection,
        STANDING,
        shop_id=world.shop.id,
        ids=ids,
        start=window_start(tiers.window, today),
        today=today,
        windowed=windowed,
    )
    remembering = tiers.downgrade != "immediate"
    known = _remembered(world, ids) if remembering else {}
    found: list[tuple[Any, str | None]] = []
    for row in standing:
        if row.pinned_tier is not None:
            tier = row.pinned_tier
        elif remembering:
            changes = known.get(row.customer_id, [])
            tier = tier_with_history(tiers, changes, program.time_zone, now, world.shop.currency)
        else:
            more = NOTHING if windowed or sums is None else sums.get(row.customer_id, NOTHING)
            tier = level_of(tiers, _totals(row, windowed, more), world.shop.currency)
        found.append((row, tier))
    return found


def _totals(row: Any, windowed: bool, more: Sequence[int]) -> Totals:
    prefix = "window_" if windowed else ""
    return Totals(**{name: getattr(row, prefix + name) + n for name, n in zip(WHAT, more, strict=True)})


def _remembered(world: World, ids: Sequence[int]) -> dict[int, list[Change]]:
    found: dict[int, list[Change]] = {}
    for row in sql.fetch(world.connection, COUNTED, shop_id=world.shop.id, ids=ids):
        found.setdefault(row.customer_id, []).extend(changes_of(row.counted))
    for row in sql.fetch(world.connection, OPENED, shop_id=world.shop.id, ids=ids):
        what = {name: getattr(row, name) for name in WHAT}
        found.setdefault(row.customer_id, []).append(Change(at=row.at, day=row.day, **what))
    return found


def changes_of(counted: Mapping[str, Any]) -> list[Change]:
    """The recorded changes of one order's count."""
    day = date.fromisoformat(counted["day"])
    return [
        Change(at=datetime.fromisoformat(at), day=day, spend_minor=spend, orders=orders, points=points)
        for at, spend, orders, points in counted["changes"]
    ]
