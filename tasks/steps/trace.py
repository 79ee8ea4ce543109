"""Why an order's points are what they are: every decision with its rule, fraction, cap, lots and policy (R39)."""

from __future__ import annotations

from collections.abc import Iterable, Mapping, Sequence
from datetime import UTC, datetime
from fractions import Fraction
from typing import Any

from sqlalchemy import Connection, Row, text

from models.errors import NotFound
from models.rules.causes import Cause, order_of_time
from models.rules.money import from_minor
from models.rules.plan import REVERSAL, Claim, OrderPlan, Return, plan
from tasks.steps import sql
from tasks.steps.load import World, load_orders, load_redemptions, open_world, redemptions_on
from tasks.steps.read import points
from tasks.steps.shops import by_id
from tasks.steps.timeline import award_target, redemption_target

# The rule behind each reason code; docs/rules.md lists the same.
RULE_OF = {
    "REMAINDER": "R4",
    "ALREADY_CLOSED": "R4",
    "CAPPED": "R3",
    "STATUS_OFF": "R11",
    "ONLY_ON_FULL": "R9",
    "NO_MONEY_MOVED": "S3",
    "MONEY_PENDING": "S3",
    "MONEY_FAILED": "S3",
    "ITEMS_WITHOUT_MONEY": "S3",
    "MONEY_DIFFERS": "S2",
    "ALREADY_RETURNED": "R14",
    "RETURN_OFF": "R17",
    "GIFT_CARD_REWARD": "R16",
    "NO_LINE_DISCOUNT": "R12",
    "EDIT_KEEPS_REDEEMED": "R12",
    "AMOUNT_ONLY": "R15",
    "SHIPPING_ONLY": "R15",
    "CODE_REACTIVATED": "R22",
    "REDEMPTION_ENDED": "R30",
    "CANCELLED_PAID_WAITING": "R27",
    "VOIDED_STILL_OWED": "S7",
    "NO_CUSTOMER": "R32",
    "PLACED_BEFORE_INSTALL": "R17",
    "IMPORTED": "R9",
    "BEFORE_IMPORT": "R17",
    "REPLACED_BY_IMPORT": "R9",
    "TEST_ORDER_IGNORED": "R32",
    "REFUND_CONFLICT": "R28",
    "ORDER_UNKNOWN": "R28",
    "REFUNDED_TWICE": "R36",
    "CANCELLED_BY_MERCHANT": "R34",
    "REVERSED_BY_MERCHANT": "R35",
    "CODE_OF_CANCELLED": "R21",
}

# What was given back by hand is on no order's account: its rows are found by the redemption.
OF_ORDER = (
    "(order_id = :id or redemption_id = any(cast(:redemptions as bigint[])) and cause like 'reversal:%')"
)
ROWS = text(f"select * from timeline where shop_id = :shop_id and {OF_ORDER}")
LOTS = text(
    "select e.event_cause, e.event_target, e.customer_id, e.lot, sum(e.amount)::bigint as amount from entries e"
    f" join (select distinct customer_id, cause, target from timeline where shop_id = :shop_id and {OF_ORDER}) t"
    "  on t.customer_id = e.customer_id and t.cause = e.event_cause and t.target = e.event_target"
    " where e.shop_id = :shop_id group by 1, 2, 3, 4 having sum(e.amount) <> 0 order by 4"
)
BALANCES = text(
    "select distinct on (a.customer_id, a.cause, a.target) a.customer_id, a.cause, a.target, a.detail from activity a"
    f" join (select distinct customer_id, cause, target from timeline where shop_id = :shop_id and {OF_ORDER}) t"
    "  on t.customer_id = a.customer_id and t.cause = a.cause and t.target = a.target"
    " where a.shop_id = :shop_id and jsonb_exists(a.detail, 'balance_before')"
    " order by a.customer_id, a.cause, a.target, a.id desc"
)
ASKED = {  # what a merchant may ask, by the entry that says so
    "order.cancelled": True,
    "order.refunded": True,
    "redemption.cancelled": True,
    "redemption.reversed": True,
    "refund.undone": False,
    "cancellation.undone": False,
    "reversal.undone": False,
}
ACTS = text(
    "select kind, cause, at, detail from activity where shop_id = :shop_id and kind = any(:kinds)"
    " and (order_id = :id or customer_id = any(cast(:customers as bigint[]))"
    "   and target = any(cast(:targets as text[]))) order by id"
)


def trace(connection: Connection, shop_id: int, order_id: int) -> dict[str, Any]:
    """Every decision of one order, in the order of its own time. Raises NotFound."""
    return explained(*looked_at(connection, shop_id, order_id))


def looked_at(connection: Connection, shop_id: int, order_id: int) -> tuple[World, OrderPlan]:
    """One order's plan and what it was made of; nothing is locked. Raises NotFound."""
    world = open_world(connection, by_id(connection, shop_id), datetime.now(UTC), read_only=True)
    load_orders(world, [order_id])
    if order_id not in world.orders:
        raise NotFound("order", order_id)
    load_redemptions(world)
    used = redemptions_on(world)[order_id]
    return world, plan(world.orders[order_id], programs=world.programs, redemptions=used)


def explained(world: World, made: OrderPlan) -> dict[str, Any]:
    """A plan beside what the books made of it."""
    return _Trace(world, made).as_dict()


class _Trace:
    """One order's plan beside what the books made of it."""

    def __init__(self, world: World, made: OrderPlan) -> None:
        ids = [each.id for each in made.redemptions]
        key = {"shop_id": world.shop.id, "id": made.order.order_id, "redemptions": ids}
        self.made, self.program = made, world.programs[-1]
        rows = sql.fetch(world.connection, ROWS, **key)
        self.rows = {(row.customer_id, row.cause, row.target): row for row in rows}
        self.lots: dict[tuple[int, str, str], list[dict[str, Any]]] = {}
        for lot in sql.fetch(world.connection, LOTS, **key):
            moved = {"lot": lot.lot, "amount": points(lot.amount, self.program)}
            self.lots.setdefault((lot.customer_id, lot.event_cause, lot.event_target), []).append(moved)
        balances = sql.fetch(world.connection, BALANCES, **key)
        self.balances = {(b.customer_id, b.cause, b.target): b.detail for b in balances}
        self.acts = sql.fetch(
            world.connection,
            ACTS,
            shop_id=world.shop.id,
            id=made.order.order_id,
            kinds=list(ASKED),
            customers=[each.customer_id for each in made.redemptions],
            targets=[redemption_target(id) for id in ids],
        )

    def as_dict(self) -> dict[str, Any]:
        made, placed = self.made, self.made.order.placed
        currency = placed.currency if placed else None
        return {
            "order_id": str(made.order.order_id),
            "name": placed.name if placed else None,
            "status": made.status,
            "currency": currency,
            "total": from_minor(placed.total_minor, placed.currency) if placed else None,
            "refunded": from_minor(made.refunded, placed.currency) if placed else None,
            "flags": [{"code": flag, "rule": RULE_OF[flag]} for flag in made.flags],
            "awards": [self._award(award.target) for award in made.awards],
            "decisions": [self._decision(cause) for cause in self._causes()],
            "undone": [{"cause": act.cause, **_act(act)} for act in self.acts if not ASKED[act.kind]],
            "restitution": {str(id): what for id, what in sorted(made.restitution.items())},
        }

    def _causes(self) -> list[Cause]:
        """All that touched the order in its own time: what was given back by hand among it."""
        by_hand = {back.cause.key: back.cause for back in self.made.returns if back.cause.kind == REVERSAL}
        return sorted([*self.made.causes, *by_hand.values()], key=order_of_time)

    def _award(self, target: str) -> dict[str, Any]:
        made = self.made
        award = next(award for award in made.awards if award.target == target)
        placed = made.order.placed
        assert placed is not None and made.order.customer_id is not None
        key = (
            made.order.customer_id,
            f"order:{made.order.order_id}",
            award_target(made.order.order_id, target),
        )
        return {
            "rule": target,
            "amount": points(award.amount, self.program),
            "on": from_minor(award.base_minor, placed.currency),
            "mask": award.mask,
            "at": award.at.isoformat(),
            "due_at": award.due_at.isoformat(),
            "expires_at": None if award.expires_at is None else award.expires_at.isoformat(),
            "policy_version": award.policy_version,
            "left": points(award.amount - made.reversed_of(target), self.program),
            **self._moved(key),
        }

    def _decision(self, cause: Cause) -> dict[str, Any]:
        made, placed = self.made, self.made.order.placed
        assert placed is not None
        fraction = Fraction(cause.value, placed.total_minor) if placed.total_minor else Fraction(0)
        reasons = cause.money.reasons if cause.money is not None else ()
        return {
            "cause": cause.key,
            "kind": cause.kind,
            "at": cause.at.isoformat(),
            "amount": from_minor(cause.value, placed.currency),
            "fraction": f"{fraction.numerator}/{fraction.denominator}",
            "closes": cause.closing,
            "policy_version": cause.policy.version,
            "reasons": _coded(reasons),
            "asked": next(
                (_act(act) for act in self.acts if act.cause == cause.key and ASKED[act.kind]), None
            ),
            "claims": [self._claim(claim) for claim in made.claims if claim.cause.key == cause.key],
            "returns": [self._return(back) for back in made.returns if back.cause.key == cause.key],
        }

    def _claim(self, claim: Claim) -> dict[str, Any]:
        made = self.made
        assert made.order.customer_id is not None
        key = (made.order.customer_id, claim.cause.key, award_target(made.order.order_id, claim.award.target))
        row = self.rows.get(key)
        earlier = _sum_before(claim, made.claims)
        pending = claim.reduces_pending
        return {
            "award": claim.award.target,
            "rules": _rules(
                claim.reasons, "R1", "R2", "R5" if pending else "R6", short=bool(row and row.short)
            ),
            "award_amount": points(claim.award.amount, self.program),
            "of": points(claim.award.whole, self.program),
            "left_before": points(claim.award.amount - earlier, self.program),
            "ratio": _ratio(claim.ratio),
            "amount": points(claim.amount, self.program),
            "pending": pending,
            "debited": points(0 if pending or row is None else row.moved, self.program),
            "shortfall": points(row.short if row is not None else 0, self.program),
            "owed": points(max(0, row.debt_change) if row is not None else 0, self.program),
            "reasons": _coded(claim.reasons),
            **self._moved(key),
        }

    def _return(self, back: Return) -> dict[str, Any]:
        members = []
        for customer_id, amount in back.split:
            key = (customer_id, back.cause.key, redemption_target(back.redemption.id))
            row = self.rows.get(key)
            members.append(
                {
                    "customer_id": str(customer_id),
                    "amount": points(amount, self.program),
                    "credited": points(row.moved if row is not None else 0, self.program),
                    "expired": points(row.expired if row is not None else 0, self.program),
                    **self._moved(key),
                }
            )
        return {
            "redemption_id": str(back.redemption.id),
            "rules": _rules(
                back.reasons, "R12", "R19", *(["R20"] if len(back.redemption.members) > 1 else [])
            ),
            "redeemed": points(back.redemption.amount, self.program),
            "ratio": _ratio(back.ratio),
            "amount": points(back.amount, self.program),
            "members": members,
            "reasons": _coded(back.reasons),
        }

    def _moved(self, key: tuple[int, str, str]) -> dict[str, Any]:
        found: dict[str, Any] = {"lots": self.lots.get(key, [])}
        detail = self.balances.get(key)
        if detail is not None:
            found["balance_before"] = points(detail["balance_before"], self.program)
            found["balance_after"] = points(detail["balance_after"], self.program)
        return found


def _act(act: Row[Any]) -> dict[str, Any]:
    """What a merchant asked: when, who it was, and why."""
    return {
        "at": act.at.astimezone(UTC).isoformat(),
        "by": act.detail.get("by"),
        "reason": act.detail.get("reason"),
    }


def _sum_before(claim: Claim, claims: Sequence[Claim]) -> int:
    total = 0
    for other in claims:
        if other is claim:
            return total
        if other.award.target == claim.award.target:
            total += other.amount
    return total


def _coded(reasons: Iterable[str]) -> list[dict[str, str]]:
    return [{"code": reason, "rule": RULE_OF[reason]} for reason in reasons]


def _ratio(ratio: Fraction | None) -> str | None:
    return None if ratio is None else f"{ratio.numerator}/{ratio.denominator}"


def _rules(reasons: Iterable[str], *usual: str, short: bool = False) -> list[str]:
    """The rules that decided: those of the reasons where there are some, else the usual ones; R7 where it was short."""
    named = [RULE_OF[reason] for reason in reasons] or list(usual)
    return [*dict.fromkeys([*named, *(["R7"] if short else [])])]


# -- in plain words ----------------------------------------------------------------------------------


def as_text(traced: Mapping[str, Any]) -> str:
    """The trace as a person reads it."""
    head = f"Order {traced['name'] or traced['order_id']}: {traced['status'].replace('_', ' ')}"
    if traced["total"] is not None:
        head += f", {traced['refunded']} of {traced['total']} {traced['currency']} given back"
    lines = [head]
    lines += [f"  note: {flag['code']} ({flag['rule']})" for flag in traced["flags"]]
    lines += [
        f"  earned {a['amount']} by {a['rule']} on {a['on']} ({a['mask']}), due {a['due_at']}, policy {a['policy_version']}"
        for a in traced["awards"]
    ]
    for decision in traced["decisions"]:
        lines += _decision_text(decision, traced)
    lines += [
        f"{undone['at']}  {undone['cause']} undone{_asked_text(undone)}: it counts for nothing (R38)"
        for undone in traced["undone"]
    ]
    return "\n".join(lines) + "\n"


def _decision_text(decision: Mapping[str, Any], traced: Mapping[str, Any]) -> list[str]:
    what = f"{decision['at']}  {decision['cause']}"
    money = (
        ": given back by hand"
        if decision["kind"] == REVERSAL
        else f": {decision['amount']} of {traced['total']} = {decision['fraction']}"
    )
    closes = ", closes the order (R4)" if decision["closes"] else ""
    asked = _asked_text(decision["asked"]) if decision["asked"] else ""
    head = what + money + asked + closes
    lines = [head + f", policy {decision['policy_version']}" + _why(decision["reasons"])]
    for claim in decision["claims"]:
        lines.append("    " + _claim_text(claim))
    for back in decision["returns"]:
        asked = (
            f"{back['ratio']} of {back['redeemed']} = {back['amount']}"
            if back["ratio"]
            else str(back["amount"])
        )
        lines.append(f"    redemption {back['redemption_id']}: returns {asked}" + _rules_text(back))
        for member in back["members"]:
            if member["amount"]:
                parts = f"{member['credited']} credited, {member['expired']} expired"
                lines.append(f"      customer {member['customer_id']}: {parts}" + _balance_text(member))
    return lines


def _asked_text(act: Mapping[str, Any]) -> str:
    by = f" by {act['by']}" if act["by"] else ""
    return by + (f" ({act['reason']})" if act["reason"] else "")


def _claim_text(claim: Mapping[str, Any]) -> str:
    usual = claim["ratio"] and not claim["reasons"]
    how = f"{claim['ratio']} of {claim['of']} = {claim['amount']}" if usual else f"{claim['amount']}"
    taken = (
        "from what is pending"
        if claim["pending"]
        else f"{claim['debited']} debited, {claim['shortfall']} short"
    )
    return f"{claim['award']}: takes back {how} ({taken})" + _rules_text(claim) + _balance_text(claim)


def _rules_text(what: Mapping[str, Any]) -> str:
    return f" [{', '.join(what['rules'])}]" + _why(what["reasons"])


def _why(reasons: Sequence[Mapping[str, str]]) -> str:
    return " " + ", ".join(reason["code"] for reason in reasons) if reasons else ""


def _balance_text(what: Mapping[str, Any]) -> str:
    return (
        f"; balance {what['balance_before']} -> {what['balance_after']}" if "balance_before" in what else ""
    )
