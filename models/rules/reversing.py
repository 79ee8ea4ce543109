"""Reversing points by redemption and customer (R35): which condition raises which of the documented errors.

Pure: how things stand in, a refusal or none out. The numbers are Capillary's, each in its meaning (docs/reverse.md).
"""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal

from models.errors import Later, Refused

GENERAL = 804
INSUFFICIENT = 817
NOT_ALLOWED = 818
CONDITIONS = 827
PRECISION = 878
WRONG_PROGRAM = 885
BROKEN_OFF = 886
INVALID = 887
CONFIGURATION = 888
NOT_NOW = 896
UNAVAILABLE = 898
SETUP = 899
NOT_ELIGIBLE = 901
DUPLICATE = 902
OVER_LIMIT = 903
LOCKED = 904

TEMPORARY = frozenset(
    {BROKEN_OFF, NOT_NOW, UNAVAILABLE}
)  # the same call succeeds once what they name is over
FOR_PEOPLE = frozenset({CONFIGURATION, SETUP})  # until somebody sets something right
MEANINGS: Mapping[int, str] = {
    GENERAL: "general failure: the shop has no such redemption, or what no other number says",
    INSUFFICIENT: "more is asked for than is left to reverse",
    NOT_ALLOWED: "the program does not permit reversals, or not of this kind of reward (gift cards)",
    CONDITIONS: "reversal is enabled, but its conditions are not met: the value came back already by a refund or as a"
    " code, or its own code is unused and can still be used",
    PRECISION: "more than 3 decimals, or more than the program's unit has",
    WRONG_PROGRAM: "`programId` is not this shop's program",
    BROKEN_OFF: "the database broke off (deadlock, timeout, restart); the same call may be sent again",
    INVALID: "validation: something is missing, unknown, of the wrong type or impossible; named in `details`",
    CONFIGURATION: "this installation is not configured for it: no key of TOKEN_ENCRYPTION_KEYS, or none that fits",
    NOT_NOW: "not processable at the moment: somebody else holds the wallet, the code is just being changed, or too many"
    " calls are at work",
    UNAVAILABLE: "temporarily unavailable: Shopify or the database does not answer",
    SETUP: "the shop's setup: its merchant has to open the app again, or to grant read_customers",
    NOT_ELIGIBLE: "the customer is not known, or has no part in this redemption",
    DUPLICATE: "a duplicate: all of it is reversed already, or the same amount was, and no Idempotency-Key says that"
    " this is another one",
    OVER_LIMIT: "the customer has had as many reversals as the program allows in its days",
    LOCKED: "reversals are locked for this customer for a while",
}
DECIMALS_MAX = 3
GIVEN_OUT = frozenset({"gift_card"})  # R16
USABLE = frozenset({"wanted", "active"})  # a code that we made: unused, the customer can still use it


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """How a redemption and its customers stand, and what is asked, in the smallest unit.

    enabled, limit, limit_days: the program's own       is_part: the customer owns the redemption, or gave to it
    locked_until: of the customer or the owner      left: what has not come back      by_hand: some of it came back by hand
    asked: None for all that is left      left_shown: `left` in the program's unit      repeated: the same amount was reversed before, and no key says that this is
    another      recent: reversals of the owner that stand, within limit_days
    code_state, used: of its code      came_back: its code came back and is its value      changing: its code is being
    changed at Shopify this moment
    """

    enabled: bool
    kind: str
    is_part: bool
    left: int
    left_shown: int | Decimal
    by_hand: bool
    asked: int | None
    repeated: bool
    recent: int
    limit: int | None
    limit_days: int
    locked_until: datetime | None
    code_state: str
    used: bool
    came_back: bool
    changing: bool


class Passing(Later):
    """One of TEMPORARY: the same call may be sent again, and succeeds once what it names is over."""

    def __init__(self, number: int, message: str) -> None:
        super().__init__(message)
        self.code = str(number)


def refused(number: int, message: str, **details: object) -> Refused | Passing:
    """The error of this number."""
    assert number in MEANINGS, number
    return Passing(number, message) if number in TEMPORARY else Refused(str(number), message, **details)


def check(now: Standing) -> None:
    """Raises the error of the first condition that fits (R35); who may not ask is told nothing else."""
    if not now.is_part:
        raise refused(NOT_ELIGIBLE, "the customer has no part in this redemption")
    if not now.enabled:
        raise refused(NOT_ALLOWED, "the program does not permit reversals (`points_reversal.enabled`)")
    if now.kind in GIVEN_OUT:
        raise refused(
            NOT_ALLOWED, "a gift card is value that was given out: it is not reversed", kind=now.kind
        )
    if now.locked_until is not None:
        until = now.locked_until.isoformat()
        raise refused(LOCKED, f"reversals are locked for this customer until {until}", until=until)
    if now.left == 0:
        raise _nothing_left(now)
    _check_code(now)
    _check_amount(now)


def _nothing_left(now: Standing) -> Exception:
    if now.by_hand:
        return refused(DUPLICATE, "all of this redemption is reversed already")
    return refused(
        CONDITIONS, "all of this redemption came back already, by a refund or because no order used it"
    )


def _check_code(now: Standing) -> None:
    if now.changing:
        raise refused(NOT_NOW, "its discount code is just being changed at Shopify; try again in a minute")
    if now.came_back:
        raise refused(
            CONDITIONS, "its value came back as a code; cancel the redemption, which takes the code away"
        )
    if now.code_state in USABLE and not now.used:
        words = (
            "its code is unused and can still be used; cancel the redemption, which takes the code away first"
        )
        raise refused(CONDITIONS, words)


def _check_amount(now: Standing) -> None:
    if now.repeated:
        words = "the same amount of this redemption was reversed before; send an Idempotency-Key to make this another one"
        raise refused(DUPLICATE, words)
    if now.asked is not None and now.asked > now.left:
        words = f"only {now.left_shown} of this redemption is left to reverse"
        raise refused(INSUFFICIENT, words, left=now.left_shown)
    if now.limit is not None and now.recent >= now.limit:
        words = f"the program allows {now.limit} reversals of one customer in {now.limit_days} days"
        raise refused(OVER_LIMIT, words, limit=now.limit, days=now.limit_days)


def units(value: int | Decimal, scale: int) -> int:
    """A positive number of the program's unit in its smallest (10**-scale). Raises Refused 878. Exact: nothing is rounded."""
    exact = Decimal(value).normalize()
    exponent = exact.as_tuple().exponent
    assert isinstance(exponent, int), "finite numbers only"
    allowed = min(scale, DECIMALS_MAX)
    if -exponent > allowed:
        words = f"has more than {DECIMALS_MAX} decimals" if -exponent > DECIMALS_MAX else _unit_words(scale)
        raise refused(PRECISION, f"pointsToBeReversed {words}", field="pointsToBeReversed")
    return int(exact.scaleb(scale))


def _unit_words(scale: int) -> str:
    return (
        "must be whole: the program counts points"
        if scale == 0
        else f"has more than the unit's {scale} decimals"
    )
