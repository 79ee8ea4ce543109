"""What each refund asks of each award and each redemption of one order: the `claims` of R0, and their reasons.

Pure: the same facts, programs and redemptions give the same plan, in whatever order they became known.
"""

from __future__ import annotations

from collections.abc import Sequence
from dataclasses import dataclass, field
from datetime import datetime
from fractions import Fraction
from math import floor

from models.rules.awards import BEFORE_IMPORT, Award, awards_of, earning_shares, is_ignored, line_value
from models.rules.causes import Cause, causes_of, flags_of, order_of_time
from models.rules.facts import ReturnedLine, Snapshot
from models.rules.money import share, split_largest_remainder
from models.rules.order import OrderFacts
from models.rules.program import Program, program_at

STATUS_OFF = "STATUS_OFF"
ALREADY_CLOSED = "ALREADY_CLOSED"
ONLY_ON_FULL = "ONLY_ON_FULL"
REMAINDER = "REMAINDER"
CAPPED = "CAPPED"
ALREADY_RETURNED = "ALREADY_RETURNED"
RETURN_OFF = "RETURN_OFF"
GIFT_CARD_REWARD = "GIFT_CARD_REWARD"
NO_LINE_DISCOUNT = "NO_LINE_DISCOUNT"
AMOUNT_ONLY = "AMOUNT_ONLY"
SHIPPING_ONLY = "SHIPPING_ONLY"
CODE_REACTIVATED = "CODE_REACTIVATED"
EDIT_KEEPS_REDEEMED = "EDIT_KEEPS_REDEEMED"
REDEMPTION_ENDED = "REDEMPTION_ENDED"
CANCELLED_BY_MERCHANT = "CANCELLED_BY_MERCHANT"
REVERSED_BY_MERCHANT = "REVERSED_BY_MERCHANT"
CODE_OF_CANCELLED = "CODE_OF_CANCELLED"
REVERSAL = "reversal"  # the kind of cause that a merchant's reversal is

REACTIVATIONS_MAX = 3  # R22


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversal:
    """Value of a redemption that a merchant gives back by hand: all that was left (cancelled, R34) or a part (R35).

    code: what became of its discount code then, as far as we could see
    """

    id: int
    at: datetime
    amount: int
    cancels: bool = False
    code: str = "untracked"


@dataclass(frozen=True, slots=True, kw_only=True)
class Redemption:
    """Value spent on a reward. members: (customer id, amount) in id order; one for a redemption of one's own.

    reactivation: none, wanted, done or failed: what is known of its code at Shopify for this use (R23)
    was_reactivated: its code came back for an earlier use, and this order used it again
    held: this use is the one that the redemption stands for now; False for a use that was given back
    in_flight: its code may have come back for this use, and nobody knows yet: nothing else comes back meanwhile (R21)
    ended: its value was given back whole without an order (R30)
    reversals: what merchants gave back by hand, and did not undo; of the use that the redemption stands for (D25)
    since: of an imported one, until when it was another program's, and what came back of it that program's (D29)
    """

    id: int
    customer_id: int
    reward_id: str
    kind: str
    amount: int
    code_key: str | None
    at: datetime
    members: tuple[tuple[int, int], ...]
    reactivations: int = 0
    reactivation: str = "none"
    used_elsewhere: bool = False
    was_reactivated: bool = False
    held: bool = True
    in_flight: bool = False
    ended: bool = False
    reversals: tuple[Reversal, ...] = ()
    since: datetime | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Claim:
    """What one cause takes back of one award. amount <= what was left of it (R3)."""

    cause: Cause
    award: Award
    amount: int
    ratio: Fraction | None
    reduces_pending: bool
    reasons: tuple[str, ...]


@dataclass(frozen=True, slots=True, kw_only=True)
class Return:
    """What one cause gives back of one redemption, and to whom (R12-R20)."""

    cause: Cause
    redemption: Redemption
    amount: int
    ratio: Fraction | None
    split: tuple[tuple[int, int], ...]  # (customer id, amount)
    reasons: tuple[str, ...]


@dataclass(slots=True, kw_only=True)
class OrderPlan:
    """Everything decided of one order. `restitution`: redemption id -> none, points or code (R21);
    `codes_back`: redemptions whose code comes back for the use on this order (R22)."""

    order: OrderFacts
    status: str
    flags: list[str]
    causes: list[Cause]
    awards: list[Award]
    redemptions: list[Redemption]
    claims: list[Claim] = field(default_factory=list)
    returns: list[Return] = field(default_factory=list)
    restitution: dict[int, str] = field(default_factory=dict)
    codes_back: set[int] = field(default_factory=set)

    @property
    def refunded(self) -> int:
        return sum(cause.value for cause in self.causes if cause.kind in ("refund", "dispute"))

    def reversed_of(self, target: str) -> int:
        return sum(claim.amount for claim in self.claims if claim.award.target == target)


def plan(order: OrderFacts, *, programs: Sequence[Program], redemptions: Sequence[Redemption]) -> OrderPlan:
    """The claims, returns and restitutions that should stand for one order (R0 a)."""
    if order.placed is None:
        return OrderPlan(
            order=order,
            status="unknown",
            flags=flags_of(order, programs, []),
            causes=[],
            awards=awards_of(order, programs),
            redemptions=list(redemptions),
            restitution={r.id: _standing(r) for r in redemptions},
        )
    causes = causes_of(order, programs)
    made = OrderPlan(
        order=order,
        status=_status(causes),
        flags=flags_of(order, programs, causes),
        causes=causes,
        awards=awards_of(order, programs),
        redemptions=list(redemptions),
    )
    shares = earning_shares(order, programs)
    for award in made.awards:
        made.claims += _claims_on(award, causes, order, shares)
    for redemption in redemptions:
        _return_redeemed(redemption, made, programs)
    if any(_is_cancelled(redemption) for redemption in redemptions):
        made.flags.append(CODE_OF_CANCELLED)
    return made


def _is_cancelled(redemption: Redemption) -> bool:
    """Its points came back by hand because its code looked unused, and here it is used (R21, R34)."""
    return any(each.cancels and each.code != "stays_used" for each in redemption.reversals)


def _status(causes: Sequence[Cause]) -> str:
    closing = next((cause for cause in causes if cause.closing), None)
    if closing is not None:
        return {"void": "voided", "cancel": "cancelled"}.get(closing.kind, "fully_refunded")
    paid_back = any(cause.value > 0 for cause in causes if cause.kind in ("refund", "dispute"))
    return "partially_refunded" if paid_back else "open"


# -- earned value ------------------------------------------------------------------------------------


def _claims_on(
    award: Award, causes: Sequence[Cause], order: OrderFacts, shares: dict[int, Fraction]
) -> list[Claim]:
    """R1-R11 for one award, cause by cause in their own time."""
    claims: list[Claim] = []
    taken, ratios, closed = 0, Fraction(0), False
    for cause in causes:
        if _is_of_another_line(cause, award):
            continue
        if award.since is not None and cause.at <= award.since:
            claims.append(_past(cause, award))
            closed = closed or cause.closing
            continue
        left = award.amount - taken
        ratio = None if cause.kind in ("void", "cancel") else _ratio(award, cause, order, shares)
        if (
            cause.status in cause.policy.reversing_statuses
        ):  # what was switched off waits for the closing (R11)
            ratios += ratio or 0
        amount, reasons = _claim(award, cause, ratio, ratios, left=left, taken=taken, closed=closed)
        assert 0 <= amount <= left
        claims.append(
            Claim(
                cause=cause,
                award=award,
                amount=amount,
                ratio=ratio,
                reduces_pending=cause.at < award.due_at,
                reasons=reasons,
            )
        )
        taken += amount
        closed = closed or cause.closing
    return claims


def _past(cause: Cause, award: Award) -> Claim:
    """What happened while the award was another program's is that program's (D29)."""
    reasons = (BEFORE_IMPORT,)
    return Claim(cause=cause, award=award, amount=0, ratio=None, reduces_pending=True, reasons=reasons)


def _is_of_another_line(cause: Cause, award: Award) -> bool:
    """An edit of one line says nothing of what another line earned; a swap of many lines would say so many times over."""
    return award.line is not None and cause.removed is not None and cause.removed.line.id != award.line.id


def _claim(
    award: Award,
    cause: Cause,
    ratio: Fraction | None,
    ratios: Fraction,
    *,
    left: int,
    taken: int,
    closed: bool,
) -> tuple[int, tuple[str, ...]]:
    """One claim's amount and why: what is left at closing (R4), else floor(award x ratio) (R2), capped (R3)."""
    why = cause.money.reasons if cause.money is not None else ()
    if closed:
        return 0, (*why, ALREADY_CLOSED)
    if cause.status not in cause.policy.reversing_statuses:
        return 0, (*why, STATUS_OFF)
    if cause.closing:
        return left, (*why, REMAINDER)
    if award.only_on_full:
        return 0, (*why, ONLY_ON_FULL)
    assert ratio is not None
    if cause.policy.cumulative_rounding:
        asked = max(share(amount=award.whole, ratio=ratios) - taken, 0)
    else:
        asked = share(amount=award.whole, ratio=ratio)
    return (asked, why) if asked <= left else (left, (*why, CAPPED))


def _ratio(award: Award, cause: Cause, order: OrderFacts, shares: dict[int, Fraction]) -> Fraction:
    """R1: the exact part of the award that a cause asks back, under the award's own mask."""
    placed = order.placed
    assert placed is not None
    if cause.removed is not None:
        return _edit_ratio(award, cause, placed)
    if award.line is not None:
        return _added_line_ratio(award, cause)
    if cause.refund is None or cause.money is None:
        return _over(cause.value, placed.total_minor)
    own = {line.id for line in placed.lines}
    extra = [line for line in cause.refund.lines if line.line_id not in own and line.line_id in shares]
    if award.mask == "subtotal" and cause.money.has_lines:
        items = cause.money.items - sum(line.subtotal_minor * shares[line.line_id] for line in extra)
        return _over(items - cause.matched, placed.subtotal_minor)
    value = cause.money.amount_only if award.mask == "subtotal" else cause.value
    added = sum((line.subtotal_minor + line.tax_minor) * shares[line.line_id] for line in extra)
    return _over(value - added - cause.matched, placed.total_minor)


def _edit_ratio(award: Award, cause: Cause, placed: Snapshot) -> Fraction:
    """An edit takes from the awards of its own lines: placed ones by value, added ones by units (S9)."""
    assert cause.removed is not None
    line, part = cause.removed.line, cause.removed.part
    if award.line is not None:
        return part if award.line.id == line.id else Fraction(0)
    if all(line.id != own.id for own in placed.lines):
        return Fraction(0)
    if award.mask == "total":
        return _over(cause.value, placed.total_minor)
    return _over(floor(line_value(line, placed, "subtotal") * part), placed.subtotal_minor)


def _added_line_ratio(award: Award, cause: Cause) -> Fraction:
    assert award.line is not None
    if cause.refund is None or cause.value == 0 or award.line.quantity == 0:
        return Fraction(0)
    own = [line for line in cause.refund.lines if line.line_id == award.line.id]
    units = sum(line.quantity for line in own if _is_of_items(line, award.line.net_minor))
    return Fraction(units, award.line.quantity)


def _is_of_items(line: ReturnedLine, net_minor: int) -> bool:
    """A returned line that carries nothing of what was paid for it says nothing of items (S4)."""
    return bool(line.subtotal_minor or line.tax_minor or net_minor <= 0)


def _over(part: int | Fraction, whole: int) -> Fraction:
    return Fraction(max(part, 0)) / whole if whole > 0 else Fraction(0)


# -- redeemed value ----------------------------------------------------------------------------------


def _return_redeemed(redemption: Redemption, made: OrderPlan, programs: Sequence[Program]) -> None:
    """R12-R22 for one redemption, cause by cause; what merchants give back by hand among them (D25)."""
    order = made.order
    counts = not is_ignored(order, programs) and order.customer_id is not None
    track = _Track(redemption, order)
    by_hand = {reversal_key(reversal.id): reversal for reversal in redemption.reversals}
    asked = [_cause_of(reversal, programs) for reversal in redemption.reversals]
    for cause in sorted([*(made.causes if counts else ()), *asked], key=order_of_time):
        reversal = by_hand.get(cause.key)
        made.returns.append(track.take(cause) if reversal is None else track.reverse(cause, reversal))
    made.restitution[redemption.id] = track.restitution
    if track.code_back:
        made.codes_back.add(redemption.id)


def returns_without_order(redemption: Redemption, programs: Sequence[Program]) -> list[Return]:
    """What merchants gave back by hand of a redemption that no order uses (R34, R35)."""
    track = _Track(redemption, None)
    return [
        track.reverse(_cause_of(reversal, programs), reversal)
        for reversal in sorted(redemption.reversals, key=lambda each: (each.at, each.id))
    ]


def _cause_of(reversal: Reversal, programs: Sequence[Program]) -> Cause:
    return Cause(
        key=reversal_key(reversal.id),
        kind=REVERSAL,
        at=reversal.at,
        sort_id=reversal.id,
        value=0,
        policy=program_at(programs, reversal.at),
    )


def reversal_key(id: int) -> str:
    """The name of a reversal as a cause."""
    return f"{REVERSAL}:{id}"


def _standing(redemption: Redemption) -> str:
    """What was done at Shopify stays done (R23), and so does what was given back without an order."""
    if redemption.ended:
        return "points"
    return "code" if redemption.reactivation == "done" or redemption.was_reactivated else "none"


class _Track:
    """One redemption's way through the causes of its order: what came back, what was forfeited, to whom."""

    def __init__(self, redemption: Redemption, order: OrderFacts | None) -> None:
        self.redemption = redemption
        self.members = dict(redemption.members)
        self.returned = self.forfeited = 0
        self.closed = False
        self.code_back = redemption.reactivation == "done" or redemption.in_flight
        self.units: dict[int, int] = {}
        lines = order.placed.lines if order is not None and order.placed is not None else ()
        self.lines = {
            line.id: (
                line.quantity,
                sum(minor for code, minor in line.code_discounts if code == redemption.code_key),
            )
            for line in lines
        }
        self.paid = {line.id: line.net_minor for line in lines}
        self.discount = sum(minor for _, minor in self.lines.values())

    @property
    def restitution(self) -> str:
        if self.returned:
            return "points"
        return "code" if self.code_back else _standing(self.redemption)

    def reverse(self, cause: Cause, reversal: Reversal) -> Return:
        """What a merchant gives back: as much as was asked, as far as there is something left (R14, D25)."""
        why = CANCELLED_BY_MERCHANT if reversal.cancels else REVERSED_BY_MERCHANT
        amount = min(reversal.amount, self.redemption.amount - self.returned)
        return self._return(cause, amount, None, (why,))

    def take(self, cause: Cause) -> Return:
        left = max(0, self.redemption.amount - self.returned - self.forfeited)
        ratio = self._ratio(cause)
        amount, reasons = self._amount(cause, ratio, left)
        if RETURN_OFF in reasons and not cause.closing and ratio is not None:
            self.forfeited += min(share(amount=self.redemption.amount, ratio=ratio), left)
        self.closed = self.closed or cause.closing
        return self._return(cause, amount, ratio, reasons)

    def _return(self, cause: Cause, amount: int, ratio: Fraction | None, reasons: tuple[str, ...]) -> Return:
        split = self._split(amount)
        self.returned += amount
        return Return(
            cause=cause, redemption=self.redemption, amount=amount, ratio=ratio, split=split, reasons=reasons
        )

    def _amount(self, cause: Cause, ratio: Fraction | None, left: int) -> tuple[int, tuple[str, ...]]:
        why = cause.money.reasons if cause.money is not None else ()
        if self.redemption.since is not None and cause.at <= self.redemption.since:
            return 0, (*why, BEFORE_IMPORT)
        if self.redemption.ended:
            return 0, (*why, REDEMPTION_ENDED)
        if self.redemption.kind == "gift_card":
            return 0, (*why, GIFT_CARD_REWARD)
        if self.closed:
            return 0, (*why, ALREADY_CLOSED)
        if self.code_back or (cause.closing and self._reactivates(cause)):
            self.code_back = True
            return 0, (*why, CODE_REACTIVATED)
        if not cause.policy.return_redeemed:
            return 0, (*why, RETURN_OFF)
        if cause.closing:
            return left, (*why, REMAINDER)
        if ratio is None:
            return 0, (*why, *self._why_nothing(cause))
        asked = share(amount=self.redemption.amount, ratio=ratio)
        if asked > left:
            return left, (*why, ALREADY_RETURNED)
        return asked, why if ratio else (*why, NO_LINE_DISCOUNT)

    def _ratio(self, cause: Cause) -> Fraction | None:
        """Discount of this code on the units this refund took back / its discount on the order (R12, S5)."""
        if cause.refund is None or cause.value == 0 or self.discount == 0:
            return None
        items = [x for x in cause.refund.lines if _is_of_items(x, self.paid.get(x.line_id, 0))]
        shares = [self._line_share(line.line_id, line.quantity) for line in items]
        return Fraction(sum(shares), self.discount) if shares else None

    def _line_share(self, line_id: int, quantity: int) -> int:
        bought, discount = self.lines.get(line_id, (0, 0))
        before = self.units.get(line_id, 0)
        after = min(before + quantity, bought)
        self.units[line_id] = after
        return discount * after // bought - discount * before // bought if bought else 0

    def _why_nothing(self, cause: Cause) -> tuple[str, ...]:
        if cause.kind == "edit":
            return (EDIT_KEEPS_REDEEMED,)
        if cause.value == 0:
            return ()
        if cause.money is not None and cause.money.has_lines:
            return (NO_LINE_DISCOUNT,)
        shipping = cause.money.shipping if cause.money is not None else 0
        return (SHIPPING_ONLY,) if 0 < cause.value <= shipping else (AMOUNT_ONLY,)

    def _reactivates(self, cause: Cause) -> bool:
        """R22: the code itself comes back, when nothing of it came back before and it can be used once more."""
        reward = cause.policy.rewards.get(self.redemption.reward_id)
        return (
            reward is not None
            and reward.reactivate_code
            and self.redemption.code_key is not None
            and self.returned == 0
            and not self.redemption.reversals
            and not self.redemption.used_elsewhere
            and self.redemption.reactivations < REACTIVATIONS_MAX
            and self.redemption.reactivation != "failed"
        )

    def _split(self, amount: int) -> tuple[tuple[int, int], ...]:
        """R20: to each in proportion to what it has not got back yet, largest remainder, ties by member id."""
        if amount == 0:
            return ((self.redemption.customer_id, 0),)
        if len(self.members) == 1:
            return ((next(iter(self.members)), amount),)
        weights = [(str(id), left) for id, left in self.members.items()]
        parts = split_largest_remainder(amount=amount, weights=weights)
        for id in self.members:
            self.members[id] -= parts[str(id)]
        return tuple((id, parts[str(id)]) for id in self.members if parts[str(id)])
