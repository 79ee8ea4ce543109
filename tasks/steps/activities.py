"""What happened, for people: one entry for every event, a zero one too (R39). Added, never changed."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from typing import Any

from models.rules.awards import REPLACED_BY_IMPORT
from models.rules.money import from_minor
from models.rules.plan import OrderPlan
from models.rules.program import program_at
from models.rules.wallet import APPROVAL, CLAIM, GRANT, RETURN, EventKey, Result
from tasks.steps import messages, sql
from tasks.steps.book import Booked
from tasks.steps.fold import WalletFold
from tasks.steps.load import Moving, World
from tasks.steps.timeline import COLUMNS, Item, award_target, event_key
from tasks.steps.words import WORDS

KINDS = {
    GRANT: "points.granted",
    APPROVAL: "points.approved",
    RETURN: "redemption.returned",
    CLAIM: "points.reversed",
}
SPENT = "points.redeemed"
# Of a row that was told before: where it stands in time, and what follows from that, is no news.
UNSAID = ("at", "sort_id", "expires_at", "grace_days", "carry_debt")
SAID = tuple(name for name in COLUMNS if name not in UNSAID)


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
        if _is_news(before, after)
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
    say(world, entries, messages.of_orders(world, plans, booked))


def _is_news(before: Item | None, after: Item | None) -> bool:
    return before is None or after is None or any(before[name] != after[name] for name in SAID)


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


def say(world: World, entries: Sequence[Mapping[str, Any]], of_orders: Sequence[messages.Told] = ()) -> None:
    """Add entries to the activity (R39), and tell those outside who asked to be told."""
    sql.insert(world.connection, "activity", entries)
    messages.tell(world, entries, of_orders)


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
    """One entry; `at` is the event's own time, now where it has none. It names the policy in force then (R39)."""
    assert kind in WORDS, f"{kind} has no words in tasks/steps/words.py"
    at = at or world.now
    return {
        "shop_id": world.shop.id,
        "kind": kind,
        "customer_id": customer_id,
        "order_id": order_id,
        "cause": cause,
        "target": target,
        "at": at,
        "detail": {
            "policy_version": program_at(world.programs, at).version,
            **_undone(world, kind, order_id, cause),
            **detail,
        },
    }


def _undone(world: World, kind: str, order_id: int | None, cause: str) -> dict[str, str]:
    """The money of a refund whose effects are taken back: afterwards it counts as none."""
    order = world.orders.get(order_id or 0)
    decided = world.refunds_decided.get(int(cause.partition(":")[2])) if kind == "refund.undone" else None
    if order is None or order.placed is None or decided is None:
        return {}
    return {"refund_amount": from_minor(decided["value_minor"], order.placed.currency)}


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
    kind, order_id = KINDS.get(row["kind"], SPENT), _order_of(world, plans, row)
    plan = None if order_id is None else plans.get(order_id)
    detail = {
        "amount": 0 if after is None else after["amount"],
        "moved": 0 if after is None or row["reduces_pending"] else after["moved"],
        "reasons": list(row["reasons"]),
        "policy_version": row["policy_version"],
        "booked_by": causes.get(row["customer_id"], "clock"),
        **_particulars(row, after),
        **_balances(world, booked, row),
        **_order_words(plan, row["cause"]),
        **_cap(plan, row),
    }
    if after is None:
        detail["gone"] = True
        if plan is not None and row["kind"] in (APPROVAL, CLAIM) and _is_replaced(plan, row["target"]):
            detail["reasons"].append(REPLACED_BY_IMPORT)
    if before is not None and before["customer_id"] != row["customer_id"]:
        detail["moved_from"] = str(before["customer_id"])
    if before is not None and before["folded"]:
        detail["corrects"] = {name: before[name] for name in ("amount", "moved", "short", "expired")}
    yield entry(world, kind, row["customer_id"], order_id, row["cause"], row["target"], detail, row["at"])


def _is_replaced(plan: OrderPlan, target: str) -> bool:
    """An award of our own, in whose place an imported one stands now (D29)."""
    order = plan.order
    return bool(order.imported) and target not in {
        award_target(order.order_id, a.target) for a in plan.awards
    }


def _order_of(world: World, plans: Mapping[int, OrderPlan], row: Item) -> int | None:
    """The order that a row is told of: what was given back by hand, of the one that used its redemption (D25)."""
    redemption = world.redemptions.get(row["redemption_id"])
    if row["order_id"] is not None or row["kind"] != RETURN or redemption is None:
        found: int | None = row["order_id"]
        return found
    return redemption.order_id if redemption.order_id in plans else None


def _particulars(row: Item, after: Item | None) -> dict[str, Any]:
    found: dict[str, Any] = {}
    if row["kind"] == CLAIM:
        found["shortfall"] = 0 if after is None else after["short"]
        found["pending"] = row["reduces_pending"]
    if row["kind"] == RETURN:
        found["expired"] = 0 if after is None else after["expired"]
    if row["ratio"] is not None:
        found["ratio"] = row["ratio"]
    change = 0 if after is None else after["debt_change"]
    if change:  # under `carry_debt`: the balance alone does not explain itself
        found["debt_paid" if change < 0 else "debt_added"] = abs(change)
    return found


def _balances(world: World, booked: Booked, row: Item) -> dict[str, int]:
    """Around the event, in its own time. What moved nothing left the balance alone; what is taken back has no place in
    time any more, so the whole piece of work speaks for it."""
    result = _result(booked, row)
    if result is not None:
        return {"balance_before": result.before, "balance_after": result.after}
    wallet, each = world.wallets.get(row["customer_id"]), booked.folds_by_customer.get(row["customer_id"])
    if each is not None and each.made is not None:
        before = each.made.balance if row["reduces_pending"] else each.balance
        return {"balance_before": before, "balance_after": each.made.balance}
    return {} if wallet is None else dict.fromkeys(("balance_before", "balance_after"), wallet.balance)


def _result(booked: Booked, row: Item) -> Result | None:
    fold = booked.folds_by_customer.get(row["customer_id"])
    return None if fold is None or fold.made is None else fold.made.results.get(event_key(row))


def _order_words(plan: OrderPlan | None, key: str) -> dict[str, Any]:
    """The order's number, and the money of the cause beside the order's total."""
    if plan is None or plan.order.placed is None:
        return {}
    placed = plan.order.placed
    cause = next((cause for cause in plan.causes if cause.key == key), None)
    words: dict[str, Any] = {"order": placed.name}
    if cause is not None:
        words["refund_amount"] = from_minor(cause.value, placed.currency)
        words["order_total"] = from_minor(placed.total_minor, placed.currency)
        words["currency"] = placed.currency
    return words


def _cap(plan: OrderPlan | None, row: Item) -> dict[str, int]:
    """What the ratio is of, and what was left of it: no more can be asked (R3, R14). Groups: of all members together."""
    if plan is None or row["kind"] not in (CLAIM, RETURN):
        return {}
    before = 0
    if row["kind"] == CLAIM:
        for claim in plan.claims:
            if award_target(plan.order.order_id, claim.award.target) == row["target"]:
                if claim.cause.key == row["cause"]:
                    return {"of": claim.award.whole, "cap": claim.award.amount - before}
                before += claim.amount
        return {}
    for back in plan.returns:
        if back.redemption.id == row["redemption_id"]:
            if back.cause.key == row["cause"]:
                return {"of": back.redemption.amount, "cap": back.redemption.amount - before}
            before += back.amount
    return {}


def _expiries(world: World, booked: Booked, causes: Mapping[int, str]) -> list[dict[str, Any]]:
    entries = []
    for each in booked.folds:
        if world.moving is not None and each.customer_id == world.moving.customer:
            continue
        lapsed = [posting for posting in each.differences() if posting.kind == "expiry"]
        around = _around(each) if lapsed else {}
        for posting in lapsed:
            detail = {
                "amount": -posting.amount,
                "booked_by": causes.get(each.customer_id, "clock"),
                **around.get((posting.event, posting.lot), {}),
            }
            at = posting.event[0]
            entries.append(
                entry(world, "points.expired", each.customer_id, None, "expiry", posting.lot, detail, at)
            )
    return entries


def _around(each: WalletFold) -> dict[tuple[EventKey, str], dict[str, int]]:
    """The balance around each expiry of a fold; none for one that is taken back."""
    assert each.made is not None
    balance = each.made.balance - sum(posting.amount for posting in each.made.postings)
    found = {}
    for posting in each.made.postings:
        after = balance + posting.amount
        if posting.kind == "expiry":
            found[posting.event, posting.lot] = {"balance_before": balance, "balance_after": after}
        balance = after
    return found


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
                        {"reasons": reasons, **_order_words(made, key)},
                        known.at,
                    )
                )
    return entries


def _reasons(plan: OrderPlan, key: str) -> Sequence[str]:
    cause = next((cause for cause in plan.causes if cause.key == key), None)
    return cause.money.reasons if cause is not None and cause.money is not None else ()
