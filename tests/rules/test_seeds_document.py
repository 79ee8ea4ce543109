"""docs/seeds.md is true: every sentence has its row, and all that a row names is there."""

from __future__ import annotations

import re
from pathlib import Path

import pytest

from app.api import OPERATIONS
from app.cli import COMMANDS
from tests.rules.test_every_rule_is_cited import RULES

ROOT = Path(__file__).parents[2]
TEXT = (ROOT / "docs/seeds.md").read_text()
SENTENCES = {"smile": 26, "points-api": 25, "mage": 36, "rivo": 32, "capillary": 51}
ROWS = re.findall(r"^\| ([a-z-]+-\d+) \| (.+) \| ([^|]+) \| (.+) \| ([^|]+) \|$", TEXT, re.M)
HAND = {"R31", "R34", "R35", "R36", "R38"}  # of merchants' acts


def test_every_sentence_has_one_row() -> None:
    wanted = [f"{name}-{n}" for name, count in SENTENCES.items() for n in range(1, count + 1)]
    assert [row[0] for row in ROWS] == wanted


def test_every_row_is_answered_by_a_rule() -> None:
    known = {*RULES, *HAND}
    assert [id for id, _, rules, _, _ in ROWS if not set(rules.split(", ")) <= known] == []


@pytest.mark.parametrize("shown", sorted({row[4] for row in ROWS}))
def test_the_tests_that_show_it_exist(shown: str) -> None:
    named = re.findall(r"`(tests/[\w/]+\.py)(?:::(\w+))?`", shown)
    assert len(named) == shown.count("tests/")
    for path, test in named:
        source = (ROOT / path).read_text()
        assert not test or re.search(rf"^def {test}\(", source, re.M), (path, test)


def test_every_function_named_is_there() -> None:
    for path, name in re.findall(r"`((?:app|tasks|models|worker)/[\w/]+\.py):(\w+)`", TEXT):
        source = (ROOT / path).read_text()
        assert re.search(rf"^\s*(?:def|class) {name}\b", source, re.M), (path, name)


def test_every_call_named_can_be_made() -> None:
    calls = {f"{operation.method} {operation.path}" for operation in OPERATIONS}
    named = set(re.findall(r"`((?:GET|POST|PUT|PATCH|DELETE) /[^`]+)`", TEXT))
    assert named and named <= calls


def test_every_command_named_is_one() -> None:
    assert set(re.findall(r"`unwind (\w+)", TEXT)) <= set(COMMANDS)


def test_every_page_named_is_there() -> None:
    assert [
        path for path in re.findall(r"\]\(([\w/.-]+)\)", TEXT) if not (ROOT / "docs" / path).exists()
    ] == []
