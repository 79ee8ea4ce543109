"""A shop's program: what earns, what comes back, what is taken away. Settings in, one frozen value out."""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from copy import deepcopy
from dataclasses import dataclass
from datetime import datetime
from decimal import Decimal, InvalidOperation
from fractions import Fraction
from functools import lru_cache
from typing import Any
from zoneinfo import ZoneInfo

from models.errors import InvalidSetting

DEFAULTS: Mapping[str, Any] = {
    "unit": {"kind": "points", "scale": 0},
    "earning": [
        {
            "id": "place-order",
            "name": "Place an order",
            "per_currency_unit": "1",
            "fixed": 0,
            "mask": "total",
            "on_partial": "proportional",
        }
    ],
    "waiting_days": 0,
    "expiry_days": None,
    "reverse_earned": {
        "refunded": True,
        "partially_refunded": True,
        "voided": True,
        "cancelled": True,
        "rounding": "per_refund",
    },
    "return_redeemed": {"enabled": False, "expired_grace_days": 0},
    "below_zero": "forgive",
    "cancelled_paid": "wait",
    "include_test_orders": False,
    "tiers": {
        "metric": "spend",
        "window": "lifetime",
        "downgrade": "immediate",
        "grace_days": 0,
        "levels": [{"id": "gold", "name": "Gold", "threshold": "500.00"}],
    },
    "rewards": [
        {
            "id": "5-off",
            "name": "$5 off",
            "kind": "amount_discount",
            "cost": 500,
            "value": "5.00",
            "reactivate_code": False,
        }
    ],
    "time_zone": "UTC",
}
REWARD_KINDS = (
    "amount_discount",
    "percentage_discount",
    "free_shipping",
    "free_product",
    "gift_card",
    "store_credit",
    "vip_entry",
    "membership",
)
REVERSIBLE_STATUSES = ("refunded", "partially_refunded", "voided", "cancelled")
DAYS_MAX = 36_500  # a century: enough for "never", and far from a calendar's end
POINTS_MAX = 10**15  # JSON numbers stay exact below 2**53
PLACES_MAX = 30  # digits and exponent of a decimal: 1e-999999999 is a short text and an endless fraction
ID = re.compile(r"[A-Za-z0-9][A-Za-z0-9_.-]{0,63}")
# Known but not shown unless set: S3 lets a program count returned items for which no money moved; R35 says whether and
# how often points are reversed by hand.
OPTIONAL = {"reverse_earned": {"items_without_money": False}}
OPTIONAL_SECTIONS: Mapping[str, Any] = {
    "points_reversal": {"enabled": True, "limit_per_customer": None, "limit_days": 30}
}


@dataclass(frozen=True, slots=True, kw_only=True)
class EarningRule:
    """per_currency_unit: units of the program's smallest unit for one whole unit of shop currency."""

    id: str
    name: str
    per_currency_unit: Fraction
    fixed: int
    mask: str
    only_on_full: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Reward:
    id: str
    name: str
    kind: str
    cost: int
    value: str
    reactivate_code: bool


@dataclass(frozen=True, slots=True, kw_only=True)
class Level:
    """threshold: whole shop-currency units for `spend`, else orders or smallest point units."""

    id: str
    name: str
    threshold: Fraction


@dataclass(frozen=True, slots=True, kw_only=True)
class Tiers:
    metric: str
    window: str
    downgrade: str
    grace_days: int
    levels: tuple[Level, ...]  # lowest first


@dataclass(frozen=True, slots=True, kw_only=True)
class Reversals:
    """Whether points are reversed by hand (R35), and how often for one customer within so many days; None: any number."""

    enabled: bool = True
    limit_per_customer: int | None = None
    limit_days: int = 30


@dataclass(frozen=True, slots=True, kw_only=True)
class Program:
    """One policy version (R17). Point amounts are in the smallest unit (10**-scale)."""

    version: int
    from_at: datetime | None
    kind: str
    scale: int
    earning: tuple[EarningRule, ...]
    waiting_days: int
    expiry_days: int | None
    reversing_statuses: frozenset[str]
    cumulative_rounding: bool
    items_without_money: bool
    return_redeemed: bool
    expired_grace_days: int
    carry_debt: bool
    close_cancelled_paid: bool
    include_test_orders: bool
    tiers: Tiers
    rewards: Mapping[str, Reward]
    time_zone: ZoneInfo
    reversals: Reversals = Reversals()
    earning_from: datetime | None = (
        None  # the shop's, for all versions: what was placed before earned elsewhere
    )


def complete(settings: Mapping[str, Any]) -> dict[str, Any]:
    """The settings with every default filled in. Raises InvalidSetting naming what is unknown or impossible."""
    _object(settings, "program")
    full = deepcopy(dict(DEFAULTS))
    known = {**full, **OPTIONAL_SECTIONS}
    for name, value in settings.items():
        if name not in known:
            raise InvalidSetting(name, f"unknown setting; known are {', '.join(sorted(known))}")
        full[name] = _completed_section(name, value, known[name])
    program_from(full, version=1, from_at=None)
    return full


def _completed_section(name: str, value: Any, default: Any) -> Any:
    if isinstance(default, dict):
        known = set(default) | set(OPTIONAL.get(name, {}))
        _known(value, name, known)
        return {**default, **value}
    if name == "earning":
        template = {"fixed": 0, "mask": "total", "on_partial": "proportional", "per_currency_unit": "0"}
        return [
            _completed_item(f"{name}[{i}]", item, template, {"id", "name"}) for i, item in _items(name, value)
        ]
    if name == "rewards":
        template = {"reactivate_code": False, "value": "0.00"}
        required = {"id", "name", "kind", "cost"}
        return [_completed_item(f"{name}[{i}]", item, template, required) for i, item in _items(name, value)]
    return value


def _completed_item(
    path: str, item: Any, template: Mapping[str, Any], required: Iterable[str]
) -> dict[str, Any]:
    _known(item, path, {*template, *required})
    for field in required:
        if field not in item and not (field == "name" and "id" in item):
            raise InvalidSetting(f"{path}.{field}", "is required")
    return {"name": item.get("id"), **template, **item}


def program_from(full: Mapping[str, Any], *, version: int, from_at: datetime | None) -> Program:
    """The program that complete settings describe. Raises InvalidSetting."""
    kind = _choice(full["unit"]["kind"], "unit.kind", ("points", "credits"))
    scale = _integer(full["unit"]["scale"], "unit.scale", 0, 3)
    if kind == "points" and scale != 0:
        raise InvalidSetting("unit.scale", "points have scale 0; credits may have 0 to 3")
    reverse, returns = full["reverse_earned"], full["return_redeemed"]
    expiry = full["expiry_days"]
    return Program(
        version=version,
        from_at=from_at,
        kind=kind,
        scale=scale,
        earning=_earning(full["earning"], scale),
        waiting_days=_integer(full["waiting_days"], "waiting_days", 0, DAYS_MAX),
        expiry_days=None if expiry is None else _integer(expiry, "expiry_days", 1, DAYS_MAX),
        reversing_statuses=frozenset(
            s for s in REVERSIBLE_STATUSES if _boolean(reverse[s], f"reverse_earned.{s}")
        ),
        cumulative_rounding=_choice(
            reverse["rounding"], "reverse_earned.rounding", ("per_refund", "cumulative")
        )
        == "cumulative",
        items_without_money=_boolean(
            reverse.get("items_without_money", False), "reverse_earned.items_without_money"
        ),
        return_redeemed=_boolean(returns["enabled"], "return_redeemed.enabled"),
        expired_grace_days=_integer(
            returns["expired_grace_days"], "return_redeemed.expired_grace_days", 0, DAYS_MAX
        ),
        carry_debt=_choice(full["below_zero"], "below_zero", ("forgive", "carry_debt")) == "carry_debt",
        close_cancelled_paid=_choice(full["cancelled_paid"], "cancelled_paid", ("wait", "close")) == "close",
        include_test_orders=_boolean(full["include_test_orders"], "include_test_orders"),
        tiers=_tiers(full["tiers"], scale),
        rewards=_rewards(full["rewards"], scale),
        time_zone=_zone(full["time_zone"]),
        reversals=_reversals(full.get("points_reversal", OPTIONAL_SECTIONS["points_reversal"])),
    )


def program_at(programs: Sequence[Program], at: datetime) -> Program:
    """The version in force at a time (R17); the first has no beginning. `programs` in order of version."""
    found = programs[0]
    for program in programs[1:]:
        if program.from_at is not None and program.from_at <= at:
            found = program
    return found


def _earning(items: Any, scale: int) -> tuple[EarningRule, ...]:
    rules = []
    for i, item in _items("earning", items):
        path = f"earning[{i}]"
        rules.append(
            EarningRule(
                id=_identifier(item["id"], f"{path}.id"),
                name=_text(item["name"], f"{path}.name"),
                per_currency_unit=_decimal(item["per_currency_unit"], f"{path}.per_currency_unit")
                * 10**scale,
                fixed=units(item["fixed"], f"{path}.fixed", scale),
                mask=_choice(item["mask"], f"{path}.mask", ("total", "subtotal")),
                only_on_full=_choice(
                    item["on_partial"], f"{path}.on_partial", ("proportional", "only_on_full")
                )
                == "only_on_full",
            )
        )
    _distinct([rule.id for rule in rules], "earning")
    return tuple(rules)


def _rewards(items: Any, scale: int) -> Mapping[str, Reward]:
    rewards = {}
    for i, item in _items("rewards", items):
        path = f"rewards[{i}]"
        reward = Reward(
            id=_identifier(item["id"], f"{path}.id"),
            name=_text(item["name"], f"{path}.name"),
            kind=_choice(item["kind"], f"{path}.kind", REWARD_KINDS),
            cost=units(item["cost"], f"{path}.cost", scale, least=1),
            value=_money_text(item["value"], f"{path}.value"),
            reactivate_code=_boolean(item["reactivate_code"], f"{path}.reactivate_code"),
        )
        if reward.id == "custom":
            raise InvalidSetting(f"{path}.id", "`custom` stands for a redemption of a free amount")
        if reward.id in rewards:
            raise InvalidSetting("rewards", f"the id {reward.id!r} is used twice")
        rewards[reward.id] = reward
    return rewards


def _reversals(section: Mapping[str, Any]) -> Reversals:
    path, limit = "points_reversal", section["limit_per_customer"]
    return Reversals(
        enabled=_boolean(section["enabled"], f"{path}.enabled"),
        limit_per_customer=None
        if limit is None
        else _integer(limit, f"{path}.limit_per_customer", 1, POINTS_MAX),
        limit_days=_integer(section["limit_days"], f"{path}.limit_days", 1, DAYS_MAX),
    )


def _tiers(section: Mapping[str, Any], scale: int) -> Tiers:
    metric = _choice(section["metric"], "tiers.metric", ("spend", "orders", "points"))
    levels = []
    for i, item in _items("tiers.levels", section["levels"]):
        path = f"tiers.levels[{i}]"
        _known(item, path, {"id", "name", "threshold"})
        if "id" not in item or "threshold" not in item:
            raise InvalidSetting(path, "needs an id and a threshold")
        threshold = _decimal(item["threshold"], f"{path}.threshold")
        if metric == "orders" and threshold.denominator != 1:
            raise InvalidSetting(f"{path}.threshold", "a number of orders is whole")
        levels.append(
            Level(
                id=_identifier(item["id"], f"{path}.id"),
                name=_text(item.get("name", item["id"]), f"{path}.name"),
                threshold=threshold * 10**scale if metric == "points" else threshold,
            )
        )
    _distinct([level.id for level in levels], "tiers.levels")
    _distinct([level.threshold for level in levels], "tiers.levels")
    return Tiers(
        metric=metric,
        window=_choice(section["window"], "tiers.window", ("lifetime", "calendar_year", "rolling_year")),
        downgrade=_choice(
            section["downgrade"], "tiers.downgrade", ("immediate", "grace", "period_end", "never")
        ),
        grace_days=_integer(section["grace_days"], "tiers.grace_days", 0, DAYS_MAX),
        levels=tuple(sorted(levels, key=lambda level: level.threshold)),
    )


def units(value: Any, path: str, scale: int, *, least: int = 0) -> int:
    """A JSON number of the program's unit as an integer of its smallest. Raises InvalidSetting."""
    if isinstance(value, bool) or not isinstance(value, int | float | Decimal | str):
        raise InvalidSetting(path, "must be a number")
    amount = _decimal(str(value), path) * 10**scale
    if amount.denominator != 1:
        raise InvalidSetting(path, f"has more than {scale} decimals")
    if not least <= amount.numerator <= POINTS_MAX:
        raise InvalidSetting(path, f"must be between {least} and {POINTS_MAX}")
    return int(amount)


def _object(value: Any, path: str) -> None:
    if not isinstance(value, Mapping):
        raise InvalidSetting(path, "must be an object")


def _known(value: Any, path: str, known: Iterable[str]) -> None:
    _object(value, path)
    for name in value:
        if name not in known:
            raise InvalidSetting(f"{path}.{name}", f"unknown setting; known are {', '.join(sorted(known))}")


def _items(path: str, value: Any) -> Iterable[tuple[int, Any]]:
    if not isinstance(value, list) or len(value) > 100:
        raise InvalidSetting(path, "must be a list of at most 100")
    return enumerate(value)


def _choice(value: Any, path: str, choices: Sequence[str]) -> str:
    if value not in choices:
        raise InvalidSetting(path, f"must be one of {', '.join(choices)}")
    return str(value)


def _boolean(value: Any, path: str) -> bool:
    if not isinstance(value, bool):
        raise InvalidSetting(path, "must be true or false")
    return value


def _integer(value: Any, path: str, least: int, most: int) -> int:
    if isinstance(value, bool) or not isinstance(value, int) or not least <= value <= most:
        raise InvalidSetting(path, f"must be a whole number between {least} and {most}")
    return value


def _text(value: Any, path: str) -> str:
    if not isinstance(value, str) or not 0 < len(value) <= 200 or "\0" in value:
        raise InvalidSetting(path, "must be a text of 1 to 200 characters")
    return value


def _identifier(value: Any, path: str) -> str:
    if not isinstance(value, str) or not ID.fullmatch(value):
        raise InvalidSetting(path, "must be 1 to 64 letters, digits, '-', '_' or '.'")
    return value


def _decimal(value: Any, path: str) -> Fraction:
    if isinstance(value, bool) or not isinstance(value, str | int):
        raise InvalidSetting(path, 'must be a decimal string such as "1.5"')
    try:
        number = Decimal(value)
    except InvalidOperation:
        raise InvalidSetting(path, 'must be a decimal string such as "1.5"') from None
    digits, exponent = number.as_tuple().digits, number.as_tuple().exponent
    if not isinstance(exponent, int) or not 0 <= number <= POINTS_MAX:
        raise InvalidSetting(path, f"must be between 0 and {POINTS_MAX}")
    if len(digits) > PLACES_MAX or abs(exponent) > PLACES_MAX:
        raise InvalidSetting(path, f"has more than {PLACES_MAX} digits")
    return Fraction(number)


def _money_text(value: Any, path: str) -> str:
    _decimal(value, path)
    return str(value)


def _distinct(values: Sequence[object], path: str) -> None:
    if len(set(values)) != len(values):
        raise InvalidSetting(path, "ids and thresholds must differ from each other")


@lru_cache(maxsize=64)
def _known_zone(name: str) -> ZoneInfo:
    return ZoneInfo(name)


def _zone(value: Any) -> ZoneInfo:
    try:
        return _known_zone(value)
    except (KeyError, ValueError, TypeError, OSError):
        raise InvalidSetting("time_zone", "must be an IANA name such as Europe/Berlin") from None
