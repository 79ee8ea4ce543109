"""The story that `unwind demo` tells: an installation, a program, redemptions, shopping, refunds, codes given back and
used again, and everything once more."""

from __future__ import annotations

import os
import time
from collections.abc import Callable, Iterable
from contextlib import closing
from dataclasses import dataclass, field, replace
from datetime import UTC, datetime, timedelta
from pathlib import Path
from random import Random
from typing import Any, Protocol
from urllib.parse import parse_qsl, urlsplit

import requests
from sqlalchemy import Engine, text

from app.admin.login import PATH as LOGIN
from app.cli.up import healthy
from app.sandbox.codes import CodeRefused
from app.sandbox.payloads import Json
from app.sandbox.records import Order
from app.sandbox.sender import WELL_BEHAVED, Habits, Report, Sender
from app.sandbox.server import Shopfront
from app.sandbox.store import Delivery
from app.sandbox.world import POINTS_PER_UNIT, REWARDS, World
from models.errors import Refused
from models.rules.money import from_minor
from models.settings import Settings
from tasks.runtime import USUAL_BROKER, Runtime, make_broker_client
from tasks.steps import admin_logins, shops, tokens
from tasks.steps.reconcile import Run, Running, reconcile

START_SECONDS = 60.0
STUCK_SECONDS = 60.0  # no event processed for so long: nobody will
POLL_SECONDS = 0.1
ECHO_MOST = 400  # deliveries that are sent once more at the end
WITHHELD_EVERY = 9  # of so many orders one is heard of only after its refunds (R28)
CALL_SECONDS = 20
LOST = 2  # orders that are lost in the post
CODES_SECONDS = 90.0  # for codes to be made at the store
GIVEN_BACK_ENDS = timedelta(days=45)  # the merchant's own end date on codes that may be given back


class Stage(Protocol):
    """Where progress is shown."""

    def say(self, line: str) -> None: ...
    def scene(self, name: str, steps: int) -> None: ...
    def done(self, steps: int) -> None: ...


class Api:
    """The JSON API as a caller's program uses it."""

    def __init__(self, url: str, token: str) -> None:
        self._url = f"{url}/api/v1"
        self._session = requests.Session()
        self._session.headers["Authorization"] = f"Bearer {token}"

    def call(self, method: str, path: str, body: Json | None = None) -> Any:
        """The answer's JSON. Waits when told to; raises Refused for any other error."""
        while True:
            answer = self._session.request(method, f"{self._url}{path}", json=body, timeout=CALL_SECONDS)
            if answer.status_code != requests.codes.too_many:
                break
            time.sleep(float(answer.headers.get("Retry-After", "1")))
        if not answer.ok:
            raise Refused("api", f"{method} {path} was answered {answer.status_code}: {answer.text[:500]}")
        return answer.json()


@dataclass(frozen=True)
class Again:
    """A code that was given back, and what happened when it was used: refused at once (why), or an order, and then
    what the store said of a second try, None if it let that happen too."""

    redemption_id: str
    code: str
    ends_at: datetime | None
    refused: str | None
    refused_again: str | None


@dataclass
class Story:
    """All that it takes, and what was done so far."""

    settings: Settings
    engine: Engine
    world: World
    shopfront: Shopfront
    store_url: str
    logs: Path
    shop_id: int = 0
    token: str = field(default="", repr=False)
    reports: list[Report] = field(default_factory=list)
    delivered: list[Delivery] = field(default_factory=list)
    spendings: dict[int, int] = field(default_factory=dict)
    redemptions: dict[str, str] = field(default_factory=dict)  # ids by the code that the program gave
    end_dates: dict[str, datetime] = field(default_factory=dict)  # what the merchant set, by redemption id
    again: list[Again] = field(default_factory=list)
    lost: list[Order] = field(default_factory=list)  # orders of which no webhook ever came
    comparisons: list[Run] = field(default_factory=list)

    @property
    def url(self) -> str:
        return f"http://{self.settings.host}:{self.settings.port}"

    def login(self) -> str:
        """An address that logs a browser in to the store's pages, once, within a quarter of an hour."""
        with self.engine.begin() as connection:
            link = admin_logins.make_link(connection, self.domain, datetime.now(UTC))
        return f"{self.url}{LOGIN}?token={link}"

    @property
    def domain(self) -> str:
        return self.world.store.domain

    @property
    def api(self) -> Api:
        return Api(self.url, self.token)

    def sender(self, habits: Habits) -> Sender:
        secret = self.settings.shopify_api_secret[0].get_secret_value()
        return Sender(f"{self.url}/webhooks", secret, self.domain, seed=len(self.reports), habits=habits)


# -- the scenes ------------------------------------------------------------------------------------------------------


def open_shop(story: Story) -> None:
    """The merchant installs the app, an operator makes a token for the API, and the program is set up."""
    wait_until(lambda: healthy(story.settings), START_SECONDS, "the receiver did not come up")
    install(story)
    with story.engine.begin() as connection:
        story.shop_id = shops.get(connection, story.domain).id
        story.token = tokens.create(connection, story.domain, name="demo").text
    story.api.call("PUT", "/program", program())


def install(story: Story) -> None:
    """As a browser does it: to the store's consent page, the button there, and back to the app."""
    with requests.Session() as browser:
        consent = browser.get(f"{story.url}/auth", params={"shop": story.domain}, timeout=CALL_SECONDS)
        refused_unless(consent.ok and urlsplit(consent.url).path.endswith("/authorize"), consent)
        asked = parse_qsl(urlsplit(consent.url).query)
        back = browser.post(consent.url.partition("?")[0], data=asked, timeout=CALL_SECONDS)
        refused_unless(back.ok and urlsplit(back.url).path.startswith("/admin/apps/"), back)


def refused_unless(well: bool, answer: requests.Response) -> None:
    if not well:
        where = urlsplit(answer.url).path
        raise Refused("install", f"the installation ended at {where} with {answer.status_code}")


def program() -> Json:
    """Five points for each unit of money, redeemed value comes back, two tiers, and the world's rewards."""
    return {
        "earning": [
            {"id": "place-order", "name": "Place an order", "per_currency_unit": str(POINTS_PER_UNIT)}
        ],
        "return_redeemed": {"enabled": True},
        "tiers": {
            "levels": [
                {"id": "silver", "name": "Silver", "threshold": "150.00"},
                {"id": "gold", "name": "Gold", "threshold": "500.00"},
            ]
        },
        "rewards": [
            {
                "id": reward.id,
                "name": reward.name,
                "kind": "amount_discount",
                "cost": reward.cost,
                "value": from_minor(reward.value_minor, "USD"),
                "reactivate_code": reward.reactivates,
            }
            for reward in REWARDS
        ],
    }


def redeem(story: Story, stage: Stage) -> None:
    """Customers get points and redeem them; the codes that they are going to use are made at the store."""
    world, api = story.world, story.api
    wanted = world.redemptions
    stage.scene("Redeeming rewards", len(world.grants) + len(wanted))
    for grant in world.grants:
        api.call(
            "POST", f"/customers/{grant.customer_id}/grants", {"amount": grant.points, "reason": "Welcome"}
        )
        stage.done(1)
    made = {}
    for spent in wanted:
        body = {"customer_id": str(spent.customer_id), "reward": spent.reward}
        made[api.call("POST", "/redemptions", body)["id"]] = spent
        stage.done(1)
    stage.scene("Codes are made at the store", len(made))
    for redemption_id, spent in made.items():
        code = code_made(story, redemption_id)
        world.coded(spent, code)
        story.redemptions[code] = redemption_id
        if spent.reactivates:
            end_by(story, redemption_id, code)
        stage.done(1)


def code_made(story: Story, redemption_id: str) -> str:
    """The code, once it can be used. Raises Refused when it cannot be made."""
    until = time.monotonic() + CODES_SECONDS
    while True:
        found = story.api.call("GET", f"/redemptions/{redemption_id}")
        if found["code_state"] == "active":
            return str(found["code"])
        if found["code_state"] != "wanted" or time.monotonic() > until:
            raise Refused(
                "code", f"redemption {redemption_id}: {found['code_state']} {found['code_error'] or ''}"
            )
        time.sleep(POLL_SECONDS)


def end_by(story: Story, redemption_id: str, code: str) -> None:
    """The merchant sets an end date on the code in the store's admin."""
    with story.shopfront.lock:
        found = story.world.store.codes.find(code)
        if found is None:
            raise Refused("code", f"{code} is not at the store")
        found[0].ends_at = story.end_dates[redemption_id] = next_second() + GIVEN_BACK_ENDS


def sell(story: Story, stage: Stage) -> list[Delivery]:
    """Orders are placed and paid. Gives back the webhooks of those orders that are lost in the post for now."""
    with story.shopfront.lock:
        sent = story.world.place(next_second())
    plans = [plan for plan in story.world.plans if not plan.spends_earnings]
    late = {plan.placed.id for plan in plans[::WITHHELD_EVERY]}
    deliver(
        story,
        stage,
        "Orders are placed and paid",
        [d for d in sent if d.order_id not in late],
        Habits(),
        live=True,
    )
    story.delivered = sent
    return [d for d in sent if d.order_id in late]


def spend(story: Story) -> None:
    """Some customers spend what they have just earned, before their orders come apart (R7)."""
    for number, spending in enumerate(story.world.spendings()):
        body = {
            "customer_id": str(spending.customer_id),
            "reward": "custom",
            "amount": spending.points,
            "code": f"SPENT-{number}",
        }
        story.api.call("POST", "/redemptions", body)
        story.spendings[spending.customer_id] = spending.points


def unwind(story: Story, withheld: list[Delivery], stage: Stage) -> None:
    """Orders come apart; then the post brings the orders whose refunds are known already (R28)."""
    with story.shopfront.lock:
        sent = story.world.unwind(next_second())
        story.world.store.clock = lambda: datetime.now(UTC)
    deliver(story, stage, "Orders come apart", sent, Habits(), live=True)
    deliver(story, stage, "Orders that come after their refunds", withheld, Habits())
    story.delivered = [*story.delivered, *sent]


def shop_again(story: Story, stage: Stage) -> None:
    """Each code that was given back is used on one more order, and then tried once more."""
    found = [story.api.call("GET", f"/redemptions/{id}") for id in story.redemptions.values()]
    back = [redemption for redemption in found if redemption["reactivation"] == "done"]
    with story.shopfront.lock:
        for redemption in back:
            story.again.append(use_again(story, redemption))
        sent = story.world.store.take_outbox()
    deliver(story, stage, "Codes given back are used again", sent, Habits())
    story.delivered = [*story.delivered, *sent]


def use_again(story: Story, redemption: Json) -> Again:
    store, code = story.world.store, redemption["code"]
    customer = store.customers[int(redemption["customer_id"])]
    known = store.codes.find(code)
    said: list[str | None] = []
    for _ in range(2):
        try:
            story.world.place_again(customer, code, scenario="with a code given back")
            said.append(None)
        except CodeRefused as refused:
            said.append(str(refused))
    return Again(redemption["id"], code, known[0].ends_at if known else None, said[0], said[1])


def lose(story: Story, stage: Stage) -> None:
    """Nobody is told of some orders and their refunds. The comparison that runs every quarter of an hour finds them;
    one that reads every order whole has nothing more to find."""
    stage.scene("Orders lost in the post are found by comparison", LOST)
    with story.shopfront.lock:
        for _ in range(LOST):
            order = story.world.place_again(story.world.new_customer(), scenario="lost in the post")
            story.world.store.refund(order, units=[(order.items[0], 1)])
            story.lost.append(order)
        story.world.store.take_outbox()
    for kind in ("recent", "asked"):
        story.comparisons.append(compare(story, kind))
        drained(story)
    stage.done(LOST)


def compare(story: Story, kind: str) -> Run:
    """`asked` is the same as `unwind reconcile`. Waits for one that is at work."""
    settings = story.settings
    broker = make_broker_client(settings.redis_url or USUAL_BROKER)
    with closing(broker):
        gateway = Runtime(os.getpid(), settings, story.engine, broker).gateway
        with story.engine.connect() as connection:
            shop = shops.get(connection, story.domain)
        until = time.monotonic() + STUCK_SECONDS
        while True:
            try:
                return reconcile(story.engine, gateway, shop, kind=kind)
            except Running:
                if time.monotonic() > until:
                    raise
                time.sleep(POLL_SECONDS)


def echo(story: Story, stage: Stage) -> None:
    """Old deliveries once more, in any order and under new ids: they must post nothing."""
    dice = Random(len(story.reports))  # noqa: S311  which ones is no secret
    again = dice.sample(story.delivered, min(ECHO_MOST, len(story.delivered)))
    renamed = [replace(delivery, webhook_id=f"echo-{number}") for number, delivery in enumerate(again)]
    deliver(story, stage, "Old webhooks once more, under new ids", renamed, WELL_BEHAVED)


def deliver(
    story: Story, stage: Stage, name: str, sent: Iterable[Delivery], habits: Habits, *, live: bool = False
) -> None:
    """Send, and wait until all of it is worked off."""
    wanted = list(sent)
    stage.scene(name, len(wanted))
    shown = 0

    def progress(report: Report) -> None:
        nonlocal shown
        due = report.answered * len(wanted) // report.sendings
        stage.done(due - shown)
        shown = due

    story.reports.append(story.sender(habits).send_all(wanted, progress, live=live))
    drained(story)


# -- waiting ---------------------------------------------------------------------------------------------------------

BACKLOG = text(
    "select (select count(*) from inbox where shop_domain = :domain and state = 'pending')"
    " + (select count(*) from timeline where shop_id = :shop and not folded and at <= now())"
    " + (select count(*) from outbox where shop_id = :shop and state in ('pending', 'leased'))"
)


def drained(story: Story) -> None:
    """Returns when nothing of the shop is waiting. Raises Refused when the backlog stops shrinking."""
    least, since = None, time.monotonic()
    while left := backlog(story):
        if least is None or left < least:
            least, since = left, time.monotonic()
        if time.monotonic() - since > STUCK_SECONDS:
            raise Refused(
                "stuck", f"{left} things are still to be done, and none was done for {STUCK_SECONDS:g} s"
            )
        time.sleep(POLL_SECONDS)


def backlog(story: Story) -> int:
    with story.engine.connect() as connection:
        found = connection.execute(BACKLOG, {"domain": story.domain, "shop": story.shop_id})
        return int(found.scalar_one())


def wait_until(ready: Callable[[], bool], seconds: float, otherwise: str) -> None:
    until = time.monotonic() + seconds
    while not ready():
        if time.monotonic() > until:
            raise Refused("not_ready", f"{otherwise} within {seconds:g} s")
        time.sleep(POLL_SECONDS)


def next_second() -> datetime:
    """A whole second that is not over yet: nothing in the story is older than what was done before it."""
    return (datetime.now(UTC) + timedelta(seconds=1)).replace(microsecond=0)


# -- the books -------------------------------------------------------------------------------------------------------

BOOKS = (
    text("select id, customer_id, lot, kind, amount from entries where shop_id = :shop order by id"),
    text("select customer_id, balance, debt, pending, tier from wallets where shop_id = :shop order by 1"),
    text("select customer_id, lot, amount, remainder from lots where shop_id = :shop order by 1, 2"),
    text(
        "select order_id, target, amount, reversed, shortfall from awards where shop_id = :shop order by 1, 2"
    ),
    text(
        "select id, returned, credited, expired, restitution from redemptions where shop_id = :shop order by 1"
    ),
)


def books(story: Story) -> list[list[tuple[Any, ...]]]:
    """All that stands, to compare."""
    with story.engine.connect() as connection:
        return [[tuple(row) for row in connection.execute(query, {"shop": story.shop_id})] for query in BOOKS]
