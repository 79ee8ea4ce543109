"""What customers and shops ask of their data: exported, erased, kept no longer than it may be; and the books stay right."""

from __future__ import annotations

import json
import stat
import time
from collections.abc import Callable, Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from pathlib import Path
from typing import Any

import pytest
from sqlalchemy import Connection, Engine, text
from sqlalchemy.exc import DBAPIError

from app.cli import run
from models.errors import Refused
from tasks.steps import failed, merchants, privacy, shops, tokens, wallets
from tasks.steps.export import export
from tasks.steps.replay import replay
from tasks.steps.retention import ANSWER_DAYS, PARKED_DAYS, retain
from tasks.steps.verify import verify
from tests.conftest import RegisteredShop
from tests.flows.conftest import Door
from tests.oracle.render import render
from tests.oracle.worlds import Delivery
from tests.rules.build import ORDER, day, line, order, refund

ANN, BOB = 9_400_000_001, 9_400_000_002
EMAIL = "ann@example.com"
HERS, HIS = ORDER + 10, ORDER + 11
NOW = datetime.now(UTC)


@pytest.fixture(autouse=True)
def books_stay_right(engine: Engine, shop: RegisteredShop) -> Iterator[None]:
    """Whatever is erased, everything can be worked out again from the record, and run again."""
    yield
    with engine.begin() as connection:
        assert verify(connection, shop.id) == []
    if shops_state(engine, shop) == "installed":
        assert replay(engine, shop.domain).changed == 0


def shops_state(engine: Engine, shop: RegisteredShop) -> str:
    with engine.begin() as connection:
        return str(
            connection.execute(text("select state from shops where id = :id"), {"id": shop.id}).scalar_one()
        )


def order_body(id: int, customer: int | None, email: str = EMAIL) -> bytes:
    """Of one line, of a thing that was made for somebody."""
    made = replace(line(1, 10_000), name=f"Mug for {email}")
    _, body = render(
        Delivery(day(1), "orders/create", (order(10_000, made, order_id=id, customer_id=customer),))
    )
    return json.dumps({**json.loads(body), "email": email}).encode()


def request(door: Door, topic: str, **body: Any) -> str:
    """One compliance delivery, worked off; its outcome."""
    told = {"shop_id": 954889, "shop_domain": door.shop.domain, **body}
    assert door.send(topic, json.dumps(told).encode()) == 200
    [outcome] = door.work()
    return outcome


def redact(door: Door, customer: int, orders: list[int] | None = None) -> str:
    person = {"id": customer, "email": EMAIL, "phone": "555-0100"}
    return request(door, "customers/redact", customer=person, orders_to_redact=orders or [])


def ask(door: Door, customer: int, number: int = 9999) -> str:
    person = {"id": customer, "email": EMAIL, "phone": "555-0100"}
    return request(
        door, "customers/data_request", customer=person, orders_requested=[HERS], data_request={"id": number}
    )


def rows(door: Door, query: str, **parameters: Any) -> list[tuple[Any, ...]]:
    with door.engine.begin() as connection:
        found = connection.execute(
            text(query), {"domain": door.shop.domain, "shop": door.shop.id, **parameters}
        )
        return [tuple(row) for row in found.all()]


def everything(door: Door) -> str:
    """Every row of every table that belongs to the shop, as text: what a thief would read."""
    tables = rows(
        door,
        "select table_name, column_name from information_schema.columns where column_name in ('shop_id', 'shop_domain') and table_schema = 'public'",
    )
    found = []
    for table, column in tables:
        of = ":domain" if column == "shop_domain" else ":shop"
        body = ", convert_from(body, 'UTF8')" if table == "inbox" else ""
        found += rows(door, f"select t.*::text {body} from {table} t where t.{column} = {of}")
    return str(found)


@pytest.fixture
def trade(door: Door) -> Door:
    """Ann and Bob each with an order, and a grant with a reason that names Ann."""
    assert door.send("orders/create", order_body(HERS, ANN)) == 200
    assert door.send("orders/create", order_body(HIS, BOB, "bob@example.com")) == 200
    door.work()
    with door.engine.begin() as connection:
        wallets.grant(connection, door.shop.id, ANN, amount=5, reason=f"sorry, {EMAIL}")
    assert EMAIL in everything(door)
    return door


# -- customers/redact --------------------------------------------------------------------------------


def test_nothing_personal_of_a_redacted_customer_is_left_and_the_ledger_is(trade: Door) -> None:
    before = rows(trade, "select sum(amount), count(*) from entries where shop_id = :shop")
    assert redact(trade, ANN, [HERS]) == (
        f"redacted customer {ANN}, 1 orders named: 1 bodies, 1 reasons, 0 answers, 0 identifiers, 1 named orders"
    )
    left = everything(trade)
    assert EMAIL not in left and "555-0100" not in left
    assert "bob@example.com" in left
    assert rows(trade, "select sum(amount), count(*) from entries where shop_id = :shop") == before
    kept = rows(
        trade, "select kind, state, customer_id, orders, detail from privacy_requests where shop_id = :shop"
    )
    assert kept == [
        (
            "customer_redact",
            "done",
            ANN,
            [str(HERS)],
            {"bodies": 1, "reasons": 1, "answers": 0, "identifiers": 0, "named_orders": 1},
        )
    ]


def test_a_redaction_told_twice_erases_nothing_more(trade: Door) -> None:
    redact(trade, ANN)
    assert redact(trade, ANN).endswith(": 0 bodies, 0 reasons, 0 answers, 0 identifiers, 0 named orders")


def test_a_late_refund_of_a_redacted_customers_order_is_booked(trade: Door) -> None:
    redact(trade, ANN)
    topic, body = render(Delivery(NOW, "refunds/create", refund(1, 4_000, order_id=HERS, at=NOW)))
    assert trade.send(topic, body) == 200
    trade.work()
    assert trade.order(HERS)["awards"][0]["reversed"] == 40


def test_what_a_redacted_customers_lines_are_called_is_not_kept_again(trade: Door) -> None:
    """Neither when the order is told once more, nor from a delivery that was waiting."""
    again = json.loads(order_body(HERS, ANN)) | {"updated_at": day(3).isoformat(), "email": ""}
    assert trade.send("orders/updated", json.dumps(again).encode()) == 200
    with trade.engine.begin() as connection:
        asked = privacy.Asked(customer_id=ANN, orders=())
        privacy.redact(connection, shops.by_id(connection, trade.shop.id), asked)
    trade.work()
    assert (
        trade.send("orders/updated", json.dumps(again | {"updated_at": day(4).isoformat()}).encode()) == 200
    )
    trade.work()
    kept = "select order_id, facts->'line_names' from orders where shop_id = :shop order by 1"
    assert rows(trade, kept) == [(HERS, None), (HIS, [[1, "Mug for bob@example.com"]])]


def test_erased_events_are_passed_over_when_events_are_run_again(trade: Door) -> None:
    redact(trade, ANN)
    done = replay(trade.engine, trade.shop.domain)
    assert (done.events, done.changed, done.erased) == (1, 0, 1)


@pytest.mark.parametrize("many", [1, privacy.NEEDLES_MAX + 1], ids=["an order", "more than are looked for"])
def test_other_deliveries_that_name_the_customer_are_erased_and_longer_numbers_are_not_him(
    trade: Door, many: int
) -> None:
    orders = list(range(HERS, HERS + many))
    for customer in (ANN, int(f"{ANN}7")):
        body = json.dumps({"id": customer, "email": f"{customer}@example.com"}).encode()
        assert trade.send("customers/update", body) == 200
    trade.work()
    redact(trade, ANN, orders)
    left = everything(trade)
    assert f"{ANN}@example.com" not in left
    assert f"{ANN}7@example.com" in left


def test_a_customer_merged_into_the_redacted_one_is_the_same_person(trade: Door) -> None:
    """R33."""
    assert trade.send("orders/create", order_body(ORDER + 12, ANN + 7, "ann-before@example.com")) == 200
    merge = {
        "admin_graphql_api_customer_kept_id": f"gid://shopify/Customer/{ANN}",
        "admin_graphql_api_customer_deleted_id": f"gid://shopify/Customer/{ANN + 7}",
        "status": "completed",
    }
    assert trade.send("customers/merge", json.dumps(merge).encode()) == 200
    trade.work()
    redact(trade, ANN)
    assert "ann-before" not in everything(trade)


def test_the_answer_kept_for_a_repeated_call_loses_its_reason_and_stays_an_answer(trade: Door) -> None:
    with trade.engine.begin() as connection:
        token = tokens.create(connection, trade.shop.domain).text
    headers = {"Authorization": f"Bearer {token}", "Idempotency-Key": "once"}
    call = {"amount": 3, "reason": f"dear {EMAIL}"}
    path = f"/api/v1/customers/{ANN}/grants"
    assert trade.client.post(path, json=call, headers=headers).status_code == 201
    redact(trade, ANN)
    assert EMAIL not in everything(trade)
    again = trade.client.post(path, json=call, headers=headers)
    assert (again.status_code, again.json["amount"], again.json["reason"]) == (201, 3, "(erased)")


def test_a_customer_of_thousands_of_orders_is_redacted_as_quickly_as_another(trade: Door) -> None:
    """The statements of one redaction have 30 seconds: kept answers are read once, not once for each of the orders."""
    rows(
        trade,
        "insert into idempotency_keys (shop_id, key, request_digest, status, response) select :shop, 'k' || n, ''::bytea, 200,"
        ' jsonb_build_object(\'text\', \'{"order_id":"\' || n || \'","reason":"dear \' || :email || \'","more":"\''
        " || repeat('x', 1500) || '\"}') from generate_series(1, 5000) n returning 1",
        email=EMAIL,
    )
    orders = tuple(range(4001, 7001))
    with trade.engine.begin() as connection:
        shop = shops.by_id(connection, trade.shop.id)
        began = time.monotonic()
        counts = privacy.redact(connection, shop, privacy.Asked(customer_id=ANN, orders=orders))
        assert time.monotonic() - began < 10
    assert counts["answers"] == 1000
    [(left,)] = rows(
        trade, "select count(*) from idempotency_keys where shop_id = :shop and response::text like '%@%'"
    )
    assert left == 4000


def test_a_guest_is_redacted_by_his_orders_alone(trade: Door) -> None:
    assert request(trade, "customers/redact", customer={"email": EMAIL}, orders_to_redact=[HERS]) == (
        "redacted a guest, 1 orders named: 1 bodies, 0 reasons, 0 answers, 0 identifiers, 1 named orders"
    )


def typed(door: Door, order_id: int, words: str) -> None:
    """Somebody refunds 5.00 by hand and takes it back, and types a reason each time; a shop's own systems are told."""
    with door.engine.begin() as connection:
        endpoint = {"shop": door.shop.id}
        connection.execute(
            text(
                "insert into endpoints (shop_id, url, events, secret) select :shop, 'https://192.0.9.9/h', '[\"*\"]', 'x'"
                " where not exists (select from endpoints where shop_id = :shop)"
            ),
            endpoint,
        )
        call = {"by": "token:5", "now": datetime.now(UTC)}
        done = merchants.refund_order(
            connection, door.shop.id, order_id, amount=Decimal("5.00"), lines=None, reason=words, **call
        )
        merchants.undo_refund(
            connection, door.shop.id, int(done["id"]), reason=words, **{**call, "now": None}
        )


def test_what_was_typed_of_a_guests_order_goes_with_the_guest(door: Door) -> None:
    """R32: an order without a customer touches no wallet, but its reasons may name who bought."""
    assert door.send("orders/create", order_body(HERS, None)) == 200
    door.work()
    typed(door, HERS, f"for {EMAIL}")
    assert EMAIL in str(rows(door, "select data from messages where shop_id = :shop"))
    outcome = request(door, "customers/redact", customer={"email": EMAIL}, orders_to_redact=[HERS])
    assert ", 0 reasons" not in outcome
    assert EMAIL not in everything(door)


def test_what_was_typed_before_an_order_had_its_customer_goes_with_him(door: Door) -> None:
    """R32: a customer attached later; what stands in the record from before names nobody by number."""
    assert door.send("orders/create", order_body(HERS, None)) == 200
    door.work()
    typed(door, HERS, f"for {EMAIL}")
    assert door.send("orders/updated", order_body(HERS, ANN)) == 200
    door.work()
    assert rows(door, "select customer_id from orders where shop_id = :shop") == [(ANN,)]
    with door.engine.begin() as connection:
        shown = export(
            connection, shops.by_id(connection, door.shop.id), privacy.Asked(customer_id=ANN, orders=())
        )
    assert [each["detail"]["reason"] for each in shown["activity"] if each["kind"] == "order.refunded"] == [
        f"for {EMAIL}"
    ]
    redact(door, ANN)
    assert EMAIL not in everything(door)


def test_nobody_is_shown_what_others_did_on_his_order(trade: Door) -> None:
    """Entries of another's wallet stay out of an export, also where they belong to an order that is named."""
    with trade.engine.begin() as connection:
        asked = privacy.Asked(customer_id=BOB, orders=(HERS,))
        shown = export(connection, shops.by_id(connection, trade.shop.id), asked)
    assert {each["customer_id"] for each in shown["activity"]} == {str(BOB)}


def test_a_parked_event_of_the_customer_is_erased_and_cannot_be_tried_again(trade: Door) -> None:
    assert trade.send("refunds/create", json.dumps({"order_id": HERS, "email": EMAIL}).encode()) == 200
    trade.work()
    redact(trade, ANN)
    assert EMAIL not in everything(trade)
    [(id,)] = rows(trade, "select id from inbox where shop_domain = :domain and state = 'failed'")
    with trade.engine.begin() as connection, pytest.raises(Refused, match="the event's body was erased"):
        failed.retry(connection, trade.shop.domain, id)
    with trade.engine.begin() as connection:
        assert failed.discard(connection, trade.shop.domain, id)["state"] == "discarded"


@pytest.mark.parametrize("topic", ["customers/redact", "customers/data_request", "shop/redact"])
def test_a_request_of_another_shop_does_nothing(trade: Door, topic: str) -> None:
    """A signed body that is sent again under another shop's name."""
    with trade.engine.begin() as connection:
        shops.remove(connection, trade.shop.domain)
    more: dict[str, Any] = {
        "customers/redact": {"customer": {"id": ANN}, "orders_to_redact": [HERS]},
        "customers/data_request": {"customer": {"id": ANN}, "data_request": {"id": 1}},
        "shop/redact": {},
    }[topic]
    before = everything(trade).count(EMAIL)
    assert request(trade, topic, **{"shop_domain": "another.myshopify.com", **more}) == "failed: foreign_shop"
    assert everything(trade).count(EMAIL) == before
    assert rows(trade, "select count(*) from privacy_requests where shop_id = :shop") == [(0,)]


# -- customers/data_request --------------------------------------------------------------------------


@pytest.fixture
def unwind(
    database_url: str, redis_url: str, tmp_path: Path, monkeypatch: pytest.MonkeyPatch, capfd: Any
) -> Callable[..., tuple[int, str]]:
    """Run a command: unwind("privacy", "list") -> (status, what it printed)."""
    monkeypatch.chdir(tmp_path)
    monkeypatch.setenv("DATABASE_URL", database_url)
    monkeypatch.setenv("REDIS_URL", redis_url)

    def unwind(*arguments: object) -> tuple[int, str]:
        capfd.readouterr()
        status = run([str(argument) for argument in arguments])
        return status, capfd.readouterr().out

    return unwind


def test_a_data_request_is_kept_by_its_numbers_only_and_once(trade: Door) -> None:
    redacted_before = everything(trade).count("555-0100")
    assert ask(trade, ANN).endswith(f"of customer {ANN}, 1 orders named: to be exported within 30 days")
    assert ask(trade, ANN).endswith("known already")
    assert everything(trade).count("555-0100") == redacted_before == 0
    [found] = rows(
        trade, "select state, customer_id, orders, cause from privacy_requests where shop_id = :shop"
    )
    assert found == ("open", ANN, [str(HERS)], "data_request:9999")


def test_an_operator_exports_what_is_held_and_the_request_is_closed(
    trade: Door, unwind: Callable[..., tuple[int, str]], tmp_path: Path
) -> None:
    ask(trade, ANN)
    status, out = unwind("privacy", "list", trade.shop.domain, "--json")
    [asked] = json.loads(out)["requests"]
    assert (status, asked["kind"], asked["customer_id"], asked["overdue"]) == (
        0,
        "data_request",
        str(ANN),
        False,
    )
    file = tmp_path / "ann.json"
    command = ("privacy", "export", trade.shop.domain, "--request", asked["id"], "--output", file)
    assert unwind(*command)[0] == 0
    assert stat.S_IMODE(file.stat().st_mode) == 0o600
    document = json.loads(file.read_text())
    assert (document["customer_id"], document["wallet"]["balance"]) == (str(ANN), 105)
    assert [each["order_id"] for each in document["orders"]] == [str(HERS)]
    assert [each["body"]["email"] for each in document["deliveries"]] == [EMAIL]
    assert str(BOB) not in file.read_text() and "bob@" not in file.read_text()
    assert {"lots", "entries", "awards", "redemptions", "activity", "refunds"} <= set(document)
    assert json.loads(unwind("privacy", "list", trade.shop.domain, "--json")[1])["requests"] == []
    assert unwind(*command)[0] == 2, "an export never replaces a file"


def test_an_export_by_number_is_printed_and_a_stranger_is_empty(
    trade: Door, unwind: Callable[..., tuple[int, str]]
) -> None:
    status, out = unwind("privacy", "export", trade.shop.domain, "--customer", 77)
    assert (status, json.loads(out)["wallet"], json.loads(out)["entries"]) == (0, None, [])
    assert unwind("privacy", "export", trade.shop.domain)[0] == 2
    assert unwind("privacy", "export", "nobody.myshopify.com", "--customer", 77)[0] == 1
    assert unwind("privacy", "export", trade.shop.domain, "--request", 10**9)[0] == 1


def test_a_request_that_waits_too_long_is_called_overdue(
    trade: Door, unwind: Callable[..., tuple[int, str]]
) -> None:
    ask(trade, ANN)
    rows(
        trade,
        "update privacy_requests set requested_at = now() - interval '21 days' where shop_id = :shop returning 1",
    )
    assert unwind("privacy", "list", trade.shop.domain)[0] == 1
    lines = trade.client.get("/metrics").text.splitlines()
    figures = {
        name: float(value) for name, _, value in (line.rpartition(" ") for line in lines if line[0] != "#")
    }
    for name in ("open", "overdue"):
        assert figures[f'unwind_privacy_requests_{name}{{kind="data_request"}}'] >= 1
    assert figures['unwind_privacy_requests_oldest_seconds{kind="data_request"}'] >= 21 * 86_400
    assert 'unwind_privacy_requests_open{kind="shop_redact"}' in figures


# -- shop/redact -------------------------------------------------------------------------------------


def uninstalled(door: Door) -> None:
    with door.engine.begin() as connection:
        shops.remove(connection, door.shop.domain)


def test_a_shop_that_left_is_erased_but_for_its_ledger(trade: Door) -> None:
    with trade.engine.begin() as connection:
        tokens.create(connection, trade.shop.domain)
    ask(trade, BOB)
    assert trade.send("customers/update", json.dumps({"id": 1, "email": EMAIL}).encode()) == 200
    uninstalled(trade)
    outcome = request_among_others(trade, "shop/redact")
    assert outcome == (
        "shop redacted: 3 bodies, 1 reasons, 0 answers, 1 api tokens, 0 logins, 0 dismissals, 0 identifiers,"
        " 2 named orders"
    )
    left = everything(trade)
    assert EMAIL not in left and "bob@example.com" not in left
    assert rows(trade, "select count(*) from api_tokens where shop_id = :shop") == [(0,)]
    assert rows(trade, "select sum(amount) from entries where shop_id = :shop") == [(205,)]
    states = rows(trade, "select kind, state from privacy_requests where shop_id = :shop order by kind")
    assert states == [("data_request", "done"), ("shop_redact", "done")]


def request_among_others(door: Door, topic: str) -> str:
    told = {"shop_id": 954889, "shop_domain": door.shop.domain}
    assert door.send(topic, json.dumps(told).encode()) == 200
    return next(outcome for outcome in door.work() if outcome.startswith("shop redacted"))


def test_a_shop_that_was_never_ours_is_done_and_keeps_nothing(door: Door) -> None:
    stranger = Door(door.client, door.engine, RegisteredShop(f"never-{door.shop.domain}", 0))
    assert stranger.send("orders/create", order_body(HERS, ANN)) == 200
    assert stranger.work() == ["failed: unknown_shop"]
    for topic, more in (
        ("customers/data_request", {"customer": {"id": ANN}, "data_request": {"id": 1}}),
        ("customers/redact", {"customer": {"id": ANN}, "orders_to_redact": [HERS]}),
        ("shop/redact", {}),
    ):
        assert request(stranger, topic, **more) == f"{topic}: nothing is held of this shop"
        if topic == "customers/redact":
            assert EMAIL not in str(
                rows(stranger, "select convert_from(body, 'UTF8') from inbox where shop_domain = :domain")
            )


def test_an_installed_shop_is_not_erased_until_it_is_removed(trade: Door) -> None:
    assert "is installed, so nothing was erased" in request(trade, "shop/redact")
    assert EMAIL in everything(trade)
    assert retain(trade.engine, body_days=30).shops == 0
    uninstalled(trade)
    assert retain(trade.engine, body_days=30).shops == 1
    assert EMAIL not in everything(trade)
    assert rows(trade, "select state from privacy_requests where shop_id = :shop") == [("done",)]


def test_a_shop_installed_again_since_has_nothing_to_erase(trade: Door) -> None:
    rows(
        trade,
        "insert into installations (shop_id, obtained_at) values (:shop, now() + interval '1 hour') returning 1",
    )
    assert request(trade, "shop/redact") == "installed again since: nothing erased"
    assert EMAIL in everything(trade)


def test_a_customers_request_under_the_name_of_a_shops_is_refused(trade: Door) -> None:
    uninstalled(trade)
    assert request(trade, "shop/redact", customer={"id": ANN}, orders_to_redact=[]) == "failed: unparseable"
    assert EMAIL in everything(trade)


# -- retention ---------------------------------------------------------------------------------------


def aged(door: Door, days: int, state: str) -> None:
    """An event of so many days ago, in this state."""
    rows(
        door,
        "insert into inbox (shop_domain, topic, webhook_id, body, state, received_at)"
        " values (:domain, 'orders/create', :id, :body, :state, now() - :days * interval '1 day') returning 1",
        id=f"aged-{state}-{days}", body=EMAIL.encode(), state=state, days=days,
    )  # fmt: skip


def test_raw_bodies_are_kept_for_so_many_days_and_no_longer(door: Door) -> None:
    for state in ("done", "discarded", "failed", "pending"):
        for days in (29, 31, PARKED_DAYS + 1):
            aged(door, days, state)
    found = retain(door.engine, body_days=30)
    assert (found.bodies, found.parked) == (4, 1)
    kept = rows(
        door,
        "select webhook_id from inbox where shop_domain = :domain and body is not null and state <> 'pending' order by 1",
    )
    assert [id for (id,) in kept] == ["aged-discarded-29", "aged-done-29", "aged-failed-29", "aged-failed-31"]
    assert retain(door.engine, body_days=30).bodies == 0
    rows(door, "delete from inbox where shop_domain = :domain and state = 'pending' returning 1")


def test_answers_for_repeated_calls_are_kept_for_a_week(door: Door) -> None:
    for days in (ANSWER_DAYS - 1, ANSWER_DAYS + 1):
        rows(
            door,
            "insert into idempotency_keys (shop_id, key, request_digest, status, response, created_at)"
            " values (:shop, :key, '', 200, '{}', now() - :days * interval '1 day') returning 1",
            key=str(days), days=days,
        )  # fmt: skip
    assert retain(door.engine, body_days=30).answers == 1
    assert rows(door, "select key from idempotency_keys where shop_id = :shop") == [(str(ANSWER_DAYS - 1),)]


def test_an_erased_event_that_waits_again_is_parked_in_plain_words(door: Door) -> None:
    aged(door, 40, "failed")
    rows(door, "update inbox set body = null, state = 'pending' where shop_domain = :domain returning 1")
    assert door.work() == ["failed: body_erased"]


# -- the record --------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    "change",
    [
        "detail = '{}'",
        'detail = detail || \'{"reason": "another"}\'',
        'detail = detail || \'{"reason": "(erased)", "amount": 1}\'',
        'detail = detail || \'{"reason": "(erased)"}\', customer_id = 1',
        'detail = detail || \'{"reason": "(erased)"}\', at = now()',
    ],
    ids=["emptied", "another reason", "an amount as well", "a customer as well", "a time as well"],
)
def test_the_record_lets_nothing_through_but_the_blanking_of_a_reason(trade: Door, change: str) -> None:
    """R40."""
    statement = text(f"update activity set {change} where shop_id = :shop and kind = 'grant.reason'")
    with pytest.raises(DBAPIError, match="append-only"), trade.engine.begin() as connection:
        redacting(connection)
        connection.execute(statement, {"shop": trade.shop.id})


def test_the_record_lets_nothing_be_blanked_unless_the_transaction_redacts(trade: Door) -> None:
    """R40."""
    blank = text(str(privacy.BLANK_REASONS))
    with pytest.raises(DBAPIError, match="append-only"), trade.engine.begin() as connection:
        connection.execute(blank, {"shop_id": trade.shop.id, "everybody": True, "people": [], "orders": []})
    with pytest.raises(DBAPIError, match="append-only"), trade.engine.begin() as connection:
        redacting(connection)
        connection.execute(text("delete from activity where shop_id = :shop"), {"shop": trade.shop.id})


def redacting(connection: Connection) -> None:
    connection.execute(text("select set_config('unwind.redacting', 'on', true)"))


def test_a_redaction_is_not_undone_by_time(trade: Door) -> None:
    redact(trade, ANN)
    found = retain(trade.engine, body_days=1, now=NOW + timedelta(days=2))
    assert found.bodies >= 1
    assert EMAIL not in everything(trade)
    assert rows(trade, "select count(*) from inbox where shop_domain = :domain and body is not null") == [
        (0,)
    ]
