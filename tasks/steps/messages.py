"""What a shop's own systems are told of what was booked (docs/webhooks.md), in the transaction that books it.

A message is about a subject: an order, or a customer where there is no order. Its number in the subject's sequence is
taken under the lock of the subject's row, so numbers have no gaps and rise in the order in which the books changed.
Ids and amounts only: nothing personal is told. A shop with no endpoint costs nothing here, not even a question.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal
from typing import Any

from sqlalchemy import text

from models.rules.causes import TEST_ORDER_IGNORED, Cause
from models.rules.money import from_minor
from models.rules.plan import OrderPlan
from models.rules.wallet import RETURN
from tasks.steps import sql
from tasks.steps.activity import utc_text as time_text
from tasks.steps.book import Booked
from tasks.steps.codec import dumps, order_facts
from tasks.steps.load import World
from tasks.steps.read import points
from tasks.steps.remaining import remaining
from tasks.steps.timeline import Item, award_target, redemption_target

REFUNDED, CANCELLED, AUTO_REFUNDED = "refunded", "cancelled", "auto_refunded"
POINTS_REVERSED, REDEMPTION_RETURNED = "points.reversed", "redemption.returned"
CODE_REACTIVATED, TIER_CHANGED = "code.reactivated", "tier.changed"
EVENTS = (  # in the order in which they are told of one moment
    REFUNDED,
    CANCELLED,
    AUTO_REFUNDED,
    REDEMPTION_RETURNED,
    POINTS_REVERSED,
    CODE_REACTIVATED,
    TIER_CHANGED,
)
ALL = "*"  # an endpoint that takes every event, those of later versions too
PING = "ping"  # sent on request only, to one endpoint

RowId = tuple[int | None, str, str]  # customer, cause, target

OFF = ("voided", "cancelled")  # statuses of an order that no refund closed
NOTHING_TOLD = "unknown"  # status of an order of which only refunds are known

TELL = text("""
with told as (
  select * from unnest(cast(:events as text[]), cast(:subjects as text[]), cast(:places as int[]),
                       cast(:times as timestamptz[]), cast(:data as jsonb[]))
    with ordinality as t(event, subject, place, at, data, n)
), counted as (
  select subject, count(*) as messages from told group by subject
), numbered as (
  insert into message_subjects as s (shop_id, subject, last)
  select :shop_id, subject, messages from counted order by subject
  on conflict (shop_id, subject) do update set last = s.last + excluded.last
  returning subject, last
), written as (
  insert into messages (shop_id, event, subject, sequence, at, data)
  select :shop_id, t.event, t.subject, s.last - c.messages + t.place, t.at, t.data
    from told t join numbered s using (subject) join counted c using (subject) order by t.n
  returning id, event
)
insert into deliveries (shop_id, endpoint_id, message_id)
select :shop_id, e.id, m.id from written m join endpoints e
    on e.shop_id = :shop_id and e.state <> 'deleted' and jsonb_exists_any(e.events, array['*', m.event])
 order by m.id, e.id returning id
""")
OWNERS = text(
    "select id, customer_id, reward_id, ended_at from redemptions where shop_id = :shop_id and id = any(:ids)"
)


@dataclass(frozen=True, slots=True, kw_only=True)
class Told:
    """One message before it has a number."""

    event: str
    subject: str
    at: datetime
    data: Mapping[str, Any]


def tell(world: World, entries: Sequence[Mapping[str, Any]], of_orders: Sequence[Told] = ()) -> None:
    """Write the messages that these activity entries are worth, with those of orders, and a delivery an endpoint."""
    if not world.tells:
        return
    found = [*of_orders, *(made for each in entries if (made := _of_entry(world, each)) is not None)]
    write(world, sorted(found, key=lambda told: (told.at, EVENTS.index(told.event))))


def write(world: World, told: Sequence[Told]) -> None:
    """Number the messages and keep them, in one statement."""
    if not told:
        return
    seen: Counter[str] = Counter()
    places = []
    for each in told:
        seen[each.subject] += 1
        places.append(seen[each.subject])
    sql.fetch(
        world.connection,
        TELL,
        shop_id=world.shop.id,
        events=[each.event for each in told],
        subjects=[each.subject for each in told],
        places=places,
        times=[each.at for each in told],
        data=[dumps(plain(each.data)) for each in told],
    )


def of_orders(world: World, plans: Mapping[int, OrderPlan], booked: Booked) -> list[Told]:
    """What became of orders and of redemptions that had none: refunds that count now, or otherwise than before; orders
    that are off now, or not any more; redemptions given back because no order came (R30)."""
    if not world.tells:
        return []
    stand: list[Item] = [dict(row._mapping) for row in world.timeline]
    stand += [after for _, after in booked.rows if after is not None]
    rows: dict[RowId, Item] = {(row["customer_id"], row["cause"], row["target"]): row for row in stand}
    found: list[Told] = []
    for id, made in plans.items():
        if made.order.placed is not None and TEST_ORDER_IGNORED not in made.flags:
            order = _Order(world, made, rows)
            found += [*order.refunds(world.stored[id]), *order.endings(world.stored[id])]
    return [*found, *_auto_refunds(world, booked)]


# -- orders ------------------------------------------------------------------------------------------


class _Order:
    """One order as it is told: what each of its causes did, and what remains."""

    def __init__(self, world: World, made: OrderPlan, rows: Mapping[RowId, Item]) -> None:
        assert made.order.placed is not None
        self.world, self.made, self.rows, self.placed = world, made, rows, made.order.placed
        self.causes = {cause.key: cause for cause in made.causes}

    def refunds(self, stood: Any) -> Iterable[Told]:
        """Refunds and lost disputes whose money counts otherwise than it did before (R10: those without any are not told)."""
        before = self._counted_before(stood)
        for key in sorted({*before, *(key for key, each in self.causes.items() if _pays(each))}):
            cause, counted = self.causes.get(key), before.get(key)
            newly_closes = (
                cause is not None and cause.closing and counted is None and stood.status != "fully_refunded"
            )
            if (0 if cause is None else cause.value) != (counted or 0) or newly_closes:
                yield self._told(REFUNDED, key, cause, self._corrected(counted))

    def endings(self, stood: Any) -> Iterable[Told]:
        """A void or cancellation that closes the order now, or one that does not any more."""
        status, off = self.made.status, stood.status in OFF
        closing = next((c for c in self.made.causes if c.closing and c.kind in ("void", "cancel")), None)
        if closing is not None and status != stood.status:
            yield self._told(CANCELLED, closing.key, closing, {"status": stood.status} if off else None)
        elif closing is None and off:
            yield self._told(CANCELLED, f"order:{self.made.order.order_id}", None, {"status": stood.status})

    def _counted_before(self, stood: Any) -> dict[str, int]:
        """Cause -> the money that it was booked with."""
        decided = self.world.refunds_decided
        mine = {id: decided[id]["value_minor"] for id in self.made.order.refunds if id in decided}
        found = {f"refund:{id}": value for id, value in mine.items() if value}
        if self.made.order.disputes and stood.facts and stood.status != NOTHING_TOLD:
            known = order_facts(self.made.order.order_id, stood.facts).disputes
            lost = [f"dispute:{each.id}" for each in known.values() if each.status == "lost"]
            found |= {key: self.causes[key].value if key in self.causes else 0 for key in lost}
        return found

    def _corrected(self, counted: int | None) -> dict[str, Any] | None:
        return {"amount": from_minor(counted, self.placed.currency)} if counted else None

    def _told(self, event: str, key: str, cause: Cause | None, corrects: Mapping[str, Any] | None) -> Told:
        """`cause` None: it counts no more (R38)."""
        order = self.made.order
        money = {"amount": from_minor(0 if cause is None else cause.value, self.placed.currency)}
        data = {
            "order": self._words(),
            "cause": key,
            **({**_told_id(key), **money} if event == REFUNDED else {}),
            "currency": self.placed.currency,
            "closes": cause is not None and cause.closing,
            "reason": self.world.why.get(key),
            "reasons": list(cause.money.reasons) if cause is not None and cause.money is not None else [],
            **self._took(key),
            "remaining": remaining(self.made, self.world.programs),
            **({} if corrects is None else {"corrects": dict(corrects)}),
        }
        at = self.world.now if cause is None else cause.at
        return Told(event=event, subject=f"order:{order.order_id}", at=at, data=data)

    def _words(self) -> dict[str, Any]:
        order, currency = self.made.order, self.placed.currency
        return {
            "id": str(order.order_id),
            "name": self.placed.name,
            "status": self.made.status,
            "customer_id": _id(order.customer_id),
            "total": from_minor(self.placed.total_minor, currency),
            "refunded": from_minor(self.made.refunded, currency),
        }

    def _took(self, key: str) -> dict[str, Any]:
        """What this cause took of each award and gave back of each redemption; all of it, not what changed just now."""
        program = self.world.programs[-1]
        claims = [claim for claim in self.made.claims if claim.cause.key == key]
        returns = [back for back in self.made.returns if back.cause.key == key]
        return {
            "reversed": points(sum(claim.amount for claim in claims), program),
            "returned": points(sum(back.amount for back in returns), program),
            "awards": [
                self._claimed(key, claim.award.target, claim.amount, claim.reduces_pending)
                for claim in claims
            ],
            "redemptions": [
                self._given(key, back.redemption.id, customer, amount)
                for back in returns
                for customer, amount in back.split
            ],
        }

    def _claimed(self, key: str, target: str, amount: int, pending: bool) -> dict[str, Any]:
        program, order = self.world.programs[-1], self.made.order
        row = self._row(order.customer_id, key, award_target(order.order_id, target))
        debited = 0 if pending or row is None else row["moved"]
        return {
            "rule": target,
            "reversed": points(amount, program),
            "pending": pending,
            "debited": points(debited, program),
            "shortfall": points(0 if row is None else row["short"], program),
        }

    def _given(self, key: str, redemption_id: int, customer: int, amount: int) -> dict[str, Any]:
        program = self.world.programs[-1]
        row = self._row(customer, key, redemption_target(redemption_id))
        return {
            "id": str(redemption_id),
            "customer_id": str(customer),
            "returned": points(amount, program),
            "credited": points(0 if row is None else row["moved"], program),
            "expired": points(0 if row is None else row["expired"], program),
            "restitution": self.made.restitution[redemption_id],
        }

    def _row(self, customer: int | None, key: str, target: str) -> Item | None:
        return self.rows.get((customer, key, target))


def _told_id(key: str) -> dict[str, str | None]:
    """`refund:5` -> the refund's own id; a lost dispute has one of another kind."""
    kind, _, id = key.partition(":")
    return {f"{name}_id": id if kind == name else None for name in ("refund", "dispute")}


def _pays(cause: Cause) -> bool:
    return cause.kind in ("refund", "dispute") and (cause.value > 0 or cause.closing)


# -- redemptions without an order --------------------------------------------------------------------


def _auto_refunds(world: World, booked: Booked) -> Iterable[Told]:
    """A redemption whose order never came, given back whole (R30): one message, whoever gave to it."""
    given: dict[int, list[Item]] = {}
    for _, row in booked.rows:
        if row is not None and row["kind"] == RETURN and row["cause"].startswith(f"{AUTO_REFUNDED}:"):
            given.setdefault(row["redemption_id"], []).append(row)
    if not given or world.moving is not None:
        return
    program = world.programs[-1]
    for redemption in sql.fetch(world.connection, OWNERS, shop_id=world.shop.id, ids=sorted(given)):
        rows = given[redemption.id]
        data = {
            "redemption_id": str(redemption.id),
            "customer_id": str(redemption.customer_id),
            "reward": redemption.reward_id,
            "status": AUTO_REFUNDED,
            "returned": points(sum(row["amount"] for row in rows), program),
            "members": [
                {
                    "customer_id": str(row["customer_id"]),
                    "returned": points(row["amount"], program),
                    "credited": points(row["moved"], program),
                    "expired": points(row["expired"], program),
                }
                for row in sorted(rows, key=lambda row: int(row["customer_id"]))
            ],
        }
        subject = f"customer:{redemption.customer_id}"
        yield Told(event=AUTO_REFUNDED, subject=subject, at=rows[0]["at"], data=data)


# -- entries of the activity -------------------------------------------------------------------------


def _of_entry(world: World, entry: Mapping[str, Any]) -> Told | None:
    """The message that an activity entry is worth. None for what is not told, moved nothing, or came with a merge."""
    kind, detail = entry["kind"], entry["detail"]
    shaped = SHAPES.get(kind)
    if shaped is None or "moved_from" in detail:
        return None
    if kind in (POINTS_REVERSED, REDEMPTION_RETURNED) and not _moved(detail):
        return None
    about = {
        "order_id": _id(entry["order_id"]),
        "customer_id": _id(entry["customer_id"]),
        "cause": entry["cause"],
    }
    data = {**about, **shaped(world, entry)}
    subject = (
        f"customer:{entry['customer_id']}" if entry["order_id"] is None else f"order:{entry['order_id']}"
    )
    return Told(event=kind, subject=subject, at=entry["at"], data=data)


def _moved(detail: Mapping[str, Any]) -> bool:
    """Whether something was taken or given, now or before this correction."""
    return bool(detail["amount"] or detail.get("corrects", {}).get("amount"))


def _reversed(world: World, entry: Mapping[str, Any]) -> dict[str, Any]:
    detail, program = entry["detail"], world.programs[-1]
    pending = detail["pending"]
    return {
        "rule": str(entry["target"]).split(":", 2)[-1],
        "reversed": points(detail["amount"], program),
        "pending": pending,
        "debited": points(0 if pending else detail["moved"], program),
        "shortfall": points(detail["shortfall"], program),
        "ratio": detail.get("ratio"),
        **_common(world, detail, {"amount": "reversed", "moved": "debited", "short": "shortfall"}),
    }


def _returned(world: World, entry: Mapping[str, Any]) -> dict[str, Any]:
    detail, program = entry["detail"], world.programs[-1]
    return {
        "redemption_id": str(entry["target"]).partition(":")[2],
        "returned": points(detail["amount"], program),
        "credited": points(detail["moved"], program),
        "expired": points(detail["expired"], program),
        "ratio": detail.get("ratio"),
        "reason": world.why.get(entry["cause"]),
        **_common(world, detail, {"amount": "returned", "moved": "credited", "expired": "expired"}),
    }


def _common(world: World, detail: Mapping[str, Any], named: Mapping[str, str]) -> dict[str, Any]:
    """Why, by which policy, the balance around it, and what was told before where this corrects it."""
    program = world.programs[-1]
    found: dict[str, Any] = {"reasons": detail["reasons"], "policy_version": detail["policy_version"]}
    for name in ("balance_before", "balance_after"):
        found[name] = points(detail[name], program) if name in detail else None
    if "corrects" in detail:
        found["corrects"] = {told: points(detail["corrects"][name], program) for name, told in named.items()}
    return found


def _reactivated(world: World, entry: Mapping[str, Any]) -> dict[str, Any]:
    ends_at = entry["detail"].get("ends_at")
    return {
        "redemption_id": str(entry["target"]).partition(":")[2],
        "ends_at": ends_at and time_text(datetime.fromisoformat(ends_at)),
    }


def _tier(world: World, entry: Mapping[str, Any]) -> dict[str, Any]:
    return {"before": entry["detail"]["before"], "after": entry["detail"]["after"]}


SHAPES = {
    POINTS_REVERSED: _reversed,
    REDEMPTION_RETURNED: _returned,
    CODE_REACTIVATED: _reactivated,
    TIER_CHANGED: _tier,
}


# -- shared ------------------------------------------------------------------------------------------


def _id(id: int | None) -> str | None:
    return None if id is None else str(id)


def plain(value: Any) -> Any:
    """As JSON has it. Credits are numbers with their places, as in the API: a float only for the encoder."""
    if isinstance(value, Decimal):
        number = float(value)
        assert Decimal(repr(number)) == value, value
        return number
    if isinstance(value, Mapping):
        return {name: plain(part) for name, part in value.items()}
    return [plain(part) for part in value] if isinstance(value, list | tuple) else value


def body(row: Any, domain: str) -> str:
    """A kept message as it is sent: the same text at every try, so that its digest is the same."""
    return dumps(
        {
            "type": row.event,
            "timestamp": time_text(row.at),
            "shop": domain,
            "subject": row.subject,
            "sequence": row.sequence,
            "data": row.data,
        }
    )
