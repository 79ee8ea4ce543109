"""The sender signs, repeats, delays and tries again as Shopify does: seen from a real receiver."""

import base64
import hashlib
import hmac
import threading
import time
from collections import Counter
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask import Flask, request

from app.sandbox.sender import RETRY_AFTER_SECONDS, WELL_BEHAVED, Habits, Report, Sender, headers
from app.sandbox.server import served
from app.sandbox.store import Delivery
from app.sandbox.world import World

SECRET = "hush"
SHOP = "lamps.myshopify.com"


class Listener:
    """Keeps what arrives. The first `refuse` attempts of each webhook id are answered 503."""

    def __init__(self, refuse: int = 0) -> None:
        self.seen: list[tuple[dict[str, str], bytes]] = []
        self.refuse = refuse
        self.attempts: Counter[str] = Counter()
        self.lock = threading.Lock()
        self.app = Flask("listener")
        self.app.add_url_rule("/webhooks", view_func=self.take, methods=["POST"])

    def take(self) -> tuple[str, int]:
        with self.lock:
            self.seen.append(({name.lower(): value for name, value in request.headers}, request.get_data()))
            id = self.id_of(self.seen[-1][0])
            self.attempts[id] += 1
            return "", 503 if self.attempts[id] <= self.refuse else 200

    @staticmethod
    def id_of(sent: dict[str, str]) -> str:
        return sent.get("x-shopify-webhook-id") or sent["shopify-webhook-id"]


def deliveries(orders: int = 4) -> list[Delivery]:
    world = World(domain=SHOP, seed=3, orders=orders, refunds=orders)
    now = datetime.now(UTC) - timedelta(hours=1)
    return world.place(now) + world.unwind(now + timedelta(seconds=30))


@pytest.fixture
def listener() -> Iterator[tuple[Listener, str]]:
    listener = Listener()
    with served(listener.app) as url:
        yield listener, f"{url}/webhooks"


def test_every_delivery_is_signed_over_its_raw_body_and_carries_shopifys_headers(
    listener: tuple[Listener, str],
) -> None:
    heard, url = listener
    sent = deliveries()
    report = Sender(url, SECRET, SHOP, 1, habits=WELL_BEHAVED).send_all(sent)
    assert report.all_accepted
    assert Counter(body for _, body in heard.seen) == Counter(d.body for d in sent)
    by_id = {d.webhook_id: d for d in sent}
    for got, body in heard.seen:
        digest = base64.b64encode(hmac.new(SECRET.encode(), body, hashlib.sha256).digest()).decode()
        delivery = by_id[got["x-shopify-webhook-id"]]
        assert got["x-shopify-hmac-sha256"] == digest
        assert got["x-shopify-topic"] == delivery.topic
        assert got["x-shopify-shop-domain"] == SHOP
        assert got["x-shopify-event-id"] == delivery.event_id
        assert got["x-shopify-api-version"] == "2026-07"
        assert got["x-shopify-triggered-at"].startswith(f"{delivery.triggered_at:%Y-%m-%dT%H:%M:%S}.")
        assert got["content-type"] == "application/json"


def test_the_newer_header_family_says_the_same_without_the_x() -> None:
    delivery = deliveries(1)[0]
    older = headers(delivery, shop=SHOP, secret=SECRET)
    newer = headers(delivery, shop=SHOP, secret=SECRET, newer=True)
    assert {name.lower().removeprefix("x-"): value for name, value in older.items()} == {
        name.lower(): value for name, value in newer.items()
    }
    assert not any(name.lower().startswith("x-") for name in newer)


def test_a_share_is_repeated_and_a_share_comes_again_under_a_new_id(listener: tuple[Listener, str]) -> None:
    heard, url = listener
    sent = deliveries()
    habits = Habits(repeated=0.5, renamed=0.2, late=0.3, late_seconds=0.3, jitter_seconds=0.05)
    report = Sender(url, SECRET, SHOP, 1, habits=habits).send_all(sent)
    ids = Counter(heard.id_of(got) for got, _ in heard.seen)
    assert report.all_accepted
    assert len(heard.seen) == report.sendings == report.deliveries + report.repeats + report.renamed
    assert set(ids) == report.webhook_ids
    assert sum(times - 1 for times in ids.values()) == report.repeats > 0
    assert len(ids) - len(sent) == report.renamed > 0
    assert {body for _, body in heard.seen} == {d.body for d in sent}


def test_deliveries_arrive_out_of_order(listener: tuple[Listener, str]) -> None:
    heard, url = listener
    sent = deliveries()
    habits = Habits(repeated=0, renamed=0, late=0.5, late_seconds=0.4, jitter_seconds=0.05)
    Sender(url, SECRET, SHOP, 1, habits=habits).send_all(sent)
    assert [body for _, body in heard.seen] != [d.body for d in sent]


def test_the_same_seed_misbehaves_in_the_same_way() -> None:
    sent = deliveries()
    plans = [Sender("http://nowhere", SECRET, SHOP, 5).plan(sent, start=1000.0) for _ in range(2)]
    other = Sender("http://nowhere", SECRET, SHOP, 6).plan(sent, start=1000.0)
    assert plans[0] == plans[1]
    assert [shot.due for shot in plans[0]] != [shot.due for shot in other]
    assert {shot.delivery.body for shot in plans[0]} == {d.body for d in sent}


def test_live_sendings_never_come_before_their_own_time() -> None:
    world = World(domain=SHOP, seed=3, orders=3, refunds=3)
    start = datetime.now(UTC) + timedelta(hours=2)
    shots = Sender("http://nowhere", SECRET, SHOP, 5).plan(world.place(start), start=time.time(), live=True)
    assert all(shot.due >= shot.delivery.triggered_at.timestamp() for shot in shots)


def test_what_is_refused_is_sent_again_with_the_original_bytes_and_id() -> None:
    heard = Listener(refuse=3)
    with served(heard.app) as url:
        sender = Sender(f"{url}/webhooks", SECRET, SHOP, 1, habits=hurried())
        sent = deliveries(1)
        report = sender.send_all(sent)
    assert report.all_accepted
    assert report.retries == 3 * len(sent)
    assert report.answers == {503: 3 * len(sent), 200: len(sent)}
    assert Counter(body for _, body in heard.seen) == Counter({d.body: 4 * n for d, n in counted(sent)})


def counted(sent: list[Delivery]) -> list[tuple[Delivery, int]]:
    times = Counter(d.body for d in sent)
    return [(d, times[d.body]) for d in {d.body: d for d in sent}.values()]


def hurried() -> Habits:
    return Habits(repeated=0, renamed=0, late=0, jitter_seconds=0, newer_headers=0, hurry=0.00001)


def test_after_eight_retries_a_delivery_is_given_up_and_said_so() -> None:
    heard = Listener(refuse=10_000)
    with served(heard.app) as url:
        sent = deliveries(1)[:2]
        report = Sender(f"{url}/webhooks", SECRET, SHOP, 1, habits=hurried()).send_all(sent)
    assert not report.all_accepted
    assert sorted(report.given_up) == sorted(d.webhook_id for d in sent)
    assert set(heard.attempts.values()) == {1 + len(RETRY_AFTER_SECONDS)} == {9}


def test_a_receiver_that_is_not_there_is_tried_again_and_then_given_up() -> None:
    with served(Flask("gone")) as url:
        pass
    report = Sender(f"{url}/webhooks", SECRET, SHOP, 1, habits=hurried()).send_all(deliveries(1)[:1])
    assert report.unreachable == 9
    assert len(report.given_up) == 1


def test_a_redirect_is_not_an_answer() -> None:
    app = Flask("elsewhere")
    app.add_url_rule("/webhooks", view_func=lambda: ("", 302, {"Location": "/"}), methods=["POST"])
    with served(app) as url:
        report = Sender(f"{url}/webhooks", SECRET, SHOP, 1, habits=hurried()).send_all(deliveries(1)[:1])
    assert report.answers == {302: 9}
    assert not report.all_accepted


def test_progress_is_told_after_each_attempt(listener: tuple[Listener, str]) -> None:
    told: list[int] = []

    def progress(report: Report) -> None:
        told.append(report.answered)

    sent = deliveries(1)
    Sender(listener[1], SECRET, SHOP, 1, habits=WELL_BEHAVED).send_all(sent, progress)
    assert told == list(range(1, len(sent) + 1))


def test_nothing_to_send_is_done_at_once() -> None:
    report = Sender("http://nowhere", SECRET, SHOP, 1).send_all([])
    assert report.all_accepted
    assert report.sendings == 0
