"""Facts in, difference out: what stands for some orders and wallets is made what should stand (R0).

The one way into the books: live webhooks, duplicates, late orders, sweeps, previews, replays and merchants' actions
all come through `settle`, with other facts.
"""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass, field
from datetime import datetime
from typing import Any

from sqlalchemy import text

from models.errors import RefundOfAnotherOrder
from models.rules.facts import Fact, Refund, Snapshot, Transaction
from models.rules.order import KnownRefund, OrderFacts
from models.rules.plan import OrderPlan, Return, plan, returns_without_order
from models.rules.reads import reads_wanted
from tasks.steps import outbox, sql
from tasks.steps.activities import record
from tasks.steps.book import Booked, book, write_wallets
from tasks.steps.codec import order_document, refund_document
from tasks.steps.counting import count_orders, counted_of, openings, tiers_at
from tasks.steps.fold import fold_wallets
from tasks.steps.installations import is_connected
from tasks.steps.load import (
    World,
    customers_of,
    load_books,
    load_orders,
    load_redemptions,
    lock_codes,
    redemptions_on,
    unused_redemptions,
)
from tasks.steps.timeline import Changes, Item, compare, items_of, redemption_target, reversal_items

Document = Mapping[str, Any]

NOT_DECIDED = {
    "value_minor": 0,
    "reasons": [],
    "policy_version": None,
}  # its order is unknown, or it is undone

READ_AFTER_SECONDS = 5  # a webhook that is on its way mostly spares the reading

REFUNDS_ELSEWHERE = text("select refund_id from refunds where shop_id = :shop_id and refund_id = any(:ids)")
LEARN_CURRENCY = text("update shops set currency = :currency where id = :id and currency is null")


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One fact, when we first heard it, and what brought it (`inbox:5`)."""

    fact: Fact
    received_at: datetime
    cause: str


@dataclass(slots=True)
class Settled:
    """What the work came to: the plan of each order, and what was booked."""

    plans: dict[int, OrderPlan] = field(default_factory=dict)
    booked: Booked = field(default_factory=Booked)
    changed_orders: set[int] = field(default_factory=set)


def settle(
    world: World, told: Sequence[Told] = (), *, orders: Iterable[int] = (), redemptions: Iterable[int] = ()
) -> Settled:
    """Join the facts, plan every order they touch, and book the difference.

    `orders` are planned in any case, and so is what merchants gave back by hand of `redemptions`.

    Safe to run twice and twice at once: order and wallet rows are locked before anything is read, and what stands
    already is not posted again.
    """
    forced, by_hand = set(orders), set(redemptions)
    lock_codes(world, (code for t in told if isinstance(t.fact, Snapshot) for code in t.fact.codes))
    load_orders(world, {*forced, *(t.fact.order_id for t in told)})
    for each in told:
        world.orders[each.fact.order_id].add(each.fact, each.received_at)
    load_redemptions(world, by_hand)
    documents = _documents(world, told)
    changed = {id for id in world.orders if id in forced or _differs(world, id, documents[id])}
    settled = Settled(changed_orders=changed)
    moving = world.moving
    if not changed and not by_hand and moving is None:
        return settled
    _check_refunds(world)
    _learn_currency(world)
    load_books(world, {*customers_of(world), *(moving.causes if moving else ())})
    settled.plans = _plans(world)
    _keep_facts(world, changed, settled.plans)
    causes = _causes_by_customer(world, told, by_hand)
    changes = _changes(world, settled.plans)
    folds = fold_wallets(world, changes, ())
    settled.booked = book(world, changes, folds, award_rows(world, settled.plans), causes)
    known = openings(world, settled.plans.values())
    counts = {id: counted_of(made, world.programs, known) for id, made in settled.plans.items()}
    sums = count_orders(world, counts)
    _write_orders(world, settled.plans, documents, counts)
    _write_restitutions(world, settled.plans)
    write_wallets(world, settled.booked, sums, tiers_at(world, sorted(sums), world.now, sums))
    record(world, settled.plans, settled.booked, causes, told)
    _ask_for_reads(world, changed)
    return settled


def _changes(world: World, plans: Mapping[int, OrderPlan]) -> Changes:
    """What stands on the timelines, beside what should."""
    stood: list[Item] = [dict(row._mapping) for row in world.timeline]
    wanted = [row for each in plans.values() for row in items_of(each, world.shop.id)]
    wanted += reversal_items(returns_of(world, plans), world.shop.id)
    if world.moving is not None:
        stood, wanted = [*stood, *world.moving.stood], [*wanted, *world.moving.stand]
    return compare(stood, wanted)


def settle_clock(world: World, customers: Iterable[int]) -> Booked:
    """Time has passed for these wallets (locked by the caller): approvals due, lots expired."""
    changes = Changes()
    folds = fold_wallets(world, changes, customers)
    booked = book(world, changes, folds, {}, {})
    write_wallets(world, booked, {}, tiers_at(world, sorted(set(customers)), world.now))
    record(world, {}, booked, {}, ())
    return booked


def settle_items(world: World, items: Sequence[Item], cause: str) -> Booked:
    """Put rows on wallets' timelines that no order asks for: grants and spending."""
    changes = compare((), items)
    folds = fold_wallets(world, changes, ())
    booked = book(world, changes, folds, {}, {item["customer_id"]: cause for item in items})
    write_wallets(world, booked, {}, ())
    record(world, {}, booked, {item["customer_id"]: cause for item in items}, ())
    return booked


def _documents(world: World, told: Sequence[Told]) -> dict[int, Document]:
    """The orders' documents with what was told; refunds and transactions have rows of their own, so leave them alone."""
    retold = {t.fact.order_id for t in told if not isinstance(t.fact, Refund | Transaction)}
    return {
        id: order_document(order) if id in retold or not world.stored[id].facts else world.stored[id].facts
        for id, order in world.orders.items()
    }


def _differs(world: World, id: int, document: Document) -> bool:
    """Whether the order's facts are other than those on record."""
    order = world.orders[id]
    if document != world.stored[id].facts:
        return True
    if any(world.refunds_stored.get(key) != _refund_state(known) for key, known in order.refunds.items()):
        return True
    return any(world.transactions_stored.get((id, key)) != t for key, t in order.transactions.items())


def _refund_state(known: KnownRefund) -> dict[str, Any]:
    return {
        **refund_document(known.refund),
        "received_at": known.received_at.isoformat(),
        "conflicts": known.conflicts,
        **({"undone": True} if known.undone else {}),
    }


def _plans(world: World) -> dict[int, OrderPlan]:
    used = redemptions_on(world)
    return {
        id: plan(order, programs=world.programs, redemptions=used[id]) for id, order in world.orders.items()
    }


def returns_of(world: World, plans: Mapping[int, OrderPlan]) -> Iterable[Return]:
    """What comes back of the redemptions at hand: by the orders that use them, and of those that none uses."""
    for each in plans.values():
        yield from each.returns
    for redemption in unused_redemptions(world):
        yield from returns_without_order(redemption, world.programs)


def _causes_by_customer(world: World, told: Sequence[Told], by_hand: Iterable[int]) -> dict[int, str]:
    """Customer -> the first thing that made us look at one of his orders or redemptions."""
    causes: dict[int, str] = dict(world.moving.causes) if world.moving else {}
    by_order: dict[int, str] = {}
    for each in told:
        by_order.setdefault(each.fact.order_id, each.cause)
    for id, order in world.orders.items():
        customers = {order.customer_id, world.stored[id].customer_id}
        for customer in customers - {None}:
            assert customer is not None
            causes.setdefault(customer, by_order.get(id, f"order:{id}"))
    for redemption_id in by_hand:
        for member, _ in world.redemptions[redemption_id].members:
            causes.setdefault(member, redemption_target(redemption_id))
    return causes


# -- facts on record ---------------------------------------------------------------------------------


def _keep_facts(world: World, changed: set[int], plans: Mapping[int, OrderPlan]) -> None:
    """Refunds, transactions and codes get rows of their own; the rest stays with the order (written at the end)."""
    refunds, transactions, codes = [], [], []
    for id in changed:
        order, decided = world.orders[id], _decided_refunds(plans[id])
        for key, known in order.refunds.items():
            state = _refund_state(known)
            if world.refunds_stored.get(key) != state:
                row = _refund_row(world, order, known, state)
                refunds.append({**row, **decided.get(key, NOT_DECIDED)})
        for transaction_id, transaction in order.transactions.items():
            if world.transactions_stored.get((id, transaction_id)) != transaction:
                transactions.append(_transaction_row(world, transaction))
        if order.placed is not None:
            codes += [{"shop_id": world.shop.id, "code": c, "order_id": id} for c in order.placed.codes]
    sql.upsert(world.connection, "refunds", refunds, key=("shop_id", "refund_id"))
    sql.upsert(world.connection, "transactions", transactions, key=("shop_id", "order_id", "transaction_id"))
    sql.insert(world.connection, "order_codes", codes, ignore=("shop_id", "code", "order_id"))


def _check_refunds(world: World) -> None:
    """One refund belongs to one order. Raises RefundOfAnotherOrder."""
    new: dict[int, int] = {}
    for order_id, order in world.orders.items():
        for refund_id in order.refunds:
            if new.setdefault(refund_id, order_id) != order_id:
                raise RefundOfAnotherOrder(refund_id)
    unknown = sorted(set(new) - set(world.refunds_stored))
    if unknown:
        for row in sql.fetch(world.connection, REFUNDS_ELSEWHERE, shop_id=world.shop.id, ids=unknown):
            raise RefundOfAnotherOrder(row.refund_id)


def _refund_row(world: World, order: OrderFacts, known: KnownRefund, state: Document) -> dict[str, Any]:
    return {
        "shop_id": world.shop.id,
        "refund_id": known.refund.id,
        "order_id": order.order_id,
        "facts": state,
        "at": known.at,
        "undone": known.undone,
    }


def _decided_refunds(plan: OrderPlan) -> dict[int, dict[str, Any]]:
    """Refund id -> its value, why, and by which policy."""
    return {
        cause.refund.id: {
            "value_minor": cause.value,
            "reasons": list(cause.money.reasons),
            "policy_version": cause.policy.version,
        }
        for cause in plan.causes
        if cause.refund is not None and cause.money is not None
    }


def _transaction_row(world: World, t: Transaction) -> dict[str, Any]:
    return {
        "shop_id": world.shop.id,
        "transaction_id": t.id,
        "order_id": t.order_id,
        "refund_id": t.refund_id,
        "kind": t.kind,
        "status": t.status,
        "amount_minor": t.amount_minor,
        "currency": t.currency,
        "shop_amount_minor": t.shop_amount_minor,
        "at": t.at,
    }


def _learn_currency(world: World) -> None:
    """A shop's currency is that of its orders."""
    if world.shop.currency is None:
        found = next((o.placed.currency for o in world.orders.values() if o.placed is not None), None)
        if found is not None:
            world.connection.execute(LEARN_CURRENCY, {"currency": found, "id": world.shop.id})
            world.shop.currency = found


# -- decisions on record -----------------------------------------------------------------------------


def award_rows(world: World, plans: Mapping[int, OrderPlan]) -> dict[tuple[int, str], dict[str, Any]]:
    """The awards that should stand, by column, without what their claims took."""
    rows = {}
    for id, made in plans.items():
        for award in made.awards:
            rows[id, award.target] = {
                "shop_id": world.shop.id,
                "order_id": id,
                "target": award.target,
                "customer_id": made.order.customer_id,
                "rule": award.rule,
                "mask": award.mask,
                "base_minor": award.base_minor,
                "amount": award.amount,
                "at": award.at,
                "due_at": award.due_at,
                "expires_at": award.expires_at,
                "policy_version": award.policy_version,
            }
    return rows


def _write_orders(
    world: World,
    plans: Mapping[int, OrderPlan],
    documents: Mapping[int, Document],
    counts: Mapping[int, Mapping[str, Any]],
) -> None:
    """What was decided of orders, with their facts where those are new; and of refunds whose own facts are not new."""
    orders, decided_anew, refunds = [], [], []
    for id, made in plans.items():
        key = {"shop_id": world.shop.id, "order_id": id}
        stored = world.stored[id]
        decided = _decided_order(made, counts[id])
        if documents[id] != stored.facts:
            orders.append({**key, **decided, "facts": documents[id]})
        elif any(stored._mapping[name] != value for name, value in decided.items()):
            decided_anew.append({**key, **decided})
        for refund_id, row in _decided_refunds(made).items():
            if world.refunds_decided.get(refund_id, row) != row:
                refunds.append({"shop_id": world.shop.id, "refund_id": refund_id, **row})
    sql.update(world.connection, "orders", orders, key=("shop_id", "order_id"))
    sql.update(world.connection, "orders", decided_anew, key=("shop_id", "order_id"))
    sql.update(world.connection, "refunds", refunds, key=("shop_id", "refund_id"))


def _decided_order(made: OrderPlan, counted: Mapping[str, Any]) -> dict[str, Any]:
    placed = made.order.placed
    return {
        "name": placed.name if placed else None,
        "currency": placed.currency if placed else None,
        "customer_id": made.order.customer_id,
        "placed_at": placed.placed_at if placed else None,
        "status": made.status,
        "total_minor": placed.total_minor if placed else None,
        "refunded_minor": made.refunded,
        "flags": made.flags,
        "counted": counted,
    }


def _write_restitutions(world: World, plans: Mapping[int, OrderPlan]) -> None:
    """Which order used a redemption, and whether its code is to come back (R21, R22): wanted here, done by the outbox."""
    rows, outbox = [], []
    for id, made in plans.items():
        for redemption in made.redemptions:
            if not redemption.held:
                continue
            code = redemption.id in made.codes_back
            reactivation = redemption.reactivation
            if code and reactivation == "none":
                reactivation = "wanted"
            elif not code and reactivation == "wanted":
                reactivation = "none"
            rows.append(
                {
                    "shop_id": world.shop.id,
                    "id": redemption.id,
                    "order_id": id,
                    "reactivation": reactivation,
                    "restitution": made.restitution.get(redemption.id, "none"),
                }
            )
            if reactivation != redemption.reactivation:
                outbox.append(
                    _reactivation(world, made, redemption.id, redemption.reactivations, reactivation)
                )
    sql.update(world.connection, "redemptions", rows, key=("shop_id", "id"))
    # A row that says what may have been sent is left to its task, which looks: what was done there is a fact (R23).
    undone = "where outbox.state in ('pending', 'cancelled') and not jsonb_exists(outbox.payload, 'sent')"
    sql.upsert(world.connection, "outbox", outbox, key=("shop_id", "key"), where=undone)


def _ask_for_reads(world: World, changed: Iterable[int]) -> None:
    """Orders that have to be read again at Shopify (S3, S7, S9, R28), for shops that gave us access."""
    wanted = [(id, key, why) for id in sorted(changed) for key, why in reads_wanted(world.orders[id])]
    if not wanted or not is_connected(world.connection, world.shop.id):
        return
    for id, key, why in wanted:
        payload = {"order_id": id, "why": why}
        outbox.put(
            world.connection, world.shop.id, "read_order", key, payload, after_seconds=READ_AFTER_SECONDS
        )


def _reactivation(world: World, made: OrderPlan, id: int, done: int, state: str) -> dict[str, Any]:
    return {
        "shop_id": world.shop.id,
        "kind": "reactivate_code",
        "key": f"reactivate:{id}:{done + 1}",
        "payload": {"redemption_id": id, "order_id": made.order.order_id},
        "state": "pending" if state == "wanted" else "cancelled",
    }
