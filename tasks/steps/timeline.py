"""What a plan puts on the timelines of wallets, and how that differs from what stands there."""

from __future__ import annotations

from collections.abc import Iterable, Mapping
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from typing import Any

from models.rules.awards import IMPORTED
from models.rules.plan import REVERSAL, OrderPlan, Return
from models.rules.wallet import APPROVAL, CLAIM, RETURN, Event, EventKey

Item = Mapping[str, Any]  # one row of `timeline`, by column
ItemId = tuple[int, int, str, str]  # customer, kind, cause, target

RESULTS = ("moved", "short", "expired", "debt_change", "folded")
COLUMNS = [
    "shop_id",
    "customer_id",
    "kind",
    "cause",
    "target",
    "at",
    "sort_id",
    "order_id",
    "redemption_id",
    "amount",
    "expires_at",
    "grace_days",
    "carry_debt",
    "reduces_pending",
    "ratio",
    "reasons",
    "policy_version",
    "moved",
    "short",
    "expired",
    "debt_change",
    "folded",
]
DECIDED = tuple(name for name in COLUMNS if name not in RESULTS)


@dataclass(slots=True)
class Changes:
    """What is to change on the timelines: rows as they stood, and rows as they should stand."""

    gone: dict[ItemId, Item] = field(default_factory=dict)  # stood, and should not
    new: dict[ItemId, Item] = field(default_factory=dict)  # should stand, otherwise than they did
    old: dict[ItemId, Item] = field(default_factory=dict)  # how the new ones stood before, where they did

    def keys(self) -> dict[int, EventKey]:
        """Customer -> the earliest moment that changes."""
        found: dict[int, EventKey] = {}
        for items in (self.gone, self.new, self.old):
            for item in items.values():
                key = event_key(item)
                customer = item["customer_id"]
                found[customer] = min(found.get(customer, key), key)
        return found


def item_id(item: Item) -> ItemId:
    return item["customer_id"], item["kind"], item["cause"], item["target"]


def event_key(item: Item) -> EventKey:
    return item["at"], item["kind"], item["sort_id"], item["target"], item["cause"]


def event_of(item: Item) -> Event:
    return Event(
        at=item["at"],
        kind=item["kind"],
        sort_id=item["sort_id"],
        target=item["target"],
        cause=item["cause"],
        amount=item["amount"],
        expires_at=item["expires_at"],
        grace_days=item["grace_days"],
        carry_debt=item["carry_debt"],
        redemption_id=item["redemption_id"],
    )


def award_target(order_id: int, target: str) -> str:
    return f"order:{order_id}:{target}"


def redemption_target(redemption_id: int) -> str:
    return f"redemption:{redemption_id}"


def items_of(plan: OrderPlan, shop_id: int) -> list[Item]:
    """The approvals, claims and returns that a plan wants on the timelines (R0); not what merchants gave back by hand."""
    returns = [back for back in plan.returns if back.cause.kind != REVERSAL]
    given = _returns(returns, shop_id, plan.order.order_id)
    return [*_approvals(plan, shop_id), *_claims(plan, shop_id), *given]


def reversal_items(returns: Iterable[Return], shop_id: int) -> list[Item]:
    """What merchants gave back by hand: of a redemption, whichever order uses it, so no order's (R34, R35)."""
    return list(_returns([back for back in returns if back.cause.kind == REVERSAL], shop_id, None))


def item(
    *,
    shop_id: int,
    customer_id: int,
    kind: int,
    cause: str,
    target: str,
    at: datetime,
    sort_id: int,
    amount: int,
    policy_version: int,
    order_id: int | None = None,
    redemption_id: int | None = None,
    expires_at: datetime | None = None,
    grace_days: int = 0,
    carry_debt: bool = False,
    reduces_pending: bool = False,
    ratio: Fraction | None = None,
    reasons: Iterable[str] = (),
) -> dict[str, Any]:
    """A timeline row not folded yet; one that only lowers a pending award has nothing to fold (R5)."""
    return {
        "shop_id": shop_id,
        "customer_id": customer_id,
        "kind": kind,
        "cause": cause,
        "target": target,
        "at": at,
        "sort_id": sort_id,
        "order_id": order_id,
        "redemption_id": redemption_id,
        "amount": amount,
        "expires_at": expires_at,
        "grace_days": grace_days,
        "carry_debt": carry_debt,
        "reduces_pending": reduces_pending,
        "ratio": None if ratio is None else f"{ratio.numerator}/{ratio.denominator}",
        "reasons": list(reasons),
        "policy_version": policy_version,
        **dict.fromkeys(RESULTS, 0),
        "moved": amount if reduces_pending else 0,
        "folded": reduces_pending,
    }


def _approvals(plan: OrderPlan, shop_id: int) -> Iterable[Item]:
    reduced: dict[str, int] = {}
    for claim in plan.claims:
        if claim.reduces_pending:
            reduced[claim.award.target] = reduced.get(claim.award.target, 0) + claim.amount
    order_id, customer_id = plan.order.order_id, plan.order.customer_id
    for award in plan.awards:
        assert customer_id is not None
        yield item(
            shop_id=shop_id,
            customer_id=customer_id,
            kind=APPROVAL,
            cause=f"order:{order_id}",
            target=award_target(order_id, award.target),
            at=award.due_at,
            sort_id=order_id,
            order_id=order_id,
            amount=award.granted - reduced.get(award.target, 0),
            expires_at=award.expires_at,
            reasons=() if award.since is None else (IMPORTED,),
            policy_version=award.policy_version,
        )


def _claims(plan: OrderPlan, shop_id: int) -> Iterable[Item]:
    order_id, customer_id = plan.order.order_id, plan.order.customer_id
    for claim in plan.claims:
        assert customer_id is not None
        yield item(
            shop_id=shop_id,
            customer_id=customer_id,
            kind=CLAIM,
            cause=claim.cause.key,
            target=award_target(order_id, claim.award.target),
            at=claim.cause.at,
            sort_id=claim.cause.sort_id,
            order_id=order_id,
            amount=claim.amount,
            carry_debt=claim.cause.policy.carry_debt,
            reduces_pending=claim.reduces_pending,
            ratio=claim.ratio,
            reasons=claim.reasons,
            policy_version=claim.cause.policy.version,
        )


def _returns(returns: Iterable[Return], shop_id: int, order_id: int | None) -> Iterable[Item]:
    for back in returns:
        for customer_id, amount in back.split:
            yield item(
                shop_id=shop_id,
                customer_id=customer_id,
                kind=RETURN,
                cause=back.cause.key,
                target=redemption_target(back.redemption.id),
                at=back.cause.at,
                sort_id=back.cause.sort_id,
                order_id=order_id,
                redemption_id=back.redemption.id,
                amount=amount,
                grace_days=back.cause.policy.expired_grace_days,
                ratio=back.ratio,
                reasons=back.reasons,
                policy_version=back.cause.policy.version,
            )


def compare(stored: Iterable[Item], wanted: Iterable[Item]) -> Changes:
    """What must change so that the wanted rows stand, and no others."""
    changes = Changes()
    standing = {item_id(row): row for row in stored}
    for row in wanted:
        id = item_id(row)
        before = standing.pop(id, None)
        if before is None:
            changes.new[id] = row
        elif any(before[name] != row[name] for name in DECIDED):
            changes.new[id], changes.old[id] = row, before
    changes.gone = standing
    return changes
