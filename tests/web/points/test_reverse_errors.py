"""Every error number of POST /points/reverse, provoked for real: by calls, by Shopify's silence, by a database in trouble."""

from __future__ import annotations

import json
from collections.abc import Callable, Iterator
from contextlib import contextmanager
from datetime import timedelta
from threading import Timer
from typing import Any

import pytest
from cryptography.fernet import Fernet
from flask import Flask
from sqlalchemy import Engine, text

from app import api as the_api
from app import errors
from app.api.points import STATUS
from app.sandbox.server import served
from models.session import make_engine
from models.settings import Settings
from tasks.steps.endings import end_whole
from tasks.steps.shops import by_id
from tests.pretend import ALL_SCOPES
from tests.web.api.conftest import Store as Orders
from tests.web.points.conftest import ADA, BELA, NOW, Answer, Shop

ADDRESS = ("EMAIL", "ada@shop.example")
GIFT = {"id": "gift", "name": "Gift card", "kind": "gift_card", "cost": 100, "value": "5.00"}
FIVE_OFF = {"id": "5-off", "name": "$5 off", "kind": "amount_discount", "cost": 100, "value": "5.00"}
THREE_PLACES = {"unit": {"kind": "credits", "scale": 3}, "rewards": []}
TWO_PLACES = {"unit": {"kind": "credits", "scale": 2}, "rewards": []}


# -- what the caller or the state of things is at fault for --------------------------------------------


def nothing_of_that_number(store: Shop) -> Answer:
    return store.reverse(999_999)


def a_number_that_is_not_ours(store: Shop) -> Answer:
    return store.reverse("gWpna6")


def more_than_there_was(store: Shop) -> Answer:
    return store.reverse(store.spent(), 101)


def more_than_is_left(store: Shop) -> Answer:
    redemption = store.spent()
    store.reverse(redemption, 60)
    return store.reverse(redemption, 41)


def a_program_that_does_not(store: Shop) -> Answer:
    redemption = store.spent()
    store.program(points_reversal={"enabled": False})
    return store.reverse(redemption)


def a_gift_card(store: Shop) -> Answer:
    store.program(rewards=[GIFT])
    store.grant(100)
    return store.reverse(store.redeem(reward="gift", days_ago=0))


def given_back_by_a_refund(store: Shop) -> Answer:
    store.grant(100)
    redemption = store.redeem(100, code="LOYAL-1", days_ago=6)
    orders = Orders(store.engine)
    orders.place(store, 450, customer=ADA, code="LOYAL-1")
    orders.refund(store, 450, 9, 10_000, units=2)
    return store.reverse(redemption)


def given_back_unused(store: Shop) -> Answer:
    """R30."""
    redemption = store.spent()
    with store.engine.begin() as connection:
        end_whole(connection, by_id(connection, store.id), redemption, kind="auto_refunded", now=NOW)
    return store.reverse(redemption)


def a_code_nobody_used_yet(store: Shop) -> Answer:
    store.program(rewards=[FIVE_OFF])
    store.connect()
    store.grant(100)
    return store.reverse(store.redeem(reward="5-off", days_ago=0))


def a_code_that_came_back(store: Shop) -> Answer:
    """R21: the benefit is the code now."""
    store.grant(100)
    redemption = store.redeem(100, code="LOYAL-2")
    store.run(
        "update redemptions set reactivation = 'done', reactivations = 1, reactivated_orders = '[\"450\"]',"
        " restitution = 'code' where shop_id = :shop_id and id = :id",
        id=redemption,
    )
    return store.reverse(redemption)


def half_a_point(store: Shop) -> Answer:
    return store.reverse(store.spent(), 2.5)


def another_program(store: Shop) -> Answer:
    return store.reverse(store.spent(), programId=store.id + 1)


def somebody_else(store: Shop) -> Answer:
    store.grant(5, to=BELA)
    return store.reverse(store.spent(), by=("ID", str(BELA)))


def nobody_known(store: Shop) -> Answer:
    return store.reverse(store.spent(), by=ADDRESS)


def nobody_known_at_shopify(store: Shop) -> Answer:
    store.connect()
    return store.reverse(store.spent(), by=("PHONE", "+4930123456"))


def the_same_amount_again(store: Shop) -> Answer:
    redemption = store.spent()
    store.reverse(redemption, 10)
    return store.reverse(redemption, 10)


def all_of_it_again(store: Shop) -> Answer:
    redemption = store.spent()
    store.reverse(redemption, key="k-1")
    return store.reverse(redemption, key="k-2")


def cancelled_before(store: Shop) -> Answer:
    """R34 gave it back."""
    redemption = store.spent()
    assert store.call("POST", f"/redemptions/{redemption}/cancel", {}).status == 200
    return store.reverse(redemption)


def once_too_often(store: Shop) -> Answer:
    store.program(points_reversal={"limit_per_customer": 1})
    store.reverse(store.spent())
    return store.reverse(store.spent())


def locked(store: Shop) -> Answer:
    redemption = store.spent()
    until = (NOW + timedelta(days=1)).isoformat()
    store.call("PUT", f"/customers/{ADA}/reversal-lock", {"until": until, "reason": "Looked into"})
    return store.reverse(redemption)


def the_owner_is_locked(store: Shop) -> Answer:
    """A member of the group does not get round the owner's lock."""
    store.grant(1)
    store.grant(100, to=BELA)
    redemption = store.redeem(100, sources={BELA: 100})
    until = (NOW + timedelta(days=1)).isoformat()
    store.call("PUT", f"/customers/{ADA}/reversal-lock", {"until": until, "reason": "Looked into"})
    return store.reverse(redemption, by=("ID", str(BELA)))


REFUSED = [
    (804, nothing_of_that_number),
    (804, a_number_that_is_not_ours),
    (817, more_than_there_was),
    (817, more_than_is_left),
    (818, a_program_that_does_not),
    (818, a_gift_card),
    (827, given_back_by_a_refund),
    (827, given_back_unused),
    (827, a_code_nobody_used_yet),
    (827, a_code_that_came_back),
    (878, half_a_point),
    (885, another_program),
    (901, somebody_else),
    (901, nobody_known),
    (901, nobody_known_at_shopify),
    (902, the_same_amount_again),
    (902, all_of_it_again),
    (902, cancelled_before),
    (903, once_too_often),
    (904, locked),
    (904, the_owner_is_locked),
]


@pytest.mark.parametrize(
    ("number", "provoked"),
    [pytest.param(n, provoke, id=f"{n} {provoke.__name__.replace('_', ' ')}") for n, provoke in REFUSED],
)
def test_a_condition_raises_its_number(store, number: int, provoked: Callable[[Shop], Answer]) -> None:
    """R35."""
    got = provoked(store)
    assert (got.number, got.status) == (number, STATUS[number])
    assert store.holds_together()


@pytest.mark.parametrize(
    ("program", "points"),
    [
        pytest.param(THREE_PLACES, 1.2345, id="more than 3 decimals"),
        pytest.param(TWO_PLACES, 0.001, id="more than the unit has"),
    ],
)
def test_decimals_that_no_amount_has_are_878(new_shop, program: dict[str, Any], points: float) -> None:
    """R35."""
    store = new_shop(**program)
    store.grant(100_000)
    got = store.reverse(store.redeem(100_000), points)
    assert (got.number, got.status) == (878, 422)
    assert got.body["error"]["details"]["field"] == "pointsToBeReversed"


WISH = {"redemptionId": "1", "identifier": {"type": "ID", "value": "1"}}


@pytest.mark.parametrize(
    ("body", "field"),
    [
        pytest.param({"identifier": WISH["identifier"]}, "redemptionId", id="no redemption"),
        pytest.param({**WISH, "redemptionId": 17}, "redemptionId", id="a redemption that is no text"),
        pytest.param({"redemptionId": "1"}, "identifier", id="no identifier"),
        pytest.param({**WISH, "identifier": {"type": "ID"}}, "identifier.value", id="no value"),
        pytest.param(
            {**WISH, "identifier": {"type": "CARD", "value": "1"}}, "identifier.type", id="an unknown type"
        ),
        pytest.param(
            {**WISH, "identifier": {"type": "ID", "value": 5}},
            "identifier.value",
            id="a value that is no text",
        ),
        pytest.param({**WISH, "points": 2}, "points", id="an unknown field"),
        pytest.param({**WISH, "pointsToBeReversed": "2"}, "pointsToBeReversed", id="an amount that is text"),
        pytest.param({**WISH, "pointsToBeReversed": 0}, "pointsToBeReversed", id="nothing"),
        pytest.param({**WISH, "pointsToBeReversed": -2}, "pointsToBeReversed", id="less than nothing"),
        pytest.param(
            {**WISH, "identifier": {"type": "ID", "value": "Ada"}}, "identifier.value", id="no number"
        ),
        pytest.param(
            {**WISH, "identifier": {"type": "EMAIL", "value": "ada"}}, "identifier.value", id="no address"
        ),
        pytest.param(
            {**WISH, "identifier": {"type": "PHONE", "value": "030 1234567"}},
            "identifier.value",
            id="a telephone number without its country",
        ),
    ],
)
def test_what_cannot_be_meant_is_887_with_the_field_named(store, body: dict[str, Any], field: str) -> None:
    """R35."""
    got = store.call("POST", "/points/reverse", body)
    assert (got.number, got.status) == (887, 422)
    assert got.body["error"]["details"]["field"] == field


def test_what_is_not_json_is_887_too(store) -> None:
    got = store.call("POST", "/points/reverse", b"{")
    assert (got.number, got.status) == (887, 400)


def test_a_key_used_for_something_else_is_887(store) -> None:
    redemption = store.spent()
    store.reverse(redemption, 10, key="k")
    assert store.reverse(redemption, 11, key="k").number == 887
    assert store.balance() == 10


def test_an_error_never_repeats_the_identifier(store) -> None:
    """It is the caller's own text, and somebody's address."""
    got = store.reverse(store.spent(), by=("EMAIL", "nobody@shop.example"))
    assert b"nobody" not in got.raw


def test_a_redemption_of_another_shop_is_nobodys_here(new_shop) -> None:
    one, other = new_shop(), new_shop()
    redemption = one.spent()
    other.run("select 1")
    other.grant(5)
    assert other.reverse(redemption).number == 804


# -- what is over soon ---------------------------------------------------------------------------------


@contextmanager
def application_on(settings: Settings, engine: Engine) -> Iterator[str]:
    """The API alone, on an engine with habits of its own."""
    app = Flask("of-a-test")
    errors.register(app)
    the_api.register(app, engine, settings)
    with served(app) as url:
        yield url


def test_a_wallet_that_somebody_holds_is_896_and_the_same_call_succeeds_after(store, engine: Engine) -> None:
    """R35."""
    redemption = store.spent()
    with engine.begin() as holder:
        holder.execute(
            text("select from wallets where shop_id = :shop and customer_id = :ada for update"),
            {"shop": store.id, "ada": ADA},
        )
        got = store.reverse(redemption, 10, key="k")
    assert (got.number, got.status) == (896, 503) and int(got.headers["Retry-After"]) > 0
    assert store.balance() == 0
    again = store.reverse(redemption, 10, key="k")
    assert (again.status, again.headers.get("Idempotent-Replayed")) == (200, None)
    assert store.balance() == 10


def test_a_code_that_is_just_being_taken_away_is_896(store) -> None:
    """R35: the points may be coming back with that."""
    store.program(rewards=[FIVE_OFF])
    store.connect()
    store.grant(100)
    redemption = store.redeem(reward="5-off", days_ago=0)
    store.run(
        "update redemptions set code_state = 'active' where shop_id = :shop_id and id = :id", id=redemption
    )
    store.call("POST", f"/redemptions/{redemption}/cancel", {})
    assert store.reverse(redemption).number == 896


def test_a_code_that_may_just_be_coming_back_is_896(store) -> None:
    """R35, R23: until it is known, neither is given."""
    store.grant(100)
    redemption = store.redeem(100, code="LOYAL-3", days_ago=6)
    Orders(store.engine).place(store, 450, customer=ADA, code="LOYAL-3")
    payload = {"redemption_id": redemption, "order_id": 450, "sent": True}
    key = f"reactivate:{redemption}:1"
    insert = (
        "insert into outbox (shop_id, kind, key, payload, state) values"
        " (:shop_id, 'reactivate_code', :key, cast(:payload as jsonb), 'pending')"
    )
    store.run(insert, key=key, payload=json.dumps(payload))
    assert store.reverse(redemption).number == 896
    store.run("update outbox set state = 'done' where shop_id = :shop_id and key = :key", key=key)
    assert store.reverse(redemption).status == 200


def test_a_statement_that_takes_too_long_is_886_and_the_same_call_succeeds_after(
    store, engine: Engine, settings: Settings
) -> None:
    """R35."""
    redemption = store.spent()
    impatient = make_engine(str(settings.database_url), statement_timeout_seconds=1)
    usual = store.url
    with application_on(settings, impatient) as store.url:
        with engine.begin() as holder:
            holder.execute(text("lock table reversals in access exclusive mode"))
            got = store.reverse(redemption, 10, key="k")
        again = store.reverse(redemption, 10, key="k")
    impatient.dispose()
    store.url = usual
    assert (got.number, got.status) == (886, 503) and int(got.headers["Retry-After"]) > 0
    assert (again.status, again.headers.get("Idempotent-Replayed")) == (200, None)
    assert store.balance() == 10


def test_a_connection_that_the_database_ends_is_886_and_nothing_is_left_of_the_call(
    store, engine: Engine
) -> None:
    """R35."""
    redemption = store.spent()
    end = (
        "select pg_terminate_backend(pid) from pg_stat_activity where datname = current_database()"
        " and wait_event_type = 'Lock'"
    )
    with engine.begin() as holder:
        holder.execute(text("lock table reversals in access exclusive mode"))
        killer = Timer(1.0, lambda: store.run(end))
        killer.start()
        got = store.reverse(redemption, 10, key="k")
        killer.join()
    assert (got.number, got.status) == (886, 503)
    assert store.reverse(redemption, 10, key="k").status == 200 and store.balance() == 10


def test_a_deadlock_is_886(store, engine: Engine) -> None:
    """R35: the database ends one of two who wait for each other; here it is the call."""
    redemption = store.spent()
    wallet = text("select from wallets where shop_id = :shop and customer_id = :ada for update")
    table = text("lock table reversals in share mode")  # it can be read, not written
    with engine.begin() as holder:
        holder.execute(text("set local deadlock_timeout = '20s'"))
        holder.execute(table)
        late = Timer(0.5, lambda: holder.execute(wallet, {"shop": store.id, "ada": ADA}))
        late.start()  # by then the call has the wallet
        got = store.reverse(redemption, 10)
        late.join()
    assert got.number == 886 and store.reverse(redemption, 10).status == 200


def test_shopify_that_does_not_answer_is_898_and_the_same_call_succeeds_after(store) -> None:
    """R35."""
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    store.shopify.faults(store.domain).add("refuse", times=10, only="CustomerByIdentifier")
    got = store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k")
    store.shopify.faults(store.domain).clear()
    assert (got.number, got.status) == (898, 503) and int(got.headers["Retry-After"]) > 0
    again = store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k")
    assert (again.status, store.balance(ada.id)) == (200, 10)


def test_a_kept_answer_is_given_while_shopify_is_away(store) -> None:
    """A repeated call asks nobody anything."""
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    first = store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k")
    store.run("delete from customer_identifiers where shop_id = :shop_id")
    store.shopify.faults(store.domain).add("refuse", times=10)
    again = store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k")
    store.shopify.faults(store.domain).clear()
    assert again.raw == first.raw and again.headers["Idempotent-Replayed"] == "true"


def test_a_database_that_is_away_is_898(store, settings: Settings) -> None:
    """R35."""
    nowhere = make_engine("postgresql://postgres@127.0.0.1:1/nowhere")
    with application_on(settings, nowhere) as store.url:
        got = store.reverse(1)
    assert (got.number, got.status) == (898, 503) and int(got.headers["Retry-After"]) > 0


# -- what somebody has to set right --------------------------------------------------------------------


@pytest.mark.parametrize(
    "keys",
    [pytest.param(0, id="no key at all"), pytest.param(1, id="another key than the one it was kept by")],
)
def test_an_installation_without_its_key_is_888_and_repaired_the_same_call_succeeds(
    store, settings: Settings, serve: Callable[[Settings], str], keys: int
) -> None:
    """R35."""
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    assert store.reverse(redemption, 10, by=("EMAIL", ada.email)).status == 200
    other = tuple(
        type(settings.token_encryption_keys[0])(Fernet.generate_key().decode()) for _ in range(keys)
    )
    usual, store.url = store.url, serve(settings.model_copy(update={"token_encryption_keys": other}))
    got = store.reverse(redemption, 20, by=("EMAIL", ada.email), key="k")
    by_number = store.reverse(redemption, 30, by=("ID", str(ada.id)))
    store.url = usual
    assert (got.number, got.status) == (888, 409) and "TOKEN_ENCRYPTION_KEYS" in got.body["error"]["message"]
    assert by_number.status == 200
    assert store.reverse(redemption, 20, by=("EMAIL", ada.email), key="k").status == 200


def test_a_shop_that_did_not_grant_read_customers_is_899_until_it_does(store) -> None:
    """R35."""
    store.connect(scopes=tuple(scope for scope in ALL_SCOPES if scope != "read_customers"))
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    got = store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k")
    assert (got.number, got.status) == (899, 409)
    store.connect()
    assert store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k").status == 200


def test_a_shop_whose_token_was_revoked_is_899(store) -> None:
    """R35."""
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    store.shopify.front(store.domain).access.uninstall()
    assert store.reverse(redemption, by=("EMAIL", ada.email)).number == 899


def test_who_is_nobody_is_told_so_in_the_words_of_all_calls(store) -> None:
    store.token = "unwind_nobody"
    got = store.reverse(1)
    assert (got.status, got.body["error"]["code"], got.body["errors"]) == (401, "unauthorized", [])


# -- keys ----------------------------------------------------------------------------------------------


def test_a_repeated_call_is_answered_the_same_to_the_byte_and_done_once(store) -> None:
    """R35: a repeated request with the same key answers the same, a second one is a duplicate."""
    redemption = store.spent()
    first, again = (store.reverse(redemption, 10, key="k") for _ in range(2))
    assert first.raw == again.raw and again.headers["Idempotent-Replayed"] == "true"
    assert store.reverse(redemption, 10).number == 902
    assert store.balance() == 10


def test_another_key_makes_the_same_amount_another_reversal(store) -> None:
    """R35."""
    redemption = store.spent()
    assert [store.reverse(redemption, 10, key=f"k-{i}").status for i in range(2)] == [200, 200]
    assert store.balance() == 20


def test_a_refusal_is_kept_under_its_key(store) -> None:
    redemption = store.spent()
    first = store.reverse(redemption, 101, key="k")
    again = store.reverse(redemption, 101, key="k")
    assert (first.number, again.raw) == (817, first.raw) and again.headers["Idempotent-Replayed"] == "true"


def test_no_address_is_kept_with_a_key(store) -> None:
    """What is kept is the answer without it, and a hash that nobody can try out."""
    store.connect()
    ada = store.person()
    redemption = store.redeem(100, by=ada.id)
    got = store.reverse(redemption, 10, by=("EMAIL", ada.email), key="k")
    assert got.body["identifier"] == {"type": "EMAIL", "value": ada.email}
    kept = store.run("select response::text as kept from idempotency_keys where shop_id = :shop_id")
    assert len(kept) == 1 and "example" not in kept[0].kept
    other = store.reverse(redemption, 10, by=("EMAIL", ada.email.upper()), key="k")
    assert other.number == 887  # another text is another body
