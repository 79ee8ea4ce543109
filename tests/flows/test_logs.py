"""What a log line says, and what it never does."""

from __future__ import annotations

import json
import logging
import subprocess
import sys

import pytest
import structlog
from pytest_httpserver import HTTPServer
from sqlalchemy import Engine, text
from sqlalchemy.exc import DBAPIError

from models.settings import Settings
from worker.logs import formatter, is_news


def line_of(settings, message="", error=None, **more):
    info = (type(error), error, error.__traceback__) if error else None
    record = logging.LogRecord("tasks.refunds", logging.ERROR, "file.py", 1, message, (), info)
    for name, value in more.items():
        setattr(record, name, value)
    return formatter(settings).format(record)


def failing():
    private = "ann@example.com"
    try:
        raise ValueError("no such lot")
    except ValueError as error:
        assert private
        return error


@pytest.fixture(autouse=True)
def nothing_bound():
    structlog.contextvars.clear_contextvars()
    yield
    structlog.contextvars.clear_contextvars()


def test_a_line_is_json_with_time_level_and_logger():
    found = json.loads(line_of(Settings(), "worked off"))
    assert (found["event"], found["level"], found["logger"]) == ("worked off", "error", "tasks.refunds")
    assert found["timestamp"].endswith("Z")


def test_a_task_s_line_names_its_shop_and_ids():
    structlog.contextvars.bind_contextvars(shop="a.myshopify.com", order_id=42)
    found = json.loads(line_of(Settings(), "worked off"))
    assert (found["shop"], found["order_id"]) == ("a.myshopify.com", 42)


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_error_is_shown_with_its_place_and_without_its_variables(format):
    shown = line_of(Settings(log_format=format), "failed", error=failing())
    assert "no such lot" in shown and "test_logs.py" in shown
    assert "ann@example.com" not in shown


@pytest.mark.parametrize("format", ["json", "console"])
def test_an_error_of_the_database_is_shown_without_what_the_statement_was_given(
    engine: Engine, format: str
) -> None:
    statement, given = text("select 1 / length(left(:whom, 0))"), {"whom": "ann@example.com"}
    with pytest.raises(DBAPIError) as raised, engine.connect() as connection:
        connection.execute(statement, given)
    shown = line_of(Settings(log_format=format), "failed", error=raised.value)
    assert "division by zero" in shown and "select 1 / length" in shown
    assert "ann@example.com" not in shown


def test_not_even_in_detail_is_the_address_of_a_download_told(httpserver: HTTPServer) -> None:
    """A bulk result's address is signed: whoever has it can read the file."""
    httpserver.expect_request("/result").respond_with_data("{}\n")
    asks = (
        "import sys; from models.settings import Settings; from worker.logs import configure;"
        " from tasks.gateway.client import Connections;"
        " ours = Settings(log_level='DEBUG', shopify_base_url=sys.argv[1]); configure(ours);"
        " print(list(Connections(ours).download(sys.argv[1] + '/result?Signature=secret')))"
    )
    done = subprocess.run(
        [sys.executable, "-c", asks, httpserver.url_for("")], capture_output=True, text=True, check=True
    )
    assert "{}" in done.stdout and "secret" not in done.stderr


def test_tasks_that_tick_are_not_news_but_their_troubles_are() -> None:
    def record(level: int, name: str) -> logging.LogRecord:
        return logging.LogRecord("celery.app.trace", level, "", 0, "Task %s succeeded", (name,), None)

    assert is_news(record(logging.INFO, "refunds.process[1]"))
    assert not is_news(record(logging.INFO, "sweeps.ring[1]"))
    assert is_news(record(logging.ERROR, "sweeps.ring[1]"))
