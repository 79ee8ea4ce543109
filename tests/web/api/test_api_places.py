"""Calls that wait hold few of the receiver's threads: webhooks need the others, and Shopify waits five seconds."""

from __future__ import annotations

import time
from collections.abc import Callable, Iterator
from concurrent.futures import Future, ThreadPoolExecutor
from contextlib import contextmanager

import pytest
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text
from werkzeug.test import TestResponse

from app.api.activity import EXPORT_MAX_ROWS
from app.api.places import Busy, Places, Shares
from app.web import create_app
from models.settings import Settings
from tests.web.api.conftest import Caller

GRANT = {"amount": 5, "reason": "x"}
THREADS = 8  # so five calls at once, four of one shop; one export


@pytest.fixture(scope="module")
def app(database_url: str, redis_server: str) -> Iterator[Flask]:
    """A receiver of few threads."""
    app = create_app(
        Settings(
            database_url=database_url,
            redis_url=redis_server,
            shopify_api_secret=(SecretStr("a secret of the tests"),),
            receiver_threads=THREADS,
        )
    )
    yield app
    app.extensions["unwind"].close()


@contextmanager
def locked(engine: Engine, table: str) -> Iterator[None]:
    """Nobody reads the table meanwhile."""
    with engine.begin() as connection:
        connection.execute(text(f"lock table {table} in access exclusive mode"))
        yield


def hanging(engine: Engine, count: int) -> None:
    """Wait until so many calls wait for a lock of the table."""
    waiting = text("select count(*) from pg_locks where not granted and relation = 'activity'::regclass")
    deadline = time.monotonic() + 20
    with engine.connect().execution_options(isolation_level="AUTOCOMMIT") as connection:
        while connection.execute(waiting).scalar_one() < count:
            assert time.monotonic() < deadline, "the calls never came to the lock"
            time.sleep(0.02)


def calling(
    app: Flask, api: Caller, pool: ThreadPoolExecutor, how: Callable[[Caller], TestResponse]
) -> Future[TestResponse]:
    own = Caller(app.test_client(), api.domain, api.shop_id, api.token)
    return pool.submit(how, own)


def busy(response: TestResponse) -> bool:
    if response.status_code != 503:
        return False
    assert response.get_json()["error"]["code"] == "busy"
    assert response.headers["Retry-After"] == "1"
    return True


def test_calls_that_hang_leave_threads_to_others_and_the_next_is_told_to_come_again(
    app: Flask, engine: Engine, api: Caller, other: Caller
) -> None:
    def listing(caller: Caller) -> TestResponse:
        return caller.get("/activity")

    with ThreadPoolExecutor(THREADS) as pool:
        with locked(engine, "activity"):
            waiting = [calling(app, api, pool, listing) for _ in range(4)]
            hanging(engine, 4)
            assert busy(api.get("/activity")), "a shop has not all of them"
            waiting.append(calling(app, other, pool, listing))
            hanging(engine, 5)
            began = time.monotonic()
            assert busy(other.get("/program"))
            assert app.test_client().get("/healthz").status_code == 200
            hook = app.test_client().post("/webhooks", data=b"{}", headers={"X-Shopify-Topic": "orders/paid"})
            assert hook.status_code == 401
            assert time.monotonic() - began < 2
        assert [each.result().status_code for each in waiting] == [200] * 5
    assert api.get("/activity").status_code == 200


def test_a_shop_makes_one_export_at_a_time(app: Flask, engine: Engine, api: Caller) -> None:
    """R39: all of it takes long, and one moment of the books is held for so long."""

    def export(caller: Caller) -> TestResponse:
        response = caller.get("/activity", accept="text/csv")
        response.get_data()
        return response

    with ThreadPoolExecutor(1) as pool:
        with locked(engine, "activity"):
            first = calling(app, api, pool, export)
            hanging(engine, 1)
            assert busy(export(api))
            assert api.get("/program").status_code == 200
        assert first.result().status_code == 200
    assert export(api).status_code == 200


def test_an_export_that_nobody_reads_keeps_its_place_until_it_is_given_up(
    app: Flask, engine: Engine, api: Caller
) -> None:
    """R39: it goes out from the call's thread at the reader's pace, which may be none at all."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into activity (shop_id, kind, cause, target, at, detail) select :shop, 'tier.pinned', 'x' || n, 'tier',"
                " now(), '{}' from generate_series(1, 2000) n"
            ),
            {"shop": api.shop_id},
        )
    headers = {"Authorization": f"Bearer {api.token}", "Accept": "text/csv"}
    unread = app.test_client().get("/api/v1/activity", headers=headers)
    assert unread.status_code == 200
    assert busy(api.get("/activity", accept="text/csv"))
    assert api.get("/activity").status_code == 200
    unread.close()
    whole = api.get("/activity", accept="text/csv")
    assert len(whole.get_data(as_text=True).splitlines()) == 2001
    last = api.get("/activity", accept="text/csv")
    assert last.status_code == 200, "one that was read to its end is over"
    last.close()


def test_an_export_has_so_many_rows_and_no_more(app: Flask, engine: Engine, api: Caller) -> None:
    """R39: a larger one is for the terminal, or for several calls."""
    with engine.begin() as connection:
        connection.execute(
            text(
                "insert into activity (shop_id, kind, cause, target, at, detail) select :shop, 'tier.pinned', 'x' || n, 'tier',"
                " now(), '{}' from generate_series(1, :rows) n"
            ),
            {"shop": api.shop_id, "rows": EXPORT_MAX_ROWS + 1},
        )
    refused = api.get("/activity", accept="text/csv")
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (422, "too_many_rows")
    narrow = api.get("/activity?kind=points.granted", accept="text/csv")
    assert narrow.status_code == 200
    narrow.close()
    assert len(api.get("/activity").get_json()["data"]) == 50


def test_a_call_that_was_told_to_come_again_is_not_kept_under_its_key(
    app: Flask, engine: Engine, api: Caller
) -> None:
    def listing(caller: Caller) -> TestResponse:
        return caller.get("/activity")

    with ThreadPoolExecutor(4) as pool:
        with locked(engine, "activity"):
            waiting = [calling(app, api, pool, listing) for _ in range(4)]
            hanging(engine, 4)
            assert busy(api.post("/customers/7001/grants", GRANT, key="again"))
        assert {each.result().status_code for each in waiting} == {200}
    assert api.post("/customers/7001/grants", GRANT, key="again").status_code == 201


def test_places_are_given_back_whatever_happened() -> None:
    places = Places(2, 1)
    for _ in range(3):
        with pytest.raises(ZeroDivisionError), places.one(1):
            raise ZeroDivisionError
    with places.one(1), places.one(2), pytest.raises(Busy), places.one(3):
        pass
    with places.one(1), pytest.raises(Busy), places.one(1):
        pass


@pytest.mark.parametrize("threads", [1, 2, 8, 32, 256])
def test_there_is_always_a_place_and_installs_and_calls_never_have_all_threads(threads: int) -> None:
    shares = Shares(threads)
    with shares.calls.one(0), shares.shops.one(1), shares.waiting.one(1), shares.exports.one(1):
        pass
    assert threads < 8 or threads * 5 // 8 + threads // 4 < threads
