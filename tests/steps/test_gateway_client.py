"""Calls to Shopify over real sockets: what each answer, and each silence, comes to."""

from __future__ import annotations

import gzip
import json
import socket
import subprocess
import sys
import threading
import traceback
from collections.abc import Callable, Iterator
from concurrent.futures import ThreadPoolExecutor
from contextlib import contextmanager
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path
from typing import Any, ClassVar

import pytest
import structlog
from hypothesis import given
from hypothesis import strategies as st
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from models.errors import (
    AccessDenied,
    InvalidSetting,
    Later,
    NeedsMerchant,
    Never,
    OutcomeUnknown,
    ShopifyRefused,
    ShopifyThrottled,
    ShopifyUnreachable,
)
from models.settings import Settings
from tasks.gateway.addresses import shop_url
from tasks.gateway.answers import Reply, accepted, read
from tasks.gateway.client import Connections, Shopify
from tasks.runtime import build
from tasks.steps.load import ShopRow

SHOP = ShopRow(7, "gateway-tests.myshopify.com", "EUR")
TOKEN, NEWER = "shpat_0ld-t0ken-of-the-tests", "shpat_n3wer-t0ken-of-the-tests"
FORKS = Path(__file__).with_name("fork_child.py")
PATH = "/admin/api/2026-10/graphql.json"
QUERY, MUTATION = "shop", "discount_delete"
FOUND = {"data": {"shop": {"currencyCode": "EUR"}}}
DELETED = {"data": {"discountCodeDelete": {"deletedCodeDiscountId": "gid://x/1", "userErrors": []}}}


def cost(requested: float = 10, available: float = 1990, rate: float = 100) -> dict[str, Any]:
    status = {"maximumAvailable": 2000, "currentlyAvailable": available, "restoreRate": rate}
    return {"cost": {"requestedQueryCost": requested, "actualQueryCost": None, "throttleStatus": status}}


THROTTLED = {
    "data": None,
    "errors": [{"message": "Throttled", "extensions": {"code": "THROTTLED"}}],
    "extensions": cost(requested=300, available=100),
}


class Tokens:
    """One token, and one newer when it is refused."""

    def __init__(self) -> None:
        self.now, self.asked_anew, self.given_up = TOKEN, 0, 0

    def token(self, shop: ShopRow) -> str:
        return self.now

    def renewed(self, shop: ShopRow, refused: str | None = None) -> str:
        self.asked_anew, self.now = self.asked_anew + 1, NEWER
        return self.now

    def revoked(self, shop: ShopRow, refused: str) -> None:
        assert refused == NEWER
        self.given_up += 1


class Time:
    """A clock that only sleeping moves."""

    def __init__(self) -> None:
        self.now, self.slept = 0.0, []

    def clock(self) -> float:
        return self.now

    def sleep(self, seconds: float) -> None:
        self.slept.append(seconds)
        self.now += seconds


class Store:
    """A server that gives the answers it was told, in order, the last one for ever, and keeps what it was asked."""

    def __init__(self, server: HTTPServer) -> None:
        self.server, self.answers, self.asked = server, [], []
        server.expect_request(PATH).respond_with_handler(self._answer)

    def says(self, *answers: Any) -> None:
        self.answers = list(answers)

    def _answer(self, request: Request) -> Response:
        self.asked.append(request)
        answer = self.answers.pop(0) if len(self.answers) > 1 else self.answers[0]
        return answer if isinstance(answer, Response) else as_json(answer)


def as_json(body: Any, status: int = 200, **headers: str) -> Response:
    named = {name.replace("_", "-"): value for name, value in headers.items()}
    return Response(json.dumps(body), status, named, mimetype="application/json")


@pytest.fixture
def store(httpserver: HTTPServer) -> Store:
    return Store(httpserver)


@pytest.fixture
def tokens() -> Tokens:
    return Tokens()


@pytest.fixture
def time() -> Time:
    return Time()


@pytest.fixture
def gateway(store: Store, tokens: Tokens, time: Time) -> Shopify:
    return made(store.server.url_for("").rstrip("/"), tokens, time)


def made(base: str, tokens: Tokens, time: Time) -> Shopify:
    settings = Settings(shopify_base_url=base, shopify_timeout_seconds=1)
    return Shopify(settings, tokens, sleep=time.sleep, clock=time.clock)


def query(gateway: Shopify) -> dict[str, Any]:
    return gateway.run(SHOP, QUERY, {})


def mutate(gateway: Shopify) -> dict[str, Any]:
    return gateway.run(SHOP, MUTATION, {"id": "gid://shopify/DiscountCodeNode/1"})


def test_an_answer_gives_its_data(gateway, store):
    store.says(FOUND)
    assert query(gateway) == FOUND["data"]
    (request,) = store.asked
    assert request.headers["X-Shopify-Access-Token"] == TOKEN
    assert request.headers["Content-Type"] == "application/json"
    assert set(request.json) == {"query", "variables"}


def test_numbers_with_a_fraction_come_as_text(gateway, store):
    store.says({"data": {"shop": {"share": 0.1}}})
    assert query(gateway) == {"shop": {"share": "0.1"}}


@pytest.mark.parametrize(
    ("answer", "error", "words"),
    [
        pytest.param(as_json({}, 402), AccessDenied, "frozen", id="402: frozen"),
        pytest.param(as_json({}, 403), AccessDenied, "barred", id="403: barred"),
        pytest.param(as_json({"errors": "Not Found"}, 404), AccessDenied, "no such shop", id="404: gone"),
        pytest.param(as_json({}, 423), AccessDenied, "locked", id="423: locked"),
        pytest.param(as_json({"errors": "bad"}, 400), ShopifyRefused, "bad", id="400: refused"),
        pytest.param(Response("<p>no", 406), ShopifyRefused, "HTTP_406", id="406 without JSON: refused"),
        pytest.param(Response("", 301, {"Location": "/else"}), ShopifyRefused, "HTTP_301", id="not followed"),
        pytest.param(as_json({"data": None}, 200), ShopifyUnreachable, "without data", id="data is null"),
        pytest.param(Response("<html>", 200), ShopifyUnreachable, "not JSON", id="200, a page"),
        pytest.param(Response("", 200), ShopifyUnreachable, "not JSON", id="200, nothing"),
        pytest.param(Response("[1]", 200), ShopifyUnreachable, "not a JSON object", id="200, a list"),
        pytest.param(Response("oops", 502), ShopifyUnreachable, "502", id="502"),
        pytest.param(Response("oops", 430), ShopifyUnreachable, "430", id="430: taken for an attack"),
        pytest.param(
            as_json({"errors": [{"message": "Too dear", "extensions": {"code": "MAX_COST_EXCEEDED"}}]}),
            ShopifyRefused,
            "MAX_COST_EXCEEDED",
            id="too dear a document",
        ),
        pytest.param(
            as_json(
                {
                    "data": {"shop": None},
                    "errors": [{"message": "Access denied", "extensions": {"code": "ACCESS_DENIED"}}],
                }
            ),
            AccessDenied,
            "Access denied",
            id="a scope is missing, beside partial data",
        ),
        pytest.param(
            as_json({"errors": [{"message": "Oh", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}),
            ShopifyUnreachable,
            "trouble",
            id="an internal error under 200",
        ),
        pytest.param(as_json({"errors": {"base": ["odd"]}}), ShopifyRefused, "odd", id="errors as an object"),
        pytest.param(as_json({"errors": ["odd", None]}), ShopifyRefused, "odd", id="errors as sentences"),
    ],
)
def test_a_query_that_fails_says_how(gateway, store, answer, error, words):
    store.says(answer)
    with pytest.raises(error, match=words):
        query(gateway)


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(Response("oops", 500), id="500"),
        pytest.param(Response("oops", 504), id="504"),
        pytest.param(Response("<html>", 200), id="200, a page"),
        pytest.param(as_json({"data": None}), id="data is null"),
        pytest.param(
            as_json({"errors": [{"message": "Oh", "extensions": {"code": "INTERNAL_SERVER_ERROR"}}]}),
            id="an internal error under 200",
        ),
        pytest.param(
            as_json({**DELETED, "errors": [{"message": "no", "extensions": {"code": "ACCESS_DENIED"}}]}),
            id="done, and a part of the answer denied",
        ),
    ],
)
def test_a_mutation_whose_answer_does_not_say_what_became_of_it_is_not_sent_again(gateway, store, answer):
    store.says(answer, DELETED)
    with pytest.raises(OutcomeUnknown):
        mutate(gateway)
    assert len(store.asked) == 1


def test_a_query_is_sent_again_after_trouble_a_few_times_only(gateway, store, time):
    store.says(Response("", 503), Response("", 503), FOUND)
    assert query(gateway) == FOUND["data"]
    store.says(Response("", 503))
    store.asked.clear()
    with pytest.raises(ShopifyUnreachable):
        query(gateway)
    assert len(store.asked) == 4
    assert time.now < 20


@pytest.mark.parametrize("what", [query, mutate])
def test_a_throttled_call_waits_until_the_bucket_holds_its_cost(gateway, store, time, what):
    store.says(THROTTLED, FOUND if what is query else DELETED)
    what(gateway)
    (waited,) = time.slept
    assert 2.0 <= waited <= 2.5  # (300 - 100) / 100, and a little of chance


@pytest.mark.parametrize("what", [query, mutate])
def test_status_429_waits_as_long_as_it_says(gateway, store, time, what):
    store.says(as_json({}, 429, Retry_After="3.0"), FOUND if what is query else DELETED)
    what(gateway)
    (waited,) = time.slept
    assert 3.0 <= waited <= 3.5


def test_a_long_wait_is_the_callers(gateway, store, time):
    store.says(as_json({}, 429, Retry_After="30"))
    with pytest.raises(ShopifyThrottled) as raised:
        query(gateway)
    assert raised.value.wait_seconds >= 30
    assert time.slept == []


@pytest.mark.parametrize("header", ["Wed, 21 Oct 2020 07:28:00 GMT", "soon", "nan", "-3", None])
def test_an_odd_retry_after_is_a_short_wait(gateway, store, time, header):
    store.says(as_json({}, 429, **({} if header is None else {"Retry_After": header})), FOUND)
    assert query(gateway) == FOUND["data"]
    assert 0 <= time.now <= 2.5


def test_a_refused_token_is_renewed_once(gateway, store, tokens):
    store.says(as_json({"errors": "[API] Invalid API key or access token"}, 401), DELETED)
    assert mutate(gateway) == DELETED["data"]
    assert [request.headers["X-Shopify-Access-Token"] for request in store.asked] == [TOKEN, NEWER]
    assert (tokens.asked_anew, tokens.given_up) == (1, 0)


def test_a_renewed_token_that_is_refused_too_needs_the_merchant(gateway, store, tokens):
    store.says(as_json({}, 401))
    with pytest.raises(NeedsMerchant) as raised:
        query(gateway)
    assert (raised.value.domain, raised.value.reason) == (SHOP.domain, "token_revoked")
    assert (len(store.asked), tokens.asked_anew, tokens.given_up) == (2, 1, 1)


@pytest.mark.parametrize("typed", ["shpat_ä€", "shpat_ with spaces"])
def test_a_token_of_odd_letters_is_refused_and_not_told(gateway, store, tokens, typed):
    tokens.now = typed
    store.says(as_json({}, 401))
    with structlog.testing.capture_logs() as logs, pytest.raises(NeedsMerchant) as raised:
        query(gateway)
    assert typed not in repr(logs) + "".join(traceback.format_exception(raised.value))


@pytest.mark.parametrize("typed", ["shpat_\r\nX-More: 1", "shpat_\0"])
def test_a_token_that_is_no_header_is_never_told(gateway, store, tokens, typed):
    tokens.now = typed
    store.says(as_json({}, 401))
    with (
        structlog.testing.capture_logs() as logs,
        pytest.raises((ShopifyUnreachable, NeedsMerchant)) as raised,
    ):
        query(gateway)
    assert "shpat_" not in repr(logs) + "".join(traceback.format_exception(raised.value))
    assert all("X-More" not in request.headers for request in store.asked)


def test_user_errors_are_answers_until_the_payload_is_wanted(gateway, store):
    error = {"field": ["id"], "message": "Code discount does not exist.", "code": "INVALID"}
    store.says({"data": {"discountCodeDelete": {"deletedCodeDiscountId": None, "userErrors": [error]}}})
    data = mutate(gateway)
    with pytest.raises(ShopifyRefused) as raised:
        accepted(data, "discountCodeDelete")
    assert raised.value.codes == {"INVALID"}
    assert raised.value.errors[0].field == ("id",)


def test_a_payload_without_user_errors_is_accepted(gateway, store):
    store.says(DELETED)
    assert accepted(mutate(gateway), "discountCodeDelete")["deletedCodeDiscountId"] == "gid://x/1"


def test_an_answer_without_the_payload_says_nothing():
    with pytest.raises(OutcomeUnknown, match="without its payload"):
        accepted({"discountCodeDelete": None}, "discountCodeDelete")


def test_status_429_with_figures_waits_as_they_say(gateway, store, time):
    store.says(as_json(THROTTLED, 429), FOUND)
    query(gateway)
    (waited,) = time.slept
    assert 2.0 <= waited <= 2.5


LEAVES = st.one_of(
    st.none(), st.booleans(), st.integers(), st.floats(), st.text(max_size=5), st.just("THROTTLED")
)
WORDS = st.sampled_from(
    [
        "data",
        "errors",
        "extensions",
        "code",
        "message",
        "path",
        "field",
        "userErrors",
        "cost",
        "throttleStatus",
        "requestedQueryCost",
        "actualQueryCost",
        "currentlyAvailable",
        "maximumAvailable",
        "restoreRate",
    ]
)
ANYTHING = st.recursive(
    LEAVES,
    lambda inner: st.lists(inner, max_size=3) | st.dictionaries(WORDS, inner, max_size=4),
    max_leaves=12,
)


@given(
    body=st.one_of(st.binary(max_size=20), ANYTHING.map(lambda node: json.dumps(node).encode())),
    status=st.sampled_from([200, 200, 200, 301, 400, 402, 422, 429, 500]),
    retry_after=st.none() | st.text(max_size=5),
    is_mutation=st.booleans(),
)
def test_whatever_an_answer_holds_it_is_data_or_one_of_our_errors(body, status, retry_after, is_mutation):
    reading = read(Reply(status, body, retry_after), "shop", is_mutation=is_mutation)
    assert (reading.data is None) != (reading.error is None)
    assert reading.error is None or isinstance(reading.error, (Later, Never))
    assert not is_mutation or not isinstance(reading.error, ShopifyUnreachable)
    if isinstance(reading.error, ShopifyThrottled):
        assert 0 <= reading.error.wait_seconds <= 121


@contextmanager
def server_that(does: Callable[[socket.socket], None]) -> Iterator[str]:
    """The address of a server that does this with each connection, in a thread of its own."""
    over = threading.Event()
    with socket.create_server(("127.0.0.1", 0)) as listener:
        listener.settimeout(0.05)

        def serve() -> None:
            while not over.is_set():
                try:
                    connection, _ = listener.accept()
                except TimeoutError:
                    continue
                with connection:
                    does(connection)

        thread = threading.Thread(target=serve)
        thread.start()
        try:
            yield f"http://127.0.0.1:{listener.getsockname()[1]}"
        finally:
            over.set()
            thread.join()


def read_request(connection: socket.socket) -> None:
    head, _, body = b"", b"", b""
    while b"\r\n\r\n" not in head:
        head += connection.recv(65536)
    head, _, body = head.partition(b"\r\n\r\n")
    length = int(
        next(line for line in head.split(b"\r\n") if line.lower().startswith(b"content-length")).split()[1]
    )
    while len(body) < length:
        body += connection.recv(65536)


def is_silent(connection: socket.socket) -> None:
    read_request(connection)
    connection.recv(1)  # until the caller hangs up


def resets(connection: socket.socket) -> None:
    read_request(connection)
    connection.setsockopt(socket.SOL_SOCKET, socket.SO_LINGER, b"\1\0\0\0\0\0\0\0")


def breaks_off(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"data": {"shop"')


def drips(connection: socket.socket) -> None:
    """A byte now and then: never silent for as long as the limit, and never done."""
    read_request(connection)
    connection.sendall(b"HTTP/1.1 200 OK\r\nContent-Length: 100000\r\n\r\n")
    connection.settimeout(0.2)
    try:
        while True:
            connection.sendall(b" ")
            try:
                if not connection.recv(1):
                    return
            except TimeoutError:
                continue
    except OSError:
        return


def babbles(connection: socket.socket) -> None:
    read_request(connection)
    connection.sendall(b"this is no HTTP at all\r\n\r\n")


@pytest.mark.parametrize("does", [is_silent, resets, breaks_off, drips, babbles])
def test_a_mutation_that_was_sent_and_got_no_answer_has_an_unknown_outcome(does, tokens, time):
    with server_that(does) as base, pytest.raises(OutcomeUnknown, match=MUTATION):
        mutate(made(base, tokens, time))
    assert time.slept == []


@pytest.mark.parametrize("does", [resets, breaks_off, babbles])
def test_a_query_without_an_answer_is_sent_again_and_then_shopify_is_unreachable(does, tokens, time):
    with server_that(does) as base, pytest.raises(ShopifyUnreachable, match=QUERY):
        query(made(base, tokens, time))
    assert len(time.slept) == 3


def test_a_mutation_that_cannot_have_been_sent_is_no_unknown_outcome(tokens, time):
    with socket.create_server(("127.0.0.1", 0)) as gone:
        base = f"http://127.0.0.1:{gone.getsockname()[1]}"
    with pytest.raises(ShopifyUnreachable):
        mutate(made(base, tokens, time))
    assert time.slept == []


def test_an_answer_without_end_is_not_read_to_its_end(gateway, store):
    store.says(Response((b" " * 65536 for _ in range(10_000)), 200))
    with pytest.raises(OutcomeUnknown, match="larger"):
        mutate(gateway)


class KeepsConnections(BaseHTTPRequestHandler):
    """Answers as Shopify does: the connection stays open. Knows the ports that it was asked from."""

    protocol_version = "HTTP/1.1"
    ports: ClassVar[list[int]] = []

    def do_POST(self) -> None:
        self.rfile.read(int(self.headers["Content-Length"]))
        self.ports.append(self.client_address[1])
        answer = json.dumps(FOUND).encode()
        self.send_response(200)
        self.send_header("Content-Length", str(len(answer)))
        self.end_headers()
        self.wfile.write(answer)

    def log_message(self, *_: object) -> None:
        """Nothing."""


@pytest.fixture
def keeper() -> Iterator[tuple[str, list[int]]]:
    """The address of a store that keeps connections open, and the ports that it was asked from."""
    KeepsConnections.ports.clear()
    server = ThreadingHTTPServer(("127.0.0.1", 0), KeepsConnections)
    server.daemon_threads = True
    serving = threading.Thread(target=server.serve_forever, args=(0.02,))
    serving.start()
    yield f"http://127.0.0.1:{server.server_address[1]}", KeepsConnections.ports
    server.shutdown()
    serving.join()
    server.server_close()


def test_threads_share_the_open_connections(keeper, tokens, time):
    base, ports = keeper
    gateway = made(base, tokens, time)
    for _ in range(3):
        with ThreadPoolExecutor(2) as pool:
            list(pool.map(lambda _: query(gateway), range(20)))
    gateway.close()
    assert len(ports) == 60
    assert len(set(ports)) <= 2


def test_a_forked_process_opens_connections_of_its_own(keeper):
    base, ports = keeper
    subprocess.run([sys.executable, str(FORKS), base], check=True, timeout=60)
    assert sorted(ports.count(port) for port in set(ports)) == [1, 3]


def test_nothing_of_one_shop_is_kept_for_the_next(gateway, store, tmp_path, monkeypatch):
    (tmp_path / ".netrc").write_text("default login ann password of-the-machine")
    monkeypatch.setenv("NETRC", str(tmp_path / ".netrc"))
    store.says(as_json(FOUND, Set_Cookie="of=one-shop"))
    query(gateway)
    query(gateway)
    assert [(r.headers.get("Cookie"), r.headers.get("Authorization")) for r in store.asked] == [
        (None, None)
    ] * 2


@pytest.mark.parametrize(
    "answer",
    [
        pytest.param(as_json({}, 401), id="refused"),
        pytest.param(Response("oops", 500), id="trouble"),
        pytest.param(as_json(THROTTLED), id="throttled"),
        pytest.param(as_json({"errors": f"unknown token {TOKEN[:6]}"}, 400), id="bad request"),
        pytest.param(DELETED, id="done"),
    ],
)
def test_a_token_is_never_told_to_anybody_else(gateway, store, tokens, answer):
    store.says(answer)
    told = ""
    with structlog.testing.capture_logs() as logs:
        try:
            mutate(gateway)
        except Exception as error:
            trace = traceback.TracebackException.from_exception(error, capture_locals=True)
            ours = [frame for frame in trace.stack if "/tasks/" in frame.filename]
            told = "".join(traceback.StackSummary.from_list(ours).format()) + repr(error)
    told += repr(logs) + repr(gateway)
    assert logs and TOKEN not in told and NEWER not in told
    assert all(request.headers["X-Shopify-Access-Token"] not in request.url for request in store.asked)


def test_a_call_leaves_one_line_with_ids_and_figures_only(gateway, store):
    store.says({**DELETED, "extensions": cost()})
    with structlog.testing.capture_logs() as logs:
        mutate(gateway)
    (line,) = logs
    assert line.pop("seconds") >= 0
    assert line == {
        "event": "shopify_call",
        "log_level": "info",
        "shop": SHOP.domain,
        "operation": MUTATION,
        "result": "ok",
        "cost": None,
        "available": 1990.0,
    }


@pytest.mark.parametrize("is_chunked", [True, False], ids=["in chunks", "with its length"])
def test_a_compressed_answer_is_read(gateway, store, is_chunked):
    packed = gzip.compress(json.dumps(FOUND).encode())
    length = {} if is_chunked else {"Content-Length": str(len(packed))}
    pieces = (packed[n : n + 7] for n in range(0, len(packed), 7))
    store.says(Response(pieces, 200, {"Content-Encoding": "gzip", **length}))
    assert query(gateway) == FOUND["data"]


def test_an_answer_in_chunks_is_read_and_an_unfinished_one_is_none(tokens, time):
    body = json.dumps(FOUND).encode()
    chunk = b"%x\r\n%b\r\n" % (len(body), body)

    def sends(last: bytes) -> Callable[[socket.socket], None]:
        def send(connection: socket.socket) -> None:
            read_request(connection)
            connection.sendall(b"HTTP/1.1 200 OK\r\nTransfer-Encoding: chunked\r\n\r\n" + chunk + last)

        return send

    with server_that(sends(b"0\r\n\r\n")) as base:
        assert query(made(base, tokens, time)) == FOUND["data"]
    with server_that(sends(b"")) as base, pytest.raises(OutcomeUnknown):
        mutate(made(base, tokens, time))


def test_another_version_than_asked_for_is_told_once(gateway, store):
    store.says(as_json(FOUND, X_Shopify_API_Version="2027-04"))
    with structlog.testing.capture_logs() as logs:
        query(gateway)
        query(gateway)
    told = [line for line in logs if line["event"] == "shopify_api_version_ended"]
    assert [(line["asked"], line["served"]) for line in told] == [("2026-10", "2027-04")]


def test_a_process_has_one_gateway_made_when_it_is_wanted():
    here = build(Settings())
    assert here.gateway is here.gateway
    assert build(Settings()).gateway is not here.gateway
    here.engine.dispose()


def test_a_form_gives_status_and_object(store):
    store.server.expect_request("/admin/oauth/access_token").respond_with_json({"scope": "x"}, 400)
    store.server.expect_request("/page").respond_with_data("<html>", 400)
    connections = Connections(Settings(shopify_timeout_seconds=1))
    fields = {"client_id": "ours", "code": "theirs"}
    assert connections.post_form(store.server.url_for("/admin/oauth/access_token"), fields) == (
        400,
        {"scope": "x"},
    )
    assert connections.post_form(store.server.url_for("/page"), {}) == (400, {})
    assert store.server.log[0][0].form.to_dict() == fields


def test_a_form_without_an_answer_is_unreachable():
    with server_that(resets) as base, pytest.raises(ShopifyUnreachable):
        Connections(Settings(shopify_timeout_seconds=1)).post_form(f"{base}/x", {"a": "b"})


def test_a_form_is_throttled_and_in_trouble_as_calls_are(store):
    store.server.expect_request("/full").respond_with_data("", 429)
    store.server.expect_request("/broken").respond_with_data("", 500)
    connections = Connections(Settings(shopify_timeout_seconds=1))
    with pytest.raises(ShopifyThrottled):
        connections.post_form(store.server.url_for("/full"), {})
    with pytest.raises(ShopifyUnreachable):
        connections.post_form(store.server.url_for("/broken"), {})


def test_a_bulk_result_comes_in_lines_without_a_token(gateway, store):
    store.server.expect_request("/result").respond_with_data(b'{"id":1}\n{"id":2}\n\n{"id":3}')
    found = [json.loads(line)["id"] for line in gateway.download(store.server.url_for("/result"))]
    assert found == [1, 2, 3]
    assert "X-Shopify-Access-Token" not in store.server.log[0][0].headers


def test_a_bulk_result_that_breaks_off_is_unreachable(tokens, time):
    def breaks_off(connection: socket.socket) -> None:
        connection.recv(65536)
        connection.sendall(b'HTTP/1.1 200 OK\r\nContent-Length: 500\r\n\r\n{"id":1}\n{"id"')

    with server_that(breaks_off) as base, pytest.raises(ShopifyUnreachable):
        list(made(base, tokens, time).download(f"{base}/result"))


@pytest.mark.parametrize(
    "url", ["http://example.com/x", "file:///etc/hosts", "ftp://127.0.0.1/x", "http:///x"]
)
def test_a_bulk_result_is_fetched_over_https_or_from_the_pretend_store_only(gateway, url):
    with pytest.raises(ShopifyRefused, match="BAD_ADDRESS"):
        list(gateway.download(url))


def test_a_bulk_result_that_is_gone_is_unreachable(gateway, store):
    store.server.expect_request("/old").respond_with_data("expired", 403)
    with pytest.raises(ShopifyUnreachable, match="403"):
        list(gateway.download(store.server.url_for("/old")))


@pytest.mark.parametrize(
    ("base", "url"),
    [
        (None, "https://a.myshopify.com/x"),
        ("http://127.0.0.1:9", "http://127.0.0.1:9/x"),
        ("https://{shop}.test.example", "https://a.myshopify.com.test.example/x"),
    ],
    ids=["in production", "one pretend store", "a pretend store a shop"],
)
def test_a_shop_has_an_address(base, url):
    assert shop_url(Settings(shopify_base_url=base), "a.myshopify.com", "/x") == url


@pytest.mark.parametrize(
    "domain", ["evil.com/x#.myshopify.com", "x.myshopify.com.evil.com", "", "a.myshopify.com\n.b"]
)
def test_what_is_no_shop_has_no_address(domain):
    with pytest.raises(InvalidSetting):
        shop_url(Settings(), domain, "/x")
