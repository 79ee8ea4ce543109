"""What is done to an order by hand: refund, cancel, undo. Looked at first, by the call that then does it (R36, R37, R38)."""

from __future__ import annotations

from collections.abc import Callable, Mapping
from dataclasses import dataclass
from typing import Any

from flask import Response

from app.admin.asking import Said
from app.admin.filters import plain
from app.admin.visit import Page, Visit
from models.errors import NotFound
from tasks.steps.story import story

LINE = "line-"  # the fields of a form with the units of each line
WISH = "what"  # amount, lines or rest
UNITS_DIGITS = 18  # nobody sold more of a line
WRONG = {  # what to type, by the field of the API that was not as it should be
    "amount": "Type an amount such as 12.50.",
    "lines": "Type how many units of which line come back.",
    "reason": "A reason is one line of at most 200 characters.",
}
DONE = {
    "refunded": "The refund is booked. What it did stands below.",
    "cancelled": "The order is cancelled. What that did stands below.",
    "undone": "It is undone: it counts for nothing now, and what it had moved was moved back.",
    "begun": "Being done at Shopify: the discount code that came back is taken away first, then the rest is booked."
    " Reload the page in a minute.",
}


@dataclass(frozen=True, slots=True, kw_only=True)
class Act:
    """A call of the API that can be looked at first.

    wishes: what of the order is to be said first     cause: of what it undoes, out of the ids of its address
    reason: when none is typed and the call's own would not be true of this page
    """

    call: str
    title: str
    about: str
    button: str
    done: str
    wishes: bool = False
    reason: str = ""
    cause: Callable[[Mapping[str, int]], tuple[str, ...]] | None = None


NO_MONEY = "No money moves at Shopify, and Shopify is told nothing."
REFUND = Act(
    call="refund_order",
    title="Refund",
    about=f"For money that went back another way. {NO_MONEY} Refunds made at Shopify arrive here by themselves; the"
    " same money booked here as well would count twice.",
    button="Book this refund",
    done="refunded",
    wishes=True,
)
CANCEL = Act(
    call="cancel_order",
    title="Cancel order",
    about=f"Points that the order earned are taken back, points redeemed on it are given back. {NO_MONEY}",
    button="Cancel the order",
    done="cancelled",
    reason="Order cancelled in the admin",
)
UNDONE = (
    "It then counts as if it had never been told, also when Shopify tells of it again. Nothing is deleted."
)
UNDO_REFUND = Act(
    call="undo_refund",
    title="Undo a refund",
    about=UNDONE,
    button="Undo the refund",
    done="undone",
    cause=lambda ids: (f"refund:{ids['refund_id']}",),
)
UNDO_ENDING = Act(
    call="undo_order_ending",
    title="Undo the cancellation",
    about=f"{UNDONE} Refunds of the order stand; each is undone by itself.",
    button="Undo the cancellation",
    done="undone",
    cause=lambda ids: ("void:", "cancel:", "cancellation:"),
)
UNDO_REVERSAL = Act(
    call="undo_reversal",
    title="Undo what was given back by hand",
    about="The redemption counts as spent again.",
    button="Undo it",
    done="undone",
    cause=lambda ids: (f"reversal:{ids['reversal_id']}",),
)


def page_of(act: Act) -> Callable[[Visit], Response]:
    """GET looks at what would happen; POST does it, and shows the order afterwards."""

    def view(visit: Visit) -> Response:
        order = known_order(visit, visit.ids["order_id"])
        if act.cause is not None and not _has(order, act.cause(visit.ids)):
            raise NotFound("cause", visit.ids["order_id"])
        given = visit.form if visit.is_act else visit.query
        wish = wish_of(given) if act.wishes else {}
        if visit.is_act:
            return _done(visit, act, order, wish)
        said = None if wish is None else visit.ask(act.call, body=wish, preview=True)
        return _shown(visit, act, order, given, said)

    return view


def known_order(visit: Visit, order_id: int) -> dict[str, Any]:
    """An order that something can be done to. Raises NotFound, also while Shopify has told only of its refunds (R28)."""
    order = visit.read(story, order_id)
    if order["status"] == "unknown":
        raise NotFound("order", order_id)
    return order


def wish_of(given: Mapping[str, str]) -> dict[str, Any] | None:
    """What is to be refunded, in the words of the API, which says what is wrong with it. None: nothing was said yet."""
    what = given.get(WISH)
    if what == "amount":
        return {"amount": given.get("amount", "").strip().replace(",", ".")}
    if what == "lines":
        return {"lines": units_of(given)}
    return {} if what == "rest" else None


def units_of(given: Mapping[str, str]) -> list[dict[str, Any]]:
    """The lines of which units were named; what is no number is for the API to refuse."""
    named = ((name.removeprefix(LINE), text.strip()) for name, text in given.items() if name.startswith(LINE))
    return [
        {"id": id, "quantity": int(text) if text.isdecimal() and len(text) <= UNITS_DIGITS else text}
        for id, text in named
        if text not in ("", "0")
    ]


def wrong_in(said: Said | None) -> dict[str, str]:
    """What is wrong with what was typed, by field: `{"amount": "Type ..."}`. Empty where it is no field's fault."""
    if said is None or said.ok:
        return {}
    field = str(said.details.get("field", "")).partition("[")[0]
    if said.code == "invalid_request":
        return {field: WRONG[field]} if field in WRONG else {}
    name = {"wrong_amount": "amount", "unknown_line": "lines", "wrong_quantity": "lines"}.get(said.code)
    return {} if name is None else {name: plain(said.message) + "."}


def fields_of(given: Mapping[str, str]) -> dict[str, str]:
    """What a form asked to be refunded, to be carried on to the next one."""
    return {name: text for name, text in given.items() if name in (WISH, "amount") or name.startswith(LINE)}


def _has(order: Mapping[str, Any], causes: tuple[str, ...]) -> bool:
    return any(each["cause"] == cause or (cause.endswith(":") and each["cause"].startswith(cause))
               for each in order["events"] for cause in causes)  # fmt: skip


def _done(visit: Visit, act: Act, order: Mapping[str, Any], wish: dict[str, Any] | None) -> Response:
    if wish is None:
        return _shown(visit, act, order, visit.form, None, status=422)
    reason = visit.form.get("reason", "").strip() or act.reason
    said = visit.ask(act.call, body={**wish, **({"reason": reason} if reason else {})})
    if not said.ok:
        return _shown(visit, act, order, visit.form, said)
    return visit.go("order", order_id=order["id"], done="begun" if said.later else act.done)


def _shown(
    visit: Visit,
    act: Act,
    order: Mapping[str, Any],
    given: Mapping[str, str],
    said: Said | None,
    *,
    status: int | None = None,
) -> Response:
    would = said.document if said is not None and said.ok else None
    refused = said.status if said is not None and not said.ok else 200
    return visit.page(
        "order_act.html",
        status=status or refused,
        act=act,
        order=order,
        said=said,
        would=would,
        given=given,
        wrong=wrong_in(said),
        fields=fields_of(given) if act.wishes else {},
    )


METHODS = ("GET", "POST")
ORDER = "/orders/<order_id>"
PAGES = (
    Page(path=f"{ORDER}/refund", name="order_refund", view=page_of(REFUND), methods=METHODS),
    Page(path=f"{ORDER}/cancel", name="order_cancel", view=page_of(CANCEL), methods=METHODS),
    Page(path=f"{ORDER}/undo", name="order_undo", view=page_of(UNDO_ENDING), methods=METHODS),
    Page(
        path=f"{ORDER}/refunds/<refund_id>/undo",
        name="refund_undo",
        view=page_of(UNDO_REFUND),
        methods=METHODS,
    ),
    Page(
        path=f"{ORDER}/reversals/<reversal_id>/undo",
        name="reversal_undo",
        view=page_of(UNDO_REVERSAL),
        methods=METHODS,
    ),
)
