"""How a used code comes back, and when an unused one may be taken away: every decision, in a table (R22, R23, S11)."""

from __future__ import annotations

from dataclasses import replace
from datetime import timedelta
from typing import Any

import pytest
from hypothesis import given
from hypothesis import strategies as st

from models.rules.codes import (
    ALPHABET,
    AMOUNT,
    CANNOT_BE_COPIED,
    DELETED,
    ENDED_BEFORE_USE,
    FREE_SHIPPING,
    GIFT_CARD_REWARD,
    NO_DISCOUNT_REWARD,
    NO_VALUE,
    NOT_STARTED,
    PERCENTAGE,
    SHIPPING,
    STORE_CREDIT_REWARD,
    USED_ELSEWHERE,
    AlreadyUsable,
    Benefit,
    Deactivate,
    Decision,
    Delete,
    DiscountState,
    FreshDiscount,
    Gone,
    Impossible,
    Known,
    PutBackEnd,
    SetUsageLimit,
    Shared,
    Terms,
    Used,
    benefit_of,
    decide,
    decide_removal,
    derived_code,
    is_ours,
    mark,
)
from tests.rules.build import CUSTOMER, OTHER, day

NOW = day(30)
USED_AT = day(10)
FIVE_OFF = Terms(benefit=Benefit(kind=AMOUNT, value="5.00"), minimum_subtotal="20.0")
TEN_OFF = Benefit(kind=AMOUNT, value="10.00")


def state(**changed: Any) -> DiscountState:
    """A single-use discount that was used once."""
    usual = DiscountState(
        id=500,
        kind="DiscountCodeBasic",
        starts_at=day(1),
        usage_limit=1,
        usage_count=1,
        terms=FIVE_OFF,
    )
    return replace(usual, **changed)


def known(**changed: Any) -> Known:
    return replace(Known(uses=1, customer_id=CUSTOMER, used_at=USED_AT, reward=TEN_OFF), **changed)


def row(id: str, found: DiscountState | None, decision: Decision, **changed: Any) -> Any:
    return pytest.param(found, known(**changed), decision, id=id)


@pytest.mark.parametrize(
    ("found", "what_we_know", "decision"),
    [
        row("single use, used", state(), SetUsageLimit(usage_limit=2, ends_at=None)),
        row(
            "used, and Shopify has not counted yet",
            state(usage_count=0),
            SetUsageLimit(usage_limit=2, ends_at=None),
        ),
        row(
            "came back once and was used again",
            state(usage_limit=2, usage_count=2),
            SetUsageLimit(usage_limit=3, ends_at=None),
            uses=2,
        ),
        row("its limit was raised already", state(usage_limit=2), AlreadyUsable()),
        row("no limit at all", state(usage_limit=None, usage_count=40), AlreadyUsable()),
        row("an end still to come", state(ends_at=day(40)), SetUsageLimit(usage_limit=2, ends_at=day(40))),
        row(
            "ended since it was used, so the time that was left starts now",
            state(ends_at=day(15)),
            SetUsageLimit(usage_limit=2, ends_at=NOW + timedelta(days=5)),
        ),
        row(
            "deactivated, and its own end is still to come",
            state(ends_at=day(15)),
            SetUsageLimit(usage_limit=2, ends_at=day(45)),
            ends_at=day(45),
        ),
        row(
            "uses are left, and only its time is over",
            state(usage_limit=3, ends_at=day(15)),
            PutBackEnd(ends_at=NOW + timedelta(days=5)),
        ),
        row(
            "ended at the very time it was used",
            state(ends_at=USED_AT),
            Impossible(reason=ENDED_BEFORE_USE),
        ),
        row(
            "for another customer: he was merged",
            state(customers=frozenset([OTHER])),
            SetUsageLimit(usage_limit=2, ends_at=None, add_customer=True),
        ),
        row(
            "for him by name",
            state(customers=frozenset([OTHER, CUSTOMER])),
            SetUsageLimit(usage_limit=2, ends_at=None),
        ),
        row(
            "uses are left, and none for him",
            state(usage_limit=2, customers=frozenset([OTHER])),
            PutBackEnd(ends_at=None, add_customer=True),
        ),
        row(
            "counted more often than we know",
            state(usage_count=2),
            Impossible(reason=USED_ELSEWHERE),
        ),
        row(
            "raised, and used on an order that we do not know",
            state(usage_limit=2, usage_count=2),
            Impossible(reason=USED_ELSEWHERE),
        ),
        row("no such discount", None, Impossible(reason=DELETED)),
        row("it begins later", state(starts_at=day(31)), Impossible(reason=NOT_STARTED)),
        row(
            "once per customer",
            state(once_per_customer=True, usage_limit=None),
            FreshDiscount(terms=FIVE_OFF, ends_at=None),
        ),
        row(
            "once per customer, ended since",
            state(once_per_customer=True, ends_at=day(12)),
            FreshDiscount(terms=FIVE_OFF, ends_at=NOW + timedelta(days=2)),
        ),
        row(
            "one of a pool",
            state(codes=250, usage_count=80),
            FreshDiscount(terms=FIVE_OFF, ends_at=None),
        ),
        row("one of a pool whose limit leaves a use", state(codes=250, usage_limit=2), AlreadyUsable()),
        row(
            "one of a pool that has ended: the others stay as they are",
            state(codes=250, usage_limit=2, ends_at=day(15)),
            FreshDiscount(terms=FIVE_OFF, ends_at=NOW + timedelta(days=5)),
        ),
        row(
            "limited to some products: no new one can be given the same",
            state(once_per_customer=True, terms=None),
            Impossible(reason=CANNOT_BE_COPIED),
        ),
        row(
            "buy X get Y: the reward's own value",
            state(kind="DiscountCodeBxgy", terms=None),
            FreshDiscount(terms=Terms(benefit=TEN_OFF), ends_at=None),
        ),
        row(
            "buy X get Y of a reward without a value",
            state(kind="DiscountCodeBxgy", terms=None),
            Impossible(reason=CANNOT_BE_COPIED),
            reward=None,
        ),
        row(
            "an app's discount with uses left",
            state(kind="DiscountCodeApp", terms=None, usage_limit=None),
            AlreadyUsable(),
        ),
        row(
            "an app's discount, used up",
            state(kind="DiscountCodeApp", terms=None),
            FreshDiscount(terms=Terms(benefit=TEN_OFF), ends_at=None),
        ),
        row(
            "free shipping",
            state(kind=FREE_SHIPPING, terms=Terms(benefit=Benefit(kind=SHIPPING))),
            SetUsageLimit(usage_limit=2, ends_at=None),
        ),
    ],
)
def test_a_code_comes_back_as_its_discount_allows(
    found: DiscountState | None, what_we_know: Known, decision: Decision
) -> None:
    assert decide(found, what_we_know, NOW) == decision


moments = st.integers(-40, 40).map(lambda days: NOW + timedelta(days=days))
states = st.builds(
    DiscountState,
    id=st.just(500),
    kind=st.sampled_from(
        ["DiscountCodeBasic", "DiscountCodeFreeShipping", "DiscountCodeBxgy", "DiscountCodeApp"]
    ),
    starts_at=moments,
    ends_at=st.none() | moments,
    usage_limit=st.none() | st.integers(1, 4),
    usage_count=st.integers(0, 4),
    once_per_customer=st.booleans(),
    codes=st.integers(1, 3),
    customers=st.none() | st.frozensets(st.sampled_from([CUSTOMER, OTHER])),
    terms=st.none() | st.just(FIVE_OFF),
)
knowns = st.builds(
    Known,
    uses=st.integers(1, 4),
    customer_id=st.just(CUSTOMER),
    used_at=moments.filter(lambda at: at <= NOW),
    ends_at=st.none() | moments,
    reward=st.none() | st.just(TEN_OFF),
)


@given(states, knowns)
def test_what_was_decided_once_and_done_is_not_decided_again(
    found: DiscountState, what_we_know: Known
) -> None:
    decision = decide(found, what_we_know, NOW)
    if isinstance(decision, SetUsageLimit | PutBackEnd):
        now_is = replace(found, ends_at=decision.ends_at)
        if isinstance(decision, SetUsageLimit):
            now_is = replace(now_is, usage_limit=decision.usage_limit)
        if decision.add_customer:
            now_is = replace(now_is, customers=(found.customers or frozenset()) | {CUSTOMER})
        assert decide(now_is, what_we_know, NOW) == AlreadyUsable()


@given(states, knowns)
def test_a_limit_gives_one_use_and_no_end_lies_in_the_past(found: DiscountState, what_we_know: Known) -> None:
    decision = decide(found, what_we_know, NOW)
    if isinstance(decision, SetUsageLimit):
        assert decision.usage_limit == max(what_we_know.uses, found.usage_count) + 1
    if isinstance(decision, SetUsageLimit | PutBackEnd | FreshDiscount):
        assert decision.ends_at is None or decision.ends_at > NOW


@given(states, knowns)
def test_pools_and_other_kinds_are_never_changed(found: DiscountState, what_we_know: Known) -> None:
    if (
        found.codes > 1
        or found.once_per_customer
        or found.kind not in ("DiscountCodeBasic", "DiscountCodeFreeShipping")
    ):
        assert not isinstance(decide(found, what_we_know, NOW), SetUsageLimit | PutBackEnd)


@pytest.mark.parametrize(
    ("found", "uses", "ours", "decision"),
    [
        pytest.param(state(usage_count=0), 0, True, Delete(id=500), id="ours"),
        pytest.param(state(usage_count=0), 0, False, Deactivate(id=500), id="the merchant's, for one use"),
        pytest.param(None, 0, True, Gone(), id="deleted already"),
        pytest.param(
            state(usage_count=0, ends_at=day(3)), 0, False, Gone(), id="the merchant's, ended already"
        ),
        pytest.param(state(usage_count=0, ends_at=day(3)), 0, True, Delete(id=500), id="ours, ended already"),
        pytest.param(state(), 0, True, Used(), id="ours, and Shopify counts a use"),
        pytest.param(state(usage_count=0), 1, True, Used(), id="ours, and an order carries it"),
        pytest.param(None, 1, True, Used(), id="deleted, and an order carries it"),
        pytest.param(state(usage_count=9, codes=40), 0, False, Shared(), id="one of a pool"),
        pytest.param(state(usage_count=9, usage_limit=None), 0, False, Shared(), id="everybody's"),
        pytest.param(
            state(usage_count=0, usage_limit=None, customers=frozenset([CUSTOMER])),
            0,
            False,
            Deactivate(id=500),
            id="without a limit, and his alone",
        ),
    ],
)
def test_an_unused_code_is_taken_away_when_it_is_his_alone(
    found: DiscountState | None, uses: int, ours: bool, decision: object
) -> None:
    assert decide_removal(found, uses=uses, customer_id=CUSTOMER, ours=ours, now=NOW) == decision


@pytest.mark.parametrize(
    ("found", "ours", "decision"),
    [
        pytest.param(state(usage_limit=2), True, Delete(id=500), id="ours, raised for him"),
        pytest.param(state(usage_limit=2), False, Deactivate(id=500), id="the merchant's, raised for him"),
        pytest.param(state(usage_limit=2, usage_count=2), True, Used(), id="used again, nobody told us"),
        pytest.param(state(usage_limit=1), False, Gone(), id="used up: it came back as another"),
        pytest.param(state(usage_limit=1, codes=40), False, Gone(), id="one of a pool, used up"),
        pytest.param(state(usage_limit=2, codes=40), False, Shared(), id="one of a pool, with a use left"),
        pytest.param(
            state(usage_limit=None, once_per_customer=True), False, Gone(), id="everybody's, once for him"
        ),
        pytest.param(state(usage_limit=None), False, Shared(), id="everybody's"),
        pytest.param(None, True, Gone(), id="deleted already"),
    ],
)
def test_a_code_that_came_back_is_taken_away_like_any_other(
    found: DiscountState | None, ours: bool, decision: object
) -> None:
    """R34: unused again is unused; its use that was given back does not make it used."""
    assert decide_removal(found, uses=0, given_back=1, customer_id=CUSTOMER, ours=ours, now=NOW) == decision


@pytest.mark.parametrize(
    ("kind", "value", "benefit"),
    [
        pytest.param("amount_discount", "5.00", Benefit(kind=AMOUNT, value="5.00"), id="amount"),
        pytest.param("amount_discount", "0.00", Impossible(reason=NO_VALUE), id="nothing off"),
        pytest.param("percentage_discount", "15", Benefit(kind=PERCENTAGE, value="0.15"), id="percentage"),
        pytest.param("percentage_discount", "100", Benefit(kind=PERCENTAGE, value="1"), id="all of it"),
        pytest.param("percentage_discount", "101", Impossible(reason=NO_VALUE), id="more than all of it"),
        pytest.param("free_shipping", "0.00", Benefit(kind=SHIPPING), id="free shipping"),
        pytest.param("gift_card", "5.00", Impossible(reason=GIFT_CARD_REWARD), id="gift card"),
        pytest.param("store_credit", "5.00", Impossible(reason=STORE_CREDIT_REWARD), id="store credit"),
        pytest.param("free_product", "5.00", Impossible(reason=NO_DISCOUNT_REWARD), id="free product"),
        pytest.param("vip_entry", "0.00", Impossible(reason=NO_DISCOUNT_REWARD), id="entry to a tier"),
        pytest.param("membership", "0.00", Impossible(reason=NO_DISCOUNT_REWARD), id="membership"),
        pytest.param("custom", "0", Impossible(reason=NO_DISCOUNT_REWARD), id="a free amount"),
    ],
)
def test_a_reward_has_a_code_or_a_reason_why_not(
    kind: str, value: str, benefit: Benefit | Impossible
) -> None:
    assert benefit_of(kind, value) == benefit


KEY = b"a key of the tests"


@given(st.binary(min_size=1), st.integers(1), st.integers(1), st.integers(0), st.integers(0, 3))
def test_a_derived_code_can_be_read_aloud_and_typed(
    key: bytes, shop_id: int, redemption_id: int, n: int, attempt: int
) -> None:
    code = derived_code(
        key, shop_id=shop_id, redemption_id=redemption_id, n=n, attempt=attempt, prefix="LOY-"
    )
    assert len(code) == 20 and code.startswith("LOY-")
    assert set(code[4:]) <= set(ALPHABET)
    assert not set("ILOU") & set(ALPHABET)


def test_a_code_is_derived_from_everything_that_names_it() -> None:
    names = [
        {"shop_id": shop, "redemption_id": redemption, "n": n, "attempt": attempt}
        for shop in (1, 11)
        for redemption in (1, 11)
        for n in (0, 1)
        for attempt in (0, 1)
    ]
    codes = {derived_code(key, **name) for key in (KEY, b"another") for name in names}
    assert len(codes) == 2 * len(names)
    assert derived_code(KEY, **names[3]) == derived_code(KEY, **names[3])


def test_a_long_prefix_is_refused() -> None:
    with pytest.raises(ValueError, match="at most 4"):
        derived_code(KEY, shop_id=1, redemption_id=1, prefix="LOYAL")


@pytest.mark.parametrize(
    ("tags", "discount_id", "ours"),
    [
        pytest.param({mark(7, 1)}, None, True, id="marked"),
        pytest.param({mark(7, 0)}, None, False, id="marked for another code of the redemption"),
        pytest.param({mark(8, 1)}, None, False, id="marked for another redemption"),
        pytest.param({"loyalty"}, None, False, id="a merchant's"),
        pytest.param(set(), 500, True, id="on record"),
        pytest.param(set(), 501, False, id="another on record"),
    ],
)
def test_a_discount_is_ours_by_its_mark_or_by_our_record(
    tags: set[str], discount_id: int | None, ours: bool
) -> None:
    found = state(tags=frozenset(tags))
    assert is_ours(found, redemption_id=7, n=1, discount_id=discount_id) is ours


@pytest.mark.parametrize(
    ("left", "given"),
    [
        pytest.param(timedelta(days=3), timedelta(days=3), id="days"),
        pytest.param(timedelta(minutes=1), timedelta(days=1), id="a minute: a day at least"),
    ],
)
def test_the_time_that_was_left_is_counted_from_the_use(left: timedelta, given: timedelta) -> None:
    decision = decide(state(ends_at=USED_AT + left), known(), NOW)
    assert decision == SetUsageLimit(usage_limit=2, ends_at=NOW + given)
