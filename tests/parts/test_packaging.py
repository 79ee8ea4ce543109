"""What is deployed: pins that agree, images that are not root, compose that is valid, one process list everywhere."""

from __future__ import annotations

import os
import re
import subprocess
import sys
import tomllib
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

ROOT = Path(__file__).parents[2]
COMPOSE = ROOT / "docker-compose.yml"
OURS = ("migrate", "web", "worker", "beat", "flower")


def pins(name: str) -> dict[str, set[str]]:
    """Package -> the versions pinned (several where they differ by Python)."""
    found: dict[str, set[str]] = {}
    for package, version in re.findall(
        r"^([A-Za-z0-9_.-]+)==([^ ;\\\n]+)", (ROOT / name).read_text(), re.MULTILINE
    ):
        found.setdefault(canonicalize_name(package), set()).add(version)
    return found


def required(*, dev: bool) -> list[Requirement]:
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    return [
        Requirement(line)
        for line in project["dependencies"] + (project["optional-dependencies"]["dev"] if dev else [])
    ]


def services() -> dict[str, dict[str, object]]:
    told: dict[str, dict[str, object]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return told


@pytest.mark.parametrize(("name", "dev"), [("constraints.txt", True), ("requirements.lock", False)])
def test_every_dependency_is_pinned_to_a_version_that_is_allowed(name: str, dev: bool) -> None:
    pinned = pins(name)
    for requirement in required(dev=dev):
        versions = pinned.get(canonicalize_name(requirement.name), set())
        assert versions, f"{requirement.name} is not in {name}"
        assert all(requirement.specifier.contains(version) for version in versions), requirement


def test_the_lock_pins_what_was_tried() -> None:
    tried = pins("constraints.txt")
    assert {package: tried.get(package) for package in pins("requirements.lock")} == pins("requirements.lock")


def test_every_locked_package_has_hashes_and_no_file_names_an_address() -> None:
    lock = (ROOT / "requirements.lock").read_text()
    blocks = re.split(r"\n(?=[A-Za-z])", lock)[1:]
    assert all("--hash=sha256:" in block for block in blocks)
    for name in ("constraints.txt", "requirements.lock"):
        assert not re.search(r"://|--index|--find-links|--trusted", (ROOT / name).read_text()), name


@pytest.mark.parametrize("profile", ["", "ops"])
def test_compose_takes_the_file(profile: str) -> None:
    program = Path(sys.executable).with_name("docker-compose")
    checked = subprocess.run(
        [program, "--file", COMPOSE, *(["--profile", profile] if profile else []), "config", "--quiet"],
        env={**os.environ, "POSTGRES_PASSWORD": "hush"},
        capture_output=True,
        text=True,
        check=False,
    )
    assert (checked.returncode, checked.stderr) == (0, "")


def test_our_services_are_not_root_and_can_write_nowhere() -> None:
    for name in OURS:
        service = services()[name]
        assert (service["user"], service["read_only"], service["cap_drop"]) == (
            "10001:10001",
            True,
            ["ALL"],
        ), name
        assert service["security_opt"] == ["no-new-privileges:true"]


def test_nothing_is_open_beyond_this_machine_and_the_stores_are_on_an_inner_network() -> None:
    for name, service in services().items():
        ports = service.get("ports", [])
        assert isinstance(ports, list)
        assert all(port.startswith("127.0.0.1:") for port in ports), name
    assert services()["db"]["networks"] == services()["redis"]["networks"] == ["inside"]


def test_the_queue_is_never_evicted_and_is_written_down() -> None:
    command = services()["redis"]["command"]
    assert isinstance(command, list)
    assert " ".join(command).endswith(
        "--appendonly yes --appendfsync everysec --save  --maxmemory-policy noeviction"
    )


def test_the_procfile_and_compose_run_the_same_processes() -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(lines) == {"release", "web", "worker", "beat", "flower"}
    assert lines["release"].split() == services()["migrate"]["command"]
    for name in ("web", "worker", "beat"):
        command = services()[name]["command"]
        assert isinstance(command, list)
        named = [part for part in command if "." in part and not part[0].isdigit()]
        assert all(part in lines[name] for part in named), name


def test_the_image_leaves_root_and_takes_the_lock_with_hashes() -> None:
    image = (ROOT / "Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in image
    assert "--require-hashes -r requirements.lock" in image
