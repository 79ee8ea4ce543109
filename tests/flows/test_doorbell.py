"""Many webhooks, few messages, none lost: the bell between the receiver and the worker."""

from __future__ import annotations

import socket
import threading
import time

import pytest
import redis
from sqlalchemy import text

from tasks.runtime import client_url, make_broker_client
from tasks.steps import bell
from tasks.steps.work import process, work_off
from worker.doorbell import CIRCUIT_SECONDS, Doorbell, Ring, Ringer, make_doorbell


class Batch:
    """What a drain may answer."""

    def __init__(self, done=0, failed=0, later=0, left=0, outcomes=()):
        self.done, self.failed, self.later, self.left = done, failed, later, left
        self.outcomes = list(outcomes)
        self.lines = []


@pytest.fixture
def broker(redis_url):
    with make_broker_client(redis_url) as client:
        yield client


def ring_of(domain, n=1, topic="refunds/create"):
    return Ring(domain, topic, n, b'{"id": 7001, "order_id": 42, "refund_line_items": []}')


def test_a_message_names_its_task_and_shows_ids_only(broker):
    sent = []
    Doorbell(broker, lambda *message: sent.append(message)).ring([ring_of("a.myshopify.com", 5)])
    assert sent == [
        (
            "refunds.process",
            {
                "shop": "a.myshopify.com",
                "topic": "refunds/create",
                "order_id": 42,
                "refund_id": 7001,
                "event_id": 5,
            },
        )
    ]


def test_a_bell_that_rings_is_not_rung_again_until_it_is_answered(broker):
    sent = []
    doorbell = Doorbell(broker, lambda *message: sent.append(message))
    assert [doorbell.ring([ring_of("a.myshopify.com", n)]) for n in range(50)] == [1] + [0] * 49
    bell.answer(broker, "a.myshopify.com")
    assert doorbell.ring([ring_of("a.myshopify.com")]) == 1
    assert len(sent) == 2


def test_each_shop_has_a_bell_of_its_own(broker):
    sent = []
    doorbell = Doorbell(broker, lambda task, arguments: sent.append(arguments["shop"]))
    assert doorbell.ring([ring_of(f"{n % 3}.myshopify.com", n) for n in range(30)]) == 3
    assert sorted(sent) == ["0.myshopify.com", "1.myshopify.com", "2.myshopify.com"]


def test_a_refund_names_the_message_of_what_came_with_it(broker):
    sent = []
    doorbell = Doorbell(broker, lambda task, arguments: sent.append((task, arguments["event_id"])))
    topics = ("orders/updated", "refunds/create", "order_transactions/create")
    doorbell.ring([ring_of("a.myshopify.com", n, topic) for n, topic in enumerate(topics)])
    assert sent == [("refunds.process", 1)]


def test_a_forgotten_bell_fades(broker):
    assert bell.try_ring(broker, ["a.myshopify.com"])
    assert 0 < broker.pttl(bell.key_of("a.myshopify.com")) <= bell.LIFE_MILLISECONDS


def test_a_message_that_could_not_be_sent_leaves_the_bell_silent_and_the_broker_alone_for_a_while(broker):
    now = [0.0]
    tries = []

    def broken(task, arguments):
        tries.append(task)
        raise OSError("no route")

    doorbell = Doorbell(broker, broken, clock=lambda: now[0])
    assert doorbell.ring([ring_of("a.myshopify.com")]) == 0
    assert broker.get(bell.key_of("a.myshopify.com")) is None
    assert doorbell.ring([ring_of("a.myshopify.com")]) == 0 and len(tries) == 1
    now[0] += CIRCUIT_SECONDS
    assert doorbell.ring([ring_of("a.myshopify.com")]) == 0 and len(tries) == 2


def test_a_broker_that_is_frozen_costs_a_third_of_a_second_and_then_nothing():
    with socket.create_server(("127.0.0.1", 0)) as deaf:  # takes connections, answers nothing
        doorbell = make_doorbell(f"redis://127.0.0.1:{deaf.getsockname()[1]}/0")
        took = []
        for n in range(20):
            began = time.monotonic()
            assert doorbell.ring([ring_of("a.myshopify.com", n)]) == 0
            took.append(time.monotonic() - began)
    assert max(took) < 1.0
    assert sum(took[1:]) < 0.1


def test_a_real_message_reaches_the_queue_of_events(redis_url):
    assert make_doorbell(redis_url).ring([ring_of("a.myshopify.com")]) == 1
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("unwind:events") == 1


def test_the_ringer_rings_for_all_that_was_asked_before_it_ends(broker):
    sent = []
    ringer = Ringer(Doorbell(broker, lambda task, arguments: sent.append(arguments["shop"])))
    for n in range(40):
        ringer.ask([ring_of(f"{n}.myshopify.com")])
    ringer.close()
    assert sorted(sent) == sorted(f"{n}.myshopify.com" for n in range(40))


def test_celerys_name_of_a_unix_socket_is_understood_by_the_client():
    assert client_url("redis+socket:///a b/broker.sock?virtual_host=2") == "unix:///a b/broker.sock?db=2"
    assert client_url("redis://host:6379/1") == "redis://host:6379/1"


def test_work_goes_on_until_nothing_is_left():
    batches = iter([Batch(done=50, left=70), Batch(done=50, left=20), Batch(done=19, failed=1)])
    worked = work_off(lambda: next(batches))
    assert (worked.done, worked.failed, worked.unfinished) == (119, 1, False)


def test_what_others_hold_is_left_to_them():
    batches = iter([Batch(left=3)])
    assert not work_off(lambda: next(batches)).unfinished


def test_a_task_whose_time_is_up_rings_for_the_rest(broker):
    rung = []
    said = process(
        "a.myshopify.com",
        take=lambda: Batch(done=1, left=1, outcomes=["reversed 100"]),
        broker=broker,
        ring_again=lambda: rung.append(1),
        budget_seconds=0.0,
    )
    assert rung == [1]
    assert said == "1 done, to be continued: reversed 100"
    assert broker.get(bell.key_of("a.myshopify.com"))


@pytest.mark.parametrize(
    ("batch", "words"),
    [
        pytest.param(Batch(), "nothing was waiting", id="nothing"),
        pytest.param(Batch(done=2, outcomes=["kept", "kept"]), "2 done: 2 x kept", id="the same twice"),
        pytest.param(Batch(done=1, failed=1, later=1), "1 done, 1 failed, 1 later", id="of each"),
    ],
)
def test_a_task_says_in_words_what_came_of_it(broker, batch, words):
    assert process("a.myshopify.com", take=lambda: batch, broker=broker, ring_again=list) == words


def test_work_goes_on_without_a_broker_to_silence():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        port = gone.getsockname()[1]
    said = process(
        "a.myshopify.com",
        take=lambda: Batch(done=1),
        broker=make_broker_client(f"redis://127.0.0.1:{port}/0"),
        ring_again=list,
    )
    assert said == "1 done"


ROW = text("insert into inbox (shop_domain, topic, body) values (:domain, 'refunds/create', '{}')")
TAKE = text("""
update inbox set state = 'done' where id in
 (select id from inbox where shop_domain = :domain and state = 'pending' order by id limit 50 for update skip locked)
""")
LEFT = text("select count(*) from inbox where shop_domain = :domain and state = 'pending'")


class Race:
    """Senders that commit a row and ring, against one answerer; `early` silences before it claims, as tasks do."""

    def __init__(self, engine, broker, domain, *, early):
        self.engine, self.broker, self.domain, self.early = engine, broker, domain, early
        self.messages = threading.Semaphore(0)
        self.sent = 0
        self.doorbell = Doorbell(broker, self.send)

    def send(self, task, arguments):
        self.sent += 1
        self.messages.release()

    def deliver(self, rows):
        for _ in range(rows):
            with self.engine.begin() as connection:
                connection.execute(ROW, {"domain": self.domain})
            self.doorbell.ring([ring_of(self.domain)])

    def take(self, between=lambda: None):
        with self.engine.begin() as connection:
            done = connection.execute(TAKE, {"domain": self.domain}).rowcount
        left = self.left()
        between()
        return Batch(done=done, left=left)

    def answer(self, between=lambda: None):
        if self.early:
            process(self.domain, take=lambda: self.take(between), broker=self.broker, ring_again=list)
        else:
            self.take(between)
            bell.answer(self.broker, self.domain)

    def left(self):
        with self.engine.connect() as connection:
            return connection.execute(LEFT, {"domain": self.domain}).scalar_one()


@pytest.mark.parametrize(
    ("early", "rings_again"), [pytest.param(True, True, id="before"), pytest.param(False, False, id="after")]
)
def test_what_comes_right_after_a_claim_rings_again_only_if_the_bell_was_silenced_before_it(
    engine, broker, shop, early, rings_again
):
    race = Race(engine, broker, shop.domain, early=early)
    race.deliver(1)
    race.answer(between=lambda: race.deliver(1))
    assert race.sent == 1 + rings_again
    assert race.left() == 1


def test_many_senders_need_few_messages_and_nothing_stays_behind(engine, broker, shop):
    race = Race(engine, broker, shop.domain, early=True)
    senders = [threading.Thread(target=race.deliver, args=(60,)) for _ in range(4)]
    for sender in senders:
        sender.start()
    while any(sender.is_alive() for sender in senders) or race.messages._value:
        if race.messages.acquire(timeout=0.05):
            race.answer()
            time.sleep(0.01)  # a worker that has other shops too
    assert race.left() == 0
    assert race.sent < 240 / 2
