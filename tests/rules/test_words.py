"""R39: what happened, in words. Every kind of entry has a sentence, and every reason code of the rules a phrase."""

from __future__ import annotations

from decimal import Decimal
from typing import Any

import pytest

from tasks.steps.activities import KINDS, SPENT
from tasks.steps.trace import RULE_OF
from tasks.steps.words import REASONS, WORDS, in_words

FIFTH = {
    "order": "#1001",
    "refund_amount": "20.00",
    "order_total": "100.00",
    "currency": "EUR",
    "ratio": "1/5",
}
AWARD = {
    "rule": "place-order",
    "of": 500,
    "amount": 100,
    "moved": 100,
    "shortfall": 0,
    "pending": False,
    "reasons": [],
}
REWARD = {"reward": "5-off", "of": 50, "amount": 25, "moved": 25, "expired": 0, "reasons": []}
MOVES = {"balance_before": 500, "balance_after": 400}
BACK = {"balance_before": 50, "balance_after": 75}
STAYS = {"balance_before": 7, "balance_after": 7}
HAND = {"by": "token:5", "reason": "wrong size"}

ENTRIES = [
    ("points.granted", "grant:1", {"moved": 100, **BACK}, "100 points granted; balance 50 -> 75"),
    (
        "points.approved", "order:9", {"moved": 100, "rule": "place-order", "order": "#1001", **BACK},
        "100 points earned by place-order on #1001 can be spent; balance 50 -> 75",
    ),
    (
        "points.reversed", "refund:9", {**FIFTH, **AWARD, **MOVES},
        "20.00 of 100.00 EUR refunded on #1001 = 1/5; 1/5 of 500 = 100 points by place-order taken back; balance 500 -> 400",
    ),
    (
        "points.reversed", "refund:9", {**FIFTH, **AWARD, "ratio": "33/100", "of": 333, "amount": 109},
        "20.00 of 100.00 EUR refunded on #1001; 33/100 of 333 rounded down = 109 points by place-order taken back",
    ),
    (
        "points.reversed", "refund:9", {**FIFTH, **AWARD, "of": 617, "amount": 124},
        "20.00 of 100.00 EUR refunded on #1001 = 1/5; 1/5 of 617 with the roundings before = 124 points by place-order taken back",
    ),
    (
        "points.reversed", "refund:9", {**FIFTH, **AWARD, "pending": True, **STAYS},
        "20.00 of 100.00 EUR refunded on #1001 = 1/5; 1/5 of 500 = 100 points by place-order taken back, off what is pending; balance stays 7",
    ),
    (
        "points.reversed", "refund:9", {**FIFTH, **AWARD, "shortfall": 80, "moved": 20, "reasons": ["REMAINDER"]},
        "20.00 of 100.00 EUR refunded on #1001 = 1/5; 100 points of 500 by place-order taken back (the order is closed, so it is all that was left); 80 of them were not there to take",
    ),
    (
        "points.reversed", "void:9", {**AWARD, "order": "#1001", "reasons": ["REMAINDER"], "corrects": {"moved": 30}},
        "order #1001 voided; 100 points of 500 by place-order taken back (the order is closed, so it is all that was left); it was 30 before",
    ),
    ("points.redeemed", "redemption:1", {**REWARD, "of": None, "moved": 20, **MOVES}, "25 points spent on 5-off; 5 of them turned out not to be covered; balance 500 -> 400"),
    ("points.expired", "expiry", {"amount": 20, **MOVES}, "20 points expired; balance 500 -> 400"),
    ("points.expired", "expiry", {"amount": -20}, "20 points that had expired had been taken before"),
    (
        "redemption.returned", "refund:9", {**FIFTH, **REWARD, "ratio": "1/2", "expired": 5, **BACK},
        "20.00 of 100.00 EUR refunded on #1001; 1/2 of 50 = 25 points spent on 5-off given back; 5 of them had expired; balance 50 -> 75",
    ),
    (
        "redemption.returned", "reversal:3", {**REWARD, "reasons": ["REVERSED_BY_MERCHANT"], **BACK},
        "given back by hand; 25 points of 50 spent on 5-off given back (the merchant reversed it); balance 50 -> 75",
    ),
    (
        "redemption.returned", "auto_refunded:3", {**REWARD, "of": None, "reasons": ["AUTO_REFUNDED"]},
        "25 points spent on 5-off given back (no order used it in time)",
    ),
    ("redemption.cancelled", "reversal:3", {**HAND, "reward": "5-off", "amount": 25, "code": "removed"}, "redemption of 5-off cancelled: 25 points, by token:5; its code was taken away; reason: wrong size"),
    ("redemption.reversed", "reversal:3", {"by": "cli", "reward": "5-off", "amount": Decimal("2.50"), "code": "stays_used"}, "redemption of 5-off reversed: 2.50 points, by cli; its code stays used"),
    ("redemption.not_cancelled", "reversal:3", {"by": "cli", "reward": "5-off", "code": "used", "message": "an order used it"}, "redemption of 5-off not cancelled: an order used it; asked for by cli"),
    ("refund.recorded", "refund:9", {"order": "#1001", "refund_amount": "0.00", "order_total": "100.00", "currency": "EUR", "reasons": ["NO_MONEY_MOVED"]}, "0.00 of 100.00 EUR refunded on #1001; nothing to take or give back (no money moved)"),
    ("refund.recorded", "refund:9", {"reasons": ["ORDER_UNKNOWN"]}, "refund recorded; nothing to take or give back (its order has not been told yet)"),
    ("points.reversed", "refund:9", {**AWARD, "amount": 0, "gone": True, "corrects": {"moved": 50}, **BACK}, "refund:9 does not stand any more; 50 points by place-order given again; balance 50 -> 75"),
    ("redemption.returned", "reversal:3", {**REWARD, "amount": 0, "gone": True, "corrects": {"moved": 25}, **MOVES}, "reversal:3 does not stand any more; 25 points spent on 5-off taken again; balance 500 -> 400"),
    ("order.cancelled", "cancellation:1", {**HAND, "order": "#1001"}, "order #1001 cancelled by hand, by token:5; reason: wrong size"),
    ("points.reversed", "refund:9", {**AWARD, "amount": 0, "gone": True, "corrects": {"moved": 50}, **BACK}, "refund:9 does not stand any more; 50 points by place-order given again; balance 50 -> 75"),
    ("redemption.returned", "reversal:3", {**REWARD, "amount": 0, "gone": True, "corrects": {"moved": 25}, **MOVES}, "reversal:3 does not stand any more; 25 points spent on 5-off taken again; balance 500 -> 400"),
    ("order.refunded", "refund:9", {**HAND, "order": "#1001", "refund_amount": "20.00", "currency": "EUR"}, "refund of order #1001 booked by hand: 20.00 EUR, by token:5; reason: wrong size"),
    ("refund.undone", "refund:9", {"by": "session", "order": "#1001", "refund_amount": "20.00", "currency": "EUR"}, "refund of order #1001 undone: 20.00 EUR, by session"),
    ("cancellation.undone", "void:9", {"by": "session", "order": "#1001"}, "cancellation of order #1001 undone, by session"),
    ("reversal.undone", "reversal:3", {"by": "session", "reward": "5-off", "amount": 25}, "reversal of 5-off undone: 25 points, by session"),
    ("undo.asked", "refund:9", {"by": "cli", "order": "#1001"}, "undo on order #1001 asked for, once the discount code is taken away again, by cli"),
    ("undo.refused", "refund:9", {"by": "cli", "order": "#1001", "why": "used"}, "undo on order #1001 not done: its discount code cannot be taken away (used); asked for by cli"),
    ("reversals.locked", "lock:7001", {**HAND, "until": "2027-01-01"}, "no reversals by hand until 2027-01-01, by token:5; reason: wrong size"),
    ("reversals.unlocked", "lock:7001", {"by": "cli"}, "reversals by hand allowed again, by cli"),
    ("grant.reason", "grant:1", {"reason": "Sorry"}, "the grant's reason: Sorry"),
    ("tier.changed", "clock", {"before": None, "after": "gold"}, "tier none -> gold"),
    ("tier.pinned", "tier.pinned", {"before": None, "after": "gold"}, "tier pinned at gold: it does not move"),
    ("tier.unpinned", "tier.pinned", {"before": "gold", "after": None}, "tier no longer pinned at gold: it moves again"),
    ("endpoint.paused", "endpoint:3", {"endpoint_id": "3", "why": "failing", "failing_since": "2026-03-02T09:00:00Z", "by": "delivery"}, "endpoint 3 paused: it failed for three days without a success; failing since 2026-03-02T09:00:00Z"),
    ("endpoint.paused", "endpoint:3", {"endpoint_id": "3", "why": "by_hand", "failing_since": None, "by": "token:5"}, "endpoint 3 paused: by hand, token:5"),
    ("endpoint.enabled", "endpoint:3", {"endpoint_id": "3", "by": "cli"}, "endpoint 3 enabled, by cli: what waited is sent"),
    ("code.reactivated", "redemption:1", {"reward": "5-off", "ends_at": None}, "the discount code of 5-off can be used again"),
    ("code.not_reactivated", "redemption:1", {"reward": "5-off", "reason": "DELETED"}, "the discount code of 5-off could not be given back: DELETED"),
    ("customer.merged", "inbox:1", {"merged_into": "8", **STAYS}, "merged at Shopify into customer 8; balance stays 7"),
    ("customer.merged", "inbox:1", {"merged_from": "7", **BACK}, "customer 7 was merged into this one at Shopify; balance 50 -> 75"),
]  # fmt: skip


@pytest.mark.parametrize(
    ("kind", "cause", "detail", "words"), ENTRIES, ids=[f"{e[0]} {i}" for i, e in enumerate(ENTRIES)]
)
def test_an_entry_is_a_sentence(kind: str, cause: str, detail: dict[str, Any], words: str) -> None:
    """R39."""
    assert in_words(kind, cause, detail, "points") == words


def test_every_kind_of_entry_has_a_sentence_and_a_row_here() -> None:
    """R39: nothing can be written without words (`activities.entry`), and no words stand untried."""
    assert {*KINDS.values(), SPENT} <= set(WORDS) == {kind for kind, *_ in ENTRIES}


@pytest.mark.parametrize("kind", list(WORDS))
def test_an_entry_that_says_next_to_nothing_is_told_all_the_same(kind: str) -> None:
    """R39: entries of earlier versions had fewer particulars."""
    assert in_words(kind, "refund:9", {}, "credits")


def test_an_entry_of_a_newer_version_is_told_by_its_name() -> None:
    assert in_words("moon.risen", "moon:1", {}, "points") == "moon.risen (moon:1)"


def test_every_reason_code_has_a_phrase() -> None:
    assert set(RULE_OF) <= set(REASONS)


def test_credits_are_counted_with_their_decimals() -> None:
    """R1, R2: 1/3 of 10.00 is 3.33, rounded down."""
    detail = {**AWARD, "ratio": "1/3", "of": Decimal("10.00"), "amount": Decimal("3.33")}
    assert in_words("points.reversed", "edit:9", detail, "credits").startswith(
        "1/3 of 10.00 rounded down = 3.33 credits"
    )
