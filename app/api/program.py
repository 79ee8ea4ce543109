"""The shop's program: what earns, what comes back, what is taken away."""

from __future__ import annotations

from collections.abc import Mapping
from copy import deepcopy
from decimal import Decimal
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from app.api.errors import InvalidRequest
from app.api.fields import Given
from app.api.operation import Call, Operation, Refusal
from models.rules.program import DAYS_MAX, DEFAULTS, ID, POINTS_MAX
from tasks.steps import programs

DEFAULT = deepcopy(dict(DEFAULTS))


Identifier = Annotated[str, Field(pattern=f"^{ID.pattern}$")]
Name = Annotated[str, Field(max_length=200, description="The id where none is given")]
DecimalText = str | Annotated[int, Field(ge=0, le=POINTS_MAX)]


class Unit(Given):
    kind: Literal["points", "credits"] = "points"
    scale: int = Field(default=0, ge=0, le=3, description="Decimals of a credit; points have none")


class EarningRule(Given):
    id: Identifier
    name: Name = ""
    per_currency_unit: DecimalText = Field(
        "0", description="Units for one whole unit of the order's currency"
    )
    fixed: int | float = Field(0, ge=0, le=POINTS_MAX)
    mask: Literal["total", "subtotal"] = "total"
    on_partial: Literal["proportional", "only_on_full"] = "proportional"


class ReverseEarned(Given):
    refunded: bool = True
    partially_refunded: bool = True
    voided: bool = True
    cancelled: bool = True
    rounding: Literal["per_refund", "cumulative"] = "per_refund"


class ReturnRedeemed(Given):
    enabled: bool = False
    expired_grace_days: int = Field(default=0, ge=0, le=DAYS_MAX)


class PointsReversal(Given):
    enabled: bool = Field(default=True, description="Whether `POST /points/reverse` reverses anything (818)")
    limit_per_customer: int | None = Field(
        None,
        ge=1,
        le=POINTS_MAX,
        description="Reversals of one customer within `limit_days` (903); null: any number",
    )
    limit_days: int = Field(default=30, ge=1, le=DAYS_MAX)


class Level(Given):
    id: Identifier
    name: Name = ""
    threshold: DecimalText


class Tiers(Given):
    metric: Literal["spend", "orders", "points"] = "spend"
    window: Literal["lifetime", "calendar_year", "rolling_year"] = "lifetime"
    downgrade: Literal["immediate", "grace", "period_end", "never"] = "immediate"
    grace_days: int = Field(default=0, ge=0, le=DAYS_MAX)
    levels: list[Level] = Field(default=[Level(**level) for level in DEFAULT["tiers"]["levels"]])


class Reward(Given):
    id: Identifier
    name: Name = ""
    kind: Literal[
        "amount_discount", "percentage_discount", "free_shipping", "free_product", "gift_card", "store_credit",
        "vip_entry", "membership",
    ]  # fmt: skip
    cost: int | float = Field(gt=0, le=POINTS_MAX)
    value: DecimalText = "0.00"
    reactivate_code: bool = False


class ProgramSettings(Given):
    """All of a program. What a PUT leaves out takes its default."""

    EXAMPLE: ClassVar[dict[str, Any]] = DEFAULT

    unit: Unit = Unit()
    earning: list[EarningRule] = Field(
        default=[EarningRule(**rule) for rule in DEFAULT["earning"]], max_length=100
    )
    waiting_days: int = Field(default=0, ge=0, le=DAYS_MAX)
    expiry_days: int | None = Field(None, ge=1, le=DAYS_MAX)
    reverse_earned: ReverseEarned = ReverseEarned()
    return_redeemed: ReturnRedeemed = ReturnRedeemed()
    below_zero: Literal["forgive", "carry_debt"] = "forgive"
    cancelled_paid: Literal["wait", "close"] = "wait"
    include_test_orders: bool = False
    tiers: Tiers = Tiers()
    rewards: list[Reward] = Field(default=[Reward(**reward) for reward in DEFAULT["rewards"]], max_length=100)
    time_zone: str = Field("UTC", description="An IANA name; days and years begin by it")
    points_reversal: PointsReversal = Field(
        PointsReversal(limit_per_customer=None), description="Shown only once it was set (R35)"
    )


def read(call: Call) -> Mapping[str, Any]:
    _, settings = programs.current(call.connection, call.shop_id)
    return settings


def replace(call: Call) -> Mapping[str, Any]:
    """A new policy version (R17). Raises InvalidSetting."""
    _, settings = programs.put(call.connection, call.shop_id, as_stored(call.document, ""))
    return settings


def as_stored(value: Any, path: str) -> Any:
    """The document with its exact decimals as the JSON numbers that they were. Refuses those that would change."""
    if isinstance(value, Decimal):
        number = float(value)
        if Decimal(repr(number)) != value:
            raise InvalidRequest([(path, "has more digits than a JSON number keeps")])
        return number
    if isinstance(value, dict):
        return {name: as_stored(part, f"{path}.{name}".lstrip(".")) for name, part in value.items()}
    if isinstance(value, list):
        return [as_stored(part, f"{path}[{i}]") for i, part in enumerate(value)]
    return value


OPERATIONS = (
    Operation(
        method="GET",
        path="/program",
        tag="program",
        name="get_program",
        summary="The settings in force",
        run=read,
        answer=ProgramSettings,
    ),
    Operation(
        method="PUT",
        path="/program",
        tag="program",
        name="put_program",
        summary="Replace the settings: a new policy version. Refunds are judged by the version of their own time.",
        run=replace,
        body=ProgramSettings,
        checked_by_step=True,
        answer=ProgramSettings,
        writes=True,
        previews=True,
        refusals=(
            Refusal(
                status=422, code="invalid_setting", when="a setting is unknown or impossible; it is named"
            ),
        ),
    ),
)
