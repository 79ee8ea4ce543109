"""Shopify's Admin API. The one module that opens connections to Shopify.

Guarantees: time limits on every call, whole answers only up to a size, no redirect is followed (it would carry the
token elsewhere), and a mutation is never sent twice unless Shopify said that it did not run it.
"""

from __future__ import annotations

import json
import os
import ssl
import time
from collections.abc import Callable, Iterator, Mapping
from dataclasses import dataclass, field
from decimal import Decimal
from http.cookiejar import DefaultCookiePolicy
from typing import Any, Protocol
from urllib.parse import urlsplit

import requests
import structlog
from pydantic import SecretStr
from requests.adapters import HTTPAdapter
from urllib3.exceptions import ConnectTimeoutError as NoConnection
from urllib3.exceptions import HTTPError, MaxRetryError, NewConnectionError

from models.errors import (
    NeedsMerchant,
    OutcomeUnknown,
    ShopifyRefused,
    ShopifyThrottled,
    ShopifyUnreachable,
    Unparseable,
    UserError,
)
from models.settings import LOOPBACK, Settings
from models.telemetry import span
from tasks.gateway.addresses import graphql_url
from tasks.gateway.answers import Reading, Reply, accepted, jitter, read
from tasks.gateway.budget import Budget, Held
from tasks.gateway.counts import Counts
from tasks.gateway.documents import Document, document
from tasks.gateway.tokens import TokenProvider
from tasks.steps.load import ShopRow
from tasks.steps.parse.body import read_object

__all__ = ["Connections", "Gateway", "Shopify", "accepted"]

log = structlog.get_logger()

ANSWER_BYTES_MAX = 32 * 1024 * 1024  # far above a page of 250 orders; an answer beyond it is nobody's order
LINE_BYTES_MAX = 8 * 1024 * 1024  # one line of a bulk result
PIECE_BYTES = 64 * 1024
POOL_SIZE = 32  # connections kept open: one a thread of the largest process
POOLED_HOSTS = 256  # every shop is a host of its own
PATIENCE_SECONDS = (
    10.0  # all waits of one `run` together; longer ones are the caller's, who holds no thread for them
)
TRIES = 4  # calls of one `run` at most
FIRST_WAIT_SECONDS = 0.5  # before a query that got no answer is sent again; doubles


class Gateway(Protocol):
    """What the rest of the product knows of Shopify."""

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        """The `data` of the answer to one document. See `Shopify.run`."""
        ...


@dataclass(frozen=True, slots=True)
class Silence:
    """No answer. `sent` is false when not a byte of the call can have reached Shopify."""

    sent: bool
    why: str


class Connections:
    """The open connections of this process, shared by its threads; a forked child opens its own.

    Keeps nothing of one shop for the next: no cookies, no credentials of the machine's `.netrc`, no headers.
    """

    def __init__(self, settings: Settings) -> None:
        self._seconds = float(settings.shopify_timeout_seconds)
        self._base = settings.shopify_base_url
        self._own = (os.getpid(), self._new_session())

    def post_json(self, url: str, body: bytes, headers: Mapping[str, bytes]) -> Reply | Silence:
        """Send a JSON body; what came back, or that nothing did. Never raises for what the network does."""
        return self._post(url, body, {**headers, "Content-Type": b"application/json"})

    def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        """Send a form (OAuth): the status and the JSON object of the answer, `{}` when it is none.

        Raises ShopifyUnreachable without an answer or with one of Shopify's own trouble, ShopifyThrottled for 429.
        """
        reply = self._post(url, dict(fields), {})
        if isinstance(reply, Silence):
            raise ShopifyUnreachable(f"OAuth: {reply.why}")
        if reply.status == 429 or reply.status >= 500:
            error = read(reply, "OAuth", is_mutation=False).error
            assert error is not None
            raise error
        try:
            return reply.status, read_object(reply.body)
        except Unparseable:
            return reply.status, {}

    def download(self, url: str) -> Iterator[bytes]:
        """The lines of a bulk result, as they come; no token is sent. Raises ShopifyUnreachable, also midway."""
        self._check(url)
        try:
            with self._session().get(
                url, stream=True, timeout=(self._seconds, self._seconds), allow_redirects=False
            ) as response:
                if response.status_code != 200:
                    raise ShopifyUnreachable(f"bulk result: status {response.status_code}")
                yield from lines_of(response.iter_content(PIECE_BYTES))
        except requests.RequestException as error:
            raise ShopifyUnreachable(f"bulk result: {type(error).__name__}") from None

    def close(self) -> None:
        """Let the open connections go; the next call opens new ones."""
        self._session().close()

    def _post(self, url: str, body: bytes | dict[str, str], headers: Mapping[str, bytes]) -> Reply | Silence:
        until = time.monotonic() + self._seconds
        try:
            response = self._session().post(
                url,
                data=body,
                headers={**headers, "Accept": b"application/json"},
                stream=True,
                timeout=(self._seconds, self._seconds),
                allow_redirects=False,
            )
            with response:
                return self._read(response, until)
        except (requests.RequestException, HTTPError, OSError) as error:
            return Silence(sent=not never_sent(error), why=type(error).__name__)

    def _read(self, response: requests.Response, until: float) -> Reply | Silence:
        """The whole answer, as long as it is neither too large nor too slow."""
        body = bytearray()
        while piece := response.raw.read1(PIECE_BYTES, decode_content=True):
            body += piece
            if len(body) > ANSWER_BYTES_MAX:
                return Silence(sent=True, why="an answer larger than the limit")
            if time.monotonic() > until:
                return Silence(sent=True, why="an answer slower than the limit")
        said = response.headers
        return Reply(
            response.status_code, bytes(body), said.get("Retry-After"), said.get("X-Shopify-API-Version")
        )

    def _session(self) -> requests.Session:
        process, session = self._own
        if process != os.getpid():
            session = self._new_session()
            self._own = (os.getpid(), session)
        return session

    def _new_session(self) -> requests.Session:
        session = requests.Session()
        session.headers["User-Agent"] = "Unwind"
        session.cookies.set_policy(DefaultCookiePolicy(allowed_domains=[]))
        session.auth = unchanged  # or `.netrc` would be asked
        session.trust_env = not is_loopback(self._base)  # a proxy stands between us and the world, not within
        adapter = HTTPAdapter(POOLED_HOSTS, POOL_SIZE, max_retries=0)
        session.mount("https://", adapter)
        session.mount("http://", adapter)
        return session

    def _check(self, url: str) -> None:
        """Results are fetched over https, or from the pretend store."""
        here = is_loopback(self._base) and is_loopback(url)
        if urlsplit(url).scheme not in ({"https", "http"} if here else {"https"}):
            raise ShopifyRefused("bulk result", [UserError("BAD_ADDRESS", (), "not an https address")])


class Shopify:
    """The Gateway that calls Shopify, within a budget that all workers share (`tasks/gateway/budget.py`)."""

    def __init__(
        self,
        settings: Settings,
        tokens: TokenProvider,
        budget: Budget | None = None,
        *,
        counts: Counts | None = None,
        connections: Connections | None = None,
        sleep: Callable[[float], None] = time.sleep,
        clock: Callable[[], float] = time.monotonic,
    ) -> None:
        self._settings = settings
        self._tokens = tokens
        self._budget = budget
        self._counts = counts
        self._connections = connections or Connections(settings)
        self._sleep = sleep
        self._clock = clock
        self._versions_served = {settings.shopify_api_version}

    def run(
        self, shop: ShopRow, document_name: str, variables: Mapping[str, Any], *, background: bool = False
    ) -> dict[str, Any]:
        """Send one document; the `data` of its answer. Numbers with a fraction come as text; a Decimal is sent as one.

        `background`: nobody waits for it (sweeps, imports), so it leaves half of the shop's budget to the others.
        Raises, besides what the TokenProvider raises:
        ShopifyUnreachable  a query without an answer, some tries long; or a mutation that cannot have been sent
        ShopifyThrottled    with the seconds to wait, when that is longer than anybody should wait here
        OutcomeUnknown      a mutation was sent, and no answer says what became of it: never sent again here
        AccessDenied        a scope is missing, or the shop is frozen, locked or gone
        NeedsMerchant       the token is refused, and so is a renewed one
        ShopifyRefused      any other top-level error: our document or our variables are at fault
        `userErrors` are left to `accepted`, for they are answers.
        """
        call = Call(shop, document(document_name), variables, background)
        until = self._clock() + PATIENCE_SECONDS
        for attempt in range(1, TRIES + 1):
            try:
                return self._once(call, until)
            except ShopifyThrottled as error:
                wait = error.wait_seconds
                if attempt == TRIES or self._clock() + wait > until:
                    raise
            except ShopifyUnreachable:
                wait = FIRST_WAIT_SECONDS * 2 ** (attempt - 1) + jitter()
                if call.document.is_mutation or attempt == TRIES or self._clock() + wait > until:
                    raise
            self._sleep(wait)
        raise AssertionError("the last try returns or raises")

    def post_form(self, url: str, fields: Mapping[str, str]) -> tuple[int, dict[str, Any]]:
        return self._connections.post_form(url, fields)

    def download(self, url: str) -> Iterator[bytes]:
        return self._connections.download(url)

    def close(self) -> None:
        self._connections.close()

    def _once(self, call: Call, until: float) -> dict[str, Any]:
        """One try: the budget asked, the call made, its figures kept."""
        held = self._reserved(call, until)
        begun = self._clock()
        try:
            with span(f"shopify {call.document.name}", kind="client", shop=call.shop.domain) as note:
                reading = self._ask(call)
                note(result=reading.result)
        except BaseException:
            if self._budget is not None and held is not None:
                self._budget.give_back(held)
            raise
        if self._budget is not None and held is not None:
            self._budget.settle(held, reading)
        if self._counts is not None:
            self._counts.count(call.document.name, reading.result)
        self._log(call, reading, self._clock() - begun)
        if reading.error is not None:
            raise reading.error
        assert reading.data is not None
        return reading.data

    def _reserved(self, call: Call, until: float) -> Held | None:
        """Points for the call, waited for as long as `run` waits. Raises ShopifyThrottled when that is not enough."""
        while self._budget is not None:
            try:
                return self._budget.reserve(call.shop.domain, call.document, background=call.background)
            except ShopifyThrottled as error:
                if self._clock() + error.wait_seconds > until:
                    raise
                self._sleep(error.wait_seconds)
        return None

    def _ask(self, call: Call) -> Reading:
        """Send it with the shop's token, and once more with a renewed one: status 401 says that nothing was done."""
        token = SecretStr(self._tokens.token(call.shop))
        reply = self._send(call, token)
        if isinstance(reply, Reply) and reply.status == 401:
            token = SecretStr(self._tokens.renewed(call.shop, token.get_secret_value()))
            reply = self._send(call, token)
            if isinstance(reply, Reply) and reply.status == 401:
                self._tokens.revoked(call.shop, token.get_secret_value())
                return Reading("token_refused", error=NeedsMerchant(call.shop.domain, "token_revoked"))
        name, is_mutation = call.document.name, call.document.is_mutation
        if isinstance(reply, Reply):
            self._watch_version(reply)
            return read(reply, name, is_mutation=is_mutation)
        if is_mutation and reply.sent:
            return Reading("unknown", error=OutcomeUnknown(f"{name}: {reply.why}"))
        return Reading("unreachable", error=ShopifyUnreachable(f"{name}: {reply.why}"))

    def _send(self, call: Call, token: SecretStr) -> Reply | Silence:
        return self._connections.post_json(
            graphql_url(self._settings, call.shop.domain),
            call.body,
            {"X-Shopify-Access-Token": token.get_secret_value().encode()},  # whatever was typed can be sent
        )

    def _watch_version(self, reply: Reply) -> None:
        """Say once a process that Shopify serves another version than we ask for: ours has ended."""
        if reply.version is not None and reply.version not in self._versions_served:
            self._versions_served.add(reply.version)
            log.warning(
                "shopify_api_version_ended",
                asked=self._settings.shopify_api_version,
                served=reply.version[:20],
            )

    def _log(self, call: Call, reading: Reading, seconds: float) -> None:
        cost = reading.cost
        log.info(
            "shopify_call",
            shop=call.shop.domain,
            operation=call.document.name,
            result=reading.result,
            cost=None if cost is None else cost.actual,
            available=None if cost is None else cost.available,
            seconds=round(seconds, 3),
        )


@dataclass(frozen=True, slots=True)
class Call:
    """One document for one shop, as it will be sent."""

    shop: ShopRow
    document: Document
    variables: Mapping[str, Any] = field(repr=False)
    background: bool

    @property
    def body(self) -> bytes:
        content = {"query": self.document.text, "variables": dict(self.variables)}
        return json.dumps(content, default=as_number).encode()


def as_number(value: object) -> float:
    """A Decimal where Shopify takes a Float (a percentage); money is sent as text by whoever sends it."""
    if isinstance(value, Decimal):
        return float(value)
    raise TypeError(f"{type(value).__name__} cannot be sent")


def lines_of(pieces: Iterator[bytes]) -> Iterator[bytes]:
    """The lines of what comes in pieces. Raises ShopifyRefused for one that never ends."""
    rest = b""
    for piece in pieces:
        *lines, rest = (rest + piece).split(b"\n")
        yield from (line for line in lines if line)
        if len(rest) > LINE_BYTES_MAX:
            raise ShopifyRefused("bulk result", [UserError("LINE_TOO_LONG", (), "a line without an end")])
    if rest:
        yield rest


def never_sent(error: BaseException) -> bool:
    """Whether the connection itself failed: refused, unknown name, no answer to the handshake, a false certificate."""
    reason: object = error.args[0] if error.args else None
    if isinstance(reason, MaxRetryError):
        reason = reason.reason
    if isinstance(reason, HTTPError) and reason.args and isinstance(reason.args[0], ssl.SSLError):
        reason = reason.args[0]
    return isinstance(reason, (NewConnectionError, NoConnection, ssl.SSLCertVerificationError))


def is_loopback(url: str | None) -> bool:
    return url is not None and urlsplit(url).hostname in LOOPBACK


def unchanged(request: requests.PreparedRequest) -> requests.PreparedRequest:
    return request
