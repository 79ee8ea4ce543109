"""The discount codes of the pretend store: what the Admin API makes of them, and what its checkout does with them.

The checkout counts truly and at once. The Admin API shows usage late (`lag`), as Shopify's asyncUsageCount does.
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Iterator
from dataclasses import dataclass, field, replace
from datetime import datetime, timedelta
from decimal import Decimal
from itertools import count

from app.sandbox.records import Discount

FIRST_ID = 1_700_000_000_001


class CodeRefused(Exception):
    """The checkout does not take this code. The message says why."""


@dataclass(frozen=True, slots=True)
class Use:
    customer_id: int | None
    order_id: int
    at: datetime


@dataclass(slots=True)
class RedeemCode:
    """One code of a discount. The usage limit counts for each code by itself."""

    id: int
    code: str
    uses: list[Use] = field(default_factory=list)

    def shown_uses(self, until: datetime) -> int:
        return sum(use.at <= until for use in self.uses)


@dataclass(slots=True)
class CodeDiscount:
    """One discount with its codes. `customers`: whose it is; None, everybody's. `percent` or `amount_minor` off.

    kind: the GraphQL type; the product makes DiscountCodeBasic, merchants make others.
    """

    id: int
    title: str
    codes: list[RedeemCode]
    starts_at: datetime
    created_at: datetime
    updated_at: datetime
    kind: str = "DiscountCodeBasic"
    ends_at: datetime | None = None
    usage_limit: int | None = None
    once_per_customer: bool = False
    customers: frozenset[int] | None = None
    amount_minor: int = 0
    on_each_item: bool = False
    percent: Decimal = Decimal(0)
    shipping_most_minor: int | None = None  # free shipping only up to this price
    minimum_minor: int | None = None
    minimum_quantity: int | None = None
    combines: tuple[bool, bool, bool] = (False, False, False)  # with order, product, shipping discounts
    one_time: bool = True
    subscription: bool = False
    tags: tuple[str, ...] = ()

    def status(self, now: datetime) -> str:
        """Shopify derives it from the window alone; a code that is used up is still ACTIVE."""
        if self.ends_at is not None and self.ends_at <= now:
            return "EXPIRED"
        return "SCHEDULED" if self.starts_at > now else "ACTIVE"

    def uses(self) -> list[Use]:
        return [use for code in self.codes for use in code.uses]

    def used_by(self, customer_id: int) -> bool:
        """With any of its codes: once per customer is for the whole discount."""
        return any(use.customer_id == customer_id for use in self.uses())


class Codes:
    """Every discount with codes of one store.

    strict: the checkout refuses codes that no discount has; otherwise it takes them at their word.
    lag: how much later the Admin API shows a use. clock: the time of the checkout and of the Admin API.
    """

    def __init__(self, clock: Callable[[], datetime]) -> None:
        self.clock = clock
        self.strict = False
        self.lag = timedelta(0)
        self.discounts: dict[int, CodeDiscount] = {}
        self._ids = count(FIRST_ID, 32_768)

    def new_id(self) -> int:
        return next(self._ids)

    def now(self) -> datetime:
        return self.clock().replace(microsecond=0)

    def find(self, code: str) -> tuple[CodeDiscount, RedeemCode] | None:
        """Codes are the same in either case."""
        wanted = code.casefold()
        for discount in self.discounts.values():
            for redeem in discount.codes:
                if redeem.code.casefold() == wanted:
                    return discount, redeem
        return None

    def create(self, title: str, codes: Iterable[str], **more: object) -> CodeDiscount:
        """A discount as a merchant makes it in the admin; `more` are fields of CodeDiscount."""
        now = self.now()
        made = CodeDiscount(
            id=self.new_id(),
            title=title,
            codes=[RedeemCode(self.new_id(), code) for code in codes],
            starts_at=now,
            created_at=now,
            updated_at=now,
        )
        self.discounts[made.id] = replace(made, **more)  # type: ignore[arg-type]
        return self.discounts[made.id]

    def add_codes(self, discount: CodeDiscount, codes: Iterable[str]) -> None:
        """More codes for a discount: from then on it is a bulk discount."""
        discount.codes.extend(RedeemCode(self.new_id(), code) for code in codes)

    def shown_uses(self, codes: Iterable[RedeemCode]) -> int:
        until = self.clock() - self.lag
        return sum(code.shown_uses(until) for code in codes)

    # -- the checkout --------------------------------------------------------------------------------------------

    def applied(self, asked: Discount, customer_id: int | None, *, worth_minor: int, units: int) -> Discount:
        """What the code takes off this basket. Raises CodeRefused; uses nothing yet."""
        if asked.code is None:
            return asked
        found = self.find(asked.code)
        if found is None:
            if self.strict:
                raise CodeRefused(f"{asked.code}: there is no such code")
            return asked
        why = next(self._objections(*found, customer_id, worth_minor, units), None)
        if why is not None:
            raise CodeRefused(f"{asked.code}: {why}")
        discount = found[0]
        return replace(
            asked,
            amount_minor=0 if discount.percent else discount.amount_minor,
            percent=int(discount.percent * 100),
            free_shipping=discount.kind == "DiscountCodeFreeShipping",
        )

    def _objections(
        self,
        discount: CodeDiscount,
        redeem: RedeemCode,
        customer_id: int | None,
        worth_minor: int,
        units: int,
    ) -> Iterator[str]:
        status = discount.status(self.clock())
        if status != "ACTIVE":
            yield f"it is {status.lower()}"
        if discount.usage_limit is not None and len(redeem.uses) >= discount.usage_limit:
            yield f"it was used {len(redeem.uses)} times, of {discount.usage_limit}"
        if discount.customers is not None and customer_id not in discount.customers:
            yield "it is another customer's"
        if discount.once_per_customer and customer_id is not None and discount.used_by(customer_id):
            yield "this customer has used it already"
        if worth_minor < (discount.minimum_minor or 0) or units < (discount.minimum_quantity or 0):
            yield "the basket is too small"

    def use(self, codes: Iterable[str], customer_id: int | None, order_id: int) -> None:
        """Counts the order's codes. Refunds and cancellations never give a use back."""
        for code in codes:
            found = self.find(code)
            if found is not None:
                found[1].uses.append(Use(customer_id, order_id, self.clock()))
