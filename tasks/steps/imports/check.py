"""What the books have against rows: said before under the same reference, a code that is tracked, an order's award that
was imported, a tier kept by hand. Changes nothing."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from dataclasses import dataclass, field
from typing import Any

from sqlalchemy import Connection, text

from models.rules.money import scaled_text
from tasks.steps import sql
from tasks.steps.foreign import of_another_shop
from tasks.steps.imports.lines import Mistake
from tasks.steps.imports.rows import Row
from tasks.steps.load import ShopRow
from tasks.steps.survivors import survivors

BOOKED = text(
    "select r.reference, r.digest, r.line, r.booked_at, i.name from imported_rows r"
    " join imports i on i.shop_id = r.shop_id and i.id = r.import_id"
    " where r.shop_id = :shop_id and r.reference = any(:references)"
)
CODES = text(
    "select code_key, redemption_id from redemption_codes where shop_id = :shop_id and code_key = any(:codes)"
)
PINNED = text(
    "select customer_id, pinned_tier from wallets where shop_id = :shop_id and customer_id = any(:ids)"
    " and pinned_tier is not null"
)
AWARDED = text(
    "select order_id, facts -> 'imported' as imported from orders"
    " where shop_id = :shop_id and order_id = any(:ids) and jsonb_exists(facts, 'imported')"
)


EARNED = text(
    "select order_id, sum(amount - reversed)::bigint as units from awards"
    " where shop_id = :shop_id and order_id = any(:ids) group by order_id having sum(amount - reversed) > 0"
)


@dataclass(frozen=True, slots=True)
class Replaced:
    """Awards of this program that imported ones take the place of: of how many orders, what they earned, what stands."""

    orders: int = 0
    before: int = 0
    after: int = 0

    def __add__(self, other: Replaced) -> Replaced:
        return Replaced(self.orders + other.orders, self.before + other.before, self.after + other.after)


@dataclass(slots=True)
class Standing:
    """Rows that may be booked, how many stand in the books already, and what the books have against the others.

    notes: what is no mistake and should be looked at     replaced: what they say in figures
    """

    new: list[Row] = field(default_factory=list)
    stood: int = 0
    mistakes: list[Mistake] = field(default_factory=list)
    notes: list[Mistake] = field(default_factory=list)
    replaced: Replaced = field(default_factory=Replaced)


def against_the_books(
    connection: Connection, shop: ShopRow, rows: Sequence[Row], *, scale: int = 0
) -> Standing:
    """Sort the rows of a batch; `scale` is that of amounts in notes. Safe at any time; under the import's lock nobody books between this and what follows."""
    standing = Standing()
    references = [row.reference for row in rows]
    known = sql.fetch(connection, BOOKED, shop_id=shop.id, references=references)
    booked = {row.reference: row for row in known}
    unknown = []
    for row in rows:
        before = booked.get(row.reference)
        if before is None:
            unknown.append(row)
        elif bytes(before.digest) == row.digest:
            standing.stood += 1
        else:
            said = f"was imported with another content on {before.booked_at:%Y-%m-%d} (line {before.line} of {before.name})"
            standing.mistakes.append(Mistake(row.line, "reference", said))
    if not unknown:
        return standing
    against = _Books(connection, shop, unknown)
    for row in unknown:
        mistake = against.says(row)
        if mistake is None:
            standing.new.append(row)
        else:
            standing.mistakes.append(mistake)
    _replacing(standing, against.earned, scale)
    return standing


def _replacing(standing: Standing, earned: Mapping[int, int], scale: int) -> None:
    """What orders earned here already, and will not have earned any more once their imported awards stand (D29)."""
    by_order: dict[int, list[Row]] = {}
    for row in standing.new:
        if row.record == "award" and row.order_id is not None and row.order_id in earned:
            by_order.setdefault(row.order_id, []).append(row)
    for order_id, rows in by_order.items():
        before, after = earned[order_id], sum(row.amount for row in rows)
        said = (
            f"order {order_id} has earned {scaled_text(before, scale)} here; {scaled_text(after, scale)} will stand instead"
            if before != after
            else f"order {order_id} has earned the same here; the imported award will stand instead"
        )
        standing.notes.append(Mistake(rows[0].line, "order_id", said))
        standing.replaced += Replaced(1, before, after)


class _Books:
    """What rows that are not booked yet would meet."""

    def __init__(self, connection: Connection, shop: ShopRow, rows: Sequence[Row]) -> None:
        key = {"shop_id": shop.id}
        of: Mapping[str, list[Row]] = {
            name: [row for row in rows if row.record == name] for name in ("award", "redemption", "tier")
        }
        self._now_one = survivors(connection, shop.id, [row.customer_id for row in rows])
        codes = [row.code.casefold() for row in of["redemption"]]
        self._codes = {r.code_key: r.redemption_id for r in sql.fetch(connection, CODES, **key, codes=codes)}
        pinned = sorted({self._now(row.customer_id) for row in of["tier"]})
        self._pins = {r.customer_id: r.pinned_tier for r in sql.fetch(connection, PINNED, **key, ids=pinned)}
        orders = [row.order_id for row in rows if row.order_id is not None]
        self._foreign = of_another_shop(connection, shop, orders)
        self._awards: dict[int, list[dict[str, Any]]] = {
            r.order_id: r.imported for r in sql.fetch(connection, AWARDED, **key, ids=orders)
        }
        ours = sorted({row.order_id for row in of["award"] if row.order_id is not None} - set(self._awards))
        found = sql.fetch(connection, EARNED, **key, ids=ours) if ours else ()
        self.earned = {r.order_id: r.units for r in found}  # by this program's own rules

    def _now(self, customer_id: int) -> int:
        return self._now_one.get(customer_id, customer_id)

    def says(self, row: Row) -> Mistake | None:
        if row.order_id in self._foreign:
            return Mistake(row.line, "order_id", "is an order of another store; is this the right --shop?")
        if row.record == "redemption" and row.code.casefold() in self._codes:
            number = self._codes[row.code.casefold()]
            return Mistake(row.line, "code", f"is tracked already, as that of redemption {number}")
        if row.record == "tier":
            kept = self._pins.get(self._now(row.customer_id), row.tier)
            said = f"the customer is kept at {kept} already; let that go first, or leave the row out"
            return Mistake(row.line, "tier", said) if kept != row.tier else None
        if row.record == "award":
            return self._of_award(row)
        return None

    def _of_award(self, row: Row) -> Mistake | None:
        assert row.order_id is not None
        for award in self._awards.get(row.order_id, ()):
            if award["rule"] == row.rule:
                said = "the order has an imported award by this rule already, under another reference"
                return Mistake(row.line, "rule", said)
            if self._now(award["customer_id"]) != self._now(row.customer_id):
                said = "an award of this order was imported for another customer"
                return Mistake(row.line, "customer_id", said)
        return None
