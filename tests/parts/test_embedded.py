"""The embedded database and broker: real, durable, shared, never as root, and never two on the same data."""

from __future__ import annotations

import json
import os
import pwd
import signal
import stat
import subprocess
import tempfile
import time
from collections.abc import Callable, Iterator
from contextlib import AbstractContextManager
from pathlib import Path
from typing import NamedTuple
from urllib.parse import urlsplit

import psycopg
import pytest
import redis
from kombu import Connection
from redis.backoff import NoBackoff
from redis.retry import Retry

from models.errors import Refused
from models.settings import Settings, load_settings
from tests.parts.conftest import Holder
from worker.embedded import Parts, parts
from worker.embedded.account import Account, account_for
from worker.embedded.binaries import POSTGRES, broker_program, copied, postgres_program, root_of
from worker.embedded.process import started_at

Embedded = Callable[..., AbstractContextManager[Parts]]
Hold = Callable[..., Holder]


def database(url: str) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(url.replace("+psycopg", ""), autocommit=True)


def told(url: str, question: str) -> object:
    with database(url) as connection:
        row = connection.execute(question.encode()).fetchone()
    return row[0] if row else None


def remember(found: dict[str, str] | Parts) -> None:
    """A row and a key to look for later."""
    urls = found if isinstance(found, dict) else vars(found)
    with database(urls["database_url"]) as connection:
        connection.execute("create table if not exists kept (x int)")
        connection.execute("insert into kept values (1)")
    with redis.Redis.from_url(urls["redis_url"]) as client:
        client.set("kept", "yes")


def remembered(found: Parts) -> tuple[object, object]:
    with redis.Redis.from_url(found.redis_url) as client:
        return told(found.database_url, "select count(*) from kept"), client.get("kept")


def servers_of(place: Path) -> dict[str, int]:
    state = json.loads((place / "data" / "running.json").read_text())
    return {server["name"]: server["pid"] for server in state["servers"]}


def wait_until_gone(pids: list[int]) -> None:
    deadline = time.monotonic() + 20
    while any(started_at(pid) for pid in pids):
        assert time.monotonic() < deadline, "the servers outlived their owner"
        time.sleep(0.02)


class Started(NamedTuple):
    parts: Parts
    place: Path


@pytest.fixture(scope="module")
def running() -> Iterator[Started]:
    """Parts for the tests that only look at them."""
    with tempfile.TemporaryDirectory(prefix="unwind test ") as name:
        place = Path(name)
        place.chmod(0o755)
        with parts(
            Settings(database_url=None, redis_url=None), place / "data", shelter=place / "shelter"
        ) as found:
            yield Started(found, place)


def test_the_database_is_a_durable_postgresql_and_the_broker_evicts_nothing(running: Started) -> None:
    found, place = running
    assert told(found.database_url, "show fsync") == "on"
    assert told(found.database_url, "show server_encoding") == "UTF8"
    assert told(found.database_url, "show listen_addresses") == ""
    with redis.Redis.from_url(found.redis_url, decode_responses=True) as client:
        assert client.config_get("maxmemory-policy") == {"maxmemory-policy": "noeviction"}
        assert client.config_get("appendonly") == {"appendonly": "yes"}
        assert client.config_get("appendfsync") == {"appendfsync": "everysec"}
    assert f"database: PostgreSQL 18.6, embedded, data in {place}/data/postgres" in found.describe()
    assert f"broker:   Valkey 9.1.2, embedded, data in {place}/data/valkey" in found.describe()


def test_celery_reaches_the_broker_and_nobody_does_without_its_password(running: Started) -> None:
    with Connection(running.parts.redis_url) as connection:
        connection.ensure_connection(max_retries=1)
    port = urlsplit(running.parts.redis_url).port
    with (
        redis.Redis(port=port or 0, retry=Retry(NoBackoff(), 0)) as stranger,
        pytest.raises(redis.AuthenticationError),
    ):
        stranger.ping()


def test_what_was_stored_is_there_at_the_next_start_and_nothing_runs_in_between(
    embedded: Embedded, place: Path
) -> None:
    with embedded() as found:
        remember(found)
        pids = list(servers_of(place).values())
    assert [started_at(pid) for pid in pids] == [None, None]
    assert not (place / "data" / "running.json").exists()
    with embedded() as found:
        assert remembered(found) == (1, b"yes")


def test_a_second_command_uses_the_servers_that_run(embedded: Embedded, hold: Hold, place: Path) -> None:
    owner = hold(command="unwind up", lasting=True)
    about = owner.about()
    with embedded() as guest:
        assert vars(guest) | {"restarts": []} == {
            "database_url": about["database_url"],
            "redis_url": about["redis_url"],
            "about": tuple(about["describe"].splitlines()),
            "restarts": [],
        }
        remember(guest)
    assert owner.process.poll() is None
    assert told(about["database_url"], "select count(*) from kept") == 1


def test_a_second_lasting_command_is_refused_by_name(embedded: Embedded, hold: Hold) -> None:
    owner = hold(command="unwind up", lasting=True)
    owner.about()
    with (
        pytest.raises(Refused, match=rf"`unwind up` runs as process {owner.process.pid}"),
        embedded(lasting=True),
    ):
        pass


def test_a_lasting_command_waits_for_a_short_one_to_end(embedded: Embedded, hold: Hold) -> None:
    short = hold(command="unwind verify")
    short.about()
    lasting = hold(command="unwind up", lasting=True)
    time.sleep(0.5)
    assert short.leave() == 0
    lasting.about()


def test_an_owner_waits_for_its_guest_before_it_stops_the_servers(hold: Hold) -> None:
    owner = hold(command="unwind verify")
    about = owner.about()
    guest = hold(command="unwind failed")
    guest.about()
    assert owner.process.stdin is not None
    owner.process.stdin.close()
    time.sleep(0.5)
    assert told(about["database_url"], "select 1") == 1
    assert guest.leave() == 0
    assert owner.process.wait(10) == 0


def test_after_a_kill_of_the_owner_the_servers_end_and_the_next_start_has_all(
    embedded: Embedded, hold: Hold, place: Path
) -> None:
    owner = hold()
    remember(owner.about())
    pids = list(servers_of(place).values())
    owner.kill()
    with embedded() as found:
        assert [started_at(pid) for pid in pids] == [None, None]
        assert remembered(found) == (1, b"yes")


def test_after_a_kill_of_everything_the_next_start_recovers_what_was_committed(
    embedded: Embedded, hold: Hold, place: Path
) -> None:
    owner = hold()
    remember(owner.about())
    pids = list(servers_of(place).values())
    for pid in pids:
        os.kill(pid, signal.SIGKILL)
    owner.kill()
    with embedded() as found:
        assert told(found.database_url, "select count(*) from kept") == 1


def test_a_server_that_died_is_revived_at_the_same_address(embedded: Embedded, place: Path) -> None:
    with embedded() as found:
        remember(found)
        for pid in servers_of(place).values():
            os.kill(pid, signal.SIGKILL)
        wait_until_gone(list(servers_of(place).values()))
        assert found.revive() == [
            "the embedded PostgreSQL had ended; it runs again",
            "the embedded Valkey had ended; it runs again",
        ]
        assert found.revive() == []
        assert told(found.database_url, "select count(*) from kept") == 1


def test_the_servers_never_run_as_root(running: Started) -> None:
    owners = [Path(f"/proc/{pid}").stat().st_uid for pid in servers_of(running.place).values()]
    assert 0 not in owners
    assert owners == [account_for(running.place / "data" / "postgres").uid] * 2


def test_somebody_who_is_not_root_runs_them_as_themselves(hold: Hold, place: Path) -> None:
    uid, gid = os.getuid(), os.getgid()
    given: dict[str, object] = {}
    if uid == 0:
        nobody = pwd.getpwnam("nobody")
        uid, gid = nobody.pw_uid, nobody.pw_gid
        given = {"become_uid": uid, "become_gid": gid}
        account = Account(uid, gid, "nobody", changes=True)
        postgres_program(account, place / "shelter")
        broker_program(account, place / "shelter")
        place.chmod(0o777)
    user = hold(**given)
    assert f"data in {place}/data/postgres" in user.about()["describe"]
    assert {Path(f"/proc/{pid}").stat().st_uid for pid in servers_of(place).values()} == {uid}
    assert user.leave() == 0


def test_data_that_the_servers_account_cannot_reach_is_kept_in_the_shelter_and_no_door_is_opened(
    place: Path,
) -> None:
    private = place / "private"
    private.mkdir(mode=0o700)
    data, shelter = private / "data", place / "shelter"
    for count in (1, 2):
        with parts(load_settings(), data, shelter=shelter) as found:
            kept = (shelter / "data") if os.getuid() == 0 else data
            assert f"embedded, data in {kept}" in found.describe()
            remember(found)
            assert told(found.database_url, "select count(*) from kept") == count
    notes = [note.read_text() for note in shelter.glob("data/*/kept-for")]
    assert notes == ([f"{data}\n"] if os.getuid() == 0 else [])
    assert stat.S_IMODE(private.stat().st_mode) == 0o700


def test_programs_that_the_account_cannot_reach_are_copied_with_their_libraries(place: Path) -> None:
    root = root_of(POSTGRES)
    assert root is not None
    copy = copied(POSTGRES, root, place / "programs")
    assert copied(POSTGRES, root, place / "programs") == copy
    said = subprocess.run([copy / POSTGRES.program, "--version"], capture_output=True, text=True, check=True)
    assert said.stdout == "postgres (PostgreSQL) 18.6\n"
    assert stat.S_IMODE((copy / POSTGRES.program).stat().st_mode) == 0o755


def test_a_directory_with_a_very_long_name_works(place: Path) -> None:
    data = place / ("long" * 30) / "data"
    with parts(load_settings(), data, shelter=place / "shelter") as found:
        assert told(found.database_url, "select 1") == 1


def test_addresses_of_the_environment_are_used_as_they_are_and_nothing_is_started(place: Path) -> None:
    settings = load_settings(
        database_url="postgres://me:secret@db/x", redis_url="redis://:secret@broker:6379/0"
    )
    with parts(settings, place / "data") as found:
        assert found.database_url == "postgresql+psycopg://me:secret@db/x"
        assert found.redis_url == "redis://:secret@broker:6379/0"
        assert found.describe().splitlines() == [
            "database: postgresql+psycopg://me:***@db/x (DATABASE_URL)",
            "broker:   redis://:***@broker:6379/0 (REDIS_URL)",
        ]
    assert not (place / "data").exists()


def test_a_guest_is_told_when_the_owner_uses_a_database_of_its_environment(
    embedded: Embedded, hold: Hold
) -> None:
    hold(command="unwind up", lasting=True, database_url="postgresql://u@elsewhere/x").about()
    with pytest.raises(Refused, match="runs with DATABASE_URL set; set the same"), embedded():
        pass
    with embedded(database_url="postgresql://u@elsewhere/x") as guest:
        assert "elsewhere" in guest.database_url
        assert guest.describe().count("\n") == 1


def test_what_is_no_directory_cannot_hold_data(place: Path) -> None:
    (place / "data").write_text("a file")
    with pytest.raises(Refused, match="cannot be used for data"), parts(load_settings(), place / "data"):
        pass


def test_the_state_that_holds_the_password_and_the_logs_are_private(running: Started) -> None:
    private = [
        running.place / "data" / name for name in ("running.json", "postgres.log", "valkey.log", "lock")
    ]
    assert [stat.S_IMODE(path.stat().st_mode) for path in private] == [0o600] * 4
    password = urlsplit(running.parts.redis_url).password
    assert password
    for pid in servers_of(running.place).values():
        assert password not in Path(f"/proc/{pid}/cmdline").read_text()


def test_rows_of_a_refused_statement_do_not_reach_the_log(running: Started) -> None:
    with database(running.parts.database_url) as connection:
        connection.execute("create table people (email text unique)")
        connection.execute("insert into people values ('ada@example.com')")
        with pytest.raises(psycopg.errors.UniqueViolation):
            connection.execute("insert into people values ('ada@example.com')")
    log = (running.place / "data" / "postgres.log").read_text()
    assert "duplicate key" in log
    assert "ada@example.com" not in log
