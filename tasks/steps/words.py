"""What happened, in words (R39): a sentence for each kind of entry. A kind without words cannot be written.

They are made of what stands in the entry, amounts already in the program's unit:
"20.00 of 100.00 EUR refunded = 1/5; 1/5 of 500 = 100 points taken back; balance 500 -> 400".
"""

from __future__ import annotations

from collections.abc import Callable, Iterable, Mapping
from decimal import Decimal
from fractions import Fraction
from math import floor
from typing import Any

Detail = Mapping[str, Any]

# What each reason code of the rules says in a sentence; `trace.RULE_OF` has the rule behind it.
REASONS = {
    "REMAINDER": "the order is closed, so it is all that was left",
    "ALREADY_CLOSED": "the order was closed before",
    "CAPPED": "no more was left",
    "STATUS_OFF": "the program does not reverse for this",
    "ONLY_ON_FULL": "this rule's points go only with the whole order",
    "NO_MONEY_MOVED": "no money moved",
    "MONEY_PENDING": "money is still on its way, and counts when it has settled",
    "MONEY_FAILED": "the money never came",
    "ITEMS_WITHOUT_MONEY": "the items count without money",
    "MONEY_DIFFERS": "lines and money differ, and the money counts",
    "ALREADY_RETURNED": "the rest of it came back before",
    "RETURN_OFF": "returning redeemed value was off",
    "GIFT_CARD_REWARD": "gift-card rewards stay",
    "NO_LINE_DISCOUNT": "the code took nothing off these lines",
    "EDIT_KEEPS_REDEEMED": "edits change nothing of redeemed value",
    "AMOUNT_ONLY": "a partial refund without items",
    "SHIPPING_ONLY": "a partial refund of shipping",
    "CODE_REACTIVATED": "the code itself comes back",
    "REDEMPTION_ENDED": "it was given back whole before",
    "CANCELLED_PAID_WAITING": "cancelled, paid and not refunded: somebody should look",
    "VOIDED_STILL_OWED": "voided, but the money is still owed",
    "NO_CUSTOMER": "the order has no customer yet",
    "PLACED_BEFORE_INSTALL": "bought before the shop was connected",
    "IMPORTED": "imported from another program",
    "BEFORE_IMPORT": "it happened before the import, so it was the other program's",
    "REPLACED_BY_IMPORT": "an imported award of the order stands instead",
    "TEST_ORDER_IGNORED": "a test order",
    "REFUND_CONFLICT": "the same refund came with other content; both are kept",
    "ORDER_UNKNOWN": "its order has not been told yet",
    "REFUNDED_TWICE": "refunded here by hand and at Shopify too, for more than it came to",
    "CANCELLED_BY_MERCHANT": "its redemption was cancelled by the merchant",
    "REVERSED_BY_MERCHANT": "the merchant reversed it",
    "CODE_OF_CANCELLED": "the redemption was cancelled as unused, and here its code is used",
    "AUTO_REFUNDED": "no order used it in time",
    "CODE_FAILED": "its code could not be made",
    "CANCELLED": "it was cancelled unused",
}
# What somebody should do about a flag of an order; where there is nothing to do, it says so.
ADVICE = {
    "CANCELLED_PAID_WAITING": "Refund it at Shopify, or cancel it here if the money will not go back",
    "VOIDED_STILL_OWED": "See at Shopify whether it will be paid; pending points wait until then",
    "NO_CUSTOMER": "Nothing to do: it counts as soon as Shopify names a customer",
    "PLACED_BEFORE_INSTALL": "Nothing to do: it earns nothing here; points that another program gave for it can be imported",
    "TEST_ORDER_IGNORED": "Nothing to do: the settings can include test orders",
    "REFUND_CONFLICT": "Compare the refund with Shopify's; undo it here if it is not right",
    "ORDER_UNKNOWN": "Nothing to do for an hour: the order is asked for at Shopify; if it stays away, run a reconciliation",
    "REFUNDED_TWICE": "Undo the refund by hand if Shopify's is of the same money",
    "CODE_OF_CANCELLED": "The customer has had both; undo the redemption's cancellation, where its code was left, to spend the points again",
}
EVENTS = {  # what a cause is, by the word before its colon
    "refund": "refunded",
    "dispute": "charged back",
    "edit": "taken off by an edit",
}
ENDINGS = {
    "void": "order{} voided",
    "cancel": "order{} cancelled",
    "cancellation": "order{} cancelled by the merchant",
    "reversal": "given back by hand",
}
CODES = {  # `reversals.code`
    "removed": "its code was taken away",
    "unchanged": "its code was left as it is",
    "stays_used": "its code stays used",
    "not_reachable": "its code could not be reached",
}


def in_words(kind: str, cause: str, detail: Detail, unit: str) -> str:
    """One entry as a sentence. unit: points or credits. A kind of another version of the product is told by its name."""
    words = WORDS.get(kind)
    return f"{kind} ({cause})" if words is None else joined(words(cause, detail, unit))


def joined(parts: Iterable[str]) -> str:
    return "; ".join(part for part in parts if part)


# -- value ---------------------------------------------------------------------------------------------


def granted(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"{moved(d, unit)} granted{why(d)}", *ending(d)]


def approved(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"{moved(d, unit)} earned{by_rule(d)}{on_order(d)} can be spent{why(d)}", *ending(d)]


def reversed_(cause: str, d: Detail, unit: str) -> list[str]:
    if d.get("gone"):
        return [
            f"{cause} does not stand any more",
            f"{before(d)} {unit}{by_rule(d)} given again",
            balances(d),
        ]
    from_ = ", off what is pending" if d.get("pending") else ""
    short = d.get("shortfall") or 0
    owed = ", and are owed now" if d.get("debt_added") else ""
    lack = f"{short} of them were not there to take{owed}" if short else ""
    return [event(cause, d), f"{counted(d, unit)}{by_rule(d)} taken back{from_}{why(d)}", lack, *ending(d)]


def returned(cause: str, d: Detail, unit: str) -> list[str]:
    if d.get("gone"):
        return [
            f"{cause} does not stand any more",
            f"{before(d)} {unit}{spent_on(d)} taken again",
            balances(d),
        ]
    expired = f"{d['expired']} of them had expired" if d.get("expired") else ""
    return [event(cause, d), f"{counted(d, unit)}{spent_on(d)} given back{why(d)}", expired, *ending(d)]


def redeemed(cause: str, d: Detail, unit: str) -> list[str]:
    bare = (d.get("amount") or 0) - (d.get("moved") or 0)
    owed = ", and are owed now" if d.get("debt_added") else ""
    lack = f"{bare} of them turned out not to be covered{owed}" if bare else ""
    return [f"{number(d, 'amount', unit)}{spent_on(d)}{why(d)}", lack, *ending(d)]


def expired(cause: str, d: Detail, unit: str) -> list[str]:
    amount = d.get("amount") or 0
    if amount < 0:
        return [f"{-amount} {unit} that had expired had been taken before", *ending(d)]
    return [f"{amount} {unit} expired", *ending(d)]


def counted(d: Detail, unit: str) -> str:
    """1/5 of 500 = 100 points. The fraction only where it decided: not where a reason did."""
    amount, ratio, whole = d.get("amount") or 0, d.get("ratio"), d.get("of")
    if ratio is None or whole is None or d.get("reasons"):
        return f"{amount} {unit}" + ("" if whole is None else f" of {whole}")
    exact = Fraction(ratio) * Fraction(str(whole))
    places = 0 if isinstance(whole, int) else -int(Decimal(str(whole)).as_tuple().exponent)
    down = Fraction(floor(exact * 10**places), 10**places)
    found = Fraction(str(amount))
    how = "=" if found == exact else "rounded down =" if found == down else "with the roundings before ="
    return f"{ratio} of {whole} {how} {amount} {unit}"


def event(cause: str, d: Detail) -> str:
    """20.00 of 100.00 EUR refunded = 1/5: what brought it about."""
    what = cause.partition(":")[0]
    amount, total = d.get("refund_amount"), d.get("order_total")
    if what not in EVENTS or amount is None:
        return ENDINGS.get(what, "").replace("{}", on_order(d, before=" "))
    money = f"{amount} of {total} {d.get('currency', '')}".rstrip() if total is not None else str(amount)
    ratio = d.get("ratio")
    same = ratio and total and Decimal(total) and Fraction(amount) / Fraction(total) == Fraction(ratio)
    return f"{money} {EVENTS[what]}{on_order(d)}" + (f" = {ratio}" if same else "")


def ending(d: Detail) -> list[str]:
    paid = f"{d['debt_paid']} of them paid what was owed" if d.get("debt_paid") else ""
    return [paid, corrected(d), balances(d)]


def corrected(d: Detail) -> str:
    """What a late fact, a merge or an undo changed of an entry that was told before."""
    taken_over = f"moved here from customer {d['moved_from']}" if "moved_from" in d else ""
    return joined([taken_over, f"it was {before(d)} before" if "corrects" in d else ""])


def before(d: Detail) -> object:
    """How much it had moved before it was corrected."""
    return (d.get("corrects") or {}).get("moved") or 0


def balances(d: Detail) -> str:
    if "balance_before" not in d:
        return ""
    was, is_ = d["balance_before"], d["balance_after"]
    return f"balance stays {is_}" if was == is_ else f"balance {was} -> {is_}"


def moved(d: Detail, unit: str) -> str:
    return number(d, "moved", unit)


def number(d: Detail, name: str, unit: str) -> str:
    return f"{d.get(name) or 0} {unit}"


def by_rule(d: Detail) -> str:
    return f" by {d['rule']}" if d.get("rule") else ""


def spent_on(d: Detail, *, words: str = "spent on") -> str:
    return f" {words} {d['reward']}" if d.get("reward") else ""


def on_order(d: Detail, *, before: str = " on ") -> str:
    return f"{before}{d['order']}" if d.get("order") else ""


def named(d: Detail) -> str:
    """What an act was done to: the reward of a redemption, else the order."""
    return spent_on(d, words="of") or on_order(d, before=" ")


def why(d: Detail) -> str:
    reasons = [REASONS.get(code, code) for code in d.get("reasons") or ()]
    return f" ({', '.join(reasons)})" if reasons else ""


# -- what is told beside it ------------------------------------------------------------------------------


def recorded(cause: str, d: Detail, unit: str) -> list[str]:
    return [
        event(cause, d) or f"refund recorded{on_order(d)}",
        f"nothing to take or give back{why(d)}",
        *ending(d),
    ]


def granted_why(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"the grant's reason: {d.get('reason')}"]


def tier_changed(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"tier {d.get('before') or 'none'} -> {d.get('after') or 'none'}"]


def tier_pinned(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"tier pinned at {d.get('after')}: it does not move"]


def tier_unpinned(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"tier no longer pinned at {d.get('before')}: it moves again"]


def code_back(cause: str, d: Detail, unit: str) -> list[str]:
    until = f", until {d['ends_at']}" if d.get("ends_at") else ""
    return [f"the discount code{spent_on(d, words='of')} can be used again{until}"]


def code_not_back(cause: str, d: Detail, unit: str) -> list[str]:
    return [f"the discount code{spent_on(d, words='of')} could not be given back: {d.get('reason')}"]


def merged(cause: str, d: Detail, unit: str) -> list[str]:
    if "merged_into" in d:
        return [f"merged at Shopify into customer {d['merged_into']}", *ending(d)]
    return [f"customer {d.get('merged_from')} was merged into this one at Shopify", *ending(d)]


def by_hand(what: str) -> Callable[[str, Detail, str], list[str]]:
    """An act of the merchant: what, of what, why and by whom."""

    def words(cause: str, d: Detail, unit: str) -> list[str]:
        amount = f": {d['amount']} {unit}" if isinstance(d.get("amount"), int | Decimal) else ""
        money = f": {d['refund_amount']} {d.get('currency', '')}".rstrip() if "refund_amount" in d else ""
        code = CODES.get(str(d.get("code")), "")
        reason = f"reason: {d['reason']}" if d.get("reason") else ""
        return [
            f"{what.replace('{}', named(d))}{amount or money}, by {d.get('by') or 'nobody known'}",
            code,
            reason,
        ]

    return words


def not_done(what: str) -> Callable[[str, Detail, str], list[str]]:
    """What could not be done after it was asked for: a discount code at Shopify was in the way."""

    def words(cause: str, d: Detail, unit: str) -> list[str]:
        because = (
            d.get("message") or f"its discount code cannot be taken away ({d.get('why') or d.get('code')})"
        )
        return [f"{what.replace('{}', named(d))}: {because}", f"asked for by {d.get('by') or 'nobody known'}"]

    return words


def reversals_locked(cause: str, d: Detail, unit: str) -> list[str]:
    reason = f"reason: {d['reason']}" if d.get("reason") else ""
    return [f"no reversals by hand until {d.get('until')}, by {d.get('by') or 'nobody known'}", reason]


WHY_PAUSED = {
    "failing": "it failed for three days without a success",
    "gone": "it answered 410 Gone",
    "by_hand": "by hand",
}


def endpoint_paused(cause: str, d: Detail, unit: str) -> list[str]:
    why = WHY_PAUSED.get(str(d.get("why")), str(d.get("why")))
    since = f"failing since {d['failing_since']}" if d.get("failing_since") else ""
    by = f", {d['by']}" if d.get("why") == "by_hand" and d.get("by") else ""
    return [f"endpoint {d.get('endpoint_id')} paused: {why}{by}", since]


def endpoint_enabled(cause: str, d: Detail, unit: str) -> list[str]:
    return [
        f"endpoint {d.get('endpoint_id')} enabled, by {d.get('by') or 'nobody known'}: what waited is sent"
    ]


WORDS: Mapping[str, Callable[[str, Detail, str], list[str]]] = {
    "points.granted": granted,
    "points.approved": approved,
    "points.reversed": reversed_,
    "points.redeemed": redeemed,
    "points.expired": expired,
    "redemption.returned": returned,
    "redemption.cancelled": by_hand("redemption{} cancelled"),
    "redemption.reversed": by_hand("redemption{} reversed"),
    "refund.recorded": recorded,
    "order.cancelled": by_hand("order{} cancelled by hand"),
    "order.refunded": by_hand("refund of order{} booked by hand"),
    "refund.undone": by_hand("refund of order{} undone"),
    "cancellation.undone": by_hand("cancellation of order{} undone"),
    "reversal.undone": by_hand("reversal{} undone"),
    "redemption.not_cancelled": not_done("redemption{} not cancelled"),
    "undo.asked": by_hand("undo on order{} asked for, once the discount code is taken away again"),
    "undo.refused": not_done("undo on order{} not done"),
    "reversals.locked": reversals_locked,
    "reversals.unlocked": by_hand("reversals by hand allowed again"),
    "grant.reason": granted_why,
    "tier.changed": tier_changed,
    "tier.pinned": tier_pinned,
    "tier.unpinned": tier_unpinned,
    "code.reactivated": code_back,
    "code.not_reactivated": code_not_back,
    "customer.merged": merged,
    "endpoint.paused": endpoint_paused,
    "endpoint.enabled": endpoint_enabled,
}
