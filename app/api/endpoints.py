"""Where a shop's own systems are told of what happens, and how each delivery went (docs/webhooks.md)."""

from __future__ import annotations

from collections.abc import Mapping
from dataclasses import dataclass
from typing import Annotated, Any, ClassVar, Literal

from pydantic import Field

from app.api.fields import Given, Id, LineIn, Sent, Time
from app.api.operation import Asked, Call, Operation, Refusal, no_such
from app.api.paging import PageQuery, cursor_text
from tasks.gateway.outgoing import URL_MAX_CHARACTERS, Outgoing, networks_of
from tasks.steps import deliveries, endpoints
from tasks.steps.messages import ALL, EVENTS
from tasks.steps.vault import Vault

DESCRIPTION_MAX_CHARACTERS = 200

ENDPOINT = {
    "id": "3",
    "url": "https://erp.example.com/unwind",
    "description": "our ERP",
    "events": ["refunded", "cancelled"],
    "state": "active",
    "paused_reason": None,
    "failing_since": None,
    "resting_until": None,
    "last_success_at": "2026-03-05T09:30:04Z",
    "waiting": 0,
    "old_secret_until": None,
    "created_at": "2026-03-01T08:00:00Z",
}
SECRET = "whsec_" + "A" * 43 + "="
DELIVERY = {
    "id": "812",
    "endpoint_id": "3",
    "message_id": "msg_0d5bb0a5c4f24a8ba6e8c1f6d1c0e9a7",
    "event": "refunded",
    "subject": "order:450789469",
    "sequence": 1,
    "at": "2026-03-05T09:30:00Z",
    "state": "delivered",
    "sends": 1,
    "tries": [{"at": "2026-03-05T09:30:03Z", "status": 204, "error": None, "milliseconds": 87}],
    "next_try_at": None,
    "created_at": "2026-03-05T09:30:02Z",
    "finished_at": "2026-03-05T09:30:03Z",
}


EventName = Literal[
    "refunded",
    "cancelled",
    "auto_refunded",
    "redemption.returned",
    "points.reversed",
    "code.reactivated",
    "tier.changed",
    "*",
]
EventNames = Annotated[
    list[EventName],
    Field(min_length=1, max_length=len(EVENTS), description=f"Which events; ['{ALL}']: all, those of later versions too"),
]  # fmt: skip
Description = Annotated[
    str,
    Field(
        max_length=DESCRIPTION_MAX_CHARACTERS,
        pattern=r"^[^\x00-\x1f\x7f]*$",
        description="One line for people",
    ),
]
Url = Annotated[
    LineIn,
    Field(
        max_length=URL_MAX_CHARACTERS,
        json_schema_extra={"pattern": r"^https?://[^\x00-\x20]+$", "format": "uri"},
        description="https, and a public address; see docs/webhooks.md",
    ),
]


class EndpointRequest(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {
        "url": ENDPOINT["url"],
        "events": ENDPOINT["events"],
        "description": "our ERP",
    }

    url: Url
    events: EventNames | None = Field(None, description="Without them: all")
    description: Description = ""


class EndpointChange(Sent):
    EXAMPLE: ClassVar[dict[str, Any]] = {"state": "active"}

    url: Url | None = None
    events: EventNames | None = None
    description: Description | None = None
    state: Literal["active", "paused"] | None = Field(
        None, description="paused: what is told waits; active: what waited is sent"
    )


class Endpoint(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = ENDPOINT

    id: Id
    url: str
    description: str
    events: list[str]
    state: Literal["active", "paused"]
    paused_reason: Literal["failing", "gone", "by_hand"] | None = Field(
        description="failing: three days without a success; gone: it answered 410"
    )
    failing_since: Time | None = Field(description="The first failure after the last success")
    resting_until: Time | None = Field(description="After failures in a row nothing is sent until then")
    last_success_at: Time | None
    waiting: int = Field(
        description="Deliveries that are due, to be tried again, or waiting for a paused endpoint"
    )
    old_secret_until: Time | None = Field(
        description="Until then the secret before the present one signs as well"
    )
    created_at: Time


class NewEndpoint(Endpoint):
    EXAMPLE: ClassVar[dict[str, Any]] = {**ENDPOINT, "last_success_at": None, "secret": SECRET}

    secret: str | None = Field(
        description="Shown here and never again; null when a call is repeated under its Idempotency-Key"
    )


class EndpointList(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {"data": [ENDPOINT]}

    data: list[Endpoint]


class Deleted(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {"id": "3", "state": "deleted"}

    id: Id
    state: Literal["deleted"]


class Try(Given):
    at: Time
    status: int | None = Field(description="HTTP's; null: no answer came")
    error: str | None = Field(description="Why none came, in one word, such as timed_out")
    milliseconds: int


class Delivery(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = DELIVERY

    id: Id
    endpoint_id: Id
    message_id: str = Field(description="The `webhook-id` that it is sent under, every time")
    event: str
    subject: str = Field(description="order:ID, customer:ID, or endpoint:ID of a ping")
    sequence: int = Field(description="Its number among all messages of the subject")
    at: Time = Field(description="The event's own time")
    state: Literal["pending", "waiting", "delivered", "failed", "cancelled"]
    sends: int = Field(description="Once, and once more each time it was sent again by hand")
    tries: list[Try] = Field(description="Oldest first")
    next_try_at: Time | None
    created_at: Time
    finished_at: Time | None


class DeliveryPage(Given):
    EXAMPLE: ClassVar[dict[str, Any]] = {"data": [DELIVERY], "next_cursor": None}

    data: list[Delivery]
    next_cursor: str | None


class DeliveryQuery(PageQuery):
    state: Literal["pending", "waiting", "delivered", "failed", "cancelled"] | None = None


@dataclass(frozen=True, slots=True, kw_only=True)
class Prepared:
    """What was found out before the transaction: the address as it is kept, and what seals secrets."""

    url: str | None
    vault: Vault


def look_up(asked: Asked) -> Prepared:
    """Where the address leads is asked before anything is written. Raises InvalidSetting (url)."""
    return Prepared(url=checked_url(asked), vault=endpoints.vault_of(asked.settings))


def checked_url(asked: Asked) -> str | None:
    url: str | None = asked.body.url
    if url is None:
        return None
    return Outgoing(networks_of(asked.settings.endpoints_allow_networks)).check(url)


def list_them(call: Call) -> Mapping[str, Any]:
    return {"data": endpoints.listing(call.connection, call.shop_id)}


def create(call: Call) -> Mapping[str, Any]:
    body: EndpointRequest = call.body
    prepared: Prepared = call.prepared
    assert prepared.url is not None
    return endpoints.add(
        call.connection,
        prepared.vault,
        call.shop_id,
        url=prepared.url,
        events=body.events,
        description=body.description,
    )


def show(call: Call) -> Mapping[str, Any]:
    return endpoints.get(call.connection, call.shop_id, call.ids["endpoint_id"])


def change(call: Call) -> Mapping[str, Any]:
    body: EndpointChange = call.body
    return endpoints.change(
        call.connection,
        call.shop_id,
        call.ids["endpoint_id"],
        by=call.by,
        url=call.prepared,
        events=body.events,
        description=body.description,
        state=body.state,
    )


def delete(call: Call) -> Mapping[str, Any]:
    id = call.ids["endpoint_id"]
    endpoints.remove(call.connection, call.shop_id, id)
    return {"id": str(id), "state": "deleted"}


def rotate(call: Call) -> Mapping[str, Any]:
    return endpoints.rotate(call.connection, call.prepared, call.shop_id, call.ids["endpoint_id"])


def ping(call: Call) -> Mapping[str, Any]:
    id = endpoints.ping(call.connection, call.shop_id, call.ids["endpoint_id"])
    return deliveries.get(call.connection, call.shop_id, id)


def list_deliveries(call: Call) -> Mapping[str, Any]:
    q: DeliveryQuery = call.query
    page = deliveries.listing(
        call.connection,
        call.shop_id,
        call.ids["endpoint_id"],
        state=q.state,
        cursor=q.cursor,
        limit=q.limit,
    )
    return {"data": list(page.rows), "next_cursor": cursor_text(page.cursor)}


def resend(call: Call) -> Mapping[str, Any]:
    return deliveries.resend(call.connection, call.shop_id, call.ids["delivery_id"])


NO_KEY = Refusal(status=409, code="no_encryption_key", when="the server has no key to keep a secret with")
WRONG = Refusal(
    status=422, code="invalid_setting", when="the address may not be called, or an event is unknown"
)
PAUSED = Refusal(status=409, code="endpoint_paused", when="the endpoint is paused: enable it first")
OPERATIONS = (
    Operation(
        method="GET",
        path="/endpoints",
        tag="endpoints",
        name="list_endpoints",
        summary="Where the shop's own systems are told of what happens",
        run=list_them,
        answer=EndpointList,
    ),
    Operation(
        method="POST",
        path="/endpoints",
        tag="endpoints",
        name="create_endpoint",
        summary="A new endpoint, and the secret that its deliveries are signed with",
        before=look_up,
        run=create,
        body=EndpointRequest,
        answer=NewEndpoint,
        status=201,
        writes=True,
        told_once=("secret",),
        links={
            "endpoint": ("get_endpoint", {"endpoint_id": "id"}),
            "change": ("change_endpoint", {"endpoint_id": "id"}),
            "test": ("test_endpoint", {"endpoint_id": "id"}),
            "deliveries": ("list_deliveries", {"endpoint_id": "id"}),
            "rotate": ("rotate_endpoint_secret", {"endpoint_id": "id"}),
            "delete": ("delete_endpoint", {"endpoint_id": "id"}),
        },
        refusals=(
            NO_KEY,
            WRONG,
            Refusal(status=409, code="too_many_endpoints", when=f"there are {endpoints.ENDPOINTS_MAX}"),
        ),
    ),
    Operation(
        method="GET",
        path="/endpoints/{endpoint_id}",
        tag="endpoints",
        name="get_endpoint",
        summary="An endpoint",
        run=show,
        answer=Endpoint,
        refusals=(no_such("endpoint"),),
    ),
    Operation(
        method="PATCH",
        path="/endpoints/{endpoint_id}",
        tag="endpoints",
        name="change_endpoint",
        summary="Change an endpoint, pause it, or enable it again",
        before=checked_url,
        run=change,
        body=EndpointChange,
        answer=Endpoint,
        writes=True,
        refusals=(no_such("endpoint"), WRONG),
    ),
    Operation(
        method="DELETE",
        path="/endpoints/{endpoint_id}",
        tag="endpoints",
        name="delete_endpoint",
        summary="Delete an endpoint: its secret is gone, what was to be sent is not sent",
        run=delete,
        answer=Deleted,
        writes=True,
        refusals=(no_such("endpoint"),),
    ),
    Operation(
        method="POST",
        path="/endpoints/{endpoint_id}/rotate-secret",
        tag="endpoints",
        name="rotate_endpoint_secret",
        summary="A new secret; for a day the old one signs as well",
        before=lambda asked: endpoints.vault_of(asked.settings),
        run=rotate,
        answer=NewEndpoint,
        writes=True,
        told_once=("secret",),
        refusals=(no_such("endpoint"), NO_KEY),
    ),
    Operation(
        method="POST",
        path="/endpoints/{endpoint_id}/test",
        tag="endpoints",
        name="test_endpoint",
        summary="Send a message of the event `ping`, to this endpoint only",
        run=ping,
        answer=Delivery,
        status=201,
        writes=True,
        links={
            "resend": ("resend_delivery", {"delivery_id": "id"}),
            "deliveries": ("list_deliveries", {"endpoint_id": "$request.path.endpoint_id"}),
        },
        refusals=(no_such("endpoint"), PAUSED),
    ),
    Operation(
        method="GET",
        path="/endpoints/{endpoint_id}/deliveries",
        tag="endpoints",
        name="list_deliveries",
        summary="What was sent to an endpoint, newest first, with every try",
        run=list_deliveries,
        query=DeliveryQuery,
        answer=DeliveryPage,
        refusals=(no_such("endpoint"),),
    ),
    Operation(
        method="POST",
        path="/deliveries/{delivery_id}/resend",
        tag="endpoints",
        name="resend_delivery",
        summary="Send a message again, under the same `webhook-id`",
        run=resend,
        answer=Delivery,
        writes=True,
        refusals=(
            no_such("delivery"),
            PAUSED,
            Refusal(status=409, code="endpoint_deleted", when="there is no endpoint to send it to any more"),
        ),
    ),
)
