"""What shoppers and merchants do at the pretend store. Each act changes the records and sends the webhooks that
Shopify would send for it, every payload a snapshot at its own `updated_at` (S6: one act, up to four webhooks)."""

from __future__ import annotations

import uuid
from collections.abc import Callable, Iterable, Mapping, Sequence
from dataclasses import dataclass
from datetime import datetime, timedelta
from random import Random
from typing import Any

from app.sandbox.codes import Codes
from app.sandbox.payloads import body_of, edit_payload, order_payload, refund_payload, transaction_payload
from app.sandbox.records import (
    Customer,
    Discount,
    Edit,
    Item,
    Order,
    Presentment,
    Product,
    Refund,
    RefundLine,
    Transaction,
)
from models.rules.money import split_largest_remainder

SMALLEST_STEP = timedelta(seconds=1)  # Shopify's timestamps know no less
API_VERSION = "2026-07"


@dataclass(frozen=True, slots=True)
class Delivery:
    """One webhook to deliver. `event_id` is shared by all that one act sends; `webhook_id` is this delivery's own.

    order_id: 0 when it is about something else.
    """

    topic: str
    body: bytes
    triggered_at: datetime
    event_id: str
    webhook_id: str
    order_id: int


@dataclass(frozen=True, slots=True)
class Act:
    """One thing a merchant or shopper did, at one moment."""

    order: Order
    at: datetime
    event_id: str


class Store:
    """Orders by id, and everything that can be done to them. Same seed and clock, same bytes.

    clock: the store's time; whoever runs the store may set another. What is sent waits for `take_outbox`.
    codes: the discounts that the Admin API made; the checkout keeps to them.
    """

    def __init__(self, *, domain: str, currency: str, dice: Random, clock: Callable[[], datetime]) -> None:
        self.domain = domain
        self.currency = currency
        self.orders: dict[int, Order] = {}
        self.customers: dict[int, Customer] = {}
        self.products: dict[int, Product] = {}
        self.clock = clock
        self.codes = Codes(lambda: self.clock())
        self._outbox: list[Delivery] = []
        self._dice = dice
        self._next_id = dice.randrange(5_000_000_000_000, 6_000_000_000_000)
        self._next_number = 1001

    # -- what every act needs ------------------------------------------------------------------------------------

    def new_id(self) -> int:
        self._next_id += 32_768 + self._dice.randrange(1000)
        return self._next_id

    def new_uuid(self) -> str:
        return str(uuid.UUID(int=self._dice.getrandbits(128), version=4))

    def take_outbox(self) -> list[Delivery]:
        """The webhooks since the last call, oldest first."""
        taken, self._outbox = sorted(self._outbox, key=lambda delivery: delivery.triggered_at), []
        return taken

    def _begin(self, order: Order) -> Act:
        now = self.clock().replace(microsecond=0)
        order.updated_at = max(now, order.updated_at + SMALLEST_STEP)
        return Act(order=order, at=order.updated_at, event_id=self.new_uuid())

    def _send(self, act: Act, topic: str, payload: Mapping[str, Any]) -> None:
        delivery = Delivery(
            topic=topic,
            body=body_of(payload),
            triggered_at=act.at,
            event_id=act.event_id,
            webhook_id=self.new_uuid(),
            order_id=act.order.id,
        )
        self._outbox.append(delivery)

    def _send_order(self, act: Act, *topics: str) -> None:
        for topic in topics:
            self._send(act, topic, order_payload(act.order))

    def _send_transactions(self, act: Act, transactions: Iterable[Transaction]) -> None:
        for transaction in transactions:
            self._send(act, "order_transactions/create", transaction_payload(act.order, transaction))

    def _transact(
        self, act: Act, kind: str, amount_minor: int, *, status: str = "success", gateway: str
    ) -> Transaction:
        parent = next(
            (t.id for t in act.order.transactions if t.kind in ("sale", "capture", "authorization")), None
        )
        return Transaction(
            id=self.new_id(),
            order_id=act.order.id,
            kind=kind,
            status=status,
            amount_minor=amount_minor,
            at=act.at,
            gateway=gateway,
            parent_id=parent,
        )

    def tell(self, topic: str, payload: Mapping[str, Any]) -> None:
        """A webhook about something else than an order: an uninstallation, a merge, a request to erase."""
        delivery = Delivery(
            topic=topic,
            body=body_of(payload),
            triggered_at=self.clock(),
            event_id=self.new_uuid(),
            webhook_id=self.new_uuid(),
            order_id=0,
        )
        self._outbox.append(delivery)

    # -- the acts ------------------------------------------------------------------------------------------------

    def place(
        self,
        *,
        customer: Customer | None,
        basket: Sequence[tuple[Product, int]],
        discounts: Sequence[Discount] = (),
        shipping_minor: int = 0,
        tax_basis_points: int = 0,
        taxes_included: bool = False,
        presentment: Presentment,
        test: bool = False,
        scenario: str = "",
        big_id: bool = False,
    ) -> Order:
        """A new, unpaid order. `big_id` gives it an id above 2^53, which a float could not hold (S1).
        Raises CodeRefused, and places nothing, for a code that this customer cannot use now on this basket."""
        now = self.clock().replace(microsecond=0)
        order = Order(
            id=self.new_id() + (2**60 if big_id else 0),
            number=self._next_number,
            customer=customer,
            items=[
                Item(self.new_id(), product, units, tax_basis_points, taxes_included)
                for product, units in basket
            ],
            discounts=self._checked(discounts, customer, basket),
            shipping_line_id=self.new_id(),
            shipping_minor=shipping_minor,
            currency=self.currency,
            presentment=presentment,
            taxes_included=taxes_included,
            test=test,
            placed_at=now,
            updated_at=now - SMALLEST_STEP,
            scenario=scenario,
        )
        self._next_number += 1
        self._accept(order)
        return order

    def _accept(self, order: Order) -> None:
        _allocate(order)
        if any(discount.free_shipping for discount in order.discounts):
            order.shipping_minor, order.shipping_off_minor = 0, order.shipping_minor
        self.orders[order.id] = order
        self.codes.use(order.codes, order.customer.id if order.customer else None, order.id)
        self._send_order(self._begin(order), "orders/create")

    def _checked(
        self, discounts: Sequence[Discount], customer: Customer | None, basket: Sequence[tuple[Product, int]]
    ) -> list[Discount]:
        worth = sum(product.price_minor * units for product, units in basket)
        count = sum(units for _, units in basket)
        buyer = customer.id if customer else None
        return [self.codes.applied(d, buyer, worth_minor=worth, units=count) for d in discounts]

    def authorize(self, order: Order) -> None:
        act = self._begin(order)
        transaction = self._transact(act, "authorization", order.total_minor, gateway="bogus")
        order.transactions.append(transaction)
        self._send_transactions(act, [transaction])
        self._send_order(act, "orders/updated")

    def pay(self, order: Order) -> None:
        """All that is still owed, at once."""
        act = self._begin(order)
        transaction = self._transact(act, "sale", order.outstanding_minor, gateway="bogus")
        order.transactions.append(transaction)
        self._send_transactions(act, [transaction])
        self._send_order(act, "orders/paid", "orders/updated")

    def refund(
        self,
        order: Order,
        *,
        units: Sequence[tuple[Item, int]] = (),
        shipping_minor: int = 0,
        amount_minor: int | None = None,
        tenders: Sequence[str] = ("bogus",),
        status: str = "success",
        worthless: bool = False,
        held_back: bool = False,
        note: str | None = None,
    ) -> Refund:
        """Money back. `amount_minor` is what is paid, None for what the units and the shipping are worth.

        tenders: the gateways that pay it, in equal parts; none at all moves no money (S3).
        worthless: the units are listed with subtotal 0 although money goes back (S4).
        held_back: pending money shown as a positive adjustment, as Shopify sometimes does (S2).
        """
        act = self._begin(order)
        refund = self._refund(
            act, units=units, shipping_minor=shipping_minor, worthless=worthless, restock="return", note=note
        )
        worth = refund.identity_minor
        paid = worth if amount_minor is None else amount_minor
        self._settle_refund(act, refund, paid_minor=paid, tenders=tenders, status=status)
        adjustment = worth if held_back else worth - paid
        if tenders and adjustment:
            refund.adjustment_id, refund.adjustment_minor = self.new_id(), adjustment
        self._send(act, "refunds/create", refund_payload(order, refund))
        if status == "success":
            self._send_transactions(act, refund.transactions)
        self._send_order(act, "orders/updated")
        return refund

    def _refund(
        self,
        act: Act,
        *,
        units: Sequence[tuple[Item, int]],
        shipping_minor: int,
        worthless: bool,
        restock: str,
        note: str | None,
    ) -> Refund:
        refund = Refund(
            id=self.new_id(),
            order_id=act.order.id,
            at=act.at,
            note=note,
            lines=[
                self._take_back(item, count, "no_restock" if worthless else restock, worthless)
                for item, count in units
            ],
            shipping_minor=shipping_minor,
            adjustment_id=None,
            adjustment_minor=0,
            transactions=[],
        )
        act.order.refunds.append(refund)
        return refund

    def _take_back(self, item: Item, units: int, restock_type: str, worthless: bool) -> RefundLine:
        assert 0 < units <= item.current_quantity, (units, item)
        before = item.returned + item.removed
        paid = item.part(item.paid_minor, before=before, units=units)
        tax = item.part(item.tax_minor, before=before, units=units)
        item.returned += units
        if worthless:
            return RefundLine(self.new_id(), item, units, 0, 0, restock_type)
        return RefundLine(self.new_id(), item, units, paid - tax, tax, restock_type)

    def _settle_refund(
        self, act: Act, refund: Refund, *, paid_minor: int, tenders: Sequence[str], status: str
    ) -> None:
        for index, gateway in enumerate(tenders):
            part = paid_minor * (index + 1) // len(tenders) - paid_minor * index // len(tenders)
            transaction = self._transact(act, "refund", part, status=status, gateway=gateway)
            transaction.refund_id = refund.id
            refund.transactions.append(transaction)

    def settle(self, order: Order, refund: Refund, *, status: str) -> None:
        """Pending money of a refund arrives or fails. There is no refunds/update (S3)."""
        act = self._begin(order)
        for transaction in refund.transactions:
            transaction.status = status
        self._send_transactions(act, refund.transactions)
        self._send_order(act, "orders/updated")

    def cancel(self, order: Order, *, with_refund: bool, reason: str = "customer") -> Refund | None:
        """Cancels. An unpaid order gets a refund without money, an authorization is voided (S7); a paid order's
        money goes back only `with_refund`, and without it no refund record is made."""
        act = self._begin(order)
        order.cancelled_at, order.cancel_reason = act.at, reason
        transactions = self._void_open_authorization(act)
        refund = None
        if with_refund or not order.captured_minor:
            refund = self._refund(
                act,
                units=[(item, item.current_quantity) for item in order.items if item.current_quantity],
                shipping_minor=order.shipping_minor - order.refunded_shipping_minor
                if order.captured_minor
                else 0,
                worthless=False,
                restock="cancel",
                note="Order canceled",
            )
            if order.captured_minor:
                self._pay_back_the_rest(act, refund)
            transactions += refund.transactions
            self._send(act, "refunds/create", refund_payload(order, refund))
        self._send_transactions(act, transactions)
        self._send_order(act, "orders/cancelled", "orders/updated")
        return refund

    def _pay_back_the_rest(self, act: Act, refund: Refund) -> None:
        rest = act.order.captured_minor - act.order.refunded_minor
        adjustment = refund.identity_minor - rest
        if adjustment:
            refund.adjustment_id, refund.adjustment_minor = self.new_id(), adjustment
        self._settle_refund(act, refund, paid_minor=rest, tenders=("bogus",), status="success")

    def _void_open_authorization(self, act: Act) -> list[Transaction]:
        if act.order.financial_status != "authorized":
            return []
        void = self._transact(act, "void", 0, gateway="bogus")
        act.order.transactions.append(void)
        return [void]

    def void(self, order: Order) -> None:
        """The authorization is given up, the order stays open and owed (S7)."""
        act = self._begin(order)
        self._send_transactions(act, self._void_open_authorization(act))
        self._send_order(act, "orders/updated")

    def edit(
        self,
        order: Order,
        *,
        add: Sequence[tuple[Product, int]] = (),
        remove: Sequence[tuple[Item, int]] = (),
    ) -> list[Item]:
        """A committed order edit (S9): lines are added, or units of lines removed. Returns the added lines."""
        act = self._begin(order)
        like = order.items[0]
        added = [
            Item(
                self.new_id(), product, units, like.tax_basis_points, like.taxes_included, added_by_edit=True
            )
            for product, units in add
        ]
        order.items.extend(added)
        for item, units in remove:
            assert 0 < units <= item.current_quantity, (units, item)
            item.removed += units
        edit = Edit(
            id=self.new_id(),
            order_id=order.id,
            at=act.at,
            additions=tuple((item.id, item.quantity) for item in added),
            removals=tuple((item.id, units) for item, units in remove),
        )
        order.edits.append(edit)
        self._send(act, "orders/edited", edit_payload(edit))
        self._send_order(act, "orders/updated")
        return added


def _allocate(order: Order) -> None:
    """Spreads each discount over the lines by what they are still worth, automatic ones and codes in turn."""
    for index, discount in enumerate(order.discounts):
        worth = [(str(item.id), item.net_minor) for item in order.items]
        total = sum(weight for _, weight in worth)
        off = total * discount.percent // 100 if discount.percent else min(discount.amount_minor, total)
        parts = split_largest_remainder(amount=off, weights=worth)
        for item in order.items:
            if parts[str(item.id)]:
                item.allocations[index] = parts[str(item.id)]
