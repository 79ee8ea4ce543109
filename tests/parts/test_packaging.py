"""What is deployed: pins that agree, images that are not root, compose that is valid, one process list everywhere."""

from __future__ import annotations

import os
import re
import shutil
import subprocess
import sys
import tomllib
import zipfile
from pathlib import Path

import pytest
import yaml
from packaging.requirements import Requirement
from packaging.utils import canonicalize_name

from app.cli import COMMANDS
from models.errors import InvalidSetting
from models.settings import Settings, load_settings
from worker.celery_app import LAST_WORD_SECONDS

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
    """What is installed: always what runs and its extras, and for development what that takes."""
    project = tomllib.loads((ROOT / "pyproject.toml").read_text())["project"]
    extras = project["optional-dependencies"]
    lines = project["dependencies"] + extras["otel"] + extras["sentry"] + (extras["dev"] if dev else [])
    return [each for line in lines if (each := Requirement(line)).name != project["name"]]


def services() -> dict[str, dict[str, object]]:
    told: dict[str, dict[str, object]] = yaml.safe_load(COMPOSE.read_text())["services"]
    return told


def str_list(value: object) -> list[str]:
    assert isinstance(value, list)
    return [str(part) for part in value]


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
        "--appendonly yes --appendfsync everysec --save  --maxmemory 256mb --maxmemory-policy noeviction"
    )


def test_every_service_has_limits_and_says_whether_it_is_well() -> None:
    for name, service in services().items():
        deploy = service["deploy"]
        assert isinstance(deploy, dict)
        assert set(deploy["resources"]["limits"]) == {"cpus", "memory", "pids"}, name
        assert ("healthcheck" in service) == (name != "migrate"), name


def test_every_setting_that_compose_names_is_one() -> None:
    known = {name.upper() for name in Settings.model_fields}
    others = {"POSTGRES_PASSWORD"}
    assert set(re.findall(r"\$\{([A-Z_]+)", COMPOSE.read_text())) <= known | others
    for name in OURS:
        environment = services()[name]["environment"]
        assert isinstance(environment, dict)
        assert set(environment) <= known, name
    assert set(re.findall(r"\$\{?([A-Z_]+)", (ROOT / "Procfile").read_text())) <= known


def test_a_service_has_more_time_to_stop_than_its_process_takes() -> None:
    """STOP_GRACE_SECONDS, and what the worker and the supervisor add to it."""
    longest = Settings.model_fields["stop_grace_seconds"].default + LAST_WORD_SECONDS
    for name in ("web", "worker", "beat"):
        assert int(str(services()[name]["stop_grace_period"]).removesuffix("s")) > longest, name


def test_flower_is_behind_a_login_wherever_it_can_be_reached() -> None:
    """`unwind flower` refuses to listen outside loopback without one."""
    assert services()["flower"]["command"] == ["unwind", "flower", "--host", "0.0.0.0", "--port", "5555"]
    with pytest.raises(InvalidSetting, match="FLOWER_BASIC_AUTH: is empty"):
        load_settings(flower_address="0.0.0.0").require_flower()


def test_the_linter_has_nothing_against_the_image() -> None:
    program = Path(sys.executable).with_name("hadolint")
    looked = subprocess.run([program, ROOT / "Dockerfile"], capture_output=True, text=True, check=False)
    assert (looked.returncode, looked.stdout) == (0, "")


def test_the_procfile_and_compose_run_the_same_processes() -> None:
    lines = dict(line.split(": ", 1) for line in (ROOT / "Procfile").read_text().splitlines())
    assert set(lines) == {"release", "web", "worker", "beat", "flower"}
    assert lines["release"].split() == ["exec", *str_list(services()["migrate"]["command"])]
    assert lines["flower"].split()[1:3] == str_list(services()["flower"]["command"])[:2]
    for name in ("web", "worker", "beat"):
        command = services()[name]["command"]
        assert isinstance(command, list)
        assert lines[name].startswith(
            f"exec {command[0]} "
        )  # the signal is for the process, not for its shell
        named = [part for part in command if "." in part and not part[0].isdigit()]
        assert all(part in lines[name] for part in named), name


def test_the_image_leaves_root_and_takes_the_lock_with_hashes() -> None:
    image = (ROOT / "Dockerfile").read_text()
    assert "\nUSER 10001:10001\n" in image
    assert "--require-hashes -r requirements.lock" in image


@pytest.fixture(scope="module")
def wheel(tmp_path_factory: pytest.TempPathFactory) -> zipfile.ZipFile:
    """What the Dockerfile's last `pip install` installs, built from what its COPY lines bring."""
    place = tmp_path_factory.mktemp("image")
    for line in re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE):
        for name in line.split():
            copy = shutil.copytree if (ROOT / name).is_dir() else shutil.copy
            copy(ROOT / name, place / name)
    build = [sys.executable, "-m", "hatchling", "build", "--target", "wheel", "--directory", "built"]
    subprocess.run(build, cwd=place, check=True, capture_output=True)
    (built,) = (place / "built").glob("unwind-*.whl")
    return zipfile.ZipFile(built)


def test_the_image_holds_every_file_that_the_product_reads(wheel: zipfile.ZipFile) -> None:
    """Templates, what pages load, GraphQL documents, migrations: a wheel leaves out in silence what it is not told of."""
    kept = set(wheel.namelist())
    listed = [
        "git",
        "ls-files",
        "--cached",
        "--others",
        "--exclude-standard",
        "app",
        "worker",
        "tasks",
        "models",
    ]
    files = subprocess.run(listed, cwd=ROOT, capture_output=True, text=True, check=True).stdout.split()
    there = {name for name in files if (ROOT / name).is_file()}
    assert there - kept == set()
    kinds = {Path(name).suffix for name in there}
    assert {".py", ".html", ".css", ".js", ".graphql", ".mako"} <= kinds
    assert not any(name.startswith(("tests/", "docs/")) for name in kept)


def test_the_image_can_be_built_of_what_the_context_lets_in() -> None:
    """`.dockerignore` takes nothing but what COPY asks for."""
    ignored = (ROOT / ".dockerignore").read_text().splitlines()
    let_in = {line.removeprefix("!") for line in ignored if line.startswith("!")}
    asked = re.findall(r"^COPY (?!--from)(.+) \S+$", (ROOT / "Dockerfile").read_text(), re.MULTILINE)
    assert let_in == {name for line in asked for name in line.split()}


@pytest.mark.parametrize("name", ["deploy", "backup", "scale"])
def test_the_documents_name_settings_and_commands_that_exist(name: str) -> None:
    told = (ROOT / "docs" / f"{name}.md").read_text()
    settings = {each.upper() for each in Settings.model_fields}
    others = {"POSTGRES_PASSWORD", "TEST_POOLER", "PATH"}
    assert set(re.findall(r"(?<![\w$-])([A-Z]{3,}(?:_[A-Z]+)+)(?![\w-])", told)) <= settings | others
    commands = set(re.findall(r"`unwind ([a-z]+)|^unwind ([a-z]+)(?! =)", told, re.MULTILINE))
    assert {first or second for first, second in commands} <= set(COMMANDS)
    for path in re.findall(r"`((?:tests|models|app)/[^` ]+)`", told) + re.findall(r"\]\(([^)#]+)\)", told):
        assert (ROOT / path).exists() or (ROOT / "docs" / path).exists(), path


def test_the_proxy_takes_what_the_receiver_takes() -> None:
    told = (ROOT / "docs" / "deploy.md").read_text()
    mebibytes = Settings.model_fields["webhook_max_bytes"].default // 2**20
    assert f"client_max_body_size {mebibytes}m;" in told
    assert f"request_buffers {mebibytes}MiB" in told
    assert "proxy_request_buffering on;" in told
