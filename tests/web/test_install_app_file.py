"""shopify.app.toml says what the server says: the same scopes, version, addresses, and every topic that it works on."""

from __future__ import annotations

import re
import tomllib
from collections.abc import Iterator
from pathlib import Path
from typing import Any

import pytest

from app import receiver
from models.settings import Settings
from tasks.steps.subscriptions import TOPICS
from worker.topics import KEPT, TASK_OF_TOPIC

FILE = Path(__file__).parents[2] / "shopify.app.toml"
COMPLIANCE = {"customers/data_request", "customers/redact", "shop/redact"}  # Shopify takes these apart
DISPUTES = {"disputes/create", "disputes/update"}
RETURNS = {
    f"returns/{act}"
    for act in ["request", "approve", "decline", "update", "process", "cancel", "close", "reopen"]
}


@pytest.fixture
def settings(monkeypatch: pytest.MonkeyPatch) -> Settings:
    """The defaults, whatever this machine's environment says."""
    for name in Settings.model_fields:
        monkeypatch.delenv(name.upper(), raising=False)
    return Settings()


def read(text: str) -> dict[str, Any]:
    return tomllib.loads(text)


def subscribed(file: dict[str, Any], kind: str) -> Iterator[str]:
    for subscription in file["webhooks"]["subscriptions"]:
        assert subscription["uri"] == receiver.PATH
        assert set(subscription) <= {
            "uri",
            "topics",
            "compliance_topics",
        }  # nothing filtered, nothing left out
        yield from subscription.get(kind, [])


def test_it_asks_for_the_scopes_and_the_version_that_the_server_works_with(settings: Settings) -> None:
    file = read(FILE.read_text())
    assert tuple(file["access_scopes"]["scopes"].split(",")) == settings.shopify_scopes
    assert file["webhooks"]["api_version"] == settings.shopify_api_version


def test_its_addresses_are_the_servers(settings: Settings) -> None:
    file = read(FILE.read_text())
    assert file["embedded"] is True
    assert file["auth"]["redirect_urls"] == [f"{file['application_url']}/auth/callback"]


def test_it_subscribes_to_every_topic_that_something_is_done_for() -> None:
    file = read(FILE.read_text())
    topics = list(subscribed(file, "topics"))
    assert len(topics) == len(set(topics))
    assert set(topics) == set(TASK_OF_TOPIC) - COMPLIANCE - DISPUTES | RETURNS
    assert all(topic.startswith(KEPT) for topic in RETURNS)
    assert set(subscribed(file, "compliance_topics")) == COMPLIANCE


def test_with_its_last_lines_it_subscribes_to_disputes_as_well() -> None:
    whole = re.sub(r"^# (\[\[|uri|topics)", r"\1", FILE.read_text(), flags=re.MULTILINE)
    assert set(subscribed(read(whole), "topics")) == set(TASK_OF_TOPIC) - COMPLIANCE | RETURNS


def test_no_topic_of_it_needs_a_scope_that_it_does_not_ask_for(settings: Settings) -> None:
    for topic in subscribed(read(FILE.read_text()), "topics"):
        needed = TOPICS.get(topic, ())
        assert not needed or set(needed) & set(settings.shopify_scopes), topic


def test_what_a_server_subscribes_to_by_itself_is_in_it_too() -> None:
    assert set(TOPICS) - DISPUTES <= set(subscribed(read(FILE.read_text()), "topics"))


def test_what_a_store_fills_in_stands_out() -> None:
    placeholders = re.findall(r"YOUR_[A-Z_]+", FILE.read_text())
    assert set(placeholders) == {"YOUR_CLIENT_ID", "YOUR_SERVER"}
