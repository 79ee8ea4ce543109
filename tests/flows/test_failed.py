"""`unwind failed`: what could not be processed is shown with its reason, tried again, or left for good."""

from __future__ import annotations

import json

import pytest
import redis
from sqlalchemy import text

from app.cli import run

PARK = text("""
insert into inbox (shop_domain, topic, body, state, attempts, error_code, error)
values (:domain, 'refunds/create', :body, 'failed', 8, 'unparseable', 'id: is missing') returning id
""")


@pytest.fixture
def unwind(database_url, redis_url, tmp_path, monkeypatch, capfdbinary):
    """Run a command: unwind("failed", "list") -> (status, what it printed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)

    def unwind(*arguments):
        status = run([str(argument) for argument in arguments])
        return status, capfdbinary.readouterr().out

    return unwind


@pytest.fixture
def park(engine, shop):
    def park(body=b'{"email": "ann@example.com"}'):
        with engine.begin() as connection:
            return connection.execute(PARK, {"domain": shop.domain, "body": body}).scalar_one()

    return park


def states(engine, shop):
    query = text("select state, attempts from inbox where shop_domain = :d order by id")
    with engine.connect() as connection:
        return [tuple(row) for row in connection.execute(query, {"d": shop.domain})]


def test_the_list_says_why_and_never_what_was_in_it(unwind, park, shop):
    id = park()
    status, out = unwind("failed", "list", shop.domain)
    assert status == 0
    for part in (str(id), shop.domain, "refunds/create", "unparseable: id: is missing"):
        assert part.encode() in out
    assert b"ann@" not in out


def test_the_list_goes_on_from_a_cursor(unwind, park, shop):
    ids = [str(park()) for _ in range(3)]
    first = json.loads(unwind("failed", "list", shop.domain, "--limit", 2, "--json")[1])
    second = json.loads(unwind("failed", "list", shop.domain, "--cursor", first["next_cursor"], "--json")[1])
    assert [event["id"] for event in first["events"] + second["events"]] == ids[::-1]
    assert second["next_cursor"] is None


def test_nothing_parked_is_said_so(unwind, shop):
    assert unwind("failed", "list", shop.domain) == (0, b"nothing is parked\n")


def test_an_event_is_shown_without_its_body_unless_asked(unwind, park):
    id = park(b'{"email": "ann@example.com"}\x00\xff')
    status, out = unwind("failed", "show", id)
    assert status == 0 and b"unparseable" in out and b"ann@" not in out
    assert unwind("failed", "show", id, "--body") == (0, b'{"email": "ann@example.com"}\x00\xff')


def test_another_try_puts_events_back_and_rings(unwind, park, engine, shop, redis_url):
    ids = [park(), park()]
    assert unwind("failed", "retry", *ids) == (0, b"2 to be tried again\n")
    assert states(engine, shop) == [("pending", 0), ("pending", 0)]
    with redis.Redis.from_url(redis_url) as client:
        assert client.llen("unwind:events") == 1


def test_all_of_a_shop_can_be_tried_again_at_once(unwind, park, engine, shop):
    for _ in range(3):
        park()
    assert unwind("failed", "retry", "--all", "--shop", shop.domain) == (0, b"3 to be tried again\n")
    assert states(engine, shop) == [("pending", 0)] * 3


def test_a_discarded_event_stays_in_the_record(unwind, park, engine, shop):
    assert unwind("failed", "discard", park()) == (0, b"1 discarded\n")
    assert states(engine, shop) == [("discarded", 8)]


def test_one_that_is_not_parked_stops_the_command_before_anything_is_changed(unwind, park, engine, shop):
    id = park()
    assert unwind("failed", "retry", id, 999_999_999)[0] == 1
    assert states(engine, shop) == [("failed", 8)]


@pytest.mark.parametrize("arguments", [(), ("1", "--all")], ids=["none named", "named and all"])
def test_it_must_be_said_which_events_are_meant(unwind, arguments):
    assert unwind("failed", "retry", *arguments)[0] == 2
