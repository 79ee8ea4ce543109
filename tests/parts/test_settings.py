"""Settings: what is right is read, what is wrong stops the start with one line, and no secret shows."""

from __future__ import annotations

from pathlib import Path

import pytest

from models.errors import InvalidSetting
from models.settings import Settings, described, env_example, load_settings, without_password

ROOT = Path(__file__).parents[2]
KEY = "A" * 43 + "="


@pytest.mark.parametrize(
    ("name", "value", "reason"),
    [
        pytest.param("PORT", "70000", "less than or equal to 65535", id="a port that cannot be"),
        pytest.param("PORT", "http", "valid integer", id="a port that is no number"),
        pytest.param("MAX_ATTEMPTS", "0", "greater than or equal to 1", id="no attempt at all"),
        pytest.param("DATABASE_URL", "mysql://db/x", "must start with postgresql://", id="another database"),
        pytest.param("DATABASE_URL", "sqlite:///x.db", "must start with postgresql://", id="a file"),
        pytest.param(
            "REDIS_URL",
            "amqp://broker",
            "must start with redis://, rediss:// or sentinel://",
            id="another broker",
        ),
        pytest.param("REDIS_URL", "sentinel://a:1,b:2", "must name the master", id="Sentinels of nothing"),
        pytest.param("REDIS_URL", "sentinel://a:1/m/x", "must end in the number", id="no database's number"),
        pytest.param("SHOPIFY_API_VERSION", "2026-11", "must be a stable version", id="no quarter"),
        pytest.param("SHOPIFY_API_VERSION", "unstable", "must be a stable version", id="no date"),
        pytest.param("SHOPIFY_API_VERSION", "2024-10", "must be 2026-01 or later", id="too old"),
        pytest.param("SHOPIFY_APP_URL", "http://shop.example", "must be https", id="an open connection"),
        pytest.param("SHOPIFY_APP_URL", "shop.example", "must be an address", id="no address"),
        *(
            pytest.param("SHOPIFY_APP_URL", f"https://a.example{end}", "must end with its host", id=end)
            for end in ("/?b=1", "/b#", "/café", "//b", "/a b")
        ),
        pytest.param("SHOPIFY_SCOPES", "read_orders read_all_orders", "comma separated", id="no commas"),
        pytest.param("TOKEN_ENCRYPTION_KEYS", f"{KEY},short", "must be 32 bytes", id="a short key"),
        pytest.param("FLOWER_BASIC_AUTH", "password", "must be user:password", id="a login without a user"),
        pytest.param(
            "FLOWER_BASIC_AUTH", "me:pass,word", "must be user:password", id="a comma in a password"
        ),
        pytest.param(
            "FLOWER_BASIC_AUTH", "me:größe", "must be user:password", id="a password Flower chokes on"
        ),
        pytest.param("LOG_LEVEL", "loud", "should be 'DEBUG', 'INFO'", id="an unknown level"),
    ],
)
def test_a_wrong_setting_is_named_with_its_reason_in_one_line(
    monkeypatch: pytest.MonkeyPatch, name: str, value: str, reason: str
) -> None:
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting) as refused:
        load_settings()
    line = str(refused.value)
    assert refused.value.field == name
    assert line.startswith(f"{name}: ")
    assert reason in line
    assert line.endswith("(`unwind settings` explains it)")
    assert "\n" not in line
    assert "short" not in line


@pytest.mark.parametrize(
    "given",
    [
        pytest.param("postgres://u:p@h:5432/x?sslmode=require", id="as platforms give it"),
        pytest.param("postgresql://u:p@h:5432/x?sslmode=require", id="as everyone writes it"),
        pytest.param("postgresql+psycopg2://u:p@h:5432/x?sslmode=require", id="with another driver"),
    ],
)
def test_every_postgres_address_means_the_same_driver(monkeypatch: pytest.MonkeyPatch, given: str) -> None:
    monkeypatch.setenv("DATABASE_URL", given)
    assert load_settings().database_url == "postgresql+psycopg://u:p@h:5432/x?sslmode=require"


def test_several_secrets_are_read_while_rotating(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("SHOPIFY_API_SECRET", "new, old,")
    assert load_settings().webhook_secrets == (b"new", b"old")


def test_an_empty_setting_is_the_default(monkeypatch: pytest.MonkeyPatch) -> None:
    monkeypatch.setenv("PORT", "")
    monkeypatch.setenv("DATABASE_URL", "")
    assert (load_settings().port, load_settings().database_url) == (8000, None)


def test_the_receiver_is_refused_without_a_secret() -> None:
    with pytest.raises(InvalidSetting, match="SHOPIFY_API_SECRET: is empty"):
        load_settings().require_receiver()
    load_settings(shopify_api_secret="hush").require_receiver()


def test_flower_outside_this_machine_needs_a_login() -> None:
    load_settings().require_flower()
    with pytest.raises(InvalidSetting, match="FLOWER_BASIC_AUTH: is empty"):
        load_settings(flower_address="0.0.0.0").require_flower()
    load_settings(flower_address="0.0.0.0", flower_basic_auth="me:hush").require_flower()


def test_the_environment_overrules_the_file_and_the_call_overrules_both(
    monkeypatch: pytest.MonkeyPatch, tmp_path: Path
) -> None:
    file = tmp_path / ".env"
    file.write_text("PORT=1111\nHOST=file\nMAX_ATTEMPTS=3\nOF_SOMEBODY_ELSE=1\n")
    monkeypatch.setenv("HOST", "environment")
    monkeypatch.setenv("MAX_ATTEMPTS", "4")
    read = load_settings(file, max_attempts=5, port=None)
    assert (read.port, read.host, read.max_attempts) == (1111, "environment", 5)


def test_a_child_process_reads_the_same_settings(monkeypatch: pytest.MonkeyPatch) -> None:
    ours = load_settings(
        shopify_api_secret="a,b",
        token_encryption_keys=KEY,
        port=9,
        redis_url="redis://:p@h:1/0",
        log_level="debug",
    )
    for name, value in ours.environment().items():
        monkeypatch.setenv(name, value)
    assert load_settings() == ours


def test_no_secret_shows_when_settings_are_printed_or_listed() -> None:
    ours = load_settings(
        database_url="postgresql://me:hush@db/x",
        redis_url="redis://:hush@r/0",
        shopify_api_secret="hush",
        flower_basic_auth="me:hush",
    )
    shown = {row.name: row.value for row in described(ours)}
    assert "hush" not in repr(ours)
    assert "hush" not in str(shown)
    assert shown["SHOPIFY_API_SECRET"] == "(set)"
    assert shown["DATABASE_URL"] == "postgresql+psycopg://me:***@db/x"
    assert without_password("redis://h/0") == "redis://h/0"
    watched = "sentinel://:hush@a:1,b:2/main/0?sentinel_password=hush"
    assert without_password(watched) == "sentinel://:***@a:1,b:2/main/0?sentinel_password=***"


def test_every_setting_has_a_help_line_and_every_number_a_unit_or_a_count_in_its_name() -> None:
    counts = (
        "port",
        "attempts",
        "processes",
        "threads",
        "proxies",
        "connections",
        "seconds",
        "hours",
        "days",
        "bytes",
    )
    for name, field in Settings.model_fields.items():
        assert field.description, name
        assert "\n" not in field.description
        if field.annotation is int:
            assert name.endswith(counts), f"{name} does not say what it counts"


def test_the_example_file_is_what_the_settings_say() -> None:
    assert (ROOT / ".env.example").read_text() == env_example()


def test_the_example_file_changes_nothing(tmp_path: Path) -> None:
    active = tmp_path / ".env"
    active.write_text(env_example().replace("\n#", "\n").replace("\n ", "\n# "))
    assert load_settings(active) == load_settings()
