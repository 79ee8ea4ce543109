"""Calls to addresses that merchants choose. The one module that opens connections to them.

Guarantees: the address that was checked is the one that is connected to (a second look-up could answer otherwise: DNS
rebinding); only public addresses, unless ENDPOINTS_ALLOW_NETWORKS says so; TLS, checked against the host's name; no
proxy, no redirect, no cookie; time limits on every step and on the whole; of an answer only its head is read.
"""

from __future__ import annotations

import http.client
import socket
import ssl
import threading
import time
from collections.abc import Callable, Mapping, Sequence
from contextlib import suppress
from dataclasses import dataclass
from datetime import UTC, datetime
from email.utils import parsedate_to_datetime
from ipaddress import IPv4Address, IPv4Network, IPv6Address, IPv6Network, ip_address, ip_network
from urllib.parse import SplitResult, urlsplit, urlunsplit

from models.errors import InvalidSetting, NameLookUpTimedOut

CONNECT_SECONDS = 5.0
WHOLE_SECONDS = 15.0  # look-up, connection and answer together
ADDRESSES_MAX = 3  # of one host, tried one after the other
ANSWER_BYTES_MAX = 64 * 1024  # of its rest, read so that the other side can end in peace; never looked at
REST_SECONDS = 1.0  # for that
URL_MAX_CHARACTERS = 2048
HTTPS_PORT, OWN_PORTS = 443, range(1024, 65536)  # the ports below belong to other protocols

LOOK_UP_TIMED_OUT = "name_look_up_timed_out"
NOT_PUBLIC = "no_public_address"  # one word for a name of our own network and for one that nobody knows: neither is told
INNER = (
    ".local",
    ".localhost",
    ".internal",
    ".intranet",
    ".lan",
    ".home.arpa",
    ".svc",
)  # names of no public host

Address = IPv4Address | IPv6Address
Network = IPv4Network | IPv6Network
Resolve = Callable[[str, int], Sequence[str]]

# What is_global does not say alike in every version of Python, and ways to write an IPv4 address within IPv6.
REFUSED: tuple[Network, ...] = tuple(
    ip_network(network)
    for network in (
        "0.0.0.0/8", "10.0.0.0/8", "100.64.0.0/10", "127.0.0.0/8", "169.254.0.0/16", "172.16.0.0/12", "192.0.0.0/24",
        "192.0.2.0/24", "192.31.196.0/24", "192.52.193.0/24", "192.88.99.0/24", "192.168.0.0/16", "192.175.48.0/24",
        "198.18.0.0/15", "198.51.100.0/24", "203.0.113.0/24", "224.0.0.0/4", "240.0.0.0/4",
        "::/96", "::ffff:0:0/96", "64:ff9b::/96", "64:ff9b:1::/48", "100::/64", "2001::/23", "2001:db8::/32",
        "2002::/16", "3fff::/20", "5f00::/16", "fc00::/7", "fe80::/10", "fec0::/10", "ff00::/8",
    )
)  # fmt: skip


@dataclass(frozen=True, slots=True, kw_only=True)
class Outcome:
    """How one call ended. status: HTTP's; None when no answer came, and then `error` says why in one word."""

    status: int | None
    error: str | None
    milliseconds: int
    retry_after_seconds: float | None = None

    @property
    def delivered(self) -> bool:
        return self.status is not None and 200 <= self.status < 300


class Unsent(Exception):
    """The call was not answered. The one word of its log; nothing of what the network said."""

    def __init__(self, word: str) -> None:
        super().__init__(word)
        self.word = word


def networks_of(texts: Sequence[str]) -> tuple[Network, ...]:
    return tuple(ip_network(each) for each in texts)


def look_up(host: str, port: int) -> list[str]:
    """The host's addresses, as the machine's resolver gives them. Raises OSError."""
    found = socket.getaddrinfo(host, port, type=socket.SOCK_STREAM, proto=socket.IPPROTO_TCP)
    return [str(each[4][0]) for each in found]


class Outgoing:
    """Sends to checked addresses. Safe to share between threads; keeps nothing of one call for the next."""

    def __init__(
        self,
        allowed: Sequence[Network] = (),
        *,
        resolve: Resolve = look_up,
        tls: ssl.SSLContext | None = None,
        connect_seconds: float = CONNECT_SECONDS,
        whole_seconds: float = WHOLE_SECONDS,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._allowed = tuple(allowed)
        self._resolve = resolve
        self._tls = tls or ssl.create_default_context()
        self._connect_seconds = connect_seconds
        self._whole_seconds = whole_seconds
        self._clock = clock

    def check(self, url: str) -> str:
        """The address in its normal form, once its host was looked up. Raises InvalidSetting (`url`), NameLookUpTimedOut."""
        parts = parts_of(url)
        try:
            self._addresses(parts, self._clock() + self._connect_seconds)
        except Unsent as unsent:
            if unsent.word == LOOK_UP_TIMED_OUT:
                raise NameLookUpTimedOut("the host's address could not be looked up in time") from None
            raise InvalidSetting("url", WHY[unsent.word]) from None
        return urlunsplit(parts)

    def post(self, url: str, body: bytes, headers: Mapping[str, str]) -> Outcome:
        """Send once. Never raises for what the network or the other side does."""
        begun = self._clock()
        status, error, retry_after = None, None, None
        try:
            status, retry_after = self._send(parts_of(url), body, headers, begun + self._whole_seconds)
        except InvalidSetting:
            error = "address_refused"
        except Unsent as unsent:
            error = unsent.word
        took = round((self._clock() - begun) * 1000)
        return Outcome(status=status, error=error, milliseconds=took, retry_after_seconds=retry_after)

    # -- where to ------------------------------------------------------------------------------------

    def _addresses(self, parts: SplitResult, until: float) -> list[str]:
        """The host's addresses, every one of them checked: one that may not be asked spoils the name."""
        host, port = str(parts.hostname), port_of(parts)
        if not self._allowed and is_inner(host):
            raise Unsent(NOT_PUBLIC)  # not even looked up
        found = list(dict.fromkeys(self._looked_up(host, port, until)))
        if not found:
            raise Unsent(NOT_PUBLIC)
        inside = [self._is_allowed(address) for address in found]
        if all(inside):
            return found
        if not all(each or is_public(address) for each, address in zip(inside, found, strict=True)):
            raise Unsent(NOT_PUBLIC)
        if parts.scheme != "https":
            raise Unsent("not_https")
        if port != HTTPS_PORT and port not in OWN_PORTS:
            raise Unsent("port_refused")
        return found

    def _looked_up(self, host: str, port: int, until: float) -> Sequence[str]:
        """By a thread of its own: the resolver knows no time limit."""
        answer: list[Sequence[str] | Exception] = []

        def ask() -> None:
            try:
                answer.append(self._resolve(host, port))
            except (OSError, UnicodeError) as error:
                answer.append(error)

        thread = threading.Thread(target=ask, name="look-up", daemon=True)
        thread.start()
        thread.join(max(0.0, min(self._connect_seconds, until - self._clock())))
        if not answer:
            raise Unsent(LOOK_UP_TIMED_OUT)
        if isinstance(answer[0], Exception):
            raise Unsent(NOT_PUBLIC)
        return answer[0]

    def _is_allowed(self, address: str) -> bool:
        ip = parsed(address)
        return ip is not None and any(
            ip in network for network in self._allowed if network.version == ip.version
        )

    # -- the call ------------------------------------------------------------------------------------

    def _send(
        self, parts: SplitResult, body: bytes, headers: Mapping[str, str], until: float
    ) -> tuple[int, float | None]:
        line = _Line(self._connected(self._addresses(parts, until), port_of(parts), until))
        cut = threading.Timer(max(0.0, until - self._clock()), line.cut)
        cut.daemon = True
        cut.start()
        try:
            return self._exchange(line, parts, body, headers)
        except ssl.SSLCertVerificationError:
            raise Unsent("certificate_refused") from None
        except (OSError, http.client.HTTPException) as error:  # of TLS, too
            late = isinstance(error, TimeoutError) or self._clock() >= until
            word = "tls_failed" if isinstance(error, ssl.SSLError) else "no_answer"
            raise Unsent("timed_out" if late else word) from None
        finally:
            cut.cancel()
            line.socket.close()

    def _connected(self, addresses: Sequence[str], port: int, until: float) -> socket.socket:
        """A connection to the first address that takes one."""
        word = "connection_refused"
        for address in addresses[:ADDRESSES_MAX]:
            left = min(self._connect_seconds, until - self._clock())
            if left <= 0:
                break
            try:
                return socket.create_connection((address, port), timeout=left)
            except TimeoutError:
                word = "connection_timed_out"
            except OSError:
                word = "connection_refused"
        raise Unsent(word)

    def _exchange(
        self, line: _Line, parts: SplitResult, body: bytes, headers: Mapping[str, str]
    ) -> tuple[int, float | None]:
        line.socket.settimeout(self._whole_seconds)
        connection = http.client.HTTPConnection(str(parts.hostname), port_of(parts))
        if parts.scheme == "https":
            connection.default_port = HTTPS_PORT  # so that it goes without saying in the Host header
            line.secure(self._tls, str(parts.hostname))
        connection.sock = line.socket
        connection.request("POST", target_of(parts), body=body, headers=dict(headers))
        with connection.getresponse() as response:
            found = response.status, seconds_of(response.getheader("Retry-After"))
            line.socket.settimeout(REST_SECONDS)
            with suppress(OSError, http.client.HTTPException):
                response.read1(ANSWER_BYTES_MAX)
            return found


class _Line:
    """One connection, which another thread may end at any moment, whatever it is busy with."""

    def __init__(self, connected: socket.socket) -> None:
        self.socket = connected

    def secure(self, tls: ssl.SSLContext, host: str) -> None:
        secured = tls.wrap_socket(self.socket, server_hostname=host, do_handshake_on_connect=False)
        self.socket = secured  # before the handshake, which can be cut as well
        secured.do_handshake()

    def cut(self) -> None:
        with suppress(OSError):  # it ended by itself
            socket.socket.shutdown(self.socket, socket.SHUT_RDWR)


WHY = {
    NOT_PUBLIC: "has no public address; only such are called"
    " (an operator may allow others with ENDPOINTS_ALLOW_NETWORKS)",
    "not_https": "must begin with https://",
    "port_refused": f"must have port {HTTPS_PORT}, or one from {OWN_PORTS.start} on",
}


def parts_of(url: str) -> SplitResult:
    """The parts of an address that may be called, its host in ASCII. Raises InvalidSetting (`url`)."""
    if len(url) > URL_MAX_CHARACTERS:
        raise InvalidSetting("url", f"must have at most {URL_MAX_CHARACTERS} characters")
    if any(character <= " " or character in '\x7f\\"<>^`{|}' for character in url):
        raise InvalidSetting("url", "has characters that an address cannot have")
    try:
        parts = urlsplit(url)
        port = parts.port
        host = ascii_host(parts.hostname or "")
    except (ValueError, UnicodeError):
        raise InvalidSetting("url", "is not an address such as https://shop.example.com/webhooks") from None
    if parts.scheme not in ("https", "http") or not host:
        raise InvalidSetting("url", "must be an address such as https://shop.example.com/webhooks")
    if "@" in parts.netloc:
        raise InvalidSetting("url", "must not hold a user or a password; deliveries are signed instead")
    if parts.fragment or port == 0:
        raise InvalidSetting("url", "must have no #fragment, and no port 0")
    if not (parts.path + parts.query).isascii():
        raise InvalidSetting("url", "must be percent-encoded")
    shown = f"[{host}]" if ":" in host else host
    netloc = shown if port is None else f"{shown}:{port}"
    return parts._replace(scheme=parts.scheme.lower(), netloc=netloc, path=parts.path or "/", fragment="")


def ascii_host(host: str) -> str:
    """The host as it is looked up: international names in their ASCII form (IDNA)."""
    if ":" in host:
        return str(
            IPv6Address(host)
        )  # with a zone (%eth0) it is of this machine only, and no address of ours
    return host.encode("idna").decode().lower().rstrip(".")


def port_of(parts: SplitResult) -> int:
    return parts.port or (HTTPS_PORT if parts.scheme == "https" else 80)


def target_of(parts: SplitResult) -> str:
    return parts.path + (f"?{parts.query}" if parts.query else "")


def is_inner(host: str) -> bool:
    """Whether a name can only be one of our own network: of one word, or below a domain that is never public."""
    return parsed(host) is None and ("." not in host or host.endswith(INNER))


def parsed(address: str) -> Address | None:
    try:
        return ip_address(address)
    except ValueError:
        return None


def is_public(address: str) -> bool:
    """Whether an address is one of the whole world, and not another one in disguise."""
    ip = parsed(address)
    if ip is None or not ip.is_global or ip.is_multicast or ip.is_reserved:
        return False
    return not any(ip in network for network in REFUSED if network.version == ip.version)


def seconds_of(retry_after: str | None, *, now: datetime | None = None) -> float | None:
    """Retry-After in seconds: a number, or a date. None for anything else."""
    if retry_after is None:
        return None
    text = retry_after.strip()
    if text.isascii() and text.isdigit() and len(text) <= 9:
        return float(text)
    try:
        at = parsedate_to_datetime(text)
    except (ValueError, TypeError):
        return None
    if at.tzinfo is None:
        return None
    return max(0.0, (at - (now or datetime.now(UTC))).total_seconds())
