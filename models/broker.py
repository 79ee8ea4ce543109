"""Where the broker is: one address, REDIS_URL, read here for every library that needs it in words of its own.

`redis://`, `rediss://` name one server. `sentinel://[user:password@]host:port,host:port,.../NAME[/DATABASE]` names
Sentinels, which know the server that is the master of NAME now; `?sentinel_password=` when they have one themselves.
"""

from __future__ import annotations

from dataclasses import dataclass
from urllib.parse import parse_qs, quote, unquote, urlsplit

SCHEMES = ("redis", "rediss", "sentinel")
SENTINEL_PORT = 26379


@dataclass(frozen=True, slots=True, repr=False)
class Sentinels:
    """The address of a broker that Sentinels watch. `user` and `password` are the servers', not the Sentinels'."""

    hosts: tuple[tuple[str, int], ...]
    master: str
    database: int = 0
    user: str | None = None
    password: str | None = None
    sentinel_password: str | None = None

    @property
    def kombu_url(self) -> str:
        """Every Sentinel with the servers' login and database: whichever stands first is asked for them."""
        login = f"{quote(self.user or '', safe='')}:{quote(self.password, safe='')}@" if self.password else ""
        named = [(f"[{host}]" if ":" in host else host, port) for host, port in self.hosts]
        return ";".join(f"sentinel://{login}{host}:{port}/{self.database}" for host, port in named)


def sentinels_of(url: str) -> Sentinels | None:
    """None: the address names a server itself. Raises ValueError with what is wrong, for people."""
    parts = urlsplit(url)
    if parts.scheme != "sentinel":
        return None
    login, _, hosts = parts.netloc.rpartition("@")
    user, _, password = login.partition(":")
    master, _, database = parts.path.strip("/").partition("/")
    if not master:
        raise ValueError("must name the master, as in sentinel://host:26379,host:26379/NAME")
    if database and not database.isdecimal():
        raise ValueError("must end in the number of a database, or in the master's name")
    return Sentinels(
        hosts=tuple(host_of(host) for host in hosts.split(",")),
        master=unquote(master),
        database=int(database or 0),
        user=unquote(user) or None,
        password=unquote(password) or None,
        sentinel_password=parse_qs(parts.query).get("sentinel_password", [None])[0],
    )


def host_of(text: str) -> tuple[str, int]:
    """`host:port`, `host`, `[::1]:port`."""
    parts = urlsplit(f"//{text.strip()}")
    if not parts.hostname:
        raise ValueError("must name every Sentinel as host:port, comma separated")
    return parts.hostname, parts.port or SENTINEL_PORT


def checked_broker(url: str) -> str:
    """The address itself. Raises ValueError when it is none."""
    if urlsplit(url).scheme not in SCHEMES:
        raise ValueError("must start with redis://, rediss:// or sentinel://")
    sentinels_of(url)
    return url
