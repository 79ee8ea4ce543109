"""A broker that Sentinels watch, all ours to kill: a master, its replica, three Sentinels of which two can agree."""

from __future__ import annotations

import socket
import subprocess
from collections.abc import Iterator
from contextlib import contextmanager, suppress
from dataclasses import dataclass
from pathlib import Path

import redis

from tests.waiting import until
from worker.embedded.account import Account
from worker.embedded.binaries import broker_program

MASTER = "main"
PASSWORD = "of the servers"
DOWN_AFTER_MILLISECONDS = 800


@dataclass
class Watched:
    url: str
    ports: dict[str, int]
    running: dict[str, subprocess.Popen[bytes]]

    def kill(self, *names: str) -> None:
        """SIGKILL, all at once."""
        for name in names:
            self.running[name].kill()

    def master(self) -> int | None:
        """The port that the third Sentinel takes for the master's."""
        with (
            suppress(redis.RedisError),
            redis.Redis(port=self.ports["sentinel-3"], socket_timeout=1) as client,
        ):
            found = client.execute_command("SENTINEL", "GET-MASTER-ADDR-BY-NAME", MASTER)
            return int(found[1])
        return None


@contextmanager
def watched(place: Path) -> Iterator[Watched]:
    names = ("master", "replica", "sentinel-1", "sentinel-2", "sentinel-3")
    ports = dict(zip(names, free_ports(len(names)), strict=True))
    hosts = ",".join(f"127.0.0.1:{ports[name]}" for name in names[2:])
    secret = PASSWORD.replace(" ", "%20")
    running: dict[str, subprocess.Popen[bytes]] = {}
    try:
        for name in names:
            if name == "sentinel-1":  # it asks the master for replicas now, and then each ten seconds
                until(lambda: has_a_replica(ports["master"]))
            running[name] = started(place / name, name, ports)
        here = Watched(f"sentinel://:{secret}@{hosts}/{MASTER}/0", ports, running)
        wait_until_ready(here)
        yield here
    finally:
        for process in running.values():
            process.kill()
            process.wait()


def started(place: Path, name: str, ports: dict[str, int]) -> subprocess.Popen[bytes]:
    place.mkdir()
    config = place / "server.conf"
    config.write_text(
        "\n".join([f"port {ports[name]}", "bind 127.0.0.1", f"dir {place}", *lines(name, ports), ""])
    )
    account = Account(uid=0, gid=0, name="", changes=False)
    command = [str(broker_program(account, place)), str(config)]
    if name.startswith("sentinel"):
        command.append("--sentinel")
    with (place / "log").open("wb") as log:
        return subprocess.Popen(command, stdout=log, stderr=log)


def lines(name: str, ports: dict[str, int]) -> list[str]:
    if name.startswith("sentinel"):
        return [
            f"sentinel monitor {MASTER} 127.0.0.1 {ports['master']} 2",
            f'sentinel auth-pass {MASTER} "{PASSWORD}"',
            f"sentinel down-after-milliseconds {MASTER} {DOWN_AFTER_MILLISECONDS}",
            f"sentinel failover-timeout {MASTER} 3000",
        ]
    own = [f'requirepass "{PASSWORD}"', f'masterauth "{PASSWORD}"', "maxmemory-policy noeviction"]
    own += ['save ""', "repl-diskless-sync-delay 0"]
    return [*own, f"replicaof 127.0.0.1 {ports['master']}"] if name == "replica" else own


def wait_until_ready(here: Watched) -> None:
    """Every Sentinel knows the others and the replica."""
    sentinels = [port for name, port in here.ports.items() if name.startswith("sentinel")]
    until(lambda: all(map(knows_all, sentinels)))


def has_a_replica(port: int) -> bool:
    with suppress(redis.RedisError), redis.Redis(port=port, password=PASSWORD, socket_timeout=1) as client:
        about = client.info("replication")
        assert isinstance(about, dict)
        return bool(about["connected_slaves"] == 1 and about["slave0"]["state"] == "online")
    return False


def knows_all(port: int) -> bool:
    with suppress(redis.RedisError), redis.Redis(port=port, socket_timeout=1) as client:
        about = client.info("sentinel")
        assert isinstance(about, dict)
        told = about.get("master0", {})
        return (told.get("slaves"), told.get("sentinels"), told.get("status")) == (1, 3, "ok")
    return False


def free_ports(count: int) -> list[int]:
    probes = [socket.create_server(("127.0.0.1", 0)) for _ in range(count)]
    ports = [probe.getsockname()[1] for probe in probes]
    for probe in probes:
        probe.close()
    return ports
