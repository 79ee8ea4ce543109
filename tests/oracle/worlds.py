"""Small shops made up at random: facts as Shopify would tell them, and what the program and the merchant did besides.

One simulator, two drivers: `Seeded(7)` for plain loops, `worlds()` / `orders()` for Hypothesis (which then shrinks).
Money of a story adds up (totals = lines + shipping + tip; current quantities follow refunds and edits), its times may tie.
"""

from __future__ import annotations

import copy
import random
from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import UTC, datetime, timedelta
from typing import Any, Protocol, TypeVar

from hypothesis import strategies as st

from models.rules.facts import (
    Adjustment,
    Dispute,
    Edit,
    Fact,
    Line,
    Refund,
    ReturnedLine,
    Snapshot,
    Transaction,
)
from tests.oracle.claims import Redemption, Seen
from tests.oracle.store import Grant, Shop

T = TypeVar("T")
START = datetime(2026, 1, 5, 9, tzinfo=UTC)
GAPS = [
    timedelta(0),
    timedelta(seconds=1),
    timedelta(hours=1),
    timedelta(days=1),
    timedelta(days=4),
    timedelta(days=30),
    timedelta(days=200),
]
LAGS = [
    timedelta(0),
    timedelta(0),
    timedelta(seconds=2),
    timedelta(hours=3),
    timedelta(days=2),
    timedelta(days=40),
]
DEFAULTS: dict[str, Any] = {
    "unit": {"kind": "points", "scale": 0},
    "earning": [
        {
            "id": "place-order",
            "name": "Place an order",
            "per_currency_unit": "1",
            "fixed": 0,
            "mask": "total",
            "on_partial": "proportional",
        }
    ],
    "waiting_days": 0,
    "expiry_days": None,
    "reverse_earned": {
        "refunded": True,
        "partially_refunded": True,
        "voided": True,
        "cancelled": True,
        "rounding": "per_refund",
    },
    "return_redeemed": {"enabled": True, "expired_grace_days": 0},
    "below_zero": "forgive",
    "cancelled_paid": "wait",
    "include_test_orders": False,
    "tiers": {
        "metric": "spend",
        "window": "lifetime",
        "downgrade": "immediate",
        "grace_days": 0,
        "levels": [{"id": "gold", "name": "Gold", "threshold": "500.00"}],
    },
    "rewards": [
        {
            "id": "5-off",
            "name": "$5 off",
            "kind": "amount_discount",
            "cost": 500,
            "value": "5.00",
            "reactivate_code": False,
        }
    ],
    "time_zone": "UTC",
}


class Source(Protocol):
    def integer(self, low: int, high: int) -> int: ...
    def pick(self, options: Sequence[T]) -> T: ...


class Seeded:
    """Plain pseudo-randomness: the same seed, the same world."""

    def __init__(self, seed: int) -> None:
        self._random = random.Random(seed)

    def integer(self, low: int, high: int) -> int:
        return self._random.randint(low, high)

    def pick(self, options: Sequence[T]) -> T:
        return options[self._random.randrange(len(options))]


class Drawn:
    """The same through Hypothesis' `draw`; simpler choices come first, so that shrinking simplifies."""

    def __init__(self, draw: Any) -> None:
        self._draw = draw

    def integer(self, low: int, high: int) -> int:
        return int(self._draw(st.integers(low, high)))

    def pick(self, options: Sequence[T]) -> T:
        return options[self.integer(0, len(options) - 1)]


def often(source: Source, percent: int) -> bool:
    """True in so many of a hundred; shrinks to False."""
    return source.integer(0, 99) >= 100 - percent


@dataclass(frozen=True)
class Delivery:
    """What one webhook carried: the facts of one body, and when it came."""

    received_at: datetime
    topic: str
    facts: tuple[Fact, ...]


@dataclass
class World:
    program: list[tuple[datetime | None, dict[str, Any]]]
    deliveries: list[Delivery] = field(default_factory=list)
    grants: list[Grant] = field(default_factory=list)
    redemptions: list[Redemption] = field(default_factory=list)
    pins: dict[int, str] = field(default_factory=dict)
    now: datetime = START

    @property
    def seen(self) -> list[Seen]:
        return [Seen(d.received_at, fact) for d in self.deliveries for fact in d.facts]

    def shop(self) -> Shop:
        return Shop(self.program, self.seen, self.grants, self.redemptions, self.pins)


def settings(**changes: Any) -> dict[str, Any]:
    """The program's defaults with returns on and some keys replaced; dicts are merged one level deep."""
    merged = copy.deepcopy(DEFAULTS)
    for key, value in changes.items():
        merged[key] = {**merged[key], **value} if isinstance(value, dict) else value
    return merged


def made_up_settings(source: Source, *, policies: bool = True) -> dict[str, Any]:
    """Unit, scale and zone do not vary between versions of one world; `policies=False` leaves the defaults."""
    if not policies:
        return settings()
    earning = [
        {
            **DEFAULTS["earning"][0],
            "per_currency_unit": source.pick(["1", "5", "0.3", "1.25"]),
            "fixed": source.pick([0, 0, 50]),
            "mask": source.pick(["total", "subtotal"]),
            "on_partial": source.pick(["proportional", "proportional", "only_on_full"]),
        }
    ]
    if often(source, 30):
        earning.append(
            {
                **DEFAULTS["earning"][0],
                "id": "bonus",
                "per_currency_unit": source.pick(["0", "2"]),
                "fixed": 100,
                "on_partial": source.pick(["proportional", "only_on_full"]),
            }
        )
    levels = [
        {"id": "silver", "name": "Silver", "threshold": "50.00"},
        {"id": "gold", "name": "Gold", "threshold": "200.00"},
    ]
    return settings(
        earning=earning,
        waiting_days=source.pick([0, 0, 3, 14]),
        expiry_days=source.pick([None, None, 10, 90]),
        reverse_earned={
            "rounding": source.pick(["per_refund", "cumulative"]),
            **{s: not often(source, 8) for s in ("refunded", "partially_refunded", "voided", "cancelled")},
        },
        return_redeemed={"enabled": not often(source, 25), "expired_grace_days": source.pick([0, 0, 5])},
        below_zero=source.pick(["forgive", "forgive", "carry_debt"]),
        cancelled_paid=source.pick(["wait", "close"]),
        include_test_orders=often(source, 10),
        tiers={
            "window": source.pick(["lifetime", "calendar_year", "rolling_year"]),
            "downgrade": source.pick(["immediate", "grace", "period_end", "never"]),
            "grace_days": 7,
            "levels": levels,
        },
        rewards=[{**DEFAULTS["rewards"][0], "reactivate_code": often(source, 30)}],
    )


@dataclass
class _Item:
    id: int
    quantity: int
    current: int
    net: int
    tax: int
    shares: dict[str, int]
    returned: int = 0


class Story:
    """One order's life. Each method does one thing that a merchant or buyer can do, and tells it."""

    def __init__(
        self,
        source: Source,
        world: World,
        *,
        order_id: int,
        at: datetime,
        customer_id: int | None,
        codes: Sequence[str],
        currency: str = "USD",
        lag: bool = True,
    ) -> None:
        self.source, self.world, self.id, self.now, self.customer_id = (
            source,
            world,
            order_id,
            at,
            customer_id,
        )
        self.placed_at, self.currency, self.lag = at, currency, lag
        self.last_update = at - timedelta(seconds=1)
        self.taxes_included = often(source, 30)
        self.test = often(source, 4)
        self.codes = tuple(sorted(c.casefold() for c in codes))
        self.next_id = order_id * 1000
        self.items = [self._item(self.codes) for _ in range(source.integer(1, 3))]
        self.shipping = source.pick([0, 500, 799])
        self.shipping_back = 0
        self.total = sum(map(self._worth, self.items)) + self.shipping + source.pick([0, 0, 100])
        foreign = often(source, 20)
        self.presentment = "EUR" if foreign else currency
        self.presentment_total = self.total * source.integer(80, 140) // 100 if foreign else self.total
        self.cancelled_at: datetime | None = None
        self.status, self.outstanding = "pending", self.total
        self.captured = self.settled = 0
        self.unsettled: list[tuple[Transaction, int]] = []

    # -- what can happen -----------------------------------------------------------------------------

    def live(self) -> None:
        """From placing to the last word."""
        self.snapshot("orders/create")
        path = self.source.pick(
            ["paid"] * 12 + ["cancel", "void", "void_cancel", "expire", "nothing", "paid_after_edit"]
        )
        if path == "cancel":
            self.cancel()
        elif path in ("void", "void_cancel", "expire"):
            self._authorize_in_vain(path)
        elif path.startswith("paid"):
            if path == "paid_after_edit":
                self.edit_add()
            self.pay()
            for _ in range(self.source.integer(0, 4)):
                self.pause()
                getattr(self, self.source.pick(PLOTS))()
                if often(self.source, 70):
                    self.snapshot("orders/updated")
        while self.unsettled and often(self.source, 70):
            self.settle_pending()
        self.snapshot("orders/updated")

    def pause(self) -> None:
        self.now += self.source.pick(GAPS)

    def pay(self) -> None:
        self.pause()
        self.status, self.captured, self.outstanding = "paid", self._current_total(), 0
        self._transaction("sale", "success", self.captured)
        self.snapshot("orders/paid")

    def cancel(self) -> None:
        """Of an unpaid order: a refund record without money comes with it."""
        self.pause()
        rest = [(i, i.current) for i in self.items if i.current]
        self.cancelled_at, self.outstanding = self.now, 0
        self.refund(lines=rest, money=[])
        self.snapshot("orders/cancelled")

    def cancel_paid(self) -> None:
        if self.cancelled_at is None:
            self.cancelled_at = self.now
            if often(self.source, 30):
                self.refund_rest()
            self.snapshot("orders/cancelled")

    def refund_rest(self) -> None:
        left = self.captured - self.settled
        lines = [(i, i.current) for i in self.items if i.current]
        if left > 0:
            self.refund(
                lines=lines,
                shipping=self.shipping - self.shipping_back,
                money=[(left, "success")],
                balance=True,
            )

    def refund_lines(self) -> None:
        chosen = self._some_units()
        if chosen:
            worth = self._units_worth(chosen)
            half = worth // 2
            self.refund(
                lines=chosen,
                money=[(half, "success"), (worth - half, "success")]
                if often(self.source, 20)
                else [(worth, "success")],
            )

    def refund_with_fee(self) -> None:
        chosen = self._some_units()
        worth = self._units_worth(chosen)
        fee = min(worth, self.source.pick([100, 333]))
        if chosen and worth - fee > 0:
            self.refund(
                lines=chosen,
                adjustments=[Adjustment(amount_minor=fee, tax_minor=0, shipping=False)],
                money=[(worth - fee, "success")],
            )

    def refund_amount(self) -> None:
        amount = self.source.pick([1, 50, 1000, 3333])
        self.refund(
            adjustments=[Adjustment(amount_minor=-amount, tax_minor=0, shipping=False)],
            money=[(amount, "success")],
        )

    def refund_too_much(self) -> None:
        amount = max(0, self.captured - self.settled) + self.source.pick([1, 2500])
        self.refund(
            adjustments=[Adjustment(amount_minor=-amount, tax_minor=0, shipping=False)],
            money=[(amount, "success")],
        )

    def refund_shipping(self) -> None:
        left = self.shipping - self.shipping_back
        if left and often(self.source, 50):
            self.refund(shipping=left, money=[(left, "success")])
        elif left:
            self.shipping_back += left
            self.refund(
                adjustments=[Adjustment(amount_minor=-left, tax_minor=0, shipping=True)],
                money=[(left, "success")],
            )

    def refund_without_money(self) -> None:
        chosen = self._some_units()
        if chosen:
            self.refund(lines=chosen, money=[])

    def refund_that_differs(self) -> None:
        chosen = self._some_units()
        worth = self._units_worth(chosen)
        if chosen and worth > 2:
            self.refund(
                lines=chosen,
                money=[(worth - self.source.integer(0, 2), "success")]
                if often(self.source, 50)
                else [(worth // 2 + 1, "success")],
            )

    def refund_pending(self) -> None:
        chosen = self._some_units()
        worth = self._units_worth(chosen)
        if chosen and worth > 0:
            self.refund(lines=chosen, money=[(worth, "pending")])
            if often(self.source, 60):
                self.pause()
                self.settle_pending()

    def refund_that_fails(self) -> None:
        chosen = self._some_units()
        if chosen:
            self.refund(
                lines=chosen, money=[(self._units_worth(chosen), self.source.pick(["failure", "error"]))]
            )

    def settle_pending(self) -> None:
        if not self.unsettled:
            return
        transaction, amount = self.unsettled.pop(0)
        status = self.source.pick(["success", "failure"])
        told = Transaction(
            id=transaction.id,
            order_id=self.id,
            kind="refund",
            status=status,
            amount_minor=transaction.amount_minor,
            currency=transaction.currency,
            shop_amount_minor=None,
            at=transaction.at,
            refund_id=None,
        )
        self.tell("order_transactions/create", told)
        if status == "success":
            self._settle(amount)

    def edit_add(self) -> None:
        item = self._item(())
        self.items.append(item)
        self.outstanding += self._worth(item) if self.status != "pending" else 0
        self.tell(
            "orders/edited",
            Edit(
                id=self._new_id(),
                order_id=self.id,
                committed_at=self.now,
                additions=((item.id, item.quantity),),
                removals=(),
            ),
        )
        self.snapshot("orders/updated")

    def edit_remove(self) -> None:
        """With or without the refund record that Shopify may make of it."""
        chosen = self._some_units()[:1]
        for item, units in chosen:
            item.current -= units
            self.tell(
                "orders/edited",
                Edit(
                    id=self._new_id(),
                    order_id=self.id,
                    committed_at=self.now,
                    additions=(),
                    removals=((item.id, units),),
                ),
            )
            self.snapshot("orders/updated")
            how = self.source.pick(["alone", "alone", "record", "money"])
            if how != "alone":
                item.current += units
                self.refund(
                    lines=[(item, units)],
                    money=[] if how == "record" else [(self._units_worth([(item, units)]), "success")],
                )

    def dispute(self) -> None:
        amount = self.source.pick([self.captured, self.captured // 2])
        status = self.source.pick(["lost", "lost", "won", "needs_response"])
        self.tell(
            "disputes/update",
            Dispute(
                id=self._new_id(),
                order_id=self.id,
                status=status,
                amount_minor=amount,
                currency=self.currency,
                at=self.now,
            ),
        )

    # -- telling -------------------------------------------------------------------------------------

    def tell(self, topic: str, *facts: Fact) -> None:
        received = self.now + (self.source.pick(LAGS) if self.lag else timedelta(0))
        self.world.deliveries.append(Delivery(received, topic, facts))
        self.world.now = max(self.world.now, received)

    def snapshot(self, topic: str) -> None:
        """`updated_at` moves by a second at least: two snapshots of one order never tie."""
        self.now = max(self.now, self.last_update + timedelta(seconds=1))
        self.last_update = self.now
        lines = tuple(
            Line(
                id=i.id,
                quantity=i.quantity,
                current_quantity=i.current,
                net_minor=i.net,
                tax_minor=i.tax,
                code_discounts=tuple(sorted(i.shares.items())),
            )
            for i in self.items
        )
        tax = sum(i.tax for i in self.items) if self.taxes_included else 0
        self.tell(
            topic,
            Snapshot(
                order_id=self.id,
                name=f"#{self.id}",
                placed_at=self.placed_at,
                updated_at=self.now,
                currency=self.currency,
                presentment_currency=self.presentment,
                total_minor=self._current_total(),
                subtotal_minor=sum(i.net for i in self.items) - tax,
                presentment_total_minor=self.presentment_total,
                outstanding_minor=max(0, self.outstanding),
                financial_status=self.status,
                cancelled_at=self.cancelled_at,
                customer_id=self.customer_id,
                test=self.test,
                taxes_included=self.taxes_included,
                lines=lines,
                codes=self.codes,
            ),
        )

    def refund(
        self,
        *,
        lines: Sequence[tuple[_Item, int]] = (),
        shipping: int = 0,
        adjustments: Sequence[Adjustment] = (),
        money: Sequence[tuple[int, str]],
        balance: bool = False,
    ) -> None:
        """`balance`: an adjustment makes the record equal the money."""
        returned = []
        for item, units in lines:
            subtotal, tax = self._unit_parts(item, item.returned, units)
            returned.append(
                ReturnedLine(line_id=item.id, quantity=units, subtotal_minor=subtotal, tax_minor=tax)
            )
            item.returned += units
            item.current -= units
        self.shipping_back += shipping
        over = sum(r.subtotal_minor + r.tax_minor for r in returned) + shipping - sum(a for a, _ in money)
        if balance and over:
            adjustments = [*adjustments, Adjustment(amount_minor=over, tax_minor=0, shipping=False)]
        refund_id = self._new_id()
        transactions = [self._money_back(amount, status, refund_id) for amount, status in money]
        self.tell(
            "refunds/create",
            Refund(
                id=refund_id,
                order_id=self.id,
                created_at=self.now,
                lines=tuple(returned),
                shipping_minor=shipping,
                adjustments=tuple(adjustments),
                transaction_ids=tuple(sorted(t.id for t in transactions)),
            ),
            *transactions,
        )

    def _money_back(self, amount: int, status: str, refund_id: int) -> Transaction:
        foreign = self.presentment != self.currency
        shown = (
            (2 * amount * self.presentment_total + self.total) // (2 * self.total)
            if foreign and self.total
            else amount
        )
        shop = amount if foreign and often(self.source, 50) else None
        transaction = Transaction(
            id=self._new_id(),
            order_id=self.id,
            kind="refund",
            status=status,
            amount_minor=shown,
            currency=self.presentment,
            shop_amount_minor=shop,
            at=self.now,
            refund_id=refund_id,
        )
        if status == "pending":
            self.unsettled.append((transaction, amount))
        if status == "success":
            self._settle(amount)
        return transaction

    def _settle(self, amount: int) -> None:
        self.settled += amount
        if self.settled > 0:
            self.status = "refunded" if self.settled >= self.captured else "partially_refunded"

    def _transaction(self, kind: str, status: str, amount: int) -> None:
        self.tell(
            "order_transactions/create",
            Transaction(
                id=self._new_id(),
                order_id=self.id,
                kind=kind,
                status=status,
                amount_minor=amount,
                currency=self.currency,
                shop_amount_minor=None,
                at=self.now,
            ),
        )

    def _authorize_in_vain(self, path: str) -> None:
        self.pause()
        self.status = "authorized"
        self._transaction("authorization", "success", self.total)
        self.snapshot("orders/updated")
        self.pause()
        self.status = "expired" if path == "expire" else "voided"
        if path != "expire":
            self._transaction("void", "success", 0)
        if path == "void_cancel":
            self.cancelled_at, self.outstanding = self.now, 0
        elif often(self.source, 50):
            self.outstanding = 0
        self.snapshot("orders/cancelled" if self.cancelled_at else "orders/updated")

    # -- sums ----------------------------------------------------------------------------------------

    def _new_id(self) -> int:
        self.next_id += 1
        return self.next_id

    def _item(self, codes: Sequence[str]) -> _Item:
        quantity, price = self.source.integer(1, 4), self.source.pick([1, 333, 1000, 1999, 5000])
        gross = quantity * price
        shares: dict[str, int] = {}
        for code in codes:
            share = min(gross - sum(shares.values()), self.source.pick([0, 100, 250, 1234]))
            if share > 0:
                shares[code] = share
        net = gross - sum(shares.values())
        return _Item(
            self._new_id(),
            quantity,
            quantity,
            net,
            net * self.source.pick([0, 0, 7, 19]) // (119 if self.taxes_included else 100),
            shares,
        )

    def _worth(self, item: _Item) -> int:
        return item.net + (0 if self.taxes_included else item.tax)

    def _current_total(self) -> int:
        added = sum(self._worth(i) for i in self.items if i.id > self.id * 1000 + 100)
        return self.total + added

    def _unit_parts(self, item: _Item, before: int, units: int) -> tuple[int, int]:
        net = item.net - (item.tax if self.taxes_included else 0)
        return tuple(
            whole * (before + units) // item.quantity - whole * before // item.quantity
            for whole in (net, item.tax)
        )  # type: ignore[return-value]

    def _units_worth(self, chosen: Sequence[tuple[_Item, int]]) -> int:
        return sum(sum(self._unit_parts(item, item.returned, units)) for item, units in chosen)

    def _some_units(self) -> list[tuple[_Item, int]]:
        left = [i for i in self.items if i.current > 0]
        if not left:
            return []
        first = self.source.pick(left)
        chosen = [(first, self.source.integer(1, first.current))]
        others = [i for i in left if i is not first]
        if others and often(self.source, 30):
            chosen.append((others[0], others[0].current))
        return chosen


PLOTS = [
    "refund_lines",
    "refund_lines",
    "refund_amount",
    "refund_rest",
    "refund_rest",
    "refund_shipping",
    "refund_with_fee",
    "refund_without_money",
    "refund_that_differs",
    "refund_pending",
    "refund_pending",
    "refund_that_fails",
    "refund_too_much",
    "edit_add",
    "edit_remove",
    "cancel_paid",
    "dispute",
]


def make_world(
    source: Source,
    *,
    orders: int = 4,
    customers: int = 2,
    policies: bool = True,
    versions: int = 3,
    groups: bool = True,
    lag: bool = True,
    pins: bool = True,
) -> World:
    """A shop of up to so many orders. With `policies=False` and `versions=1` only the defaults (returns on)."""
    currency = source.pick(["USD", "USD", "USD", "JPY", "KWD"])
    world = World(program=[(None, made_up_settings(source, policies=policies))])
    for _ in range(source.integer(0, versions - 1)):
        world.program.append(
            (START + timedelta(days=source.integer(0, 90)), made_up_settings(source, policies=policies))
        )
    world.program = sorted(
        {at: (at, s) for at, s in world.program}.values(),
        key=lambda v: v[0] or datetime.min.replace(tzinfo=UTC),
    )
    people = [9_000_000_000 + n for n in range(1, customers + 1)]
    for n in range(source.integer(0, 3)):
        at = START + source.pick(GAPS) - timedelta(days=source.pick([0, 0, 2]))
        ends = at + timedelta(days=source.integer(1, 60)) if often(source, 50) else None
        late = at + source.pick(LAGS)
        world.grants.append(
            Grant(
                id=n + 1,
                customer_id=source.pick(people),
                amount=source.integer(1, 600),
                at=at,
                expires_at=ends,
                received_at=late,
            )
        )
        world.now = max(world.now, late)
    at = START
    for n in range(1, source.integer(1, orders) + 1):
        at += source.pick(GAPS)
        customer = None if often(source, 6) else source.pick(people)
        codes = [
            _redeem(source, world, at, customer or people[0], people if groups else people[:1])
            for _ in range(source.pick([0, 0, 1, 1, 2]))
        ]
        Story(
            source,
            world,
            order_id=5_000_000 + n,
            at=at,
            customer_id=customer,
            codes=codes,
            currency=currency,
            lag=lag,
        ).live()
    if pins and often(source, 10):
        world.pins[source.pick(people)] = "silver"
    world.now += source.pick([timedelta(seconds=1), timedelta(days=3), timedelta(days=120)])
    return world


def _redeem(source: Source, world: World, at: datetime, customer: int, people: Sequence[int]) -> str:
    """Value spent on a reward a little before the order; the code that it gave."""
    number = len(world.redemptions) + 1
    members = {customer: source.integer(1, 300)}
    others = [p for p in people if p != customer]
    if others and often(source, 30):
        members[source.pick(others)] = source.integer(1, 300)
    code = f"Rew-{number}"
    for member, needed in members.items():
        if not often(source, 30):
            ends = at + timedelta(days=source.integer(1, 60)) if often(source, 40) else None
            world.grants.append(
                Grant(
                    id=len(world.grants) + 1,
                    customer_id=member,
                    amount=needed,
                    at=at - timedelta(days=2),
                    expires_at=ends,
                    received_at=at - timedelta(days=2),
                )
            )
    world.redemptions.append(
        {
            "id": number,
            "reward_id": "5-off",
            "kind": "gift_card" if often(source, 8) else "amount_discount",
            "amount": sum(members.values()),
            "code": code,
            "members": members,
            "at": at - timedelta(minutes=source.pick([1, 1, 1440])),
            "reactivations": source.pick([0, 0, 0, 3]),
            "reactivation_failed": often(source, 10),
            "used_elsewhere": often(source, 10),
            "reactivated": False,
        }
    )
    return code


# -- what merchants do by hand ---------------------------------------------------------------------------

WISHES = [
    "reverse",
    "reverse",
    "refund_amount",
    "refund_lines",
    "refund_rest",
    "cancel",
    "undo",
    "undo",
    "undo",
]
DELAYS = [
    *[timedelta(0)] * 4,
    timedelta(seconds=1),
    timedelta(hours=2),
    timedelta(days=3),
    timedelta(days=70),
]


@dataclass(frozen=True)
class Wish:
    """What a merchant wants at a moment. Of what, is found out then: `pick` chooses among what there is to choose,
    `part` in a hundred says how much of it (100: all)."""

    at: datetime
    kind: str
    pick: int
    part: int


@dataclass
class Arrival:
    """What reached us when: a delivery, a grant, a redemption, or a merchant's wish. Facts may come long after their own
    time, and more than once; a wish is at the time of its call."""

    at: datetime
    step: Any


def made_up_wishes(source: Source, world: World, *, most: int = 4) -> list[Wish]:
    """Around the times of what happened. No two are at the same time; some are at the very time of a fact."""
    moments = [d.received_at for d in world.deliveries]
    wishes: dict[datetime, Wish] = {}
    for _ in range(source.integer(0, most)):
        at = source.pick(moments) + source.pick(GAPS)
        if often(source, 80):
            at += timedelta(milliseconds=len(wishes) + 1)
        wishes.setdefault(
            at, Wish(at, source.pick(WISHES), source.integer(0, 11), source.pick([100, 100, 50, 33, 1]))
        )
    return list(wishes.values())


def timetable(source: Source, world: World, wishes: Sequence[Wish]) -> list[Arrival]:
    """Everything in the order in which it reaches us: late, some of it twice. Moves the world's end to after the last."""
    told = [Arrival(d.received_at + source.pick(DELAYS), d) for d in world.deliveries]
    told += [Arrival(d.received_at + source.pick(DELAYS), d) for d in world.deliveries if often(source, 20)]
    told += [Arrival((g.received_at or g.at) + source.pick(DELAYS), g) for g in world.grants]
    told += [Arrival(r["at"] + source.pick(DELAYS), r) for r in world.redemptions]
    told += [Arrival(w.at, w) for w in wishes]
    told.sort(key=lambda arrival: arrival.at)
    world.now = max(world.now, told[-1].at)
    return told


@st.composite
def merchants_worlds(draw: Any, /, **limits: Any) -> tuple[World, list[Arrival]]:
    """Hypothesis: a world with merchants in it, and when everything of it arrives."""
    source = Drawn(draw)
    world = make_world(source, **limits)
    return world, timetable(source, world, made_up_wishes(source, world))


@st.composite
def worlds(draw: Any, /, **limits: Any) -> World:
    """Hypothesis: `make_world` with the given limits."""
    return make_world(Drawn(draw), **limits)


@st.composite
def orders(draw: Any, /, **limits: Any) -> World:
    """Hypothesis: a world of one order and one customer."""
    return make_world(Drawn(draw), **{"orders": 1, "customers": 1, **limits})
