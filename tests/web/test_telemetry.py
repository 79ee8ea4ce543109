"""Traces and error reports, as their receivers get them: the way of a webhook, and nothing personal."""

from __future__ import annotations

import gzip
import json
import subprocess
import sys
from collections.abc import Iterator

import pytest
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span
from pytest_httpserver import HTTPServer
from werkzeug import Request, Response

from app.signature import signature_of
from app.web import create_app
from models import telemetry
from models.errors import InvalidSetting
from models.settings import Settings, load_settings
from tasks.gateway.client import Shopify
from tasks.gateway.tokens import GivenToken
from tasks.steps.drain import drain
from tasks.steps.load import ShopRow
from tasks.steps.work import work_off
from tests.web.conftest import SECRET
from worker.telemetry import extra
from worker.tracing import OpenTelemetry

REFUND = {"id": 7001, "order_id": 42, "note": "Ada Lovelace, ada@example.com", "refund_line_items": []}


class Collector:
    """What an OpenTelemetry collector gets."""

    def __init__(self, server: HTTPServer) -> None:
        self.spans: list[Span] = []
        self.bodies: list[bytes] = []
        server.expect_request("/v1/traces", method="POST").respond_with_handler(self.take)

    def take(self, request: Request) -> Response:
        body = request.get_data()
        body = gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body
        self.bodies.append(body)
        told = ExportTraceServiceRequest.FromString(body)
        self.spans += [s for r in told.resource_spans for scope in r.scope_spans for s in scope.spans]
        return Response(status=200)

    def named(self, name: str) -> Span:
        (found,) = [span for span in self.spans if span.name == name]
        return found


def attributes(span: Span) -> dict[str, object]:
    return {a.key: a.value.string_value or a.value.int_value for a in span.attributes}


@pytest.fixture
def traced(httpserver: HTTPServer) -> Iterator[tuple[Collector, OpenTelemetry]]:
    tracer = OpenTelemetry(httpserver.url_for("").rstrip("/"), "unwind-tests")
    telemetry.install(tracer)
    yield Collector(httpserver), tracer
    tracer.provider.shutdown()
    telemetry._installed.clear()


def test_a_trace_leads_from_the_webhook_into_the_task_and_its_calls(
    traced, settings, engine, shop, httpserver, send_to
):
    collector, tracer = traced
    app = create_app(settings)
    rung = []
    app.extensions["unwind"].doorbell._send = lambda task, arguments: rung.append((task, arguments))
    send_to(app, json.dumps(REFUND).encode(), id="w-traced")
    app.extensions["unwind"].close()
    ((task, arguments),) = rung
    httpserver.expect_request("/admin/api/2026-10/graphql.json").respond_with_json({"data": {"shop": {}}})
    gateway = Shopify(
        Settings(shopify_base_url=httpserver.url_for("").rstrip("/")), GivenToken(shop.domain, "shpat_secret")
    )
    with telemetry.span(task, kind="consumer", parent=str(arguments["trace"]), shop=arguments["shop"]):
        work_off(lambda: drain(engine, shop.domain))
        gateway.run(ShopRow(shop.id, shop.domain, "EUR"), "shop", {})
    tracer.flush()
    webhook, work = collector.named("webhook refunds/create"), collector.named("refunds.process")
    assert work.trace_id == webhook.trace_id and work.parent_span_id == webhook.span_id
    for name in ("drain", "shopify shop"):
        assert collector.named(name).parent_span_id == work.span_id
    assert attributes(webhook) == {
        "unwind.status": 200,
        "unwind.shop": shop.domain,
        "unwind.webhook_id": "w-traced",
    }
    assert attributes(collector.named("shopify shop"))["unwind.result"] == "ok"
    for secret in (b"Ada", b"ada@example.com", b"shpat_secret"):
        assert all(secret not in body for body in collector.bodies)


def test_an_error_in_a_span_is_told_by_its_kind_alone(traced):
    collector, tracer = traced
    with pytest.raises(ValueError), telemetry.span("failing"):
        raise ValueError("ada@example.com")
    tracer.flush()
    assert attributes(collector.named("failing")) == {"error.type": "ValueError"}
    assert not collector.named("failing").events and b"ada@" not in b"".join(collector.bodies)


def test_nobody_traces_unless_told_to():
    assert not telemetry.is_on() and telemetry.here() == ""
    assert telemetry.span("anything") is telemetry.span("else")


SAYS = """
import logging, sys, structlog  # whom it is about is told as an argument: newer Pythons send these lines along
name, email = sys.argv[1:]
from models.settings import load_settings
from models.errors import Refused
from worker import telemetry
from worker.logs import configure
settings = load_settings()
configure(settings)
telemetry.start(settings, "unwind-tests")
log = structlog.get_logger("tasks.steps.outbox")
def deliver(email):
    raise ValueError(f"no such mailbox: {email}")
try:
    deliver(email)
except ValueError:
    log.error("outbox_broken", shop="a.myshopify.com", outbox_id=5, customer=name, exc_info=True)
log.error("not_ours_to_say", error=Refused("already", "order 42 was refunded"), exc_info=Refused("already", "order 42 was refunded"))
logging.getLogger("celery.app.trace").error("Task %s raised: %s", "x", email)
log.warning("no_error")
telemetry.end()
"""


def test_errors_are_reported_to_sentry_with_ids_and_places_and_nothing_else(
    httpserver: HTTPServer, monkeypatch
):
    envelopes: list[bytes] = []

    def take(request: Request) -> Response:
        body = request.get_data()
        envelopes.append(gzip.decompress(body) if request.headers.get("Content-Encoding") == "gzip" else body)
        return Response("{}", content_type="application/json")

    httpserver.expect_request("/api/1/envelope/").respond_with_handler(take)
    monkeypatch.setenv("SENTRY_DSN", f"http://key@{httpserver.host}:{httpserver.port}/1")
    said = [sys.executable, "-c", SAYS, "Ada Lovelace", "ada@example.com"]
    done = subprocess.run(said, capture_output=True, text=True, check=True)
    assert done.stderr.count("\n") >= 4, "the log has them as well"
    events = [
        json.loads(line)
        for each in envelopes
        for line in each.splitlines()
        if b'"exception"' in line or b'"logger"' in line
    ]
    first, second, third = sorted(events, key=lambda event: event["timestamp"])
    assert (first["message"], first["tags"]) == (
        "outbox_broken",
        {"shop": "a.myshopify.com", "outbox_id": "5"},
    )
    (error,) = first["exception"]["values"]
    assert (error["type"], error["value"]) == ("ValueError", "[not sent]")
    assert error["stacktrace"]["frames"][-1]["function"] == "deliver"
    assert second["exception"]["values"][0]["value"] == "order 42 was refunded"
    assert third["message"] == "Task %s raised: %s"
    for private in (b"ada@example.com", b"Ada", b"vars", b"request", b"server_name"):
        assert all(private not in each for each in envelopes), private


def test_a_setting_whose_package_is_missing_stops_the_start_and_says_what_to_type(monkeypatch):
    monkeypatch.setitem(sys.modules, "sentry_sdk", None)
    monkeypatch.delitem(sys.modules, "worker.reporting", raising=False)
    with pytest.raises(InvalidSetting, match=r"SENTRY_DSN: is set, but .* pip install 'unwind\[sentry\]'"):
        extra("worker.reporting", "SENTRY_DSN", "sentry")


@pytest.mark.parametrize(
    ("name", "value"),
    [("OTEL_EXPORTER_OTLP_ENDPOINT", "collector:4317"), ("SENTRY_DSN", "https://sentry.example.com/1")],
)
def test_an_address_that_cannot_be_right_is_refused(monkeypatch, name, value):
    monkeypatch.setenv(name, value)
    with pytest.raises(InvalidSetting, match=name):
        load_settings()


@pytest.fixture
def send_to(shop):
    from_headers = {"X-Shopify-Topic": "refunds/create", "X-Shopify-Shop-Domain": shop.domain}

    def send_to(app, body, *, id):
        headers = from_headers | {
            "X-Shopify-Webhook-Id": id,
            "X-Shopify-Hmac-Sha256": signature_of(body, SECRET.encode()),
        }
        assert app.test_client().post("/webhooks", data=body, headers=headers).status_code == 200

    return send_to
