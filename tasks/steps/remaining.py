"""What of an order can still come apart (R36): the same words for its preview, its calls and its webhooks."""

from __future__ import annotations

from collections.abc import Sequence
from typing import Any

from models.rules.causes import money_left
from models.rules.money import from_minor
from models.rules.plan import OrderPlan, Redemption
from models.rules.program import Program
from tasks.steps.read import points


def remaining(made: OrderPlan, programs: Sequence[Program]) -> dict[str, Any]:
    """Money, value earned and value redeemed that no cause has taken yet. `made.order.placed` is known."""
    placed, program = made.order.placed, programs[-1]
    assert placed is not None
    earned = sum(award.amount - made.reversed_of(award.target) for award in made.awards)
    redeemed = sum(_left_of(redemption, made) for redemption in made.redemptions)
    return {
        "amount": from_minor(_money_left(made, programs), placed.currency),
        "earned": points(earned, program),
        "redeemed": points(redeemed, program),
    }


def _money_left(made: OrderPlan, programs: Sequence[Program]) -> int:
    """What the order came to after its edits, less what was given back; nothing of one that is closed."""
    if any(cause.closing for cause in made.causes):
        return 0
    return money_left(made.order, programs)[0]


def _left_of(redemption: Redemption, made: OrderPlan) -> int:
    """What of a redemption can still come back by this order; nothing where its code did (R21)."""
    if not redemption.held or redemption.ended or made.restitution[redemption.id] == "code":
        return 0
    return redemption.amount - sum(b.amount for b in made.returns if b.redemption.id == redemption.id)
