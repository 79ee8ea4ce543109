"""Sixteen clients at one redemption, over HTTP: never more than it was, and every answer true."""

from __future__ import annotations

from collections import Counter
from collections.abc import Callable
from concurrent.futures import ThreadPoolExecutor
from threading import Barrier

from tests.web.points.conftest import ADA, BELA, CHIDI, Answer

CLIENTS = 16


def at_once(call: Callable[[int], Answer]) -> list[Answer]:
    start = Barrier(CLIENTS)

    def one(i: int) -> Answer:
        start.wait()
        return call(i)

    with ThreadPoolExecutor(CLIENTS) as pool:
        return list(pool.map(one, range(CLIENTS)))


def outcomes(answers: list[Answer]) -> Counter[int]:
    return Counter(answer.number or answer.status for answer in answers)


def test_of_many_whole_reversals_without_keys_one_wins_and_the_others_are_duplicates(store) -> None:
    """R35."""
    redemption = store.spent()
    answers = at_once(lambda i: store.reverse(redemption))
    assert outcomes(answers) == {200: 1, 902: CLIENTS - 1}
    assert store.balance() == 100 and store.holds_together()


def test_of_many_whole_reversals_with_keys_of_their_own_one_wins(store) -> None:
    """R35."""
    redemption = store.spent()
    answers = at_once(lambda i: store.reverse(redemption, key=f"k-{i}"))
    assert outcomes(answers) == {200: 1, 902: CLIENTS - 1}
    assert store.balance() == 100 and store.holds_together()


def test_of_many_calls_under_one_key_one_acts_and_all_answer_the_same(store) -> None:
    """R35."""
    redemption = store.spent()
    answers = at_once(lambda i: store.reverse(redemption, 10, key="k"))
    assert {answer.raw for answer in answers} == {answers[0].raw} and answers[0].status == 200
    assert store.balance() == 10 and store.holds_together()


def test_of_many_parts_no_more_come_back_than_there_are(store) -> None:
    """R35: sixteen times 15 of 100."""
    redemption = store.spent()
    answers = at_once(lambda i: store.reverse(redemption, 15, key=f"k-{i}"))
    assert outcomes(answers) == {200: 6, 817: CLIENTS - 6}
    assert store.balance() == 90 and store.holds_together()


def test_of_the_same_part_without_keys_one_comes_back(store) -> None:
    """R35."""
    redemption = store.spent()
    answers = at_once(lambda i: store.reverse(redemption, 15))
    assert outcomes(answers) == {200: 1, 902: CLIENTS - 1}
    assert store.balance() == 15


def test_a_limit_holds_for_many_redemptions_at_once(store) -> None:
    """R35: three of one customer, however many are asked for at the same moment."""
    store.program(points_reversal={"limit_per_customer": 3})
    redemptions = [store.spent() for _ in range(CLIENTS)]
    answers = at_once(lambda i: store.reverse(redemptions[i]))
    assert outcomes(answers) == {200: 3, 903: CLIENTS - 3}
    assert store.balance() == 300 and store.holds_together()


def test_reversals_and_cancellations_of_a_group_give_everything_back_once(store) -> None:
    """R20, R34, R35: half of the clients reverse, half cancel."""
    store.grant(1)
    store.grant(100, to=BELA)
    store.grant(250, to=CHIDI)
    redemption = store.redeem(350, sources={BELA: 100, CHIDI: 250})

    def call(i: int) -> Answer:
        if i % 2:
            return store.call("POST", f"/redemptions/{redemption}/cancel", {"force": True})
        return store.reverse(redemption, 7 * (i + 1), by=("ID", str(CHIDI)))

    answers = at_once(call)
    assert {answer.status for answer in answers} <= {200, 409}
    assert (store.balance(ADA), store.balance(BELA), store.balance(CHIDI)) == (1, 100, 250)
    assert store.holds_together()
