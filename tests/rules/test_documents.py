"""The documents are true: every reason code, command and setting stands where people look for it."""

from __future__ import annotations

import importlib
import re
from pathlib import Path

from app.cli import COMMANDS
from models.rules.codes import IN_WORDS
from models.settings import Settings
from tasks.steps.trace import RULE_OF
from tests.rules.test_every_rule_is_cited import RULES

ROOT = Path(__file__).parents[2]


def test_every_rule_that_is_built_is_told_in_short() -> None:
    told = re.findall(r"^\| ([RS]\d+) \|", (ROOT / "docs/rules.md").read_text(), re.M)
    assert sorted(told) == sorted(RULES)


def test_every_reason_code_is_explained_under_its_rule() -> None:
    listed = dict(re.findall(r"^\| `([A-Z_]+)` \| ([RS]\d+) \|", (ROOT / "docs/rules.md").read_text(), re.M))
    assert listed == RULE_OF


def test_every_reason_code_of_the_rules_can_be_traced() -> None:
    rules = set((ROOT / "models/rules").glob("*.py")) - {ROOT / "models/rules/codes.py"}
    sources = "".join(path.read_text() for path in rules)
    codes = set(re.findall(r'^([A-Z_]+) = "\1"$', sources, re.M))
    assert codes == set(RULE_OF)


def test_every_reason_why_a_code_cannot_be_is_told_in_words() -> None:
    """They stand on the redemption (`code_error`, `reactivation_error`), not in the trace."""
    source = (ROOT / "models/rules/codes.py").read_text()
    assert set(re.findall(r'^([A-Z_]+) = "\1"$', source, re.M)) == set(IN_WORDS)


def test_every_command_stands_in_the_readme() -> None:
    readme = (ROOT / "README.md").read_text()
    assert [name for name in COMMANDS if f"unwind {name}" not in readme] == []


def test_every_setting_stands_in_the_example_environment() -> None:
    example = (ROOT / ".env.example").read_text()
    assert [name for name in Settings.model_fields if name.upper() not in example] == []


def test_every_command_listed_can_be_loaded() -> None:
    for target in COMMANDS.values():
        module, name = target.split(":")
        assert callable(getattr(importlib.import_module(module), name)), target
