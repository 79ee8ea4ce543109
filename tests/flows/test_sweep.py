"""The sweep finds what was forgotten, and holds back when ringing would only add to the queue."""

from __future__ import annotations

from sqlalchemy import text

from tasks.steps.sweep import BATCH, DEEPEST_QUEUE, SWEEP_LOCK, Swept, forgotten_shops

INSERT = text("""
insert into inbox (shop_domain, topic, body, received_at, state, not_before, rung_at, rings)
values (:domain, 'refunds/create', '', now() - :age * interval '1 second', :state,
        now() + :wait * interval '1 second', now() - :rung * interval '1 second', :rings)
""")


def put(engine, domain, *, age=60.0, state="pending", wait=-60.0, rung=None, rings=0, times=1):
    row = {"domain": domain, "age": age, "state": state, "wait": wait, "rung": rung, "rings": rings}
    with engine.begin() as connection:
        connection.execute(INSERT, [row] * times)


def test_a_shop_with_a_forgotten_event_is_rung_for(fresh_engine):
    put(fresh_engine, "a.myshopify.com")
    assert forgotten_shops(fresh_engine, depth=0) == Swept(shops=("a.myshopify.com",), rows=1)


def test_what_is_new_done_parked_or_not_due_is_left_alone(fresh_engine):
    put(fresh_engine, "new.myshopify.com", age=0.5)
    put(fresh_engine, "done.myshopify.com", state="done")
    put(fresh_engine, "parked.myshopify.com", state="failed")
    put(fresh_engine, "later.myshopify.com", wait=30)
    assert forgotten_shops(fresh_engine, depth=0).shops == ()


def test_many_events_of_one_shop_are_one_bell(fresh_engine):
    put(fresh_engine, "a.myshopify.com", times=20)
    put(fresh_engine, "b.myshopify.com", times=20)
    assert forgotten_shops(fresh_engine, depth=0) == Swept(
        shops=("a.myshopify.com", "b.myshopify.com"), rows=40
    )


def test_an_event_is_not_rung_for_twice_in_a_row(fresh_engine):
    put(fresh_engine, "a.myshopify.com")
    assert forgotten_shops(fresh_engine, depth=0).shops
    assert not forgotten_shops(fresh_engine, depth=0).shops


def test_the_wait_between_two_bells_doubles_up_to_a_minute(fresh_engine):
    for rings, seconds in enumerate((3, 6, 12, 24, 48, 60, 60)):
        put(fresh_engine, f"early-{rings}.myshopify.com", rung=seconds - 1, rings=rings)
        put(fresh_engine, f"due-{rings}.myshopify.com", rung=seconds + 1, rings=rings)
    put(fresh_engine, "due-for-ever.myshopify.com", rung=61, rings=2_000_000)
    found = forgotten_shops(fresh_engine, depth=0).shops
    assert found == (*(f"due-{rings}.myshopify.com" for rings in range(7)), "due-for-ever.myshopify.com")


def test_a_deep_queue_closes_the_gate(fresh_engine):
    put(fresh_engine, "a.myshopify.com")
    assert forgotten_shops(fresh_engine, depth=DEEPEST_QUEUE + 1) == Swept(gate="queue_deep")
    assert forgotten_shops(fresh_engine, depth=DEEPEST_QUEUE).shops


def test_a_sweep_marks_a_bounded_number_the_oldest_first(fresh_engine):
    put(fresh_engine, "old.myshopify.com", times=BATCH)
    put(fresh_engine, "young.myshopify.com")
    assert forgotten_shops(fresh_engine, depth=0) == Swept(shops=("old.myshopify.com",), rows=BATCH)
    assert forgotten_shops(fresh_engine, depth=0) == Swept(shops=("young.myshopify.com",), rows=1)


def test_what_a_worker_holds_is_not_rung_for(fresh_engine):
    put(fresh_engine, "a.myshopify.com")
    with fresh_engine.begin() as worker:
        worker.execute(text("select id from inbox for update"))
        assert forgotten_shops(fresh_engine, depth=0).shops == ()
    assert forgotten_shops(fresh_engine, depth=0).shops == ("a.myshopify.com",)


def test_a_second_sweep_beside_the_first_does_nothing(fresh_engine):
    put(fresh_engine, "a.myshopify.com")
    with fresh_engine.begin() as other:
        other.execute(text("select pg_advisory_xact_lock(:lock)"), {"lock": SWEEP_LOCK})
        assert forgotten_shops(fresh_engine, depth=0) == Swept(gate="another_sweep")
