"""The files of docs/ops and the runbook: they speak of figures, alarms and commands that there are."""

from __future__ import annotations

import json
import re
import shlex
import shutil
import subprocess
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import click
import promql_parser
import pytest
import requests
import yaml
from prometheus_client.openmetrics.parser import text_string_to_metric_families as openmetrics
from prometheus_client.parser import text_string_to_metric_families as prometheus

from app.cli import cli
from models import errors
from tests.operators.conftest import Watched

ROOT = Path(__file__).parents[2]
OPS = ROOT / "docs" / "ops"
RUNBOOK = (ROOT / "docs" / "runbook.md").read_text()
ALARMS = [
    rule for group in yaml.safe_load((OPS / "alerts.yml").read_text())["groups"] for rule in group["rules"]
]
PARKED = (
    errors.Unparseable,
    errors.UnknownShop,
    errors.UnknownTopic,
    errors.MissingWebhookId,
    errors.AttemptsExhausted,
    errors.RefundOfAnotherOrder,
    errors.ForeignShop,
    errors.OrderOfAnotherShop,
    errors.MergeConflict,
    errors.BodyErased,
)
ELSEWHERE = {
    "up",
    "unwind_refresh_token_expires_soonest_seconds",
}  # Prometheus's own; no token of this run expires


def expressions() -> Iterator[str]:
    yield from (alarm["expr"] for alarm in ALARMS)
    panels = json.loads((OPS / "grafana.json").read_text())["panels"]
    yield from (target["expr"] for panel in panels for target in panel.get("targets", []))


def selectors(node: Any) -> Iterator[Any]:
    """The figures that an expression looks at, with what it wants of their labels."""
    if isinstance(node, promql_parser.VectorSelector):
        yield node
    for name in ("expr", "lhs", "rhs", "vector_selector", "vs", "param"):
        inner = getattr(node, name, None)
        if inner is not None and not isinstance(inner, str):
            yield from selectors(inner)
    for inner in getattr(node, "args", None) or ():
        yield from selectors(inner)


def test_every_expression_is_promql_of_figures_and_labels_that_a_real_run_has(watched: Watched) -> None:
    known: dict[str, set[str]] = {}
    for family in prometheus(watched.metrics()):
        known[family.name if family.type == "gauge" else f"{family.name}_total"] = {
            label for sample in family.samples for label in sample.labels
        }
    asked = [found for text in expressions() for found in selectors(promql_parser.parse(text))]
    assert len(asked) > 50
    for selector in asked:
        assert selector.name in known.keys() | ELSEWHERE, f"no figure {selector.name}"
        wanted = {matcher.name for matcher in selector.matchers.matchers}
        assert not known.get(selector.name) or wanted <= known[selector.name], selector.name


@pytest.mark.parametrize(
    ("accept", "parse"), [("text/plain", prometheus), ("application/openmetrics-text", openmetrics)]
)
def test_the_figures_are_read_by_both_parsers(watched: Watched, accept: str, parse: Any) -> None:
    answer = requests.get(f"{watched.product.url}/metrics", headers={"Accept": accept}, timeout=5)
    assert answer.headers["Content-Type"].startswith(accept)
    assert len(list(parse(answer.text))) > 25


def test_alarms_are_proved_alone_and_on_a_quiet_day() -> None:
    """By promtool where it is; that each has its proof is seen without."""
    proofs = yaml.safe_load((OPS / "alerts.test.yml").read_text())["tests"]
    alone = [rule for proof in proofs[:-1] for rule in proof["alert_rule_test"]]
    names = [alarm["alert"] for alarm in ALARMS]
    assert [rule["alertname"] for rule in alone if rule.get("exp_alerts")] == names
    assert [rule["alertname"] for rule in proofs[-1]["alert_rule_test"] if "exp_alerts" not in rule] == names
    promtool = shutil.which("promtool")
    if promtool:
        for command in (["check", "config", "prometheus.yml"], ["test", "rules", "alerts.test.yml"]):
            done = subprocess.run([promtool, *command], cwd=OPS, capture_output=True, text=True)
            assert done.returncode == 0, done.stdout + done.stderr


@pytest.mark.parametrize("alarm", ALARMS, ids=lambda alarm: alarm["alert"])
def test_an_alarm_has_its_section_in_the_runbook(alarm: dict[str, Any]) -> None:
    assert alarm["annotations"]["runbook"] == f"docs/runbook.md#{alarm['alert'].lower()}"
    section = re.search(rf"^### {alarm['alert']}\n(.*?)(?=^##|\Z)", RUNBOOK, re.M | re.S)
    assert section, "no section"
    assert {alarm["labels"]["severity"]} <= {"page", "ticket"}
    for part in ("Means", "Look", "Do"):
        assert f"**{part}.**" in section[1], part


@pytest.mark.parametrize("kind", PARKED, ids=lambda kind: kind.code)
def test_a_reason_for_parking_is_explained(kind: type[errors.Never]) -> None:
    assert f"`{kind.code}`" in RUNBOOK.partition("## Alarms")[0]


def typed() -> list[str]:
    """The commands in the runbook's code blocks, one a line."""
    blocks = re.findall(r"^```sh\n(.*?)^```", RUNBOOK, re.M | re.S)
    return [line for block in blocks for line in block.splitlines() if line.startswith("unwind ")]


@pytest.mark.parametrize("line", sorted(set(typed())))
def test_a_command_of_the_runbook_is_one(line: str) -> None:
    command: click.Command = cli
    words = shlex.split(line, comments=True)[1:]
    context = click.Context(cli)
    while isinstance(command, click.Group):
        found = command.get_command(context, words[0])
        assert found is not None, words[0]
        command, words = found, words[1:]
    known = {option for parameter in command.params for option in parameter.opts}
    assert {word.partition("=")[0] for word in words if word.startswith("--")} <= known
    command.make_context(
        line,
        [word if word.startswith("-") or not word.isupper() else "1" for word in words],
        resilient_parsing=True,
    )


def test_every_picture_of_the_runbook_is_there() -> None:
    pictures = re.findall(r"!\[[^\]]+\]\(([^)]+)\)", RUNBOOK)
    assert pictures and all((ROOT / "docs" / picture).is_file() for picture in pictures)
