"""The API against its own document: thousands of calls made from it, over HTTP, each answer held against it.

schemathesis makes them: the examples, what lies at the edges of each schema, what it draws at random (good and bad), and
chains of calls that follow the document's links. All of its checks are on; where a call needs what no schema can say,
the reason stands beside what is allowed.
"""

from __future__ import annotations

import itertools
from collections import Counter
from collections.abc import Iterator, Mapping
from dataclasses import dataclass, field
from threading import Thread
from typing import Any

import pytest
import schemathesis
from cryptography.fernet import Fernet
from flask import Flask
from pydantic import SecretStr
from schemathesis.engine import events, from_schema
from schemathesis.hooks import GLOBAL_HOOK_DISPATCHER
from sqlalchemy import Engine
from werkzeug.serving import WSGIRequestHandler, make_server

from app import api as the_api
from app import errors
from app.api import OPERATIONS, PREFIX
from app.api.redemptions import RedemptionRequest
from models.settings import Settings
from tasks.steps import shops, tokens
from tasks.steps.verify import verify
from tests.web.api.conftest import Caller, Store

CASES_LEAST = 2000
EXAMPLES = 8  # drawn for each call, beside the edges and the chains
CHAINS = 40  # of calls, each following another's link
CHAIN_SEEDS = (2, 3)
CUSTOMERS = [7001, 7002, 7003]
OF_THE_EXAMPLES = int(
    RedemptionRequest.EXAMPLE["customer_id"]
)  # what the document shows is done, not only refused
ORDERS = list(range(450, 470))
HOOKS = "https://192.0.9.9/hooks"  # an address that needs no name looked up; nothing is sent there, no worker runs

# Calls whose valid bodies and queries can still be wrong, for reasons that no schema can say: 422 is an answer to them.
WRONG_FOR_OTHER_REASONS = {
    "put_program": "settings depend on each other: points have no decimals, ids are used once",
    "create_grant": "expires_at must lie in the future; points are whole",
    "create_redemption": "the customer, the reward and its cost must fit; sources add up",
    "put_customer_tier": "the level must be one of the program's",
    "preview_refund": "lines and amounts must be there to refund, and only one of both",
    "refund_order": "lines and amounts must be there to refund, and only one of both",
    "reverse_points": "the identifier must be of its type, points within their limits",
    "put_reversal_lock": "until must lie in the future",
    "list_activity": "a cursor is one that was given",
    "list_customer_activity": "a cursor is one that was given",
    "create_endpoint": "its address must lead to a public host",
    "change_endpoint": "its address must lead to a public host",
    "list_deliveries": "a cursor is one that was given",
    "list_failed": "a cursor is one that was given",
}
# Calls that cannot succeed here, however they are made.
NEVER_DONE: Mapping[str, str] = {}
KEY = Fernet.generate_key().decode()


@dataclass
class Run:
    """What came of it: how many cases by phase and call, which statuses, which faults, how many links were followed."""

    phases: Counter[str] = field(default_factory=Counter)
    calls: Counter[str] = field(default_factory=Counter)
    statuses: Counter[tuple[str, int]] = field(default_factory=Counter)
    faults: dict[tuple[str, str, str], str] = field(default_factory=dict)
    followed: Counter[str] = field(default_factory=Counter)

    @property
    def cases(self) -> int:
        return sum(self.phases.values())

    def take(self, event: Any) -> None:
        if isinstance(event, events.NonFatalError | events.FatalError):
            self.faults[("the run itself", type(event).__name__, "")] = repr(event)
        if not isinstance(event, events.ScenarioFinished):
            return
        recorder = event.recorder
        self.phases[event.phase.value] += len(recorder.cases)
        for id, node in recorder.cases.items():
            name = node.value.operation.definition.raw["operationId"]
            self.calls[name] += 1
            if node.transition is not None:
                self.followed[name] += 1
            response = recorder.find_response(case_id=id)
            if response is not None:
                self.statuses[name, response.status_code] += 1
            for check in recorder.checks.get(id, ()):
                if check.failure_info is not None:
                    failure = check.failure_info.failure
                    self.faults.setdefault(
                        (name, check.name, failure.title),
                        f"{failure.message[:500]}\n{check.failure_info.code_sample[:1000]}",
                    )


@pytest.fixture(scope="module")
def seeded(engine: Engine) -> tuple[Caller, dict[str, list[str]]]:
    """A shop with customers, orders, redemptions, refunds and events, and their ids."""
    domain = "by-its-document.myshopify.com"
    with engine.begin() as connection:
        shop_id = shops.add(connection, domain)
        token = tokens.create(connection, domain, name="tests").text
    app = Flask("seeds")
    errors.register(app)
    settings = Settings(token_encryption_keys=(SecretStr(KEY),))
    the_api.register(app, engine, settings, calls_per_minute=1_000_000)
    caller, store = Caller(app.test_client(), domain, shop_id, token), Store(engine)
    caller.put("/program", {"return_redeemed": {"enabled": True}})
    for customer in (*CUSTOMERS, OF_THE_EXAMPLES):
        caller.post(f"/customers/{customer}/grants", {"amount": 1_000_000, "reason": "seed"})
    redemptions = []
    for n, order in enumerate(ORDERS):
        body = {"customer_id": CUSTOMERS[n % 3], "reward": "custom", "amount": 50, "code": f"CODE-{order}"}
        redemptions.append(caller.post("/redemptions", body).get_json()["id"])
        store.place(caller, order, customer=CUSTOMERS[n % 3], code=f"CODE-{order}" if n % 2 else None)
    for order in ORDERS[:5]:
        store.refund(caller, order, order + 1000, 2_000, units=1)
    parked = [str(store.receive(caller, "refunds/create", b"{", id=f"w-{n}")) for n in range(10)]
    store.work(caller)
    endpoints = [
        caller.post("/endpoints", {"url": f"{HOOKS}/{n}", "events": ["refunded"]}).get_json()
        for n in range(5)
    ]
    deliveries = [caller.post(f"/endpoints/{each['id']}/test").get_json()["id"] for each in endpoints]
    reversals = [
        caller.post(f"/redemptions/{id}/cancel", {"force": True}).get_json()["reversal"]["id"]
        for id in redemptions[-5:]
    ]
    return caller, {
        "customer_id": [str(id) for id in CUSTOMERS],
        "order_id": [str(id) for id in ORDERS],
        "redemption_id": redemptions,
        "refund_id": [str(order + 1000) for order in ORDERS[:5]],
        "event_id": parked,
        "endpoint_id": [each["id"] for each in endpoints],
        "delivery_id": deliveries,
        "reversal_id": reversals,
        "first_customer": [str(CUSTOMERS[0])],
        "redemptions_of_first": redemptions[:-5:3],
    }


class Silent(WSGIRequestHandler):
    """Writes no line for each request."""

    def log_request(self, *args: object) -> None:
        pass


@pytest.fixture(scope="module")
def address(engine: Engine, database_url: str, redis_server: str) -> Iterator[str]:
    """Where the API is served, on a socket."""
    app = Flask("served")
    errors.register(app)
    settings = Settings(
        database_url=database_url, redis_url=redis_server, token_encryption_keys=(SecretStr(KEY),)
    )
    the_api.register(app, engine, settings, calls_per_minute=1_000_000)
    server = make_server("127.0.0.1", 0, app, threaded=True, request_handler=Silent)
    thread = Thread(target=server.serve_forever)
    thread.start()
    yield f"http://127.0.0.1:{server.port}{PREFIX}"
    server.shutdown()
    thread.join()
    server.server_close()


@pytest.fixture(scope="module")
def fresh_keys() -> Iterator[None]:
    """Valid keys are made new: one that was drawn before would be answered for the call before."""
    numbers = itertools.count()

    def before_call(context: Any, case: Any, kwargs: Any) -> None:
        drawn = case.headers is not None and "Idempotency-Key" in case.headers
        if drawn and case.meta is not None and case.meta.generation.mode.is_positive:
            case.headers["Idempotency-Key"] = f"key-{next(numbers)}"

    schemathesis.hook(before_call)
    yield
    GLOBAL_HOOK_DISPATCHER.unregister(before_call)


@pytest.fixture(scope="module")
def run(address: str, seeded: tuple[Caller, dict[str, list[str]]], fresh_keys: None) -> Run:
    """All of it, once; the same calls each time. Chains of good calls come again with other seeds: one seed ends soon."""
    caller, ids = seeded
    found = Run()
    drawn = {
        "fuzzing": {"generation": {"max-examples": EXAMPLES}},
        "stateful": {"generation": {"max-examples": CHAINS}},
    }
    execute(found, address, config_of(address, caller, ids, seed=1, phases=drawn, generation={}))
    chained = {phase: {"enabled": False} for phase in ("examples", "coverage", "fuzzing")}
    chained["stateful"] = drawn["stateful"]
    for seed in CHAIN_SEEDS:
        config = config_of(address, caller, ids, seed=seed, phases=chained, generation={"mode": "positive"})
        execute(found, address, config)
    by_status: Counter[int] = Counter()
    for (_, status), count in found.statuses.items():
        by_status[status] += count
    print(
        f"\n{found.cases} cases: {dict(found.phases)}; {sum(found.followed.values())} by links; {dict(by_status)}"
    )
    return found


def config_of(
    address: str,
    caller: Caller,
    ids: Mapping[str, list[str]],
    *,
    seed: int,
    phases: Mapping[str, Any],
    generation: Mapping[str, Any],
) -> schemathesis.Config:
    # 400 as well: a number like 5e-324 is refused before anybody asks what it is for
    wrong = {"expected-statuses": ["2xx", 400, 401, 403, 404, 409, 422, 429]}
    return schemathesis.Config.from_dict(
        {
            "seed": seed,
            "base-url": address,
            "headers": {"Authorization": f"Bearer {caller.token}"},
            "dictionaries": {name: {"values": values} for name, values in ids.items()},
            "parameters": {
                f"path.{name}": {"dictionary": name, "probability": 0.7}
                for name in ids
                if name.endswith("_id")
            },
            "generation": {"no-shrink": True, "database": "none", **generation},
            "phases": phases,
            "operations": [
                {
                    "include-operation-id": "reverse_points",
                    "parameters": {
                        "body.redemptionId": {"dictionary": "redemptions_of_first", "probability": 0.9},
                        "body.identifier.value": {"dictionary": "first_customer", "probability": 0.9},
                    },
                },
                {  # a customer without a lock is an answer (200, null), not a lock that is missing
                    "include-operation-id": ["get_reversal_lock", "delete_reversal_lock"],
                    "checks": {"use_after_free": {"enabled": False}},
                },
                *(
                    {"include-operation-id": name, "checks": {"positive_data_acceptance": wrong}}
                    for name in WRONG_FOR_OTHER_REASONS
                ),
            ],
        }
    )


def execute(found: Run, address: str, config: schemathesis.Config) -> None:
    schema = schemathesis.openapi.from_url(f"{address}/openapi.json", config=config)
    for event in from_schema(schema).execute():
        found.take(event)


def test_thousands_of_cases_over_every_call_and_all_answers_are_as_documented(run: Run) -> None:
    faults = [f"{name}: {check}: {title}\n{words}" for (name, check, title), words in run.faults.items()]
    assert not faults, "\n\n".join(faults)
    assert run.cases >= CASES_LEAST
    assert set(run.calls) == {operation.name for operation in OPERATIONS}


def test_nothing_that_is_sent_is_an_error_of_ours(run: Run) -> None:
    assert {call: status for call, status in run.statuses if status >= 500} == {}


def test_every_call_was_done_as_well_as_refused(run: Run) -> None:
    done = {name for name, status in run.statuses if status < 300}
    refused = {name for name, status in run.statuses if status >= 400}
    names = {operation.name for operation in OPERATIONS}
    assert (names - done - set(NEVER_DONE), names - refused) == (set(), set())


def test_calls_follow_each_other_by_the_links_of_the_document(run: Run) -> None:
    assert run.phases["stateful"] >= 100
    assert sum(run.followed.values()) >= 30 and len(run.followed) >= 8


def test_the_books_agree_with_the_record_afterwards(run: Run, engine: Engine, seeded: Any) -> None:
    """R40: whatever was sent."""
    with engine.connect() as connection:
        assert verify(connection, seeded[0].shop_id) == []
