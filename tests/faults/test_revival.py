"""The embedded database dies while a statement runs: the statement's process lives on, and a start is refused meanwhile."""

from __future__ import annotations

import threading
import time
from contextlib import suppress

import psycopg

from tests.faults.family import Setup, family

BUSY_FOR_SECONDS = (  # with its own thoughts: who waits for something is told that the server has died
    "do $$ begin while clock_timestamp() < statement_timestamp() + interval '3 seconds' loop end loop; end $$"
)


def test_a_database_that_cannot_start_yet_is_started_as_soon_as_it_can() -> None:
    def be_busy() -> None:
        with suppress(psycopg.OperationalError), psycopg.connect(here.dsn) as connection:
            connection.execute(BUSY_FOR_SECONDS)

    with family(Setup(scheduler=False)) as here:
        busy = threading.Thread(target=be_busy)
        busy.start()
        time.sleep(0.5)
        here.kill_database()
        assert here.wait(lambda: here.asked("select 1") == [1], 40)
        busy.join()
        assert here.said == [
            "the embedded PostgreSQL had ended, and cannot start yet",
            "the embedded PostgreSQL had ended; it runs again",
        ]
