"""Addresses and telephone numbers: one form of each, kept as hashes, of whom was told last."""

from __future__ import annotations

from datetime import UTC, datetime, timedelta
from itertools import permutations
from typing import Any

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Connection, Engine, text

from models.errors import InvalidSetting
from tasks.steps import identifiers
from tasks.steps.identifiers import (
    TYPED_BY_ANYBODY,
    Hasher,
    Hashers,
    Named,
    named_in,
    normal_email,
    normal_phone,
    remember,
)
from tasks.steps.vault import Vault
from tests.conftest import RegisteredShop, register

THEN = datetime(2026, 3, 1, 12, tzinfo=UTC)
KEYS = (Fernet.generate_key(),)


@pytest.mark.parametrize(
    ("typed", "form"),
    [
        pytest.param("Ada@Shop.Example", "ada@shop.example", id="case"),
        pytest.param("  ada@shop.example\n", "ada@shop.example", id="blanks around it"),
        pytest.param("Ädå@shop.example", "ädå@shop.example", id="one Unicode form"),
        pytest.param("STRASSE@ß.example", "strasse@ss.example", id="folded, not only lowered"),
        pytest.param('"a@b"@shop.example', '"a@b"@shop.example', id="an at sign in quotes"),
        pytest.param("ada", None, id="no at sign"),
        pytest.param("@shop.example", None, id="nobody"),
        pytest.param("ada@", None, id="nowhere"),
        pytest.param("ada @shop.example", None, id="a blank in it"),
        pytest.param("a" * 400 + "@shop.example", None, id="longer than any"),
        pytest.param("", None, id="empty"),
        pytest.param(None, None, id="missing"),
        pytest.param(5, None, id="no text"),
    ],
)
def test_an_address_has_one_form(typed: object, form: str | None) -> None:
    """R35."""
    assert normal_email(typed) == form


@pytest.mark.parametrize(
    ("typed", "told", "asked"),
    [
        pytest.param("+49 (0)30 123456", None, None, id="a zero between country and number"),
        pytest.param("+49 30-123.456", "4930123456", "4930123456", id="as people write it"),
        pytest.param("0049 30 123456", "4930123456", "4930123456", id="00 for the plus"),
        pytest.param("+1 (613) 555-1111", "16135551111", "16135551111", id="brackets"),
        pytest.param("4930123456", None, "4930123456", id="without a plus: whole only if somebody says so"),
        pytest.param("030 123456", None, None, id="without its country"),
        pytest.param("+1234567890123456", None, None, id="more digits than there can be"),
        pytest.param("+12345", None, None, id="too few"),
        pytest.param("+49 30 CALLME", None, None, id="letters"),
        pytest.param("٣٤٥٦٧٨٩٠", None, None, id="digits of another script"),
        pytest.param(None, None, None, id="missing"),
    ],
)
def test_a_telephone_number_has_one_form(typed: object, told: str | None, asked: str | None) -> None:
    """R35: E.164; a webhook's number counts only with its country, a caller's is taken to have it."""
    assert (normal_phone(typed), normal_phone(typed, country_assumed=True)) == (told, asked)


def hashers(engine: Engine) -> Hashers:
    return Hashers(engine, KEYS)


def hasher(engine: Engine, shop: RegisteredShop) -> Hasher:
    found = hashers(engine).of(shop.domain)
    assert found is not None
    return found


def known(connection: Connection, shop: RegisteredShop) -> list[tuple[str, int]]:
    rows = connection.execute(
        text(
            "select kind, customer_id from customer_identifiers where shop_id = :id order by kind, customer_id"
        ),
        {"id": shop.id},
    )
    return [(row.kind, row.customer_id) for row in rows]


def test_the_same_address_is_another_hash_at_another_shop_and_as_another_kind(
    engine: Engine, shop: RegisteredShop
) -> None:
    one, other = hasher(engine, shop), hasher(engine, register(engine))
    digests = {
        one.digest("EMAIL", "a@b"),
        other.digest("EMAIL", "a@b"),
        one.digest("PHONE", "a@b"),
        Hasher(other.shop_id, one._secret).digest("EMAIL", "a@b"),
    }
    assert len(digests) == 4 and {len(digest) for digest in digests} == {32}


def test_a_shops_secret_is_made_once_and_kept_encrypted(engine: Engine, shop: RegisteredShop) -> None:
    first, again = hasher(engine, shop), hasher(engine, shop)
    assert first.digest("EMAIL", "a@b") == again.digest("EMAIL", "a@b")
    with engine.connect() as connection:
        sealed = connection.execute(
            text("select identifier_key from shops where id = :id"), {"id": shop.id}
        ).scalar_one()
    assert first._secret not in sealed and first._secret.hex().encode() not in sealed
    with pytest.raises(InvalidSetting, match="identifiers"):
        Hashers(engine, (Fernet.generate_key(),)).of(shop.domain)


def test_without_a_key_nothing_is_kept_and_work_goes_on(engine: Engine, shop: RegisteredShop) -> None:
    assert Hashers(engine, ()).of_any(shop.domain) is None
    with pytest.raises(InvalidSetting, match="TOKEN_ENCRYPTION_KEYS"):
        Hashers(engine, ()).of(shop.domain)


def test_a_rotation_of_keys_leaves_every_hash_what_it_is(engine: Engine, shop: RegisteredShop) -> None:
    """R35: the old key can go, and every customer is known as before."""
    before = hasher(engine, shop).digest("EMAIL", "a@b")
    new = Fernet.generate_key()
    with engine.begin() as connection:
        assert identifiers.reseal(connection, Vault((new, *KEYS)), shop.id)
    found = Hashers(engine, (new,)).of(shop.domain)
    assert found is not None and found.digest("EMAIL", "a@b") == before


TOLD = [(THEN, 1), (THEN + timedelta(days=1), 2), (THEN + timedelta(days=1), 3), (THEN, 4)]


@pytest.mark.parametrize(
    "order", list(permutations(TOLD)), ids=lambda order: "".join(str(c) for _, c in order)
)
def test_the_last_telling_wins_in_whatever_order_they_come(
    engine: Engine, shop: RegisteredShop, order: tuple[tuple[datetime, int], ...]
) -> None:
    """R35: of two at the same time the greater id."""
    ours = hasher(engine, shop)
    with engine.begin() as connection:
        for at, customer in order:
            remember(connection, shop.id, ours.named(customer, email="a@b", seen_at=at))
        assert known(connection, shop) == [("EMAIL", 3)]
        remember(
            connection,
            shop.id,
            [n for at, c in order for n in ours.named(c, phone="+4930123456", seen_at=at)],
        )
        assert known(connection, shop) == [("EMAIL", 3), ("PHONE", 3)]


def test_nothing_to_remember_asks_the_database_nothing(engine: Engine, shop: RegisteredShop) -> None:
    with engine.begin() as connection:
        connection.execute(text("set transaction read only"))
        remember(connection, shop.id, [])


@pytest.mark.parametrize("backwards", [False, True])
def test_what_somebody_typed_at_a_checkout_takes_no_number_from_its_owner(
    engine: Engine, shop: RegisteredShop, backwards: bool
) -> None:
    """R35: whichever is told first, and however late the order."""
    ours = hasher(engine, shop)
    owner = {"id": 1, "phone": "+4917011111", "updated_at": "2026-02-01T10:00:00Z"}
    order = {"updated_at": "2026-02-20T10:00:00Z", "phone": "+4917011111", "customer": {"id": 666}}
    told = [("customers/update", owner), ("orders/create", order)]
    with engine.begin() as connection:
        for topic, body in reversed(told) if backwards else told:
            remember(connection, shop.id, named_in(ours, topic, body, THEN))
        assert known(connection, shop) == [("PHONE", 1)]


def test_who_was_merged_into_somebody_erased_is_erased_as_well(engine: Engine, shop: RegisteredShop) -> None:
    """R33: they are one person."""
    ours = hasher(engine, shop)
    alias = "insert into customer_aliases (shop_id, customer_id, survivor_id, cause) values (:id, 2, 1, 'inbox:1')"
    redacted = (
        "insert into privacy_requests (shop_id, kind, state, customer_id, cause, requested_at)"
        " values (:id, 'customer_redact', 'done', 1, 'inbox:1', :at)"
    )
    with engine.begin() as connection:
        connection.execute(text(alias), {"id": shop.id})
        connection.execute(text(redacted), {"id": shop.id, "at": THEN})
        remember(connection, shop.id, ours.named(2, email="a@b", seen_at=THEN - timedelta(days=1)))
        assert known(connection, shop) == []


def test_who_was_erased_is_not_remembered_from_before(engine: Engine, shop: RegisteredShop) -> None:
    ours = hasher(engine, shop)
    redacted = (
        "insert into privacy_requests (shop_id, kind, state, customer_id, cause, requested_at)"
        " values (:id, 'customer_redact', 'done', 1, 'inbox:1', :at)"
    )
    with engine.begin() as connection:
        connection.execute(text(redacted), {"id": shop.id, "at": THEN})
        remember(connection, shop.id, ours.named(1, email="a@b", seen_at=THEN - timedelta(days=1)))
        assert known(connection, shop) == []
        remember(connection, shop.id, ours.named(1, email="a@b", seen_at=THEN + timedelta(days=1)))
        assert known(connection, shop) == [("EMAIL", 1)]


ORDER = {
    "id": 450,
    "created_at": "2026-02-01T10:00:00Z",
    "updated_at": "2026-02-20T10:00:00Z",
    "email": "checkout@shop.example",
    "phone": "+4930111111",
    "customer": {"id": 7, "email": "ada@shop.example", "phone": None},
}
CHANGED = datetime(2026, 2, 20, 10, tzinfo=UTC)


@pytest.mark.parametrize(
    ("topic", "body", "found"),
    [
        pytest.param(
            "orders/updated",
            ORDER,
            [("EMAIL", "ada@shop.example", CHANGED), ("PHONE", "4930111111", TYPED_BY_ANYBODY)],
            id="the customer's own, the checkout's where he has none",
        ),
        pytest.param("orders/create", {**ORDER, "customer": None}, [], id="nobody's order"),
        pytest.param(
            "orders/create",
            {**ORDER, "email": None, "phone": None, "customer": {"id": 7}},
            [],
            id="no contact",
        ),
        pytest.param("refunds/create", ORDER, [], id="what has no customer"),
        pytest.param("orders/create", {**ORDER, "customer": {"id": "7", "email": "a@b"}}, [], id="no id"),
        pytest.param(
            "orders/create",
            {**ORDER, "phone": 5, "email": ["x"], "updated_at": None, "customer": {"id": 7, "email": "A@b"}},
            [("EMAIL", "a@b", THEN)],
            id="no time of its own: when it came",
        ),
        pytest.param(
            "customers/update",
            {
                "id": 7,
                "email": "Ada@Shop.Example",
                "phone": "+4930222222",
                "updated_at": "2036-02-20T10:00:00Z",
            },
            [("EMAIL", "ada@shop.example", THEN), ("PHONE", "4930222222", THEN)],
            id="a customer; nothing was told before it came",
        ),
    ],
)
def test_what_a_webhook_names(
    topic: str, body: dict[str, Any], found: list[tuple[Any, str, datetime]]
) -> None:
    """R35."""
    ours = Hasher(1, b"secret")
    wanted = [
        Named(customer_id=7, kind=kind, digest=ours.digest(kind, form), seen_at=at)
        for kind, form, at in found
    ]
    assert named_in(ours, topic, body, THEN) == wanted
