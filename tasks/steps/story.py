"""An order as a person reads it: what it earned and used, and what took it apart, each in a sentence (R39).

The trace decides and `words` says it; here both meet what the merchant asked for, what was undone, and what of the
order is left.
"""

from __future__ import annotations

from collections import Counter
from collections.abc import Iterable, Iterator, Mapping
from typing import Any

from sqlalchemy import Connection, text

from models.rules.facts import Line
from models.rules.money import from_minor
from models.rules.order import MERCHANT_REFUND_FIRST, OrderFacts, refund_key
from models.rules.plan import reversal_key
from tasks.steps import read, sql
from tasks.steps.activity import number
from tasks.steps.listings import QUIET_FLAGS
from tasks.steps.preview import lines_left
from tasks.steps.remaining import remaining
from tasks.steps.trace import explained, looked_at
from tasks.steps.words import ADVICE, REASONS, event, joined, recorded, returned, reversed_

ASKED_AWAY = text(
    "select distinct on (cause) kind, cause, at, detail from activity where shop_id = :shop_id and order_id = :id"
    " and kind in ('undo.asked', 'undo.refused', 'refund.undone', 'cancellation.undone') order by cause, id desc"
)

Told = Mapping[str, Any]


def story(connection: Connection, shop_id: int, order_id: int) -> dict[str, Any]:
    """The order in the shape of `read.order`, its awards and causes explained; also one that is known only by its
    refunds (R28), which has a name, money and lines as soon as it is told. Raises NotFound."""
    world, made = looked_at(connection, shop_id, order_id)
    traced, unit = explained(world, made), world.programs[-1].kind
    if made.order.placed is None:
        return {**_awaited(made.order), "flags": _flags(traced)}
    shown = read.order(connection, shop_id, order_id)
    asked = {row.cause: row for row in sql.fetch(connection, ASKED_AWAY, shop_id=shop_id, id=order_id)}
    closing = next((cause["cause"] for cause in traced["decisions"] if cause["closes"]), None)
    events = [
        *(_standing(each, shown, traced, unit) for each in traced["decisions"]),
        *_taken_back(shown, unit),
    ]
    return {
        **shown,
        "flags": _flags(traced),
        "closed": closing is not None,
        "awards": [{**each, **_award_of(each, traced)} for each in shown["awards"]],
        "events": sorted(
            (
                {
                    **each,
                    "items": _items(made.order, each["cause"]),
                    "undoing": _undoing(asked.get(each["cause"])),
                }
                for each in events
            ),
            key=lambda each: str(each["at"]),
        ),
        "lines": lines_of(made.order),
        "remaining": remaining(made, world.programs),
    }


def lines_of(order: OrderFacts) -> list[dict[str, Any]]:
    """The lines with their names and units, how many of them can still come back, and what was paid for all of them."""
    placed = order.placed
    assert placed is not None
    return [
        {
            "id": str(id),
            "name": order.name_of(id) or f"Line {id}",
            "quantity": line.quantity,
            "left": left,
            "value": from_minor(_paid(line, taxes_included=placed.taxes_included), placed.currency),
            "codes": [code for code, minor in line.code_discounts if minor],
        }
        for id, (line, left) in lines_left(order).items()
    ]


def _items(order: OrderFacts, cause: str) -> list[dict[str, Any]]:
    """Which items were refunded, and how many of each."""
    known = order.refunds.get(number(cause, "refund") or 0)
    units: Counter[int] = Counter()
    for line in known.refund.lines if known is not None else ():
        units[line.line_id] += line.quantity
    return [
        {"name": order.name_of(id) or (f"line {id}" if id else "an item"), "quantity": count}
        for id, count in units.items()
        if count
    ]


def _paid(line: Line, *, taxes_included: bool) -> int:
    return line.net_minor + (0 if taxes_included else line.tax_minor)


def _awaited(order: OrderFacts) -> dict[str, Any]:
    """An order that Shopify has not told of: its refunds as they came, their money as it was named there."""
    return {
        "id": str(order.order_id),
        "name": None,
        "status": "unknown",
        "refunds": [
            {"id": str(id), "at": known.at.isoformat(), "money": _moneys(order, id)}
            for id, known in sorted(order.refunds.items())
        ],
    }


def _moneys(order: OrderFacts, refund_id: int) -> list[dict[str, str]]:
    moved = order.transactions_of(order.refunds[refund_id].refund)
    return [
        {
            "amount": from_minor(each.amount_minor, each.currency),
            "currency": each.currency,
            "status": each.status,
        }
        for each in moved
    ]


def _flags(traced: Told) -> list[dict[str, Any]]:
    """What somebody should know of the order, and what to do about it."""
    return [
        {
            **flag,
            "words": REASONS[flag["code"]],
            "advice": ADVICE.get(flag["code"], ""),
            "quiet": flag["code"] in QUIET_FLAGS,
        }
        for flag in traced["flags"]
    ]


def _award_of(award: Told, traced: Told) -> Told:
    """Why an award is what it is; nothing of one that the books alone still have."""
    return next((each for each in traced["awards"] if each["rule"] == award["rule"]), {})


# -- what took the order apart --------------------------------------------------------------------------


def _standing(decision: Told, shown: Told, traced: Told, unit: str) -> dict[str, Any]:
    """A cause that counts."""
    cause, refund = decision["cause"], _refund_of(decision["cause"], shown)
    money = {
        "refund_amount": decision["amount"],
        "order_total": traced["total"],
        "currency": traced["currency"],
        "ratio": decision["fraction"],
    }
    reasons = [reason["code"] for reason in decision["reasons"]]
    touches = decision["claims"] or decision["returns"]
    return {
        **decision,
        "by_hand": (refund is not None and refund["origin"] == "merchant") or decision["asked"] is not None,
        "text": event(cause, money),
        "nothing": "" if touches else joined(recorded("", {"reasons": reasons}, unit)[1:]),
        "reasons": _said(decision["reasons"]),
        "claims": [_claim(claim, unit) for claim in decision["claims"]],
        "returns": [_return(back, shown, unit) for back in decision["returns"]],
        "can_undo": _can_undo(decision, shown),
        "undone": None,
    }


def _refund_of(cause: str, shown: Told) -> Told | None:
    return next((each for each in shown["refunds"] if refund_key(int(each["id"])) == cause), None)


def _can_undo(decision: Told, shown: Told) -> bool:
    """Whether R38 knows how: a refund, what ended the order, what was given back by hand and whose code is not gone."""
    if decision["kind"] == "reversal":
        return any(
            reversal_key(int(each["id"])) == decision["cause"] and each["code"] != "removed"
            for each in shown["reversals"]
        )
    return decision["kind"] == "refund" or (decision["kind"] in ("void", "cancel") and decision["closes"])


def _claim(claim: Told, unit: str) -> dict[str, Any]:
    """1/5 of 500 = 100 points taken back; balance 500 -> 400."""
    codes = [reason["code"] for reason in claim["reasons"]]
    told = {**claim, "reasons": codes, "debt_added": claim["owed"]}
    return {
        **claim,
        "text": joined(reversed_("", told, unit)),
        "reasons": _said(claim["reasons"]),
        "cap": claim["left_before"],
    }


def _return(back: Told, shown: Told, unit: str) -> dict[str, Any]:
    """300 points given back; 20 of them had expired; balance 0 -> 280. The balance where one customer has all of it."""
    used = next((each for each in shown["redemptions"] if each["id"] == back["redemption_id"]), None)
    alone = back["members"][0] if len(back["members"]) == 1 else {}
    balances = {name: alone[name] for name in ("balance_before", "balance_after") if name in alone}
    codes = [reason["code"] for reason in back["reasons"]]
    expired = sum(member["expired"] for member in back["members"])
    told = {**back, "reasons": codes, "of": back["redeemed"], "expired": expired, **balances}
    return {
        **back,
        "reward": None if used is None else used["reward"],
        "code": None if used is None else used["code"],
        "text": joined(returned("", told, unit)),
        "reasons": _said(back["reasons"]),
    }


def _said(reasons: Iterable[Mapping[str, str]]) -> list[dict[str, str]]:
    return [{**reason, "words": REASONS[reason["code"]]} for reason in reasons]


# -- what was taken back -----------------------------------------------------------------------------


def _taken_back(shown: Told, unit: str) -> Iterator[dict[str, Any]]:
    """The causes that count for nothing any more (R38), where they had been."""
    acts = {act["cause"]: act for act in shown["undone"]}
    when = {f"cancellation:{each['id']}": each["at"] for each in shown["cancellations"]}
    for cause, act in acts.items():
        refund = _refund_of(cause, shown)
        worth = {} if refund is None else {"refund_amount": refund["amount"], "order_total": shown["total"]}
        by_hand = cause.startswith("cancellation:") or (
            refund is not None and int(refund["id"]) >= MERCHANT_REFUND_FIRST
        )
        yield {
            "cause": cause,
            "kind": cause.partition(":")[0],
            "at": when.get(cause, act["at"]) if refund is None else refund["at"],
            "by_hand": by_hand,
            "text": event(cause, {**worth, "currency": shown["currency"]}),
            "undone": act,
        }
    for each in shown["reversals"]:
        if each["undone_at"] is not None:
            yield {
                "cause": reversal_key(int(each["id"])),
                "kind": "reversal",
                "at": each["at"],
                "by_hand": True,
                "text": f"{each['amount']} {unit} had been given back by hand",
                "undone": {"at": each["undone_at"], "by": None, "reason": None},
            }


def _undoing(act: Any) -> dict[str, Any] | None:
    """An undo that waits for a discount code to be taken away at Shopify, or that could not be done for it."""
    if act is None or act.kind not in ("undo.asked", "undo.refused"):
        return None
    words = {name: act.detail.get(name) for name in ("by", "reason", "why")}
    return {"refused": act.kind == "undo.refused", "at": act.at.isoformat(), **words}
