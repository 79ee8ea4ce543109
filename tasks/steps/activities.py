"""What happened, for people: one entry for every event, a zero one too (R39). Added, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.rules.money import from_minor
from models.rules.plan import OrderPlan
from models.rules.wallet import APPROVAL, CLAIM, GRANT, RETURN, Result
from tasks.steps import sql
from tasks.steps.book import Booked
from tasks.steps.load import Moving, World
from tasks.steps.timeline import Item, event_key

KINDS = {
    GRANT: "points.granted",
    APPROVAL: "points.approved",
    RETURN: "redemption.returned",
    CLAIM: "points.reversed",
}
SPENT = "points.redeemed"


def record(
    world: World,
    plans: Mapping[int, OrderPlan],
    booked: Booked,
    causes: Mapping[int, str],
    told: Sequence[Any],
) -> None:
    """Write an entry for each timeline row that is new or came out otherwise, each expiry, each tier that moved."""
    entries = [
        made
        for before, after in _moved(booked.rows, world.moving)
        for made in _of_row(world, plans, booked, causes, before, after)
    ]
    entries += _expiries(world, booked, causes)
    entries += [
        entry(
            world,
            "tier.changed",
            customer,
            None,
            causes.get(customer, "clock"),
            "tier",
            {"before": a, "after": b},
        )
        for customer, a, b in booked.tiers
        if world.moving is None or customer != world.moving.customer
    ]
    entries += _bare_refunds(world, plans, booked, told)
    say(world, entries)


def _moved(
    rows: Sequence[tuple[Item | None, Item | None]], moving: Moving | None
) -> Iterable[tuple[Item | None, Item | None]]:
    """As they are; after a merge, what left one wallet for the other is told once, of the survivor (R33)."""
    if moving is None:
        return rows
    left = {
        _event_of(row): row
        for row, after in rows
        if row is not None and after is None and row["customer_id"] == moving.customer
    }
    return [
        (left.get(_event_of(after)) if before is None and after is not None else before, after)
        for before, after in rows
        if after is not None or (before is not None and before["customer_id"] != moving.customer)
    ]


def _event_of(row: Item) -> tuple[object, ...]:
    return row["kind"], row["cause"], row["target"]


def say(world: World, entries: Sequence[Mapping[str, Any]]) -> None:
    """Add entries to the activity (R39)."""
    sql.insert(world.connection, "activity", entries)


def entry(
    world: World,
    kind: str,
    customer_id: int | None,
    order_id: int | None,
    cause: str,
    target: str,
    detail: Mapping[str, Any],
    at: Any = None,
) -> dict[str, Any]:
    """One entry; `at` is the event's own time, now where it has none."""
    return {
        "shop_id": world.shop.id,
        "kind": kind,
        "customer_id": customer_id,
        "order_id": order_id,
        "cause": cause,
        "target": target,
        "at": at or world.now,
        "detail": dict(detail),
    }


def _of_row(
    world: World,
    plans: Mapping[int, OrderPlan],
    booked: Booked,
    causes: Mapping[int, str],
    before: Item | None,
    after: Item | None,
) -> Iterable[dict[str, Any]]:
    row = after if after is not None else before
    assert row is not None
    if row["kind"] == APPROVAL and not row["folded"] and (before is None or not before["folded"]):
        return
    kind = KINDS.get(row["kind"], SPENT)
    detail = {
        "amount": 0 if after is None else after["amount"],
        "moved": 0 if after is None else after["moved"],
        "reasons": list(row["reasons"]),
        "policy_version": row["policy_version"],
        "booked_by": causes.get(row["customer_id"], "clock"),
        **_particulars(row, after),
        **_balances(booked, row),
        **_order_words(plans.get(row["order_id"]), row),
    }
    if before is not None and before["customer_id"] != row["customer_id"]:
        detail["moved_from"] = str(before["customer_id"])
    if before is not None and before["folded"]:
        detail["corrects"] = {name: before[name] for name in ("amount", "moved", "short", "expired")}
    yield entry(
        world, kind, row["customer_id"], row["order_id"], row["cause"], row["target"], detail, row["at"]
    )


def _particulars(row: Item, after: Item | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if row["kind"] == CLAIM:
        found["shortfall"] = 0 if after is None else after["short"]
        found["pending"] = row["reduces_pending"]
    if row["kind"] == RETURN:
        found["expired"] = 0 if after is None else after["expired"]
    if row["ratio"] is not None:
        found["ratio"] = row["ratio"]
    return found


def _balances(booked: Booked, row: Item) -> dict[str, int]:
    result = _result(booked, row)
    return {} if result is None else {"balance_before": result.before, "balance_after": result.after}


def _result(booked: Booked, row: Item) -> Result | None:
    fold = booked.folds_by_customer.get(row["customer_id"])
    return None if fold is None or fold.made is None else fold.made.results.get(event_key(row))


def _order_words(plan: OrderPlan | None, row: Item) -> dict[str, Any]:
    if plan is None or plan.order.placed is None:
        return {}
    placed = plan.order.placed
    cause = next((cause for cause in plan.causes if cause.key == row["cause"]), None)
    words: dict[str, Any] = {"order": placed.name}
    if cause is not None:
        words["refund_amount"] = from_minor(cause.value, placed.currency)
        words["currency"] = placed.currency
    return words


def _expiries(world: World, booked: Booked, causes: Mapping[int, str]) -> list[dict[str, Any]]:
    return [
        entry(
            world,
            "points.expired",
            each.customer_id,
            None,
            "expiry",
            posting.lot,
            {"amount": -posting.amount, "booked_by": causes.get(each.customer_id, "clock")},
            posting.event[0],
        )
        for each in booked.folds
        if world.moving is None or each.customer_id != world.moving.customer
        for posting in each.differences()
        if posting.kind == "expiry"
    ]


def _bare_refunds(
    world: World, plans: Mapping[int, OrderPlan], booked: Booked, told: Sequence[Any]
) -> list[dict[str, Any]]:
    """Refunds that are on record but touch no award and no redemption (R10, R28, R32)."""
    spoken = {row["cause"] for _, row in booked.rows if row is not None}
    entries = []
    for id, made in plans.items():
        for refund_id, known in made.order.refunds.items():
            key = f"refund:{refund_id}"
            if refund_id not in world.refunds_stored and key not in spoken:
                reasons = [*made.flags, *_reasons(made, key)]
                entries.append(
                    entry(
                        world,
                        "refund.recorded",
                        made.order.customer_id,
                        id,
                        key,
                        f"order:{id}",
                        {"reasons": reasons},
                        known.at,
                    )
                )
    return entries


def _reasons(plan: OrderPlan, key: str) -> Sequence[str]:
    cause = next((cause for cause in plan.causes if cause.key == key), None)
    return cause.money.reasons if cause is not None and cause.money is not None else ()
