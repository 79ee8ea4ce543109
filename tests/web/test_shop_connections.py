"""`unwind shop` and Shopify: tokens of custom apps, what needs the merchant, keys that are rotated."""

from __future__ import annotations

import secrets
from collections.abc import Iterator
from datetime import UTC, datetime, timedelta
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.settings import Settings
from tasks.gateway.oauth import Grant
from tasks.steps import installations, shops
from tasks.steps.identifiers import Hashers
from tasks.steps.vault import Vault
from tests.pretend import PretendShopify, pretend_shopify
from tests.steps.token_server import key
from tests.terminal import Unwind

NOW = datetime.now(UTC)
KEYS = f"{key('b')},{key('a')}"


@pytest.fixture
def shopify() -> Iterator[PretendShopify]:
    with pretend_shopify() as here:
        yield here


@pytest.fixture
def environment(shopify: PretendShopify, environment: dict[str, str]) -> dict[str, str]:
    """Beside the pretend Shopify."""
    return {**environment, "token_encryption_keys": key("a"), **shopify.settings()}


def token_file(folder: Path, token: str) -> str:
    file = folder / "token"
    file.write_text(token + "\n")
    return str(file)


def stored(engine: Engine, domain: str) -> dict[str, Any]:
    query = text("select i.* from installations i join shops s on s.id = i.shop_id where s.domain = :domain")
    with engine.begin() as connection:
        row = connection.execute(query, {"domain": domain}).one_or_none()
        return {} if row is None else dict(row._mapping)


def listed(unwind: Unwind, domain: str) -> dict[str, Any]:
    return next(row for row in unwind("shop", "list", "--json").json if row["domain"] == domain)


def connect(engine: Engine, domain: str = "", keys: str = key("a")) -> str:
    """A shop whose merchant consented, as `unwind` would find it."""
    domain = domain or f"shop-{secrets.token_hex(6)}.myshopify.com"
    ours = Settings(token_encryption_keys=keys)  # type: ignore[arg-type]
    grant = Grant(
        "shpat_1", ours.shopify_scopes, NOW + timedelta(hours=1), "shprt_1", NOW + timedelta(days=90)
    )
    with engine.begin() as connection:
        installations.record_grant(connection, ours, domain, grant, NOW)
    return domain


# ---- tokens of custom apps


def test_a_custom_apps_token_is_tried_and_kept_encrypted(
    unwind: Unwind, shopify: PretendShopify, engine: Engine, tmp_path: Path
):
    token = shopify.token_for(expiring=False)
    told = unwind("shop", "add", shopify.domain, "--access-token-file", token_file(tmp_path, token))
    assert (told.status, told.out) == (0, f"{shopify.domain} is registered and connected\n")
    row = stored(engine, shopify.domain)
    assert (row["state"], row["access_expires_at"], row["refresh_token"]) == ("active", None, None)
    assert Vault([key("a").encode()]).open(row["shop_id"], "access", row["access_token"]) == token
    assert token not in told.out + told.err and token.encode() not in bytes(row["access_token"])
    assert listed(unwind, shopify.domain)["connected"] is True


def test_a_token_comes_from_standard_input_too(unwind: Unwind, shopify: PretendShopify, engine: Engine):
    token = shopify.token_for(expiring=False)
    told = unwind("shop", "add", shopify.domain, "--access-token-file", "-", "--json", stdin=token)
    assert told.status == 0 and told.json["connected"] is True and told.json["scopes_missing"] == []
    assert stored(engine, shopify.domain)["state"] == "active"


def test_a_tokens_missing_scopes_are_named(unwind: Unwind, shopify: PretendShopify, engine: Engine):
    token = shopify.token_for(expiring=False, scopes=["read_orders"])
    told = unwind("shop", "add", shopify.domain, "--access-token-file", "-", stdin=token)
    assert told.status == 0 and "scopes missing: read_all_orders" in told.out
    shown = listed(unwind, shopify.domain)
    assert (shown["connected"], shown["reason"]) == (True, "scopes_missing")
    assert "needs its merchant: scopes missing" in unwind("shop", "list").out


def test_a_token_that_shopify_does_not_take_is_not_kept(
    unwind: Unwind, shopify: PretendShopify, engine: Engine
):
    wrong = f"shpat_{secrets.token_hex(16)}"
    told = unwind("shop", "add", shopify.domain, "--access-token-file", "-", stdin=wrong)
    assert told.status == 2 and f"is not taken by {shopify.domain}" in told.err
    assert wrong not in told.out + told.err
    assert stored(engine, shopify.domain) == {} and shopify.domain not in unwind("shop", "list").out


@pytest.mark.parametrize(
    "content", ["", "short", "two words of a token", "shpat_line1\nshpat_line2", "shpat_é" * 5, "x" * 600]
)
def test_what_is_no_token_is_not_sent_anywhere(unwind: Unwind, shopify: PretendShopify, content: str):
    told = unwind("shop", "add", shopify.domain, "--access-token-file", "-", stdin=content)
    assert told.status == 2 and "holds no access token" in told.err
    assert not content or content not in told.err
    assert not shopify.calls()


def test_without_a_key_to_keep_it_under_a_token_is_not_tried(unwind: Unwind, shopify: PretendShopify):
    token = shopify.token_for(expiring=False)
    told = unwind(
        "shop", "add", shopify.domain, "--access-token-file", "-", stdin=token, TOKEN_ENCRYPTION_KEYS=""
    )
    assert told.status == 2 and "TOKEN_ENCRYPTION_KEYS" in told.err and "openssl" in told.err
    assert not shopify.calls()


def test_a_shopify_that_is_away_is_one_line(unwind: Unwind, shopify: PretendShopify, engine: Engine):
    token = shopify.token_for(expiring=False)
    base = "http://127.0.0.1:9/{shop}"  # nobody listens there
    told = unwind(
        "shop", "add", shopify.domain, "--access-token-file", "-", stdin=token, SHOPIFY_BASE_URL=base
    )
    assert told.status == 1 and told.err.count("unwind:") == 1 and token not in told.out + told.err
    assert stored(engine, shopify.domain) == {}


# ---- what is shown


@pytest.mark.parametrize(
    ("reason", "connected", "words"),
    [
        (None, True, "connected"),
        ("token_revoked", False, "needs its merchant: token revoked"),
        ("refresh_token_expired", False, "needs its merchant: refresh token expired"),
        ("scopes_missing", True, "needs its merchant: scopes missing"),
    ],
    ids=str,
)
def test_what_needs_the_merchant_is_said_in_the_list(
    unwind: Unwind, engine: Engine, reason: str | None, connected: bool, words: str
):
    domain = connect(engine)
    with engine.begin() as connection:
        if reason is not None:
            installations.needs_merchant(connection, shops.get(connection, domain).id, reason)
    shown = listed(unwind, domain)
    assert (shown["connected"], shown["reason"]) == (connected, reason)
    assert any(domain in line and words in line for line in unwind("shop", "list").out.splitlines())


def test_a_store_added_by_hand_is_not_connected(unwind: Unwind, engine: Engine):
    domain = f"shop-{secrets.token_hex(6)}.myshopify.com"
    unwind("shop", "add", domain)
    assert (listed(unwind, domain)["connected"], listed(unwind, domain)["reason"]) == (False, "not_connected")


def test_what_is_wrong_with_the_subscriptions_is_said_in_the_list(unwind: Unwind, engine: Engine):
    domain = connect(engine)
    with engine.begin() as connection:
        connection.execute(
            text("update installations set subscriptions_error = :e where shop_id = :id"),
            {"e": "refunds/create: Address is taken", "id": shops.get(connection, domain).id},
        )
    assert listed(unwind, domain)["subscriptions_error"] == "refunds/create: Address is taken"
    assert "webhooks: refunds/create: Address is taken" in unwind("shop", "list").out


def test_a_list_shows_no_token_not_even_encrypted(unwind: Unwind, engine: Engine):
    domain = connect(engine)
    told = unwind("shop", "list", "--json")
    assert not {"access_token", "refresh_token"} & set(listed(unwind, domain))
    assert "shpat" not in told.out and "gAAAA" not in told.out


def test_a_removed_store_has_no_token(unwind: Unwind, engine: Engine):
    domain = connect(engine)
    assert unwind("shop", "remove", domain).status == 0
    row = stored(engine, domain)
    assert (row["state"], row["access_token"], row["refresh_token"]) == ("uninstalled", None, None)
    assert (listed(unwind, domain)["state"], listed(unwind, domain)["reason"]) == ("removed", "uninstalled")


# ---- keys


def test_after_a_rotation_the_old_key_can_go(unwind: Unwind, engine: Engine):
    domain = connect(engine)
    told = unwind("shop", "rotate-keys", TOKEN_ENCRYPTION_KEYS=KEYS)
    assert told.status == 0 and "the other keys can be removed" in told.out
    row = stored(engine, domain)
    alone = Vault([key("b").encode()])
    assert alone.open(row["shop_id"], "access", row["access_token"]) == "shpat_1"
    assert alone.open(row["shop_id"], "refresh", row["refresh_token"]) == "shprt_1"
    assert unwind("shop", "rotate-keys", "--json").json["unreadable"] == []


def test_a_rotation_covers_what_customers_are_known_by(unwind: Unwind, engine: Engine):
    """R35: also of a store that has no token; its customers are known as before once the old key is gone."""
    domain = "known-customers.myshopify.com"
    with engine.begin() as connection:
        shops.add(connection, domain)
    before = Hashers(engine, [key("a").encode()]).of(domain)
    assert unwind("shop", "rotate-keys", TOKEN_ENCRYPTION_KEYS=KEYS).status == 0
    after = Hashers(engine, [key("b").encode()]).of(domain)
    assert before is not None and after is not None
    assert before.digest("EMAIL", "ada@shop.example") == after.digest("EMAIL", "ada@shop.example")


def test_a_token_that_no_key_decrypts_is_said_in_the_list(unwind: Unwind, engine: Engine):
    domain = connect(engine, keys=key("c"))
    assert (listed(unwind, domain)["connected"], listed(unwind, domain)["reason"]) == (
        False,
        "token_unreadable",
    )
    assert "TOKEN_ENCRYPTION_KEYS" in unwind("shop", "list").out
    unwind("shop", "remove", domain)


def test_a_rotation_names_the_stores_whose_key_is_gone_and_does_the_others(unwind: Unwind, engine: Engine):
    fine, lost = connect(engine, keys=KEYS), connect(engine, keys=key("c"))
    told = unwind("shop", "rotate-keys", "--json", TOKEN_ENCRYPTION_KEYS=KEYS)
    assert told.status == 1 and told.json["unreadable"] == [lost] and told.json["encrypted"] >= 1
    assert fine not in told.out
    unwind("shop", "remove", lost)
