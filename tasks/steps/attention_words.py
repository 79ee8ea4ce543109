"""What is said of things that a person should look at: what it is, and what to do. One place, so that it stays plain."""

from __future__ import annotations

from typing import NamedTuple


class Advice(NamedTuple):
    what: str
    remedy: str


TRY_AGAIN = "Try it again. If it fails the same way, dismiss it and look at the order at Shopify."

FLAGS = {  # what to do about each is `tasks/steps/words.py`'s ADVICE
    "CANCELLED_PAID_WAITING": "It is cancelled, but it was paid and the money was not given back, so its points stay.",
    "VOIDED_STILL_OWED": "Its payment is void, but the money is still owed, so its points wait.",
    "REFUND_CONFLICT": "The same refund was told twice with different content. The first is booked, both are kept.",
    "REFUNDED_TWICE": "A refund asked for here and one from Shopify come to more than the order: it seems to be the same money.",
    "CODE_OF_CANCELLED": "A code was used on it whose redemption had been cancelled as unused: the points came back as well.",
    "ORDER_UNKNOWN": "A refund came for it, but the order itself has not been told yet.",
}
FLAGGED = "It is marked for a person to look at."

EVENTS = {
    "unparseable": Advice(
        "Shopify signed it, but it could not be understood.",
        "It is kept as it came. Try it again after an update; a comparison with Shopify reads the order anew.",
    ),
    "unknown_shop": Advice(
        "The store was not installed when it came.",
        "Try it again now that the store is here.",
    ),
    "unknown_topic": Advice("Nothing is done for events of this kind.", "Dismiss it."),
    "missing_webhook_id": Advice(
        "It came without an id, so repeats of it could not be told apart.",
        "Dismiss it. If more come, look at what stands between Shopify and this server.",
    ),
    "attempts_exhausted": Advice(
        "Each try ended without a word: the worker stopped on it.",
        "Have the worker's log looked at, then try it again.",
    ),
    "refund_of_another_order": Advice(
        "Its refund is on record under another order.",
        "Compare the two orders at Shopify, then dismiss it.",
    ),
    "foreign_shop": Advice(
        "It names another store than the one it was sent for. Nothing was done.",
        "Dismiss it.",
    ),
    "order_of_another_shop": Advice(
        "Its order belongs to another store. Nothing was done.",
        "Dismiss it.",
    ),
    "merge_conflict": Advice(
        "It merges customers in a way that goes against an earlier merge.",
        "Look at both customers at Shopify. Then try it again, or dismiss it.",
    ),
    "invariant_broken": Advice(
        "Booking it would have put the books out of balance, so nothing was booked.",
        "Try it again after an update, and tell whoever runs this server.",
    ),
    "body_erased": Advice("What it said was erased by its age.", "Dismiss it."),
    "": Advice("It could not be processed.", TRY_AGAIN),
}

OUTSIDE = {
    "create_code": Advice(
        "A discount code could not be made at Shopify.",
        "Look at the redemption: its points came back if no code stands. Try it again, or dismiss it.",
    ),
    "remove_code": Advice(
        "A discount code could not be taken away at Shopify.",
        "Try it again, or take the code away at Shopify yourself.",
    ),
    "reactivate_code": Advice(
        "A discount code could not be given back at Shopify.",
        "Look at the redemption: it says what came back instead. Try it again, or dismiss it.",
    ),
    "read_order": Advice(
        "An order could not be read at Shopify.",
        "Try it again. The next comparison with Shopify reads it as well.",
    ),
    "check_subscriptions": Advice(
        "The webhooks at Shopify could not be set right.",
        "Try it again; until it works, changes are found by the comparisons with Shopify.",
    ),
    "": Advice("Something could not be done at Shopify.", "Try it again, or dismiss it."),
}

CONNECTION = {
    "scopes_missing": Advice(
        "Shopify does not let Unwind do all that it needs.",
        "Open the app once from the store's admin and allow what it asks for.",
    ),
    "token_revoked": Advice(
        "Shopify refuses our access. Webhooks still come, but nothing can be read or changed at Shopify.",
        "Open the app once from the store's admin.",
    ),
    "refresh_token_expired": Advice(
        "Our access has ended. Webhooks still come, but nothing can be read or changed at Shopify.",
        "Open the app once from the store's admin.",
    ),
    "uninstalled": Advice(
        "The app was uninstalled. Nothing comes and nothing can be done at Shopify.",
        "Install it again, if that was not meant.",
    ),
    "subscriptions": Advice(
        "The webhooks at Shopify could not be set right.",
        "It is tried again each day. Open the app once from the store's admin if it stays.",
    ),
    "": Advice("The connection to Shopify needs you.", "Open the app once from the store's admin."),
}

ENDPOINTS = {
    "failing": Advice(
        "It has answered nothing but errors for three days, so nothing is sent to it. What is to be told waits.",
        "Have it put right, then enable it: what waits is sent.",
    ),
    "gone": Advice(
        "It said that it is gone, so nothing is sent to it. What is to be told waits.",
        "Delete it, or enable it if that was not meant.",
    ),
}

PRIVACY = {
    "data_request": Advice(
        "A customer asked for their data; the law gives thirty days.",
        "Whoever runs this server types `unwind privacy export`, and you send the file on.",
    ),
    "shop_redact": Advice(
        "Shopify asked to erase the store's data, but the store is installed.",
        "Whoever runs this server types `unwind shop remove` if the store has really left.",
    ),
}

RECONCILE = Advice(
    "The last comparison with Shopify failed, so what was missed is not found.",
    "It is tried again by itself. If it keeps failing, look at the connection to Shopify.",
)


def event_title(topic: str, code: str | None) -> str:
    """What kind of thing could not be booked."""
    if topic.startswith("refunds/"):
        return (
            "A refund that could not be understood"
            if code == "unparseable"
            else "A refund that is not booked"
        )
    if topic.startswith("orders/"):
        return "An order's change that is not booked"
    if topic.startswith("customers/"):
        return "A customer's change that is not booked"
    return "An event that is not processed"
