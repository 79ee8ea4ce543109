"""An embedded PostgreSQL: durable (fsync on, checksums), reachable through a socket in a directory of its own."""

from __future__ import annotations

import os
import shutil
import signal
import subprocess
from pathlib import Path
from urllib.parse import quote

import psycopg

from models.errors import DatabaseBusy
from worker.embedded.account import Account
from worker.embedded.process import Server, last_words, open_log

OWNER = DATABASE = "unwind"
CONNECTIONS = 200
CONNECT_SECONDS = 2


def postgres_server(
    program: Path, *, data: Path, sockets: Path, log: Path, account: Account, lock: int
) -> Server:
    """The server over `data`, made first when it is not there. We hold the data's lock, so older pid files are stale."""
    if not (data / "PG_VERSION").exists():
        make_cluster(program.with_name("initdb"), data, log, account)
    (data / "postmaster.pid").unlink(missing_ok=True)
    settings = {
        "listen_addresses": "",
        "unix_socket_directories": f'"{sockets}"',
        "max_connections": str(CONNECTIONS),
        "log_min_error_statement": "panic",  # statements hold personal data
        "log_error_verbosity": "terse",  # and so do the details of errors
    }
    arguments = [part for name, value in settings.items() for part in ("-c", f"{name}={value}")]
    return Server(
        name="PostgreSQL",
        command=[str(program), "-D", str(data), *arguments],
        stop_signal=signal.SIGINT,  # fast shutdown: roll back what is open, then end
        directory=data,
        log=log,
        account=account,
        lock=lock,
    )


def make_cluster(initdb: Path, data: Path, log: Path, account: Account) -> None:
    """Beside its place first, so that one that was cut short is never taken for a whole one."""
    unfinished = data.with_name(data.name + ".unfinished")
    shutil.rmtree(unfinished, ignore_errors=True)
    account.make_own_directory(unfinished)
    locale = ["--encoding=UTF8", "--locale=C", "--locale-provider=builtin", "--builtin-locale=C.UTF-8"]
    with open_log(log) as output:
        made = subprocess.run(  # noqa: S603 - our own program and arguments, no shell
            [
                str(initdb),
                "-D",
                str(unfinished),
                f"--username={OWNER}",
                "--auth=trust",
                "--no-instructions",
                *locale,
            ],
            stdin=subprocess.DEVNULL,
            stdout=output,
            stderr=output,
            cwd=unfinished,
            env={"PATH": os.defpath, "LC_ALL": "C"},
            check=False,
            **account.run_as(),
        )
    if made.returncode != 0:
        raise DatabaseBusy(f"the embedded PostgreSQL could not be made: {last_words(log)}")
    if data.exists():
        data.rmdir()
    unfinished.rename(data)


def address(sockets: Path) -> str:
    return f"postgresql+psycopg://{OWNER}@/{DATABASE}?host={quote(str(sockets), safe='/')}"


def answers(sockets: Path) -> bool:
    """Whether our database is there; it is made on the first start."""
    try:
        with connected(sockets) as connection:
            there = connection.execute("select 1 from pg_database where datname = %s", (DATABASE,)).fetchone()
            if there is None:
                connection.execute(f'create database "{DATABASE}"')
    except psycopg.OperationalError:
        return False
    return True


def version_of(sockets: Path) -> str:
    with connected(sockets) as connection:
        row = connection.execute("show server_version").fetchone()
    return f"PostgreSQL {row[0] if row else '?'}"


def connected(sockets: Path) -> psycopg.Connection[tuple[object, ...]]:
    return psycopg.connect(
        host=str(sockets), user=OWNER, dbname="postgres", connect_timeout=CONNECT_SECONDS, autocommit=True
    )
