"""A trace goes on from the receiver's process into the worker's."""

from __future__ import annotations

from tests.operators.conftest import PLANTED, Collector, Watched
from tests.seeds.product import until


def test_a_refund_s_webhook_and_its_task_are_of_one_trace(watched: Watched, collector: Collector) -> None:
    def attributes(span: object) -> dict[str, object]:
        return {each.key: each.value.string_value or each.value.int_value for each in span.attributes}  # type: ignore[attr-defined]

    def worked() -> list[tuple[str, object]]:
        wanted = {"unwind.refund_id": watched.refund.id, "unwind.shop": watched.shop.domain}
        return [
            (service, span)
            for service, span in collector.spans()
            if span.name == "refunds.process" and wanted.items() <= attributes(span).items()
        ]

    [(service, task)] = until(worked)
    trace = [(of, span) for of, span in collector.spans() if span.trace_id == task.trace_id]
    assert service == "unwind-worker" and attributes(task)["unwind.state"] == "SUCCESS"
    [webhook] = [span for of, span in trace if of == "unwind-receiver"]
    assert webhook.name == "webhook refunds/create" and webhook.span_id == task.parent_span_id
    assert "drain" in {span.name for _, span in trace}
    assert {"codes.create", "shopify discount_create"} <= {span.name for _, span in collector.spans()}


def test_no_trace_holds_anything_personal(watched: Watched, collector: Collector) -> None:
    private = [word.encode() for word in (*PLANTED, watched.customer.email, watched.shop.api.token)]
    assert collector.bodies
    assert not [word for word in private if any(word in body for body in collector.bodies)]
