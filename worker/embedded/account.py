"""As whom the embedded servers run: never as root.

PostgreSQL refuses to run as root. Started by root we run it (and the broker) as the owner of the data if that is
someone else, else as `nobody`, and open no directory of anyone for that: what this account cannot reach is kept, or
copied to, where it can (`SHELTER`).
"""

from __future__ import annotations

import os
import pwd
import subprocess
from dataclasses import dataclass
from pathlib import Path
from typing import TypedDict

from models.errors import InvalidSetting

SHELTER = Path("/var/lib/unwind")  # world-readable, survives restarts, not swept like /var/tmp
UNPRIVILEGED = "nobody"


class RunAs(TypedDict, total=False):
    """Arguments of `subprocess` that give up root for good."""

    user: int
    group: int
    extra_groups: list[int]


@dataclass(frozen=True)
class Account:
    """Who runs the servers; `changes` is false when that is who we are."""

    uid: int
    gid: int
    name: str
    changes: bool

    def run_as(self) -> RunAs:
        return RunAs(user=self.uid, group=self.gid, extra_groups=[]) if self.changes else RunAs()

    def can_run(self, path: Path) -> bool:
        """Whether this account can enter the directory, or run the program, at `path`. Asked by trying."""
        if not self.changes:
            return os.access(path, os.X_OK)
        tried = subprocess.run(  # noqa: S603 - a fixed program, no shell
            ["/usr/bin/test", "-x", str(path)], cwd="/", check=False, **self.run_as()
        )
        return tried.returncode == 0

    def make_own_directory(self, path: Path) -> None:
        """A directory that only this account (and root) can enter."""
        path.mkdir(mode=0o700, exist_ok=True)
        path.chmod(0o700)
        if self.changes:
            os.chown(path, self.uid, self.gid)


def account_for(data: Path) -> Account:
    """Whoever we are; as root the owner of the data that is there already, else `nobody`."""
    uid = os.getuid()
    if uid != 0:
        return Account(uid, os.getgid(), name_of(uid), changes=False)
    if data.exists() and (owner := data.stat()).st_uid != 0:
        return Account(owner.st_uid, owner.st_gid, name_of(owner.st_uid), changes=True)
    try:
        entry = pwd.getpwnam(UNPRIVILEGED)
    except KeyError:
        raise InvalidSetting(
            "DATABASE_URL",
            f"is empty, and an embedded PostgreSQL cannot run as root; there is no account {UNPRIVILEGED} to run it as",
        ) from None
    return Account(entry.pw_uid, entry.pw_gid, entry.pw_name, changes=True)


def name_of(uid: int) -> str:
    try:
        return pwd.getpwuid(uid).pw_name
    except KeyError:
        return str(uid)


def passable(path: Path) -> None:
    """Make a directory, and those above it, that everyone may pass through and only we may list; whatever the umask."""
    missing = [step for step in [path, *path.parents] if not step.exists()]
    path.mkdir(parents=True, exist_ok=True)
    for step in missing:
        step.chmod(0o711)
