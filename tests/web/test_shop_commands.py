"""`unwind shop`, `token`, `preview`, `verify` and `replay`: what they do, print and exit with."""

from __future__ import annotations

import re
import secrets
from pathlib import Path

import pytest
from sqlalchemy import Engine, text

from tasks.steps import shops, tokens
from tests.terminal import Unwind
from tests.web.api.conftest import Caller, Store


@pytest.fixture
def domain() -> str:
    return f"shop-{secrets.token_hex(6)}.myshopify.com"


@pytest.fixture
def ordered(engine: Engine, domain: str) -> str:
    """A shop whose order 450 of 100.00 earned 100, with 20.00 refunded."""
    with engine.begin() as connection:
        shop_id = shops.add(connection, domain)
    caller, store = Caller(None, domain, shop_id, ""), Store(engine)  # type: ignore[arg-type]
    store.place(caller, shop_id * 1000)
    store.refund(caller, shop_id * 1000, shop_id * 1000 + 1, 2_000)
    return str(shop_id * 1000)


def test_a_store_is_added_listed_and_removed(unwind: Unwind, domain: str) -> None:
    assert unwind("shop", "add", domain).status == 0
    assert domain in unwind("shop", "list").out
    assert unwind("shop", "remove", domain).status == 0
    states = {row["domain"]: row["state"] for row in unwind("shop", "list", "--json").json}
    assert states[domain] == "removed"
    assert unwind("shop", "remove", domain).status == 1


def test_adding_a_store_twice_is_adding_it_once(unwind: Unwind, domain: str) -> None:
    first = unwind("shop", "add", domain, "--json").json
    assert unwind("shop", "add", domain.upper(), "--json").json == first


def test_a_store_may_come_with_its_program(
    unwind: Unwind, domain: str, tmp_path: Path, engine: Engine
) -> None:
    file = tmp_path / "program.json"
    file.write_text('{"waiting_days": 14, "rewards": []}')
    assert unwind("shop", "add", domain, "--settings", str(file)).status == 0
    with engine.connect() as connection:
        query = text(
            "select p.settings from programs p join shops s on s.id = p.shop_id where s.domain = :domain"
        )
        assert connection.execute(query, {"domain": domain}).scalar_one()["waiting_days"] == 14


@pytest.mark.parametrize(
    ("content", "said"),
    [
        pytest.param("{", "is not JSON", id="not JSON"),
        pytest.param("[]", "program", id="a list"),
        pytest.param('{"waiting_dayz": 1}', "waiting_dayz", id="an unknown setting"),
        pytest.param('{"waiting_days": -1}', "waiting_days", id="an impossible one"),
    ],
)
def test_a_program_that_cannot_be_is_wrong_usage_and_adds_nothing(
    unwind: Unwind, domain: str, tmp_path: Path, content: str, said: str
) -> None:
    file = tmp_path / "program.json"
    file.write_text(content)
    told = unwind("shop", "add", domain, "--settings", str(file))
    assert told.status == 2 and said in told.err
    assert domain not in unwind("shop", "list").out


WRONG_DOMAINS = [
    "",
    "shop",
    "shop.example.com",
    "https://shop.myshopify.com",
    "shop.myshopify.com.example.com",
    "shop.myshopify.com/admin",
    "shop.myshopify.com\n.example.com",
    "-shop.myshopify.com",
    "sh op.myshopify.com",
    "a.b.myshopify.com",
    "x" * 80 + ".myshopify.com",
    "ѕhop.myshopify.com",
]


@pytest.mark.parametrize("wrong", WRONG_DOMAINS)
@pytest.mark.parametrize(
    "command", [("shop", "add"), ("shop", "remove"), ("token", "create"), ("verify",), ("replay",)]
)
def test_what_is_no_shop_domain_is_wrong_usage(unwind: Unwind, command: tuple[str, ...], wrong: str) -> None:
    told = unwind(*command, "--", wrong)
    assert told.status == 2
    assert "myshopify.com" in told.err and told.out == ""


def test_a_token_is_printed_once_alone_and_opens_its_shop(
    unwind: Unwind, domain: str, engine: Engine
) -> None:
    unwind("shop", "add", domain)
    told = unwind("token", "create", domain, "--name", "till")
    assert told.status == 0 and re.fullmatch(r"unwind_[A-Za-z0-9_-]{43}\n", told.out)
    with engine.connect() as connection:
        caller = tokens.find(connection, told.out.strip())
        stored = connection.execute(text("select row_to_json(t)::text from api_tokens t")).scalars().all()
    assert caller is not None and caller.domain == domain
    assert all(told.out.strip() not in row for row in stored)


def test_a_token_of_a_store_that_is_not_there_is_not_made(unwind: Unwind, domain: str) -> None:
    told = unwind("token", "create", domain)
    assert (told.status, told.out) == (1, "") and domain in told.err


@pytest.mark.parametrize("name", ["x" * 101, "two\nlines"])
def test_a_token_has_a_short_printable_name(unwind: Unwind, domain: str, name: str) -> None:
    unwind("shop", "add", domain)
    assert unwind("token", "create", domain, "--name", name).status == 2


def test_a_preview_in_words_and_as_json(unwind: Unwind, domain: str, ordered: str) -> None:
    words = unwind("preview", ordered, "--amount", "30.00")
    assert words.status == 0 and "place-order" in words.out and "30.00 EUR" in words.out
    assert unwind("preview", ordered, "--amount", "30.00", "--json").json["reversed"] == 30
    assert unwind("preview", ordered, "--lines", f"{ordered}0=1", "--json").json["reversed"] == 50
    rest = unwind("preview", ordered, "--shop", domain, "--json").json
    assert (rest["reversed"], rest["status_after"]) == (80, "fully_refunded")


@pytest.mark.parametrize(
    "wrong",
    [
        ("--amount", "20.00", "--lines", "1=1"),
        ("--amount", "-5"),
        ("--amount", "much"),
        ("--lines", "1"),
        ("--lines", "1="),
        ("--lines", "1=x"),
        ("--lines", "x=1"),
        ("--lines", "1=1,1=2"),
        ("--lines", "1=0"),
    ],
    ids=" ".join,
)
def test_a_preview_of_what_cannot_be_is_wrong_usage(
    unwind: Unwind, ordered: str, wrong: tuple[str, ...]
) -> None:
    assert unwind("preview", ordered, *wrong).status == 2


def test_a_preview_of_an_order_that_is_not_there_says_so(unwind: Unwind) -> None:
    told = unwind("preview", "999999999999")
    assert told.status == 1 and "no order" in told.err
    assert unwind("preview", "abc").status == 2


def test_books_that_agree_are_verified_with_status_0(unwind: Unwind, domain: str, ordered: str) -> None:
    told = unwind("verify", domain)
    assert (told.status, told.out) == (0, "everything agrees\n")
    assert unwind("verify", domain, "--json").json == {"differences": []}


def test_books_that_do_not_agree_are_shown_with_status_1(
    unwind: Unwind, domain: str, ordered: str, engine: Engine
) -> None:
    with engine.begin() as connection:
        wrong = "update customer_days d set spend_minor = spend_minor + 1 from shops s where s.id = d.shop_id and s.domain = :d"
        connection.execute(text(wrong), {"d": domain})
    told = unwind("verify", domain)
    assert told.status == 1 and "7001" in told.out
    assert unwind("verify", domain, "--json").json["differences"]


def test_a_replay_of_what_stands_changes_nothing(unwind: Unwind, domain: str, ordered: str) -> None:
    told = unwind("replay", domain, "--json")
    assert told.status == 0 and told.json[0]["changed"] == 0
    assert unwind("replay", domain, "--since", "2026-01-31").status == 0


@pytest.mark.parametrize("since", ["yesterday", "2026-13-01", ""])
def test_a_replay_since_no_time_is_wrong_usage(unwind: Unwind, domain: str, since: str) -> None:
    assert unwind("replay", domain, "--since", since).status == 2


@pytest.mark.parametrize("command", ["verify", "replay"])
def test_a_store_that_is_not_there_is_said_to_be_missing(unwind: Unwind, domain: str, command: str) -> None:
    told = unwind(command, domain)
    assert told.status == 1 and domain in told.err
