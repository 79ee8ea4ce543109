"""Each rule has a test that names it."""

from __future__ import annotations

import ast
import re
from collections.abc import Iterator
from pathlib import Path

TESTS = Path(__file__).parents[1]
RULES = {f"R{n}" for n in range(41)} | {f"S{n}" for n in range(1, 12)}
NUMBER = re.compile(r"\b([RS])(\d+)(?:-[RS]?(\d+))?\b")


def cited() -> Iterator[str]:
    """The numbers in the docstrings of tests that assert something."""
    for file in sorted(TESTS.glob("rules/test_*.py")) + sorted(TESTS.glob("flows/test_*.py")):
        for node in ast.walk(ast.parse(file.read_text())):
            if isinstance(node, ast.FunctionDef) and node.name.startswith("test_"):
                for letter, first, last in NUMBER.findall(ast.get_docstring(node) or ""):
                    assert not last, f"{file.name}: {node.name} cites a range; name the rules that it shows"
                    yield letter + first


def test_every_rule_has_a_test_that_names_it() -> None:
    assert sorted(RULES - set(cited())) == []


def test_no_test_names_a_rule_that_there_is_not() -> None:
    assert sorted(set(cited()) - RULES) == []
