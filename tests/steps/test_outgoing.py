"""Addresses that merchants choose: only public ones are called, and the one that was checked is the one that is called."""

from __future__ import annotations

import socket
import ssl
import threading
import time
from collections.abc import Callable, Iterator, Sequence
from datetime import UTC, datetime, timedelta
from http.server import BaseHTTPRequestHandler, HTTPServer
from pathlib import Path

import pytest
from cryptography import x509
from cryptography.hazmat.primitives import hashes, serialization
from cryptography.hazmat.primitives.asymmetric import ec
from cryptography.x509.oid import NameOID

from models.errors import InvalidSetting, NameLookUpTimedOut
from tasks.gateway.outgoing import Outgoing, is_public, networks_of, parts_of, seconds_of

HERE = networks_of(["127.0.0.0/8"])
HOST = "hooks.example.test"


def resolving(*answers: Sequence[str]) -> tuple[Callable[[str, int], Sequence[str]], list[str]]:
    """A resolver that gives these answers one after the other, the last for ever; and what it was asked."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return answers[min(len(asked), len(answers)) - 1]

    return resolve, asked


@pytest.mark.parametrize(
    "host",
    [
        pytest.param("redis", id="one word"),
        pytest.param("localhost", id="this machine"),
        pytest.param("db.internal", id="a cloud's inner domain"),
        pytest.param("printer.local", id="the network's own"),
        pytest.param("nobody.example.test", id="a name that nobody knows"),
        pytest.param("inside.example.test", id="a public name of an address inside"),
    ],
)
def test_who_tries_names_of_our_network_learns_nothing(host: str) -> None:
    """One answer, whether it is known or not, and inner names are not looked up; an operator's own networks may have them."""
    asked: list[str] = []

    def resolve(host: str, port: int) -> Sequence[str]:
        asked.append(host)
        return ["10.0.0.7"] if host.startswith("inside") else []

    out = Outgoing(resolve=resolve)
    with pytest.raises(InvalidSetting, match="has no public address; only such are called"):
        out.check(f"https://{host}/")
    assert out.post(f"https://{host}/", b"{}", {}).error == "no_public_address"
    assert set(asked) == ({host} if host.endswith(".example.test") else set())
    inside = Outgoing(networks_of(["10.0.0.0/8"]), resolve=lambda host, port: ["10.0.0.7"])
    assert inside.check(f"https://{host}/") == f"https://{host}/"


@pytest.mark.parametrize(
    "address",
    [
        pytest.param("127.0.0.1", id="loopback"),
        pytest.param("0.0.0.0", id="this host"),
        pytest.param("10.1.2.3", id="private: 10"),
        pytest.param("172.16.0.1", id="private: 172.16"),
        pytest.param("192.168.1.1", id="private: 192.168"),
        pytest.param("100.64.0.1", id="carrier-grade NAT"),
        pytest.param("169.254.169.254", id="link-local: a cloud's metadata"),
        pytest.param("192.0.0.192", id="protocol assignments: another cloud's metadata"),
        pytest.param("198.18.0.1", id="benchmarks"),
        pytest.param("192.0.2.1", id="documentation"),
        pytest.param("224.0.0.1", id="multicast"),
        pytest.param("255.255.255.255", id="broadcast"),
        pytest.param("::1", id="IPv6 loopback"),
        pytest.param("::", id="IPv6 unspecified"),
        pytest.param("::ffff:8.8.8.8", id="IPv4 mapped into IPv6"),
        pytest.param("::7f00:1", id="IPv4 compatible"),
        pytest.param("64:ff9b::a00:1", id="NAT64"),
        pytest.param("64:ff9b:1::a00:1", id="local NAT64"),
        pytest.param("2002:a00:1::", id="6to4"),
        pytest.param("2001:0:a00:1::", id="Teredo"),
        pytest.param("fe80::1", id="IPv6 link-local"),
        pytest.param("fe80::1%eth0", id="IPv6 link-local with its zone"),
        pytest.param("fc00::1", id="unique local"),
        pytest.param("fd00:ec2::254", id="a cloud's metadata over IPv6"),
        pytest.param("fec0::1", id="site-local"),
        pytest.param("ff02::1", id="IPv6 multicast"),
        pytest.param("2001:db8::1", id="IPv6 documentation"),
        pytest.param("not an address", id="not an address"),
    ],
)
def test_what_is_not_public_is_never_called(address: str) -> None:
    assert not is_public(address)
    resolve, asked = resolving([address])
    out = Outgoing(resolve=resolve)
    with pytest.raises(InvalidSetting, match="no public address"):
        out.check(f"https://{HOST}/")
    assert out.post(f"https://{HOST}/", b"{}", {}).error == "no_public_address"
    assert asked == [HOST, HOST]


@pytest.mark.parametrize("address", ["8.8.8.8", "192.0.9.9", "2606:4700::1111"])
def test_what_is_public_may_be_called(address: str) -> None:
    resolve, _ = resolving([address])
    assert Outgoing(resolve=resolve).check(f"https://{HOST}") == f"https://{HOST}/"


def test_one_address_that_is_not_public_spoils_the_name() -> None:
    resolve, _ = resolving(["8.8.8.8", "10.0.0.1"])
    with pytest.raises(InvalidSetting, match="no public address"):
        Outgoing(resolve=resolve).check(f"https://{HOST}/")


@pytest.mark.parametrize(
    ("url", "words"),
    [
        pytest.param("http://hooks.example.test/", "https", id="not https"),
        pytest.param("https://hooks.example.test:22/", "port", id="a port of another protocol"),
        pytest.param("https://a@hooks.example.test/", "user", id="with a user"),
        pytest.param("https://hooks.example.test/#x", "fragment", id="with a fragment"),
        pytest.param("https://hooks.example.test/a b", "characters", id="with a space"),
        pytest.param("https://hooks.example.test/\r\nHost: x", "characters", id="with a line end"),
        pytest.param("https://hooks.example.test/ä", "percent", id="with a path that is not encoded"),
        pytest.param("https:///x", "address such as", id="without a host"),
        pytest.param("https://hooks.example.test:99999/", "address such as", id="with a port that cannot be"),
        pytest.param("https://" + "a" * 70 + ".test/", "address such as", id="with a label too long"),
        pytest.param("gopher://hooks.example.test/", "address such as", id="of another protocol"),
        pytest.param("https://hooks.example.test/" + "a" * 2048, "at most", id="too long"),
    ],
)
def test_an_address_of_the_wrong_form_is_refused_with_the_reason(url: str, words: str) -> None:
    resolve, _ = resolving(["8.8.8.8"])
    with pytest.raises(InvalidSetting, match=words):
        Outgoing(resolve=resolve).check(url)


def test_international_names_are_looked_up_in_ascii() -> None:
    resolve, asked = resolving(["8.8.8.8"])
    assert (
        Outgoing(resolve=resolve).check("https://Bücher.Example.test/x?y=1")
        == "https://xn--bcher-kva.example.test/x?y=1"
    )
    assert asked == ["xn--bcher-kva.example.test"]
    assert parts_of("https://[2606:4700::1111]:8443/").netloc == "[2606:4700::1111]:8443"


@pytest.mark.parametrize("host", ["localhost", "127.1", "0x7f.0.0.1", "2130706433", "[::1]"])
def test_other_ways_to_write_this_machine_lead_nowhere(host: str) -> None:
    """By the machine's own resolver, which understands them."""
    with pytest.raises(InvalidSetting, match="no public address"):
        Outgoing().check(f"https://{host}/")


# -- rebinding ---------------------------------------------------------------------------------------


def test_a_name_is_looked_up_once_a_call_and_what_was_checked_is_connected_to(listener: Plain) -> None:
    """DNS rebinding: the resolver answers with an allowed address first, and with another one from then on."""
    resolve, asked = resolving(["127.0.0.1"], ["127.0.0.2"])
    out = Outgoing(HERE, resolve=resolve)
    assert out.post(f"http://{HOST}:{listener.port}/", b"{}", {}).status == 200
    assert asked == [HOST] and listener.hosts == [f"{HOST}:{listener.port}"]


def test_a_name_that_leads_inside_after_it_was_checked_is_refused_at_the_next_send() -> None:
    """DNS rebinding: public when the endpoint was made, private when something is sent."""
    resolve, _ = resolving(["8.8.8.8"], ["127.0.0.1"])
    out = Outgoing(resolve=resolve)
    url = out.check(f"https://{HOST}/")
    with socket.create_server(("127.0.0.1", 0)) as trap:
        trap.settimeout(0.2)
        assert out.post(f"https://{HOST}:{trap.getsockname()[1]}/", b"{}", {}).error == "no_public_address"
        with pytest.raises(TimeoutError):
            trap.accept()
    assert url == f"https://{HOST}/"


def test_no_proxy_of_the_environment_is_used(listener: Plain, monkeypatch: pytest.MonkeyPatch) -> None:
    for name in ("http_proxy", "HTTP_PROXY", "https_proxy", "HTTPS_PROXY", "ALL_PROXY"):
        monkeypatch.setenv(name, "http://127.0.0.1:9/")
    resolve, _ = resolving(["127.0.0.1"])
    out = Outgoing(HERE, resolve=resolve)
    assert out.post(f"http://{HOST}:{listener.port}/", b"{}", {}).delivered


# -- limits ------------------------------------------------------------------------------------------


def test_a_resolver_that_hangs_is_not_waited_for() -> None:
    asked = threading.Event()

    def hang(host: str, port: int) -> Sequence[str]:
        asked.wait(5)
        return ["8.8.8.8"]

    out = Outgoing(resolve=hang, connect_seconds=0.1)
    with pytest.raises(NameLookUpTimedOut):
        out.check(f"https://{HOST}/")
    assert out.post(f"https://{HOST}/", b"{}", {}).error == "name_look_up_timed_out"
    asked.set()


@pytest.mark.parametrize("scheme", ["http", "https"])
def test_an_answer_that_never_comes_is_cut_off(scheme: str) -> None:
    """Over TLS too, where the handshake is what never ends."""
    with socket.create_server(("127.0.0.1", 0)) as silent:
        out = Outgoing(HERE, whole_seconds=0.5)
        begun = time.monotonic()
        outcome = out.post(f"{scheme}://127.0.0.1:{silent.getsockname()[1]}/", b"{}", {})
    assert (outcome.status, outcome.error) == (None, "timed_out")
    assert time.monotonic() - begun < 3


def test_an_answer_that_drips_is_cut_off() -> None:
    """Each byte comes in time, the whole never does."""
    with socket.create_server(("127.0.0.1", 0)) as slow:

        def drip() -> None:
            connection, _ = slow.accept()
            with connection:
                try:
                    for _ in range(100):
                        connection.send(b"H")
                        time.sleep(0.05)
                except OSError:
                    return

        thread = threading.Thread(target=drip)
        thread.start()
        begun = time.monotonic()
        outcome = Outgoing(HERE, whole_seconds=0.5).post(
            f"http://127.0.0.1:{slow.getsockname()[1]}/", b"{}", {}
        )
        took = time.monotonic() - begun
        thread.join()
    assert outcome.error == "timed_out" and took < 3


def test_an_endless_answer_is_a_success_once_its_head_says_so(listener: Plain) -> None:
    listener.endless = True
    begun = time.monotonic()
    outcome = Outgoing(HERE).post(f"http://127.0.0.1:{listener.port}/", b"{}", {})
    assert outcome.delivered and time.monotonic() - begun < 5


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param("7", 7.0, id="seconds"),
        pytest.param("Wed, 21 Oct 2026 07:28:30 GMT", 30.0, id="a date"),
        pytest.param("Wed, 21 Oct 2026 07:20:00 GMT", 0.0, id="a date that is past"),
        pytest.param("-3", None, id="less than nothing"),
        pytest.param("soon", None, id="a word"),
        pytest.param(None, None, id="nothing"),
    ],
)
def test_when_to_come_back_is_read_in_both_its_forms(said: str | None, seconds: float | None) -> None:
    assert seconds_of(said, now=datetime(2026, 10, 21, 7, 28, tzinfo=UTC)) == seconds


# -- TLS ---------------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("name", "trusted", "status", "error"),
    [
        pytest.param(HOST, True, 200, None, id="a certificate of its name"),
        pytest.param("other.example.test", True, None, "certificate_refused", id="of another name"),
        pytest.param(HOST, False, None, "certificate_refused", id="of nobody we trust"),
    ],
)
def test_the_certificate_must_be_of_the_name_that_was_asked_for(
    tmp_path: Path, name: str, trusted: bool, status: int | None, error: str | None
) -> None:
    chain = certificate(tmp_path, name)
    server_side = ssl.SSLContext(ssl.PROTOCOL_TLS_SERVER)
    server_side.load_cert_chain(chain)
    ours = ssl.create_default_context(cafile=str(chain) if trusted else None)
    resolve, _ = resolving(["127.0.0.1"])
    with plain(server_side) as server:
        out = Outgoing(HERE, resolve=resolve, tls=ours, whole_seconds=5)
        outcome = out.post(f"https://{HOST}:{server.port}/", b"{}", {})
    assert (outcome.status, outcome.error) == (status, error)


def certificate(folder: Path, name: str) -> Path:
    """A certificate for this name that vouches for itself, with its key."""
    key = ec.generate_private_key(ec.SECP256R1())
    subject = x509.Name([x509.NameAttribute(NameOID.COMMON_NAME, name)])
    now = datetime.now(UTC)
    made = (
        x509.CertificateBuilder()
        .subject_name(subject)
        .issuer_name(subject)
        .public_key(key.public_key())
        .serial_number(1)
        .not_valid_before(now - timedelta(days=1))
        .not_valid_after(now + timedelta(days=1))
        .add_extension(x509.SubjectAlternativeName([x509.DNSName(name)]), critical=False)
        .add_extension(x509.BasicConstraints(ca=True, path_length=None), critical=True)
        .sign(key, hashes.SHA256())
    )
    pem = serialization.Encoding.PEM
    private = key.private_bytes(pem, serialization.PrivateFormat.PKCS8, serialization.NoEncryption())
    path = folder / "chain.pem"
    path.write_bytes(made.public_bytes(pem) + private)
    return path


# -- a server ----------------------------------------------------------------------------------------


class Plain:
    """A server that says 200; `hosts`: what the Host headers said."""

    def __init__(self, tls: ssl.SSLContext | None) -> None:
        self.hosts: list[str] = []
        self.endless = False
        plain = self

        class Handler(BaseHTTPRequestHandler):
            def do_POST(self) -> None:
                self.rfile.read(int(self.headers["Content-Length"]))
                plain.hosts.append(str(self.headers["Host"]))
                self.send_response(200)
                self.end_headers()
                end = time.monotonic() + 3
                try:
                    while plain.endless and time.monotonic() < end:
                        self.wfile.write(b"x" * 65_536)
                except OSError:
                    return

            def log_message(self, *_: object) -> None:
                pass

        class Quiet(HTTPServer):
            def handle_error(self, *_: object) -> None:
                """A handshake that the other side refused is what some tests are about."""

        self.server = Quiet(("127.0.0.1", 0), Handler)
        if tls is not None:
            self.server.socket = tls.wrap_socket(self.server.socket, server_side=True)
        self.port = self.server.server_port
        self.thread = threading.Thread(target=self.server.serve_forever, args=(0.02,))

    def __enter__(self) -> Plain:
        self.thread.start()
        return self

    def __exit__(self, *_: object) -> None:
        self.server.shutdown()
        self.server.server_close()
        self.thread.join()


def plain(tls: ssl.SSLContext | None = None) -> Plain:
    return Plain(tls)


@pytest.fixture
def listener() -> Iterator[Plain]:
    with plain() as server:
        yield server
