"""`unwind reconcile` against a pretend Shopify over HTTP: what it prints, exits with, and leaves in the figures."""

from __future__ import annotations

import base64
import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta

import pytest
from flask.testing import FlaskClient
from sqlalchemy import Engine, text

from tasks.steps import shops
from tasks.steps.drain import drain
from tests.pretend import PretendShopify, pretend_shopify
from tests.terminal import Unwind

KEY = base64.urlsafe_b64encode(secrets.token_bytes(32)).decode()


@pytest.fixture
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify() as found:
        found.front().bucket.restored = 10**6
        yield found


@pytest.fixture
def environment(shopify: PretendShopify, environment: dict[str, str]) -> dict[str, str]:
    return shopify.settings(**environment, token_encryption_keys=KEY)


@pytest.fixture
def connected(shopify: PretendShopify, engine: Engine) -> str:
    """A store that was added yesterday and gave us its tokens."""
    id = shopify.connect(engine, key=KEY)
    with engine.begin() as connection:
        yesterday = {"at": datetime.now(UTC) - timedelta(days=1), "id": id}
        connection.execute(
            text("update shops set installed_at = :at, earning_from = :at where id = :id"), yesterday
        )
    return shopify.domain


def bought(shopify: PretendShopify, *, ago: timedelta = timedelta(hours=1)) -> str:
    """The name of an order of 200.00, none of whose webhooks ever arrives."""
    at = datetime.now(UTC) - ago
    return shopify.buy(customer=shopify.customer(), at=at).name


def test_what_is_missing_is_told_by_the_orders_name_and_made_good(
    unwind: Unwind, shopify: PretendShopify, connected: str, engine: Engine
) -> None:
    name = bought(shopify)
    said = unwind("reconcile", connected)
    assert said.status == 1
    assert name in said.out and "missing" in said.out and "the order" in said.out
    assert "1 orders since" in said.out and "1 missing, 0 different, 1 repaired" in said.out
    with engine.connect() as connection:
        balance = connection.execute(
            text(
                "select sum(balance) from wallets w join shops s on s.id = w.shop_id where s.domain = :domain"
            ),
            {"domain": connected},
        ).scalar_one()
    assert balance == 200
    again = unwind("reconcile", connected)
    assert (again.status, again.out.splitlines()[0]) == (0, "everything agrees")


@pytest.mark.parametrize("how", [pytest.param([], id="page by page"), pytest.param(["--bulk"], id="in bulk")])
def test_programs_get_it_as_json(
    unwind: Unwind, shopify: PretendShopify, connected: str, how: list[str]
) -> None:
    name = bought(shopify)
    said = unwind("reconcile", connected, "--json", *how)
    assert said.status == 1
    (order,) = said.json["orders"]
    assert (order["name"], order["found"], order["what"], order["repaired"]) == (
        name,
        "missing",
        "the order",
        True,
    )
    assert {key: said.json[key] for key in ("missing", "different", "repaired", "orders_read")} == {
        "missing": 1,
        "different": 0,
        "repaired": 1,
        "orders_read": 1,
    }


def test_since_narrows_what_is_asked_for(unwind: Unwind, shopify: PretendShopify, connected: str) -> None:
    bought(shopify)
    at = (datetime.now(UTC) - timedelta(minutes=5)).isoformat()
    assert unwind("reconcile", connected, "--since", at, "--json").json["orders_read"] == 0


def test_orders_older_than_the_store_are_left_alone_unless_asked_for(
    unwind: Unwind, shopify: PretendShopify, connected: str
) -> None:
    bought(shopify, ago=timedelta(days=2))
    said = unwind("reconcile", connected)
    assert said.status == 0 and "1 paid before the store was added, left alone" in said.out
    assert unwind("reconcile", connected, "--history").status == 1


@pytest.mark.parametrize(
    ("arguments", "status", "says"),
    [
        pytest.param(["shop-of-nobody.myshopify.com"], 1, "no shop shop-of-nobody.myshopify.com", id="unknown store"),
        pytest.param(["evil.com/x"], 2, "is not like your-store.myshopify.com", id="no store's name"),
        pytest.param([], 2, "Missing argument", id="no store"),
        pytest.param(["a-store.myshopify.com", "--since", "soon"], 2, "is not a time", id="no time"),
    ],
)  # fmt: skip
def test_wrong_usage_is_one_line(unwind: Unwind, arguments: list[str], status: int, says: str) -> None:
    said = unwind("reconcile", *arguments)
    assert said.status == status and says in said.err and "Traceback" not in said.err


def test_a_store_that_gave_no_token_says_what_to_do(unwind: Unwind, engine: Engine) -> None:
    domain = f"store-{secrets.token_hex(6)}.myshopify.com"
    with engine.begin() as connection:
        shops.add(connection, domain)
    said = unwind("reconcile", domain)
    assert said.status == 1
    assert "is not connected to Shopify" in said.err and "--access-token-file" in said.err


def test_a_token_that_shopify_no_longer_takes_needs_the_merchant(
    unwind: Unwind, shopify: PretendShopify, connected: str
) -> None:
    shopify.front().access.uninstall()
    said = unwind("reconcile", connected)
    assert said.status == 1 and "its merchant has to open the app once" in said.err


def test_the_figures_tell_what_was_found(
    unwind: Unwind, shopify: PretendShopify, connected: str, client: FlaskClient, engine: Engine
) -> None:
    def figures() -> dict[str, float]:
        lines = [
            line for line in client.get("/metrics").text.splitlines() if line.startswith("unwind_reconcile")
        ]
        return {name: float(value) for name, _, value in (line.rpartition(" ") for line in lines)}

    bought(shopify)
    unwind("reconcile", connected)
    drain(engine, connected)
    told = figures()
    assert told['unwind_reconcile_runs{kind="asked",state="done"}'] >= 1
    assert told['unwind_reconcile_orders{found="missing"}'] >= 1
    assert told['unwind_reconcile_orders{found="repaired"}'] >= 1
    assert told["unwind_reconcile_behind_seconds"] >= 0
