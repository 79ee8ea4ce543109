"""A product with Flower, as its operator runs it, in which a customer with a name was refunded, and one thing went wrong."""

from __future__ import annotations

import secrets
import shutil
import tempfile
import threading
from collections.abc import Callable, Iterator
from dataclasses import dataclass
from http.server import BaseHTTPRequestHandler, ThreadingHTTPServer
from pathlib import Path

import psycopg
import pytest
import requests
from cryptography.fernet import Fernet
from opentelemetry.proto.collector.trace.v1.trace_service_pb2 import ExportTraceServiceRequest
from opentelemetry.proto.trace.v1.trace_pb2 import Span

from app.sandbox.records import Customer, Order, Refund
from app.signature import signature_of
from models.settings import load_settings
from tasks.runtime import make_broker_client
from tasks.steps import bell
from tests.conftest import new_database, of
from tests.pretend import API_SECRET, pretend_shopify
from tests.seeds.conftest import free_port, up
from tests.seeds.product import Running, Shop, in_environment, opened, per_unit, reward, until
from worker.embedded import parts

LOGIN = ("operator", secrets.token_hex(8))
PLANTED = ("Philippa", "Featherstonehaugh", "+441632960961")
BROKEN = "5f7c1e0a-no-json"


class Collector(ThreadingHTTPServer):
    """An OpenTelemetry collector: what it was sent, by the service that sent it."""

    def __init__(self) -> None:
        super().__init__(("127.0.0.1", 0), Taking)
        self.bodies: list[bytes] = []

    def spans(self) -> list[tuple[str, Span]]:
        found = []
        for body in list(self.bodies):
            for sender in ExportTraceServiceRequest.FromString(body).resource_spans:
                named = {each.key: each.value.string_value for each in sender.resource.attributes}
                found += [
                    (named["service.name"], span) for scope in sender.scope_spans for span in scope.spans
                ]
        return found


class Taking(BaseHTTPRequestHandler):
    def do_POST(self) -> None:
        assert isinstance(self.server, Collector)
        self.server.bodies.append(self.rfile.read(int(self.headers["Content-Length"])))
        self.send_response(200)
        self.end_headers()

    def log_message(self, *args: object) -> None:
        """Nothing is printed."""


@pytest.fixture(scope="package")
def collector() -> Iterator[Collector]:
    with Collector() as server:
        threading.Thread(target=server.serve_forever, daemon=True).start()
        yield server
        server.shutdown()


@dataclass
class Watched:
    """What happened, and where to look at it."""

    product: Running
    place: Path
    flower: str
    shop: Shop
    customer: Customer
    order: Order
    refund: Refund
    before: str

    @property
    def log(self) -> str:
        return (self.place / "up.log").read_text()

    def metrics(self) -> str:
        return requests.get(f"{self.product.url}/metrics", timeout=5).text


@pytest.fixture(scope="package")
def watched(database_server: str, migrated_template: str, collector: Collector) -> Iterator[Watched]:
    place = Path(tempfile.mkdtemp(prefix="unwind-watched-"))
    place.chmod(0o755)  # the broker may run as another account
    domains = [f"watched-{secrets.token_hex(6)}.myshopify.com" for _ in range(2)]
    with (
        new_database(database_server, template=migrated_template) as name,
        pretend_shopify(*domains) as shopify,
        psycopg.connect(of(database_server, name), autocommit=True) as database,
    ):
        own = {
            "DATABASE_URL": of(database_server, name),
            "TOKEN_ENCRYPTION_KEYS": Fernet.generate_key().decode(),
            "WORKER_PROCESSES": "1",
            "PORT": str(free_port()),
            "FLOWER_PORT": str(free_port()),
            "FLOWER_BASIC_AUTH": ":".join(LOGIN),
            "OTEL_EXPORTER_OTLP_ENDPOINT": f"http://127.0.0.1:{collector.server_port}",
            "OTEL_EXPORTER_OTLP_COMPRESSION": "none",
            "OTEL_BSP_SCHEDULE_DELAY": "200",  # milliseconds
            **{key.upper(): str(value) for key, value in shopify.settings().items()},
        }
        with up(own, place, "--flower") as url:
            flower = f"http://127.0.0.1:{own['FLOWER_PORT']}"
            until(lambda: answers(f"{flower}/healthcheck"))
            product = Running(url, own, place, shopify, iter(domains), database)
            yield a_refund(product, place, flower)
    shutil.rmtree(place, ignore_errors=True)


def answers(url: str) -> bool:
    try:
        return requests.get(url, timeout=1).ok
    except requests.RequestException:
        return False


def a_refund(product: Running, place: Path, flower: str) -> Watched:
    """Points are earned; a code is made, used, and given back by the order's refund; one webhook is no JSON."""
    before = requests.get(f"{product.url}/metrics", timeout=5).text
    shop = opened(
        product,
        connected=True,
        earning=[per_unit(5)],
        return_redeemed={"enabled": True},
        rewards=[reward(reactivate_code=True)],
    )
    person = Customer(shop.store.new_id(), *PLANTED)
    shop.store.customers[person.id] = person
    shop.grant(500, person)
    id = shop.redeem(person, reward="5-off")
    until(lambda: shop.redemption(id)["code_state"] == "active", "the code was not made")
    shop.refund(shop.sell(50_00, codes=[(shop.redemption(id)["code"], 0)], customer=person))
    until(lambda: shop.redemption(id)["reactivation"] == "done", "the code did not come back")
    order = shop.sell(100_00, customer=person)
    refund = alone(shop, lambda: shop.refund(order, amount=20_00))
    forgiven_and_returned(shop)
    shop.front.faults.add("status", status=429, only="DiscountCreate")
    shop.grant(500, person)
    throttled = shop.redeem(person, reward="5-off")
    until(lambda: shop.redemption(throttled)["code_state"] == "active", "the code was not made")
    broken(shop, f"{person.first_name} {person.email} is no JSON".encode())
    return Watched(product, place, flower, shop, person, order, refund, before)


def forgiven_and_returned(shop: Shop) -> None:
    """Points that are spent when their order is refunded; then the order that they were spent on is refunded."""
    other = shop.person()
    earned = shop.sell(100_00, customer=other)
    shop.redeem(other, reward="custom", amount=500, code="GIVEN")
    shop.refund(earned)
    shop.refund(shop.sell(20_00, codes=[("GIVEN", 5_00)], customer=other))


def alone(shop: Shop, refunding: Callable[[], Refund]) -> Refund:
    """The refund's own webhook first, at a silent bell, and the others after it is worked off: it rings, and the ledger
    is its doing."""
    shop.muted, begun = True, len(shop.sent)
    refund = refunding()
    silent(shop)
    shop.muted, told = False, shop.sent[begun:]
    for first in (True, False):
        shop.tell([each for each in told if (each.topic == "refunds/create") is first])
    return refund


def silent(shop: Shop) -> None:
    """Nobody is on the way to the shop's events any more."""
    product = shop.product
    with (
        in_environment(product.environment, product.place),
        parts(load_settings(None), product.place / "data", command="the tests") as found,
        make_broker_client(found.redis_url) as broker,
    ):
        until(lambda: not broker.exists(bell.key_of(shop.domain)))


def broken(shop: Shop, body: bytes) -> None:
    """A signed webhook that cannot be read; it is parked."""
    headers = {
        "X-Shopify-Hmac-Sha256": signature_of(body, API_SECRET.encode()),
        "X-Shopify-Topic": "orders/updated",
        "X-Shopify-Shop-Domain": shop.domain,
        "X-Shopify-Webhook-Id": BROKEN,
    }
    assert (
        requests.post(f"{shop.product.url}/webhooks", data=body, headers=headers, timeout=5).status_code
        == 200
    )
    until(lambda: shop.inbox("failed") == 1)
