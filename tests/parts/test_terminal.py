"""The terminal: commands load when called, errors are one line, and exit codes mean what they say."""

from __future__ import annotations

import json
import os
import socket
import subprocess
import sys
from pathlib import Path

import click
import pytest

from app.cli import COMMANDS, SUMMARIES, cli, in_words, run
from app.cli.context import Session, own_key
from app.cli.tables import table
from app.cli.up import children, reachable_host, unset_for_stores
from models.errors import ShopifyUnreachable
from models.session import make_engine
from models.settings import described, is_fernet_key, load_settings
from worker.embedded import Parts

ROOT = Path(__file__).parents[2]


@pytest.fixture(autouse=True)
def elsewhere(tmp_path: Path, monkeypatch: pytest.MonkeyPatch) -> None:
    """No .env of this machine, and no data beside the checkout."""
    monkeypatch.chdir(tmp_path)


@pytest.mark.parametrize("name", list(COMMANDS))
def test_every_command_of_the_table_can_be_loaded(name: str) -> None:
    assert isinstance(cli.get_command(click.Context(cli), name), click.Command)
    assert SUMMARIES[name].endswith(".")


def test_a_table_shows_what_it_is_given_and_steers_no_terminal() -> None:
    shown = table(("order", "found"), [["\x1b]0;owned\x07#1\x9b2J", "[red]æ[/red]"]], empty="")
    assert "?]0;owned?#1?2J" in shown and "[red]æ[/red]" in shown
    assert not {c for c in shown if not c.isprintable()} - {"\n"}


def test_help_lists_every_command_and_imports_none(capsys: pytest.CaptureFixture[str]) -> None:
    script = "import sys; from app.cli import run; run(['--help']); print([m for m in sys.modules if 'app.cli.' in m])"
    told = subprocess.run(
        [sys.executable, "-c", script],
        env={**os.environ, "PYTHONPATH": str(ROOT)},
        capture_output=True,
        text=True,
    )
    assert all(name in told.stdout for name in COMMANDS)
    assert told.stdout.endswith("[]\n"), told.stdout + told.stderr


@pytest.mark.parametrize(
    "arguments",
    [
        pytest.param(["nonsense"], id="no such command"),
        pytest.param(["up", "--port", "70000"], id="an impossible value"),
        pytest.param(["db"], id="half a command"),
        pytest.param(["settings", "--unknown"], id="no such option"),
    ],
)
def test_wrong_usage_is_status_2(arguments: list[str]) -> None:
    assert run(arguments) == 2


def test_a_wrong_setting_is_one_line_and_status_2(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("PORT", "http")
    assert run(["settings"]) == 2
    assert capsys.readouterr().err.count("\n") == 1


def test_up_refuses_to_take_webhooks_that_anyone_could_forge(
    tmp_path: Path, capsys: pytest.CaptureFixture[str]
) -> None:
    assert run(["up", "--data", str(tmp_path / "data")]) == 2
    assert "SHOPIFY_API_SECRET: is empty" in capsys.readouterr().err
    assert not (tmp_path / "data").exists()


def test_up_refuses_a_port_in_use(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("SHOPIFY_API_SECRET", "hush")
    with socket.socket() as other:
        other.bind(("127.0.0.1", 0))
        other.listen()
        assert run(["up", "--port", str(other.getsockname()[1])]) == 2
    assert "cannot be listened on" in capsys.readouterr().err


def test_no_secret_stands_in_a_command_line_of_up() -> None:
    ours = load_settings(
        shopify_api_secret="hush", redis_url="redis://:hush@r/0", database_url="postgresql://u:hush@d/x"
    )
    here = Session(ours, Parts("", "", ()), make_engine(str(ours.database_url)))
    for child in children(here, flower=True):
        assert "hush" not in " ".join(child.command)
        assert "hush" not in repr(child)
        assert child.env["SHOPIFY_API_SECRET"] == "hush"


@pytest.mark.parametrize(
    ("given", "unset"),
    [
        pytest.param({}, [], id="no app is meant"),
        pytest.param(
            {"shopify_api_key": "key"}, ["SHOPIFY_APP_URL", "TOKEN_ENCRYPTION_KEYS"], id="half an app"
        ),
        pytest.param(
            {
                "shopify_api_key": "key",
                "shopify_app_url": "https://unwind.example",
                "token_encryption_keys": "A" * 43 + "=",
            },
            [],
            id="all of it",
        ),
    ],
)
def test_up_says_what_keeps_stores_from_being_connected(given: dict[str, str], unset: list[str]) -> None:
    assert unset_for_stores(load_settings(None, **given)) == unset


def test_a_shopify_that_does_not_answer_is_named_and_not_a_loss() -> None:
    told = in_words(ShopifyUnreachable("orders: ConnectionError"))
    assert told == "Shopify does not answer (orders: ConnectionError); nothing is lost, run it again later"


def test_settings_are_listed_for_people_and_for_programs(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings"]) == 0
    people = capsys.readouterr().out
    assert run(["settings", "--json"]) == 0
    rows = json.loads(capsys.readouterr().out)
    names = [row.name for row in described(load_settings())]
    assert [row["name"] for row in rows] == names
    assert all(f"{name}=" in people for name in names)


def test_the_example_is_printed_as_it_is_kept(capsys: pytest.CaptureFixture[str]) -> None:
    assert run(["settings", "--example"]) == 0
    assert capsys.readouterr().out == (ROOT / ".env.example").read_text()


def test_the_key_of_stored_tokens_is_made_once_and_private(tmp_path: Path) -> None:
    key = own_key(tmp_path / "key")
    assert is_fernet_key(key)
    assert own_key(tmp_path / "key") == key
    assert (tmp_path / "key").stat().st_mode & 0o777 == 0o600
    assert [path.name for path in tmp_path.iterdir()] == ["key"]


@pytest.mark.parametrize(
    ("host", "reached"), [("0.0.0.0", "127.0.0.1"), ("::", "[::1]"), ("example.org", "example.org")]
)
def test_a_server_that_listens_everywhere_is_reached_here(host: str, reached: str) -> None:
    assert reachable_host(host) == reached


def test_a_database_that_does_not_answer_is_one_line_that_says_where_to_look(
    monkeypatch: pytest.MonkeyPatch, capsys: pytest.CaptureFixture[str]
) -> None:
    monkeypatch.setenv("DATABASE_URL", "postgresql://nobody:hush@127.0.0.1:1/none")
    monkeypatch.setenv("REDIS_URL", "redis://127.0.0.1:1/0")
    assert run(["verify"]) == 1
    told = capsys.readouterr()
    assert "database: postgresql" in told.err  # every command says which it uses
    assert "broker:   redis://127.0.0.1:1/0 (REDIS_URL)" in told.err
    assert told.err.splitlines()[-1].startswith("unwind: the database: connection failed")
    assert "DATABASE_URL" in told.err
    assert "hush" not in told.err + told.out
    assert "Traceback" not in told.err
