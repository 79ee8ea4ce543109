"""Amounts are integers of a currency's smallest unit, shares are exact fractions, and no float ever touches either."""

from __future__ import annotations

from collections.abc import Mapping, Sequence
from decimal import Decimal
from fractions import Fraction

# ISO 4217 currencies whose smallest unit is not 1/100.
EXPONENTS: Mapping[str, int] = {
    **dict.fromkeys(
        [
            "BIF",
            "CLP",
            "DJF",
            "GNF",
            "ISK",
            "JPY",
            "KMF",
            "KRW",
            "PYG",
            "RWF",
            "UGX",
            "UYI",
            "VND",
            "VUV",
            "XAF",
            "XOF",
            "XPF",
        ],
        0,
    ),
    **dict.fromkeys(["BHD", "IQD", "JOD", "KWD", "LYD", "OMR", "TND"], 3),
    **dict.fromkeys(["CLF", "UYW"], 4),
}
DEFAULT_EXPONENT = 2


def exponent(currency: str) -> int:
    """Decimal places of the currency's smallest unit (JPY 0, USD 2, KWD 3)."""
    return EXPONENTS.get(currency, DEFAULT_EXPONENT)


def to_minor(amount: Decimal, currency: str) -> int:
    """The amount in smallest units. Raises ValueError when it has a part smaller than that unit."""
    scaled = amount.scaleb(exponent(currency))
    minor = int(scaled)
    if minor != scaled:
        raise ValueError(f"{amount} has more decimals than {currency} knows")
    return minor


def from_minor(minor: int, currency: str) -> str:
    """The amount as a decimal string with all its places: 1050, "USD" -> "10.50"."""
    return scaled_text(minor, exponent(currency))


def scaled_text(units: int, scale: int) -> str:
    """Units of 10**-scale as a plain decimal string."""
    if scale == 0:
        return str(units)
    sign, digits = ("-" if units < 0 else ""), str(abs(units)).rjust(scale + 1, "0")
    return f"{sign}{digits[:-scale]}.{digits[-scale:]}"


def share(*, amount: int, ratio: Fraction) -> int:
    """floor(amount x ratio): the product's one division (R2). amount >= 0; the ratio is capped at 1 (R3)."""
    assert amount >= 0 and ratio >= 0, (amount, ratio)
    capped = min(ratio, Fraction(1))
    return amount * capped.numerator // capped.denominator


def half_up(value: Fraction) -> int:
    """The nearest integer, halves upwards: presentment money becoming shop money (S1)."""
    return (2 * value.numerator + value.denominator) // (2 * value.denominator)


def split_largest_remainder(*, amount: int, weights: Sequence[tuple[str, int]]) -> dict[str, int]:
    """The amount split in proportion to the weights, largest remainder first, ties by id (R20).

    No part exceeds its weight while amount <= sum of the weights, and the parts sum to the amount.
    """
    total = sum(weight for _, weight in weights)
    assert 0 <= amount <= total, (amount, weights)
    if amount == 0:
        return {member: 0 for member, _ in weights}
    parts = {member: amount * weight // total for member, weight in weights}
    by_remainder = sorted(weights, key=lambda w: (-(amount * w[1] % total), w[0]))
    for member, _ in by_remainder[: amount - sum(parts.values())]:
        parts[member] += 1
    assert sum(parts.values()) == amount
    return parts
