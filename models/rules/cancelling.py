"""Cancelling a redemption (R34): by what is known of its code, what happens, and what the merchant is told first.

Pure: how a redemption stands in, one verdict out. Whatever Shopify says of the code later comes back in as `refused`.
"""

from __future__ import annotations

from dataclasses import dataclass
from datetime import datetime

# How a redemption stands, for the merchant.
UNUSED = "unused"
RULE_GONE = "unused_rule_gone"
USED = "used"
UNTRACKED = "untracked"
REFUNDED = "already_refunded"
CHANGING = "code_being_changed"
STATES = (UNUSED, RULE_GONE, USED, UNTRACKED, REFUNDED, CHANGING)

# Why a cancellation is refused. Only those of ASKED_FIRST give way to `force`.
ALREADY_REFUNDED = "already_refunded"
SPENDING_RULE_GONE = "spending_rule_gone"
CODE_USED = "code_used"
CODE_SHARED = "code_shared"
NOT_CONNECTED = "not_connected"
CODE_IN_FLIGHT = "code_in_flight"
GIVEN_BACK_AS_CODE = "given_back_as_code"
ASKED_FIRST = frozenset({SPENDING_RULE_GONE, CODE_USED, CODE_SHARED, NOT_CONNECTED})
SHOPIFYS_WORD = frozenset({CODE_USED, CODE_SHARED})  # of a code: it stands until force overrules it

# What became of the code.
REMOVED = "removed"
UNCHANGED = "unchanged"
STAYS_USED = "stays_used"
NO_CODE = "untracked"
NOT_REACHABLE = "not_reachable"

GIVEN_OUT = {
    "gift_card": "a gift card",
    "store_credit": "store credit",
}  # value that no cancellation takes back
WARNINGS = {
    UNCHANGED: "the code was left as it is and may still be used; remove it at Shopify if nobody should",
    NOT_REACHABLE: "the code could not be taken away, for the shop gives us no access; remove the code yourself",
    NO_CODE: "no code is tracked for this reward: whether it was used, or will be, cannot be told",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Standing:
    """A redemption as it stands. code_state: as on its row

    left: of its value, what has not come back      used_on: the first order that carries its code and did not give it back
    rule_gone: the program in force has no such reward      connected: the shop's codes can be reached
    asked: its code is being taken away to cancel it      in_flight: its code may just be coming back for an order (R22)
    came_back: its code came back, so the code is its value now      refused: why the last try came to nothing
    """

    kind: str
    left: int
    code_state: str
    used_on: int | None = None
    rule_gone: bool = False
    connected: bool = True
    asked: bool = False
    in_flight: bool = False
    came_back: bool = False
    refused: str | None = None
    refunded_at: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Verdict:
    """What cancelling would do now.

    refusal: the error that it is met with; with `force`, only what is not in ASKED_FIRST
    removes: the code is taken away first, and the points come back with that      code: what becomes of it otherwise
    """

    state: str
    message: str
    refusal: str | None = None
    removes: bool = False
    code: str | None = None

    @property
    def needs_force(self) -> bool:
        return self.refusal in ASKED_FIRST

    def refuses(self, *, force: bool) -> bool:
        return self.refusal is not None and not (force and self.needs_force)


def verdict(now: Standing) -> Verdict:
    """The state of the code decides (R34); the first that fits."""
    if now.left == 0:
        return Verdict(state=REFUNDED, message=_refunded_words(now), refusal=ALREADY_REFUNDED)
    if now.asked:
        words = "its code is being taken away at Shopify; the points come back with that"
        return Verdict(state=CHANGING, message=words)
    if now.in_flight:
        words = "its code may just be coming back to the customer at Shopify; try again in a minute"
        return Verdict(state=CHANGING, message=words, refusal=CODE_IN_FLIGHT)
    if now.used_on is not None or now.kind in GIVEN_OUT or now.refused == CODE_USED:
        return Verdict(state=USED, message=_used_words(now), refusal=CODE_USED, code=STAYS_USED)
    if now.code_state == "none":
        words = "no code is tracked for this reward; the points come back, and whatever it stands for stays as it is"
        return Verdict(state=UNTRACKED, message=words, code=NO_CODE)
    return _unused(now)


def _unused(now: Standing) -> Verdict:
    """A code that no order carries."""
    if now.code_state in ("removed", "failed"):
        words = "nobody can use its code any more; the points come back"
        return Verdict(state=UNUSED, message=words, code=REMOVED)
    if now.code_state == "wanted" and now.refused is None:
        words = "its code is not made yet; it is stopped, and the points come back"
        return Verdict(state=UNUSED, message=words, removes=True)
    if now.came_back:
        return _of_a_code_that_is_back(now)
    if now.rule_gone:
        words = (
            "its code is unused, but the program has no such reward any more, so the code cannot be cancelled; with"
            " force the points come back and the code stays as it is"
        )
        return Verdict(state=RULE_GONE, message=words, refusal=SPENDING_RULE_GONE, code=UNCHANGED)
    if now.refused == CODE_SHARED:
        words = (
            "its code belongs to a discount that others use too, so it cannot be taken away; with force the points come"
            " back and the code stays as it is"
        )
        return Verdict(state=UNUSED, message=words, refusal=CODE_SHARED, code=UNCHANGED)
    if now.connected:
        words = "its code is unused; it is taken away at Shopify, and the points come back"
        return Verdict(state=UNUSED, message=words, removes=True)
    return _unreachable(now)


def _unreachable(now: Standing) -> Verdict:
    """A code at a shop that gives us no access: one that was given to us is the merchant's to remove, ours is not."""
    if now.code_state == "tracked":
        words = "its code is unused as far as we know; the points come back, and you remove the code yourself"
        return Verdict(state=UNUSED, message=words, code=NOT_REACHABLE)
    words = (
        "its code is unused and cannot be taken away, for the shop gives us no access: open the app once, or with force"
        " the points come back and you remove the code yourself"
    )
    return Verdict(state=UNUSED, message=words, refusal=NOT_CONNECTED, code=NOT_REACHABLE)


def _of_a_code_that_is_back(now: Standing) -> Verdict:
    """Its value came back as a code (R21, R23): only once nobody can use that do points come back."""
    if now.connected and now.refused not in SHOPIFYS_WORD:
        words = "its code came back to the customer and is unused; it is taken away at Shopify, and the points come back"
        return Verdict(state=UNUSED, message=words, removes=True)
    words = (
        "its value came back as a code that can be used and that cannot be taken away, so no points come back"
    )
    return Verdict(state=UNUSED, message=words, refusal=GIVEN_BACK_AS_CODE)


def _used_words(now: Standing) -> str:
    if now.kind in GIVEN_OUT and now.used_on is None:
        return (
            f"{GIVEN_OUT[now.kind]} is value that was given out and cannot be taken back; with force the points come"
            " back all the same"
        )
    where = "" if now.used_on is None else f" on order {now.used_on}"
    return f"its code was used{where} and cannot be cancelled; with force the points come back and the code stays used"


def _refunded_words(now: Standing) -> str:
    when = "" if now.refunded_at is None else f" on {now.refunded_at:%Y-%m-%d at %H:%M} UTC"
    return f"all of it was refunded{when}; nothing more can be done"
