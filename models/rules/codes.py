"""Discount codes: how they are named, what a discount at Shopify can do, and how a used code comes back (R22, R23, S11).

Pure: the state of a discount as it was read, and what we know of its redemption, in; one decision with absolute values
out. A decision carried out twice leaves what it left once.
"""

from __future__ import annotations

import hashlib
import hmac
from dataclasses import dataclass
from datetime import datetime, timedelta
from decimal import Decimal

ALPHABET = "0123456789ABCDEFGHJKMNPQRSTVWXYZ"  # without I, L, O and U, which are read as others
CODE_CHARACTERS = 16  # 80 bits: nobody guesses one
PREFIX_CHARACTERS = 4
TAG = "unwind"
LEAST_TIME = timedelta(days=1)  # that a code is given once more; with less nobody could use it

BASIC = "DiscountCodeBasic"
FREE_SHIPPING = "DiscountCodeFreeShipping"
UPDATABLE = (BASIC, FREE_SHIPPING)

AMOUNT = "amount"
PERCENTAGE = "percentage"
SHIPPING = "free_shipping"

# Why there is no code, or none that can come back.
GIFT_CARD_REWARD = "GIFT_CARD_REWARD"
STORE_CREDIT_REWARD = "STORE_CREDIT_REWARD"
NO_DISCOUNT_REWARD = "NO_DISCOUNT_REWARD"
NO_VALUE = "NO_VALUE"
DELETED = "DELETED"
NOT_STARTED = "NOT_STARTED"
USED_ELSEWHERE = "USED_ELSEWHERE"
ENDED_BEFORE_USE = "ENDED_BEFORE_USE"
CANNOT_BE_COPIED = "CANNOT_BE_COPIED"
CODE_TAKEN = "CODE_TAKEN"
NOT_CONNECTED = "NOT_CONNECTED"
IN_WORDS = {
    GIFT_CARD_REWARD: "a gift card is no discount (R16)",
    STORE_CREDIT_REWARD: "store credit is no discount (S8)",
    NO_DISCOUNT_REWARD: "no discount of the whole order stands for this reward",
    NO_VALUE: "its value makes no discount",
    DELETED: "Shopify has no discount with this code",
    NOT_STARTED: "its discount begins later",
    USED_ELSEWHERE: "Shopify counts a use on an order that we do not know",
    ENDED_BEFORE_USE: "its discount was ended before the code was used",
    CANNOT_BE_COPIED: "its discount is limited in a way that no new one can be given",
    CODE_TAKEN: "another discount has this code",
    NOT_CONNECTED: "the shop gave no access to Shopify",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Benefit:
    """What a discount takes off: `value` in shop currency, or a part of one (0.1 is 10 %), as a decimal text."""

    kind: str
    value: str = ""
    per_item: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class Terms:
    """What a discount gives and asks for; enough to make another like it."""

    benefit: Benefit
    minimum_subtotal: str | None = None
    minimum_quantity: str | None = None
    combines_with: tuple[bool, bool, bool] = (False, False, False)  # order, product, shipping discounts
    shipping_up_to: str | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class DiscountState:
    """A discount as Shopify told of it just now.

    usage_count: counted late, so it may be too low      customers: who may use it, None for everybody
    terms: None when no new discount could be given the same ones      tags: how we know our own
    """

    id: int
    kind: str
    starts_at: datetime
    ends_at: datetime | None = None
    usage_limit: int | None = None
    usage_count: int = 0
    once_per_customer: bool = False
    codes: int = 1
    customers: frozenset[int] | None = None
    terms: Terms | None = None
    tags: frozenset[str] = frozenset()

    def ended(self, now: datetime) -> bool:
        return self.ends_at is not None and self.ends_at <= now

    def has_room(self, uses: int) -> bool:
        return self.usage_limit is None or self.usage_limit > uses


@dataclass(frozen=True, slots=True, kw_only=True)
class Known:
    """What our record says of the code that is to come back.

    uses: the orders that carry it      used_at: when the order was placed whose use comes back
    ends_at: the discount's end as it was before, where we have seen one      reward: what a new discount would give
    """

    uses: int
    customer_id: int
    used_at: datetime
    ends_at: datetime | None = None
    reward: Benefit | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class AlreadyUsable:
    """The customer can use the code as it stands."""


@dataclass(frozen=True, slots=True, kw_only=True)
class SetUsageLimit:
    """One use more than we know of, as an absolute number, and an end that leaves the time there was."""

    usage_limit: int
    ends_at: datetime | None
    add_customer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class PutBackEnd:
    """Uses are left; only its time is over, or its customer not among those who may use it."""

    ends_at: datetime | None
    add_customer: bool = False


@dataclass(frozen=True, slots=True, kw_only=True)
class FreshDiscount:
    """A new discount for this customer alone, usable once, under a derived code."""

    terms: Terms
    ends_at: datetime | None


@dataclass(frozen=True, slots=True, kw_only=True)
class Impossible:
    reason: str

    @property
    def words(self) -> str:
        return IN_WORDS.get(self.reason, self.reason)


Decision = AlreadyUsable | SetUsageLimit | PutBackEnd | FreshDiscount | Impossible


def derived_code(
    key: bytes, *, shop_id: int, redemption_id: int, n: int = 0, attempt: int = 0, prefix: str = ""
) -> str:
    """The code of a redemption: always the same, and nobody without the key can tell it.

    n: 0 for the first, counted up for each that comes back as another      attempt: 0 unless the code was taken
    """
    if len(prefix) > PREFIX_CHARACTERS:
        raise ValueError(f"a prefix has at most {PREFIX_CHARACTERS} characters")
    said = f"code:{shop_id}:{redemption_id}:{n}:{attempt}".encode()
    digest = hmac.digest(key, said, hashlib.sha256)
    return prefix + "".join(ALPHABET[byte % len(ALPHABET)] for byte in digest[:CODE_CHARACTERS])


def mark(redemption_id: int, n: int) -> str:
    """The tag by which a discount is known as ours, for this redemption and this code of it."""
    return f"{TAG}-{redemption_id}-{n}"


def is_ours(found: DiscountState, *, redemption_id: int, n: int, discount_id: int | None) -> bool:
    """Whether we made the discount for this code of this redemption: by its tag, or by the id on record."""
    return mark(redemption_id, n) in found.tags or found.id == discount_id


def benefit_of(kind: str, value: str) -> Benefit | Impossible:
    """What a discount for a reward of the program takes off, or why none is made."""
    if kind == "gift_card":
        return Impossible(reason=GIFT_CARD_REWARD)
    if kind == "store_credit":
        return Impossible(reason=STORE_CREDIT_REWARD)
    if kind == "free_shipping":
        return Benefit(kind=SHIPPING)
    if kind == "amount_discount":
        return Benefit(kind=AMOUNT, value=value) if Decimal(value) > 0 else Impossible(reason=NO_VALUE)
    if kind == "percentage_discount":
        part = Decimal(value) / 100
        return Benefit(kind=PERCENTAGE, value=str(part)) if 0 < part <= 1 else Impossible(reason=NO_VALUE)
    return Impossible(reason=NO_DISCOUNT_REWARD)


def decide(found: DiscountState | None, known: Known, now: datetime) -> Decision:
    """How a code becomes usable once more (R22, S11). `found` is None: Shopify has no discount with this code."""
    if found is None:
        return Impossible(reason=DELETED)
    if found.starts_at > now:
        return Impossible(reason=NOT_STARTED)
    if found.once_per_customer:
        return _fresh(found, known, now)
    if found.codes > 1 or found.kind not in UPDATABLE:
        return _of_a_pool(found, known, now)
    if found.usage_limit is not None and found.usage_count > known.uses:
        return Impossible(reason=USED_ELSEWHERE)
    return _of_its_own(found, known, now)


def _of_its_own(found: DiscountState, known: Known, now: datetime) -> Decision:
    """A discount with one code and of a kind that can be changed: the code itself comes back."""
    stranger = not _may_use(found, known)
    if found.has_room(known.uses) and not found.ended(now) and not stranger:
        return AlreadyUsable()
    end = _end(found, known, now)
    if isinstance(end, Impossible):
        return end
    if found.has_room(known.uses):
        return PutBackEnd(ends_at=end, add_customer=stranger)
    return SetUsageLimit(usage_limit=known.uses + 1, ends_at=end, add_customer=stranger)


def _of_a_pool(found: DiscountState, known: Known, now: datetime) -> Decision:
    """A discount that we cannot change without changing other codes, or into another kind. Its limit is per code."""
    uses = known.uses if found.codes > 1 else max(known.uses, found.usage_count)
    if found.has_room(uses) and not found.ended(now) and _may_use(found, known):
        return AlreadyUsable()
    return _fresh(found, known, now)


def _fresh(found: DiscountState, known: Known, now: datetime) -> Decision:
    """A new one with the same terms; where those cannot be read, with the reward's own value."""
    terms = found.terms
    if terms is None and found.kind not in UPDATABLE and known.reward is not None:
        terms = Terms(benefit=known.reward)
    if terms is None:
        return Impossible(reason=CANNOT_BE_COPIED)
    end = _end(found, known, now)
    return end if isinstance(end, Impossible) else FreshDiscount(terms=terms, ends_at=end)


def _end(found: DiscountState, known: Known, now: datetime) -> datetime | Impossible | None:
    """The end that leaves the customer what he had: the one there was, or as much time as was left when he used it."""
    if found.ends_at is None or found.ends_at > now:
        return found.ends_at
    original = found.ends_at if known.ends_at is None else max(known.ends_at, found.ends_at)
    if original > now:
        return original
    left = original - known.used_at
    return now + max(left, LEAST_TIME) if left > timedelta(0) else Impossible(reason=ENDED_BEFORE_USE)


def _may_use(found: DiscountState, known: Known) -> bool:
    return found.customers is None or known.customer_id in found.customers


# -- taking an unused code away -----------------------------------------------------------------------


@dataclass(frozen=True, slots=True, kw_only=True)
class Gone:
    """Nobody can use the code: there is no such discount, or its time is over."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Delete:
    """We made the discount, for this redemption alone."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Deactivate:
    """The merchant's discount, and for this redemption alone: it ends now, and stays for him to see."""

    id: int


@dataclass(frozen=True, slots=True, kw_only=True)
class Used:
    """The code was used: its value is on an order."""


@dataclass(frozen=True, slots=True, kw_only=True)
class Shared:
    """Others use the discount too: it is left alone."""


Removal = Gone | Delete | Deactivate | Used | Shared


def decide_removal(
    found: DiscountState | None,
    *,
    uses: int,
    given_back: int = 0,
    customer_id: int,
    ours: bool,
    now: datetime,
) -> Removal:
    """What becomes of a code that nobody should use any more (R30, R34).

    uses: the orders that carry it and whose use was not given back      given_back: those whose use was (R22)
    """
    if uses:
        return Used()
    if found is None or (given_back and _is_used_up(found, given_back)):
        return Gone()
    alone = found.codes == 1 and (
        found.usage_limit == given_back + 1 or found.customers == frozenset([customer_id])
    )
    if not ours and not alone:
        return Shared()
    if found.usage_count > given_back:
        return Used()
    if ours:
        return Delete(id=found.id)
    return Gone() if found.ended(now) else Deactivate(id=found.id)


def _is_used_up(found: DiscountState, given_back: int) -> bool:
    """Whether the customer's uses of a code that came back as another leave none of this one (S11)."""
    return found.once_per_customer or not found.has_room(given_back)
