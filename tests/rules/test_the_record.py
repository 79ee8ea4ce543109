"""What is written down, and what looking at it changes: R23 (as far as the outbox), R37, R39, R40; on the real books."""

from __future__ import annotations

from collections.abc import Sequence
from decimal import Decimal
from typing import Any

import pytest
from sqlalchemy import Engine, text

from models.errors import Refused
from tasks.steps.preview import preview
from tasks.steps.story import story
from tasks.steps.trace import as_text, trace
from tasks.steps.verify import verify
from tests.books import Books, Step, open_books, play, state_of
from tests.flows.stories import SECOND, STORIES, TWO, Story, came, given, spent
from tests.rules.build import CUSTOMER, LATER, ORDER, OTHER, day, order, refund, returned

PARTIAL = came(4, refund(1, 3_000, returned(1, 3_000), at=day(4)))
CLOSING = came(6, refund(2, 7_000, at=day(6)))
PLACED = came(1, order(None, *TWO))
REACTIVATES = {"reward": {"reactivate_code": True}}


def books_of(engine: Engine, steps: Sequence[Step], **program: Any) -> Books:
    books = open_books(engine, Story("a story", list(steps), program).world)
    play(books, steps, now=LATER)
    return books


def rows(books: Books, statement: str) -> list[tuple[Any, ...]]:
    with books.engine.connect() as connection:
        return [tuple(row) for row in connection.execute(text(statement), {"shop": books.shop_id})]


def told(books: Books, kind: str) -> list[dict[str, Any]]:
    return [
        detail
        for (detail,) in rows(
            books, f"select detail from activity where shop_id = :shop and kind = '{kind}' order by id"
        )
    ]


# -- R22, R23: the code that is to come back ---------------------------------------------------------

OUTBOX = "select kind, key, state from outbox where shop_id = :shop"


def redemption(books: Books) -> tuple[Any, ...]:
    return rows(books, "select reactivation, restitution, returned from redemptions where shop_id = :shop")[0]


def test_a_closing_refund_asks_for_the_code_once(engine: Engine) -> None:
    """R22: one row in the outbox, however often the refund is told."""
    books = books_of(engine, [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED, CLOSING, CLOSING,
                              came(7, refund(3, 3_000, at=day(5)))], **REACTIVATES)  # fmt: skip
    assert rows(books, OUTBOX) == [("reactivate_code", "reactivate:1:1", "pending")]
    assert redemption(books) == ("wanted", "code", 0)


def test_a_late_partial_refund_takes_the_wish_back_while_nothing_was_done(engine: Engine) -> None:
    """R22, R23, R21: points were due first, so the rest comes as points as well."""
    whole = came(6, refund(2, 10_000, at=day(6)))
    books = books_of(
        engine, [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED, whole], **REACTIVATES
    )
    assert redemption(books) == ("wanted", "code", 0)
    books.tell([PARTIAL], now=LATER)
    assert rows(books, OUTBOX) == [("reactivate_code", "reactivate:1:1", "cancelled")]
    assert redemption(books) == ("none", "points", 80)


def test_a_second_order_with_the_code_takes_the_wish_back(engine: Engine) -> None:
    """R22: used elsewhere meanwhile."""
    whole = came(6, refund(2, 10_000, at=day(6)))
    again = came(8, order(None, *TWO, order_id=SECOND, at=day(8)))
    books = books_of(
        engine,
        [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED, whole, again],
        **REACTIVATES,
    )
    assert rows(books, OUTBOX) == [("reactivate_code", "reactivate:1:1", "cancelled")]
    assert redemption(books) == ("none", "points", 80)


def test_what_was_done_at_shopify_stays_done_on_the_books(engine: Engine) -> None:
    """R23, R21: the code was made usable; an earlier partial refund comes late and returns no points."""
    whole = came(6, refund(2, 10_000, at=day(6)))
    books = books_of(
        engine, [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED, whole], **REACTIVATES
    )
    with engine.begin() as connection:
        key = {"shop": books.shop_id}
        connection.execute(
            text("update redemptions set reactivation = 'done', reactivations = 1 where shop_id = :shop"), key
        )
        connection.execute(text("update outbox set state = 'done' where shop_id = :shop"), key)
    books.tell([PARTIAL], now=LATER)
    assert redemption(books) == ("done", "code", 0)
    assert rows(books, OUTBOX) == [("reactivate_code", "reactivate:1:1", "done")]


# -- R37: preview ------------------------------------------------------------------------------------


@pytest.mark.parametrize(
    ("wish", "real"),
    [
        pytest.param({"amount": Decimal("25.00")}, refund(1, 2_500, at=day(5)), id="an amount"),
        pytest.param(
            {"lines": {1: 1}}, refund(1, 3_000, returned(1, 3_000), at=day(5)), id="one of two units"
        ),
        pytest.param(
            {}, refund(1, 10_000, returned(1, 6_000, units=2), returned(2, 4_000), at=day(5)), id="the rest"
        ),
    ],
)
def test_a_preview_says_what_the_refund_then_does_and_changes_nothing(
    engine: Engine, wish: Any, real: Any
) -> None:
    """R37: the same code, with one more fact."""
    books = books_of(engine, [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED])
    before, written = state_of(books), written_rows(books)
    with engine.begin() as connection:
        shown = preview(connection, books.shop_id, ORDER, now=day(5), **wish)
    assert (state_of(books), written_rows(books)) == (before, written)
    books.tell([came(5, real)], now=LATER)
    after = state_of(books)
    (award,) = rows(books, "select reversed from awards where shop_id = :shop")
    assert shown["reversed"] == award[0]
    assert shown["returned"] == after["redemptions"][1][0]
    assert shown["status_after"] == after["orders"][ORDER][0]
    assert shown["customers"] == [
        {
            "id": str(CUSTOMER),
            "balance_before": before["customers"][CUSTOMER][0],
            "balance_after": after["customers"][CUSTOMER][0],
        }
    ]


TABLES = ("entries", "timeline", "lots", "activity", "orders", "refunds", "transactions", "outbox", "awards")


def written_rows(books: Books) -> list[int]:
    return [rows(books, f"select count(*) from {table} where shop_id = :shop")[0][0] for table in TABLES]


def test_a_preview_of_more_than_there_is_left_is_refused(engine: Engine) -> None:
    """R37: 70.00 are left of 100.00."""
    books = books_of(engine, [PLACED, PARTIAL])
    with engine.begin() as connection, pytest.raises(Refused) as refusal:
        preview(connection, books.shop_id, ORDER, amount=Decimal("70.01"), now=LATER)
    assert refusal.value.code == "wrong_amount"


# -- R39: activity and trace -------------------------------------------------------------------------


def test_every_event_leaves_an_entry_with_its_sums_and_reasons(engine: Engine) -> None:
    """R39: amounts, order, money, balance before and after, the exact fraction, the shortfall, the policy version."""
    books = books_of(engine, [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED,
                              spent(2, {CUSTOMER: 110}, at=day(2), code="other"), PARTIAL])  # fmt: skip
    (claim,) = told(books, "points.reversed")
    assert {name: claim[name] for name in sorted(claim)} == {
        "amount": 30,
        "balance_after": 4,
        "balance_before": 34,
        "booked_by": claim["booked_by"],
        "cap": 100,
        "currency": "USD",
        "moved": 30,
        "of": 100,
        "order": "#1",
        "order_total": "100.00",
        "pending": False,
        "policy_version": 1,
        "ratio": "3/10",
        "reasons": [],
        "refund_amount": "30.00",
        "shortfall": 0,
    }
    (back,) = told(books, "redemption.returned")
    assert (
        back["amount"],
        back["ratio"],
        back["balance_before"],
        back["balance_after"],
        back["expired"],
    ) == (24, "3/10", 10, 34, 0)


def test_a_shortfall_and_what_expired_stand_in_the_entries(engine: Engine) -> None:
    """R39, R7, R19."""
    steps = [given(1, 80, at=day(-9), expires_at=day(2)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED,
             spent(2, {CUSTOMER: 100}, at=day(3), code="other"), came(6, refund(2, 10_000, at=day(6)))]  # fmt: skip
    books = books_of(engine, steps)
    (claim,), (back,) = told(books, "points.reversed"), told(books, "redemption.returned")
    assert (claim["amount"], claim["moved"], claim["shortfall"]) == (100, 0, 100)
    assert (back["amount"], back["moved"], back["expired"]) == (80, 0, 80)


@pytest.mark.parametrize(
    ("steps", "kind", "reason"),
    [
        pytest.param([PLACED, came(4, refund(1, None, returned(1, 3_000), at=day(4)))], "points.reversed", "NO_MONEY_MOVED", id="no money"),
        pytest.param([came(4, refund(1, 900, at=day(4)))], "refund.recorded", "ORDER_UNKNOWN", id="no order yet"),
        pytest.param([came(1, order(10_000, customer_id=None)), came(4, refund(1, 900, at=day(4)))], "refund.recorded", "NO_CUSTOMER", id="no customer"),
    ],
)  # fmt: skip
def test_an_event_of_zero_leaves_an_entry_too(
    engine: Engine, steps: list[Step], kind: str, reason: str
) -> None:
    """R39, R10, S10: with its reason."""
    (entry,) = told(books_of(engine, steps), kind)
    assert (entry.get("amount", 0), reason in entry["reasons"]) == (0, True)


def test_a_late_fact_says_what_it_corrects(engine: Engine) -> None:
    """R0, R39: the claim had 30 short; with the earlier credit known it has none."""
    steps = [
        came(1, order(10_000)),
        spent(1, {CUSTOMER: 100}, at=day(2), code="other"),
        came(4, refund(1, 3_000, at=day(4))),
    ]
    books = books_of(engine, steps)
    books.grant(given(5, 50, at=day(1)), now=LATER)
    first, then = told(books, "points.reversed")
    assert (first["shortfall"], then["shortfall"]) == (30, 0)
    assert then["corrects"] == {"amount": 30, "moved": 0, "short": 30, "expired": 0}


def test_a_late_fact_that_only_moves_an_event_in_time_is_not_told_twice(engine: Engine) -> None:
    """R0, R39: paid on day 1, as is only known after day 3; earned is what was earned."""
    books = books_of(engine, [came(3, order(10_000, placed_at=day(1), at=day(3)))])
    before = rows(books, "select at from timeline where shop_id = :shop")
    play(books, [came(1, order(10_000))], now=LATER)
    assert rows(books, "select at from timeline where shop_id = :shop") < before
    assert [entry["amount"] for entry in told(books, "points.approved")] == [100]


def test_the_trace_tells_every_decision_with_its_rule(engine: Engine) -> None:
    """R39, R20: fraction, cap, lots, breakup of a group, policy; as data and in words."""
    books = books_of(engine, [given(1, 100, at=day(-1)), given(2, 50, at=day(-1), to=OTHER),
                              spent(1, {CUSTOMER: 60, OTHER: 20}, at=day(0)), PLACED, PARTIAL, CLOSING])  # fmt: skip
    with engine.begin() as connection:
        traced = trace(connection, books.shop_id, ORDER)
    partial, closing = traced["decisions"]
    assert (partial["fraction"], partial["closes"], closing["closes"]) == ("3/10", False, True)
    (claim,) = partial["claims"]
    assert (claim["rules"], claim["left_before"], claim["amount"], claim["balance_after"]) == (
        ["R1", "R2", "R6"],
        100,
        30,
        128,
    )
    (back,) = partial["returns"]
    assert (back["rules"], back["amount"], [(m["customer_id"], m["amount"]) for m in back["members"]]) == (
        ["R12", "R19", "R20"], 24, [(str(CUSTOMER), 18), (str(OTHER), 6)])  # fmt: skip
    assert closing["claims"][0]["reasons"] == [{"code": "REMAINDER", "rule": "R4"}]
    assert "closes the order (R4)" in as_text(traced)


# -- R40 ---------------------------------------------------------------------------------------------


def test_balance_entries_and_remainders_are_one_sum_after_every_step(engine: Engine) -> None:
    """R40: also when a late fact is folded in."""
    steps = [
        given(1, 100, at=day(-1), expires_at=day(9)),
        PLACED,
        CLOSING,
        spent(1, {CUSTOMER: 80}, at=day(0)),
        PARTIAL,
    ]
    books = open_books(engine, Story("sums", steps).world)
    for step in steps:
        play(books, [step], now=LATER)
        balance, entries, lots = (
            rows(books, f"select coalesce(sum({column}), 0)::bigint from {table} where shop_id = :shop")[0][0]
            for column, table in (("balance", "wallets"), ("amount", "entries"), ("remainder", "lots"))
        )
        assert balance == entries == lots
        with engine.begin() as connection:
            assert verify(connection, books.shop_id) == []


def test_a_correction_is_new_entries_beside_the_old_ones(engine: Engine) -> None:
    """R40: nothing that was posted is gone after a late fact."""
    books = books_of(
        engine, [came(1, order(10_000)), spent(1, {CUSTOMER: 100}, at=day(2), code="other"), PARTIAL]
    )
    before = rows(books, "select id, lot, kind, amount from entries where shop_id = :shop order by id")
    books.grant(given(5, 50, at=day(1)), now=LATER)
    after = rows(books, "select id, lot, kind, amount from entries where shop_id = :shop order by id")
    assert after[: len(before)] == before
    assert len(after) > len(before)


def test_verify_sees_what_a_hand_changed(engine: Engine) -> None:
    """R40: a decision that was tampered with is found by its name."""
    books = books_of(engine, [PLACED, PARTIAL])
    with engine.begin() as connection:
        connection.execute(
            text("update awards set base_minor = 1 where shop_id = :shop"), {"shop": books.shop_id}
        )
        (difference,) = verify(connection, books.shop_id)
    assert (difference.kind, difference.id, difference.found) == ("order", str(ORDER), "1")


@pytest.mark.parametrize(
    ("change", "what", "found"),
    [
        ("update redemption_members set amount = amount - 1", "given by its members, spent", "(79, 80)"),
        ("update outbox set state = 'cancelled'", "asked to come back", "cancelled"),
        ("delete from outbox", "asked to come back", "nothing"),
    ],
    ids=["a member's part", "an order to give a code back", "the order is gone"],
)
def test_verify_sees_what_a_hand_changed_of_a_redemption(
    engine: Engine, change: str, what: str, found: str
) -> None:
    """R20, R23: its parts, and who is asked to give its code back."""
    steps = [given(1, 100, at=day(-1)), spent(1, {CUSTOMER: 80}, at=day(0)), PLACED, CLOSING, came(7, refund(3, 3_000, at=day(5)))]  # fmt: skip
    books = books_of(engine, steps, **REACTIVATES)
    with engine.begin() as connection:
        assert verify(connection, books.shop_id) == []
        connection.execute(text(f"{change} where shop_id = :shop"), {"shop": books.shop_id})
        (difference,) = verify(connection, books.shop_id)
    assert (difference.kind, difference.what, difference.found) == ("redemption", what, found)


# -- R39: the story of an order -------------------------------------------------------------------------


def read_as_stories(engine: Engine, shop_id: int) -> list[tuple[dict[str, Any], dict[str, Any]]]:
    """Each order's story beside its trace."""
    with engine.connect() as connection:
        ids = connection.execute(
            text("select order_id from orders where shop_id = :id order by 1"), {"id": shop_id}
        )
        return [
            (story(connection, shop_id, id), trace(connection, shop_id, id)) for id in list(ids.scalars())
        ]


@pytest.mark.parametrize("each", STORIES, ids=lambda each: each.words)
def test_every_decision_has_its_sentence_and_its_amounts(engine: Engine, each: Story) -> None:
    """R39: what the page says is what the trace decided."""
    books = open_books(engine, each.world)
    play(books, each.steps, now=LATER)
    for shown, traced in read_as_stories(engine, books.shop_id):
        standing = [event for event in shown["events"] if event["undone"] is None]
        assert [event["cause"] for event in standing] == [made["cause"] for made in traced["decisions"]]
        for event, made in zip(standing, traced["decisions"], strict=True):
            assert [claim["amount"] for claim in event["claims"]] == [c["amount"] for c in made["claims"]]
            assert event["text"] or event["reasons"] or event["nothing"]
            for part in (*event["claims"], *event["returns"]):
                assert f"{part['amount']} points" in part["text"]
                assert all(reason["words"] in part["text"] for reason in part["reasons"])
        assert shown["closed"] == any(made["closes"] for made in traced["decisions"])
        assert all(0 <= line["left"] <= line["quantity"] for line in shown["lines"])
        assert all(flag["advice"] for flag in shown["flags"])
