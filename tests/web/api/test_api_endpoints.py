"""Endpoints over HTTP: made, shown, changed, tested, deleted; their secrets told once; their deliveries listed and sent again."""

from __future__ import annotations

from collections.abc import Iterator

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from pydantic import SecretStr
from sqlalchemy import Engine, text

from app.web import create_app
from models.settings import Settings
from tasks.gateway.outgoing import Outgoing, networks_of
from tasks.steps.deliveries import deliver
from tasks.steps.installations import forget
from tasks.steps.messages import EVENTS
from tasks.steps.vault import Vault
from tests.flows.listening import Listener, listening
from tests.web.api.conftest import Caller, Store

KEY = Fernet.generate_key()
PUBLIC = "https://192.0.9.9/hooks"  # an address that needs no name


@pytest.fixture(scope="module")
def app(database_url: str, redis_server: str) -> Iterator[Flask]:
    """With a key for secrets, and endpoints on this machine allowed."""
    settings = Settings(
        database_url=database_url,
        redis_url=redis_server,
        shopify_api_secret=(SecretStr("a secret of the tests"),),
        token_encryption_keys=(SecretStr(KEY.decode()),),
        endpoints_allow_networks=("127.0.0.0/8",),
    )
    app = create_app(settings)
    yield app
    app.extensions["unwind"].close()


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


def sent(engine: Engine, api: Caller) -> str:
    outgoing = Outgoing(networks_of(["127.0.0.0/8"]))
    return str(deliver(engine, outgoing, Vault([KEY]), api.domain))


def test_an_endpoint_is_made_and_its_secret_is_told_once(api: Caller, engine: Engine) -> None:
    asked = {"url": PUBLIC, "events": ["refunded", "cancelled"], "description": "our ERP"}
    made = api.post("/endpoints", asked, key="k-1")
    assert made.status_code == 201
    endpoint = made.get_json()
    assert endpoint["secret"].startswith("whsec_") and endpoint["events"] == ["refunded", "cancelled"]
    again = api.post("/endpoints", asked, key="k-1")
    assert again.status_code == 201 and again.headers["Idempotent-Replayed"] == "true"
    assert again.get_json() == {**endpoint, "secret": None}
    assert api.get("/endpoints").get_json()["data"] == [{k: v for k, v in endpoint.items() if k != "secret"}]
    with engine.connect() as connection:
        kept = connection.execute(
            text("select response ->> 'text' from idempotency_keys where shop_id = :id"), {"id": api.shop_id}
        )
        assert all(endpoint["secret"] not in row for row in kept.scalars())


@pytest.mark.parametrize(
    ("url", "word"),
    [
        pytest.param("http://192.0.9.9/hooks", "https", id="not https"),
        pytest.param("https://10.0.0.7/hooks", "no public address", id="a private network"),
        pytest.param(
            "https://169.254.169.254/latest/meta-data", "no public address", id="a cloud's metadata"
        ),
        pytest.param("https://[::ffff:10.0.0.7]/", "no public address", id="IPv4 within IPv6"),
        pytest.param("https://ann:pw@192.0.9.9/", "user", id="with a password"),
        pytest.param("https://192.0.9.9:25/", "port", id="a mail server's port"),
        pytest.param("ftp://192.0.9.9/", "https://", id="another protocol"),
        pytest.param("https://no-such-host.invalid/", "no public address", id="a name that nobody knows"),
    ],
)
def test_an_address_that_may_not_be_called_is_refused_with_the_reason(
    api: Caller, url: str, word: str
) -> None:
    refused = api.post("/endpoints", {"url": url})
    assert refused.status_code == 422
    error = refused.get_json()["error"]
    assert error["details"]["field"] == "url" and word in error["message"]


def test_an_unknown_event_is_refused_with_those_there_are(api: Caller) -> None:
    refused = api.post("/endpoints", {"url": PUBLIC, "events": ["refund"]})
    assert refused.status_code == 422
    assert all(name in refused.get_json()["error"]["message"] for name in EVENTS)


def test_a_delivery_is_listed_with_its_tries_and_sent_again(
    api: Caller, engine: Engine, store: Store, listener: Listener
) -> None:
    made = api.post("/endpoints", {"url": listener.url}).get_json()
    listener.secret = made["secret"]
    store.place(api, 5001)
    store.refund(api, 5001, 1, 2_000)
    assert sent(engine, api) == "2 delivered"
    path = f"/endpoints/{made['id']}/deliveries"
    first = api.get(f"{path}?limit=1").get_json()
    rest = api.get(f"{path}?limit=1&cursor={first['next_cursor']}").get_json()
    assert [page["data"][0]["event"] for page in (first, rest)] == ["points.reversed", "refunded"]
    assert rest["next_cursor"] is None and first["data"][0]["tries"][0]["status"] == 204
    again = api.post(f"/deliveries/{rest['data'][0]['id']}/resend")
    assert (again.status_code, again.get_json()["sends"]) == (200, 2)
    sent(engine, api)
    assert [each.verified for each in listener.heard] == [True, True, True]
    assert api.get(f"{path}?state=failed").get_json()["data"] == []


def test_an_uninstall_leaves_no_address_of_an_endpoint(api: Caller, engine: Engine) -> None:
    """Nor in the answers kept for repeated calls: such addresses often hold a key."""
    made = api.post("/endpoints", {"url": f"{PUBLIC}?key=hidden"}, key="k-1").get_json()
    api.call("PATCH", f"/endpoints/{made['id']}", {"description": "x"}, key="k-2")
    with engine.begin() as connection:
        found = text(
            "select count(*) from idempotency_keys where shop_id = :id and response::text like '%hidden%'"
        )
        assert connection.execute(found, {"id": api.shop_id}).scalar_one() == 2
        forget(connection, api.shop_id)
        assert connection.execute(found, {"id": api.shop_id}).scalar_one() == 0


def test_an_endpoint_is_changed_paused_tested_rotated_and_deleted(
    api: Caller, engine: Engine, listener: Listener
) -> None:
    made = api.post("/endpoints", {"url": listener.url, "events": ["tier.changed"]}).get_json()
    listener.secret = made["secret"]
    path = f"/endpoints/{made['id']}"
    changed = api.call("PATCH", path, {"events": ["*"], "description": "all", "state": "paused"}).get_json()
    assert (changed["events"], changed["description"], changed["state"]) == (["*"], "all", "paused")
    assert changed["paused_reason"] == "by_hand"
    paused = api.post(f"{path}/test")
    assert (paused.status_code, paused.get_json()["error"]["code"]) == (409, "endpoint_paused")
    assert api.call("PATCH", path, {"state": "active"}).get_json()["paused_reason"] is None
    rotated = api.post(f"{path}/rotate-secret", key="k-2").get_json()
    assert rotated["secret"] not in (None, made["secret"]) and rotated["old_secret_until"] is not None
    assert api.post(f"{path}/rotate-secret", key="k-2").get_json()["secret"] is None
    pinged = api.post(f"{path}/test").get_json()
    assert (pinged["event"], pinged["subject"]) == ("ping", f"endpoint:{made['id']}")
    sent(engine, api)
    assert [each.event for each in listener.heard if each.verified] == ["ping"]
    kinds = [entry["kind"] for entry in api.get("/activity").get_json()["data"]]
    assert {"endpoint.paused", "endpoint.enabled"} <= set(kinds)
    assert api.call("DELETE", path).get_json() == {"id": made["id"], "state": "deleted"}
    assert api.get(path).status_code == 404
    assert api.call("DELETE", path).status_code == 404


def test_another_shop_sees_nothing_of_it(api: Caller, other: Caller, engine: Engine) -> None:
    made = api.post("/endpoints", {"url": PUBLIC}).get_json()
    delivery = api.post(f"/endpoints/{made['id']}/test").get_json()
    for method, path in (
        ("GET", f"/endpoints/{made['id']}"),
        ("DELETE", f"/endpoints/{made['id']}"),
        ("POST", f"/endpoints/{made['id']}/test"),
        ("POST", f"/endpoints/{made['id']}/rotate-secret"),
        ("GET", f"/endpoints/{made['id']}/deliveries"),
        ("POST", f"/deliveries/{delivery['id']}/resend"),
    ):
        assert other.call(method, path).status_code == 404, path
    assert other.call("PATCH", f"/endpoints/{made['id']}", {"state": "paused"}).status_code == 404
    assert other.get("/endpoints").get_json()["data"] == []


def test_without_a_key_no_secret_can_be_kept(database_url: str, redis_server: str, api: Caller) -> None:
    app = create_app(
        Settings(
            database_url=database_url,
            redis_url=redis_server,
            shopify_api_secret=(SecretStr("a secret of the tests"),),
        )
    )
    keyless = Caller(app.test_client(), api.domain, api.shop_id, api.token)
    refused = keyless.post("/endpoints", {"url": PUBLIC})
    app.extensions["unwind"].close()
    assert (refused.status_code, refused.get_json()["error"]["code"]) == (409, "no_encryption_key")
