"""Which condition raises which number when points are reversed (R35); the document says the same."""

from __future__ import annotations

import re
from dataclasses import replace
from datetime import UTC, datetime
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest

from app.api.points import STATUS
from models.errors import Later, Refused
from models.rules.reversing import MEANINGS, TEMPORARY, Standing, check, refused, units

DOCUMENT = Path(__file__).parents[2] / "docs/reverse.md"
FINE = Standing(
    enabled=True,
    kind="amount_discount",
    is_part=True,
    left=100,
    left_shown=100,
    by_hand=False,
    asked=40,
    repeated=False,
    recent=0,
    limit=None,
    limit_days=30,
    locked_until=None,
    code_state="tracked",
    used=False,
    came_back=False,
    changing=False,
)
THEN = datetime(2030, 1, 1, tzinfo=UTC)


@pytest.mark.parametrize(
    "now",
    [
        pytest.param({}, id="a part"),
        pytest.param({"asked": None}, id="all that is left"),
        pytest.param({"asked": 100}, id="just as much as is left"),
        pytest.param({"by_hand": True}, id="some of it came back before"),
        pytest.param({"limit": 3, "recent": 2}, id="the last that is allowed"),
        pytest.param({"code_state": "active", "used": True}, id="a code of ours that was used"),
        pytest.param({"code_state": "none"}, id="no code"),
        pytest.param({"code_state": "removed"}, id="a code that is gone"),
        pytest.param({"kind": "store_credit"}, id="what is no gift card"),
    ],
)
def test_what_is_in_order_is_let_through(now: dict[str, Any]) -> None:
    """R35."""
    check(replace(FINE, **now))


@pytest.mark.parametrize(
    ("number", "now"),
    [
        pytest.param(
            901, {"is_part": False, "enabled": False, "left": 0}, id="somebody else, who learns no more"
        ),
        pytest.param(818, {"enabled": False, "left": 0}, id="not permitted"),
        pytest.param(818, {"kind": "gift_card"}, id="a gift card"),
        pytest.param(904, {"locked_until": THEN, "left": 0}, id="locked"),
        pytest.param(902, {"left": 0, "by_hand": True}, id="all reversed"),
        pytest.param(827, {"left": 0}, id="all came back otherwise"),
        pytest.param(896, {"changing": True, "code_state": "active"}, id="the code is being changed"),
        pytest.param(827, {"came_back": True}, id="the value is a code now"),
        pytest.param(827, {"code_state": "active"}, id="a code of ours that can be used"),
        pytest.param(827, {"code_state": "wanted"}, id="a code of ours that is being made"),
        pytest.param(902, {"repeated": True, "asked": 101}, id="the same again, though no more is left"),
        pytest.param(817, {"asked": 101}, id="one more than is left"),
        pytest.param(903, {"limit": 3, "recent": 3}, id="one more than is allowed"),
    ],
)
def test_the_first_condition_that_fits_is_told(number: int, now: dict[str, Any]) -> None:
    """R35."""
    with pytest.raises((Refused, Later)) as told:
        check(replace(FINE, **now))
    assert told.value.code == str(number)


@pytest.mark.parametrize(
    ("value", "scale", "smallest"),
    [
        pytest.param(2, 0, 2, id="points"),
        pytest.param(Decimal("2.0"), 0, 2, id="points with a point"),
        pytest.param(Decimal("1E+3"), 0, 1000, id="points with an exponent"),
        pytest.param(Decimal("2.5"), 2, 250, id="credits"),
        pytest.param(Decimal("0.001"), 3, 1, id="the smallest credit"),
        pytest.param(Decimal("123456789012.125"), 3, 123456789012125, id="exact"),
    ],
)
def test_a_number_is_read_in_the_smallest_unit(value: int | Decimal, scale: int, smallest: int) -> None:
    """R35."""
    assert units(value, scale) == smallest


@pytest.mark.parametrize(
    ("value", "scale"),
    [
        pytest.param(Decimal("2.5"), 0, id="half a point"),
        pytest.param(Decimal("0.001"), 2, id="less than a cent"),
        pytest.param(Decimal("1.2345"), 3, id="four decimals"),
    ],
)
def test_more_decimals_than_there_are_is_878(value: Decimal, scale: int) -> None:
    """R35."""
    with pytest.raises(Refused) as told:
        units(value, scale)
    assert told.value.code == "878"


def test_what_is_over_soon_is_later_and_the_rest_is_not() -> None:
    """R35: 886, 896 and 898 are really temporary."""
    assert {n for n in MEANINGS if isinstance(refused(n, "x"), Later)} == TEMPORARY == {886, 896, 898}
    assert {n for n in MEANINGS if STATUS[n] == 503} == TEMPORARY


def test_the_document_has_every_number_with_its_meaning_and_status() -> None:
    """R35."""
    rows = re.findall(r"^\| (\d{3}) \| (\d{3}) \| (.*) \|$", DOCUMENT.read_text(), re.M)
    assert [(int(n), int(status), words) for n, status, words in rows] == [
        (n, STATUS[n], words) for n, words in MEANINGS.items()
    ]
    assert len(rows) == 16
