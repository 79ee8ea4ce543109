"""What is booked is told to a shop's own systems: signed, numbered, at least once, and with a log (docs/webhooks.md)."""

from __future__ import annotations

import random
import re
import threading
from collections.abc import Iterator
from dataclasses import replace
from datetime import UTC, datetime, timedelta
from decimal import Decimal
from typing import Any
from uuid import UUID

import pytest
from cryptography.fernet import Fernet
from sqlalchemy import Engine, event, text
from standardwebhooks import Webhook

from models.errors import NotFound, Refused
from tasks.gateway.outgoing import Outcome
from tasks.steps import deliveries, endpoints, merchants, messages, privacy, turns
from tasks.steps.deliveries import DAY, WAITS
from tasks.steps.installations import forget
from tasks.steps.load import open_world
from tasks.steps.retention import MESSAGE_DAYS, retain
from tasks.steps.settle import Told, settle
from tasks.steps.shops import by_id
from tasks.steps.vault import Vault
from tests.conftest import RegisteredShop, register
from tests.flows.listening import Answer, Listener, Telling, listening
from tests.rules.build import CUSTOMER, ORDER, OTHER, day, dispute, order, refund

PAID = order(10_000)
PARTIAL = refund(51, 2_000, at=day(2))
REST = refund(52, 8_000, at=day(3))


@pytest.fixture
def listener() -> Iterator[Listener]:
    with listening() as listener:
        yield listener


@pytest.fixture
def telling(engine: Engine, shop: RegisteredShop) -> Telling:
    return Telling(engine, shop)


# -- what is told ------------------------------------------------------------------------------------


def test_a_refund_is_told_with_what_it_took_and_what_remains(telling: Telling, listener: Listener) -> None:
    """R36: remaining amounts in the payload; ids as text, money as decimal strings, points as numbers."""
    telling.listen(listener)
    telling.tell(PAID)
    telling.tell(PARTIAL)
    assert telling.deliver() == "2 delivered"
    assert all(each.verified for each in listener.heard)
    (told,) = listener.of("refunded")
    assert told == {
        "order": {
            "id": str(ORDER),
            "name": "#1",
            "status": "partially_refunded",
            "customer_id": str(CUSTOMER),
            "total": "100.00",
            "refunded": "20.00",
        },
        "cause": "refund:51",
        "refund_id": "51",
        "dispute_id": None,
        "amount": "20.00",
        "currency": "USD",
        "closes": False,
        "reason": None,
        "reasons": [],
        "reversed": 20,
        "returned": 0,
        "awards": [
            {"rule": "place-order", "reversed": 20, "pending": False, "debited": 20, "shortfall": 0},
        ],
        "redemptions": [],
        "remaining": {"amount": "80.00", "earned": 80, "redeemed": 0},
    }
    (points,) = listener.of("points.reversed")
    assert (points["reversed"], points["ratio"], points["balance_before"], points["balance_after"]) == (
        20,
        "1/5",
        100,
        80,
    )


def test_the_refund_that_closes_leaves_nothing(telling: Telling, listener: Listener) -> None:
    """R4, R36: the rest, and the status that it makes."""
    telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL, REST)
    telling.deliver()
    last = max((each.body for each in listener.heard), key=lambda body: int(body["sequence"]))["data"]
    assert (last["closes"], last["order"]["status"]) == (True, "fully_refunded")
    assert last["remaining"] == {"amount": "0.00", "earned": 0, "redeemed": 0}


def test_a_dispute_counts_once_it_is_lost(telling: Telling, listener: Listener) -> None:
    """R29: a chargeback lost is told as a refund is."""
    telling.listen(listener, ["refunded"])
    telling.tell(PAID, dispute(7, 3_000, at=day(2), status="needs_response"))
    assert telling.messages() == []
    telling.tell(dispute(7, 3_000, at=day(4)))
    telling.tell(dispute(7, 3_000, at=day(4)))
    telling.deliver()
    (told,) = listener.of("refunded")
    assert (told["cause"], told["dispute_id"], told["amount"]) == ("dispute:7", "7", "30.00")


def test_an_order_that_is_off_is_told_as_cancelled(telling: Telling, listener: Listener) -> None:
    """R27: an unpaid order that is cancelled."""
    telling.listen(listener)
    unpaid = order(10_000, financial_status="pending")
    telling.tell(unpaid)
    telling.tell(replace(unpaid, cancelled_at=day(3), updated_at=day(3)))
    telling.deliver()
    (told,) = listener.of("cancelled")
    assert (told["order"]["status"], told["cause"], told["closes"]) == ("cancelled", f"cancel:{ORDER}", True)
    assert telling.messages() == [("cancelled", f"order:{ORDER}", 1)]


def test_what_a_late_fact_corrects_is_told_again(telling: Telling, listener: Listener) -> None:
    """R0: the refund's money turns out to be pending first, and to have failed nothing, then settles."""
    telling.listen(listener, ["refunded"])
    record, money = refund(51, 2_000, at=day(2), status="pending")
    telling.tell(PAID, record, money)
    assert telling.messages() == []
    telling.tell(replace(money, status="success"))
    telling.deliver()
    assert [told["amount"] for told in listener.of("refunded")] == ["20.00"]


def test_what_a_merchant_does_by_hand_is_told_with_his_words_and_told_again_when_undone(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    """R36, R37, R38: a refund asked of us, its preview (which tells nothing), its undo; then the order is cancelled."""
    telling.listen(listener, ["refunded", "cancelled"])
    telling.tell(PAID)
    said: dict[str, Any] = {
        "amount": Decimal("20.00"),
        "lines": None,
        "reason": "wrong size",
        "by": "token:1",
    }
    with engine.connect() as connection:
        merchants.refund_order(connection, telling.id, ORDER, **said)
        connection.rollback()
    assert telling.messages() == []
    with engine.begin() as connection:
        done = merchants.refund_order(connection, telling.id, ORDER, **said)
    with engine.begin() as connection:
        merchants.undo_refund(connection, telling.id, int(done["id"]), reason="a slip", by="token:1")
    with engine.begin() as connection:
        merchants.cancel_order(connection, telling.id, ORDER, reason="gone", by="token:1")
    with engine.begin() as connection:
        merchants.undo_ending(connection, telling.id, ORDER, reason="back", by="token:1")
    telling.deliver()
    bodies = sorted((each.body for each in listener.heard), key=lambda body: int(body["sequence"]))
    told = [(body["type"], body["data"]) for body in bodies]
    assert [(event, data["order"]["status"]) for event, data in told] == [
        ("refunded", "partially_refunded"),
        ("refunded", "open"),
        ("cancelled", "cancelled"),
        ("cancelled", "open"),
    ]
    first, undone, off, on = (data for _, data in told)
    assert (first["reason"], first["amount"], first["remaining"]["earned"]) == ("wrong size", "20.00", 80)
    assert (undone["cause"], undone["amount"]) == (first["cause"], "0.00")
    assert (undone["corrects"], undone["remaining"]["earned"]) == ({"amount": "20.00"}, 100)
    assert (off["reason"], off["remaining"]["amount"]) == ("gone", "0.00")
    assert (on["corrects"], on["remaining"]["amount"]) == ({"status": "cancelled"}, "100.00")


def test_an_award_that_arrives_late_changes_what_was_taken_and_says_so(
    telling: Telling, listener: Listener
) -> None:
    """R0, R7: a claim booked at a time when the wallet was thought to hold more is told again, with what it corrects."""
    telling.listen(listener, ["points.reversed"])
    telling.tell(PAID, PARTIAL)
    older = refund(50, 9_000, at=day(1, seconds=60))
    telling.tell(older)
    telling.deliver()
    corrected = [told for told in listener.of("points.reversed") if "corrects" in told]
    assert corrected and corrected[0]["cause"] == "refund:51"
    assert corrected[0]["corrects"]["reversed"] == 20


def test_told_twice_is_told_once(telling: Telling, listener: Listener) -> None:
    telling.listen(listener)
    for _ in range(3):
        telling.tell(PAID, PARTIAL)
    assert telling.messages() == [("refunded", f"order:{ORDER}", 1), ("points.reversed", f"order:{ORDER}", 2)]


def test_an_endpoint_hears_what_it_asked_for(telling: Telling, listener: Listener) -> None:
    telling.listen(listener, ["points.reversed"])
    telling.tell(PAID, PARTIAL)
    telling.deliver()
    assert listener.events() == ["points.reversed"]


def test_nothing_personal_is_told(telling: Telling, listener: Listener) -> None:
    telling.listen(listener)
    telling.tell(PAID, PARTIAL)
    telling.deliver()
    said = str([each.body for each in listener.heard])
    assert "@" not in said and "email" not in said and "phone" not in said


# -- with its cause, and at no cost ------------------------------------------------------------------


def test_what_was_rolled_back_was_never_told(engine: Engine, telling: Telling, listener: Listener) -> None:
    telling.listen(listener)
    with engine.connect() as connection:
        world = open_world(connection, by_id(connection, telling.id), datetime.now(UTC))
        facts = [PAID, *PARTIAL]
        settle(world, [Told(fact=fact, received_at=day(9), cause="inbox:1") for fact in facts])
        told = connection.execute(
            text("select count(*) from messages where shop_id = :id"), {"id": telling.id}
        )
        assert told.scalar_one() == 2
        connection.rollback()
    assert telling.messages() == []
    telling.tell(PAID, PARTIAL)
    assert [sequence for _, _, sequence in telling.messages()] == [1, 2]


def test_a_shop_without_endpoints_pays_nothing(engine: Engine, telling: Telling, listener: Listener) -> None:
    """The same statements as before there were any; an endpoint adds one a booking."""

    def statements(shop: Telling) -> list[str]:
        seen: list[str] = []

        def note(_c: Any, _cursor: Any, statement: str, *_: Any) -> None:
            seen.append(statement)

        shop.tell(PAID)
        event.listen(engine, "after_cursor_execute", note)
        try:
            shop.tell(PARTIAL)
        finally:
            event.remove(engine, "after_cursor_execute", note)
        return seen

    silent = statements(telling)
    heard = Telling(engine, register(engine))
    heard.listen(listener)
    assert not [one for one in silent if "messages" in one or "deliveries" in one]
    assert len(statements(heard)) == len(silent) + 1


# -- order -------------------------------------------------------------------------------------------


def test_numbers_have_no_gaps_and_follow_the_books_under_many_workers(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    """Twelve workers book refunds of three orders at once; each order's messages are numbered as its books changed."""
    telling.listen(listener)
    orders = [ORDER + n for n in range(3)]
    telling.tell(*(order(10_000, order_id=id) for id in orders))
    facts = [refund(100 + n, 100, at=day(2), order_id=orders[n % 3]) for n in range(36)]
    random.Random(5).shuffle(facts)
    threads = [threading.Thread(target=telling.tell, args=(each,)) for each in facts]
    for start in range(0, len(threads), 12):
        for thread in threads[start : start + 12]:
            thread.start()
        for thread in threads[start : start + 12]:
            thread.join()
    for id in orders:
        rows = telling.rows(
            "select m.sequence, a.id from messages m join activity a on a.shop_id = m.shop_id and a.kind = m.event"
            " and a.cause = m.data ->> 'cause' and a.order_id = :order"
            " where m.shop_id = :shop and m.subject = :subject and m.event = 'points.reversed' order by m.sequence",
            order=id,
            subject=f"order:{id}",
        )
        assert len(rows) == 12 and [row.id for row in rows] == sorted(row.id for row in rows)
        numbers = telling.rows(
            "select sequence from messages where shop_id = :shop and subject = :subject order by id",
            subject=f"order:{id}",
        )
        assert [row.sequence for row in numbers] == list(range(1, 25))


def test_numbers_go_on_after_messages_were_erased_by_age(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL)
    telling.rows(
        "update messages set created_at = now() - :days * interval '1 day' where shop_id = :shop returning 1",
        days=MESSAGE_DAYS + 1,
    )
    first = retain(engine, body_days=30, rows_a_run=1)
    assert (first.messages, first.more) == (1, True)
    assert retain(engine, body_days=30).messages >= 1
    telling.tell(REST)
    assert telling.messages()[0] == ("refunded", f"order:{ORDER}", 3)


# -- failures ----------------------------------------------------------------------------------------


def test_the_waits_add_up_to_three_days() -> None:
    """With the longest jitter a little more; never shorter than the wait, and never sooner than the endpoint asks."""
    assert sum(WAITS) == pytest.approx(3 * DAY, rel=0.02)
    failed = Outcome(status=500, error=None, milliseconds=1)
    least = [deliveries.wait_seconds(n, failed, lambda: 0.0) for n in range(1, len(WAITS) + 2)]
    most = [deliveries.wait_seconds(n, failed, lambda: 1.0) for n in range(1, len(WAITS) + 2)]
    assert least == [*WAITS, None] and most[-1] is None
    assert all(a < b <= a * 1.1 + 0.01 for a, b in zip(least[:-1], most[:-1], strict=True) if a and b)
    assert list(WAITS) == sorted(WAITS)


def test_a_delivery_that_fails_is_tried_for_three_days_then_the_endpoint_is_paused(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    """The clock jumps from try to try; what waits goes out under its own id once the endpoint is enabled again."""
    id = telling.listen(listener, ["refunded"])
    listener.always = Answer(500)
    telling.tell(PAID, PARTIAL)
    begun = at = datetime.now(UTC) + timedelta(seconds=1)
    for _ in range(len(WAITS) + 2):
        telling.deliver(now=at)
        (row,) = telling.rows("select state, not_before from deliveries where shop_id = :shop")
        if row.state != "pending":
            break
        at = row.not_before
    assert timedelta(days=2.9) < at - begun < timedelta(days=3.4)
    shown = telling.endpoint(id)
    assert (shown["state"], shown["paused_reason"]) == ("paused", "failing")
    (delivery,) = telling.deliveries(id)
    assert {each["status"] for each in delivery["tries"]} == {500}
    assert len({each.id for each in listener.heard}) == 1 and len(listener.heard) == len(delivery["tries"])
    noted = telling.rows("select detail from activity where shop_id = :shop and kind = 'endpoint.paused'")
    assert [row.detail["why"] for row in noted] == ["failing"]
    telling.tell(REST)
    telling.deliver(now=at)
    calls = len(listener.heard)
    listener.always = Answer(204)
    with engine.begin() as connection:
        endpoints.change(connection, telling.id, id, by="cli", state="active")
    telling.deliver(ahead=2.0)
    states = [each["state"] for each in telling.deliveries(id)]
    assert states[-1] == "delivered" and "waiting" not in states
    assert len(listener.heard) > calls


def test_a_dead_endpoint_is_called_with_one_delivery_at_a_time(telling: Telling, listener: Listener) -> None:
    id = telling.listen(listener, ["refunded"])
    listener.always = Answer(503)
    telling.tell(PAID, *(refund(100 + n, 100, at=day(2)) for n in range(40)))
    at = datetime.now(UTC) + timedelta(seconds=1)
    telling.deliver(now=at)
    first = len(listener.heard)
    assert first <= deliveries.SENT_AT_ONCE_TO_ONE
    assert telling.deliver(now=at + timedelta(seconds=1)) == "nothing was due"
    later = at + timedelta(hours=1)
    telling.deliver(now=later)
    assert len(listener.heard) == first + 1
    assert telling.endpoint(id)["waiting"] == 40 and telling.endpoint(id)["resting_until"]
    listener.always = Answer(204)
    telling.deliver(now=later + timedelta(hours=13))
    assert telling.endpoint(id)["resting_until"] is None
    assert telling.endpoint(id)["waiting"] == 0


@pytest.mark.parametrize(
    ("said", "seconds"),
    [
        pytest.param("120", 120.0, id="in seconds"),
        pytest.param("999999", float(deliveries.RETRY_AFTER_SECONDS_MAX), id="longer than is believed"),
        pytest.param("soon", 5.0, id="in words: not understood"),
    ],
)
def test_an_endpoint_may_say_when_to_come_back(
    telling: Telling, listener: Listener, said: str, seconds: float
) -> None:
    telling.listen(listener, ["refunded"])
    listener.answers.append(Answer(429, {"Retry-After": said}))
    telling.tell(PAID, PARTIAL)
    at = datetime.now(UTC) + timedelta(seconds=1)
    telling.deliver(now=at)
    (row,) = telling.rows("select not_before from deliveries where shop_id = :shop")
    assert seconds <= (row.not_before - at).total_seconds() <= seconds * (1.1 if seconds == 5.0 else 1)
    telling.deliver(now=row.not_before + timedelta(seconds=1))
    assert len(listener.heard) == 2


@pytest.mark.parametrize("status", [200, 201, 202, 204])
def test_any_2xx_is_a_success(telling: Telling, listener: Listener, status: int) -> None:
    telling.listen(listener, ["refunded"])
    listener.always = Answer(status)
    telling.tell(PAID, PARTIAL)
    assert telling.deliver() == "1 delivered"


def test_a_redirect_is_a_failure_and_is_not_followed(telling: Telling, listener: Listener) -> None:
    id = telling.listen(listener, ["refunded"])
    with listening() as elsewhere:
        listener.always = Answer(307, {"Location": elsewhere.url})
        telling.tell(PAID, PARTIAL)
        assert telling.deliver() == "1 failed"
        assert elsewhere.heard == []
    assert [each["status"] for each in telling.deliveries(id)[0]["tries"]] == [307]


def test_gone_pauses_the_endpoint_at_once(telling: Telling, listener: Listener) -> None:
    id = telling.listen(listener, ["refunded"])
    listener.always = Answer(410)
    telling.tell(PAID, PARTIAL)
    telling.deliver()
    shown = telling.endpoint(id)
    assert (shown["state"], shown["paused_reason"], shown["waiting"]) == ("paused", "gone", 1)
    telling.deliver(ahead=9 * DAY)
    assert len(listener.heard) == 1


def test_nobody_there_is_logged_in_one_word(telling: Telling) -> None:
    with listening() as listener:
        id = telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL)
    assert telling.deliver() == "1 failed"
    (tried,) = telling.deliveries(id)[0]["tries"]
    assert (tried["status"], tried["error"]) == (None, "connection_refused")


# -- by hand -----------------------------------------------------------------------------------------


def test_what_waits_for_a_paused_endpoint_goes_out_when_it_is_enabled(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    id = telling.listen(listener, ["refunded"])
    telling.tell(PAID)
    with engine.begin() as connection:
        endpoints.change(connection, telling.id, id, by="token:1", state="paused")
    telling.tell(PARTIAL)
    assert telling.deliver() == "nothing was due"
    assert (telling.endpoint(id)["paused_reason"], telling.endpoint(id)["waiting"]) == ("by_hand", 1)
    with engine.begin() as connection:
        endpoints.change(connection, telling.id, id, by="token:1", state="active")
    assert telling.deliver(ahead=2.0) == "1 delivered"


def test_a_delivery_is_sent_again_by_hand_under_its_own_id(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    id = telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL)
    telling.deliver()
    (delivery,) = telling.deliveries(id)
    with engine.begin() as connection:
        again = deliveries.resend(connection, telling.id, int(delivery["id"]))
    assert (again["state"], again["sends"]) == ("pending", 2)
    telling.deliver()
    first, second = listener.heard
    assert first.id == second.id and first.body == second.body and second.verified
    assert len(telling.deliveries(id)[0]["tries"]) == 2


def test_a_delivery_that_is_due_anyway_is_not_sent_twice_by_hand(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    id = telling.listen(listener, ["refunded"])
    listener.answers.append(Answer(500))
    telling.tell(PAID, PARTIAL)
    (delivery,) = telling.deliveries(id)
    with engine.begin() as connection:
        assert deliveries.resend(connection, telling.id, int(delivery["id"]))["sends"] == 1
    telling.deliver()
    with engine.begin() as connection:  # it failed and waits for its next try: now it is due at once
        assert deliveries.resend(connection, telling.id, int(delivery["id"]))["sends"] == 2
    assert telling.deliver() == "1 delivered"


def test_an_id_says_nothing_of_how_many_there_are_and_is_never_given_again(
    telling: Telling, listener: Listener
) -> None:
    """A database restored from a backup counts from an older number; receivers must not take new messages for old ones."""
    telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL, REST)
    telling.deliver()
    ids = {each.id for each in listener.heard}
    assert len(ids) == 2 and all(re.fullmatch(r"msg_[0-9a-f]{32}", id) for id in ids)
    assert {UUID(id.removeprefix("msg_")).version for id in ids} == {4}


def test_what_one_act_does_not_change_whoever_delivers_does(
    engine: Engine, telling: Telling, listener: Listener, monkeypatch: pytest.MonkeyPatch
) -> None:
    """However much waits, pausing, enabling and deleting touch so many rows and no more."""
    monkeypatch.setattr(endpoints, "CHANGED_AT_ONCE", 3)
    monkeypatch.setattr(deliveries, "SET_ASIDE_AT_ONCE", 2)
    id = telling.listen(listener, ["refunded"])
    telling.tell(PAID, *(refund(100 + n, 100, at=day(2)) for n in range(10)))

    def states() -> dict[str, int]:
        rows = telling.rows(
            "select state, count(*) as n from deliveries where shop_id = :shop group by state"
        )
        return {row.state: row.n for row in rows}

    def change(state: str) -> None:
        with engine.begin() as connection:
            endpoints.change(connection, telling.id, id, by="cli", state=state)

    change("paused")
    assert states() == {"pending": 7, "waiting": 3}
    for _ in range(4):
        assert telling.deliver() == "nothing was due"
    assert states() == {"waiting": 10}
    change("active")
    assert states() == {"pending": 3, "waiting": 7}
    assert telling.deliver() == "10 delivered"
    change("paused")
    telling.tell(*(refund(200 + n, 100, at=day(3)) for n in range(10)))
    for _ in range(5):
        telling.deliver()
    with engine.begin() as connection:
        endpoints.remove(connection, telling.id, id)
    assert states() == {"delivered": 10, "cancelled": 3, "waiting": 7}
    for _ in range(4):
        telling.deliver()
    assert states() == {"delivered": 10, "cancelled": 10}
    assert len(listener.heard) == 10


def test_a_deleted_endpoint_keeps_no_secret_and_hears_nothing_more(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    id = telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL)
    with engine.begin() as connection:
        endpoints.remove(connection, telling.id, id)
    assert telling.deliver() == "nothing was due"
    (row,) = telling.rows("select secret, old_secret from endpoints where shop_id = :shop")
    assert tuple(row) == (None, None)
    (left,) = telling.rows("select id, state from deliveries where shop_id = :shop")
    assert left.state == "cancelled"
    with engine.begin() as connection, pytest.raises(Refused, match="deleted"):
        deliveries.resend(connection, telling.id, left.id)
    with engine.begin() as connection, pytest.raises(NotFound):
        endpoints.get(connection, telling.id, id)
    retain(engine, body_days=30)
    assert telling.rows("select 1 from endpoints where shop_id = :shop") == []


def test_a_new_secret_signs_beside_the_old_one_for_a_day(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    id = telling.listen(listener, ["refunded"])
    old = listener.secret
    with engine.begin() as connection:
        new = endpoints.rotate(connection, telling.vault, telling.id, id)["secret"]
    assert new != old
    telling.tell(PAID, PARTIAL)
    telling.deliver()
    (heard,) = listener.heard
    assert heard.verified and len(heard.headers["webhook-signature"].split()) == 2
    listener.secret = new
    telling.tell(REST)
    telling.deliver()
    assert listener.heard[1].verified
    (row,) = telling.rows("select * from endpoints where shop_id = :shop")
    late = deliveries.signed(
        telling.vault,
        telling.id,
        type("Row", (), {"secret": row.secret, "old_secret": row.old_secret,
                         "old_secret_until": row.old_secret_until, "key": UUID(int=1)}),
        "{}",
        datetime.now(UTC) + timedelta(days=1, seconds=5),
    )  # fmt: skip
    assert len(late["webhook-signature"].split()) == 1


def test_secrets_are_stored_sealed_and_long_enough(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    telling.listen(listener)
    (row,) = telling.rows("select secret from endpoints where shop_id = :shop")
    assert listener.secret.startswith("whsec_") and listener.secret.encode() not in bytes(row.secret)
    assert telling.vault.open(telling.id, "endpoint", row.secret) == listener.secret
    assert len(Webhook(listener.secret)._whsecret) >= 24
    with engine.begin() as connection:
        assert endpoints.reseal(connection, telling.vault, telling.id) == 1


def test_a_shop_has_twenty_endpoints_at_most(engine: Engine, telling: Telling, listener: Listener) -> None:
    for _ in range(endpoints.ENDPOINTS_MAX):
        telling.listen(listener)
    with pytest.raises(Refused, match="at most 20"):
        telling.listen(listener)


def test_a_ping_goes_to_one_endpoint_only(engine: Engine, telling: Telling, listener: Listener) -> None:
    with listening() as other:
        telling.listen(other)
        id = telling.listen(listener)
        with engine.begin() as connection:
            endpoints.ping(connection, telling.id, id)
        telling.deliver()
        assert (listener.events(), other.events()) == (["ping"], [])


def test_pings_cannot_pile_up(engine: Engine, telling: Telling, listener: Listener) -> None:
    """One that is still to be sent is enough: nobody fills our tables, or another's log, with them."""
    id = telling.listen(listener)

    def ping() -> int:
        with engine.begin() as connection:
            return endpoints.ping(connection, telling.id, id)

    first = ping()
    assert [ping(), ping()] == [first, first]
    telling.deliver()
    assert ping() > first
    assert telling.deliver() == "1 delivered"
    assert listener.events() == ["ping", "ping"]


def test_every_event_of_the_contract_is_one_that_can_be_asked_for() -> None:
    assert set(messages.EVENTS) == {
        "refunded", "cancelled", "auto_refunded", "points.reversed", "redemption.returned", "code.reactivated",
        "tier.changed",
    }  # fmt: skip


# -- those who leave ---------------------------------------------------------------------------------


def test_a_customer_who_is_redacted_leaves_no_words_in_messages(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    """The rest of a message names nobody; another customer's message keeps what was said."""
    telling.listen(listener)
    with engine.begin() as connection:
        world = open_world(connection, by_id(connection, telling.id), datetime.now(UTC))
        world.why["refund:51"] = world.why["refund:61"] = "Ann did not like the colour"
        other = [
            order(5_000, order_id=ORDER + 1, customer_id=OTHER),
            *refund(61, 500, at=day(2), order_id=ORDER + 1),
        ]
        settle(world, [Told(fact=f, received_at=day(9), cause="inbox:1") for f in (PAID, *PARTIAL, *other)])
        asked = privacy.Asked(customer_id=CUSTOMER, orders=())
        counts = privacy.redact(connection, by_id(connection, telling.id), asked)
    assert counts["reasons"] == 1
    telling.deliver()
    assert {told["cause"]: told["reason"] for told in listener.of("refunded")} == {
        "refund:51": "(erased)",
        "refund:61": "Ann did not like the colour",
    }


def test_a_shop_that_leaves_takes_its_endpoints_and_what_was_told_with_it(
    engine: Engine, telling: Telling, listener: Listener
) -> None:
    telling.listen(listener)
    telling.tell(PAID, PARTIAL)
    with engine.begin() as connection:
        forget(connection, telling.id)
    (row,) = telling.rows("select state, url, secret from endpoints where shop_id = :shop")
    assert tuple(row) == ("deleted", "", None)
    assert telling.messages() == [] and telling.rows("select 1 from deliveries where shop_id = :shop") == []
    assert telling.deliver() == "nothing was due"
    telling.tell(REST)
    assert telling.messages() == []
    retain(engine, body_days=30)
    assert telling.rows("select 1 from endpoints where shop_id = :shop") == []


# -- the queue ---------------------------------------------------------------------------------------


def test_of_two_workers_each_sends_what_the_other_does_not(telling: Telling, listener: Listener) -> None:
    telling.listen(listener, ["refunded"])
    telling.tell(PAID, *(refund(100 + n, 100, at=day(2)) for n in range(60)))
    threads = [threading.Thread(target=telling.deliver) for _ in range(3)]
    for thread in threads:
        thread.start()
    for thread in threads:
        thread.join()
    assert len(listener.heard) == 60 and len({each.id for each in listener.heard}) == 60
    assert {
        row.attempts for row in telling.rows("select attempts from deliveries where shop_id = :shop")
    } == {1}


def test_a_secret_that_no_key_opens_is_no_fault_of_the_endpoint(telling: Telling, listener: Listener) -> None:
    """The message waits for the operator, uncounted; the endpoint is not failing."""
    id = telling.listen(listener, ["refunded"])
    telling.tell(PAID, PARTIAL)
    right, telling.vault = telling.vault, Vault([Fernet.generate_key()])
    assert telling.deliver() == "1 not_signed"
    assert telling.endpoint(id)["failing_since"] is None and telling.deliveries(id)[0]["tries"] == []
    telling.vault = right
    assert telling.deliver(ahead=deliveries.UNREADABLE_SECONDS + 2) == "1 delivered"


MANY = (
    "insert into shops (domain) select 'many-' || n || '.myshopify.com' from generate_series(1, 3) as n;"
    "insert into endpoints (shop_id, url, events, secret)"
    " select 1 + n % 3, 'x', '[\"*\"]', 'x' from generate_series(1, 30) as n;"
    "insert into messages (shop_id, event, subject, sequence, at, data)"
    " select 1 + n % 3, 'refunded', 'order:' || n, 1, now(), '{}' from generate_series(1, 9000) as n;"
    "insert into deliveries (shop_id, endpoint_id, message_id, state)"
    " select m.shop_id, e.id, m.id, case when m.id % 3 = 0 then 'pending' else 'waiting' end"
    " from messages m join endpoints e on e.shop_id = m.shop_id and e.id % 5 = m.id % 5;"
    "analyze"
)


def test_what_is_due_is_found_by_an_index(fresh_engine: Engine) -> None:
    """However much waits for paused endpoints."""
    soon = datetime.now(UTC) + timedelta(hours=1)
    values: dict[str, Any] = {"shop_id": 1, "now": soon, "until": soon}
    values |= {"careful": 3, "each": 8, "limit": 16}
    with fresh_engine.begin() as connection:
        for statement in MANY.split(";"):
            connection.execute(text(statement))
    for statement, index in (
        (deliveries.TAKE, "ix_deliveries_pending"),
        (deliveries.SET_ASIDE, "ix_deliveries_pending"),
        (deliveries.RELEASE, "ix_deliveries_waiting"),
        (turns.DUE, "ix_deliveries_due"),
    ):
        with fresh_engine.begin() as connection:
            plan = "\n".join(connection.execute(text("explain " + statement.text), values).scalars())
            assert index in plan and "Seq Scan on deliveries" not in plan, plan
