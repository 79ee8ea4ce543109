"""Redemptions: the list, and one of them with "Refund points", as the state of its reward coupon allows (R34, R35, R38)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from functools import partial
from typing import Any

from flask import Response
from werkzeug.exceptions import BadRequest

from app.admin.asking import Said
from app.admin.filters import plain
from app.admin.visit import Page, Visit, amount_typed
from app.api.paging import cursor_text
from tasks.steps import listings

LOOKS_MAX = 6  # at a code that is being changed: after 1, 2, 4, ... seconds; then whoever waits clicks


@dataclass(frozen=True, slots=True)
class Status:
    """A reward's status in words. tone: of its badge     what: it means"""

    words: str
    tone: str
    what: str


STATUS: Mapping[str, Status] = {
    "unused": Status("Unused", "success", "No order has used the reward coupon yet."),
    "unused_rule_gone": Status(
        "Unused, but the spending rule no longer exists",
        "attention",
        "No order has used the reward coupon yet, and the program has no such reward any more.",
    ),
    "used": Status("Used", "info", "The customer has already used the reward coupon."),
    "untracked": Status(
        "Untracked",
        "attention",
        "No coupon of this reward is tracked here, so nobody can tell whether it was used, or will be.",
    ),
    "already_refunded": Status("Already refunded", "", "All of it came back."),
    "code_being_changed": Status("Being changed", "info", "The coupon is just being changed at Shopify."),
}
FILTER = (
    ("", "Any status"),
    ("unused", "Unused"),
    ("used", "Used"),
    ("untracked", "Untracked"),
    ("refunded", "Already refunded"),
)
COUPONS = {
    "none": "There is no coupon, or it is not tracked here",
    "tracked": "Given to us and tracked",
    "wanted": "Being made at Shopify",
    "active": "Made by us at Shopify",
    "removed": "Removed: nobody can use it",
    "failed": "Could not be made",
}
AFTER = {
    "removed": "the coupon was removed",
    "unchanged": "the coupon was left as it is",
    "stays_used": "the discount code remains as used",
    "untracked": "no coupon was tracked",
    "not_reachable": "the coupon could not be removed by us",
}
WOULD = {
    **AFTER,
    "removed": "nobody can use the coupon",
    "not_reachable": "you have to remove the coupon yourself",
}
DONE = {
    "removed": "The coupon was removed and the points were refunded. A note was added to the customer's activity.",
    "unchanged": "The points were refunded. The coupon's status remains unchanged: remove it at Shopify if nobody should use it.",
    "stays_used": "The points were refunded. The discount code remains as used.",
    "untracked": "The points were refunded. The coupon is not tracked, so whether it was used, or will be, cannot be told.",
    "not_reachable": "The points were refunded. The coupon could not be removed by us: remove it at Shopify yourself.",
    "part": "The points were given back.",
    "part_usable": "The points were given back. The coupon is unused and stays usable.",
    "undone": "Undone: the points were taken again.",
    "nothing": "Nothing of it could still be done.",
}


# -- the list ----------------------------------------------------------------------------------------


def show_all(visit: Visit) -> Response:
    """All redemptions, the latest first; by the status of the reward, or by a coupon's code."""
    status = visit.query.get("status")
    if status is not None and status not in listings.REWARD_STATUSES:
        raise BadRequest
    search = visit.query.get("search", "")[:255]
    page = visit.read(listings.redemptions, search=search, status=status, cursor=visit.cursor)
    return visit.page(
        "redemptions.html",
        rows=page.rows,
        cursor=cursor_text(page.cursor),
        statuses=STATUS,
        choices=FILTER,
        chosen=status or "",
        search=search,
    )


# -- one redemption ----------------------------------------------------------------------------------


def show(visit: Visit, *, said: Said | None = None, tried: Said | None = None, act: str = "") -> Response:
    """A redemption. said: what was refused     tried: what a preview says, of `act`"""
    found = visit.found("get_redemption")
    state = found["cancellation"]["state"]
    order = order_of(visit, found["cancellation"].get("used_on") or found["order_id"])
    words = partial(in_words, order=order, used=state == "used")
    return visit.page(
        "redemption.html",
        status=200 if said is None else said.status,
        redemption=found,
        left=found["amount"] - found["returned"],
        reward_status=STATUS[state],
        message=words(found["cancellation"]["message"]),
        order_name=order["name"] if order else None,
        said=said,
        refusal=None if said is None else words(said.message),
        anyway=said is not None and act == "refund" and bool(said.details.get("needs_force")),
        tried=None if tried is None else tried.document,
        act=act,
        form=visit.form,
        looks=looks_of(visit),
        coupons=COUPONS,
        after=AFTER,
        would=WOULD,
        done_words=DONE,
    )


def order_of(visit: Visit, id: str | None) -> Mapping[str, Any] | None:
    """The order that a redemption was used on, when it is known here."""
    return None if id is None else next(iter(visit.read(listings.orders, search=id, limit=1).rows), None)


def in_words(message: str, *, order: Mapping[str, Any] | None, used: bool) -> str:
    """The API's words with the page's names: of `force`, of a field, of the order."""
    button = "“Refund points”" if used else "“Refund points anyway”"
    names = {"with force": f"with {button}", "pointsToBeReversed": "how much"}
    if order:
        names[f"order {order['id']}"] = f"order {order['name']}"
    for word, name in names.items():
        message = message.replace(word, name)
    return f"{plain(message)}."


def looks_of(visit: Visit) -> int:
    """How often a waiting page has looked by itself whether the code is changed."""
    text = visit.query.get("looks", "0")
    return min(int(text), LOOKS_MAX) if text.isascii() and text.isdigit() and len(text) < 3 else LOOKS_MAX


def act(visit: Visit) -> Response:
    """What a button of the page asks for; `try` before it: only what would happen."""
    asked = visit.form.get("act", "")
    wanted, trying = asked.removeprefix("try-"), asked.startswith("try-")
    if wanted not in ACTS:
        raise BadRequest
    name, body, done = ACTS[wanted]
    said = visit.ask(name, ids=ids_in(visit, wanted), body=body(visit), preview=trying)
    if not said.ok:
        return show(visit, said=said, act=wanted)
    if trying:
        return show(visit, tried=said, act=wanted)
    return visit.go("redemption", redemption_id=visit.ids["redemption_id"], done=done(said.document))


def ids_in(visit: Visit, wanted: str) -> Mapping[str, int]:
    """Of an undo: which reversal is meant."""
    text = visit.form.get("reversal_id", "")
    if wanted != "undo":
        return {}
    if not (text.isascii() and text.isdigit() and len(text) < 19):
        raise BadRequest
    return {"reversal_id": int(text)}


def refund_asked(visit: Visit) -> dict[str, Any]:
    return {"force": visit.form.get("force") == "true", **reason_in(visit)}


def part_asked(visit: Visit) -> dict[str, Any]:
    return {
        "redemptionId": str(visit.ids["redemption_id"]),
        "pointsToBeReversed": amount_typed(visit.form.get("amount", "")),
        "identifier": {"type": "ID", "value": visit.form.get("customer_id", "")},
        **reason_in(visit),
    }


def reason_in(visit: Visit) -> dict[str, str]:
    reason = visit.form.get("reason", "").strip()
    return {"reason": reason} if reason else {}


def refund_done(document: Mapping[str, Any]) -> str:
    """Nothing to say while the coupon is being removed: the page says that by itself."""
    return "" if document["reversal"] is None else str(document["reversal"]["code"])


def part_done(document: Mapping[str, Any]) -> str:
    usable = any(warning["code"] == "code_usable" for warning in document["warnings"])
    return "part_usable" if usable else "part"


ACTS = {  # what a button asks for: the API's call, its body, the words for its success
    "refund": ("cancel_redemption", refund_asked, refund_done),
    "part": ("reverse_points", part_asked, part_done),
    "undo": ("undo_reversal", reason_in, lambda _: "undone"),
}


def one(visit: Visit) -> Response:
    return act(visit) if visit.is_act else show(visit)


PAGES = (
    Page(path="/redemptions", name="redemptions", view=show_all),
    Page(path="/redemptions/<redemption_id>", name="redemption", view=one, methods=("GET", "POST")),
)
