"""Webhooks out from the terminal, and in the figures."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from redis import Redis
from sqlalchemy import Engine, text

from tasks.gateway.counts import DELIVERIES, Counts
from tasks.steps import deliveries
from tests.conftest import RegisteredShop
from tests.flows.listening import KEY_OF_CHILDREN, Answer, Listener, Telling, listening
from tests.rules.build import day, order, refund
from tests.terminal import Unwind
from tests.web.test_ops import figures


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def environment(environment: dict[str, str]) -> dict[str, str]:
    """With a key for secrets, and endpoints on this machine allowed."""
    more = {"token_encryption_keys": KEY_OF_CHILDREN.decode(), "endpoints_allow_networks": "127.0.0.0/8"}
    return {**environment, **more}


def test_an_endpoint_is_added_tested_paused_enabled_and_removed(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, listener: Listener
) -> None:
    telling = Telling(engine, shop, key=KEY_OF_CHILDREN)
    made = unwind("endpoints", "add", shop.domain, listener.url, "--event", "refunded", "--json")
    assert made.status == 0 and made.json["events"] == ["refunded"]
    listener.secret, id = made.json["secret"], made.json["id"]
    assert unwind("endpoints", "test", shop.domain, id).status == 0
    telling.deliver()
    assert [(each.event, each.verified) for each in listener.heard] == [("ping", True)]
    assert unwind("endpoints", "pause", shop.domain, id, "--json").json["state"] == "paused"
    telling.tell(order(10_000), refund(51, 2_000, at=day(2)))
    assert telling.deliver() == "nothing was due"
    listed = unwind("endpoints", "list", shop.domain)
    assert "paused: by hand" in listed.out and listed.status == 0
    enabled = unwind("endpoints", "enable", shop.domain, id)
    assert "is active, 1 to be sent" in enabled.out
    telling.deliver(ahead=2.0)
    shown = unwind("endpoints", "deliveries", shop.domain, id, "--json").json["deliveries"]
    assert [(each["event"], each["state"]) for each in shown] == [
        ("refunded", "delivered"),
        ("ping", "delivered"),
    ]
    first = unwind("endpoints", "deliveries", shop.domain, id, "--limit", "1")
    assert f"older ones: --cursor {shown[0]['id']}" in first.out
    older = unwind("endpoints", "deliveries", shop.domain, id, "--cursor", shown[0]["id"], "--json").json
    assert (older["deliveries"], older["next_cursor"]) == (shown[1:], None)
    assert unwind("endpoints", "resend", shop.domain, shown[0]["id"], shown[1]["id"]).status == 0
    assert telling.deliver() == "2 delivered"
    assert "204" in unwind("endpoints", "deliveries", shop.domain, id, "--state", "delivered").out
    old = listener.secret
    new = unwind("endpoints", "rotate", shop.domain, id, "--json").json["secret"]
    assert new != old
    assert unwind("endpoints", "remove", shop.domain, id).status == 0
    assert unwind("endpoints", "list", shop.domain).out.strip() == "no endpoints"
    assert unwind("endpoints", "remove", shop.domain, id).status == 1


def test_an_endpoint_that_does_not_answer_any_more_is_found_at_the_terminal_and_in_the_figures(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, listener: Listener, client, redis_url: str
) -> None:
    telling = Telling(engine, shop, key=KEY_OF_CHILDREN)
    telling.listen(listener)
    telling.tell(order(10_000), refund(51, 2_000, at=day(2)))
    listener.always = Answer(410)
    with Redis.from_url(redis_url) as broker:
        counts = Counts(broker, DELIVERIES)
        deliveries.deliver(
            engine,
            telling.outgoing,
            telling.vault,
            shop.domain,
            count=lambda outcome: counts.count("try", outcome),
        )
    found = unwind("endpoints", "list", shop.domain)
    assert found.status == 1 and "paused: gone" in found.out
    seen = figures(client)
    assert seen['unwind_endpoints_paused{reason="gone"}'] == 1
    assert seen['unwind_deliveries_open{state="waiting"}'] == 2
    assert seen['unwind_deliveries_open{state="pending"}'] == 0
    assert seen['unwind_deliveries_total{outcome="failed"}'] >= 1


@pytest.mark.parametrize(
    ("url", "said"),
    [
        pytest.param("https://10.0.0.1/", "no public address", id="a private address"),
        pytest.param("http://192.0.9.9/", "https", id="not https"),
    ],
)
def test_an_address_that_may_not_be_called_is_wrong_usage(
    unwind: Unwind, shop: RegisteredShop, url: str, said: str
) -> None:
    refused = unwind("endpoints", "add", shop.domain, url)
    assert refused.status == 2 and said in refused.err


def test_keys_are_rotated_for_secrets_of_endpoints_too(
    unwind: Unwind, engine: Engine, shop: RegisteredShop, listener: Listener
) -> None:
    """The store has no token; its endpoint's secret is under the first key afterwards."""
    telling = Telling(engine, shop, key=KEY_OF_CHILDREN)
    telling.listen(listener)
    new = "bmV3IGtleSBvZiAzMiBieXRlcywgZm9yIHRlc3RzISE="
    with engine.connect() as connection:
        before = connection.execute(
            text("select secret from endpoints where shop_id = :id"), {"id": shop.id}
        ).scalar_one()
    rotated = unwind("shop", "rotate-keys", TOKEN_ENCRYPTION_KEYS=f"{new},{KEY_OF_CHILDREN.decode()}")
    assert rotated.status == 0
    with engine.connect() as connection:
        after = connection.execute(
            text("select secret from endpoints where shop_id = :id"), {"id": shop.id}
        ).scalar_one()
    assert bytes(before) != bytes(after)
    assert Telling(engine, shop, key=new.encode()).vault.open(shop.id, "endpoint", after) == listener.secret
