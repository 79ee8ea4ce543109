"""Spans by OpenTelemetry, sent by OTLP over HTTP. Loaded only when OTEL_EXPORTER_OTLP_ENDPOINT is set (worker/telemetry.py)."""

from __future__ import annotations

from collections.abc import Iterator
from contextlib import contextmanager
from importlib.metadata import version

from opentelemetry.exporter.otlp.proto.http.trace_exporter import OTLPSpanExporter
from opentelemetry.sdk.resources import SERVICE_NAME, SERVICE_VERSION, Resource
from opentelemetry.sdk.trace import TracerProvider
from opentelemetry.sdk.trace.export import BatchSpanProcessor
from opentelemetry.trace import SpanKind, Status, StatusCode
from opentelemetry.trace.propagation.tracecontext import TraceContextTextMapPropagator

from models.telemetry import Kind, Note

KINDS = {
    "internal": SpanKind.INTERNAL,
    "client": SpanKind.CLIENT,
    "server": SpanKind.SERVER,
    "consumer": SpanKind.CONSUMER,
}
W3C = TraceContextTextMapPropagator()
FLUSH_MILLISECONDS = 3000  # at the end of a process: what is not sent by then is lost


class OpenTelemetry:
    """Our spans, as `models.telemetry.Tracer`. Headers and sampling come from OpenTelemetry's own environment."""

    def __init__(self, endpoint: str, service: str) -> None:
        resource = Resource.create({SERVICE_NAME: service, SERVICE_VERSION: version("unwind")})
        self.provider = TracerProvider(resource=resource)
        exporter = OTLPSpanExporter(endpoint=f"{endpoint.rstrip('/')}/v1/traces")
        self.provider.add_span_processor(BatchSpanProcessor(exporter))
        self.tracer = self.provider.get_tracer("unwind")

    @contextmanager
    def span(self, name: str, kind: Kind, parent: str, attributes: dict[str, object]) -> Iterator[Note]:
        context = W3C.extract({"traceparent": parent}) if parent else None
        with self.tracer.start_as_current_span(
            name,
            context,
            KINDS[kind],
            attributes=plain(attributes),
            record_exception=False,  # its words may quote anything
            set_status_on_exception=False,
        ) as found:
            try:
                yield lambda **more: found.set_attributes(plain(more))
            except BaseException as error:
                found.set_attribute("error.type", type(error).__name__)
                found.set_status(Status(StatusCode.ERROR))
                raise

    def here(self) -> str:
        carrier: dict[str, str] = {}
        W3C.inject(carrier)
        return carrier.get("traceparent", "")

    def flush(self) -> None:
        self.provider.force_flush(FLUSH_MILLISECONDS)


def plain(attributes: dict[str, object]) -> dict[str, str | int | float | bool]:
    """What OpenTelemetry takes; what is unknown is left out."""
    return {
        f"unwind.{name}": value if isinstance(value, str | int | float | bool) else str(value)
        for name, value in attributes.items()
        if value is not None
    }
