"""Logins without Shopify are begun and ended at the server's own terminal."""

from __future__ import annotations

from datetime import UTC, datetime

from sqlalchemy import Engine

from tasks.steps import admin_logins
from tests.conftest import RegisteredShop
from tests.terminal import Unwind


def test_all_logins_of_a_shop_are_ended_by_a_command(
    unwind: Unwind, engine: Engine, shop: RegisteredShop
) -> None:
    address = unwind("admin", "link", shop.domain, "--address", "https://unwind.example", "--json").json[
        "address"
    ]
    path, _, link = address.partition("?token=")
    assert path == "https://unwind.example/admin/login"
    now = datetime.now(UTC)
    with engine.begin() as connection:
        login = admin_logins.redeem(connection, link, now)
        assert login is not None and admin_logins.visitor(connection, login, now)
        unopened = admin_logins.make_link(connection, shop.domain, now)
    assert unwind("admin", "logout", shop.domain).status == 0
    with engine.begin() as connection:
        assert admin_logins.visitor(connection, login, now) is None
        assert admin_logins.redeem(connection, unopened, now) is None


def test_logging_out_of_a_store_that_is_not_there_says_so(unwind: Unwind) -> None:
    assert unwind("admin", "logout", "nobody.myshopify.com").status == 1
