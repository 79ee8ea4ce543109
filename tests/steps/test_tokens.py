"""The access token of a shop, in time: one refresh for all who need it, and nobody ever gets another shop's."""

from __future__ import annotations

import os
import secrets
import subprocess
import sys
import threading
import time
import traceback
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from datetime import UTC, datetime
from pathlib import Path
from typing import Any, NamedTuple

import pytest
import structlog
from sqlalchemy import Engine, text

from models.errors import (
    DatabaseBusy,
    InvalidSetting,
    InvariantBroken,
    NeedsMerchant,
    ShopifyRefused,
    ShopifyThrottled,
    ShopifyUnreachable,
)
from models.settings import Settings
from tasks.gateway import oauth
from tasks.gateway.tokens import GivenToken, StoredTokens
from tasks.steps import installations, shops
from tasks.steps.load import ShopRow
from tests.conftest import register
from tests.steps.token_server import OLD_SECRET, SECRET, TokenServer, key, post_form, token_server

CHILD = Path(__file__).with_name("token_child.py")
ROOT = Path(__file__).parents[2]
PATIENCE_SECONDS = 25.0  # less than a statement may take


class Installed(NamedTuple):
    """A connected shop, the tokens as a worker has them, and what stands in its row."""

    shop: ShopRow
    tokens: StoredTokens
    engine: Engine
    settings: Settings

    def row(self) -> dict[str, Any]:
        with self.engine.begin() as connection:
            query = text("select * from installations where shop_id = :id")
            return dict(connection.execute(query, {"id": self.shop.id}).one()._mapping)

    def change(self, **values: Any) -> None:
        sets = ", ".join(f"{name} = :{name}" for name in values)
        with self.engine.begin() as connection:
            connection.execute(
                text(f"update installations set {sets} where shop_id = :id"), {"id": self.shop.id, **values}
            )

    def ends_in(self, seconds: float) -> None:
        """The access token has that long to live, as far as we know."""
        self.sql("access_expires_at = now() + :seconds * interval '1 second'", seconds=seconds)

    def got_ago(self, days: int) -> None:
        self.sql("obtained_at = now() - :days * interval '1 day', refreshed_at = null", days=days)

    def sql(self, sets: str, **values: Any) -> None:
        with self.engine.begin() as connection:
            connection.execute(
                text(f"update installations set {sets} where shop_id = :id"), {"id": self.shop.id, **values}
            )


@pytest.fixture
def server() -> Iterator[TokenServer]:
    with token_server() as here:
        yield here


def install(engine: Engine, server: TokenServer, **changes: Any) -> Installed:
    """A shop whose merchant consented."""
    domain, settings = register(engine).domain, server.settings(**changes)
    grant = oauth.exchange_code(post_form, settings, domain, "a-code")
    with engine.begin() as connection:
        shop_id = installations.record_grant(connection, settings, domain, grant, datetime.now(UTC))
        shop = shops.by_id(connection, shop_id)
    return Installed(shop, StoredTokens(engine, settings, post_form), engine, settings)


@pytest.fixture
def installed(engine: Engine, server: TokenServer) -> Installed:
    return install(engine, server)


# ---- what is asked of Shopify, and what its answers mean


def test_an_exchange_asks_for_a_token_that_expires_and_tells_when(server: TokenServer):
    grant = oauth.exchange_code(post_form, server.settings(), "a-shop.myshopify.com", "a-code")
    assert grant.expires_at is not None and grant.refresh_expires_at is not None
    assert 3500 < (grant.expires_at - datetime.now(UTC)).total_seconds() <= 3600
    assert (grant.refresh_expires_at - grant.expires_at).days == 89
    assert "write_discounts" in grant.scopes


def test_a_session_token_is_exchanged_too(server: TokenServer):
    grant = oauth.exchange_session_token(post_form, server.settings(), "a-shop.myshopify.com", "a.b.c")
    assert server.whose[grant.access_token] == "a-shop.myshopify.com"


def test_a_grant_shows_no_token(server: TokenServer):
    grant = oauth.exchange_code(post_form, server.settings(), "a-shop.myshopify.com", "a-code")
    assert grant.access_token not in repr(grant) and str(grant.refresh_token) not in repr(grant)


@pytest.mark.parametrize(
    ("status", "body", "expected"),
    [
        pytest.param(400, {"error": "invalid_grant"}, ShopifyRefused, id="refused"),
        pytest.param(401, {"error": "invalid_grant"}, ShopifyRefused, id="refused, 401"),
        pytest.param(400, {"error": "invalid_request"}, ShopifyRefused, id="a used code"),
        pytest.param(
            400,
            {
                "error": "invalid_request",
                "error_description": "Could not find Shopify API application with api_key x",
            },
            InvalidSetting,
            id="our key is unknown",
        ),
        pytest.param(401, {"error": "invalid_client"}, InvalidSetting, id="our secret is unknown"),
        pytest.param(429, {}, ShopifyThrottled, id="too many calls"),
        pytest.param(500, "<html>", ShopifyUnreachable, id="its own trouble"),
        pytest.param(502, "", ShopifyUnreachable, id="a gateway before it"),
        pytest.param(403, "<html>blocked</html>", ShopifyUnreachable, id="a wall before it"),
        pytest.param(404, {"errors": "Not Found"}, ShopifyUnreachable, id="not found"),
        pytest.param(402, {"error": "payment_required"}, ShopifyUnreachable, id="a frozen shop"),
        pytest.param(423, {"error": "locked"}, ShopifyUnreachable, id="a locked shop"),
        pytest.param(400, {"error": {"a": 1}}, ShopifyUnreachable, id="an error without a name"),
        pytest.param(400, [1], ShopifyUnreachable, id="a list"),
        pytest.param(200, "<html>", ShopifyUnreachable, id="a page"),
        pytest.param(200, {}, ShopifyUnreachable, id="no token"),
        pytest.param(200, {"access_token": ""}, ShopifyUnreachable, id="an empty token"),
        pytest.param(200, {"access_token": 5}, ShopifyUnreachable, id="a number for a token"),
        pytest.param(
            200, {"access_token": "a\r\nX-Evil: 1"}, ShopifyUnreachable, id="a token with a line break"
        ),
        pytest.param(
            200, {"access_token": "a", "expires_in": 3600}, ShopifyUnreachable, id="no refresh token"
        ),
        pytest.param(
            200,
            {"access_token": "a", "expires_in": -5, "refresh_token": "b", "refresh_token_expires_in": 9},
            ShopifyUnreachable,
            id="a life that ended",
        ),
        pytest.param(
            200,
            {"access_token": "a", "expires_in": "soon", "refresh_token": "b", "refresh_token_expires_in": 9},
            ShopifyUnreachable,
            id="a life in words",
        ),
    ],
)
def test_each_answer_means_one_thing(server: TokenServer, status: int, body: Any, expected: type[Exception]):
    server.troubles = [(status, body)] * 2
    with pytest.raises(expected):
        oauth.refresh(post_form, server.settings(), "a-shop.myshopify.com", "shprt_what_was_sent")


def test_an_error_never_quotes_what_was_sent(server: TokenServer):
    sent = f"shprt_{secrets.token_hex(16)}"
    with pytest.raises(ShopifyRefused) as told:
        oauth.refresh(post_form, server.settings(), "a-shop.myshopify.com", sent)
    shown = "".join(traceback.format_exception(told.value))
    assert sent not in shown and SECRET not in shown
    assert told.value.codes == {"invalid_grant"}


def test_while_secrets_are_rotated_each_is_tried_and_the_old_one_may_end(server: TokenServer):
    both = server.settings(shopify_api_secret=f"{SECRET},{OLD_SECRET}")
    for known in ({OLD_SECRET}, {SECRET, OLD_SECRET}, {SECRET}):
        server.secrets = known
        assert oauth.exchange_code(post_form, both, "a-shop.myshopify.com", "a-code").access_token
    server.secrets = {"another"}
    with pytest.raises(InvalidSetting, match="SHOPIFY_API_SECRET"):
        oauth.exchange_code(post_form, both, "a-shop.myshopify.com", "a-code")


@pytest.mark.parametrize("missing", [{"shopify_api_key": ""}, {"shopify_api_secret": ""}], ids=str)
def test_without_credentials_nothing_is_asked(server: TokenServer, missing: dict[str, str]):
    with pytest.raises(InvalidSetting, match="SHOPIFY_API_"):
        oauth.exchange_code(post_form, server.settings(**missing), "a-shop.myshopify.com", "a-code")
    assert not server.asked


@pytest.mark.parametrize(
    "domain", ["evil.com/x#.myshopify.com", "x.myshopify.com.evil.com", "", "a@b.myshopify.com"]
)
def test_no_secret_is_sent_to_what_is_no_shop(server: TokenServer, domain: str):
    with pytest.raises(InvalidSetting, match="domain"):
        oauth.exchange_code(post_form, server.settings(), domain, "a-code")
    assert not server.asked


# ---- reading and refreshing


def test_a_token_that_lives_is_used_as_it_is(installed: Installed, server: TokenServer):
    first = installed.tokens.token(installed.shop)
    installed.ends_in(90)
    assert installed.tokens.token(installed.shop) == first
    assert server.whose[first] == installed.shop.domain
    assert not server.refreshes


def test_a_token_that_ends_soon_is_refreshed_and_both_are_stored(installed: Installed, server: TokenServer):
    before, first = installed.row(), installed.tokens.token(installed.shop)
    installed.ends_in(50)
    second = installed.tokens.token(installed.shop)
    after = installed.row()
    assert second != first and server.refreshes[installed.shop.domain] == 1
    changed = ("access_token", "access_expires_at", "refresh_token", "refresh_expires_at", "refreshed_at")
    assert all(after[name] != before[name] for name in changed)
    assert installed.tokens.token(installed.shop) == second
    installed.ends_in(-5)
    assert installed.tokens.token(installed.shop) not in (first, second)


def test_a_token_that_does_not_expire_is_used_for_ever(engine: Engine, server: TokenServer):
    server.expiring = False
    lasting = install(engine, server)
    token = lasting.tokens.token(lasting.shop)
    lasting.got_ago(400)
    assert lasting.tokens.token(lasting.shop) == token
    assert lasting.tokens.renewed(lasting.shop, token) == token, "tried once more, for there is no other"
    assert lasting.tokens.kept_alive(lasting.shop) == "nothing to do"
    assert lasting.row()["refresh_token"] is None and not server.refreshes


def test_many_threads_that_need_a_token_make_one_refresh(installed: Installed, server: TokenServer):
    installed.ends_in(-1)
    server.held.clear()
    ours = installed.engine, installed.settings, post_form
    others = [StoredTokens(*ours, lock_wait_seconds=60) for _ in range(6)]
    with ThreadPoolExecutor(6) as pool:
        asked = [pool.submit(tokens.token, installed.shop) for tokens in others]
        until_waiting(installed.engine, 5)  # and one is at the server, which holds its answer back
        server.held.set()
        got = {each.result(60) for each in asked}
    assert len(got) == 1 and server.refreshes[installed.shop.domain] == 1


def until_waiting(engine: Engine, count: int) -> None:
    """So many connections of this database wait for a lock."""
    query = text(
        "select count(*) from pg_stat_activity where datname = current_database() and wait_event_type = 'Lock'"
    )
    end = time.monotonic() + PATIENCE_SECONDS
    while time.monotonic() < end:
        with engine.begin() as connection:
            if connection.execute(query).scalar_one() >= count:
                return
        time.sleep(0.02)
    raise AssertionError("nobody waits")


def child(installed: Installed, database_url: str, *hang: str) -> subprocess.Popen[str]:
    settings = installed.settings.model_copy(update={"database_url": database_url})
    environment = {**os.environ, **settings.environment(), "PYTHONPATH": str(ROOT)}
    arguments = [
        sys.executable,
        str(CHILD),
        database_url,
        str(installed.shop.id),
        installed.shop.domain,
        *hang,
    ]
    return subprocess.Popen(arguments, env=environment, stdout=subprocess.PIPE, text=True)


def test_many_processes_that_need_a_token_make_one_refresh(
    installed: Installed, server: TokenServer, database_url: str
):
    installed.ends_in(-1)
    server.held.clear()
    children = [child(installed, database_url) for _ in range(3)]
    until_waiting(installed.engine, 2)
    server.held.set()
    said = [each.communicate(timeout=60)[0].split() for each in children]
    assert len({words[-1] for words in said}) == 1
    assert server.refreshes[installed.shop.domain] == 1
    assert sum("answered" in words for words in said) == 1


def test_a_process_killed_between_the_answer_and_its_storing_costs_nothing(
    installed: Installed, server: TokenServer, database_url: str
):
    installed.ends_in(-1)
    before = installed.row()
    killed = child(installed, database_url, "hang")
    assert killed.stdout is not None and killed.stdout.readline() == "answered\n"
    killed.kill()
    killed.communicate(timeout=20)
    assert installed.row() == before, "nothing was stored"
    token = installed.tokens.token(installed.shop)
    assert server.whose[token] == installed.shop.domain
    assert server.refreshes[installed.shop.domain] == 2, "the just-used refresh token was taken again"
    installed.ends_in(-1)
    assert installed.tokens.token(installed.shop) != token, "and the chain goes on"


def test_an_error_after_the_answer_leaves_the_old_tokens_in_use(installed: Installed, server: TokenServer):
    installed.ends_in(-1)
    before = installed.row()

    def dies(url: str, fields: Any) -> Any:
        post_form(url, fields)
        raise KeyboardInterrupt

    with pytest.raises(KeyboardInterrupt):
        StoredTokens(installed.engine, installed.settings, dies).token(installed.shop)
    assert installed.row() == before
    assert server.whose[installed.tokens.token(installed.shop)] == installed.shop.domain


def test_trouble_at_shopify_is_tried_again_and_a_token_that_still_lives_is_used(
    installed: Installed, server: TokenServer
):
    first = installed.tokens.token(installed.shop)
    for trouble in ((503, "away"), (429, {})):
        installed.ends_in(30)
        server.troubles = [trouble]
        assert installed.tokens.token(installed.shop) == first
    installed.ends_in(-1)
    server.troubles = [(503, "away")]
    with pytest.raises(ShopifyUnreachable):
        installed.tokens.token(installed.shop)
    assert installed.row()["state"] == "active"
    assert installed.tokens.token(installed.shop) != first


def test_nobody_waits_for_anothers_refresh_while_the_token_lives(installed: Installed, server: TokenServer):
    first = installed.tokens.token(installed.shop)
    patient = StoredTokens(installed.engine, installed.settings, post_form, lock_wait_seconds=600)
    installed.ends_in(50)
    with ThreadPoolExecutor(1) as pool, installed.engine.begin() as connection:
        installations.locked(connection, installed.shop.id)  # somebody is at it
        assert pool.submit(patient.token, installed.shop).result(PATIENCE_SECONDS) == first
    assert installed.tokens.token(installed.shop) != first


def test_waiting_for_anothers_refresh_has_an_end(installed: Installed):
    hasty = StoredTokens(installed.engine, installed.settings, post_form, lock_wait_seconds=1)
    installed.ends_in(-1)
    with installed.engine.begin() as connection:
        installations.locked(connection, installed.shop.id)
        with pytest.raises(DatabaseBusy):
            hasty.token(installed.shop)


# ---- after a 401


def test_after_a_401_the_token_is_another(installed: Installed, server: TokenServer):
    first = installed.tokens.token(installed.shop)
    second = installed.tokens.renewed(installed.shop, first)
    assert second != first and server.refreshes[installed.shop.domain] == 1


def test_what_another_worker_renewed_meanwhile_is_used(installed: Installed, server: TokenServer):
    first = installed.tokens.token(installed.shop)
    second = installed.tokens.renewed(installed.shop, first)
    assert installed.tokens.renewed(installed.shop, first) == second
    assert installed.tokens.renewed(installed.shop) == second, "renewed just now"
    assert server.refreshes[installed.shop.domain] == 1


def test_a_call_under_way_keeps_its_token_through_anothers_refresh(installed: Installed, server: TokenServer):
    first = installed.tokens.token(installed.shop)
    installed.tokens.renewed(installed.shop, first)
    assert server.whose[first] == installed.shop.domain, "Shopify still takes it"


def test_a_second_401_is_the_merchants_to_mend(installed: Installed):
    token = installed.tokens.token(installed.shop)
    installed.tokens.revoked(installed.shop, token)
    assert (installed.row()["state"], installed.row()["reason"]) == ("needs_merchant", "token_revoked")
    with pytest.raises(NeedsMerchant, match="token_revoked"):
        installed.tokens.token(installed.shop)


def test_a_second_401_on_a_token_that_was_replaced_meanwhile_says_nothing(installed: Installed):
    first = installed.tokens.token(installed.shop)
    installed.tokens.renewed(installed.shop, first)
    installed.tokens.revoked(installed.shop, first)
    assert installed.row()["state"] == "active"


# ---- what needs the merchant


@pytest.mark.parametrize(
    ("lapsed", "reason"),
    [
        pytest.param("now() + interval '80 days'", "token_revoked", id="revoked before its time"),
        pytest.param("now() - interval '1 second'", "refresh_token_expired", id="lapsed"),
    ],
)
def test_a_refused_refresh_is_recorded_told_and_not_tried_again(
    installed: Installed, server: TokenServer, lapsed: str, reason: str
):
    installed.sql(f"access_expires_at = now(), refresh_expires_at = {lapsed}")
    server.end_refresh_tokens(installed.shop.domain)
    asked = server.asked[installed.shop.domain]
    with structlog.testing.capture_logs() as logs:
        for _ in range(3):
            with pytest.raises(NeedsMerchant, match=reason) as told:
                installed.tokens.token(installed.shop)
            assert (told.value.domain, told.value.reason) == (installed.shop.domain, reason)
    assert server.asked[installed.shop.domain] == asked + 1
    assert [log["reason"] for log in logs if log["event"] == "shop_needs_merchant"] == [reason]
    assert installed.row()["reason"] == reason
    with installed.engine.begin() as connection:
        assert not installations.is_connected(connection, installed.shop.id)


def test_a_wrong_secret_of_ours_is_not_put_on_the_merchant(installed: Installed, server: TokenServer):
    server.secrets = {"another"}
    installed.ends_in(-1)
    with pytest.raises(InvalidSetting, match="SHOPIFY_API_SECRET"):
        installed.tokens.token(installed.shop)
    assert installed.row()["state"] == "active"
    server.secrets = {SECRET}
    assert installed.tokens.token(installed.shop)


def test_an_old_secret_that_is_revoked_goes_unnoticed_when_the_new_one_is_there(
    engine: Engine, server: TokenServer
):
    server.secrets = {OLD_SECRET}
    old = install(engine, server, shopify_api_secret=OLD_SECRET)
    server.secrets = {SECRET}
    old.ends_in(-1)
    both = old.settings.model_copy(
        update={
            "shopify_api_secret": server.settings(
                shopify_api_secret=f"{OLD_SECRET},{SECRET}"
            ).shopify_api_secret
        }
    )
    assert StoredTokens(engine, both, post_form).token(old.shop)


def test_a_shop_that_was_never_connected_says_so(engine: Engine, server: TokenServer):
    shop = register(engine)
    with pytest.raises(NeedsMerchant, match="not_connected"):
        StoredTokens(engine, server.settings(), post_form).token(ShopRow(shop.id, shop.domain, None))


# ---- nobody gets another's


def test_tokens_of_shops_used_in_turn_and_at_once_never_mix(engine: Engine, server: TokenServer):
    stores = [install(engine, server) for _ in range(3)]
    shared = StoredTokens(engine, stores[0].settings, post_form)

    def use(turn: int) -> bool:
        store = stores[turn % 3]
        if turn % 5 == 0:
            store.ends_in(-1)
        token = shared.renewed(store.shop) if turn % 7 == 0 else shared.token(store.shop)
        return server.whose[token] == store.shop.domain

    with ThreadPoolExecutor(4) as pool:
        assert all(pool.map(use, range(60)))


def test_a_token_copied_into_another_shops_row_is_not_used(engine: Engine, server: TokenServer):
    one, other = install(engine, server), install(engine, server)
    other.change(access_token=one.row()["access_token"])
    with pytest.raises(InvariantBroken, match="another"):
        other.tokens.token(other.shop)
    other.ends_in(-1)
    other.change(refresh_token=one.row()["refresh_token"])
    with pytest.raises(InvariantBroken, match="another"):
        other.tokens.token(other.shop)


def test_a_given_token_serves_its_shop_only():
    given = GivenToken("a-shop.myshopify.com", "shpat_given")
    assert given.token(ShopRow(1, "a-shop.myshopify.com", None)) == "shpat_given"
    with pytest.raises(NeedsMerchant):
        given.token(ShopRow(2, "b-shop.myshopify.com", None))


# ---- keys


def test_keys_are_rotated_without_a_merchant(engine: Engine, server: TokenServer):
    store = install(engine, server)
    token = store.tokens.token(store.shop)
    both = server.settings(token_encryption_keys=f"{key('b')},{key('a')}")
    assert StoredTokens(engine, both, post_form).token(store.shop) == token
    with pytest.raises(InvalidSetting, match="TOKEN_ENCRYPTION_KEYS"):
        StoredTokens(engine, server.settings(token_encryption_keys=key("b")), post_form).token(store.shop)
    with engine.begin() as connection:
        assert installations.reseal(connection, both, store.shop.id) is True
    alone = server.settings(token_encryption_keys=key("b"))
    assert StoredTokens(engine, alone, post_form).token(store.shop) == token


# ---- kept alive


def test_a_refresh_token_is_kept_alive_when_it_is_old(installed: Installed, server: TokenServer):
    assert installed.tokens.kept_alive(installed.shop) == "nothing to do"
    installed.got_ago(31)
    assert installed.tokens.kept_alive(installed.shop) == "refreshed"
    assert installed.tokens.kept_alive(installed.shop) == "nothing to do"
    assert server.refreshes[installed.shop.domain] == 1


def test_what_was_refused_is_asked_once_more_a_day_and_heals_when_it_was_a_mistake(
    installed: Installed, server: TokenServer
):
    installed.ends_in(-1)
    server.troubles = [(400, {"error": "invalid_grant"})]
    with pytest.raises(NeedsMerchant):
        installed.tokens.token(installed.shop)
    assert installed.tokens.kept_alive(installed.shop) == "refreshed"
    assert installed.row()["state"] == "active" and installed.tokens.token(installed.shop)


# ---- nowhere in the clear


def test_no_token_is_in_the_database_the_logs_or_a_representation(
    engine: Engine, server: TokenServer, capsys: pytest.CaptureFixture[str]
):
    store = install(engine, server)
    store.tokens.token(store.shop)
    store.ends_in(-1)
    store.tokens.token(store.shop)
    server.end_refresh_tokens(store.shop.domain)
    store.ends_in(-1)
    seen = server.all_tokens()
    with structlog.testing.capture_logs() as logs, pytest.raises(NeedsMerchant) as told:
        store.tokens.token(store.shop)
    with engine.begin() as connection:
        tables = connection.execute(
            text("select table_name from information_schema.tables where table_schema = 'public'")
        ).scalars()
        rows = [str(connection.execute(text(f'select t::text from "{name}" t')).all()) for name in tables]
        raw = connection.execute(text("select access_token, refresh_token from installations")).all()
    shown = "".join(
        [
            *rows,
            repr(raw),
            repr(logs),
            *traceback.format_exception(told.value),
            *capsys.readouterr(),
            repr(vars(store.tokens)),
        ]
    )
    assert seen and not [token for token in seen if token in shown]
    assert SECRET not in shown and not any("shpat" in str(thread) for thread in threading.enumerate())
