"""The budget that all workers share, and the counts, in a real Redis."""

from __future__ import annotations

import socket
import subprocess
import sys
from collections.abc import Iterator
from concurrent.futures import ThreadPoolExecutor
from pathlib import Path

import pytest
import structlog
from hypothesis import HealthCheck, given, settings
from hypothesis import strategies as st
from redis import Redis

from models.errors import ShopifyThrottled
from tasks.gateway.answers import Cost, Reading
from tasks.gateway.budget import COSTS_KEY, FIRST_MAXIMUM, FIRST_RATE, Budget, Held, keys_of
from tasks.gateway.counts import Counts
from tasks.gateway.documents import document
from tasks.runtime import make_broker_client

CHILD = Path(__file__).with_name("budget_child.py")
SHOP = "budget-tests.myshopify.com"
QUERY, MUTATION = document("shop"), document("discount_delete")
SLOW = 0.001  # points a second: what flows back while a test runs is nothing


@pytest.fixture
def redis(redis_url: str) -> Iterator[Redis]:
    with Redis.from_url(redis_url) as client:
        yield client


@pytest.fixture
def budget(redis: Redis) -> Budget:
    return Budget(redis)


def answered(
    *,
    available: float,
    asked: float = 50,
    actual: float | None = 50,
    maximum: float = 1000,
    rate: float = SLOW,
) -> Reading:
    return Reading("ok", data={}, cost=Cost(asked, actual, available, maximum, rate))


def know(
    budget: Budget, *, available: float, maximum: float = 1000, asked: float = 50, rate: float = SLOW
) -> None:
    """Let the budget hear this of the bucket."""
    held = reserved(budget)
    budget.settle(held, answered(available=available, maximum=maximum, asked=asked, rate=rate))


def reserved(budget: Budget, *, background: bool = False) -> Held:
    held = budget.reserve(SHOP, QUERY, background=background)
    assert held is not None
    return held


def test_of_a_shop_never_asked_the_smallest_plan_is_supposed(budget):
    held = [reserved(budget) for _ in range(FIRST_MAXIMUM // 50)]
    with pytest.raises(ShopifyThrottled) as raised:
        reserved(budget)
    assert len(held) * 50 == FIRST_MAXIMUM
    assert raised.value.wait_seconds <= 50 / FIRST_RATE + 0.5


def test_what_shopify_says_of_the_bucket_is_believed_when_it_is_less(budget):
    know(budget, available=120)
    reserved(budget)
    reserved(budget)
    with pytest.raises(ShopifyThrottled) as raised:
        reserved(budget)
    assert raised.value.wait_seconds > 100  # 30 points are missing, and next to nothing flows back


def test_an_answer_that_was_overtaken_does_not_fill_the_bucket(budget):
    know(budget, available=1000)
    first, second = reserved(budget), reserved(budget)
    budget.settle(second, answered(available=100))
    budget.settle(first, answered(available=900))
    reserved(budget)
    with pytest.raises(ShopifyThrottled):
        reserved(budget)


def test_a_document_costs_what_it_was_last_priced_at(budget, redis):
    know(budget, available=1000, asked=400)
    assert float(redis.hget(COSTS_KEY, QUERY.name)) == 400
    reserved(budget)
    reserved(budget)
    with pytest.raises(ShopifyThrottled):
        reserved(budget)


def test_what_a_call_did_not_need_is_put_back(budget):
    know(budget, available=1000, asked=400)
    for _ in range(8):
        budget.settle(reserved(budget), answered(available=1000, asked=400, actual=2))


def test_a_call_that_was_not_made_costs_nothing(budget):
    know(budget, available=60)
    for _ in range(5):
        budget.give_back(reserved(budget))
    reserved(budget)


def test_a_call_without_an_answer_costs_all_that_was_reserved(budget):
    know(budget, available=60)
    budget.settle(reserved(budget), Reading("unknown"))
    with pytest.raises(ShopifyThrottled):
        reserved(budget)


def test_a_throttled_call_costs_nothing_but_is_believed(budget):
    know(budget, available=1000)
    refused = Reading("throttled", cost=Cost(50, None, 30, 1000, SLOW))
    budget.settle(reserved(budget), refused)
    with pytest.raises(ShopifyThrottled):
        reserved(budget)


def test_points_flow_back(budget):
    know(budget, available=0, rate=1_000_000)
    reserved(budget)


def test_a_reservation_is_settled_once(budget):
    know(budget, available=1000)
    held = reserved(budget)
    budget.settle(held, answered(available=950))
    budget.settle(held, answered(available=0))
    reserved(budget)


def test_background_work_leaves_half_of_the_bucket(budget):
    know(budget, available=620)
    reserved(budget, background=True)
    reserved(budget, background=True)
    with pytest.raises(ShopifyThrottled):
        reserved(budget, background=True)
    for _ in range(10):
        reserved(budget)


def test_background_work_that_needs_more_than_half_waits_for_a_full_bucket_only(budget):
    know(budget, available=1000, asked=900)
    reserved(budget, background=True)


def test_a_document_dearer_than_the_bucket_is_left_to_shopify_to_refuse(budget):
    know(budget, available=1000, asked=5000)
    reserved(budget)


def test_shops_do_not_share_a_bucket(budget):
    know(budget, available=0)
    assert budget.reserve("another-" + SHOP, QUERY) is not None


def test_a_reservation_of_a_process_that_died_is_given_up(budget, redis):
    know(budget, available=60)
    held = reserved(budget)
    redis.zadd(keys_of(SHOP)[1], {held.member: 1})  # it was to end long ago
    reserved(budget)


def test_everything_of_a_shop_fades(budget, redis):
    reserved(budget)
    assert all(redis.ttl(key) > 0 for key in keys_of(SHOP)[:2])


def test_without_redis_calls_go_on():
    with socket.create_server(("127.0.0.1", 0)) as gone:
        url = f"redis://127.0.0.1:{gone.getsockname()[1]}/0"
    redis = make_broker_client(url)
    with structlog.testing.capture_logs() as logs:
        budget = Budget(redis)
        assert budget.reserve(SHOP, QUERY) is None
        budget.settle(Held(SHOP, "shop", "x|50"), answered(available=1))
        Counts(redis).count("shop", "ok")
    assert {line["event"] for line in logs} == {"budget_unreachable"}


def test_processes_and_threads_together_never_reserve_more_than_the_bucket_holds(budget, redis_url):
    know(budget, available=1000, asked=10, maximum=1000)
    command = [sys.executable, str(CHILD), redis_url, SHOP, "100"]
    children = [subprocess.Popen(command, stdout=subprocess.PIPE, text=True) for _ in range(2)]

    def taken(_: int) -> bool:
        try:
            return budget.reserve(SHOP, QUERY) is not None
        except ShopifyThrottled:
            return False

    with ThreadPoolExecutor(4) as pool:
        ours = sum(pool.map(taken, range(100)))
    theirs = [int(child.communicate(timeout=60)[0]) for child in children]
    assert ours + sum(theirs) == 100


STEPS = st.lists(
    st.one_of(
        st.tuples(st.just("reserve"), st.booleans()),
        st.tuples(st.just("settle"), st.integers(0, 60)),
        st.tuples(st.just("silence"), st.none()),
        st.tuples(st.just("give back"), st.none()),
    ),
    max_size=40,
)


@settings(max_examples=60, deadline=None, suppress_health_check=[HealthCheck.function_scoped_fixture])
@given(start=st.integers(0, 400), steps=STEPS)
def test_whatever_happens_in_whatever_order_the_bucket_is_never_overdrawn(budget, redis, start, steps):
    """Beside the mirror, a bucket that charges as Shopify does; what is reserved must always be there."""
    redis.delete(*keys_of(SHOP), COSTS_KEY)
    know(budget, available=start, maximum=400, asked=60)
    level, held = float(start), []
    for step, what in steps:
        if step == "reserve":
            try:
                held.append(reserved(budget, background=what))
            except ShopifyThrottled:
                continue
            assert 60 * len(held) <= level + 0.01
        elif held:
            mine = held.pop(0)
            if step == "settle":
                level -= what
                budget.settle(mine, answered(available=level, asked=60, actual=what, maximum=400))
            elif step == "silence":
                level -= 60
                budget.settle(mine, Reading("unknown"))
            else:
                budget.give_back(mine)


def test_calls_are_counted_by_operation_and_result(redis):
    counts = Counts(redis)
    for operation, result in [("order", "ok"), ("order", "ok"), ("order", "throttled"), ("shop", "ok")]:
        counts.count(operation, result)
    assert list(counts.read()) == [("order", "ok", 2), ("order", "throttled", 1), ("shop", "ok", 1)]
