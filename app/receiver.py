"""POST /webhooks: verify the raw bytes, store them, answer. What they mean is decided later, by the tasks.

200 is a promise: the delivery is committed. What may be lost is never answered 200; what sending again can not help
(not JSON, an unknown shop, topic or no webhook id) is, and the tasks park it with the reason.
"""

from __future__ import annotations

import re
from collections.abc import Iterable, Mapping, Sequence
from http import HTTPStatus
from typing import Any
from wsgiref.types import StartResponse, WSGIApplication, WSGIEnvironment

import structlog
from prometheus_client import Counter
from werkzeug.wsgi import get_content_length

from app.inbox import Delivery, Writer
from app.signature import is_signed
from models import telemetry
from models.errors import DatabaseBusy
from models.telemetry import span
from tasks.steps.parse import READ_TOPIC
from worker.topics import label_of

log = structlog.get_logger(__name__)

PATH = "/webhooks"
HEADER_FAMILIES = ("HTTP_X_SHOPIFY_", "HTTP_SHOPIFY_")
LONGEST_TEXT = 255  # characters of a header that are kept
LONGEST_ID = 128  # a webhook id is a UUID; what is longer is none, and cut ones could be taken for each other
TRACE = "unwind.trace"  # in the WSGI environment: the span that surrounds the request
READ_ID = "read:"  # how the ids of what we read ourselves begin (tasks/steps/reads.py)
RETRY_AFTER_SECONDS = 10
# What Shopify signs with the same secret, and every merchant gets to see: a session token, a link's query. No JSON.
SIGNED_FOR_ELSE = re.compile(rb"[\w-]+\.[\w-]+\Z|[\w.%*+\[\]-]+=")
ODD = re.compile(r"[^\x20-\x7e]+")  # nothing that Shopify says of itself is outside printable ASCII


class Answer:
    """A short JSON answer, encoded once."""

    def __init__(self, status: HTTPStatus, said: str, **headers: str) -> None:
        self.status = status
        self.said = said
        self.line = f"{status.value} {status.phrase}"
        self.body = f'{{"status":"{said}"}}\n'.encode()
        self.headers = [
            ("Content-Type", "application/json"),
            ("Content-Length", str(len(self.body))),
            *((name.replace("_", "-"), value) for name, value in headers.items()),
        ]


STORED = Answer(HTTPStatus.OK, "stored")
SEEN = Answer(HTTPStatus.OK, "seen_before")
REFUSED = Answer(HTTPStatus.UNAUTHORIZED, "not_signed")
NOT_POSTED = Answer(HTTPStatus.METHOD_NOT_ALLOWED, "post_only", Allow="POST")
TOO_LARGE = Answer(HTTPStatus.REQUEST_ENTITY_TOO_LARGE, "too_large")
UNAVAILABLE = Answer(HTTPStatus.SERVICE_UNAVAILABLE, "try_again", Retry_After=str(RETRY_AFTER_SECONDS))


def make_receiver(
    writer: Writer, secrets: Sequence[bytes], webhooks: Counter, max_bytes: int
) -> WSGIApplication:
    """The receiver, counting each answer by topic in `webhooks`.

    It stands before Flask, not in it: the routing and contexts of a request cost more than checking and storing it.
    """

    counts: dict[tuple[str, str], Counter] = {}

    def receiver(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        if environ["REQUEST_METHOD"] != "POST":
            answer = NOT_POSTED
        else:
            answer = receive(environ, writer, secrets, max_bytes)
        topic = "other" if answer in (REFUSED, NOT_POSTED) else label_of(header(environ, "TOPIC") or "")
        counted = counts.get((topic, answer.said))
        if counted is None:  # finding a label's count costs more than counting
            counted = counts[topic, answer.said] = webhooks.labels(topic, answer.said)
        counted.inc()
        start_response(answer.line, answer.headers)
        return (answer.body,)

    return receiver


def traced(receiver: WSGIApplication) -> WSGIApplication:
    """The receiver inside a span; only put around it when somebody traces."""

    def inside(environ: WSGIEnvironment, start_response: StartResponse) -> Iterable[bytes]:
        with span(f"webhook {label_of(header(environ, 'TOPIC') or '')}", kind="server") as note:
            environ[TRACE] = telemetry.here()

            def start(line: str, headers: list[tuple[str, str]]) -> object:
                note(status=int(line[:3]))
                if line == STORED.line:  # nothing is told of what was not signed
                    note(shop=clean(header(environ, "SHOP_DOMAIN")).lower())
                    note(webhook_id=webhook_id_of(header(environ, "WEBHOOK_ID")))
                return start_response(line, headers)

            return receiver(environ, start)  # type: ignore[arg-type]

    return inside


def receive(environ: dict[str, Any], writer: Writer, secrets: Sequence[bytes], max_bytes: int) -> Answer:
    """What to answer. Nothing is read from the headers before the body is known to be Shopify's."""
    body = whole_body(environ, max_bytes)
    if body is None:
        return refuse(TOO_LARGE)
    if SIGNED_FOR_ELSE.match(body) or not is_signed(body, secrets, header(environ, "HMAC_SHA256")):
        return refuse(REFUSED)
    try:
        stored = writer.keep(delivery_of(environ, body))
    except DatabaseBusy:
        return refuse(UNAVAILABLE)
    except Exception:  # whatever it is, nothing is known to be stored: Shopify shall send it again
        log.exception("webhook_not_stored")
        return refuse(UNAVAILABLE)
    return STORED if stored.new else SEEN


def whole_body(environ: dict[str, Any], max_bytes: int) -> bytes | None:
    """The raw bytes, with a length or in chunks; None when there are more than `max_bytes`.

    Read in as few calls as there can be, since each lets another thread in between; and not through werkzeug, which
    cuts a body in chunks at its limit instead of refusing it.
    """
    length = get_content_length(environ)
    if length is None and not environ.get("wsgi.input_terminated"):
        return b""  # such a server does not say where the body ends
    wanted = max_bytes + 1 if length is None else length
    if wanted > max_bytes + 1:
        return None
    read = environ["wsgi.input"].read
    body: bytes = read(wanted)
    while body and len(body) < wanted and (more := read(wanted - len(body))):
        body += more
    return body if len(body) <= max_bytes else None


def refuse(answer: Answer) -> Answer:
    log.warning("webhook_refused", status=answer.status.value, reason=answer.said)
    return answer


def delivery_of(environ: Mapping[str, str], body: bytes) -> Delivery:
    return Delivery(
        shop_domain=clean(header(environ, "SHOP_DOMAIN")).lower(),
        topic=topic_of(header(environ, "TOPIC")),
        webhook_id=webhook_id_of(header(environ, "WEBHOOK_ID")),
        event_id=id_of(header(environ, "EVENT_ID")),
        triggered_at=clean(header(environ, "TRIGGERED_AT")) or None,
        api_version=clean(header(environ, "API_VERSION")) or None,
        body=body,
        trace=environ.get(TRACE, ""),
    )


def header(environ: Mapping[str, str], name: str) -> str | None:
    """A header of either family; the older one first, as all of today's deliveries have it."""
    for family in HEADER_FAMILIES:
        value = environ.get(family + name)
        if value:
            return value
    return None


def topic_of(value: str | None) -> str:
    """The topic, but never one of those under which we keep what we read ourselves: headers are not signed."""
    topic = clean(value).lower()
    return f"{topic}, but delivered" if topic == READ_TOPIC else topic


def webhook_id_of(value: str | None) -> str | None:
    """The id, None for one of those under which we keep what we read ourselves: it could take their place."""
    id = id_of(value)
    return None if id is not None and id.startswith(READ_ID) else id


def clean(value: str | None) -> str:
    """A header's text, fit for the database and for logs: printable ASCII, of bounded length."""
    return ODD.sub("?", value or "").strip()[:LONGEST_TEXT]


def id_of(value: str | None) -> str | None:
    """An id, or None when there is none or it cannot be told from another one."""
    value = (value or "").strip()
    return value if 0 < len(value) <= LONGEST_ID and not ODD.search(value) else None
